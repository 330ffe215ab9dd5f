#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a guest sees: fio in it on vhost-blk-pci, on QEMU's virtio-blk-pci with an
# iothread, and on vhost-user-blk-pci served by vhost-blkd and by qemu-storage-daemon,
# each on a null_blk of its own. The subjects take turns, round by round, so that what disturbs
# the machine disturbs all of them. Beside the times are events that KVM counts, a
# request: exits of the guest, kicks, the device's interrupts (signals) and all
# interrupts that the guest was given, its timer's among them.
#
# usage: e2e.sh OUT.csv
#	Runs on a host as root, needs what selftests/lib/guest.sh needs. Appends
#	"e2e,SUBJECT,KERNEL,WORKLOAD,METRIC,VALUE,SPREAD" to OUT.csv: medians of
#	ROUNDS (5), and how far the rounds are apart, relative to it; and how often
#	the guest had to be started again because it died or hung (restarts), its
#	console in OUT.csv.guest-N. Rounds that OUT.csv.rounds has are not repeated, so
#	that a run whose host died can go on. SUBJECTS and JOBS choose some of both, RUNTIME is
#	fio's in seconds (3). DRIVER=own takes our virtio_blk for all of them instead of
#	the in-tree one: here the device is the subject. Times mean something only on a
#	machine that has nothing else to do. LATE=50 takes disks that end each request so
#	many microseconds after its submission, by interrupt; the workloads' names end in
#	-late50 then.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/guest.sh"
. "$here/server.sh"

out=$1
kernel=${KERNEL:-$(uname -r)}
rounds=${ROUNDS:-5}
runtime=${RUNTIME:-3}
driver=${DRIVER:-in-tree}
late=${LATE:-}
suffix=${late:+-late$late}
all=(
	vhost-blk vhost-blk-workers vhost-blk-poll
	vhost-blkd
	native native-nopoll native-poll io_uring io_uring-nopoll mapping vhost-user
)
read -r -a subjects <<< "${SUBJECTS:-${all[*]}}"
read -r -a jobs <<< "${JOBS:-randread-qd1 randread-qd8 randread-qd32 randread-qd128 randwrite-qd32-verify seqread-128k}"
metrics=(
	iops mean_us p50_us p99_us p99.9_us
	exits kicks signals irq_injections halt_wakeup restarts
)
max_restarts=5
# The window of those that poll for long: QEMU's default of 32 us is less than it takes
# a nested guest to react to anything.
poll_us=400
kvm=/sys/kernel/debug/kvm
instances=/sys/kernel/tracing/instances
work=$(mktemp -d)
rounds_done=$out.rounds
blkd=$here/../vhost-blkd/vhost-blkd
daemon=
arguments=()
restarts=0

# make_bench_disk NAME: a null_blk. By default it ends requests at once, and in its poll
# queue at the first poll; one that is late has no such queue.
make_bench_disk()
{
	local timing=()
	[ -z "$late" ] || timing=(irqmode=2 completion_nsec="${late}000" poll_queues=0)
	make_nullb "bench-$1" "${timing[@]}"
}

