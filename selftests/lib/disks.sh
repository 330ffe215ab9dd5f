# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Block devices to test with. Sourced.
#
# Each make_X prints the path of a device, which remove_X takes away again. One
# that can't work on this machine says why on stderr and fails: the caller skips.

# Every limit of time is multiplied by this number, for a slow machine.
: "${LIMIT_FACTOR:=1}"

disks_config=/sys/kernel/config
nullb_config=$disks_config/nullb
nvmet_config=$disks_config/nvmet

# need_vhost_blk: it need not be installed where modprobe finds it.
need_vhost_blk()
{
	{ : < /dev/vhost-blk; } 2> /dev/null || modprobe -q vhost_blk || skip_all "no vhost_blk"
}

# For a moment after its end, a process may still be about to close a device.
vhost_blk_gets_free()
{
	wait_until vhost_blk_is_free 2> /dev/null
}

vhost_blk_is_free()
{
	[ "$(cat /sys/module/vhost_blk/refcnt)" = 0 ]
}

# need_modules MODULE...: loads them, unless they are built in.
need_modules()
{
	local module
	for module; do
		modprobe -q "$module" || {
			echo "no module $module" >&2
			return 1
		}
	done
}

need_configfs()
{
	mountpoint -q "$disks_config" ||
		mount -t configfs configfs "$disks_config"
}

# wait_until COMMAND...: for at most half a minute.
wait_until()
{
	local end=$((SECONDS + 30 * LIMIT_FACTOR))
	until "$@"; do
		((SECONDS < end)) || {
			echo "waited in vain: $*" >&2
			return 1
		}
		sleep 0.1
	done
}

# end_process PID SIGNAL: a process of this shell; its status. One that goes on is killed.
end_process()
{
	kill "-$2" "$1"
	wait_until process_has_ended "$1" || kill -9 "$1"
	wait "$1"
}

process_has_ended()
{
	! kill -0 "$1" 2> /dev/null
}

# slow_nsec MILLISECONDS: how long a slow null_blk needs on this machine, for its attribute
# completion_nsec. It ends a request that needs 5 s with an error.
slow_nsec()
{
	local ms=$(($1 * LIMIT_FACTOR))
	((ms <= 4000)) || ms=4000
	echo "${ms}000000"
}

# set_attribute FILE VALUE: of sysfs or configfs; says which one refuses.
set_attribute()
{
	local error
	error=$({ echo "$2" > "$1"; } 2>&1) || {
		echo "$1 doesn't take '$2': ${error##*: }" >&2
		return 1
	}
}

# sysfs_of DEVICE: its directory in /sys/block.
sysfs_of()
{
	local path
	path=$(readlink -f "$1")
	echo "/sys/block/${path##*/}"
}

# free_device DEVICE: nothing of it stays mounted, for a test that was killed.
free_device()
{
	local target
	while read -r target; do
		umount -l "$target"
	done < <(awk -v device="$1" '$1 == device { print $2 }' /proc/mounts)
}

# --- null_blk ---

# make_nullb NAME [ATTRIBUTE=VALUE...]: a null_blk device that keeps its data.
# Among the attributes are
#	discard=1		discard, but no write zeroes
#	badblocks=+100-101	sectors that can't be read or written
#	poll_queues=1		a queue that is polled
make_nullb()
{
	local dir=$nullb_config/$1 setting
	shift
	modprobe -q null_blk nr_devices=0 || {
		echo "no module null_blk" >&2
		return 1
	}
	need_configfs
	# A test that ended early has left it.
	if [ -d "$dir" ]; then
		free_device "$(nullb_path "$dir")"
		rmdir "$dir"
	fi
	mkdir "$dir" || return
	for setting in memory_backed=1 size=256 "$@" power=1; do
		set_attribute "$dir/${setting%%=*}" "${setting#*=}" || {
			rmdir "$dir"
			return 1
		}
	done
	nullb_path "$dir"
}

