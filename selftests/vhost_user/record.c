// SPDX-License-Identifier: GPL-2.0
/*
 * The record of what is in flight as a VMM sees it: what the daemon gives, what the kernel
 * writes, what is refused, and what a daemon that is started again knows by it.
 *
 * usage: record DAEMON SOCKET SLOW CACHED
 *	DAEMON	the program, which is started with SOCKET and one of the disks
 *	SLOW	a disk that needs tenths of a second for a request
 *	CACHED	one with a volatile write cache
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "process.h"

#define QUEUES	4
#define READS	16

/* Of the daemon's: a region for the largest ring, and the next in another cache line. */
static struct vhost_blk_inflight *region(struct backend *b, unsigned int queue)
{
	size_t bytes = sizeof(struct vhost_blk_inflight) +
		       VHOST_BLK_MAX_RING *
		       sizeof(struct vhost_blk_inflight_desc);

	return (void *)(b->u.inflight + queue * ((bytes + 63) / 64 * 64));
}

static void test_file(const char *socket)
{
	struct backend b;
	size_t size;

	connect_backend(&b, socket, ALL_PROTOCOL);
	tap_equal(vhost_user_get_inflight(&b.u, QUEUES, RING), 0,
		  "the daemon gives a record");
	size = b.u.inflight_desc.mmap_size;
	tap_ok((uint8_t *)region(&b, QUEUES) <= b.u.inflight + size,
	       "it has room for all rings");
	tap_equal(region(&b, 0)->version, 0, "in which nothing is recorded");
	tap_ok(ftruncate(b.u.inflight_fd, size - 1) < 0, "its file can't shrink");
	tap_ok(ftruncate(b.u.inflight_fd, size + 1) < 0, "nor grow");
	tear_down_backend(&b);
}

static unsigned int count_in_flight(const struct vhost_blk_inflight *record)
{
	unsigned int i, num = 0;

	for (i = 0; i < record->desc_num; i++)
		num += __atomic_load_n(&record->desc[i].inflight, __ATOMIC_RELAXED);
	return num;
}

static void test_contents(const char *socket)
{
	struct vhost_blk_inflight *record;
	struct backend b;
	uint8_t *statuses;
	uint16_t base;

	set_up_backend(&b, socket, 1);
	record = region(&b, 0);
	tap_equal(record->version, VHOST_BLK_INFLIGHT_VERSION,
		  "a started ring has a record of the known version");
	tap_equal(record->desc_num, RING, "with all its descriptors");
	statuses = send_reads(&b.f, READS);
	tap_ok(soon(count_in_flight(record) == READS),
	       "%d reads are in the record while they are in flight", READS);
	tap_equal(take_answers(&b.f, READS), READS, "they are answered");
	tap_equal(count_ok(statuses, READS), READS, "well");
	tap_ok(soon(!count_in_flight(record) && record->used_idx == READS),
	       "and not in the record any more");
	vhost_user_get_vring_base(&b.u, 0, &base);
	tap_equal(base, READS, "which agrees with the ring's base");
	tear_down_backend(&b);
}

/* The connection ends, the daemon stays. */
static void test_reconnect(const char *socket)
{
	struct backend b;
	uint8_t *statuses;
	int ret;

	set_up_backend(&b, socket, 1);
	statuses = send_reads(&b.f, READS);
	soon(count_in_flight(region(&b, 0)) == READS);
	vhost_user_disconnect(&b.u);
	ret = vhost_user_connect(&b.u);
	if (!ret)
		ret = vhost_user_negotiate(&b.u, ALL_PROTOCOL);
	if (!ret)
		ret = vhost_user_configure(&b.u);
	tap_equal(ret, 0, "a VMM connects again with requests in flight");
	tap_equal(take_answers(&b.f, READS), READS, "all are answered");
	tap_equal(count_ok(statuses, READS), READS, "well");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "and so is the next");
	tap_equal(b.f.c.queues[0].vring.used->idx, READS + 1, "none twice");
	tear_down_backend(&b);
}

enum lie {
	VERSION, DESC_NUM, USED_IDX, BATCH_HEAD, NUM_LIES
};

static void tell_lie(struct vhost_blk_inflight *record, enum lie lie)
{
	/* A record with nothing in flight begins anew, whatever it says. */
	record->desc[0].inflight = 1;
	switch (lie) {
	case VERSION:
		record->version = 2;
		break;
	case DESC_NUM:
		record->desc_num = RING + 1;
		break;
	case USED_IDX:
		record->used_idx = 1000;
		break;
	default:
		/* Looked at only if a batch is open. */
		record->used_idx--;
		record->last_batch_head = RING;
	}
}

/* A ring that has served something is started with a record that is not true. */
static int start_with_lie(const char *socket, enum lie lie)
{
	struct backend b;
	uint16_t base;
	int ret;

	set_up_backend(&b, socket, 1);
	read_page(&b, 0);
	ret = vhost_user_get_vring_base(&b.u, 0, &base);
	if (ret)
		tap_bail("the ring can't be stopped: %s", strerror(-ret));
	tell_lie(region(&b, 0), lie);
	ret = vhost_user_start_ring(&b.u, 0, base);
	tear_down_backend(&b);
	return ret;
}

