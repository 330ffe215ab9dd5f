#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A user follows README.md and Documentation/vhost-blkd.rst: their commands run word by word on
# a Debian with systemd and udev, and the guest that they start boots from the disk. The
# commands of other pages that look at a device run beside it, while a program reads.
#
# The Debian is a container of this machine: DEBIAN_ROOT, with what "make install-vhost-blkd"
# installs (INSTALLED, a directory). What it writes is in memory.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"
top=$here/../..
test=selftests/vhost_user/documentation.sh
. "$here/../lib/pages.sh"

once || skip_all "the same on every host kernel: tested on the first one"
: "${INSTALLED:=$here/../../installed}"
[ -x "${DEBIAN_ROOT:-}/usr/lib/systemd/systemd" ] || skip_all "DEBIAN_ROOT has no systemd"
[ -d "$INSTALLED" ] || skip_all "INSTALLED has no vhost-blkd"
[ -r "$top/README.md" ] || skip_all "the pages are not there"
[ -r "${GUEST_DISK:-}" ] || skip_all "GUEST_DISK names no disk to boot from"
modprobe -q overlay || skip_all "no overlayfs"
need_daemon

work=$(mktemp -d)
root=$work/root
cgroup=/sys/fs/cgroup/documentation
node=/dev/vhost-blk
node_owner=$(stat -c %u:%g "$node")
node_mode=$(stat -c %a "$node")
trap 'end_debian; end_vmms' EXIT

# --- the Debian ---