# nullb_path DIRECTORY: the device. The attribute index is the number in its name before
# 6.13.
nullb_path()
{
	if [ -b "/dev/${1##*/}" ]; then
		echo "/dev/${1##*/}"
	else
		echo "/dev/nullb$(cat "$1/index")"
	fi
}

# nullb_badblocks NAME CHANGE: +FIRST-LAST makes sectors bad, -FIRST-LAST good.
nullb_badblocks()
{
	set_attribute "$nullb_config/$1/badblocks" "$2"
}

remove_nullb()
{
	rmdir "$nullb_config/$1"
}

# --- scsi_debug ---

# There while a test has the module loaded: one that somebody else has loaded is not ours.
scsi_mark=/run/vhost-blk-selftests.scsi_debug

# make_scsi [PARAMETER=VALUE...]: a disk of scsi_debug, one at a time. Unlike
# null_blk it is particular about what the block layer gives it, and takes data
# at any address that is a multiple of four. Among the parameters are
#	sector_size=4096
#	lbpu=1			discard, by UNMAP; lbpws=1 by WRITE SAME; without both
#				there are write zeroes, but no discard
#	dif=1 dix=1		protection information, made by the block layer;
#				dif=1 alone: known to the disk only
make_scsi()
{
	local disk
	need_modules sd_mod || return
	# A test that ended early has left it.
	if [ -e "$scsi_mark" ]; then
		! scsi_is_there || free_device "/dev/${disk##*/}"
		remove_scsi
	fi
	# Of a module that is loaded, the parameters would not be taken, and the disk not ours.
	if [ -d /sys/module/scsi_debug ] ||
		! modprobe -q scsi_debug dev_size_mb=64 delay=0 "$@"; then
		echo "scsi_debug is missing, in use or doesn't take: $*" >&2
		return 1
	fi
	touch "$scsi_mark"
	wait_until scsi_is_there || {
		remove_scsi
		return 1
	}
	echo "/dev/${disk##*/}"
}

# Sets the caller's variable "disk".
scsi_is_there()
{
	for disk in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
		[ ! -b "/dev/${disk##*/}" ] || return 0
	done
	return 1
}

# resize_scsi DEVICE GIBIBYTES: what lies beyond the first 64 MiB are the same 64.
resize_scsi()
{
	set_attribute /sys/bus/pseudo/drivers/scsi_debug/virtual_gb "$2" &&
		set_attribute "$(sysfs_of "$1")/device/rescan" 1
}

# pull_scsi DEVICE: takes the disk away under whoever uses it.
pull_scsi()
{
	set_attribute "$(sysfs_of "$1")/device/delete" 1
}

# remove_scsi: its users may be just about to close it.
remove_scsi()
{
	[ ! -e "$scsi_mark" ] || { wait_until modprobe -q -r scsi_debug && rm "$scsi_mark"; }
}

# --- zram ---

# make_zram: a disk of 64 MiB in compressed memory, with blocks of 4096 bytes. Its
# driver takes whole pages: it needs stable ones, and looks only at where they begin.
make_zram()
{
	local index
	need_modules zram || return
	index=$(cat /sys/class/zram-control/hot_add) &&
		set_attribute "/sys/block/zram$index/disksize" 64M || return
	echo "/dev/zram$index"
}

remove_zram()
{
	set_attribute /sys/class/zram-control/hot_remove "${1#/dev/zram}"
}

# --- loop ---

# make_loop [DIRECTORY [SIZE]]: a loop device on a sparse file (64M) that is made
# in the directory, with direct I/O where the file system is capable of it.
make_loop()
{
	local file device
	need_modules loop || return
	file=$(mktemp -p "${1:-${TMPDIR:-/tmp}}" loop.XXXXXX) || return
	truncate -s "${2:-64M}" "$file"
	device=$(losetup --find --show --direct-io=on "$file" 2> /dev/null) ||
		device=$(losetup --find --show "$file") || {
		rm "$file"
		return 1
	}
	echo "$device"
}

# resize_loop DEVICE SIZE
resize_loop()
{
	truncate -s "$2" "$(loop_file "$1")" && losetup --set-capacity "$1"
}

