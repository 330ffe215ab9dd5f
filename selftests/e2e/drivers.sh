#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Neither module depends on the other: the in-tree virtio_blk works on our
# backend, and our virtio_blk on QEMU's own virtio-blk-pci. All four combinations,
# and on the host's block device is what the guest reads.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/guest.sh"

need_guest
disk=$(make_nullb e2e_disk size=16)
read_only=$(make_nullb e2e_ro size=16)
image=$(mktemp)
truncate -s 16M "$image"

mapfile -t disks < <(host_disk disk "$disk"; host_disk ro "$read_only" read-only=on)
guest_start "${disks[@]}" -object iothread,id=io \
	-blockdev "driver=file,node-name=image,filename=$image" \
	-device vhost-blk-pci,drive=disk,num-queues=2 \
	-device virtio-blk-pci,drive=image,num-queues=2,iothread=io,serial=image \
	-device vhost-blk-pci,drive=ro

. "$here/../lib/interoperability.sh"
guest_kernel=$(short_release "$(guest uname -r)")
in_tree="in-tree virtio_blk of $guest_kernel"
ours="our virtio_blk on $guest_kernel"

resize()
{
	guest_machine monitor '{"execute": "block_resize",
		"arguments": {"node-name": "image", "size": 100663296}}' || return
	guest "for i in \$(seq $WAIT_TRIES); do
			test \$(blockdev --getsize64 /dev/vdb) = 100663296 && exit 0
			sleep 0.1
		done; dmesg | tail; exit 1"
}

ok "the in-tree driver loads" guest modprobe virtio_blk
works_on "$in_tree" vhost-blk-pci guest "$verify_job" --filename=/dev/vda
works_on "$in_tree" virtio-blk-pci guest "$verify_job" --filename=/dev/vdb
ok "the in-tree driver reads the serial of vhost-blk-pci" guest cat /sys/block/vda/serial
ok "the in-tree driver unloads" guest rmmod virtio_blk

ok "our driver loads" guest insmod "$own_driver"
works_on "$ours" vhost-blk-pci guest "$verify_job" --filename=/dev/vda
works_on "$ours" virtio-blk-pci guest "$verify_job" --filename=/dev/vdb
guest_sum=$(guest "dd if=/dev/vda bs=1M iflag=direct status=none | sha256sum")
ok "and the backing device has what it wrote" \
	equal "$(dd if="$disk" bs=1M iflag=direct status=none | sha256sum)" "$guest_sum"
ok "our driver reads the serial of virtio-blk-pci" \
	guest "test \$(cat /sys/block/vdb/serial) = image"
ok "our driver sees the disk grow" resize
ok "a read-only node makes a read-only disk" guest "test \$(cat /sys/block/vdc/ro) = 1"
ok "which can be read" guest "dd if=/dev/vdc of=/dev/null bs=1M count=4"
ok "but not written" guest "! dd if=/dev/zero of=/dev/vdc bs=4k count=1 oflag=direct"
ok "our driver unloads" guest rmmod virtio_blk
ok "and loads again" guest "insmod $own_driver && dd if=/dev/vda of=/dev/null bs=1M count=4"
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop

rm "$image"
remove_nullb e2e_disk
remove_nullb e2e_ro
tap_end
