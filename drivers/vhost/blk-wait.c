// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: how long the worker waits for more work before it signals or sleeps.
 *
 * Gathering, before a signal: an interrupt takes the guest's CPU from the code that makes
 * requests. If each request is completed and signalled before the guest makes the next
 * one, the guest slows down. So if several requests are in flight, completions are
 * gathered first: most of those that the guest waits for, at most VHOST_BLK_GATHER_MAX.
 *
 * Refilling, before sleep, on a disk that ends requests after their submission: a guest
 * replaces the requests that have ended. If the worker slept meanwhile, new requests would
 * cost kicks and wake-ups. So while the guest has fewer requests in flight than usual, the
 * worker waits for the next one. If the guest has as many as usual, it waits for the disk,
 * and the worker sleeps. If the disk ends requests while they are submitted, the worker does
 * not wait: while it wakes up, the guest makes more requests, which then share a signal.
 *
 * Both go on as long as there is more work. The wait for the next completion or request
 * is no longer than the guest takes to react to a signal. This time is what a signal
 * costs, and about what a kick costs. A wait that is bounded by the cost of its
 * alternative costs at most twice the optimum. After a wait in vain, some waits are left
 * out.
 *
 * The number of requests and the reaction time are estimated from the event index of the
 * used ring (virtio 1.4, section 2.7.7), which says how far the driver has read the used
 * ring. The worker neither gathers nor waits for a refill
 *
 * - without the event index, or on a ring that needs the slow path of fetching,
 * - if the guest keeps fewer than VHOST_BLK_GATHER_MIN requests in flight,
 * - while another task wants the CPU.
 *
 * Busy polling, before sleep (VHOST_SET_VRING_BUSYLOOP_TIMEOUT, in microseconds): the
 * worker polls for work for a while before it enables kicks and sleeps. This time grows
 * up to the limit while polling finds work, and shrinks to 0 while it does not. The
 * worker polls in short slices, and queues itself behind its other work in between. So
 * neither another queue nor an ioctl waits for long.
 */
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/uaccess.h>

#include "blk.h"

/* The most completions that are gathered. */
#define VHOST_BLK_GATHER_MAX	16u

/* The most waits that are left out, after repeated failures. */
#define VHOST_BLK_BACKOFF_MAX	63u

/*
 * Successes after which the estimate of requests in flight grows by one: the initial
 * number, and the limit to which failures raise it.
 */
#define VHOST_BLK_GATHER_GROW_MIN	16
#define VHOST_BLK_GATHER_GROW_MAX	1024u

/* Bounds of the estimated reaction time, in nanoseconds. */
#define VHOST_BLK_REACTION_MIN	(2 * (u64)NSEC_PER_USEC)
#define VHOST_BLK_REACTION_MAX	(100 * (u64)NSEC_PER_USEC)

/* Limit of one wait, in nanoseconds. The guest can't extend it. */
#define VHOST_BLK_WAIT_MAX	(3 * VHOST_BLK_REACTION_MAX)

/* Length of a slice of busy polling, in nanoseconds. */
#define VHOST_BLK_POLL_SLICE	(50 * NSEC_PER_USEC)

/* The window from which polling starts to grow, in nanoseconds. Half of it becomes 0. */
#define VHOST_BLK_POLL_MIN	(5 * NSEC_PER_USEC)

static u64 vhost_blk_poll_limit(const struct vhost_blk_queue *queue)
{
	return (u64)queue->vq.busyloop_timeout * NSEC_PER_USEC;
}

/**
 * vhost_blk_wait_start - reset all estimates
 * @queue: a queue that is being started
 */
void vhost_blk_wait_start(struct vhost_blk_queue *queue)
{
	queue->wait.poll_end = 0;
	queue->wait.poll_ns = vhost_blk_poll_limit(queue);
	queue->wait.depth = 1;
	queue->wait.gather = (struct vhost_blk_backoff){};
	queue->wait.refill = (struct vhost_blk_backoff){};
	queue->wait.gather_successes = 0;
	queue->wait.gather_grow = VHOST_BLK_GATHER_GROW_MIN;
	queue->wait.reaction_ns = VHOST_BLK_REACTION_MAX;
}

