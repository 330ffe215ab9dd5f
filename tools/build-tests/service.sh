#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# From a bare Debian machine to a guest: the commands of README.md's first page are run word by
# word. The packages are built and installed, the machine boots with systemd and AppArmor, a disk
# is configured, and a guest boots from it.
#
# BARE_ROOT is the machine's root file system, as in packages.sh. EMULATOR is a QEMU that
# runs the machine, GUEST_DISK what the guest boots from.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"
. "$here/../../selftests/lib/bare.sh"
top=$checkout
test=tools/build-tests/service.sh
. "$here/../../selftests/lib/pages.sh"

testbed=$here/../../tools/testbed
machine=$testbed/machine
name=service-$$
export TESTBED_ACCEL=tcg TESTBED_QEMU=$work/emulator
trap '"$machine" kill "$name" 2> /dev/null; end_bare' EXIT

# The administrator has the source. apt asks no questions, and leaves out what QEMU recommends: a
# graphical interface. Debian installs AppArmor by default.
make_administrator()
{
	mkdir "$root/root/vhost-blk"
	tar -C "$checkout" --exclude ./.git --exclude ./build -c . | tar -C "$root/root/vhost-blk" -x
	printf '%s\n' 'APT::Get::Assume-Yes "true";' 'APT::Install-Recommends "false";' \
		> "$root/etc/apt/apt.conf.d/90testbed"
	apt install apparmor
}

# follow COMMAND PAGE N: runs the Nth block of the page by the command. Its text goes along: the
# machine would keep what an earlier file of that name had.
follow()
{
	local commands
	commands=$(block "$2" "$3")
	[ -n "$commands" ] && "$1" "set -eux; $commands"
}

in_source()
{
	in_bare env -C /root/vhost-blk bash -c "$1"
}

# The root is a share, and the agent that runs commands is a service. The QEMU of the page gets
# more arguments: those that connect to the agent of the system on GUEST_DISK.
make_bootable()
{
	local tool
	mkdir -p "$root/usr/lib/testbed"
	for tool in init machine common.sh; do
		cp "$testbed/$tool" "$root/usr/lib/testbed/"
	done
	cat > "$root/usr/local/bin/qemu-system-x86_64" <<- 'END'
	#!/bin/sh
	exec /usr/lib/testbed/machine start guest --firmware /usr/share/seabios/bios-256k.bin \
		--kernel /vmlinuz --initrd /initrd.img -- "$@"
	END
	cat > "$root/etc/systemd/system/testbed.service" <<- END
	[Service]
	Environment=LIMIT_FACTOR=$LIMIT_FACTOR TESTBED_ACCEL=kvm TESTBED_QEMU=/usr/bin/qemu-system-x86_64
	ExecStart=/usr/lib/testbed/init
	[Install]
	WantedBy=multi-user.target
	END
	# On a slow machine neither a service that starts nor one that is silent is ended.
	mkdir "$root/etc/systemd/system/service.d"
	printf '%s\n' '[Service]' TimeoutStartSec=infinity WatchdogSec=0 \
		> "$root/etc/systemd/system/service.d/testbed.conf"
	cat > "$work/emulator" <<- END
	#!/bin/sh
	exec $EMULATOR -L /usr/share/qemu -L /usr/share/seabios "\$@"
	END
	chmod +x "$work/emulator" "$root/usr/local/bin/qemu-system-x86_64"
	# Keep systemd from making the hardware database and more anew.
	touch "$root"/{etc,var}/.updated
	# Other profiles take time to load.
	find "$root/etc/apparmor.d" -maxdepth 1 -type f ! -name vhost-blkd -delete
	in_bare systemctl enable testbed.service
}

