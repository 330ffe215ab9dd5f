#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Data goes through a bounce buffer where the disk can't be given the guest's pages
# (bounce.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"

# bounce TEST [NAME=]DISK
bounce()
{
	run_tests 300 "$here/bounce" "$@"
}

# On the testbed's host machines the kernel doesn't zero what it allocates.
zeroed()
{
	local disk
	disk=$(make_nullb bounce memory_backed=0)
	bounce zeroed "$disk"
	remove_nullb bounce
}

zeroed
tap_end