# node NAME OPTION...: a block device of QEMU on a null_blk of its own.
node()
{
	mapfile -t -O "${#arguments[@]}" arguments < \
		<(host_disk "$1" "$(make_bench_disk "$1")" "${@:2}")
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

# The guest's memory is another process's, too.
share_memory()
{
	[[ " ${arguments[*]} " != *" memory-backend=memory "* ]] || return 0
	# shellcheck disable=SC2054 # the commas are QEMU's
	arguments+=(
		-object memory-backend-memfd,id=memory,size=512M,share=on
		-machine memory-backend=memory
	)
}

# vhost_user_device NAME SOCKET: there is no property for a serial number, the back end
# has one.
vhost_user_device()
{
	share_memory
	arguments+=(
		-chardev "socket,id=$1,path=$2"
		-device "vhost-user-blk-pci,chardev=$1,num-queues=2"
	)
}

vhost_user_blk()
{
	start_server 2 native '' "$(make_bench_disk "$1")"
	vhost_user_device "$1" "$server_sockets"
}

vhost_blkd()
{
	"$blkd" --socket-path="$work/$1" --blk-file="$(make_bench_disk "$1")" \
		--serial="$1" --num-queues=2 < /dev/null &
	daemon=$!
	wait_until [ -S "$work/$1" ]
	vhost_user_device "$1" "$work/$1"
}

add_subject()
{
	case $1 in
	vhost-blk) vhost_blk "$1" ;;
	vhost-blk-workers) vhost_blk "$1" worker-per-virtqueue=on ;;
	vhost-blk-poll) vhost_blk "$1" "poll-us=$poll_us" ;;
	native | io_uring) virtio_blk "$1" "$1" ;;
	native-poll) virtio_blk "$1" native "poll-max-ns=$((poll_us * 1000))" ;;
	native-nopoll | io_uring-nopoll) virtio_blk "$1" "${1%-nopoll}" poll-max-ns=0 ;;
	vhost-blkd) vhost_blkd "$1" ;;
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

# The jobs are /run/JOB.fio in the guest.
start_guest()
{
	guest_start "${arguments[@]}"
	case $driver in
	own) guest insmod "$own_driver" ;;
	*) guest modprobe virtio_blk ;;
	esac
	find_disks
	guest "cd /opt && for job in *.fio; do
		sed 's/^runtime=.*/runtime=$runtime/' \$job > /run/\$job
	done"
}

# restart_guest REASON
restart_guest()
{
	restarts=$((restarts + 1))
	"$MACHINE" log guest > "$out.guest-$restarts"
	echo "e2e: $1: the guest is started again, its console is in ${out##*/}.guest-$restarts" >&2
	((restarts <= max_restarts)) || bail "the guest ends too often"
	"$MACHINE" kill guest
	start_guest
}

# trace NAME EVENT[:FILTER]...: from now on KVM's events are counted, as the records of
# a trace that nobody reads.
trace()
{
	local dir=$instances/$1 event
	mkdir "$dir"
	echo 4 > "$dir/buffer_size_kb"
	for event in "${@:2}"; do
		event=kvm/$event
		[[ $event != *:* ]] || echo "${event#*:}" > "$dir/events/${event%%:*}/filter"
		echo 1 > "$dir/events/${event%%:*}/enable"
	done
}

# A kick is a write of two bytes; the trace knows writes as type 2.
start_tracing()
{
	trace e2e-kicks 'kvm_mmio:type == 2 && len == 2' kvm_fast_mmio
	trace e2e-signals kvm_msi_set_irq
}

stop_tracing()
{
	local name
	for name in e2e-kicks e2e-signals; do
		[ ! -d "$instances/$name" ] || rmdir "$instances/$name"
	done
}

# The counters of the guest, the only machine on this host, each with its name.
read_counters()
{
	local name
	for name in kicks signals; do
		awk -v name="$name" '/^(entries|overrun):/ { n += $2 } END { print name, n }' \
			"$instances/e2e-$name"/per_cpu/cpu*/stats
	done
	for name in exits halt_wakeup irq_injections; do
		cat "$kvm"/*-*/"$name" | awk -v name="$name" '{ n += $1 } END { print name, n }'
	done
}

# The figures of fio's run.
# shellcheck disable=SC2016 # jq's variables
figures='.jobs[0] | if .error != 0 then error("fio fails") else . end
	| (if .["job options"].rw == "randwrite" then .write else .read end)
	| { iops, mean_us: (.lat_ns.mean / 1000), p50_us: (.clat_ns.percentile["50.000000"] / 1000),
		p99_us: (.clat_ns.percentile["99.000000"] / 1000),
		"p99.9_us": (.clat_ns.percentile["99.900000"] / 1000) }
	| to_entries[] | "\(.key) \(.value)"'

