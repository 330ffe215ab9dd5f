// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: descriptor chains in, used elements and signals out.
 *
 * A queue's worker does both directions. First it reaps queue->completed: it writes the
 * status bytes and the used elements. Then it fetches and starts the available chains.
 *
 * Two events wake the worker: a kick, and a completion that finds queue->completed empty
 * while queue->working is false. So a burst of completions costs one wake-up, one update
 * of the used index and at most one signal.
 *
 * A burst of bios is submitted under one plug, and without the queue's mutex: submitting
 * sleeps if the device has no free tag.
 *
 * Kicks are disabled while the worker fetches, and enabled again when the ring is empty.
 * They stay disabled when the queue can't take another request. Then a completion
 * wakes the worker. If the worker reaped the last request in flight itself, it queues
 * itself again.
 *
 * A queue has as many requests as descriptors. So a guest that makes a descriptor
 * available twice only waits. The load in flight is bounded by VHOST_BLK_MAX_LOAD plus
 * one request.
 *
 * Before a signal, and before it enables kicks, the worker may wait for more work: see
 * blk-wait.c.
 */
#include <linux/blkdev.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "blk.h"

/* Requests of one queue that a worker starts before it turns to another queue. */
#define VHOST_BLK_BURST		256

/* Bios that are made before they are submitted. */
#define VHOST_BLK_MAX_MADE	32

/*
 * How long the worker polls for operations and does nothing else, and the interval at
 * which it polls for them afterwards, in jiffies.
 */
#define VHOST_BLK_FINISH_TIME		msecs_to_jiffies(20)
#define VHOST_BLK_SLOW_POLL_INTERVAL	msecs_to_jiffies(1)

/* Why fetching stopped. */
enum vhost_blk_fetched {
	VHOST_BLK_RING_EMPTY,
	VHOST_BLK_BATCH_FULL,	/* submit the bios, then fetch more */
	VHOST_BLK_BURST_OVER,	/* the budget is used up, the ring may have more */
	VHOST_BLK_STALLED,	/* until a request in flight ends */
	VHOST_BLK_HALTED,	/* until the IOTLB is updated or the ring restarted */
};

/* The guest made an error: fetch nothing until the next start. */
static void vhost_blk_queue_break(struct vhost_blk_queue *queue)
{
	queue->broken = true;
}

static unsigned int vhost_blk_queue_in_flight(const struct vhost_blk_queue *queue)
{
	return queue->num_requests - queue->num_free;
}

static struct vhost_blk_request *
vhost_blk_queue_get_request(struct vhost_blk_queue *queue)
{
	return queue->free[--queue->num_free];
}

static void vhost_blk_queue_put_request(struct vhost_blk_queue *queue,
					struct vhost_blk_request *req)
{
	vhost_blk_request_release(req);
	queue->load -= req->load;
	if (req->has_reserve)
		queue->reserve_in_use = false;
	queue->free[queue->num_free++] = req;
}

/*
 * Revoke the right of completions to answer, and release the requests that they answered.
 * To be called with the mutex held before anything else is done with the queue.
 */
static void vhost_blk_queue_revoke(struct vhost_blk_queue *queue)
{
	struct vhost_blk_request *req, *next;
	struct llist_node *answered;

	/* Only a holder of the mutex sets it. */
	if (likely(!queue->direct.granted))
		return;
	answered = vhost_blk_direct_revoke(queue);
	llist_for_each_entry_safe(req, next, answered, node) {
		vhost_blk_queue_put_request(queue, req);
		queue->direct.num_released++;
	}
}

/*
 * Add the first @count elements of vq->heads to the used ring. A single element takes
 * vhost_add_used(): its copy has a constant size, so that user-copy checks cost less.
 */
static int vhost_blk_queue_add_used(struct vhost_blk_queue *queue,
				    unsigned int count)
{
	struct vhost_virtqueue *vq = &queue->vq;
	int ret;

	if (queue->record.map)
		vhost_blk_record_link_batch(queue, vq->heads, count);
	if (count == 1)
		ret = vhost_add_used(vq, vhost32_to_cpu(vq, vq->heads->id),
				     vhost32_to_cpu(vq, vq->heads->len));
	else
		ret = vhost_add_used_n(vq, vq->heads, NULL, count);
	if (queue->record.map && !ret)
		vhost_blk_record_clear_batch(queue, vq->heads, count);
	return ret;
}

/*
 * Move the requests of queue->blocked to queue->completed, unless polled operations are in
 * flight. With @drop the requests start nothing any more: move them in any case.
 *
 * Called at the end of each reaping. The last polled operation to end leaves the count of
 * polled ones before its request is added to queue->completed. So either this function sees
 * no polled operation, or that request will be reaped.
 */
