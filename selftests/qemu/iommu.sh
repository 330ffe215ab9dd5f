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
trap 'rm -f $refuse; guest_machine kill 2> /dev/null; remove_disks' EXIT
refuse=/run/qemu-refuse-stop
export VHOST_BLK_REFUSE_STOP=$refuse VHOST_BLK_REFUSE_STOP_ERRNO=11
LD_PRELOAD=$here/faults.so guest_start -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,device-iotlb=on \
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
ok "data is right" writes_and_verifies mapped --bsrange=4k-64k --size=2M
ok "and on the host's disk" same_data mapped 2
ok "fio writes and verifies" start_writer mapped
ok "stop" qmp stop
ok "cont" qmp cont
ok "fio goes on" writer_goes_on mapped
ok "all that it wrote was right" stop_writer mapped
ok "fio writes again" start_writer mapped
ok "system_reset under fio" reset
ok "then data is right" writes_and_verifies mapped --size=2M

# --- a ring in the last page of the addresses ---

# In the guest. config_byte ADDRESS OFFSET
config_byte()
{
	od -An -tu1 -j "$2" -N 1 "/sys/bus/pci/devices/$1/config" | tr -d ' '
}

# The capability by which the configuration space gives access to the device's registers.
find_access()
{
	local at
	at=$(config_byte "$1" 52)
	while [ "$at" != 0 ]; do
		if [ "$(config_byte "$1" "$at")" = 9 ] &&
			[ "$(config_byte "$1" $((at + 3)))" = 5 ]; then
			echo "$at"
			return
		fi
		at=$(config_byte "$1" $((at + 1)))
	done
	return 1
}

# write_register ADDRESS OFFSET LENGTH BYTES: of the common configuration.
write_register()
{
	local access
	access=$(find_access "$1") &&
		write_config "$1" $((access + 8)) "$(printf '\\x%02x\\x00\\x00\\x00' $(($2)))" &&
		write_config "$1" $((access + 12)) "\\x0$3\\x00\\x00\\x00" &&
		write_config "$1" $((access + 16)) "$4"
}

# A driver of the features version_1 and access_platform. The used ring has to be mapped:
# all of memory is, without translation. The available ring is not.
drive_by_hand()
{
	local device=$1
	echo "$device" > /sys/bus/pci/drivers/virtio-pci/unbind
	echo identity > "/sys/bus/pci/devices/$device/iommu_group/type"
	write_config "$device" 4 '\x06\x00'
	write_register "$device" 0x14 1 '\x00'
	write_register "$device" 0x14 1 '\x03'
	write_register "$device" 0x08 4 '\x01\x00\x00\x00'
	write_register "$device" 0x0c 4 '\x03\x00\x00\x00'
	write_register "$device" 0x14 1 '\x0b'
	write_register "$device" 0x16 2 '\x00\x00'
	write_register "$device" 0x20 4 '\x00\x00\x07\x00'
	write_register "$device" 0x28 4 '\x00\xf0\xff\xff'
	write_register "$device" 0x2c 4 '\xff\xff\xff\xff'
	write_register "$device" 0x30 4 '\x00\x10\x07\x00'
	write_register "$device" 0x1c 2 '\x01\x00'
	write_register "$device" 0x14 1 '\x0f'
}

vhost_started()
{
	qmp x-query-virtio-status '{"path": "/machine/peripheral/mapped/virtio-backend"}' |
		grep '"vhost-started": true'
}

# The kernel asks for the rings, which QEMU maps as far as it can.
stop_maps_rings()
{
	touch "$refuse" && qmp stop && rm "$refuse" && qmp cont
}

device=$(pci_device mapped)
ok "a ring is in the last page of the addresses" guest \
	"$(declare -f config_byte find_access write_register write_config drive_by_hand)
	set -e; drive_by_hand $device"
ok "the device is started" vhost_started
ok "QEMU goes on when the kernel lacks the ring" stop_maps_rings
ok "the driver takes the disk again" guest "
	echo $device > /sys/bus/pci/drivers/virtio-pci/bind"
ok "the disk is found" find_disks
ok "then data is right" writes_and_verifies mapped --size=2M

ok "no ring has stopped for an error" no_ring_error
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
