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
#define MAX_CPUS	1024

/* A filter that names all of them: one page, as the kernel takes it. */
#define FILTER_SIZE	4096

/* Events of a thread. A wake-up is none: an idle CPU's interrupt is in no thread. */
enum {
	SYSCALLS,
	SWITCHES,
	IDLES,
	NUM_EVENTS
};

static const struct event {
	const char *tracepoint;
	const char *filter;
} events_of[NUM_EVENTS] = {
	[SYSCALLS] = { "raw_syscalls/sys_enter" },
	[SWITCHES] = { "sched/sched_switch" },
	[IDLES] = { "sched/sched_switch", "next_pid == 0" },
};

/* Events of the CPUs. */
enum {
	WAKEUPS_CLIENT,
	WAKEUPS_WORKERS,
	TIMERS,
	NUM_CPU_EVENTS
};

struct meter {
	unsigned int num_threads;
	unsigned int num_cpus;
	int files[MAX_WORKERS + 1][NUM_EVENTS];
	int cpu_files[MAX_CPUS][NUM_CPU_EVENTS];
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

/*
 * Under -icount the clock leaps over what is added up here. A count of instructions
 * then lacks those between the kernel's two looks at the clock, before and after a sleep.
 */
static uint64_t idle_time(void)
{
	uint64_t time, sum = 0;
	char line[128];
	FILE *file = fopen("/proc/timer_list", "r");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		/* In an io_uring's wait it is iowait_sleeptime that grows. */
		if (sscanf(line, " .idle_sleeptime : %" SCNu64, &time) == 1 ||
		    sscanf(line, " .iowait_sleeptime: %" SCNu64, &time) == 1)
			sum += time;
	fclose(file);
	return sum;
}

void meter_start_time(struct meter_time *t, pid_t server)
{
	t->idle = idle_time();
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
	t->idle = idle_time() - t->idle;
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

/* A counter, which starts at once, of an event in a thread or on a CPU; -1 is any. */
static int open_counter(const struct event *event, pid_t tid, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = tracepoint_id(event->tracepoint),
	};
	int fd = syscall(SYS_perf_event_open, &attr, tid, cpu, -1,
			 PERF_FLAG_FD_CLOEXEC);

	if (fd >= 0 && event->filter &&
	    ioctl(fd, PERF_EVENT_IOC_SET_FILTER, event->filter)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static bool open_threads(struct meter *meter, const pid_t *tids)
{
	unsigned int i, event;

	for (i = 0; i < meter->num_threads; i++)
		for (event = 0; event < NUM_EVENTS; event++) {
			meter->files[i][event] = open_counter(&events_of[event],
							      tids[i], -1);
			if (meter->files[i][event] < 0)
				return false;
		}
	return true;
}

/* Wake-ups of these threads: the event has the woken one's id. */
static void write_filter(char *filter, const pid_t *tids, unsigned int num)
{
	unsigned int i, end = 0;

	/* There are no workers, and the idle thread is never woken. */
	if (!num)
		strcpy(filter, "pid==0");
	for (i = 0; i < num; i++)
		end += snprintf(filter + end, FILTER_SIZE - end, "%spid==%d",
				i ? "||" : "", tids[i]);
}

static bool open_cpus(struct meter *meter, const pid_t *tids)
{
	char client[FILTER_SIZE], workers[FILTER_SIZE];
	const struct event events[NUM_CPU_EVENTS] = {
		[WAKEUPS_CLIENT] = { "sched/sched_wakeup", client },
		[WAKEUPS_WORKERS] = { "sched/sched_wakeup", workers },
		[TIMERS] = { "irq_vectors/local_timer_entry" },
	};
	long cpu, cpus = sysconf(_SC_NPROCESSORS_CONF);
	unsigned int event;

	write_filter(client, tids, 1);
	write_filter(workers, tids + 1, meter->num_threads - 1);
	for (cpu = 0; cpu < cpus && meter->num_cpus < MAX_CPUS; cpu++) {
		int *files = meter->cpu_files[meter->num_cpus];

		for (event = 0; event < NUM_CPU_EVENTS; event++) {
			files[event] = open_counter(&events[event], -1, cpu);
			if (files[event] < 0)
				break;
		}
		/* A CPU that is offline has no counters. */
		if (event == NUM_CPU_EVENTS)
			meter->num_cpus++;
		else if (errno != ENODEV)
			return false;
	}
	return true;
}

struct meter *meter_start_events(pid_t server)
{
	struct meter *meter = calloc(1, sizeof(*meter));
	pid_t tids[MAX_WORKERS + 1];
	unsigned int i, event;

	if (!meter)
		return NULL;
	tids[0] = syscall(SYS_gettid);
	meter->num_threads = 1 + find_workers(server, tids + 1, MAX_WORKERS);
	if (!open_threads(meter, tids) || !open_cpus(meter, tids))
		return NULL;
	for (i = 0; i < meter->num_cpus; i++)
		for (event = 0; event < NUM_CPU_EVENTS; event++)
			ioctl(meter->cpu_files[i][event], PERF_EVENT_IOC_RESET, 0);
	/* This thread's system calls last: these are some. */
	for (i = meter->num_threads; i-- > 0;)
		for (event = NUM_EVENTS; event-- > 0;)
			ioctl(meter->files[i][event], PERF_EVENT_IOC_RESET, 0);
	return meter;
}

static void stop_counters(const int *files, unsigned int num)
{
	while (num-- > 0)
		ioctl(files[num], PERF_EVENT_IOC_DISABLE, 0);
}

static void take_counter(int fd, uint64_t *sum)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		*sum += count;
	close(fd);
}

void meter_stop_events(struct meter *meter, struct meter_events *events)
{
	uint64_t *sums[NUM_EVENTS] = {
		events->syscalls, events->switches, events->idles
	};
	uint64_t *cpu_sums[NUM_CPU_EVENTS] = {
		&events->wakeups[METER_CLIENT], &events->wakeups[METER_WORKERS],
		&events->timers
	};
	unsigned int i, event;

	for (i = 0; i < meter->num_threads; i++)
		stop_counters(meter->files[i], NUM_EVENTS);
	for (i = 0; i < meter->num_cpus; i++)
		stop_counters(meter->cpu_files[i], NUM_CPU_EVENTS);
	memset(events, 0, sizeof(*events));
	for (i = 0; i < meter->num_threads; i++)
		for (event = 0; event < NUM_EVENTS; event++)
			take_counter(meter->files[i][event],
				     &sums[event][i ? METER_WORKERS : METER_CLIENT]);
	for (i = 0; i < meter->num_cpus; i++)
		for (event = 0; event < NUM_CPU_EVENTS; event++)
			take_counter(meter->cpu_files[i][event], cpu_sums[event]);
	free(meter);
}
