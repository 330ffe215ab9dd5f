#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The calls of /dev/vhost-blk (abi.c), with the devices that they need.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disk=$(make_nullb abi_plain)
cached=$(make_nullb abi_cached cache_size=1)
mounted=$(make_nullb abi_mounted)
mount_point=$(mktemp -d)
mkfs.ext4 -q "$mounted" && mount "$mounted" "$mount_point"

run_tests 300 "$here/abi" "$disk" "$cached" "$mounted"

umount "$mount_point"
rmdir "$mount_point"
remove_nullb abi_plain
remove_nullb abi_cached
remove_nullb abi_mounted
tap_end
