#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a user can get wrong with vhost-blkd: the daemon ends, says what is wrong and what
# to do. And what its command line promises: capabilities, sockets, an end that leaves
# nothing behind.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"

: "${VHOST_BLKD:=$here/../../tools/vhost-blkd/vhost-blkd}"
once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_blk
"$VHOST_BLKD" --version > /dev/null || skip_all "no vhost-blkd"

work=$(mktemp -d)
chmod 755 "$work"
socket=$work/disk.sock
log=$work/log
daemon=
clean_up()
{
	[ -z "$daemon" ] || kill -9 "$daemon"
	! mountpoint -q "$work/mnt" || umount "$work/mnt"
	remove_nullb blkd_disk
	rm -rf "$work"
}
trap clean_up EXIT
disk=$(make_nullb blkd_disk size=64) || skip_all "no null_blk"
# Others may have disks of it open.
references=$(cat /sys/module/vhost_blk/refcnt)
good=(--socket-path="$socket" --blk-file="$disk")
sockets=$here/sockets

# refused PATTERN ARGUMENT...: the daemon fails with a message that matches.
refused()
{
	ends_with 1 "$1" timeout $((30 * LIMIT_FACTOR)) "$VHOST_BLKD" "${@:2}"
}

# The same for what is wrong with the arguments themselves.
misused()
{
	ends_with 2 "$1" timeout $((30 * LIMIT_FACTOR)) "$VHOST_BLKD" "${@:2}"
}

# start COMMAND...: in the background.
start()
{
	# The log of the one before must not be taken for this one's.
	rm -f "$log"
	"$@" 2> "$log" < /dev/null &
	daemon=$!
}

# end_with SIGNAL: ends what was started. Sets "status".
end_with()
{
	end_process "$daemon" "$1"
	status=$?
	daemon=
}

# Whether the daemon answers at the socket; if not, what it has said.
answers()
{
	wait_until [ -S "$socket" ] && wait_until asks && return
	cat "$log"
	return 1
}

asks()
{
	timeout $((10 * LIMIT_FACTOR)) "$sockets" ask "$socket" 2> /dev/null
}

is_free()
{
	[ "$(cat /sys/module/vhost_blk/refcnt)" -le "$references" ]
}

# has_sockets NUMBER: the one that listens, and one for each connection.
has_sockets()
{
	[ "$(grep -c " $socket\$" /proc/net/unix)" = "$1" ]
}

# Starts a connection, when the ones before are closed.
start_holder()
{
	wait_until has_sockets 1
	"$sockets" hold "$socket" &
	holder=$!
	wait_until has_sockets 2
}

nothing_left()
{
	[ ! -e "$socket" ] && wait_until is_free && mount_and_unmount
}

mount_and_unmount()
{
	mount "$disk" "$work/mnt" && umount "$work/mnt"
}

# --- the command line ---

ok "without a socket" misused "--socket-path=PATH or --fd=N" --blk-file="$disk"
ok "without a disk" misused "--blk-file=DEVICE" --socket-path="$socket"
ok "with an empty name of a disk" misused "--blk-file=DEVICE" \
	--socket-path="$socket" --blk-file=
ok "with two sockets" misused "exclude each other" "${good[@]}" --fd=0
ok "with an unknown option" misused "try: vhost-blkd --help" "${good[@]}" --no-such-option
ok "with an argument too many" misused "more: not an option" "${good[@]}" more
for value in 0 257 x -1 1x ''; do
	ok "with --num-queues=$value" misused "--num-queues=$value: .*between 1 and 256" \
		"${good[@]}" --num-queues="$value"
done
ok "with a --poll-us that is no number" misused "--poll-us=1ms: not a number" \
	"${good[@]}" --poll-us=1ms
ok "with a serial number that is too long" misused "longer than 20 bytes" \
	"${good[@]}" --serial=123456789012345678901
for path in "" "$work/$(printf '%0120d' 0)"; do
	ok "with a socket path of ${#path} bytes" misused "has to have 1 to 107 bytes" \
		--blk-file="$disk" --socket-path="$path"
