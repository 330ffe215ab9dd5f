// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: answers in the context in which the disk ends a request.
 *
 * A disk that ends a request after its submission wakes the worker a second time: first
 * the kick, then the completion. Direct answers save that wake-up. The completion itself
 * writes the status byte and the used element, and signals the guest.
 *
 * The used ring has one owner at any time. This is the worker, or any other holder of
 * vq.mutex, while direct.granted is false. While it is true, the owner is the completion
 * that holds direct.lock. The owner may access
 *
 * - the used ring, and vq.last_used_idx, vq.signalled_used, vq.signalled_used_valid,
 * - the record of chains in flight, apart from marking a chain as fetched,
 * - the counters.
 *
 * The worker grants the right before it sleeps, if the ring is empty, kicks are enabled, and
 * few requests are in flight: fewer than VHOST_BLK_GATHER_MIN, now and usually. With more of
 * them, the worker may gather completions for one signal, and one wake-up for all of them
 * costs less than as many pins. It revokes the right when it runs. All others that hold
 * vq.mutex and change what a direct answer depends on revoke it as well. The changes of
 * direct.granted under direct.lock order the accesses of one owner after those of the last.
 *
 * A completion can't access guest memory by user address. So the ring is pinned and mapped
 * when the first right is granted, until the ring stops. The page of the status byte is
 * found in memory that stays pinned, or is pinned with the request, if that will probably
 * pay: few requests are in flight, and when the worker last slept after it had fetched
 * requests, there were some, but few. Without one of the two, and in all unusual cases, the
 * worker answers.
 *
 * A request that was answered directly still has its pins. The next revocation returns it,
 * and the worker releases it. If the worker sleeps on, a timer wakes it after
 * VHOST_BLK_DIRECT_HOLD.
 */
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "blk.h"

/* How long an idle worker leaves the pages of requests pinned that were answered. */
#define VHOST_BLK_DIRECT_HOLD	(HZ / 10)

/* Only plain memory can be written: no IOTLB, and no part of the ring in a dirty log. */
static bool vhost_blk_direct_is_possible(const struct vhost_blk_queue *queue)
{
	const struct vhost_virtqueue *vq = &queue->vq;

	return !vq->iotlb && !vq->log_used && !queue->direct.pin_failed &&
	       !(vq->acked_features & BIT_ULL(VHOST_F_LOG_ALL));
}

/**
 * vhost_blk_direct_is_wanted - whether a request may later be answered directly
 * @queue: a running queue with its @vq.mutex held; direct.num_late is not 0
 * @in_flight: its requests in flight
 *
 * A worker that polls before it sleeps finds the requests that end meanwhile.
 *
 * Return: false if the pin of the status byte would probably be useless.
 */
bool vhost_blk_direct_is_wanted(const struct vhost_blk_queue *queue,
				unsigned int in_flight)
{
	return queue->direct.num_late < VHOST_BLK_GATHER_MIN &&
	       in_flight < VHOST_BLK_GATHER_MIN &&
	       queue->wait.depth < VHOST_BLK_GATHER_MIN && !queue->channel.poll &&
	       vhost_blk_direct_is_possible(queue);
}

static void vhost_blk_direct_unmap(struct vhost_blk_queue *queue)
{
	struct mm_struct *mm = queue->vq.dev->mm;

	vhost_blk_area_close(&queue->direct.used, mm);
	vhost_blk_area_close(&queue->direct.avail, mm);
	queue->direct.pin_failed = false;
}

/* Returns whether the ring is mapped. After a failure it is not tried again. */
static bool vhost_blk_direct_map(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct mm_struct *mm = vq->dev->mm;
	size_t event = sizeof(__virtio16);

	if (likely(queue->direct.used.map))
		return true;
	if (!vhost_blk_area_open(&queue->direct.avail, mm, (uintptr_t)vq->avail,
				 struct_size(vq->avail, ring, vq->num) + event) &&
	    !vhost_blk_area_open(&queue->direct.used, mm, (uintptr_t)vq->used,
				 struct_size(vq->used, ring, vq->num)))
		return true;
	vhost_blk_direct_unmap(queue);
	queue->direct.pin_failed = true;
	return false;
}

