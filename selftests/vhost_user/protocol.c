// SPDX-License-Identifier: GPL-2.0
/*
 * What vhost-blkd answers to the messages of vhost-user, and what they do to rings.
 *
 * usage: protocol DISK SOCKET CACHED CACHED_SOCKET CACHED_LOG READONLY_SOCKET LOOP FILE
 *		LOOP_SOCKET
 *	DISK, SOCKET		a disk that may be overwritten, 64 MiB or more, and the
 *				daemon that serves it with QUEUES queues
 *	CACHED, CACHED_SOCKET	a disk with a volatile write cache
 *	CACHED_LOG		what its daemon prints
 *	READONLY_SOCKET		of a daemon with --read-only
 *	LOOP, FILE, LOOP_SOCKET	a loop device on a file of 64 MiB
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/loop.h>

#include "fixture.h"

/* As protocol.sh tells the daemons. */
#define QUEUES		4
#define SEG_MAX		126
/* How long a ring is watched that is to do nothing. */
#define IDLE_MS		200

#define OFFERED_PROTOCOL	(VHOST_USER_PROTOCOL_F_MQ | \
				 VHOST_USER_PROTOCOL_F_LOG_SHMFD | \
				 VHOST_USER_PROTOCOL_F_REPLY_ACK | \
				 VHOST_USER_PROTOCOL_F_BACKEND_REQ | \
				 VHOST_USER_PROTOCOL_F_CONFIG | \
				 VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | \
				 VHOST_USER_PROTOCOL_F_RESET_DEVICE | \
				 VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | \
				 VHOST_USER_PROTOCOL_F_STATUS)

/* What the kernel has to say of a disk that the daemon has claimed. */
static void ask_kernel(const char *disk, struct virtio_blk_config *config,
		       uint64_t *features)
{
	int fd = open(disk, O_RDWR | O_CLOEXEC);
	struct vhost_client c;
	int ret = vhost_client_open(&c, DEVICE, 4096);

	if (!ret)
		ret = vhost_client_bind(&c, fd, VHOST_BLK_BIND_SHARED, QUEUES,
					SERIAL);
	if (!ret)
		ret = vhost_client_get_config(&c, config);
	if (!ret)
		ret = vhost_client_get_features(&c, features);
	if (ret)
		tap_bail("%s: %s", disk, strerror(-ret));
	vhost_client_close(&c);
	close(fd);
}

