// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel tells of requests: three trace events of each, and the counters
 * in the device's fdinfo.
 *
 * usage: trace DISK
 *	DISK	a block device with discard and a write cache, 64 MiB or more, that
 *		may be overwritten
 */
#define NAME	"tested-disk"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "fixture.h"

#define QUEUES	2
#define TRACING	"/sys/kernel/tracing/instances/vhost_blk_test"
#define EVENTS	TRACING "/events/vhost_blk"

/* A request, and what is to be told of it. */
struct case_ {
	const char *name;
	unsigned int queue;
	uint32_t type;
	const char *type_name;
	uint64_t sector;	/* as in the header */
	uint32_t bytes;		/* of data */
	const char *status;
	bool submitted;
	const char *kind;	/* what it is counted as */
	uint64_t concerns;	/* bytes, if it is submitted */
};

static const struct case_ cases[] = {
	{ "a read", 0, VIRTIO_BLK_T_IN, "IN", 80, 4096, "OK", true, "read", 4096 },
	{ "a write", 1, VIRTIO_BLK_T_OUT, "OUT", 160, 8192, "OK", true, "write",
	  8192 },
	{ "a flush", 1, VIRTIO_BLK_T_FLUSH, "FLUSH", 0, 0, "OK", true, "flush", 0 },
	{ "GET_ID", 0, VIRTIO_BLK_T_GET_ID, "GET_ID", 0, 20, "OK", false, "other",
	  20 },
	{ "a discard", 0, VIRTIO_BLK_T_DISCARD, "DISCARD", 0, 16, "OK", true,
	  "discard", 64 * SECTOR },
	{ "a read beyond the end", 0, VIRTIO_BLK_T_IN, "IN", 1ULL << 40, 4096,
	  "IOERR", false, "read", 0 },
	{ "an unknown type", 1, 4711, "0x1267", 7, 512, "UNSUPP", false, "other",
	  0 },
};

#define CASES	(sizeof(cases) / sizeof(*cases))

static uint8_t *data;

static int send_case(struct fixture *f, const struct case_ *c, int *head)
{
	struct virtio_blk_discard_write_zeroes *range = (void *)data;
	bool in = c->type == VIRTIO_BLK_T_IN || c->type == VIRTIO_BLK_T_GET_ID;
	struct vhost_client_seg segs[3] = { { f->hdr, sizeof(*f->hdr), false } };
	unsigned int num = 1;

	if (c->type == VIRTIO_BLK_T_DISCARD)
		*range = (struct virtio_blk_discard_write_zeroes){
			.sector = 4096, .num_sectors = 64
		};
	f->hdr->type = c->type;
	f->hdr->ioprio = 0;
	f->hdr->sector = c->sector;
	if (c->bytes)
		segs[num++] = (struct vhost_client_seg){ data, c->bytes, in };
	segs[num++] = (struct vhost_client_seg){ f->status, 1, true };
	*f->status = 0xee;
	*head = vhost_client_add(&f->c, c->queue, segs, num, NULL);
	vhost_client_kick(&f->c, c->queue, false);
	if (vhost_client_get_used(&f->c, c->queue, NULL, TIMEOUT_MS) < 0)
		return -1;
	return *f->status;
}

/* Trace events */

static bool write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	return file && fputs(text, file) >= 0 && !fclose(file);
}

/* The device's number, as in its events. */
static unsigned int device_id(struct fixture *f)
{
	char text[1 << 14];
	const char *at;

	if (vhost_client_counters(&f->c, text, sizeof(text)))
		tap_bail("no fdinfo");
	at = strstr(text, "vhost-blk-id:");
	if (!at)
		tap_bail("no vhost-blk-id in fdinfo");
	return atoi(at + strlen("vhost-blk-id:"));
}

