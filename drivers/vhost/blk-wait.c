// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: how long the worker looks for more before it signals or sleeps.
 *
 * Gathering, before a signal. A signal takes the guest's processor from whoever
 * makes requests there. A worker that is done with each of them before the next
 * one is made, and says so, slows down whom it serves. So where several requests
 * are under way answers are gathered first: most of those that the guest waits
 * for, at most VHOST_BLK_GATHER_MAX, as long as more keep coming. The next one is
 * waited for no longer than the guest takes to react to a signal: that is what the
 * signal costs, and whoever waits for as long as the alternative costs never pays
 * more than twice the least. Waiting in vain is followed by signals without any.
 *
 * Both the number of requests and that time are learned from the event index of
 * the used ring (virtio 1.4, section 2.7.7), by which the driver says how far it
 * has seen it. Without that, with fewer than VHOST_BLK_GATHER_MIN requests, or if
 * somebody else wants the CPU, nothing is gathered.
 *
 * Busy polling, before sleep (VHOST_SET_VRING_BUSYLOOP_TIMEOUT, microseconds):
 * before it turns the kicks on and sleeps, the worker goes on looking for a while.
 * It grows that time up to the limit while looking pays, and shrinks it to nothing
 * while it doesn't. It looks in short slices and queues itself behind whatever
 * else its worker has to do, so that neither other queues nor an ioctl wait for
 * long.
 */
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/uaccess.h>

#include "blk.h"

/* Requests that the guest waits for, with which gathering begins. */
#define VHOST_BLK_GATHER_MIN	4

/* Answers that are gathered at most. */
#define VHOST_BLK_GATHER_MAX	16u

/* Signals that are let go at most, after gathering was in vain. */
#define VHOST_BLK_GATHER_PAUSE	63u

/*
 * Signals after gathering as much as was meant to be, until that is more: first, and
 * at most, after trying for more was in vain.
 */
#define VHOST_BLK_GATHER_GROW_MIN	16
#define VHOST_BLK_GATHER_GROW_MAX	1024u

/* What the guest's time to react can be, in nanoseconds, whatever is measured. */
#define VHOST_BLK_REACTION_MIN	(2 * (u64)NSEC_PER_USEC)
#define VHOST_BLK_REACTION_MAX	(100 * (u64)NSEC_PER_USEC)

/* When gathering ends, in nanoseconds, whatever the guest says meanwhile. */
#define VHOST_BLK_GATHER_TIME	(3 * VHOST_BLK_REACTION_MAX)

/* How long one run of a worker looks for work, in nanoseconds. */
#define VHOST_BLK_POLL_SLICE	(50 * NSEC_PER_USEC)

/* Where a window of polling starts to grow, and below which it is not worth it. */
#define VHOST_BLK_POLL_MIN	(5 * NSEC_PER_USEC)

static u64 vhost_blk_poll_limit(const struct vhost_blk_queue *queue)
{
	return (u64)queue->vq.busyloop_timeout * NSEC_PER_USEC;
}

/**
 * vhost_blk_wait_start - forget what was learned of the guest
 * @queue: a queue that is about to run
 */
void vhost_blk_wait_start(struct vhost_blk_queue *queue)
{
	queue->wait.poll_end = 0;
	queue->wait.poll_ns = vhost_blk_poll_limit(queue);
	queue->wait.depth = 1;
	queue->wait.gather_pause = 0;
	queue->wait.gather_backoff = 0;
	queue->wait.gather_successes = 0;
	queue->wait.gather_grow = VHOST_BLK_GATHER_GROW_MIN;
	queue->wait.reaction_ns = VHOST_BLK_REACTION_MAX;
}

/**
 * vhost_blk_wait_should_resched - whether somebody else could use the CPU
 *
 * With lazy preemption the kernel would leave it to whoever runs until the next
 * tick, and cond_resched() does nothing.
 *
 * Return: true if so.
 */
bool vhost_blk_wait_should_resched(void)
{
	return need_resched() || test_thread_flag(TIF_NEED_RESCHED_LAZY);
}

/* Whether the CPU or the worker is wanted for something else. */
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

/* Gathering */

/*
 * Up to where the driver has seen the used ring, as an index of it. False if it
 * doesn't say so, or something that can't be.
 */
static bool vhost_blk_gather_seen(struct vhost_blk_queue *queue, u16 *seen)
{
	struct vhost_virtqueue *vq = &queue->vq;
	__virtio16 event;

	if (!queue->fetch.has_fast_path ||
	    !vhost_has_feature(vq, VIRTIO_RING_F_EVENT_IDX) ||
	    get_user(event, &vq->avail->ring[vq->num]))
		return false;
	*seen = vhost16_to_cpu(vq, event);
	return (u16)(vq->avail_idx - *seen) <= vq->num;
}

/* All but a few, so that the guest can go on while the signal is under way. */
static unsigned int vhost_blk_gather_target(const struct vhost_blk_queue *queue)
{
	if (queue->wait.depth < VHOST_BLK_GATHER_MIN)
		return 1;
	return min(queue->wait.depth - max(queue->wait.depth / 8, 2u),
		   VHOST_BLK_GATHER_MAX);
}

/* Learn from one time that the guest took to react, in nanoseconds. */
static void vhost_blk_gather_learn(struct vhost_blk_queue *queue, u64 reaction)
{
	reaction = clamp(reaction, VHOST_BLK_REACTION_MIN,
			 VHOST_BLK_REACTION_MAX);
	queue->wait.reaction_ns = (7 * queue->wait.reaction_ns + reaction) / 8;
}