done
ok "with an --fd that is no socket" misused "--fd=0: not a Unix stream socket" \
	--fd=0 --blk-file="$disk" < /dev/null
ok "with an --fd that is not open" misused "--fd=99: no such descriptor is open" \
	--fd=99 --blk-file="$disk"
capabilities()
{
	"$VHOST_BLKD" --nonsense --print-capabilities |
		jq -e '.type == "block" and (.features | sort) == ["blk-file", "read-only"]'
}
ok "--print-capabilities prints JSON, whatever else there is" capabilities
ok "--help names all options" eval \
	'[ "$("$VHOST_BLKD" --help | grep -c "^  --")" = 13 ]'

# --- the disk ---

ok "with a disk that does not exist" refused "/dev/nothing: there is no such block device" \
	--socket-path="$socket" --blk-file=/dev/nothing
ok "with a character device" refused "/dev/null: not a block device" \
	--socket-path="$socket" --blk-file=/dev/null
truncate -s 16M "$work/image"
ok "with a regular file" refused "not a block device; .*losetup" \
	--socket-path="$socket" --blk-file="$work/image"
blockdev --setro "$disk"
ok "with a disk that is write-protected" refused "write-protected: use --read-only" "${good[@]}"
start "$VHOST_BLKD" "${good[@]}" --read-only
ok "which --read-only serves" answers
end_with TERM
blockdev --setrw "$disk"

mkfs.ext4 -q "$disk"
mkdir "$work/mnt"
mount "$disk" "$work/mnt"
ok "with a disk that is mounted" refused "$disk: in use: mounted" "${good[@]}"
umount "$work/mnt"

# A disk that becomes free while the daemon waits, as that of an instance that is ending.
mount "$disk" "$work/mnt"
start "$VHOST_BLKD" "${good[@]}"
sleep 1
umount "$work/mnt"
ok "a disk that becomes free in time is served" answers
end_with TERM

# has_only_waited PATH: what SIGTERM ended has said that it waits for this, and nothing else.
has_only_waited()
{
	cat "$log"
	[ "$status" = 0 ] && [ "$(grep -c . "$log")" = 1 ] &&
		grep -q "$1: .*: trying again for 5 s" "$log"
}
mount "$disk" "$work/mnt"
start "$VHOST_BLKD" "${good[@]}"
wait_until [ -s "$log" ]
end_with TERM
umount "$work/mnt"
ok "SIGTERM ends the wait for a disk that is in use" has_only_waited "$disk"

# As at boot: the disk appears while the daemon waits. Then udev gives it and /dev/vhost-blk their
# groups.
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
node_mode=$(stat -c %a /dev/vhost-blk)
chmod 777 "$work"
chmod 600 "$disk"
start "${nobody[@]}" "$VHOST_BLKD" --socket-path="$socket" --blk-file="$work/link"
sleep 1
ln -s "$disk" "$work/link"
sleep 1
chmod 666 "$disk"
sleep 1
chmod 666 /dev/vhost-blk
ok "a disk and permissions that come in time are waited for" answers
end_with TERM
chmod "$node_mode" /dev/vhost-blk
chmod 755 "$work"
rm -f "$work/link"

start "$VHOST_BLKD" --socket-path="$socket" --blk-file="$work/link"
wait_until [ -s "$log" ]
end_with TERM
ok "SIGTERM ends the wait for a disk that is not there" has_only_waited "$work/link"

chmod 600 "$disk"
limit=(timeout $((30 * LIMIT_FACTOR)))
ok "without permission on the disk" fails_with "$disk: this user may not write it" \
	"${limit[@]}" "${nobody[@]}" "$VHOST_BLKD" "${good[@]}"
chmod 666 "$disk"
ok "without permission on /dev/vhost-blk" fails_with "/dev/vhost-blk: this user may not open it" \
	"${limit[@]}" "${nobody[@]}" "$VHOST_BLKD" "${good[@]}"