static void test_features(const char *disk, const char *socket)
{
	struct virtio_blk_config config;
	uint64_t kernel, offered, protocol;
	struct backend b;
	int ret;

	ask_kernel(disk, &config, &kernel);
	connect_backend(&b, socket, 0);
	vhost_user_get_features(&b.u, &offered);
	tap_ok(!(offered >> VIRTIO_F_ACCESS_PLATFORM & 1),
	       "no IOMMU is offered");
	tap_equal(offered, (kernel & ~(1ULL << VIRTIO_F_ACCESS_PLATFORM)) |
		  1ULL << VHOST_USER_F_PROTOCOL_FEATURES,
		  "the features are the kernel's");
	tap_equal(vhost_user_get_protocol_features(&b.u, &protocol), 0,
		  "protocol features can be asked for before all else");
	tap_equal(protocol, OFFERED_PROTOCOL, "they are the known ones");
	vhost_user_negotiate(&b.u, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	ret = vhost_user_set_features(&b.u, 1ULL << 63);
	tap_ok(ret == -EREMOTEIO || ret == -EPIPE,
	       "a feature that is not offered is refused");
	tear_down_backend(&b);
}

/* The status of a part of the configuration space: bytes of the answer's payload. */
static int get_config_part(struct backend *b, uint32_t offset, uint32_t size,
			   void *data)
{
	const int head = VHOST_USER_CONFIG_HEADER;
	struct vhost_user_msg msg = { .config = { .offset = offset, .size = size } };
	int ret = vhost_user_send(&b->u, &msg, VHOST_USER_GET_CONFIG, 0,
				  head + size, NULL, 0);

	if (!ret)
		ret = vhost_user_receive(&b->u, &msg, VHOST_USER_GET_CONFIG, NULL);
	if (ret > head)
		memcpy(data, msg.config.data, ret - head);
	return ret;
}

static void test_config(const char *disk, const char *socket)
{
	struct virtio_blk_config kernel, config = {};
	static const uint8_t zeroes[8];
	uint64_t features, num;
	uint8_t data[VHOST_USER_MAX_CONFIG];
	struct backend b;

	ask_kernel(disk, &kernel, &features);
	kernel.seg_max = SEG_MAX;
	connect_backend(&b, socket, ALL_PROTOCOL);
	tap_equal(vhost_user_get_config(&b.u, &config), 0,
		  "the configuration can be read before there is an owner");
	tap_equal(config.seg_max, SEG_MAX, "seg_max fits a ring of 128");
	tap_equal(config.num_queues, QUEUES, "num_queues is the daemon's");
	tap_ok(!memcmp(&kernel, &config, sizeof(config)),
	       "all else is the kernel's");
	tap_ok(get_config_part(&b, 4, 8, data) == VHOST_USER_CONFIG_HEADER + 8 &&
	       !memcmp(data, (uint8_t *)&kernel + 4, 8), "a part of it can be read");
	tap_equal(vhost_user_get_queue_num(&b.u, &num), 0,
		  "the number of queues can be asked for");
	tap_equal(num, QUEUES, "and is the daemon's");
	tap_ok(get_config_part(&b, sizeof(config), 8, data) == VHOST_USER_CONFIG_HEADER + 8 &&
	       !memcmp(data, zeroes, 8), "what is behind it is zero");
	tear_down_backend(&b);
}

static void test_acks(const char *socket)
{
	struct vhost_user_msg msg;
	struct backend b;
	int ret;

	connect_backend(&b, socket, VHOST_USER_PROTOCOL_F_CONFIG);
	vhost_user_send(&b.u, &msg, VHOST_USER_SET_OWNER, VHOST_USER_NEED_REPLY, 0,
			NULL, 0);
	vhost_user_send(&b.u, &msg, VHOST_USER_GET_FEATURES, VHOST_USER_NEED_REPLY, 0,
			NULL, 0);
	ret = vhost_user_receive(&b.u, &msg, VHOST_USER_GET_FEATURES, NULL);
	tap_equal(ret, 8, "nothing is acknowledged without REPLY_ACK");
	tear_down_backend(&b);

	connect_backend(&b, socket, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	vhost_user_send(&b.u, &msg, VHOST_USER_SET_OWNER, 0, 0, NULL, 0);
	vhost_user_send(&b.u, &msg, VHOST_USER_GET_FEATURES, VHOST_USER_NEED_REPLY, 0,
			NULL, 0);
	ret = vhost_user_receive(&b.u, &msg, VHOST_USER_GET_FEATURES, NULL);
	tap_equal(ret, 8, "nothing is acknowledged that doesn't ask for it");
	ret = vhost_user_set_features(&b.u, 1ULL << VIRTIO_F_VERSION_1);
	tap_equal(ret, 0, "what asks for it is");
	vhost_user_send(&b.u, &msg, VHOST_USER_GET_PROTOCOL_FEATURES,
			VHOST_USER_NEED_REPLY, 0, NULL, 0);
	vhost_user_send(&b.u, &msg, VHOST_USER_GET_QUEUE_NUM, 0, 0, NULL, 0);
	vhost_user_receive(&b.u, &msg, VHOST_USER_GET_PROTOCOL_FEATURES, NULL);
	ret = vhost_user_receive(&b.u, &msg, VHOST_USER_GET_QUEUE_NUM, NULL);
	tap_equal(ret, 8, "a message with an answer of its own has no other");
	ret = vhost_user_set_vring(&b.u, VHOST_USER_SET_VRING_NUM, 0, 3);
	tap_ok(ret == -EREMOTEIO || ret == -EPIPE, "a ring of three is refused");
	tear_down_backend(&b);
}

/*
 * The daemon reads 64 headers and payloads before it looks for signals. Here the last of
 * them is the header of a message without payload, and nothing is left in the socket that
 * would wake the daemon.
 */
static void test_last_header(const char *socket)
{
	enum { REPEATS = 31 };
	struct vhost_user_msg num = {
		.header = { VHOST_USER_SET_VRING_NUM, VHOST_USER_VERSION,
			    sizeof(num.state) },
		.state = { 0, RING },
	};
	const struct vhost_user_header ask = {
		VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0
	};
	const size_t head = sizeof(num.header), size = head + sizeof(num.state);
	struct pollfd answer = { .events = POLLIN };
	uint8_t bytes[(REPEATS + 1) * size + sizeof(ask)], *end = bytes;
	struct backend b;
	unsigned int i;
	int ret;

	connect_backend(&b, socket, ALL_PROTOCOL);
	answer.fd = b.f.c.fd;
	ret = vhost_user_send_bytes(&b.u, &num, head, NULL, 0);
	usleep(IDLE_MS * 1000);
	/* The payload of the first message, and whole messages. */
	memcpy(end, &num.state, sizeof(num.state));
	end += sizeof(num.state);
	for (i = 0; i < REPEATS; i++, end += size)
		memcpy(end, &num, size);
	memcpy(end, &ask, sizeof(ask));
	end += sizeof(ask);
	if (!ret)
		ret = vhost_user_send_bytes(&b.u, bytes, end - bytes, NULL, 0);
	tap_ok(!ret && poll(&answer, 1, TIMEOUT_MS) == 1,
	       "a message is answered whose header is the last that is read");
	tear_down_backend(&b);
}

/* The messages of one ring's life, each of which is acknowledged. */
static void test_every_request(const char *socket)
{
	struct vhost_client_queue *q;
	uint64_t value;
	struct backend b;
	uint16_t base;

	connect_backend(&b, socket, ALL_PROTOCOL);
	tap_equal(vhost_user_get_status(&b.u, &value), 0, "GET_STATUS");
	tap_equal(value, 0, "the status begins with 0");
	tap_equal(vhost_user_set_status(&b.u, 3), 0, "SET_STATUS");
	tap_ok(!vhost_user_get_status(&b.u, &value) && value == 3,
	       "the status is what was set");
	tap_equal(vhost_user_get_max_mem_slots(&b.u, &value), 0,
		  "GET_MAX_MEM_SLOTS");
	tap_ok(value >= VHOST_USER_MAX_REGIONS && value <= 509,
	       "there are enough for memory to be plugged");
	tap_equal(vhost_user_set_up_device(&b.u, ALL_FEATURES), 0,
		  "SET_OWNER and SET_FEATURES");
	tap_equal(vhost_user_open_backend(&b.u), 0, "SET_BACKEND_REQ_FD");
	tap_equal(vhost_user_get_inflight(&b.u, QUEUES, RING), 0,
		  "GET_INFLIGHT_FD");
	tap_equal(vhost_user_set_inflight(&b.u), 0, "SET_INFLIGHT_FD");
	tap_equal(vhost_user_set_mem_table(&b.u), 0, "SET_MEM_TABLE");
	vhost_client_alloc_rings(&b.f.c, 1, RING);
	alloc_ends(&b.f);
	q = &b.f.c.queues[0];
	tap_equal(vhost_user_set_vring(&b.u, VHOST_USER_SET_VRING_NUM, 0, RING), 0,
		  "SET_VRING_NUM");
	tap_equal(vhost_user_set_vring(&b.u, VHOST_USER_SET_VRING_BASE, 0, 0), 0,
		  "SET_VRING_BASE");
	tap_equal(vhost_user_set_vring_addr(&b.u, 0), 0, "SET_VRING_ADDR");
	tap_equal(vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_CALL, 0,
					  q->call_fd), 0, "SET_VRING_CALL");
	tap_equal(vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_ERR, 0, -1), 0,
		  "SET_VRING_ERR without a descriptor");
	tap_equal(vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_KICK, 0,
					  q->kick_fd), 0, "SET_VRING_KICK");
	tap_equal(vhost_user_set_vring(&b.u, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0,
		  "SET_VRING_ENABLE");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "the ring serves a read");
	tap_equal(vhost_user_get_vring_base(&b.u, 0, &base), 0, "GET_VRING_BASE");
	tap_equal(base, 1, "its base is behind the read");
	tap_equal(vhost_user_reset_device(&b.u), 0, "RESET_DEVICE");
	tear_down_backend(&b);
}