static void vhost_blk_queue_unblock(struct vhost_blk_queue *queue, bool drop)
{
	struct vhost_blk_request *req, *next;

	if (likely(llist_empty(&queue->blocked)) ||
	    (!drop && vhost_blk_channel_has_polled(&queue->channel)))
		return;
	llist_for_each_entry_safe(req, next, llist_del_all(&queue->blocked), node)
		llist_add(&req->node, &queue->completed);
}

/*
 * Take all requests off queue->completed and free them. With @write_used, write their
 * status bytes and used elements. Without it, leave guest memory alone: the current
 * process may not be the owner. Returns whether used elements were added.
 *
 * A process that is being killed can't access all of its memory. It leaves the list for
 * another caller. A request that failed for this reason (is_void) gets no used element,
 * as if it had never been fetched.
 */
static bool vhost_blk_queue_reap(struct vhost_blk_queue *queue, bool write_used)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_request *req, *next;
	struct llist_node *list;
	unsigned int count = 0;

	if (unlikely(write_used && fatal_signal_pending(current)))
		return false;
	list = llist_reverse_order(llist_del_all(&queue->completed));
	llist_for_each_entry_safe(req, next, list, node) {
		int ret = write_used ? vhost_blk_io_continue(&req->io) : 0;
		bool push;
		u32 bytes;

		if (unlikely(ret)) {
			if (ret == -EBUSY)
				llist_add(&req->node, &queue->blocked);
			continue;
		}
		/* Without a used element the chain stays in the record, if there is one. */
		push = write_used && !req->io.is_void;
		if (push && vhost_blk_request_write_status(req, &bytes)) {
			vq_err(vq, "Request %u can't be answered\n", req->head);
			vhost_blk_queue_break(queue);
		} else if (push) {
			vq->heads[count].id = cpu_to_vhost32(vq, req->head);
			vq->heads[count].len = cpu_to_vhost32(vq, bytes);
			count++;
		}
		vhost_blk_queue_put_request(queue, req);
	}
	vhost_blk_queue_unblock(queue, !write_used);
	if (!count)
		return false;
	queue->counters.batches++;
	queue->wait.pending_signals += count;
	if (vhost_blk_queue_add_used(queue, count))
		vhost_blk_queue_break(queue);
	return true;
}

/* Signal the guest if it has used elements that it was not signalled for. */
static void vhost_blk_queue_signal(struct vhost_blk_queue *queue)
{
	if (!queue->wait.pending_signals)
		return;
	queue->wait.pending_signals = 0;
	queue->counters.signals++;
	vhost_blk_wait_note_signal(queue);
	vhost_signal(queue->vq.dev, &queue->vq);
}

/*
 * Reap, and signal the guest unless more completions are to be gathered first. Returns
 * whether used elements were added.
 */
static bool vhost_blk_queue_reap_and_signal(struct vhost_blk_queue *queue)
{
	bool used = !llist_empty(&queue->completed) &&
		    vhost_blk_queue_reap(queue, true);

	if (queue->wait.pending_signals && vhost_blk_wait_should_signal(queue))
		vhost_blk_queue_signal(queue);
	return used;
}

/* Wait for work, before a signal and before sleep. Returns whether there is any. */
static bool vhost_blk_queue_await_work(struct vhost_blk_queue *queue)
{
	if (queue->wait.pending_signals && vhost_blk_wait_gather(queue))
		return true;
	vhost_blk_queue_signal(queue);
	return vhost_blk_wait_refill(queue) || vhost_blk_wait_poll(queue);
}

/*
 * Fetch and start one chain. Returns 1, or 0 if the ring is empty, or an error:
 *	-EAGAIN	the IOTLB lacks a translation
 *	-EBUSY	a request in flight must end first
 *	-EINTR	the process is being killed
 *	others	the chain is invalid
 *
 * Inlined by force. Otherwise the second, rare caller makes the compiler emit a call.
 */
static __always_inline int vhost_blk_queue_fetch(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_request *req;
	int head = vhost_blk_fetch(queue);
	int ret;

	if (head < 0)
		return head;
	if (head == vq->num)
		return 0;

	req = vhost_blk_queue_get_request(queue);
	req->head = head;
	ret = vhost_blk_request_start(req);
	if (ret == -EBUSY && vhost_blk_queue_in_flight(queue) == 1) {
		/* It is alone in the queue: no completion will free what it lacks. */
		queue->fetch.chain.may_use_reserve = true;
		ret = vhost_blk_request_start(req);
	}
	if (ret) {
		queue->num_free++;
		vhost_blk_fetch_undo(queue);
		return ret;
	}
	if (queue->record.map && !queue->fetch.chain.is_redone)
		vhost_blk_record_mark_fetched(queue, head);
	queue->reserve_in_use = req->has_reserve;
	queue->load += req->load;
	return 1;
}

static bool vhost_blk_queue_has_room(const struct vhost_blk_queue *queue)
{
	return queue->num_free && !queue->reserve_in_use &&
	       queue->load < VHOST_BLK_MAX_LOAD;
}

