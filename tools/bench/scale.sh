#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a request costs in the backend with many queues, devices and segments, each
# device on a null_blk of its own.
#
# usage: scale.sh OUT.csv [OPTION...]
#	As backend.sh; the suite is "scale".
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/disks.sh"
. "$here/server.sh"
. "$here/client.sh"

suite=scale
out=$1
options=("${@:2}")
num_disks=64

# As many requests in each queue: what the device does at a time stays the same.
# The second and third are a worker for each queue, and as many requests in all.
queues=(
	randread-4k-qd32-q{1,2,4,8,16}
	randread-4k-qd32-q{1,2,4,8,16}-worker
	randread-4k-qd{32-q1,16-q2,8-q4,4-q8,2-q16}
)
devices=(randread-4k-qd32-dev{1,2,4,8,16,32,64})
# A page each, none beside another.
segs=() bare=()
for n in 1 2 4 8 16 32 64 128 254; do
	segs+=("randread-$((4 * n))k-qd8-seg$n")
	# More than the block layer takes at once io_uring gives to other threads.
	((n > 128)) || bare+=("randread-$((4 * n))k-qd8")
done

# On disks that end each request 50 us after its submission, by interrupt.
late_queues=(randread-4k-qd8-q{1,4,16}-late50)
late=("${late_queues[@]}" randread-4k-qd8-q{4,16}-worker-late50 randread-4k-qd8-dev{4,16,64}-late50)

if [ -n "${BRIEF:-}" ]; then
	late_queues=(randread-4k-qd8-q16-late50)
	late=("${late_queues[@]}" randread-4k-qd8-dev64-late50)
	queues=(randread-4k-qd32-q{1,16} randread-4k-qd32-q{4,16}-worker)
	devices=(randread-4k-qd32-dev{1,64})
	segs=(randread-4k-qd8-seg1 randread-1016k-qd8-seg254)
	bare=(randread-128k-qd8)
fi

# make_disks ATTRIBUTE=VALUE...: sets $disks and, the first of them, $disk.
make_disks()
{
	local i
	disk=$(make_disk 0 "$@")
	disks=$disk
	for ((i = 1; i < num_disks; i++)); do
		disks+=,$(make_disk "$i" "$@")
	done
}

make_disk()
{
	make_nullb "bench$1" memory_backed=0 size=1024 max_sectors=2560 "${@:2}"
}

remove_disks()
{
	local i
	for ((i = 0; i < num_disks; i++)); do
		remove_nullb "bench$i"
	done
}

clean_up()
{
	stop_server
	remove_disks
}

trap clean_up EXIT
make_disks irqmode=0
bench io_uring uring "$disk" -- randread-4k-qd32 "${bare[@]}"
bench vhost-blk vhost "$disks" -- "${queues[@]}" "${devices[@]}" "${segs[@]}"
bench_server vhost-user-native 16 native poll-max-ns=0 "$disk" \
	randread-4k-qd32-q{1,2,4,8,16}

remove_disks
make_disks irqmode=2 completion_nsec=50000 poll_queues=0
passes=('' -c -l)
bench vhost-blk vhost "$disks" -- "${late[@]}"
bench_server vhost-user-native 16 native poll-max-ns=0 "$disk" "${late_queues[@]}"
