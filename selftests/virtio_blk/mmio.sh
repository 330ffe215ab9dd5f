#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Data on virtio-mmio, which has one interrupt for all queues: modern devices, then legacy
# ones, since QEMU makes all of a machine of one kind.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
# A microvm has no clock but the PIT to calibrate the processor's by. An emulated processor
# that is kept waiting fails to, and its kernel hangs in its first second. The processor's
# clock is this machine's.
guest_with --append "tsc_early_khz=$(awk '/^cpu MHz/ { print int($4 * 1000); exit }' /proc/cpuinfo)"
guest_with --cpus 4

add_disk queues1 virtio-blk-device,num-queues=1
add_disk queues4 virtio-blk-device,num-queues=4
add_disk packed virtio-blk-device,packed=on
add_disk no-event-idx virtio-blk-device,event_idx=off
add_disk no-indirect virtio-blk-device,indirect_desc=off
add_disk block4096 virtio-blk-device,logical_block_size=4096,physical_block_size=4096

is_on_mmio()
{
	guest "readlink -f /run/sys/$1 | grep /platform/LNRO"
}

number_of_queues()
{
	equal "$(guest "ls /run/sys/$1/mq | wc -l")" "$2"
}

mmio_tests()
{
	check "the device is on virtio-mmio" is_on_mmio queues1
	check "VERSION_1 is $1" equal "$(sysfs queues1 device/features | cut -c 33)" "$1"
	check "RING_PACKED is $1" equal "$(sysfs packed device/features | cut -c 35)" "$1"
	check "1 queue" number_of_queues queues1 1
	check "4 queues" number_of_queues queues4 4
	check_data queues1 queues4 packed no-event-idx no-indirect block4096
}

# mmio_guest LEGACY VERSION_1
mmio_guest()
{
	guest_start -machine microvm,acpi=on,pcie=on -global "virtio-mmio.force-legacy=$1" \
		"${disks[@]}"
	ok "virtio-mmio loads" guest modprobe virtio_mmio
	each_driver mmio_tests "$2"
	ok "the guest's kernel has nothing to complain of" guest_has_no_reports
	guest_stop
}

mmio_guest off 1
mmio_guest on 0
tap_end
