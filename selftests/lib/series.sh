# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What is true of every series of patches (tools/series.sh). Sourced after tap.sh.
#
# The caller sets
#	make_patches	the program that writes the series
#	src		the source that it is made for
#	work		a directory for what the tests need
#	patches		where the series was written
#	applied		where apply_exactly puts the files that it changes

export GIT_AUTHOR_NAME="Patch Author" GIT_AUTHOR_EMAIL=author@example.org
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL

made_again_they_are_the_same()
{
	"$make_patches" -o "$work/again" && diff -r "$patches" "$work/again"
	set -- $?
	rm -rf "$work/again"
	return "$1"
}

# They speak of their author, and of nobody and nowhere else.
have_author()
{
	local patch
	for patch in "$patches"/*; do
		grep -qx "From: $GIT_AUTHOR_NAME <$GIT_AUTHOR_EMAIL>" "$patch" &&
			grep -qx "Signed-off-by: $GIT_AUTHOR_NAME <$GIT_AUTHOR_EMAIL>" "$patch" ||
			return
	done
}

# Those files of the source that the patches change.
list_changed_files()
{
	sed -n 's|^--- a/||p' "$patches"/* | sort -u
}

copy_changed_files()
{
	mkdir -p "$1"
	(cd "$src" && list_changed_files | xargs cp --parents -t "$1")
}

apply_exactly()
{
	local output
	copy_changed_files "$applied" || return
	output=$(cat "$patches"/* | patch -d "$applied" -p1 --fuzz=0) || {
		echo "$output"
		return 1
	}
	# It says where a hunk was not where it should be.
	grep -v '^patching file ' <<< "$output" || return 0
	return 1
}

git_am_makes_the_same()
{
	copy_changed_files "$work/am" &&
		cd "$work/am" &&
		git init -q && git add --all && git commit -q -m "Source" &&
		git am -q "$patches"/* &&
		git status --short &&
		diff -r --exclude=.git "$work/am" "$applied"
	set -- $?
	rm -rf "$work/am"
	return "$1"
}
