// SPDX-License-Identifier: GPL-2.0
/* What a stretch of a benchmark has cost: see meter.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "meter.h"

#define TRACING		"/sys/kernel/tracing/events/"

/* Workers whose events can be counted. */
#define MAX_WORKERS	256

enum {
	SYSCALLS,
	SWITCHES,
	WAKEUPS,
	IDLES,
	NUM_EVENTS
};

static const struct {
	const char *tracepoint;
	const char *filter;
} events_of[NUM_EVENTS] = {
	[SYSCALLS] = { "raw_syscalls/sys_enter" },
	[SWITCHES] = { "sched/sched_switch" },
	[WAKEUPS] = { "sched/sched_wakeup" },
	[IDLES] = { "sched/sched_switch", "next_pid == 0" },
};

struct meter {
	unsigned int num_threads;
	int files[MAX_WORKERS + 1][NUM_EVENTS];
};

static uint64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Puts the workers' thread ids into @tids and returns how many there are. */
static unsigned int find_workers(pid_t server, pid_t *tids, unsigned int max)
{
	pid_t self = syscall(SYS_gettid);
	struct dirent *entry;
	unsigned int num = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", server ? server : getpid());
	dir = opendir(path);
	if (!dir)
		return 0;
	while (num < max && (entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);

		if (tid && tid != self)
			tids[num++] = tid;
	}
	closedir(dir);
	return num;
}

/* How long a thread ran; exact as long as it doesn't run just now. */
static uint64_t run_time(pid_t tid)
{
	uint64_t time = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", tid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%" SCNu64, &time) != 1)
		time = 0;
	fclose(file);
	return time;
}

static uint64_t workers_time(pid_t server)
{
	pid_t tids[MAX_WORKERS];
	unsigned int num = find_workers(server, tids, MAX_WORKERS);
	uint64_t time = 0;

	while (num)
		time += run_time(tids[--num]);
	return time;
}

void meter_start_time(struct meter_time *t, pid_t server)
{
	t->workers = workers_time(server);
	t->first = server ? run_time(server) : 0;
	t->client = read_clock(CLOCK_THREAD_CPUTIME_ID);
	t->wall = read_clock(CLOCK_MONOTONIC);
}

void meter_stop_time(struct meter_time *t, pid_t server)
{
	t->wall = read_clock(CLOCK_MONOTONIC) - t->wall;
	t->client = read_clock(CLOCK_THREAD_CPUTIME_ID) - t->client;
	t->workers = workers_time(server) - t->workers;
	t->first = server ? run_time(server) - t->first : 0;
}

static int tracepoint_id(const char *name)
{
	char path[128];
	FILE *file;
	int id;

	snprintf(path, sizeof(path), TRACING "%s/id", name);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fscanf(file, "%d", &id) != 1)
		id = -1;
	fclose(file);
	return id;
}

/* A counter, which starts at once, of an event in a thread; 0 for this one. */
static int open_counter(unsigned int event, pid_t tid)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = tracepoint_id(events_of[event].tracepoint),
	};
	int fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1,
			 PERF_FLAG_FD_CLOEXEC);

	if (fd >= 0 && events_of[event].filter &&
	    ioctl(fd, PERF_EVENT_IOC_SET_FILTER, events_of[event].filter)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

struct meter *meter_start_events(pid_t server)
{
	struct meter *meter = calloc(1, sizeof(*meter));
	pid_t tids[MAX_WORKERS + 1] = { 0 };
	unsigned int i, event;

	if (!meter)
		return NULL;
	meter->num_threads = 1 + find_workers(server, tids + 1, MAX_WORKERS);
	for (i = 0; i < meter->num_threads; i++)
		for (event = 0; event < NUM_EVENTS; event++) {
			meter->files[i][event] = open_counter(event, tids[i]);
			if (meter->files[i][event] < 0)
				return NULL;
		}
	/* This thread's system calls last: these are some. */
	for (i = meter->num_threads; i-- > 0;)
		for (event = NUM_EVENTS; event-- > 0;)
			ioctl(meter->files[i][event], PERF_EVENT_IOC_RESET, 0);
	return meter;
}

void meter_stop_events(struct meter *meter, struct meter_events *events)
{
	uint64_t *sums[NUM_EVENTS] = {
		events->syscalls, events->switches, events->wakeups, events->idles
	};
	unsigned int i, event;
	uint64_t count;

	for (i = 0; i < meter->num_threads; i++)
		for (event = 0; event < NUM_EVENTS; event++)
			ioctl(meter->files[i][event], PERF_EVENT_IOC_DISABLE, 0);
	memset(events, 0, sizeof(*events));
	for (i = 0; i < meter->num_threads; i++)
		for (event = 0; event < NUM_EVENTS; event++) {
			int fd = meter->files[i][event];

			if (read(fd, &count, sizeof(count)) == sizeof(count))
				sums[event][i ? METER_WORKERS : METER_CLIENT] +=
					count;
			close(fd);
		}
	free(meter);
}
