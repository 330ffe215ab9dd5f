#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What hosts put between a disk and a guest: every kind serves the right data (devices.c),
# pages that change while they are written (bounce.c), and requests that wait while
# something below is away (failing.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

export DISKS=$here/../lib/disks.sh
limit=120

base=$(make_nullb stacks_base size=64)
second=$(make_nullb stacks_second size=64)
third=$(make_nullb stacks_third size=64)
reason=$(mktemp)

# Zeroes a device, of which what was stacked on it before has left something.
clear_disk()
{
	dd if=/dev/zero of="$1" bs=1M oflag=direct status=none 2> /dev/null
}

devices()
{
	run_tests "$limit" "$here/devices" "$1=$2"
}

changed()
{
	run_tests "$limit" "$here/bounce" changed "$1=$2"
}

# away DISK COMMAND: the command takes the disk away and back.
away()
{
	echo "# $2"
	run_tests "$limit" "$here/failing" away "$1" "$2"
}

skip_for_reason()
{
	skip "$1" "$(tail -n 1 "$reason")"
}

crypt()
{
	local disk
	if disk=$(make_crypt stacks "$base" 2> "$reason"); then
		devices "dm-crypt" "$disk"
		remove_dm stacks
	else
		skip_for_reason "dm-crypt"
	fi
}

# integrity NAME MODE
integrity()
{
	local disk
	clear_disk "$base"
	if disk=$(make_integrity stacks "$base" "$2" 2> "$reason"); then
		devices "$1" "$disk"
		changed "$1" "$disk"
		remove_dm stacks
	else
		skip_for_reason "$1"
	fi
}

consistent()
{
	local found
	found=$(md_mismatches) && echo "mismatches: $found" && [ "$found" = 0 ]
}

# md NAME LEVEL ATTRIBUTE DISK...: with that attribute set, pages must not change.
md()
{
	local name=$1 level=$2 attribute=$3 disk
	shift 3
	for disk; do
		clear_disk "$disk"
	done
	if disk=$(make_md "$level" "$@" 2> "$reason"); then
		devices "$name" "$disk"
		set_attribute "/sys/block/md99/$attribute" 1
		changed "$name with $attribute" "$disk"
		ok "$name with $attribute: the array is consistent" consistent
		remove_md
	else
		skip_for_reason "$name"
	fi
	mdadm --quiet --zero-superblock "$@" 2> /dev/null
}

thin()
{
	local disk
	clear_disk "$second"
	if disk=$(make_thin stacks "$base" "$second" 2> "$reason"); then
		devices "dm-thin" "$disk"
		away "$disk" "thin_snapshot stacks && wait_until thin_is_full stacks &&
			sleep 1 && extend_thin stacks $base $second"
		remove_thin stacks
	else
		skip_for_reason "dm-thin"
	fi
}

multipath()
{
	local disk
	if disk=$(make_multipath stacks "$base" 2> "$reason"); then
		devices "dm-multipath" "$disk"
		away "$disk" "lose_path stacks $base && sleep 2 && find_path stacks $base"
		remove_dm stacks
	else
		skip_for_reason "dm-multipath"
	fi
}

nbd()
{
	local disk
	if disk=$(make_nbd "$base" 2> "$reason"); then
		devices "nbd" "$disk"
		away "$disk" "kill_nbd_server && sleep 2 && start_nbd_server $base"
		remove_nbd
	else
		skip_for_reason "nbd"
	fi
}

zram()
{
	local disk
	if disk=$(make_zram 2> "$reason"); then
		devices "zram" "$disk"
		changed "zram" "$disk"
		remove_zram "$disk"
	else
		skip_for_reason "zram"
	fi
}

xfs()
{
	local large mount_point disk
	if ! need_modules xfs loop 2> "$reason" || ! command -v mkfs.xfs > /dev/null; then
		skip "loop on xfs" "no xfs"
		return
	fi
	large=$(make_nullb stacks_xfs size=400)
	mount_point=$(mktemp -d)
	if mkfs.xfs -q -f "$large" && mount "$large" "$mount_point" &&
		disk=$(make_loop "$mount_point" 2> "$reason"); then
		devices "loop on xfs" "$disk"
		remove_loop "$disk"
	else
		skip_for_reason "loop on xfs"
	fi
	umount "$mount_point"
	rmdir "$mount_point"
	remove_nullb stacks_xfs
}

crypt
integrity "dm-integrity" J
integrity "dm-integrity without a journal" D
md "MD raid1" 1 queue/stable_writes "$second" "$third"
md "MD raid5" 5 md/skip_copy "$base" "$second" "$third"
thin
multipath
nbd
zram
xfs

rm "$reason"
remove_nullb stacks_base
remove_nullb stacks_second
remove_nullb stacks_third
tap_end
