// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk protocol: parses requests, and writes their status.
 *
 * A virtio-blk request (virtio 1.4, section 5.2.6) has a readable part, which begins with
 * a header of 16 bytes, and a writable part, which ends with the status byte. The
 * boundaries of the descriptors mean nothing (VIRTIO_F_ANY_LAYOUT). So both parts are
 * read as streams of bytes.
 *
 * The guest may change everything in the chain at any time. The header and the list of
 * ranges are copied once, and only the copies are checked and used. Data is accessed
 * through pinned pages or checked user addresses.
 *
 * An invalid request ends with VIRTIO_BLK_S_IOERR or VIRTIO_BLK_S_UNSUPP. A chain without
 * a writable byte has no place for a status. It breaks its queue. All results are in
 * Documentation/vhost-blk-abi.rst.
 */
#include <linux/highmem.h>
#include <linux/ioprio.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <trace/events/vhost_blk.h>

#include "blk.h"

static void vhost_blk_request_io_done(struct vhost_blk_io *io)
{
	vhost_blk_queue_completed(container_of(io, struct vhost_blk_request, io));
}

/* End a request without I/O. Always returns 0, for the callers' sake. */
static int vhost_blk_request_end(struct vhost_blk_request *req,
				 blk_status_t status)
{
	req->io.status = status;
	if (unlikely(status))
		vhost_blk_io_mark_void(&req->io);
	vhost_blk_queue_completed(req);
	return 0;
}

/**
 * vhost_blk_request_init - initialize a request, once
 * @req: zeroed memory
 * @queue: its queue
 */
void vhost_blk_request_init(struct vhost_blk_request *req,
			    struct vhost_blk_queue *queue)
{
	vhost_blk_io_init(&req->io);
	req->queue = queue;
	req->io.channel = &queue->channel;
	req->io.done = vhost_blk_request_io_done;
}

static bool vhost_blk_request_has_feature(const struct vhost_blk_request *req,
					  int bit)
{
	return vhost_has_feature(&req->queue->vq, bit);
}

static struct vhost_blk_backing *
vhost_blk_request_backing(const struct vhost_blk_request *req)
{
	return req->queue->blk->backing;
}

static void vhost_blk_request_trace_submitted(const struct vhost_blk_request *req)
{
	trace_vhost_blk_request_submitted(req->queue->blk,
					  req->queue->index, req->head,
					  req->type, req->sector, req->bytes);
}

/*
 * Keep the addresses of the chain's writable part, for the dirty log. vq->log and vq->iov
 * are overwritten by the next fetch.
 */
static noinline int vhost_blk_request_copy_log(struct vhost_blk_request *req)
{
	const struct vhost_blk_chain *chain = &req->queue->fetch.chain;
	struct vhost_virtqueue *vq = &req->queue->vq;
	bool use_reserve = chain->may_use_reserve;

	if (vq->iotlb) {
		req->num_log = chain->in;
		req->log_iov = vq->iov + chain->out;
		if (!use_reserve)
			req->log_iov = kmemdup_array(req->log_iov, chain->in,
						     sizeof(*req->log_iov),
						     VHOST_BLK_GFP_TRY);
		return req->log_iov ? 0 : -EBUSY;
	}
	req->num_log = chain->log_num;
	req->log = vq->log;
	if (!use_reserve)
		req->log = kmemdup_array(vq->log, chain->log_num,
					 sizeof(*req->log), VHOST_BLK_GFP_TRY);
	return req->log ? 0 : -EBUSY;
}

static int vhost_blk_request_keep_log(struct vhost_blk_request *req)
{
	return likely(!req->logged) ? 0 : vhost_blk_request_copy_log(req);
}

/* Keep the addresses of the chain, for vhost_blk_request_uses(). */
static noinline int vhost_blk_request_copy_translated(struct vhost_blk_request *req)
{
	const struct vhost_blk_chain *chain = &req->queue->fetch.chain;
	struct vhost_log *log = req->queue->vq.log;

	req->translated = chain->may_use_reserve ? log :
			  kmemdup_array(log, chain->log_num, sizeof(*log),
					VHOST_BLK_GFP_TRY);
	if (!req->translated)
		return -EBUSY;
	req->num_translated = chain->log_num;
	return 0;
}

