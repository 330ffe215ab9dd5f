#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The virtual IOMMU (iotlb.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disk=$(make_nullb iotlb)
slow=$(make_nullb iotlb_slow irqmode=2 completion_nsec="$(slow_nsec 500)" \
	memory_backed=0)
run_tests 300 "$here/iotlb" "$disk" "$slow"
remove_nullb iotlb
remove_nullb iotlb_slow
tap_end
