#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A guest boots from vhost-blkd's disk by SeaBIOS and by OVMF: unmodified QEMUs. A firmware
# uses one queue of two, and ends that queue's use alone.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_user
. "$here/../lib/interoperability.sh"
. "$here/../lib/boot.sh"

need_boot_disk
new_disk boot size=64
boot_disk=${disk_path[boot]}
dd if="$GUEST_DISK" of="$boot_disk" bs=1M oflag=direct status=none
drive=(-chardev "socket,id=boot,path=$blkd_dir/boot,reconnect-ms=500")
start_daemon boot boot --num-queues=2

boot_by_both()
{
	boot_by_seabios vhost-user-blk-pci chardev=boot
	boot_by_ovmf vhost-user-blk-pci chardev=boot
}

on_each_qemu boot_by_both
tap_end
