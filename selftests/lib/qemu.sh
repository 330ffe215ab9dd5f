# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of QEMU's vhost-blk devices share, beside guest.sh: disks on block
# devices of this machine, QEMU's monitor, and whether the data is right. Sourced.
#
# In the guest /run/disk/NAME is a disk and /run/sys/NAME its directory in sysfs, where
# NAME is its serial number.

qemu_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$qemu_lib_dir/guest.sh"

disks=()
# Where the block device of a disk is.
declare -A disk_path
nullb_disks=()

# need_qemu: a guest with vhost-blk-pci, and disks that are taken away at the end.
need_qemu()
{
	need_guest
	trap 'guest_machine kill 2> /dev/null; remove_disks' EXIT
}

# on GUEST COMMAND...: with this guest instead of the one that tests are about.
on()
{
	# shellcheck disable=SC2034 # used by guest.sh
	local guest_name=$1
	shift
	"$@"
}

# new_disk NAME [ATTRIBUTE=VALUE...]: a null_blk (disks.sh) of 16 MiB. A guest takes seconds
# to make a checksum of more.
new_disk()
{
	disk_path[$1]=$(make_nullb "qemu_$1" size=16 "${@:2}") || skip_all "no null_blk"
	nullb_disks+=("qemu_$1")
}

remove_disks()
{
	local name
	for name in "${nullb_disks[@]}"; do
		remove_nullb "$name"
	done
}

# vhost_disk NAME [DEVICE[,OPTION...] [NODE_OPTION...]]: the disk for guest_start, as
# vhost-blk-pci by default. NAME is what the monitor knows node and device by.
vhost_disk()
{
	local name=$1 device=${2:-vhost-blk-pci} node
	mapfile -t node < <(host_disk "$name" "${disk_path[$name]}" "${@:3}")
	disks+=("${node[@]}" -device "$device,id=$name,drive=$name,serial=$name")
}

# Ours.
load_driver()
{
	guest "insmod $own_driver; $(declare -f link_disks); link_disks"
}

find_disks()
{
	guest "$(declare -f link_disks); link_disks"
}

# finds NAME: the guest has the disk.
finds()
{
	find_disks && guest test -e "/run/disk/$1"
}

# driver_leaves NAME: the driver gives the disk up, and resets the device.
driver_leaves()
{
	guest "basename \$(readlink -f /run/sys/$1/device) > /run/driver-$1
		cd /sys/bus/virtio/drivers/virtio_blk && cat /run/driver-$1 > unbind"
}

driver_returns()
{
	guest "cd /sys/bus/virtio/drivers/virtio_blk && cat /run/driver-$1 > bind" && finds "$1"
}

# plug_and_unplug FROM TO: these rounds of the caller's plug() and unplug(), for the disk
# "plugged". fio has it when it goes: fio fails, nothing else does.
plug_and_unplug()
{
	local i
	for ((i = $1; i <= $2; i++)); do
		plug && start_writer plugged && unplug && writer_failed plugged && continue
		echo "in round $i"
		return 1
	done
}

# qmp COMMAND [ARGUMENTS]: prints QEMU's answer; fails if it is an error.
qmp()
{
	guest_machine monitor "{\"execute\": \"$1\"${2:+, \"arguments\": $2}}"
}

# qmp_refuses PATTERN COMMAND [ARGUMENTS]: it fails, and says why.
qmp_refuses()
{
	local pattern=$1 answer
	shift
	answer=$(qmp "$@") && {
		echo "QEMU does it: $answer"
		return 1
	}
	echo "$answer"
	grep -qE "$pattern" <<< "$answer"
}

# checksum_here NAME [DD_OPTION...]: past the page cache, which does not know what a guest
# wrote.
checksum_here()
{
	dd if="${disk_path[$1]}" bs=1M iflag=direct status=none "${@:2}" | sha256sum
}

# same_data NAME [COUNT]: guest and host find the same on the disk, or on its first MiBs.
same_data()
{
	equal "$(checksum_there "$1" ${2:+count="$2"})" "$(checksum_here "$1" ${2:+count="$2"})"
}

# writes_and_verifies NAME [OPTION...]: fio's, of a job that writes at random.
writes_and_verifies()
{
	guest "$verify_job --filename=/run/disk/$1 ${*:2}"
}

