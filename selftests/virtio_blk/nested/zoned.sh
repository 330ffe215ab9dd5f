#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Host-managed zoned disks: a zoned null_blk of this machine behind QEMU's virtio-blk-pci.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../lib/virtio_blk.sh"

need_plain_guest
zoned=$(make_nullb zoned size=64 zoned=1 zone_size=4 zone_nr_conv=2 zone_max_open=4 \
	zone_max_active=6) || skip_all "no zoned null_blk"
guest_start -blockdev "driver=host_device,node-name=zoned,filename=$zoned,cache.direct=on" \
	-device virtio-blk-pci,drive=zoned,serial=zoned

zone_tests()
{
	check "a disk with zones" attribute zoned queue/zoned host-managed
}

each_driver zone_tests
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
remove_nullb zoned
tap_end
