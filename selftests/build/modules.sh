#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The build of the modules: clean under every checker, and clear about what is
# wrong when it can't be done.
#
# TEST_KERNELS names a file with a line "NAME KDIR KSRC VHOST_KO" for
# each kernel to build for; without, it is the running kernel. A - stands for
# what tools/build-modules finds by itself.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"

cd "$here/../.." || exit
work=$(mktemp -d)
list=${TEST_KERNELS:-$work/kernels}
[ -n "${TEST_KERNELS:-}" ] ||
	echo "$(uname -r) /lib/modules/$(uname -r)/build - -" > "$list"
[ -e "$(awk '{ print $2 "/Makefile"; exit }' "$list")" ] ||
	skip_all "no kernel headers"

# Newer kernels need a keyword that the sparse of Debian 13 does not know, and
# assert what it can't compute; the compiler does both.
sparse="sparse -D__typeof_unqual__=__typeof__ '-D_Static_assert(...)=struct not_for_sparse'"

# set_kernel NAME KDIR KSRC VHOST_KO: in the environment of make.
set_kernel()
{
	export KDIR=$2 KSRC=${3#-} VHOST_KO=${4#-}
}

# Builds everything again; whatever is printed is a warning.
builds_silently()
{
	local output
	rm -rf "build/$(cat "$KDIR/include/config/kernel.release")"
	output=$(tools/build-modules -s "$@" 2>&1) || {
		echo "$output"
		return 1
	}
	grep -vE '^  (CHECK|READY|UNPACK) ' <<< "$output" || return 0
	return 1
}

# make install puts both where modprobe prefers them, and depmod knows.
installs()
{
	local release root=$work/root
	release=$(cat "$KDIR/include/config/kernel.release")
	rm -rf "$root"
	mkdir -p "$root/lib/modules/$release"
	make -s install INSTALL_MOD_PATH="$root" || return
	find "$root"
	grep '^updates/.*/virtio_blk.ko' "$root/lib/modules/$release/modules.dep" &&
		grep '^updates/.*/vhost_blk.ko' "$root/lib/modules/$release/modules.dep"
}

# A copy of the headers in which one member of one structure is wider.
wrong_header()
{
	mkdir -p "$work/wrong/drivers/vhost"
	sed 's/^\tint weight;/\tlong weight;/' "$KSRC/drivers/vhost/vhost.h" \
		> "$work/wrong/drivers/vhost/vhost.h"
	! cmp -s "$work/wrong/drivers/vhost/vhost.h" "$KSRC/drivers/vhost/vhost.h"
}

refuses_wrong_header()
{
	local release
	release=$(cat "$KDIR/include/config/kernel.release")
	KSRC=$work/wrong fails_with "vhost.h does not match" tools/build-modules -s || return
	test ! -e "build/$release/vhost_blk.ko"
}

while read -r name kdir ksrc vhost; do
	set_kernel "$name" "$kdir" "$ksrc" "$vhost"
	ok "$name: builds without a warning at W=1" builds_silently W=1
	ok "$name: make install puts both into updates" installs
	ok "$name: sparse has nothing to say" builds_silently C=2 CHECK="$sparse"
	if [ "$ksrc" = - ]; then
		skip "$name: a vhost.h that does not match is refused" \
			"the header is the kernel's own"
		continue
	fi
	ok "$name: a vhost.h that does not match can be made" wrong_header
	ok "$name: it is refused, and no module is left" refuses_wrong_header
	ok "$name: with the right one modules are built again" builds_silently
done < "$list"

mkdir -p "$work/old/include/config"
touch "$work/old/Makefile"
echo 6.11.10-amd64 > "$work/old/include/config/kernel.release"
ok "a kernel below 6.12 is refused" \
	fails_with "6.11.10-amd64 is too old: 6.12 or newer" make KDIR="$work/old"
ok "missing headers are named" \
	fails_with "no kernel headers .*install the package linux-headers" \
	make KDIR="$work/nowhere"
ok "a source without vhost.h is refused" \
	fails_with "no drivers/vhost/vhost.h in KSRC" make KSRC="$work/nowhere"

rm -r "$work"
tap_end
