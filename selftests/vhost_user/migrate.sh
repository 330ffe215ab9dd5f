#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Live migration between two QEMUs, each with a daemon on the same block device, under
# writes that are verified: from a newer QEMU, forth and back, and with a daemon that is
# killed meanwhile.
#
# Not to a newer QEMU: those before 11.1 make all rings of 1024 descriptors, whatever the
# device asks for, and those from then on refuse such rings. That is so of each virtio device,
# and the guest's console is one.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"
. "$here/../lib/migrate.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_user
trap 'kill_guests; end_vmms' EXIT
new_disk disk cache_size=1
use_qemu "$QEMU"
# Of the oldest QEMU, for the newer one to know it as well.
machine=pc-i440fx-$(cut -d . -f 1,2 <<< "$qemu_version")
guest_arguments+=(-machine "$machine")

# Each QEMU has a daemon of its name.
for name in "${names[@]}"; do
	start_daemon "$name" disk --num-queues=2 --share-rw
done
disks=()
user_disk disk "${names[0]}"
user_disk disk "${names[1]}"
of_first=("${disks[@]::4}")
of_second=("${disks[@]:4}")

# Sets "disks", for the QEMU with the guest, or for the other one.
disks_of()
{
	if [ "$1" = "${names[0]}" ]; then
		disks=("${of_first[@]}")
	else
		disks=("${of_second[@]}")
	fi
}

migrate_to_other()
{
	disks_of "$(other)"
	migrate "$1" "${disks[@]}"
	end_other
	ok "the guest goes on" writer_goes_on disk
}

restart_daemon()
{
	kill_daemon "$1" && sleep 1 && start_daemon "$1" disk --num-queues=2 --share-rw
}

migration_has_ended()
{
	migration_is completed || migration_is failed
}

# killed_while_migrating TEXT DAEMON: the guest is then where the migration has ended: it
# is there when it has completed, and nowhere else.
killed_while_migrating()
{
	disks_of "$(other)"
	ok "a migration begins" begin_slowly "${disks[@]}"
	ok "$1 is killed and started again" restart_daemon "$2"
	go_fast > /dev/null
	ok "the migration ends" wait_until migration_has_ended
	if migration_is completed; then
		echo "# it has completed"
		guest_name=$(other)
	else
		echo "# it has failed"
		ok "the guest is continued" qmp cont
	fi
	end_other
	ok "the guest runs" wait_until is_running
	ok "and writes" writer_goes_on disk
}

older=$qemu_version
[ -z "$QEMU_BACKPORTS" ] || use_qemu "$QEMU_BACKPORTS"
disks_of "$guest_name"
guest_start "${disks[@]}"
ok "the driver loads" load_driver
ok "fio writes and verifies" start_writer disk
if [ -n "$QEMU_BACKPORTS" ]; then
	newer=$qemu_version
	use_qemu "$QEMU"
	migrate_to_other "it migrates from QEMU $newer to $older"
	migrate_to_other "it migrates on"
else
	skip "it migrates from a newer QEMU" "QEMU_BACKPORTS names none"
fi
migrate_to_other "it migrates again"
migrate_to_other "it migrates back"
killed_while_migrating "the source's daemon" "$guest_name"
killed_while_migrating "the destination's daemon" "$(other)"
ok "all that fio wrote was right" stop_writer disk
ok "guest and host see the same" same_data disk
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
