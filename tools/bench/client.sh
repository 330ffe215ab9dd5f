# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs the program backend on one subject after the other. Sourced, with server.sh;
# $suite, $out and the array $options are the caller's.

client=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/backend
kernel=${KERNEL:-$(uname -r)}

# bench SUBJECT KIND TARGETS OPTION... -- WORKLOAD...: first what it costs, then,
# once more, what happens, because counting that costs something itself.
bench()
{
	local subject=$1 target=("$2" "$3") own=()
	shift 3
	while [ "$1" != -- ]; do
		own+=("$1")
		shift
	done
	shift
	echo "$suite: $subject" >&2
	"$client" "${options[@]}" "${own[@]}" -x "$suite,$subject,$kernel," \
		"${target[@]}" "$@" >> "$out"
	"$client" "${options[@]}" "${own[@]}" -c -x "$suite,$subject,$kernel," \
		"${target[@]}" "$@" >> "$out"
}

# bench_daemon SUBJECT QUEUES DEVICE WORKLOAD...: the device behind vhost-blkd.
bench_daemon()
{
	start_daemon "$2" "$3"
	bench "$1" user "$server_sockets" -p "$server_pid" -- "${@:4}"
	stop_server
}

# bench_server SUBJECT QUEUES AIO IOTHREAD_OPTIONS DEVICES WORKLOAD...: of a server
# with so many queues for each of the devices, which commas join.
bench_server()
{
	local devices
	IFS=, read -r -a devices <<< "$5"
	start_server "$2" "$3" "$4" "${devices[@]}"
	bench "$1" user "$server_sockets" -p "$server_pid" -- "${@:6}"
	stop_server
}