# Whatever would change the machine around the container is not started: kernel parameters,
# modules, events of all devices.
make_debian()
{
	local unit
	mount -t tmpfs tmpfs "$work" && mkdir "$work"/{root,upper,work} &&
		mount -t overlay overlay "$root" -o \
			"lowerdir=$DEBIAN_ROOT,upperdir=$work/upper,workdir=$work/work" &&
		cp -r "$INSTALLED/." "$root/" && mkdir -p "$root/usr/lib/modules" &&
		mount --bind /lib/modules "$root/usr/lib/modules" &&
		rm -f "$root"/etc/systemd/system/*.wants/* &&
		touch "$root"/{etc,var}/.updated || return
	for unit in systemd-{sysctl,modules-load,udev-trigger,remount-fs,random-seed}.service \
		mdmonitor.service; do
		ln -s /dev/null "$root/etc/systemd/system/$unit" || return
	done
}

# wait_for SECONDS COMMAND...
wait_for()
{
	local end=$((SECONDS + $1 * LIMIT_FACTOR))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.5
	done
}

# In namespaces of its own, where its root is the root.
boot_debian()
{
	mkdir "$cgroup" &&
		cat > "$work/boot" <<- END
		echo \$\$ > $cgroup/cgroup.procs
		exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child bash -euc '
			mount -t proc proc $root/proc
			mount --rbind /dev $root/dev
			mount --rbind /sys $root/sys
			mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
			mount -t tmpfs tmpfs $root/run
			cd $root
			mount --move . /
			exec chroot . /usr/lib/systemd/systemd --unit=basic.target
		'
	END
	bash "$work/boot" > "$work/systemd.log" 2>&1 < /dev/null &
	wait_for 60 [ -e "$cgroup/init.scope" ] &&
		wait_for 120 debian systemctl -q is-active basic.target 2> /dev/null
}

# debian COMMAND...: as a root shell there.
debian()
{
	nsenter --target "$(sed 1q "$cgroup/init.scope/cgroup.procs")" --mount --pid --uts --ipc --cgroup --root --wdns=/ \
		env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

end_debian()
{
	[ "$tap_failures" = 0 ] || tail -n 40 "$work"/*.log | tr -d '\r' | sed 's/^/# /'
	[ ! -d "$cgroup" ] || echo 1 > "$cgroup/cgroup.kill"
	wait_until rmdir_all "$cgroup"
	rm -rf /dev/vg
	chown "$node_owner" "$node"
	chmod "$node_mode" "$node"
	umount "$root/usr/lib/modules" "$root" "$work"
	rmdir "$work"
}

rmdir_all()
{
	[ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} + 2> /dev/null
}

# --- the pages ---

# follow PAGE N: types the block.
follow()
{
	block "$@" > "$root/root/commands"
	[ -s "$root/root/commands" ] && debian bash -eux /root/commands < /dev/null
}

# begin PAGE N: the same for a block whose last command runs as long as its guest.
begin()
{
	began=$SECONDS
	block "$@" > "$root/root/commands"
	debian setsid bash -eux /root/commands > "$work/guest.log" 2>&1 < /dev/null &
	began_pid=$!
}

# guest_says PATTERN: or its QEMU has ended.
guest_says()
{
	local pattern=$1
	wait_for 300 says_or_ended && grep -q "$pattern" "$work/guest.log"
}

# Until the boot loader has read more than a kernel.
guest_reads_kernel()
{
	wait_for 300 has_read "$(stat -c %s "$GUEST_KERNEL")" && [ -e "/proc/$began_pid" ]
}

has_read()
{
	local bytes
	bytes=$(awk '$1 == "queue0:" { for (i = 2; i < NF; i++) if ($i == "read_bytes") print $(i + 1) }' \
		/proc/"$(pgrep -n -x vhost-blkd)"/fdinfo/*)
	((${bytes:-0} > $1)) || [ ! -e "/proc/$began_pid" ]
}

says_or_ended()
{
	grep -q "$pattern" "$work/guest.log" || [ ! -e "/proc/$began_pid" ]
}

end_guest()
{
	debian pkill qemu-system-x86 && wait_until eval '! debian pgrep qemu-system-x86'
}

node_is_kvm_s()
{
	[ "$(debian stat -c '%G %a' "$node")" = "kvm 660" ]
}

socket_is_kvm_s()
{
	[ "$(debian stat -c '%U:%G %a' /run/vhost-blkd/guest.sock)" = "vhost-blkd:kvm 770" ]
}

# --- what a device is doing ---

# on_machine PAGE N: the block runs on this machine, not in the Debian.
on_machine()
{
	block "$@" > "$work/commands"
	[ -s "$work/commands" ] && bash -eux "$work/commands"
}

# shows PATTERN PAGE N
shows()
{
	local output
	output=$(on_machine "${@:2}" 2>&1) || return
	echo "$output"
	grep -qE "$1" <<< "$output"
}

# watch PATTERN PAGE N: the cat of the block is ended when what it shows matches.
watch()
{
	local pid status
	block "${@:2}" > "$work/commands"
	bash -ux "$work/commands" > "$work/shown" 2>&1 &
	pid=$!
	wait_for 30 grep -qE "$1" "$work/shown"
	status=$?
	# The shell shows the command before it starts it.
	wait_until pkill -P "$pid" -x cat || kill "$pid"
	wait "$pid"
	tail -n 20 "$work/shown"
	return "$status"
}

# What the blocks switch on, if a block or this test was ended early.
end_tracing()
{
	local n
	echo 0 > /sys/kernel/tracing/events/vhost_blk/enable
	echo 0 > /sys/kernel/tracing/events/block/block_rq_issue/enable
	# Those that take the filter and the histograms away, each command of which may fail.
	for n in 3 4 6; do
		block Documentation/observability.rst "$n" | grep -v sleep | bash > /dev/null 2>&1
	done
	echo 'module vhost_blk -p; module vhost -p' > /sys/kernel/debug/dynamic_debug/control
}

# Until the program ends that reads from a disk.
tests_of_observability()
{
	local page=Documentation/observability.rst pid
	trap 'end_tracing; end_debian; end_vmms' EXIT
	"$here/../vhost_blk/load" "${disk_path[read]}" $((600 * LIMIT_FACTOR)) > /dev/null &
	pid=$!
	ok "observability.rst: all requests are shown" watch 'vhost_blk_request_completed: .*type=IN' $page 1
	ok "a filter is set" watch '\+ cat' $page 2
	ok "and taken away" on_machine $page 3
	ok "latencies by type" shows '^\{ type: +0, latency: ~ 2\^[0-9]+ *\} hitcount: +[1-9]' $page 4
	ok "time in the block device" shows '^\{ type: +0, ns: ~ 2\^[0-9]+ *\} hitcount: +[1-9]' $page 5
	ok "the histograms are taken away" on_machine $page 6
	ok "priorities" watch 'block_rq_issue: .* (none|rt|be|idle),0,[0-7]' $page 7
	ok "troubleshooting.rst: messages for developers" on_machine Documentation/troubleshooting.rst 1
	kill "$pid"
	wait "$pid" 2> /dev/null
}

new_disk boot size=64
dd if="$GUEST_DISK" of="${disk_path[boot]}" bs=1M oflag=direct status=none
# As udev does for a disk.
chgrp 6 "${disk_path[boot]}"
chmod 660 "${disk_path[boot]}"
mkdir /dev/vg
ln -s "${disk_path[boot]}" /dev/vg/guest

ok "a Debian with vhost-blkd" make_debian || bail "the pages can't be followed"
ok "systemd runs" boot_debian || bail "the pages can't be followed"
ok "vhost-blkd.rst: the user and the rule after an installation by make" \
	follow Documentation/vhost-blkd.rst 1
ok "/dev/vhost-blk belongs to the group kvm" wait_until node_is_kvm_s
ok "README.md: the disk is configured and its daemon started" follow README.md 1
ok "the service is active" debian systemctl is-active vhost-blkd@guest
ok "its socket is the group kvm's" socket_is_kvm_s
ok "vhost-blkd.rst: to start it again does no harm" follow Documentation/vhost-blkd.rst 2

begin README.md 2
ok "README.md: the guest's boot loader comes from the disk" guest_says 'GRUB loads the kernel'
ok "and its kernel" guest_reads_kernel
echo "# $((SECONDS - began)) s after QEMU was started"
ok "the guest is ended" end_guest
ok "the service is stopped" debian systemctl stop vhost-blkd@guest

begin Documentation/vhost-blkd.rst 3
ok "vhost-blkd.rst: by hand, the boot loader comes from the disk" guest_says 'GRUB loads the kernel'
ok "this guest is ended" end_guest

if [ -e /sys/kernel/tracing/events/vhost_blk/vhost_blk_request_completed/hist ]; then
	# Slow, so that the traces are short.
	new_disk read irqmode=2 completion_nsec=20000000 poll_queues=0
	tests_of_observability
else
	skip "observability.rst" "no histograms in tracefs"
fi
tap_end
