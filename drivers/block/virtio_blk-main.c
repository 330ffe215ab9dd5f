// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: the guest driver for virtio block devices (virtio 1.4, section 5.2).
 *
 * Each hardware queue of blk-mq is a virtqueue with its own lock and interrupt. A request
 * becomes a scatter-gather list of three parts: the header, which the device reads, the
 * data, and the status byte, which the device writes. Header, status and the first
 * segments are in struct virtio_blk_pdu. So most requests allocate nothing.
 *
 * This file is in the order of a request's life, and then of a disk's:
 *
 * - A request is prepared without the queue's lock, and added to the ring under it. The
 *   device is kicked once for a batch.
 * - The interrupt, or blk_mq_poll() for a polled queue, takes the used requests from the
 *   ring. Requests that succeeded end in a batch after the lock is released. All others
 *   end one by one, or on the CPU that blk-mq prefers.
 * - virtio_blk-recovery.c handles requests that don't end, and devices that need a reset.
 *
 * The device need not be trusted. In a confidential guest it is not. A malicious device can
 * harm at most the data of its own disk:
 *
 * - Values of the configuration space are checked. If the driver needs a value that is
 *   invalid, the probe fails with a message. Otherwise the value is clamped or ignored,
 *   with a message.
 * - The virtio core checks used ids. After one that is invalid it breaks the virtqueue. A
 *   ring that is used in order may first return all requests. They have no status, and
 *   fail.
 * - A request with an unknown status byte fails.
 */
#include <linux/delay.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/pm.h>
#include <linux/slab.h>
#include <linux/string_helpers.h>
#include <linux/sysfs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio_blk.h"

#define VIRTIO_BLK_MINORS	16

/* Descriptors of a request without data: header and status. */
#define VIRTIO_BLK_OVERHEAD	2

/*
 * Ranges of one request. They must fit into one segment. The smallest maximum segment
 * size of the block layer is 4 KiB.
 */
#define VIRTIO_BLK_MAX_RANGES \
	(SZ_4K / sizeof(struct virtio_blk_discard_write_zeroes))

/* In sectors. Offsets in bytes must fit into loff_t. */
#define VIRTIO_BLK_MAX_CAPACITY	((u64)LLONG_MAX >> SECTOR_SHIFT)

/* From virtio 1.4, section 5.2; missing in the kernel's headers. */
#define VIRTIO_BLK_F_LIFETIME		15
#define VIRTIO_BLK_T_GET_LIFETIME	10

/* Tries to read the zones, one second apart. After that only a change starts another. */
#define VIRTIO_BLK_ZONE_TRIES	5

/* How often the capacity is read until the configuration stays the same meanwhile. */
#define VIRTIO_BLK_CONFIG_TRIES	100

/* How long the removal of a disk waits for a report of zones, in jiffies. */
#define VIRTIO_BLK_REPORT_TIMEOUT	HZ

static int virtio_blk_major;
static DEFINE_IDA(virtio_blk_ida);

static unsigned int num_request_queues;
module_param(num_request_queues, uint, 0644);
MODULE_PARM_DESC(num_request_queues,
		 "Most queues of a disk that is found from now on; 0: as many as it and the CPUs have");

static unsigned int poll_queues;
module_param(poll_queues, uint, 0644);
MODULE_PARM_DESC(poll_queues,
		 "How many of the queues are for polling only; one never is");

static unsigned int queue_depth;
module_param(queue_depth, uint, 0444);
MODULE_PARM_DESC(queue_depth,
		 "Most requests of a queue in flight; 0: as many as the ring holds");

/* --- requests --- */

static void virtio_blk_set_header(struct virtio_blk *vblk, struct request *rq,
				  u32 type, u64 sector)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	pdu->hdr.type = cpu_to_virtio32(vblk->vdev, type);
	pdu->hdr.ioprio = cpu_to_virtio32(vblk->vdev, req_get_ioprio(rq));
	pdu->hdr.sector = cpu_to_virtio64(vblk->vdev, sector);
}

/*
 * After the rest of a chain was freed, or its allocation has failed half way: the last element
 * of the tag may link to it.
 */
static void virtio_blk_unlink_chain(struct virtio_blk_pdu *pdu)
{
	pdu->chain.orig_nents = 0;
	sg_init_table(&pdu->data[VIRTIO_BLK_INLINE_SEGMENTS - 1], 1);
}

static blk_status_t virtio_blk_map_many(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	unsigned int segments = blk_rq_nr_phys_segments(rq);

	if (segments > VIRTIO_BLK_INLINE_SEGMENTS) {
		pdu->chain.sgl = pdu->data;
		if (sg_alloc_table_chained(&pdu->chain, segments, pdu->data,
					   VIRTIO_BLK_INLINE_SEGMENTS)) {
			virtio_blk_unlink_chain(pdu);
			return BLK_STS_RESOURCE;
		}
		pdu->needs_cleanup = true;
	}
	pdu->segments = blk_rq_map_sg(rq, pdu->data);
	return BLK_STS_OK;
}

static blk_status_t virtio_blk_map_data(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	struct bio_vec bvec;

	pdu->segments = blk_rq_nr_phys_segments(rq);
	if (pdu->segments > 1)
		return virtio_blk_map_many(rq);
	if (pdu->segments) {
		/* One segment is one vector. */
		bvec = req_bvec(rq);
		sg_set_page(pdu->data, bvec.bv_page, bvec.bv_len,
			    bvec.bv_offset);
		sg_mark_end(pdu->data);
	}
	return BLK_STS_OK;
}

/*
 * Write the ranges of a request to @range, or only count them if @range is NULL. Ranges
 * that touch are combined. This happens to discards of a device that takes one range per
 * request.
 */
static unsigned int virtio_blk_fill_ranges(struct request *rq, u32 flags,
					   struct virtio_blk_discard_write_zeroes *range)
{
	unsigned int n = 0;
	sector_t start = 0, end = 0;
	struct bio *bio;

	__rq_for_each_bio(bio, rq) {
		if (!n || bio->bi_iter.bi_sector != end) {
			start = bio->bi_iter.bi_sector;
			n++;
		}
		end = bio_end_sector(bio);
		if (!range)
			continue;
		range[n - 1].sector = cpu_to_le64(start);
		range[n - 1].num_sectors = cpu_to_le32(end - start);
		range[n - 1].flags = cpu_to_le32(flags);
	}
	return n;
}

/* For discard, write zeroes and secure erase, whose data are the ranges. */
static blk_status_t virtio_blk_map_ranges(struct request *rq, u32 flags)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	unsigned int n = virtio_blk_fill_ranges(rq, flags, NULL);
	struct virtio_blk_discard_write_zeroes *range = &pdu->range;

	if (n > VIRTIO_BLK_MAX_RANGES)
		return BLK_STS_IOERR;
	if (n > 1) {
		range = kmalloc_array(n, sizeof(*range), GFP_ATOMIC);
		if (!range)
			return BLK_STS_RESOURCE;
		pdu->ranges = range;
		pdu->needs_cleanup = true;
	}
	virtio_blk_fill_ranges(rq, flags, range);
	sg_set_buf(pdu->data, range, n * sizeof(*range));
	sg_mark_end(pdu->data);
	pdu->segments = 1;
	return BLK_STS_OK;
}

static blk_status_t virtio_blk_prepare_zone(struct virtio_blk *vblk,
					    struct request *rq, u32 type)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	virtio_blk_set_header(vblk, rq, type, blk_rq_pos(rq));
	pdu->segments = 0;
	return BLK_STS_OK;
}

static blk_status_t virtio_blk_prepare_append(struct virtio_blk *vblk,
					      struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	blk_status_t status;

	virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_ZONE_APPEND,
			      blk_rq_pos(rq));
	status = virtio_blk_map_data(rq);
	if (status)
		return status;
	pdu->needs_cleanup = true;
	sg_set_buf(&pdu->in_sg, &pdu->in,
		   offsetofend(typeof(pdu->in), status));
	return BLK_STS_OK;
}

