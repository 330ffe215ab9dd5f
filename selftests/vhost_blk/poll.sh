#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Busy polling (poll.c), with a device that has poll queues.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disk=$(make_nullb poll_fast)
slow=$(make_nullb poll_slow irqmode=2 completion_nsec=2000000 memory_backed=0)
polled=$(make_nullb poll_polled poll_queues=1 hw_queue_depth=2)

run_tests 300 "$here/poll" "$disk" "$slow" "$polled"

remove_nullb poll_fast
remove_nullb poll_slow
remove_nullb poll_polled
tap_end
