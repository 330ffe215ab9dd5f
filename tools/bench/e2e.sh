#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a guest sees: fio in it on vhost-blk-pci, on QEMU's virtio-blk-pci with an
# iothread, and on vhost-user-blk-pci served by qemu-storage-daemon, each on a
# null_blk of its own. The subjects take turns, round by round, so that what disturbs
# the machine disturbs all of them. Beside the times are the guest's exits, the
# wake-ups of its processors and the interrupts that it was given, as KVM counts them.
#
# usage: e2e.sh OUT.csv
#	Runs on a host as root, needs what selftests/lib/guest.sh needs. Appends
#	"e2e,SUBJECT,KERNEL,WORKLOAD,METRIC,VALUE,SPREAD" to OUT.csv: medians of
#	ROUNDS (5), and how far the rounds are apart, relative to it. SUBJECTS and
#	JOBS choose some of both. DRIVER=own takes our virtio_blk for all of them
#	instead of the in-tree one: here the device is the subject. Times mean something only on a machine that has
#	nothing else to do.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/guest.sh"
. "$here/server.sh"

out=$1
kernel=${KERNEL:-$(uname -r)}
rounds=${ROUNDS:-5}
all=(
	vhost-blk vhost-blk-workers vhost-blk-poll
	native native-nopoll io_uring io_uring-nopoll mapping vhost-user
)
read -r -a subjects <<< "${SUBJECTS:-${all[*]}}"
read -r -a jobs <<< "${JOBS:-randread-qd1 randread-qd32 randwrite-qd32-verify seqread-128k}"
kvm=/sys/kernel/debug/kvm
counters=(exits halt_wakeup irq_injections)
runs=$(mktemp)
arguments=()

# node NAME OPTION...: a block device of QEMU on a null_blk of its own.
node()
{
	arguments+=(-blockdev "$(IFS=,; echo "driver=host_device,node-name=$1,filename=$(make_nullb "bench-$1"),cache.direct=on${*:+,${*:2}}")")
}

vhost_blk()
{
	node "$1" aio=native
	arguments+=(-device "vhost-blk-pci,drive=$1,num-queues=2,serial=$1${2:+,$2}")
}

# virtio_blk NAME AIO [IOTHREAD_OPTIONS]
virtio_blk()
{
	node "$1" "aio=$2"
	arguments+=(
		-object "iothread,id=io-$1${3:+,$3}"
		-device "virtio-blk-pci,drive=$1,num-queues=2,serial=$1,iothread=io-$1"
	)
}

# With two iothreads, which share its queues.
mapped_virtio_blk()
{
	node "$1" aio=native
	arguments+=(
		-object "iothread,id=io-$1-0" -object "iothread,id=io-$1-1"
		-device "{\"driver\": \"virtio-blk-pci\", \"drive\": \"$1\", \"num-queues\": 2, \"serial\": \"$1\",
			\"iothread-vq-mapping\": [{\"iothread\": \"io-$1-0\"}, {\"iothread\": \"io-$1-1\"}]}"
	)
}

# Its memory has to be another process's, too. There is no property for a serial
# number: the server has one.
vhost_user_blk()
{
	start_server 2 native '' "$(make_nullb "bench-$1")"
	# shellcheck disable=SC2054 # the commas are QEMU's
	arguments+=(
		-object memory-backend-memfd,id=memory,size=512M,share=on
		-machine memory-backend=memory
		-chardev "socket,id=$1,path=$server_sockets"
		-device "vhost-user-blk-pci,chardev=$1,num-queues=2"
	)
}

add_subject()
{
	case $1 in
	vhost-blk) vhost_blk "$1" ;;
	vhost-blk-workers) vhost_blk "$1" worker-per-virtqueue=on ;;
	vhost-blk-poll) vhost_blk "$1" poll-us=50 ;;
	native | io_uring) virtio_blk "$1" "$1" ;;
	native-nopoll | io_uring-nopoll) virtio_blk "$1" "${1%-nopoll}" poll-max-ns=0 ;;
	mapping) mapped_virtio_blk "$1" ;;
	vhost-user) vhost_user_blk "$1" ;;
	*) bail "no subject: $1" ;;
	esac
}

