#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Who waits for a slow disk, and for how long (waits.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

limit=120
seconds=$((3 * LIMIT_FACTOR))

# What a device that is closed leaves in flight keeps the module.
users=$(cat /sys/module/vhost_blk/refcnt)

nobody_is_left()
{
	[ "$(cat /sys/module/vhost_blk/refcnt)" -le "$users" ]
}

one_tag=$(make_nullb waits_one irqmode=2 completion_nsec="$(slow_nsec 150)" poll_queues=0 \
	submit_queues=1 hw_queue_depth=1)
run_tests "$limit" "$here/waits" call "$one_tag"
remove_nullb waits_one
few_tags=$(make_nullb waits_few irqmode=2 completion_nsec="$(slow_nsec 500)" poll_queues=0 \
	submit_queues=1 hw_queue_depth=4)
run_tests "$limit" "$here/waits" tags "$few_tags"
remove_nullb waits_few

base=$(make_nullb waits_base cache_size=16)
if slow=$(make_dm waits_slow "0 $(blockdev --getsz "$base") delay $base 0 ${seconds}000"); then
	run_tests "$limit" "$here/waits" killed "$slow"
	ok "what the killed have left in flight ends" wait_until nobody_is_left
	for test in stop pinned table; do
		run_tests "$limit" "$here/waits" "$test" "$slow"
	done
	remove_dm waits_slow
else
	skip "killed" "no dm-delay"
fi

other=$(make_nullb waits_other cache_size=16)
if hanging=$(make_dm waits_hanging "0 $(blockdev --getsz "$base") linear $base 0"); then
	run_tests "$limit" "$here/waits" flushes "$hanging" waits_hanging "$other"
	ok "and then nothing is left" wait_until nobody_is_left
	remove_dm waits_hanging
else
	skip "flushes" "no device mapper"
fi
remove_nullb waits_other
remove_nullb waits_base

discard=$(make_nullb waits_discard irqmode=2 completion_nsec=20000000 poll_queues=0 discard=1)
run_tests "$limit" "$here/waits" ranges "$discard"
remove_nullb waits_discard
one_tag=$(make_nullb waits_drained irqmode=2 completion_nsec="$(slow_nsec 10)" poll_queues=0 \
	discard=1 submit_queues=1 hw_queue_depth=1)
run_tests "$limit" "$here/waits" drained "$one_tag"
remove_nullb waits_drained

if polled=$(make_scsi ndelay=900000000 submit_queues=2 poll_queues=1 max_queue=1); then
	run_tests "$limit" "$here/waits" polled "$polled"
	remove_scsi
else
	skip "polled" "no scsi_debug"
fi
tap_end
