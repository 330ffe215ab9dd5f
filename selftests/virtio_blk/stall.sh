#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# QEMU's own disk, behind a throttle that makes requests take longer than they may, or
# lets nothing through: without recovery both drivers wait, with recovery the device is
# reset. QEMU does what it holds when it is reset, so that there is nothing to be sent
# again. A limit that is lifted is so only for requests to come. A cache mode that is chosen
# meanwhile is neither forgotten nor taken for another one.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
add_slow_disk slow virtio-blk-pci
guest_start "${disks[@]}"

# start_fio KIBIBYTES: leaves its status behind when it ends.
start_fio()
{
	guest "rm -f /run/status; (fio --name=stall --rw=randwrite --bs=4k --iodepth=16 \
		--ioengine=libaio --direct=1 --size=$1k --verify=crc32c --minimal \
		--filename=/run/disk/slow > /run/fio.log 2>&1; echo \$? > /run/status) \
		> /dev/null 2>&1 < /dev/null &"
}

ends_well()
{
	guest "for i in \$(seq $((2 * WAIT_TRIES))); do
			test ! -s /run/status || break
			sleep 0.1
		done
		cat /run/fio.log /run/status; test \"\$(cat /run/status)\" = 0"
}

was_reset()
{
	guest "for i in \$(seq $WAIT_TRIES); do
			test \$(cat /run/sys/slow/recovery/device_resets) = 0 || exit 0
			sleep 0.1
		done
		exit 1"
}

# stall BYTES KIBIBYTES: of the limit, and for fio.
stall()
{
	# With the in-tree driver, no request ever times out.
	[ "$driver" != ours ] || guest "echo 1000 > /run/sys/slow/queue/io_timeout"
	limit "$1"
	start_fio "$2"
}

# Each takes two seconds.
waits()
{
	stall 2048 12
	check "requests that take long are waited for, and succeed" ends_well
	let_requests_go
	check "the data is right" same_data slow
}

# choose_cache MODE: while requests are held. Remembers how many resets there were before.
choose_cache()
{
	guest "cd /run/sys/slow
		rm -f /run/chosen
		(before=\$(cat recovery/device_resets)
			echo '$1' > cache_type && echo \$before > /run/chosen) \
			> /dev/null 2>&1 < /dev/null &"
}

was_reset_meanwhile()
{
	when_written /run/chosen '[ $(cat /run/chosen) -lt $(cat /run/sys/slow/recovery/device_resets) ]'
}

# The device's own, which QEMU tells.
device_writes_back()
{
	equal "$(monitor query-block | grep -o '"writeback": [a-z]*')" "\"writeback\": $1"
}

flushes_of_device()
{
	monitor query-blockstats | grep -o '"flush_operations": [0-9]*' | awk '{ n += $2 } END { print n }'
}

# fsync_flushes NUMBER: what arrives at the device.
fsync_flushes()
{
	local before
	before=$(flushes_of_device)
	guest "dd if=/dev/urandom of=/run/disk/slow bs=4k count=1 conv=fsync status=none" &&
		equal "$(($(flushes_of_device) - before))" "$1"
}

# cache_is_chosen MODE WRITES_BACK FLUSHES: of which one fsync is.
cache_is_chosen()
{
	# Time enough to choose.
	guest "echo 5000 > /run/sys/slow/queue/io_timeout"
	hold_requests
	check "$1: fio writes" start_requests slow
	# What is sent again is not held.
	let_requests_go
	choose_cache "$1"
	check "$1: it is chosen, and the device reset meanwhile" was_reset_meanwhile
	check "$1: every request succeeds" requests_succeed slow 40
	check "$1: the disk shows it" attribute slow cache_type "$1"
	check "$1: so does the block layer" attribute slow queue/write_cache "$1"
	check "$1: the device knows" device_writes_back "$2"
	check "$1: fsync flushes the device as often as it must" fsync_flushes "$3"
}

each_driver waits

load_driver ours recovery=5
stall 1 512
check "a device that stalls is reset, after a second or two" was_reset
let_requests_go
check "every request succeeds" ends_well
check "the data is right" same_data slow
check "none has failed" attribute slow recovery/timed_out 0
cache_is_chosen "write through" false 0
cache_is_chosen "write back" true 1
unload_driver

ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
