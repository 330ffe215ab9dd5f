# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What serves a vhost-user device: qemu-storage-daemon, the one that vhost_blk is compared
# with, and vhost-blkd. Sourced, after disks.sh and blkd.sh of selftests/lib.

server_dir=
server_pid=
server_sockets=

# start_server QUEUES AIO IOTHREAD_OPTIONS DEVICE...: exports each device as a
# vhost-user-blk device, all of them on one iothread. Sets $server_pid, and
# $server_sockets, joined by commas.
start_server()
{
	local queues=$1 aio=$2 iothread=$3 device socket arguments=() i=0
	shift 3
	server_dir=$(mktemp -d)
	server_sockets=
	for device; do
		socket=$server_dir/$i
		arguments+=(
			--blockdev "driver=host_device,node-name=d$i,filename=$device,cache.direct=on,aio=$aio"
			--export "type=vhost-user-blk,id=e$i,node-name=d$i,addr.type=unix,addr.path=$socket,iothread=io0,num-queues=$queues,writable=on"
		)
		server_sockets+=${server_sockets:+,}$socket
		i=$((i + 1))
	done
	# Returns when the sockets are there.
	qemu-storage-daemon --daemonize --pidfile "$server_dir/pid" \
		--object "iothread,id=io0${iothread:+,$iothread}" "${arguments[@]}"
	server_pid=$(cat "$server_dir/pid")
}

# start_daemon QUEUES DEVICE: serves one device by vhost-blkd, as start_server does.
start_daemon()
{
	local program
	program=$(find_blkd)
	server_dir=$(mktemp -d)
	server_sockets=$server_dir/0
	"$program" --socket-path="$server_sockets" --blk-file="$2" --num-queues="$1" &
	server_pid=$!
	wait_until [ -S "$server_sockets" ]
}

stop_server()
{
	[ -n "$server_pid" ] || return 0
	kill "$server_pid"
	while [ -e "/proc/$server_pid" ]; do
		sleep 0.05
	done
	rm -r "$server_dir"
	server_pid=
}
