// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: from a request of the block layer to the virtqueue and back.
 *
 * Every hardware queue of blk-mq is a virtqueue with its own lock and interrupt.
 * A request becomes a scatter-gather list of three parts: the header that the
 * device reads, the data, and the status byte that the device writes. All three
 * live in the request's driver part (struct virtio_blk_pdu), which is made once,
 * so that an ordinary request allocates nothing here.
 *
 * The path of a request: it is prepared outside of the queue's lock, added to
 * the ring under it, and the device is kicked once for a batch. The interrupt,
 * or who polls a queue that has none, takes what the device has used; what ended
 * well is ended in a batch, after the lock is released, the rest one by one or on
 * the CPU that blk-mq wants.
 *
 * The device is not trusted. A used id that is out of range or not in flight is
 * refused by the virtio core, which takes the queue out of service; a status
 * byte that means nothing fails its request.
 */
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio_blk.h"

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

/**
 * struct virtio_blk_pdu - the driver part of a request
 * @hdr: what the device is asked for, in its byte order
 * @in: what the device answers
 * @in.sector: where it put the data of a zone append
 * @in.status: how the request ended
 * @attempts: how often it was sent in vain, if it is sent again (%RQF_DONTPREP)
 * @cleanup: @chain or @ranges is to be freed, or @in_sg to be made as it was
 * @segments: data segments in use
 * @hdr_sg: @hdr
 * @in_sg: the status alone, but of a zone append all of @in
 * @data: the data segments, or the first of them
 * @chain: of more than %VIRTIO_BLK_INLINE_SEGMENTS segments, else empty
 * @range: the data of a request for one range
 * @ranges: the data of a request for several ranges, else NULL
 */
struct virtio_blk_pdu {
	struct virtio_blk_outhdr hdr;
	struct {
		__virtio64 sector;
		u8 status;
	} in;
	u8 attempts;
	bool cleanup;
	unsigned short segments;
	struct scatterlist hdr_sg;
	struct scatterlist in_sg;
	struct scatterlist data[VIRTIO_BLK_INLINE_SEGMENTS];
	struct sg_table chain;
	struct virtio_blk_discard_write_zeroes range;
	struct virtio_blk_discard_write_zeroes *ranges;
};

static void virtio_blk_set_header(struct virtio_blk *vblk, struct request *rq,
				  u32 type, u64 sector)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	pdu->hdr.type = cpu_to_virtio32(vblk->vdev, type);
	pdu->hdr.ioprio = cpu_to_virtio32(vblk->vdev, req_get_ioprio(rq));
	pdu->hdr.sector = cpu_to_virtio64(vblk->vdev, sector);
}

static blk_status_t virtio_blk_map_many(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	unsigned int segments = blk_rq_nr_phys_segments(rq);

	if (segments > VIRTIO_BLK_INLINE_SEGMENTS) {
		pdu->chain.sgl = pdu->data;
		if (sg_alloc_table_chained(&pdu->chain, segments, pdu->data,
					   VIRTIO_BLK_INLINE_SEGMENTS))
			return BLK_STS_RESOURCE;
		pdu->cleanup = true;
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
		/* One segment never has more than one vector. */
		bvec = req_bvec(rq);
		sg_set_page(pdu->data, bvec.bv_page, bvec.bv_len,
			    bvec.bv_offset);
		sg_mark_end(pdu->data);
	}
	return BLK_STS_OK;
}

/*
 * The ranges of a request. What follows on the one before, as happens to
 * discards of a device that takes one range only, makes it longer.
 *
 * With NULL in place of an array they are just counted.
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

/* Discard, write zeroes and secure erase: the data are the ranges. */
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
		pdu->cleanup = true;
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
	pdu->cleanup = true;
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
		/* virtio_blk_get() filled the header. */
		return virtio_blk_map_data(rq);
	default:
		return BLK_STS_NOTSUPP;
	}
}