/* Whether the only request of a ring, which nobody waits for, is answered in a while. */
static bool answers_meanwhile(struct backend *b, unsigned int queue)
{
	struct vhost_client_queue *q = &b->f.c.queues[queue];

	usleep(IDLE_MS * 1000);
	return __atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) !=
	       q->last_used;
}

static void offer_read(struct backend *b, unsigned int queue)
{
	static const unsigned int bytes = 4096;
	const struct vhost_client_seg segs[] = {
		{ b->f.hdr, sizeof(*b->f.hdr), false },
		{ vhost_client_alloc(&b->f.c, bytes, bytes), bytes, true },
		{ b->f.status, 1, true },
	};

	b->f.hdr->type = VIRTIO_BLK_T_IN;
	b->f.hdr->sector = 0;
	*b->f.status = 0xee;
	vhost_client_add(&b->f.c, queue, segs, 3, NULL);
	vhost_client_kick(&b->f.c, queue, true);
}

static int taken_status(struct backend *b, unsigned int queue)
{
	int ret = vhost_client_get_used(&b->f.c, queue, NULL, TIMEOUT_MS);

	return ret < 0 ? ret : *b->f.status;
}

static void test_enable(const char *socket)
{
	const enum vhost_user_request enable = VHOST_USER_SET_VRING_ENABLE;
	uint64_t features = 1ULL << VHOST_USER_F_PROTOCOL_FEATURES;
	struct vhost_client_queue *q;
	struct backend b;

	connect_backend(&b, socket, ALL_PROTOCOL);
	prepare_backend(&b, QUEUES);
	features |= b.f.c.features;
	q = &b.f.c.queues[0];
	vhost_user_set_vring(&b.u, VHOST_USER_SET_VRING_NUM, 0, RING);
	vhost_user_set_vring(&b.u, VHOST_USER_SET_VRING_BASE, 0, 0);
	vhost_user_set_vring_addr(&b.u, 0);
	vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_CALL, 0, q->call_fd);
	vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_KICK, 0, q->kick_fd);
	offer_read(&b, 0);
	tap_ok(!answers_meanwhile(&b, 0), "a ring that is not enabled does nothing");
	tap_equal(vhost_user_set_vring(&b.u, enable, 0, 1), 0, "it is enabled");
	tap_equal(taken_status(&b, 0), VIRTIO_BLK_S_OK,
		  "and does what was waiting, without a kick");
	tap_equal(vhost_user_set_features(&b.u, features), 0,
		  "features can be set again while it runs");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "which doesn't disable it");
	tap_equal(vhost_user_set_vring(&b.u, enable, 0, 0), 0, "it is disabled");
	offer_read(&b, 0);
	tap_ok(!answers_meanwhile(&b, 0), "and does nothing any more");
	tap_equal(vhost_user_set_vring(&b.u, enable, 0, 1), 0, "it is enabled again");
	tap_equal(taken_status(&b, 0), VIRTIO_BLK_S_OK, "and goes on");
	tear_down_backend(&b);
}

