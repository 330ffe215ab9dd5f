// SPDX-License-Identifier: GPL-2.0
/*
 * The record of what is in flight, by which a device's owner can die and be replaced.
 *
 * The guest's part is this process: memory, rings, eventfds and records. The owner of
 * the device is a child that shares them, and is killed.
 *
 * usage: inflight record DISK
 *	DISK	one that ends requests in the order in which it gets them
 * usage: inflight killed SLOW
 *	SLOW	one that needs seconds for a request
 * usage: inflight crash DISK ROUNDS
 *	DISK	one that needs milliseconds, and is overwritten; how often the owner dies
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "locked.h"
#include "traffic.h"

#define QUEUES		2
#define READS		4
#define FEATURES	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
			 1ULL << VIRTIO_RING_F_INDIRECT_DESC)

struct guest {
	struct fixture f;
	struct vhost_blk_inflight *records[QUEUES];
};

static void boot(struct guest *g, const char *disk)
{
	struct vhost_client *c = &g->f.c;
	unsigned int i;
	int ret = vhost_client_open_shared(c, -1, MEMORY);

	g->f.disk = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (g->f.disk < 0)
		tap_bail("%s: %s", disk, strerror(errno));
	c->features = FEATURES;
	if (!ret)
		ret = vhost_client_alloc_rings(c, QUEUES, RING);
	if (ret)
		tap_bail("no guest memory: %s", strerror(-ret));
	for (i = 0; i < QUEUES; i++)
		g->records[i] = vhost_client_alloc(c, sizeof(*g->records[i]) + RING *
						   sizeof(*g->records[i]->desc), 8);
	g->f.hdr = vhost_client_alloc(c, sizeof(*g->f.hdr), 16);
	g->f.status = vhost_client_alloc(c, 1, 1);
}

static void halt(struct guest *g)
{
	vhost_client_close(&g->f.c);
	close(g->f.disk);
}

/* Opens a device for the guest's memory, which this process then owns. */
static int open_device(struct guest *g, uint32_t flags)
{
	struct vhost_client *c = &g->f.c;
	unsigned int i;
	int ret;

	c->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	ret = vhost_client_bind(c, g->f.disk, flags, QUEUES, SERIAL);
	if (!ret)
		ret = vhost_client_configure(c);
	for (i = 0; i < QUEUES && !ret; i++)
		ret = vhost_client_set_inflight(c, i, g->records[i]);
	return ret;
}

static void close_device(struct guest *g)
{
	close(g->f.c.fd);
	g->f.c.fd = -1;
}

/* The same, and runs it, as long as a predecessor may have to end and @patient. */
static int run_device(struct guest *g, uint32_t flags, bool patient)
{
	double end = now() + 30 * limit_factor();
	int ret;

	do {
		ret = open_device(g, flags);
		if (!ret)
			ret = vhost_client_run(&g->f.c, true);
		if (ret)
			close_device(g);
	} while (ret == -EBUSY && patient && now() < end && !usleep(1000));
	return ret;
}

/* A child that owns a running device; what run_device() says of it is in @result. */
static pid_t start_owner(struct guest *g, uint32_t flags, bool patient, int *result)
{
	int ready[2];
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		tap_bail("no pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		int ret;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ret = run_device(g, flags, patient);
		if (write(ready[1], &ret, sizeof(ret)) == sizeof(ret) && !ret)
			pause();
		_exit(0);
	}
	close(ready[1]);
	if (pid < 0 || read(ready[0], result, sizeof(*result)) != sizeof(*result))
		tap_bail("no owner");
	close(ready[0]);
	return pid;
}

