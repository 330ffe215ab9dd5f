#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The module itself: found, loaded on demand, unloaded.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"

modinfo vhost_blk > /dev/null 2>&1 || skip_all "vhost_blk is not installed"
# Whose node it is, is somebody's choice.
owner=$(stat -c '%u:%g' /dev/vhost-blk 2> /dev/null)
mode=$(stat -c '%a' /dev/vhost-blk 2> /dev/null)
! grep -q '^vhost_blk ' /proc/modules || { vhost_blk_gets_free && rmmod vhost_blk; } ||
	skip_all "vhost_blk is in use"

# What systemd makes at boot of modules.devname: a node without a driver yet.
make_static_node()
{
	local name device type
	read -r _ name device < <(grep ' vhost-blk ' "/lib/modules/$(uname -r)/modules.devname")
	echo "devname entry: $name $device"
	type=${device:0:1}
	device=${device:1}
	rm -f "/dev/$name"
	mknod "/dev/$name" "$type" "${device%:*}" "${device#*:}"
}

opening_loads()
{
	! grep -q '^vhost_blk ' /proc/modules || return
	: < /dev/vhost-blk || return
	grep -q '^vhost_blk ' /proc/modules
}

busy_while_open()
{
	exec {fd}< /dev/vhost-blk
	! rmmod vhost_blk
	local status=$?
	exec {fd}<&-
	return "$status"
}

ok "depmod knows the device node" make_static_node
ok "opening the node loads the module" opening_loads
ok "the module can't go while the device is open" busy_while_open
ok "it can afterwards" rmmod vhost_blk
rm -f /dev/vhost-blk
ok "and comes again" modprobe vhost_blk
ok "with a node" test -c /dev/vhost-blk
if [ -n "$owner" ]; then
	chown "$owner" /dev/vhost-blk
	chmod "$mode" /dev/vhost-blk
fi
tap_end
