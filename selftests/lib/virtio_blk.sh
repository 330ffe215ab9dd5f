# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests of the guest driver share, beside guest.sh: disks on files of this
# machine, which driver has them, and whether the data is right. Sourced.
#
# A test starts one guest with all its disks and asks the same of both drivers in it,
# one after the other; of the in-tree one, with which ours is compared, on one kernel
# only (ONCE). In the guest /run/disk/NAME is a disk and /run/sys/NAME its
# directory in sysfs, where NAME is its serial number.

virtio_blk_lib_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$virtio_blk_lib_dir/guest.sh"

# Who drives the disks now: ours or in-tree.
driver=
# Those that each_driver goes through.
drivers=(ours)
! once || drivers+=(in-tree)
disks=()

# make_work_dir: for the disks' files, until the test ends.
make_work_dir()
{
	work=$(mktemp -d)
	trap 'guest_machine kill 2> /dev/null; rm -r "$work"' EXIT
}

# add_disk NAME DEVICE[,OPTION...] [NODE_OPTION...]: a disk of 16 MiB for guest_start,
# as an argument of QEMU's -device and more options of its block node. NAME is what the
# monitor knows both by.
add_disk()
{
	local name=$1 device=$2
	shift 2
	truncate -s 16M "$work/$name"
	disks+=(-blockdev "$(IFS=,; echo "driver=file,node-name=$name,filename=$work/$name${*:+,$*}")"
		-device "$device,id=$name,drive=$name,serial=$name")
}

# add_slow_disk NAME DEVICE[,OPTION...] [NODE_OPTION...]: the same behind a throttle, of which
# there is one for all (limit).
add_slow_disk()
{
	local name=$1 device=$2
	shift 2
	truncate -s 16M "$work/$name"
	[[ " ${disks[*]} " == *" throttle-group,"* ]] || disks+=(-object throttle-group,id=throttle)
	disks+=(-blockdev "$(IFS=,; echo "driver=file,node-name=$name-file,filename=$work/$name${*:+,$*}")"
		-blockdev "driver=throttle,node-name=$name,throttle-group=throttle,file=$name-file"
		-device "$device,id=$name,drive=$name,serial=$name")
}

# monitor COMMAND [ARGUMENTS]: prints QEMU's answer; fails if it is an error.
monitor()
{
	guest_machine monitor "{\"execute\": \"$1\"${2:+, \"arguments\": $2}}"
}

# limit BYTES: what the slow disks do in a second, 0 for all there is. With a limit of 1, all
# requests but the first one are held. A limit that is lifted holds what it held already.
limit()
{
	monitor qom-set "{\"path\": \"/objects/throttle\", \"property\": \"limits\",
		\"value\": {\"bps-total\": $1}}" > /dev/null
}

# hold_requests, let_requests_go: of the slow disks.
hold_requests()
{
	limit 1
}

let_requests_go()
{
	limit 0
}

# What loads the driver in the guest.
load_command()
{
	if [ "$driver" = ours ]; then
		echo "insmod $own_driver"
	else
		echo modprobe virtio_blk
	fi
}

# load_driver ours|in-tree [PARAMETER=VALUE...]
load_driver()
{
	driver=$1
	shift
	ok "$driver: loads${*:+ with $*}" guest "$(load_command) $*; $(declare -f link_disks); link_disks"
}

# In the guest. What a process had open by io_uring is closed a moment after its end.
unload()
{
	local i
	for ((i = 0; i < 100 * LIMIT_FACTOR; i++)); do
		[ "$(cat /sys/module/virtio_blk/refcnt)" != 0 ] || break
		sleep 0.1
	done
	rmmod virtio_blk
}

unload_driver()
{
	ok "$driver: unloads" guest "$(declare -f unload); unload && ! ls -d /sys/block/vd*"
}

# each_driver [PARAMETER=VALUE...] COMMAND...: with our driver loaded, then with the in-tree one.
each_driver()
{
	local each parameters=()
	while [[ $1 == *=* ]]; do
		parameters+=("$1")
		shift
	done
	for each in "${drivers[@]}"; do
		load_driver "$each" "${parameters[@]}"
		"$@"
		unload_driver
	done
}

# check TEXT COMMAND...: a test of the driver that is loaded.
check()
{
	ok "$driver: $1" "${@:2}"
}

# check_not_in_tree REASON TEXT COMMAND...: the same, but the in-tree driver is known to
# fail it: if it doesn't, the reason no longer holds.
check_not_in_tree()
{
	if [ "$driver" = ours ]; then
		check "${@:2}"
	else
		ok "in-tree: not, since $1: $2" fails "${@:3}"
	fi
}

# The disk is written at random in blocks of all sizes and verified.
verify="fio --rw=randwrite --ioengine=libaio --direct=1 --iodepth=16 \
--verify=crc32c --verify_fatal=1 --do_verify=1 --size=2M --randrepeat=0 --minimal"

# same_data NAME: the guest reads from the medium what this machine finds in its file.
same_data()
{
	local sum
	sum=$(checksum_there "$1") && equal "$sum" "$(sha256sum < "$work/$1")"
}

# data_is_right NAME: what fio writes it reads again, and the file has it.
data_is_right()
{
	guest "$verify --name=$1 --bsrange=512-256k --filename=/run/disk/$1" && same_data "$1"
}

