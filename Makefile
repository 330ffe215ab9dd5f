# SPDX-License-Identifier: GPL-2.0
#
#	make			both modules for the running kernel
#	make install		what a host needs: install-host
#	make install-host	vhost_blk, the daemon vhost-blkd and its tools, under PREFIX=
#	make install-guest	virtio_blk in the place of the kernel's own driver
#	make uninstall		what any of these has installed
#	make deb		Debian packages, in build/deb
#	make vhost-blkd		the daemon that serves disks to any VMM
#	make install-vhost-blkd	... with its unit for systemd and tools, without the module
#	make qemu		-device vhost-blk-pci for the installed QEMU
#	make install-qemu	... and the wrapper qemu-vhost-blk
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
# With DESTDIR= everything is installed below that directory, and nothing of the running
# system is changed. KDIR= chooses another kernel, MODULES= one of the modules
# (tools/build-modules), SUITES= and KERNELS= narrow tests and benchmarks, SEED= repeats
# what fuzz and soak did (tools/testbed/check).

KDIR ?= /lib/modules/$(shell uname -r)/build
export KDIR MODULES

PREFIX ?= /usr/local

# bash takes it from the environment for its own clock.
SECONDS = 600
unexport SECONDS

RELEASE = $(shell cat $(KDIR)/include/config/kernel.release 2> /dev/null)

# Files go into /etc whatever PREFIX= is.
need_permission = $(if $(DESTDIR),,@[ "$$(id -u)" = 0 ] || \
	{ echo "make $@: needs root, or DESTDIR=" >&2; exit 1; })

# refuse_packages NAME...: one of two installations would hide the other. All are named at once.
refuse_packages = $(if $(DESTDIR),,@found=; for package in $(1); do \
	! dpkg-query -W -f '$${db:Status-Status}' $$package 2> /dev/null | grep -qx installed || \
		found="$$found $$package"; done; \
	[ -z "$$found" ] || \
		{ echo "make $@: packages are installed: apt purge$$found first" >&2; exit 1; })

.PHONY: all modules install install-host install-guest uninstall deb vhost-blkd \
	install-vhost-blkd install-vhost-blkd-files qemu install-qemu install-qemu-files qemu-patches kernel-patches \
	demo bench check-bench check check-debug fuzz soak clean help

all: modules

modules:
	@tools/build-modules

install: install-host

# All is built before anything is installed.
install-host: vhost-blkd
	$(call refuse_packages,vhost-blk-dkms vhost-blk)
	$(need_permission)
	@MODULES=vhost_blk tools/build-modules
	@$(MAKE) install-vhost-blkd-files
	$(call install_modules)

install-guest:
	$(call refuse_packages,virtio-blk-dkms)
	$(need_permission)
	@MODULES=virtio_blk tools/build-modules
	$(call install_modules)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man4 packaging/man/virtio_blk.4

# Compressed as the kernel was configured, and signed if its key is there. kbuild's depmod
# is for the running system as well; ours is for a system that is there.
MODULE_ROOT = $(or $(DESTDIR),$(INSTALL_MOD_PATH))
define install_modules
	@$(MAKE) -C $(KDIR) M=$(CURDIR)/build/$(RELEASE) \
		$(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=) \
		INSTALL_MOD_PATH=$(MODULE_ROOT) INSTALL_MOD_DIR=updates DEPMOD=true modules_install
	$(depmod)
endef
depmod = $(if $(wildcard $(MODULE_ROOT)/lib/modules/$(RELEASE)/modules.order),depmod $(MODULE_ROOT:%=-b %) $(RELEASE))

vhost-blkd:
	@$(MAKE) -C tools/vhost-blkd OUT=$(CURDIR)/build/vhost-blkd$(if $(filter 1,$(SANITIZE)),/sanitize)

# libvirt looks for back ends where the distribution and the administrator put theirs.
BACKENDS = $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/qemu/vhost-user

DOC = $(PREFIX)/share/doc/vhost-blk

# What AppArmor allows libvirt's domains.
DOMAIN_RULES = /etc/apparmor.d/abstractions/libvirt-qemu.d

install-vhost-blkd: vhost-blkd install-vhost-blkd-files

