#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The virtual IOMMU of the daemon (iotlb.c), with the disks and daemons that it needs.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"
. "$here/../lib/blkd.sh"

blkd=$(find_blkd) || skip_all "no vhost-blkd"
disk=$(make_nullb user_iotlb) || skip_all "no null_blk"
slow=$(make_nullb user_iotlb_slow irqmode=2 \
	completion_nsec="$(slow_nsec 300)" memory_backed=0)

start_blkd plain "$disk" --num-queues=4
start_blkd slow "$slow" --num-queues=1
run_tests 300 "$here/iotlb" "$disk" "$(blkd_socket plain)" "$(blkd_socket slow)"

end_blkds plain slow
remove_nullb user_iotlb
remove_nullb user_iotlb_slow
tap_end
