#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Discard and write zeroes: what becomes of the data, on disks with and without. At the
# end a table of what tools say of all disks under either driver.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
add_disk discard virtio-blk-pci discard=unmap
add_disk none virtio-blk-pci,discard=off,write-zeroes=off discard=unmap
add_disk limited virtio-blk-pci,max-discard-sectors=128,max-write-zeroes-sectors=64,discard_granularity=4096 \
	discard=unmap
add_disk block4096 virtio-blk-pci,logical_block_size=4096,physical_block_size=4096 discard=unmap
add_disk topology virtio-blk-pci,physical_block_size=4096,min_io_size=8192,opt_io_size=65536 \
	discard=unmap
add_disk read-only virtio-blk-pci read-only=on
guest_start "${disks[@]}"
random=$work/random
# KiB that a file may have for the map of what it has.
slack=64
dd if=/dev/urandom of="$random" bs=1M count=16 status=none

# Random data again, known here and not cached there.
fill()
{
	dd if="$random" of="$work/$1" bs=1M conv=notrunc status=none
	guest "blockdev --flushbufs /run/disk/$1"
}

# zeroed NAME OFFSET LENGTH: in KiB; zeroes there, and what was there elsewhere, for the
# guest as well.
zeroed()
{
	local wanted
	wanted=$({
		head -c "$2K" "$random"
		head -c "$3K" /dev/zero
		tail -c +"$((($2 + $3) * 1024 + 1))" "$random"
	} | sha256sum)
	equal "$(sha256sum < "$work/$1")" "$wanted" && same_data "$1"
}

# KiB that the file has.
allocated()
{
	local blocks
	blocks=$(stat -c %b "$work/$1")
	echo $((blocks / 2))
}

# discards NAME COMMAND: how many requests the device got.
discards()
{
	guest "before=\$(awk '{ print \$12 }' /run/sys/$1/stat); $2 || exit
		awk -v before=\$before '{ print \$12 - before }' /run/sys/$1/stat"
}

fails_with()
{
	local output
	! output=$(guest "$2") && echo "$output" | grep -i "$1"
}

# range_is_gone NAME OFFSET LENGTH COMMAND: of a full disk; what was there is given back.
range_is_gone()
{
	fill "$1" && guest "$4" && zeroed "$1" "$2" "$3" &&
		echo "$(allocated "$1") KiB are allocated" && (($(allocated "$1") < 16384 - $3 + slack))
}

# range_is_zeroed: the same, but the room is still there.
range_is_zeroed()
{
	fill "$1" && guest "$4" && zeroed "$1" "$2" "$3" &&
		echo "$(allocated "$1") KiB are allocated" && (($(allocated "$1") >= 16384))
}

file_system_is_trimmed()
{
	local before
	guest "mkfs.ext4 -q -F -E nodiscard /run/disk/discard && mkdir -p /mnt &&
		mount -t ext4 /run/disk/discard /mnt &&
		dd if=/dev/urandom of=/mnt/kept bs=1M count=2 status=none &&
		dd if=/dev/urandom of=/mnt/removed bs=1M count=8 status=none &&
		sha256sum /mnt/kept > /tmp/sum && sync && rm /mnt/removed && sync" || return
	before=$(allocated discard)
	guest "fstrim /mnt" || return
	echo "allocated before: $before KiB, after: $(allocated discard) KiB"
	(($(allocated discard) <= before - 8192)) &&
		guest "umount /mnt && e2fsck -fn /run/disk/discard && mount -t ext4 /run/disk/discard /mnt &&
			sha256sum -c /tmp/sum && umount /mnt"
}

