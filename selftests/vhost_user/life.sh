#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A disk's life on vhost-blkd, in QEMUs that know nothing of it: data on both sides, with
# both guest drivers and on two queues, read-only, the cache mode, plugged in and out,
# resized (also while the guest is stopped, and while no daemon runs), stopped and
# continued, with memory plugged in, reset.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_user
new_disk stays cache_size=1
new_disk fixed
new_disk plugged
new_disk grows size=128
need_modules dm_mod || skip_all "no device mapper"
whole=${disk_path[grows]}
disk_path[grows]=$(make_dm vhost_user_grows "0 131072 linear $whole 0")
trap 'guest_machine kill 2> /dev/null; kill_daemons; remove_dm vhost_user_grows
	end_vmms' EXIT
guest_with --memory 256M,slots=2,maxmem=1G
start_daemon stays stays --num-queues=2
start_daemon fixed fixed --num-queues=2 --read-only
start_daemon plugged plugged --num-queues=2
start_daemon grows grows --num-queues=2

user_disk stays
user_disk fixed
user_disk grows

in_tree_driver()
{
	guest modprobe virtio_blk && find_disks && writes_and_verifies stays &&
		same_data stays && guest rmmod virtio_blk
}

# queue_interrupts NAME QUEUE: of a disk's queue, on both processors.
queue_interrupts()
{
	local device
	device=$(guest "basename \$(readlink -f /run/sys/$1/device)")
	guest cat /proc/interrupts |
		awk -v name="$device-req.$2" '$NF == name { print $2 + $3 }'
}

both_queues_work()
{
	local before0 before1
	before0=$(queue_interrupts stays 0)
	before1=$(queue_interrupts stays 1)
	guest "fio --name=queues --filename=/run/disk/stays --rw=randread --bs=4k --direct=1 \
		--ioengine=libaio --iodepth=8 --size=8M --numjobs=2 \
		--cpus_allowed=0,1 --cpus_allowed_policy=split --minimal" || return
	echo "before: $before0 and $before1," \
		"now: $(queue_interrupts stays 0) and $(queue_interrupts stays 1)"
	(($(queue_interrupts stays 0) > before0 && $(queue_interrupts stays 1) > before1))
}

cannot_be_written()
{
	attribute fixed ro 1 && guest "dd if=/run/disk/fixed of=/dev/null bs=1M count=4 &&
		! dd if=/dev/zero of=/run/disk/fixed bs=4k count=1 oflag=direct"
}

set_cache()
{
	guest "echo '$1' > /run/sys/stays/cache_type" && attribute stays cache_type "$1"
}

# --- plugged in and out ---

plug()
{
	qmp chardev-add "{\"id\": \"plugged\", \"backend\": {\"type\": \"socket\", \"data\":
			{\"server\": false, \"reconnect-ms\": 500, \"addr\": {\"type\": \"unix\",
			\"data\": {\"path\": \"$blkd_dir/plugged\"}}}}}" &&
		qmp device_add '{"driver": "vhost-user-blk-pci", "id": "plugged",
			"chardev": "plugged", "num-queues": 2}' && wait_until finds plugged
}

unplug()
{
	qmp device_del '{"id": "plugged"}' && wait_until chardev_is_free
}

chardev_is_free()
{
	qmp chardev-remove '{"id": "plugged"}' > /dev/null
}

# --- the other changes ---

grow()
{
	reload_dm vhost_user_grows "0 163840 linear $whole 0" &&
		wait_until has_sectors grows 163840
}

# QEMU ignores the daemon's message while no driver is loaded. The kernel notices a new
# size within a second.
grow_without_driver()
{
	reload_dm vhost_user_grows "0 147456 linear $whole 0" && sleep 3
}

# QEMU ignores the daemon's message while the guest is stopped, too.
grow_while_stopped()
{
	qmp stop > /dev/null && reload_dm vhost_user_grows "0 196608 linear $whole 0" &&
		sleep 3 && qmp cont > /dev/null && wait_until has_sectors grows 196608
}

grow_without_daemon()
{
	kill_daemon grows && reload_dm vhost_user_grows "0 229376 linear $whole 0" &&
		start_daemon grows grows --num-queues=2 &&
		wait_until has_sectors grows 229376
}

ends_in_order()
{
	! daemon_has_ended "$1" && kill_daemon "$1" TERM
}

life()
{
	local name
	reload_dm vhost_user_grows "0 131072 linear $whole 0"
	guest_start "${disks[@]}"
	check "the in-tree driver writes what the host finds" in_tree_driver
	check "the block device grows while no driver is loaded" grow_without_driver
	check "our driver loads" load_driver
	check "the guest sees the new size" wait_until has_sectors grows 147456
	check "our driver writes and verifies" writes_and_verifies stays
	check "guest and host see the same" same_data stays
	check "both queues carry I/O" both_queues_work
	check "a read-only disk can be read and not written" cannot_be_written
	check "the guest switches to write through" set_cache "write through"
	check "data is right then" writes_and_verifies stays
	check "and back to write back" set_cache "write back"
	check "a disk is plugged in and out under fio, 3 times" plug_and_unplug 1 3
	check "fio writes and verifies" start_writer stays
	check "the block device grows: the guest sees it" grow
	check "the new end of the disk is written" writes_and_verifies grows --offset=68M
	check "the guest sees what has grown while it was stopped" grow_while_stopped
	check "the guest sees what has grown while no daemon ran" grow_without_daemon
	check "the new end of the disk is written" writes_and_verifies grows --offset=100M
	check "stopped and continued 5 times under fio" stop_and_continue stays 5
	check "memory is plugged in under fio" plug_memory memory-backend-memfd ', "share": true'
	check "fio goes on" writer_goes_on stays
	check "all that fio wrote was right" stop_writer stays
	check "guest and host see the same" same_data stays
	check "the disk reads and writes the new memory" uses_all_memory grows
	check "fio writes again" start_writer stays
	check "system_reset under fio" reset
	check "then data is right" writes_and_verifies stays
	check "guest and host see the same" same_data stays
	check "the guest's kernel has nothing to complain of" guest_has_no_reports
	guest_stop
}

# The newer QEMU takes minutes more.
if [ -n "${EVERY_QEMU:-}" ]; then
	on_each_qemu life
else
	use_qemu "$QEMU"
	life
fi
for name in stays fixed plugged grows; do
	ok "the daemon of $name ends when it is told to, not before" ends_in_order "$name"
done
ok "nobody holds the disk any more" wait_until mkfs.ext4 -q "${disk_path[stays]}"
tap_end
