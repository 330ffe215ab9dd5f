#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that is gone, whose registers read as ones, and one that never acknowledges a
# reset: requests fail, the disk can be removed, and neither takes longer than it must.
#
# Another PCI device (ivshmem) moves its memory over the registers. Where two overlap, QEMU
# shows the one that was mapped last. A device that is gone writes to no memory either: a
# throttle holds its requests until the guest ends.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir

# How long a removal may take, in seconds.
removal=2
# When the driver gives up a reset, in seconds.
reset_deadline=10
ones=0000:00:1e.0 never_zero=0000:00:1d.0

# add_cover ADDRESS BYTE: as echo -e has it. Writes are ignored.
add_cover()
{
	local name=cover-${1:8:2}
	for _ in $(seq 16384); do
		printf '%b' "$2"
	done > "$work/$name"
	disks+=(-object "memory-backend-file,id=$name,size=16K,mem-path=$work/$name,share=on,readonly=on,rom=on"
		-device "ivshmem-plain,memdev=$name,addr=${1#*:*:}")
}

add_cover "$ones" '\xff'
add_cover "$never_zero" '\x0f'
for each in removed-0 removed-2 timeout-0 timeout-2 deaf returns; do
	add_slow_disk "$each" virtio-blk-pci
done

# The registers are behind the fourth base address, a cover's memory behind the second.
# cover DEVICE COVER
cover()
{
	guest "$(declare -f write_config)
		write_config $2 4 '\x00\x00'
		dd if=/sys/bus/pci/devices/$1/config bs=4 skip=8 count=2 status=none |
			dd of=/sys/bus/pci/devices/$2/config bs=8 seek=3 conv=notrunc status=none
		write_config $2 4 '\x02\x00'"
}

uncover()
{
	guest "$(declare -f write_config); write_config $1 4 '\x00\x00'"
}

# registers_read DEVICE BYTE: its status.
registers_read()
{
	local start
	start=$(guest "sed -n '5s/ .*//p' /sys/bus/pci/devices/$1/resource") &&
		monitor human-monitor-command "{\"command-line\": \"xp /1bx $((start + 0x14))\"}" |
			grep ": $2\\\\r"
}

start_guest()
{
	guest_start "${disks[@]}"
	load_driver ours
}

# is_removed DEVICE SECONDS TEXT: a guest with a removal that hangs can't be used for more.
is_removed()
{
	check "$3: it is removed within $2 s" remove_device "$1" "$2"
	guest_hangs=no
	! removal_hangs || guest_hangs=yes
}

need_working_guest()
{
	[ "$guest_hangs" = yes ] || return 0
	guest_machine kill
	start_guest
	guest_hangs=no
}

# lose NAME COVER STATUS TEXT: with requests in flight, whose time must not be up before.
lose()
{
	mark_log "$1"
	# Each test sees its own warnings.
	guest "echo 1 > /sys/kernel/debug/clear_warn_once"
	hold_requests
	check "$4: fio writes" start_requests "$1"
	cover "$device" "$2"
	check "$4: its status reads as $3" registers_read "$device" "$3"
}

removal_test()
{
	local name=removed-$1 text="gone and removed, $1 attempts" device
	need_working_guest
	device=$(pci_device "$name")
	set_recovery "$name" "$1"
	lose "$name" "$ones" 0xff "$text"
	is_removed "$device" "$removal" "$text"
	check "$text: fio fails" requests_fail "$name" 10
	check "$text: one line in the log says so" driver_said 'no more I/O'
	check "$text: no reports in the log" no_reports_since_mark
	uncover "$ones"
}

# The block layer may add more than a second to a timeout, which is long enough for the
# device to be gone before it is over.
timeout_test()
{
	local name=timeout-$1 text="gone, $1 attempts" device
	need_working_guest
	device=$(pci_device "$name")
	set_recovery "$name" "$1" $((3000 * LIMIT_FACTOR))
	lose "$name" "$ones" 0xff "$text"
	check "$text: fio fails after a timeout" requests_fail "$name" 10
	check "$text: so does what comes later" later_write_fails "$name"
	check "$text: one line in the log says so" driver_said 'no more I/O'
	is_removed "$device" "$removal" "$text"
	check "$text: there is still one line" driver_said 'no more I/O'
	check "$text: no reports in the log" no_reports_since_mark
	uncover "$ones"
}

later_write_fails()
{
	guest "timeout $((5 * LIMIT_FACTOR)) dd if=/dev/zero of=/run/disk/$1 bs=4k count=1 oflag=direct 2>&1 |
		grep 'Input/output error'"
}

# never_reset NAME TEXT: a device that does not acknowledge the reset of the recovery.
never_reset()
{
	need_working_guest
	device=$(pci_device "$1")
	set_recovery "$1" 1 $((3000 * LIMIT_FACTOR))
	lose "$1" "$never_zero" 0x0f "$2"
	check "$2: fio fails after a timeout and $reset_deadline s" \
		requests_fail "$1" $((reset_deadline + 10))
	check "$2: so does what comes later" later_write_fails "$1"
	check "$2: the log says so" said_in_log 'no more I/O'
	check "$2: no reports in the log" no_reports_since_mark
}

# Each of the recovery and the removal may wait for a reset. The virtio core is entitled to
# complain of a device that goes without.
deaf_test()
{
	local text="never reset" device
	never_reset deaf "$text"
	is_removed "$device" $((reset_deadline + 5)) "$text"
	uncover "$never_zero"
}

# What the driver has done to the device must not outlast its removal.
returns_test()
{
	local text="reset later" device
	never_reset returns "$text"
	uncover "$never_zero"
	let_requests_go
	check "$text: the driver is unbound and bound" bind_again
	check "$text: the disk works" guest "$(declare -f link_disks); link_disks
		timeout $((10 * LIMIT_FACTOR)) dd if=/run/disk/returns of=/dev/null bs=4k count=1 iflag=direct"
	check "$text: no reports in the log" no_reports_since_mark
}

# The driver's probe waits for ever for a device that may not access memory.
bind_again()
{
	guest "cd /sys/bus/virtio/drivers/virtio_blk && bound=\$(basename /sys/bus/pci/devices/$device/virtio*) &&
		echo \$bound > unbind && { echo \$bound > bind & } > /dev/null 2>&1 < /dev/null" &&
		wait_until guest "ls -d /sys/bus/pci/devices/$device/virtio*/block"
}

said_in_log()
{
	log_since_mark | grep "virtio_blk.*$1"
}

start_guest
guest_hangs=no
for each in 0 2; do
	removal_test "$each"
	timeout_test "$each"
done
[ "$guest_hangs" = yes ] || ok "the guest lost no memory" guest_lost_no_memory
returns_test
deaf_test
if [ "$guest_hangs" = yes ]; then
	guest_machine kill
else
	unload_driver
	guest_stop
fi
tap_end
