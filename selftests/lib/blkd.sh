# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The vhost-user daemon to test with. Sourced, after tap.sh and disks.sh.

# find_blkd: prints the daemon's path: VHOST_BLKD, else as built, in the testbed or in the
# checkout, else as installed.
find_blkd()
{
	local path top
	top=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..
	for path in "${VHOST_BLKD:-}" "$top"/{tools/,}vhost-blkd/vhost-blkd; do
		if [ -x "$path" ] && [ -f "$path" ]; then
			readlink -f "$path"
			return
		fi
	done
	command -v vhost-blkd || {
		echo "no vhost-blkd" >&2
		return 1
	}
}

# Where the daemons of a test have their sockets and logs, NAME.socket and NAME.log. They
# are ended, and it is removed, with the test.
blkd_dir=
declare -A blkd_pids=()

# start_blkd NAME DISK [OPTION...]: returns when the socket is there.
start_blkd()
{
	local name=$1 disk=$2
	shift 2
	: "${blkd:=$(find_blkd)}"
	if [ -z "$blkd_dir" ]; then
		blkd_dir=$(mktemp -d)
		trap stop_all_blkd EXIT
	fi
	rm -f "$blkd_dir/$name.socket"
	"$blkd" --socket-path="$blkd_dir/$name.socket" --blk-file="$disk" "$@" \
		2>> "$blkd_dir/$name.log" > /dev/null < /dev/null &
	blkd_pids[$name]=$!
	wait_until [ -S "$blkd_dir/$name.socket" ] || {
		cat "$blkd_dir/$name.log" >&2
		return 1
	}
}

blkd_socket()
{
	echo "$blkd_dir/$1.socket"
}

blkd_log()
{
	echo "$blkd_dir/$1.log"
}

# stop_blkd NAME: its status is the daemon's.
stop_blkd()
{
	local pid=${blkd_pids[$1]}
	unset "blkd_pids[$1]"
	end_process "$pid" TERM
}

# end_blkds NAME...: a test each, after what the daemon has said.
end_blkds()
{
	local name status
	for name; do
		sed "s/^/# $name: /" "$(blkd_log "$name")"
		stop_blkd "$name"
		status=$?
		ok "the daemon of $name ends well" [ "$status" = 0 ]
	done
}

stop_all_blkd()
{
	local name
	for name in "${!blkd_pids[@]}"; do
		stop_blkd "$name"
	done
	[ -z "$blkd_dir" ] || rm -r "$blkd_dir"
	blkd_dir=
}
