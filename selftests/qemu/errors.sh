#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a user can get wrong with -device vhost-blk-pci: QEMU ends, says what is
# wrong and what to do, and nothing on the host is worse for it. What QEMU finds without
# the kernel is tested once.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"

: "${QEMU_VHOST_BLK:=$here/../../tools/qemu/qemu-vhost-blk}"
need_vhost_blk
"$QEMU_VHOST_BLK" --version > /dev/null || skip_all "no QEMU with vhost-blk-pci"

work=$(mktemp -d)
trap '! mountpoint -q "$work/mnt" || umount "$work/mnt"; rm -rf "$work"' EXIT
chmod 755 "$work"
# Others may have guests on this host.
references=$(cat /sys/module/vhost_blk/refcnt)
disk=$(make_nullb qemu_disk size=64)
node=driver=host_device,node-name=disk,filename=$disk,cache.direct=on

# A machine that would wait to be started.
qemu=("$QEMU_VHOST_BLK" -machine pc -nodefaults -no-user-config -display none -S
	-m 64)
accel=(-accel kvm -accel tcg)

# refused PATTERN ARGUMENT...: QEMU fails with a message that matches.
refused()
{
	ends_with 1 "$1" timeout $((120 * LIMIT_FACTOR)) "${qemu[@]}" "${accel[@]}" "${@:2}"
}

# With a disk that is good, so that only the property is not.
property_refused()
{
	refused "$1" -blockdev "$node" -device "vhost-blk-pci,drive=disk,$2"
}

ok_once "without a drive" refused "'drive' is not set: .*host_device" \
	-device vhost-blk-pci
ok_once "with a drive that does not exist" refused "nothing" \
	-device vhost-blk-pci,drive=nothing

qemu-img create -q -f qcow2 "$work/image.qcow2" 16M
ok_once "with a qcow2 node" refused "'drive'.*qcow2.*host_device" \
	-blockdev "driver=qcow2,node-name=q,file.driver=file,file.filename=$work/image.qcow2" \
	-device vhost-blk-pci,drive=q
truncate -s 16M "$work/image.raw"
ok_once "with a regular file" refused "'drive'.*driver=file.*host_device" \
	-blockdev "driver=file,node-name=f,filename=$work/image.raw" \
	-device vhost-blk-pci,drive=f

ok_once "with num-queues=0" property_refused "'num-queues': 0 .*between 1 and 256" num-queues=0
ok_once "with num-queues beyond the limit" \
	property_refused "'num-queues': 257 .*between 1 and 256" num-queues=257
ok_once "with a queue-size that is no power of two" \
	property_refused "'queue-size': 100 .*power of two" queue-size=100
ok_once "with a queue-size beyond the limit" \
	property_refused "'queue-size': 2048 .*between 4 and 1024" queue-size=2048
ok "with pin-memory and virtio-mem" refused "'pin-memory': .*virtio-mem" -m 64,maxmem=1G,slots=1 \
	-object memory-backend-ram,id=more,size=64M -device virtio-mem-pci,memdev=more \
	-blockdev "$node" -device vhost-blk-pci,drive=disk,pin-memory=on
ok_once "with a serial that is too long" \
	property_refused "'serial'.*longer than 20" serial=123456789012345678901

ok_once "with packed=on" property_refused "'packed'.*leave it off" packed=on
ok_once "with in_order=on" property_refused "'in_order'.*leave it off" in_order=on
ok_once "with a logical_block_size that is no power of two" property_refused "power of 2" \
	logical_block_size=1000
ok "with a physical_block_size below the logical one" \
	property_refused "'physical_block_size': 512 .*4096" \
	logical_block_size=4096,physical_block_size=512
ok_once "with a min_io_size of no whole blocks" property_refused "'min_io_size': 1000 is no multiple" \
	min_io_size=1000
ok_once "with a discard_granularity of no whole blocks" \
	property_refused "'discard_granularity': 1000 is no multiple" discard_granularity=1000
disk4096=$(make_nullb qemu_blocks size=64 blocksize=4096 discard=1)
ok "with a logical_block_size below the device's" \
	refused "'logical_block_size': 512 is less than the 4096 bytes" \
	-blockdev "driver=host_device,node-name=disk,filename=$disk4096,cache.direct=on" \
	-device vhost-blk-pci,drive=disk,logical_block_size=512