install-vhost-blkd-files:
	$(call refuse_packages,vhost-blk)
	$(need_permission)
	install -D -t $(DESTDIR)$(PREFIX)/bin build/vhost-blkd/vhost-blkd
	install -D -t $(DESTDIR)$(PREFIX)/sbin packaging/vhost-blk-upgrade tools/vhost-blk-stat
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include/linux include/uapi/linux/vhost_blk.h
	install -D -m 644 packaging/vhost-blkd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/vhost-blkd.conf
	install -D -m 644 packaging/vhost-blk.modules $(DESTDIR)$(PREFIX)/lib/modules-load.d/vhost-blk.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/udev/rules.d packaging/60-vhost-blk.rules
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system packaging/vhost-blkd@.service
	install -D -m 644 -t $(DESTDIR)$(BACKENDS) packaging/50-vhost-blkd.json
	install -D -m 644 -t $(DESTDIR)/etc/apparmor.d packaging/apparmor/vhost-blkd
	install -D -m 644 -t $(DESTDIR)$(DOMAIN_RULES) packaging/apparmor/vhost-blk
	install -D -m 644 packaging/needrestart.conf $(DESTDIR)/etc/needrestart/conf.d/vhost-blk.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man4 packaging/man/vhost_blk.4
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 packaging/man/vhost-*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions packaging/completions/vhost-*
	install -D -m 644 -t $(DESTDIR)$(DOC) README.md Documentation/*.rst
	install -D -m 644 -t $(DESTDIR)$(DOC)/performance Documentation/performance/*
	sed -i 's,(Documentation/,(,; s,<../README,<README,' $(addprefix $(DESTDIR)$(DOC)/,README.md index.rst)
	sed -i -E 's,/usr/(bin|share/doc)/vhost-blk,$(PREFIX)/\1/vhost-blk,' \
		$(DESTDIR)$(PREFIX)/share/man/man8/vhost-blk*.8 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/vhost-blkd@.service \
		$(DESTDIR)$(BACKENDS)/50-vhost-blkd.json

qemu:
	@tools/qemu/build -o build/qemu -w build/qemu/work

install-qemu: qemu install-qemu-files

# The objects of other versions of QEMU stay: the wrapper chooses.
install-qemu-files:
	$(call refuse_packages,qemu-vhost-blk)
	$(need_permission)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/vhost-blk/$$(cat build/qemu/vhost-blk-pci.version) \
		build/qemu/vhost-blk-pci.so
	install -D -t $(DESTDIR)$(PREFIX)/bin tools/qemu/qemu-vhost-blk
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 packaging/man/qemu-vhost-blk.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		packaging/completions/qemu-vhost-blk
	install -D -m 644 -t $(DESTDIR)$(DOMAIN_RULES) packaging/apparmor/qemu-vhost-blk
	sed -i 's,^/usr/,$(PREFIX)/,' $(DESTDIR)$(DOMAIN_RULES)/qemu-vhost-blk

qemu-patches:
	@tools/qemu/make-patches -o build/qemu/patches -w build/qemu/work

kernel-patches:
	@tools/kernel/make-patches -o build/kernel-patches

# The configuration in /etc/vhost-blkd stays, and the user vhost-blkd. What is in /etc may belong
# to a package.
uninstall:
	$(if $(DESTDIR),,@units=$$(systemctl list-units --plain --no-legend \
		--state=active,activating,reloading 'vhost-blkd@*.service' 2> /dev/null | cut -d ' ' -f 1); \
		[ -z "$$units" ] || { echo "make $@: disks are served: systemctl disable --now" \
			$$units first >&2; exit 1; })
	$(need_permission)
	@set -e; for file in $(MODULE_ROOT)/lib/modules/*/updates/drivers/*/v*_blk.ko*; do \
		[ -e "$$file" ] || continue; \
		release=$${file%%/updates/*}; release=$${release##*/}; \
		echo "rm $$file"; rm "$$file"; \
		depmod $(MODULE_ROOT:%=-b %) "$$release"; \
	done
	mkdir -p $(DESTDIR)$(PREFIX)
	cd $(DESTDIR)$(PREFIX) && rm -rf bin/vhost-blkd bin/qemu-vhost-blk \
		sbin/vhost-blk-upgrade sbin/vhost-blk-stat include/linux/vhost_blk.h \
		lib/sysusers.d/vhost-blkd.conf lib/modules-load.d/vhost-blk.conf \
		lib/udev/rules.d/60-vhost-blk.rules lib/systemd/system/vhost-blkd@.service \
		lib/vhost-blk share/doc/vhost-blk $(patsubst packaging/man/%,share/man/man?/%,$(wildcard packaging/man/*)) \
		$(patsubst packaging/%,share/bash-completion/%,$(wildcard packaging/completions/*))
	@for file in $(BACKENDS)/50-vhost-blkd.json /etc/apparmor.d/vhost-blkd \
		/etc/needrestart/conf.d/vhost-blk.conf $(DOMAIN_RULES)/vhost-blk $(DOMAIN_RULES)/qemu-vhost-blk; do \
		! dpkg-query -S "$(DESTDIR)$$file" > /dev/null 2>&1 || continue; \
		echo "rm -f $(DESTDIR)$$file"; rm -f "$(DESTDIR)$$file"; \
	done

deb:
	@packaging/make-deb

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