/* The worker is a thread of the owner's process, and shows whether that is exiting. */
static void vhost_blk_direct_set_worker(struct vhost_blk_queue *queue,
					struct task_struct *worker)
{
	if (likely(queue->direct.worker == worker))
		return;
	if (queue->direct.worker)
		put_task_struct(queue->direct.worker);
	queue->direct.worker = worker ? get_task_struct(worker) : NULL;
}

/**
 * vhost_blk_direct_grant - let completions answer requests
 * @queue: a running queue with its @vq.mutex held; nothing is left to do but to wait for
 *	a kick and for the completions of few requests
 *
 * Called by the worker before it sleeps. May sleep.
 */
void vhost_blk_direct_grant(struct vhost_blk_queue *queue)
{
	struct vhost_blk_direct *direct = &queue->direct;

	if (!vhost_blk_direct_is_possible(queue) || !vhost_blk_direct_map(queue))
		return;
	vhost_blk_direct_set_worker(queue, current);
	spin_lock_irq(&direct->lock);
	direct->granted = true;
	spin_unlock_irq(&direct->lock);
}

/**
 * vhost_blk_direct_revoke - take the used ring back from completions
 * @queue: a queue with its @vq.mutex held, with the right granted
 *
 * Return: the requests that were answered and are to be released.
 */
struct llist_node *vhost_blk_direct_revoke(struct vhost_blk_queue *queue)
{
	struct vhost_blk_direct *direct = &queue->direct;

	spin_lock_irq(&direct->lock);
	direct->granted = false;
	spin_unlock_irq(&direct->lock);
	return llist_del_all(&direct->answered);
}

/* As vhost core's vhost_signal(), which reads guest memory by user address. */
static bool vhost_blk_direct_needs_signal(struct vhost_blk_queue *queue)
{
	const struct vring_avail *avail = queue->direct.avail.map;
	struct vhost_virtqueue *vq = &queue->vq;
	u16 old = vq->signalled_used;
	bool valid = vq->signalled_used_valid;

	/* Pairs with the driver's barrier between its event index and the used index. */
	smp_mb();
	if (vhost_has_feature(vq, VIRTIO_F_NOTIFY_ON_EMPTY) &&
	    vq->avail_idx == vq->last_avail_idx)
		return true;
	if (!vhost_has_feature(vq, VIRTIO_RING_F_EVENT_IDX))
		return !(READ_ONCE(avail->flags) &
			 cpu_to_vhost16(vq, VRING_AVAIL_F_NO_INTERRUPT));
	vq->signalled_used = vq->last_used_idx;
	vq->signalled_used_valid = true;
	return !valid || vring_need_event(vhost16_to_cpu(vq, READ_ONCE(avail->ring[vq->num])),
					  vq->last_used_idx, old);
}

static void vhost_blk_direct_signal(struct vhost_blk_queue *queue)
{
	struct eventfd_ctx *call = queue->vq.call_ctx.ctx;

	if (!call || !vhost_blk_direct_needs_signal(queue))
		return;
	queue->counters.signals++;
	eventfd_signal(call);
}

static void vhost_blk_direct_add_used(struct vhost_blk_queue *queue,
				      const struct vring_used_elem *elem)
{
	struct vring_used *used = queue->direct.used.map;
	struct vhost_virtqueue *vq = &queue->vq;

	if (queue->record.map)
		vhost_blk_record_link_batch(queue, elem, 1);
	used->ring[vq->last_used_idx & (vq->num - 1)] = *elem;
	vq->last_used_idx++;
	/* The index has wrapped around to the last one signalled: that says nothing now. */
	if (unlikely(vq->last_used_idx == vq->signalled_used))
		vq->signalled_used_valid = false;
	/* The driver reads status and element after the index. */
	smp_store_release(&used->idx, cpu_to_vhost16(vq, vq->last_used_idx));
	if (queue->record.map)
		vhost_blk_record_clear_batch(queue, elem, 1);
}