static void test_no_protocol(const char *disk, const char *socket)
{
	enum { REQUESTS = 500 };
	struct backend b;
	struct traffic t;

	connect_backend(&b, socket, 0);
	open_disk(&b, disk);
	run_backend(&b, QUEUES, ALL_FEATURES);
	traffic_init(&t, &b.f, QUEUES, true);
	tap_ok(traffic_run(&t, REQUESTS) && t.good == t.sent && !t.wrong &&
	       traffic_matches_disk(&t),
	       "rings serve %d requests without protocol features", REQUESTS);
	traffic_free(&t);
	tear_down_backend(&b);
}

/* One ring after the other stops and starts while the others work. */
static void test_ring_by_ring(const char *disk, const char *socket)
{
	enum { ROUNDS = 30 };
	unsigned int round, last = QUEUES - 1, bad = 0;
	struct vring *vring;
	struct backend b;
	struct traffic t;
	uint16_t base;

	set_up_backend(&b, socket, QUEUES);
	open_disk(&b, disk);
	vring = &b.f.c.queues[last].vring;
	traffic_init(&t, &b.f, QUEUES - 1, true);
	for (round = 0; round < ROUNDS && !bad; round++) {
		traffic_go(&t);
		bad += read_page(&b, last) != VIRTIO_BLK_S_OK;
		traffic_go(&t);
		bad += vhost_user_get_vring_base(&b.u, last, &base) ||
		       base != vring->used->idx;
		traffic_go(&t);
		bad += vhost_user_start_ring(&b.u, last, base) != 0;
	}
	tap_ok(!bad && round == ROUNDS,
	       "a ring stops and starts %d times, each time with its index", ROUNDS);
	tap_ok(traffic_finish(&t, 20) && t.good == t.sent && !t.wrong &&
	       traffic_matches_disk(&t), "while the others serve requests");
	traffic_report(&t);

	vhost_user_get_vring_base(&b.u, last, &base);
	offer_read(&b, last);
	tap_ok(!answers_meanwhile(&b, last), "a stopped ring does nothing");
	tap_equal(vhost_user_start_ring(&b.u, last, base), 0, "it starts");
	tap_equal(taken_status(&b, last), VIRTIO_BLK_S_OK,
		  "and does what was waiting");
	traffic_free(&t);
	tear_down_backend(&b);
}

/* The steps of a ring's start, of which the kick, or to enable, comes last. */
enum step { NUM, BASE, ADDR, CALL, ERR, KICK, ENABLE, STEPS };

static int take_step(struct backend *b, enum step step)
{
	struct vhost_client_queue *q = &b->f.c.queues[0];
	struct vhost_user *u = &b->u;

	switch (step) {
	case NUM:
		return vhost_user_set_vring(u, VHOST_USER_SET_VRING_NUM, 0, RING);
	case BASE:
		return vhost_user_set_vring(u, VHOST_USER_SET_VRING_BASE, 0, 0);
	case ADDR:
		return vhost_user_set_vring_addr(u, 0);
	case CALL:
		return vhost_user_set_vring_fd(u, VHOST_USER_SET_VRING_CALL, 0,
					       q->call_fd);
	case ERR:
		return vhost_user_set_vring_fd(u, VHOST_USER_SET_VRING_ERR, 0,
					       q->err_fd);
	case KICK:
		return vhost_user_set_vring_fd(u, VHOST_USER_SET_VRING_KICK, 0,
					       q->kick_fd);
	default:
		return vhost_user_set_vring(u, VHOST_USER_SET_VRING_ENABLE, 0, 1);
	}
}

static void test_orders(const char *socket)
{
	static const struct {
		const char *name;
		enum step steps[STEPS];
	} orders[] = {
		{ "call first", { CALL, ERR, NUM, BASE, ADDR, KICK, ENABLE } },
		{ "enabled before its kick",
		  { NUM, BASE, ADDR, CALL, ERR, ENABLE, KICK } },
		{ "enabled first", { ENABLE, ADDR, NUM, BASE, CALL, ERR, KICK } },
		{ "call after kick", { NUM, ADDR, BASE, KICK, CALL, ERR, ENABLE } },
		{ "call last", { NUM, BASE, ADDR, KICK, ENABLE, ERR, CALL } },
	};
	unsigned int i, step;
	struct backend b;
	int ret;

	for (i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
		connect_backend(&b, socket, ALL_PROTOCOL);
		prepare_backend(&b, 1);
		for (step = 0, ret = 0; step < STEPS && !ret; step++)
			ret = take_step(&b, orders[i].steps[step]);
		if (!ret)
			ret = read_page(&b, 0);
		tap_equal(ret, VIRTIO_BLK_S_OK, "a ring works: %s", orders[i].name);
		tear_down_backend(&b);
	}
}

