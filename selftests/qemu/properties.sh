#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What the properties of vhost-blk-pci say is what the guest gets: many disks of one
# guest, each with another property.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_qemu
trap 'guest_machine kill 2> /dev/null; remove_dm qemu_odd; remove_disks' EXIT
guest_with --memory 768M

new_disk default
vhost_disk default
new_disk read-only
vhost_disk read-only vhost-blk-pci read-only=on
new_disk cached cache_size=1
vhost_disk cached
new_disk through cache_size=1
vhost_disk through vhost-blk-pci,write-cache=off
new_disk uncached cache_size=1
vhost_disk uncached vhost-blk-pci,write-cache=off,config-wce=off
new_disk discards discard=1
vhost_disk discards
new_disk plain discard=1
vhost_disk plain vhost-blk-pci,discard=off,write-zeroes=off
new_disk blocks
vhost_disk blocks vhost-blk-pci,logical_block_size=4096,physical_block_size=8192
# Of 1999 sectors: a driver that took it for 2000 would fail at its end.
new_disk odd discard=1
disk_path[odd]=$(make_dm qemu_odd "0 1999 linear ${disk_path[odd]} 0") || skip_all "no device mapper"
vhost_disk odd vhost-blk-pci,logical_block_size=4096,physical_block_size=4096
new_disk limits discard=1
vhost_disk limits "vhost-blk-pci,min_io_size=8192,opt_io_size=65536,discard_granularity=65536,\
max-discard-sectors=2048"
new_disk small-ring
vhost_disk small-ring vhost-blk-pci,queue-size=16
new_disk fixed-seg-max
vhost_disk fixed-seg-max vhost-blk-pci,seg-max-adjust=off
new_disk no-features
vhost_disk no-features vhost-blk-pci,event_idx=off,indirect_desc=off
new_disk iommu
vhost_disk iommu vhost-blk-pci,iommu_platform=on,disable-legacy=on
new_disk legacy
vhost_disk legacy vhost-blk-pci,disable-modern=on,disable-legacy=off
new_disk transitional
vhost_disk transitional vhost-blk-pci-transitional
new_disk modern
vhost_disk modern vhost-blk-pci-non-transitional
new_disk intx
vhost_disk intx vhost-blk-pci,vectors=0
new_disk workers
vhost_disk workers vhost-blk-pci,num-queues=2,worker-per-virtqueue=on,poll-us=20
new_disk pinned
vhost_disk pinned vhost-blk-pci,num-queues=2,pin-memory=on
new_disk shared
vhost_disk shared vhost-blk-pci,share-rw=on
disk_path[shared-too]=${disk_path[shared]}
vhost_disk shared-too vhost-blk-pci,share-rw=on
new_disk from-fd
exec {vhostfd}<> /dev/vhost-blk
vhost_disk from-fd "vhost-blk-pci,vhostfd=$vhostfd"
new_disk over-raw
mapfile -t lower < <(host_disk lower "${disk_path[over-raw]}")
disks+=("${lower[@]}" -blockdev "driver=raw,node-name=over-raw,file=lower"
	-device "vhost-blk-pci,id=over-raw,drive=over-raw,serial=over-raw")
new_disk by-drive cache_size=1
disks+=(-drive "if=none,id=by-drive,format=raw,file=${disk_path[by-drive]},cache=directsync"
	-device "vhost-blk-pci,id=by-drive,drive=by-drive,serial=by-drive")

guest_start "${disks[@]}"
exec {vhostfd}>&-
ok "the driver loads" load_driver

# Bits of struct virtio_device.features.
flush=9 config_wce=11 discard=13 write_zeroes=14 indirect_desc=28 event_idx=29
version_1=32 access_platform=33

number_of_queues()
{
	equal "$(guest "ls /run/sys/$1/mq | wc -l")" "$2"
}

write_fails()
{
	fails guest "dd if=/dev/zero of=/run/disk/$1 bs=4k count=1 oflag=direct"
}

pci_id()
{
	equal "$(guest "cat \$(readlink -f /run/sys/$1/device)/../device")" "$2"
}

# A line of the guest's interrupts, without MSI.
interrupt_is_a_line()
{
	guest "grep -E 'IO-APIC|XT-PIC' /proc/interrupts | grep \$(basename \$(readlink -f /run/sys/$1/device))"
}

