// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: the end of a device under its disk, its new start, and what is done
 * about requests that don't end.
 *
 * When a request's time is up (queue/io_timeout), the used ring is looked at
 * first: if the request is there, an interrupt was lost. Else it depends on the
 * administrator. By default the request is waited for, as long as the device
 * might end it. With recovery, the device is reset, and with it goes all that it
 * did to memory; the requests that it had are sent to it again, a bounded number
 * of times each, and then fail.
 *
 * A queue alone can be reset as well, where the device offers VIRTIO_F_RING_RESET
 * and the administrator trusts it: one that goes on with the requests of the
 * queue and answers them later, as QEMU's virtio-blk does, ends others by that.
 *
 * A reset device forgets its requests, its virtqueues and what it was told
 * through the configuration space. It gets the latter two back here.
 *
 * All this happens in the block layer's work for timeouts, one request at a
 * time, while the hardware queues are quiesced.
 */
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio_blk.h"

/* What reads as all ones is not there. */
#define VIRTIO_BLK_STATUS_GONE	0xff

static unsigned char recovery;
module_param(recovery, byte, 0644);
MODULE_PARM_DESC(recovery,
		 "How often a request that does not end is sent again, after a reset, before it fails; 0: wait for ever. For disks that are found from now on");

static bool recovery_queue_reset;
module_param(recovery_queue_reset, bool, 0644);
MODULE_PARM_DESC(recovery_queue_reset,
		 "Reset the queue alone if the device can; not for QEMU's virtio-blk, which goes on with its requests");

/**
 * virtio_blk_init_recovery - take over what the module's parameters say
 * @vblk: disk
 */
void virtio_blk_init_recovery(struct virtio_blk *vblk)
{
	mutex_init(&vblk->recovery.lock);
	vblk->recovery.attempts = recovery;
	vblk->recovery.queue_reset = recovery_queue_reset;
}

static unsigned long virtio_blk_count(struct virtio_blk *vblk,
				      enum virtio_blk_counter counter)
{
	return ++vblk->recovery.counters[counter];
}

static bool virtio_blk_is_gone(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;

	return vdev->config->get_status(vdev) == VIRTIO_BLK_STATUS_GONE;
}

/**
 * virtio_blk_reset_device - stop all that the device does to memory
 * @vblk: disk
 *
 * One that is not there does nothing, and the transport would wait for ever for
 * it to be reset.
 */
void virtio_blk_reset_device(struct virtio_blk *vblk)
{
	if (!virtio_blk_is_gone(vblk))
		virtio_reset_device(vblk->vdev);
}

/* Whether all queues are out of service, so that no request will end. */
static bool virtio_blk_is_broken(struct virtio_blk *vblk)
{
	unsigned int i;

	for (i = 0; i < vblk->num_queues; i++) {
		struct virtqueue *vq = vblk->queues[i].vq;

		if (!vq || !virtqueue_is_broken(vq))
			return false;
	}
	return true;
}

/*
 * Takes everything from the device: it is reset, its virtqueues are given back,
 * and of its requests those that it has not done are in the list.
 */
static void virtio_blk_stop_device(struct virtio_blk *vblk,
				   struct rq_list *outstanding)
{
	unsigned int i;

	virtio_blk_reset_device(vblk);
	for (i = 0; i < vblk->num_queues; i++) {
		virtio_blk_reap(&vblk->queues[i]);
		virtio_blk_take_outstanding(&vblk->queues[i], outstanding);
	}
	virtio_blk_stop_queues(vblk);
}

static void virtio_blk_resume(struct virtio_blk *vblk)
{
	struct request_queue *q = vblk->disk->queue;

	blk_mq_unquiesce_queue(q);
	blk_mq_start_stopped_hw_queues(q, true);
	blk_mq_kick_requeue_list(q);
}

