# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# From a bare machine to a host machine with everything on it: what check and
# demo share. Sourced after common.sh.
#
# What was built is gathered in a stage directory that looks like the checkout
# where it has something in common with it. The host machine sees it as
# /testbed, the kernels and initramfs archives as /images.

stage=$checkout/build/testbed
machine=$testbed_dir/machine
host=host-$$

# Of the benchmarks' figures.
# shellcheck disable=SC2034 # used by bench and demo
csv_header=suite,subject,kernel,workload,metric,value,spread

# The kernel's files as a module build in the root sees them.
in_root_path() {
	echo "/cache${1#"$cache"}"
}

# Prints the path of a kernel's headers in the root, with its modules beside it as where
# its packages are installed.
kernel_headers() {
	echo "$(in_root_path "$(kernel_dir "$1")")/lib/modules/$(kernel_release "$1")/build"
}

build_modules() {
	local name=$1 log=$stage/$1/build.log
	log "building the modules for kernel $name"
	mkdir -p "$stage/$name"
	in_root env KDIR="$(kernel_headers "$name")" \
		tools/build-modules -s -j "$(nproc)" W=1 > "$log" 2>&1 || {
		cat "$log" >&2
		die "the modules don't build for kernel $name"
	}
	cp "$checkout/build/$(kernel_release "$name")"/{virtio_blk,vhost_blk}.ko \
		"$stage/$name/"
}

# What a guest gets beside its image: our driver, the fio jobs, the programs of selftests,
# and how they make disks.
build_payload() {
	local tree=$stage/$1/payload
	rm -rf "$tree"
	mkdir -p "$tree/opt"
	cp "$stage/$1/virtio_blk.ko" "$checkout"/tools/bench/*.fio \
		"$stage/selftests/lib/disks.sh" "$tree/opt/"
	find "$stage/selftests/virtio_blk" -maxdepth 1 -type f -executable ! -name '*.sh' \
		-exec cp -t "$tree/opt" {} +
	in_root tools/testbed/payload "${tree#"$checkout/"}" \
		"${stage#"$checkout/"}/$1/payload.cpio"
}

build_qemu_device() {
	log "building the QEMU device"
	in_root tools/qemu/build -o build/qemu -w /cache/qemu-source \
		> "$stage/qemu.log" 2>&1 || {
		cat "$stage/qemu.log" >&2
		die "the QEMU device doesn't build"
	}
	mkdir -p "$stage/tools/qemu"
	cp "$checkout/build/qemu/vhost-blk-pci.so" \
		"$checkout/tools/qemu/qemu-vhost-blk" "$stage/tools/qemu/"
}

build_daemon() {
	log "building vhost-blkd"
	in_root make -s -C tools/vhost-blkd OUT="/checkout/${stage#"$checkout/"}/tools/vhost-blkd" all
	# For the fuzzer.
	in_root make -s -C tools/vhost-blkd SANITIZE=1 \
		OUT="/checkout/${stage#"$checkout/"}/tools/vhost-blkd/sanitize" all
	cp "$checkout/packaging/vhost-blk-upgrade" "$stage/tools/vhost-blkd/"
	# For the test that follows the documentation.
	rm -rf "$stage/installed"
	in_root make -s install-vhost-blkd DESTDIR="/checkout/${stage#"$checkout/"}/installed"
	mkdir -p "$stage/Documentation" "$stage/tools/testbed"
	cp "$checkout/README.md" "$stage/"
	cp "$checkout"/Documentation/*.rst "$stage/Documentation/"
	cp "$testbed_dir/doc-commands" "$stage/tools/testbed/"
}

build_selftests() {
	log "building the selftests"
	rm -rf "$stage/selftests"
	mkdir -p "$stage/tools/testbed"
	in_root make -s -j "$(nproc)" -C selftests OUT="/checkout/${stage#"$checkout/"}/selftests" all
	cp "$testbed_dir"/{machine,common.sh,kernel-reports} "$stage/tools/testbed/"
	cp "$checkout/tools/vhost-blk-stat" "$stage/tools/"
}

# The reference for all limits of time: how long, in tenths of a second, two guests of a
# kernel take to boot at once, on two quiet cores of an AMD EPYC (family 25, model 17), emulated.
declare -A reference_boot=([6.12]=80 [7.3]=80 [debug]=240)

start_speed_guest() {
	"$machine" start "speed-$$-$2" --kernel "$cache/images/$1/vmlinuz" \
		--initrd "$cache/images/$1/guest.cpio" --boot-timeout 400 \
		> "$stage/speed-$2.log" 2>&1 || {
		cat "$stage/speed-$2.log" >&2
		return 1
	}
}

# boot_two KERNEL: sets "took", in tenths of a second.
boot_two() {
	local start=${EPOCHREALTIME/./} second failed=no
	start_speed_guest "$1" 2 &
	second=$!
	start_speed_guest "$1" 1 || failed=yes
	wait "$second" || failed=yes
	took=$(((${EPOCHREALTIME/./} - start) / 100000))
	"$machine" kill "speed-$$-1"
	"$machine" kill "speed-$$-2"
	[[ $failed == no ]] || die "a guest of kernel $1 doesn't boot"
}

# set_limit_factor KERNEL: how many times slower this machine is than the reference, in
# whole numbers, in LIMIT_FACTOR, unless the caller knows.
set_limit_factor() {
	local took reference=${reference_boot[$1]}
	if [[ ${LIMIT_FACTOR@a} == *x* ]]; then
		log "LIMIT_FACTOR is given: limits of time are multiplied by $LIMIT_FACTOR"
		return
	fi
	log "measuring the speed of this machine"
	mkdir -p "$stage"
	# The first time answers whether KVM works, and reads the files.
	start_speed_guest "$1" 1
	"$machine" kill "speed-$$-1"
	# A boot that ended in the emulator's fault was tried again, which is not the machine's speed.
	for _ in 1 2 3; do
		boot_two "$1"
		grep -q "the emulator's fault" "$stage"/speed-[12].log || break
	done
	export LIMIT_FACTOR=$(((took + reference - 1) / reference))
	log "two guests of kernel $1 at once boot in $((took / 10)).$((took % 10)) s," \
		"on the reference machine in $((reference / 10)) s at most:" \
		"limits of time are multiplied by $LIMIT_FACTOR"
}

# Ends the machines of this run, whatever their names.
kill_machines() {
	local dir
	for dir in "${TESTBED_RUN:-/run/vhost-blk-testbed}"/*-"$$"{,-*}; do
		[[ ! -d $dir ]] || "$machine" kill "${dir##*/}" || true
	done
}

