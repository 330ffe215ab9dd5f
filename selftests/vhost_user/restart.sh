#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vhost-blkd is killed while a guest writes and flushes on two queues, and a new one started:
# the guest sees a pause, no request is lost or fails, and data is right. Then the kernel
# module is replaced under the running guest.
#
# KILLS is how often the daemon is killed, of each QEMU's guest (5); RELOADS how often the
# module is replaced (1).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"

: "${KILLS:=5}"
: "${RELOADS:=1}"
need_vhost_user
new_disk disk cache_size=1 size=32
user_disk disk

# On each processor a job, and so on each queue.
start_two_writers()
{
	guest "rm -f /tmp/disk.status
		(fio --rw=randwrite --bsrange=4k-16k --bs_unaligned=0 --iodepth=32 --direct=1 \
			--ioengine=libaio --size=16M --time_based --runtime=$((600 * LIMIT_FACTOR)) \
			--fsync=64 --verify=crc32c --verify_backlog=512 --verify_fatal=1 \
			--randrepeat=0 --eta=never --cpus_allowed_policy=split --group_reporting \
			--filename=/run/disk/disk \
			--name=first --cpus_allowed=0 --name=second --cpus_allowed=1 --offset=16M \
			> /tmp/disk.log 2>&1; echo \$? > /tmp/disk.status) > /dev/null 2>&1 &" &&
		writer_goes_on disk
}

# Sets "paused", in milliseconds: from a time on until the disk is written to.
measure_pause()
{
	local begin=$1 before
	before=$(sectors_written disk)
	wait_until has_written_more_than "$before" || return
	paused=$(((${EPOCHREALTIME/./} - begin) / 1000))
}

has_written_more_than()
{
	[ "$(sectors_written disk)" -gt "$1" ]
}

# Within two seconds.
random_moment()
{
	sleep "$((RANDOM % 2)).$(printf %03d $((RANDOM % 1000)))"
}

# interrupt TIMES COMMAND...: the command ends the daemon. The pause is from there on.
interrupt()
{
	local times=$1 round begin pauses=()
	shift
	for ((round = 1; round <= times; round++)); do
		random_moment
		begin=${EPOCHREALTIME/./}
		if ! { "$@" && start_daemon disk disk --num-queues=2 &&
			measure_pause "$begin" && writer_goes_on disk; }; then
			echo "in round $round, after pauses of ${pauses[*]} ms"
			return 1
		fi
		pauses+=("$paused")
	done
	echo "pauses in ms: ${pauses[*]}" > "$blkd_dir/pauses"
}

# Whoever else has looked at the device may still be closing it.
replace_module()
{
	kill_daemon disk TERM && wait_until rmmod vhost_blk && modprobe vhost_blk
}

show_pauses()
{
	[ ! -e "$blkd_dir/pauses" ] || echo "# $(cat "$blkd_dir/pauses")"
	rm -f "$blkd_dir/pauses"
}

load_own()
{
	load_driver
}

load_in_tree()
{
	guest modprobe virtio_blk && find_disks
}

saw_no_error()
{
	guest '! dmesg | grep -E "I/O error|virtio_blk.*(reset|time)"'
}

survive()
{
	start_daemon disk disk --num-queues=2
	guest_start "${disks[@]}"
	check "the $1 driver loads" "load_$1"
	check "fio writes, flushes and verifies on two queues" start_two_writers
	check "the daemon is killed and started again, $KILLS times" interrupt "$KILLS" kill_daemon disk
	show_pauses
	check "the module is replaced, $RELOADS times" interrupt "$RELOADS" replace_module
	show_pauses
	check "fio ends, and all that it wrote was right" stop_writer disk
	check "guest and host see the same" same_data disk
	check "the guest saw no error" saw_no_error
	check "its kernel has nothing to complain of" guest_has_no_reports
	guest_stop
	kill_daemon disk TERM
	check "nobody holds the disk any more" wait_until mkfs.ext4 -q "${disk_path[disk]}"
}

# One driver for each QEMU: what the driver does has nothing to do with QEMU, and what the
# newer QEMU does nothing with the host's kernel.
use_qemu "$QEMU"
survive own
if ! once; then
	skip "the same with a newer QEMU" "tested on the first host kernel"
elif [ -n "$QEMU_BACKPORTS" ]; then
	use_qemu "$QEMU_BACKPORTS"
	survive in_tree
else
	skip "the same with a newer QEMU" "QEMU_BACKPORTS names none"
fi
tap_end