static blk_status_t virtio_blk_prepare(struct virtio_blk *vblk,
				       struct request *rq)
{
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

/* Undoes what virtio_blk_prepare() did. */
static void virtio_blk_cleanup(struct virtio_blk_pdu *pdu)
{
	if (likely(!pdu->cleanup))
		return;
	pdu->cleanup = false;
	virtio_blk_init_status(pdu);
	kfree(pdu->ranges);
	pdu->ranges = NULL;
	if (pdu->chain.orig_nents) {
		sg_free_table_chained(&pdu->chain, VIRTIO_BLK_INLINE_SEGMENTS);
		pdu->chain.orig_nents = 0;
		/* It was the link to the others. */
		sg_init_table(&pdu->data[VIRTIO_BLK_INLINE_SEGMENTS - 1], 1);
	}
}

/*
 * Whether the ring has as many free descriptors. Of a split ring that has not, the
 * virtio core would kick the device at once: under the lock, and asked for or not.
 */
static bool virtio_blk_fits(struct virtqueue *vq, unsigned int descriptors)
{
	if (likely(vq->num_free >= descriptors))
		return true;
	return vq->num_free &&
	       virtio_has_feature(vq->vdev, VIRTIO_RING_F_INDIRECT_DESC);
}

/* Header, data, status: the order of virtio 1.4, section 5.2.6. */
static int virtio_blk_add(struct virtio_blk_queue *queue, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	unsigned int out = 1, in = 1;
	struct scatterlist *parts[3];

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
	/* A device that writes no status has not succeeded. */
	pdu->in.status = VIRTIO_BLK_STATUS_NONE;
	return virtqueue_add_sgs(queue->vq, parts, out, in, rq, GFP_ATOMIC);
}

/*
 * A ring whose rules the device broke takes nothing any more. With recovery, the
 * request waits for the reset like those that are in the ring: its time begins, and
 * it is sent no more often than they are.
 */
static bool virtio_blk_park(struct virtio_blk_queue *queue, struct request *rq)
{
	if (!queue->vq || !virtqueue_is_broken(queue->vq) ||
	    !READ_ONCE(queue->vblk->recovery.attempts))
		return false;
	blk_mq_start_request(rq);
	rq_list_add_tail(&queue->parked, rq);
	return true;
}

/*
 * Adds a prepared request, which then belongs to the device. Else it is as if it
 * had not been prepared.
 *
 * It starts only when it is added, so that there is nothing to undo in the block
 * layer if it can't be; under the lock nobody can end it meanwhile.
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

static bool virtio_blk_kick_prepare(struct virtio_blk_queue *queue)
{
	return likely(queue->vq) && virtqueue_kick_prepare(queue->vq);
}

static blk_status_t virtio_blk_queue_rq(struct blk_mq_hw_ctx *hctx,
					const struct blk_mq_queue_data *bd)
{
	struct virtio_blk_queue *queue = hctx->driver_data;
	blk_status_t status;
	bool kick;

	status = virtio_blk_prepare(queue->vblk, bd->rq);
	if (status)
		return status;

	spin_lock_irq(&queue->lock);
	status = virtio_blk_send(queue, bd->rq);
	if (unlikely(status == BLK_STS_DEV_RESOURCE)) {
		/* The next one that ends starts it again. */
		queue->full = true;
		blk_mq_stop_hw_queue(hctx);
	}
	/* What did not fit waits for requests that the device must hear of. */
	kick = (bd->last || status) && virtio_blk_kick_prepare(queue);
	spin_unlock_irq(&queue->lock);

	if (kick)
		virtqueue_notify(queue->vq);
	return status;
}

static void virtio_blk_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	struct virtio_blk_queue *queue = hctx->driver_data;
	bool kick;

	spin_lock_irq(&queue->lock);
	kick = virtio_blk_kick_prepare(queue);
	spin_unlock_irq(&queue->lock);
	if (kick)
		virtqueue_notify(queue->vq);
}

/* Sends a batch, with one kick. What can't be sent goes to the list "left". */
static void virtio_blk_send_batch(struct virtio_blk_queue *queue,
				  struct rq_list *ready, struct rq_list *left)
{
	struct request *rq;
	bool kick;

	spin_lock_irq(&queue->lock);
	while ((rq = rq_list_pop(ready)))
		if (unlikely(virtio_blk_send(queue, rq)))
			rq_list_add_tail(left, rq);
	kick = virtio_blk_kick_prepare(queue);
	spin_unlock_irq(&queue->lock);
	if (kick)
		virtqueue_notify(queue->vq);
}

