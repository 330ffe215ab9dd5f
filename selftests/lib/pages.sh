# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The blocks of commands of the documentation, which a test runs word by word. Sourced, with
# these set:
#
#	top	the checkout
#	test	the test, as the marks of the blocks name it

# block PAGE N: prints the Nth of the blocks that the test runs from the page.
# shellcheck disable=SC2154 # the caller's
block()
{
	"$top/tools/testbed/doc-commands" commands "$test" "$top/$1" |
		awk -v n="$2" '/^# .*:[0-9]+$/ { i++ } i == n'
}
