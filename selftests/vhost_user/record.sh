#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The record of what is in flight as a VMM sees it (record.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"
. "$here/../lib/blkd.sh"

once || skip_all "the same on every host kernel: tested on the first one"
blkd=$(find_blkd) || skip_all "no vhost-blkd"
# Requests end from a timer.
slow=$(make_nullb record_slow irqmode=2 completion_nsec="$(slow_nsec 300)" poll_queues=0 \
	memory_backed=0) || skip_all "no null_blk"
cached=$(make_nullb record_cached cache_size=1)
dir=$(mktemp -d)

run_tests 120 "$here/record" "$blkd" "$dir/socket" "$slow" "$cached"

rm -r "$dir"
remove_nullb record_slow
remove_nullb record_cached
tap_end