static void test_lies(const char *socket)
{
	static const char * const names[] = {
		[VERSION] = "an unknown version",
		[DESC_NUM] = "another number of descriptors",
		[USED_IDX] = "a used index from nowhere",
		[BATCH_HEAD] = "a chain that there can't be",
	};
	enum lie lie;
	struct backend b;
	int ret;

	for (lie = 0; lie < NUM_LIES; lie++) {
		ret = start_with_lie(socket, lie);
		tap_ok(ret == -EREMOTEIO || ret == -EPIPE,
		       "a record with %s is refused", names[lie]);
	}
	set_up_backend(&b, socket, QUEUES);
	tap_equal(read_page(&b, QUEUES - 1), VIRTIO_BLK_S_OK,
		  "which does no harm to the next connection");
	tear_down_backend(&b);
}

/* What is said of the record's file is not true. */
static void test_descriptions(const char *socket)
{
	static const struct {
		const char *name;
		struct vhost_user_inflight desc;
	} bad[] = {
		{ "no queues", { 1 << 20, 0, 0, RING } },
		{ "too many queues", { 1 << 20, 0, QUEUES + 1, RING } },
		{ "no descriptors", { 1 << 20, 0, 1, 0 } },
		{ "too little room", { 64, 0, 1, RING } },
		{ "more than there is", { 1 << 30, 0, 1, RING } },
		{ "an offset behind the file", { 1 << 16, 1 << 30, 1, RING } },
		{ "an offset that wraps", { 1 << 16, -4096ULL, 1, RING } },
	};
	struct vhost_user_inflight real;
	struct backend b;
	unsigned int i;
	int ret;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		connect_backend(&b, socket, ALL_PROTOCOL);
		prepare_backend(&b, 1);
		ret = vhost_user_get_inflight(&b.u, 1, RING);
		if (ret)
			tap_bail("no record: %s", strerror(-ret));
		real = b.u.inflight_desc;
		b.u.inflight_desc = bad[i].desc;
		ret = vhost_user_set_inflight(&b.u);
		b.u.inflight_desc = real;
		tap_ok(ret == -EREMOTEIO || ret == -EPIPE,
		       "a record with %s is refused", bad[i].name);
		tear_down_backend(&b);
	}
	connect_backend(&b, socket, ALL_PROTOCOL);
	prepare_backend(&b, 1);
	ret = vhost_user_get_inflight(&b.u, 1, RING / 2);
	if (!ret)
		ret = vhost_user_set_inflight(&b.u);
	if (!ret)
		ret = vhost_user_start_ring(&b.u, 0, 0);
	if (!ret)
		ret = read_page(&b, 0);
	tap_equal(ret, VIRTIO_BLK_S_OK,
		  "a ring may be larger than the record that was asked for");
	tear_down_backend(&b);
}

static void next_daemon(struct process *daemon, int signal)
{
	kill(daemon->pid, signal);
	bury_daemon(daemon);
	start_daemon(daemon);
}

static int get_wce(struct backend *b)
{
	struct virtio_blk_config config;
	int ret = vhost_user_get_config(&b->u, &config);

	return ret ? ret : config.wce;
}

/* The mode of the write cache that the next daemon has, with the rings going on. */
static int wce_after(struct process *daemon, struct backend *b,
		     uint64_t protocol_features)
{
	int ret;

	vhost_user_disconnect(&b->u);
	next_daemon(daemon, SIGKILL);
	ret = connect_daemon(daemon, b);
	if (!ret)
		ret = vhost_user_negotiate(&b->u, protocol_features);
	if (!ret)
		ret = vhost_user_configure(&b->u);
	return ret ? ret : get_wce(b);
}

static void test_cache(struct process *daemon)
{
	const uint64_t no_record = ~VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
	struct backend b;

	set_up_backend(&b, daemon->socket, 1);
	read_page(&b, 0);
	tap_equal(wce_after(daemon, &b, ALL_PROTOCOL), 1,
		  "the next daemon has write-back, as the driver found it");
	vhost_user_set_wce(&b.u, 0);
	tap_equal(wce_after(daemon, &b, ALL_PROTOCOL), 0,
		  "it has write-through, if the driver chose it");
	vhost_user_set_wce(&b.u, 1);
	tap_equal(wce_after(daemon, &b, ALL_PROTOCOL), 1,
		  "and write-back, if that was the last choice");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "and serves");
	tear_down_backend(&b);

	connect_backend(&b, daemon->socket, no_record);
	run_backend(&b, 1, ALL_FEATURES);
	read_page(&b, 0);
	tap_equal(get_wce(&b), 1, "without a record it begins with write-back, too");
	tap_equal(wce_after(daemon, &b, no_record), 0,
		  "but the next daemon takes the driver for one that wants write-through");
	vhost_user_set_wce(&b.u, 1);
	tap_equal(get_wce(&b), 1, "until it chooses");
	tear_down_backend(&b);
}

int main(int argc, char **argv)
{
	struct process daemon = {};

	if (argc != 5)
		tap_bail("usage: %s DAEMON SOCKET SLOW CACHED", argv[0]);
	daemon.program = argv[1];
	daemon.socket = argv[2];
	daemon.disk = argv[3];
	start_daemon(&daemon);
	wait_for_daemon(&daemon);
	test_file(daemon.socket);
	test_contents(daemon.socket);
	test_reconnect(daemon.socket);
	test_lies(daemon.socket);
	test_descriptions(daemon.socket);
	daemon.disk = argv[4];
	next_daemon(&daemon, SIGTERM);
	wait_for_daemon(&daemon);
	test_cache(&daemon);
	kill(daemon.pid, SIGTERM);
	bury_daemon(&daemon);
	return tap_end();
}