static enum vhost_blk_fetched vhost_blk_queue_halt(struct vhost_blk_queue *queue,
						   int error)
{
	if (error == -EBUSY)
		return VHOST_BLK_STALLED;
	if (error == -EAGAIN)
		queue->chain_missing = true;
	else if (error != -EINTR)
		vhost_blk_queue_break(queue);
	return VHOST_BLK_HALTED;
}

/*
 * Fetch until the ring is empty, enough bios are made, or @budget is used up. Chains can
 * be long. So a need to reschedule also uses up @budget.
 */
static enum vhost_blk_fetched vhost_blk_queue_burst(struct vhost_blk_queue *queue,
						    unsigned int *budget)
{
	while (vhost_blk_queue_has_room(queue)) {
		int ret;

		if (!*budget)
			return VHOST_BLK_BURST_OVER;
		if (queue->channel.made.num >= VHOST_BLK_MAX_MADE)
			return VHOST_BLK_BATCH_FULL;
		ret = vhost_blk_queue_fetch(queue);
		if (ret <= 0)
			return ret ? vhost_blk_queue_halt(queue, ret) :
				     VHOST_BLK_RING_EMPTY;
		*budget = need_resched() ? 0 : *budget - 1;
	}
	return VHOST_BLK_STALLED;
}

static bool vhost_blk_queue_is_running(struct vhost_blk_queue *queue)
{
	return vhost_vq_get_backend(&queue->vq);
}

/* Without a translation of the ring not even used elements can be written. */
static bool vhost_blk_queue_is_mapped(struct vhost_blk_queue *queue)
{
	if (likely(!queue->vq.iotlb))
		return true;
	if (!queue->ring_missing)
		queue->ring_missing = !vq_meta_prefetch(&queue->vq);
	return !queue->ring_missing;
}

/*
 * Take the mutex again after a moment without it, in which anything may have changed. The queue
 * may even have got another worker, which has served it and granted the right to answer.
 * Returns whether the queue can still be served.
 */
static bool vhost_blk_queue_relock(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	vhost_blk_queue_revoke(queue);
	WRITE_ONCE(queue->working, true);
	return vhost_blk_queue_is_running(queue) &&
	       vhost_blk_queue_is_mapped(queue);
}

/*
 * Submit the bios that were made. This releases the mutex, because submitting may sleep
 * for a tag and no ioctl should wait for that. Returns whether the queue can still be
 * served.
 */
static bool vhost_blk_queue_submit(struct vhost_blk_queue *queue)
{
	struct vhost_blk_bios made;

	if (!queue->channel.made.num)
		return true;
	made = vhost_blk_channel_take(&queue->channel);
	mutex_unlock(&queue->vq.mutex);
	vhost_blk_submit(&made);
	return vhost_blk_queue_relock(queue);
}

/*
 * Poll until the polled operations have ended, and release the mutex in between. The
 * worker must not sleep before: these operations may hold the tag that it would sleep
 * for, or block the queue freeze that it would sleep for.
 *
 * After VHOST_BLK_FINISH_TIME the device counts as slow. No more operations are started
 * as polled, and queue->timer brings the worker back to poll for those in flight.
 *
 * Returns whether the queue can still be served.
 */
static bool vhost_blk_queue_finish_polled(struct vhost_blk_queue *queue)
{
	struct mutex *mutex = &queue->vq.mutex;
	bool usable = true;
	unsigned long end;

	if (!vhost_blk_channel_has_polled(&queue->channel))
		return true;
	end = jiffies + VHOST_BLK_FINISH_TIME;
	while (usable && vhost_blk_channel_poll(&queue->channel)) {
		if (queue->channel.poll_disabled || time_after(jiffies, end) ||
		    signal_pending(current)) {
			vhost_blk_channel_disable_polling(&queue->channel);
			mod_timer(&queue->timer, jiffies + VHOST_BLK_SLOW_POLL_INTERVAL);
			break;
		}
		mutex_unlock(mutex);
		cond_resched();
		usable = vhost_blk_queue_relock(queue);
	}
	return usable;
}

/* True until the IOTLB is updated or the ring restarted. */
static bool vhost_blk_queue_is_halted(const struct vhost_blk_queue *queue)
{
	return queue->broken || queue->chain_missing || queue->paused;
}

/*
 * Serve the queue until there is nothing to do. Returns true if the worker is to run the
 * queue again, after its other queues.
 */
