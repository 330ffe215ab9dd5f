#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A disk's life in QEMU, under I/O that is verified: plugged in and out, reset, stopped and
# continued, resized, with a backing device that fails.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_qemu
new_disk stays cache_size=1
vhost_disk stays vhost-blk-pci,num-queues=2
new_disk through cache_size=1
vhost_disk through vhost-blk-pci,write-cache=off
new_disk grows size=128
need_modules dm_mod dm_flakey || skip_all "no device mapper"
grown=${disk_path[grows]}
disk_path[grows]=$(make_dm qemu_grows "0 131072 linear $grown 0")
vhost_disk grows
new_disk fails cache_size=1
failing=${disk_path[fails]}
disk_path[fails]=$(make_flakey qemu_fails "$failing")
vhost_disk fails
new_disk plugged
trap 'rm -f $refuse; guest_machine kill 2> /dev/null; remove_dm qemu_grows; remove_flakey qemu_fails; remove_disks' EXIT

refuse=/run/qemu-refuse-stop
export VHOST_BLK_REFUSE_STOP=$refuse
share_guest_memory 512
LD_PRELOAD=$here/faults.so guest_start "${disks[@]}"
ok "the driver loads" load_driver
ok "vhost-blk-stat shows a disk by the id of its device" eval \
	'"$here/../../tools/vhost-blk-stat" -i 0.1 -n 1 | grep -F " stays)"'

# --- plugged in and out ---

plug()
{
	local node
	mapfile -t node < <(host_disk plugged "${disk_path[plugged]}")
	qmp blockdev-add "{\"driver\": \"host_device\", \"node-name\": \"plugged\",
			\"filename\": \"${disk_path[plugged]}\", \"cache\": {\"direct\": true}}" &&
		qmp device_add '{"driver": "vhost-blk-pci", "id": "plugged", "drive": "plugged",
			"serial": "plugged", "num-queues": 2, "worker-per-virtqueue": true}' &&
		wait_until finds plugged
}

unplug()
{
	qmp device_del '{"id": "plugged"}' && wait_until node_is_free
}

node_is_free()
{
	qmp blockdev-del '{"node-name": "plugged"}' > /dev/null
}

# QEMU's own threads come and go.
nothing_leaked()
{
	wait_until has_no_more_than_before
	echo "before: $files files, $threads threads, now: $(qemu_files) files, $(qemu_threads) threads"
	has_no_more_than_before
}

has_no_more_than_before()
{
	[ "$(qemu_files)" -le "$files" ] && [ "$(qemu_threads)" -le "$threads" ]
}

ok "a disk is plugged in and out under fio" plug_and_unplug 1 1
files=$(qemu_files) threads=$(qemu_threads)
ok "plugged in and out under fio, 9 times" plug_and_unplug 2 10
ok "QEMU has no more files and threads than before" nothing_leaked
ok "the kernel let the disk go" wait_until mkfs.ext4 -q "${disk_path[plugged]}"

# --- stopped and continued ---

# Of a disk that fio asks for none, or nobody.
stop_flushes()
{
	local before after
	before=$(flushes "$1")
	qmp stop && after=$(flushes "$1") && qmp cont && echo "$before flushes, then $after" &&
		[ "$after" -gt "$before" ]
}

flushes()
{
	awk '{ print $16 }' "$(sysfs_of "${disk_path[$1]}")/stat"
}

ok "fio writes and verifies" start_writer stays
ok "a stop flushes the disk's cache" stop_flushes stays
ok "write back it is again" attribute stays cache_type "write back"
ok "stopped and continued 5 times under fio" stop_and_continue stays 5
ok "all that fio wrote was right" stop_writer stays
ok "guest and host see the same" same_data stays

# A driver that does not choose the cache mode writes back, whatever write-cache= says.
ok "write-cache=off: a stop flushes the disk's cache" stop_flushes through
ok "its driver gives the disk up" driver_leaves through
ok "a stop flushes the cache of a disk without a driver" stop_flushes through
ok "the driver takes the disk again" driver_returns through
ok "then data is right" writes_and_verifies through

# The kernel goes on though it was told to stop, and so does the guest when the cause is gone.
refused_stop()
{
	touch "$refuse" && qmp stop && rm "$refuse" &&
		qemu_log | grep 'the kernel does not stop the rings' && qmp cont
}

ok "fio writes and verifies" start_writer stays
ok "the kernel refuses to stop" refused_stop
ok "fio goes on" writer_goes_on stays
ok "stop and cont work again" stop_and_continue stays 2
ok "all that fio wrote was right" stop_writer stays
ok "guest and host see the same" same_data stays

# --- resized ---

