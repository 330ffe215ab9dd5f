#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a disk shows of itself: serial number, geometry, topology, cache mode, whether it
# can be written, its size; and what becomes of it when that is changed.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir

long_serial=abcdefghij0123456789
add_disk "$long_serial" virtio-blk-pci
add_disk geometry virtio-blk-pci,cyls=500,heads=7,secs=33
add_disk topology virtio-blk-pci,physical_block_size=4096,min_io_size=8192,opt_io_size=65536
add_disk read-only virtio-blk-pci read-only=on
add_disk cache virtio-blk-pci,write-cache=on
add_disk fixed-cache virtio-blk-pci,write-cache=on,config-wce=off
add_disk no-cache virtio-blk-pci,write-cache=off,config-wce=off
# As for machine types up to 4.2.
add_disk no-flush virtio-blk-pci,write-cache=off,x-enable-wce-if-config-wce=off
add_disk grows virtio-blk-pci
truncate -s 16M "$work/unnamed"
guest_start "${disks[@]}" -blockdev "driver=file,node-name=unnamed,filename=$work/unnamed" \
	-device virtio-blk-pci,drive=unnamed

serials()
{
	guest 'for disk in /sys/block/vd*; do echo "$(cat $disk/serial)"; done'
}

all_serials()
{
	equal "$(serials | sort)" "$(printf '%s\n' "$long_serial" geometry topology read-only \
		cache fixed-cache no-cache no-flush grows "" | sort)"
}

geometry_is()
{
	equal "$(guest "/opt/geometry /run/disk/$1")" "$2"
}

topology_is()
{
	equal "$(guest "cd /run/sys/topology/queue
		cat logical_block_size physical_block_size minimum_io_size optimal_io_size" | tr '\n' ' ')" \
		"$1"
}

# Nothing of it, and what is read is what the file has.
cannot_be_written()
{
	local before
	before=$(sha256sum < "$work/read-only")
	guest "! dd if=/dev/urandom of=/run/disk/read-only bs=4k count=1 oflag=direct" &&
		equal "$(sha256sum < "$work/read-only")" "$before"
}

# cache_mode NAME MODE SHOWN_BY_QUEUE: for the block layer, too.
cache_mode()
{
	attribute "$1" cache_type "$2" && attribute "$1" queue/write_cache "$2"
}

set_cache_mode()
{
	guest "echo '$2' > /run/sys/$1/cache_type"
}

# flushes NAME: how many the device was asked for, with one fsync.
flushes_of_fsync()
{
	guest "before=\$(awk '{ print \$16 }' /run/sys/$1/stat)
		dd if=/dev/urandom of=/run/disk/$1 bs=4k count=1 conv=fsync status=none || exit
		awk -v before=\$before '{ print \$16 - before }' /run/sys/$1/stat"
}

# flushes_of_switch NAME MODE: how many the device was asked for as the mode was chosen, after a
# write that nobody has synced.
flushes_of_switch()
{
	guest "dd if=/dev/urandom of=/run/disk/$1 bs=4k count=1 oflag=direct status=none
		before=\$(awk '{ print \$16 }' /run/sys/$1/stat)
		echo '$2' > /run/sys/$1/cache_type || exit
		awk -v before=\$before '{ print \$16 - before }' /run/sys/$1/stat"
}

no_lifetime()
{
	guest "! ls /run/sys/geometry/life_time /run/sys/geometry/pre_eol_info"
}

