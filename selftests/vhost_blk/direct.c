// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that are answered in the context in which the disk ends them, and changes of
 * the device while that happens.
 *
 * usage: direct TEST DISK
 *	lone		lone requests, on a disk that ends each some time after its submission
 *	record		the same with a record of what is in flight
 *	bad		the same with the bad sectors 8 to 15
 *	early		a disk that ends requests while they are submitted
 *	changes		changes of the device in the middle of requests
 *	storm		... that meet completions at any point
 *	killed		owners that are killed
 *
 * DISK may be overwritten, and has 64 MiB or more.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "locked.h"
#include "traffic.h"

/* Of requests one after the other on a late disk, how many must be answered directly. */
#define MOST(num)	((num) * 3 / 4)

static long long counter(struct fixture *f, const char *name)
{
	return vhost_client_counter(&f->c, 0, name);
}

/* Sends reads one after the other. Returns how many were answered directly. */
static long long lone_reads(struct fixture *f, unsigned int num)
{
	long long before = counter(f, "direct");
	void *data = vhost_client_alloc(&f->c, 4096, 4096);
	unsigned int i, good = 0;
	uint32_t len;

	for (i = 0; i < num; i++)
		good += simple(f, 0, VIRTIO_BLK_T_IN, 8 * i, data, 4096, &len) ==
			VIRTIO_BLK_S_OK && len == 4097;
	if (good != num)
		tap_bail("%u of %u reads are good", good, num);
	return counter(f, "direct") - before;
}

static void test_lone(const char *disk, uint64_t features, const char *how)
{
	enum { NUM = 100 };
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, features);
	tap_ok(lone_reads(&f, NUM) >= MOST(NUM), "%s: lone reads are answered directly", how);
	tap_equal(counter(&f, "read"), NUM, "%s: each is counted once", how);
	tap_equal(counter(&f, "batches"), NUM, "%s: as an update of the used ring", how);
	tap_ok(counter(&f, "signals") >= (long long)vhost_client_signals(&f.c, 0) &&
	       counter(&f, "signals") <= NUM, "%s: with one signal at most", how);
	tap_equal(counter(&f, "in_flight"), 0, "%s: none is left", how);
	tear_down(&f);
}

static void test_types(const char *disk)
{
	uint8_t *out, *in;
	struct fixture f;
	unsigned int i;
	long long before;
	bool same = true;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	out = vhost_client_alloc(&f.c, 1 << 20, 4096);
	in = vhost_client_alloc(&f.c, 1 << 20, 4096);
	lone_reads(&f, 4);
	before = counter(&f, "direct");
	for (i = 0; i < 20; i++) {
		uint32_t bytes = (i + 1) * 4096;

		fill(out, bytes, i);
		same = same && !simple(&f, 0, VIRTIO_BLK_T_OUT, i * 512, out, bytes, NULL) &&
		       !simple(&f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL) &&
		       !simple(&f, 0, VIRTIO_BLK_T_IN, i * 512, in, bytes, NULL) &&
		       !memcmp(out, in, bytes);
	}
	tap_ok(same, "writes, flushes and reads of any size are right");
	/*
	 * The disk has no cache. So a flush ends at once, and no read after one is expected
	 * late.
	 */
	tap_ok(counter(&f, "direct") - before >= MOST(20), "the writes are answered directly");
	tear_down(&f);
}

/* Returns the signals that arrive for 50 reads of a driver that looks at the ring itself. */
static unsigned long signals_of_reads(struct fixture *f)
{
	struct vhost_client_queue *q = &f->c.queues[0];
	void *data = vhost_client_alloc(&f->c, 4096, 4096);
	unsigned long before = vhost_client_signals(&f->c, 0);
	unsigned int i;

	for (i = 0; i < 50; i++) {
		if (!read_is_answered(f, data, TIMEOUT_MS))
			tap_bail("no answer");
		q->last_used++;
	}
	return vhost_client_signals(&f->c, 0) - before;
}