static blk_status_t virtio_blk_prepare_other(struct virtio_blk *vblk,
					     struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	u32 flags = 0;

	switch (req_op(rq)) {
	case REQ_OP_FLUSH:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_FLUSH, 0);
		pdu->segments = 0;
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_DISCARD, 0);
		return virtio_blk_map_ranges(rq, 0);
	case REQ_OP_SECURE_ERASE:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_SECURE_ERASE, 0);
		return virtio_blk_map_ranges(rq, 0);
	case REQ_OP_WRITE_ZEROES:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_WRITE_ZEROES, 0);
		if (!(rq->cmd_flags & REQ_NOUNMAP))
			flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		return virtio_blk_map_ranges(rq, flags);
	case REQ_OP_ZONE_APPEND:
		return virtio_blk_prepare_append(vblk, rq);
	case REQ_OP_ZONE_OPEN:
		return virtio_blk_prepare_zone(vblk, rq, VIRTIO_BLK_T_ZONE_OPEN);
	case REQ_OP_ZONE_CLOSE:
		return virtio_blk_prepare_zone(vblk, rq, VIRTIO_BLK_T_ZONE_CLOSE);
	case REQ_OP_ZONE_FINISH:
		return virtio_blk_prepare_zone(vblk, rq, VIRTIO_BLK_T_ZONE_FINISH);
	case REQ_OP_ZONE_RESET:
		return virtio_blk_prepare_zone(vblk, rq, VIRTIO_BLK_T_ZONE_RESET);
	case REQ_OP_ZONE_RESET_ALL:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_ZONE_RESET_ALL, 0);
		pdu->segments = 0;
		return BLK_STS_OK;
	case REQ_OP_DRV_IN:
		/* virtio_blk_get() has set the header. */
		return virtio_blk_map_data(rq);
	default:
		return BLK_STS_NOTSUPP;
	}
}

static blk_status_t virtio_blk_prepare(struct virtio_blk *vblk,
				       struct request *rq)
{
	if (unlikely(READ_ONCE(vblk->zones_unknown)) && virtio_blk_may_write(rq))
		return BLK_STS_IOERR;
	switch (req_op(rq)) {
	case REQ_OP_READ:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_IN, blk_rq_pos(rq));
		return virtio_blk_map_data(rq);
	case REQ_OP_WRITE:
		virtio_blk_set_header(vblk, rq, VIRTIO_BLK_T_OUT, blk_rq_pos(rq));
		return virtio_blk_map_data(rq);
	default:
		return virtio_blk_prepare_other(vblk, rq);
	}
}

static void virtio_blk_init_status(struct virtio_blk_pdu *pdu)
{
	sg_init_one(&pdu->in_sg, &pdu->in.status, sizeof(pdu->in.status));
}

/* Undo virtio_blk_prepare(). */
static void virtio_blk_cleanup(struct virtio_blk_pdu *pdu)
{
	if (likely(!pdu->needs_cleanup))
		return;
	pdu->needs_cleanup = false;
	virtio_blk_init_status(pdu);
	kfree(pdu->ranges);
	pdu->ranges = NULL;
	if (pdu->chain.orig_nents) {
		sg_free_table_chained(&pdu->chain, VIRTIO_BLK_INLINE_SEGMENTS);
		virtio_blk_unlink_chain(pdu);
	}
}

/*
 * Whether a request fits into the ring. If it does not fit into a split ring,
 * virtqueue_add_sgs() kicks the device, even if no kick is needed, and under the lock.
 * Avoid that.
 */
static bool virtio_blk_fits(struct virtqueue *vq, unsigned int descriptors)
{
	if (likely(vq->num_free >= descriptors))
		return true;
	return vq->num_free &&
	       virtio_has_feature(vq->vdev, VIRTIO_RING_F_INDIRECT_DESC);
}

/* Virtio 1.4, section 5.2.6: header, data, status. */
static int virtio_blk_add(struct virtio_blk_queue *queue, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	unsigned int out = 1, in = 1;
	struct scatterlist *parts[3];
	int err;

	if (unlikely(!queue->vq))
		return -EIO;
	if (unlikely(!virtio_blk_fits(queue->vq,
				      pdu->segments + VIRTIO_BLK_OVERHEAD)))
		return -ENOSPC;
	parts[0] = &pdu->hdr_sg;
	parts[1] = pdu->data;
	if (!pdu->segments)
		parts[1] = &pdu->in_sg;
	else if (rq_data_dir(rq) == WRITE)
		out++;
	else
		in++;
	parts[2] = &pdu->in_sg;
	/* If the device writes no status, the request has failed. */
	pdu->in.status = VIRTIO_BLK_STATUS_NONE;
	pdu->sent = true;
	err = virtqueue_add_sgs(queue->vq, parts, out, in, rq, GFP_ATOMIC);
	if (likely(!err))
		queue->in_ring++;
	else
		pdu->sent = false;
	return err;
}

/*
 * A broken virtqueue accepts no request. Park the request, so that recovery takes it back
 * together with those in the ring.
 */
static bool virtio_blk_park(struct virtio_blk_queue *queue, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	if (!queue->vq || !virtqueue_is_broken(queue->vq) ||
	    !virtio_blk_schedule_recovery(queue->vblk))
		return false;
	pdu->sent = true;
	blk_mq_start_request(rq);
	rq_list_add_tail(&queue->parked, rq);
	return true;
}

/*
 * Add a prepared request to the ring. On an error the preparation is undone.
 *
 * blk_mq_start_request() follows only after success, so that a failure leaves nothing to
 * undo in the block layer. The lock keeps the request from ending before.
 */
static blk_status_t virtio_blk_send(struct virtio_blk_queue *queue,
				    struct request *rq)
{
	int err;

	lockdep_assert_held(&queue->lock);
	err = virtio_blk_add(queue, rq);
	if (likely(!err)) {
		blk_mq_start_request(rq);
		return BLK_STS_OK;
	}
	if (virtio_blk_park(queue, rq))
		return BLK_STS_OK;

	virtio_blk_cleanup(blk_mq_rq_to_pdu(rq));
	switch (err) {
	case -ENOSPC:
		return BLK_STS_DEV_RESOURCE;
	case -ENOMEM:
		return BLK_STS_RESOURCE;
	default:
		return BLK_STS_IOERR;
	}
}

/*
 * Returns the virtqueue if it has to be kicked, else NULL. Called with the queue's lock.
 * The caller is a dispatcher, so that it may kick without the lock.
 */
static struct virtqueue *virtio_blk_kick_prepare(struct virtio_blk_queue *queue)
{
	struct virtqueue *vq = queue->vq;

	return likely(vq) && virtqueue_kick_prepare(vq) ? vq : NULL;
}

static blk_status_t virtio_blk_queue_rq(struct blk_mq_hw_ctx *hctx,
					const struct blk_mq_queue_data *bd)
{
	struct virtio_blk_queue *queue = hctx->driver_data;
	struct virtqueue *to_kick = NULL;
	blk_status_t status;

	status = virtio_blk_prepare(queue->vblk, bd->rq);
	if (status)
		return status;

	spin_lock_irq(&queue->lock);
	status = virtio_blk_send(queue, bd->rq);
	if (unlikely(status == BLK_STS_DEV_RESOURCE)) {
		/* virtio_blk_reap() starts the queue again when a request has ended. */
		queue->full = true;
		blk_mq_stop_hw_queue(hctx);
	}
	/* A request that did not fit waits for others. The device must know about them. */
	if (bd->last || status)
		to_kick = virtio_blk_kick_prepare(queue);
	spin_unlock_irq(&queue->lock);

	if (to_kick)
		virtqueue_notify(to_kick);
	/*
	 * The reap that starts the queue may come before blk-mq has put the request back. With
	 * BLK_STS_DEV_RESOURCE blk-mq would rely on it, or on a completion outside of a batch.
	 */
	return status == BLK_STS_DEV_RESOURCE ? BLK_STS_RESOURCE : status;
}