/* Protocol features come after the device's, there is no owner, memory comes late. */
static void test_late_messages(const char *socket)
{
	uint64_t features = 1ULL << VHOST_USER_F_PROTOCOL_FEATURES |
			    1ULL << VIRTIO_F_VERSION_1;
	struct backend b;
	int ret;

	connect_backend(&b, socket, 0);
	b.f.c.features = 1ULL << VIRTIO_F_VERSION_1;
	ret = vhost_user_set_features(&b.u, features);
	if (!ret)
		ret = vhost_user_negotiate(&b.u, ALL_PROTOCOL);
	vhost_client_alloc_rings(&b.f.c, 1, RING);
	alloc_ends(&b.f);
	if (!ret)
		ret = vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_CALL, 0,
					      b.f.c.queues[0].call_fd);
	if (!ret)
		ret = vhost_user_set_mem_table(&b.u);
	if (!ret)
		ret = vhost_user_start_ring(&b.u, 0, 0);
	if (!ret)
		ret = read_page(&b, 0);
	tap_equal(ret, VIRTIO_BLK_S_OK,
		  "features before protocol features, and no owner");
	tear_down_backend(&b);
}

/* The eventfds of a running ring are others from one request to the next. */
static void test_new_eventfds(const char *socket)
{
	struct vhost_client_queue *q;
	struct backend b;
	int ret, fd;

	set_up_backend(&b, socket, 1);
	q = &b.f.c.queues[0];
	fd = q->call_fd;
	q->call_fd = b.f.c.queues[0].err_fd;
	q->err_fd = fd;
	ret = vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_CALL, 0, q->call_fd);
	tap_ok(!ret && soon(vhost_client_signals(&b.f.c, 0) > 0),
	       "a new call eventfd is signalled: the last signal may have gone to the old one");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "and used from then on");
	ret = vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_CALL, 0, -1);
	if (!ret) {
		offer_read(&b, 0);
		ret = !answers_meanwhile(&b, 0);
	}
	tap_equal(ret, 0, "and works without one");
	tear_down_backend(&b);
}

static void test_read_only(const char *socket)
{
	uint64_t features = 0;
	struct backend b;
	void *data;

	set_up_backend(&b, socket, 1);
	vhost_user_get_features(&b.u, &features);
	tap_ok(features >> VIRTIO_BLK_F_RO & 1, "--read-only: RO is offered");
	data = vhost_client_alloc(&b.f.c, 4096, 4096);
	tap_equal(simple(&b.f, 0, VIRTIO_BLK_T_OUT, 0, data, 4096, NULL),
		  VIRTIO_BLK_S_IOERR, "--read-only: a write fails");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "--read-only: a read doesn't");
	tear_down_backend(&b);
}

static int get_wce(struct backend *b)
{
	struct virtio_blk_config config;
	int ret = vhost_user_get_config(&b->u, &config);

	return ret ? ret : config.wce;
}

static void test_cache(const char *socket)
{
	struct backend b;
	uint64_t one = 1;
	int ret;

	set_up_backend(&b, socket, 1);
	tap_equal(get_wce(&b), 1, "a disk with a cache begins with write-back");
	tap_equal(vhost_user_set_wce(&b.u, 0), 0, "the driver chooses write-through");
	tap_equal(get_wce(&b), 0, "and reads it back");
	tap_equal(vhost_user_set_wce(&b.u, 1), 0, "and write-back again");
	tap_equal(get_wce(&b), 1, "and reads that back");
	tap_equal(vhost_user_set_wce(&b.u, 0), 0, "a migration may have set it, too");
	tap_equal(vhost_user_reset_device(&b.u), 0, "the device is reset");
	tap_equal(get_wce(&b), 1, "which makes it write-back");
	ret = vhost_user_set_config(&b.u, 0, 0, &one, sizeof(one));
	tap_ok(ret == -EREMOTEIO || ret == -EPIPE, "the capacity can't be written");
	tear_down_backend(&b);
}

/* Flushes that the block layer has counted, or -1. */
static long flushes_of(const char *disk)
{
	char path[128];
	long num = -1;
	FILE *stat;

	snprintf(path, sizeof(path), "/sys/class/block/%s/stat", strrchr(disk, '/') + 1);
	stat = fopen(path, "re");
	if (!stat)
		return -1;
	if (fscanf(stat, "%*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %ld",
		   &num) != 1)
		num = -1;
	fclose(stat);
	return num;
}

/* The guest is saved, and then the host loses its power. */
static void test_stopped_flushes(const char *disk, const char *socket)
{
	struct backend b;
	uint16_t base;
	long before;

	set_up_backend(&b, socket, 2);
	before = flushes_of(disk);
	vhost_user_get_vring_base(&b.u, 0, &base);
	tap_ok(before >= 0 && flushes_of(disk) == before,
	       "a ring is stopped, and the disk not flushed");
	vhost_user_get_vring_base(&b.u, 1, &base);
	tap_ok(flushes_of(disk) > before, "the last ring is stopped, and the disk flushed");
	tear_down_backend(&b);
}

