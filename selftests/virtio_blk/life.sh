#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Suspend, hot plug and unplug: with requests in flight, each of which ends, and with data
# that stays.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
# Of the slow disk a request takes 10 ms, so that many are in flight.
add_disk stays virtio-blk-pci,num-queues=2
add_disk polled virtio-blk-pci,num-queues=2
truncate -s 16M "$work/slow"
guest_start "${disks[@]}" \
	-object throttle-group,id=throttle,x-iops-total=100 \
	-blockdev "driver=file,node-name=slow-file,filename=$work/slow" \
	-blockdev driver=throttle,node-name=slow,throttle-group=throttle,file=slow-file \
	-device virtio-blk-pci,id=slow,drive=slow,serial=slow,num-queues=2

writer="fio --name=writer --rw=randwrite --bs=4k --iodepth=32 --direct=1 --ioengine=libaio \
--time_based --runtime=$((60 * LIMIT_FACTOR)) --offset=1M --size=15M --eta=never"

# start_writer NAME: returns when requests are in flight.
start_writer()
{
	guest "rm -f /tmp/status; ($writer --filename=/run/disk/$1 > /tmp/writer 2>&1; echo \$? > /tmp/status) &
		for i in \$(seq $WAIT_TRIES); do
			! awk '\$1 + \$2 { exit 1 }' /run/sys/$1/inflight || { sleep 0.1; continue; }
			exit 0
		done; cat /tmp/writer; exit 1"
}

# In many times what 32 requests take.
writer_fails()
{
	when_written /tmp/status 'cat /tmp/writer; [ $(cat /tmp/status) != 0 ]'
}

writer_goes_on()
{
	guest "before=\$(awk '{ print \$5 }' /run/sys/$1/stat)
		sleep $LIMIT_FACTOR
		[ ! -e /tmp/status ] && [ \$(awk '{ print \$5 }' /run/sys/$1/stat) -gt \$before ]"
}

stop_writer()
{
	guest killall -INT fio &&
		when_written /tmp/status "cat /tmp/writer; grep 'err= 0:' /tmp/writer"
}

# --- suspend ---

# suspend_and STATE PM_TEST COMMAND...: suspends, and after the command the guest has to
# resume, without an error.
suspend_and()
{
	start_suspend "$1" "$2" && "${@:3}" && wait_until has_resumed && was_suspended
}

# Down to where all devices are suspended, and back, without firmware.
suspend_to_idle()
{
	suspend_and freeze devices true
}

wake_up()
{
	wait_until machine_is suspended &&
		guest_machine monitor '{"execute": "system_wakeup"}'
}

# The machine is reset, and with it the devices.
suspend_to_memory()
{
	suspend_and mem none wake_up
}

machine_is()
{
	guest_machine monitor '{"execute": "query-status"}' | grep "\"status\": \"$1\""
}

# One with KCOV traces functions before it has its processor's own memory again.
kernel_resumes_from_memory()
{
	guest '! grep -q " __sanitizer_cov_trace_pc$" /proc/kallsyms'
}

# Both the device's and the block layer's.
cache_mode()
{
	attribute stays cache_type "$1" && attribute stays queue/write_cache "$1"
}

suspend_tests()
{
	check "write through is chosen" guest "echo 'write through' > /run/sys/stays/cache_type"
	check "fio writes" start_writer stays
	check "suspend to idle and resume" suspend_to_idle
	check "fio goes on" writer_goes_on stays
	if kernel_resumes_from_memory; then
		check "suspend to memory and resume" suspend_to_memory
		check "fio goes on" writer_goes_on stays
	else
		skip "$driver: suspend to memory and resume" \
			"a kernel with KCOV does not come back from it"
	fi
	check "fio ends well" stop_writer
	check_not_in_tree "it does not tell the device, which has forgotten it" \
		"the cache is still write through" cache_mode "write through"
	check "data is right" data_is_right stays
	check "data of polled requests is right" guest "fio --name=polled --ioengine=io_uring \
		--hipri=1 --direct=1 --bs=4k --iodepth=8 --size=4M --rw=randwrite --verify=crc32c \
		--verify_fatal=1 --do_verify=1 --minimal --filename=/run/disk/polled"
	check "and the file has it" same_data polled
}

# --- the end of a device, and its return ---

unplug()
{
	guest_machine monitor '{"execute": "device_del", "arguments": {"id": "slow"}}'
}

# QEMU frees the disk's node a while after the guest has let the device go.
plug()
{
	wait_until add_device
}

add_device()
{
	guest_machine monitor "{\"execute\": \"device_add\", \"arguments\":
		{\"driver\": \"virtio-blk-pci\", \"id\": \"slow\", \"drive\": \"slow\",
		 \"serial\": \"slow\", \"num-queues\": 2}}"
}

disk_is_gone()
{
	guest "for i in \$(seq $WAIT_TRIES); do
			[ -e \$(readlink /run/disk/slow) ] || exit 0
			sleep 0.1
		done; exit 1"
}

disk_is_back()
{
	guest "$(declare -f link_disks)
		for i in \$(seq $WAIT_TRIES); do
			link_disks
			[ ! -e /run/disk/slow ] || exit 0
			sleep 0.1
		done; exit 1"
}

virtio_device()
{
	guest 'basename $(readlink -f /run/sys/slow/device)'
}

# What was written before is what is there.
write_mark()
{
	dd if=/dev/urandom of="$work/mark" bs=4k count=8 status=none
	guest "base64 -d > /tmp/mark <<< '$(base64 "$work/mark")'
		dd if=/tmp/mark of=/run/disk/slow bs=4k oflag=direct status=none"
}

mark_is_there()
{
	guest "dd if=/run/disk/slow bs=4k count=8 iflag=direct status=none | cmp - /tmp/mark" &&
		cmp -n 32768 "$work/slow" "$work/mark"
}

# ends_and_comes_back END RETURN: what was just begun takes the disk away, RETURN brings
# it back.
ends_and_comes_back()
{
	local what=$1 back=$2
	check "$what: fio fails" writer_fails
	check "$what: the disk is gone" disk_is_gone
	check "$what: it comes back" "$back"
	check "$what: it is found" disk_is_back
	check "$what: it has its data" mark_is_there
}

rescan()
{
	guest "echo 1 > /sys/bus/pci/rescan"
}

bind()
{
	guest "echo $bound > /sys/bus/virtio/drivers/virtio_blk/bind"
}

end_tests()
{
	local bound
	check "data is written" write_mark
	check "fio writes to a slow disk" start_writer slow
	check "unplug" unplug
	ends_and_comes_back unplug plug

	check "fio writes to it again" start_writer slow
	check "remove" guest "echo 1 > /sys/bus/pci/devices/$(pci_device slow)/remove"
	ends_and_comes_back remove rescan

	bound=$(virtio_device)
	check "fio writes to it again" start_writer slow
	check "unbind" guest "echo $bound > /sys/bus/virtio/drivers/virtio_blk/unbind"
	ends_and_comes_back unbind bind

	check "a disk in use keeps its driver" guest "exec 3< /run/disk/slow; ! rmmod virtio_blk"
}

life_tests()
{
	suspend_tests
	end_tests
}

each_driver poll_queues=1 life_tests
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
