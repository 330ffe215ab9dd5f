# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Tests of the guest driver on a device that is made in the guest itself, by VDUSE, as
# the programs in selftests/virtio_blk do that have device.c. Sourced.

vduse_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$vduse_lib_dir/guest.sh"

# A guest with nothing else.
start_vduse_guest()
{
	need_plain_guest
	guest_with --memory 1G
	# shellcheck disable=SC2119 # no disk of QEMU's
	guest_start
	guest modprobe -a vduse virtio_vdpa || {
		guest_stop
		skip_all "the guest's kernel has no VDUSE"
	}
}

# run_in_guest SECONDS PROGRAM: all tests of the program, in such a guest.
run_in_guest()
{
	start_vduse_guest
	GUEST_LIMIT=$1
	run_tests $(($1 + 10)) guest "/opt/$2" "$own_driver"
	ok "the guest's kernel has nothing to complain of" guest_has_no_reports
	guest_stop
	tap_end
}