loop_file()
{
	cat "$(sysfs_of "$1")/loop/backing_file"
}

remove_loop()
{
	local file
	file=$(loop_file "$1")
	losetup --detach "$1"
	rm "$file"
}

# --- device mapper ---

# make_dm NAME TABLE: a device mapper's device; TABLE as for dmsetup, for example
# "0 1000 error" or "0 1000 delay /dev/sdx 0 100".
make_dm()
{
	# Without a device mapper dmsetup asks for it at length.
	need_modules dm_mod || return
	# A test that ended early has left it.
	if dmsetup info "$1" > /dev/null 2>&1; then
		free_device "/dev/$(dmsetup info -c --noheadings -o blkdevname "$1")"
		remove_dm "$1"
	fi
	dmsetup create "$1" --table "$2" || return
	echo "/dev/$(dmsetup info -c --noheadings -o blkdevname "$1")"
}

# reload_dm NAME TABLE: changes the table, after what is in flight has ended.
reload_dm()
{
	dmsetup reload "$1" --table "$2" && dmsetup resume "$1"
}

# Its users may be just about to close it.
remove_dm()
{
	dmsetup remove --retry "$1"
}

# make_linear NAME DEVICE...: the devices, one after the other.
make_linear()
{
	local name=$1 device start=0 size table=
	shift
	for device; do
		size=$(blockdev --getsz "$device") || return
		table+="$start $size linear $device 0"$'\n'
		start=$((start + size))
	done
	make_dm "$name" "$table"
}

# resize_linear NAME SECTORS: of one over one device.
resize_linear()
{
	local target
	target=$(dmsetup table "$1" | cut -d ' ' -f 3-) &&
		reload_dm "$1" "0 $2 $target"
}

remove_linear()
{
	remove_dm "$1"
}

# make_flakey NAME DEVICE: the device, until flakey_down lets it fail.
make_flakey()
{
	need_modules dm_flakey &&
		make_dm "$1" "0 $(blockdev --getsz "$2") flakey $2 0 1 0"
}

# flakey_down NAME: from here on all reads and writes fail.
flakey_down()
{
	flakey_intervals "$1" 0 1
}

flakey_up()
{
	flakey_intervals "$1" 1 0
}

flakey_intervals()
{
	local start size target device offset
	read -r start size target device offset _ <<< "$(dmsetup table "$1")" &&
		reload_dm "$1" "$start $size $target $device $offset $2 $3"
}

remove_flakey()
{
	remove_dm "$1"
}

# make_crypt NAME DEVICE
make_crypt()
{
	local key
	need_modules dm_crypt || return
	key=$(printf '0123456789abcdef%.0s' 1 2 3 4 5 6 7 8)
	make_dm "$1" "0 $(blockdev --getsz "$2") crypt aes-xts-plain64 $key 0 $2 0"
}

# make_integrity NAME DEVICE MODE: on a device of zeroes. MODE is J with a journal, D
# without.
make_integrity()
{
	local table="integrity $2 0 4 $3 2 internal_hash:crc32c recalculate" sectors
	need_modules dm_integrity || return
	# It says how much room there is when it is there for the first time.
	make_dm "$1" "0 8 $table" > /dev/null && remove_dm "$1" || return
	sectors=$(od -A n -t u8 -j 16 -N 8 "$2")
	make_dm "$1" "0 $((sectors / 8 * 8)) $table"
}

# make_multipath NAME DEVICE: the device by one path; requests wait while it is lost.
make_multipath()
{
	need_modules dm_multipath dm_round_robin &&
		make_dm "$1" "0 $(blockdev --getsz "$2") multipath 1 queue_if_no_path 0 1 1 \
			round-robin 0 1 1 $2 1000"
}

# lose_path NAME DEVICE, find_path NAME DEVICE
lose_path()
{
	dmsetup message "$1" 0 "fail_path $(device_number "$2")"
}

find_path()
{
	dmsetup message "$1" 0 "reinstate_path $(device_number "$2")"
}

