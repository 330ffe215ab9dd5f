/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the three rooms of vhost_blk know of each other.
 *
 *	blk.c		the character device: bind, start, stop, life of a queue
 *	blk-queue.c	ring: descriptor chains in, used elements and signals out
 *	blk-request.c	protocol: what a chain asks for and what it is answered
 *	blk-bdev.c	storage: reads, writes and flushes on a block device
 *
 * A request goes down from ring to protocol to storage in a vhost worker and
 * comes back up in two steps: storage calls vhost_blk_io.done in whatever
 * context the bio ended, which puts the request on its queue's list, and the
 * worker takes the whole list, answers it and signals the guest once.
 */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/bio.h>
#include <linux/blk_types.h>
#include <linux/llist.h>
#include <linux/sizes.h>
#include <linux/uio.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/wait.h>

#include "vhost.h"
#include "compat.h"

/* Data segments of a request that needs no memory beyond its own. */
#define VHOST_BLK_INLINE_VECS	16

/*
 * The most data one request may carry, in bytes: SEG_MAX segments of SIZE_MAX
 * bytes. Together they bound the pages and the bios that a guest can pin down
 * with one descriptor chain.
 */
#define VHOST_BLK_SEG_MAX	254
#define VHOST_BLK_SIZE_MAX	SZ_1M
#define VHOST_BLK_MAX_DATA	((size_t)VHOST_BLK_SEG_MAX * VHOST_BLK_SIZE_MAX)

/*
 * Data under way in one queue, in bytes, at which no more is fetched: what one
 * guest can have pinned, and with bios for it, does not grow with its memory.
 */
#define VHOST_BLK_MAX_IN_FLIGHT	SZ_256M

/* Storage */

struct vhost_blk_backing;

/**
 * struct vhost_blk_bio - one bio of an I/O operation
 * @io: the operation it is a part of
 * @next: the operation's bio made before this one
 * @bio: must be last: the bio set allocates it with vectors behind it
 */
struct vhost_blk_bio {
	struct vhost_blk_io *io;
	struct vhost_blk_bio *next;
	struct bio bio;
};

/**
 * struct vhost_blk_io - one operation on the backing device
 * @done: called exactly once for every operation started, in any context, and
 *	maybe before the call that started it returns. Set by the owner.
 * @backing: where the operation goes. Set by the owner.
 * @status: how it ended; valid from @done on
 * @pending: bios that have not ended, plus one while they are still being made
 * @bios: all bios made, the newest first
 * @first: the first bio, the only one of an ordinary operation
 * @vecs: the vectors of @first
 *
 * Owned by the storage room from vhost_blk_io_rw() or vhost_blk_io_flush()
 * until @done, by the caller otherwise. After @done the caller owes a
 * vhost_blk_io_release() before it uses the operation again.
 */
struct vhost_blk_io {
	void (*done)(struct vhost_blk_io *io);
	struct vhost_blk_backing *backing;
	blk_status_t status;
	atomic_t pending;
	struct vhost_blk_bio *bios;
	struct vhost_blk_bio first;
	struct bio_vec vecs[VHOST_BLK_INLINE_VECS];
};

struct vhost_blk_backing *vhost_blk_backing_open(struct file *user,
						 bool read_only, void *holder);
void vhost_blk_backing_close(struct vhost_blk_backing *backing);
u64 vhost_blk_backing_features(const struct vhost_blk_backing *backing);
void vhost_blk_backing_config(const struct vhost_blk_backing *backing,
			      struct virtio_blk_config *config);
bool vhost_blk_backing_read_only(const struct vhost_blk_backing *backing);
bool vhost_blk_backing_write_cache(const struct vhost_blk_backing *backing);
bool vhost_blk_backing_contains(const struct vhost_blk_backing *backing,
				u64 sector, size_t bytes);

void vhost_blk_io_rw(struct vhost_blk_io *io, blk_opf_t opf, sector_t sector,
		     struct iov_iter *iter);
void vhost_blk_io_flush(struct vhost_blk_io *io);
void vhost_blk_io_release(struct vhost_blk_io *io);