static void virtio_blk_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	struct virtio_blk_queue *queue = hctx->driver_data;
	struct virtqueue *to_kick;

	spin_lock_irq(&queue->lock);
	to_kick = virtio_blk_kick_prepare(queue);
	spin_unlock_irq(&queue->lock);
	if (to_kick)
		virtqueue_notify(to_kick);
}

/* Send a batch of prepared requests with one kick. Move those that fail to @left. */
static void virtio_blk_send_batch(struct virtio_blk_queue *queue,
				  struct rq_list *ready, struct rq_list *left)
{
	struct virtqueue *to_kick;
	struct request *rq;

	spin_lock_irq(&queue->lock);
	while ((rq = rq_list_pop(ready)))
		if (unlikely(virtio_blk_send(queue, rq)))
			rq_list_add_tail(left, rq);
	to_kick = virtio_blk_kick_prepare(queue);
	spin_unlock_irq(&queue->lock);
	if (to_kick)
		virtqueue_notify(to_kick);
}

/*
 * blk-mq passes the requests that are left in @rqlist to queue_rq, which can return the
 * reason of a failure.
 */
static void virtio_blk_queue_rqs(struct rq_list *rqlist)
{
	struct rq_list ready = {}, left = {};
	struct virtio_blk_queue *queue = NULL;
	struct request *rq;

	while ((rq = rq_list_pop(rqlist))) {
		struct virtio_blk_queue *next = rq->mq_hctx->driver_data;

		if (queue && queue != next)
			virtio_blk_send_batch(queue, &ready, &left);
		queue = next;
		if (likely(!virtio_blk_prepare(queue->vblk, rq)))
			rq_list_add_tail(&ready, rq);
		else
			rq_list_add_tail(&left, rq);
	}
	if (queue)
		virtio_blk_send_batch(queue, &ready, &left);
	*rqlist = left;
}

static blk_status_t virtio_blk_status(struct virtio_blk_pdu *pdu)
{
	switch (READ_ONCE(pdu->in.status)) {
	case VIRTIO_BLK_S_OK:
		return BLK_STS_OK;
	case VIRTIO_BLK_S_UNSUPP:
		return BLK_STS_NOTSUPP;
	case VIRTIO_BLK_S_ZONE_OPEN_RESOURCE:
		return BLK_STS_ZONE_OPEN_RESOURCE;
	case VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE:
		return BLK_STS_ZONE_ACTIVE_RESOURCE;
	case VIRTIO_BLK_STATUS_NONE:
		return pdu->timed_out ? BLK_STS_TIMEOUT : BLK_STS_IOERR;
	default:
		return BLK_STS_IOERR;
	}
}

static void virtio_blk_complete(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	blk_status_t status = virtio_blk_status(pdu);

	if (unlikely(status))
		pdu->timed_out = false;
	blk_mq_end_request(rq, status);
}

/*
 * Tell the block layer to which sector a zone append was written. Fail the request if
 * that is not in its zone.
 */
static void virtio_blk_set_append_sector(struct virtio_blk *vblk, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	u64 sector = virtio64_to_cpu(vblk->vdev, pdu->in.sector);
	u64 zone = blk_rq_pos(rq);

	if (pdu->in.status != VIRTIO_BLK_S_OK)
		return;
	if (sector < zone || sector - zone >= vblk->zone_sectors ||
	    blk_rq_sectors(rq) > vblk->zone_sectors - (sector - zone))
		pdu->in.status = VIRTIO_BLK_S_IOERR;
	else
		rq->__sector = sector;
}

/*
 * End a request that the device has used. Called with the queue's lock. The request is
 * added to @iob, ended on another CPU, or added to @remaining for the caller to end.
 */
static void virtio_blk_take_used(struct virtio_blk_queue *queue,
				 struct request *rq, struct io_comp_batch *iob,
				 struct rq_list *remaining)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	bool failed;

	queue->in_ring--;
	if (unlikely(blk_should_fake_timeout(rq->q))) {
		rq_list_add_tail(&queue->parked, rq);
		return;
	}
	pdu->sent = false;
	if (unlikely(pdu->needs_cleanup)) {
		if (req_op(rq) == REQ_OP_ZONE_APPEND)
			virtio_blk_set_append_sector(queue->vblk, rq);
		virtio_blk_cleanup(pdu);
	}
	failed = READ_ONCE(pdu->in.status) != VIRTIO_BLK_S_OK;
	if (blk_mq_complete_request_remote(rq))
		return;
	/* A batch can contain only requests that succeeded. */
	if (unlikely(failed) ||
	    !blk_mq_add_to_batch(rq, iob, failed, blk_mq_end_request_batch))
		rq_list_add_tail(remaining, rq);
}

/*
 * End the requests that the device has used. Those that can be ended together are added to
 * @iob. The caller ends them. Returns the number of requests.
 */
static unsigned int virtio_blk_take_all_used(struct virtio_blk_queue *queue,
					     struct io_comp_batch *iob)
{
	struct rq_list remaining = {};
	unsigned int len, found = 0;
	bool was_full = false;
	struct virtqueue *vq;
	struct request *rq;
	unsigned long flags;

	spin_lock_irqsave(&queue->lock, flags);
	vq = queue->vq;
	/* Interrupts and pollers can come while the device is stopped. */
	if (unlikely(!vq))
		goto out;
	do {
		if (!queue->polled)
			virtqueue_disable_cb(vq);
		while ((rq = virtqueue_get_buf(vq, &len))) {
			virtio_blk_take_used(queue, rq, iob, &remaining);
			found++;
		}
	} while (!queue->polled && !virtqueue_enable_cb(vq));
	if (unlikely(virtqueue_is_broken(vq)))
		virtio_blk_schedule_recovery(queue->vblk);
	if (found) {
		was_full = queue->full;
		queue->full = false;
	}
out:
	spin_unlock_irqrestore(&queue->lock, flags);

	while ((rq = rq_list_pop(&remaining)))
		virtio_blk_complete(rq);
	if (unlikely(was_full))
		blk_mq_start_stopped_hw_queue(queue->hctx, true);
	return found;
}

/**
 * virtio_blk_reap - end the requests that the device has used
 * @queue: queue, whose lock is taken
 *
 * Any context. A queue without a virtqueue has none.
 *
 * Return: number of requests
 */
unsigned int virtio_blk_reap(struct virtio_blk_queue *queue)
{
	DEFINE_IO_COMP_BATCH(iob);
	unsigned int found = virtio_blk_take_all_used(queue, &iob);

	if (iob.complete)
		iob.complete(&iob);
	return found;
}

static void virtio_blk_interrupt(struct virtqueue *vq)
{
	struct virtio_blk *vblk = vq->vdev->priv;

	virtio_blk_reap(&vblk->queues[vq->index]);
}

static int virtio_blk_poll(struct blk_mq_hw_ctx *hctx, struct io_comp_batch *iob)
{
	return virtio_blk_take_all_used(hctx->driver_data, iob);
}

/**
 * virtio_blk_take_outstanding - take all requests and the virtqueue from a queue
 * @queue: quiesced queue of a device that was reset or is not present
 * @outstanding: receives the requests, with their preparation undone
 *
 * virtqueue_detach_unused_buf() is called exactly in_ring times. On an empty ring it
 * checks memory that the device can write, and stops the kernel if that says the
 * ring is not empty.
 */
void virtio_blk_take_outstanding(struct virtio_blk_queue *queue,
				 struct rq_list *outstanding)
{
	struct request *rq;

	spin_lock_irq(&queue->lock);
	for (; queue->in_ring; queue->in_ring--)
		rq_list_add_tail(&queue->parked,
				 virtqueue_detach_unused_buf(queue->vq));
	while ((rq = rq_list_pop(&queue->parked))) {
		struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

		pdu->sent = false;
		virtio_blk_cleanup(pdu);
		rq_list_add_tail(outstanding, rq);
	}
	queue->vq = NULL;
	queue->full = false;
	spin_unlock_irq(&queue->lock);
}