static void kill_owner(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static unsigned int num_inflight(const struct vhost_blk_inflight *record)
{
	unsigned int i, num = 0;

	for (i = 0; i < RING; i++)
		num += __atomic_load_n(&record->desc[i].inflight, __ATOMIC_ACQUIRE);
	return num;
}

static bool any_inflight(const struct guest *g)
{
	return num_inflight(g->records[0]) || num_inflight(g->records[1]);
}

static uint16_t used_idx(const struct guest *g)
{
	return __atomic_load_n(&g->f.c.queues[0].vring.used->idx, __ATOMIC_ACQUIRE);
}

/* --- record --- */

/* As if all of @num reads had been fetched by an owner that died, the last one first. */
static void pretend_fetched(struct guest *g, unsigned int num)
{
	struct vhost_blk_inflight *record = g->records[0];
	const struct vring_avail *avail = g->f.c.queues[0].vring.avail;
	unsigned int i;

	record->version = VHOST_BLK_INFLIGHT_VERSION;
	record->desc_num = RING;
	for (i = 0; i < num; i++) {
		record->desc[avail->ring[i]].inflight = 1;
		record->desc[avail->ring[i]].counter = 1000 - i;
	}
}

/* As if the first @num available reads had been used in one batch, up to the index. */
static void pretend_used(struct guest *g, unsigned int num)
{
	struct vhost_blk_inflight *record = g->records[0];
	struct vring *vring = &g->f.c.queues[0].vring;
	unsigned int i;

	for (i = 0; i < num; i++) {
		uint16_t head = vring->avail->ring[i];

		record->desc[head].next = record->last_batch_head;
		record->last_batch_head = head;
		vring->used->ring[i].id = head;
	}
	vring->used->idx = num;
}

/* Whether the used ring has the available heads @first to @last from place @at on. */
static bool used_are(const struct guest *g, unsigned int at, int first, int last)
{
	const struct vring *vring = &g->f.c.queues[0].vring;
	int step = first <= last ? 1 : -1, i;

	for (i = first; ; i += step) {
		if (vring->used->ring[at++].id != vring->avail->ring[i])
			return false;
		if (i == last)
			return true;
	}
}

static void test_order(const char *disk)
{
	uint8_t *statuses, *later;
	struct guest g = {};
	int ret;

	boot(&g, disk);
	statuses = send_reads(&g.f, READS);
	pretend_fetched(&g, READS);
	later = send_reads(&g.f, READS);
	ret = run_device(&g, 0, true);
	tap_equal(ret, 0, "a device starts with a record of what was in flight");
	tap_equal(take_answers(&g.f, 2 * READS), 2 * READS,
		  "that and what came later is done");
	tap_equal(count_ok(statuses, READS) + count_ok(later, READS), 2 * READS,
		  "with success");
	tap_ok(used_are(&g, 0, READS - 1, 0), "first what was in flight, in its order");
	tap_ok(used_are(&g, READS, READS, 2 * READS - 1), "then what came later");
	tap_ok(soon(!num_inflight(g.records[0])), "nothing is in flight any more");
	tap_equal(g.records[0]->used_idx, used_idx(&g), "the record has the used index");
	tap_equal(g.records[1]->version, VHOST_BLK_INFLIGHT_VERSION,
		  "the record of an idle ring is begun");
	tap_equal(g.records[1]->desc_num, RING, "with its size");
	close_device(&g);
	halt(&g);
}

static void test_batch(const char *disk)
{
	struct guest g = {};

	boot(&g, disk);
	send_reads(&g.f, READS);
	pretend_fetched(&g, READS);
	pretend_used(&g, 2);
	tap_equal(run_device(&g, 0, true), 0,
		  "a device starts where the last batch was used, and not yet struck off");
	tap_ok(soon(used_idx(&g) == READS), "what is not in it is done again");
	tap_ok(used_are(&g, 0, 0, 1) && used_are(&g, 2, READS - 1, 2),
	       "what is in it is not");
	close_device(&g);
	halt(&g);
}

/* The owner is killed between the used element and the signal. */
static void test_signal(const char *disk)
{
	struct guest g = {};

	boot(&g, disk);
	send_reads(&g.f, READS);
	pretend_fetched(&g, READS);
	pretend_used(&g, READS);
	if (run_device(&g, 0, true))
		tap_bail("the device doesn't start");
	tap_ok(soon(vhost_client_signals(&g.f.c, 0) > 0),
	       "the guest is signalled for what an owner used before it died");
	tap_equal(used_idx(&g), READS, "and nothing is done again");
	close_device(&g);
	halt(&g);
}

static void test_stop(const char *disk)
{
	struct vhost_vring_state base = {};
	struct guest g = {};

	boot(&g, disk);
	send_reads(&g.f, READS);
	pretend_fetched(&g, READS);
	if (run_device(&g, 0, true))
		tap_bail("the device doesn't start");
	tap_equal(vhost_client_run(&g.f.c, false), 0, "a device is stopped at once");
	tap_equal(used_idx(&g), READS, "what was to be done again has been");
	vhost_client_ioctl(&g.f.c, VHOST_GET_VRING_BASE, &base);
	tap_equal(base.num, READS, "and counts as fetched");
	close_device(&g);
	halt(&g);
}

static void lie_version(struct vhost_blk_inflight *record)
{
	record->version++;
}

static void lie_size(struct vhost_blk_inflight *record)
{
	record->desc_num--;
}

static void lie_batch(struct vhost_blk_inflight *record)
{
	record->used_idx = 1;
}

static void lie_head(struct vhost_blk_inflight *record)
{
	record->used_idx = -1;
	record->last_batch_head = RING;
}

static void lie_next(struct vhost_blk_inflight *record)
{
	record->used_idx = -2;
	record->desc[record->last_batch_head].next = RING;
}

static const struct {
	const char *name;
	void (*tell)(struct vhost_blk_inflight *record);
} lies[] = {
	{ "another version", lie_version },
	{ "another ring size", lie_size },
	{ "a batch larger than the ring", lie_batch },
	{ "a batch with an index out of range", lie_head },
	{ "a batch that leads out of the ring", lie_next },
};

static void test_lies(const char *disk)
{
	struct guest g = {};
	unsigned int i;

	for (i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		boot(&g, disk);
		send_reads(&g.f, READS);
		pretend_fetched(&g, READS);
		lies[i].tell(g.records[0]);
		tap_equal(run_device(&g, 0, false), -EINVAL,
			  "a record with %s is refused", lies[i].name);
		halt(&g);
	}
	boot(&g, disk);
	g.records[0]->version = 77;
	g.records[0]->used_idx = 77;
	tap_equal(run_device(&g, 0, true), 0,
		  "a record with nothing in flight is begun anew");
	tap_ok(g.records[0]->version == VHOST_BLK_INFLIGHT_VERSION &&
	       !g.records[0]->used_idx, "as what it is");
	close_device(&g);
	halt(&g);
}

/* A record of chains that the ring doesn't have. */
static void test_nonsense(const char *disk)
{
	struct guest g = {};
	eventfd_t errors;

	boot(&g, disk);
	g.records[0]->version = VHOST_BLK_INFLIGHT_VERSION;
	g.records[0]->desc_num = RING;
	g.records[0]->desc[RING - 1].inflight = 0xff;
	tap_equal(run_device(&g, 0, true), 0, "a record may name any descriptor");
	tap_ok(soon(!eventfd_read(g.f.c.queues[0].err_fd, &errors)),
	       "what is no chain breaks the ring");
	tap_equal(vhost_client_run(&g.f.c, false), 0, "which can be stopped");
	close_device(&g);
	halt(&g);
}

static void test_locked(const char *disk)
{
	struct guest g = {};
	long long before;

	boot(&g, disk);
	before = status_kb("VmLck");
	if (run_device(&g, 0, true))
		tap_bail("the device doesn't start");
	tap_ok(status_kb("VmLck") > before, "a record counts as locked memory");
	vhost_client_run(&g.f.c, false);
	tap_equal(status_kb("VmLck"), before, "until its ring is stopped");
	close_device(&g);
	halt(&g);
}

/* In a process that may lock nothing. */
static int run_without_locked_memory(struct guest *g)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		limit_locked_memory(0);
		_exit(-run_device(g, 0, true));
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ?
	       -WEXITSTATUS(status) : 0;
}