static void test_memory_slots(const char *disk, const char *socket)
{
	enum { HALF = MEMORY / 2, ROUNDS = 10 };
	unsigned int round, bad = 0;
	struct backend b;
	struct traffic t;
	uint8_t *late;
	int ret;

	connect_backend(&b, socket, ALL_PROTOCOL);
	open_disk(&b, disk);
	ret = vhost_user_set_up_device(&b.u, ALL_FEATURES);
	if (!ret)
		ret = vhost_user_add_mem(&b.u, 0, HALF);
	tap_equal(ret, 0, "memory is added slot by slot");
	vhost_client_alloc_rings(&b.f.c, QUEUES, RING);
	alloc_ends(&b.f);
	for (round = 0; round < QUEUES && !ret; round++)
		ret = vhost_user_start_ring(&b.u, round, 0);
	tap_equal(ret, 0, "rings in it are started");
	traffic_init(&t, &b.f, QUEUES - 1, true);
	late = b.f.c.mem + HALF;
	for (round = 0; round < ROUNDS && !bad; round++) {
		traffic_go(&t);
		bad += vhost_user_add_mem(&b.u, HALF, HALF) != 0;
		traffic_go(&t);
		bad += simple(&b.f, QUEUES - 1, VIRTIO_BLK_T_IN, 0, late, 4096,
			      NULL) != VIRTIO_BLK_S_OK;
		bad += vhost_user_rem_mem(&b.u, HALF, HALF) != 0;
	}
	tap_ok(!bad, "a slot is added, used and removed %d times while they run",
	       ROUNDS);
	tap_ok(traffic_finish(&t, 20) && t.good == t.sent && !t.wrong &&
	       traffic_matches_disk(&t), "while others serve requests");
	ret = vhost_user_rem_mem(&b.u, HALF, HALF);
	tap_ok(ret == -EREMOTEIO || ret == -EPIPE,
	       "a slot that isn't there can't be removed");
	traffic_free(&t);
	tear_down_backend(&b);
}

/* Nothing of the device's may touch memory that is gone. */
static void test_memory_gone(const char *socket)
{
	enum { HALF = MEMORY / 2 };
	struct backend b;
	uint64_t errors;

	connect_backend(&b, socket, ALL_PROTOCOL);
	vhost_user_set_up_device(&b.u, ALL_FEATURES);
	vhost_user_add_mem(&b.u, 0, HALF);
	vhost_user_add_mem(&b.u, HALF, HALF);
	vhost_client_alloc_rings(&b.f.c, 2, RING);
	alloc_ends(&b.f);
	vhost_user_start_ring(&b.u, 0, 0);
	vhost_user_start_ring(&b.u, 1, 0);
	vhost_user_rem_mem(&b.u, HALF, HALF);
	b.f.c.mem_free = HALF;
	offer_read(&b, 0);
	tap_ok(!answers_meanwhile(&b, 0) &&
	       read(b.f.c.queues[0].err_fd, &errors, 8) == 8,
	       "data in a slot that was removed breaks the ring");
	b.f.c.mem_free = 4 << 20;
	tap_equal(read_page(&b, 1), VIRTIO_BLK_S_OK, "and no other");
	tear_down_backend(&b);
}

static void test_log(const char *socket)
{
	unsigned long *bitmap;
	struct backend b;
	uint8_t *data, *other;

	set_up_backend(&b, socket, 1);
	data = vhost_client_alloc(&b.f.c, 8192, 4096);
	other = vhost_client_alloc(&b.f.c, 4096, 4096);
	tap_equal(vhost_user_log_start(&b.u), 0, "a dirty log is begun while rings run");
	bitmap = calloc(1, b.f.c.log_bytes);
	tap_equal(simple(&b.f, 0, VIRTIO_BLK_T_IN, 0, data, 8192, NULL),
		  VIRTIO_BLK_S_OK, "a read succeeds");
	vhost_client_log_take(&b.f.c, bitmap);
	tap_ok(vhost_client_log_test(&b.f.c, bitmap, data) &&
	       vhost_client_log_test(&b.f.c, bitmap, data + 4096),
	       "the pages that it wrote are in the log");
	tap_ok(vhost_client_log_test(&b.f.c, bitmap, b.f.c.queues[0].vring.used),
	       "and the used ring's");
	tap_ok(vhost_client_log_test(&b.f.c, bitmap, b.f.status), "and the status");
	tap_ok(!vhost_client_log_test(&b.f.c, bitmap, other), "and no other");
	tap_equal(simple(&b.f, 0, VIRTIO_BLK_T_OUT, 0, other, 4096, NULL),
		  VIRTIO_BLK_S_OK, "a write succeeds");
	vhost_client_log_take(&b.f.c, bitmap);
	tap_ok(!vhost_client_log_test(&b.f.c, bitmap, other),
	       "its data is not in the log");
	tap_equal(vhost_user_log_stop(&b.u), 0, "the log is ended");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "and the ring goes on");
	free(bitmap);
	tear_down_backend(&b);
}

static void resize_loop(const char *loop, const char *file, off_t size)
{
	int fd = open(loop, O_RDONLY | O_CLOEXEC);

	if (truncate(file, size) || ioctl(fd, LOOP_SET_CAPACITY))
		tap_bail("%s can't be resized: %s", loop, strerror(errno));
	close(fd);
}