# check_data NAME...: the same of several disks at once, a test each.
check_data()
{
	local name jobs=() errors sums
	for name; do
		jobs+=("--name=$name --filename=/run/disk/$name")
		jobs+=("--bsrange=\$(cat /run/sys/$name/queue/logical_block_size)-256k")
	done
	errors=$(guest "$verify ${jobs[*]}" | awk -F ';' 'NF > 50 { print $3, $5 }')
	sums=$(guest "for name in $*; do
			echo \"\$name \$(dd if=/run/disk/\$name bs=1M iflag=direct status=none | sha256sum)\"
		done")
	for name; do
		check "$name: data is right" equal \
			"error $(sed -n "s/^$name //p" <<< "$errors"), $(sed -n "s/^$name //p" <<< "$sums")" \
			"error 0, $(sha256sum < "$work/$name")"
	done
}

# start_requests NAME [FIO_OPTION...]: returns when requests are in flight.
start_requests()
{
	local name=$1
	shift
	guest "rm -f /run/$name.status
		($verify --name=$name --bs=4k --filename=/run/disk/$name $* > /run/$name.log 2>&1
			echo \$? > /run/$name.status) > /dev/null 2>&1 < /dev/null &
		for i in \$(seq $WAIT_TRIES); do
			! awk '\$1 + \$2 > 4 { exit 1 }' /run/sys/$name/inflight || { sleep 0.1; continue; }
			exit 0
		done; cat /run/$name.log; exit 1"
}

# requests_end NAME SECONDS: with whatever status.
requests_end()
{
	guest "for i in \$(seq $(($2 * 10 * LIMIT_FACTOR))); do
			[ ! -s /run/$1.status ] || exit 0
			sleep 0.1
		done; echo fio goes on; exit 1"
}

# requests_succeed NAME SECONDS: what it wrote it has read again.
requests_succeed()
{
	requests_end "$1" "$2" &&
		guest "cat /run/$1.log; [ \$(cat /run/$1.status) = 0 ]" && same_data "$1"
}

# requests_fail NAME SECONDS: with I/O errors and no others.
requests_fail()
{
	local errors
	requests_end "$1" "$2" || return
	errors=$(guest "cat /run/$1.log" | sed -n 's/.*io_u error on file [^:]*: \([^:]*\):.*/\1/p' |
		sort | uniq -c)
	echo "fio's errors: $errors"
	[ "$(grep -c . <<< "$errors")" = 1 ] && grep -q 'Input/output error' <<< "$errors"
}

# set_recovery NAME ATTEMPTS [IO_TIMEOUT]
set_recovery()
{
	guest "echo $2 > /run/sys/$1/recovery/attempts
		echo ${3:-30000} > /run/sys/$1/queue/io_timeout"
}

# --- the guest's log ---

# mark_log TEXT: log_since_mark shows what comes after it.
mark_log()
{
	log_mark="selftests: $1 $EPOCHREALTIME"
	guest "echo '$log_mark' > /dev/kmsg"
}

# The guest need not answer.
log_since_mark()
{
	guest_machine log | tr -d '\r' | sed "1,/$log_mark/d"
}

# driver_said PATTERN [COUNT]: so many lines since the mark (1), all of which match.
driver_said()
{
	local lines count=${2:-1}
	lines=$(log_since_mark | grep -E ' virtio_blk( virtio[0-9]+)?: ')
	echo "virtio_blk said: $lines"
	[ "$(grep -c . <<< "$lines")" = "$count" ] && [ "$(grep -cE "$1" <<< "$lines")" = "$count" ]
}

no_reports_since_mark()
{
	log_since_mark | "$virtio_blk_lib_dir/../../tools/testbed/kernel-reports"
}

# --- suspend ---

# start_suspend STATE PM_TEST: soon after this command has ended and the agent has said so.
start_suspend()
{
	resumptions=$(count_resumptions)
	guest "rm -f /run/suspend.status
		(while kill -0 \$\$ 2> /dev/null; do sleep 0.1; done
			sleep $LIMIT_FACTOR
			echo 0 > /sys/module/suspend/parameters/pm_test_delay
			echo $2 > /sys/power/pm_test; echo $1 > /sys/power/state
			echo \$? > /run/suspend.status) > /run/suspend.log 2>&1 < /dev/null &"
}

count_resumptions()
{
	guest_machine log | grep -c 'PM: suspend exit'
}

# From a suspension that may have failed.
has_resumed()
{
	[ "$(count_resumptions)" -gt "$resumptions" ]
}

was_suspended()
{
	guest_machine reconnect &&
		when_written /run/suspend.status 'cat /run/suspend.log; [ $(cat /run/suspend.status) = 0 ]'
}

# --- removed devices ---

# remove_device ADDRESS SECONDS: of a PCI device, which is to take less than that. If it
# has not come to an end after the timeout of a request and some more, it hangs.
remove_device()
{
	local milliseconds
	milliseconds=$(guest "rm -f /run/removed
		(start=\${EPOCHREALTIME/./}
			echo 1 > /sys/bus/pci/devices/$1/remove
			echo \$(((\${EPOCHREALTIME/./} - start) / 1000)) > /run/removed) \
				> /dev/null 2>&1 < /dev/null &
		for i in \$(seq $((400 * LIMIT_FACTOR))); do
			[ ! -s /run/removed ] || exec cat /run/removed
			sleep 0.1
		done; exit 1") || {
		echo "it hangs"
		return 1
	}
	echo "it took $milliseconds ms"
	((milliseconds < $2 * 1000 * LIMIT_FACTOR))
}

removal_hangs()
{
	guest "[ ! -s /run/removed ]"
}
