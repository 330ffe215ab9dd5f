#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The wrapper around QEMU: what it loads, and what it says where it can't.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As make install-qemu lays it out.
prefix=$work/usr
wrapper=$prefix/bin/qemu-vhost-blk
object=$prefix/lib/vhost-blk/10.0.13_Debian_1_10.0.13+ds-0/vhost-blk-pci.so
install -D -t "$prefix/bin" "$here/../../tools/qemu/qemu-vhost-blk"
install -D /dev/null "$object"
install -D /dev/null "$prefix/lib/vhost-blk/10.0.2/vhost-blk-pci.so"
cat > "$work/qemu" << 'END'
#!/bin/sh
if [ "$1" = --version ]; then
	[ -z "$VHOST_BLK_PCI_PROBE" ] || [ -n "$SECURE" ] || echo vhost-blk-pci.so is loaded
	echo "QEMU emulator version ${VERSION-10.0.13 (Debian 1:10.0.13+ds-0)}"
	echo Copyright
	exit
fi
printf '%s\n' "$LD_PRELOAD" "$@"
END
chmod +x "$work/qemu"

# loads OBJECT COMMAND...: the command runs QEMU, and it has the object.
loads()
{
	local got
	# The dynamic loader has its say about an empty object.
	got=$(env QEMU="$work/qemu" "${@:2}" -name 'a b' 2> /dev/null)
	echo "$got"
	[ "$(realpath "$(head -n 1 <<< "$got")")" = "$(realpath "$1")" ] &&
		[ "$(tail -n +2 <<< "$got")" = "$(printf '%s\n' -name 'a b')" ]
}

# says PATTERN COMMAND...: and runs no QEMU.
says()
{
	fails_with "$1" env QEMU="$work/qemu" "${@:2}"
}

completes_as_qemu()
{
	# shellcheck disable=SC2016 # bash-completion, as far as it is needed
	bash -c '_comp_load() { complete -o nospace -F _of_qemu "$1"; }
		. "$1"; complete -p qemu-vhost-blk' - "$here/../../packaging/completions/qemu-vhost-blk" |
		grep -x 'complete -o nospace -F _of_qemu qemu-vhost-blk'
}

ok "loads the object for this QEMU" loads "$object" "$wrapper"
ok "or for another one" loads "$prefix/lib/vhost-blk/10.0.2/vhost-blk-pci.so" VERSION=10.0.2 "$wrapper"
ok "a version without an object" says "no vhost-blk-pci.so for QEMU 10.0.1 " VERSION=10.0.1 "$wrapper"
ok "a QEMU that preloads nothing" says "qemu does not load objects .* file capability" \
	SECURE=1 "$wrapper"
ok "what is no QEMU" says "true is no QEMU that runs" QEMU=true "$wrapper"
ok "runs no program but QEMU" loads "$object" PATH=/nowhere "$wrapper"
ok "is found in PATH" loads "$object" PATH="$prefix/bin:$PATH" qemu-vhost-blk
ln -s "$wrapper" "$work/link"
ok "a link to it works" loads "$object" "$work/link"
cp "$object" "$prefix/bin/"
ok "prefers the object beside it" loads "$prefix/bin/vhost-blk-pci.so" "$wrapper"
ok "which a QEMU does not load" says "qemu does not load objects" SECURE=1 "$wrapper"
rm "$prefix/bin/vhost-blk-pci.so"
ok "VHOST_BLK_PCI_SO names the object" loads "$work/link" VHOST_BLK_PCI_SO="$work/link" "$wrapper"
ok "or a relative path of it" loads "$work/link" \
	VHOST_BLK_PCI_SO="$(realpath --relative-to . "$work/link" --no-symlinks)" "$wrapper"
ok "and what is no QEMU does not get it" says "true is no QEMU that runs" \
	VHOST_BLK_PCI_SO="$object" QEMU=true "$wrapper"
ok "an object that is not there" says "can't read .*/none" VHOST_BLK_PCI_SO="$work/none" "$wrapper"
mkdir "$work/a b"
cp "$object" "$work/a b/"
ok "a path that can't be preloaded" says "space or colon" \
	VHOST_BLK_PCI_SO="$work/a b/vhost-blk-pci.so" "$wrapper"
rm -r "$prefix/lib/vhost-blk"
ok "no object" says "no vhost-blk-pci.so found: build it" "$wrapper"
ok "bash completes it as it completes QEMU" completes_as_qemu
tap_end
