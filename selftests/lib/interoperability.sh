# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Tests of what guests drive a disk with on what hosts offer as one. Sourced, after
# guest.sh. Of what all of them write tools/testbed/interoperability makes a table.

qemu_version=$("$QEMU_VHOST_BLK" --version | sed -n 's/.* version \([0-9.]*\).*/\1/p')

# short_release RELEASE: of a kernel, without what the distribution adds.
short_release()
{
	echo "${1%%[+-]*}"
}

# works_on DRIVER DEVICE COMMAND...: a test that passes if the command succeeds.
works_on()
{
	local driver=$1 device=$2 result=works
	shift 2
	ok "$driver works on $device" "$@" || result=fails
	echo "# interoperability; $(short_release "$(uname -r)"); $qemu_version; $device; $driver; $result"
}
