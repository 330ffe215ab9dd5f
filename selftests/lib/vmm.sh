# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Guests on vhost-blkd's disks, in QEMUs as the distribution ships them. Sourced.
#
# What the tests use comes from the environment, beside what guest.sh says:
#	QEMU		qemu-system-x86_64
#	QEMU_BACKPORTS	a newer one (none)
#
# A daemon is known by the name of its socket. Its disk is one of new_disk.

vmm_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$vmm_lib_dir/qemu.sh"
. "$vmm_lib_dir/blkd.sh"
: "${QEMU:=qemu-system-x86_64}"
: "${QEMU_BACKPORTS:=}"
blkd_dir=/run/vhost-blkd-test

need_daemon()
{
	need_vhost_blk
	blkd=$(find_blkd) || skip_all "no vhost-blkd"
	end_left_daemons
	mkdir "$blkd_dir"
	trap end_vmms EXIT
}

# Those of a test that was killed.
end_left_daemons()
{
	local pattern="--socket-path=$blkd_dir/"
	! pkill -9 -f -- "$pattern" || wait_until fails pgrep -f -- "$pattern" > /dev/null
	rm -rf "$blkd_dir"
}

# need_vhost_user: guests whose memory can be shared, and disks that are taken away at the
# end.
need_vhost_user()
{
	need_plain_guest
	need_daemon
	share_guest_memory 256
}

end_vmms()
{
	guest_machine kill 2> /dev/null
	kill_daemons
	[ "$tap_failures" = 0 ] || tail -n 20 "$blkd_dir"/*.log | sed 's/^/# /'
	remove_disks
	rm -rf "$blkd_dir"
}

kill_daemons()
{
	local file
	for file in "$blkd_dir"/*.pid; do
		[ ! -e "$file" ] || kill_daemon "$(basename "$file" .pid)"
	done
}

# --- daemons ---

# start_daemon NAME DISK [OPTION...]
start_daemon()
{
	local name=$1 disk=$2
	# From a shell that ends: this one would tell of each that is killed.
	(setsid "$blkd" --socket-path="$blkd_dir/$name" \
		--blk-file="${disk_path[$disk]}" --serial="$disk" "${@:3}" \
		> /dev/null 2>> "$blkd_dir/$name.log" < /dev/null &
	echo $! > "$blkd_dir/$name.pid")
	wait_until [ -S "$blkd_dir/$name" ]
}

daemon_pid()
{
	cat "$blkd_dir/$1.pid"
}

# Ended, though it may stay as a zombie for a moment.
daemon_has_ended()
{
	! grep -qs '^State:.*[^Z] (' "/proc/$(daemon_pid "$1")/status"
}

# kill_daemon NAME [SIGNAL]
kill_daemon()
{
	daemon_has_ended "$1" || kill -"${2:-KILL}" "$(daemon_pid "$1")"
	wait_until daemon_has_ended "$1" && rm "$blkd_dir/$1.pid"
}

# daemon_said NAME PATTERN
daemon_said()
{
	cat "$blkd_dir/$1.log"
	grep -qE "$2" "$blkd_dir/$1.log"
}

# user_disk NAME [DAEMON [PROPERTIES]]: a daemon's disk for guest_start, that of the same
# name by default. NAME is what the monitor knows the device by.
user_disk()
{
	disks+=(-chardev "socket,id=$1,path=$blkd_dir/${2:-$1},reconnect-ms=500"
		-device "vhost-user-blk-pci,id=$1,chardev=$1,num-queues=2${3:+,$3}")
}

# --- QEMUs ---

# on_each_qemu FUNCTION: with guests of each QEMU. The function's tests are to be check's.
on_each_qemu()
{
	local program
	for program in "$QEMU" "$QEMU_BACKPORTS"; do
		if [ -n "$program" ]; then
			use_qemu "$program"
			"$1"
		else
			skip "the same with a newer QEMU" "QEMU_BACKPORTS names none"
		fi
	done
}

# use_qemu PROGRAM: for the guests to come.
use_qemu()
{
	guest_with --qemu "$1"
	qemu_version=$("$1" --version | sed -n 's/.* version \([0-9.]*\).*/\1/p')
}

# check TEXT COMMAND...: a test that says which QEMU it is about.
check()
{
	ok "QEMU $qemu_version: $1" "${@:2}"
}
