#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Faults on purpose, five in a hundred: allocations of the workers and of the calls
# fail, and requests to the disks. Needs a kernel with fault injection.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"
. "$here/../lib/faults.sh"

# Half of it for faults, and enough for a slow machine to get going.
seconds=$((40 * LIMIT_FACTOR))
percent=5

need_faults
disk=$(make_nullb inject_a discard=1) || skip_all "no null_blk"
disks=("$disk" "$(make_nullb inject_b)")

request_faults_on()
{
	local disk
	for disk in "${disks[@]}"; do
		set_attribute "$(sysfs_of "$disk")/make-it-fail" 1 || return
	done
	fault_on fail_make_request "$percent"
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
	local fault=$1 test status
	shift
	"$@" || return
	for test in abi io iotlb; do
		timeout -k 5 $((300 * LIMIT_FACTOR)) "$here/$test.sh" > /dev/null 2>&1
		status=$?
		if ((status == 124 || status == 137)); then
			fault_off "$fault"
			echo "$test doesn't end"
			return 1
		fi
	done
	fault_off "$fault"
	echo "faults: $(fault_count "$fault")"
	[ "$(fault_count "$fault")" -gt 0 ] && modprobe -r vhost_blk && modprobe vhost_blk
}

# A call that can't get memory says so, and soak takes that for a failure. So only the
# workers get none there.
for fault in "failslab cache-filter=N" "fail_page_alloc min-order=0"; do
	read -r -a fault <<< "$fault"
	ok "${fault[0]}: verified I/O" \
		soak_with "${fault[0]}" allocations_of worker_text "${fault[0]}" "$percent" \
		"${fault[1]}"
	ok "${fault[0]}: all calls" \
		calls_with "${fault[0]}" allocations_of module_text "${fault[0]}" "$percent" \
		"${fault[1]}"
done
ok "fail_make_request: verified I/O" soak_with fail_make_request request_faults_on

remove_nullb inject_a
remove_nullb inject_b
tap_end
