#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Data on all kinds of rings that QEMU's virtio-blk-pci has.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
# With all memory that a device with iommu_platform is given behind bounce buffers.
guest_with --cpus 4 --append swiotlb=force

add_disk queues1 virtio-blk-pci,num-queues=1
add_disk queues4 virtio-blk-pci,num-queues=4
add_disk packed virtio-blk-pci,packed=on
add_disk no-event-idx virtio-blk-pci,event_idx=off
add_disk no-indirect virtio-blk-pci,indirect_desc=off
add_disk few-segments virtio-blk-pci,queue-size=8
add_disk iommu virtio-blk-pci,iommu_platform=on,disable-legacy=on
add_disk legacy virtio-blk-pci,disable-modern=on,disable-legacy=off
add_disk in-order virtio-blk-pci,in_order=on
add_disk block4096 virtio-blk-pci,logical_block_size=4096,physical_block_size=4096
guest_start "${disks[@]}"

# Bits of struct virtio_device.features.
indirect_desc=28 event_idx=29 version_1=32 access_platform=33 ring_packed=34 in_order=35

# Each queue of the disk carries I/O of the processor that it is for.
queues_work()
{
	local before after
	before=$(interrupts "$1")
	guest "for cpu in 0 1 2 3; do
			taskset \$((1 << cpu)) dd if=/run/disk/$1 of=/dev/null bs=64k count=16 iflag=direct || exit
		done" || return
	after=$(interrupts "$1")
	echo "interrupts before:" "$before" "after:" "$after"
	[ "$(wc -l <<< "$after")" = "$2" ] &&
		[ "$(paste <(echo "$before") <(echo "$after") | awk '$2 > $1' | wc -l)" = "$2" ]
}

# A line for each queue of a disk.
interrupts()
{
	guest "device=\$(basename \$(readlink -f /run/sys/$1/device))
		awk -v name=\"\$device-req\" 'index(\$NF, name) { print \$2 + \$3 + \$4 + \$5 }' /proc/interrupts"
}

# What is no whole block is refused, and nothing of it written.
half_block_is_refused()
{
	local before
	before=$(sha256sum < "$work/block4096")
	guest "! dd if=/dev/urandom of=/run/disk/block4096 bs=512 count=1 oflag=direct" &&
		equal "$(sha256sum < "$work/block4096")" "$before"
}

# swiotlb maps IO_TLB_SEGSIZE slabs of 2 KiB at once.
segments_fit()
{
	local bytes
	bytes=$(sysfs iommu queue/max_segment_size)
	echo "max_segment_size is $bytes"
	[ "$bytes" -le 262144 ]
}

in_order_is_used()
{
	if guest 'grep -qF _split_in_order /proc/kallsyms'; then
		has_feature in-order "$in_order"
	else
		lacks_feature in-order "$in_order"
	fi
}

device_tests()
{
	check "1 queue: it works" queues_work queues1 1
	check "4 queues: each works" queues_work queues4 4
	check "packed ring is used" has_feature packed "$ring_packed"
	check "event index is used" has_feature queues1 "$event_idx"
	check "event index is not used without" lacks_feature no-event-idx "$event_idx"
	check "indirect descriptors are used" has_feature queues1 "$indirect_desc"
	check "indirect descriptors are not used without" \
		lacks_feature no-indirect "$indirect_desc"
	check "requests of 6 segments at most" attribute few-segments queue/max_segments 6
	check "access platform is used" has_feature iommu "$access_platform"
	check "access platform: segments fit into bounce buffers" segments_fit
	check "a legacy device is one" lacks_feature legacy "$version_1"
	check "in-order is used if the kernel knows it" in_order_is_used
	check "blocks of 4096 bytes" attribute block4096 queue/logical_block_size 4096
	check "blocks of 4096 bytes: a smaller write is refused" half_block_is_refused
	check_data queues1 queues4 packed no-event-idx no-indirect few-segments iommu legacy \
		in-order block4096
}

each_driver device_tests
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
