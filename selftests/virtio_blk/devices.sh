#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Data on all kinds of rings and transports that QEMU's virtio-blk-pci has.
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
add_disk iommu virtio-blk-pci,iommu_platform=on,disable-legacy=on
add_disk legacy virtio-blk-pci,disable-modern=on,disable-legacy=off
add_disk block4096 virtio-blk-pci,logical_block_size=4096,physical_block_size=4096
add_disk small-ring virtio-blk-pci,queue-size=8,indirect_desc=off
add_disk in-order virtio-blk-pci,in_order=on
guest_start "${disks[@]}"

device_tests()
{
	for name in queues1 queues4 packed no-event-idx no-indirect iommu legacy small-ring in-order; do
		check "$name: data is right" data_is_right "$name"
	done
	check "block4096: data is right" data_is_right block4096 4k
}

each_driver device_tests
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
