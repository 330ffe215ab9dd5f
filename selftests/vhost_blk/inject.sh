#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Faults on purpose, five in a hundred: allocations of the workers and of the calls
# fail, and requests to the disks. Needs a kernel with fault injection.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

debugfs=/sys/kernel/debug
module=/sys/module/vhost_blk
# Half of it for faults, and enough for a slow machine to get going.
seconds=$((40 * LIMIT_FACTOR))
# Counts down, so that the difference is the number of faults.
most=1000000

[ -e "$debugfs/failslab/require-start" ] ||
	skip_all "no fault injection with a stack trace filter in this kernel"
disk=$(make_nullb inject_a discard=1) || skip_all "no null_blk"
disks=("$disk" "$(make_nullb inject_b)")

# fault_on FAULT [ATTRIBUTE=VALUE...]
fault_on()
{
	local dir=$debugfs/$1 setting
	# Some failures are told in the log: a mark that they were made.
	echo "selftests: faults on" > /dev/kmsg
	for setting in interval=1 space=0 verbose=0 task-filter=N "times=$most" \
		"${@:2}" probability=5; do
		set_attribute "$dir/${setting%%=*}" "${setting#*=}" || return
	done
}

fault_off()
{
	set_attribute "$debugfs/$1/probability" 0
	echo "selftests: faults off" > /dev/kmsg
}

fault_count()
{
	echo $((most - $(cat "$debugfs/$1/times")))
}

# A call that can't get memory says so, and soak takes that for a failure. So only the
# workers get none there: they have the function that they are at the stack's end.
worker_text()
{
	sort /proc/kallsyms | awk '
		start && $1 != start {
			print "require-start=0x" start, "require-end=0x" $1
			exit
		}
		$3 == "vhost_task_fn" { start = $1 }'
}

module_text()
{
	local start
	start=$(cat "$module/sections/.text")
	echo "require-start=$start" \
		"require-end=$(printf '%#x' $((start + $(cat "$module/coresize"))))"
}

# allocations_of TEXT FAULT [ATTRIBUTE=VALUE...]: those fail that have the text on
# their stack.
allocations_of()
{
	local text
	read -r -a text <<< "$("$1")"
	[ ${#text[@]} = 2 ] &&
		fault_on "$2" ignore-gfp-wait=N stacktrace-depth=32 "${text[@]}" "${@:3}"
}

request_faults_on()
{
	local disk
	for disk in "${disks[@]}"; do
		set_attribute "$(sysfs_of "$disk")/make-it-fail" 1 || return
	done
	fault_on fail_make_request
}

requests_of()
{
	awk '{ print $1 + $5 }' "$(sysfs_of "$1")/stat"
}

io_goes_on()
{
	[ "$(requests_of "${disks[0]}")" -gt "$before" ]
}

# soak_with FAULT COMMAND...: faults, switched on by the command, for half of the
# time that I/O runs.
soak_with()
{
	local fault=$1 before pid
	shift
	before=$(requests_of "${disks[0]}")
	"$here/soak" --seconds "$seconds" --tolerate-errors "${disks[@]}" &
	pid=$!
	wait_until io_goes_on && "$@" &&
		sleep $((seconds / 2 - 5))
	fault_off "$fault"
	# From here on no request may fail.
	kill -USR1 "$pid"
	wait "$pid" || return
	echo "faults: $(fault_count "$fault")"
	[ "$(fault_count "$fault")" -gt 0 ]
}

# What the calls of a test answer does not matter here, but that they end, and what
# they leave behind: the kernel log, memory, and whether the module can go.
calls_with()
{
	local fault=$1 test
	shift
	"$@" || return
	for test in abi io iotlb; do
		timeout -k 5 $((300 * LIMIT_FACTOR)) "$here/$test.sh" > /dev/null 2>&1
		if [ $? = 124 ]; then
			fault_off "$fault"
			echo "$test doesn't end"
			return 1
		fi
	done
	fault_off "$fault"
	echo "faults: $(fault_count "$fault")"
	[ "$(fault_count "$fault")" -gt 0 ] && modprobe -r vhost_blk && modprobe vhost_blk
}

for fault in "failslab cache-filter=N" "fail_page_alloc min-order=0"; do
	read -r -a fault <<< "$fault"
	ok "${fault[0]}: verified I/O" \
		soak_with "${fault[0]}" allocations_of worker_text "${fault[@]}"
	ok "${fault[0]}: all calls" \
		calls_with "${fault[0]}" allocations_of module_text "${fault[@]}"
done
ok "fail_make_request: verified I/O" soak_with fail_make_request request_faults_on

remove_nullb inject_a
remove_nullb inject_b
tap_end
