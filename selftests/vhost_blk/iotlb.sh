#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The virtual IOMMU (iotlb.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/disks.sh"

disk=$(make_nullb iotlb)
"$here/iotlb" "$disk"
status=$?
remove_nullb iotlb
exit $status
