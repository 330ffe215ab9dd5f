// SPDX-License-Identifier: GPL-2.0
/*
 * What a device's work is charged to: the workers are threads of the owner, in its
 * cgroups and with its I/O priority, and its memory is the owner's.
 *
 * usage: cgroup workers|memory|polled|priority DISK [CLASS LEVEL]
 *	DISK		a block device that may be overwritten
 *	CLASS LEVEL	the I/O priority that this process has
 *
 * "memory" needs a cgroup of its own, with the controller for memory; "polled" a disk with
 * poll queues, and a limit of some ten requests a second.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/ioprio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fixture.h"

#define TRACING	"/sys/kernel/tracing/instances/vhost_blk_test"

/* The first bytes of a file; an empty string if there is none. */
static const char *read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t got = file ? fread(text, 1, size - 1, file) : 0;

	text[got] = 0;
	if (file)
		fclose(file);
	return text;
}

static bool write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	return file && fputs(text, file) >= 0 && !fclose(file);
}

/*
 * Calls @act with the first bytes of a file in /proc of each worker, which are threads of
 * this process. How many there are.
 */
static int for_each_worker(const char *file,
			   void (*act)(const char *text, void *arg), void *arg)
{
	char path[300], text[200];
	struct dirent *entry;
	int num = 0;
	DIR *dir = opendir("/proc/self/task");

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 entry->d_name);
		if (strncmp(read_text(path, text, sizeof(text)), "vhost-", 6))
			continue;
		num++;
		snprintf(path, sizeof(path), "/proc/self/task/%s/%s",
			 entry->d_name, file);
		act(read_text(path, text, sizeof(text)), arg);
	}
	if (dir)
		closedir(dir);
	return num;
}

struct outside {
	const char *cgroup;
	int num;
};

static void count_outside(const char *text, void *arg)
{
	struct outside *outside = arg;

	outside->num += !!strcmp(text, outside->cgroup);
}

static int count_workers(const char *cgroup, int *outside)
{
	struct outside count = { .cgroup = cgroup };
	int num = for_each_worker("cgroup", count_outside, &count);

	*outside = count.num;
	return num;
}

static void add_time(const char *text, void *arg)
{
	double *time = arg;

	*time += atoll(text) / 1e9;
}

/* What the workers have run, in seconds. */
static double workers_time(void)
{
	double time = 0;

	for_each_worker("schedstat", add_time, &time);
	return time;
}

static void test_workers(const char *disk)
{
	char cgroup[200];
	struct fixture f;
	unsigned int id;
	int outside;

	read_text("/proc/self/cgroup", cgroup, sizeof(cgroup));
	set_up(&f, disk, O_RDWR, 2, ALL_FEATURES);
	tap_equal(count_workers(cgroup, &outside), 1,
		  "the worker is a thread of the owner");
	if (vhost_client_new_worker(&f.c, &id))
		tap_bail("no worker");
	tap_equal(count_workers(cgroup, &outside), 2, "so is one that is added");
	tap_equal(outside, 0, "both are in the owner's cgroup");
	tear_down(&f);
	tap_ok(soon(!count_workers(cgroup, &outside)), "they end with the device");
}

/* Bytes charged to the cgroup of this process. */
static long long charged(void)
{
	char path[300], text[200], *name;

	read_text("/proc/self/cgroup", text, sizeof(text));
	name = strstr(text, "0::");
	if (!name)
		return -1;
	strtok(name, "\n");
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.current", name + 3);
	return atoll(read_text(path, text, sizeof(text)));
}

static void test_memory(const char *disk)
{
	/* A request has more than 512 bytes; some that is charged comes late. */
	enum { QUEUES = 8, SIZE = 1024, LEAST = QUEUES * SIZE * 512,
	       SLACK = LEAST / 4 };
	long long before, running, after;
	struct fixture f;
	int i;

	set_up_bound(&f, disk, O_RDWR, QUEUES);
	/* Guest memory is charged as well, when it is touched first. */
	memset(f.c.mem, 0, f.c.mem_size);
	if (vhost_client_setup(&f.c, ALL_FEATURES, QUEUES, SIZE))
		tap_bail("no rings");
	before = charged();
	if (before <= 0)
		tap_bail("no memory.current");
	if (vhost_client_run(&f.c, true))
		tap_bail("no memory");
	running = charged();
	if (!tap_ok(running - before > LEAST - SLACK,
		    "the owner is charged for the memory of %d requests",
		    QUEUES * SIZE))
		printf("# %lld bytes\n", running - before);
	close(f.c.fd);
	for (i = 0; i < 50 * limit_factor(); i++) {
		after = charged();
		if (after - before < SLACK)
			break;
		usleep(100000);
	}
	if (!tap_ok(after - before < SLACK, "and no more when the device is closed"))
		printf("# %lld bytes are left of %lld\n", after - before,
		       running - before);
	printf("# %lld bytes for %d requests\n", running - before, QUEUES * SIZE);
}