discard_tests()
{
	check "discard gives room back" \
		range_is_gone discard 1024 2048 "blkdiscard -o 1M -l 2M /run/disk/discard"
	check "discard of a disk with blocks of 4096 bytes" \
		range_is_gone block4096 1024 2048 "blkdiscard -o 1M -l 2M /run/disk/block4096"
	check "discard of all" range_is_gone discard 0 16384 "blkdiscard /run/disk/discard"
	check "discard in several requests" \
		range_is_gone limited 1024 2048 "blkdiscard -o 1M -l 2M /run/disk/limited"
	check "each as long as the device allows" \
		equal "$(discards limited "blkdiscard -o 1M -l 2M /run/disk/limited")" 32
	check "several ranges of a file system are discarded" file_system_is_trimmed
	check "write zeroes keeps the room" \
		range_is_zeroed discard 1024 2048 "blkdiscard -z -o 1M -l 2M /run/disk/discard"
	check "write zeroes of a disk with blocks of 4096 bytes" \
		range_is_zeroed block4096 1024 2048 "blkdiscard -z -o 1M -l 2M /run/disk/block4096"
	check "write zeroes in several requests" \
		range_is_zeroed limited 1024 2048 "blkdiscard -z -o 1M -l 2M /run/disk/limited"
	check "write zeroes that may unmap gives room back" range_is_gone discard 1024 2048 \
		"fallocate --punch-hole -o 1M -l 2M /run/disk/discard"
	check "a device without discard: it is refused" \
		fails_with "not supported" "blkdiscard /run/disk/none 2>&1"
	check "a device without write zeroes: zeroes are written" \
		range_is_zeroed none 1024 2048 "blkdiscard -z -o 1M -l 2M /run/disk/none"
	check "a device without write zeroes: a hole is refused" \
		fails_with unsupported "fallocate --punch-hole -o 1M -l 2M /run/disk/none 2>&1"
	check "a device without secure erase: it is refused" \
		fails_with "not supported" "blkdiscard -s /run/disk/discard 2>&1"
	check "a read-only disk is not discarded" fails_with . "blkdiscard /run/disk/read-only 2>&1"
	report > "$work/report.$driver"
}

# What tools and sysfs say, "DISK|WHAT|VALUE" a line. In sysfs what is not there is told
# by its name, too.
report()
{
	guest 'for name in $(ls /run/disk); do
			disk=$(readlink /run/disk/$name)
			for option in -D -t -z; do
				lsblk -dn $option $disk | sed "s/^[^ ]* *//; s/  */ /g; s/^/$name|lsblk $option|/"
			done
			for command in "blkdiscard -l 64k" "blkdiscard -z -l 64k" "blkdiscard -s -l 64k" \
				"blkdiscard -o 512 -l 1k"; do
				$command $disk > /tmp/output 2>&1
				echo "$name|$command|status $? $(sed "s/.*: //" /tmp/output | tr "\n" " ")"
			done
			cd $(readlink /run/sys/$name)
			for attribute in queue/* alignment_offset discard_alignment ro removable range size; do
				[ ! -f $attribute ] || echo "$name|$attribute|$(cat $attribute 2>&1)"
			done
		done'
}

# Side by side, without what is the same in sysfs.
show_table()
{
	awk -F '|' '
		function row(disk, what, ours, theirs) {
			printf "# %-10s %-24s %-44s %s\n", disk, what, ours, theirs
		}
		FNR == NR { ours[$1 "|" $2] = $3; next }
		FNR == 1 { row("disk", "tool or attribute", "ours", "in-tree") }
		$2 !~ /^(lsblk|blk)/ && ours[$1 "|" $2] == $3 { same++; next }
		{ row($1, $2, ours[$1 "|" $2], ours[$1 "|" $2] == $3 ? "the same" : $3) }
		END { print "# and " same " attributes of the disks and their queues that are the same" }' \
		"$work/report.ours" "$work/report.in-tree"
}

# same_report PATTERN [FILTER...]: of what matches and goes through the filter.
same_report()
{
	local pattern=$1 filter=("${@:2}")
	[ "${#filter[@]}" != 0 ] || filter=(cat)
	grep -qE "$pattern" "$work/report.ours" &&
		diff <(grep -E "$pattern" "$work/report.ours" | "${filter[@]}") \
			<(grep -E "$pattern" "$work/report.in-tree" | "${filter[@]}")
}

# Ours has a timeout, and its maxima are whole physical blocks.
without_known_differences()
{
	awk -F '|' -v OFS='|' '
		$2 == "queue/io_timeout" { next }
		$1 ~ /^(block4096|topology)$/ && $2 ~ /_max(_hw)?_bytes$/ { $3 -= $3 % 4096 }
		{ print }'
}

# What a driver shows depends on its kernel.
drivers=(ours in-tree)
each_driver discard_tests
show_table
for tool in 'lsblk -D' 'lsblk -t' 'lsblk -z' blkdiscard; do
	ok "$tool: the same with both drivers" same_report "\\|$tool"
done
ok "attributes: the same with both drivers, but io_timeout and maxima in whole blocks" \
	same_report '\|[^ ]*\|' without_known_differences
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
