// SPDX-License-Identifier: GPL-2.0
/*
 * A guest behind a virtual IOMMU on vhost-blkd: what the daemon asks, what it is told, and
 * what it does not believe.
 *
 * usage: iotlb DISK SOCKET SLOW_SOCKET
 *	DISK, SOCKET		a disk that may be overwritten, 64 MiB or more, and the
 *				daemon that serves it with QUEUES queues
 *	SLOW_SOCKET		of a daemon whose disk needs tenths of a second for a
 *				request
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

#define PAGE	4096
/* As iotlb.sh tells the daemons. */
#define QUEUES	4
#define HALF	(MEMORY / 2)
/* How long a request is watched that is to wait. */
#define IDLE_MS	(200 * limit_factor())

/* A connected one. */
static void use_iotlb(struct backend *b, const char *socket, size_t granule)
{
	connect_backend(b, socket, ALL_PROTOCOL);
	if (vhost_user_use_iotlb(&b->u, granule))
		tap_bail("no IOTLB");
}

/* Rings that run as soon as questions are answered. */
static void set_up_iotlb(struct backend *b, const char *socket,
			 unsigned int num_queues, size_t granule)
{
	use_iotlb(b, socket, granule);
	run_backend(b, num_queues, ALL_FEATURES);
	/* In no page of a ring's. */
	b->f.hdr = vhost_client_alloc(&b->f.c, PAGE, PAGE);
	b->f.status = (uint8_t *)(b->f.hdr + 1);
}

/* The same with one ring that has served a read, and so runs. */
static void set_up_running_iotlb(struct backend *b, const char *socket)
{
	set_up_iotlb(b, socket, 1, PAGE);
	if (read_page(b, 0) != VIRTIO_BLK_S_OK)
		tap_bail("a read behind an IOMMU fails");
}

static bool is_offered(const char *socket, uint64_t protocol_features)
{
	uint64_t features = 0;
	struct backend b;

	connect_backend(&b, socket, protocol_features);
	vhost_user_get_features(&b.u, &features);
	tear_down_backend(&b);
	return features >> VIRTIO_F_ACCESS_PLATFORM & 1;
}

static void test_offer(const char *socket)
{
	tap_ok(!is_offered(socket, VHOST_USER_PROTOCOL_F_BACKEND_REQ),
	       "no IOMMU without acknowledgements");
	tap_ok(!is_offered(socket, VHOST_USER_PROTOCOL_F_REPLY_ACK),
	       "nor without a channel for questions");
	tap_ok(is_offered(socket, VHOST_USER_PROTOCOL_F_BACKEND_REQ |
			  VHOST_USER_PROTOCOL_F_REPLY_ACK), "with both there is one");
}

static void test_data(const char *socket, size_t granule, const char *what)
{
	struct backend b;

	set_up_iotlb(&b, socket, 1, granule);
	tap_ok(pieces_match(&b.f, 1, 512, PAGE, false), "%s: a sector", what);
	tap_ok(pieces_match(&b.f, 200, 1536, 2048, false),
	       "%s: 200 pieces across pages", what);
	tap_ok(pieces_match(&b.f, 100, 4096, 8192, true),
	       "%s: an indirect table", what);
	tap_ok(b.f.c.misses > 0, "%s: the daemon has asked", what);
	tear_down_backend(&b);
}

static void test_traffic(const char *disk, const char *socket)
{
	enum { REQUESTS = 300 };
	struct backend b;
	struct traffic t;

	set_up_iotlb(&b, socket, QUEUES, PAGE);
	open_disk(&b, disk);
	traffic_init(&t, &b.f, QUEUES, true);
	tap_ok(traffic_run(&t, REQUESTS) && t.good == t.sent && !t.wrong &&
	       traffic_matches_disk(&t), "%d requests on %d rings", REQUESTS, QUEUES);
	traffic_free(&t);
	tear_down_backend(&b);
}