/* A driver without VIRTIO_BLK_F_FLUSH expects each write to be durable. */
static bool vhost_blk_request_is_durable(const struct vhost_blk_request *req)
{
	if (!vhost_blk_backing_write_cache(vhost_blk_request_backing(req)))
		return false;
	if (!vhost_blk_request_has_feature(req, VIRTIO_BLK_F_FLUSH))
		return true;
	return vhost_blk_request_has_feature(req, VIRTIO_BLK_F_CONFIG_WCE) &&
	       !READ_ONCE(req->queue->blk->write_back);
}

/* Find the page of the status byte in memory that stays pinned. */
static bool vhost_blk_request_find_status(struct vhost_blk_request *req)
{
	struct vhost_blk_memory *memory = req->queue->channel.memory;
	unsigned int num = 1;
	struct bio_vec vec;

	if (!memory || !vhost_blk_memory_find(memory, (unsigned long)req->status_addr, 1,
					      &vec, &num))
		return false;
	req->io.memory = memory;
	req->status_page = vec.bv_page;
	return true;
}

/* Find or pin the status byte's page, if a completion may have to write it. */
static noinline void vhost_blk_request_pin_status(struct vhost_blk_request *req)
{
	struct vhost_blk_queue *queue = req->queue;
	unsigned long page = (unsigned long)req->status_addr & PAGE_MASK;

	if (req->has_reserve ||
	    !vhost_blk_direct_is_wanted(queue, queue->num_requests - queue->num_free) ||
	    vhost_blk_request_find_status(req))
		return;
	req->status_pinned = pin_user_pages_fast(page, 1, FOLL_WRITE,
						 &req->status_page) == 1;
	if (!req->status_pinned)
		req->status_page = NULL;
}

static int vhost_blk_request_rw(struct vhost_blk_request *req, blk_opf_t opf,
				struct vhost_blk_data *data)
{
	size_t bytes = data->bytes;

	if (bytes > VHOST_BLK_MAX_DATA ||
	    !vhost_blk_backing_contains(vhost_blk_request_backing(req),
					req->sector, bytes))
		return vhost_blk_request_end(req, BLK_STS_IOERR);
	if (!bytes)
		return vhost_blk_request_end(req, BLK_STS_OK);

	if (!op_is_write(opf))
		req->used_bytes = bytes + sizeof(*req->status_addr);
	req->bytes = bytes;
	req->data_bytes = bytes;
	req->load = bytes;
	if (unlikely(req->queue->direct.num_late))
		vhost_blk_request_pin_status(req);
	vhost_blk_request_trace_submitted(req);
	return vhost_blk_io_rw(&req->io, opf, req->sector, data, req->has_reserve);
}

static int vhost_blk_request_read(struct vhost_blk_request *req,
				  struct vhost_blk_data *data)
{
	int ret = vhost_blk_request_keep_log(req);

	return ret ?: vhost_blk_request_rw(req, REQ_OP_READ, data);
}

static int vhost_blk_request_write(struct vhost_blk_request *req,
				   struct vhost_blk_data *data)
{
	blk_opf_t opf = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;

	if (vhost_blk_backing_read_only(vhost_blk_request_backing(req)))
		return vhost_blk_request_end(req, BLK_STS_IOERR);
	if (vhost_blk_request_is_durable(req))
		opf |= REQ_FUA;
	return vhost_blk_request_rw(req, opf, data);
}

static int vhost_blk_request_flush(struct vhost_blk_request *req)
{
	if (unlikely(req->queue->direct.num_late))
		vhost_blk_request_pin_status(req);
	vhost_blk_request_trace_submitted(req);
	return vhost_blk_io_flush(&req->io);
}

static int vhost_blk_request_get_id(struct vhost_blk_request *req,
				    const struct vhost_blk_data *data)
{
	size_t bytes = min_t(size_t, data->bytes, VHOST_BLK_SERIAL_BYTES);
	int ret = vhost_blk_request_keep_log(req);
	struct iov_iter iter;

	if (ret)
		return ret;
	vhost_blk_data_iter(data, ITER_DEST, &iter);
	req->bytes = bytes;
	/* The dirty log must cover a copy that fails halfway. */
	req->data_bytes = bytes;
	if (copy_to_iter(req->queue->blk->serial, bytes, &iter) != bytes)
		return vhost_blk_request_end(req, BLK_STS_IOERR);
	/* The status byte is contiguous with the serial only if that fills the buffer. */
	req->used_bytes = bytes + (bytes == data->bytes);
	return vhost_blk_request_end(req, BLK_STS_OK);
}

