#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that clears the NEXT flags of descriptors, which are not its to write, in a ring
# without indirect ones. The virtio core loses descriptors and their mappings by that, and
# VDUSE warns of each mapping that is left when the device goes. There must be no more than
# that: the core stops the kernel when it takes back more requests than a ring has and finds
# that descriptors are missing.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

# ends_with_lost_mappings TEST: of the program, all of which passes but the look at the log.
ends_with_lost_mappings()
{
	local tap status
	tap=$(guest "/opt/hostile $own_driver '$1'")
	status=$?
	echo "status $status: $tap"
	# 1: a test has failed.
	[ "$status" -le 1 ] && [ "$(grep -c '^ok ' <<< "$tap")" -ge 3 ] &&
		! grep '^not ok ' <<< "$tap" | grep -v 'the kernel has nothing to report'
}

nothing_else_is_reported()
{
	local log
	log=$(guest dmesg) &&
		! grep -E 'WARNING:|BUG|Oops' <<< "$log" | grep -v 'vduse_domain_release'
}

start_vduse_guest
for each in "NEXT flags cleared" "NEXT flags cleared, reset"; do
	ok "$each: requests end, and the disk goes" ends_with_lost_mappings "$each"
	ok "$each: the kernel reports no more than lost mappings" nothing_else_is_reported
done
guest_stop
tap_end
