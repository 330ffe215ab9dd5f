// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: descriptor chains in, used elements and signals out.
 *
 * One work item a queue, run by a vhost worker, does both directions: it
 * answers what has completed, then fetches what the guest made available. A
 * kick queues it, and so does the completion that finds the list of completed
 * requests empty, so that a burst of completions costs one wake-up, one update
 * of the used index and at most one signal.
 *
 * A burst of requests is submitted under one plug. The guest's kicks are off
 * while the worker looks, and on again once the ring is empty; they stay off
 * when the worker ran out of requests, because the next completion brings it
 * back anyway. The requests of a queue are as many as its descriptors: a guest
 * that makes a descriptor available twice waits like one that has none left.
 * Nor can it have more data under way than VHOST_BLK_MAX_IN_FLIGHT and the last
 * request before that was reached.
 */
#include <linux/blkdev.h>
#include <linux/slab.h>

#include "blk.h"

/* Nothing is fetched any more, by this error of the guest. */
static void vhost_blk_queue_break(struct vhost_blk_queue *queue)
{
	queue->broken = true;
}

/*
 * Take back every completed request and, if @answer, put it into the used ring.
 * Without, guest memory is not touched: it may be another process's that is
 * current. Returns true if the guest is to be signalled.
 */
static bool vhost_blk_queue_reap(struct vhost_blk_queue *queue, bool answer)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_request *req, *next;
	struct llist_node *list;
	unsigned int count = 0;

	list = llist_reverse_order(llist_del_all(&queue->completed));
	llist_for_each_entry_safe(req, next, list, node) {
		u32 bytes;

		vhost_blk_io_release(&req->io);
		queue->bytes_in_flight -= req->data_bytes;
		queue->free[queue->num_free++] = req;
		if (!answer)
			continue;
		if (vhost_blk_request_answer(req, &bytes)) {
			vq_err(vq, "Status of request %u can't be written\n",
			       req->head);
			vhost_blk_queue_break(queue);
			continue;
		}
		vq->heads[count].id = cpu_to_vhost32(vq, req->head);
		vq->heads[count].len = cpu_to_vhost32(vq, bytes);
		count++;
	}
	if (count && vhost_add_used_n(vq, vq->heads, NULL, count))
		vhost_blk_queue_break(queue);
	return count;
}

/* Fetch one chain and start it: 1 if there was one, 0 if not, or an error. */
static int vhost_blk_queue_fetch(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_request *req;
	unsigned int out, in, ndesc;
	int head, ret;

	head = vhost_get_vq_desc_n(vq, vq->iov, ARRAY_SIZE(vq->iov), &out, &in,
				   NULL, NULL, &ndesc);
	if (head < 0)
		return head;
	if (head == vq->num)
		return 0;

	req = queue->free[queue->num_free - 1];
	req->head = head;
	ret = vhost_blk_request_start(req, out, in);
	if (ret) {
		vhost_discard_vq_desc(vq, 1, ndesc);
		return ret;
	}
	queue->num_free--;
	queue->bytes_in_flight += req->data_bytes;
	return 1;
}

/*
 * Fetch under one plug until the ring is empty. Returns true then, false if
 * going on is up to a later run of the worker or, on a broken ring, to nobody.
 */
static bool vhost_blk_queue_burst(struct vhost_blk_queue *queue, int *count)
{
	struct blk_plug plug;
	bool empty = false;

	blk_start_plug(&plug);
	while (queue->num_free &&
	       queue->bytes_in_flight < VHOST_BLK_MAX_IN_FLIGHT) {
		int ret = vhost_blk_queue_fetch(queue);

		if (ret <= 0) {
			empty = !ret;
			if (ret < 0)
				vhost_blk_queue_break(queue);
			break;
		}
		if (vhost_exceeds_weight(&queue->vq, ++*count, 0))
			break;
	}
	blk_finish_plug(&plug);
	return empty;
}

static void vhost_blk_queue_work(struct vhost_work *work)
{
	struct vhost_virtqueue *vq =
		container_of(work, struct vhost_virtqueue, poll.work);
	struct vhost_blk_queue *queue =
		container_of(vq, struct vhost_blk_queue, vq);
	int count = 0;
	bool used;

	mutex_lock(&vq->mutex);
	used = vhost_blk_queue_reap(queue, true);
	if (!vhost_vq_get_backend(vq) || queue->broken || !vq_meta_prefetch(vq))
		goto out;

	vhost_disable_notify(vq->dev, vq);
	while (vhost_blk_queue_burst(queue, &count)) {
		/* What a fast device has completed meanwhile shares the signal. */
		used |= vhost_blk_queue_reap(queue, true);
		if (used)
			vhost_signal(vq->dev, vq);
		used = false;
		if (queue->broken || !vhost_enable_notify(vq->dev, vq))
			break;
		vhost_disable_notify(vq->dev, vq);
	}
out:
	if (used)
		vhost_signal(vq->dev, vq);
	mutex_unlock(&vq->mutex);
}

/**
 * vhost_blk_queue_completed - hand a request back for its answer
 * @req: a started request; its queue owns it from here on
 *
 * Any context. The worker, or vhost_blk_queue_drain() if the queue is being
 * stopped, picks it up.
 */