/* Virtio 1.4, section 5.2.6.2. Only write zeroes has a flag: UNMAP. */
static blk_status_t
vhost_blk_request_read_range(const struct vhost_blk_request *req,
			     enum req_op op, struct iov_iter *list,
			     struct vhost_blk_range *range)
{
	struct vhost_blk_backing *backing = vhost_blk_request_backing(req);
	struct vhost_virtqueue *vq = &req->queue->vq;
	struct virtio_blk_discard_write_zeroes raw;
	u32 flags;

	if (!copy_from_iter_full(&raw, sizeof(raw), list))
		return BLK_STS_IOERR;
	range->sector = vhost64_to_cpu(vq, (__force __virtio64)raw.sector);
	range->sectors = vhost32_to_cpu(vq, (__force __virtio32)raw.num_sectors);
	range->opf = op;
	flags = vhost32_to_cpu(vq, (__force __virtio32)raw.flags);

	if (op == REQ_OP_WRITE_ZEROES) {
		if (!(flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			range->opf |= REQ_NOUNMAP;
		flags &= ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	}
	/* The device may have lost the ability since the bind. */
	if (flags || !vhost_blk_backing_current_range(backing, op))
		return BLK_STS_NOTSUPP;
	if (range->sectors > vhost_blk_backing_max_range(backing, op) ||
	    !vhost_blk_backing_contains(backing, range->sector,
					(u64)range->sectors << SECTOR_SHIFT))
		return BLK_STS_IOERR;
	return BLK_STS_OK;
}

/* Only the device knows how long a range takes. This is an estimate. */
static u64 vhost_blk_request_range_load(const struct vhost_blk_range *range)
{
	u64 bytes = (u64)range->sectors << SECTOR_SHIFT;

	return max(bytes / VHOST_BLK_RANGE_DISCOUNT, VHOST_BLK_RANGE_LOAD);
}

/* All ranges are checked before any is started. */
static int vhost_blk_request_ranges(struct vhost_blk_request *req, int feature,
				    enum req_op op,
				    const struct vhost_blk_data *list)
{
	struct vhost_blk_range ranges[VHOST_BLK_MAX_RANGES];
	size_t bytes = list->bytes;
	unsigned int num = bytes / sizeof(struct virtio_blk_discard_write_zeroes);
	struct iov_iter iter;
	unsigned int i;

	if (!vhost_blk_request_has_feature(req, feature))
		return vhost_blk_request_end(req, BLK_STS_NOTSUPP);
	if (!num || num > VHOST_BLK_MAX_RANGES ||
	    bytes % sizeof(struct virtio_blk_discard_write_zeroes))
		return vhost_blk_request_end(req, BLK_STS_IOERR);

	vhost_blk_data_iter(list, ITER_SOURCE, &iter);
	for (i = 0; i < num; i++) {
		blk_status_t status =
			vhost_blk_request_read_range(req, op, &iter, &ranges[i]);

		if (status)
			return vhost_blk_request_end(req, status);
		req->bytes += (u64)ranges[i].sectors << SECTOR_SHIFT;
		req->load += vhost_blk_request_range_load(&ranges[i]);
	}
	req->sector = ranges[0].sector;
	vhost_blk_request_trace_submitted(req);
	return vhost_blk_io_ranges(&req->io, ranges, num,
				   op != REQ_OP_DISCARD &&
				   vhost_blk_request_is_durable(req), req->has_reserve);
}

/* Whether there is data in a part of the chain in which the type has none. */
static bool vhost_blk_request_has_unexpected_data(const struct vhost_blk_request *req,
						  const struct vhost_blk_data *readable,
						  const struct vhost_blk_data *writable)
{
	switch (req->type) {
	case VIRTIO_BLK_T_OUT:
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		return writable->bytes;
	case VIRTIO_BLK_T_FLUSH:
		return writable->bytes || readable->bytes;
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_GET_ID:
		return readable->bytes;
	default:
		return false;
	}
}

/*
 * The priority of the request, in Linux's encoding, which Linux guests use. It is never
 * better than that of the worker's owner. 0 means the worker's priority.
 */
static u16 vhost_blk_request_priority(u32 guest)
{
	u16 own;

	if (!guest || guest > U16_MAX ||
	    IOPRIO_PRIO_CLASS(guest) == IOPRIO_CLASS_NONE ||
	    IOPRIO_PRIO_CLASS(guest) > IOPRIO_CLASS_IDLE)
		return 0;
	guest = IOPRIO_PRIO_VALUE(IOPRIO_PRIO_CLASS(guest),
				  IOPRIO_PRIO_LEVEL(guest));
	own = get_current_ioprio();
	/* A larger value is a lower priority. */
	return max_t(u16, guest, own);
}

static noinline bool
vhost_blk_request_gather_header(struct virtio_blk_outhdr *hdr,
				struct vhost_blk_data *readable)
{
	struct iov_iter iter;

	vhost_blk_data_iter(readable, ITER_SOURCE, &iter);
	return copy_from_iter_full(hdr, sizeof(*hdr), &iter);
}

/* The header nearly always is in one piece. An iov_iter would cost more. */
static bool vhost_blk_request_copy_header(struct virtio_blk_outhdr *hdr,
					  struct vhost_blk_data *readable)
{
	const struct virtio_blk_outhdr __user *from = readable->iov->iov_base;

	if (unlikely(readable->iov->iov_len < sizeof(*hdr)))
		return vhost_blk_request_gather_header(hdr, readable);
	if (!user_read_access_begin(from, sizeof(*from)))
		return false;
	unsafe_get_user(hdr->type, &from->type, fault);
	unsafe_get_user(hdr->ioprio, &from->ioprio, fault);
	unsafe_get_user(hdr->sector, &from->sector, fault);
	user_read_access_end();
	return true;

fault:
	user_read_access_end();
	return false;
}

/*
 * Map a type to VIRTIO_BLK_T_*. Bit 0 is the direction of the data, and the highest bit
 * was a barrier. Some drivers set them for types that don't need them. Ignore them there.
 */
static u32 vhost_blk_request_type(u32 guest)
{
	u32 type = guest & ~VIRTIO_BLK_T_BARRIER;

	switch (type | VIRTIO_BLK_T_OUT) {
	case VIRTIO_BLK_T_FLUSH | VIRTIO_BLK_T_OUT:
		return VIRTIO_BLK_T_FLUSH;
	case VIRTIO_BLK_T_GET_ID | VIRTIO_BLK_T_OUT:
		return VIRTIO_BLK_T_GET_ID;
	case VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_OUT:
		return VIRTIO_BLK_T_DISCARD;
	case VIRTIO_BLK_T_WRITE_ZEROES | VIRTIO_BLK_T_OUT:
		return VIRTIO_BLK_T_WRITE_ZEROES;
	/* Bit 0 of SECURE_ERASE (14) makes it another type, of zoned devices (15). */
	default:
		return type;
	}
}

static bool vhost_blk_request_read_header(struct vhost_blk_request *req,
					  struct vhost_blk_data *readable)
{
	struct virtio_blk_outhdr *hdr = &req->queue->fetch.header;
	struct vhost_virtqueue *vq = &req->queue->vq;

	if (readable->bytes < sizeof(*hdr) ||
	    !vhost_blk_request_copy_header(hdr, readable))
		return false;
	vhost_blk_data_advance(readable, sizeof(*hdr));
	req->type = vhost_blk_request_type(vhost32_to_cpu(vq, hdr->type));
	req->sector = vhost64_to_cpu(vq, hdr->sector);
	req->io.priority = vhost_blk_request_priority(vhost32_to_cpu(vq, hdr->ioprio));
	return true;
}

static int vhost_blk_request_dispatch(struct vhost_blk_request *req)
{
	struct vhost_blk_data *readable = &req->queue->fetch.chain.readable;
	struct vhost_blk_data *writable = &req->queue->fetch.chain.writable;

	if (!vhost_blk_request_read_header(req, readable))
		return vhost_blk_request_end(req, BLK_STS_IOERR);
	trace_vhost_blk_request_received(req->queue->blk, req->queue->index,
					 req->head, req->type, req->sector,
					 readable->bytes + writable->bytes);
	if (vhost_blk_request_has_unexpected_data(req, readable, writable))
		return vhost_blk_request_end(req, BLK_STS_IOERR);

	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		req->kind = VHOST_BLK_READ;
		return vhost_blk_request_read(req, writable);
	case VIRTIO_BLK_T_OUT:
		req->kind = VHOST_BLK_WRITE;
		return vhost_blk_request_write(req, readable);
	case VIRTIO_BLK_T_FLUSH:
		req->kind = VHOST_BLK_FLUSH;
		return vhost_blk_request_flush(req);
	case VIRTIO_BLK_T_GET_ID:
		return vhost_blk_request_get_id(req, writable);
	case VIRTIO_BLK_T_DISCARD:
		req->kind = VHOST_BLK_DISCARD;
		return vhost_blk_request_ranges(req, VIRTIO_BLK_F_DISCARD,
						REQ_OP_DISCARD, readable);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		req->kind = VHOST_BLK_WRITE_ZEROES;
		return vhost_blk_request_ranges(req, VIRTIO_BLK_F_WRITE_ZEROES,
						REQ_OP_WRITE_ZEROES, readable);
	case VIRTIO_BLK_T_SECURE_ERASE:
		req->kind = VHOST_BLK_SECURE_ERASE;
		return vhost_blk_request_ranges(req, VIRTIO_BLK_F_SECURE_ERASE,
						REQ_OP_SECURE_ERASE, readable);
	default:
		return vhost_blk_request_end(req, BLK_STS_NOTSUPP);
	}
}

/* Initialize all fields that an earlier request may have set. */
static void vhost_blk_request_reset(struct vhost_blk_request *req)
{
	const struct vhost_blk_chain *chain = &req->queue->fetch.chain;
	struct vhost_virtqueue *vq = &req->queue->vq;
	const struct iovec *last = &vq->iov[chain->out + chain->in - 1];

	req->status_addr = last->iov_base + last->iov_len - 1;
	req->status_first = chain->in_bytes == sizeof(*req->status_addr);
	req->io.is_void = false;
	req->used_bytes = req->status_first;
	req->data_bytes = 0;
	req->load = 0;
	req->bytes = 0;
	req->type = 0;
	req->sector = 0;
	req->kind = VHOST_BLK_OTHER;
	req->has_reserve = chain->may_use_reserve;
	req->log = NULL;
	req->log_iov = NULL;
	req->logged = chain->logged;
	if (unlikely(req->logged)) {
		const struct vhost_log *log = &vq->log[chain->log_num - 1];

		req->status_log = log->addr + log->len - 1;
	}
	req->started = trace_vhost_blk_request_completed_enabled() ?
		       ktime_get_ns() : 0;
}

/**
 * vhost_blk_request_start - start the chain that was just fetched
 * @req: a free request with @head set; the chain is in its queue's @fetch.chain and
 *	@vq.iov
 *
 * Runs in the queue's worker, or in the owner's process for a drain, with @vq.mutex held.
 * May sleep. On success vhost_blk_queue_completed() is called once for @req, maybe before
 * this returns.
 *
 * Return: 0, or an error, after which @req is free:
 *	-EINVAL	the chain has no place for a status
 *	-EBUSY	there is no memory, or polled operations must end first; only if other
 *		requests are in flight
 */
int vhost_blk_request_start(struct vhost_blk_request *req)
{
	struct vhost_blk_chain *chain = &req->queue->fetch.chain;
	struct vhost_virtqueue *vq = &req->queue->vq;
	int ret = 0;

	if (unlikely(!chain->in)) {
		vq_err(vq, "Request %u has no room for its status\n", req->head);
		return -EINVAL;
	}
	vhost_blk_request_reset(req);
	vhost_blk_data_init(&chain->readable, vq->iov, chain->out,
			    chain->out_bytes);
	vhost_blk_data_init(&chain->writable, vq->iov + chain->out, chain->in,
			    chain->in_bytes - 1);
	if (unlikely(vq->iotlb))
		ret = vhost_blk_request_copy_translated(req);
	ret = ret ?: vhost_blk_request_dispatch(req);
	if (unlikely(ret))
		vhost_blk_request_release(req);
	return ret;
}

static u8 vhost_blk_request_status(const struct vhost_blk_request *req)
{
	switch (req->io.status) {
	case BLK_STS_OK:
		return VIRTIO_BLK_S_OK;
	case BLK_STS_NOTSUPP:
		return VIRTIO_BLK_S_UNSUPP;
	default:
		return VIRTIO_BLK_S_IOERR;
	}
}

/* With an IOTLB, vhost_log_write() ignores the length and marks all of the iovecs. */
static unsigned int vhost_blk_iov_shorten(struct iovec *iov, size_t bytes)
{
	unsigned int num;

	for (num = 0; bytes; num++) {
		iov[num].iov_len = min(iov[num].iov_len, bytes);
		bytes -= iov[num].iov_len;
	}
	return num;
}

/*
 * Mark what was written in guest memory. A request that failed may have written a part of
 * its data.
 */
static int vhost_blk_request_write_log(struct vhost_blk_request *req)
{
	struct vhost_virtqueue *vq = &req->queue->vq;
	struct vhost_log status_log = { .addr = req->status_log, .len = 1 };
	struct iovec status_iov = { .iov_base = req->status_addr, .iov_len = 1 };
	u32 bytes = req->data_bytes;
	int ret = 0;

	if (req->log_iov && bytes)
		ret = vhost_log_write(vq, NULL, 0, bytes, req->log_iov,
				      vhost_blk_iov_shorten(req->log_iov, bytes));
	else if (req->log && bytes)
		ret = vhost_log_write(vq, req->log, req->num_log, bytes, NULL, 0);
	return ret ?: vhost_log_write(vq, &status_log, 1, 1, &status_iov, 1);
}

static void vhost_blk_request_count(struct vhost_blk_request *req, u8 status)
{
	struct vhost_blk_counters *counters = &req->queue->counters;

	counters->requests[req->kind]++;
	if (status == VIRTIO_BLK_S_OK)
		counters->bytes[req->kind] += req->bytes;
	else
		counters->errors[req->kind]++;
	counters->bounced += !!req->io.bounce;
	counters->polled += req->io.is_polled;

	trace_vhost_blk_request_completed(req->queue->blk,
					  req->queue->index, req->head,
					  req->type, req->sector, req->bytes,
					  status, req->started ?
					  ktime_get_ns() - req->started : 0);
}

/**
 * vhost_blk_request_write_status - write the status byte of a request
 * @req: a request after vhost_blk_queue_completed(), whose vhost_blk_io_continue()
 *	returned 0
 * @used_bytes: set to the length for the used element: the bytes that were certainly
 *	written, from the start of the writable part (virtio 1.4, section 2.7.8). For a
 *	failed request this is the status byte if the writable part begins with it.
 *
 * Also counts the request and marks the dirty log. Must run in the owner's address space.
 * May sleep.
 *
 * Return: 0, or -EFAULT if the guest's memory or the dirty log is not accessible any more.
 */
int vhost_blk_request_write_status(struct vhost_blk_request *req, u32 *used_bytes)
{
	u8 status = vhost_blk_request_status(req);
	int ret;

	vhost_blk_request_count(req, status);
	*used_bytes = status == VIRTIO_BLK_S_OK ?
		      req->used_bytes : req->status_first;
	ret = put_user(status, req->status_addr);
	if (!ret && unlikely(req->logged))
		ret = vhost_blk_request_write_log(req);
	return ret;
}

/**
 * vhost_blk_request_write_ok - write the status byte of a request that succeeded
 * @req: a request with @status_page that needs no process
 *
 * Also counts the request. Any context. The caller owns the used ring: see blk-direct.c.
 *
 * Return: the length for the used element.
 */
u32 vhost_blk_request_write_ok(struct vhost_blk_request *req)
{
	u8 *page = kmap_local_page(req->status_page);

	WRITE_ONCE(page[offset_in_page(req->status_addr)], VIRTIO_BLK_S_OK);
	kunmap_local(page);
	vhost_blk_request_count(req, VIRTIO_BLK_S_OK);
	return req->used_bytes;
}

/**
 * vhost_blk_request_uses - whether a request uses a translation of a range
 * @req: a request, in flight or free, of a queue with an IOTLB
 * @start: first I/O virtual address of the range
 * @last: its last address
 *
 * Return: true if so.
 */
bool vhost_blk_request_uses(const struct vhost_blk_request *req, u64 start,
			    u64 last)
{
	const struct vhost_log *part = req->translated;
	unsigned int i;

	for (i = 0; i < req->num_translated; i++, part++)
		if (part->addr <= last && part->addr + part->len - 1 >= start)
			return true;
	return false;
}

/**
 * vhost_blk_request_release - release the resources of a request
 * @req: a request that has ended, or that was not started
 *
 * May sleep.
 */
void vhost_blk_request_release(struct vhost_blk_request *req)
{
	vhost_blk_io_release(&req->io);
	if (unlikely(req->status_pinned))
		unpin_user_page_range_dirty_lock(req->status_page, 1, true);
	req->status_pinned = false;
	req->status_page = NULL;
	if (unlikely(req->logged) && !req->has_reserve) {
		kfree(req->log);
		kfree(req->log_iov);
	}
	req->log = NULL;
	req->log_iov = NULL;
	if (unlikely(req->num_translated) && !req->has_reserve)
		kfree(req->translated);
	req->num_translated = 0;
}