/**
 * vhost_blk_wait_should_resched - whether another task wants this CPU
 *
 * With lazy preemption need_resched() stays false until the next tick, and
 * cond_resched() does nothing.
 *
 * Return: true if so.
 */
bool vhost_blk_wait_should_resched(void)
{
	return need_resched() || test_thread_flag(TIF_NEED_RESCHED_LAZY);
}

/* Whether another task wants the CPU, or the worker has other work. */
static bool vhost_blk_wait_should_stop(struct vhost_blk_queue *queue)
{
	return vhost_blk_wait_should_resched() || signal_pending(current) ||
	       vhost_vq_has_work(&queue->vq);
}

static bool vhost_blk_has_work(struct vhost_blk_queue *queue)
{
	if (vhost_blk_channel_has_polled(&queue->channel))
		vhost_blk_channel_poll(&queue->channel);
	return !llist_empty(&queue->completed) ||
	       !vhost_vq_avail_empty(queue->vq.dev, &queue->vq);
}

/* The guest, as the event index shows it */

/*
 * struct vhost_blk_progress - how far the guest is
 * @seen: how far it has read the used ring
 * @has_reacted: whether it has reacted to the last signal
 * @in_flight: requests that it has made and waits for
 */
struct vhost_blk_progress {
	u16 seen;
	bool has_reacted;
	u16 in_flight;
};

/*
 * Read the event index, and let the estimate of requests in flight follow. Returns false
 * if it is not available or not valid.
 */
static bool vhost_blk_progress_read(struct vhost_blk_queue *queue,
				    struct vhost_blk_progress *progress)
{
	struct vhost_virtqueue *vq = &queue->vq;
	__virtio16 event;

	if (!queue->fetch.has_fast_path ||
	    !vhost_has_feature(vq, VIRTIO_RING_F_EVENT_IDX) ||
	    get_user(event, &vq->avail->ring[vq->num]))
		return false;
	progress->seen = vhost16_to_cpu(vq, event);
	if ((u16)(vq->avail_idx - progress->seen) > vq->num)
		return false;
	progress->has_reacted = (s16)(progress->seen - vq->signalled_used) >= 0;
	/*
	 * The guest may make new requests before it moves the event index. Those that an
	 * unseen signal reports are not in flight any more.
	 */
	progress->in_flight = vq->avail_idx - (progress->has_reacted ? progress->seen :
								       vq->signalled_used);
	if (progress->in_flight > queue->wait.depth) {
		queue->wait.depth = progress->in_flight;
		queue->wait.gather_grow = VHOST_BLK_GATHER_GROW_MIN;
	}
	return true;
}

/* Update the estimate of the reaction time with one measurement, in nanoseconds. */
static void vhost_blk_reaction_learn(struct vhost_blk_queue *queue, u64 reaction)
{
	reaction = clamp(reaction, VHOST_BLK_REACTION_MIN,
			 VHOST_BLK_REACTION_MAX);
	queue->wait.reaction_ns = (7 * queue->wait.reaction_ns + reaction) / 8;
}

static void vhost_blk_backoff_fail(struct vhost_blk_backoff *backoff)
{
	backoff->length = min(2 * backoff->length + 1, VHOST_BLK_BACKOFF_MAX);
	backoff->left_out = backoff->length;
}

/*
 * Wait for work. Returns false if there is none: @is_over says that none is worth a wait,
 * the guest takes longer than usual, or another task wants this CPU, because that may be
 * the guest. If the guest takes longer, @fail is called.
 *
 * The time starts again when the guest reacts to the last signal.
 */
static __always_inline bool
vhost_blk_wait_for_work(struct vhost_blk_queue *queue,
			bool (*is_over)(struct vhost_blk_queue *queue,
					const struct vhost_blk_progress *progress),
			void (*fail)(struct vhost_blk_queue *queue,
				     const struct vhost_blk_progress *progress))
{
	u64 begin = local_clock(), since = begin, now, limit;
	struct vhost_blk_progress progress;
	bool has_reacted = true;

	while (!vhost_blk_has_work(queue)) {
		if (!single_task_running() || vhost_blk_wait_should_stop(queue) ||
		    !vhost_blk_progress_read(queue, &progress) || is_over(queue, &progress))
			return false;
		now = local_clock();
		if (progress.has_reacted && !has_reacted) {
			vhost_blk_reaction_learn(queue, now - queue->wait.signalled_at);
			since = now;
		}
		has_reacted = progress.has_reacted;
		limit = queue->wait.reaction_ns * (has_reacted ? 1 : 2);
		if (now - since >= limit || now - begin >= VHOST_BLK_WAIT_MAX) {
			if (!has_reacted)
				queue->wait.reaction_ns = min(2 * queue->wait.reaction_ns,
							      VHOST_BLK_REACTION_MAX);
			fail(queue, &progress);
			return false;
		}
		cpu_relax();
	}
	return true;
}

