/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of virtio_blk know of each other.
 *
 *	virtio_blk-main.c	the driver and the life of a disk
 *	virtio_blk-config.c	what the device's configuration space says of it
 *	virtio_blk-queue.c	requests: block layer to virtqueue and back
 *	virtio_blk-recovery.c	the end of a device and its new start, and what
 *				is done about requests that don't end
 *	virtio_blk-zoned.c	zones and reports of them
 *	virtio_blk-sysfs.c	attributes of the disk
 */
#ifndef _VIRTIO_BLK_H
#define _VIRTIO_BLK_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/hdreg.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_blk.h>
#include <linux/workqueue.h>

#include "compat.h"

/* Data segments in the driver part of a request; longer lists are chained. */
#define VIRTIO_BLK_INLINE_SEGMENTS	16

/* Descriptors of a request that are not data: header and status. */
#define VIRTIO_BLK_OVERHEAD		2

/*
 * Ranges of one discard request. They have to fit into one segment, of which
 * the smallest that the block layer knows has a page.
 */
#define VIRTIO_BLK_MAX_RANGES \
	(SZ_4K / sizeof(struct virtio_blk_discard_write_zeroes))

/* Of virtio 1.4, section 5.2; the kernel's headers don't have it. */
#define VIRTIO_BLK_F_LIFETIME		15
#define VIRTIO_BLK_T_GET_LIFETIME	10

/* No VIRTIO_BLK_S_* has this value. */
#define VIRTIO_BLK_STATUS_NONE		0xff

/**
 * struct virtio_blk_queue - a virtqueue as blk-mq sees it
 * @lock: protects @vq, @parked and @full; taken in interrupts
 * @vq: the virtqueue; NULL while the queue is stopped
 * @parked: requests that @vq did not take since it is out of service, but a
 *	recovery will bring them to the device
 * @vblk: whose it is
 * @hctx: the hardware queue of blk-mq
 * @full: a request did not fit, and @hctx is stopped until one has ended
 * @name: of the interrupt
 */
struct virtio_blk_queue {
	spinlock_t lock; /* protects vq, parked and full */
	struct virtqueue *vq;
	struct rq_list parked;
	struct virtio_blk *vblk;
	struct blk_mq_hw_ctx *hctx;
	bool full;
	char name[24];
} ____cacheline_aligned_in_smp;

/**
 * enum virtio_blk_counter - what is counted about requests that don't end
 * @VIRTIO_BLK_LOST_INTERRUPTS: requests that were found to be done when their
 *	time was up
 * @VIRTIO_BLK_QUEUE_RESETS: virtqueues that were reset
 * @VIRTIO_BLK_DEVICE_RESETS: resets of the device
 * @VIRTIO_BLK_REQUEUED: requests that were sent again
 * @VIRTIO_BLK_TIMED_OUT: requests that failed
 * @VIRTIO_BLK_COUNTERS: how many there are
 */
enum virtio_blk_counter {
	VIRTIO_BLK_LOST_INTERRUPTS,
	VIRTIO_BLK_QUEUE_RESETS,
	VIRTIO_BLK_DEVICE_RESETS,
	VIRTIO_BLK_REQUEUED,
	VIRTIO_BLK_TIMED_OUT,
	VIRTIO_BLK_COUNTERS,
};

/**
 * struct virtio_blk_recovery - what is done about requests that don't end
 * @lock: held by who takes requests from the device; protects @counters
 * @attempts: how often a request is sent again before it fails, 0 to wait
 * @queue_reset: reset the queue alone, if the device can
 * @counters: what happened so far
 */
struct virtio_blk_recovery {
	struct mutex lock; /* protects counters */
	u8 attempts;
	bool queue_reset;
	unsigned long counters[VIRTIO_BLK_COUNTERS];
};

/**
 * struct virtio_blk - a disk
 * @vdev: the device; gone when @disk is, which a process may hold open longer
 * @disk: what the block layer shows of it
 * @tag_set: the requests
 * @queues: @num_queues of them
 * @num_queues: virtqueues in use
 * @num_poll_queues: how many of them, the last ones, are polled and don't
 *	interrupt
 * @ring_size: descriptors of the smallest ring: a request has to fit into each
 * @index: place in the row of names vda, vdb, ...
 * @zone_sectors: of a zone, 0 if there are no zones
 * @geometry: what the device says, or all 0
 * @recovery: of requests that don't end
 * @config_work: reads the configuration space after the device changed it
 *
 * Freed with the last reference to @disk.
 */
struct virtio_blk {
	struct virtio_device *vdev;
	struct gendisk *disk;
	struct blk_mq_tag_set tag_set;
	struct virtio_blk_queue *queues;
	unsigned int num_queues;
	unsigned int num_poll_queues;
	unsigned int ring_size;
	int index;
	unsigned int zone_sectors;
	struct hd_geometry geometry;
	struct virtio_blk_recovery recovery;
	struct work_struct config_work;
};

/* virtio_blk-config.c */
int virtio_blk_read_limits(struct virtio_blk *vblk, struct queue_limits *lim);
void virtio_blk_read_geometry(struct virtio_blk *vblk);
bool virtio_blk_write_cache(struct virtio_device *vdev);
int virtio_blk_update_capacity(struct virtio_blk *vblk, bool resized);

/* virtio_blk-queue.c */
int virtio_blk_init_queues(struct virtio_blk *vblk);
void virtio_blk_exit_queues(struct virtio_blk *vblk);
void virtio_blk_stop_queues(struct virtio_blk *vblk);
int virtio_blk_start_queues(struct virtio_blk *vblk);
unsigned int virtio_blk_reap(struct virtio_blk_queue *queue);
void virtio_blk_take_outstanding(struct virtio_blk_queue *queue,
				 struct rq_list *outstanding);
void virtio_blk_take_back_unused(struct request *rq);
unsigned int virtio_blk_count_attempt(struct request *rq);
struct virtqueue *virtio_blk_take_vq(struct virtio_blk_queue *queue);
void virtio_blk_give_vq(struct virtio_blk_queue *queue, struct virtqueue *vq);
int virtio_blk_alloc_tags(struct virtio_blk *vblk);
int virtio_blk_get(struct virtio_blk *vblk, u32 type, u64 sector, void *buf,
		   unsigned int len);

/* virtio_blk-recovery.c */
void virtio_blk_init_recovery(struct virtio_blk *vblk);
void virtio_blk_reset_device(struct virtio_blk *vblk);
bool virtio_blk_abandon_broken(struct virtio_blk *vblk);
int virtio_blk_start(struct virtio_blk *vblk);
enum blk_eh_timer_return virtio_blk_timeout(struct request *rq);

/* virtio_blk-zoned.c */
#ifdef CONFIG_BLK_DEV_ZONED
int virtio_blk_zone_limits(struct virtio_blk *vblk, struct queue_limits *lim);
int virtio_blk_report_zones(struct gendisk *disk, sector_t sector,
			    unsigned int nr_zones,
			    struct blk_report_zones_args *args);
int virtio_blk_revalidate_zones(struct virtio_blk *vblk);
#else
static inline int virtio_blk_zone_limits(struct virtio_blk *vblk,
					 struct queue_limits *lim)
{
	dev_err(&vblk->vdev->dev, "this kernel can't use zoned disks\n");
	return -EOPNOTSUPP;
}

static inline int virtio_blk_revalidate_zones(struct virtio_blk *vblk)
{
	return 0;
}
#endif

/* virtio_blk-sysfs.c */
extern const struct attribute_group *virtio_blk_groups[];

#endif /* _VIRTIO_BLK_H */
