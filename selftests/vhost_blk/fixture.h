/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of requests begin with: a device that runs on a disk, and ways
 * to send it one request and wait for the answer.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "vhost_client.h"

#define DEVICE		"/dev/vhost-blk"
#define MEMORY		(32 << 20)
#define TIMEOUT_MS	(20000 * limit_factor())
#define RING		256
#define SECTOR		512
#define SERIAL		"vhost-blk-test"

#define ALL_FEATURES	(~0ULL)

/* A device with all its queues running, and a place for a request's ends. */
struct fixture {
	struct vhost_client c;
	struct virtio_blk_outhdr *hdr;
	uint8_t *status;
	int disk;
};

/* In two steps, for who has something to do between them. */
static inline void set_up_bound(struct fixture *f, const char *disk, int flags,
				unsigned int num_queues)
{
	int ret;

	f->disk = open(disk, flags | O_DIRECT | O_CLOEXEC);
	if (f->disk < 0)
		tap_bail("%s: %s", disk, strerror(errno));
	ret = vhost_client_open(&f->c, DEVICE, MEMORY);
	if (!ret)
		ret = vhost_client_bind(&f->c, f->disk, 0, num_queues, SERIAL);
	if (ret)
		tap_bail("can't bind %s: %s", disk, strerror(-ret));
}

static inline void set_up_running(struct fixture *f, unsigned int num_queues,
				  uint64_t features)
{
	int ret = vhost_client_setup(&f->c, features, num_queues, RING);

	if (!ret)
		ret = vhost_client_run(&f->c, true);
	if (ret)
		tap_bail("can't run " DEVICE ": %s", strerror(-ret));
	f->hdr = vhost_client_alloc(&f->c, sizeof(*f->hdr), 16);
	f->status = vhost_client_alloc(&f->c, 1, 1);
}

static inline void set_up(struct fixture *f, const char *disk, int flags,
			  unsigned int num_queues, uint64_t features)
{
	set_up_bound(f, disk, flags, num_queues);
	set_up_running(f, num_queues, features);
}

static inline void tear_down(struct fixture *f)
{
	vhost_client_close(&f->c);
	close(f->disk);
}

static inline bool is_claimed(const char *disk)
{
	int fd = open(disk, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EBUSY;
}

/* Sends one chain, waits for it; its status, or -1 if it never came back. */
static inline int request(struct fixture *f, unsigned int queue,
			  const struct vhost_client_seg *segs, unsigned int num,
			  struct vring_desc *indirect, uint32_t *len)
{
	*f->status = 0xee;
	if (vhost_client_add(&f->c, queue, segs, num, indirect) < 0)
		tap_bail("ring too small for %u segments", num);
	vhost_client_kick(&f->c, queue, false);
	if (vhost_client_get_used(&f->c, queue, len, TIMEOUT_MS) < 0)
		return -1;
	return *f->status;
}

/* A request with its data in one piece; @bytes may be 0. */
static inline int simple(struct fixture *f, unsigned int queue, uint32_t type,
			 uint64_t sector, void *data, uint32_t bytes, uint32_t *len)
{
	struct vhost_client_seg segs[3] = { { f->hdr, sizeof(*f->hdr), false } };
	unsigned int num = 1;

	f->hdr->type = type;
	f->hdr->ioprio = 0;
	f->hdr->sector = sector;
	if (bytes)
		segs[num++] = (struct vhost_client_seg){
			data, bytes, type != VIRTIO_BLK_T_OUT
		};
	segs[num++] = (struct vhost_client_seg){ f->status, 1, true };
	return request(f, queue, segs, num, NULL, len);
}

static inline void fill(uint8_t *data, size_t bytes, unsigned int seed)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		data[i] = (seed = seed * 1103515245 + 12345) >> 16;
}

/* Where pieces_match() writes and reads, in sectors. */
#define PIECES_SECTOR	1024

/* Data in @num pieces of @bytes bytes: what is written must come back. */
static inline int pieces_match(struct fixture *f, unsigned int num, uint32_t bytes,
			       size_t stride, bool indirect)
{
	struct vhost_client_seg segs[RING + 2];
	struct vring_desc *table = NULL;
	uint8_t *out, *in;
	size_t mark = f->c.mem_free;
	unsigned int i, type;
	int ok = 1;

	out = vhost_client_alloc(&f->c, num * stride, 4096);
	in = vhost_client_alloc(&f->c, num * stride, 4096);
	if (indirect)
		table = vhost_client_alloc(&f->c, (num + 2) * sizeof(*table), 16);
	if (!out || !in)
		tap_bail("out of guest memory");
	fill(out, num * stride, num + bytes);
	memset(in, 0, num * stride);

	for (type = VIRTIO_BLK_T_OUT; ; type = VIRTIO_BLK_T_IN) {
		f->hdr->type = type;
		f->hdr->sector = PIECES_SECTOR;
		segs[0] = (struct vhost_client_seg){ f->hdr, sizeof(*f->hdr), false };
		for (i = 0; i < num; i++)
			segs[i + 1] = (struct vhost_client_seg){
				(type == VIRTIO_BLK_T_OUT ? out : in) + i * stride,
				bytes, type == VIRTIO_BLK_T_IN
			};
		segs[num + 1] = (struct vhost_client_seg){ f->status, 1, true };
		if (request(f, 0, segs, num + 2, table, NULL) != VIRTIO_BLK_S_OK)
			ok = 0;
		if (type == VIRTIO_BLK_T_IN)
			break;
	}
	for (i = 0; i < num && ok; i++)
		ok = !memcmp(out + i * stride, in + i * stride, bytes);
	f->c.mem_free = mark;
	return ok;
}

