#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Block devices that fail, hang or go while they serve requests (failing.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

export DISKS=$here/../lib/disks.sh

# Longer than the program itself ever waits for an answer.
limit=300

# failing TEST DISK [NAME]
failing()
{
	echo "# $1"
	run_tests "$limit" "$here/failing" "$@"
}

base=$(make_nullb failing_base)
reason=$(mktemp)

if disk=$(make_flakey failing "$base" 2> "$reason"); then
	failing flakey "$disk" failing
	remove_flakey failing
else
	skip "a device that fails" "$(cat "$reason")"
fi

if disk=$(make_linear failing "$base" 2> "$reason"); then
	failing suspended "$disk" failing
	remove_linear failing
else
	skip "a device that hangs" "$(cat "$reason")"
fi

bad=$(make_nullb failing_bad badblocks=+8192-8199)
failing bad-blocks "$bad" failing_bad
remove_nullb failing_bad

# A request takes 10 ms, two at a time: the others wait.
if disk=$(make_scsi ndelay=10000000 max_queue=2 2> "$reason"); then
	failing pulled "$disk" "$base"
	ok "nothing is left of the disk" remove_scsi
else
	skip "a disk that is pulled" "$(cat "$reason")"
fi

if disk=$(make_scsi 2> "$reason"); then
	failing removed "$disk"
	remove_scsi || bail "the disk of scsi_debug is still in use"
else
	skip "a disk that is removed" "$(cat "$reason")"
fi

# over_tcp TEST [OPTION=VALUE...]: with a disk over TCP and the options of its link.
over_tcp()
{
	local disk test=$1
	shift
	if disk=$(make_nvme_tcp "$base" "$@" 2> "$reason"); then
		failing "$test" "$disk"
		remove_nvme_tcp
	else
		skip "$test" "$(cat "$reason")"
	fi
}

over_tcp link-restored
over_tcp link-failing fast_io_fail_tmo=1
over_tcp link-lost ctrl_loss_tmo=2
over_tcp link-down
over_tcp controller-deleted

rm "$reason"
remove_nullb failing_base
tap_end