device_number()
{
	cat "$(sysfs_of "$1")/dev"
}

# make_thin NAME DEVICE METADATA: 64 MiB of which the pool, NAME-pool, has 12; requests
# wait while it is full. The devices have nothing but zeroes.
make_thin()
{
	local pool
	need_modules dm_thin_pool &&
		pool=$(make_dm "$1-pool" "$(thin_pool "$2" "$3" 12)") || return
	if ! { dmsetup message "$1-pool" 0 "create_thin 0" &&
		make_dm "$1" "0 $((64 << 11)) thin $pool 0"; }; then
		remove_dm "$1-pool"
		return 1
	fi
}

# thin_pool DEVICE METADATA MEBIBYTES
thin_pool()
{
	echo "0 $(($3 << 11)) thin-pool $2 $1 128 0"
}

# thin_snapshot NAME: whatever is written needs room in the pool from here on.
thin_snapshot()
{
	dmsetup suspend "$1" && dmsetup message "$1-pool" 0 "create_snap 1 0" &&
		dmsetup resume "$1"
}

thin_is_full()
{
	dmsetup status "$1-pool" | grep -q out_of_data_space
}

# extend_thin NAME DEVICE METADATA
extend_thin()
{
	reload_dm "$1-pool" "$(thin_pool "$2" "$3" 64)"
}

remove_thin()
{
	remove_dm "$1"
	remove_dm "$1-pool"
}

# --- MD ---

# make_md LEVEL DEVICE...: an array, one at a time, on devices of zeroes.
make_md()
{
	local level=$1
	shift
	need_modules "$([ "$level" = 1 ] && echo raid1 || echo raid456)" || return
	command -v mdadm > /dev/null || {
		echo "no mdadm" >&2
		return 1
	}
	MDADM_NO_UDEV=1 mdadm --quiet --create /dev/md99 --run --assume-clean --bitmap=none \
		--metadata=1.2 --level="$level" --raid-devices=$# "$@" >&2 < /dev/null || return
	echo /dev/md99
}

# md_mismatches: sectors in which mirrors, or parity and data, differ.
md_mismatches()
{
	set_attribute /sys/block/md99/md/sync_action check &&
		wait_until md_is_idle && cat /sys/block/md99/md/mismatch_cnt
}

md_is_idle()
{
	[ "$(cat /sys/block/md99/md/sync_action)" = idle ]
}

remove_md()
{
	mdadm --quiet --stop /dev/md99
}

# --- NBD ---

nbd_socket=/tmp/vhost-blk-test-nbd

# make_nbd DEVICE: the device by a server of this machine, one at a time. Requests wait
# for half a minute while the server is away.
make_nbd()
{
	need_modules nbd && start_nbd_server "$1" || return
	qemu-nbd --connect=/dev/nbd0 --fork --image-opts \
		"driver=nbd,server.type=unix,server.path=$nbd_socket,reconnect-delay=30" >&2 || {
		kill_nbd_server
		return 1
	}
	# qemu-nbd returns a moment before the kernel has the limits.
	wait_until nbd_has_limits || {
		remove_nbd
		return 1
	}
	echo /dev/nbd0
}

# A server of qemu-nbd takes discards.
nbd_has_limits()
{
	[ "$(cat /sys/block/nbd0/queue/discard_max_bytes)" != 0 ]
}

start_nbd_server()
{
	qemu-nbd --fork --persistent --pid-file="$nbd_socket.pid" --socket="$nbd_socket" \
		--format=raw --cache=none "$1" >&2
}

kill_nbd_server()
{
	kill -9 "$(cat "$nbd_socket.pid")"
	rm -f "$nbd_socket" "$nbd_socket.pid"
}

remove_nbd()
{
	qemu-nbd --disconnect /dev/nbd0 > /dev/null
	kill_nbd_server
}

# --- NVMe over TCP ---

