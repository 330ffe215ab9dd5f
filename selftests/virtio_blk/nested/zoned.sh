#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Host-managed zoned disks: zones as the device has them, and data in them, on a zoned
# null_blk of this machine behind QEMU's virtio-blk-pci. At the end a table of what tools
# report under either driver.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../lib/virtio_blk.sh"

need_plain_guest
make_work_dir
# 16 zones of 1 MiB, two of which are conventional.
zoned=$(make_nullb zoned size=16 zoned=1 zone_size=1 zone_nr_conv=2 zone_max_open=4 \
	zone_max_active=6) || skip_all "no zoned null_blk"
# 8 sequential ones.
append=$(make_nullb append size=8 zoned=1 zone_size=1)
mapfile -t nodes < <(host_disk zoned "$zoned"; host_disk append "$append")
guest_start "${nodes[@]}" -device virtio-blk-pci,drive=zoned,serial=zoned,num-queues=2 \
	-device virtio-blk-pci,drive=append,serial=append,num-queues=2
# Sectors of a zone.
zone=2048

# zone_command COMMAND ZONE [COUNT]: of blkzone.
zone_command()
{
	guest "blkzone $1 -o $(($2 * zone)) -c ${3:-1} \$(readlink /run/disk/zoned)"
}

# The same zones with the same conditions and write pointers as on this machine.
same_zones()
{
	diff <(guest 'blkzone report $(readlink /run/disk/zoned)') <(blkzone report "$zoned")
}

# condition ZONE NAME WRITTEN: of a zone, and its write pointer, here and there.
condition()
{
	same_zones &&
		equal "$(blkzone report -o $(($1 * zone)) -c 1 "$zoned" |
			sed 's/.*wptr \(0x[0-9a-f]*\) .*zcond:.*(\(..\)).*/\2 \1/')" \
			"$2 $(printf '0x%06x' "$3")"
}

zones_are_reset()
{
	guest 'blkzone reset $(readlink /run/disk/zoned)' && same_zones &&
		equal "$(blkzone report "$zoned" | grep -c 'zcond: 1(em)')" 14
}

# write_zone ZONE OFFSET LENGTH: of random data, in KiB.
write_zone()
{
	guest "dd if=/dev/urandom of=/tmp/data bs=1k count=$3 status=none &&
		dd if=/tmp/data of=/run/disk/zoned bs=$3k count=1 seek=$(($1 * zone / 2 + $2))k \
			oflag=direct,seek_bytes status=none"
}

# has_data ZONE OFFSET LENGTH: what was just written, for the guest and here.
has_data()
{
	local part="bs=64k skip=$((($1 * zone / 2 + $2) / 64)) count=$(($3 / 64)) status=none" sums
	sums=$(guest "sha256sum < /tmp/data; dd if=/run/disk/zoned iflag=direct $part | sha256sum")
	# shellcheck disable=SC2086 # options
	sums+=$'\n'$(dd if="$zoned" iflag=direct $part | sha256sum)
	echo "$sums"
	[ "$(wc -l <<< "$sums")" = 3 ] && [ "$(sort -u <<< "$sums" | wc -l)" = 1 ]
}

# Whole disks: where a zone was not written there are zeroes.
same_data_here()
{
	local sum
	sum=$(guest "dd if=/run/disk/zoned bs=1M iflag=direct status=none | sha256sum") &&
		equal "$sum" "$(dd if="$zoned" bs=1M iflag=direct status=none | sha256sum)"
}

zbd_fio="fio --name=zbd --zonemode=zbd --filename=/run/disk/zoned --offset=2M --size=14M \
--direct=1 --iodepth=8 --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 \
--max_open_zones=4"

# fio_verifies OPTION...
fio_verifies()
{
	guest "$zbd_fio $*" && same_zones && same_data_here
}

opens_no_more_than_the_limit()
{
	zone_command open 2 4 && fails zone_command open 6 && same_zones
}

# Through an NVMe namespace over the disk, then as the disk has it.
appends()
{
	local data
	guest ". /opt/disks.sh
		blkzone reset \$(readlink /run/disk/append)
		ip link set lo up
		make_nvme_tcp \$(readlink /run/disk/append) || exit
		/opt/append \$(nvme_namespace) $zone && status=0
		remove_nvme_tcp
		exit \${status:-1}" || return
	equal "$(blkzone report -o $zone -c 1 "$append" | sed 's/.*wptr \(0x[0-9a-f]*\) .*/\1/')" \
		0x000200 || return
	data="bs=1M count=1 skip=1 iflag=direct status=none"
	# shellcheck disable=SC2086 # options
	equal "$(guest "dd if=/run/disk/append $data | sha256sum")" \
		"$(dd if="$append" $data | sha256sum)"
}

