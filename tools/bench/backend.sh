#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a request costs in the backend: vhost_blk, the same owned by another process, the same
# behind the vhost-user socket of vhost-blkd, qemu-storage-daemon's vhost-user-blk export and,
# as the floor, io_uring on the device itself (backend.c), on a null_blk that answers at once
# and keeps nothing.
#
# usage: backend.sh OUT.csv [OPTION...]
#	Runs on a host as root, with vhost_blk loaded. Appends
#	"backend,SUBJECT,KERNEL,WORKLOAD,METRIC,VALUE,SPREAD" to OUT.csv.
#	The options are those of the program backend, such as -i where a nanosecond is an
#	instruction; KERNEL= is what the kernel is called, BRIEF=1 leaves out most
#	workloads.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/disks.sh"
. "$here/../../selftests/lib/blkd.sh"
. "$here/server.sh"
. "$here/client.sh"

suite=backend
out=$1
options=("${@:2}")

io=(
	randread-4k-qd{1,8,32,128} randwrite-4k-qd{1,8,32,128}
	{read,write}-{64,512}k-qd8
)
ring=(
	randread-4k-qd{1,8,32}-noevent
	randread-4k-qd{1,8,32}-direct
	randread-4k-qd{1,8,32}-patient
)
brief=(randread-4k-qd{1,8,32} read-64k-qd8)
huge=(read-{64,512}k-qd8-huge write-64k-qd8-huge)
recorded=(randread-4k-qd{1,8,32}-record)
polled=(randread-4k-qd{1,8,32}-poll50)
if [ -n "${BRIEF:-}" ]; then
	io=("${brief[@]}" randread-4k-qd128)
	ring=(randread-4k-qd{1,8,32}-noevent)
	huge=(read-{64,512}k-qd8-huge)
fi

trap 'stop_server; remove_nullb bench0' EXIT
disk=$(make_nullb bench0 memory_backed=0 irqmode=0 size=1024 max_sectors=2560)
bench io_uring uring "$disk" -- "${io[@]}"
bench io_uring-registered uring-registered "$disk" -- "${io[@]}" "${huge[@]}"
bench vhost-blk vhost "$disk" -- "${io[@]}" "${ring[@]}" "${polled[@]}" "${huge[@]}"
bench vhost-blk-process vhost-process "$disk" -- "${io[@]}" "${ring[@]}"
bench vhost-blk-pinned vhost-pinned "$disk" -- "${io[@]}" "${huge[@]}"
bench_daemon vhost-blkd 1 "$disk" "${io[@]}" "${ring[@]}" "${recorded[@]}"
for aio in native io_uring; do
	bench_server "vhost-user-$aio" 1 "$aio" poll-max-ns=0 "$disk" "${io[@]}" "${ring[@]}"
	[ -z "${BRIEF:-}" ] || continue
	# QEMU's default.
	bench_server "vhost-user-$aio-poll" 1 "$aio" '' "$disk" "${brief[@]}"
done