# The kernel's threads of a device have the process's number in their name.
number_of_workers()
{
	grep -l "^vhost-" "/proc/$(guest_machine pid)"/task/*/comm | wc -l
}

# All of the guest's memory, but not that of the firmware, in kB.
pins_memory()
{
	local pinned
	pinned=$(awk '/^VmPin:/ { print $2 }' "/proc/$(guest_machine pid)/status")
	echo "$pinned kB are pinned"
	((pinned >= 64 << 10))
}

ok "as many queues as the guest has processors" number_of_queues default 2
ok "serial" attribute default serial default
ok "read-only node: the disk is read-only" attribute read-only ro 1
ok "read-only node: a write fails" write_fails read-only
ok "a cache is shown" attribute cached queue/write_cache "write back"
ok "config-wce: the guest can choose" has_feature cached "$config_wce"
ok "config-wce: it chooses write through" guest "echo 'write through' > /run/sys/cached/cache_type"
ok "config-wce: write through it is" attribute cached cache_type "write through"
ok "write-cache=off: write through" attribute through queue/write_cache "write through"
ok "-drive cache=directsync: write through" attribute by-drive queue/write_cache "write through"
ok "write-cache=off: the guest can change it" \
	guest "echo 'write back' > /run/sys/through/cache_type"
ok "write-cache=off: now it is write back" attribute through cache_type "write back"
ok "config-wce=off: the guest can't choose" lacks_feature uncached "$config_wce"
ok "config-wce=off, write-cache=off: no flush" lacks_feature uncached "$flush"
ok "discard is offered" has_feature discards "$discard"
ok "discard=off: it is not" lacks_feature plain "$discard"
ok "write-zeroes=off: it is not" lacks_feature plain "$write_zeroes"
ok "logical_block_size" attribute blocks queue/logical_block_size 4096
ok "physical_block_size" attribute blocks queue/physical_block_size 8192
ok "logical_block_size: the longest discard is of whole blocks" \
	attribute odd queue/discard_max_hw_bytes $((4294967295 / 4096 * 4096))
ok "logical_block_size: discards are aligned to it" \
	attribute odd queue/discard_granularity 4096
ok "logical_block_size: the capacity is of whole blocks" attribute odd size 1992
ok "min_io_size" attribute limits queue/minimum_io_size 8192
ok "opt_io_size" attribute limits queue/optimal_io_size 65536
ok "discard_granularity" attribute limits queue/discard_granularity 65536
ok "max-discard-sectors" attribute limits queue/discard_max_bytes 1048576
ok "queue-size: segments fit into the ring" attribute small-ring queue/max_segments 14
ok "seg-max-adjust=off: 126 segments" attribute fixed-seg-max queue/max_segments 126
ok "seg-max-adjust: 254 segments" attribute default queue/max_segments 254
ok "event_idx=off" lacks_feature no-features "$event_idx"
ok "indirect_desc=off" lacks_feature no-features "$indirect_desc"
ok "iommu_platform=on" has_feature iommu "$access_platform"
ok "disable-modern=on: a legacy device" lacks_feature legacy "$version_1"
ok "transitional: a device number of before 1.0" pci_id transitional 0x1001
ok "non-transitional: a device number of 1.0" pci_id modern 0x1042
ok "vectors=0: an interrupt line" interrupt_is_a_line intx
ok "pin-memory: the guest's memory is pinned" pins_memory
ok "a worker each, and one more for worker-per-virtqueue" \
	equal "$(number_of_workers)" $((${#nullb_disks[@]} + 2))

for name in default cached limits through uncached plain blocks small-ring fixed-seg-max no-features \
	iommu legacy transitional modern intx workers pinned from-fd over-raw by-drive; do
	ok "$name: data is right" writes_and_verifies "$name" --bsrange=4k-64k
	ok "$name: and on the host's disk" same_data "$name"
done

same_disk()
{
	guest "dd if=/dev/urandom of=/tmp/mark bs=64k count=1 status=none
		dd if=/tmp/mark of=/run/disk/shared bs=64k oflag=direct status=none
		dd if=/run/disk/shared-too bs=64k count=1 iflag=direct status=none | cmp - /tmp/mark"
}

ok "share-rw=on: two devices have one disk" same_disk

# In the guest. legacy ADDRESS OFFSET BYTES...: to registers of the interface before virtio 1.0.
write_legacy()
{
	local base
	read -r base _ < "/sys/bus/pci/devices/$1/resource"
	printf '%b' "$3" | dd of=/dev/port bs=1 seek=$((base + $2)) conv=notrunc status=none
}

# in_guest COMMANDS: with the functions above.
in_guest()
{
	guest "$(declare -f write_legacy write_config); $*"
}

vhost_started()
{
	equal "$(qmp x-query-virtio-status '{"path": "/machine/peripheral/transitional/virtio-backend"}' |
		grep -o '"vhost-started": [a-z]*')" "\"vhost-started\": $1"
}

# The ring is zeroes below 1 MiB, which the guest's kernel leaves alone.
pfn=8 status=18
transitional=$(pci_device transitional)
ok "the driver gives a disk up" guest "echo $transitional > /sys/bus/pci/drivers/virtio-pci/unbind"
ok "bus mastering is off when DRIVER_OK is set" in_guest \
	"write_legacy $transitional $status '\x01'; write_legacy $transitional $status '\x03'
	write_legacy $transitional $pfn '\x70'; write_config $transitional 4 '\x03'
	write_legacy $transitional $status '\x07'"
ok "the device is not started" vhost_started false
ok "bus mastering is on, and DRIVER_OK set again" in_guest \
	"write_config $transitional 4 '\x07'; write_legacy $transitional $status '\x07'"
ok "the device is started" vhost_started true
ok "bus mastering is off again" in_guest "write_config $transitional 4 '\x03'"
ok "the device is stopped" vhost_started false
ok "the driver takes the disk again" guest "echo $transitional > /sys/bus/pci/drivers/virtio-pci/bind"
ok "the disks are found" find_disks
ok "then data is right" writes_and_verifies transitional

# Their interrupts are masked, moved and unmasked with them.
processor_goes_and_comes()
{
	guest "for i in 1 2 3 4 5; do
			echo 0 > /sys/devices/system/cpu/cpu1/online && sleep 0.3 &&
			echo 1 > /sys/devices/system/cpu/cpu1/online && sleep 0.3 || exit
		done"
}

for name in default intx; do
	ok "$name: fio writes and verifies" start_writer "$name"
	ok "$name: a processor goes and comes, five times" processor_goes_and_comes
	ok "$name: fio goes on" writer_goes_on "$name"
	ok "$name: all that it wrote was right" stop_writer "$name"
done

in_query_block()
{
	qmp query-block | tee /dev/stderr | grep -q '"node-name": "default"'
}

in_info_block()
{
	qmp human-monitor-command '{"command-line": "info block"}' |
		grep -F "default: ${disk_path[default]} (host_device)"
}

ok "query-block shows the disk" in_query_block
ok "info block shows the disk" in_info_block

# --- what would go past the kernel ---

ok "blockdev-add of a target" qmp blockdev-add \
	'{"driver": "null-co", "node-name": "target", "size": 67108864}'
in_use="host kernel serves|permission|conflict|in use"
ok "blockdev-backup is refused" qmp_refuses "$in_use" blockdev-backup \
	'{"job-id": "job", "device": "default", "target": "target", "sync": "full"}'
ok "blockdev-backup of the node below is refused" qmp_refuses "$in_use" blockdev-backup \
	'{"job-id": "job", "device": "lower", "target": "target", "sync": "full"}'
ok "blockdev-mirror is refused" qmp_refuses "$in_use" blockdev-mirror \
	'{"job-id": "job", "device": "default", "target": "target", "sync": "full"}'
ok "block-stream is refused" qmp_refuses "$in_use" block-stream \
	'{"job-id": "job", "device": "default"}'
ok "blockdev-snapshot-sync is refused" qmp_refuses "$in_use" blockdev-snapshot-sync \
	'{"node-name": "default", "snapshot-file": "/tmp/overlay", "format": "qcow2"}'
ok "blockdev-snapshot-internal-sync is refused" qmp_refuses "." \
	blockdev-snapshot-internal-sync '{"device": "default", "name": "snapshot"}'
ok "blockdev-del is refused" qmp_refuses "in use" blockdev-del '{"node-name": "default"}'
ok "another drive for the device is refused" qmp_refuses "." qom-set \
	'{"path": "/machine/peripheral/default/virtio-backend", "property": "drive", "value": "target"}'
ok "no job is left" eval "qmp query-jobs | grep -F '\"return\": []'"

throttling_is_taken_back()
{
	qmp block_set_io_throttle '{"id": "/machine/peripheral/default/virtio-backend",
		"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 10, "iops_rd": 0, "iops_wr": 0}' &&
		wait_until not_throttled &&
		qemu_log | grep "io.max"
}

not_throttled()
{
	! qmp query-block | grep -q '"iops": 10'
}

ok "I/O limits are taken back, with advice" throttling_is_taken_back
ok "and the disk still works" writes_and_verifies default

bitmap_is_removed()
{
	qmp block-dirty-bitmap-add "{\"node\": \"$1\", \"name\": \"bitmap\"}" &&
		wait_until bitmap_is_gone "$1" && qemu_log | grep "'bitmap' of '$1' is removed"
}

bitmap_is_gone()
{
	qmp_refuses "not found" block-dirty-bitmap-clear "{\"node\": \"$1\", \"name\": \"bitmap\"}"
}

for name in default lower over-raw; do
	ok "a dirty bitmap of $name is removed, with a message" bitmap_is_removed "$name"
done
ok "a read-only disk may have one" qmp block-dirty-bitmap-add \
	'{"node": "read-only", "name": "bitmap"}'

ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