static void test_miss(const char *socket)
{
	struct vhost_iotlb_msg miss = {};
	struct backend b;
	uint8_t *data;

	set_up_running_iotlb(&b, socket);
	data = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	vhost_client_iotlb_unmap(&b.f.c, data, PAGE);
	tap_ok(!read_is_answered(&b.f, data, IDLE_MS),
	       "a request whose data has no translation waits");
	tap_equal(vhost_user_take_miss(&b.u, &miss, TIMEOUT_MS), 0, "the daemon asks");
	tap_ok(miss.iova == vhost_client_dma(&b.f.c, data) &&
	       miss.perm & VHOST_ACCESS_WO, "for the data, to be written");
	vhost_user_reply_miss(&b.u);
	tap_equal(vhost_user_take_miss(&b.u, &miss, IDLE_MS), -EAGAIN,
		  "once, if there is no answer");
	tap_equal(vhost_client_iotlb_map(&b.f.c, data, PAGE, VHOST_ACCESS_RW), 0,
		  "it takes a late one");
	tap_ok(vhost_client_get_used(&b.f.c, 0, NULL, TIMEOUT_MS) >= 0,
	       "and the request goes on");
	tear_down_backend(&b);
}

static void test_ring_waits(const char *socket)
{
	struct vhost_iotlb_msg miss = {};
	struct backend b;
	uint16_t base;
	void *data;

	set_up_iotlb(&b, socket, 1, PAGE);
	data = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	tap_ok(!read_is_answered(&b.f, data, IDLE_MS),
	       "a ring does nothing as long as nobody says where it is");
	tap_equal(vhost_user_take_miss(&b.u, &miss, TIMEOUT_MS), 0, "the daemon asks");
	tap_equal(miss.iova, vhost_client_dma(&b.f.c, b.f.c.queues[0].vring.desc),
		  "for the ring's first byte");
	tap_equal(vhost_user_get_vring_base(&b.u, 0, &base), 0,
		  "the ring can be stopped while the question is open");
	tap_equal(base, 0, "where it has not begun");
	vhost_user_reply_miss(&b.u);
	vhost_user_start_ring(&b.u, 0, base);
	tap_ok(vhost_client_get_used(&b.f.c, 0, NULL, TIMEOUT_MS) >= 0,
	       "and started, and serves when it is told");
	tear_down_backend(&b);
}

static void test_ring_unmapped(const char *socket)
{
	struct backend b;
	int i;

	set_up_iotlb(&b, socket, 1, PAGE);
	for (i = 0; i < 20; i++) {
		vhost_client_iotlb_unmap(&b.f.c, b.f.c.queues[0].vring.used, PAGE);
		vhost_client_iotlb_unmap(&b.f.c, b.f.c.queues[0].vring.desc, PAGE);
		if (read_page(&b, 0))
			break;
	}
	tap_equal(i, 20, "a ring that is unmapped %d times is asked for again", 20);
	tear_down_backend(&b);
}

static bool is_answered(struct backend *b)
{
	struct vhost_client_queue *q = &b->f.c.queues[0];

	return __atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) !=
	       q->last_used && *b->f.status == VIRTIO_BLK_S_OK;
}

static void test_invalidation(const char *slow)
{
	struct backend b;
	uint8_t *data;
	uint16_t base;
	bool slowly;

	set_up_running_iotlb(&b, slow);
	data = vhost_client_alloc(&b.f.c, 2 * PAGE, PAGE);
	simple(&b.f, 0, VIRTIO_BLK_T_IN, 0, data, 2 * PAGE, NULL);
	slowly = read_is_in_flight(&b.f, data);
	vhost_client_iotlb_unmap(&b.f.c, data + PAGE, PAGE);
	tap_ok(slowly && !is_answered(&b),
	       "to take another translation away waits for no request");
	vhost_client_iotlb_unmap(&b.f.c, data, PAGE);
	tap_ok(is_answered(&b), "to take away that of a request waits for it");
	vhost_client_get_used(&b.f.c, 0, NULL, TIMEOUT_MS);

	simple(&b.f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL);
	slowly = read_is_in_flight(&b.f, data);
	vhost_client_iotlb_unmap(&b.f.c, b.f.c.queues[0].vring.used, PAGE);
	tap_ok(slowly && is_answered(&b), "to take away the ring's waits for all");
	tap_equal(vhost_user_get_vring_base(&b.u, 0, &base), 0,
		  "and then it stops without a question");
	tap_equal(base, b.f.c.queues[0].vring.used->idx, "at the right place");
	tear_down_backend(&b);
}

