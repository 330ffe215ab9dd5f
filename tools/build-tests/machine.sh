#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# tools/testbed/machine finds what it sources, however it is called: the host machine has a link
# to it in /usr/bin.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

machine=$here/../testbed/machine
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
ln -s "$(realpath --relative-to "$work/bin" "$machine")" "$work/bin/machine"

by_name()
{
	PATH=$work/bin:$PATH machine
}

ok "by its path" ends_with 2 "Usage: machine" "$machine"
ok "by a link" ends_with 2 "Usage: machine" "$work/bin/machine"
ok "by its name" ends_with 2 "Usage: machine" by_name
tap_end
