#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# libblkio, a client of vhost-user that has nothing to do with QEMU's devices, drives the
# daemon: by QEMU's block driver virtio-blk-vhost-user.
#
# DEBIAN_ROOT names a root with the packages libblkio1 and qemu-block-extra, if this machine
# has them not.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_daemon
if [ -n "${DEBIAN_ROOT:-}" ]; then
	libraries=$DEBIAN_ROOT/usr/lib/x86_64-linux-gnu
	modules=$libraries/qemu
fi
image=driver=virtio-blk-vhost-user,cache.direct=on,path=$blkd_dir

# limited COMMAND...: a daemon that does not answer holds its clients up.
limited()
{
	timeout -k 5 $((120 * LIMIT_FACTOR)) "$@"
}

# with_libblkio COMMAND...: one of QEMU's programs.
with_libblkio()
{
	limited env LD_LIBRARY_PATH="${libraries:-}" QEMU_MODULE_DIR="${modules:-}" "$@"
}

# io COMMAND...: qemu-io's, on the disk.
io()
{
	local commands=() command output
	for command; do
		commands+=(-c "$command")
	done
	output=$(with_libblkio qemu-io --image-opts "$image/disk" "${commands[@]}" 2>&1)
	echo "$output"
	! grep -qi -e fail -e error <<< "$output"
}

# host_finds BYTE OFFSET MIBIBYTES: nothing else is there.
host_finds()
{
	[ "$(dd if="${disk_path[disk]}" bs=1M skip="$2" count="$3" iflag=direct status=none |
		tr -d "$1" | wc -c)" = 0 ]
}

is_read_only()
{
	with_libblkio qemu-io -r --image-opts "$image/fixed,read-only=on" -c "read 0 1M" &&
		! with_libblkio qemu-io --image-opts "$image/fixed" -c "write 0 1M"
}

connect()
{
	need_modules nbd && with_libblkio qemu-nbd --connect=/dev/nbd0 --fork --cache=none \
		--discard=unmap --image-opts "$image/disk"
}

writes_and_verifies_here()
{
	limited fio --name=verify --filename=/dev/nbd0 --rw=randwrite --bsrange=4k-64k --bs_unaligned=0 \
		--iodepth=32 --direct=1 --ioengine=libaio --size=32M --verify=crc32c \
		--verify_fatal=1 --do_verify=1 --randrepeat=0 --fsync=256 --minimal
}

same_here()
{
	equal "$(limited dd if=/dev/nbd0 bs=1M iflag=direct status=none | sha256sum)" \
		"$(checksum_here disk)"
}

with_libblkio qemu-io --image-opts "$image/none" -c "read 0 1" 2>&1 |
	grep -q 'Unknown driver' && skip_all "no libblkio, or QEMU without its driver"
new_disk disk size=64 cache_size=1 discard=1
new_disk fixed size=64
trap 'qemu-nbd --disconnect /dev/nbd0 > /dev/null 2>&1; end_vmms' EXIT
start_daemon disk disk
start_daemon fixed fixed --read-only

ok "it writes and reads" io "write -P 0xab 1M 4M" "flush" "read -P 0xab 1M 4M"
ok "the host finds it" host_finds '\253' 1 4
ok "it writes zeroes and discards" io "write -z 1M 1M" "discard 2M 1M" "read -P 0 1M 1M" \
	"read -P 0xab 3M 2M"
ok "the host finds zeroes" host_finds '\000' 1 1
ok "a read-only disk can be read and not written" is_read_only
ok "it serves a block device" connect
ok "fio writes, flushes and verifies" writes_and_verifies_here
ok "client and host see the same" same_here
ok "it goes" limited qemu-nbd --disconnect /dev/nbd0
ok "and comes again" io "read 0 64M"
tap_end
