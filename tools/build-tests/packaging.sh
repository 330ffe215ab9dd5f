#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What "make install-vhost-blkd" installs: where it is, and whether systemd and libvirt can
# read it; and whether "make uninstall" finds all of it.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$here/../.." || exit

installs()
{
	make -s install-vhost-blkd DESTDIR="$work/$1" PREFIX="$2" && test -x "$work/$1$2/bin/vhost-blkd" &&
		test -x "$work/$1$2/sbin/vhost-blk-upgrade" &&
		test -f "$work/$1$2/lib/sysusers.d/vhost-blkd.conf" &&
		test -f "$work/$1$2/lib/udev/rules.d/60-vhost-blk.rules" &&
		test -f "$work/$1/etc/apparmor.d/vhost-blkd" &&
		test -f "$work/$1/etc/apparmor.d/abstractions/libvirt-qemu.d/vhost-blk" &&
		test -f "$work/$1/etc/needrestart/conf.d/vhost-blk.conf" &&
		test -f "$work/$1$2/share/man/man8/vhost-blkd.8" &&
		test -f "$work/$1$2/share/man/man8/vhost-blk-upgrade.8" &&
		test -f "$work/$1$2/share/man/man8/vhost-blk-stat.8" &&
		test -f "$work/$1$2/include/linux/vhost_blk.h"
}

installs_nothing()
{
	fails_with "no kernel headers" make -s install-host KDIR=/nowhere DESTDIR="$work/nothing" &&
		[ ! -e "$work/nothing" ]
}

uninstalls()
{
	local left
	make -s uninstall DESTDIR="$work/$1" PREFIX="$2" || return
	left=$(find "$work/$1" ! -type d)
	echo "$left"
	test -z "$left"
}

uninstall_keeps_conffiles()
{
	cp -a "$work/local" "$work/packaged" &&
		PATH="$work/dpkg:$PATH" make -s uninstall DESTDIR="$work/packaged" PREFIX=/usr/local &&
		[ -e "$work/packaged/etc/apparmor.d/vhost-blkd" ] &&
		[ ! -e "$work/packaged/usr/local/bin/vhost-blkd" ]
}

# names_daemon FILE PATH
names_daemon()
{
	jq -e --arg path "$2" '.type == "block" and .binary == $path' "$work/$1"
}

# systemd looks whether the program is there.
unit_is_right()
{
	local output unit=$work/vhost-blkd@test.service
	sed "s|^ExecStart=|&$work/local|" \
		"$work/local/usr/local/lib/systemd/system/vhost-blkd@.service" > "$unit"
	output=$(systemd-analyze verify --man=no "$unit" 2>&1)
	echo "$output"
	test -z "$output"
}

unit_is_safe()
{
	local unit=$work/vhost-blkd@test.service
	systemd-analyze security --offline=true --threshold=20 "$unit"
}

