#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A virtual IOMMU between the daemon's disk and the guest's memory, in unmodified QEMUs: the
# kernel asks for each page by way of the daemon, and forgets it when the guest takes it
# away. First a guest that maps every page for its request alone; then, on the newer QEMU,
# one that takes mappings away many at a time, the rings' among them.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_user
new_disk mapped
user_disk mapped mapped iommu_platform=on,disable-legacy=on,ats=on
start_daemon mapped mapped --num-queues=2
guest_with --append "intel_iommu=on iommu.passthrough=0"

access_platform=33

is_behind_iommu()
{
	guest "readlink -f \$(readlink -f /run/sys/mapped/device)/../iommu_group && dmesg | grep -i dmar"
}

# replace_daemon SIGNAL: with requests in flight, whose pages the new one has to ask for.
replace_daemon()
{
	kill_daemon mapped "$1" && start_daemon mapped mapped --num-queues=2 &&
		writer_goes_on mapped
}

closed_no_connection()
{
	! daemon_said mapped "connection is closed"
}

begin()
{
	guest_start -machine q35,kernel-irqchip=split \
		-device intel-iommu,intremap=on,device-iotlb=on "${disks[@]}"
	check "the driver loads" load_driver
	check "access platform is used" has_feature mapped "$access_platform"
	check "the disk is behind an IOMMU" is_behind_iommu
	# The kernel asks for each page by itself, which takes 10 ms here.
	check "data is right" writes_and_verifies mapped --bsrange=4k-64k --size=2M
	check "and on the host's disk" same_data mapped 2
}

under_fio()
{
	check "fio writes and verifies" start_writer mapped
	check "stopped and continued twice under fio" stop_and_continue mapped 2
	check "the daemon is stopped and another started under fio" replace_daemon TERM
	check "the daemon is killed and another started under fio" replace_daemon KILL
	check "all that fio wrote was right" stop_writer mapped
	check "fio writes again" start_writer mapped
	check "system_reset under fio" reset
	check "then data is right" writes_and_verifies mapped --size=512k
	check "the daemon has closed no connection" closed_no_connection
	check "the guest's kernel has nothing to complain of" guest_has_no_reports
	guest_stop
}

use_qemu "$QEMU"
guest_with --append iommu.strict=1
begin
under_fio
if [ -n "$QEMU_BACKPORTS" ]; then
	use_qemu "$QEMU_BACKPORTS"
	guest_with --append iommu.strict=0
	begin
	check "the guest's kernel has nothing to complain of" guest_has_no_reports
	guest_stop
else
	skip "mappings that are taken away many at a time" "QEMU_BACKPORTS names no newer QEMU"
fi
tap_end