static bool start_tracing(unsigned int id)
{
	static const char *const events[] = { "received", "submitted", "completed" };
	char path[200], filter[32];
	unsigned int i;

	if (mkdir(TRACING, 0700) && errno != EEXIST)
		return false;
	snprintf(filter, sizeof(filter), "device == %u", id);
	for (i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), EVENTS "/vhost_blk_request_%s/filter",
			 events[i]);
		if (!write_text(path, filter))
			return false;
	}
	return write_text(EVENTS "/enable", "1");
}

/* How often the trace has the text, and where it does first. */
static unsigned int find(const char *trace, const char *text, const char **at)
{
	unsigned int num = 0;

	*at = strstr(trace, text);
	for (trace = *at; trace; trace = strstr(trace + 1, text))
		num++;
	return num;
}

static char *read_trace(void)
{
	static char trace[1 << 20];
	FILE *file = fopen(TRACING "/trace", "r");
	size_t got;

	if (!file)
		tap_bail("no trace");
	got = fread(trace, 1, sizeof(trace) - 1, file);
	trace[got] = 0;
	fclose(file);
	return trace;
}

/* Of one request that was sent since the trace was cleared. */
static void check_events(const struct case_ *c, unsigned int id, int head,
			 unsigned long long limit_ns)
{
	const char *trace = read_trace(), *at;
	unsigned long long latency = 0;
	char common[160], text[300];
	uint64_t sector = c->sector;

	snprintf(common, sizeof(common), "device=%u queue=%u head=%d type=%s", id,
		 c->queue, head, c->type_name);
	snprintf(text, sizeof(text),
		 "vhost_blk_request_received: %s sector=%llu bytes=%u name=" NAME "\n", common,
		 (unsigned long long)sector, c->bytes);
	tap_ok(find(trace, text, &at) == 1 &&
	       find(trace, "request_received:", &at) == 1,
	       "%s is received once", c->name);

	/* A discard says in its data where it begins. */
	if (c->type == VIRTIO_BLK_T_DISCARD)
		sector = 4096;
	snprintf(text, sizeof(text),
		 "vhost_blk_request_submitted: %s sector=%llu bytes=%llu name=" NAME "\n",
		 common, (unsigned long long)sector,
		 (unsigned long long)c->concerns);
	if (c->submitted)
		tap_ok(find(trace, text, &at) == 1 &&
		       find(trace, "request_submitted:", &at) == 1,
		       "%s is submitted once", c->name);
	else
		tap_ok(!find(trace, "request_submitted:", &at),
		       "%s is not submitted", c->name);

	snprintf(text, sizeof(text),
		 "vhost_blk_request_completed: %s sector=%llu bytes=%llu status=%s latency_ns=",
		 common, (unsigned long long)sector,
		 (unsigned long long)c->concerns, c->status);
	tap_ok(find(trace, "request_completed:", &at) == 1 &&
	       find(trace, text, &at) == 1,
	       "%s is completed once, with %s", c->name, c->status);
	if (at)
		latency = strtoull(at + strlen(text), NULL, 10);
	if (!tap_ok(latency && latency < limit_ns,
		    "%s has a latency that can be", c->name))
		printf("# %llu ns of %llu\n", latency, limit_ns);
}

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void test_name(struct fixture *f)
{
	struct vhost_blk_name name = { "two words" };
	char text[1 << 14] = "";

	tap_equal(vhost_client_ioctl(&f->c, VHOST_BLK_SET_NAME, &name), -EINVAL,
		  "a name with a space is refused");
	memset(name.name, 'x', sizeof(name.name));
	tap_equal(vhost_client_ioctl(&f->c, VHOST_BLK_SET_NAME, &name), -EINVAL,
		  "so is one without an end");
	name = (struct vhost_blk_name){ NAME };
	tap_equal(vhost_client_ioctl(&f->c, VHOST_BLK_SET_NAME, &name), 0,
		  "a device gets a name");
	vhost_client_counters(&f->c, text, sizeof(text));
	tap_ok(strstr(text, "name:\t" NAME "\n"), "which is in its fdinfo");
}

