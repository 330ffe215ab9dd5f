#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Requests for which there is no memory (memory.c). Needs a kernel with fault injection.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"
. "$here/../lib/faults.sh"

need_faults
limit=120

# memory TEST DISK: with allocations of the module that fail as soon as the test says so.
memory()
{
	local name=$1 disk=$2
	ok "$name: allocations can fail" allocations_of module_text failslab 0 cache-filter=N
	run_tests "$limit" "$here/memory" "$name" "$disk" "$(fault_probability failslab)"
	fault_off failslab
	ok "$name: some did" [ "$(fault_count failslab)" -gt 0 ]
}

disk=$(make_nullb memory discard=1) || skip_all "no null_blk"
memory data "$disk"
remove_nullb memory

one_tag=$(make_nullb memory_one irqmode=2 completion_nsec="$(slow_nsec 150)" poll_queues=0 \
	submit_queues=1 hw_queue_depth=1)
memory call "$one_tag"
remove_nullb memory_one
tap_end