static bool vhost_blk_queue_serve(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int budget = VHOST_BLK_BURST;

	vhost_blk_queue_reap_and_signal(queue);
	vhost_disable_notify(vq->dev, vq);
	queue->kicks_enabled = false;
	while (!vhost_blk_queue_is_halted(queue)) {
		enum vhost_blk_fetched fetched = vhost_blk_queue_burst(queue, &budget);

		if (!vhost_blk_queue_submit(queue))
			return false;
		switch (fetched) {
		case VHOST_BLK_BATCH_FULL:
			continue;
		case VHOST_BLK_BURST_OVER:
			vhost_blk_queue_reap_and_signal(queue);
			return true;
		case VHOST_BLK_STALLED:
			/*
			 * A reaped request frees what fetching lacked. Run again: it may
			 * have been the last one that could wake the worker.
			 */
			return vhost_blk_queue_finish_polled(queue) &&
			       vhost_blk_queue_reap_and_signal(queue);
		case VHOST_BLK_HALTED:
		case VHOST_BLK_RING_EMPTY:
			break;
		}
		/* Requests that a fast device has completed by now share the signal. */
		vhost_blk_queue_reap_and_signal(queue);
		if (vhost_blk_queue_is_halted(queue))
			break;
		if (vhost_blk_queue_await_work(queue)) {
			vhost_blk_queue_reap_and_signal(queue);
			if (!budget--)
				return true;
			continue;
		}
		if (queue->wait.poll_end)
			return true;
		if (!vhost_enable_notify(vq->dev, vq)) {
			queue->kicks_enabled = true;
			break;
		}
		vhost_disable_notify(vq->dev, vq);
	}
	return false;
}

/*
 * Run a queue whose ring has a translation. The mutex is released at times. If the queue
 * is stopped meanwhile, leave it. Returns true if the worker is to run the queue again.
 */
static bool vhost_blk_queue_run_mapped(struct vhost_blk_queue *queue)
{
	bool requeue;

	vhost_blk_wait_adapt(queue);
	queue->channel.poll = queue->vq.busyloop_timeout && queue->wait.poll_ns;
	requeue = vhost_blk_queue_serve(queue);
	if (!vhost_blk_queue_is_running(queue) || queue->ring_missing)
		return false;
	vhost_blk_queue_signal(queue);
	/* Submit the next parts of operations that vhost_blk_io_continue() went on with. */
	return vhost_blk_queue_submit(queue) && requeue;
}

/*
 * Before the worker sleeps: let completions answer what is in flight, if the queue needs
 * the worker for nothing else. If chains were fetched since the last sleep and all requests
 * have ended, the disk is not late.
 */
static void vhost_blk_queue_grant(struct vhost_blk_queue *queue)
{
	unsigned int in_flight = vhost_blk_queue_in_flight(queue);
	struct vhost_blk_direct *direct = &queue->direct;

	if (in_flight || direct->last_avail_idx != queue->vq.last_avail_idx)
		direct->num_late = in_flight;
	direct->last_avail_idx = queue->vq.last_avail_idx;
	if (in_flight && in_flight < VHOST_BLK_GATHER_MIN && queue->kicks_enabled &&
	    vhost_blk_queue_is_running(queue) && !vhost_blk_queue_is_halted(queue) &&
	    !vhost_blk_wait_expects_more(queue))
		vhost_blk_direct_grant(queue);
}

/*
 * Whether nothing will wake the worker. It has found the queue stalled and waits for a completion.
 * A drain has reaped all requests in flight while the worker had released the mutex.
 */
static bool vhost_blk_queue_lost_wakeup(struct vhost_blk_queue *queue)
{
	return vhost_blk_queue_is_running(queue) && !queue->ring_missing &&
	       !queue->kicks_enabled && !vhost_blk_queue_is_halted(queue) &&
	       !vhost_blk_queue_in_flight(queue);
}

static void vhost_blk_queue_run(struct vhost_blk_queue *queue, bool kicked)
{
	struct vhost_virtqueue *vq = &queue->vq;
	bool requeue = false;

	mutex_lock(&vq->mutex);
	vhost_blk_queue_revoke(queue);
	queue->counters.kicks += kicked;
	if (!vhost_blk_queue_is_running(queue))
		goto out;

	WRITE_ONCE(queue->working, true);
	if (vhost_blk_queue_is_mapped(queue))
		requeue = vhost_blk_queue_run_mapped(queue);
	/* The worker's other queues may sleep. */
	vhost_blk_queue_finish_polled(queue);
	requeue |= vhost_blk_queue_lost_wakeup(queue);
	/* Kicks may be disabled, so vhost_blk_queue_resume() has to run the queue again. */
	queue->run_after_pause |= queue->paused;
	WRITE_ONCE(queue->working, false);
	/* Requests that end from here on are answered directly, or queue work. */
	if (!requeue)
		vhost_blk_queue_grant(queue);
	/*
	 * Pairs with llist_add() in vhost_blk_queue_completed(). Either that sees working
	 * false and queues work, or this sees its request in queue->completed.
	 */
	smp_mb();
	if (vhost_blk_queue_is_running(queue) &&
	    (requeue || (!queue->ring_missing && !llist_empty(&queue->completed))))
		vhost_vq_work_queue(vq, &queue->work);
out:
	mutex_unlock(&vq->mutex);
	if (requeue && vhost_blk_wait_should_resched())
		schedule();
}

static void vhost_blk_queue_timer(struct timer_list *timer)
{
	struct vhost_blk_queue *queue = timer_container_of(queue, timer, timer);

	vhost_vq_work_queue(&queue->vq, &queue->work);
}

