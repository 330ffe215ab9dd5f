#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Answers in the context in which the disk ends a request (direct.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

limit=600
timer=(irqmode=2 poll_queues=0 submit_queues=2)

# The worker has to be asleep before a request ends.
late=$(make_nullb direct_late "${timer[@]}" completion_nsec="$(slow_nsec 2)")
bad=$(make_nullb direct_bad "${timer[@]}" completion_nsec="$(slow_nsec 2)" badblocks=+8-15)
soon=$(make_nullb direct_soon "${timer[@]}" completion_nsec="$(slow_nsec 1)")
early=$(make_nullb direct_early irqmode=0)
run_tests "$limit" "$here/direct" lone "$late"
run_tests "$limit" "$here/direct" record "$late"
run_tests "$limit" "$here/direct" bad "$bad"
run_tests "$limit" "$here/direct" early "$early"
run_tests "$limit" "$here/direct" changes "$soon"
run_tests "$limit" "$here/direct" storm "$soon"
run_tests "$limit" "$here/direct" killed "$soon"
remove_nullb direct_late
remove_nullb direct_bad
remove_nullb direct_soon
remove_nullb direct_early
tap_end