/* The kernel drops the oldest translation for a new one. */
static void test_evicted(const char *socket)
{
	unsigned int i, max = max_translations();
	struct backend b;
	uint8_t *data;
	int ret = 0;

	set_up_running_iotlb(&b, socket);
	data = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	for (i = 0; i < max && !ret; i++)
		ret = vhost_client_iotlb_map(&b.f.c, b.f.c.mem + b.f.c.mem_size - PAGE,
					     PAGE, VHOST_ACCESS_RW);
	tap_equal(ret, 0, "the kernel gets more translations than it keeps");
	vhost_client_iotlb_map(&b.f.c, data, PAGE, VHOST_ACCESS_RW);
	vhost_client_iotlb_map(&b.f.c, b.f.hdr, PAGE, VHOST_ACCESS_RW);
	tap_ok(read_is_answered(&b.f, data, TIMEOUT_MS),
	       "it has not lost those of the ring");
	tear_down_backend(&b);
}

static void test_lies(const char *socket)
{
	uint64_t iova = VHOST_CLIENT_IOVA_BASE + MEMORY;
	struct vhost_client *c;
	struct backend b;
	uint64_t mem;
	unsigned int i;

	set_up_running_iotlb(&b, socket);
	c = &b.f.c;
	mem = (uintptr_t)c->mem;
	const struct {
		const char *what;
		uint8_t type;
		uint64_t iova, size, uaddr;
		uint8_t perm;
	} lies[] = {
		{ "an address outside of guest memory", VHOST_IOTLB_UPDATE, iova, PAGE,
		  mem - PAGE, VHOST_ACCESS_RW },
		{ "the first behind it", VHOST_IOTLB_UPDATE, iova, PAGE, mem + MEMORY,
		  VHOST_ACCESS_RW },
		{ "its end and more", VHOST_IOTLB_UPDATE, iova, 2 * PAGE,
		  mem + MEMORY - PAGE, VHOST_ACCESS_RW },
		{ "a size that wraps there", VHOST_IOTLB_UPDATE, 0, -mem,
		  mem + PAGE, VHOST_ACCESS_RW },
		{ "no size", VHOST_IOTLB_UPDATE, iova, 0, mem, VHOST_ACCESS_RW },
		{ "an iova that wraps", VHOST_IOTLB_UPDATE, -2ULL * PAGE, 4 * PAGE, mem,
		  VHOST_ACCESS_RW },
		{ "an unknown access", VHOST_IOTLB_UPDATE, iova, PAGE, mem, 4 },
		{ "a miss", VHOST_IOTLB_MISS, iova, PAGE, mem, VHOST_ACCESS_RW },
		{ "an unknown type", 200, iova, PAGE, mem, VHOST_ACCESS_RW },
		{ "an invalidation of nothing", VHOST_IOTLB_INVALIDATE, iova, 0, 0, 0 },
		{ "an invalidation that wraps", VHOST_IOTLB_INVALIDATE, -2ULL * PAGE,
		  4 * PAGE, 0, 0 },
	};

	for (i = 0; i < sizeof(lies) / sizeof(*lies); i++)
		tap_equal(vhost_client_iotlb_send(c, lies[i].type, lies[i].iova,
						  lies[i].size, lies[i].uaddr,
						  lies[i].perm), -EREMOTEIO,
			  "refused: %s", lies[i].what);
	tap_equal(vhost_client_iotlb_send(c, VHOST_IOTLB_INVALIDATE, 0, -1ULL, 0, 0), 0,
		  "everything can be taken away");
	tap_equal(read_page(&b, 0), VIRTIO_BLK_S_OK, "and the ring serves after all that");
	tear_down_backend(&b);
}

/* Tells a ring's addresses. Whether the connection is still there afterwards. */
static bool takes_addresses(struct backend *b, uint64_t desc, uint64_t used,
			    unsigned int flags)
{
	struct vring *vring = &b->f.c.queues[0].vring;
	struct vhost_user_msg msg = { .addr = {
		.flags = flags,
		.desc_user_addr = desc,
		.avail_user_addr = vhost_client_dma(&b->f.c, vring->avail),
		.used_user_addr = used,
	} };
	uint64_t features;

	vhost_user_send(&b->u, &msg, VHOST_USER_SET_VRING_ADDR, 0, sizeof(msg.addr), NULL, 0);
	return !vhost_user_get_features(&b->u, &features);
}

