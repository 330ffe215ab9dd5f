# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the testbed's scripts share: where things are, messages, the table of
# kernels, and how to run a command in the Debian root. Sourced, never run.

testbed_dir=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)
checkout=${testbed_dir%/*/*}
cache=${TESTBED_CACHE:-/var/cache/vhost-blk-testbed}
root=$cache/root

# Every limit of time is for the reference machine. On a slower one it is multiplied by
# this number, which stack.sh measures.
: "${LIMIT_FACTOR:=1}"

# The Debian release of the root: its compiler builds modules for its kernels.
# shellcheck disable=SC2034 # used by setup
debian_suite=trixie

log() {
	printf '[%(%H:%M:%S)T] %s: %s\n' -1 "${0##*/}" "$*" >&2
}

die() {
	log "error: $*"
	exit 1
}

[[ $LIMIT_FACTOR =~ ^[1-9][0-9]*$ ]] ||
	die "LIMIT_FACTOR is '$LIMIT_FACTOR', it has to be a number of 1 or more"

need_root() {
	((EUID == 0)) || die "needs root"
}

# The table of kernels. Each has a directory in the cache that setup fills with
#   release  vmlinuz  lib/modules/RELEASE  headers  source
# where lib/modules/RELEASE/build are the headers, too, and source is what the kernel
# was built from, for tests. The paths hold in the root too, where TESTBED_CACHE points
# to the same cache.
debian_kernels=(6.12 7.3)
kernels=("${debian_kernels[@]}" debug)

check_kernel_name() {
	local name
	for name in "${kernels[@]}"; do
		[[ $name != "$1" ]] || return 0
	done
	die "unknown kernel '$1', known are: ${kernels[*]}"
}

kernel_dir() {
	check_kernel_name "$1"
	[[ -e $cache/kernels/$1/release ]] ||
		die "kernel $1 is not set up: run $testbed_dir/setup $1"
	echo "$cache/kernels/$1"
}

kernel_release() {
	local dir
	dir=$(kernel_dir "$1")
	cat "$dir/release"
}

kernel_image() {
	local dir
	dir=$(kernel_dir "$1")
	echo "$dir/vmlinuz"
}

# Runs in a new mount namespace, so that the mounts end with the command and an
# interrupted run leaves nothing behind that rm -r could follow.
enter_root() {
	local root=$1 cache=$2 checkout=$3
	shift 3
	mkdir -p "$root/cache" "$root/checkout"
	mount --bind "$cache" "$root/cache"
	mount --bind "$checkout" "$root/checkout"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/run"
	if [[ -e /etc/resolv.conf ]]; then
		[[ ! -L $root/etc/resolv.conf ]] || rm "$root/etc/resolv.conf"
		[[ -e $root/etc/resolv.conf ]] || : > "$root/etc/resolv.conf"
		mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
	fi
	exec env -i PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
		TERM="${TERM:-dumb}" LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		CCACHE_DIR=/cache/ccache CCACHE_MAXSIZE=1G \
		TESTBED_CACHE=/cache TESTBED_IN_ROOT=1 \
		${LIMIT_FACTOR:+LIMIT_FACTOR="$LIMIT_FACTOR"} \
		${http_proxy:+http_proxy="$http_proxy"} \
		${https_proxy:+https_proxy="$https_proxy"} \
		chroot "$root" env -C /checkout "$@"
}

# Runs a command in the Debian root, which sees the checkout as /checkout and
# the cache as /cache.
in_root() {
	need_root
	[[ -d $root ]] || die "there is no root yet: run $testbed_dir/setup"
	unshare --mount --propagation private -- bash -euc \
		"$(declare -f enter_root); enter_root \"\$@\"" \
		in_root "$root" "$cache" "$checkout" "$@"
}
