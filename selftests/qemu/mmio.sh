#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vhost-blk-device, on virtio-mmio: one interrupt for all queues, no PCI.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_qemu
for name in one four; do
	new_disk "$name"
done
vhost_disk one vhost-blk-device
vhost_disk four vhost-blk-device,num-queues=4,worker-per-virtqueue=on

guest_start -machine microvm,acpi=on,pcie=on -global virtio-mmio.force-legacy=off "${disks[@]}"
ok "virtio-mmio loads" guest modprobe virtio_mmio
ok "the driver loads" load_driver

is_on_mmio()
{
	guest "readlink -f /run/sys/$1 | grep /platform/LNRO"
}

ok "the device is on virtio-mmio" is_on_mmio one
for name in one four; do
	ok "$name: data is right" writes_and_verifies "$name"
	ok "$name: and on the host's disk" same_data "$name"
done
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
