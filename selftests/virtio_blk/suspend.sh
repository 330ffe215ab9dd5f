#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Suspend while the device ends no request, and without recovery: it fails after io_timeout
# instead of waiting for ever, and the disk works on. Before that, it waits, also for
# requests whose process polls for them, though it is frozen.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
add_slow_disk slow virtio-blk-pci,num-queues=2
guest_start "${disks[@]}"

was_refused()
{
	guest_machine reconnect &&
		when_written /run/suspend.status 'cat /run/suspend.log; grep "resource busy" /run/suspend.log'
}

# Down to where all devices are suspended, and back.
suspends()
{
	start_suspend freeze devices && wait_until has_resumed && was_suspended
}

load_driver ours
set_recovery slow 0 2000
# The second request is held for 16 s, the others for as long after each other.
limit 256
check "fio writes" start_requests slow
mark_log suspend
start_suspend freeze devices
check "suspend comes to an end while requests are held" wait_until has_resumed
let_requests_go
wait_until has_resumed || wait_until has_resumed
check "it has failed: the disk is busy" was_refused
check "one line in the log says so" driver_said .
check "every request succeeds when the device goes on" requests_succeed slow 40
check "the device was not reset" attribute slow recovery/device_resets 0
check "suspend works then" suspends
check "data is right" data_is_right slow
set_recovery slow 0 4294967295
# Each request takes a second.
limit 4096
check "fio writes, and requests may take years" start_requests slow
check "suspend waits for them then" suspends
let_requests_go
check "every request succeeds" requests_succeed slow 40
unload_driver

load_driver ours poll_queues=1
# Too long to wait for.
set_recovery slow 0 $((120000 * LIMIT_FACTOR))
limit 4096
check "fio polls" start_requests slow --ioengine=io_uring --hipri=1
check "suspend waits for requests whose poller is frozen" suspends
let_requests_go
check "every request succeeds" requests_succeed slow 40
unload_driver

ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