# A VMM that AppArmor confines, in a mount namespace of its own, as libvirt's are. A file that an
# unconfined VMM has opened is passed on without a check. The argument is its memory. It runs until
# its firmware has read from the disk "other", or the daemon has closed the connection.
make_vmm()
{
	cat > "$root/etc/apparmor.d/vmm" <<- 'END'
	abi <abi/4.0>,
	profile vmm flags=(attach_disconnected) {
		file,
		network,
		unix,
		capability,
		mount,
		umount,
		signal,
		ptrace,
	}
	END
	cat > "$root/usr/local/bin/vmm" <<- 'END'
	#!/bin/bash
	pid=$(systemctl show -P MainPID vhost-blkd@other)
	bytes()
	{
		awk '$1 == "queue0:" { for (i = 2; i < NF; i++) if ($i == "read_bytes") print $(i + 1) }' \
			/proc/"$pid"/fdinfo/*
	}
	refusals()
	{
		journalctl -u vhost-blkd@other | grep -c 'connection is closed'
	}
	bytes=$(bytes) refusals=$(refusals)
	aa-exec -p vmm -- unshare --mount /usr/bin/qemu-system-x86_64 -accel kvm -cpu host -m 64M \
		-nodefaults -display none -object "$1,id=mem,size=64M,share=on" \
		-machine pc,memory-backend=mem \
		-chardev socket,id=disk,path=/run/vhost-blkd/other.sock \
		-device vhost-user-blk-pci,chardev=disk,num-queues=1 &
	while kill -0 $! && [ "$(bytes)" = "$bytes" ] && [ "$(refusals)" = "$refusals" ]; do
		sleep 0.5
	done
	kill -9 $!
	journalctl -n 2 -u vhost-blkd@other
	[ "$(bytes)" != "$bytes" ]
	END
	chmod +x "$root/usr/local/bin/vmm"
}

# Three disks: that of the page, with a link instead of a volume group, and two whose services are
# enabled before the boot. The third disk comes after it.
add_disks()
{
	echo 'KERNEL=="vda", SYMLINK+="vg/guest"' > "$root/etc/udev/rules.d/90-testbed.rules"
	echo BLK_FILE=/dev/vdb > "$root/etc/vhost-blkd/other.conf"
	echo BLK_FILE=/dev/vdc > "$root/etc/vhost-blkd/late.conf"
	in_bare systemctl enable vhost-blkd@other.service vhost-blkd@late.service
	cp "$GUEST_DISK" "$work/disk"
	truncate -s 128M "$work"/{disk,other,late}
}

# The machine needs more memory than the page's guest has.
boot()
{
	umount -R -l "$root/proc" "$root/dev" "$root/run" "$root/mnt"
	"$machine" start "$name" --memory 3G --boot-timeout 300 \
		--kernel "$root/boot/vmlinuz-$release" --initrd "$root/boot/initrd.img-$release" \
		--append "root=rootfs rw rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=512000,cache=loose" \
		--append "systemd.default_timeout_start_sec=$((90 * LIMIT_FACTOR))" \
		--append "systemd.default_device_timeout_sec=$((90 * LIMIT_FACTOR))" \
		-- -fsdev "local,id=root,path=$root,security_model=passthrough,multidevs=remap" \
		-device virtio-9p-pci,fsdev=root,mount_tag=rootfs \
		-blockdev "file,node-name=disk,filename=$work/disk" -device virtio-blk-pci,drive=disk \
		-blockdev "file,node-name=other,filename=$work/other" -device virtio-blk-pci,drive=other \
		-blockdev "file,node-name=late,filename=$work/late"
}

plug_late_disk()
{
	"$machine" monitor "$name" '{"execute": "device_add",
		"arguments": {"driver": "virtio-blk-pci", "drive": "late", "bus": "pci.0"}}'
}

waits_for_disk()
{
	on_host "systemctl show -P After vhost-blkd@guest" | grep -w dev-vg-guest.device
}

# on_host COMMAND: runs it in the machine.
on_host()
{
	"$machine" run "$name" -t 120 "$*"
}

# is_active INSTANCE
is_active()
{
	on_host "until systemctl is-active vhost-blkd@$1; do sleep 0.5; done"
}

is_confined()
{
	on_host 'cat /proc/$(systemctl show -P MainPID vhost-blkd@guest)/attr/current' |
		grep -x 'vhost-blkd (enforce)'
}

nothing_was_denied()
{
	on_host "! journalctl -k --grep 'apparmor=\"DENIED\"'"
}

makes_file_systems()
{
	on_host "mkdir /mnt/huge && mount -t tmpfs tmpfs /mnt/huge && echo 40 > /proc/sys/vm/nr_hugepages"
}

refuses_other_file()
{
	fails_with 'receiving: too many descriptors' on_host vmm memory-backend-file,mem-path=/mnt/huge
	on_host "journalctl -k --grep 'apparmor=\"DENIED\".* profile=\"vhost-blkd\" name=\"/mnt/huge/'"
}

# may WHAT GROUP: a user of that group alone.
may()
{
	on_host "setpriv --reuid 65534 --regid $2 --clear-groups test $1"
}

guest()
{
	on_host "/usr/lib/testbed/machine run guest -t 100 ${*@Q}"
}

writes_and_verifies()
{
	guest "modprobe virtio_blk && fio --name=t --filename=/dev/vda --offset=64M --size=16M \
		--rw=randwrite --bs=4k --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --minimal"
}

# The guest writes meanwhile.
upgrades()
{
	guest "fio --name=t --filename=/dev/vda --offset=64M --size=16M --rw=randwrite --bs=4k \
		--ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --time_based --runtime=10 \
		--minimal > /tmp/fio 2>&1 &"
	on_host vhost-blk-upgrade --force || return
	guest "wait_for() { while pidof fio; do sleep 0.5; done; }; wait_for; cat /tmp/fio; grep '^3;' /tmp/fio"
}

make_bare || skip_all "no overlay file system"
ok "a bare machine, and the source" make_administrator
start=$SECONDS
ok "README.md: packages are built and installed" follow in_source README.md 1 || bail "no packages"
ok "without git their version has the time of the newest file" in_bare sh -c \
	"dpkg-query -W -f '\${Version}' vhost-blk | grep '+git20'"
release=$(kernel 6)
installed=$SECONDS
ok "the machine can boot" make_bootable
ok "its disks" add_disks
ok "a confined VMM" make_vmm
ok "the machine boots" boot || bail "the machine does not boot"
booted=$SECONDS
ok "the module is loaded" on_host lsmod "| grep vhost_blk"
ok "the service of a disk starts at boot" is_active other
ok "a disk comes late" plug_late_disk
ok "and its service starts" is_active late
ok "README.md: one line of configuration" follow on_host README.md 2
ok "the service runs" is_active guest
ok "systemd misses no variable" on_host "! journalctl -u vhost-blkd@guest --grep 'unset environment variable'"
ok "AppArmor confines it" is_confined
ok "/dev/vhost-blk is for the group kvm" may "-w /dev/vhost-blk" kvm
ok "the socket is for the group kvm" may "-w /run/vhost-blkd/guest.sock" kvm
ok "and for no other one" may "! -w /run/vhost-blkd/guest.sock" nogroup
ok "README.md: a guest boots from the disk" follow on_host README.md 3 || bail "no guest"
ok "it writes and reads" writes_and_verifies
echo "# installed in $((installed - start)) s, booted in $((booted - installed)) s," \
	"to a guest's I/O in $((SECONDS - booted)) s"
ok "vhost-blk-stat shows the disk" on_host "vhost-blk-stat -n 1 | grep 'vhost-blkd guest'"
ok "vhost-blkd.rst: the service waits for the disk" follow on_host Documentation/vhost-blkd.rst 1
ok "so says systemd" waits_for_disk
ok "vhost-blk-upgrade replaces the module under it" upgrades
echo "# the service's log:"
on_host journalctl -o short-monotonic --no-pager -u vhost-blkd@guest | sed 's/^/# /'
ok "nothing failed" on_host "! systemctl --failed --plain --no-legend | grep ."
ok "AppArmor has denied nothing" nothing_was_denied

ok "more file systems" makes_file_systems
ok "a confined VMM has its memory in /dev/shm" on_host vmm memory-backend-file,mem-path=/dev/shm
ok "in huge pages" on_host vmm memory-backend-file,mem-path=/dev/hugepages
ok "in huge pages without a file" on_host vmm memory-backend-memfd,hugetlb=on
ok "AppArmor has denied nothing of that" nothing_was_denied
ok "it keeps the daemon from a file elsewhere" refuses_other_file
ok "vhost-blkd.rst: one more rule" follow on_host Documentation/vhost-blkd.rst 2
ok "which allows that file" on_host vmm memory-backend-file,mem-path=/mnt/huge
tap_end
