# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs the program backend on one subject after the other. Sourced, with server.sh;
# $suite, $out and the array $options are the caller's.

client=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/backend
kernel=${KERNEL:-$(uname -r)}

# The passes, by the option of the program that asks for each: what a request costs, and
# what happens, because counting that costs something itself. -l is its latency.
passes=('' -c)

# bench SUBJECT KIND TARGETS OPTION... -- WORKLOAD...: one pass after the other.
bench()
{
	local subject=$1 target=("$2" "$3") own=() pass
	shift 3
	while [ "$1" != -- ]; do
		own+=("$1")
		shift
	done
	shift
	echo "$suite: $subject" >&2
	for pass in "${passes[@]}"; do
		"$client" "${options[@]}" "${own[@]}" ${pass:+"$pass"} \
			-x "$suite,$subject,$kernel," "${target[@]}" "$@" >> "$out"
	done
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