/* Whether the guest hasn't reacted to the last signal yet. */
static bool vhost_blk_gather_signal_is_unseen(const struct vhost_blk_queue *queue,
					      u16 seen)
{
	return (s16)(seen - queue->vq.signalled_used) < 0;
}

/* Waiting was worth it. Try for more, now and then. */
static void vhost_blk_gather_succeed(struct vhost_blk_queue *queue)
{
	queue->wait.gather_backoff = 0;
	if (++queue->wait.gather_successes < queue->wait.gather_grow)
		return;
	queue->wait.gather_successes = 0;
	if (queue->wait.depth < 2 * VHOST_BLK_GATHER_MAX)
		queue->wait.depth++;
}

static bool vhost_blk_gather_should_signal(struct vhost_blk_queue *queue, u16 *seen)
{
	struct vhost_virtqueue *vq = &queue->vq;
	u16 in_flight;
	unsigned int target;

	if (queue->wait.gather_pause || !vhost_blk_gather_seen(queue, seen))
		return true;
	in_flight = vq->avail_idx - *seen;
	if (in_flight > queue->wait.depth) {
		queue->wait.depth = in_flight;
		queue->wait.gather_grow = VHOST_BLK_GATHER_GROW_MIN;
	}
	target = vhost_blk_gather_target(queue);
	/* Another signal would change nothing then. */
	if (vhost_blk_gather_signal_is_unseen(queue, *seen) ||
	    (u16)(vq->last_used_idx - *seen) < target)
		return false;
	if (target > 1)
		vhost_blk_gather_succeed(queue);
	return true;
}

/**
 * vhost_blk_wait_should_signal - whether the guest is to be told of its answers now
 * @queue: a running queue with its @vq.mutex held
 *
 * Return: false if more answers are to be gathered before.
 */
bool vhost_blk_wait_should_signal(struct vhost_blk_queue *queue)
{
	u16 seen;

	return vhost_blk_gather_should_signal(queue, &seen);
}

/* Waiting was in vain: let the next signals go, the more the oftener that happens. */
static void vhost_blk_gather_fail(struct vhost_blk_queue *queue, u16 seen)
{
	queue->wait.gather_backoff = min(2 * queue->wait.gather_backoff + 1,
					 VHOST_BLK_GATHER_PAUSE);
	queue->wait.gather_pause = queue->wait.gather_backoff;
	queue->wait.depth = max((u16)(queue->vq.last_used_idx - seen),
				max(queue->wait.depth / 2, 1));
	queue->wait.gather_successes = 0;
	queue->wait.gather_grow = min(4 * queue->wait.gather_grow,
				      VHOST_BLK_GATHER_GROW_MAX);
	if (vhost_blk_gather_signal_is_unseen(queue, seen))
		queue->wait.reaction_ns = min(2 * queue->wait.reaction_ns,
					      VHOST_BLK_REACTION_MAX);
}

/**
 * vhost_blk_wait_note_signal - the guest is about to be told of its answers
 * @queue: a running queue with its @vq.mutex held
 *
 * It reacts to the first of the signals that it hasn't seen.
 */
void vhost_blk_wait_note_signal(struct vhost_blk_queue *queue)
{
	u16 seen;

	if (queue->wait.gather_pause)
		queue->wait.gather_pause--;
	if (queue->wait.depth < VHOST_BLK_GATHER_MIN ||
	    !vhost_blk_gather_seen(queue, &seen) ||
	    !vhost_blk_gather_signal_is_unseen(queue, seen))
		queue->wait.signalled_at = local_clock();
}

/**
 * vhost_blk_wait_gather - look for work before the guest is told of its answers
 * @queue: a running queue with its @vq.mutex held, after
 *	vhost_blk_wait_should_signal() has denied
 *
 * The time begins anew when the guest is seen to react to the last signal. While
 * somebody else wants this CPU nothing is waited for: it may be the guest.
 *
 * Return: whether there is work; if not the guest is to be told now.
 */
bool vhost_blk_wait_gather(struct vhost_blk_queue *queue)
{
	u64 begin = local_clock(), since = begin, now, limit;
	bool unseen = false;

	while (!vhost_blk_has_work(queue)) {
		u16 seen;

		if (!single_task_running() || vhost_blk_wait_should_stop(queue) ||
		    vhost_blk_gather_should_signal(queue, &seen))
			return false;
		now = local_clock();
		if (vhost_blk_gather_signal_is_unseen(queue, seen)) {
			unseen = true;
		} else if (unseen) {
			unseen = false;
			vhost_blk_gather_learn(queue, now - queue->wait.signalled_at);
			since = now;
		}
		limit = queue->wait.reaction_ns * (unseen ? 2 : 1);
		if (now - since >= limit || now - begin >= VHOST_BLK_GATHER_TIME) {
			vhost_blk_gather_fail(queue, seen);
			return false;
		}
		cpu_relax();
	}
	return true;
}

/* Busy polling */

/**
 * vhost_blk_wait_adapt - learn from the end of the worker's sleep
 * @queue: a running queue with its @vq.mutex held
 *
 * Would looking for longer have spared it? If not, that is for nothing.
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
 * vhost_blk_wait_poll - look for work for a slice of time, before sleep
 * @queue: a running queue with its @vq.mutex held
 *
 * Return: whether there is any. If not, and @queue->wait.poll_end is still set, then
 * this is to go on in the next run.
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
