#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What ends in the middle of I/O leaves the other side clean: the guest's
# driver, the guest, QEMU.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/guest.sh"

need_guest
disk=$(make_nullb e2e_life size=64)

mapfile -t disks < <(host_disk disk "$disk")
guest_start "${disks[@]}" \
	-device vhost-blk-pci,drive=disk,num-queues=2,poll-us=50,worker-per-virtqueue=on

writer="fio --name=writer --filename=/dev/vda --rw=randwrite --bs=4k --iodepth=32 \
--direct=1 --ioengine=libaio --time_based --runtime=$((60 * LIMIT_FACTOR)) --size=64M --minimal"

# Returns when it writes.
start_writer()
{
	guest "rm -f /tmp/writer.status
		before=\$(awk '{ print \$5 }' /sys/block/vda/stat)
		($writer > /tmp/writer.log 2>&1; echo \$? > /tmp/writer.status) > /dev/null 2>&1 &
		for i in \$(seq $WAIT_TRIES); do
			[ \$(awk '{ print \$5 }' /sys/block/vda/stat) -le \$((before + 100)) ] || exit 0
			sleep 0.1
		done; cat /tmp/writer.log; exit 1"
}

unbind_under_fio()
{
	guest "cd /sys/bus/virtio/drivers/virtio_blk
		for device in virtio*; do echo \$device > unbind; done
		for i in \$(seq $WAIT_TRIES); do
			test -s /tmp/writer.status && break
			sleep 0.1
		done
		test \$(cat /tmp/writer.status) != 0"
}

written_sectors()
{
	awk '{ print $7 }' "/sys/block/${disk##*/}/stat"
}

no_write_after_the_end()
{
	local before
	before=$(written_sectors)
	sleep 1
	echo "sectors written: $before, a second later $(written_sectors)"
	test "$(written_sectors)" = "$before" &&
		test "$(tr -s ' ' < "/sys/block/${disk##*/}/inflight")" = " 0 0"
}

host_module_reloads()
{
	rmmod vhost_blk && ! grep -q ^vhost_blk /proc/modules && modprobe vhost_blk
}

ok "our driver loads" guest insmod "$own_driver"
ok "fio writes" start_writer
ok "unbinding the driver under fio fails fio, not the kernel" unbind_under_fio
ok "the driver unloads and loads again" \
	guest "rmmod virtio_blk && insmod $own_driver"
ok "and I/O works" guest "$verify_job" --filename=/dev/vda

ok "fio writes again" start_writer
ok "the guest reboots under fio" guest_machine reboot -t 300
ok "after the reboot I/O works" \
	guest "insmod $own_driver && $verify_job --filename=/dev/vda"
ok "the guest's kernel has nothing to complain of" guest_has_no_reports

ok "fio writes once more" start_writer
ok "QEMU is killed" guest_machine kill
ok "nothing is written after its end" no_write_after_the_end
ok "nobody holds the disk any more" wait_until mkfs.ext4 -q "$disk"
ok "vhost_blk unloads: no reference was leaked" host_module_reloads

remove_nullb e2e_life
tap_end
