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
names=(first second)
clean_up()
{
	PATH=$work:$PATH systemctl stop "${units[@]}"
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
*--dry-run*) exit 0 ;;
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

PATH=$work:$PATH systemctl start "${units[@]}"
ok "two disks are served" all_answer
ok "the loaded module is not loaded again" refused "installed one already" upgrade
ok "--force replaces it, and the disks are back" replaced --force
ok "a process that holds the module is named" \
	refused "[0-9]+ (bash|vhost-blk-upgra)" with_another_user
ok "an argument that is wrong does nothing" refused "Usage" upgrade --no-such-option
ok "a module to go back to has to be there" refused "is not readable" \
	upgrade --previous "$work/nothing"
ok "an installed module that does not load is replaced by the previous one" \
	broken_module --previous "$(modinfo -n vhost_blk)"
ok "disks that do not run stay so" eval '
	PATH=$work:$PATH systemctl stop "${units[1]}" && upgrade --force &&
	[ -e "$work/first.pid" ] && [ ! -e "$work/second.pid" ]'
tap_end
