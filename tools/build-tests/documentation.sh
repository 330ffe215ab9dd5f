#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The documentation: reStructuredText without errors, links that lead somewhere, an index with
# all pages, and no command that no test runs.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

cd "$here/../.." || exit
command -v rst2html gawk > /dev/null || skip_all "no docutils or gawk"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pages=(Documentation/*.rst)

# Leaves the page in HTML, for the tests of links.
is_valid()
{
	rst2html --halt=2 --syntax-highlight=none "$1" "$work/$(basename "$1" .rst).html"
}

# has_section PAGE SECTION: a title as docutils names it in a link.
has_section()
{
	[ -z "$2" ] || grep -q " id=\"$2\"" "$work/$(basename "$1" .rst).html"
}

# Prints where a page's links go to, relative to the top directory.
links_of()
{
	if [ "$1" = README.md ]; then
		grep -oE '\]\([^)]+\)' "$1" | sed -E 's/^..//; s/.$//'
	else
		grep -oE 'href="[^"]+"' "$work/$(basename "$1" .rst).html" |
			sed -E 's|^href="||; s|"$||; s|^[^#]|Documentation/&|' |
			sed -E "s|^#|$1#|; s|^Documentation/([a-z]+:)|\1|"
	fi
}

# Of other servers' pages nothing is known here.
links_lead_somewhere()
{
	local link file status=0
	while read -r link; do
		file=${link%%#*}
		[[ $link != http*:* && $link != mailto:* ]] || continue
		if [ ! -e "$file" ] ||
			[[ $link == *.rst#* ]] && ! has_section "$file" "${link#*#}"; then
			echo "$1: there is no $link"
			status=1
		fi
	done < <(links_of "$1")
	return "$status"
}

# A page that is named in the text only.
named_pages_exist()
{
	local name status=0
	while read -r name; do
		[ -n "$(find Documentation tools -name "$name")" ] || {
			echo "there is no $name"
			status=1
		}
	done < <(grep -ohE '\b[a-z-]+\.rst\b' README.md "${pages[@]}" | sort -u)
	return "$status"
}

is_in_index()
{
	grep -q "<$(basename "$1")>" Documentation/index.rst
}

for page in "${pages[@]}"; do
	ok "$page is valid" is_valid "$page"
done
for page in README.md "${pages[@]}"; do
	ok "$page: its links lead somewhere" links_lead_somewhere "$page"
	ok "$page: every command is run by a test, or says why not" \
		tools/testbed/doc-commands check "$page"
done
ok "pages that the text names exist" named_pages_exist
for page in "${pages[@]}"; do
	[ "$page" = Documentation/index.rst ] || ok "$page is in the index" is_in_index "$page"
done
tap_end