# start_writer NAME: fio writes for minutes what it verifies in the end, and returns when
# requests are in flight.
start_writer()
{
	guest "rm -f /tmp/$1.status; ($verifying_writer --name=$1 --filename=/run/disk/$1 \
			> /tmp/$1.log 2>&1; echo \$? > /tmp/$1.status) > /dev/null 2>&1 &
		for i in \$(seq $WAIT_TRIES); do
			! awk '\$5 > 100 { exit 1 }' /run/sys/$1/stat || { sleep 0.1; continue; }
			exit 0
		done; cat /tmp/$1.log; exit 1"
}

verifying_writer="fio --rw=randwrite --bsrange=4k-64k --bs_unaligned=0 --iodepth=16 --direct=1 \
--ioengine=libaio --size=16M --time_based --runtime=$((600 * LIMIT_FACTOR)) --verify=crc32c --verify_backlog=256 \
--verify_fatal=1 --eta=never --randrepeat=0"

# writer_goes_on NAME: it has no error, and writes.
writer_goes_on()
{
	guest "before=\$(awk '{ print \$5 }' /run/sys/$1/stat)
		for i in \$(seq $WAIT_TRIES); do
			[ ! -e /tmp/$1.status ] || { cat /tmp/$1.log; exit 1; }
			[ \$(awk '{ print \$5 }' /run/sys/$1/stat) -le \$((before + 20)) ] || exit 0
			sleep 0.1
		done; echo it does not write; exit 1"
}

# stop_writer NAME: all that it wrote was right.
stop_writer()
{
	guest killall -INT fio &&
		when_written "/tmp/$1.status" "cat /tmp/$1.log; grep 'err= 0:' /tmp/$1.log"
}

# writer_failed NAME: the disk was taken away from it.
writer_failed()
{
	when_written "/tmp/$1.status" "cat /tmp/$1.log; [ \$(cat /tmp/$1.status) != 0 ]"
}

# nothing_is_written NAME: to the disk, from here on.
nothing_is_written()
{
	local before
	before=$(sectors_written "$1")
	sleep 0.3
	equal "$(sectors_written "$1")" "$before"
}

# stop_and_continue NAME TIMES: the guest, whose writer of this disk waits and goes on.
stop_and_continue()
{
	local i
	for ((i = 1; i <= $2; i++)); do
		qmp stop > /dev/null && nothing_is_written "$1" && qmp cont > /dev/null &&
			writer_goes_on "$1" && continue
		echo "in round $i"
		return 1
	done
}

# sectors_written NAME: as the host has counted.
sectors_written()
{
	awk '{ print $7 }' "$(sysfs_of "${disk_path[$1]}")/stat"
}

# has_sectors NAME NUMBER: in the guest.
has_sectors()
{
	[ "$(sysfs "$1" size)" = "$2" ]
}

# plug_memory TYPE [PROPERTIES]: half a gigabyte, of which fio's buffers can't be in the
# memory that there was. TYPE is of QEMU's object.
plug_memory()
{
	qmp object-add "{\"qom-type\": \"$1\", \"id\": \"memory\", \"size\": 536870912$2}" &&
		qmp device_add '{"driver": "pc-dimm", "id": "dimm", "memdev": "memory"}' &&
		wait_until memory_is_there
}

memory_is_there()
{
	guest 'for block in /sys/devices/system/memory/memory*; do
			grep -q online $block/state || echo online > $block/state
		done
		[ "$(awk "/^MemTotal/ { print \$2 }" /proc/meminfo)" -gt 500000 ]'
}

# uses_all_memory NAME: writes to the disk from most of what there is.
uses_all_memory()
{
	guest "fio --name=memory --filename=/run/disk/$1 --rw=randwrite --bs=1M --iodepth=32 \
		--numjobs=10 --thread --size=32M --direct=1 --ioengine=libaio --iomem=malloc \
		--lockmem=16M --norandommap --refill_buffers --time_based --runtime=5 --minimal"
}

# By the monitor, and the driver is loaded again.
reset()
{
	qmp set-action '{"reboot": "reset"}' && qmp system_reset && comes_back
}

comes_back()
{
	guest_machine wait -t 300 && qmp set-action '{"reboot": "shutdown"}' && load_driver
}

# qemu_threads: of the process, the kernel's workers among them; qemu_files: open ones.
qemu_threads()
{
	find "/proc/$(guest_machine pid)/task" -mindepth 1 -maxdepth 1 | wc -l
}

qemu_files()
{
	find "/proc/$(guest_machine pid)/fd" -mindepth 1 | wc -l
}