report()
{
	guest 'disk=$(readlink /run/disk/zoned)
		lsblk -dn -z $disk | sed "s/^[^ ]* *//; s/  */ /g; s/^/lsblk -z|/"
		for command in report "open -o 4096 -c 1" "close -o 4096 -c 1" \
			"finish -o 4096 -c 1" "reset -o 4096 -c 1" "open -o 0 -c 1" \
			"reset -o 1" capacity reset; do
			blkzone $command $disk > /tmp/output 2>&1
			echo "blkzone $command|status $? $(wc -l < /tmp/output) lines $(head -n 1 /tmp/output | sed "s/.*: //")"
		done
		cd /run/sys/zoned/queue
		for attribute in zoned chunk_sectors nr_zones max_open_zones max_active_zones \
			zone_append_max_bytes zone_write_granularity discard_max_bytes \
			write_zeroes_max_bytes; do
			echo "queue/$attribute|$(cat $attribute)"
		done
		for pattern in write randwrite read trim; do
			blkzone reset $disk
			echo "fio zonemode=zbd $pattern|$(fio --name=zbd --zonemode=zbd --filename=$disk \
				--offset=2M --size=1M --direct=1 --bs=64k --rw=$pattern --minimal \
				--ioengine=psync --max_open_zones=4 2>&1 |
				awk -F ";" "NF > 50 { print \"error \" \$5 \", KiB read \" \$6 \", written \" \$47 }"),\
 zones $(blkzone report $disk | sed "s/.*zcond: *//; s/(.*//" | sort | uniq -c | tr -s " \n" " ")"
		done
		blkzone reset $disk'
}

zone_tests()
{
	check "a disk with zones" attribute zoned queue/zoned host-managed
	check "of 1 MiB" attribute zoned queue/chunk_sectors "$zone"
	check "16 of them" attribute zoned queue/nr_zones 16
	check "4 of which can be open" attribute zoned queue/max_open_zones 4
	check "6 of which can be active" attribute zoned queue/max_active_zones 6
	check "all are reset" zones_are_reset
	check "a zone is written" write_zone 2 0 64
	check "its write pointer has moved" condition 2 oi 128
	check "its data is right" has_data 2 0 64
	check "it is written on" write_zone 2 64 512
	check "its data is right" has_data 2 64 512
	check "a write elsewhere in it fails" fails write_zone 2 768 64
	check "and moved nothing" condition 2 oi 1152
	check "it is closed" zone_command close 2
	check "which is reported" condition 2 cl 1152
	check "it is finished" zone_command finish 2
	check "which is reported" condition 2 fu "$zone"
	check "a finished zone is not written" fails write_zone 2 576 64
	check "it is reset" zone_command reset 2
	check "which is reported" condition 2 em 0
	check "zones are opened, to the limit" opens_no_more_than_the_limit
	check "an opened zone is reported" condition 5 oe 0
	check "all are reset at once" zones_are_reset
	check "a conventional zone is written anywhere" write_zone 1 512 64
	check "its data is right" has_data 1 512 64
	check "fio verifies sequential writes with zonemode=zbd" \
		fio_verifies --rw=write --bs=64k --ioengine=libaio --io_size=2M
	check "fio verifies random writes with zonemode=zbd" \
		fio_verifies --rw=randwrite --bs=16k --ioengine=io_uring --io_size=2M
	check "appended blocks are where the answer says" appends
	report > "$work/report.$driver"
}

show_table()
{
	paste -d '|' "$work/report.ours" "$work/report.in-tree" | awk -F '|' '
		BEGIN { printf "# %-32s %-60s %s\n", "tool or attribute", "ours", "in-tree" }
		{ printf "# %-32s %-60s %s\n", $1, $2, $2 == $4 ? "the same" : $4 }'
}

same_report()
{
	grep -qE "$1" "$work/report.ours" &&
		diff <(grep -E "$1" "$work/report.ours") <(grep -E "$1" "$work/report.in-tree")
}

# What a driver shows depends on its kernel.
drivers=(ours in-tree)
each_driver zone_tests
show_table
for tool in 'lsblk -z' blkzone 'fio zonemode=zbd' queue/; do
	ok "$tool: the same with both drivers" same_report "^$tool"
done
ok "the guest's kernel has nothing to complain of" guest_has_no_reports
guest_stop
remove_nullb zoned
remove_nullb append
tap_end
