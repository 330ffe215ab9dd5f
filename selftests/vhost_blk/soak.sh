#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# All kinds of requests at once on five disks, each of another kind, with all data
# verified (soak.c).
#
# SOAK_SECONDS (20) is the time that it takes; SEED repeats a run.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

disks=() removals=()

# use REMOVAL DEVICE: one that could not be made is left out.
use()
{
	[ -n "$2" ] || return
	disks+=("$2")
	removals=("$1" "${removals[@]}")
}

use "remove_nullb soak_disk" "$(make_nullb soak_disk)"
use "remove_scsi" "$(make_scsi sector_size=4096 lbpu=1)"
loop=$(make_loop "${TMPDIR:-/tmp}")
use "remove_loop $loop" "$loop"
# Ends requests by a timer, on the processor on which they were submitted.
use "remove_nullb soak_late" "$(make_nullb soak_late irqmode=2 completion_nsec=50000 \
	poll_queues=0 submit_queues=2)"
use "remove_nullb soak_below" "$(make_nullb soak_below)"
# Takes the place of what it is made of.
if ((${#disks[@]})) && linear=$(make_linear soak_linear "${disks[-1]}"); then
	unset 'disks[-1]'
	use "remove_linear soak_linear" "$linear"
fi
((${#disks[@]})) || skip_all "no disk can be made"
# null_blk of 7.3 takes data at any even address, but of a piece that crosses a
# sector it reads zeroes if the first of the two was never written, or discarded.
for disk in "${disks[@]}"; do
	dd if=/dev/zero of="$disk" bs=1M count=32 oflag=direct status=none
done

"$here/soak" --seconds "${SOAK_SECONDS:-20}" ${SEED:+--seed "$SEED"} "${disks[@]}"
status=$?

for removal in "${removals[@]}"; do
	$removal || status=1
done
exit $status
