/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interfaces between the parts of virtio_blk.
 *
 *	virtio_blk-main.c	requests, configuration space, probe and remove
 *	virtio_blk-recovery.c	stop and restart of a device while its disk is in use
 *	virtio_blk-zoned.c	limits and reports of zones
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

/* Data segments in virtio_blk_pdu. Longer lists are chained. */
#define VIRTIO_BLK_INLINE_SEGMENTS	8

/* No VIRTIO_BLK_S_* has this value. */
#define VIRTIO_BLK_STATUS_NONE		0xff

/**
 * struct virtio_blk_pdu - the driver part of a request
 * @hdr: request header, in the device's byte order
 * @in: written by the device
 * @in.sector: where the device put the data of a zone append
 * @in.status: status byte
 * @sent: the request is in the ring or in virtio_blk_queue.parked; protected by the lock
 *	of the queue
 * @timed_out: end with BLK_STS_TIMEOUT if @in.status is %VIRTIO_BLK_STATUS_NONE
 * @attempts: number of times that it was requeued; valid with %RQF_DONTPREP
 * @needs_cleanup: @chain or @ranges is allocated, or @in_sg was changed
 * @segments: number of data segments
 * @hdr_sg: covers @hdr
 * @in_sg: covers @in.status; for a zone append, all of @in
 * @data: the data segments, or the first ones of @chain
 * @chain: data of more than %VIRTIO_BLK_INLINE_SEGMENTS segments, else empty
 * @range: data of a request with one range
 * @ranges: data of a request with several ranges, else NULL
 *
 * The device writes to the cache line of @in by DMA. While it may do so, the driver
 * writes to no other field in that line.
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
 * struct virtio_blk_queue - a virtqueue and its hardware queue of blk-mq
 * @lock: protects the fields up to @full. Taken in interrupts.
 * @vq: the virtqueue; NULL while the device is stopped. Read under @lock. A dispatcher
 *	may use the pointer until it returns: the queue is quiesced, or its dispatchers
 *	waited for, before the virtqueue is deleted.
 * @in_ring: number of requests in the ring
 * @parked: started requests that are not in the ring, and that only recovery takes back.
 *	Either the ring is broken, or fault injection removed them.
 * @full: a request did not fit, and @hctx is stopped until one ends
 * @polled: the virtqueue has no interrupt
 * @vblk: the disk
 * @hctx: the hardware queue
 * @name: name of the interrupt
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
 * enum virtio_blk_state - state of a device
 * @VIRTIO_BLK_NEW: is being set up; interrupts can come already
 * @VIRTIO_BLK_LIVE: has virtqueues and takes requests
 * @VIRTIO_BLK_STOPPED: will be restarted by virtio_blk_recovery.work. Its requests were
 *	taken back, and the request queue is quiesced.
 * @VIRTIO_BLK_SUSPENDED: as stopped, but restarted by virtio_blk_resume()
 * @VIRTIO_BLK_DEAD: not usable any more; requests fail
 */
enum virtio_blk_state {
	VIRTIO_BLK_NEW,
	VIRTIO_BLK_LIVE,
	VIRTIO_BLK_STOPPED,
	VIRTIO_BLK_SUSPENDED,
	VIRTIO_BLK_DEAD,
};

/**
 * enum virtio_blk_counter - statistics of recovery
 * @VIRTIO_BLK_LOST_INTERRUPTS: requests that had ended when their timeout expired
 * @VIRTIO_BLK_DEVICE_RESETS: resets of the device
 * @VIRTIO_BLK_REQUEUED: requests that were sent again
 * @VIRTIO_BLK_TIMED_OUT: requests that failed because of a timeout
 * @VIRTIO_BLK_COUNTERS: number of counters
 */
enum virtio_blk_counter {
	VIRTIO_BLK_LOST_INTERRUPTS,
	VIRTIO_BLK_DEVICE_RESETS,
	VIRTIO_BLK_REQUEUED,
	VIRTIO_BLK_TIMED_OUT,
	VIRTIO_BLK_COUNTERS,
};

/**
 * struct virtio_blk_recovery - state of a device and its recovery
 * @lock: held to stop or start the device, and to use its configuration space if no
 *	reset may come in between. No request is waited for under it.
 * @state: state of the device; protected by @lock
 * @outstanding: requests that were taken back from the device, to be requeued or failed;
 *	protected by @lock
 * @failed_starts: failed starts since the device was stopped; protected by @lock
 * @work: resets a device with @reset_scheduled, and starts a stopped one
 * @reset_scheduled: a live device is to be reset. Set under @lock, or under the lock of a
 *	queue whose virtqueue is in use. Cleared after all virtqueues were deleted.
 * @timed_out: the reset is because of a timeout
 * @not_before: earliest time of the next reset, in jiffies
 * @attempts: number of times that a request is sent again before it fails; 0 to wait
 *	without limit
 * @queries_fail: fail the driver's own requests (%REQ_OP_DRV_IN) instead of sending them
 *	again, because the disk is being removed; protected by @lock
 * @reset_requested: it was logged that the device needs a reset
 * @device_status: status register of a modern PCI device, or NULL
 * @counters: statistics
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
 * @vdev: the device; NULL after its removal, while a process still has @disk open
 * @disk: the disk
 * @tag_set: tags of its requests
 * @queues: the queues, @num_queues of them
 * @num_queues: number of virtqueues
 * @num_poll_queues: number of polled queues, which are the last of @queues
 * @ring_size: descriptors of the smallest ring at the probe. Each request fits into it.
 * @index: number of the disk, for its name and its minors
 * @zone_sectors: size of a zone in sectors; 0 for a disk without zones
 * @zones_unknown: the block layer does not know the zones; writes fail
 * @zone_tries: failed reports of zones in a row
 * @cache_type_lock: held by a switch of the cache mode, while it waits for the device as well
 * @write_cache: cache mode that was set, or that the device had at the probe; protected
 *	by @recovery.lock
 * @geometry: geometry from the device, or all 0
 * @recovery: recovery of the device
 * @config_work: reads the configuration space after a change
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
	struct mutex cache_type_lock; /* a switch has several steps */
	bool write_cache;
	struct hd_geometry geometry;
	struct virtio_blk_recovery recovery;
	struct delayed_work config_work;
};

/* For attributes of the disk. */
static inline struct virtio_blk *virtio_blk_of(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

/* Whether a request can change a zone. */
static inline bool virtio_blk_may_write(struct request *rq)
{
	return req_op(rq) != REQ_OP_READ && req_op(rq) != REQ_OP_FLUSH &&
	       req_op(rq) != REQ_OP_DRV_IN;
}

/* virtio_blk-main.c */
int virtio_blk_find_vqs(struct virtio_blk *vblk);
unsigned int virtio_blk_reap(struct virtio_blk_queue *queue);
void virtio_blk_take_outstanding(struct virtio_blk_queue *queue,
				 struct rq_list *outstanding);
int virtio_blk_restore_config(struct virtio_blk *vblk);
int virtio_blk_get(struct virtio_blk *vblk, u32 type, u64 sector, void *buf,
		   unsigned int len);

/* virtio_blk-recovery.c */
int virtio_blk_init_workqueue(void);
void virtio_blk_exit_workqueue(void);
void virtio_blk_init_recovery(struct virtio_blk *vblk);
void virtio_blk_begin(struct virtio_blk *vblk);
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
