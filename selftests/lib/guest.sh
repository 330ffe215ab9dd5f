# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A guest for tests that need one, with tap.sh and disks.sh, which they need as
# well. Sourced.
#
# What boots comes from the environment (tools/testbed makes both):
#	GUEST_KERNEL	kernel image
#	GUEST_INITRD	initramfs: the testbed's userspace, with the in-tree
#			virtio_blk where modprobe finds it and ours in /opt, where
#			the programs of selftests/virtio_blk are, too
# with QEMU_VHOST_BLK, the QEMU wrapper that knows vhost-blk-pci, where that is needed,
# GUEST_NAME, where another machine of the name may run, and GUEST_OPTIONS, what every
# guest is started with.

guest_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$guest_lib_dir/tap.sh"
. "$guest_lib_dir/disks.sh"
: "${MACHINE:=$guest_lib_dir/../../tools/testbed/machine}"
: "${QEMU_VHOST_BLK:=$guest_lib_dir/../../tools/qemu/qemu-vhost-blk}"
guest_name=${GUEST_NAME:-guest}
own_driver=/opt/virtio_blk.ko
# How often a command looks for what it waits for, ten times a second.
WAIT_TRIES=$((300 * LIMIT_FACTOR))

read -r -a guest_options <<< "${GUEST_OPTIONS:-}"
guest_arguments=()

# guest_with OPTION...: of "machine start", for the guests to come.
guest_with()
{
	guest_options+=("$@")
}

# need_plain_guest: one with QEMU's own devices, which needs nothing of this machine.
need_plain_guest()
{
	[ -n "${GUEST_KERNEL:-}" ] && [ -n "${GUEST_INITRD:-}" ] ||
		skip_all "GUEST_KERNEL and GUEST_INITRD name no guest"
	# A test that was killed may have left one.
	guest_machine kill 2> /dev/null || true
	# Its host is not a machine that ends with the tests.
	trap 'guest_machine kill 2> /dev/null' EXIT
}

# need_guest: one with vhost-blk-pci.
need_guest()
{
	need_plain_guest
	need_vhost_blk
	guest_with --qemu "$QEMU_VHOST_BLK"
}

# guest_machine COMMAND [ARGUMENT...]: of tools/testbed/machine.
guest_machine()
{
	"$MACHINE" "$1" "$guest_name" "${@:2}"
}

# guest_start QEMU_ARGUMENT...: a guest with two CPUs; more than one at a time with other
# values of guest_name.
guest_start()
{
	guest_machine start --kernel "$GUEST_KERNEL" --initrd "$GUEST_INITRD" \
		--boot-timeout "${GUEST_BOOT_LIMIT:-120}" "${guest_options[@]}" -- \
		"${guest_arguments[@]}" "$@" ||
		bail "the guest doesn't boot"
}

# guest COMMAND: runs it in the guest, with its output and its status. A guest in which a command
# did not end in time is killed: each command that follows might take as long.
guest()
{
	local status
	guest_machine run -t "${GUEST_LIMIT:-300}" "$*"
	status=$?
	[ "$status" != 124 ] || guest_machine kill
	return "$status"
}

# What QEMU has said.
qemu_log()
{
	cat "${TESTBED_RUN:-/run/vhost-blk-testbed}/$guest_name/qemu.log"
}

guest_has_no_reports()
{
	guest_machine check && guest_lost_no_memory
}

# Where kmemleak runs in the guest. The calls of modules that are not there any more have
# no names; other modules are not unloaded.
guest_lost_no_memory()
{
	guest 'leaks=/sys/kernel/debug/kmemleak
		{ echo scan > $leaks; } 2> /dev/null || exit 0
		# What is younger than 5 s is not reported.
		sleep 6
		echo scan > $leaks
		awk '\''/^unreferenced object/ { n++ } { object[n] = object[n] $0 "\n" }
			END { for (i in object) if (object[i] ~ /\[virtio_blk|\] 0xffffffffc/) {
				printf "%s", object[i]; lost = 1 } exit lost }'\'' $leaks'
}

guest_stop()
{
	guest_machine stop
}

# share_guest_memory MIBIBYTES: the guests to come have so much, for write_16.
share_guest_memory()
{
	guest_with --memory "$1M"
	guest_arguments=(-object "memory-backend-memfd,id=ram,size=$1M,share=on"
		-machine memory-backend=ram)
}

