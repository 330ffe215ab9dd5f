// SPDX-License-Identifier: GPL-2.0
/*
 * Faults of the kernel, for a QEMU that this is loaded into (LD_PRELOAD): while the file
 * that VHOST_BLK_REFUSE_STOP names exists, no device stops. The error is the number in
 * VHOST_BLK_REFUSE_STOP_ERRNO, or EIO.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/vhost_blk.h>

int ioctl(int fd, unsigned long request, ...)
{
	const char *refuse = getenv("VHOST_BLK_REFUSE_STOP");
	const char *error = getenv("VHOST_BLK_REFUSE_STOP_ERRNO");
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);

	if (request == VHOST_BLK_SET_RUNNING && !*(__u32 *)arg && refuse &&
	    !access(refuse, F_OK)) {
		errno = error ? atoi(error) : EIO;
		return -1;
	}
	return syscall(SYS_ioctl, fd, request, arg);
}