static void test_resize(const char *loop, const char *file, const char *socket)
{
	const off_t before = 64 << 20, after = 96 << 20;
	struct virtio_blk_config config = {};
	struct backend b;

	set_up_backend(&b, socket, 1);
	tap_equal(vhost_user_open_backend(&b.u), 0,
		  "the daemon gets a channel of its own");
	tap_equal(vhost_user_take_backend(&b.u, 1500), -EAGAIN,
		  "and has nothing to say");
	resize_loop(loop, file, after);
	tap_equal(vhost_user_take_backend(&b.u, TIMEOUT_MS),
		  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		  "a new size is told there");
	vhost_user_get_config(&b.u, &config);
	tap_equal(config.capacity, after / SECTOR, "and is in the configuration");
	tap_equal(simple(&b.f, 0, VIRTIO_BLK_T_IN, after / SECTOR - 8,
			 vhost_client_alloc(&b.f.c, 4096, 4096), 4096, NULL),
		  VIRTIO_BLK_S_OK, "its last page can be read");
	resize_loop(loop, file, before);
	tap_equal(vhost_user_take_backend(&b.u, TIMEOUT_MS),
		  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		  "and so is the next one");
	tear_down_backend(&b);
}

/* As QEMU, which ignores what it is told of a device that is stopped. */
static void test_resize_while_stopped(const char *loop, const char *file,
				      const char *socket)
{
	const off_t before = 64 << 20, after = 96 << 20;
	struct virtio_blk_config config = {};
	struct backend b;
	uint16_t base = 0;

	set_up_backend(&b, socket, 2);
	vhost_user_open_backend(&b.u);
	vhost_user_get_vring_base(&b.u, 0, &base);
	vhost_user_get_vring_base(&b.u, 1, &base);
	resize_loop(loop, file, after);
	tap_equal(vhost_user_take_backend(&b.u, TIMEOUT_MS),
		  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		  "a new size is told while no ring runs");
	vhost_user_start_ring(&b.u, 0, base);
	tap_equal(vhost_user_take_backend(&b.u, TIMEOUT_MS),
		  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		  "and again when the first ring starts");
	vhost_user_start_ring(&b.u, 1, base);
	tap_equal(vhost_user_take_backend(&b.u, IDLE_MS), -EAGAIN,
		  "and not when the next one does");
	vhost_user_get_config(&b.u, &config);
	tap_equal(config.capacity, after / SECTOR, "it is in the configuration");
	vhost_user_get_vring_base(&b.u, 0, &base);
	vhost_user_get_vring_base(&b.u, 1, &base);
	vhost_user_start_ring(&b.u, 0, base);
	tap_equal(vhost_user_take_backend(&b.u, IDLE_MS), -EAGAIN,
		  "a size that was asked for is not told");
	resize_loop(loop, file, before);
	tear_down_backend(&b);
}

/* Connect again as QEMU does, which does not ask for the configuration. */
static int connect_again(struct backend *b, uint64_t protocol_features)
{
	int ret;

	vhost_user_disconnect(&b->u);
	ret = vhost_user_connect(&b->u);
	if (!ret)
		ret = vhost_user_negotiate(&b->u, protocol_features);
	if (!ret)
		ret = vhost_user_open_backend(&b->u);
	return ret;
}

static void test_resize_while_away(const char *loop, const char *file,
				   const char *socket)
{
	const off_t before = 64 << 20, after = 96 << 20;
	struct virtio_blk_config config;
	struct backend b;
	int ret;

	set_up_backend(&b, socket, 2);
	vhost_user_disconnect(&b.u);
	resize_loop(loop, file, after);
	ret = connect_again(&b, ALL_PROTOCOL);
	if (!ret)
		ret = vhost_user_configure(&b.u);
	tap_equal(ret, 0, "a front end connects again after a resize");
	tap_equal(vhost_user_take_backend(&b.u, TIMEOUT_MS),
		  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, "and is told");
	tap_equal(vhost_user_take_backend(&b.u, IDLE_MS), -EAGAIN, "once");
	resize_loop(loop, file, before);

	connect_again(&b, ALL_PROTOCOL & ~VHOST_USER_PROTOCOL_F_CONFIG);
	vhost_user_configure(&b.u);
	tap_equal(vhost_user_take_backend(&b.u, IDLE_MS), -EAGAIN,
		  "not without CONFIG");
	connect_again(&b, ALL_PROTOCOL & ~VHOST_USER_PROTOCOL_F_BACKEND_REQ);
	vhost_user_configure(&b.u);
	tap_equal(vhost_user_take_backend(&b.u, IDLE_MS), -EAGAIN,
		  "nor without BACKEND_REQ");

	connect_again(&b, ALL_PROTOCOL);
	close(b.u.backend_fd);
	b.u.backend_fd = -1;
	ret = vhost_user_configure(&b.u);
	if (!ret)
		ret = read_page(&b, 0);
	tap_equal(ret, VIRTIO_BLK_S_OK,
		  "a front end that has closed the channel is served");

	ret = connect_again(&b, ALL_PROTOCOL);
	if (!ret)
		ret = vhost_user_get_config(&b.u, &config);
	if (!ret)
		ret = vhost_user_configure(&b.u);
	tap_equal(ret, 0, "a front end that knows the size goes on with rings in use");
	tap_equal(vhost_user_take_backend(&b.u, TIMEOUT_MS),
		  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		  "and is told: its driver may have seen another size");
	tear_down_backend(&b);
}