# A /dev of its own, with nothing but the disk.
without_node()
{
	"${limit[@]}" unshare --mount --propagation private bash -c '
		disk=$1
		number=$(stat -c "0x%t 0x%T" "$disk")
		mount -t tmpfs tmpfs /dev && mknod "$disk" b $number && mknod /dev/null c 1 3 || exit
		shift
		exec "$@" < /dev/null' test "$disk" "$VHOST_BLKD" "${good[@]}"
}
ok "without /dev/vhost-blk" fails_with "modprobe vhost_blk" without_node
ok "with a --vhost-fd of something else" refused "--vhost-fd" \
	"${good[@]}" --vhost-fd=0 < /dev/null

# --- sockets ---

ok "with a socket in no directory" refused "No such file or directory" \
	--blk-file="$disk" --socket-path="$work/nothing/socket"
touch "$socket"
ok "a file that is no socket is not replaced" refused "and no socket" "${good[@]}"
rm "$socket"
ok "after all that, nothing is left" nothing_left

start "$VHOST_BLKD" "${good[@]}" --num-queues=256 --serial=12345678901234567890 --poll-us=10
ok "with the most of everything it answers" answers
ok "vhost-blk-stat shows it by the name of its socket" eval \
	'"$here/../../tools/vhost-blk-stat" -i 0.1 -n 1 | grep -F "(vhost-blkd disk)"'
ok "another daemon does not get its disk" refused "$disk: in use" \
	--socket-path="$work/other" --blk-file="$disk"
end_with TERM
ok "SIGTERM ends it well" [ "$status" = 0 ]
ok "and leaves nothing" nothing_left

start "$VHOST_BLKD" "${good[@]}" --share-rw --worker-per-virtqueue
ok "with --share-rw it answers" answers
ok "another one with --share-rw does not get its socket" \
	refused "another process listens there" "${good[@]}" --share-rw
ok "and leaves it" answers
end_with INT
ok "SIGINT ends it well" [ "$status" = 0 ]

start "$VHOST_BLKD" "${good[@]}"
wait_until asks
start_holder
ok "a second connection waits for the first" fails_with "" \
	timeout 1 "$sockets" ask "$socket"
kill "$holder"
ok "and is served when that ends" answers
start_holder
end_with TERM
ok "SIGTERM ends it well while it has a connection" [ "$status" = 0 ]
kill "$holder" 2> /dev/null
ok "and leaves nothing then" nothing_left

start "$VHOST_BLKD" "${good[@]}"
wait_until asks
end_with KILL
ok "the socket of a daemon that was killed stays" [ -S "$socket" ]
start "$VHOST_BLKD" "${good[@]}"
ok "and is replaced by the next one" answers
end_with TERM
ok "which leaves nothing" nothing_left

start "$sockets" listen "$work/given" "$VHOST_BLKD" --fd=3 --blk-file="$disk"
ok "with --fd of a listening socket it answers" wait_until \
	timeout $((10 * LIMIT_FACTOR)) "$sockets" ask "$work/given"
ok "again and again" timeout $((10 * LIMIT_FACTOR)) "$sockets" ask "$work/given"
end_with TERM
ok "and a socket that it did not make stays" [ -S "$work/given" ]
ok "with --fd of a connection it answers, and ends with that" \
	timeout $((30 * LIMIT_FACTOR)) "$sockets" pair "$VHOST_BLKD" --fd=3 --blk-file="$disk"
ok "a disk of --vhost-fd is served" timeout $((30 * LIMIT_FACTOR)) \
	"$sockets" pair "$VHOST_BLKD" --fd=3 --vhost-fd=4 --blk-file="$disk" 4<> /dev/vhost-blk

timeout $((30 * LIMIT_FACTOR)) "$sockets" notify "$work/notify" > "$work/notification" &
notified=$!
wait_until [ -S "$work/notify" ]
start env NOTIFY_SOCKET="$work/notify" "$VHOST_BLKD" "${good[@]}"
wait "$notified"
ok "a service manager is told when it is ready" grep -qx READY=1 "$work/notification"
ok "which it is" answers
end_with TERM
ok "in the end nothing is left" nothing_left
tap_end
