#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# pin-memory=on: the kernel pins what the guest has when the device starts, and nothing while
# it is stopped. The guest's memory may be replaced meanwhile.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_qemu
# What is plugged in can be unplugged: nothing stays there that can't move.
guest_with --memory 256M,slots=2,maxmem=1G --append memhp_default_state=online_movable
new_disk pinned size=64
vhost_disk pinned vhost-blk-pci,num-queues=2,pin-memory=on
guest_start "${disks[@]}"

# pinned_mib: of QEMU's memory, by the kernel.
pinned_mib()
{
	awk '/^VmPin:/ { print int($2 / 1024) }' "/proc/$(guest_machine pid)/status"
}

pins_at_least()
{
	echo "$(pinned_mib) MiB are pinned"
	(($(pinned_mib) >= $1))
}

pins_nothing()
{
	equal "$(pinned_mib)" 0
}

unplug_memory()
{
	qmp device_del '{"id": "dimm"}' || return
	wait_until memory_is_free || {
		guest "dmesg | tail -20; cd /sys/devices/system/memory
			grep . memory*/state memory*/removable memory*/valid_zones"
		return 1
	}
}

memory_is_free()
{
	qmp object-del '{"id": "memory"}' > /dev/null
}

# Most of fio's buffers are in memory that was plugged: the guest's kernel takes that first.
uses_plugged_memory()
{
	guest "$verify_job --bs=1M --iodepth=16 --size=48M --filename=/run/disk/pinned"
}

ok "the driver loads" load_driver
ok "the guest's memory is pinned" pins_at_least 256
ok "memory is plugged in" plug_memory memory-backend-ram
ok "it is pinned, too" pins_at_least 768
ok "data is right" uses_plugged_memory
ok "and on the host's disk" same_data pinned
# As with "stop" of the monitor, the device is not started.
ok "the driver gives the disk up" driver_leaves pinned
ok "nothing is pinned" pins_nothing
ok "the memory is unplugged" unplug_memory
ok "other memory is plugged in" plug_memory memory-backend-ram
ok "the driver takes the disk again" driver_returns pinned
ok "all memory is pinned" pins_at_least 768
ok "data is right" uses_plugged_memory
ok "and on the host's disk" same_data pinned
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