static void virtio_blk_map_queues(struct blk_mq_tag_set *set)
{
	struct virtio_blk *vblk = set->driver_data;
	struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];

	/* Map each CPU to the queue whose interrupt is delivered to it. */
	map->nr_queues = vblk->num_queues - vblk->num_poll_queues;
	map->queue_offset = 0;
	blk_mq_map_hw_queues(map, &vblk->vdev->dev, 0);
	if (!vblk->num_poll_queues)
		return;

	/* No queues for reads only. The last queues are for polling. */
	set->map[HCTX_TYPE_READ].nr_queues = 0;
	set->map[HCTX_TYPE_POLL].queue_offset = map->nr_queues;
	set->map[HCTX_TYPE_POLL].nr_queues = vblk->num_poll_queues;
	blk_mq_map_queues(&set->map[HCTX_TYPE_POLL]);
}

static int virtio_blk_init_hctx(struct blk_mq_hw_ctx *hctx, void *data,
				unsigned int index)
{
	struct virtio_blk *vblk = data;
	struct virtio_blk_queue *queue = &vblk->queues[index];

	queue->hctx = hctx;
	hctx->driver_data = queue;
	return 0;
}

static int virtio_blk_init_request(struct blk_mq_tag_set *set,
				   struct request *rq, unsigned int index,
				   int node)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	sg_init_one(&pdu->hdr_sg, &pdu->hdr, sizeof(pdu->hdr));
	virtio_blk_init_status(pdu);
	sg_init_table(pdu->data, VIRTIO_BLK_INLINE_SEGMENTS);
	return 0;
}

INIT_REQUEST_OP(virtio_blk_init_request)

static const struct blk_mq_ops virtio_blk_mq_ops = {
	.queue_rq	= virtio_blk_queue_rq,
	.queue_rqs	= virtio_blk_queue_rqs,
	.commit_rqs	= virtio_blk_commit_rqs,
	.complete	= virtio_blk_complete,
	.poll		= virtio_blk_poll,
	.timeout	= virtio_blk_timeout,
	.map_queues	= virtio_blk_map_queues,
	.init_hctx	= virtio_blk_init_hctx,
	.init_request	= virtio_blk_init_request_op,
};

static int virtio_blk_alloc_tags(struct virtio_blk *vblk)
{
	struct blk_mq_tag_set *set = &vblk->tag_set;
	unsigned int depth = vblk->ring_size;

	/* With an indirect table a request takes one descriptor, without one two or more. */
	if (!virtio_has_feature(vblk->vdev, VIRTIO_RING_F_INDIRECT_DESC))
		depth /= VIRTIO_BLK_OVERHEAD;
	if (queue_depth)
		depth = min(depth, queue_depth);

	set->ops = &virtio_blk_mq_ops;
	set->nr_hw_queues = vblk->num_queues;
	set->nr_maps = vblk->num_poll_queues ? HCTX_MAX_TYPES : 1;
	set->queue_depth = max(depth, 1U);
	set->numa_node = NUMA_NO_NODE;
	set->cmd_size = sizeof(struct virtio_blk_pdu);
	set->driver_data = vblk;
	return blk_mq_alloc_tag_set(set);
}

/**
 * virtio_blk_get - send a request of the driver and wait for it
 * @vblk: disk
 * @type: %VIRTIO_BLK_T_* of the request
 * @sector: sector of the request
 * @buf: receives the data; not on the stack, because a request can't map that
 * @len: size of @buf
 *
 * Return: 0 or an error; %-EOPNOTSUPP if the device does not support the request
 */
int virtio_blk_get(struct virtio_blk *vblk, u32 type, u64 sector, void *buf,
		   unsigned int len)
{
	struct request *rq;
	int err;

	rq = blk_mq_alloc_request(vblk->disk->queue, REQ_OP_DRV_IN, 0);
	if (IS_ERR(rq))
		return PTR_ERR(rq);
	virtio_blk_set_header(vblk, rq, type, sector);
	err = blk_rq_map_kern(rq, buf, len, GFP_KERNEL);
	if (!err)
		err = blk_status_to_errno(blk_execute_rq(rq, false));
	blk_mq_free_request(rq);
	return err;
}

/* --- virtqueues --- */

static int virtio_blk_count_queues(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;
	u16 num = 1;

	virtio_cread_feature(vdev, VIRTIO_BLK_F_MQ, struct virtio_blk_config,
			     num_queues, &num);
	if (!num) {
		dev_err(&vdev->dev, "device offers several queues, but has none\n");
		return -EINVAL;
	}
	vblk->num_queues =
		blk_mq_num_possible_queues(min_not_zero(num_request_queues, num));
	vblk->num_poll_queues = min(poll_queues, vblk->num_queues - 1);
	dev_info(&vdev->dev, "%u/0/%u default/read/poll queues\n",
		 vblk->num_queues - vblk->num_poll_queues,
		 vblk->num_poll_queues);
	return 0;
}

static int virtio_blk_alloc_queues(struct virtio_blk *vblk)
{
	unsigned int i;

	vblk->queues = kcalloc(vblk->num_queues, sizeof(*vblk->queues),
			       GFP_KERNEL);
	if (!vblk->queues)
		return -ENOMEM;
	for (i = 0; i < vblk->num_queues; i++) {
		struct virtio_blk_queue *queue = &vblk->queues[i];

		spin_lock_init(&queue->lock);
		queue->vblk = vblk;
		queue->polled = i >= vblk->num_queues - vblk->num_poll_queues;
		snprintf(queue->name, sizeof(queue->name), "%s.%u",
			 queue->polled ? "req_poll" : "req", i);
	}
	return 0;
}

/* Start to use the virtqueues, unless a request of the disk may not fit into one. */
static int virtio_blk_use_vqs(struct virtio_blk *vblk, struct virtqueue **vqs)
{
	unsigned int i, size = UINT_MAX;

	for (i = 0; i < vblk->num_queues; i++)
		size = min(size, virtqueue_get_vring_size(vqs[i]));
	if (size < vblk->ring_size)
		return -EINVAL;
	/* The limits of the disk follow from the first ring size, and don't change. */
	if (!vblk->ring_size)
		vblk->ring_size = size;
	for (i = 0; i < vblk->num_queues; i++) {
		spin_lock_irq(&vblk->queues[i].lock);
		vblk->queues[i].vq = vqs[i];
		spin_unlock_irq(&vblk->queues[i].lock);
	}
	return 0;
}

/**
 * virtio_blk_find_vqs - find the virtqueues of a disk
 * @vblk: disk with its queues, whose device has no virtqueues
 *
 * Return: 0 or an error; %-EINVAL if a ring is smaller than before
 */
int virtio_blk_find_vqs(struct virtio_blk *vblk)
{
	unsigned int i, num = vblk->num_queues;
	struct irq_affinity affinity = {};
	struct virtqueue_info *info;
	struct virtqueue **vqs;
	int err = -ENOMEM;

	info = kcalloc(num, sizeof(*info), GFP_KERNEL);
	vqs = kcalloc(num, sizeof(*vqs), GFP_KERNEL);
	if (!info || !vqs)
		goto out;

	for (i = 0; i < num; i++) {
		info[i].name = vblk->queues[i].name;
		if (!vblk->queues[i].polled)
			info[i].callback = virtio_blk_interrupt;
	}
	err = virtio_find_vqs(vblk->vdev, num, vqs, info, &affinity);
	if (err)
		goto out;
	err = virtio_blk_use_vqs(vblk, vqs);
	if (err)
		vblk->vdev->config->del_vqs(vblk->vdev);
out:
	kfree(vqs);
	kfree(info);
	return err;
}

/* --- the configuration space --- */

/*
 * Whether the device has a write cache that needs flushes. With VIRTIO_BLK_F_CONFIG_WCE its
 * field alone says so: devices are known that offer this, but no VIRTIO_BLK_F_FLUSH, and
 * nevertheless cache writes and do flushes (QEMU for machine types up to 4.2).
 */
