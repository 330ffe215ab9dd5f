#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a device does is its owner's: limits of I/O and of memory, priority
# (cgroup.c, load.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

group=/sys/fs/cgroup/vhost-blk-test
limit=120
seconds=4
# Reads in a second that a limit allows: less than the disk can do on a slow machine.
rate=$((LIMIT_FACTOR < 10 ? 200 / LIMIT_FACTOR : 20))

# in_group COMMAND...: as a process of the group.
in_group()
{
	(echo "$BASHPID" > "$group/cgroup.procs" && exec "$@")
}

have_controller()
{
	grep -qw "$1" "$group/cgroup.controllers" 2> /dev/null
}

# The program's reads in a second, with the arguments of its queues and workers.
reads()
{
	in_group timeout $((limit * LIMIT_FACTOR)) "$here/load" "$disk" "$seconds" "$@"
}

# A limit lets through what was saved up before it begins to bite.
is_throttled()
{
	local got
	got=$(reads "$@") || return
	echo "$got reads in a second, $rate are allowed"
	((got > rate / 2 && got < rate * 3 / 2))
}

is_not_throttled()
{
	local got
	got=$(reads "$@") || return
	echo "$got reads in a second"
	((got > rate * 2))
}

throttling()
{
	local text="reads with" number
	number=$(cat "$(sysfs_of "$disk")/dev")
	if ! have_controller io; then
		skip "io.max" "no controller io"
		return
	fi
	ok "without a limit there are many reads in a second" is_not_throttled
	ok "io.max is set" set_attribute "$group/io.max" "$number riops=$rate"
	ok "then the worker's $text one queue are throttled" is_throttled
	ok "so are $text two queues" is_throttled 2
	ok "and $text two queues and workers of their own" is_throttled 2 2
	ok "io.max is reset" set_attribute "$group/io.max" "$number riops=max"
	ok "and there are many again" is_not_throttled
}

# With a disk that is polled for.
throttling_polled()
{
	local polled number
	polled=$(make_nullb cgroup_polled poll_queues=1)
	number=$(cat "$(sysfs_of "$polled")/dev")
	set_attribute "$group/io.max" "$number riops=20"
	run_tests "$limit" in_group "$here/cgroup" polled "$polled"
	set_attribute "$group/io.max" "$number riops=max"
	remove_nullb cgroup_polled
}

disk=$(make_nullb cgroup)
mkdir "$group" 2> /dev/null
if [ -e "$group/cgroup.procs" ]; then
	throttling
	! have_controller io || throttling_polled
	run_tests "$limit" in_group "$here/cgroup" workers "$disk"
	if have_controller memory; then
		run_tests "$limit" in_group "$here/cgroup" memory "$disk"
	else
		skip "memory" "no controller memory"
	fi
	rmdir "$group"
else
	skip "cgroup" "no cgroup2 in /sys/fs/cgroup"
fi

if [ -e /sys/kernel/tracing/events/block/block_rq_issue ]; then
	run_tests "$limit" "$here/cgroup" priority "$disk" 2 4
	run_tests "$limit" ionice -c 1 -n 3 "$here/cgroup" priority "$disk" 1 3
	run_tests "$limit" ionice -c 2 -n 6 "$here/cgroup" priority "$disk" 2 6
	run_tests "$limit" ionice -c 3 "$here/cgroup" priority "$disk" 3 7
else
	skip "priority" "no block:block_rq_issue in tracefs"
fi
remove_nullb cgroup
tap_end