ok "with a larger max-discard-sectors than the device's" \
	refused "'max-discard-sectors': 4294967288 is more than the [0-9]* sectors of the device" \
	-blockdev "driver=host_device,node-name=disk,filename=$disk4096,cache.direct=on" \
	-device vhost-blk-pci,drive=disk,max-discard-sectors=4294967288
ok "with a max-discard-sectors of no whole blocks" refused "no whole logical blocks" \
	-blockdev "driver=host_device,node-name=disk,filename=$disk4096,cache.direct=on" \
	-device vhost-blk-pci,drive=disk,max-discard-sectors=9
remove_nullb qemu_blocks
ok_once "with QEMU's properties of what it does itself" property_refused "iothread.*not found" \
	iothread=io
ok_once "with a vhostfd that is not open" property_refused "'vhostfd': '999' is not open|bad|999" \
	vhostfd=999
ok "with a vhostfd of something else" \
	property_refused "'vhostfd' is no open /dev/vhost-blk" vhostfd=0

# What QEMU's block layer would do, the kernel does not.
ok_once "with a throttled -drive" refused "I/O limits are not possible: .*io.max" \
	-drive "if=none,id=d,format=raw,file=$disk,cache.direct=on,throttling.iops-total=10" \
	-device vhost-blk-pci,drive=d
ok_once "with a throttle filter" refused "'drive'.*driver=throttle.*host_device" \
	-object throttle-group,id=group,x-iops-total=10 \
	-blockdev "driver=throttle,node-name=t,throttle-group=group,file.driver=host_device,file.filename=$disk" \
	-device vhost-blk-pci,drive=t
ok_once "with detect-zeroes" refused "detect-zeroes is not possible" \
	-blockdev "$node,detect-zeroes=on" -device vhost-blk-pci,drive=disk
ok_once "with a part of the device" refused "'drive'.*driver=raw.*whole host block device" \
	-blockdev "driver=raw,node-name=part,size=1048576,file.driver=host_device,file.filename=$disk" \
	-device vhost-blk-pci,drive=part
ok_once "with copy-on-read" refused "'drive'.*driver=copy-on-read.*host_device" \
	-blockdev "driver=copy-on-read,node-name=cor,file.driver=host_device,file.filename=$disk" \
	-device vhost-blk-pci,drive=cor
ok_once "with null-co" refused "'drive'.*driver=null-co.*host_device" \
	-blockdev driver=null-co,node-name=null,size=1048576 -device vhost-blk-pci,drive=null
ok_once "with a drive whose format was probed" refused "was probed.*add format=raw" \
	-drive "if=none,id=d,file=$disk,cache.direct=on" -device vhost-blk-pci,drive=d

# says PATTERN COMMAND...: what QEMU answers, with a raw node over the disk's and a null
# one, to commands of its monitor.
says()
{
	local pattern=$1 output
	shift
	output=$(printf '%s\n' '{"execute": "qmp_capabilities"}' "$@" '{"execute": "quit"}' |
		timeout $((120 * LIMIT_FACTOR)) "${qemu[@]}" "${accel[@]}" -qmp stdio \
			-blockdev "$node" -blockdev driver=raw,node-name=raw,file=disk \
			-blockdev driver=null-co,node-name=null,size=67108864 2>&1)
	echo "status $?: $output"
	grep -qE "$pattern" <<< "$output"
}

# add_bitmap NODE
add_bitmap()
{
	echo '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "'"$1"'", "name": "b"}}'
}
plug='{"execute": "device_add", "arguments": {"driver": "vhost-blk-pci", "drive": "raw"}}'
reopen='{"execute": "blockdev-reopen", "arguments":
	{"options": [{"driver": "raw", "node-name": "raw", "file": "null"}]}}'
ok_once "with a dirty bitmap" says "dirty bitmap 'b' of 'raw' would miss.*remove" \
	"$(add_bitmap raw)" "$plug"
ok_once "with a dirty bitmap of the node below" says "dirty bitmap 'b' of 'disk' would miss" \
	"$(add_bitmap disk)" "$plug"
ok_once "blockdev-reopen of a drive with another file" says "frozen" "$plug" "$reopen"

