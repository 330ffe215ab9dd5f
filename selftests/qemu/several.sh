#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Several of them: two machines at once, a machine with eight disks, memory that is plugged
# in while they work.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/qemu.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_qemu
guest_with --memory 256M,slots=2,maxmem=1G
names=("$guest_name" "$guest_name-2")
trap 'for guest_name in "${names[@]}"; do guest_machine kill 2> /dev/null; done; remove_disks' EXIT

eight=(0 1 2 3 4 5 6 7)
for i in "${eight[@]}"; do
	new_disk "disk$i" size=32
	vhost_disk "disk$i" vhost-blk-pci,num-queues=2
done
first=("${disks[@]}")
disks=()
new_disk other
vhost_disk other

guest_start "${first[@]}"
on "${names[1]}" guest_start "${disks[@]}"
ok "the driver loads" load_driver
ok "and in the other machine" on "${names[1]}" load_driver

write_all()
{
	local name jobs=()
	for name; do
		jobs+=("--name=$name --filename=/run/disk/$name")
	done
	guest "fio --rw=randwrite --bsrange=4k-64k --iodepth=8 --direct=1 --ioengine=libaio --size=8M \
		--verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --minimal ${jobs[*]}"
}

ok "the other machine writes and verifies" on "${names[1]}" start_writer other
ok "eight disks at once: data is right" write_all "${eight[@]/#/disk}"
for i in "${eight[@]}"; do
	ok "disk $i: guest and host see the same" same_data "disk$i" 8
done

ok "memory is plugged in" plug_memory memory-backend-ram
ok "the disks read and write it" uses_all_memory disk0
ok "and data is right" write_all disk0 disk1
ok "the other machine goes on" on "${names[1]}" writer_goes_on other
ok "all that it wrote was right" on "${names[1]}" stop_writer other
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
ok "nor has the other's" on "${names[1]}" guest_has_no_reports
guest_stop
on "${names[1]}" guest_stop
tap_end
