#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The module itself: found, loaded on demand, unloaded.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"

modinfo vhost_blk > /dev/null 2>&1 || skip_all "vhost_blk is not installed"
grep -q '^vhost_blk ' /proc/modules && ! rmmod vhost_blk && skip_all "vhost_blk is in use"

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
ok "and comes again" modprobe vhost_blk
tap_end
