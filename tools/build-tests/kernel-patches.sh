#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Both drivers as patches for a kernel tree: they apply to the source of the newest kernel,
# its checker accepts them, the drivers build in it without a warning, as built-in and as
# modules, and so do the selftests.
#
# CHECKPATCH_SOURCE names the kernel source. The patched tree, of links to that source, and
# what is built of it are kept: minutes the first time, less from then on.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"
. "$here/../../selftests/lib/series.sh"

top=$(readlink -f "$here/../..")
make_patches=$top/tools/kernel/make-patches
export KSRC=${CHECKPATCH_SOURCE:-/lib/modules/$(uname -r)/source}
src=$KSRC
[ -e "$KSRC/scripts/checkpatch.pl" ] || skip_all "no kernel source in CHECKPATCH_SOURCE"
for tool in git patch perl rsync bc flex bison; do
	command -v "$tool" > /dev/null || skip_all "no $tool"
done

# Other checkouts may build in the same place.
kept=${TESTBED_CACHE:-$top/build}/kernel-series
mkdir -p "$kept"
exec {lock}> "$kept/lock"
flock "$lock"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
patches=$work/patches
applied=$work/applied
tree=$kept/tree

# The last patch is that of MAINTAINERS, for which checkpatch asks in the others. The
# selftests are no kernel code: they have no use for its attributes, barriers and types.
# An open brace is found in a function with a pointer to one among its arguments.
checkpatch()
{
	local ignore=FILE_PATH_CHANGES
	[[ $1 != *-selftests-* ]] || ignore+=,VOLATILE,PREFER_DEFINED_ATTRIBUTE_MACRO,NEW_TYPEDEFS
	[[ $1 != *-selftests-* ]] || ignore+=,OPEN_BRACE,LONG_LINE_STRING,REPEATED_WORD
	perl "$KSRC/scripts/checkpatch.pl" --no-tree --quiet --show-types \
		--ignore "$ignore" "$1"
}

know_no_other_kernel()
{
	! grep -hE '^\+.*(LINUX_VERSION_CODE|KERNEL_VERSION|"compat\.h"|COMPAT_)' "$patches"/*
}

# Pages that are named with their path are there.
name_pages_that_exist()
{
	local page missing=0
	while read -r page; do
		[ -e "$applied/$page" ] || [ -e "$KSRC/$page" ] || {
			echo "$page is missing"
			missing=1
		}
	done < <(grep -rohE '\<Documentation/[a-z0-9/_-]+\.rst' \
		"$applied"/{drivers,include,Documentation,tools})
	return "$missing"
}

# What is as it was keeps its time, so that make has little to do.
make_tree()
{
	local file
	rsync -r --checksum --delete "$applied/" "$kept/applied/" || return
	rm -rf "$tree"
	cp -rs "$(readlink -f "$KSRC")" "$tree" || return
	list_changed_files | while read -r file; do
		rm "$tree/$file"
	done
	cp -rp "$kept/applied/." "$tree/"
}

# make_in DIRECTORY ARGUMENT...: in the tree, with objects elsewhere; whatever is printed is
# a warning.
make_in()
{
	local output
	output=$(make -s -j "$(nproc)" -C "$tree" O="$kept/$1" "${@:2}" 2>&1) || {
		echo "$output"
		return 1
	}
	echo "$output"
	[ -z "$output" ]
}

# configure DIRECTORY OPTION...: of scripts/config, on top of the default configuration.
configure()
{
	local config=$kept/$1/.config
	mkdir -p "$kept/$1"
	make_in "$1" x86_64_defconfig &&
		"$tree/scripts/config" --file "$config" "${@:2}" &&
		make_in "$1" olddefconfig
}

# is_built DIRECTORY VALUE: both are in the configuration with that value, and are built.
is_built()
{
	grep -x "CONFIG_VHOST_BLK=$2" "$kept/$1/.config" &&
		grep -x "CONFIG_VIRTIO_BLK=$2" "$kept/$1/.config" &&
		make_in "$1" W=1 drivers/vhost/ drivers/block/ &&
		ls "$kept/$1"/drivers/vhost/blk*.o "$kept/$1"/drivers/block/virtio_blk*.o
}

selftests_build()
{
	make_in builtin headers &&
		make_in builtin -C "$tree/tools/testing/selftests" TARGETS=vhost_blk \
			FORCE_TARGETS=1 V=1 all
}

selftests_install()
{
	make -s -C "$tree/tools/testing/selftests" O="$kept/builtin" TARGETS=vhost_blk \
		FORCE_TARGETS=1 KSFT_INSTALL_PATH="$work/installed" install
}

# Without root there is nothing that they can do. The runner opens its output again, which
# has to be the user's own.
selftests_are_skipped()
{
	local output
	chmod -R a+rX "$work"
	output=$(setpriv --reuid=65534 --regid=65534 --clear-groups \
		sh -c '"$1" 2>&1 | cat' sh "$work/installed/run_kselftest.sh")
	echo "$output"
	[ "$(grep -cE '^ok .* # SKIP' <<< "$output")" = "$(wc -l < "$work/installed/kselftest-list.txt")" ]
}

ok "the patches are made" "$make_patches" -o "$patches" || bail "there are no patches"
ok "made again they are the same" made_again_they_are_the_same
ok "they have the author that was given" have_author
ok "they apply to the source exactly" apply_exactly || bail "they do not apply"
ok "git am makes the same of them" git_am_makes_the_same
for patch in "$patches"/*; do
	ok "checkpatch has nothing to say about ${patch##*/}" checkpatch "$patch"
done
ok "they know no other kernel" know_no_other_kernel
ok "the pages that they name exist" name_pages_that_exist

ok "a tree is made with them" make_tree
ok "it is configured with both built in" configure builtin -e VHOST_BLK -e VIRTIO_BLK \
	-e BLK_DEV_ZONED -e BLK_DEV_INTEGRITY
ok "they build, without a warning at W=1" is_built builtin y
ok "it is configured with both as modules, and without PCI, zones and suspend" \
	configure modules -m VHOST_BLK -m VIRTIO_BLK -e VIRTIO_MENU -e VIRTIO_MMIO \
	-d PCI -d SUSPEND -d HIBERNATION
ok "they build, without a warning at W=1" is_built modules m
ok "the selftests build, without a warning" selftests_build
ok "the selftests can be installed" selftests_install
ok "without root kselftest skips all of them" selftests_are_skipped

mkdir -p "$work/old/drivers/vhost"
touch "$work/old/drivers/vhost/vhost.h"
printf 'VERSION = 6\nPATCHLEVEL = 12\n' > "$work/old/Makefile"
ok "an older kernel is refused" fails_with "Linux 6.12 is too old: .* 7.3 or newer" \
	env KSRC="$work/old" "$make_patches" -o "$work/refused"
ok "a tree that has the driver already is refused" \
	fails_with "has drivers/vhost/blk.c already" \
	env KSRC="$tree" "$make_patches" -o "$work/refused"
ok "a directory without a kernel is named" \
	fails_with "no kernel source in KSRC=$work/nowhere" \
	env KSRC="$work/nowhere" "$make_patches" -o "$work/refused"
ok "no directory at all is missed" fails_with "give KSRC=" \
	env -u KSRC "$make_patches" -o "$work/refused"
ok "patches without an author are refused" fails_with "no author" \
	env -C "$work" -u GIT_AUTHOR_NAME -u GIT_AUTHOR_EMAIL HOME="$work" \
	GIT_CONFIG_SYSTEM=/dev/null "$make_patches" -o "$work/refused"
ok "refused, nothing is written" [ ! -e "$work/refused" ]
tap_end