static void test_bad_addresses(const char *socket)
{
	struct vhost_client_queue *q;
	struct backend b;
	uint16_t base;

	set_up_running_iotlb(&b, socket);
	q = &b.f.c.queues[0];
	tap_ok(!takes_addresses(&b, vhost_client_dma(&b.f.c, q->vring.desc),
				vhost_client_dma(&b.f.c, q->vring.used),
				1U << VHOST_VRING_F_LOG),
	       "a ring that is to be logged, without a log, ends the connection");
	tear_down_backend(&b);

	set_up_running_iotlb(&b, socket);
	q = &b.f.c.queues[0];
	vhost_user_get_vring_base(&b.u, 0, &base);
	takes_addresses(&b, vhost_client_dma(&b.f.c, q->vring.desc), -8ULL, 0);
	tap_ok(vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_KICK, 0, q->kick_fd) < 0,
	       "and so does one that wraps around");
	tear_down_backend(&b);
}

static void test_ring_at_0(const char *socket)
{
	struct vhost_client_queue *q;
	struct backend b;
	uint16_t base;
	int ret;

	set_up_running_iotlb(&b, socket);
	q = &b.f.c.queues[0];
	vhost_user_get_vring_base(&b.u, 0, &base);
	takes_addresses(&b, 0, vhost_client_dma(&b.f.c, q->vring.used), 0);
	ret = vhost_client_iotlb_send(&b.f.c, VHOST_IOTLB_UPDATE, 0,
				      RING * sizeof(struct vring_desc),
				      (uintptr_t)q->vring.desc, VHOST_ACCESS_RW);
	if (!ret)
		ret = vhost_user_set_vring_fd(&b.u, VHOST_USER_SET_VRING_KICK, 0, q->kick_fd);
	tap_equal(ret, 0, "a ring at address 0 starts");
	tap_ok(!ret && read_page(&b, 0) == VIRTIO_BLK_S_OK, "and serves");
	tear_down_backend(&b);
}

static void test_not_negotiated(const char *socket)
{
	struct backend b;

	use_iotlb(&b, socket, PAGE);
	tap_equal(vhost_client_iotlb_map(&b.f.c, b.f.c.mem, PAGE, VHOST_ACCESS_RW),
		  -EREMOTEIO, "refused: a translation before the feature is negotiated");
	tear_down_backend(&b);
}

static void answer_all(struct backend *b)
{
	while (vhost_client_iotlb_serve(&b->f.c, IDLE_MS) > 0)
		;
}

/* Two regions that follow each other in every address space. */
static void test_regions(const char *socket)
{
	struct backend b;
	uint8_t *data;

	use_iotlb(&b, socket, PAGE);
	vhost_user_set_up_device(&b.u, ALL_FEATURES);
	vhost_user_add_mem(&b.u, 0, HALF);
	vhost_user_add_mem(&b.u, HALF, HALF);
	tap_equal(vhost_client_iotlb_map(&b.f.c, b.f.c.mem + HALF - PAGE, 2 * PAGE,
					 VHOST_ACCESS_RW), -EREMOTEIO,
		  "refused: a translation into two regions");
	vhost_client_alloc_rings(&b.f.c, 1, RING);
	alloc_ends(&b.f);
	vhost_user_start_ring(&b.u, 0, 0);
	data = b.f.c.mem + HALF;
	tap_equal(simple(&b.f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL),
		  VIRTIO_BLK_S_OK, "a read into the second one");
	tap_equal(vhost_user_rem_mem(&b.u, HALF, HALF), 0, "which is removed");
	memset(data, 0x77, PAGE);
	read_is_answered(&b.f, data, 1);
	answer_all(&b);
	tap_ok(!is_answered(&b) && data[0] == 0x77 && data[PAGE - 1] == 0x77,
	       "its translations went with it");
	tap_equal(vhost_user_add_mem(&b.u, HALF, HALF), 0, "it comes back");
	vhost_client_iotlb_map(&b.f.c, data, PAGE, VHOST_ACCESS_RW);
	tap_ok(vhost_client_get_used(&b.f.c, 0, NULL, TIMEOUT_MS) >= 0 &&
	       *b.f.status == VIRTIO_BLK_S_OK, "and so does the read");
	tear_down_backend(&b);
}