static void test_wants_no_signals(const char *disk)
{
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES & ~(1ULL << VIRTIO_F_NOTIFY_ON_EMPTY));
	lone_reads(&f, 4);
	vring_used_event(&f.c.queues[0].vring) = f.c.queues[0].last_used + 1000;
	tap_equal(signals_of_reads(&f), 0, "an event index far ahead: no signal");
	tap_ok(counter(&f, "direct") >= 40, "of direct answers");
	tear_down(&f);

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES & ~(1ULL << VIRTIO_RING_F_EVENT_IDX) &
	       ~(1ULL << VIRTIO_F_NOTIFY_ON_EMPTY));
	lone_reads(&f, 4);
	f.c.queues[0].vring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	tap_equal(signals_of_reads(&f), 0, "the flag for it: no signal");
	tap_ok(counter(&f, "direct") >= 40, "of direct answers");
	tear_down(&f);
}

static void test_locks_memory(const char *disk)
{
	long long before = status_kb("VmLck");
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_equal(status_kb("VmLck"), before, "a ring locks no memory");
	lone_reads(&f, 4);
	tap_ok(status_kb("VmLck") > before, "until the disk is late");
	vhost_client_run(&f.c, false);
	tap_equal(status_kb("VmLck"), before, "and none after its stop");
	tear_down(&f);
}

static int read_without_locked_memory(const char *disk)
{
	struct fixture f;

	limit_locked_memory(0);
	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	return lone_reads(&f, 20) != 0;
}

static void test_may_lock_nothing(const char *disk)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(read_without_locked_memory(disk));
	waitpid(pid, &status, 0);
	tap_equal(status, 0, "an owner that may lock nothing: the worker answers");
}

/* Without a kick the worker has to release the pages of the last request by itself. */
static void test_releases(const char *disk)
{
	long long pinned = pins(false), locked = status_kb("VmLck");
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	lone_reads(&f, 20);
	tap_ok(soon(pins(false) - pinned == (status_kb("VmLck") - locked) / 4),
	       "soon only the ring is pinned");
	tear_down(&f);
	tap_equal(pins(false), pinned, "and nothing when the device is closed");
}

static void test_record(const char *disk)
{
	enum { NUM = 50 };
	struct vhost_blk_inflight *record;
	struct fixture f;
	unsigned int i;
	long long direct;

	set_up_bound(&f, disk, O_RDWR, 1);
	if (vhost_client_setup(&f.c, ALL_FEATURES, 1, RING))
		tap_bail("no set-up");
	record = vhost_client_alloc(&f.c, sizeof(*record) + RING * sizeof(record->desc[0]), 4096);
	if (vhost_client_set_inflight(&f.c, 0, record) || vhost_client_run(&f.c, true))
		tap_bail("no record");
	f.hdr = vhost_client_alloc(&f.c, sizeof(*f.hdr), 16);
	f.status = vhost_client_alloc(&f.c, 1, 1);
	direct = lone_reads(&f, NUM);
	tap_ok(direct >= MOST(NUM), "with a record: lone reads are answered directly");
	vhost_client_run(&f.c, false);
	for (i = 0; i < RING && !record->desc[i].inflight; i++)
		;
	tap_equal(i, RING, "no chain is in flight in the record");
	tap_equal(record->used_idx, NUM, "its used index is the ring's");
	tear_down(&f);
}

static void test_early(const char *disk)
{
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_equal(lone_reads(&f, 100), 0, "a disk that ends requests at once: the worker answers");
	tear_down(&f);
}

/* Changes while requests are in flight. Each returns 0 or a negative errno. */

