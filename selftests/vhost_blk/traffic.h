/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random reads and writes, several at a time over all queues, held against a model
 * of what the disk has to hold: data in up to 200 pieces at any address and of any
 * length, in the ring or in an indirect table.
 *
 * Requests under way at the same time never meet: each slot has its own area of
 * the disk.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <stdbool.h>
#include <sys/ioctl.h>
#include <linux/fs.h>

#include "fixture.h"

#define TRAFFIC_SLOTS	8
#define TRAFFIC_AREA	(1 << 20)	/* bytes of a slot on the disk */
#define TRAFFIC_BYTES	(TRAFFIC_SLOTS * TRAFFIC_AREA)
#define TRAFFIC_MAX	(128 << 10)	/* bytes of a request */
#define TRAFFIC_PIECES	200
/* Where the pieces are scattered. */
#define TRAFFIC_ROOM	(TRAFFIC_MAX + TRAFFIC_PIECES * 4096)
#define TRAFFIC_SECTOR	512		/* what is known or unknown of the disk */

/**
 * struct traffic_slot - a request that may be under way
 * @head: of its chain, or -1
 * @queue: always the same
 * @write: what it does, from @start on the disk to @bytes bytes behind
 * @data: what is written, in one piece
 * @room: guest memory for the pieces
 */
struct traffic_slot {
	int head;
	unsigned int queue;
	bool write;
	size_t start;
	size_t bytes;
	uint8_t *data;
	uint8_t *room;
	struct virtio_blk_outhdr *hdr;
	uint8_t *status;
	struct vring_desc *table;
	struct vhost_client_seg segs[TRAFFIC_PIECES + 2];
	unsigned int num_segs;
};

/**
 * struct traffic - a disk under random requests
 * @block: bytes of the disk's logical blocks
 * @model: what its first TRAFFIC_BYTES bytes have to be
 * @unknown: for each sector, whether a write failed since it was last known
 * @sent: requests so far, of which
 * @good: were answered with OK,
 * @failed: with IOERR,
 * @odd: with anything else, and of the good reads
 * @wrong: got data that is not the disk's
 */
struct traffic {
	struct fixture *f;
	unsigned int num_queues;
	bool writable;
	unsigned int random;
	unsigned int block;
	uint8_t *model;
	uint8_t *disk;
	bool *unknown;
	unsigned long sent;
	unsigned long good;
	unsigned long failed;
	unsigned long odd;
	unsigned long wrong;
	struct traffic_slot slots[TRAFFIC_SLOTS];
};

/* From 0 to @below - 1. */
static inline unsigned int traffic_random(struct traffic *t, unsigned int below)
{
	t->random = t->random * 1103515245 + 12345;
	return (t->random >> 8) % below;
}

static inline bool traffic_io_disk(struct traffic *t, bool write)
{
	size_t step = 1 << 20, at;

	for (at = 0; at < TRAFFIC_BYTES; at += step) {
		ssize_t ret = write ? pwrite(t->f->disk, t->disk + at, step, at) :
				      pread(t->f->disk, t->disk + at, step, at);

		if (ret != (ssize_t)step)
			return false;
	}
	return true;
}

/* Whether what was read is what has to be there; it settles what was unknown. */
static inline bool traffic_check(struct traffic *t, size_t start,
				 const uint8_t *data, size_t bytes)
{
	bool right = true;
	size_t i;

	for (i = 0; i < bytes; i += TRAFFIC_SECTOR) {
		size_t at = start + i;

		if (t->unknown[at / TRAFFIC_SECTOR])
			memcpy(t->model + at, data + i, TRAFFIC_SECTOR);
		else if (memcmp(t->model + at, data + i, TRAFFIC_SECTOR))
			right = false;
		t->unknown[at / TRAFFIC_SECTOR] = false;
	}
	return right;
}

