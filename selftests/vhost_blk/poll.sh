#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Busy polling (poll.c), with a device that has poll queues.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disk=$(make_nullb poll_fast)
slow=$(make_nullb poll_slow irqmode=2 completion_nsec=2000000 memory_backed=0)
polled=$(make_nullb poll_polled poll_queues=1 hw_queue_depth=2)
below=$(make_nullb poll_below poll_queues=1)

if mapped=$(make_linear poll_mapped "$below"); then
	run_tests 300 "$here/poll" "$disk" "$slow" "$polled" "$mapped"
	remove_dm poll_mapped
else
	run_tests 300 "$here/poll" "$disk" "$slow" "$polled"
	skip "a device mapper's device is not polled for" "no device mapper"
fi
remove_nullb poll_fast
remove_nullb poll_slow
remove_nullb poll_polled
remove_nullb poll_below
tap_end
