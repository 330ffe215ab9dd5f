#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Data goes through a bounce buffer where the disk can't be given the guest's pages
# (bounce.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

reason=$(mktemp)

# bounce TEST [NAME=]DISK
bounce()
{
	run_tests 300 "$here/bounce" "$@"
}

# Can fail only where the kernel doesn't zero what it allocates (init_on_alloc=0).
zeroed()
{
	local disk
	disk=$(make_nullb bounce memory_backed=0)
	bounce zeroed "$disk"
	remove_nullb bounce
}

# A disk says that it needs pages which nobody changes, and what is stacked on it
# says so, too.
stable()
{
	local base disk
	base=$(make_nullb bounce)
	set_attribute "$(sysfs_of "$base")/queue/stable_writes" 1
	bounce stable "a disk that needs stable pages=$base"
	if disk=$(make_linear bounce "$base" 2> "$reason"); then
		bounce stable "dm-linear on it=$disk"
		remove_linear bounce
	else
		skip "dm-linear on a disk that needs stable pages" "$(cat "$reason")"
	fi
	remove_nullb bounce
}

# protected NAME [PARAMETER=VALUE...]: a disk of scsi_debug with protection information,
# which the block layer makes from the pages and checks against them.
protected()
{
	local name=$1 disk stacked
	shift
	if ! disk=$(make_scsi "$@" 2> "$reason"); then
		skip "$name" "$(cat "$reason")"
		return
	fi
	bounce stable "$name=$disk"
	bounce changed "$name=$disk"
	bounce repeated "$name=$disk"
	if stacked=$(make_linear bounce "$disk" 2> "$reason"); then
		bounce changed "dm-linear on $name=$stacked"
		bounce repeated "dm-linear on $name=$stacked"
		remove_linear bounce
	else
		skip "dm-linear on $name" "$(cat "$reason")"
	fi
	remove_scsi || bail "the disk of scsi_debug is still in use"
}

# Without a word about the alignment of buffers the block layer promises 512 bytes for
# them. null_blk of 7.3 promises two bytes and keeps that only for blocks of 512.
blocks()
{
	local disk
	disk=$(make_nullb bounce blocksize=4096)
	if [ "$(cat "$(sysfs_of "$disk")/queue/dma_alignment")" = 511 ]; then
		bounce blocks "null_blk with blocks of 4096=$disk"
	else
		skip "null_blk with blocks of 4096" "it says that it takes any buffer"
	fi
	remove_nullb bounce
	if disk=$(make_zram 2> "$reason"); then
		bounce blocks "zram=$disk"
		remove_zram "$disk"
	else
		skip "zram" "$(cat "$reason")"
	fi
}

zeroed
stable
protected "DIF and DIX" dif=1 dix=1
protected "DIF and DIX of type 3" dif=3 dix=1 sector_size=4096
blocks
rm "$reason"
tap_end
