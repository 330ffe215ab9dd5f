# SPDX-License-Identifier: GPL-2.0
#
#	make			both modules for the running kernel
#	make install		... to where modprobe prefers them
#	make vhost-blkd		the daemon that serves disks to any VMM
#	make install-vhost-blkd	... under PREFIX=, with its unit for systemd
#	make qemu		-device vhost-blk-pci for the installed QEMU
#	make qemu-patches	the same as patches for a QEMU that you build, QEMU_SRC=
#	make kernel-patches	the modules as patches for a kernel tree, KSRC=
#	make demo		a host and a guest, real I/O, a table of figures
#	make bench		benchmarks; figures, report and plots in build/bench
#	make check-bench	whether two runs of them have the same figures
#	make check		all tests
#	make check-debug	the modules' own tests with KASAN, lockdep, kmemleak,
#				injected faults, and a hundred reloads
#	make fuzz SECONDS=600	a hostile guest for so long, then a hostile VMM
#	make soak SECONDS=600	verified I/O on four disks for so long
#
# KDIR= chooses another kernel, MODULES= one of the modules (tools/build-modules),
# SUITES= and KERNELS= narrow tests and benchmarks, SEED= repeats what fuzz and soak did
# (tools/testbed/check).

KDIR ?= /lib/modules/$(shell uname -r)/build
export KDIR MODULES

PREFIX ?= /usr/local

# bash takes it from the environment for its own clock.
SECONDS = 600
unexport SECONDS

RELEASE = $(shell cat $(KDIR)/include/config/kernel.release)

.PHONY: all modules install vhost-blkd install-vhost-blkd qemu install-qemu qemu-patches kernel-patches demo bench check-bench check check-debug fuzz soak clean help

all: modules

modules:
	@tools/build-modules

# Compressed as the kernel was configured, and signed if its key is there. kbuild
# leaves out depmod where it finds no System.map, as in Debian's headers.
install: modules
	@$(MAKE) -C $(KDIR) M=$(CURDIR)/build/$(RELEASE) \
		$(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=) \
		INSTALL_MOD_DIR=updates DEPMOD=true modules_install
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $(RELEASE)

vhost-blkd:
	@$(MAKE) -C tools/vhost-blkd OUT=$(CURDIR)/build/vhost-blkd$(if $(filter 1,$(SANITIZE)),/sanitize)

# libvirt looks for back ends where the distribution and the administrator put theirs.
BACKENDS = $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/qemu/vhost-user

install-vhost-blkd: vhost-blkd
	install -D -t $(DESTDIR)$(PREFIX)/bin build/vhost-blkd/vhost-blkd
	install -D -t $(DESTDIR)$(PREFIX)/sbin packaging/vhost-blk-upgrade
	install -D -m 644 packaging/vhost-blkd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/vhost-blkd.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/udev/rules.d packaging/60-vhost-blk.rules
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system packaging/vhost-blkd@.service
	install -D -m 644 -t $(DESTDIR)$(BACKENDS) packaging/50-vhost-blkd.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 packaging/man/*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/vhost-blkd Documentation/vhost-blkd.rst
	sed -i -E 's,/usr/(bin|share/doc)/vhost-blkd,$(PREFIX)/\1/vhost-blkd,' \
		$(DESTDIR)$(PREFIX)/share/man/man8/vhost-blk*.8 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/vhost-blkd@.service \
		$(DESTDIR)$(BACKENDS)/50-vhost-blkd.json

qemu:
	@tools/qemu/build -o build/qemu -w build/qemu/work

install-qemu: qemu
	install -D -t $(DESTDIR)$(PREFIX)/lib/vhost-blk build/qemu/vhost-blk-pci.so
	install -D -t $(DESTDIR)$(PREFIX)/bin tools/qemu/qemu-vhost-blk

qemu-patches:
	@tools/qemu/make-patches -o build/qemu/patches -w build/qemu/work

kernel-patches:
	@tools/kernel/make-patches -o build/kernel-patches

demo:
	@tools/testbed/demo

bench:
	@SUITES="$(SUITES)" KERNELS="$(KERNELS)" tools/bench/bench

check-bench:
	@SUITES="$(SUITES)" KERNELS="$(KERNELS)" tools/bench/repeat

check:
	@SUITES="$(SUITES)" KERNELS="$(KERNELS)" tools/testbed/check

check-debug:
	@SUITES="$(or $(SUITES),vhost_blk virtio_blk)" KERNELS=debug KMEMLEAK=1 RELOADS=100 TEST_LIMIT=1500 \
		tools/testbed/check

fuzz:
	@SUITES="vhost_blk/fuzz vhost_user/fuzz" KERNELS="$(or $(KERNELS),6.12)" FUZZ_SECONDS=$(SECONDS) \
		tools/testbed/check

soak:
	@SUITES=vhost_blk/soak KERNELS="$(or $(KERNELS),6.12)" SOAK_SECONDS=$(SECONDS) \
		tools/testbed/check

clean:
	rm -rf build

help:
	@sed -n '3,/^$$/s/^#//p' $(firstword $(MAKEFILE_LIST))