# Sets $disks, in the order of the subjects: that of the PCI bus.
find_disks()
{
	mapfile -t disks < <(guest 'cd /sys/block; ls -d vd*' | LC_ALL=C sort)
	[ "${#disks[@]}" = "${#subjects[@]}" ] || {
		guest "dmesg | tail -n 20; lsblk; ls -l /sys/bus/virtio/devices"
		bail "${#disks[@]} disks for ${#subjects[@]} subjects"
	}
}

# KVM's counters of the guest, the only machine on this host.
read_counters()
{
	local counter
	for counter in "${counters[@]}"; do
		cat "$kvm"/*-*/"$counter" | awk '{ n += $1 } END { printf "%d ", n }'
	done
}

# One fio run as a line: iops, mean latency, 50th, 99th and 99.9th percentile.
# shellcheck disable=SC2016 # jq's variables
figures='.jobs[0] | if .error != 0 then error("fio fails") else . end
	| (if .["job options"].rw == "randwrite" then .write else .read end)
	| [.iops, .lat_ns.mean / 1000, (.clat_ns.percentile
		| .["50.000000"], .["99.000000"], .["99.900000"] | . / 1000)] | map(tostring) | join(" ")'

# Appends "SUBJECT JOB METRIC VALUE" for each metric to $runs. The requests that the
# counters are divided by are those that the guest's disk counts, as KVM does from
# the beginning of fio to its end.
measure()
{
	local subject=$1 disk=$2 job=$3 output before after requests values i
	before=$(read_counters)
	output=$(guest "cat /sys/block/$disk/stat; fio --filename=/dev/$disk \
		--output-format=json /opt/$job.fio; cat /sys/block/$disk/stat") ||
		bail "fio fails: $job on $subject: $output"
	after=$(read_counters)
	requests=$(awk '/^[ 0-9]+$/ { n = $1 + $5 - n } END { print n }' <<< "$output")
	read -r -a values <<< "$(sed -n '/^{/,/^}/p' <<< "$output" | jq -r "$figures")"
	[ "${#values[@]}" = 5 ] || bail "no figures: $job on $subject"
	for i in 0 1 2 3 4; do
		echo "$subject $job $(cut -d ' ' -f $((i + 1)) <<< "iops mean_us p50_us p99_us p99.9_us") ${values[i]}"
	done >> "$runs"
	awk -v names="${counters[*]}" -v before="$before" -v after="$after" \
		-v requests="$requests" -v line="$subject $job" '
		BEGIN {
			split(before, a, " ")
			split(after, b, " ")
			n = split(names, name, " ")
			for (i = 1; i <= n; i++)
				print line, name[i], (b[i] - a[i]) / requests
		}' >> "$runs"
}

# Medians of the rounds.
summarize()
{
	sort -s -k 1,3 -k 4g "$runs" | awk -v suite=e2e -v kernel="$kernel" '
	function flush(    median) {
		if (!n)
			return
		median = (v[int((n + 1) / 2)] + v[int(n / 2) + 1]) / 2
		printf "%s,%s,%s,%s,%s,%.10g,%.4f\n", suite, key[1], kernel, key[2], key[3],
			median, median ? (v[n] - v[1]) / median : 0
	}
	$1 " " $2 " " $3 != last {
		flush()
		last = $1 " " $2 " " $3
		split(last, key, " ")
		n = 0
	}
	{ v[++n] = $4 }
	END { flush() }'
}

clean_up()
{
	"$MACHINE" kill guest 2> /dev/null || true
	stop_server
	for subject in "${subjects[@]}"; do
		remove_nullb "bench-$subject" 2> /dev/null || true
	done
	rm "$runs"
}

need_guest
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
trap clean_up EXIT
for subject in "${subjects[@]}"; do
	add_subject "$subject"
done
guest_start "${arguments[@]}"
case ${DRIVER:-in-tree} in
own) guest insmod "$own_driver" ;;
*) guest modprobe virtio_blk ;;
esac
find_disks
for ((round = 1; round <= rounds; round++)); do
	for job in "${jobs[@]}"; do
		for i in "${!subjects[@]}"; do
			echo "e2e: round $round of $rounds: $job on ${subjects[i]}" >&2
			measure "${subjects[i]}" "${disks[i]}" "$job"
		done
	done
done
guest_has_no_reports
guest_stop
summarize >> "$out"
