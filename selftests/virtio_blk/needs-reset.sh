#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that asks to be reset (DEVICE_NEEDS_RESET). With recovery it is reset at once,
# long before a request's time is up; without, a line in the log says so.
#
# QEMU's device asks when the driver breaks the rules of the ring. The driver doesn't, so the
# test does: it writes to the ring, since this machine has the guest's memory, too, and
# tells the device to look.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
add_slow_disk recovers virtio-blk-pci,num-queues=1
add_slow_disk waits virtio-blk-pci,num-queues=1
share_guest_memory 512
guest_start "${disks[@]}"

# In the guest. find_capability ADDRESS TYPE: where the device's configuration space has a
# capability of virtio (virtio 1.4, section 4.1.4).
find_capability()
{
	local config at
	read -r -d '' -a config < <(od -An -v -tu1 "/sys/bus/pci/devices/$1/config")
	for ((at = config[0x34]; at; at = config[at + 1])); do
		((config[at] != 9 || config[at + 3] != $2)) || echo "$at"
	done
}

# In the guest. kick ADDRESS: the first queue of a PCI device, through the capability that
# gives access to all registers.
kick()
{
	local notify access offset
	notify=$(find_capability "$1" 2)
	access=$(find_capability "$1" 5)
	offset=$(od -An -tx1 -j $((notify + 8)) -N 4 "/sys/bus/pci/devices/$1/config")
	write_config "$1" $((access + 4)) '\x04'
	write_config "$1" $((access + 8)) "${offset// /\\x}"
	write_config "$1" $((access + 12)) '\x02\x00\x00\x00'
	write_config "$1" $((access + 16)) '\x00\x00'
}

# break_ring NAME: its next available entry is a descriptor that no ring has.
break_ring()
{
	local status avail index size
	status=$(queue_status "$1")
	avail=$(field vring-avail <<< "$status")
	index=$(field last-avail-idx <<< "$status")
	size=$(field vring-num <<< "$status")
	write_16 $((avail + 4 + index % size * 2)) 0xffff
	write_16 $((avail + 2)) $((index + 1))
	complaints=$((complaints + 1))
	guest "$(declare -f write_config find_capability kick); kick $(pci_device "$1")"
}

device_complains()
{
	equal "$(qemu_log | grep -o 'Guest says index 65535 is available' | wc -l)" "$complaints"
}

# was_reset NAME COUNT: soon.
was_reset()
{
	guest "for i in \$(seq $((50 * LIMIT_FACTOR))); do
			[ \$(cat /run/sys/$1/recovery/device_resets) != $2 ] || exit 0
			sleep 0.1
		done; cat /run/sys/$1/recovery/device_resets; exit 1"
}

# Of a device that waits for it.
still_needs_reset()
{
	monitor x-query-virtio-status "{\"path\": \"/machine/peripheral/$1/virtio-backend\"}" |
		grep -q 'VIRTIO_CONFIG_S_NEEDS_RESET.*VIRTIO_CONFIG_S_DRIVER_OK'
}

load_driver ours
complaints=0

set_recovery recovers 1
hold_requests
check "recovery: fio writes" start_requests recovers
# What is sent again is not held.
let_requests_go
break_ring recovers
check "recovery: the device complains" wait_until device_complains
check "recovery: it is reset within 5 s" was_reset recovers 1
check "recovery: every request succeeds" requests_succeed recovers 40
check "recovery: none has failed" attribute recovers recovery/timed_out 0
break_ring recovers
check "recovery: the device complains when it is idle" wait_until device_complains
check "recovery: it is reset within 5 s" was_reset recovers 2
check "recovery: data is right" data_is_right recovers

set_recovery waits 0
hold_requests
check "no recovery: fio writes" start_requests waits
mark_log waits
break_ring waits
check "no recovery: the device complains" wait_until device_complains
guest sleep 3
check "no recovery: one line in the log says so" driver_said 'needs a reset'
check "no recovery: it is not reset" still_needs_reset waits
check "no recovery: no reset is counted" attribute waits recovery/device_resets 0

ok "the guest's kernel has nothing to complain of" guest_has_no_reports
# Requests are still in flight.
guest_machine kill
tap_end