static void test_errors(const char *disk)
{
	struct vhost_blk_vring_inflight inflight = { .index = QUEUES };
	struct guest g = {};

	boot(&g, disk);
	if (open_device(&g, 0))
		tap_bail("no device");
	tap_equal(vhost_client_ioctl(&g.f.c, VHOST_BLK_SET_VRING_INFLIGHT, &inflight),
		  -ENOBUFS, "a ring that the device does not have is refused");
	inflight.index = 0;
	inflight.reserved = 1;
	tap_equal(vhost_client_ioctl(&g.f.c, VHOST_BLK_SET_VRING_INFLIGHT, &inflight),
		  -EINVAL, "something in the reserved field is refused");
	inflight.reserved = 0;
	inflight.addr = 4;
	tap_equal(vhost_client_ioctl(&g.f.c, VHOST_BLK_SET_VRING_INFLIGHT, &inflight),
		  -EINVAL, "an unaligned record is refused");
	tap_equal(vhost_client_ioctl(&g.f.c, VHOST_BLK_SET_VRING_INFLIGHT, NULL),
		  -EFAULT, "a bad address is refused");
	inflight.addr = 1ULL << 63;
	vhost_client_ioctl(&g.f.c, VHOST_BLK_SET_VRING_INFLIGHT, &inflight);
	tap_equal(vhost_client_run(&g.f.c, true), -EFAULT,
		  "a record outside of the owner's memory is refused at the start");
	vhost_client_set_inflight(&g.f.c, 0, NULL);
	tap_equal(vhost_client_run(&g.f.c, true), 0, "no record is needed");
	tap_equal(vhost_client_set_inflight(&g.f.c, 0, g.records[0]), -EBUSY,
		  "none is taken while the ring runs");
	close_device(&g);
	tap_equal(run_without_locked_memory(&g), -ENOMEM,
		  "a process that may lock no memory can't have one");
	halt(&g);
}

