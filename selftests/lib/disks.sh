# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Block devices to test with. Sourced.

nullb_config=/sys/kernel/config/nullb

# make_nullb NAME [ATTRIBUTE=VALUE...]: a null_blk device that keeps its data.
# Prints its path.
make_nullb()
{
	local dir=$nullb_config/$1 setting
	shift
	modprobe null_blk nr_devices=0
	mountpoint -q /sys/kernel/config ||
		mount -t configfs configfs /sys/kernel/config
	mkdir "$dir"
	for setting in memory_backed=1 size=256 "$@"; do
		echo "${setting#*=}" > "$dir/${setting%%=*}"
	done
	echo 1 > "$dir/power"
	# The attribute index is the number in the device's name before 6.13.
	if [ -b "/dev/${dir##*/}" ]; then
		echo "/dev/${dir##*/}"
	else
		echo "/dev/nullb$(cat "$dir/index")"
	fi
}

remove_nullb()
{
	rmdir "$nullb_config/$1"
}

# make_scsi [PARAMETER=VALUE...]: a disk of scsi_debug, one at a time. Unlike
# null_blk it is particular about what the block layer gives it, and takes data
# at any address that is a multiple of four. Prints its path.
make_scsi()
{
	local disk
	modprobe sd_mod
	modprobe scsi_debug dev_size_mb=64 delay=0 "$@" || return
	for _ in $(seq 50); do
		for disk in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
			[ ! -b "/dev/${disk##*/}" ] || break 2
		done
		sleep 0.1
	done
	echo "/dev/${disk##*/}"
}

remove_scsi()
{
	modprobe -r scsi_debug
}
