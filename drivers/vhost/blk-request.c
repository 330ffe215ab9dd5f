// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk protocol: what a descriptor chain asks for, and its answer.
 *
 * A virtio-blk request (virtio 1.4, section 5.2.6) is a readable part, which
 * opens with a header of 16 bytes, and a writable part, which ends with a
 * status byte. How the chain is cut into descriptors means nothing
 * (VIRTIO_F_ANY_LAYOUT), so that both parts are read as byte streams.
 *
 * Everything in the chain is the guest's: the header is copied once and only
 * the copy is looked at; data is reached through pinned pages or checked user
 * addresses. A chain that can be answered is answered, with VIRTIO_BLK_S_IOERR
 * or VIRTIO_BLK_S_UNSUPP if it makes no sense. One without room for a status
 * can't be: it stops its queue.
 */
#include <linux/uaccess.h>

#include "blk.h"

static void vhost_blk_request_io_done(struct vhost_blk_io *io)
{
	struct vhost_blk_request *req =
		container_of(io, struct vhost_blk_request, io);

	switch (io->status) {
	case BLK_STS_OK:
		req->status = VIRTIO_BLK_S_OK;
		break;
	case BLK_STS_NOTSUPP:
		req->status = VIRTIO_BLK_S_UNSUPP;
		break;
	default:
		req->status = VIRTIO_BLK_S_IOERR;
	}
	vhost_blk_queue_completed(req);
}

/* Settle a request that needs no I/O. */
static void vhost_blk_request_settle(struct vhost_blk_request *req, u8 status)
{
	req->status = status;
	vhost_blk_queue_completed(req);
}

/**
 * vhost_blk_request_init - prepare a request for use and reuse
 * @req: zeroed memory
 * @queue: the queue that it belongs to
 */
void vhost_blk_request_init(struct vhost_blk_request *req,
			    struct vhost_blk_queue *queue)
{
	req->queue = queue;
	req->io.done = vhost_blk_request_io_done;
}

