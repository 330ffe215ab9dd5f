# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of the guest driver share, beside guest.sh: disks on files of this
# machine, which driver has them, and whether the data is right. Sourced.
#
# A test starts one guest with all its disks and asks the same of both drivers in it,
# one after the other. In the guest /run/disk/NAME is a disk and /run/sys/NAME its
# directory in sysfs, where NAME is its serial number.

virtio_blk_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$virtio_blk_lib_dir/guest.sh"

# Who drives the disks now: ours or in-tree.
driver=
disks=()

# make_work_dir: for the disks' files, until the test ends.
make_work_dir()
{
	work=$(mktemp -d)
	trap 'guest_machine kill 2> /dev/null; rm -r "$work"' EXIT
}

# add_disk NAME DEVICE[,OPTION...] [NODE_OPTION...]: a disk of 16 MiB for guest_start,
# as an argument of QEMU's -device and more options of its block node. NAME is what the
# monitor knows both by.
add_disk()
{
	local name=$1 device=$2
	shift 2
	truncate -s 16M "$work/$name"
	disks+=(-blockdev "$(IFS=,; echo "driver=file,node-name=$name,filename=$work/$name${*:+,$*}")"
		-device "$device,id=$name,drive=$name,serial=$name")
}

# What loads the driver in the guest.
load_command()
{
	if [ "$driver" = ours ]; then
		echo "insmod $own_driver"
	else
		echo modprobe virtio_blk
	fi
}

# load_driver ours|in-tree [PARAMETER=VALUE...]
load_driver()
{
	driver=$1
	shift
	ok "$driver: loads${*:+ with $*}" guest "$(load_command) $*; $(declare -f link_disks); link_disks"
}

unload_driver()
{
	ok "$driver: unloads" guest "rmmod virtio_blk && ! ls -d /sys/block/vd*"
}

# each_driver COMMAND...: with our driver loaded, then with the in-tree one.
each_driver()
{
	local each
	for each in ours in-tree; do
		load_driver "$each"
		"$@"
		unload_driver
	done
}

# check TEXT COMMAND...: a test of the driver that is loaded.
check()
{
	ok "$driver: $1" "${@:2}"
}

# check_not_in_tree REASON TEXT COMMAND...: the same, but the in-tree driver is known to
# fail it: if it doesn't, the reason no longer holds.
check_not_in_tree()
{
	if [ "$driver" = ours ]; then
		check "${@:2}"
	else
		ok "in-tree: not, since $1: $2" fails "${@:3}"
	fi
}

# The disk is written at random in blocks of all sizes and verified.
verify="fio --rw=randwrite --ioengine=libaio --direct=1 --iodepth=16 \
--verify=crc32c --verify_fatal=1 --do_verify=1 --size=2M --randrepeat=0 --minimal"

# same_data NAME: the guest reads from the medium what this machine finds in its file.
same_data()
{
	local sum
	sum=$(checksum_there "$1") && equal "$sum" "$(sha256sum < "$work/$1")"
}

# data_is_right NAME: what fio writes it reads again, and the file has it.
data_is_right()
{
	guest "$verify --name=$1 --bsrange=512-256k --filename=/run/disk/$1" && same_data "$1"
}

# check_data NAME...: the same of several disks at once, a test each.
check_data()
{
	local name jobs=() errors sums
	for name; do
		jobs+=("--name=$name --filename=/run/disk/$name")
		jobs+=("--bsrange=\$(cat /run/sys/$name/queue/logical_block_size)-256k")
	done
	errors=$(guest "$verify ${jobs[*]}" | awk -F ';' 'NF > 50 { print $3, $5 }')
	sums=$(guest "for name in $*; do
			echo \"\$name \$(dd if=/run/disk/\$name bs=1M iflag=direct status=none | sha256sum)\"
		done")
	for name; do
		check "$name: data is right" equal \
			"error $(sed -n "s/^$name //p" <<< "$errors"), $(sed -n "s/^$name //p" <<< "$sums")" \
			"error 0, $(sha256sum < "$work/$name")"
	done
}
