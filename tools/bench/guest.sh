#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a request costs in the guest: our virtio_blk against the in-tree one, by fio
# on QEMU's virtio-blk-pci whose backend does nothing, and fio on a null_blk, which
# is what fio and the block layer cost with next to no driver.
#
# usage: guest.sh OUT.csv OWN_DRIVER
#	Runs as root on a machine with four processors whose clock counts
#	instructions, with one virtio disk of four queues and no driver for it.
#	Appends "guest,SUBJECT,KERNEL,WORKLOAD,insn,VALUE,SPREAD" to OUT.csv: the
#	median of ROUNDS (3), and how far they are apart, relative to it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/disks.sh"

out=$1
own_driver=$2
kernel=${KERNEL:-$(uname -r)}
rounds=${ROUNDS:-3}
jobs=(randread-qd1 randread-qd32 randread-qd32-batch16 randread-qd32-jobs4 seqread-128k)
work=$(mktemp -d)

# A second of such a clock takes ten and more: the jobs as they are, but short.
shorten()
{
	sed 's/^runtime=.*/runtime=250ms/; s/^ramp_time=.*/ramp_time=50ms/' \
		"$here/$1.fio" > "$work/$1.fio"
}

# Nanoseconds, that is instructions, of the whole machine a request.
run_fio()
{
	local cpus=0
	[[ $2 != *-jobs4 ]] || cpus=0-3
	taskset -c "$cpus" fio --filename="$1" --output-format=json "$work/$2.fio" |
		sed -n '/^{/,$p' |
		jq '.jobs[0] | if .error == 0 then 1e9 / .read.iops else error("fio fails") end'
}

# measure SUBJECT DEVICE
measure()
{
	local job round
	for job in "${jobs[@]}"; do
		for ((round = 0; round < rounds; round++)); do
			run_fio "$2" "$job"
		done > "$work/rounds"
		echo "guest: $1 $job:" $(xargs printf '%.0f ' < "$work/rounds") >&2
		sort -g "$work/rounds" | awk -v line="guest,$1,$kernel,$job,insn" '
			{ v[NR] = $1 }
			END {
				median = (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2
				printf "%s,%.10g,%.4f\n", line, median, (v[NR] - v[1]) / median
			}' >> "$out"
	done
}

virtio_disk()
{
	local path
	for path in /sys/bus/virtio/drivers/virtio_blk/virtio*/block/*; do
		[ ! -e "$path" ] || disk=/dev/${path##*/}
	done
	[ -b "${disk:-}" ]
}

# measure_driver SUBJECT COMMAND...: which loads it.
measure_driver()
{
	local subject=$1 disk=
	shift
	"$@"
	wait_until virtio_disk
	measure "$subject" "$disk"
	rmmod virtio_blk
}

for job in "${jobs[@]}"; do
	shorten "$job"
done
measure null_blk "$(make_nullb bench0 memory_backed=0 irqmode=0 size=1024 submit_queues=4)"
remove_nullb bench0
measure_driver in-tree modprobe virtio_blk
measure_driver ours insmod "$own_driver"
rm -r "$work"
