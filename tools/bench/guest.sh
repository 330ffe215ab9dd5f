#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a request costs in the guest: our virtio_blk against the in-tree one, by fio
# on QEMU's virtio-blk-pci whose backend does nothing, and fio on a null_blk, which
# is what fio and the block layer cost with next to no driver.
#
# usage: guest.sh OUT.csv OWN_DRIVER SUFFIX SUBJECT...
#	Runs as root on a machine with four processors whose clock counts
#	instructions, with one virtio disk of four queues and no driver for it.
#	Appends "guest,SUBJECT,KERNEL,WORKLOADSUFFIX,instructions_per_request,VALUE,SPREAD" to OUT.csv:
#	the median of ROUNDS (3), and how far they are apart, relative to it.
#	Subjects are null_blk, in-tree and ours.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/disks.sh"

out=$1
own_driver=$2
suffix=$3
subjects=("${@:4}")
kernel=${KERNEL:-$(uname -r)}
rounds=${ROUNDS:-3}
jobs=(randread-qd1 randread-qd32 randread-qd32-batch16 seqread-128k)
# Where all four processors wait and the clock leaps nobody knows by how much.
[ -n "$suffix" ] || jobs+=(randread-qd32-jobs4)
window=0.3
work=$(mktemp -d)
[ -z "${BRIEF:-}" ] || jobs=(randread-qd1 randread-qd32-batch16)

# Long enough to be measured in the middle. Where a request has many pages its cost
# depends on how many of them lie beside another: none.
prepare_job()
{
	sed 's/^runtime=.*/runtime=600/; s/^ramp_time=.*//' "$here/$1.fio" > "$work/$1.fio"
	[[ $1 != *-128k ]] || echo "mem=mmapshared:$work/buffers" >> "$work/$1.fio"
}

# The pages of a file, allocated in an order that is not theirs.
scatter_buffers()
{
	local pages=331 page
	for ((page = 0; page < pages; page++)); do
		printf x | dd bs=4096 seek=$((page * 7 % pages)) conv=notrunc \
			of="$work/buffers" status=none
	done
	truncate -s $((pages * 4096)) "$work/buffers"
}

# Read so far. Not the requests, which the block layer may split and merge.
sectors_of()
{
	local -a fields
	read -r -a fields < "$1"
	echo "${fields[2]}"
}

has_begun()
{
	(($(sectors_of "$1") > $2 + 8192))
}

# sleep SECONDS: here and when the clock and the disk are looked at no process is
# started, for that would take some percent of the window.
exec {nothing}<> <(:)
sleep()
{
	read -r -t "$1" -u "$nothing" || true
}

# Nanoseconds, that is instructions, of the whole machine a request, without those for
# which the clock leapt. With one job that is the idle time of its processor. With four
# there is always one of them that runs.
run_fio()
{
	local stat=/sys/block/${1##*/}/stat job=$2 cpus=0 idle=1 pid before kib
	local -a clock_before clock_after stat_before stat_after
	[[ $job != *-jobs4 ]] || { cpus=0-3; idle=0; }
	kib=$(sed -n 's/^bs=\([0-9]*\)k$/\1/p' "$work/$job.fio")
	before=$(sectors_of "$stat")
	chrt -o 0 taskset -c "$cpus" fio --filename="$1" "$work/$job.fio" > "$work/fio" 2>&1 &
	pid=$!
	wait_until has_begun "$stat" "$before"
	sleep 0.05
	mapfile -t clock_before < /proc/timer_list
	mapfile -t stat_before < "$stat"
	sleep "$window"
	mapfile -t clock_after < /proc/timer_list
	mapfile -t stat_after < "$stat"
	kill -INT "$pid" || { cat "$work/fio" >&2; return 1; }
	wait "$pid" || true
	printf '%s\n' "${clock_before[@]}" "${stat_before[@]}" \
		"${clock_after[@]}" "${stat_after[@]}" | awk -v idle="$idle" -v kib="$kib" '
		/^now at/ { now[++n] = $3 }
		/idle_sleeptime/ && !(n in slept) { slept[n] = $3 }
		/^[ 0-9]+$/ { requests[n] = $3 / 2 / kib }
		END {
			print (now[2] - now[1] - idle * (slept[2] - slept[1])) / \
				(requests[2] - requests[1])
		}'
}

# measure SUBJECT DEVICE
measure()
{
	local job round
	for job in "${jobs[@]}"; do
		for ((round = 0; round < rounds; round++)); do
			run_fio "$2" "$job"
		done > "$work/rounds"
		echo "guest: $1 $job$suffix: $(tr '\n' ' ' < "$work/rounds")" >&2
		sort -g "$work/rounds" | awk -v line="guest,$1,$kernel,$job$suffix,instructions_per_request" '
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

measure_nullb()
{
	measure null_blk "$(make_nullb bench0 memory_backed=0 irqmode=0 size=1024 submit_queues=4 max_sectors=2560)"
	remove_nullb bench0
}

# Out of fio's way, and not to be kept waiting between the clock and the disk.
taskset -pc 1 $$ > /dev/null
chrt -f -p 1 $$
scatter_buffers
for job in "${jobs[@]}"; do
	prepare_job "$job"
done
for subject in "${subjects[@]}"; do
	case $subject in
	null_blk) measure_nullb ;;
	in-tree) measure_driver in-tree modprobe virtio_blk ;;
	ours) measure_driver ours insmod "$own_driver" ;;
	esac
done
rm -r "$work"