/* As a VMM does it that resets a machine: the next driver maps other pages. */
static void test_started_again(const char *socket)
{
	struct backend b;
	uint16_t base;
	uint8_t *data;
	int ret;

	set_up_running_iotlb(&b, socket);
	data = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	simple(&b.f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL);
	ret = vhost_user_get_vring_base(&b.u, 0, &base);
	if (!ret)
		ret = vhost_user_set_features(&b.u, b.f.c.features |
					      1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
	if (!ret)
		ret = vhost_user_start_ring(&b.u, 0, base);
	tap_equal(ret, 0, "a ring is stopped, gets its features and starts again");
	tap_ok(!read_is_answered(&b.f, data, IDLE_MS),
	       "what was mapped before is not used any more");
	tap_ok(vhost_client_get_used(&b.f.c, 0, NULL, TIMEOUT_MS) >= 0,
	       "but asked for again");
	tear_down_backend(&b);
}

static void test_log(const char *socket)
{
	unsigned long *bitmap;
	struct backend b;
	uint8_t *data, *other;

	set_up_running_iotlb(&b, socket);
	data = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	other = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	tap_equal(vhost_user_log_start(&b.u), 0, "a dirty log is begun");
	bitmap = calloc(1, b.f.c.log_bytes);
	tap_equal(simple(&b.f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL),
		  VIRTIO_BLK_S_OK, "a read succeeds");
	vhost_client_log_take(&b.f.c, bitmap);
	tap_ok(vhost_client_log_test(&b.f.c, bitmap, data) &&
	       vhost_client_log_test(&b.f.c, bitmap, b.f.status) &&
	       vhost_client_log_test(&b.f.c, bitmap, b.f.c.queues[0].vring.used),
	       "data, status and used ring are in the log by guest physical address");
	tap_ok(!vhost_client_log_test(&b.f.c, bitmap, other), "and nothing else");
	tap_equal(vhost_user_log_stop(&b.u), 0, "the log is ended");
	free(bitmap);
	tear_down_backend(&b);
}

/* A read that an earlier daemon has left in the record. */
static void test_redo(const char *socket)
{
	struct vhost_blk_inflight *record;
	struct vhost_iotlb_msg miss = {};
	struct backend b;
	uint16_t base;
	void *data;
	int ret;

	set_up_running_iotlb(&b, socket);
	vhost_user_get_vring_base(&b.u, 0, &base);
	record = (void *)b.u.inflight;
	data = vhost_client_alloc(&b.f.c, PAGE, PAGE);
	vhost_client_iotlb_unmap(&b.f.c, data, PAGE);
	read_is_answered(&b.f, data, 0);
	record->desc[b.f.c.queues[0].vring.avail->ring[base]].inflight = 1;
	ret = vhost_user_start_ring(&b.u, 0, base + 1);
	if (!ret)
		ret = vhost_user_take_miss(&b.u, &miss, TIMEOUT_MS);
	tap_ok(!ret && miss.iova == vhost_client_dma(&b.f.c, data),
	       "the daemon asks for what is to be done again");
	tap_equal(vhost_user_log_start(&b.u), 0, "a dirty log does not wait for that");
	tap_equal(vhost_user_log_stop(&b.u), 0, "nor does its end");
	tap_ok(vhost_user_get_vring_base(&b.u, 0, &base) < 0,
	       "a stop before that is answered ends the connection");
	vhost_user_disconnect(&b.u);
	ret = vhost_user_connect(&b.u);
	if (!ret)
		ret = vhost_user_negotiate(&b.u, ALL_PROTOCOL);
	if (!ret)
		ret = vhost_user_use_iotlb(&b.u, PAGE);
	if (!ret)
		ret = vhost_user_configure(&b.u);
	tap_equal(ret, 0, "the daemon serves the next one");
	tap_ok(vhost_client_get_used(&b.f.c, 0, NULL, TIMEOUT_MS) >= 0 &&
	       *b.f.status == VIRTIO_BLK_S_OK, "in which the read is done again");
	tear_down_backend(&b);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		tap_bail("usage: %s DISK SOCKET SLOW_SOCKET", argv[0]);
	test_offer(argv[2]);
	test_data(argv[2], PAGE, "pages");
	test_data(argv[2], 0, "one translation");
	test_traffic(argv[1], argv[2]);
	test_miss(argv[2]);
	test_ring_waits(argv[2]);
	test_ring_unmapped(argv[2]);
	test_invalidation(argv[3]);
	test_evicted(argv[2]);
	test_lies(argv[2]);
	test_bad_addresses(argv[2]);
	test_ring_at_0(argv[2]);
	test_not_negotiated(argv[2]);
	test_regions(argv[2]);
	test_started_again(argv[2]);
	test_log(argv[2]);
	test_redo(argv[2]);
	return tap_end();
}