void vhost_blk_queue_completed(struct vhost_blk_request *req)
{
	struct vhost_blk_queue *queue = req->queue;

	/*
	 * Once the request is on the list a drain can take it and the device
	 * can go: its release waits for a grace period before it frees queues.
	 */
	rcu_read_lock();
	if (llist_add(&req->node, &queue->completed)) {
		vhost_vq_work_queue(&queue->vq, &queue->vq.poll.work);
		if (wq_has_sleeper(&queue->drained))
			wake_up(&queue->drained);
	}
	rcu_read_unlock();
}

/**
 * vhost_blk_queue_init - prepare a queue before vhost_dev_init()
 * @queue: zeroed memory
 * @blk: the device it belongs to
 */
void vhost_blk_queue_init(struct vhost_blk_queue *queue, struct vhost_blk *blk)
{
	queue->blk = blk;
	queue->vq.handle_kick = vhost_blk_queue_work;
	init_llist_head(&queue->completed);
	init_waitqueue_head(&queue->drained);
}

static void vhost_blk_queue_free_requests(struct vhost_blk_queue *queue)
{
	kvfree(queue->requests);
	kvfree(queue->free);
	queue->requests = NULL;
	queue->free = NULL;
	queue->num_requests = 0;
	queue->num_free = 0;
}

static int vhost_blk_queue_alloc_requests(struct vhost_blk_queue *queue)
{
	unsigned int num = queue->vq.num;
	unsigned int i;

	if (queue->num_requests == num)
		return 0;
	vhost_blk_queue_free_requests(queue);

	queue->requests = kvcalloc(num, sizeof(*queue->requests),
				   GFP_KERNEL_ACCOUNT);
	queue->free = kvcalloc(num, sizeof(*queue->free), GFP_KERNEL_ACCOUNT);
	if (!queue->requests || !queue->free) {
		vhost_blk_queue_free_requests(queue);
		return -ENOMEM;
	}
	for (i = 0; i < num; i++) {
		vhost_blk_request_init(&queue->requests[i], queue);
		queue->free[i] = &queue->requests[i];
	}
	queue->num_requests = num;
	queue->num_free = num;
	return 0;
}

/**
 * vhost_blk_queue_start - serve the ring that the VMM has set up
 * @queue: a stopped queue with nothing in flight
 *
 * Called with the device's mutex and @vq.mutex held; may sleep. A ring without
 * addresses is one that the driver doesn't use, and stays stopped.
 *
 * Return: 0, -EFAULT if the ring isn't in the owner's memory, -E2BIG if it has
 * more than %VHOST_BLK_MAX_RING descriptors, -ENOMEM.
 */
int vhost_blk_queue_start(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	int ret;

	if (!vq->desc && !vq->avail && !vq->used)
		return 0;
	if (vq->num > VHOST_BLK_MAX_RING)
		return -E2BIG;
	if (!vhost_vq_access_ok(vq))
		return -EFAULT;

	ret = vhost_blk_queue_alloc_requests(queue);
	if (ret)
		return ret;

	queue->broken = false;
	vhost_vq_set_backend(vq, queue->blk);
	ret = vhost_vq_init_access(vq);
	if (ret) {
		vhost_vq_set_backend(vq, NULL);
		return ret;
	}
	/* Kicks from before this moment found nobody listening. */
	vhost_poll_queue(&vq->poll);
	return 0;
}

/**
 * vhost_blk_queue_drain - wait until nothing of a queue is in flight
 * @queue: the queue
 * @answer: write the answers to guest memory; only in the owner's address space
 *
 * Called with @vq.mutex held, which keeps the worker from fetching; may sleep.
 * Does the worker's part of a completion itself: a worker whose process was
 * killed does nothing any more.
 */
void vhost_blk_queue_drain(struct vhost_blk_queue *queue, bool answer)
{
	bool used = vhost_blk_queue_reap(queue, answer);

	while (queue->num_free < queue->num_requests) {
		wait_event(queue->drained, !llist_empty(&queue->completed));
		used |= vhost_blk_queue_reap(queue, answer);
	}
	if (used)
		vhost_signal(queue->vq.dev, &queue->vq);
}

/**
 * vhost_blk_queue_stop - serve the ring no more
 * @queue: the queue, running or not
 * @answer: as for vhost_blk_queue_drain()
 *
 * Takes @vq.mutex; may sleep. On return nothing is in flight and guest memory
 * is not touched any more.
 */
void vhost_blk_queue_stop(struct vhost_blk_queue *queue, bool answer)
{
	mutex_lock(&queue->vq.mutex);
	vhost_vq_set_backend(&queue->vq, NULL);
	vhost_blk_queue_drain(queue, answer);
	mutex_unlock(&queue->vq.mutex);
}

/**
 * vhost_blk_queue_free - free a queue
 * @queue: a stopped queue, with a grace period after vhost_blk_queue_stop()
 */
void vhost_blk_queue_free(struct vhost_blk_queue *queue)
{
	vhost_blk_queue_free_requests(queue);
	kvfree(queue);
}