static bool virtio_blk_read_cache_mode(struct virtio_device *vdev)
{
	u8 wce = virtio_has_feature(vdev, VIRTIO_BLK_F_FLUSH);

	virtio_cread_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE,
			     struct virtio_blk_config, wce, &wce);
	return wce;
}

/**
 * virtio_blk_restore_config - set the cache mode again after a reset
 * @vblk: disk whose device was reset and has negotiated its features; the recovery lock
 *	is held
 *
 * Return: 0, or %-EIO if the device now has a write cache that nobody would flush
 */
int virtio_blk_restore_config(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;
	u8 wce = vblk->write_cache;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE))
		return 0;
	virtio_cwrite(vdev, struct virtio_blk_config, wce, &wce);
	if (virtio_blk_read_cache_mode(vdev) && !vblk->write_cache)
		return -EIO;
	return 0;
}

static int virtio_blk_segment_limits(struct virtio_blk *vblk,
				     struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 seg_max = 1, size_max = 0;

	if (vblk->ring_size <= VIRTIO_BLK_OVERHEAD) {
		dev_err(&vdev->dev, "ring of %u descriptors can't hold a request\n",
			vblk->ring_size);
		return -EINVAL;
	}
	virtio_cread_feature(vdev, VIRTIO_BLK_F_SEG_MAX,
			     struct virtio_blk_config, seg_max, &seg_max);
	if (!seg_max)
		dev_warn(&vdev->dev, "requests of no segment make no sense: assuming one\n");
	/* A chain must not be longer than its ring, even in an indirect table. */
	lim->max_segments = clamp_t(u32, seg_max, 1,
				    min(vblk->ring_size - VIRTIO_BLK_OVERHEAD,
					USHRT_MAX));

	lim->max_segment_size = min_t(size_t, virtio_max_dma_size(vdev),
				      UINT_MAX);
	virtio_cread_feature(vdev, VIRTIO_BLK_F_SIZE_MAX,
			     struct virtio_blk_config, size_max, &size_max);
	/* Some devices offer the feature with 0, which means no limit. */
	if (!size_max)
		return 0;
	if (size_max < BLK_MIN_SEGMENT_SIZE) {
		dev_err(&vdev->dev,
			"segments of at most %u bytes are not supported, %u are the least\n",
			size_max, (u32)BLK_MIN_SEGMENT_SIZE);
		return -EINVAL;
	}
	lim->max_segment_size = min(lim->max_segment_size, size_max);
	return 0;
}

static int virtio_blk_block_size(struct virtio_blk *vblk,
				 struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 block = SECTOR_SIZE;

	virtio_cread_feature(vdev, VIRTIO_BLK_F_BLK_SIZE,
			     struct virtio_blk_config, blk_size, &block);
	if (blk_validate_block_size(block)) {
		dev_err(&vdev->dev, "block size of %u bytes is not supported\n",
			block);
		return -EINVAL;
	}
	/* Each page of a block can be a segment of its own. */
	if (block / min_t(u32, lim->max_segment_size, PAGE_SIZE) >
	    lim->max_segments) {
		dev_err(&vdev->dev,
			"block of %u bytes does not fit into %u segments\n",
			block, lim->max_segments);
		return -EINVAL;
	}
	lim->logical_block_size = block;
	return 0;
}

static int virtio_blk_topology(struct virtio_blk *vblk, struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 block = lim->logical_block_size, opt_io;
	u8 exp, alignment;
	u16 min_io;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_TOPOLOGY))
		return 0;
	virtio_cread(vdev, struct virtio_blk_config, physical_block_exp, &exp);
	virtio_cread(vdev, struct virtio_blk_config, alignment_offset,
		     &alignment);
	virtio_cread(vdev, struct virtio_blk_config, min_io_size, &min_io);
	virtio_cread(vdev, struct virtio_blk_config, opt_io_size, &opt_io);

	if (exp >= 32 - ilog2(block)) {
		dev_err(&vdev->dev,
			"physical block of 2^%u logical blocks is too large\n",
			exp);
		return -EINVAL;
	}
	lim->physical_block_size = block << exp;
	lim->alignment_offset = block * alignment;
	if (min_io <= UINT_MAX / block)
		lim->io_min = block * min_io;
	if (opt_io <= UINT_MAX / block)
		lim->io_opt = block * opt_io;
	return 0;
}

/*
 * The longest range, in sectors; 0 if ranges can't be used. The block layer splits ranges
 * at this length, so it has to be a multiple of the unit.
 */
static u32 virtio_blk_range_sectors(struct virtio_device *vdev,
				    const char *what, u32 sectors, u32 unit)
{
	unit >>= SECTOR_SHIFT;
	if (sectors < unit)
		dev_warn(&vdev->dev, "%s of at most %u sectors is not used: blocks have %u\n",
			 what, sectors, unit);
	return round_down(sectors, unit);
}

/*
 * The alignment of ranges in bytes; 0 for none. The block layer needs a power of two that
 * is not larger than a range. It is only a hint, so ignore any other value.
 */
static u32 virtio_blk_range_alignment(struct virtio_device *vdev,
				      const char *what, u32 alignment,
				      u32 sectors)
{
	if (!alignment)
		return 0;
	if (is_power_of_2(alignment) && alignment <= sectors &&
	    alignment <= UINT_MAX >> SECTOR_SHIFT)
		return alignment << SECTOR_SHIFT;
	dev_warn(&vdev->dev, "alignment of %s to %u sectors is ignored\n", what,
		 alignment);
	return 0;
}

/* Returns the alignment of discards in bytes; 0 for none. */
static u32 virtio_blk_discard_limits(struct virtio_blk *vblk,
				     struct queue_limits *lim)
{
	u32 block = max(lim->physical_block_size, lim->logical_block_size);
	struct virtio_device *vdev = vblk->vdev;
	u32 sectors, ranges, alignment;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_DISCARD))
		return 0;
	virtio_cread(vdev, struct virtio_blk_config, max_discard_sectors,
		     &sectors);
	virtio_cread(vdev, struct virtio_blk_config, max_discard_seg, &ranges);
	virtio_cread(vdev, struct virtio_blk_config, discard_sector_alignment,
		     &alignment);

	/* Some devices say 0 for no limit. */
	sectors = virtio_blk_range_sectors(vdev, "discard", sectors ?: UINT_MAX,
					   block);
	lim->max_hw_discard_sectors = sectors;
	lim->max_discard_segments = min_t(u32, ranges ?: lim->max_segments,
					  VIRTIO_BLK_MAX_RANGES);
	return virtio_blk_range_alignment(vdev, "discard", alignment, sectors);
}

static void virtio_blk_write_zeroes_limits(struct virtio_blk *vblk,
					   struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 sectors;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_WRITE_ZEROES))
		return;
	virtio_cread(vdev, struct virtio_blk_config, max_write_zeroes_sectors,
		     &sectors);
	/* Some devices say 0 for no limit. */
	lim->max_write_zeroes_sectors =
		virtio_blk_range_sectors(vdev, "write zeroes",
					 sectors ?: UINT_MAX,
					 lim->logical_block_size);
}

/* A request has one range. Returns the alignment in bytes; 0 for none. */
static u32 virtio_blk_secure_erase_limits(struct virtio_blk *vblk,
					  struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 sectors, ranges, alignment;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_SECURE_ERASE))
		return 0;
	virtio_cread(vdev, struct virtio_blk_config, max_secure_erase_sectors,
		     &sectors);
	virtio_cread(vdev, struct virtio_blk_config, max_secure_erase_seg,
		     &ranges);
	virtio_cread(vdev, struct virtio_blk_config,
		     secure_erase_sector_alignment, &alignment);

	sectors = virtio_blk_range_sectors(vdev, "secure erase",
					   ranges ? sectors : 0,
					   lim->logical_block_size);
	lim->max_secure_erase_sectors = sectors;
	sectors = min(sectors, lim->max_hw_discard_sectors);
	if (!sectors)
		return 0;
	return virtio_blk_range_alignment(vdev, "secure erase", alignment,
					  sectors);
}