/*
 * What remains in the list is tried again by blk-mq, through queue_rq, where there
 * is a way to say why a request can't be sent.
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

static blk_status_t virtio_blk_status(u8 status)
{
	switch (status) {
	case VIRTIO_BLK_S_OK:
		return BLK_STS_OK;
	case VIRTIO_BLK_S_UNSUPP:
		return BLK_STS_NOTSUPP;
	case VIRTIO_BLK_S_ZONE_OPEN_RESOURCE:
		return BLK_STS_ZONE_OPEN_RESOURCE;
	case VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE:
		return BLK_STS_ZONE_ACTIVE_RESOURCE;
	default:
		return BLK_STS_IOERR;
	}
}

static void virtio_blk_complete(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	blk_mq_end_request(rq, virtio_blk_status(READ_ONCE(pdu->in.status)));
}

/*
 * Tells the block layer where the data of a zone append are, if the device can
 * have put them there: in the zone that was asked for.
 */
static void virtio_blk_appended(struct virtio_blk *vblk, struct request *rq)
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
 * Takes a request back from the device. It ends with the batch, or it ends
 * elsewhere, or it remains to be ended.
 */
static void virtio_blk_take_back(struct request *rq, struct io_comp_batch *iob,
				 struct rq_list *remaining)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	bool failed;

	if (unlikely(blk_should_fake_timeout(rq->q)))
		return;
	if (unlikely(pdu->cleanup)) {
		if (req_op(rq) == REQ_OP_ZONE_APPEND)
			virtio_blk_appended(rq->q->queuedata, rq);
		virtio_blk_cleanup(pdu);
	}
	failed = READ_ONCE(pdu->in.status) != VIRTIO_BLK_S_OK;
	if (blk_mq_complete_request_remote(rq))
		return;
	/* A batch knows no errors. */
	if (unlikely(failed) ||
	    !blk_mq_add_to_batch(rq, iob, failed, blk_mq_end_request_batch))
		rq_list_add_tail(remaining, rq);
}

/* Takes all that the device has used, with the queue's lock held. */
static unsigned int virtio_blk_take_used(struct virtqueue *vq,
					 struct io_comp_batch *iob,
					 struct rq_list *remaining)
{
	unsigned int len, found = 0;
	struct request *rq;

	while ((rq = virtqueue_get_buf(vq, &len))) {
		virtio_blk_take_back(rq, iob, remaining);
		found++;
	}
	return found;
}

/* Whether the hardware queue was stopped, and has a chance again. */
static bool virtio_blk_was_full(struct virtio_blk_queue *queue)
{
	bool full = queue->full;

	queue->full = false;
	return full;
}

/* What is to be done without the lock for what was taken under it. */
static void virtio_blk_end(struct virtio_blk_queue *queue,
			   struct rq_list *remaining, bool was_full)
{
	struct request *rq;

	while ((rq = rq_list_pop(remaining)))
		virtio_blk_complete(rq);
	if (unlikely(was_full))
		blk_mq_start_stopped_hw_queue(queue->hctx, true);
}

static unsigned int virtio_blk_reap_ring(struct virtio_blk_queue *queue)
{
	struct rq_list remaining = {};
	DEFINE_IO_COMP_BATCH(iob);
	struct virtqueue *vq;
	unsigned int found = 0;
	unsigned long flags;
	bool was_full;

	spin_lock_irqsave(&queue->lock, flags);
	vq = queue->vq;
	/* A device may interrupt when it should not. */
	if (unlikely(!vq)) {
		spin_unlock_irqrestore(&queue->lock, flags);
		return 0;
	}
	do {
		virtqueue_disable_cb(vq);
		found += virtio_blk_take_used(vq, &iob, &remaining);
	} while (!virtqueue_enable_cb(vq));
	was_full = virtio_blk_was_full(queue);
	spin_unlock_irqrestore(&queue->lock, flags);

	if (iob.complete)
		iob.complete(&iob);
	virtio_blk_end(queue, &remaining, was_full);
	return found;
}

static void virtio_blk_interrupt(struct virtqueue *vq)
{
	struct virtio_blk *vblk = vq->vdev->priv;

	virtio_blk_reap_ring(&vblk->queues[vq->index]);
}

