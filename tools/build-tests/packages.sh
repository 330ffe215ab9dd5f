#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The Debian packages on a bare Debian machine: they are built and installed, DKMS builds
# the modules, also for a kernel that comes by an update, the packages are updated, and
# removed without a trace.
#
# QEMU_WORK is where the source of QEMU is; without it qemu-vhost-blk is left out.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"
. "$here/../../selftests/lib/bare.sh"
trap end_bare EXIT

# built MODULE VERSION KERNEL: DKMS has built and installed it, and modprobe takes it.
built()
{
	local release
	release=$(kernel "$3")
	in_bare dkms status -m "${1/_/-}" -k "$release"
	in_bare dkms status -m "${1/_/-}" -k "$release" | grep -F "/$2, $release, x86_64: installed" &&
		in_bare modinfo -k "$release" -n "$1" | grep "/updates/dkms/$1.ko" &&
		in_bare modprobe -S "$release" --show-depends "$1" | grep "/updates/dkms/$1.ko"
}

# has_no_modules RELEASE: of ours, neither installed nor as DKMS knows it.
has_no_modules()
{
	local left
	left=$(find "$root/lib/modules/$1" -name '*_blk.ko*' ! -path '*/kernel/drivers/*' 2> /dev/null
		in_bare dkms status | grep -F "$1")
	echo "$left"
	[ -z "$left" ]
}

# signed MODULE KERNEL: by the key of the machine's owner.
signed()
{
	[ "$(in_bare modinfo -k "$(kernel "$2")" -F signer "$1")" = "DKMS module signing key" ]
}

# As on a machine that nobody has configured: no list tells initramfs-tools which drivers it needs.
configure_initramfs()
{
	sed -i /^virtio_blk/d "$root/etc/initramfs-tools/modules"
	echo MODULES=most >> "$root/etc/initramfs-tools/conf.d/testbed"
}

# refuses_unknown_key VERSION: with Secure Boot on, and a key that the firmware does not know.
refuses_unknown_key()
{
	local variable=$root/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c status
	mkdir -p "${variable%/*}"
	printf '\6\0\0\0\1' > "$variable"
	fails_with "the key of DKMS is not enrolled" apt install "$(package virtio-blk-dkms "$1")"
	status=$?
	rm "$variable"
	return "$status"
}

# After upgrades since Debian 11, say.
add_old_headers()
{
	local release=5.10.0-1-amd64
	mkdir -p "$root/lib/modules/$release" "$root/usr/src/linux-headers-$release/include"
	ln -s "/usr/src/linux-headers-$release" "$root/lib/modules/$release/build"
	echo kernel/drivers/vhost/vhost.ko > "$root/lib/modules/$release/modules.order"
}

# refuses_installed FILE PACKAGE: "make install" has installed the file.
refuses_installed()
{
	local status
	mkdir -p "$root/${1%/*}"
	touch "$root/$1"
	fails_with "Run 'make uninstall' first" apt install --no-install-recommends "$(package "$2" 1.0)"
	status=$?
	rm "$root/$1"
	return "$status"
}

# booted_driver KERNEL: the virtio_blk that the initramfs has.
booted_driver()
{
	in_bare lsinitramfs "/boot/initrd.img-$(kernel "$1")" | grep -o 'kernel/drivers/block/virtio_blk.ko\|updates/dkms/virtio_blk.ko'
}

boots_ours()
{
	[ "$(booted_driver "$1")" = updates/dkms/virtio_blk.ko ]
}

boots_theirs()
{
	[ "$(booted_driver "$1")" = kernel/drivers/block/virtio_blk.ko ]
}

makes_user()
{
	in_bare id vhost-blkd | grep disk | grep kvm
}

# apparmor comes with the kernel of the backports.
has_valid_profile()
{
	in_bare apparmor_parser --skip-kernel-load --skip-cache /etc/apparmor.d/vhost-blkd
}

# The wrapper finds the object for the QEMU that was installed with it.
qemu_has_device()
{
	in_bare qemu-vhost-blk -device vhost-blk-pci,help | grep num-queues
}

