# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A guest for tests that need one, with tap.sh and disks.sh, which they need as
# well. Sourced.
#
# What boots comes from the environment (tools/testbed makes both):
#	GUEST_KERNEL	kernel image
#	GUEST_INITRD	initramfs: the testbed's userspace, with the in-tree
#			virtio_blk where modprobe finds it and ours in /opt
# and QEMU_VHOST_BLK, the QEMU wrapper that knows vhost-blk-pci.

guest_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$guest_lib_dir/tap.sh"
. "$guest_lib_dir/disks.sh"
: "${MACHINE:=$guest_lib_dir/../../tools/testbed/machine}"
: "${QEMU_VHOST_BLK:=$guest_lib_dir/../../tools/qemu/qemu-vhost-blk}"
own_driver=/opt/virtio_blk.ko

need_guest()
{
	[ -n "${GUEST_KERNEL:-}" ] && [ -n "${GUEST_INITRD:-}" ] ||
		skip_all "GUEST_KERNEL and GUEST_INITRD name no guest"
	[ -e /dev/vhost-blk ] || modprobe vhost_blk || skip_all "no vhost_blk"
}

# guest_start QEMU_ARGUMENT...: one guest at a time, with two CPUs.
guest_start()
{
	"$MACHINE" start guest --kernel "$GUEST_KERNEL" --initrd "$GUEST_INITRD" \
		--qemu "$QEMU_VHOST_BLK" --boot-timeout "${GUEST_BOOT_LIMIT:-60}" -- "$@" ||
		bail "the guest doesn't boot"
}

# guest COMMAND: runs it in the guest, with its output and its status.
guest()
{
	"$MACHINE" run guest -t "${GUEST_LIMIT:-120}" "$*"
}

guest_has_no_reports()
{
	"$MACHINE" check guest
}

guest_stop()
{
	"$MACHINE" stop guest
}

# host_disk NODE PATH [OPTION...]: arguments of a host block device for QEMU.
host_disk()
{
	local node=$1 path=$2
	shift 2
	printf '%s\n' -blockdev "$(IFS=,; echo "driver=host_device,node-name=$node,filename=$path,cache.direct=on${*:+,$*}")"
}

# A fio job that writes and verifies half a disk of 64 MiB at random.
verify_job="fio --name=verify --rw=randwrite --bs=4k --iodepth=32 --direct=1 \
--ioengine=libaio --size=32M --verify=crc32c --verify_fatal=1 --do_verify=1 \
--randrepeat=0 --output-format=terse --minimal"