# prepare KERNEL...: everything up to the point where machines can boot.
prepare() {
	local name
	need_root
	"$testbed_dir/setup" "$@"
	"$testbed_dir/images" "$@"
	mkdir -p "$stage"
	build_qemu_device
	build_daemon
	build_selftests
	for name; do
		build_modules "$name"
		build_payload "$name"
	done
	set_limit_factor "$1"
}

# host_start KERNEL [OPTION...]: boots a host machine with our backend installed as
# a user would install it. The options are those of "machine start".
host_start() {
	local name=$1
	shift
	log "booting a host machine with kernel $name"
	"$machine" start "$host" --memory 4G --kernel "$cache/images/$name/vmlinuz" \
		--initrd "$cache/images/$name/host.cpio" --boot-timeout 240 --append init_on_alloc=0 \
		--share "$stage" --share-ro "images=$cache/images" "$@"
	host_run -t 120 "mkdir -p /lib/modules/\$(uname -r)/updates &&
		cp /testbed/$name/vhost_blk.ko /lib/modules/\$(uname -r)/updates/ &&
		depmod -a && modprobe vhost_blk"
}

host_run() {
	"$machine" run "$host" "$@"
}

host_stop() {
	"$machine" stop "$host"
}

# The variables that tell a test on the host machine what guest to boot.
guest_environment() {
	echo "GUEST_KERNEL=/images/$1/vmlinuz GUEST_INITRD=/images/$1/guest.cpio,/testbed/$1/payload.cpio" \
		"GUEST_DISK=/images/$1/boot.img"
}
