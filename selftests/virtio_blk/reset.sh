#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The transport resets the device, as sysfs can have a PCI function reset: with requests in
# flight, while the device's size changes, and while the device ends no request. The
# kernel has to tell drivers of it, as 7.3 does.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
add_slow_disk slow virtio-blk-pci,num-queues=2,bus=root-port
# A function that can be reset is behind a port of PCI Express.
guest_start -machine q35 -device pcie-root-port,id=root-port "${disks[@]}"

# reset_function SECONDS: of the disk, which is to take no longer.
reset_function()
{
	guest "rm -f /run/reset
		(echo 1 > /sys/bus/pci/devices/$device/reset; echo \$? > /run/reset) > /dev/null 2>&1 < /dev/null &
		for i in \$(seq $(($1 * 10 * LIMIT_FACTOR))); do
			[ ! -s /run/reset ] || exit \$(cat /run/reset)
			sleep 0.1
		done; echo it goes on; exit 1"
}

# resize MIBIBYTES: the device and its file.
resize()
{
	monitor block_resize "{\"node-name\": \"slow\", \"size\": $(($1 << 20))}"
}

# resize_and_reset: several times at the same time, and the last size counts.
resize_and_reset()
{
	local size
	for size in 24 16 32 16 40; do
		resize "$size" > /dev/null &
		reset_function 10 || return
		wait
	done
	guest "for i in \$(seq $WAIT_TRIES); do
			[ \$(blockdev --getsize64 /run/disk/slow) != $((40 << 20)) ] || exit 0
			sleep 0.1
		done; blockdev --getsize64 /run/disk/slow; exit 1"
}

reset_tests()
{
	# fio takes some seconds.
	limit 400000
	check "fio writes" start_requests slow
	for _ in 1 2 3; do
		check "the function is reset" reset_function 10
	done
	let_requests_go
	check "every request succeeds" requests_succeed slow 40
}

# The in-tree driver may miss a change of the size that falls into a reset.
resize_tests()
{
	check "it is resized and reset" resize_and_reset
	check "data is right" data_is_right slow
	resize 16 > /dev/null
}

held_tests()
{
	check "write through is chosen" guest "echo 'write through' > /run/sys/slow/cache_type"
	set_recovery slow 0 2000
	# The second request is held for 16 s, and with it the others. A request that comes
	# after the limit is lifted is not.
	limit 256
	check "fio writes to a device that holds its requests" start_requests slow
	let_requests_go
	check "the function is reset nevertheless" reset_function 10
	check "every request succeeds" requests_succeed slow 60
	check "the cache is still write through" attribute slow cache_type "write through"
	check "it is reset again" reset_function 10
	check "data is right" data_is_right slow
}

if ! guest "grep -qw virtio_device_reset_prepare /proc/kallsyms"; then
	guest_machine kill
	skip_all "this kernel does not tell drivers of such a reset"
fi
# Ours comes last: where it fails, its disk may be out of use.
for each in in-tree ours; do
	load_driver "$each"
	device=$(pci_device slow)
	reset_tests
	if [ "$each" = ours ]; then
		resize_tests
		held_tests
	fi
	unload_driver
done
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