grow()
{
	reload_dm qemu_grows "0 $1 linear $grown 0"
}

resize_by_command()
{
	grow 196608 && qmp block_resize '{"node-name": "grows", "size": 100663296}' &&
		wait_until has_sectors grows 196608
}

ok "a file system is mounted" guest "mkfs.ext4 -q /run/disk/grows && mkdir -p /mnt &&
	mount -t ext4 /run/disk/grows /mnt && cp /bin/busybox /mnt"
ok "the block device grows: the guest sees it" grow 163840
ok "after a second at most" wait_until has_sectors grows 163840
ok "block_resize: the guest sees it" resize_by_command
ok "block_resize to another size than the device's is refused" \
	qmp_refuses . block_resize '{"node-name": "grows", "size": 536870912}'
ok "what was written is right" guest "cp /bin/busybox /mnt/again && umount /mnt &&
	mount -t ext4 /run/disk/grows /mnt && cmp /mnt/busybox /bin/busybox &&
	cmp /mnt/again /bin/busybox && umount /mnt"
ok "the new end of the disk is written" writes_and_verifies grows --offset=88M

# --- query-blockstats ---

# blockstat NAME FIELD
blockstat()
{
	qmp query-blockstats |
		jq -r ".return[] | select(.qdev == \"/machine/peripheral/$1/virtio-backend\").stats.$2"
}

# stats_grow NAME FIELD N FIELD N COMMAND: by so much, when the guest has run it.
stats_grow()
{
	local name=$1 operations bytes
	# They are of a second ago.
	sleep $((1 + LIMIT_FACTOR))
	operations=$(($(blockstat "$name" "$2") + $3))
	bytes=$(($(blockstat "$name" "$4") + $5))
	guest "$6"
	wait_until stats_are "$name" "$2" "$operations" "$4" "$bytes" || {
		qmp query-blockstats
		return 1
	}
}

stats_are()
{
	[ "$(blockstat "$1" "$2")" = "$3" ] && [ "$(blockstat "$1" "$4")" = "$5" ]
}

on_fails="/run/disk/fails bs=4k count=10 status=none"
ok "query-blockstats counts writes" stats_grow fails wr_operations 10 wr_bytes 40960 \
	"dd if=/dev/zero of=$on_fails oflag=direct"
ok "and reads" stats_grow fails rd_operations 10 rd_bytes 40960 \
	"dd if=$on_fails of=/dev/null iflag=direct"

# --- a backing device that fails ---

ok "the block device fails: so do the guest's requests" flakey_down qemu_fails
ok "writes fail in the guest" guest "! dd if=/dev/zero of=/run/disk/fails bs=4k count=1 oflag=direct"
ok "reads fail in the guest" guest "! dd if=/run/disk/fails of=/dev/null bs=4k count=1 iflag=direct"
ok "the guest asks for write through, and the flush fails" \
	guest "echo 'write through' > /run/sys/fails/cache_type"
ok "write back it stays" attribute fails cache_type "write back"
ok "query-blockstats counts failed reads and writes" stats_grow fails failed_rd_operations 1 \
	failed_wr_operations 1 "dd if=$on_fails of=/dev/null iflag=direct
		dd if=/dev/zero of=$on_fails oflag=direct"
ok "it is well again" flakey_up qemu_fails
ok "so is the disk in the guest" writes_and_verifies fails

# --- a ring that makes no sense ---

# The kernel looks at the ring when it is started: more is available than fits.
break_ring()
{
	local status
	qmp stop && status=$(queue_status grows) &&
		write_16 $(($(field vring-avail <<< "$status") + 2)) \
			$(($(field last-avail-idx <<< "$status") + 1000)) && qmp cont
}

says_ring_error()
{
	qemu_log | grep 'ring error in queue 0: the driver has to reset the device'
}

was_reset()
{
	[ "$(sysfs grows recovery/device_resets)" = 1 ]
}

ok "the driver may reset a disk once" guest "echo 1 > /run/sys/grows/recovery/attempts"
ok "a ring breaks" break_ring
ok "QEMU says so" wait_until says_ring_error
ok "the driver is told, and resets the device" wait_until was_reset
ok "then data is right" writes_and_verifies grows

# --- reset ---

reset_while_stopped()
{
	qmp set-action '{"reboot": "reset"}' && qmp stop && qmp system_reset && qmp cont &&
		comes_back
}

ok "fio writes" start_writer stays
ok "system_reset under fio" reset
ok "then data is right" writes_and_verifies stays
ok "guest and host see the same" same_data stays
ok "fio writes again" start_writer stays
ok "system_reset while stopped" reset_while_stopped
ok "then data is right" writes_and_verifies stays

ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