static void test_events(const char *disk)
{
	struct vhost_blk_name name = { "other" };
	struct fixture f;
	unsigned int i, id;

	set_up_bound(&f, disk, O_RDWR, QUEUES);
	test_name(&f);
	set_up_running(&f, QUEUES, ALL_FEATURES);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_BLK_SET_NAME, &name), -EBUSY,
		  "which is refused while it runs");
	data = vhost_client_alloc(&f.c, 8192, 4096);
	id = device_id(&f);
	if (!start_tracing(id)) {
		tap_ok(true, "trace events # SKIP no vhost_blk in tracefs");
		tear_down(&f);
		return;
	}
	for (i = 0; i < CASES; i++) {
		unsigned long long start = now_ns();
		int head;

		write_text(TRACING "/trace", "");
		send_case(&f, &cases[i], &head);
		check_events(&cases[i], id, head, now_ns() - start);
	}
	write_text(EVENTS "/enable", "0");
	tear_down(&f);
	tap_ok(!rmdir(TRACING), "tracing can end");
}

/* Many at once: each of them is there, with a head and a latency of its own. */
static void test_many_events(const char *disk)
{
	enum { NUM = 60 };
	unsigned int i, completed = 0, latencies = 0;
	unsigned long long latency;
	const char *trace, *at;
	struct fixture f;
	bool seen[RING] = {};
	unsigned int head;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	if (!start_tracing(device_id(&f))) {
		tap_ok(true, "events of many # SKIP no vhost_blk in tracefs");
		tear_down(&f);
		return;
	}
	add_reads(&f, NUM, vhost_client_alloc(&f.c, NUM, 1));
	vhost_client_kick(&f.c, 0, false);
	for (i = 0; i < NUM; i++)
		if (vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS) < 0)
			break;
	write_text(EVENTS "/enable", "0");
	trace = read_trace();
	tap_equal(find(trace, "request_received:", &at), NUM,
		  "%d requests at once: each is received", NUM);
	tap_equal(find(trace, "request_submitted:", &at), NUM, "and submitted");
	find(trace, "request_completed:", &at);
	for (; at; at = strstr(at + 1, "request_completed:"))
		if (sscanf(at, "request_completed: device=%*u queue=%*u head=%u type=%*s sector=%*u bytes=%*u status=OK latency_ns=%llu",
			   &head, &latency) == 2 && head < RING) {
			completed += !seen[head];
			seen[head] = true;
			latencies += latency > 0;
		}
	tap_equal(completed, NUM, "and completed once, with OK");
	tap_equal(latencies, NUM, "with a latency");
	tear_down(&f);
	rmdir(TRACING);
}

/* Counters */

static long long counter(struct fixture *f, unsigned int queue, const char *name)
{
	return vhost_client_counter(&f->c, queue, name);
}