/* Gathering */

/* A few less than in flight, so that the guest can make requests until the interrupt. */
static unsigned int vhost_blk_gather_target(const struct vhost_blk_queue *queue)
{
	if (queue->wait.depth < VHOST_BLK_GATHER_MIN)
		return 1;
	return min(queue->wait.depth - max(queue->wait.depth / 8, 2u),
		   VHOST_BLK_GATHER_MAX);
}

/* A wait succeeded. Now and then, let the estimate of requests in flight grow. */
static void vhost_blk_gather_succeed(struct vhost_blk_queue *queue)
{
	queue->wait.gather.length = 0;
	if (++queue->wait.gather_successes < queue->wait.gather_grow)
		return;
	queue->wait.gather_successes = 0;
	if (queue->wait.depth < 2 * VHOST_BLK_GATHER_MAX)
		queue->wait.depth++;
}

/* Whether to signal the guest, after what it has done so far. */
static bool vhost_blk_gather_is_over(struct vhost_blk_queue *queue,
				     const struct vhost_blk_progress *progress)
{
	unsigned int target = vhost_blk_gather_target(queue);

	/* While a signal is unseen, another one would change nothing. */
	if (!progress->has_reacted ||
	    (u16)(queue->vq.last_used_idx - progress->seen) < target)
		return false;
	if (target > 1)
		vhost_blk_gather_succeed(queue);
	return true;
}

/* Without a new completion, there are fewer requests in flight than estimated. */
static void vhost_blk_gather_fail(struct vhost_blk_queue *queue,
				  const struct vhost_blk_progress *progress)
{
	vhost_blk_backoff_fail(&queue->wait.gather);
	queue->wait.depth = max((u16)(queue->vq.last_used_idx - progress->seen),
				max(queue->wait.depth / 2, 1));
	queue->wait.gather_successes = 0;
	queue->wait.gather_grow = min(4 * queue->wait.gather_grow,
				      VHOST_BLK_GATHER_GROW_MAX);
}

/**
 * vhost_blk_wait_should_signal - whether to signal the guest now
 * @queue: a running queue with its @vq.mutex held
 *
 * Return: false if more completions are to be gathered first.
 */
bool vhost_blk_wait_should_signal(struct vhost_blk_queue *queue)
{
	struct vhost_blk_progress progress;

	return queue->wait.gather.left_out ||
	       !vhost_blk_progress_read(queue, &progress) ||
	       vhost_blk_gather_is_over(queue, &progress);
}

/**
 * vhost_blk_wait_note_signal - note that the guest is about to be signalled
 * @queue: a running queue with its @vq.mutex held
 *
 * The reaction time counts from the first signal that the guest has not seen.
 */
void vhost_blk_wait_note_signal(struct vhost_blk_queue *queue)
{
	struct vhost_blk_progress progress;

	if (queue->wait.gather.left_out)
		queue->wait.gather.left_out--;
	if (queue->wait.depth < VHOST_BLK_GATHER_MIN ||
	    !vhost_blk_progress_read(queue, &progress) || progress.has_reacted)
		queue->wait.signalled_at = local_clock();
}

/**
 * vhost_blk_wait_gather - wait for work before the guest is signalled
 * @queue: a running queue with its @vq.mutex held, after
 *	vhost_blk_wait_should_signal() returned false
 *
 * Return: true if there is work; false if the guest is to be signalled now.
 */
bool vhost_blk_wait_gather(struct vhost_blk_queue *queue)
{
	return vhost_blk_wait_for_work(queue, vhost_blk_gather_is_over,
				       vhost_blk_gather_fail);
}

/* Refilling */