/* The block layer has one granularity for both. Use the smaller, but at least a block. */
static void virtio_blk_discard_and_erase_limits(struct virtio_blk *vblk,
						struct queue_limits *lim)
{
	u32 alignment = virtio_blk_discard_limits(vblk, lim);

	alignment = min_not_zero(alignment,
				 virtio_blk_secure_erase_limits(vblk, lim));
	lim->discard_granularity = max3(lim->physical_block_size,
					lim->logical_block_size, alignment);
}

/* A host-aware disk is used without zones. */
static int virtio_blk_zones(struct virtio_blk *vblk, struct queue_limits *lim)
{
	u8 model = VIRTIO_BLK_Z_NONE;

	virtio_cread_feature(vblk->vdev, VIRTIO_BLK_F_ZONED,
			     struct virtio_blk_config, zoned.model, &model);
	switch (model) {
	case VIRTIO_BLK_Z_NONE:
	case VIRTIO_BLK_Z_HA:
		return 0;
	case VIRTIO_BLK_Z_HM:
		return virtio_blk_zone_limits(vblk, lim);
	default:
		dev_err(&vblk->vdev->dev, "zone model %u is unknown\n", model);
		return -EINVAL;
	}
}

/* @lim is all 0 before. Returns 0, or an error after a message. */
static int virtio_blk_read_limits(struct virtio_blk *vblk, struct queue_limits *lim)
{
	int err;

	lim->max_hw_sectors = UINT_MAX;
	lim->features = BLK_FEAT_ROTATIONAL;
	vblk->write_cache = virtio_blk_read_cache_mode(vblk->vdev);
	if (vblk->write_cache)
		lim->features |= BLK_FEAT_WRITE_CACHE;

	err = virtio_blk_segment_limits(vblk, lim);
	if (!err)
		err = virtio_blk_block_size(vblk, lim);
	if (!err)
		err = virtio_blk_topology(vblk, lim);
	if (err)
		return err;
	virtio_blk_discard_and_erase_limits(vblk, lim);
	virtio_blk_write_zeroes_limits(vblk, lim);
	return virtio_blk_zones(vblk, lim);
}

static void virtio_blk_read_geometry(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;
	struct hd_geometry *geometry = &vblk->geometry;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_GEOMETRY))
		return;
	virtio_cread(vdev, struct virtio_blk_config, geometry.cylinders,
		     &geometry->cylinders);
	virtio_cread(vdev, struct virtio_blk_config, geometry.heads,
		     &geometry->heads);
	virtio_cread(vdev, struct virtio_blk_config, geometry.sectors,
		     &geometry->sectors);
}

/* --- attributes --- */

/* The data of VIRTIO_BLK_T_GET_LIFETIME. */
struct virtio_blk_lifetime {
	__le16 pre_eol_info;
	__le16 device_lifetime_est_typ_a;
	__le16 device_lifetime_est_typ_b;
};

static ssize_t serial_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	char *id;
	int ret;

	id = kzalloc(VIRTIO_BLK_ID_BYTES, GFP_KERNEL);
	if (!id)
		return -ENOMEM;
	ret = virtio_blk_get(virtio_blk_of(dev), VIRTIO_BLK_T_GET_ID, 0, id,
			     VIRTIO_BLK_ID_BYTES);
	if (!ret)
		ret = sysfs_emit(buf, "%.*s", VIRTIO_BLK_ID_BYTES, id);
	else if (ret == -EOPNOTSUPP)
		ret = 0;
	kfree(id);
	return ret;
}
static DEVICE_ATTR_RO(serial);

static const char *const virtio_blk_cache_types[] = {
	"write through", "write back"
};

static ssize_t cache_type_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	bool cache = READ_ONCE(virtio_blk_of(dev)->write_cache);

	return sysfs_emit(buf, "%s\n", virtio_blk_cache_types[cache]);
}

/* Set the cache mode of the device. If the device is stopped, its next start sets this mode. */
static void virtio_blk_set_cache_mode(struct virtio_blk *vblk, u8 wce)
{
	struct virtio_blk_recovery *recovery = &vblk->recovery;

	mutex_lock(&recovery->lock);
	WRITE_ONCE(vblk->write_cache, wce);
	if (recovery->state == VIRTIO_BLK_LIVE) {
		virtio_cwrite(vblk->vdev, struct virtio_blk_config, wce, &wce);
		/* The device may have refused it. */
		WRITE_ONCE(vblk->write_cache,
			   virtio_blk_read_cache_mode(vblk->vdev));
	}
	mutex_unlock(&recovery->lock);
}

/*
 * Set whether the block layer sends flushes. This replaces what was written to the queue's
 * write_cache before, which would have it drop them. Called without the recovery lock: this
 * waits for requests in flight, which may need recovery to end.
 */
static int virtio_blk_set_flushes(struct virtio_blk *vblk, bool flushes)
{
	struct request_queue *q = vblk->disk->queue;
	struct queue_limits lim = queue_limits_start_update(q);

	if (flushes)
		lim.features |= BLK_FEAT_WRITE_CACHE;
	else
		lim.features &= ~BLK_FEAT_WRITE_CACHE;
	lim.flags &= ~BLK_FLAG_WRITE_CACHE_DISABLED;
	return queue_limits_commit_update_frozen(q, &lim);
}

/*
 * Virtio 1.4, section 5.2.6.2: after the switch to write-through, what was written before is
 * not durable until a flush. This includes writes that were in flight at the switch.
 */
static int virtio_blk_end_write_back(struct virtio_blk *vblk)
{
	int err;

	/* Waits for those writes, and keeps the block layer from dropping the flush. */
	err = virtio_blk_set_flushes(vblk, true);
	if (err)
		return err;
	err = blkdev_issue_flush(vblk->disk->part0);
	return err ?: virtio_blk_set_flushes(vblk, false);
}

/* Flushes are sent from before the device caches writes until after it does not any more. */
static ssize_t cache_type_store(struct device *dev,
				struct device_attribute *attr, const char *buf,
				size_t count)
{
	struct virtio_blk *vblk = virtio_blk_of(dev);
	int mode, err;

	mode = sysfs_match_string(virtio_blk_cache_types, buf);
	if (mode < 0)
		return mode;
	err = mutex_lock_interruptible(&vblk->cache_type_lock);
	if (err)
		return err;
	if (mode)
		err = virtio_blk_set_flushes(vblk, true);
	if (err)
		goto out;
	virtio_blk_set_cache_mode(vblk, mode);
	if (!READ_ONCE(vblk->write_cache) &&
	    (vblk->disk->queue->limits.features & BLK_FEAT_WRITE_CACHE))
		err = virtio_blk_end_write_back(vblk);
out:
	mutex_unlock(&vblk->cache_type_lock);
	return err ?: count;
}
static DEVICE_ATTR_RW(cache_type);

static int virtio_blk_get_lifetime(struct device *dev,
				   struct virtio_blk_lifetime *lifetime)
{
	struct virtio_blk_lifetime *data;
	int err;

	data = kzalloc_obj(*data, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	err = virtio_blk_get(virtio_blk_of(dev), VIRTIO_BLK_T_GET_LIFETIME, 0,
			     data, sizeof(*data));
	*lifetime = *data;
	kfree(data);
	return err;
}

static ssize_t life_time_show(struct device *dev, struct device_attribute *attr,
			      char *buf)
{
	struct virtio_blk_lifetime lifetime;
	int err = virtio_blk_get_lifetime(dev, &lifetime);

	if (err)
		return err;
	return sysfs_emit(buf, "0x%02x 0x%02x\n",
			  le16_to_cpu(lifetime.device_lifetime_est_typ_a),
			  le16_to_cpu(lifetime.device_lifetime_est_typ_b));
}
static DEVICE_ATTR_RO(life_time);

static ssize_t pre_eol_info_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	struct virtio_blk_lifetime lifetime;
	int err = virtio_blk_get_lifetime(dev, &lifetime);