/* With direct.lock held and the right granted. */
static void vhost_blk_direct_answer_locked(struct vhost_blk_request *req)
{
	struct vhost_blk_queue *queue = req->queue;
	struct vring_used_elem elem;

	elem.id = cpu_to_vhost32(&queue->vq, req->head);
	elem.len = cpu_to_vhost32(&queue->vq, vhost_blk_request_write_ok(req));
	queue->counters.direct++;
	queue->counters.batches++;
	queue->direct.num_answered++;
	llist_add(&req->node, &queue->direct.answered);
	vhost_blk_direct_add_used(queue, &elem);
	vhost_blk_direct_signal(queue);
	if (!timer_pending(&queue->timer))
		mod_timer(&queue->timer, jiffies + VHOST_BLK_DIRECT_HOLD);
}

/*
 * Whether the owner's process is exiting, for whatever reason. Unlike a pending SIGKILL, the
 * flag stays. A worker that is a kernel thread outlives the owner.
 */
static bool vhost_blk_direct_owner_exits(const struct vhost_blk_direct *direct)
{
	return READ_ONCE(direct->worker->signal->flags) & SIGNAL_GROUP_EXIT;
}

/**
 * vhost_blk_direct_answer - answer a request where its last bio ended
 * @req: a request whose I/O has ended
 *
 * Any context. When the owner exits, nothing more is written: the next owner of the same
 * memory may already use the ring.
 *
 * Return: true if the request was answered. False if the worker has to do it.
 */
bool vhost_blk_direct_answer(struct vhost_blk_request *req)
{
	struct vhost_blk_direct *direct = &req->queue->direct;
	unsigned long flags;
	bool granted;

	spin_lock_irqsave(&direct->lock, flags);
	granted = direct->granted && !vhost_blk_direct_owner_exits(direct);
	if (granted)
		vhost_blk_direct_answer_locked(req);
	spin_unlock_irqrestore(&direct->lock, flags);
	return granted;
}

/**
 * vhost_blk_direct_set_call - replace the eventfd that signals the guest
 * @queue: the queue
 * @call: the new eventfd, or NULL
 *
 * Takes @vq.mutex. May sleep. For completions, vhost core's VHOST_SET_VRING_CALL takes the
 * mutex in vain.
 *
 * Return: the old eventfd, or NULL.
 */
struct eventfd_ctx *vhost_blk_direct_set_call(struct vhost_blk_queue *queue,
					      struct eventfd_ctx *call)
{
	mutex_lock(&queue->vq.mutex);
	spin_lock_irq(&queue->direct.lock);
	swap(call, queue->vq.call_ctx.ctx);
	spin_unlock_irq(&queue->direct.lock);
	mutex_unlock(&queue->vq.mutex);
	return call;
}

/**
 * vhost_blk_direct_init - initialize, once
 * @queue: zeroed memory
 */
void vhost_blk_direct_init(struct vhost_blk_queue *queue)
{
	spin_lock_init(&queue->direct.lock);
	init_llist_head(&queue->direct.answered);
}

/**
 * vhost_blk_direct_forget - unmap the ring, and forget what was learned
 * @queue: a queue after vhost_blk_direct_revoke() with its @vq.mutex held all the time
 *
 * Any process. May sleep.
 */
void vhost_blk_direct_forget(struct vhost_blk_queue *queue)
{
	vhost_blk_direct_unmap(queue);
	vhost_blk_direct_set_worker(queue, NULL);
	queue->direct.num_late = 0;
}