static void virtio_blk_fail_all(struct virtio_blk *vblk)
{
	struct rq_list outstanding = {};
	struct request *rq;

	blk_mq_quiesce_queue(vblk->disk->queue);
	virtio_blk_stop_device(vblk, &outstanding);
	while ((rq = rq_list_pop(&outstanding)))
		blk_mq_end_request(rq, BLK_STS_IOERR);
	virtio_blk_resume(vblk);
}

/**
 * virtio_blk_abandon_broken - fail all requests of a device that will end none
 * @vblk: disk
 *
 * Return: whether it is such a device: the transport found that it is not there,
 * or it broke the rules of all of its rings
 */
bool virtio_blk_abandon_broken(struct virtio_blk *vblk)
{
	bool broken;

	mutex_lock(&vblk->recovery.lock);
	broken = virtio_blk_is_broken(vblk);
	if (broken)
		virtio_blk_fail_all(vblk);
	mutex_unlock(&vblk->recovery.lock);
	return broken;
}

/* What the device was told goes back to its default with a reset. */
static void virtio_blk_restore_config(struct virtio_blk *vblk)
{
	u8 wce = !!(vblk->disk->queue->limits.features & BLK_FEAT_WRITE_CACHE);

	if (virtio_has_feature(vblk->vdev, VIRTIO_BLK_F_CONFIG_WCE))
		virtio_cwrite(vblk->vdev, struct virtio_blk_config, wce, &wce);
}

/**
 * virtio_blk_start - use a device again that was reset
 * @vblk: disk, with its queues stopped; the features are negotiated
 *
 * Return: 0, or an error after a message
 */
int virtio_blk_start(struct virtio_blk *vblk)
{
	int err = virtio_blk_start_queues(vblk);

	if (err) {
		dev_err(&vblk->vdev->dev,
			"device does not come back as it was (error %d): no more I/O\n",
			err);
		return err;
	}
	virtio_blk_restore_config(vblk);
	virtio_device_ready(vblk->vdev);
	/* Changes in between were not reported. */
	queue_work(system_freezable_wq, &vblk->config_work);
	return 0;
}

/* The features of before, of which a device may not want to know any more. */
static int virtio_blk_negotiate(struct virtio_device *vdev)
{
	int err;

	virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_DRIVER);
	err = vdev->config->finalize_features(vdev);
	if (err || !virtio_has_feature(vdev, VIRTIO_F_VERSION_1))
		return err;
	virtio_add_status(vdev, VIRTIO_CONFIG_S_FEATURES_OK);
	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_FEATURES_OK)
		return 0;
	return -ENODEV;
}

/* A request that was taken from the device is sent again, or fails. */
static void virtio_blk_retry(struct virtio_blk *vblk, struct request *rq)
{
	if (virtio_blk_count_attempt(rq) > READ_ONCE(vblk->recovery.attempts)) {
		virtio_blk_count(vblk, VIRTIO_BLK_TIMED_OUT);
		blk_mq_end_request(rq, BLK_STS_TIMEOUT);
	} else {
		virtio_blk_count(vblk, VIRTIO_BLK_REQUEUED);
		blk_mq_requeue_request(rq, false);
	}
}

static void virtio_blk_recycle(struct virtqueue *vq, void *buf)
{
	virtio_blk_take_back_unused(buf);
	virtio_blk_retry(vq->vdev->priv, buf);
}

/* Returns whether the queue works again; if not, the device is to be reset. */
static bool virtio_blk_restart_queue(struct virtio_blk_queue *queue)
{
	struct virtio_blk *vblk = queue->vblk;
	struct virtqueue *vq;
	int err;

	/* A ring that is out of service stays so. */
	if (!READ_ONCE(vblk->recovery.queue_reset) ||
	    !virtio_has_feature(vblk->vdev, VIRTIO_F_RING_RESET) ||
	    virtqueue_is_broken(queue->vq))
		return false;
	vq = virtio_blk_take_vq(queue);
	err = virtqueue_reset(vq, virtio_blk_recycle, NULL);
	virtio_blk_give_vq(queue, vq);
	if (err)
		return false;
	dev_warn_ratelimited(&vblk->vdev->dev,
			     "a request did not end: queue %u was reset\n",
			     vq->index);
	virtio_blk_count(vblk, VIRTIO_BLK_QUEUE_RESETS);
	return true;
}

