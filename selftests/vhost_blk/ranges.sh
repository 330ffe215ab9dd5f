#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Discard and its like, and the write cache (ranges.c), with devices that have
# them and one that has not.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

discard=$(make_nullb ranges_discard discard=1)
none=$(make_nullb ranges_none)
cached=$(make_nullb ranges_cached cache_size=64 fua=0)
zeroes=$(make_scsi sector_size=4096 lbpu=1 lbpws=1)
# On tmpfs, which can't zero a part of a file in place.
loses=$(make_loop /dev/shm)

run_tests 300 "$here/ranges" "$discard" "$zeroes" "$none" "$cached" "$loses"

remove_nullb ranges_discard
remove_nullb ranges_none
remove_nullb ranges_cached
remove_scsi || bail "the disk of scsi_debug is still in use"
remove_loop "$loses"
tap_end
