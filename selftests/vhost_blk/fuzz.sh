#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A guest that does anything with its rings and its memory (fuzz.c), and another
# one whose disk must not notice. For half of the time the disk ends requests while they
# are submitted, for the other half later, by a timer.
#
# FUZZ_SECONDS (60) is the time that it takes, 0 leaves it out; SEED repeats a run.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

seconds=${FUZZ_SECONDS:-60}
[ "$seconds" != 0 ] || skip_all "FUZZ_SECONDS=0"
half=$(((seconds + 1) / 2))
disk=$(make_nullb fuzz_disk discard=1) || skip_all "no null_blk"
late=$(make_nullb fuzz_late discard=1 irqmode=2 completion_nsec=50000 poll_queues=0 \
	submit_queues=2)
innocent=$(make_nullb fuzz_innocent)

for fuzzed in "$disk" "$late"; do
	run_tests $((half + 300)) "$here/fuzz" --seconds "$half" ${SEED:+--seed "$SEED"} \
		"$fuzzed" "$innocent"
done

remove_nullb fuzz_disk
remove_nullb fuzz_late
remove_nullb fuzz_innocent
tap_end
