#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vhost-blk-upgrade replaces the module under the daemons: they are back, and where
# something goes wrong, too. The service manager is one that this script makes.
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/tap.sh"
. "$here/../lib/disks.sh"

: "${VHOST_BLKD:=$here/../../tools/vhost-blkd/vhost-blkd}"
: "${UPGRADE:=$here/../../tools/vhost-blkd/vhost-blk-upgrade}"
once || skip_all "the same on every host kernel: tested on the first one"
need_vhost_blk
"$VHOST_BLKD" --version > /dev/null || skip_all "no vhost-blkd"
vhost_blk_gets_free || skip_all "vhost_blk is in use"

work=$(mktemp -d)
module=$(modinfo -n vhost_blk)
release=$(uname -r | sed 's/[.+]/\\&/g')
names=(first second)
clean_up()
{
	PATH=$work:$PATH systemctl stop "${units[@]}"
	[ ! -e "$work/module" ] || cp "$work/module" "$module"
	modprobe vhost_blk
	for name in "${names[@]}"; do
		remove_nullb "blkd_$name"
	done
	rm -rf "$work"
}
trap clean_up EXIT

units=()
for name in "${names[@]}"; do
	disk=$(make_nullb "blkd_$name" size=64) || skip_all "no null_blk"
	echo "$disk" > "$work/$name.disk"
	units+=("vhost-blkd@$name.service")
done

