#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Every kind of block device is offered as what it is and serves the right data
# (devices.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

limit=300

# devices [-r] NAME=DISK...
devices()
{
	run_tests "$limit" "$here/devices" "$@"
}

fill_disk()
{
	dd if=/dev/urandom of="$1" bs=1M count=8 oflag=direct status=none
}

# scsi NAME [PARAMETER=VALUE...]: a disk of scsi_debug, of which there is one at a
# time.
scsi()
{
	local name=$1 disk
	shift
	if disk=$(make_scsi "$@" 2> "$reason"); then
		devices "$name=$disk"
		remove_scsi || bail "the disk of scsi_debug is still in use"
	else
		skip "$name" "$(cat "$reason")"
	fi
}

# With blocks of 4096 bytes it loses what it reads in pieces at odd places, since
# it takes those (7.3).
null_blk()
{
	devices \
		"null_blk=$(make_nullb devices_plain)" \
		"null_blk with a cache and discard=$(make_nullb devices_cached cache_size=1 discard=1)"
	remove_nullb devices_plain
	remove_nullb devices_cached
}

# On a file system with a block device below, whose blocks the loop device has to
# respect when it does direct I/O.
loop()
{
	local base mount_point disk
	need_modules ext4 loop 2> "$reason" || {
		skip "loop" "$(cat "$reason")"
		return
	}
	base=$(make_nullb devices_base)
	mount_point=$(mktemp -d)
	mkfs.ext4 -q "$base" && mount "$base" "$mount_point"
	if disk=$(make_loop "$mount_point" 2> "$reason"); then
		losetup --direct-io=off "$disk"
		devices "loop, cached=$disk"
		losetup --direct-io=on "$disk" &&
			devices "loop, direct=$disk"
		remove_loop "$disk"
	else
		skip "loop" "$(cat "$reason")"
	fi
	umount "$mount_point"
	rmdir "$mount_point"
	remove_nullb devices_base
}

# The second begins where the first MiB ends, in the middle of what is tested.
device_mapper()
{
	local first second disk
	first=$(make_nullb devices_first size=1)
	second=$(make_nullb devices_second)
	if disk=$(make_linear devices "$first" "$second" 2> "$reason"); then
		devices "dm-linear=$disk"
		remove_linear devices
	else
		skip "dm-linear" "$(cat "$reason")"
	fi
	if disk=$(make_flakey devices "$second" 2> "$reason"); then
		devices "dm-flakey, up=$disk"
		remove_flakey devices
	else
		skip "dm-flakey, up" "$(cat "$reason")"
	fi
	remove_nullb devices_first
	remove_nullb devices_second
}

nvme_tcp()
{
	local base disk
	base=$(make_nullb devices_remote)
	if disk=$(make_nvme_tcp "$base" 2> "$reason"); then
		devices "NVMe over TCP=$disk"
		remove_nvme_tcp
	else
		skip "NVMe over TCP" "$(cat "$reason")"
	fi
	remove_nullb devices_remote
}

read_only()
{
	local disk
	disk=$(make_nullb devices_ro discard=1)
	fill_disk "$disk"
	devices -r "opened for reading only=$disk"
	blockdev --setro "$disk"
	devices "set to read-only=$disk"
	remove_nullb devices_ro
}

reason=$(mktemp)
null_blk
loop
device_mapper
nvme_tcp
read_only
scsi "scsi" sector_size=512
scsi "scsi with blocks of 4096" sector_size=4096
scsi "scsi with blocks of 512 in 4096" physblk_exp=3 lowest_aligned=7
scsi "scsi with discard by UNMAP" lbpu=1
scsi "scsi with discard by WRITE SAME" lbpws=1
scsi "scsi with DIF and DIX" dif=1 dix=1
scsi "scsi with DIF and DIX of type 3" dif=3 dix=1 sector_size=4096
scsi "scsi with DIF only" dif=1 dix=0
scsi "scsi with DIX only" dif=0 dix=1
rm "$reason"
tap_end
