/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the three parts of virtio_blk know of each other.
 *
 *	virtio_blk-main.c	requests, the configuration space, the life of a disk
 *	virtio_blk-recovery.c	stops and starts a device under its disk
 *	virtio_blk-zoned.c	zones and reports of them
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
#define VIRTIO_BLK_INLINE_SEGMENTS	8

/* No VIRTIO_BLK_S_* has this value. */
#define VIRTIO_BLK_STATUS_NONE		0xff

/**
 * struct virtio_blk_pdu - the driver part of a request
 * @hdr: what the device is asked for, in its byte order
 * @in: what the device answers
 * @in.sector: where it put the data of a zone append
 * @in.status: how the request ended
 * @sent: in the ring or in the list "parked" of its queue, whose lock protects this
 * @timed_out: ends with a timeout; @in.status is %VIRTIO_BLK_STATUS_NONE
 * @attempts: how often it was sent again, if it was (%RQF_DONTPREP)
 * @needs_cleanup: @chain or @ranges is to be freed, or @in_sg to be made as it was
 * @segments: data segments in use
 * @hdr_sg: @hdr
 * @in_sg: the status alone, but of a zone append all of @in
 * @data: the data segments, or the first of them
 * @chain: of more than %VIRTIO_BLK_INLINE_SEGMENTS segments, else empty
 * @range: the data of a request for one range
 * @ranges: the data of a request for several ranges, else NULL
 *
 * The device writes to the cache line of @in. While it may, nothing else in it is
 * written.
 */
struct virtio_blk_pdu {
	struct virtio_blk_outhdr hdr;
	struct {
		__virtio64 sector;
		u8 status;
	} in;
	bool sent;
	bool timed_out;
	u8 attempts;
	bool needs_cleanup;
	unsigned short segments;
	struct scatterlist hdr_sg;
	struct scatterlist in_sg;
	struct scatterlist data[VIRTIO_BLK_INLINE_SEGMENTS];
	struct sg_table chain;
	struct virtio_blk_discard_write_zeroes range;
	struct virtio_blk_discard_write_zeroes *ranges;
};

/**
 * struct virtio_blk_queue - a virtqueue as blk-mq sees it
 * @lock: protects the fields up to @full; taken in interrupts
 * @vq: the virtqueue; NULL while the device is stopped. Read under @lock. A
 *	dispatcher may use what it read until it returns, since the queue is
 *	quiesced before the virtqueue is deleted
 * @in_ring: requests in the ring
 * @parked: started requests that are not in the ring, to be taken back by recovery:
 *	the ring is broken, or fault injection took them out
 * @full: a request did not fit, and @hctx is stopped until one has ended
 * @polled: it has no interrupt
 * @vblk: whose it is
 * @hctx: the hardware queue of blk-mq
 * @name: of the interrupt
 */
struct virtio_blk_queue {
	spinlock_t lock; /* protects vq, in_ring, parked and full */
	struct virtqueue *vq;
	unsigned int in_ring;
	struct rq_list parked;
	bool full;
	bool polled;
	struct virtio_blk *vblk;
	struct blk_mq_hw_ctx *hctx;
	char name[24];
} ____cacheline_aligned_in_smp;

/**
 * enum virtio_blk_state - of a device
 * @VIRTIO_BLK_LIVE: it has its virtqueues and takes requests
 * @VIRTIO_BLK_STOPPED: its requests were taken back, and it is to be started again;
 *	the queue is quiesced
 * @VIRTIO_BLK_SUSPENDED: the same, but the transport says when
 * @VIRTIO_BLK_DEAD: it can't be used any more, requests fail
 */
enum virtio_blk_state {
	VIRTIO_BLK_LIVE,
	VIRTIO_BLK_STOPPED,
	VIRTIO_BLK_SUSPENDED,
	VIRTIO_BLK_DEAD,
};

/**
 * enum virtio_blk_counter - what is counted about requests that don't end
 * @VIRTIO_BLK_LOST_INTERRUPTS: requests that were found to be done when their
 *	time was up
 * @VIRTIO_BLK_DEVICE_RESETS: resets of the device
 * @VIRTIO_BLK_REQUEUED: requests that were sent again
 * @VIRTIO_BLK_TIMED_OUT: requests that failed
 * @VIRTIO_BLK_COUNTERS: how many there are
 */