/* Puts @num reads of their own into queue 0 without a kick. */
static inline void add_reads(struct fixture *f, unsigned int num, uint8_t *statuses)
{
	struct virtio_blk_outhdr *hdrs;
	struct vhost_client_seg segs[3];
	unsigned int i;

	hdrs = vhost_client_alloc(&f->c, num * sizeof(*hdrs), 16);
	for (i = 0; i < num; i++) {
		hdrs[i].type = VIRTIO_BLK_T_IN;
		hdrs[i].sector = i * 8;
		segs[0] = (struct vhost_client_seg){ &hdrs[i], 16, false };
		segs[1] = (struct vhost_client_seg){
			vhost_client_alloc(&f->c, 4096, 4096), 4096, true
		};
		segs[2] = (struct vhost_client_seg){ &statuses[i], 1, true };
		if (vhost_client_add(&f->c, 0, segs, 3, NULL) < 0)
			tap_bail("ring too small");
	}
}

/* Sends @num reads to queue 0; their statuses, none of which is there yet. */
static inline uint8_t *send_reads(struct fixture *f, unsigned int num)
{
	uint8_t *statuses = vhost_client_alloc(&f->c, num, 1);

	memset(statuses, 0xee, num);
	add_reads(f, num, statuses);
	vhost_client_kick(&f->c, 0, true);
	return statuses;
}

/* Takes answers of queue 0; how many of @num came. */
static inline unsigned int take_answers(struct fixture *f, unsigned int num)
{
	unsigned int i;

	for (i = 0; i < num; i++)
		if (vhost_client_get_used(&f->c, 0, NULL, TIMEOUT_MS) < 0)
			break;
	return i;
}

/* Sends a read and returns whether it is answered without any translation. */
static inline bool read_is_answered(struct fixture *f, void *data, int timeout_ms)
{
	struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ data, 4096, true },
		{ f->status, 1, true },
	};
	volatile uint16_t *used = &f->c.queues[0].vring.used->idx;
	uint16_t before = *used;

	f->hdr->type = VIRTIO_BLK_T_IN;
	f->hdr->sector = 0;
	vhost_client_add(&f->c, 0, segs, 3, NULL);
	vhost_client_kick(&f->c, 0, true);
	while (*used == before && timeout_ms-- > 0)
		usleep(1000);
	return *used != before;
}

/*
 * Sends a read to a slow disk, and gives the device time to fetch it. Returns whether it is in
 * flight then.
 */
static inline bool read_is_in_flight(struct fixture *f, void *data)
{
	*f->status = 0xee;
	return !read_is_answered(f, data, 20 * limit_factor()) && *f->status == 0xee;
}

/* The kernel keeps so many translations, and drops the oldest for a new one. */
static inline unsigned int max_translations(void)
{
	FILE *file = fopen("/sys/module/vhost/parameters/max_iotlb_entries", "re");
	unsigned int max = 0;

	if (!file || fscanf(file, "%u", &max) != 1)
		tap_bail("vhost doesn't say how many translations it keeps");
	fclose(file);
	return max;
}

static inline unsigned int count_ok(const uint8_t *statuses, unsigned int num)
{
	unsigned int i, done = 0;

	for (i = 0; i < num; i++)
		done += statuses[i] == VIRTIO_BLK_S_OK;
	return done;
}

/*
 * Whether the condition comes true within two seconds on a fast machine. A
 * thread that has ended is to be seen until the kernel has buried it.
 */
#define soon(condition)							\
({									\
	int tries_ = 2000 * limit_factor();				\
	bool met_;							\
									\
	do {								\
		met_ = (condition);					\
	} while (!met_ && tries_-- && !usleep(1000));			\
	met_;								\
})

/* In seconds. */
static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Until a queue has so many requests in flight. */
static inline void await_in_flight(struct fixture *f, unsigned int queue, unsigned int num)
{
	double end = now() + TIMEOUT_MS / 1000;

	while (vhost_client_counter(&f->c, queue, "in_flight") < num) {
		if (now() > end)
			tap_bail("queue %u has no %u requests in flight", queue, num);
		usleep(1000);
	}
}

#endif
