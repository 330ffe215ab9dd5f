# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A bare Debian machine to install our packages in. Sourced after tap.sh.
#
# BARE_ROOT names its root file system, with one kernel. What is installed there comes from
# apt's cache in it. It is not written to: changes go to a layer of their own.

checkout=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
debs=$checkout/build/deb
work=$(mktemp -d)
root=$work/root

[ -d "${BARE_ROOT:-}" ] || skip_all "no BARE_ROOT to install packages in"
command -v dh_dkms > /dev/null || skip_all "no dh_dkms to build packages"

make_bare()
{
	mkdir "$work"/{root,upper,work}
	mount -t overlay overlay "$root" \
		-o "lowerdir=$BARE_ROOT,upperdir=$work/upper,workdir=$work/work" || return
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/run"
	mkdir -p "$debs"
	mount --bind "$debs" "$root/mnt"
}

end_bare()
{
	umount -R -l "$root"
	rm -rf "$work"
}

# in_bare COMMAND...: runs it there.
in_bare()
{
	env -i PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		chroot "$root" "$@"
}

# The files are in its cache. With --no-download it would not take a package by its path.
apt()
{
	in_bare apt-get --yes "$@"
}

# build_packages VERSION PROFILE
build_packages()
{
	"$checkout/packaging/make-deb" -v "$1" -P "$2" ${QEMU_WORK:+-w "$QEMU_WORK"}
}

# package NAME VERSION: its file, as the machine sees it.
package()
{
	basename "$debs/$1_$2"_*.deb | sed 's|^|/mnt/|'
}

# kernel SERIES: the release of an installed kernel.
kernel()
{
	basename "$root/lib/modules/$1".*
}
