#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# tools/vhost-blk-stat on devices that read (load.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

stat=$here/../../tools/vhost-blk-stat
[ -x "$stat" ] || skip_all "no vhost-blk-stat beside the selftests"
reports=$(mktemp)

# The word in a column of the reports: of a device's disk, a queue and a report.
column()
{
	awk -v name="($1)" -v queue="$2" -v report="$3" -v column="$4" '
		/^device / { at = index($0, name); n += at > 0 }
		at && n == report && $1 == queue { print $column; exit }' "$reports"
}

# is_about A B: half or twice as much at most.
is_about()
{
	echo "$1, $2"
	awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0 && b > 0 && a < 2 * b && b < 2 * a) }'
}

read_rate_is_shown()
{
	is_about "$(column "$1" 0 2 2)" "$2"
}

bytes_fit_reads()
{
	is_about "$(column "$1" 0 2 3)" "$(awk -v reads="$(column "$1" 0 2 2)" 'BEGIN { print reads * 4096 / 1e6 }')"
}

two_queues_share()
{
	is_about "$(column "$1" 0 2 2)" "$(column "$1" 1 2 2)"
}

is_more_than_zero()
{
	echo "$1"
	awk -v value="$1" 'BEGIN { exit !(value > 0) }'
}

device_line()
{
	local number
	number=$(cat "$(sysfs_of "$1")/dev")
	cat "$reports"
	grep -q "^device [0-9]*: pid $2 (load), backing $number (${1##*/})\$" "$reports"
}

nothing_is_open()
{
	grep -q "^no vhost-blk device is open" <<< "$("$stat" -i 0.1 -n 1)"
}

bad_arguments()
{
	! "$stat" -n 2> /dev/null && ! "$stat" -n x 2> /dev/null &&
		! "$stat" -i x 2> /dev/null && ! "$stat" more 2> /dev/null
}

makes_two_reports()
{
	timeout $((60 * LIMIT_FACTOR + 8 * slow)) "$stat" -i 2 -n 2 > "$reports" && [ "$(grep -c '^$' "$reports")" = 2 ]
}

# The help says so, too.
has_no_end()
{
	local status
	"$stat" -h | grep -q -- "-n COUNT .*0.*without end" || return
	timeout $((4 * LIMIT_FACTOR + 4 * slow)) "$stat" -i 0.1 -n 0 > "$reports"
	status=$?
	cat "$reports"
	[ "$status" = 124 ] && [ "$(grep -c '^$' "$reports")" -ge 2 ]
}

is_running()
{
	grep -qs "^running:.*1" "/proc/$1/fdinfo/"*
}

# They set the rate, not the processor, which this machine may not have for itself.
slow_disk=(irqmode=2 completion_nsec="$(slow_nsec 20)" poll_queues=0)
first=$(make_nullb stat_first "${slow_disk[@]}")
second=$(make_nullb stat_second "${slow_disk[@]}")
start=$SECONDS
ok "without a device it says so" nothing_is_open
# A debug kernel may take seconds to list all files.
slow=$((SECONDS - start))
ok "it refuses arguments that make no sense" bad_arguments
ok "with -n 0 its reports go on" has_no_end

"$here/load" "$first" $((15 * LIMIT_FACTOR + 8 * slow)) > "$reports.first" &
first_pid=$!
"$here/load" "$second" $((15 * LIMIT_FACTOR + 8 * slow)) 2 > "$reports.second" &
second_pid=$!
wait_until is_running "$first_pid"
wait_until is_running "$second_pid"
ok "it ends after the reports that were asked for" makes_two_reports
wait
ok "it shows a device with process and disk" device_line "$first" "$first_pid"
ok "and the other one" device_line "$second" "$second_pid"
ok "it shows as many reads as there are" \
	read_rate_is_shown "${first##*/}" "$(cat "$reports.first")"
ok "and their bytes" bytes_fit_reads "${first##*/}"
ok "it shows each queue" two_queues_share "${second##*/}"
ok "and signals" is_more_than_zero "$(column "${first##*/}" 0 2 14)"
ok "and requests of a batch" is_more_than_zero "$(column "${first##*/}" 0 2 15)"
ok "and no writes" [ "$(column "${first##*/}" 0 2 4)" = 0 ]
ok "and no errors" [ "$(column "${first##*/}" 0 2 12)" = 0 ]

rm "$reports" "$reports.first" "$reports.second"
remove_nullb stat_first
remove_nullb stat_second
tap_end
