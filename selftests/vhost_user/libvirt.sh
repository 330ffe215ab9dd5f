#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# libvirt as the distribution ships it: a domain with a disk of type vhostuser is defined,
# started, saved and restored under writes that are verified, and destroyed.
#
# libvirtd runs in DEBIAN_ROOT, a root with its packages. It is not written to: what
# libvirtd writes is in memory.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vmm.sh"

once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_user
[ -x "${DEBIAN_ROOT:-}/usr/sbin/libvirtd" ] || skip_all "DEBIAN_ROOT has no libvirtd"
new_disk disk cache_size=1
root=$(mktemp -d)
trap 'end_libvirt; end_vmms' EXIT

# mount_on DIRECTORY ARGUMENT...: below the root.
mount_on()
{
	mount "${@:2}" "$root/$1"
}

# A user of its own, cgroups, and a daemon for logs have nothing to do with the disk.
make_root()
{
	local dir
	mount --bind "$DEBIAN_ROOT" "$root" || return
	for dir in run tmp var/lib/libvirt var/log var/cache etc/libvirt; do
		mount_on "$dir" -t tmpfs tmpfs || return
	done
	for dir in dev proc sys; do
		mount_on "$dir" --rbind "/$dir" || return
	done
	mkdir -p "$root$blkd_dir" "$root/var/log/libvirt" "$root/var/lib/libvirt/qemu" &&
		mount_on "$blkd_dir" --bind "$blkd_dir" &&
		cp "$DEBIAN_ROOT"/etc/libvirt/*.conf "$root/etc/libvirt/" &&
		cat >> "$root/etc/libvirt/qemu.conf" <<- 'END'
		user = "root"
		group = "root"
		security_driver = "none"
		namespaces = []
		cgroup_controllers = []
		stdio_handler = "file"
		END
	cp "$GUEST_KERNEL" "$root/run/vmlinuz"
	IFS=, read -r -a initrds <<< "$GUEST_INITRD"
	cat "${initrds[@]}" > "$root/run/initrd"
}

end_libvirt()
{
	local pid
	# Not virsh(), which may take longer than a test has that was told to end.
	timeout -k 1 $((10 * LIMIT_FACTOR)) chroot "$root" virsh -q -c qemu:///system destroy guest > /dev/null 2>&1
	pid=$(cat "$root/run/libvirtd.pid" 2> /dev/null) && kill "$pid" &&
		wait_until [ ! -e "/proc/$pid" ]
	umount -R -l "$root"
	rmdir "$root"
}

virsh()
{
	timeout $((120 * LIMIT_FACTOR)) chroot "$root" virsh -q -c qemu:///system "$@"
}

start_libvirtd()
{
	chroot "$root" libvirtd --daemon --pid-file /run/libvirtd.pid && virsh version
}

# The disk as Documentation/vhost-blkd.rst has it, in a guest that tools/testbed/init serves.
define_domain()
{
	cat > "$root/run/guest.xml" <<- END
	<domain type='kvm'>
	  <name>guest</name>
	  <memory unit='MiB'>256</memory>
	  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
	  <vcpu>2</vcpu>
	  <os>
	    <type arch='x86_64' machine='pc'>hvm</type>
	    <kernel>/run/vmlinuz</kernel>
	    <initrd>/run/initrd</initrd>
	    <cmdline>console=ttyS0 quiet panic=-1 noxsave tsc=nowatchdog</cmdline>
	  </os>
	  <features><acpi/><apic/></features>
	  <cpu mode='host-passthrough' check='none'/>
	  <devices>
	    <emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='vhostuser' device='disk' snapshot='no'>
	      <driver name='qemu' type='raw' queues='2'/>
	      <source type='unix' path='$blkd_dir/disk'>
	        <reconnect enabled='yes' timeout='1'/>
	      </source>
	      <target dev='vda' bus='virtio'/>
	    </disk>
	    <controller type='usb' model='none'/>
	    <serial type='file'><source path='/run/console.log' append='on'/></serial>
	    <channel type='pty'><target type='virtio' name='testbed.agent'/></channel>
	    <memballoon model='none'/>
	  </devices>
	</domain>
	END
	virsh define /run/guest.xml
}

# The channel to the agent, for as long as the domain runs.
open_agent()
{
	exec {agent}<> "$(virsh dumpxml guest | grep -o -m 1 '/dev/pts/[0-9]*')"
}

# Instead of the one of guest.sh, which is for QEMUs of tools/testbed/machine.
# guest COMMAND: runs it in the domain, with its output and its status.
guest()
{
	local line id=$EPOCHREALTIME command=$*
	printf '%s %s %s\n' "$id" $((120 * LIMIT_FACTOR)) "${command@Q}" >&"$agent"
	while IFS= read -r -t $((150 * LIMIT_FACTOR)) -u "$agent" line; do
		case $line in
		*$'\x1e'"$id "*)
			return "${line##* }"
			;;
		*)
			echo "$line"
			;;
		esac
	done
	return 1
}

restores()
{
	virsh restore /run/saved && rm "$root/run/saved"
}

# What libvirt can't know of a disk in another process.
has_no_counters()
{
	local output
	output=$(virsh domblkstat guest vda 2>&1)
	echo "$output"
	! grep -q 'wr_req [1-9]' <<< "$output"
}

is_shut_off()
{
	[ "$(virsh domstate guest)" = "shut off" ]
}

ok "a root for libvirtd" make_root || bail "libvirtd can't be tried"
start_daemon disk disk --num-queues=2
ok "libvirtd starts" start_libvirtd || bail "libvirtd does not start"
ok "the domain is defined" define_domain
ok "it starts" virsh start guest || bail "the domain does not start"
open_agent
ok "the guest boots" guest true
ok "the driver loads" load_driver
ok "fio writes and verifies" start_writer disk
ok "domblkstat shows nothing of the disk" has_no_counters
echo "# domblkstat: $(virsh domblkstat guest vda 2>&1 | tr '\n' ' ')"
ok "the domain is saved" virsh save guest /run/saved
ok "and restored" restores
open_agent
ok "fio goes on" writer_goes_on disk
ok "the daemon is killed" kill_daemon disk
start_daemon disk disk --num-queues=2
ok "and after its restart fio goes on" writer_goes_on disk
ok "all that fio wrote was right" stop_writer disk
ok "guest and host see the same" same_data disk
ok "the domain is destroyed" virsh destroy guest
ok "and shut off" is_shut_off
ok "it is undefined" virsh undefine guest
tap_end