ok "with two devices on a node" refused "." \
	-blockdev "$node" -device vhost-blk-pci,drive=disk -device vhost-blk-pci,drive=disk
ok_once "in a machine without PCI" refused "PCI|bus" -machine microvm -blockdev "$node" \
	-device vhost-blk-pci,drive=disk

# Its first line comes when the nodes are open.
monitor_speaks()
{
	grep -qs '^QEMU .* monitor' "$work/renamed"
}

# The name of a disk becomes another disk's after QEMU has opened the node.
renamed_is_refused()
{
	local other
	other=$(make_nullb qemu_renamed size=64)
	ln -sfn "$disk" "$work/disk"
	{
		wait_until monitor_speaks
		ln -sfn "$other" "$work/disk"
		echo device_add vhost-blk-pci,drive=disk
		echo quit
	} | timeout $((120 * LIMIT_FACTOR)) "${qemu[@]}" "${accel[@]}" -monitor stdio -blockdev \
		"driver=host_device,node-name=disk,filename=$work/disk,cache.direct=on" > "$work/renamed" 2>&1
	remove_nullb qemu_renamed
	cat "$work/renamed"
	grep -q "is not the device any more that 'disk' has open" "$work/renamed"
}
ok "with a disk whose name is another disk's by now" renamed_is_refused
blockdev --setro "$disk"
ok "with a disk that is write-protected" property_refused "not writable" num-queues=1
blockdev --setrw "$disk"

mkfs.ext4 -q "$disk"
mkdir "$work/mnt"
mount "$disk" "$work/mnt"
ok "with a disk that is mounted" property_refused "mounted or in exclusive use" num-queues=1
umount "$work/mnt"

# A first QEMU that holds the disk, until its standard input ends.
coproc holder { timeout $((240 * LIMIT_FACTOR)) "${qemu[@]}" "${accel[@]}" -monitor stdio \
	-blockdev "$node" -device vhost-blk-pci,drive=disk 2>&1; }
# shellcheck disable=SC2154 # set by coproc
read -r -t $((60 * LIMIT_FACTOR)) -u "${holder[0]}"
ok "with a disk that another QEMU has locked" property_refused "lock" num-queues=1
echo quit >&"${holder[1]}"
# shellcheck disable=SC2154
wait "$holder_PID"

as_nobody()
{
	local output
	output=$(timeout $((120 * LIMIT_FACTOR)) setpriv \
		--reuid 65534 --regid 65534 --clear-groups \
		"${qemu[@]}" -accel tcg -blockdev "$node" \
		-device vhost-blk-pci,drive=disk < /dev/null 2>&1)
	echo "$output"
	grep -q "no permission to open /dev/vhost-blk" <<< "$output"
}
chmod 666 "$disk"
ok "without permission on /dev/vhost-blk" as_nobody

works()
{
	local output
	output=$(echo quit | timeout $((120 * LIMIT_FACTOR)) "${qemu[@]}" "${accel[@]}" -monitor stdio \
		-blockdev "$node" -device vhost-blk-pci,drive=disk 2>&1) || {
		echo "$output"
		return 1
	}
}
ok "after all that, the right arguments work" works

no_reference_leaked()
{
	echo "$(cat /sys/module/vhost_blk/refcnt) references, before: $references"
	[ "$(cat /sys/module/vhost_blk/refcnt)" -le "$references" ]
}

# A /dev of its own, with nothing but the disk.
without_node()
{
	unshare --mount --propagation private bash -c '
		disk=$1
		number=$(stat -c "0x%t 0x%T" "$disk")
		mount -t tmpfs tmpfs /dev && mknod "$disk" b $number && mknod /dev/null c 1 3 || exit
		shift
		exec "$@" < /dev/null' test "$disk" \
		timeout $((120 * LIMIT_FACTOR)) "${qemu[@]}" -accel tcg -blockdev "$node" \
		-device vhost-blk-pci,drive=disk
}

ok "no reference to vhost_blk was leaked" wait_until no_reference_leaked
ok "without /dev/vhost-blk" fails_with "modprobe vhost_blk" without_node
ok "/dev/vhost-blk is still there" test -c /dev/vhost-blk

remove_nullb qemu_disk
tap_end
