# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Live migration between two QEMUs of this machine, one of which is guest_name at a time.
# Sourced, after qemu.sh.

uri=unix:/run/qemu-migrate
names=("$guest_name" "$guest_name-2")

# The name that the guest has not.
other()
{
	if [ "$guest_name" = "${names[0]}" ]; then
		echo "${names[1]}"
	else
		echo "${names[0]}"
	fi
}

kill_guests()
{
	local guest_name
	for guest_name in "${names[@]}"; do
		guest_machine kill 2> /dev/null
	done
}

# A test that was killed may have left them.
kill_guests

# destination QEMU_ARGUMENT...: starts a QEMU that waits for the guest.
destination()
{
	guest_with --incoming yes
	on "$(other)" guest_start "$@"
	guest_options=("${guest_options[@]::${#guest_options[@]}-2}")
	on "$(other)" qmp migrate-incoming "{\"uri\": \"$uri\"}"
}

migration_is()
{
	qmp query-migrate | tr -d ' ' | grep -q "\"status\":\"$1\""
}

# wait_for_migration STATUS: for at most five minutes.
wait_for_migration()
{
	local end=$((SECONDS + 300 * LIMIT_FACTOR))
	until migration_is "$1"; do
		if ((SECONDS >= end)) || migration_is failed; then
			qmp query-migrate
			return 1
		fi
		sleep 0.5
	done
}

# begin_slowly QEMU_ARGUMENT...: a migration that does not come to an end.
begin_slowly()
{
	qmp migrate-set-parameters '{"max-bandwidth": 100000}' && destination "$@" &&
		qmp migrate "{\"uri\": \"$uri\"}" && wait_until migration_is active
}

go_fast()
{
	qmp migrate-set-parameters '{"max-bandwidth": 1000000000}'
}

migrates()
{
	destination "$@" && qmp migrate "{\"uri\": \"$uri\"}" && wait_for_migration completed
}

# migrate TEXT QEMU_ARGUMENT...: to the other QEMU; what was the source stays as it is.
migrate()
{
	ok "$1" migrates "${@:2}" || bail "there is no guest any more"
	guest_name=$(other)
}

# Of the two QEMUs the one without the guest.
end_other()
{
	on "$(other)" guest_machine kill
}

is_running()
{
	qmp query-status | grep -q '"running": true'
}
