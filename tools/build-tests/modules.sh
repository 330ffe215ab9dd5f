#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The build of the modules: from headers and vhost.ko alone, clean under every
# checker, and clear about what is wrong when it can't be done.
#
# TEST_KERNELS names a file with a line "NAME KDIR SOURCE" for each kernel to build
# for; without, it is the running kernel. SOURCE is what the kernel was built from: it
# is hidden from the builds, and the structures that they use are compared with it. It
# is left out if there is none.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

cd "$here/../.." || exit
work=$(mktemp -d)
list=${TEST_KERNELS:-$work/kernels}
[ -n "${TEST_KERNELS:-}" ] ||
	echo "$(uname -r) /lib/modules/$(uname -r)/build" > "$list"
[ -e "$(awk '{ print $2 "/Makefile"; exit }' "$list")" ] ||
	skip_all "no kernel headers"

# Newer kernels need a keyword that the sparse of Debian 13 does not know, and
# assert what it can't compute; the compiler does both.
sparse="sparse -D__typeof_unqual__=__typeof__ '-D_Static_assert(...)=struct not_for_sparse'"

# set_kernel NAME KDIR SOURCE: KDIR in the environment of make, and what belongs to it.
set_kernel()
{
	export KDIR=$2
	source=$3
	release=$(cat "$KDIR/include/config/kernel.release")
	out=build/$release
	vhost=$(echo "${KDIR%/build}"/kernel/drivers/vhost/vhost.ko*)
	# A full tree, as that of the debug kernel, is not without its source.
	is_tree=no
	[ ! -e "$KDIR/vmlinux.o" ] || is_tree=yes
}

# Runs a command that finds no source of the kernel.
without_source()
{
	if [ -z "$source" ] || [ "$is_tree" = yes ]; then
		"$@"
		return
	fi
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount --propagation unchanged sh -c 'mount -t tmpfs none "$0" && exec "$@"' "$source" "$@"
}

# Builds everything again; whatever is printed is a warning.
builds_silently()
{
	local output
	rm -rf "$out"
	output=$(without_source tools/build-modules -s "$@" 2>&1) || {
		echo "$output"
		return 1
	}
	grep -vE '^  (CHECK|READY) ' <<< "$output" || return 0
	return 1
}

# installs TARGET MODULE: and no other one, where modprobe prefers it, and depmod knows.
installs()
{
	local root=$work/root
	rm -rf "$root"
	mkdir -p "$root/lib/modules/$release"
	touch "$root/lib/modules/$release/modules.order"
	make -s "$1" DESTDIR="$root" || return
	find "$root" -name '*.ko*'
	[ "$(find "$root" -name '*.ko*' | wc -l)" = 1 ] &&
		grep "^updates/.*/$2.ko" "$root/lib/modules/$release/modules.dep"
}

# What is left are directories and what depmod has made.
uninstalls()
{
	local left
	make -s uninstall DESTDIR="$work/root" || return
	left=$(find "$work/root" ! -type d ! -name 'modules.*')
	echo "$left"
	[ -z "$left" ]
}

structs=vhost_dev,vhost_virtqueue,vhost_poll,vhost_work,vhost_log,vhost_vring_call,vhost_msg_node

