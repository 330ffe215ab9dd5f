#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A guest boots from its disk by SeaBIOS and by OVMF (lib/boot.sh), with and without the legacy
# interface. And on QEMU's own device: what fails there as well is not the fault of
# vhost-blk-pci.
#
# Left out, since SeaBIOS takes them on no device, QEMU's own included: a disk with blocks
# of 4096 bytes, and disable-modern=on.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/guest.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_guest
. "$here/../lib/interoperability.sh"
. "$here/../lib/boot.sh"

need_boot_disk
boot_disk=$(make_nullb qemu_boot size=64)
dd if="$GUEST_DISK" of="$boot_disk" bs=1M oflag=direct status=none
mapfile -t drive < <(host_disk disk "$boot_disk")

boot_by_seabios vhost-blk-pci drive=disk
boot_by_seabios vhost-blk-pci drive=disk disable-legacy=on
boot_by_seabios virtio-blk-pci drive=disk
boot_by_ovmf vhost-blk-pci drive=disk
boot_by_ovmf vhost-blk-pci drive=disk disable-legacy=on
boot_by_ovmf virtio-blk-pci drive=disk

remove_nullb qemu_boot
tap_end