nvme_nqn=nqn.2014-08.org.nvmexpress:vhost-blk-test
nvme_port=4420
nvmet_subsystem=$nvmet_config/subsystems/$nvme_nqn
nvmet_link=$nvmet_config/ports/$nvme_port/subsystems/$nvme_nqn

# make_nvme_tcp DEVICE [OPTION=VALUE...]: a disk over TCP, one at a time: this
# machine serves the device at its own address and connects to it. The options are
# those of connecting, such as nr_io_queues=1, and what becomes of requests while
# the link is down:
#	fast_io_fail_tmo=1	they fail after so many seconds, until it is up again
#	ctrl_loss_tmo=5		after so many seconds the disk goes, for good (600)
make_nvme_tcp()
{
	need_modules nvmet nvmet_tcp nvme_tcp && need_configfs || return
	# A test that ended early has left it.
	if [ -d "$nvmet_subsystem" ]; then
		free_device "$(nvme_namespace)"
		remove_nvme_tcp
	fi
	if ! { nvmet_export "$1" && nvme_connect "${@:2}" && wait_until nvme_namespace; }; then
		remove_nvme_tcp
		return 1
	fi
}

nvmet_export()
{
	local port=$nvmet_config/ports/$nvme_port
	mkdir "$nvmet_subsystem" "$nvmet_subsystem/namespaces/1" "$port" || return
	set_attribute "$nvmet_subsystem/attr_allow_any_host" 1 &&
		set_attribute "$nvmet_subsystem/namespaces/1/device_path" "$1" &&
		set_attribute "$nvmet_subsystem/namespaces/1/enable" 1 &&
		set_attribute "$port/addr_trtype" tcp &&
		set_attribute "$port/addr_adrfam" ipv4 &&
		set_attribute "$port/addr_traddr" 127.0.0.1 &&
		set_attribute "$port/addr_trsvcid" "$nvme_port" &&
		restore_nvme_tcp
}

nvme_connect()
{
	local options="transport=tcp,traddr=127.0.0.1,trsvcid=$nvme_port,nqn=$nvme_nqn"
	wait_until [ -c /dev/nvme-fabrics ] || return
	set_attribute /dev/nvme-fabrics \
		"$(IFS=,; echo "$options,reconnect_delay=1,keep_alive_tmo=1${*:+,$*}")"
}

# The directory of the connection's controller.
nvme_controller()
{
	local file
	for file in /sys/class/nvme/nvme*/subsysnqn; do
		if [ "$(cat "$file" 2> /dev/null)" = "$nvme_nqn" ]; then
			echo "${file%/*}"
			return
		fi
	done
	return 1
}

# The disk belongs to the subsystem where the kernel may use several paths to it,
# else to the controller.
nvme_namespace()
{
	local controller path
	controller=$(nvme_controller) || return
	for path in "$controller"/nvme*n1 "$controller"/subsystem/nvme-subsys*/nvme*n1 \
		/sys/class/nvme-subsystem/*/nvme*n1; do
		if [[ ${path##*/} =~ ^nvme[0-9]+n1$ ]] && [ -b "/dev/${path##*/}" ]; then
			echo "/dev/${path##*/}"
			return
		fi
	done
	return 1
}

# break_nvme_tcp: the link goes down. Requests wait, those in flight as well, until
# it is up again or one of the times above is over.
break_nvme_tcp()
{
	rm "$nvmet_link"
}

restore_nvme_tcp()
{
	ln -s "$nvmet_subsystem" "$nvmet_link"
}

# pull_nvme_tcp: takes the disk away under whoever uses it.
pull_nvme_tcp()
{
	set_attribute "$(nvme_controller)/delete_controller" 1
}

remove_nvme_tcp()
{
	local port=$nvmet_config/ports/$nvme_port dir
	! nvme_controller > /dev/null || pull_nvme_tcp
	[ ! -L "$nvmet_link" ] || break_nvme_tcp
	for dir in "$port" "$nvmet_subsystem/namespaces/1" "$nvmet_subsystem"; do
		[ ! -d "$dir" ] || rmdir "$dir"
	done
}
