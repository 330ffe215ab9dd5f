#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Requests through the rings of /dev/vhost-blk (io.c), with the devices for it.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

# Requests that end from a timer after 10 ms on a fast machine, eight at a time.
disk=$(make_nullb io_fast)
slow=$(make_nullb io_slow irqmode=2 completion_nsec="$(slow_nsec 10)" poll_queues=0 \
	hw_queue_depth=8 memory_backed=0)
large=$(make_scsi sector_size=4096)

run_tests 300 "$here/io" "$disk" "$slow" "$large"

remove_nullb io_fast
remove_nullb io_slow
remove_scsi || bail "the disk of scsi_debug is still in use"
tap_end