/* The block layer holds back most of them, and nobody has to poll for those. */
static void test_polled(const char *disk)
{
	enum { READS = 40 };
	double begin, ran;
	uint8_t *statuses;
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_set_busyloop(&f.c, 0, 1000);
	ran = workers_time();
	begin = now();
	statuses = send_reads(&f, READS);
	tap_equal(take_answers(&f, READS), READS,
		  "polled requests that are throttled are answered");
	begin = now() - begin;
	ran = workers_time() - ran;
	tap_equal(count_ok(statuses, READS), READS, "with success");
	if (!tap_ok(ran < begin / 2, "and the worker does not burn its CPU for them"))
		printf("# %.2f s of %.2f\n", ran, begin);
	tear_down(&f);
}

/* The priority of the only request that the disk got since the last call. */
static int traced_priority(void)
{
	static char text[1 << 16];
	static const char *const classes[] = { "none", "rt", "be", "idle" };
	const char *line = read_text(TRACING "/trace", text, sizeof(text));
	char class[8];
	int i, level;

	write_text(TRACING "/trace", "");
	line = strstr(line, "block_rq_issue: ");
	if (!line || strstr(line + 1, "block_rq_issue: "))
		return -1;
	/* "... + SECTORS CLASS,HINT,LEVEL [COMMAND]" */
	line = strstr(line, " + ");
	if (!line || sscanf(line, " + %*u %7[^,],%*d,%d", class, &level) != 2)
		return -1;
	for (i = 0; i < 4; i++)
		if (!strcmp(class, classes[i]))
			return IOPRIO_PRIO_VALUE(i, level);
	return -1;
}

static void start_tracing(const struct fixture *f)
{
	struct stat st;
	char filter[64];

	fstat(f->disk, &st);
	/* As the kernel has it. */
	snprintf(filter, sizeof(filter), "dev == %u",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));
	if ((mkdir(TRACING, 0700) && errno != EEXIST) ||
	    !write_text(TRACING "/events/block/block_rq_issue/filter", filter) ||
	    !write_text(TRACING "/events/block/block_rq_issue/enable", "1") ||
	    !write_text(TRACING "/trace", ""))
		tap_bail("no block:block_rq_issue in tracefs");
}

static const char *priority_name(int priority, char *name, size_t size)
{
	static const char *const classes[] = {
		"none", "realtime", "best effort", "idle"
	};

	snprintf(name, size, "%s %d", classes[IOPRIO_PRIO_CLASS(priority) & 3],
		 (int)IOPRIO_PRIO_LEVEL(priority));
	return name;
}

static void test_priority(const char *disk, int own)
{
	const int given[] = {
		IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0),
		IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0),
		IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 7),
		IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 0),
		IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7),
		IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0),
		0xffff,
	};
	char own_name[32], name[32];
	unsigned int i, type;
	struct fixture f;
	uint8_t *data;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, 4096, 4096);
	start_tracing(&f);
	priority_name(own, own_name, sizeof(own_name));
	for (i = 0; i < sizeof(given) / sizeof(*given); i++)
		for (type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
			struct vhost_client_seg segs[] = {
				{ f.hdr, sizeof(*f.hdr), false },
				{ data, 4096, type == VIRTIO_BLK_T_IN },
				{ f.status, 1, true },
			};
			int class = IOPRIO_PRIO_CLASS(given[i]);
			int want = own;

			/* A greater value is a lower priority. */
			if (class && class <= IOPRIO_CLASS_IDLE && given[i] > own)
				want = given[i];
			f.hdr->type = type;
			f.hdr->ioprio = given[i];
			f.hdr->sector = 0;
			if (request(&f, 0, segs, 3, NULL, NULL))
				tap_bail("a request fails");
			tap_equal(traced_priority(), want,
				  "owner %s: a %s with priority %#x goes to the disk with %s",
				  own_name, type ? "write" : "read", given[i],
				  priority_name(want, name, sizeof(name)));
		}
	tear_down(&f);
	rmdir(TRACING);
}

int main(int argc, char **argv)
{
	const char *test = argc > 2 ? argv[1] : "";

	if (!strcmp(test, "workers"))
		test_workers(argv[2]);
	else if (!strcmp(test, "memory"))
		test_memory(argv[2]);
	else if (!strcmp(test, "polled"))
		test_polled(argv[2]);
	else if (!strcmp(test, "priority") && argc > 4)
		test_priority(argv[2], IOPRIO_PRIO_VALUE(atoi(argv[3]),
							 atoi(argv[4])));
	else
		tap_bail("usage: %s workers|memory|polled|priority DISK [CLASS LEVEL]",
			 argv[0]);
	return tap_end();
}