static void vhost_blk_request_rw(struct vhost_blk_request *req, blk_opf_t opf,
				 u64 sector, struct iov_iter *data)
{
	size_t bytes = iov_iter_count(data);

	if (bytes > VHOST_BLK_MAX_DATA ||
	    !vhost_blk_backing_contains(req->io.backing, sector, bytes)) {
		vhost_blk_request_settle(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (!bytes) {
		vhost_blk_request_settle(req, VIRTIO_BLK_S_OK);
		return;
	}
	if (opf == REQ_OP_READ)
		req->used_bytes += bytes;
	req->data_bytes = bytes;
	vhost_blk_io_rw(&req->io, opf, sector, data);
}

static void vhost_blk_request_write(struct vhost_blk_request *req, u64 sector,
				    struct iov_iter *data)
{
	blk_opf_t opf = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;

	if (vhost_blk_backing_read_only(req->io.backing)) {
		vhost_blk_request_settle(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	/* A driver that can't flush relies on every write being durable. */
	if (!vhost_has_feature(&req->queue->vq, VIRTIO_BLK_F_FLUSH) &&
	    vhost_blk_backing_write_cache(req->io.backing))
		opf |= REQ_FUA;
	vhost_blk_request_rw(req, opf, sector, data);
}

static void vhost_blk_request_get_id(struct vhost_blk_request *req,
				     struct iov_iter *data)
{
	size_t bytes = min_t(size_t, iov_iter_count(data),
			     VHOST_BLK_SERIAL_BYTES);

	if (copy_to_iter(req->queue->blk->serial, bytes, data) != bytes) {
		vhost_blk_request_settle(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	req->used_bytes += bytes;
	vhost_blk_request_settle(req, VIRTIO_BLK_S_OK);
}

/* Data in the part where its type has none: the two sides disagree. */
static bool vhost_blk_request_is_contradictory(u32 type,
					       const struct iov_iter *readable,
					       const struct iov_iter *writable)
{
	switch (type) {
	case VIRTIO_BLK_T_OUT:
		return iov_iter_count(writable);
	case VIRTIO_BLK_T_FLUSH:
		return iov_iter_count(writable) || iov_iter_count(readable);
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_GET_ID:
		return iov_iter_count(readable);
	default:
		return false;
	}
}

static void vhost_blk_request_dispatch(struct vhost_blk_request *req,
				       struct iov_iter *readable,
				       struct iov_iter *writable)
{
	struct vhost_virtqueue *vq = &req->queue->vq;
	struct virtio_blk_outhdr hdr;
	u64 sector;
	u32 type;

	if (!copy_from_iter_full(&hdr, sizeof(hdr), readable)) {
		vhost_blk_request_settle(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	type = vhost32_to_cpu(vq, hdr.type);
	sector = vhost64_to_cpu(vq, hdr.sector);

	if (vhost_blk_request_is_contradictory(type, readable, writable)) {
		vhost_blk_request_settle(req, VIRTIO_BLK_S_IOERR);
		return;
	}

	switch (type) {
	case VIRTIO_BLK_T_IN:
		vhost_blk_request_rw(req, REQ_OP_READ, sector, writable);
		break;
	case VIRTIO_BLK_T_OUT:
		vhost_blk_request_write(req, sector, readable);
		break;
	case VIRTIO_BLK_T_FLUSH:
		vhost_blk_io_flush(&req->io);
		break;
	case VIRTIO_BLK_T_GET_ID:
		vhost_blk_request_get_id(req, writable);
		break;
	default:
		vhost_blk_request_settle(req, VIRTIO_BLK_S_UNSUPP);
	}
}

/**
 * vhost_blk_request_start - carry out the chain that was just fetched
 * @req: an unused request, with @head set; its queue's @vq.iov holds the chain
 * @out: readable elements of @vq.iov, which come first
 * @in: writable elements of @vq.iov behind them
 *
 * Runs in the queue's worker with @vq.mutex held; may sleep. On success
 * vhost_blk_queue_completed() is or will be called for @req, once.
 *
 * Return: 0, or -EINVAL if there is nowhere to put a status; @req is unused
 * then.
 */
int vhost_blk_request_start(struct vhost_blk_request *req, unsigned int out,
			    unsigned int in)
{
	struct vhost_virtqueue *vq = &req->queue->vq;
	struct iov_iter readable, writable;
	const struct iovec *last;

	if (!in) {
		vq_err(vq, "Request %u has no room for its status\n", req->head);
		return -EINVAL;
	}
	last = &vq->iov[out + in - 1];
	req->status_addr = last->iov_base + last->iov_len - 1;
	req->used_bytes = sizeof(*req->status_addr);
	req->data_bytes = 0;
	req->io.backing = req->queue->blk->backing;
	req->io.bios = NULL;

	iov_iter_init(&readable, ITER_SOURCE, vq->iov, out,
		      iov_length(vq->iov, out));
	iov_iter_init(&writable, ITER_DEST, vq->iov + out, in,
		      iov_length(vq->iov + out, in) - 1);
	vhost_blk_request_dispatch(req, &readable, &writable);
	return 0;
}

/**
 * vhost_blk_request_answer - tell the guest how a request ended
 * @req: a request for which vhost_blk_queue_completed() was called
 * @used_bytes: gets what belongs into the used element: the bytes written to
 *	guest memory, of a failed request only the status
 *
 * Must run in the owner's address space; may sleep.
 *
 * Return: 0, or -EFAULT if the guest's memory is not there any more.
 */
int vhost_blk_request_answer(struct vhost_blk_request *req, u32 *used_bytes)
{
	*used_bytes = req->status == VIRTIO_BLK_S_OK ?
		      req->used_bytes : sizeof(*req->status_addr);
	return put_user(req->status, req->status_addr);
}
