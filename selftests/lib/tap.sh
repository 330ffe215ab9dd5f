# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Test results of a script in TAP: a line a test, the plan at the end. Sourced.

tap_tests=0
tap_failures=0

# ok DESCRIPTION COMMAND...: a test that passes if the command succeeds. What the
# command prints is shown if it doesn't.
ok()
{
	local text=$1 output
	shift
	tap_tests=$((tap_tests + 1))
	if output=$("$@" 2>&1); then
		echo "ok $tap_tests - $text"
		return 0
	fi
	echo "not ok $tap_tests - $text"
	sed 's/^/# /' <<< "$output"
	tap_failures=$((tap_failures + 1))
	return 1
}

# skip DESCRIPTION REASON
skip()
{
	tap_tests=$((tap_tests + 1))
	echo "ok $tap_tests - $1 # SKIP $2"
}

# bail REASON: the tests that follow make no sense.
bail()
{
	echo "Bail out! $*"
	exit 1
}

# skip_all REASON: nothing here can be tested on this machine.
skip_all()
{
	echo "1..0 # SKIP $*"
	exit 0
}

tap_end()
{
	echo "1..$tap_tests"
	exit $((tap_failures > 0))
}