static void test_counters(const char *disk)
{
	static const char *const kinds[] = {
		"read", "write", "flush", "discard", "write_zeroes",
		"secure_erase", "other"
	};
	struct vhost_blk_name other = { "other" };
	enum { ROUNDS = 5 };
	unsigned int i, j, queue;
	struct fixture f;
	char name[32];
	int head;

	set_up_bound(&f, disk, O_RDWR, QUEUES);
	test_name(&f);
	set_up_running(&f, QUEUES, ALL_FEATURES);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_BLK_SET_NAME, &other), -EBUSY,
		  "which is refused while it runs");
	data = vhost_client_alloc(&f.c, 8192, 4096);
	for (i = 0; i < ROUNDS; i++)
		for (j = 0; j < CASES; j++)
			send_case(&f, &cases[j], &head);

	for (queue = 0; queue < QUEUES; queue++) {
		long long errors = 0, requests = 0;

		for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
			long long num = 0, bytes = 0;

			for (j = 0; j < CASES; j++) {
				if (cases[j].queue != queue ||
				    strcmp(cases[j].kind, kinds[i]))
					continue;
				num += ROUNDS;
				bytes += ROUNDS * cases[j].concerns;
				if (strcmp(cases[j].status, "OK"))
					errors += ROUNDS;
			}
			requests += num;
			snprintf(name, sizeof(name), "%s_bytes", kinds[i]);
			tap_equal(counter(&f, queue, kinds[i]), num,
				  "queue %u: %lld requests counted as %s", queue,
				  num, kinds[i]);
			tap_equal(counter(&f, queue, name), bytes,
				  "queue %u: with %lld bytes", queue, bytes);
		}
		tap_equal(counter(&f, queue, "errors"), errors,
			  "queue %u: %lld errors", queue, errors);
		tap_ok(counter(&f, queue, "kicks") > 0 &&
		       counter(&f, queue, "kicks") <=
		       (long long)f.c.queues[queue].kicks,
		       "queue %u: no more kicks than were sent", queue);
		tap_equal(counter(&f, queue, "batches"), requests,
			  "queue %u: one at a time, each is a batch", queue);
		tap_ok(counter(&f, queue, "signals") >=
		       (long long)vhost_client_signals(&f.c, queue) &&
		       counter(&f, queue, "signals") <= requests,
		       "queue %u: signals for batches, and no fewer than arrive",
		       queue);
		tap_equal(counter(&f, queue, "bounced"), 0,
			  "queue %u: nothing needed a bounce buffer", queue);
		tap_equal(counter(&f, queue, "in_flight"), 0,
			  "queue %u: nothing is in flight", queue);
	}
	tear_down(&f);
}

static void test_batches(const char *disk)
{
	enum { NUM = 80 };
	struct fixture f;
	unsigned int i;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	add_reads(&f, NUM, vhost_client_alloc(&f.c, NUM, 1));
	vhost_client_kick(&f.c, 0, false);
	for (i = 0; i < NUM; i++)
		if (vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS) < 0)
			break;
	tap_equal(counter(&f, 0, "read"), NUM, "%d requests at once are counted", NUM);
	tap_ok(counter(&f, 0, "batches") > 0 && counter(&f, 0, "batches") < NUM,
	       "as fewer batches");
	tap_ok(counter(&f, 0, "kicks") <= 1, "and no more kicks than one");
	printf("# %lld batches, %lld signals\n", counter(&f, 0, "batches"),
	       counter(&f, 0, "signals"));
	memset(f.hdr, 0, sizeof(*f.hdr));
	data = vhost_client_alloc(&f.c, 4096 + 1, 4096);
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data + 1, 4096, NULL);
	tap_equal(counter(&f, 0, "bounced"), 1,
		  "data at an odd address is counted as bounced");
	tear_down(&f);
}

/* Whether a line of fdinfo is "NAME:\tVALUE". */
static bool has_line(struct fixture *f, const char *name, const char *value)
{
	char text[1 << 14], line[100];

	if (vhost_client_counters(&f->c, text, sizeof(text)))
		return false;
	snprintf(line, sizeof(line), "\n%s:\t%s\n", name, value);
	return strstr(text, line);
}

static void test_fdinfo(const char *disk)
{
	char backing[32];
	struct fixture f;
	struct stat st;

	set_up_bound(&f, disk, O_RDWR, 1);
	fstat(f.disk, &st);
	snprintf(backing, sizeof(backing), "%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	tap_ok(has_line(&f, "backing", backing), "fdinfo has the block device");
	tap_ok(has_line(&f, "running", "0"), "and that it is stopped");
	set_up_running(&f, 1, ALL_FEATURES);
	tap_ok(has_line(&f, "running", "1"), "or running");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		tap_bail("usage: %s DISK", argv[0]);
	test_events(argv[1]);
	test_many_events(argv[1]);
	test_counters(argv[1]);
	test_batches(argv[1]);
	test_fdinfo(argv[1]);
	return tap_end();
}