# links_lead_somewhere DIRECTORY: those of the pages there to files. A title of a section is not
# looked for.
links_lead_somewhere()
{
	local link status=0
	while read -r link; do
		[ -e "$1/$link" ] || {
			echo "there is no $link"
			status=1
		}
	done < <(grep -ohE '<[^<>: ]+\.(rst|md)|\]\([^():# ]+|(image|figure):: [^ ]+' "$1"/*.{rst,md} |
		sed -E 's/^(<|\]\(|.*:: )//' | sort -u)
	return "$status"
}

page_is_right()
{
	local output
	output=$(groff -mandoc -ww -z -Tutf8 "$1" 2>&1)
	echo "$output"
	test -z "$output"
}

# tells_of_options PAGE COMMAND...: those that the command prints.
tells_of_options()
{
	local option missing=() page=$1
	while read -r option; do
		grep -q "^\.\(It \)\?Fl \\\\${option#-}\( \|$\)" "$page" || missing+=("$option")
	done < <("${@:2}" 2>&1 | grep -oE -- '--[a-z-]+' | sort -u)
	echo "missing: ${missing[*]}"
	((!${#missing[@]}))
}

# completes WORD RESULT: what bash makes of the word in a command line of vhost-blkd.
completes()
{
	local result
	# shellcheck disable=SC2034,SC2317,SC2329 # called and used by the sourced file
	result=$(
		_get_comp_words_by_ref() { cur=$word; }
		_filedir() { COMPREPLY=("files like $cur"); }
		compopt() { :; }
		. packaging/completions/vhost-blkd
		word=$1 COMPREPLY=()
		_vhost_blkd build/vhost-blkd/vhost-blkd
		echo "${COMPREPLY[*]}"
	)
	echo "$1: $result"
	[ "$result" = "$2" ]
}

ok "it installs to /usr/local" installs local /usr/local
ok "libvirt finds the daemon in /etc" \
	names_daemon local/etc/qemu/vhost-user/50-vhost-blkd.json /usr/local/bin/vhost-blkd
ok "the links of its pages lead somewhere" links_lead_somewhere "$work/local/usr/local/share/doc/vhost-blk"
ok "it installs to /usr" installs usr /usr
ok "libvirt finds the daemon in /usr/share" \
	names_daemon usr/usr/share/qemu/vhost-user/50-vhost-blkd.json /usr/bin/vhost-blkd
for page in packaging/man/*; do
	if command -v groff > /dev/null; then
		ok "groff has nothing against ${page##*/}" page_is_right "$page"
	else
		skip "groff has nothing against ${page##*/}" "no groff"
	fi
done
ok "vhost-blkd.8 tells of all options" tells_of_options packaging/man/vhost-blkd.8 \
	build/vhost-blkd/vhost-blkd --help
ok "vhost-blk-upgrade.8 tells of all options" tells_of_options \
	packaging/man/vhost-blk-upgrade.8 packaging/vhost-blk-upgrade --help
ok "bash completes an option of vhost-blkd" completes --ser --serial=
ok "and one without a value" completes --pin --pin-memory
ok "and a file" completes --blk-file=/dev/v "files like /dev/v"
ok "and no other value" completes --serial= ""
if command -v systemd-analyze > /dev/null; then
	ok "systemd has nothing against the unit" unit_is_right
	ok "the service has no rights that it does not need" unit_is_safe
else
	skip "systemd has nothing against the unit" "no systemd-analyze"
	skip "the service has no rights that it does not need" "no systemd-analyze"
fi
for target in install-guest install-vhost-blkd-files install-qemu-files uninstall; do
	ok "make $target wants root" fails_with "make $target: needs root, or DESTDIR=" \
		setpriv --reuid 65534 --regid 65534 --clear-groups make -s "$target"
done
# dpkg knows the packages in $PACKAGES and any file. As nobody, so that nothing happens if make
# does not ask.
mkdir "$work/dpkg"
cat > "$work/dpkg/dpkg-query" << 'END'
#!/bin/sh
[ "$1" != -S ] || exit 0
for name; do :; done
case " $PACKAGES " in
*" $name "*) echo installed ;;
*) exit 1 ;;
esac
END
chmod 755 "$work" "$work/dpkg" "$work/dpkg/dpkg-query"
while read -r target packages; do
	ok "make $target refuses what a package has installed: $packages" fails_with \
		"make $target: packages are installed: apt purge $packages first\$" \
		env PATH="$work/dpkg:$PATH" PACKAGES="$packages" \
		setpriv --reuid 65534 --regid 65534 --clear-groups make -s "$target"
done <<- END
	install-host vhost-blk-dkms vhost-blk
	install-host vhost-blk-dkms
	install-host vhost-blk
	install-vhost-blkd-files vhost-blk
	install-guest virtio-blk-dkms
	install-qemu-files qemu-vhost-blk
END
printf '%s\n' '#!/bin/sh' 'echo vhost-blkd@one.service loaded active running' \
	'echo vhost-blkd@two.service loaded active running' > "$work/dpkg/systemctl"
chmod 755 "$work/dpkg/systemctl"
ok "make uninstall refuses while disks are served, and names them" fails_with \
	"make uninstall: disks are served: systemctl disable --now vhost-blkd@one.service vhost-blkd@two.service first\$" \
	env PATH="$work/dpkg:$PATH" \
	setpriv --reuid 65534 --regid 65534 --clear-groups make -s uninstall
ok "make uninstall leaves what a package has in /etc" uninstall_keeps_conffiles
ok "make install-host installs nothing without headers" installs_nothing
ok "a missing compiler is named, and its package" fails_with "no C compiler nocc: apt install" \
	make -s -C tools/vhost-blkd OUT="$work/nothing" CC=nocc
ok "all of it is uninstalled from /usr/local" uninstalls local /usr/local
ok "and from /usr" uninstalls usr /usr
tap_end