/* Of a running device. The start of a disk that may be written is overwritten. */
static inline void traffic_init(struct traffic *t, struct fixture *f,
				unsigned int num_queues, bool writable)
{
	unsigned int i;

	memset(t, 0, sizeof(*t));
	t->f = f;
	t->num_queues = num_queues;
	t->writable = writable;
	t->random = 1;
	if (ioctl(f->disk, BLKSSZGET, &t->block))
		tap_bail("the disk has no block size: %s", strerror(errno));
	t->model = malloc(TRAFFIC_BYTES);
	t->unknown = calloc(TRAFFIC_BYTES / TRAFFIC_SECTOR, sizeof(*t->unknown));
	if (!t->model || !t->unknown ||
	    posix_memalign((void **)&t->disk, 4096, TRAFFIC_BYTES))
		tap_bail("out of memory");
	if (writable) {
		fill(t->disk, TRAFFIC_BYTES, getpid());
		if (!traffic_io_disk(t, true))
			tap_bail("can't write to the disk: %s", strerror(errno));
	} else if (!traffic_io_disk(t, false)) {
		tap_bail("can't read the disk: %s", strerror(errno));
	}
	memcpy(t->model, t->disk, TRAFFIC_BYTES);

	for (i = 0; i < TRAFFIC_SLOTS; i++) {
		struct traffic_slot *slot = &t->slots[i];

		slot->head = -1;
		slot->queue = i % num_queues;
		slot->data = malloc(TRAFFIC_MAX);
		slot->room = vhost_client_alloc(&f->c, TRAFFIC_ROOM, 4096);
		slot->hdr = vhost_client_alloc(&f->c, sizeof(*slot->hdr), 16);
		slot->status = vhost_client_alloc(&f->c, 1, 1);
		slot->table = vhost_client_alloc(&f->c, (TRAFFIC_PIECES + 2) *
						 sizeof(*slot->table), 16);
		if (!slot->data || !slot->table)
			tap_bail("out of memory");
	}
}

static inline void traffic_free(struct traffic *t)
{
	unsigned int i;

	for (i = 0; i < TRAFFIC_SLOTS; i++)
		free(t->slots[i].data);
	free(t->model);
	free(t->disk);
	free(t->unknown);
}

/* Cuts the data into pieces in the slot's room. */
static inline void traffic_cut(struct traffic *t, struct traffic_slot *slot)
{
	static const unsigned int most[] = { 1, 4, 16, TRAFFIC_PIECES };
	unsigned int want = 1 + traffic_random(t, most[traffic_random(t, 4)]);
	bool whole_blocks = traffic_random(t, 2), aligned = traffic_random(t, 2);
	unsigned int unit = whole_blocks ? t->block : 1;
	unsigned int gap = traffic_random(t, 2) ? 64 : 1;
	size_t left = slot->bytes, at = 0;

	slot->num_segs = 0;
	slot->segs[slot->num_segs++] = (struct vhost_client_seg){
		slot->hdr, sizeof(*slot->hdr), false
	};
	for (; left; want--) {
		size_t len = left;

		if (want > 1 && left > unit)
			len = (1 + traffic_random(t, 2 * left / want / unit + 1)) * unit;
		if (len > left)
			len = left;
		if (aligned)
			at = (at + t->block - 1) / t->block * t->block;
		else
			at += traffic_random(t, gap);
		slot->segs[slot->num_segs++] = (struct vhost_client_seg){
			slot->room + at, len, !slot->write
		};
		at += len;
		left -= len;
	}
	slot->segs[slot->num_segs++] = (struct vhost_client_seg){
		slot->status, 1, true
	};
}

/* From the data to the pieces, or back. */
static inline void traffic_copy(struct traffic_slot *slot, bool to_pieces)
{
	uint8_t *data = slot->data;
	unsigned int i;

	for (i = 1; i + 1 < slot->num_segs; i++) {
		struct vhost_client_seg *seg = &slot->segs[i];

		if (to_pieces)
			memcpy(seg->addr, data, seg->len);
		else
			memcpy(data, seg->addr, seg->len);
		data += seg->len;
	}
}

static inline void traffic_send(struct traffic *t, unsigned int index)
{
	struct traffic_slot *slot = &t->slots[index];
	unsigned int max = TRAFFIC_MAX / t->block, blocks;
	bool indirect = traffic_random(t, 2);

	while (max > 1 && traffic_random(t, 3))
		max /= 2;
	blocks = 1 + traffic_random(t, max);
	slot->bytes = blocks * t->block;
	slot->start = index * TRAFFIC_AREA +
		      traffic_random(t, TRAFFIC_AREA / t->block - blocks) * t->block;
	slot->write = t->writable && traffic_random(t, 2);
	slot->hdr->type = slot->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	slot->hdr->ioprio = 0;
	slot->hdr->sector = slot->start / SECTOR;
	*slot->status = 0xee;
	traffic_cut(t, slot);
	if (slot->write) {
		fill(slot->data, slot->bytes, traffic_random(t, 1 << 20));
		traffic_copy(slot, true);
	} else {
		memset(slot->room, 0xaa, TRAFFIC_ROOM);
	}

	/* Each of the others needs at least one descriptor of the ring. */
	if (t->f->c.queues[slot->queue].num_free < slot->num_segs + TRAFFIC_SLOTS)
		indirect = true;
	slot->head = vhost_client_add(&t->f->c, slot->queue, slot->segs,
				      slot->num_segs, indirect ? slot->table : NULL);
	if (slot->head < 0)
		tap_bail("a ring of %d is too small", RING);
	vhost_client_kick(&t->f->c, slot->queue, false);
	t->sent++;
}