static void vhost_blk_queue_work(struct vhost_work *work)
{
	vhost_blk_queue_run(container_of(work, struct vhost_blk_queue, work),
			    false);
}

static void vhost_blk_queue_kicked(struct vhost_work *work)
{
	vhost_blk_queue_run(container_of(work, struct vhost_blk_queue,
					 vq.poll.work), true);
}

/* Whether the request was answered here. See blk-direct.c. */
static bool vhost_blk_queue_answer(struct vhost_blk_request *req)
{
	return !READ_ONCE(req->queue->working) && vhost_blk_io_is_plain(&req->io) &&
	       vhost_blk_direct_answer(req);
}

/**
 * vhost_blk_queue_completed - hand a request over whose I/O has ended
 * @req: a started request; its queue owns it from here on
 *
 * Any context. The request is answered here, or the worker reaps it, or
 * vhost_blk_queue_drain() if the queue is being stopped.
 */
void vhost_blk_queue_completed(struct vhost_blk_request *req)
{
	struct vhost_blk_queue *queue = req->queue;

	/*
	 * Once the request is on the list, a drain can take it and the device can be
	 * released. The release waits for a grace period before it frees the queue.
	 */
	rcu_read_lock();
	if (unlikely(req->status_page) && vhost_blk_queue_answer(req)) {
		/* A drain revokes the right before it waits. Nothing is to be woken. */
	} else if (llist_add(&req->node, &queue->completed)) {
		/* Otherwise vhost_blk_queue_run() checks the list when it is done. */
		if (!READ_ONCE(queue->working))
			vhost_vq_work_queue(&queue->vq, &queue->work);
		if (wq_has_sleeper(&queue->drained))
			wake_up(&queue->drained);
	}
	rcu_read_unlock();
}

/**
 * vhost_blk_queue_init - initialize a queue before vhost_dev_init()
 * @queue: zeroed memory
 * @blk: its device
 * @index: its index in @blk->queues
 */
void vhost_blk_queue_init(struct vhost_blk_queue *queue, struct vhost_blk *blk,
			  unsigned int index)
{
	queue->blk = blk;
	queue->index = index;
	queue->vq.handle_kick = vhost_blk_queue_kicked;
	vhost_work_init(&queue->work, vhost_blk_queue_work);
	timer_setup(&queue->timer, vhost_blk_queue_timer, 0);
	vhost_blk_channel_init(&queue->channel);
	vhost_blk_direct_init(queue);
	init_llist_head(&queue->completed);
	init_llist_head(&queue->blocked);
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
 * vhost_blk_queue_start - start serving the ring that the VMM has set up
 * @queue: a queue that is not started
 *
 * Called with the device's mutex and @vq.mutex held. May sleep. A ring without addresses
 * is not used by the driver. It stays stopped, and the call succeeds. With a record, the
 * guest is signalled once, whatever the used ring has.
 *
 * Return: 0, or
 *	-EFAULT	the ring is not in the owner's memory
 *	-E2BIG	it has more than %VHOST_BLK_MAX_RING descriptors
 *	-ENOMEM
 *	an error of vhost_blk_record_open() or vhost_blk_record_recover()
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
	ret = vhost_blk_channel_open(&queue->channel, queue->blk->backing);
	if (ret)
		return ret;
	ret = vhost_blk_record_open(queue);
	if (ret)
		goto err_channel;

	queue->broken = false;
	queue->ring_missing = false;
	queue->chain_missing = false;
	queue->paused = false;
	queue->kicks_enabled = false;
	queue->wait.pending_signals = 0;
	vhost_blk_fetch_drop_region(queue);
	vhost_blk_wait_start(queue);
	vhost_vq_set_backend(vq, queue->blk);
	ret = vhost_vq_init_access(vq);
	if (ret)
		goto err_backend;
	ret = vhost_blk_record_recover(queue);
	if (ret)
		goto err_backend;
	/*
	 * An owner that was killed may have used chains and not signalled, or only signalled
	 * an eventfd that the VMM had closed by then.
	 */
	if (queue->record.map)
		queue->wait.pending_signals = 1;
	vhost_blk_fetch_choose_path(queue);
	queue->started = true;
	/* The worker ignored all kicks before this moment. */
	vhost_vq_work_queue(vq, &queue->work);
	return 0;

err_backend:
	vhost_vq_set_backend(vq, NULL);
	vhost_blk_record_close(queue);
err_channel:
	vhost_blk_channel_close(&queue->channel);
	return ret;
}

/*
 * Wait until a request in flight has ended. Errors and @timeout as for
 * vhost_blk_queue_drain().
 *
 * If the queue is stopped, release the mutex meanwhile. A worker whose process is being
 * killed takes it before it exits, and the process does not end before its worker.
 */