# As much of systemctl as is needed: NAME.pid is there while a unit is active.
cat > "$work/systemctl" << END
#!/bin/bash
work=$work
daemon=$VHOST_BLKD
limit=$((30 * LIMIT_FACTOR))
END
cat >> "$work/systemctl" << 'END'
command=$1
shift
case $command in
list-units)
	for file in "$work"/*.pid; do
		[ ! -e "$file" ] || echo "vhost-blkd@$(basename "$file" .pid).service loaded active running"
	done
	exit
	;;
show)
	name=${3#vhost-blkd@}
	cat "$work/${name%.service}.pid"
	exit
	;;
esac
for unit; do
	name=${unit#vhost-blkd@}
	name=${name%.service}
	pid=$(cat "$work/$name.pid" 2> /dev/null)
	case $command in
	stop)
		[ -n "$pid" ] || continue
		kill "$pid"
		end=$((SECONDS + limit))
		while [ -e "/proc/$pid" ]; do
			((SECONDS < end)) || kill -9 "$pid"
			sleep 0.01
		done
		rm "$work/$name.pid"
		;;
	start)
		[ -z "$pid" ] || continue
		setsid "$daemon" --socket-path="$work/$name.sock" \
			--blk-file="$(cat "$work/$name.disk")" > "$work/$name.log" 2>&1 < /dev/null &
		echo $! > "$work/$name.pid"
		end=$((SECONDS + limit))
		until [ -S "$work/$name.sock" ]; do
			((SECONDS < end)) || exit 1
			sleep 0.01
		done
		;;
	esac
done
END
chmod +x "$work/systemctl"
# Another one for the case that the installed module is no good.
mkdir "$work/broken"
cat > "$work/broken/modprobe" << 'END'
#!/bin/sh
case $* in
vhost_blk) exit 1 ;;
*) exec /sbin/modprobe "$@" ;;
esac
END
chmod +x "$work/broken/modprobe"

# upgrade ARGUMENT...: with them.
upgrade()
{
	PATH=$work:$PATH "$UPGRADE" "$@"
}

all_answer()
{
	local name
	for name in "${names[@]}"; do
		timeout $((10 * LIMIT_FACTOR)) "$here/sockets" ask "$work/$name.sock" || {
			cat "$work/$name.log"
			return 1
		}
	done
}

# A module that is loaded anew has other files.
generation()
{
	stat -c %i /sys/module/vhost_blk
}

replaced()
{
	local before output
	before=$(generation)
	output=$(upgrade "$@") || return
	echo "$output"
	[ "$(generation)" != "$before" ] && all_answer &&
		grep -qE "first was away for [0-9]+ ms" <<< "$output" &&
		grep -qE "second was away for [0-9]+ ms" <<< "$output"
}

# refused PATTERN COMMAND...: and nothing has happened.
refused()
{
	local before pids
	before=$(generation)
	pids=$(cat "$work"/*.pid)
	fails_with "$@" && [ "$(generation)" = "$before" ] &&
		[ "$(cat "$work"/*.pid)" = "$pids" ]
}

# On standard output, and nothing has happened.
shows_help()
{
	local before output
	before=$(generation)
	output=$(upgrade --help 2> /dev/null) || return
	echo "$output"
	[ "$(generation)" = "$before" ] && grep -q "^Usage: " <<< "$output" &&
		grep -q -- "--previous FILE" <<< "$output"
}

with_another_user()
{
	upgrade --force 7<> /dev/vhost-blk
}

broken_module()
{
	local output
	output=$(PATH=$work/broken:$work:$PATH "$UPGRADE" --force "$@" 2>&1) && return 1
	echo "$output"
	grep -q "does not load" <<< "$output" && all_answer
}

# with_module COMMAND ARGUMENT...: the command changes the installed module for the moment.
with_module()
{
	local status
	cp "$module" "$work/module"
	"$1" "$work/module" > "$module"
	upgrade "${@:2}"
	status=$?
	cp "$work/module" "$module"
	rm "$work/module"
	return "$status"
}

without_module()
{
	local status
	mv "$module" "$work/module"
	upgrade "$@"
	status=$?
	mv "$work/module" "$module"
	return "$status"
}

first_half()
{
	head -c $(($(stat -c %s "$1") / 2)) "$1"
}

nothing()
{
	:
}

# The file says that it was built for another kernel. The name of that is as long as this one's.
other_kernel()
{
	unpacked "$1" | sed 's/vermagic=[^ ]/vermagic=X/'
}

unpacked()
{
	case $module in
	*.xz) xz -dc "$1" ;;
	*.zst) zstd -dc "$1" ;;
	*.gz) gzip -dc "$1" ;;
	*) cat "$1" ;;
	esac
}

PATH=$work:$PATH systemctl start "${units[@]}"
ok "two disks are served" all_answer
ok "the loaded module is not loaded again" refused "installed one already" upgrade
ok "--force replaces it, and the disks are back" replaced --force
ok "a process that holds the module is named" \
	refused "[0-9]+ (bash|vhost-blk-upgra)" with_another_user
ok "an argument that is wrong does nothing" refused "Usage" upgrade --no-such-option
ok "--help says what the options are" shows_help
ok "a module to go back to has to be there" refused "is not readable" \
	upgrade --previous "$work/nothing"
ok "an installed module that does not load is replaced by the previous one" \
	broken_module --previous "$module"
ok "an installed module whose file is damaged is refused" \
	refused "/vhost_blk.ko[.a-z0-9]* is damaged or no module" with_module first_half --force
ok "also an empty one" refused "/vhost_blk.ko[.a-z0-9]* is damaged or no module" \
	with_module nothing --force
ok "a missing one" refused "no module vhost_blk is installed" without_module --force
ok "and one for another kernel" \
	refused "/vhost_blk.ko[.a-z0-9]* was built for X[^ ]*, and does not fit kernel $release" \
	with_module other_kernel --force
for change in first_half nothing other_kernel; do
	"$change" "$module" > "$work/previous-$change.ko"
done
for change in first_half nothing; do
	ok "so is a module to go back to: $change" refused "previous-$change.ko is damaged or no module" \
		upgrade --force --previous "$work/previous-$change.ko"
done
ok "so is a module to go back to for another kernel" \
	refused "previous-other_kernel.ko was built for X[^ ]*, and does not fit kernel $release" \
	upgrade --force --previous "$work/previous-other_kernel.ko"
ok "disks that do not run stay so" eval '
	PATH=$work:$PATH systemctl stop "${units[1]}" && upgrade --force &&
	[ -e "$work/first.pid" ] && [ ! -e "$work/second.pid" ]'
tap_end