static inline void traffic_answered(struct traffic *t, struct traffic_slot *slot)
{
	size_t first = slot->start / TRAFFIC_SECTOR;
	size_t sectors = slot->bytes / TRAFFIC_SECTOR;

	slot->head = -1;
	if (*slot->status == VIRTIO_BLK_S_OK) {
		t->good++;
		if (slot->write) {
			memcpy(t->model + slot->start, slot->data, slot->bytes);
			memset(t->unknown + first, 0, sectors);
		} else {
			traffic_copy(slot, false);
			t->wrong += !traffic_check(t, slot->start, slot->data,
						   slot->bytes);
		}
		return;
	}
	if (*slot->status == VIRTIO_BLK_S_IOERR)
		t->failed++;
	else
		t->odd++;
	if (slot->write)
		memset(t->unknown + first, 1, sectors);
}

static inline unsigned int traffic_under_way(const struct traffic *t)
{
	unsigned int i, num = 0;

	for (i = 0; i < TRAFFIC_SLOTS; i++)
		num += t->slots[i].head >= 0;
	return num;
}

/* Takes the answers that there are, and waits a little if there are none. */
static inline void traffic_take(struct traffic *t)
{
	unsigned int queue, i;
	bool any = false;
	int head;

	for (queue = 0; queue < t->num_queues; queue++) {
		int wait_ms = queue + 1 == t->num_queues && !any ? 10 : 0;

		while ((head = vhost_client_get_used(&t->f->c, queue, NULL,
						     any ? 0 : wait_ms)) >= 0) {
			any = true;
			for (i = 0; i < TRAFFIC_SLOTS; i++)
				if (t->slots[i].queue == queue &&
				    t->slots[i].head == head)
					break;
			if (i == TRAFFIC_SLOTS)
				tap_bail("a used element that nobody offered");
			traffic_answered(t, &t->slots[i]);
		}
	}
}

/* Gives every idle slot a request and takes what is answered. */
static inline void traffic_go(struct traffic *t)
{
	unsigned int i;

	for (i = 0; i < TRAFFIC_SLOTS; i++)
		if (t->slots[i].head < 0)
			traffic_send(t, i);
	traffic_take(t);
}

/* Until nothing is under way, or so many seconds on a fast machine. Returns whether it is. */
static inline bool traffic_finish(struct traffic *t, double seconds)
{
	double end = now() + seconds * limit_factor();

	while (traffic_under_way(t) && now() < end)
		traffic_take(t);
	return !traffic_under_way(t);
}

/* So many requests. Returns whether all were answered. */
static inline bool traffic_run(struct traffic *t, unsigned int requests)
{
	unsigned long end = t->sent + requests;
	double limit = now() + 60 * limit_factor();

	while (t->sent + TRAFFIC_SLOTS <= end && now() < limit)
		traffic_go(t);
	return traffic_finish(t, 20) && t->sent + TRAFFIC_SLOTS > end;
}

/* All of the model is read, through the rings. Returns whether the disk has it. */
static inline bool traffic_matches_rings(struct traffic *t)
{
	size_t at, step = 64 << 10;
	uint8_t *room = t->slots[0].room;

	for (at = 0; at < TRAFFIC_BYTES; at += step)
		if (simple(t->f, at / step % t->num_queues, VIRTIO_BLK_T_IN,
			   at / SECTOR, room, step, NULL) != VIRTIO_BLK_S_OK ||
		    !traffic_check(t, at, room, step))
			return false;
	return true;
}

/* The same past the rings. */
static inline bool traffic_matches_disk(struct traffic *t)
{
	return traffic_io_disk(t, false) &&
	       traffic_check(t, 0, t->disk, TRAFFIC_BYTES);
}

static inline void traffic_report(const struct traffic *t)
{
	printf("# %lu sent, %lu good, %lu failed, %lu odd, %lu wrong, %u under way\n",
	       t->sent, t->good, t->failed, t->odd, t->wrong, traffic_under_way(t));
}

#endif