static int vhost_blk_queue_wait(struct vhost_blk_queue *queue, long *timeout)
{
	bool polled = vhost_blk_channel_poll(&queue->channel);
	bool stopped = !vhost_blk_queue_is_running(queue);
	long left;

	if (stopped)
		mutex_unlock(&queue->vq.mutex);
	left = wait_event_killable_timeout(queue->drained,
					   !llist_empty(&queue->completed),
					   polled ? 1 : *timeout);
	if (stopped)
		mutex_lock(&queue->vq.mutex);
	if (left < 0)
		return -EINTR;
	if (!polled)
		*timeout = left;
	else if (*timeout != MAX_SCHEDULE_TIMEOUT)
		*timeout = max(*timeout - 1 + left, 0);
	return *timeout ? 0 : -ETIMEDOUT;
}

/*
 * Start the chains that are left in record->redo. This happens before the ring stops,
 * because its next user may have no record. Returns 0, -EAGAIN if the IOTLB
 * lacks a translation, or -EINTR if the process is being killed.
 */
static int vhost_blk_queue_redo(struct vhost_blk_queue *queue)
{
	int ret = 1;

	/* The VMM was asked, and has told nothing since. One miss is enough. */
	if (!vhost_blk_queue_is_mapped(queue) || queue->chain_missing)
		return -EAGAIN;
	while (ret > 0 && vhost_blk_record_has_redo(&queue->record) &&
	       !queue->broken && vhost_blk_queue_has_room(queue))
		ret = vhost_blk_queue_fetch(queue);
	if (ret >= 0 || vhost_blk_queue_halt(queue, ret) == VHOST_BLK_STALLED)
		return 0;
	return ret == -EAGAIN || ret == -EINTR ? ret : 0;
}

/*
 * Whether a drain has chains to redo. The worker of a running queue redoes them. A drain of
 * a paused queue redoes none: this could need a translation, and the VMM may not reply to a
 * miss before the invalidation returns.
 */
static bool vhost_blk_queue_must_redo(struct vhost_blk_queue *queue, bool write_used)
{
	return write_used && !queue->broken && !queue->paused &&
	       !vhost_blk_queue_is_running(queue) &&
	       vhost_blk_record_has_redo(&queue->record);
}

/**
 * vhost_blk_queue_drain - wait until nothing of a queue is in flight
 * @queue: the queue
 * @write_used: write status bytes and used elements to guest memory; only in the owner's
 *	address space
 * @timeout: how long to wait, in jiffies, or MAX_SCHEDULE_TIMEOUT; set to the time that
 *	is left
 *
 * Called with @vq.mutex held, which keeps the worker from fetching. May sleep. If the
 * queue is stopped, the mutex is released while waiting.
 *
 * This reaps the requests itself. A worker whose process was killed does nothing any
 * more.
 *
 * After an error the requests in flight stay in flight. The next drain or the running
 * queue reaps them. If the VMM has meanwhile moved the stopped ring to where it may not be,
 * they end without an answer.
 *
 * Return: 0, or
 *	-EINTR	the caller is being killed
 *	-ETIMEDOUT
 *	-EAGAIN	the queue is stopped, and a chain is to be redone for which the IOTLB lacks
 *		a translation
 */
int vhost_blk_queue_drain(struct vhost_blk_queue *queue, bool write_used,
			  long *timeout)
{
	struct vhost_blk_bios made;
	int ret = 0;

	vhost_blk_queue_revoke(queue);
	for (;;) {
		/* vhost core checks the addresses of running rings only. */
		if (write_used && !vhost_blk_queue_is_running(queue) &&
		    !vhost_vq_access_ok(&queue->vq)) {
			vhost_blk_queue_break(queue);
			queue->wait.pending_signals = 0;
			write_used = false;
		}
		vhost_blk_queue_reap(queue, write_used);
		if (!ret && vhost_blk_queue_must_redo(queue, write_used))
			ret = vhost_blk_queue_redo(queue);
		/* Including the next parts of operations that the reaping went on with. */
		made = vhost_blk_channel_take(&queue->channel);
		vhost_blk_submit_async(&made, &queue->blk->waiter);
		if (ret || !(vhost_blk_queue_must_redo(queue, write_used) ||
			     vhost_blk_queue_in_flight(queue)))
			break;
		ret = write_used && fatal_signal_pending(current) ? -EINTR :
		      vhost_blk_queue_wait(queue, timeout);
	}
	vhost_blk_queue_signal(queue);
	return ret;
}

/* Whether a request in flight uses a translation of the range. */
static bool vhost_blk_queue_uses(const struct vhost_blk_queue *queue, u64 start,
				 u64 last)
{
	unsigned int i;

	for (i = 0; i < queue->num_requests; i++)
		if (vhost_blk_request_uses(&queue->requests[i], start, last))
			return true;
	return false;
}

static bool vhost_blk_queue_overlaps(const void __user *addr, size_t len, u64 start,
				     u64 last)
{
	u64 first = (uintptr_t)addr;

	return first <= last && start <= first + len - 1;
}

