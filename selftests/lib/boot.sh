# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A guest boots from its disk: the firmware reads the boot loader, GRUB reads kernel and
# initramfs through the firmware, the kernel's driver takes the disk over. Sourced, after
# guest.sh and interoperability.sh.
#
# GUEST_DISK names a file with the disk's contents, which tools/testbed/images makes. The
# test puts it on "boot_disk", and has the arguments of the disk's back end for QEMU in the
# array "drive".

# shellcheck disable=SC2154 # what is in other files

boots_that_failed=0
seabios=bios-256k.bin
ovmf=/usr/share/ovmf/OVMF.fd

# A firmware uses one processor, and where it is emulated the other costs half as much again.
need_boot_disk()
{
	[ -r "${GUEST_DISK:-}" ] || skip_all "GUEST_DISK names no disk to boot from"
	guest_with --cpus 1
}

# With a queue more than the firmware uses. It waits for ever for a disk that does not
# answer: the limit ends it.
boots()
{
	guest_machine start --kernel "$GUEST_KERNEL" --initrd "$GUEST_INITRD" \
		"${guest_options[@]}" --boot-timeout "${GUEST_BOOT_LIMIT:-240}" \
		--firmware "$1" -- "${guest_arguments[@]}" "${drive[@]}" \
		-device "$2,num-queues=2,bootindex=0"
}

boot_loader_runs()
{
	echo "$boot_output"
	guest_machine log | grep -q 'GRUB loads the kernel'
}

kernel_is_loaded_by()
{
	echo "$boot_output"
	guest "cat /proc/cmdline; grep -q 'testbed_loader=grub-[^ ]*-$1' /proc/cmdline"
}

# What the guest reads from the disk is what the host has there. That is not GUEST_DISK
# any more: OVMF keeps its variables in a file, NvVars, if it has no flash memory.
guest_reads_the_same()
{
	local guest_sum host_sum
	guest_sum=$(guest "modprobe virtio_blk &&
		dd if=/dev/vda bs=1M count=4 status=none | sha256sum")
	host_sum=$(dd if="$boot_disk" bs=1M count=4 iflag=direct status=none | sha256sum)
	echo "the guest: $guest_sum, the host: $host_sum"
	test "$guest_sum" = "$host_sum"
}

# boot FIRMWARE FILE PLATFORM DEVICE BACKEND [PROPERTY]: PLATFORM is GRUB's, BACKEND the
# property that names the disk.
boot()
{
	local firmware=$1${6:+, $6} file=$2 platform=$3 device=$4 status
	boot_output=$(boots "$file" "$device,$5${6:+,$6}" 2>&1)
	status=$?
	works_on "$firmware" "$device" boot_loader_runs
	works_on "GRUB for $platform${6:+, $6}" "$device" kernel_is_loaded_by "$platform"
	if [ "$status" = 0 ]; then
		echo "# $(guest 'cat /sys/class/dmi/id/bios_version /proc/cmdline' | tr '\n' ' ')"
		ok "the kernel's driver reads the disk" guest_reads_the_same
		ok "the guest's kernel has nothing to complain of" guest_has_no_reports
		guest_stop
	elif ((++boots_that_failed > 1)); then
		# Each may take the whole limit of a boot.
		bail "two boots have failed"
	fi
}

boot_by_seabios()
{
	boot SeaBIOS "$seabios" i386-pc "$@"
}

# OVMF has a driver for each of the two interfaces, and the legacy one takes a device
# that offers both.
boot_by_ovmf()
{
	if [ ! -r "$ovmf" ]; then
		skip "OVMF" "there is no $ovmf (package ovmf)"
	elif [ "$(head -c 2 "$GUEST_KERNEL")" != MZ ]; then
		skip "OVMF" "the guest's kernel is no UEFI program (CONFIG_EFI_STUB)"
	else
		boot OVMF "$ovmf" x86_64-efi "$@"
	fi
}
