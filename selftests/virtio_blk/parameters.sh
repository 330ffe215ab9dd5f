#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Module parameters: how many queues a disk has, how many of them are polled, how deep
# they are. Data on each.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
guest_with --cpus 4
add_disk many virtio-blk-pci,num-queues=4
add_disk one virtio-blk-pci,num-queues=1
guest_start "${disks[@]}"
ring=$(guest_machine monitor '{"execute": "x-query-virtio-queue-status", "arguments":
	{"path": "/machine/peripheral/many/virtio-backend", "queue": 0}}' |
	sed -n 's/.*"vring-num": \([0-9]*\).*/\1/p')

# queues NAME TOTAL POLLED: as the driver asked the transport for interrupts, and as the
# block layer shows them.
queues()
{
	local interrupts
	interrupts=$(guest "grep -c \"\$(basename \$(readlink -f /run/sys/$1/device))-req\" /proc/interrupts")
	equal "$(guest "ls /run/sys/$1/mq | wc -l") queues, $interrupts interrupting" \
		"$2 queues, $(($2 - $3)) interrupting"
}

polled_fio="fio --name=polled --ioengine=io_uring --hipri=1 --direct=1 --bs=4k --iodepth=8 \
--size=4M --randrepeat=0 --minimal"

# Interrupts of a disk's requests, of all queues together.
interrupts()
{
	guest "awk -v name=\"\$(basename \$(readlink -f /run/sys/$1/device))-req\" \
		'index(\$NF, name) { sum += \$2 + \$3 + \$4 + \$5 } END { print sum + 0 }' /proc/interrupts"
}

polled_data_is_right()
{
	guest "$polled_fio --filename=/run/disk/many --rw=randwrite --verify=crc32c \
		--verify_fatal=1 --do_verify=1" && same_data many
}

polled_reads_do_not_interrupt()
{
	local before
	before=$(interrupts many)
	guest "$polled_fio --filename=/run/disk/many --rw=randread --offset=8M" &&
		equal "$(interrupts many)" "$before"
}

polling_is_refused()
{
	guest "! $polled_fio --filename=/run/disk/$1 --rw=randread"
}

# depth_is REQUESTS
depth_is()
{
	attribute many queue/nr_requests "$1"
}

defaults()
{
	check "4 queues of the device are used" queues many 4 0
	check "1 queue of the device is used" queues one 1 0
	check "none is polled" attribute many queue/io_poll 0
	check "polling is refused" polling_is_refused many
	check "a queue is as deep as its ring" depth_is "$ring"
}

num_request_queues()
{
	check "num_request_queues is shown" \
		equal "$(guest cat /sys/module/virtio_blk/parameters/num_request_queues)" 2
	check "2 queues of 4 are used" queues many 2 0
	check "a disk with fewer has fewer" queues one 1 0
	check "data is right" data_is_right many
}

poll_queues()
{
	check "2 queues of 4 are polled" queues many 4 2
	check "a single queue is not" queues one 1 0
	check "which is shown" attribute many queue/io_poll 1
	check "and of the other disk" attribute one queue/io_poll 0
	check "data of polled requests is right" polled_data_is_right
	check "polled requests don't interrupt" polled_reads_do_not_interrupt
	check "polling where no queue is polled is refused" polling_is_refused one
	check "data of others is right" data_is_right many
}

too_many_poll_queues()
{
	check "one queue is left that is not polled" queues many 4 3
	check "data of polled requests is right" polled_data_is_right
	check "data of others is right" data_is_right many
}

queue_depth()
{
	check "a queue is as deep" depth_is 8
	check "data is right" data_is_right many
}

deep_queue()
{
	check_not_in_tree "it takes what it was told" \
		"a queue is not deeper than its ring" depth_is "$ring"
	check "data is right" data_is_right many
}

each_driver defaults
each_driver num_request_queues=2 num_request_queues
each_driver poll_queues=2 poll_queues
each_driver poll_queues=100 too_many_poll_queues
each_driver queue_depth=8 queue_depth
each_driver queue_depth=2048 deep_queue
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
tap_end