# What is not QEMU's: a program that it starts.
children_have_no_object()
{
	# shellcheck disable=SC2016 # the child's variable
	in_bare timeout 20 qemu-vhost-blk -display none -S \
		-incoming 'exec:echo "preload: $LD_PRELOAD." > /root/preload; sleep 20'
	cat "$root/root/preload"
	grep -x 'preload: .' "$root/root/preload"
}

# Files of ours beside those of dpkg and apt. The layer has a device for what was there and
# is removed.
leaves_nothing()
{
	local left
	left=$(find "$work/upper" ! -type c \( -name '*vhost?blk*' -o -name '*virtio-blk*' \
		-o -name '*virtio_blk.ko*' -o -name vhost-blkd \) ! -path '*/kernel/drivers/*')
	echo "$left"
	[ -z "$left" ] && ! in_bare getent passwd vhost-blkd
}

make_bare || skip_all "no overlay file system"
profile=pkg.vhost-blk.noqemu
[ -z "${QEMU_WORK:-}" ] || profile=
ok "the packages are built" build_packages 1.0 "$profile" || bail "no packages"
ok "lintian has no errors" lintian --no-cfg --allow-root --fail-on error "$debs"/vhost-blk_1.0_*.changes
add_old_headers
configure_initramfs
ok "they are installed, though one kernel is too old" apt install "$(package vhost-blk-dkms 1.0)" "$(package virtio-blk-dkms 1.0)" \
	"$(package vhost-blk 1.0)"
for module in vhost_blk virtio_blk; do
	ok "$module is built for the kernel" built "$module" 1.0 6
	ok "$module is signed" signed "$module" 6
done
ok "the initramfs has our virtio_blk" boots_ours 6
ok "vhost-blkd has a user" makes_user
ok "vhost-blkd runs" in_bare vhost-blkd --version
if [ -n "${QEMU_WORK:-}" ]; then
	ok "qemu-vhost-blk is installed" apt install --no-install-recommends "$(package qemu-vhost-blk 1.0)"
	ok "QEMU has vhost-blk-pci" qemu_has_device
	ok "its children do not have the object" children_have_no_object
else
	skip "qemu-vhost-blk is installed" "no source of QEMU"
fi

ok "the kernel is updated" apt install -t trixie-backports linux-image-amd64 linux-headers-amd64
for module in vhost_blk virtio_blk; do
	ok "$module is built for the new kernel before it boots" built "$module" 1.0 7
	ok "$module is signed for it" signed "$module" 7
done
ok "the new kernel's initramfs has our virtio_blk" boots_ours 7
ok "AppArmor takes the profile of vhost-blkd" has_valid_profile

old_kernel=$(kernel 6)
ok "the old kernel is removed" apt purge "linux-image-$old_kernel" "linux-headers-$old_kernel"
ok "and with it what DKMS built for it" has_no_modules "$old_kernel"

ok "newer packages are built" build_packages 1.1 pkg.vhost-blk.noqemu
ok "virtio-blk-dkms refuses an update whose driver the kernel would refuse" refuses_unknown_key 1.1
ok "and its driver stays" built virtio_blk 1.0 7
ok "they replace the others" apt install "$(package vhost-blk-dkms 1.1)" "$(package virtio-blk-dkms 1.1)" \
	"$(package vhost-blk 1.1)"
ok "vhost_blk is the newer one" built vhost_blk 1.1 7
ok "virtio_blk is the newer one" built virtio_blk 1.1 7
ok "and the initramfs has it" boots_ours 7

ok "all are purged" apt purge vhost-blk-dkms virtio-blk-dkms vhost-blk qemu-vhost-blk
ok "the initramfs has the kernel's virtio_blk" boots_theirs 7
ok "nothing is left" leaves_nothing
ok "a guest that could not boot with virtio-blk-dkms does not get it" refuses_unknown_key 1.0
modules=/lib/modules/$(kernel 7)/updates/drivers
ok "vhost-blk-dkms refuses a module of make install" \
	refuses_installed "$modules/vhost/vhost_blk.ko" vhost-blk-dkms
ok "and virtio-blk-dkms" refuses_installed "$modules/block/virtio_blk.ko.xz" virtio-blk-dkms
ok "and vhost-blk a daemon" refuses_installed \
	/usr/local/lib/systemd/system/vhost-blkd@.service vhost-blk
tap_end
