#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Once the virtio core has shut the disks down, which it does by a reset, the driver leaves
# them alone: else they would write to the memory of the kernel that comes next.
#
# A disk of another driver is shut down after them and takes long, since this machine holds
# its flush; meanwhile the time of their requests is up.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
add_slow_disk recovers virtio-blk-pci
add_slow_disk waits virtio-blk-pci
truncate -s 16M "$work/last"
guest_start "${disks[@]}" -trace virtio_set_status -device virtio-scsi-pci,id=scsi \
	-blockdev "driver=raw,node-name=last,file.driver=blkdebug,file.image.driver=file,file.image.filename=$work/last" \
	-device scsi-hd,id=last,bus=scsi.0,drive=last

# Devices are shut down in the order in which they were found, from the last one on.
find_disks_last()
{
	guest "modprobe -a virtio_scsi sd_mod
		for i in \$(seq $WAIT_TRIES); do
			[ ! -e /sys/block/sda ] || break
			sleep 0.1
		done
		grep 'write back' /sys/class/scsi_disk/*/cache_type || exit
		cd /sys/bus/pci/drivers/virtio-pci
		for device in 0000:*; do
			[ \$(cat \$device/class) = 0x010000 ] && [ ! -d \$device/virtio*/host* ] || continue
			echo \$device > unbind && echo \$device > bind || exit
		done"
}

# on_last_disk COMMAND: of qemu-io, which prints what is wrong.
on_last_disk()
{
	monitor human-monitor-command "{\"command-line\": \"qemu-io -d last \\\"$1\\\"\"}" |
		grep -F '"return": ""'
}

in_log()
{
	guest_machine log | grep -q "$1"
}

set_statuses()
{
	qemu_log | grep virtio_set_status
}

has_ended()
{
	! guest_machine pid > /dev/null
}

# Each value that is written shows, also that of a reset.
nothing_was_written()
{
	diff <(echo "$at_shutdown") <(set_statuses)
}

# The timeout of requests. A slow machine has shut the disks down before it is over, too.
timeout_s=$((8 * LIMIT_FACTOR))

ok "a disk of another driver is found first" find_disks_last
load_driver ours
set_recovery recovers 1 $((timeout_s * 1000))
set_recovery waits 0 $((timeout_s * 1000))
hold_requests
on_last_disk 'break flush_to_os held' > /dev/null
check "fio writes" start_requests recovers
check "fio writes" start_requests waits
end=$((SECONDS + timeout_s + 3))
before=$(set_statuses)
guest "(sleep 0.1; reboot -f) > /dev/null 2>&1 &"
check "the machine is shut down" wait_until in_log 'Synchronizing SCSI cache'
at_shutdown=$(set_statuses)
check "its disks are, already" fails equal "$at_shutdown" "$before"
# The block layer may add more than a second to io_timeout.
sleep $((end > SECONDS ? end - SECONDS : 0))
check "they are left alone" nothing_was_written
ok "the other disk goes on" on_last_disk 'resume held'
check "the machine ends" wait_until has_ended
check "no disk is in use" fails grep -v 'val 0$' <(set_statuses | tail -n +$(($(wc -l <<< "$before") + 1)))
ok "the guest's kernel has nothing to complain of" guest_machine check
has_ended || guest_machine kill
tap_end
