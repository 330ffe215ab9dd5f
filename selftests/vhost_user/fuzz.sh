#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A hostile VMM at the daemon's socket (fuzz.c), while another daemon's disk must not
# notice: for some time with the compiler's checks in the daemon, then so many connections
# with the daemon as it is built for use, whose memory and descriptors are counted.
#
# FUZZ_SECONDS (60) is the time that it takes, 0 leaves it out; SEED repeats a run.
# FUZZ_CONNECTIONS (1000) is how many there are afterwards.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"
. "$here/../lib/blkd.sh"

# fuzz NAME OPTION...: the daemon NAME, which has to live on and say nothing else.
fuzz()
{
	local name=$1 status
	shift
	start_blkd "$name" "$disk" --num-queues=4 || bail "the daemon doesn't start"
	run_tests $((seconds + 300)) "$here/fuzz" "$@" ${SEED:+--seed "$SEED"} \
		"$(blkd_socket "$name")" "${blkd_pids[$name]}" "$(blkd_log "$name")" \
		"$(blkd_socket innocent)"
	stop_blkd "$name"
	status=$?
	ok "the daemon ends well" [ "$status" = 0 ]
	ok "it has nothing to report" no_reports "$(blkd_log "$name")"
	show_messages "$(blkd_log "$name")"
}

# Of the compiler's checks.
no_reports()
{
	! grep -vE '^vhost-blkd: ' "$1"
}

# How often it said what, without the numbers.
show_messages()
{
	sed -E 's/0x[0-9a-f]+/N/g; s/[0-9]+/N/g; s/^/# /' "$1" | sort | uniq -c | sort -rn |
		sed 's/^/# /' | head -n 60
}

seconds=${FUZZ_SECONDS:-60}
[ "$seconds" != 0 ] || skip_all "FUZZ_SECONDS=0"
blkd=$(find_blkd) || skip_all "no vhost-blkd"
checked=$(dirname "$blkd")/sanitize/vhost-blkd
disk=$(make_nullb fuzz_user) || skip_all "no null_blk"
innocent=$(make_nullb fuzz_user_innocent)

start_blkd innocent "$innocent" --num-queues=4 || bail "the daemon doesn't start"
if [ -x "$checked" ]; then
	blkd=$checked fuzz checked --seconds "$seconds"
else
	skip "the daemon with checks" "it is not built"
fi
fuzz plain --connections "${FUZZ_CONNECTIONS:-1000}"

stop_all_blkd
remove_nullb fuzz_user
remove_nullb fuzz_user_innocent
tap_end