/* The caller ends the batch. */
static int virtio_blk_poll(struct blk_mq_hw_ctx *hctx, struct io_comp_batch *iob)
{
	struct virtio_blk_queue *queue = hctx->driver_data;
	struct rq_list remaining = {};
	unsigned long flags;
	bool was_full;
	int found = 0;

	spin_lock_irqsave(&queue->lock, flags);
	/* Nothing else keeps pollers away while the queue is stopped. */
	if (likely(queue->vq))
		found = virtio_blk_take_used(queue->vq, iob, &remaining);
	was_full = found && virtio_blk_was_full(queue);
	spin_unlock_irqrestore(&queue->lock, flags);

	virtio_blk_end(queue, &remaining, was_full);
	return found;
}

static void virtio_blk_map_queues(struct blk_mq_tag_set *set)
{
	struct virtio_blk *vblk = set->driver_data;
	struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];

	/* Each CPU submits to the queue whose interrupt comes back to it. */
	map->nr_queues = vblk->num_queues - vblk->num_poll_queues;
	map->queue_offset = 0;
	blk_mq_map_hw_queues(map, &vblk->vdev->dev, 0);
	if (!vblk->num_poll_queues)
		return;

	/* None for reads alone, the last ones for polling. */
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

static bool virtio_blk_is_polled(struct virtio_blk_queue *queue)
{
	struct virtio_blk *vblk = queue->vblk;

	return queue - vblk->queues >= vblk->num_queues - vblk->num_poll_queues;
}

static int virtio_blk_find_vqs(struct virtio_blk *vblk)
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
		if (!virtio_blk_is_polled(&vblk->queues[i]))
			info[i].callback = virtio_blk_interrupt;
	}
	err = virtio_find_vqs(vblk->vdev, num, vqs, info, &affinity);
	for (i = 0; !err && i < num; i++)
		vblk->queues[i].vq = vqs[i];
out:
	kfree(vqs);
	kfree(info);
	return err;
}

/* Of the smallest: every request has to fit into every ring. */
static unsigned int virtio_blk_find_ring_size(struct virtio_blk *vblk)
{
	unsigned int i, size = UINT_MAX;

	for (i = 0; i < vblk->num_queues; i++)
		size = min(size, virtqueue_get_vring_size(vblk->queues[i].vq));
	return size;
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
		snprintf(queue->name, sizeof(queue->name), "%s.%u",
			 virtio_blk_is_polled(queue) ? "req_poll" : "req", i);
	}
	return 0;
}

/**
 * virtio_blk_init_queues - find the virtqueues of a disk
 * @vblk: disk
 *
 * Return: 0 or an error
 */
int virtio_blk_init_queues(struct virtio_blk *vblk)
{
	int err = virtio_blk_count_queues(vblk);

	if (err)
		return err;
	err = virtio_blk_alloc_queues(vblk);
	if (err)
		return err;
	err = virtio_blk_find_vqs(vblk);
	if (err) {
		kfree(vblk->queues);
		return err;
	}
	vblk->ring_size = virtio_blk_find_ring_size(vblk);
	return 0;
}

/**
 * virtio_blk_exit_queues - undo virtio_blk_init_queues()
 * @vblk: disk, whose device is reset
 */
void virtio_blk_exit_queues(struct virtio_blk *vblk)
{
	virtio_blk_stop_queues(vblk);
	kfree(vblk->queues);
}

/**
 * virtio_blk_stop_queues - give the virtqueues back
 * @vblk: disk, whose device is reset and has no request
 *
 * From here on requests fail, unless the caller holds them up in the block
 * layer until virtio_blk_start_queues().
 */
void virtio_blk_stop_queues(struct virtio_blk *vblk)
{
	bool started = vblk->queues[0].vq;
	unsigned int i;

	for (i = 0; i < vblk->num_queues; i++) {
		struct virtio_blk_queue *queue = &vblk->queues[i];

		spin_lock_irq(&queue->lock);
		queue->vq = NULL;
		queue->full = false;
		spin_unlock_irq(&queue->lock);
	}
	if (started)
		vblk->vdev->config->del_vqs(vblk->vdev);
}