# compile_structs DIR HEADER_DIR: an object with the structures of the vhost.h there.
compile_structs()
{
	local name
	mkdir -p "$1"
	{
		echo "#include \"$2/vhost.h\""
		for name in ${structs//,/ }; do
			echo "struct $name the_$name;"
		done
	} > "$1/structs.c"
	echo "obj-m := structs.o" > "$1/Kbuild"
	echo "ccflags-y := -g -I$PWD/$out/include -Wno-missing-variable-declarations" >> "$1/Kbuild"
	make -s -C "$KDIR" M="$1" structs.o
}

has_version()
{
	[ -n "$(modinfo -F srcversion "$out/vhost_blk.ko")" ]
}

# The names of types and members, offsets, sizes.
print_structs()
{
	pahole -F dwarf -C "$structs" "$1"
}

has_layout_of_source()
{
	compile_structs "$work/$name/ours" "$PWD/$out/include" || return
	compile_structs "$work/$name/theirs" "$source/drivers/vhost" || return
	print_structs "$work/$name/ours/structs.o" > "$work/$name/ours.txt"
	print_structs "$work/$name/theirs/structs.o" > "$work/$name/theirs.txt"
	test "$(grep -c '^struct' "$work/$name/ours.txt")" = 7 || return
	diff -u "$work/$name/theirs.txt" "$work/$name/ours.txt"
}

# refuses PATTERN COMMAND...: the build fails so and leaves no module.
refuses()
{
	fails_with "$@" || return
	test ! -e "$out/vhost_blk.ko"
}

# with_filter PROGRAM SCRIPT COMMAND...: the command sees what the program prints through
# sed, as if the kernel had other types.
with_filter()
{
	local dir=$work/filter
	mkdir -p "$dir"
	rm -f "$dir"/*
	printf '#!/bin/sh\n%s "$@" | sed -E "%s"\n' "$(command -v "$1")" "$2" > "$dir/$1"
	chmod +x "$dir/$1"
	PATH=$dir:$PATH "${@:3}"
}

# make_kernel RELEASE CONFIG: headers that can't build anything, with no modules. Sets
# "fake" to the directory of both.
make_kernel()
{
	fake=$work/modules/$1
	rm -rf "$fake"
	mkdir -p "$fake/build/include/config" "$fake/kernel/drivers/vhost"
	touch "$fake/build/Makefile"
	echo "$1" > "$fake/build/include/config/kernel.release"
	echo "$2" > "$fake/build/include/config/auto.conf"
}

# fake_refuses PATTERN: with the kernel that make_kernel has made.
fake_refuses()
{
	KDIR=$fake/build fails_with "$1" tools/build-modules
}

# A driver for guests has no need of vhost core.
builds_guest_driver()
{
	make_kernel "$release" "CONFIG_VHOST=m"
	rm -r "$fake/build"
	ln -s "$KDIR" "$fake/build"
	rm -f "$out"/*.ko
	KDIR=$fake/build MODULES=virtio_blk tools/build-modules -s || return
	test -e "$out/virtio_blk.ko" && test ! -e "$out/vhost_blk.ko"
}

unpack_vhost()
{
	case $vhost in
	*.xz) xz -dc "$vhost" ;;
	*.zst) zstd -dqc "$vhost" ;;
	*) cat "$vhost" ;;
	esac > "$1"
}

refuses_module_without_types()
{
	make_kernel "$release" "CONFIG_VHOST=m"
	unpack_vhost "$work/vhost.ko"
	objcopy --strip-debug -R .BTF "$work/vhost.ko" "$fake/kernel/drivers/vhost/vhost.ko" &&
		fake_refuses "vhost.ko has no type information: .*CONFIG_DEBUG_INFO_BTF=y"
}

# Where the running kernel's are not at hand instead.
refuses_headers_without_types()
{
	make_kernel "$release" "CONFIG_VHOST=m"
	cp "$vhost" "$fake/kernel/drivers/vhost/"
	fake_refuses "BTF. of the kernel .* itself is missing" || return
	cp /bin/true "$fake/build/vmlinux"
	fake_refuses "build/vmlinux has no type information" || return
	# Types, but not those that vhost.ko's go on from.
	unpack_vhost "$fake/build/vmlinux"
	fake_refuses "no struct .*build/vmlinux is not of the same build"
}

refuses_other_module()
{
	make_kernel 6.12.0-other "CONFIG_VHOST=m"
	cp "$vhost" "$fake/kernel/drivers/vhost/"
	fake_refuses "is not of the kernel 6.12.0-other: its version is '${release%%+*}"
}

# Where vhost core is built in, the kernel's own types are all there are.
reads_types_of_vmlinux()
{
	make_kernel 6.12.0-builtin "CONFIG_VHOST=y"
	fake_refuses "BTF. of 6.12.0-builtin is missing" || return
	cp "$work/$name/theirs/structs.o" "$fake/build/vmlinux"
	LLVM_OBJCOPY=objcopy pahole -J "$fake/build/vmlinux" || return
	fake_refuses "vhost core of 6.12.0-builtin has no vhost_dev_init"
}

while read -r name kdir source; do
	set_kernel "$name" "$kdir" "$source"
	ok "$name: builds without a warning at W=1" builds_silently W=1
	ok "$name: vhost-blk-upgrade can tell vhost_blk from another one" has_version
	ok "$name: make install-guest puts virtio_blk into updates" installs install-guest virtio_blk
	ok "$name: make install puts vhost_blk into updates" installs install vhost_blk
	ok "$name: make uninstall leaves nothing" uninstalls
	if [ -n "$source" ]; then
		ok "$name: the structures are those of the kernel's source" has_layout_of_source
		ok "$name: vhost core may be built in" reads_types_of_vmlinux
	else
		skip "$name: the structures are those of the kernel's source" "there is no source"
	fi
	ok "$name: a structure that the headers make larger is refused" \
		refuses "vhost.ko differ in struct vhost_dev" \
		with_filter pahole "s/^(\\\\tint +nvqs; .* )4/\\\\18/" \
		tools/build-modules -s MODULES=vhost_blk
	ok "$name: a function with other arguments is refused" \
		refuses "not written for this kernel, where vhost_signal\(\) is void" \
		with_filter pfunct "s/ vhost_signal\\(.*,/ vhost_signal(/" tools/build-modules -s
	ok "$name: a function that is not there is refused" \
		refuses "vhost core of .* has no vhost_signal" \
		with_filter pfunct "s/vhost_signal/vhost_shout/" tools/build-modules -s
	ok "$name: a vhost.ko of another kernel is refused" refuses_other_module
	ok "$name: a vhost.ko without types is refused" refuses_module_without_types
	if [ "$is_tree" = yes ] || [ "$release" = "$(uname -r)" ]; then
		skip "$name: headers without types are refused" "they are not needed"
	else
		ok "$name: headers without types are refused" refuses_headers_without_types
	fi
	ok "$name: virtio_blk is built without vhost.ko" builds_guest_driver
	ok "$name: sparse has nothing to say" builds_silently C=2 CHECK="$sparse"
done < "$list"

without_pahole()
{
	mkdir "$work/bin"
	ln -s /usr/bin/* /bin/bash "$work/bin/" 2> /dev/null
	rm "$work/bin/pahole"
	PATH=$work/bin fake_refuses "pahole is missing: install the package pahole"
}

make_kernel 6.11.10-amd64 "CONFIG_VHOST=m"
ok "a kernel below 6.12 is refused" fake_refuses "6.11.10-amd64 is too old: 6.12 or newer"
make_kernel 6.12.0-test "CONFIG_VHOST=m"
ok "a missing vhost.ko is named, and its package" \
	fake_refuses "vhost.ko of 6.12.0-test is missing: install .* linux-image-6.12.0-test"
cp "$vhost" "$fake/kernel/drivers/vhost/"
ok "a missing pahole is named, and its package" without_pahole
make_kernel 6.12.0-test "# CONFIG_VHOST is not set"
ok "a kernel without vhost core is refused" fake_refuses "without vhost core .CONFIG_VHOST"
ok "missing headers are named" \
	fails_with "no kernel headers .*install the package linux-headers" \
	make KDIR="$work/nowhere"
ok "those of the kernel that KDIR= names" \
	fails_with "no kernel headers .*install the package linux-headers-9.9-test, or" \
	make KDIR=/lib/modules/9.9-test/build
ok "an unknown module is refused" \
	fails_with "there is no module 'vhost_net'" make MODULES="vhost_net"

rm -r "$work"
tap_end