# Prints "METRIC VALUE" for each metric. The requests that the counters are divided by
# are those that the guest's disk counts, as KVM does from the beginning of fio to its
# end. Fails where the guest does.
measure()
{
	local subject=$1 disk=$2 job=$3 output before status=0
	before=$(read_counters)
	output=$(guest "cat /sys/block/$disk/stat; fio --filename=/dev/$disk \
		--output-format=json /run/$job.fio; status=\$?; cat /sys/block/$disk/stat
		exit \$status") || status=$?
	((status != 124 && status != 125)) || return 1
	((status == 0)) || bail "fio fails: $job on $subject: $output"
	sed -n '/^{/,/^}/p' <<< "$output" | jq -r "$figures" ||
		bail "no figures: $job on $subject"
	awk '
		FNR == 1 { file++ }
		file == 1 && /^[ 0-9]+$/ { requests = $1 + $5 - requests }
		file == 2 { before[$1] = $2 }
		file == 3 { print $1, ($2 - before[$1]) / requests }
	' <(echo "$output") <(echo "$before") <(read_counters)
}

# Appends "SUBJECT JOB METRIC VALUE" for each metric to the rounds that are done, and
# last the round itself.
measure_in_turn()
{
	local job i begun
	: > "$work/round"
	for job in "${jobs[@]}"; do
		for i in "${!subjects[@]}"; do
			echo "e2e: round $1 of $rounds: $job$suffix on ${subjects[i]}" >&2
			begun=$restarts
			until measure "${subjects[i]}" "${disks[i]}" "$job" > "$work/run"; do
				restart_guest "no answer from $job on ${subjects[i]}"
			done
			echo "restarts $((restarts - begun))" >> "$work/run"
			sed "s/^/${subjects[i]} $job$suffix /" "$work/run" >> "$work/round"
		done
	done
	echo "round $1" >> "$work/round"
	cat "$work/round" >> "$rounds_done"
}

# Medians of the rounds; of the restarts the sum.
summarize()
{
	grep -v '^round' "$rounds_done" | sort -g -k 4 | awk -v kernel="$kernel" \
		-v jobs="${jobs[*]/%/$suffix}" -v subjects="${subjects[*]}" -v metrics="${metrics[*]}" '
	function print_metric(subject, job, metric, key,    num, middle, spread) {
		num = n[key]
		middle = (v[key, int((num + 1) / 2)] + v[key, int(num / 2) + 1]) / 2
		spread = middle ? (v[key, num] - v[key, 1]) / middle : 0
		printf "e2e,%s,%s,%s,%s,%.10g,%.4f\n", subject, kernel, job, metric,
			metric == "restarts" ? sum[key] : middle, spread
	}
	{
		key = $1 " " $2 " " $3
		v[key, ++n[key]] = $4
		sum[key] += $4
	}
	END {
		num_jobs = split(jobs, job, " ")
		num_subjects = split(subjects, subject, " ")
		num_metrics = split(metrics, metric, " ")
		for (j = 1; j <= num_jobs; j++)
			for (s = 1; s <= num_subjects; s++)
				for (m = 1; m <= num_metrics; m++)
					print_metric(subject[s], job[j], metric[m],
						     subject[s] " " job[j] " " metric[m])
	}'
}

clean_up()
{
	"$MACHINE" kill guest 2> /dev/null || true
	stop_tracing
	stop_server
	[ -z "$daemon" ] || kill "$daemon" || true
	wait
	for subject in "${subjects[@]}"; do
		remove_nullb "bench-$subject" 2> /dev/null || true
	done
	rm -r "$work"
}

need_guest
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
trap clean_up EXIT
for subject in "${subjects[@]}"; do
	add_subject "$subject"
done
start_tracing
start_guest
touch "$rounds_done"
for ((round = $(grep -c '^round' "$rounds_done" || true) + 1; round <= rounds; round++)); do
	measure_in_turn "$round"
done
guest_has_no_reports
guest_stop
summarize >> "$out"
rm "$rounds_done"
