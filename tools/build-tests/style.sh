#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Kernel style: checkpatch, kernel-doc, shellcheck, spelling.
#
# CHECKPATCH_SOURCE names the kernel source whose scripts are used.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

cd "$here/../.." || exit
: "${CHECKPATCH_SOURCE:=/lib/modules/$(uname -r)/source}"
checkpatch=$CHECKPATCH_SOURCE/scripts/checkpatch.pl
[ -e "$checkpatch" ] || skip_all "no kernel source in CHECKPATCH_SOURCE"

# compat.h exists to compare kernel versions and to bend macros: what checkpatch
# has against that does not apply to it.
compat_types=LINUX_VERSION_CODE,CONSTANT_COMPARISON,MACRO_ARG_REUSE,MACRO_ARG_UNUSED

check_file()
{
	local ignore=()
	[ "$1" != include/compat.h ] || ignore=(--ignore "$compat_types")
	perl "$checkpatch" --no-tree --strict --quiet --show-types \
		"${ignore[@]}" -f "$1"
}

kernel_doc()
{
	local output
	output=$("$CHECKPATCH_SOURCE/scripts/kernel-doc" -none -Wall "$@" 2>&1)
	echo "$output"
	test -z "$output"
}

scripts()
{
	grep -rlE '^#!/bin/(ba)?sh' tools selftests packaging .ci
}

for file in drivers/*/*.[ch] include/*.h include/uapi/linux/*.h; do
	ok "checkpatch --strict $file" check_file "$file"
done
ok "kernel-doc" kernel_doc drivers/*/*.[ch] include/uapi/linux/*.h
mapfile -t files < <(scripts)
ok "shellcheck of ${#files[@]} scripts" shellcheck "${files[@]}"
# Nd is a macro of manual pages.
ok "spelling" codespell -q 3 -L nd README.md Makefile Kbuild Documentation drivers \
	include packaging selftests tools
tap_end