# write_16 ADDRESS NUMBER: to the guest's memory, below 4 GiB.
write_16()
{
	local file
	for file in "/proc/$(guest_machine pid)/fd"/*; do
		[[ $(readlink "$file") == /memfd:memory-backend-memfd* ]] || continue
		printf '%b' "$(printf '\\x%02x\\x%02x' $(($2 & 0xff)) $(($2 >> 8 & 0xff)))" |
			dd of="$file" bs=1 seek="$1" conv=notrunc status=none
		return
	done
	return 1
}

# queue_status NAME: of a disk's first queue, as QEMU knows it.
queue_status()
{
	guest_machine monitor "{\"execute\": \"x-query-virtio-queue-status\", \"arguments\":
		{\"path\": \"/machine/peripheral/$1/virtio-backend\", \"queue\": 0}}"
}

# field NAME: a number in an answer of QEMU, which is the input.
field()
{
	sed "s/.*\"$1\": \([0-9]*\).*/\1/"
}

# when_written FILE COMMANDS: in the guest, when the file has something in it, or after half a minute.
when_written()
{
	guest "for i in \$(seq $WAIT_TRIES); do
			[ ! -s $1 ] || break
			sleep 0.1
		done; $2"
}

# host_disk NODE PATH [OPTION...]: arguments of a host block device for QEMU.
host_disk()
{
	local node=$1 path=$2
	shift 2
	printf '%s\n' -blockdev "$(IFS=,; echo "driver=host_device,node-name=$node,filename=$path,cache.direct=on${*:+,$*}")"
}

# --- disks in the guest, by their serial numbers ---

# In the guest: /run/disk/NAME is a disk, /run/sys/NAME its directory in sysfs.
link_disks()
{
	local disk name
	rm -rf /run/disk /run/sys
	mkdir /run/disk /run/sys
	for disk in /sys/block/vd*; do
		name=$(cat "$disk/serial")
		[ -n "$name" ] || continue
		ln -s "$disk" "/run/sys/$name"
		ln -s "/dev/${disk##*/}" "/run/disk/$name"
	done
	ls /run/disk | grep -q .
}

# sysfs NAME ATTRIBUTE: of a disk.
sysfs()
{
	guest cat "/run/sys/$1/$2"
}

# attribute NAME ATTRIBUTE VALUE: whether it has the value.
attribute()
{
	local value
	value=$(sysfs "$1" "$2") && equal "$value" "$3"
}

# feature_is NAME BIT VALUE: of those that device and driver agreed on.
feature_is()
{
	local features
	features=$(sysfs "$1" device/features) && [ "${features:$2:1}" = "$3" ]
}

has_feature()
{
	feature_is "$1" "$2" 1
}

lacks_feature()
{
	feature_is "$1" "$2" 0
}

# checksum_there NAME [DD_OPTION...]: of what the guest reads from the medium.
checksum_there()
{
	guest "dd if=/run/disk/$1 bs=1M iflag=direct status=none ${*:2} | sha256sum"
}

# --- PCI devices in the guest ---

# pci_device NAME: the address of a disk.
pci_device()
{
	guest 'basename $(readlink -f '"/run/sys/$1/device/..)"
}

# In the guest. write_config ADDRESS OFFSET BYTES: of a PCI device's configuration space, up
# to four as echo -e has them.
write_config()
{
	printf '%b' "$3" |
		dd of="/sys/bus/pci/devices/$1/config" bs=4 seek=$(($2)) oflag=seek_bytes \
			conv=notrunc status=none
}

# --- what tests have in common ---

# equal GOT WANT
equal()
{
	echo "got '$1', want '$2'"
	[ "$1" = "$2" ]
}

# fails COMMAND...: a command in a guest that does not answer (124) or is not there (125) has not
# failed.
fails()
{
	local status
	"$@"
	status=$?
	echo "status $status"
	((status != 0 && status != 124 && status != 125))
}

# A fio job that writes and verifies half a disk of 16 MiB at random.
verify_job="fio --name=verify --rw=randwrite --bs=4k --iodepth=32 --direct=1 \
--ioengine=libaio --size=8M --verify=crc32c --verify_fatal=1 --do_verify=1 \
--randrepeat=0 --output-format=terse --minimal"
