#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Answers that share a signal, and requests that share a kick (gather.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disk=$(make_nullb gather) || skip_all "no null_blk"
late=$(make_nullb gather_late irqmode=2 poll_queues=0 completion_nsec=10000000)
run_tests 300 "$here/gather" "$disk" "$late"
remove_nullb gather_late
remove_nullb gather
tap_end