static void test_reset(const char *socket)
{
	struct backend b;
	unsigned int i;

	set_up_backend(&b, socket, 2);
	read_page(&b, 0);
	tap_equal(vhost_user_reset_device(&b.u), 0, "a running device is reset");
	offer_read(&b, 0);
	tap_ok(!answers_meanwhile(&b, 0), "and its rings are stopped");
	for (i = 0; i < 2; i++) {
		vhost_client_get_used(&b.f.c, i, NULL, 0);
		b.f.c.queues[i].vring.avail->idx = b.f.c.queues[i].vring.used->idx;
	}
	tap_equal(vhost_user_configure(&b.u), 0, "it can be set up again");
	tap_equal(read_page(&b, 1), VIRTIO_BLK_S_OK, "and serves");
	tear_down_backend(&b);
}

/* A second VMM must not disturb the first, and is served when that one has gone. */
static void test_connections(const char *socket)
{
	struct backend first, second;
	uint64_t features;
	unsigned int i;
	int ret = 0;

	set_up_backend(&first, socket, 1);
	if (vhost_user_open(&second.u, &second.f.c, socket, MEMORY))
		tap_ok(1, "a second connection is refused");
	else
		vhost_user_close(&second.u);
	tap_equal(read_page(&first, 0), VIRTIO_BLK_S_OK,
		  "a second connection doesn't disturb the first");
	tear_down_backend(&first);
	for (i = 0; i < 20 && !ret; i++) {
		connect_backend(&second, socket, ALL_PROTOCOL);
		ret = vhost_user_get_features(&second.u, &features);
		tear_down_backend(&second);
	}
	tap_equal(ret, 0, "connections that do little follow each other");
	set_up_backend(&first, socket, QUEUES);
	tap_equal(read_page(&first, QUEUES - 1), VIRTIO_BLK_S_OK,
		  "and one that does more is served then");
	tear_down_backend(&first);
}

static void test_unknown(const char *socket)
{
	struct vhost_user_msg msg;
	struct backend b;

	connect_backend(&b, socket, ALL_PROTOCOL);
	vhost_user_send(&b.u, &msg, 4711, 0, 0, NULL, 0);
	tap_ok(vhost_user_is_closed(&b.u, TIMEOUT_MS),
	       "an unknown message ends the connection");
	tear_down_backend(&b);
	set_up_backend(&b, socket, 1);
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "and the next one is served");
	tear_down_backend(&b);
}

/* Lines of a file that have a text. */
static unsigned int count_lines(const char *path, const char *text)
{
	FILE *file = fopen(path, "r");
	unsigned int num = 0;
	char line[1024];

	if (!file)
		tap_bail("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file))
		num += !!strstr(line, text);
	fclose(file);
	return num;
}

/*
 * A driver that begins anew has to choose the cache mode, and a channel that is no socket
 * takes no news of it. A connection in which that repeats must not fill the log.
 */
static void test_notes(const char *socket, const char *log)
{
	static const char * const notes[] = {
		"the driver's choice of the write cache is not known",
		"the front end is not told of a new configuration",
	};
	unsigned int i, before[2];
	struct vhost_user_msg msg;
	struct backend b;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (i = 0; i < 2; i++)
		before[i] = count_lines(log, notes[i]);
	connect_backend(&b, socket, ALL_PROTOCOL & ~VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
	run_backend(&b, 1, ALL_FEATURES);
	read_page(&b, 0);
	for (i = 0; i < 3; i++) {
		vhost_user_reset_device(&b.u);
		get_wce(&b);
		vhost_user_send(&b.u, &msg, VHOST_USER_SET_BACKEND_REQ_FD, 0, 0, &null, 1);
		vhost_user_configure(&b.u);
	}
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "a connection that goes on after a note");
	tear_down_backend(&b);
	connect_backend(&b, socket, ALL_PROTOCOL);
	for (i = 0; i < 2; i++)
		tap_equal(count_lines(log, notes[i]) - before[i], 1, "says once: %s", notes[i]);
	tear_down_backend(&b);
	close(null);
}

int main(int argc, char **argv)
{
	const char *disk, *socket;

	if (argc != 10)
		tap_bail("usage: %s DISK SOCKET CACHED CACHED_SOCKET CACHED_LOG READONLY_SOCKET LOOP FILE LOOP_SOCKET",
			 argv[0]);
	disk = argv[1];
	socket = argv[2];
	test_features(disk, socket);
	test_features(argv[3], argv[4]);
	test_config(disk, socket);
	test_config(argv[3], argv[4]);
	test_acks(socket);
	test_last_header(socket);
	test_every_request(socket);
	test_enable(socket);
	test_no_protocol(disk, socket);
	test_ring_by_ring(disk, socket);
	test_orders(socket);
	test_late_messages(socket);
	test_new_eventfds(socket);
	test_read_only(argv[6]);
	test_cache(argv[4]);
	test_stopped_flushes(argv[3], argv[4]);
	test_memory_slots(disk, socket);
	test_memory_gone(socket);
	test_log(socket);
	test_resize(argv[7], argv[8], argv[9]);
	test_resize_while_stopped(argv[7], argv[8], argv[9]);
	test_resize_while_away(argv[7], argv[8], argv[9]);
	test_reset(socket);
	test_connections(socket);
	test_unknown(socket);
	test_notes(argv[4], argv[5]);
	return tap_end();
}
