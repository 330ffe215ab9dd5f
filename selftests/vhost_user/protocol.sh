#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What the daemon answers to each message (protocol.c), with the disks and daemons that
# it needs.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"
. "$here/../lib/blkd.sh"

once || skip_all "the same on every host kernel: tested on the first one"
blkd=$(find_blkd) || skip_all "no vhost-blkd"
disk=$(make_nullb protocol_plain) || skip_all "no null_blk"
cached=$(make_nullb protocol_cached cache_size=1)
other=$(make_nullb protocol_other)
loop=$(make_loop /tmp)

start_blkd plain "$disk" --num-queues=4 --serial=vhost-blk-test
start_blkd cached "$cached" --num-queues=4
start_blkd other "$other" --num-queues=4 --read-only
start_blkd loop "$loop" --num-queues=4
run_tests 300 "$here/protocol" "$disk" "$(blkd_socket plain)" \
	"$cached" "$(blkd_socket cached)" "$(blkd_log cached)" "$(blkd_socket other)" \
	"$loop" "$(loop_file "$loop")" "$(blkd_socket loop)"

end_blkds plain cached other loop
remove_loop "$loop"
remove_nullb protocol_plain
remove_nullb protocol_cached
remove_nullb protocol_other
tap_end
