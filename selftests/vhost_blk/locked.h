/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that is locked or pinned: how much there is, and a limit of it.
 */
#ifndef LOCKED_H
#define LOCKED_H

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"

/* VmLck or VmPin of this process, in KiB; -1 without such a line. */
static inline long long status_kb(const char *name)
{
	FILE *file = fopen("/proc/self/status", "re");
	size_t length = strlen(name);
	char line[256];
	long long kb = -1;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length) && line[length] == ':')
			kb = atoll(line + length + 1);
	if (file)
		fclose(file);
	return kb;
}

/* Pages that are pinned in this machine, for whatever reason; or pins since the boot. */
static inline long long pins(bool since_boot)
{
	long long acquired = -1, released = -1, value;
	char name[64];
	FILE *file;
	int fd;

	/* Each CPU keeps a part of the counters for itself. */
	fd = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		tap_bail("no exact /proc/vmstat: %s", strerror(errno));
	close(fd);
	file = fopen("/proc/vmstat", "re");
	if (!file)
		tap_bail("no /proc/vmstat");
	while (fscanf(file, "%63s %lld", name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(file);
	if (released < 0)
		tap_bail("/proc/vmstat has no nr_foll_pin_released");
	return since_boot ? acquired : acquired - released;
}

/* For this process, which loses CAP_IPC_LOCK: with it no limit holds. */
static inline void limit_locked_memory(rlim_t bytes)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit = { bytes, bytes };

	syscall(SYS_capget, &header, caps);
	caps[0].effective &= ~(1U << CAP_IPC_LOCK);
	if (setrlimit(RLIMIT_MEMLOCK, &limit) || syscall(SYS_capset, &header, caps))
		tap_bail("can't lower the limit of locked memory: %s", strerror(errno));
}

#endif