enum virtio_blk_counter {
	VIRTIO_BLK_LOST_INTERRUPTS,
	VIRTIO_BLK_DEVICE_RESETS,
	VIRTIO_BLK_REQUEUED,
	VIRTIO_BLK_TIMED_OUT,
	VIRTIO_BLK_COUNTERS,
};

/**
 * struct virtio_blk_recovery - what starts a device again
 * @lock: held to stop or start the device, and to use its configuration space
 *	where a reset must not come between; no request is waited for under it
 * @state: of the device; protected by @lock
 * @outstanding: requests that were taken from the device and are to be sent again
 *	or to fail; protected by @lock
 * @failed_starts: how often the device did not start since it was stopped
 * @work: resets the device and starts it, if @reset_scheduled
 * @reset_scheduled: there is a reason to. Set where a virtqueue is in use, under its lock;
 *	cleared after all were taken from their queues
 * @timed_out: the reason is a request whose time was up
 * @not_before: the time of the next reset, in jiffies
 * @attempts: how often a request is sent again before it fails, 0 to wait
 * @queries_fail: requests of the driver itself (%REQ_OP_DRV_IN) are not sent again:
 *	the disk is removed; protected by @lock
 * @reset_requested: that the device asks for a reset was logged
 * @device_status: the register of a modern PCI device that resets it, or NULL
 * @counters: what happened so far
 */
struct virtio_blk_recovery {
	struct mutex lock; /* protects state, outstanding and failed_starts */
	enum virtio_blk_state state;
	struct rq_list outstanding;
	unsigned int failed_starts;
	struct delayed_work work;
	bool reset_scheduled;
	bool timed_out;
	unsigned long not_before;
	u8 attempts;
	bool queries_fail;
	bool reset_requested;
	u8 __iomem *device_status;
	atomic_long_t counters[VIRTIO_BLK_COUNTERS];
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
 * @zones_unknown: the block layer does not know them: nothing is written
 * @zone_tries: reports of zones that failed one after the other
 * @write_cache: the cache mode that the device was told, or had at first; protected
 *	by @recovery.lock
 * @geometry: what the device says, or all 0
 * @recovery: of the device
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
	bool zones_unknown;
	unsigned int zone_tries;
	bool write_cache;
	struct hd_geometry geometry;
	struct virtio_blk_recovery recovery;
	struct delayed_work config_work;
};

/* Of the attributes of a disk. */
static inline struct virtio_blk *virtio_blk_of(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

/* Whether a request may change a zone, if there are zones. */
static inline bool virtio_blk_may_write(struct request *rq)
{
	return req_op(rq) != REQ_OP_READ && req_op(rq) != REQ_OP_FLUSH &&
	       req_op(rq) != REQ_OP_DRV_IN;
}

/* virtio_blk-main.c */
int virtio_blk_find_vqs(struct virtio_blk *vblk);
unsigned int virtio_blk_reap(struct virtio_blk_queue *queue,
			     struct io_comp_batch *iob);
void virtio_blk_take_outstanding(struct virtio_blk_queue *queue,
				 struct rq_list *outstanding);
int virtio_blk_restore_config(struct virtio_blk *vblk);
int virtio_blk_get(struct virtio_blk *vblk, u32 type, u64 sector, void *buf,
		   unsigned int len);

/* virtio_blk-recovery.c */
int virtio_blk_init_workqueue(void);
void virtio_blk_exit_workqueue(void);
void virtio_blk_init_recovery(struct virtio_blk *vblk);
void virtio_blk_exit_recovery(struct virtio_blk *vblk);
bool virtio_blk_schedule_recovery(struct virtio_blk *vblk);
void virtio_blk_check_status(struct virtio_blk *vblk);
int virtio_blk_suspend(struct virtio_blk *vblk, bool fail_if_busy);
int virtio_blk_resume(struct virtio_blk *vblk);
bool virtio_blk_fail_if_dead(struct virtio_blk *vblk);
void virtio_blk_fail_queries(struct virtio_blk *vblk);
void virtio_blk_release_device(struct virtio_blk *vblk);
enum blk_eh_timer_return virtio_blk_timeout(struct request *rq);
extern const struct attribute_group virtio_blk_recovery_group;

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

#endif /* _VIRTIO_BLK_H */
