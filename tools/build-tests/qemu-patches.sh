#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The device as patches for QEMU: they apply to the source of each QEMU that
# tools/qemu/build has unpacked, QEMU's own checker accepts them, and the QEMU that
# is built with them has the device.
#
# The patched source and its build are kept beside the unpacked one: minutes and
# 1 GB the first time, seconds from then on.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"
. "$here/../../selftests/lib/series.sh"

top=$(readlink -f "$here/../..")
make_patches=$top/tools/qemu/make-patches
sources=${TESTBED_CACHE:+$TESTBED_CACHE/qemu-source}
sources=${sources:-$top/build/qemu/work}
for tool in git patch perl rsync ninja; do
	command -v "$tool" > /dev/null || skip_all "no $tool"
done
[ -e "$(printf '%s\n' "$sources"/qemu-*/VERSION | head -n 1)" ] ||
	skip_all "no source of QEMU in $sources: tools/qemu/build unpacks it there"

# Other checkouts may build in the same place.
mkdir -p "$sources/series"
exec {lock}> "$sources/series/lock"
flock "$lock"

work=$(mktemp -d)

# set_source DIRECTORY: the QEMU of the tests that follow
set_source()
{
	local name=${1##*/}

	export QEMU_SRC=$1
	src=$1
	version=${name#qemu-}
	patches=$work/$version/patches
	applied=$work/$version/applied
	patched=$sources/series/$name
	obj=$sources/series/build-$version
}

checkpatch()
{
	perl "$QEMU_SRC/scripts/checkpatch.pl" --root="$QEMU_SRC" --quiet "$1"
}

# What is as it was keeps its time, so that ninja has little to do.
update_patched_source()
{
	(cd "$applied" && find . -type f | sed 's|^\.||') > "$work/changed"
	rsync -a --delete --exclude-from="$work/changed" "$QEMU_SRC/" "$patched/" &&
		rsync -r --checksum "$applied/" "$patched/"
}

# Compiled fast: nothing is asked of this QEMU but what devices it has.
configure()
{
	local options=(--target-list=x86_64-softmmu --without-default-features
		--enable-kvm --enable-tcg --enable-vhost-kernel --enable-werror
		--disable-docs --disable-tools --disable-fdt
		--disable-install-blobs --disable-download
		--disable-debug-info -Doptimization=0)

	[ "$(cat "$obj/options" 2> /dev/null)" != "${options[*]}" ] || return 0
	rm -rf "$obj"
	mkdir -p "$obj"
	(cd "$obj" && "$patched/configure" "${options[@]}") &&
		echo "${options[*]}" > "$obj/options"
}

qemu_builds()
{
	update_patched_source && configure &&
		ninja -C "$obj" --quiet qemu-system-x86_64
}

lists()
{
	local devices
	devices=$(env -u LD_PRELOAD "$obj/qemu-system-x86_64" -device help) || return
	grep -q "^name \"$1\"" <<< "$devices"
}

for source in "$sources"/qemu-*/VERSION; do
	set_source "${source%/VERSION}"
	ok "$version: the patches are made" \
		"$make_patches" -o "$patches" || continue
	ok "$version: made again they are the same" made_again_they_are_the_same
	ok "$version: they have the author that was given" have_author
	ok "$version: they apply to the source exactly" apply_exactly || continue
	ok "$version: git am makes the same of them" git_am_makes_the_same
	for patch in "$patches"/*; do
		ok "$version: QEMU's checkpatch has no error in ${patch##*/}" \
			checkpatch "$patch"
	done
	ok "$version: QEMU builds with them, without a warning" qemu_builds || continue
	for name in vhost-blk-pci{,-transitional,-non-transitional}; do
		ok "$version: it has the device $name" lists "$name"
	done
done

ok "a source that has the device already is refused" \
	fails_with "has hw/block/vhost-blk.c already" \
	env QEMU_SRC="$applied" "$make_patches" -o "$work/refused"
ok "a directory without QEMU's source is named" \
	fails_with "no source of QEMU in $work/nowhere" \
	env QEMU_SRC="$work/nowhere" "$make_patches" -o "$work/refused"
ok "patches without an author are refused" fails_with "no author" \
	env -C "$work" -u GIT_AUTHOR_NAME -u GIT_AUTHOR_EMAIL HOME="$work" \
	GIT_CONFIG_SYSTEM=/dev/null "$make_patches" -o "$work/refused"
ok "refused, nothing is written" [ ! -e "$work/refused" ]

rm -r "$work"
tap_end
