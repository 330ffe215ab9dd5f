#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a request costs in the backend on a disk that ends requests later, by interrupt, as
# real disks do: the subjects of backend.sh, and the latency beside the instructions.
#
# usage: late.sh OUT.csv N [OPTION...]
#	As backend.sh, for the same suite. The disks take N microseconds. The machine
#	needs room for two CPUs, even if only one is online: else scsi_debug has no poll
#	queue.
#
# The disks, by the end of the workload's name:
#	-lateN		a null_blk without poll queues. Each request ends N us after it was
#			submitted, by a timer of its own, so that those of one batch end at
#			the same moment.
#	-lateN-spread	a dm-linear of four of them, which take N/2, 5N/6, 7N/6 and 3N/2:
#			what was submitted together ends one by one, in another order.
#	-lateN-scsi	a scsi_debug with a poll queue, in which a request ends when it is
#			polled for N us or more after it was submitted. null_blk is no such
#			disk: in its poll queue a request ends at the first poll.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/disks.sh"
. "$here/../../selftests/lib/blkd.sh"
. "$here/server.sh"
. "$here/client.sh"

suite=backend
out=$1
us=$2
options=("${@:3}")
passes=('' -c -l)
depths=(1 2 8 32)
[ -z "${BRIEF:-}" ] || depths=(1 8)

# workloads SUFFIX: sets $io, which is a workload of each depth.
workloads()
{
	io=("${depths[@]/#/randread-4k-qd}")
	io=("${io[@]/%/"$1"}")
}

# measure_all DISK SUFFIX: everybody sleeps while there is nothing to do.
measure_all()
{
	local io aio
	workloads "$2"
	bench io_uring uring "$1" -- "${io[@]}"
	bench io_uring-registered uring-registered "$1" -- "${io[@]}"
	bench vhost-blk vhost "$1" -- "${io[@]}"
	bench vhost-blk-pinned vhost-pinned "$1" -- "${io[@]}"
	bench_daemon vhost-blkd 1 "$1" "${io[@]}"
	for aio in native io_uring; do
		bench_server "vhost-user-$aio" 1 "$aio" poll-max-ns=0 "$1" "${io[@]}"
	done
}

# measure_busy DISK SUFFIX: the device's thread polls for the next request and for the
# end of those that there are, for 50 us or as QEMU does by default.
measure_busy()
{
	local io aio
	workloads "$2"
	for aio in native io_uring; do
		bench_server "vhost-user-$aio-poll" 1 "$aio" '' "$1" "${io[@]}"
	done
	bench vhost-blk vhost "$1" -- "${io[@]/%/-poll50}"
}

# measure_polled DISK SUFFIX: the same disk by interrupt, then polled.
measure_polled()
{
	local io
	workloads "$2"
	bench io_uring uring "$1" -- "${io[@]}" "${io[@]/%/-iopoll}"
	bench io_uring-registered uring-registered "$1" -- "${io[@]}" "${io[@]/%/-iopoll}"
	bench vhost-blk vhost "$1" -- "${io[@]}" "${io[@]/%/-poll50}"
	bench_server vhost-user-native 1 native poll-max-ns=0 "$1" "${io[@]}"
	bench_server vhost-user-native-poll 1 native '' "$1" "${io[@]}"
}

# make_late_nullb NAME NANOSECONDS [ATTRIBUTE=VALUE...]
make_late_nullb()
{
	make_nullb "$1" memory_backed=0 irqmode=2 completion_nsec="$2" poll_queues=0 \
		max_sectors=2560 "${@:3}"
}

measure_nullb()
{
	local disk
	disk=$(make_late_nullb bench0 "${us}000" size=1024)
	measure_all "$disk" "-late$us"
	measure_busy "$disk" "-late$us"
	remove_nullb bench0
}

measure_spread()
{
	local i disks=()
	for i in 0 1 2 3; do
		disks+=("$(make_late_nullb "bench$i" $((us * (1000 * i + 1500) / 3)) size=256)")
	done
	measure_all "$(make_linear bench-spread "${disks[@]}")" "-late$us-spread"
	remove_spread
}

remove_spread()
{
	local i
	remove_linear bench-spread
	for i in 0 1 2 3; do
		remove_nullb "bench$i"
	done
}

measure_scsi()
{
	local disk
	disk=$(make_scsi ndelay="${us}000" fake_rw=1 virtual_gb=1 submit_queues=2 poll_queues=1)
	[ "$(cat "$(sysfs_of "$disk")/queue/io_poll")" = 1 ] || {
		echo "late: scsi_debug has no poll queue: is there room for two CPUs?" >&2
		return 1
	}
	measure_polled "$disk" "-late$us-scsi"
	remove_scsi
}

trap stop_server EXIT
measure_nullb
measure_spread
measure_scsi
