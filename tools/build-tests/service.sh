#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# From a bare Debian machine to a guest: the packages are installed, one line of
# configuration is written, the machine boots with systemd, and a guest runs on the socket
# of vhost-blkd's service.
#
# BARE_ROOT is the machine's root file system, as in packages.sh. EMULATOR is a QEMU that
# runs the machine, GUEST_KERNEL and GUEST_INITRD what the guest boots.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"
. "$here/../../selftests/lib/bare.sh"

testbed=$here/../../tools/testbed
machine=$testbed/machine
name=service-$$
export TESTBED_ACCEL=tcg TESTBED_QEMU=$work/emulator
trap '"$machine" kill "$name" 2> /dev/null; end_bare' EXIT

# The root is a share, and the agent that runs commands is a service.
make_bootable()
{
	local tool
	mkdir -p "$root/usr/lib/testbed"
	for tool in init machine common.sh; do
		cp "$testbed/$tool" "$root/usr/lib/testbed/"
	done
	cp "$GUEST_KERNEL" "$root/root/vmlinuz"
	cp "$GUEST_INITRD" "$root/root/initrd"
	cat > "$root/etc/systemd/system/testbed.service" <<- 'END'
	[Service]
	Environment=TESTBED_ACCEL=kvm TESTBED_QEMU=qemu-system-x86_64
	ExecStart=/usr/lib/testbed/init
	[Install]
	WantedBy=multi-user.target
	END
	in_bare systemctl enable testbed.service
	cat > "$work/emulator" <<- END
	#!/bin/sh
	exec $EMULATOR -L /usr/share/qemu -L /usr/share/seabios "\$@"
	END
	chmod +x "$work/emulator"
}

configure()
{
	echo BLK_FILE=/dev/vda > "$root/etc/vhost-blkd/guest.conf"
	in_bare systemctl enable vhost-blkd@guest.service
}

boot()
{
	truncate -s 128M "$work/disk"
	umount -R -l "$root/proc" "$root/dev" "$root/run" "$root/mnt"
	"$machine" start "$name" --memory 2G --boot-timeout 300 \
		--kernel "$root/boot/vmlinuz-$release" --initrd "$root/boot/initrd.img-$release" \
		--append "root=rootfs rw rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=512000,cache=mmap" \
		--append "systemd.default_timeout_start_sec=$((90 * LIMIT_FACTOR))" \
		-- -fsdev "local,id=root,path=$root,security_model=passthrough,multidevs=remap" \
		-device virtio-9p-pci,fsdev=root,mount_tag=rootfs \
		-blockdev "file,node-name=disk,filename=$work/disk" -device virtio-blk-pci,drive=disk
}

# on_host COMMAND: runs it in the machine.
on_host()
{
	"$machine" run "$name" -t $((120 * LIMIT_FACTOR)) "$*"
}

is_active()
{
	on_host "until systemctl is-active vhost-blkd@guest; do sleep 0.5; done"
}

# may WHAT GROUP: a user of that group alone.
may()
{
	on_host "setpriv --reuid 65534 --regid $2 --clear-groups test $1"
}

start_guest()
{
	on_host "LIMIT_FACTOR=$LIMIT_FACTOR /usr/lib/testbed/machine start guest --memory 256M \
		--kernel /root/vmlinuz --initrd /root/initrd -- \
		-object memory-backend-memfd,id=mem,size=256M,share=on -machine memory-backend=mem \
		-chardev socket,id=disk,path=/run/vhost-blkd/guest.sock,reconnect-ms=500 \
		-device vhost-user-blk-pci,chardev=disk"
}

guest()
{
	on_host "/usr/lib/testbed/machine run guest -t $((100 * LIMIT_FACTOR)) ${*@Q}"
}

writes_and_verifies()
{
	guest "modprobe virtio_blk && fio --name=t --filename=/dev/vda --size=16M --rw=randwrite \
		--bs=4k --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --minimal"
}

# The guest writes meanwhile.
upgrades()
{
	guest "fio --name=t --filename=/dev/vda --size=16M --rw=randwrite --bs=4k --ioengine=libaio \
		--iodepth=8 --direct=1 --verify=crc32c --time_based --runtime=10 --minimal > /tmp/fio 2>&1 &"
	on_host vhost-blk-upgrade --force || return
	guest "wait_for() { while pidof fio; do sleep 0.5; done; }; wait_for; cat /tmp/fio; grep '^3;' /tmp/fio"
}

make_bare || skip_all "no overlay file system"
ok "the packages are built" build_packages 1.0 pkg.vhost-blk.noqemu || bail "no packages"
ok "the machine can boot" make_bootable
start=$SECONDS
ok "the packages are installed" apt install "$(package vhost-blk-dkms 1.0)" "$(package vhost-blk 1.0)"
ok "QEMU is installed" apt install --no-install-recommends qemu-system-x86
ok "one line of configuration" configure
release=$(kernel 6)
installed=$SECONDS
ok "the machine boots" boot || bail "the machine does not boot"
ok "the module is loaded" on_host lsmod "| grep vhost_blk"
ok "the service runs" is_active
ok "/dev/vhost-blk is for the group kvm" may "-w /dev/vhost-blk" kvm
ok "the socket is for the group kvm" may "-w /run/vhost-blkd/guest.sock" kvm
ok "and for no other one" may "! -w /run/vhost-blkd/guest.sock" nogroup
ok "a guest boots on the socket" start_guest || bail "no guest"
ok "it writes and reads" writes_and_verifies
echo "# installed in $((installed - start)) s, booted to a guest's I/O in $((SECONDS - installed)) s"
ok "vhost-blk-stat shows the disk" on_host "vhost-blk-stat -n 1 | grep 'vhost-blkd guest'"
ok "vhost-blk-upgrade replaces the module under it" upgrades
echo "# the service's log:"
on_host journalctl -o short-monotonic --no-pager -u vhost-blkd@guest | sed 's/^/# /'
ok "nothing failed" on_host "! systemctl --failed --plain --no-legend | grep ."
tap_end