/* Protocol */

/**
 * struct vhost_blk_request - a descriptor chain between fetch and answer
 * @io: the operation that it became
 * @queue: the queue it came from and returns to
 * @node: in &vhost_blk_queue.completed
 * @status_addr: where the guest wants the status byte, in the owner's memory
 * @head: index of the chain's first descriptor
 * @used_bytes: what the used element will say if the request succeeds: bytes
 *	written to guest memory, status included
 * @data_bytes: what the I/O reads or writes
 * @status: VIRTIO_BLK_S_* decided before any I/O, or the I/O's outcome
 */
struct vhost_blk_request {
	struct vhost_blk_io io;
	struct vhost_blk_queue *queue;
	struct llist_node node;
	u8 __user *status_addr;
	u32 used_bytes;
	u32 data_bytes;
	u16 head;
	u8 status;
};

void vhost_blk_request_init(struct vhost_blk_request *req,
			    struct vhost_blk_queue *queue);
int vhost_blk_request_start(struct vhost_blk_request *req, unsigned int out,
			    unsigned int in);
int vhost_blk_request_answer(struct vhost_blk_request *req, u32 *used_bytes);

/* Ring */

/**
 * struct vhost_blk_queue - a virtqueue and the requests that are under way in it
 * @vq: vhost core's part. Its mutex protects every field that is not described
 *	otherwise; its private_data is the &struct vhost_blk while running.
 * @blk: the device
 * @requests: the memory of all requests, made when the queue starts and kept
 *	until it starts with another ring size or the device goes
 * @free: a stack of the requests that are not in use
 * @num_requests: elements of @requests: the ring's size at the last start
 * @num_free: elements of @free; the rest are in flight
 * @bytes_in_flight: data of the requests in flight
 * @broken: the guest made a ring that can't be followed; nothing more is
 *	fetched until the queue is started again
 * @completed: requests whose I/O ended, waiting to be answered; lock-free
 * @drained: who waits for @completed to fill while the queue stops
 */
struct vhost_blk_queue {
	struct vhost_virtqueue vq;
	struct vhost_blk *blk;
	struct vhost_blk_request *requests;
	struct vhost_blk_request **free;
	unsigned int num_requests;
	unsigned int num_free;
	size_t bytes_in_flight;
	bool broken;
	struct llist_head completed ____cacheline_aligned_in_smp;
	wait_queue_head_t drained;
};

void vhost_blk_queue_init(struct vhost_blk_queue *queue, struct vhost_blk *blk);
int vhost_blk_queue_start(struct vhost_blk_queue *queue);
void vhost_blk_queue_stop(struct vhost_blk_queue *queue, bool answer);
void vhost_blk_queue_drain(struct vhost_blk_queue *queue, bool answer);
void vhost_blk_queue_free(struct vhost_blk_queue *queue);
void vhost_blk_queue_completed(struct vhost_blk_request *req);

/* Device */

/**
 * struct vhost_blk - an open /dev/vhost-blk
 * @dev: vhost core's part; its mutex is for vhost core's own calls and for
 *	starting and stopping
 * @lock: serializes the ioctls; outside of @dev's mutex, which does not exist
 *	before the first bind
 * @backing: the bound device. Changed under @lock while no queue runs, so that
 *	a running queue reads it without.
 * @serial: answer to VIRTIO_BLK_T_GET_ID; as @backing
 * @num_queues: 0 before the first bind, the same ever after
 * @running: between VHOST_BLK_SET_RUNNING 1 and 0; under @lock
 * @queues: @num_queues of them
 * @vqs: what vhost core wants to see of them
 */
struct vhost_blk {
	struct vhost_dev dev;
	struct mutex lock; /* serializes the ioctls */
	struct vhost_blk_backing *backing;
	u8 serial[VHOST_BLK_SERIAL_BYTES];
	unsigned int num_queues;
	bool running;
	struct vhost_blk_queue **queues;
	struct vhost_virtqueue **vqs;
};

#endif /* _VHOST_BLK_H */