	if (err)
		return err;
	return sysfs_emit(buf, "0x%02x\n", le16_to_cpu(lifetime.pre_eol_info));
}
static DEVICE_ATTR_RO(pre_eol_info);

static struct attribute *virtio_blk_attrs[] = {
	&dev_attr_serial.attr,
	&dev_attr_cache_type.attr,
	&dev_attr_life_time.attr,
	&dev_attr_pre_eol_info.attr,
	NULL,
};

static umode_t virtio_blk_attr_is_visible(struct kobject *kobj,
					  struct attribute *attr, int index)
{
	struct virtio_device *vdev = virtio_blk_of(kobj_to_dev(kobj))->vdev;

	if (attr == &dev_attr_cache_type.attr &&
	    !virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE))
		return 0444;
	if ((attr == &dev_attr_life_time.attr ||
	     attr == &dev_attr_pre_eol_info.attr) &&
	    !virtio_has_feature(vdev, VIRTIO_BLK_F_LIFETIME))
		return 0;
	return attr->mode;
}

static const struct attribute_group virtio_blk_group = {
	.attrs		= virtio_blk_attrs,
	.is_visible	= virtio_blk_attr_is_visible,
};

static const struct attribute_group *virtio_blk_groups[] = {
	&virtio_blk_group,
	&virtio_blk_recovery_group,
	NULL,
};

/* --- the life of a disk --- */

static int virtio_blk_getgeo(struct gendisk *disk, struct hd_geometry *geo)
{
	struct virtio_blk *vblk = disk->private_data;

	geo->heads = vblk->geometry.heads;
	geo->sectors = vblk->geometry.sectors;
	geo->cylinders = vblk->geometry.cylinders;
	if (!geo->heads || !geo->sectors) {
		/* As SCSI disks of this size: a cylinder has 1 MiB. */
		geo->heads = 64;
		geo->sectors = 32;
		geo->cylinders = get_capacity(disk) >> 11;
	}
	return 0;
}

GETGEO_OP(virtio_blk_getgeo)

#ifdef CONFIG_BLK_DEV_ZONED
REPORT_ZONES_OP(virtio_blk_report_zones)
#endif

static void virtio_blk_free(struct virtio_blk *vblk)
{
	ida_free(&virtio_blk_ida, vblk->index);
	mutex_destroy(&vblk->recovery.lock);
	kfree(vblk);
}

static void virtio_blk_free_disk(struct gendisk *disk)
{
	virtio_blk_free(disk->private_data);
}

static const struct block_device_operations virtio_blk_fops = {
	.owner		= THIS_MODULE,
	.getgeo		= virtio_blk_getgeo_op,
#ifdef CONFIG_BLK_DEV_ZONED
	.report_zones	= virtio_blk_report_zones_op,
#endif
	.free_disk	= virtio_blk_free_disk,
};

/* Set the capacity from the device. Returns whether it changed. */
static bool virtio_blk_set_capacity(struct virtio_blk *vblk, u64 capacity,
				    bool resized)
{
	unsigned int block = queue_logical_block_size(vblk->disk->queue);
	u64 blocks = DIV_ROUND_UP_ULL(capacity, block >> SECTOR_SHIFT);
	char binary[16], decimal[16];

	if (resized && capacity == get_capacity(vblk->disk))
		return false;
	string_get_size(blocks, block, STRING_UNITS_2, binary, sizeof(binary));
	string_get_size(blocks, block, STRING_UNITS_10, decimal, sizeof(decimal));
	/* Programs look for this text. */
	dev_notice_ratelimited(&vblk->vdev->dev,
			       "[%s] %s%llu %u-byte logical blocks (%s/%s)\n",
			       vblk->disk->disk_name, resized ? "new size: " : "",
			       blocks, block, decimal, binary);
	set_capacity_and_notify(vblk->disk, capacity);
	return true;
}

static int virtio_blk_read_capacity(struct virtio_device *vdev, u64 *capacity)
{
	const struct virtio_config_ops *config = vdev->config;
	unsigned int tries = VIRTIO_BLK_CONFIG_TRIES;
	u32 generation;
	__virtio64 value;

	do {
		generation = config->generation ? config->generation(vdev) : 0;
		config->get(vdev, offsetof(struct virtio_blk_config, capacity), &value,
			    sizeof(value));
	} while (config->generation && config->generation(vdev) != generation && --tries);
	if (!tries) {
		dev_err_ratelimited(&vdev->dev, "the configuration does not stay the same\n");
		return -EIO;
	}
	*capacity = virtio64_to_cpu(vdev, value);
	if (*capacity <= VIRTIO_BLK_MAX_CAPACITY)
		return 0;
	dev_err_ratelimited(&vdev->dev,
			    "capacity of %llu sectors is more than a disk can have\n",
			    *capacity);
	return -EINVAL;
}

/*
 * Without zones the block layer would reorder writes to a zone. Therefore all writes fail
 * until the zones are known.
 */
static void virtio_blk_update_zones(struct virtio_blk *vblk)
{
	bool failed = virtio_blk_revalidate_zones(vblk);

	WRITE_ONCE(vblk->zones_unknown, failed);
	if (!failed)
		return;
	dev_err_ratelimited(&vblk->vdev->dev,
			    "[%s] zones are not known: no writes\n",
			    vblk->disk->disk_name);
	if (++vblk->zone_tries < VIRTIO_BLK_ZONE_TRIES)
		queue_delayed_work(system_freezable_wq, &vblk->config_work, HZ);
}

/*
 * Reads the configuration space of a live device only. During a reset it means nothing.
 * virtio_blk_start() queues this work again.
 */
static void virtio_blk_config_work(struct work_struct *work)
{
	struct virtio_blk *vblk = container_of(to_delayed_work(work),
					       struct virtio_blk, config_work);
	bool live, resized;
	u64 capacity;

	mutex_lock(&vblk->recovery.lock);
	live = vblk->recovery.state == VIRTIO_BLK_LIVE;
	if (live) {
		virtio_blk_check_status(vblk);
		live = !virtio_blk_read_capacity(vblk->vdev, &capacity);
	}
	mutex_unlock(&vblk->recovery.lock);
	if (!live)
		return;
	resized = virtio_blk_set_capacity(vblk, capacity, true);
	if (resized || vblk->zones_unknown)
		virtio_blk_update_zones(vblk);
}

static void virtio_blk_config_changed(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;

	WRITE_ONCE(vblk->zone_tries, 0);
	mod_delayed_work(system_freezable_wq, &vblk->config_work, 0);
}

/* The order of names is vda to vdz, then vdaa and so on. */
static void virtio_blk_name(int index, char *name)
{
	char letters[DISK_NAME_LEN] = {};
	int i = sizeof(letters) - 1;

	do {
		letters[--i] = 'a' + index % 26;
		index = index / 26 - 1;
	} while (index >= 0);
	snprintf(name, DISK_NAME_LEN, "vd%.*s", DISK_NAME_LEN - 3, &letters[i]);
}

static int virtio_blk_init_queues(struct virtio_blk *vblk)
{
	int err = virtio_blk_count_queues(vblk);

	if (!err)
		err = virtio_blk_alloc_queues(vblk);
	if (err)
		return err;
	err = virtio_blk_find_vqs(vblk);
	if (err)
		kfree(vblk->queues);
	return err;
}

