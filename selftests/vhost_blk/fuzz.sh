#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A guest that does anything with its rings and its memory (fuzz.c), and another
# one whose disk must not notice.
#
# FUZZ_SECONDS (60) is the time that it takes, 0 leaves it out; SEED repeats a run.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

seconds=${FUZZ_SECONDS:-60}
[ "$seconds" != 0 ] || skip_all "FUZZ_SECONDS=0"
disk=$(make_nullb fuzz_disk discard=1) || skip_all "no null_blk"
innocent=$(make_nullb fuzz_innocent)

"$here/fuzz" --seconds "$seconds" ${SEED:+--seed "$SEED"} "$disk" "$innocent"
status=$?

remove_nullb fuzz_disk
remove_nullb fuzz_innocent
exit $status