/* Whether the range has a part of the ring. Only for queues with an IOTLB. */
static bool vhost_blk_queue_ring_is_in(const struct vhost_blk_queue *queue, u64 start,
				       u64 last)
{
	const struct vhost_virtqueue *vq = &queue->vq;
	size_t event = sizeof(__virtio16);

	return vhost_blk_queue_overlaps(vq->desc, vq->num * sizeof(*vq->desc), start, last) ||
	       vhost_blk_queue_overlaps(vq->avail, struct_size(vq->avail, ring, vq->num) +
					event, start, last) ||
	       vhost_blk_queue_overlaps(vq->used, struct_size(vq->used, ring, vq->num) +
					event, start, last);
}

/**
 * vhost_blk_queue_pause - stop fetching, and finish requests that use a translation
 * @queue: the queue, running or not
 * @start: first I/O virtual address that is invalidated
 * @last: the last one
 * @removed: the translations that are removed with it, as one range
 * @timeout: as for vhost_blk_queue_drain()
 *
 * Takes @vq.mutex. May sleep. The caller has to call vhost_blk_queue_resume()
 * afterwards, also after an error.
 *
 * If @removed has a part of the ring, all requests in flight are finished: the caller
 * that stops the queue later may not be able to ask the VMM for the ring.
 *
 * Without a translation of the ring used elements can't be written. If then a request uses
 * what is invalidated, the guest has unmapped what it waits for, and the queue is broken, as
 * after any error of the guest. What is only removed with it stays mapped for the guest: a
 * request that uses this stays in flight.
 *
 * Return: 0, or an error of vhost_blk_queue_drain().
 */
int vhost_blk_queue_pause(struct vhost_blk_queue *queue, u64 start, u64 last,
			  const struct vhost_blk_iova_range *removed, long *timeout)
{
	struct vhost_virtqueue *vq = &queue->vq;
	bool used, mapped;
	int ret = 0;

	mutex_lock(&vq->mutex);
	queue->paused = true;
	used = vhost_blk_queue_uses(queue, start, last);
	if (used || (vhost_blk_queue_in_flight(queue) &&
		     vhost_blk_queue_ring_is_in(queue, removed->start, removed->last))) {
		mapped = vq_meta_prefetch(vq);
		if (used && !mapped) {
			vq_err(vq, "Buffers and ring are unmapped while in use\n");
			vhost_blk_queue_break(queue);
		}
		if (used || mapped)
			ret = vhost_blk_queue_drain(queue, mapped, timeout);
	}
	mutex_unlock(&vq->mutex);
	return ret;
}

/**
 * vhost_blk_queue_resume - fetch again after the IOTLB was updated
 * @queue: the queue, running or not
 *
 * Takes @vq.mutex. May sleep. The caller has dropped all misses without a reply. The
 * queue sends its miss again if it still lacks a translation. So there is one miss per
 * queue and update, whatever the guest does.
 */
void vhost_blk_queue_resume(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	if (queue->ring_missing || queue->chain_missing || queue->run_after_pause)
		vhost_vq_work_queue(&queue->vq, &queue->work);
	queue->paused = false;
	queue->run_after_pause = false;
	queue->ring_missing = false;
	queue->chain_missing = false;
	mutex_unlock(&queue->vq.mutex);
}

/**
 * vhost_blk_queue_can_write_used - whether a drain could write all used elements
 * @queue: the queue
 *
 * Called with the device's mutex held, without which the IOTLB does not change. Takes
 * @vq.mutex. May sleep.
 *
 * Return: false if requests are in flight and the IOTLB lacks the ring. A miss was sent
 * to the VMM then.
 */
bool vhost_blk_queue_can_write_used(struct vhost_blk_queue *queue)
{
	bool can;

	mutex_lock(&queue->vq.mutex);
	can = !vhost_blk_queue_in_flight(queue) || vhost_blk_queue_is_mapped(queue);
	mutex_unlock(&queue->vq.mutex);
	return can;
}

/**
 * vhost_blk_queue_stop_fetching - begin to stop a queue
 * @queue: the queue, running or not
 *
 * Takes @vq.mutex. May sleep. From the call on nothing is fetched, and only
 * vhost_blk_queue_stop() answers the requests in flight.
 */
void vhost_blk_queue_stop_fetching(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	vhost_blk_queue_revoke(queue);
	vhost_vq_set_backend(&queue->vq, NULL);
	mutex_unlock(&queue->vq.mutex);
}

/**
 * vhost_blk_queue_set_memory - set the pinned memory for requests
 * @queue: the queue, running or not
 * @memory: the memory, or NULL. The caller's reference must last until the next call.
 *
 * Takes @vq.mutex. Requests in flight go on with the old memory, and take a reference to
 * it. The caller may then drop its own.
 */
void vhost_blk_queue_set_memory(struct vhost_blk_queue *queue,
				struct vhost_blk_memory *memory)
{
	unsigned int i;

