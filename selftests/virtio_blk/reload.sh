#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The driver is taken from its disks in the middle of I/O, unloaded and loaded again:
# RELOADS times, by tens (10). What one round leaves behind, data included, may hit a
# later one.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

reloads=${RELOADS:-10}

need_plain_guest
make_work_dir
# Ten rounds, with all checkers on.
# shellcheck disable=SC2034 # used by guest()
GUEST_LIMIT=400
add_disk split virtio-blk-pci,num-queues=2
add_disk packed virtio-blk-pci,num-queues=2,packed=on
guest_start "${disks[@]}"

# The functions up to the next line of this kind run in the guest, which has LIMIT_FACTOR, too.

# Blocks of all sizes to both disks, a queue for polling included, until it is told to stop.
write_to_disks()
{
	local name jobs=()
	for name in split packed; do
		jobs+=(--name="$name" --filename="/run/disk/$name" --ioengine=libaio
			--name="$name-polled" --filename="/run/disk/$name" --ioengine=io_uring --hipri=1)
	done
	exec fio --thread --rw=randwrite --bsrange=512-128k --direct=1 --size=8M --offset=8M \
		--randrepeat=0 --time_based --runtime=$((60 * LIMIT_FACTOR)) --iodepth=16 "${jobs[@]}" > /tmp/writer 2>&1
}

in_flight()
{
	local i
	for ((i = 0; i < 400 * LIMIT_FACTOR; i++)); do
		[ "$(awk '{ print $1 + $2 }' "/run/sys/$1/inflight")" = 0 ] || return 0
		sleep 0.05
	done
	cat /tmp/writer
	return 1
}

# What the round before wrote is there, and something else from now on.
exchange_mark()
{
	[ ! -e "/tmp/mark.$1" ] ||
		dd if="/run/disk/$1" bs=64k count=4 iflag=direct status=none | cmp - "/tmp/mark.$1" || return
	dd if=/dev/urandom of="/tmp/mark.$1" bs=64k count=4 status=none
	dd if="/tmp/mark.$1" of="/run/disk/$1" bs=64k oflag=direct status=none
}

# The disks go while fio has them, or fio goes first, with what it has in flight.
take_away()
{
	local device
	(($1 % 2)) || killall -KILL fio || return
	for device in /sys/bus/virtio/drivers/virtio_blk/virtio*; do
		(($1 % 2 == 0)) || echo "${device##*/}" > "${device%/*}/unbind" || return
	done
	wait 2> /dev/null
	return 0
}

# rounds FROM TO LOAD: LOAD is the command that loads the driver.
rounds()
{
	local i
	for ((i = $1; i <= $2; i++)); do
		$3 poll_queues=1 && link_disks && exchange_mark split && exchange_mark packed &&
			{ write_to_disks & } && in_flight split && in_flight packed &&
			take_away "$i" && unload && continue
		echo "in round $i"
		return 1
	done
}

# --- here ---

in_guest()
{
	guest "$(declare -f link_disks unload write_to_disks in_flight exchange_mark take_away rounds); $*"
}

reload_tests()
{
	local from
	guest "rm -f /tmp/mark.*"
	for ((from = 1; from <= reloads; from += 10)); do
		check "unloaded under I/O, and loaded again, rounds $from to $((from + 9))" \
			in_guest rounds "$from" "$((from + 9))" "'$(load_command)'"
	done
	load_driver "$driver"
	check "data is as it was left, and right from now on" in_guest \
		"exchange_mark split && exchange_mark packed"
	check_data split packed
	unload_driver
}

driver=ours
reload_tests
if once; then
	# Just to see that the test is fair.
	driver=in-tree reloads=10
	reload_tests
fi
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