cache_tests()
{
	check "a cache is shown" cache_mode cache "write back"
	check "fsync flushes it" equal "$(flushes_of_fsync cache)" 1
	check "write through can be chosen" set_cache_mode cache "write through"
	check "which is shown" cache_mode cache "write through"
	check "then fsync flushes nothing" equal "$(flushes_of_fsync cache)" 0
	check "and data is right" data_is_right cache
	check "write back can be chosen" set_cache_mode cache "write back"
	check "which is shown" cache_mode cache "write back"
	check "then fsync flushes" equal "$(flushes_of_fsync cache)" 1
	check "and data is right" data_is_right cache
	check "a device without the feature of flushes" lacks_feature no-flush 9
	check "it has no cache" cache_mode no-flush "write through"
	check "but can be given one" set_cache_mode no-flush "write back"
	check "which is shown" cache_mode no-flush "write back"
	check "then fsync flushes" equal "$(flushes_of_fsync no-flush)" 1
	check "it can be taken back" set_cache_mode no-flush "write through"
	check "then fsync flushes nothing" equal "$(flushes_of_fsync no-flush)" 0
	# The in-tree driver does not.
	if [ "$driver" = ours ]; then
		check "the switch to write through flushes what was written" \
			equal "$(flushes_of_switch cache "write through")" 1
		check "the switch to write back has nothing to flush" \
			equal "$(flushes_of_switch cache "write back")" 0
		check "the queue is told to flush nothing" \
			guest "echo 'write through' > /run/sys/cache/queue/write_cache"
		check "then fsync flushes nothing" equal "$(flushes_of_fsync cache)" 0
		check "the switch to write through flushes nevertheless" \
			equal "$(flushes_of_switch cache "write through")" 1
		check "write back can be chosen" set_cache_mode cache "write back"
		check "and the queue flushes again" equal "$(flushes_of_fsync cache)" 1
	fi
	check "anything else is refused" fails set_cache_mode cache "write nothing"
	check "a fixed cache is shown" cache_mode fixed-cache "write back"
	check "which can't be changed" fails set_cache_mode fixed-cache "write through"
	check "a fixed cache is flushed" equal "$(flushes_of_fsync fixed-cache)" 1
	check "a disk without cache is write through" cache_mode no-cache "write through"
	check "and isn't flushed" equal "$(flushes_of_fsync no-cache)" 0
	check "data on it is right" data_is_right no-cache
}

# resize MIBIBYTES
resize()
{
	guest_machine monitor "{\"execute\": \"block_resize\", \"arguments\":
		{\"node-name\": \"grows\", \"size\": $(($1 << 20))}}"
}

# has_size MIBIBYTES: soon.
has_size()
{
	guest "for i in \$(seq $WAIT_TRIES); do
			[ \$(blockdev --getsize64 /run/disk/grows) != $(($1 << 20)) ] || exit 0
			sleep 0.1
		done; exit 1"
}

make_file_system()
{
	guest "mkfs.ext4 -q -F /run/disk/grows && mkdir -p /mnt && mount -t ext4 /run/disk/grows /mnt &&
		dd if=/dev/urandom of=/mnt/file bs=1M count=4 status=none && sync &&
		sha256sum /mnt/file > /tmp/sum"
}

# Writes each event that the kernel reports to a file, in the background.
listen_to_events()
{
	guest "rm -f /tmp/events; (busybox uevent sh -c 'env >> /tmp/events' > /dev/null 2>&1 &); sleep $LIMIT_FACTOR"
}

event_was_sent()
{
	guest "for i in \$(seq $WAIT_TRIES); do
			! grep -qx RESIZE=1 /tmp/events || exit 0
			sleep 0.1
		done; cat /tmp/events; exit 1"
}

stop_listening()
{
	guest "killall busybox"
}

# Read from the medium.
file_is_right()
{
	guest "echo 3 > /proc/sys/vm/drop_caches; sha256sum -c /tmp/sum"
}

# The last 8 MiB, which were not there before.
new_part_is_right()
{
	guest "dd if=/dev/urandom of=/tmp/new bs=1M count=8 status=none &&
		dd if=/tmp/new of=/run/disk/grows bs=1M seek=16 oflag=direct status=none" &&
		equal "$(tail -c 8M "$work/grows" | sha256sum)" "$(guest "sha256sum < /tmp/new")"
}

resize_tests()
{
	check "a file system is mounted" make_file_system
	listen_to_events
	check "the device grows to 24 MiB" resize 24
	check "the disk has that size" has_size 24
	check "an event says so" event_was_sent
	check "the kernel log says so" guest "dmesg | grep 'new size: 49152 '"
	stop_listening
	check "what was there is right" file_is_right
	check "what is new can be used" new_part_is_right
	check "the file system is intact" guest "umount /mnt && e2fsck -fn /run/disk/grows"
	check "the device shrinks to 16 MiB" resize 16
	check "the disk has that size" has_size 16
	check "beyond it nothing is read" \
		guest "! dd if=/run/disk/grows bs=1M skip=16 count=1 iflag=direct | grep -q ."
}

attribute_tests()
{
	check "serial numbers, of 20 characters, shorter and none" all_serials
	check "geometry of the device" geometry_is geometry "500 7 33"
	check "topology" topology_is "512 4096 8192 65536 "
	check "no lifetime of a device that tells none" no_lifetime
	check "a read-only disk is one" attribute read-only ro 1
	check "others are not" attribute cache ro 0
	check "a read-only disk is read" same_data read-only
	check "but not written" cannot_be_written
	cache_tests
	resize_tests
}

# What a read-only disk has to show.
dd if=/dev/urandom of="$work/read-only" bs=1M count=16 conv=notrunc status=none
each_driver attribute_tests
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
