# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What bench and profile share: a machine whose clock counts instructions, with the
# modules and the benchmark's programs on it. Sourced.

# shellcheck source=../testbed/common.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../testbed/common.sh"
# shellcheck source=../testbed/stack.sh
. "$testbed_dir/stack.sh"

bench_dir=$checkout/tools/bench

# prepare_plain KERNEL...: everything up to the point where it can boot.
prepare_plain() {
	local name
	need_root
	"$testbed_dir/setup" "$@"
	"$testbed_dir/images" "$@"
	mkdir -p "$stage/tools/bench" "$stage/selftests"
	for name; do
		build_modules "$name"
	done
	build_daemon
	log "building the benchmark"
	in_root make -s -C tools/bench OUT="/checkout/${stage#"$checkout/"}/tools/bench" all
	cp "$bench_dir"/*.sh "$bench_dir"/*.fio "$stage/tools/bench/"
	cp -r "$checkout/selftests/lib" "$stage/selftests/"
}

# Switches the scheduler's groups by session off. A server or a machine that makes a session of its
# own would be in another group than its client or its daemon, and be given other shares of time.
ungroup_sessions() {
	host_run -t 60 "echo 0 > /proc/sys/kernel/sched_autogroup_enabled"
}

# plain_start KERNEL CPUS[/ONLINE] [QEMU_ARGUMENT...]: a machine on which a nanosecond is
# an instruction, with vhost_blk loaded. The processors take turns, and it is the sum of
# them that the clock counts. Where none has anything to do it leaps to the next timer.
# With ONLINE the kernel starts only so many of them.
plain_start() {
	local name=$1 cpus=${2%/*} online=${2#*/}
	shift 2
	log "booting a machine with kernel $name whose clock counts instructions"
	"$machine" start "$host" --memory 2G --cpus "$cpus" --boot-timeout 300 \
		--accel tcg,thread=single --cpu max,la57=off \
		--kernel "$cache/images/$name/vmlinuz" \
		--initrd "$cache/images/$name/host.cpio" --share "$stage" \
		--append "maxcpus=$online" -- -icount shift=0,sleep=off -seed 1 -rtc base=2026-01-01,clock=vm "$@"
	ungroup_sessions
	host_run -t 60 "echo 0 > /proc/sys/kernel/randomize_va_space
		modprobe vhost && insmod /testbed/$name/vhost_blk.ko"
}

# order_threads answers|guest: QEMU's main loop ends the disk's requests, and the clock
# doesn't know when. So it and the guest's processors get one processor of this machine,
# and either the main loop goes first, and a request ends where it was begun, or the guest
# does, and what it has begun ends when it has nothing else to do.
order_threads() {
	local pid cpus policy=(--fifo --pid 1)
	[[ $1 == answers ]] || policy=(--idle --pid 0)
	pid=$("$machine" pid "$host")
	cpus=$(taskset -cp "$pid")
	taskset -acp "${cpus##*[ ,-]}" "$pid" > /dev/null
	chrt "${policy[@]}" "$pid" || log "no right to order threads: figures will not repeat"
}
