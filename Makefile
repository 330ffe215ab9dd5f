# SPDX-License-Identifier: GPL-2.0
#
#	make			both modules for the running kernel
#	make install		... to where modprobe prefers them
#	make qemu		-device vhost-blk-pci for the installed QEMU
#	make demo		a host and a guest, real I/O, a table of figures
#	make check		all tests
#
# KDIR= and KSRC= choose another kernel (tools/build-modules), SUITES= and
# KERNELS= narrow the tests (tools/testbed/check).

KDIR ?= /lib/modules/$(shell uname -r)/build
export KDIR KSRC VHOST_KO VMLINUX

PREFIX ?= /usr/local

RELEASE = $(shell cat $(KDIR)/include/config/kernel.release)

.PHONY: all modules install qemu install-qemu demo check clean help

all: modules

modules:
	@tools/build-modules

# Signed and compressed as the kernel was configured; depmod included.
install: modules
	@$(MAKE) -C $(KDIR) M=$(CURDIR)/build/$(RELEASE) \
		INSTALL_MOD_DIR=updates modules_install

qemu:
	@tools/qemu/build -o build/qemu -w build/qemu/work

install-qemu: qemu
	install -D -t $(DESTDIR)$(PREFIX)/lib/vhost-blk build/qemu/vhost-blk-pci.so
	install -D -t $(DESTDIR)$(PREFIX)/bin tools/qemu/qemu-vhost-blk

demo:
	@tools/testbed/demo

check:
	@SUITES="$(SUITES)" KERNELS="$(KERNELS)" tools/testbed/check

clean:
	rm -rf build

help:
	@sed -n '3,/^$$/s/^#//p' $(firstword $(MAKEFILE_LIST))
