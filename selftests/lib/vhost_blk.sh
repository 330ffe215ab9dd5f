# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of /dev/vhost-blk share: their results, their disks, and what they need
# of the machine. A test that lacks it is skipped. Sourced.

vhost_blk_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$vhost_blk_lib_dir/tap.sh"
. "$vhost_blk_lib_dir/disks.sh"

((EUID == 0)) || skip_all "needs root"
need_vhost_blk
modprobe -q null_blk nr_devices=0 || skip_all "no null_blk"

# run_on_nullb PROGRAM [ATTRIBUTE=VALUE...]: its tests, with a device of its own as argument, are
# all that the script has.
run_on_nullb()
{
	local name=${1##*/} disk
	disk=$(make_nullb "$name" "${@:2}") || skip_all "no null_blk"
	run_tests 300 "$1" "$disk"
	remove_nullb "$name"
	tap_end
}