static void virtio_blk_restart_device(struct virtio_blk *vblk)
{
	struct rq_list outstanding = {};
	struct request *rq;
	int err = -ENODEV;

	virtio_blk_stop_device(vblk, &outstanding);
	/* Whoever sees a request end, sees why. */
	virtio_blk_count(vblk, VIRTIO_BLK_DEVICE_RESETS);
	while ((rq = rq_list_pop(&outstanding)))
		virtio_blk_retry(vblk, rq);
	if (!virtio_blk_is_gone(vblk))
		err = virtio_blk_negotiate(vblk->vdev);
	if (err)
		dev_err(&vblk->vdev->dev, "device can't be reset (error %d): no more I/O\n",
			err);
	else if (!virtio_blk_start(vblk))
		dev_warn_ratelimited(&vblk->vdev->dev,
				     "a request did not end: the device was reset\n");
}

static void virtio_blk_recover(struct virtio_blk_queue *queue,
			       struct request *rq)
{
	struct virtio_blk *vblk = queue->vblk;
	/* Memory could come from writes to this disk. */
	unsigned int noio = memalloc_noio_save();

	blk_mq_quiesce_queue(vblk->disk->queue);
	if (!virtio_blk_restart_queue(queue))
		virtio_blk_restart_device(vblk);
	/* The block layer's fault injection takes requests out of the ring. */
	if (blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT) {
		virtio_blk_take_back_unused(rq);
		virtio_blk_retry(vblk, rq);
	}
	virtio_blk_resume(vblk);
	memalloc_noio_restore(noio);
}

static void virtio_blk_give_up(struct virtio_blk *vblk, struct request *rq)
{
	dev_err_ratelimited(&vblk->vdev->dev,
			    "device is gone or broke the rules of the ring: no more I/O\n");
	virtio_blk_fail_all(vblk);
	/* As in virtio_blk_recover(). */
	if (blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT) {
		virtio_blk_take_back_unused(rq);
		blk_mq_end_request(rq, BLK_STS_IOERR);
	}
}

/* Whether the request is done, and nobody said so. */
static bool virtio_blk_was_done(struct virtio_blk_queue *queue,
				struct request *rq)
{
	struct virtio_blk *vblk = queue->vblk;
	bool found = virtio_blk_reap(queue);

	if (blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT)
		return false;
	/* A polled queue has no interrupts. */
	if (found && rq->mq_hctx->type != HCTX_TYPE_POLL &&
	    virtio_blk_count(vblk, VIRTIO_BLK_LOST_INTERRUPTS) == 1)
		dev_warn(&vblk->vdev->dev,
			 "an interrupt of queue %u was lost: its request was done\n",
			 queue->vq->index);
	return true;
}

/**
 * virtio_blk_timeout - a request's time is up
 * @rq: request
 *
 * Return: whether the block layer is to wait once more
 */
enum blk_eh_timer_return virtio_blk_timeout(struct request *rq)
{
	struct virtio_blk_queue *queue = rq->mq_hctx->driver_data;
	enum blk_eh_timer_return ret = BLK_EH_DONE;
	struct virtio_blk *vblk = queue->vblk;

	mutex_lock(&vblk->recovery.lock);
	if (virtio_blk_was_done(queue, rq))
		goto out;
	if (queue->vq && READ_ONCE(vblk->recovery.attempts))
		virtio_blk_recover(queue, rq);
	else if (!queue->vq || virtqueue_is_broken(queue->vq) ||
		 virtio_blk_is_gone(vblk))
		virtio_blk_give_up(vblk, rq);
	else
		ret = BLK_EH_RESET_TIMER;
out:
	mutex_unlock(&vblk->recovery.lock);
	return ret;
}
