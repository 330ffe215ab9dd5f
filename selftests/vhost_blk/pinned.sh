#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Guest memory that stays pinned (pinned.c), and the tests of requests with it.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

limit=120
huge_pages=/proc/sys/vm/nr_hugepages

# device_memory: a file of the memory of a device that this machine has.
device_memory()
{
	local file
	for file in /sys/bus/pci/devices/*/resource[0-9]; do
		# That of I/O ports can't be mapped.
		if [ -f "$file" ] && (($(stat -c %s "$file") >= 4096)); then
			echo "$file"
			return
		fi
	done
}

disk=$(make_nullb pinned)
run_tests "$limit" "$here/pinned" calls "$disk" "$(device_memory)"
for kind in anonymous huge memfd; do
	run_tests "$limit" "$here/pinned" data "$disk" "$kind"
done

# Guest memory is 32 MiB, and a fork copies it.
if [ -e "$huge_pages" ]; then
	old=$(cat "$huge_pages")
	echo $((old + 36)) > "$huge_pages"
fi
if (($(awk '/HugePages_Free/ { print $2 }' /proc/meminfo) >= 32)); then
	for kind in hugetlb memfd_hugetlb; do
		run_tests "$limit" "$here/pinned" data "$disk" "$kind"
	done
else
	skip "huge pages of hugetlbfs" "the kernel has none, or not enough memory in one piece"
fi
[ ! -e "$huge_pages" ] || echo "$old" > "$huge_pages"

# dm-delay delays the data, too.
sectors=$(blockdev --getsz "$disk")
if slow=$(make_dm pinned_slow "0 $sectors delay $disk 0 $((100 * LIMIT_FACTOR))"); then
	run_tests "$limit" "$here/pinned" owner "$slow"
	remove_dm pinned_slow
	slow=$(make_dm pinned_slow "0 $sectors delay $disk 0 2")
	run_tests "$limit" "$here/pinned" table "$slow"
	remove_dm pinned_slow
else
	skip "memory that is taken away under load" "no dm-delay"
fi

# The same requests as without pinned memory, a dirty log, and a virtual IOMMU.
export VHOST_CLIENT_PIN_MEMORY=1
slow=$(make_nullb pinned_slow irqmode=2 completion_nsec="$(slow_nsec 500)" memory_backed=0)
run_tests $((2 * limit)) "$here/log" "$disk"
run_tests $((2 * limit)) "$here/iotlb" "$disk" "$slow"
remove_nullb pinned_slow
remove_nullb pinned
tap_end