/* --- killed --- */

static void test_killed(const char *slow)
{
	struct guest g = {};
	uint8_t *statuses;
	double killed;
	int result;
	pid_t pid;

	boot(&g, slow);
	pid = start_owner(&g, VHOST_BLK_BIND_SHARED, true, &result);
	statuses = send_reads(&g.f, READS);
	tap_ok(soon(num_inflight(g.records[0]) == READS),
	       "the record has what the disk works at");
	killed = now();
	kill_owner(pid);
	/* The last close waits for a second, the disk needs four. */
	tap_ok(now() - killed < 2.5 * limit_factor() && !used_idx(&g),
	       "the owner dies before the disk answers");
	pid = start_owner(&g, VHOST_BLK_BIND_SHARED, false, &result);
	tap_equal(result, -EBUSY,
		  "nobody can start with the record while the disk still works at it");
	kill_owner(pid);
	pid = start_owner(&g, VHOST_BLK_BIND_SHARED, true, &result);
	tap_equal(result, 0, "then somebody can");
	tap_equal(take_answers(&g.f, READS), READS, "and what was in flight is answered");
	tap_equal(count_ok(statuses, READS), READS, "with success");
	usleep(100000);
	tap_equal(used_idx(&g), READS, "once");
	tap_ok(soon(!num_inflight(g.records[0])), "the record has nothing in flight");
	kill_owner(pid);
	halt(&g);
}

/* --- crash --- */

/* The model of the disk needs its block size. */
static void init_traffic(struct traffic *t, struct guest *g)
{
	int ret;

	g->f.c.fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	ret = vhost_client_bind(&g->f.c, g->f.disk, 0, QUEUES, SERIAL);
	if (ret)
		tap_bail("can't bind the disk: %s", strerror(-ret));
	traffic_init(t, &g->f, QUEUES, true);
	close_device(g);
}

static void test_crash(const char *disk, unsigned int rounds)
{
	unsigned int i, interrupted = 0;
	struct guest g = {};
	struct traffic t;
	int result;
	pid_t pid;

	boot(&g, disk);
	init_traffic(&t, &g);
	for (i = 0; i <= rounds; i++) {
		double start = now(), ms = traffic_random(&t, 40);

		/* The claim of the disk holds the next one back, or the record alone. */
		pid = start_owner(&g, i % 2 ? VHOST_BLK_BIND_SHARED : 0, true, &result);
		if (result)
			tap_bail("round %u doesn't start: %s", i, strerror(-result));
		if (i == rounds)
			break;
		/* At random, but not before the first request is under way. */
		while (now() < start + ms / 1000 ||
		       (!any_inflight(&g) && now() < start + limit_factor()))
			traffic_go(&t);
		kill_owner(pid);
		interrupted += any_inflight(&g);
	}
	tap_ok(interrupted > rounds / 4, "of %u owners %u are killed with requests in flight",
	       rounds, interrupted);
	tap_ok(traffic_run(&t, 100), "no request is lost");
	tap_ok(!t.failed && !t.odd, "none is answered with an error");
	tap_ok(!t.wrong, "no read gets wrong data");
	tap_ok(traffic_matches_disk(&t), "the disk has what was written");
	traffic_report(&t);
	kill_owner(pid);
	traffic_free(&t);
	halt(&g);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "record")) {
		test_order(argv[2]);
		test_batch(argv[2]);
		test_signal(argv[2]);
		test_stop(argv[2]);
		test_lies(argv[2]);
		test_nonsense(argv[2]);
		test_locked(argv[2]);
		test_errors(argv[2]);
	} else if (argc == 3 && !strcmp(argv[1], "killed")) {
		test_killed(argv[2]);
	} else if (argc == 4 && !strcmp(argv[1], "crash")) {
		test_crash(argv[2], atoi(argv[3]));
	} else {
		tap_bail("usage: see the source");
	}
	return tap_end();
}