/**
 * virtio_blk_start_queues - find the same virtqueues again
 * @vblk: disk, after virtio_blk_stop_queues() and a new start of its device
 *
 * The limits of the disk are those of the device as it was: if it is less now,
 * it can't be used any more.
 *
 * Return: 0 or an error
 */
int virtio_blk_start_queues(struct virtio_blk *vblk)
{
	int err = virtio_blk_find_vqs(vblk);

	if (err)
		return err;
	if (virtio_blk_find_ring_size(vblk) < vblk->ring_size) {
		virtio_blk_stop_queues(vblk);
		return -EINVAL;
	}
	return 0;
}

/**
 * virtio_blk_count_attempt - remember that a request was sent in vain
 * @rq: request
 *
 * The block layer keeps it apart from others from here on, as it does with all
 * that have %RQF_DONTPREP.
 *
 * Return: how often it was, this time included
 */
unsigned int virtio_blk_count_attempt(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	if (!(rq->rq_flags & RQF_DONTPREP))
		pdu->attempts = 0;
	rq->rq_flags |= RQF_DONTPREP;
	return ++pdu->attempts;
}

/**
 * virtio_blk_reap - end what the device has used, without being interrupted
 * @queue: queue
 *
 * Return: the number of requests
 */
unsigned int virtio_blk_reap(struct virtio_blk_queue *queue)
{
	DEFINE_IO_COMP_BATCH(iob);
	unsigned int found;

	if (!virtio_blk_is_polled(queue))
		return virtio_blk_reap_ring(queue);
	found = virtio_blk_poll(queue->hctx, &iob);
	if (iob.complete)
		iob.complete(&iob);
	return found;
}

/**
 * virtio_blk_take_back_unused - undo the preparation of a request
 * @rq: request, which the device does not have any more and has not done
 */
void virtio_blk_take_back_unused(struct request *rq)
{
	virtio_blk_cleanup(blk_mq_rq_to_pdu(rq));
}

/**
 * virtio_blk_take_vq - keep a queue from being used
 * @queue: queue, whose hardware queue is stopped or quiesced
 *
 * Return: the virtqueue, which virtio_blk_give_vq() gives back
 */
struct virtqueue *virtio_blk_take_vq(struct virtio_blk_queue *queue)
{
	struct virtqueue *vq;

	spin_lock_irq(&queue->lock);
	vq = queue->vq;
	queue->vq = NULL;
	spin_unlock_irq(&queue->lock);
	return vq;
}

/**
 * virtio_blk_give_vq - undo virtio_blk_take_vq()
 * @queue: queue
 * @vq: its virtqueue
 */
void virtio_blk_give_vq(struct virtio_blk_queue *queue, struct virtqueue *vq)
{
	spin_lock_irq(&queue->lock);
	queue->vq = vq;
	spin_unlock_irq(&queue->lock);
}

/**
 * virtio_blk_take_outstanding - take all requests from a device
 * @queue: whose requests; its device is reset or is not there any more
 * @outstanding: list for the requests, which are not prepared any more
 */
void virtio_blk_take_outstanding(struct virtio_blk_queue *queue,
				 struct rq_list *outstanding)
{
	struct request *rq;

	spin_lock_irq(&queue->lock);
	while ((rq = queue->vq ? virtqueue_detach_unused_buf(queue->vq) : NULL) ||
	       (rq = rq_list_pop(&queue->parked))) {
		virtio_blk_cleanup(blk_mq_rq_to_pdu(rq));
		rq_list_add_tail(outstanding, rq);
	}
	spin_unlock_irq(&queue->lock);
}

/**
 * virtio_blk_alloc_tags - make the requests of a disk
 * @vblk: disk, with its queues
 *
 * Return: 0 or an error
 */
int virtio_blk_alloc_tags(struct virtio_blk *vblk)
{
	struct blk_mq_tag_set *set = &vblk->tag_set;
	unsigned int depth = vblk->ring_size;

	/* An indirect table takes one descriptor a request, a flush takes two. */
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
 * virtio_blk_get - ask the device for something and wait for it
 * @vblk: disk
 * @type: of the request, a %VIRTIO_BLK_T_*
 * @sector: of the request
 * @buf: for the answer; not on the stack, which a request can't be mapped from
 * @len: size of @buf
 *
 * Return: 0 or an error, %-EOPNOTSUPP if the device does not know the request
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
