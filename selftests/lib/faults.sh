# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Faults on purpose, in a kernel with fault injection. Sourced, after disks.sh.

faults_debugfs=/sys/kernel/debug
faults_module=/sys/module/vhost_blk
# Counts down, so that the difference is the number of faults.
faults_most=1000000

# need_faults: all of them are switched off at the end of the test.
need_faults()
{
	[ -e "$faults_debugfs/failslab/require-start" ] ||
		skip_all "no fault injection with a stack trace filter in this kernel"
	trap all_faults_off EXIT
}

all_faults_off()
{
	local fault
	for fault in failslab fail_page_alloc fail_make_request; do
		[ ! -d "$faults_debugfs/$fault" ] || fault_off "$fault"
	done
}

# The file that takes how many of a hundred fail.
fault_probability()
{
	echo "$faults_debugfs/$1/probability"
}

# fault_on FAULT PERCENT [ATTRIBUTE=VALUE...]
fault_on()
{
	local dir=$faults_debugfs/$1 percent=$2 setting
	# Some failures are told in the log: a mark that they were made.
	echo "selftests: faults on" > /dev/kmsg
	for setting in interval=1 space=0 verbose=0 task-filter=N "times=$faults_most" \
		"${@:3}"; do
		set_attribute "$dir/${setting%%=*}" "${setting#*=}" || return
	done
	set_attribute "$(fault_probability "$1")" "$percent"
}

fault_off()
{
	set_attribute "$(fault_probability "$1")" 0
	echo "selftests: faults off" > /dev/kmsg
}

fault_count()
{
	echo $((faults_most - $(cat "$faults_debugfs/$1/times")))
}

# The text of the workers: they have the function that they are at the stack's end.
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
	start=$(cat "$faults_module/sections/.text")
	echo "require-start=$start" \
		"require-end=$(printf '%#x' $((start + $(cat "$faults_module/coresize"))))"
}

# allocations_of TEXT FAULT PERCENT [ATTRIBUTE=VALUE...]: those fail that have the text on
# their stack.
allocations_of()
{
	local text
	read -r -a text <<< "$("$1")"
	[ ${#text[@]} = 2 ] &&
		fault_on "$2" "$3" ignore-gfp-wait=N stacktrace-depth=32 "${text[@]}" "${@:4}"
}
