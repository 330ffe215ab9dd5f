#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Live migration between two QEMUs on one block device, under writes that are verified:
# forth and back, what becomes of the source when it fails, and a guest in a file.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"
. "$here/../lib/migrate.sh"

need_qemu
guest_with --memory 256M
new_disk moves cache_size=1 size=128
need_modules dm_mod || skip_all "no device mapper"
whole=${disk_path[moves]}
disk_path[moves]=$(make_dm qemu_moves "0 131072 linear $whole 0")
vhost_disk moves vhost-blk-pci,num-queues=2,write-cache=off
new_disk small size=32 cache_size=1
trap 'kill_guests; remove_dm qemu_moves; remove_disks; rm -f /run/qemu-saved' EXIT

# The destination has ended, and said why.
destination_said()
{
	local said
	said=$(on "$(other)" qemu_log)
	echo "$said"
	grep -qE "$1" <<< "$said"
}

# fails_because PATTERN QEMU_ARGUMENT...: a destination with these arguments.
fails_because()
{
	local pattern=$1
	shift
	destination "$@" && qmp migrate "{\"uri\": \"$uri\"}" && wait_until migration_is failed &&
		wait_until destination_said "$pattern"
}

still_running()
{
	is_running && writer_goes_on moves
}

is_claimed()
{
	! mkfs.ext4 -q "${disk_path[moves]}"
}

guest_start "${disks[@]}"
ok "the driver loads" load_driver
ok "the guest chooses write back" guest "echo 'write back' > /run/sys/moves/cache_type"
ok "fio writes and verifies" start_writer moves

# --- what fails ---

cancel()
{
	qmp migrate_cancel && wait_until migration_is cancelled
}

# What QEMU refuses, and how it ends what was begun, is the same on every kernel.
if once; then
	mapfile -t small < <(host_disk moves "${disk_path[small]}")
	ok "a destination with a smaller disk is refused" fails_because "capacity 131072.* 65536" \
		"${small[@]}" -device vhost-blk-pci,num-queues=2,id=moves,drive=moves,serial=moves
	ok "the source still runs" still_running
	mapfile -t same < <(host_disk moves "${disk_path[moves]}")
	ok "a destination with another number of queues is refused" fails_because "features|num_queues" \
		"${same[@]}" -device vhost-blk-pci,num-queues=1,id=moves,drive=moves,serial=moves
	ok "the source still runs" still_running
	ok "a destination without a feature is refused" fails_because "features" \
		"${same[@]}" -device vhost-blk-pci,num-queues=2,id=moves,drive=moves,serial=moves,config-wce=off
	ok "the source still runs" still_running

	ok "a migration begins" begin_slowly "${disks[@]}"
	ok "and is cancelled" cancel
	ok "the source still runs" still_running
	end_other
	ok "a migration begins" begin_slowly "${disks[@]}"
	ok "and the destination is killed" end_other
	ok "so the migration has failed" wait_until migration_is failed
	ok "the source still runs" still_running
	go_fast > /dev/null
fi

# The source's last flush fails, and nothing else: the writer has ended before.
fails_to_flush()
{
	destination "${disks[@]}" &&
		reload_dm qemu_moves "0 131072 flakey $whole 0 0 1" &&
		qmp migrate "{\"uri\": \"$uri\"}" && wait_until migration_is failed
}

source_said()
{
	qemu_log | grep -E "$1"
}

ok "all that fio wrote was right" stop_writer moves
ok "a migration fails when the source can't flush its disk" fails_to_flush
ok "the source says so" source_said "last stop failed"
end_other
ok "the disk is well again" reload_dm qemu_moves "0 131072 linear $whole 0"
ok "fio writes again" start_writer moves
ok "the source still runs" still_running

# --- what succeeds ---

migrate "it migrates" "${disks[@]}"
ok "the guest goes on there" writer_goes_on moves
ok "beside it the source can't go on" on "$(other)" qmp_refuses "lock" cont
end_other
if once; then
	rounds=2
else
	rounds=1
fi
for ((round = 1; round <= rounds; round++)); do
	migrate "it migrates back, round $round" "${disks[@]}"
	end_other
	ok "the guest goes on" writer_goes_on moves
	((round < rounds)) || break
	migrate "it migrates forth again" "${disks[@]}"
	end_other
	ok "the guest goes on" writer_goes_on moves
done
ok "all that fio wrote was right" stop_writer moves
ok "guest and host see the same" same_data moves 16
ok "the cache mode that the guest chose has come along" attribute moves cache_type "write back"
ok "the kernel has claimed the disk for the guest" is_claimed

# The rest is QEMU's side.
if ! once; then
	ok "the guest's kernel has nothing to complain of" guest_has_no_reports
	guest_stop
	tap_end
fi

# --- without a driver ---

ok "the driver gives the disk up" driver_leaves moves
migrate "it migrates" "${disks[@]}"
end_other
ok "the kernel has claimed the disk for the guest" is_claimed
ok "the driver takes the disk again" driver_returns moves
ok "then data is right" writes_and_verifies moves

# --- in a file ---

save()
{
	qmp migrate '{"uri": "file:/run/qemu-saved"}' && wait_for_migration completed &&
		guest_machine kill
}

restore()
{
	uri=file:/run/qemu-saved
	destination "${disks[@]}" && wait_until on "$(other)" is_running
}

ok "fio writes and verifies" start_writer moves
ok "the guest is saved" save
ok "meanwhile its disk grows" reload_dm qemu_moves "0 163840 linear $whole 0"
ok "the guest is restored" restore
guest_name=$(other)
ok "it goes on" writer_goes_on moves
ok "and sees that its disk has grown" wait_until has_sectors moves 163840
ok "all that fio wrote was right" stop_writer moves
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
ok "and lets it go" wait_until mkfs.ext4 -q "${disk_path[moves]}"
tap_end
