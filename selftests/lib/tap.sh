# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Test results of a script in TAP: a line a test, the plan at the end. Sourced.

# Every limit of time is multiplied by this number, for a slow machine.
: "${LIMIT_FACTOR:=1}"

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

# once: whether to test what is the same on every kernel. ONCE=no says that it has been
# tested on another one.
once()
{
	[ "${ONCE:-yes}" = yes ]
}

# ok_once DESCRIPTION COMMAND...: such a test.
ok_once()
{
	! once || ok "$@"
}

# skip DESCRIPTION REASON
skip()
{
	tap_tests=$((tap_tests + 1))
	echo "ok $tap_tests - $1 # SKIP $2"
}

# adopt: the tests of a program, whose TAP is the input, become this script's.
adopt()
{
	local line
	while IFS= read -r line; do
		case $line in
		1..*)
			continue
			;;
		"ok "* | "not ok "*)
			tap_tests=$((tap_tests + 1))
			[ "${line%% *}" = ok ] || tap_failures=$((tap_failures + 1))
			line="${line%%ok *}ok $tap_tests - ${line#*ok * - }"
			;;
		esac
		echo "$line"
	done
}

# run_tests SECONDS PROGRAM...: runs a program that prints TAP and adopts its tests.
# One that is not at its end after so many seconds, times LIMIT_FACTOR, hangs, maybe where no signal
# gets through: nobody waits for it, and the script ends.
run_tests()
{
	local end=$((SECONDS + $1 * LIMIT_FACTOR)) failures=$tap_failures output pid status
	shift
	output=$(mktemp)
	"$@" > "$output" 2>&1 < /dev/null &
	pid=$!
	while kill -0 "$pid" 2> /dev/null && ((SECONDS < end)); do
		sleep 0.1
	done
	if kill -0 "$pid" 2> /dev/null; then
		adopt < "$output"
		ok "$* ends" hangs "$pid"
		# A child may hold the device, too, or be the program.
		pkill -9 -P "$pid"
		kill -9 "$pid" 2> /dev/null
		bail "$* hangs"
	fi
	wait "$pid"
	status=$?
	adopt < "$output"
	rm "$output"
	if ((status != 0 && tap_failures == failures)); then
		ok "$* ends well" [ "$status" = 0 ]
	fi
}

# Shows where a process is.
hangs()
{
	local task
	for task in /proc/"$1"/task/*; do
		echo "${task##*/} $(cat "$task/comm"):"
		cat "$task/stack"
	done
	return 1
}

# fails_with PATTERN COMMAND...: the command fails, with a message that matches.
fails_with()
{
	local pattern=$1 output
	shift
	output=$("$@" 2>&1) && return 1
	echo "$output"
	grep -qE "$pattern" <<< "$output"
}

# ends_with STATUS PATTERN COMMAND...: the command has this status, and says what matches.
ends_with()
{
	local expected=$1 pattern=$2 output status
	shift 2
	output=$("$@" 2>&1 < /dev/null)
	status=$?
	echo "status $status: $output"
	test "$status" = "$expected" && grep -qE -e "$pattern" <<< "$output"
}

# bail REASON: the tests that follow make no sense.
bail()
{
	echo "Bail out! $*"
	exit 1
}

# skip_all REASON: nothing here can be tested on this machine. The status is what a kernel
# tree's kselftest takes for a skipped test.
skip_all()
{
	echo "1..0 # SKIP $*"
	exit 4
}

tap_end()
{
	echo "1..$tap_tests"
	exit $((tap_failures > 0))
}