static int change_call(struct fixture *f)
{
	struct vhost_client_queue *q = &f->c.queues[0];
	struct vhost_vring_file file = { .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	int ret = vhost_client_ioctl(&f->c, VHOST_SET_VRING_CALL, &file);
	int other = file.fd;

	file.fd = -1;
	ret = ret ?: vhost_client_ioctl(&f->c, VHOST_SET_VRING_CALL, &file);
	/* The device had the last reference. */
	close(other);
	file.fd = q->call_fd;
	return ret ?: vhost_client_ioctl(&f->c, VHOST_SET_VRING_CALL, &file);
}

static int change_table(struct fixture *f)
{
	struct vhost_memory_region region = {
		.guest_phys_addr = VHOST_CLIENT_BASE,
		.memory_size = f->c.mem_size,
		.userspace_addr = (uintptr_t)f->c.mem,
	};

	return vhost_client_set_mem_table(&f->c, &region, 1);
}

static int change_addresses(struct fixture *f)
{
	const struct vring *vring = &f->c.queues[0].vring;
	struct vhost_vring_addr addr = {
		.desc_user_addr = (uintptr_t)vring->desc,
		.avail_user_addr = (uintptr_t)vring->avail,
		.used_user_addr = (uintptr_t)vring->used,
	};

	return vhost_client_ioctl(&f->c, VHOST_SET_VRING_ADDR, &addr);
}

static int change_running(struct fixture *f)
{
	return vhost_client_run(&f->c, false) ?: vhost_client_run(&f->c, true);
}

static int change_log(struct fixture *f)
{
	return vhost_client_log_start(&f->c) ?: vhost_client_log_stop(&f->c);
}

static int change_owner(struct fixture *f)
{
	return vhost_client_reset_owner(&f->c) ?: vhost_client_configure(&f->c) ?:
	       vhost_client_run(&f->c, true);
}

static const struct change {
	const char *name;
	int (*make)(struct fixture *f);
	bool ends_run;
} changes[] = {
	{ "stop and start", change_running, true },
	{ "other eventfds", change_call, false },
	{ "the memory table again", change_table, false },
	{ "the ring's addresses again", change_addresses, false },
	{ "a dirty log for a moment", change_log, false },
	{ "a new owner", change_owner, true },
};

#define NUM_CHANGES	(sizeof(changes) / sizeof(*changes))

/* As traffic_go(), and with so few requests in flight that they can be answered directly. */
static void go_few(struct traffic *t)
{
	unsigned int i, num = 1 + traffic_random(t, 3);

	for (i = 0; i < num; i++)
		if (t->slots[i].head < 0)
			traffic_send(t, i);
	traffic_take(t);
}

/*
 * Mostly few, now and then many. After many, requests are answered directly only when the
 * worker has slept with few in flight for some thirty times.
 */
static void go(struct traffic *t, unsigned int turn)
{
	if (turn % 64 >= 62)
		traffic_go(t);
	else
		go_few(t);
}

/* One kind of change after each turn of the traffic, or all in turn. */
static void test_changes(const char *disk, const struct change *only)
{
	const char *name = only ? only->name : "all of these";
	unsigned int i, rounds = only ? 60 : 150;
	struct traffic t;
	struct fixture f;
	long long direct = 0;
	int ret = 0;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	traffic_init(&t, &f, 1, true);
	for (i = 0; i < rounds && !ret; i++) {
		const struct change *change = only ?: &changes[i % NUM_CHANGES];
		unsigned int turns = 1 + i % 5;

		while (turns--)
			go(&t, i + turns);
		ret = change->make(&f);
		direct = counter(&f, "direct");
	}
	tap_equal(ret, 0, "%s: %u times in the middle of requests", name, rounds);
	tap_ok(traffic_finish(&t, 20) && t.good == t.sent && !t.wrong,
	       "%s: all are answered once, and right", name);
	tap_ok(traffic_matches_disk(&t), "%s: the disk has what was written", name);
	tap_ok(direct > 0, "%s: some were answered directly", name);
	printf("# %lld directly\n", direct);
	traffic_report(&t);
	traffic_free(&t);
	tear_down(&f);
}

/*
 * The same with a thread that makes changes, so that they meet completions at any point. Each
 * takes the right to answer from completions until the worker sleeps again. So mostly there is
 * some time between two changes.
 */
struct storm {
	struct fixture *f;
	int (*make)(struct fixture *f);
	atomic_bool stop;
	atomic_int error;
	atomic_uint num;
};

static void *blow(void *data)
{
	struct storm *storm = data;
	unsigned int seed = 1;
	int ret = 0;

	while (!storm->stop && !ret) {
		ret = storm->make(storm->f);
		storm->num++;
		if (rand_r(&seed) % 4)
			usleep(rand_r(&seed) % (4000 * limit_factor()));
	}
	storm->error = ret;
	return NULL;
}

static void test_storm(const char *disk, const struct change *change)
{
	double limit = now() + 60 * limit_factor();
	struct storm storm = { .make = change->make };
	struct traffic t;
	long long direct[2];
	struct fixture f;
	pthread_t thread;
	unsigned int i;

	set_up(&f, disk, O_RDWR, 2, ALL_FEATURES);
	traffic_init(&t, &f, 2, true);
	storm.f = &f;
	if (pthread_create(&thread, NULL, blow, &storm))
		tap_bail("no thread");
	for (i = 0; i < 600 && now() < limit; i++)
		go(&t, i);
	storm.stop = true;
	pthread_join(thread, NULL);
	tap_equal(storm.error, 0, "%s: all the time", change->name);
	tap_ok(traffic_finish(&t, 20) && t.good == t.sent && !t.wrong,
	       "%s: all are answered once, and right", change->name);
	for (i = 0; i < 2; i++)
		direct[i] = vhost_client_counter(&f.c, i, "direct");
	tap_ok(direct[0] + direct[1], "%s: some were answered directly", change->name);
	printf("# %u changes, %lld and %lld directly\n", storm.num, direct[0], direct[1]);
	traffic_report(&t);
	traffic_free(&t);
	tear_down(&f);
}

/* Bad sectors among good ones: failures go the worker's way. */
static void test_bad(const char *disk)
{
	unsigned int i, right = 0;
	struct fixture f;
	void *data;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	lone_reads(&f, 1);
	data = vhost_client_alloc(&f.c, 4096, 4096);
	for (i = 0; i < 100; i++)
		right += simple(&f, 0, VIRTIO_BLK_T_IN, i % 2 * 8, data, 4096, NULL) ==
			 (i % 2 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	tap_equal(right, 100, "good and bad sectors in turn: each has its status");
	tap_equal(counter(&f, "read_errors"), 50, "the bad ones are counted");
	tap_ok(counter(&f, "direct") >= MOST(50), "the good ones are answered directly");
	tear_down(&f);
}

/* The owner is killed with requests in flight that could be answered directly. */
static void test_killed(const char *disk)
{
	unsigned int i;

	fflush(stdout);
	for (i = 0; i < 20; i++) {
		struct fixture f;
		pid_t pid = fork();

		if (!pid) {
			set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
			lone_reads(&f, 10);
			send_reads(&f, 3);
			kill(getpid(), SIGKILL);
		}
		waitpid(pid, NULL, 0);
	}
	tap_ok(true, "owners are killed with requests in flight");
}

static void run_lone(const char *disk)
{
	test_lone(disk, ALL_FEATURES, "event index");
	test_lone(disk, ALL_FEATURES & ~(1ULL << VIRTIO_RING_F_EVENT_IDX), "flags");
	test_types(disk);
	test_wants_no_signals(disk);
	test_locks_memory(disk);
	test_may_lock_nothing(disk);
	test_releases(disk);
}

static void run_changes(const char *disk)
{
	unsigned int i;

	for (i = 0; i < NUM_CHANGES; i++)
		test_changes(disk, &changes[i]);
	test_changes(disk, NULL);
}

/* Without those that end a run: the traffic is another thread's. */
static void run_storm(const char *disk)
{
	unsigned int i;

	for (i = 0; i < NUM_CHANGES; i++)
		if (!changes[i].ends_run)
			test_storm(disk, &changes[i]);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const char *disk);
	} tests[] = {
		{ "lone", run_lone },
		{ "record", test_record },
		{ "bad", test_bad },
		{ "early", test_early },
		{ "changes", run_changes },
		{ "storm", run_storm },
		{ "killed", test_killed },
	};
	unsigned int i;

	for (i = 0; i < sizeof(tests) / sizeof(*tests) && argc == 3; i++) {
		if (strcmp(argv[1], tests[i].name))
			continue;
		tests[i].run(argv[2]);
		return tap_end();
	}
	tap_bail("usage: %s TEST DISK", argv[0]);
}
