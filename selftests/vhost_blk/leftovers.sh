#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A test that was killed leaves its disks behind, and the next one that wants them gets them.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

mount_point=$(mktemp -d)
reason=$(mktemp)

# is_killed MAKE ARGUMENT...: a test that is, when it has made a disk and mounted it.
is_killed()
{
	local end
	bash -c '. "$1"; disk=$("${@:3}") && mkfs.ext4 -q "$disk" &&
			mount "$disk" "$2" && kill -9 $$' \
		test "$here/../lib/disks.sh" "$mount_point" "$@" 2> "$reason"
	end=$?
	cat "$reason"
	[ "$end" = 137 ]
}

is_made_again()
{
	local disk
	disk=$("$@") && ! grep "^$disk " /proc/mounts && mkfs.ext4 -q "$disk"
}

# kind TEXT REMOVE NAME MAKE ARGUMENT...
kind()
{
	local text=$1 remove=("$2" ${3:+"$3"})
	shift 3
	if ! is_killed "$@" > /dev/null 2>&1; then
		skip "$text" "$(cat "$reason")"
		return
	fi
	ok "$text" is_made_again "$@"
	"${remove[@]}"
}

if ! need_modules ext4 2> "$reason"; then
	skip_all "$(cat "$reason")"
fi
kind null_blk remove_nullb leftover make_nullb leftover
below=$(make_nullb leftover_below)
kind "device mapper" remove_dm leftover make_linear leftover "$below"
kind "NVMe over TCP" remove_nvme_tcp "" make_nvme_tcp "$below"
remove_nullb leftover_below
kind scsi_debug remove_scsi "" make_scsi
rmdir "$mount_point"
rm "$reason"
tap_end