static int virtio_blk_alloc_disk(struct virtio_blk *vblk)
{
	struct queue_limits lim = {};
	struct gendisk *disk;
	int err;

	err = virtio_blk_read_limits(vblk, &lim);
	if (err)
		return err;
	disk = blk_mq_alloc_disk(&vblk->tag_set, &lim, vblk);
	if (IS_ERR(disk)) {
		dev_err(&vblk->vdev->dev, "limits of the device are refused\n");
		return PTR_ERR(disk);
	}

	virtio_blk_name(vblk->index, disk->disk_name);
	disk->major = virtio_blk_major;
	disk->first_minor = vblk->index * VIRTIO_BLK_MINORS;
	disk->minors = VIRTIO_BLK_MINORS;
	disk->fops = &virtio_blk_fops;
	disk->private_data = vblk;
	if (virtio_has_feature(vblk->vdev, VIRTIO_BLK_F_RO))
		set_disk_ro(disk, true);
	virtio_blk_read_geometry(vblk);
	vblk->disk = disk;
	return 0;
}

static struct virtio_blk *virtio_blk_new(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = kzalloc_obj(*vblk, GFP_KERNEL);
	int index;

	if (!vblk)
		return ERR_PTR(-ENOMEM);
	index = ida_alloc_max(&virtio_blk_ida,
			      (1 << MINORBITS) / VIRTIO_BLK_MINORS - 1,
			      GFP_KERNEL);
	if (index < 0) {
		kfree(vblk);
		return ERR_PTR(index);
	}
	vblk->index = index;
	vblk->vdev = vdev;
	vdev->priv = vblk;
	mutex_init(&vblk->cache_type_lock);
	INIT_DELAYED_WORK(&vblk->config_work, virtio_blk_config_work);
	virtio_blk_init_recovery(vblk);
	return vblk;
}

/* I/O begins here: the zones and the partition table are read. */
static int virtio_blk_add_disk(struct virtio_blk *vblk)
{
	u64 capacity;
	int err;

	err = virtio_blk_read_capacity(vblk->vdev, &capacity);
	if (err)
		return err;
	virtio_blk_set_capacity(vblk, capacity, false);
	virtio_blk_begin(vblk);
	err = virtio_blk_revalidate_zones(vblk);
	if (err)
		return err;
	return device_add_disk(&vblk->vdev->dev, vblk->disk, virtio_blk_groups);
}

static int virtio_blk_probe(struct virtio_device *vdev)
{
	struct virtio_blk *vblk;
	int err;

	if (!vdev->config->get) {
		dev_err(&vdev->dev, "no access to the configuration space\n");
		return -EINVAL;
	}
	vblk = virtio_blk_new(vdev);
	if (IS_ERR(vblk))
		return PTR_ERR(vblk);
	err = virtio_blk_init_queues(vblk);
	if (err)
		goto err_free;
	err = virtio_blk_alloc_tags(vblk);
	if (err)
		goto err_queues;
	err = virtio_blk_alloc_disk(vblk);
	if (err)
		goto err_tags;
	err = virtio_blk_add_disk(vblk);
	if (err)
		goto err_disk;
	return 0;

err_disk:
	disable_delayed_work_sync(&vblk->config_work);
	virtio_blk_release_device(vblk);
	/* free_disk is not called for a disk that was never added. */
	put_disk(vblk->disk);
	blk_mq_free_tag_set(&vblk->tag_set);
	kfree(vblk->queues);
	goto err_free;
err_tags:
	blk_mq_free_tag_set(&vblk->tag_set);
err_queues:
	vdev->config->del_vqs(vdev);
	kfree(vblk->queues);
err_free:
	virtio_blk_exit_recovery(vblk);
	virtio_blk_free(vblk);
	return err;
}

/*
 * The work may wait for a report of zones, which the device may never complete. If it
 * takes too long, reset the device. The removal does that anyway.
 */
static void virtio_blk_stop_config_work(struct virtio_blk *vblk)
{
	unsigned long end = jiffies + VIRTIO_BLK_REPORT_TIMEOUT;

	disable_delayed_work(&vblk->config_work);
	while (work_busy(&vblk->config_work.work)) {
		if (time_after(jiffies, end)) {
			virtio_blk_fail_queries(vblk);
			break;
		}
		msleep(20);
	}
	disable_delayed_work_sync(&vblk->config_work);
}

static void virtio_blk_remove(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;
	/* Fail the requests first. The users of the disk, told next, may wait for them. */
	bool dead = virtio_blk_fail_if_dead(vblk);

	virtio_blk_stop_config_work(vblk);
	if (dead)
		blk_mark_disk_dead(vblk->disk);
	/* Waits for the requests in flight, so the device must still work. */
	del_gendisk(vblk->disk);
	virtio_blk_release_device(vblk);
	blk_mq_free_tag_set(&vblk->tag_set);
	kfree(vblk->queues);
	virtio_blk_exit_recovery(vblk);
	vblk->vdev = NULL;
	put_disk(vblk->disk);
}

static int virtio_blk_freeze(struct virtio_device *vdev)
{
	return virtio_blk_suspend(vdev->priv, true);
}

/*
 * The device will not end the requests that are still in flight at the reset. Kernels
 * before 7.0 don't call this.
 */
static int __maybe_unused virtio_blk_reset_prepare(struct virtio_device *vdev)
{
	return virtio_blk_suspend(vdev->priv, false);
}

static int virtio_blk_restore(struct virtio_device *vdev)
{
	return virtio_blk_resume(vdev->priv);
}

static const struct virtio_device_id virtio_blk_ids[] = {
	{ VIRTIO_ID_BLOCK, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, virtio_blk_ids);

static const unsigned int virtio_blk_features[] = {
	VIRTIO_BLK_F_SIZE_MAX,
	VIRTIO_BLK_F_SEG_MAX,
	VIRTIO_BLK_F_GEOMETRY,
	VIRTIO_BLK_F_RO,
	VIRTIO_BLK_F_BLK_SIZE,
	VIRTIO_BLK_F_FLUSH,
	VIRTIO_BLK_F_TOPOLOGY,
	VIRTIO_BLK_F_CONFIG_WCE,
	VIRTIO_BLK_F_MQ,
	VIRTIO_BLK_F_DISCARD,
	VIRTIO_BLK_F_WRITE_ZEROES,
	VIRTIO_BLK_F_LIFETIME,
	VIRTIO_BLK_F_SECURE_ERASE,
	/* Must be last: the table of legacy devices ends before it. */
	VIRTIO_BLK_F_ZONED,
};

static struct virtio_driver virtio_blk_driver = {
	.driver.name		= KBUILD_MODNAME,
	.id_table		= virtio_blk_ids,
	.feature_table		= virtio_blk_features,
	.feature_table_size	= ARRAY_SIZE(virtio_blk_features),
	.feature_table_legacy	= virtio_blk_features,
	.feature_table_size_legacy = ARRAY_SIZE(virtio_blk_features) - 1,
	.probe			= virtio_blk_probe,
	.remove			= virtio_blk_remove,
	.config_changed		= virtio_blk_config_changed,
	.freeze			= pm_sleep_ptr(virtio_blk_freeze),
	.restore		= pm_sleep_ptr(virtio_blk_restore),
	VIRTIO_RESET_OPS(virtio_blk_reset_prepare, virtio_blk_restore)
};

static int __init virtio_blk_init(void)
{
	int err = virtio_blk_init_workqueue();

	if (err)
		return err;
	virtio_blk_major = register_blkdev(0, "virtblk");
	if (virtio_blk_major < 0) {
		err = virtio_blk_major;
		goto err_workqueue;
	}
	err = register_virtio_driver(&virtio_blk_driver);
	if (!err)
		return 0;

	if (err == -EEXIST || err == -EBUSY)
		pr_err("virtio_blk: another driver of this name is in the kernel; unload it, or boot without it if it is built in\n");
	unregister_blkdev(virtio_blk_major, "virtblk");
err_workqueue:
	virtio_blk_exit_workqueue();
	return err;
}
module_init(virtio_blk_init);

static void __exit virtio_blk_exit(void)
{
	unregister_virtio_driver(&virtio_blk_driver);
	unregister_blkdev(virtio_blk_major, "virtblk");
	virtio_blk_exit_workqueue();
}
module_exit(virtio_blk_exit);

MODULE_DESCRIPTION("Virtio block driver");
MODULE_LICENSE("GPL");
