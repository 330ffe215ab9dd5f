# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What tools/qemu/make-patches and tools/kernel/make-patches share: a series of patches
# for another project's source, made of files of this checkout. Sourced.
#
# The caller sets
#	here	its own directory, which has the texts of the patches: series/NAME.msg
#	out	where the patches are written
#	src	the source to make them for
#	version	what that source is, for messages and for the commit below the series

die()
{
	printf "tools/${here##*/}/make-patches: %s\n" "$@" >&2
	exit 1
}

# Sets up git for the series alone: of the caller's settings only the author
# may show in it.
set_author()
{
	local name email

	command -v git > /dev/null || die "git is missing: apt-get install git"
	name=${GIT_AUTHOR_NAME:-$(git config user.name || true)}
	email=${GIT_AUTHOR_EMAIL:-$(git config user.email || true)}
	if [ -z "$name" ] || [ -z "$email" ]; then
		die "the patches have no author:" \
		    "set git config user.name and user.email," \
		    "or GIT_AUTHOR_NAME and GIT_AUTHOR_EMAIL in the environment"
	fi
	unset "${!GIT_@}"
	export GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email
	export GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
}

# find_one DESCRIPTION FOUND: what a search for something in the source found
find_one()
{
	if [ -z "$2" ] || [[ $2 == *$'\n'* ]]; then
		die "can't tell where $version has $1:" \
		    "it differs too much from those that this was made for"
	fi
	printf '%s\n' "$2"
}

# insert_before REGEX FILE: standard input, before the line that matches
insert_before()
{
	local found

	found=$(grep -nE "$1" "$2" || true)
	found=$(find_one "the line $1 of $2" "$found")
	sed -i "$((${found%%:*} - 1))r /dev/stdin" "$2"
}

# make_repository FILE...: of only those files of the source that the series changes.
# It is the working directory from then on, and goes with the script.
make_repository()
{
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	cd "$src" || exit
	cp --parents -t "$tree" "$@"
	cd "$tree" || exit
	git init -q -b series
	git add --all
	git commit -q -m "$version"
	git tag base
}

# add_patch NAME COMMAND...: what the command changes, with the text series/NAME.msg
add_patch()
{
	local message=$here/series/$1.msg

	shift
	"$@"
	git add --all
	git commit -q --signoff -F "$message"
}

# Without dates and without the names of commits that nobody has
write_patches()
{
	mkdir -p "$out"
	rm -f "$out"/000[1-9]-*[-_]blk*.patch
	git format-patch -q --zero-commit --full-index --no-signature \
		-o "$out" base..series
	sed -i '1,/^$/{/^Date: /d}' "$out"/000[1-9]-*[-_]blk*.patch
	echo "tools/${here##*/}/make-patches: $out has the series for $version"
}
