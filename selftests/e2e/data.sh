#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a guest writes through both modules is on the host's block device, byte
# for byte: raw with fio, and as a file system.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/guest.sh"

need_guest
raw=$(make_nullb e2e_raw size=16)
fs=$(make_nullb e2e_fs size=64 cache_size=1)
mount_point=$(mktemp -d)

mapfile -t disks < <(host_disk raw "$raw"; host_disk fs "$fs")
guest_start "${disks[@]}" \
	-device vhost-blk-pci,drive=raw,num-queues=2,serial=raw-disk \
	-device vhost-blk-pci,drive=fs,num-queues=2

same_size()
{
	test "$(guest blockdev --getsize64 /dev/vda)" = "$(blockdev --getsize64 "$raw")"
}

serial_is()
{
	test "$(guest cat /sys/block/vda/serial)" = "$1"
}

# Interrupts of each queue of the first disk, which is the first virtio device
# with queues of that name.
queue_interrupts()
{
	guest "grep -E 'virtio[0-9]+-req' /proc/interrupts" |
		awk -v queue="req.$1" '$NF ~ queue "$" { print $2 + $3; exit }'
}

both_queues_work()
{
	local before0 before1
	before0=$(queue_interrupts 0)
	before1=$(queue_interrupts 1)
	guest "fio --name=queues --filename=/dev/vda --rw=randread --bs=4k --direct=1 \
		--ioengine=libaio --iodepth=8 --size=8M --numjobs=2 \
		--cpus_allowed=0,1 --cpus_allowed_policy=split --minimal" || return
	echo "queue 0: $before0 to $(queue_interrupts 0), queue 1: $before1 to $(queue_interrupts 1)"
	(($(queue_interrupts 0) > before0 && $(queue_interrupts 1) > before1))
}

make_tree()
{
	guest "set -e
		mkfs.ext4 -q /dev/vdb; mkdir -p /mnt; mount -t ext4 /dev/vdb /mnt
		for dir in 1 2 3 4; do
			mkdir /mnt/\$dir
			for file in \$(seq 50); do
				head -c \$((file * 977)) /dev/urandom > /mnt/\$dir/\$file
			done
		done
		ln -s 1/1 /mnt/link; rm -r /mnt/3; sync
		cd /mnt; find . -type f | sort | xargs sha256sum > /tmp/sums
		cd /; umount /mnt"
}

host_finds_tree()
{
	mount -o ro "$fs" "$mount_point" || return
	(cd "$mount_point" && sha256sum --quiet -c <<< "$1" && test "$(readlink link)" = 1/1)
	local status=$?
	umount "$mount_point"
	return "$status"
}

ok "our driver loads" guest insmod "$own_driver"
ok "the disk has the size of the backing device" same_size
ok "the disk has the serial of the command line" serial_is raw-disk
ok "fio verifies random writes" guest "$verify_job" --filename=/dev/vda
ok "both queues carry I/O" both_queues_work
raw_sum=$(guest 'sha256sum < /dev/vda')
ok "a file system is made and filled" make_tree
fs_sums=$(guest cat /tmp/sums)
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop

ok "the guest's checksum of the disk is one" test "${#raw_sum}" -gt 64
ok "the backing device has it too" test "$(sha256sum < "$raw")" = "$raw_sum"
ok "fsck finds the file system clean" e2fsck -fn "$fs"
ok "the host finds the guest's files" host_finds_tree "$fs_sums"

rmdir "$mount_point"
remove_nullb e2e_raw
remove_nullb e2e_fs
tap_end
