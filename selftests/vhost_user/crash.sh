#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The daemon is killed, or ended and the module replaced, under verified requests that are
# to go on with the next one (crash.c).
#
# CRASH_ROUNDS (50) is how often it is killed on a fast disk, CRASH_SLOW_ROUNDS (15) on a
# slow one, CRASH_REPLACEMENTS (20) how often the module is replaced.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"
. "$here/../lib/blkd.sh"

# crash NAME OPTION... DISK
crash()
{
	echo "# $1"
	run_tests 300 "$here/crash" "${@:2:$#-2}" "$blkd" "$dir/$1" "${!#}"
}

# With different times for reads and writes they end in another order than they began.
delayed()
{
	need_modules dm_delay && make_dm crash_delayed \
		"0 $(blockdev --getsz "$1") delay $1 0 5 $1 0 25 $1 0 1"
}

# The last file of a device may still be about to be closed.
replace_module()
{
	cat <<- END
		for _ in \$(seq $((300 * LIMIT_FACTOR))); do
			! modprobe -q -r vhost_blk || exec modprobe vhost_blk
			sleep 0.1
		done
		exit 1
	END
}

blkd=$(find_blkd) || skip_all "no vhost-blkd"
disk=$(make_nullb crash cache_size=1) || skip_all "no null_blk"
dir=$(mktemp -d)
reason=$(mktemp)

crash killed --rounds "${CRASH_ROUNDS:-50}" "$disk"
if slow=$(delayed "$disk" 2> "$reason"); then
	crash killed-slow --rounds "${CRASH_SLOW_ROUNDS:-15}" "$slow"
	remove_dm crash_delayed
else
	skip "a slow disk" "$(cat "$reason")"
fi
if vhost_blk_gets_free; then
	crash replaced --rounds "${CRASH_REPLACEMENTS:-20}" --term \
		--between "$(replace_module)" "$disk"
else
	skip "the module is replaced" "somebody uses it"
fi

rm -r "$dir" "$reason"
remove_nullb crash
tap_end