/* Whether the guest has about as many requests in flight as usual. */
static bool vhost_blk_refill_is_over(struct vhost_blk_queue *queue,
				     const struct vhost_blk_progress *progress)
{
	return progress->has_reacted &&
	       progress->in_flight >= queue->wait.depth - queue->wait.depth / 8;
}

static void vhost_blk_refill_fail(struct vhost_blk_queue *queue,
				  const struct vhost_blk_progress *progress)
{
	vhost_blk_backoff_fail(&queue->wait.refill);
}

/**
 * vhost_blk_wait_refill - wait for work before kicks are enabled
 * @queue: a running queue with its @vq.mutex held, with no signal pending
 *
 * Return: true if there is work.
 */
bool vhost_blk_wait_refill(struct vhost_blk_queue *queue)
{
	if (!queue->direct.num_late || queue->wait.depth < VHOST_BLK_GATHER_MIN)
		return false;
	/* A window of busy polling goes on. */
	if (queue->wait.poll_end)
		return false;
	if (queue->wait.refill.left_out) {
		queue->wait.refill.left_out--;
		return false;
	}
	if (!vhost_blk_wait_for_work(queue, vhost_blk_refill_is_over, vhost_blk_refill_fail))
		return false;
	queue->wait.refill.length = 0;
	return true;
}

/**
 * vhost_blk_wait_expects_more - whether the guest usually keeps more requests in flight
 * @queue: a running queue with its @vq.mutex held, whose worker is about to sleep with
 *	fewer than VHOST_BLK_GATHER_MIN in flight
 *
 * Each call lets the estimate shrink by one, so that it follows a guest that goes on with
 * fewer requests, even if another task always wants this CPU. A guest that has more makes
 * it grow at once.
 *
 * Return: true if signals to this guest are worth gathering.
 */
bool vhost_blk_wait_expects_more(struct vhost_blk_queue *queue)
{
	if (queue->wait.depth < VHOST_BLK_GATHER_MIN)
		return false;
	queue->wait.depth--;
	return true;
}

/* Busy polling */

/**
 * vhost_blk_wait_adapt - adapt the polling time to the length of the last sleep
 * @queue: a running queue with its @vq.mutex held
 *
 * If the sleep was shorter than the limit, polling for longer would have avoided it.
 * Otherwise polling was useless.
 */
void vhost_blk_wait_adapt(struct vhost_blk_queue *queue)
{
	u64 limit = vhost_blk_poll_limit(queue);

	if (!queue->wait.idle_since || queue->wait.poll_end)
		return;
	if (local_clock() - queue->wait.idle_since <= limit)
		queue->wait.poll_ns = max(2 * queue->wait.poll_ns,
					  (u64)VHOST_BLK_POLL_MIN);
	else if (queue->wait.poll_ns > VHOST_BLK_POLL_MIN)
		queue->wait.poll_ns /= 2;
	else
		queue->wait.poll_ns = 0;
	queue->wait.poll_ns = min(queue->wait.poll_ns, limit);
	queue->wait.idle_since = 0;
}

/**
 * vhost_blk_wait_poll - poll for work for one slice, before sleep
 * @queue: a running queue with its @vq.mutex held
 *
 * Return: true if there is work. If false and @queue->wait.poll_end is set, the window is
 * not over, and the worker is to run the queue again.
 */
bool vhost_blk_wait_poll(struct vhost_blk_queue *queue)
{
	u64 now, slice_end;

	if (!queue->vq.busyloop_timeout) {
		queue->wait.poll_end = 0;
		return false;
	}
	now = local_clock();
	slice_end = now + VHOST_BLK_POLL_SLICE;
	if (!queue->wait.poll_end) {
		queue->wait.idle_since = now;
		if (!queue->wait.poll_ns)
			return false;
		queue->wait.poll_end = now + queue->wait.poll_ns;
		queue->counters.polls++;
	}
	do {
		if (vhost_blk_has_work(queue)) {
			queue->counters.poll_hits++;
			queue->wait.poll_end = 0;
			queue->wait.idle_since = 0;
			return true;
		}
		cpu_relax();
		now = local_clock();
	} while (now < min(slice_end, queue->wait.poll_end) &&
		 !vhost_blk_wait_should_stop(queue));
	if (now >= queue->wait.poll_end)
		queue->wait.poll_end = 0;
	return false;
}