	mutex_lock(&queue->vq.mutex);
	for (i = 0; i < queue->num_requests; i++)
		vhost_blk_io_keep_memory(&queue->requests[i].io);
	queue->channel.memory = memory;
	mutex_unlock(&queue->vq.mutex);
}

/**
 * vhost_blk_queue_stop - stop serving the ring
 * @queue: the queue, running or not
 * @write_used: as for vhost_blk_queue_drain()
 * @timeout: as for vhost_blk_queue_drain()
 *
 * Takes @vq.mutex. May sleep. From the call on nothing is fetched.
 *
 * Return: 0 if nothing is in flight and nothing touches guest memory any more. Otherwise
 * an error of vhost_blk_queue_drain(), and the call has to be repeated.
 */
int vhost_blk_queue_stop(struct vhost_blk_queue *queue, bool write_used,
			 long *timeout)
{
	int ret;

	mutex_lock(&queue->vq.mutex);
	vhost_vq_set_backend(&queue->vq, NULL);
	ret = vhost_blk_queue_drain(queue, write_used, timeout);
	if (!ret && queue->started) {
		timer_delete_sync(&queue->timer);
		vhost_blk_channel_close(&queue->channel);
		vhost_blk_record_close(queue);
		vhost_blk_direct_forget(queue);
		queue->started = false;
	}
	mutex_unlock(&queue->vq.mutex);
	return ret;
}

/**
 * vhost_blk_queue_forget_mappings - forget where guest memory is mapped
 * @queue: the queue, running or not
 *
 * Takes @vq.mutex. May sleep. To be called when the memory table, the ring's addresses, the
 * memory there, or whether it is logged may have changed.
 */
void vhost_blk_queue_forget_mappings(struct vhost_blk_queue *queue)
{
	mutex_lock(&queue->vq.mutex);
	vhost_blk_queue_revoke(queue);
	vhost_blk_direct_forget(queue);
	vhost_blk_fetch_drop_region(queue);
	mutex_unlock(&queue->vq.mutex);
}

/**
 * vhost_blk_queue_free - free a queue
 * @queue: a stopped queue; a grace period has passed since vhost_blk_queue_stop()
 */
void vhost_blk_queue_free(struct vhost_blk_queue *queue)
{
	vhost_blk_queue_free_requests(queue);
	kvfree(queue);
}

static const char * const vhost_blk_kind_names[VHOST_BLK_NUM_KINDS] = {
	[VHOST_BLK_READ]		= "read",
	[VHOST_BLK_WRITE]		= "write",
	[VHOST_BLK_FLUSH]		= "flush",
	[VHOST_BLK_DISCARD]		= "discard",
	[VHOST_BLK_WRITE_ZEROES]	= "write_zeroes",
	[VHOST_BLK_SECURE_ERASE]	= "secure_erase",
	[VHOST_BLK_OTHER]		= "other",
};

/*
 * The requests in flight for the guest. Takes no lock. The numbers can be of different
 * moments, but a sum of them must not look negative.
 */
static unsigned int vhost_blk_queue_unanswered(const struct vhost_blk_queue *queue)
{
	unsigned int busy = READ_ONCE(queue->num_requests) - READ_ONCE(queue->num_free);
	unsigned int answered = READ_ONCE(queue->direct.num_answered) -
				READ_ONCE(queue->direct.num_released);

	return busy - min(busy, answered);
}

/**
 * vhost_blk_queue_show - print the counters of a queue in one line
 * @queue: the queue
 * @seq: output file
 *
 * Takes no lock. The counters may be of slightly different moments.
 */
void vhost_blk_queue_show(const struct vhost_blk_queue *queue,
			  struct seq_file *seq)
{
	const struct vhost_blk_counters *counters = &queue->counters;
	unsigned int kind;
	u64 errors = 0;

	seq_printf(seq, "queue%u:\t", queue->index);
	for (kind = 0; kind < VHOST_BLK_NUM_KINDS; kind++) {
		const char *name = vhost_blk_kind_names[kind];
		u64 failed = READ_ONCE(counters->errors[kind]);

		seq_printf(seq, "%s %llu %s_bytes %llu %s_errors %llu ",
			   name, READ_ONCE(counters->requests[kind]),
			   name, READ_ONCE(counters->bytes[kind]),
			   name, failed);
		errors += failed;
	}
	seq_printf(seq, "errors %llu bounced %llu polled %llu ", errors,
		   READ_ONCE(counters->bounced), READ_ONCE(counters->polled));
	seq_printf(seq, "kicks %llu signals %llu ", READ_ONCE(counters->kicks),
		   READ_ONCE(counters->signals));
	seq_printf(seq, "batches %llu direct %llu polls %llu poll_hits %llu in_flight %u\n",
		   READ_ONCE(counters->batches), READ_ONCE(counters->direct),
		   READ_ONCE(counters->polls), READ_ONCE(counters->poll_hits),
		   vhost_blk_queue_unanswered(queue));
}
