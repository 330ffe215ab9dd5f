#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The record of what is in flight (inflight.c), on disks that work at it for a while.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

limit=120
rounds=${CRASHES:-50}

disk=$(make_nullb inflight_plain)
run_tests "$limit" "$here/inflight" record "$disk"
remove_nullb inflight_plain

base=$(make_nullb inflight_base cache_size=16)
sectors=$(blockdev --getsz "$base")
if slow=$(make_dm inflight_slow "0 $sectors delay $base 0 $((4 * LIMIT_FACTOR))000"); then
	run_tests "$limit" "$here/inflight" killed "$slow"
	remove_dm inflight_slow
	# Writes take longer, so that answers are not in the order of requests.
	slow=$(make_dm inflight_slow "0 $sectors delay $base 0 3 $base 0 8")
	run_tests "$limit" "$here/inflight" crash "$slow" "$rounds"
	remove_dm inflight_slow
else
	skip "killed and crash" "no dm-delay"
fi
remove_nullb inflight_base
tap_end
