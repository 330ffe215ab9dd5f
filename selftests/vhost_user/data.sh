#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Every kind of request is served by the daemon as by the kernel alone (data.c), on disks
# that are able to do different things.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"
. "$here/../lib/blkd.sh"

# data NAME DISK [OPTION...]
data()
{
	start_blkd data "$2" --num-queues=2 --serial=vhost-blk-test "${@:3}" ||
		bail "the daemon doesn't start"
	run_tests 60 "$here/data" "$1" "$2" "$(blkd_socket data)"
	stop_blkd data
	sed 's/^/# /' "$(blkd_log data)"
}

blkd=$(find_blkd) || skip_all "no vhost-blkd"
disk=$(make_nullb data cache_size=1 discard=1) || skip_all "no null_blk"
data null_blk "$disk"
data "null_blk, pinned memory" "$disk" --pin-memory
remove_nullb data
reason=$(mktemp)
if disk=$(make_scsi lbpu=1 lbpws=1 2> "$reason"); then
	data scsi "$disk"
	remove_scsi || bail "the disk of scsi_debug is still in use"
else
	skip "scsi" "$(cat "$reason")"
fi
rm "$reason"
tap_end
