#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A virtual IOMMU between the disk and the guest's memory: the kernel asks QEMU for each
# page, and forgets it when the guest takes it away.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_qemu
new_disk mapped
# The guest has two CPUs, so its driver leaves two queues unused.
vhost_disk mapped vhost-blk-pci,num-queues=4,iommu_platform=on,disable-legacy=on,ats=on
# Every page is mapped for its request alone.
guest_with --append "intel_iommu=on iommu.strict=1 iommu.passthrough=0"
guest_start -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,device-iotlb=on \
	"${disks[@]}"

access_platform=33

is_behind_iommu()
{
	guest "readlink -f \$(readlink -f /run/sys/mapped/device)/../iommu_group && dmesg | grep -i dmar"
}

# That a page of the firmware's rings is not mapped any more is said once, and is right.
no_ring_error()
{
	qemu_log
	! qemu_log | grep "ring error"
}

ok "the driver loads" load_driver
ok "access platform is used" has_feature mapped "$access_platform"
ok "the disk is behind an IOMMU" is_behind_iommu
ok "data is right" writes_and_verifies mapped --bsrange=4k-64k
ok "and on the host's disk" same_data mapped
ok "fio writes and verifies" start_writer mapped
ok "stop" qmp stop
ok "cont" qmp cont
ok "fio goes on" writer_goes_on mapped
ok "all that it wrote was right" stop_writer mapped
ok "fio writes again" start_writer mapped
ok "system_reset under fio" reset
ok "then data is right" writes_and_verifies mapped
ok "no ring has stopped for an error" no_ring_error
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
