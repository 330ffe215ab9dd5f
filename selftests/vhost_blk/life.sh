#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The life of a device (life.c), with one whose size can be changed.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disk=$(make_nullb life_first)
other=$(make_nullb life_second)
file=$(mktemp)
truncate -s 16M "$file"
modprobe loop
loop=$(losetup --show -f "$file")

run_tests 300 "$here/life" "$disk" "$other" "$loop" "$file"

losetup -d "$loop"
rm "$file"
remove_nullb life_first
remove_nullb life_second
tap_end
