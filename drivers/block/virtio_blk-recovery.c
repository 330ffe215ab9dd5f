// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: the end of a device under its disk, and a new start.
 *
 * A device that is reset forgets its requests, its virtqueues and what it was
 * told through the configuration space. Here it gets the latter two back, and
 * the requests are taken from one that will not end them.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio_blk.h"

/* What reads as all ones is not there. */
#define VIRTIO_BLK_STATUS_GONE	0xff

/**
 * virtio_blk_reset_device - stop all that the device does to memory
 * @vblk: disk
 *
 * One that is not there does nothing, and the transport would wait for ever for
 * it to be reset.
 */
void virtio_blk_reset_device(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;

	if (vdev->config->get_status(vdev) != VIRTIO_BLK_STATUS_GONE)
		virtio_reset_device(vdev);
}

/**
 * virtio_blk_is_broken - whether the device will end no request any more
 * @vblk: disk
 *
 * Return: whether all queues are out of service: the transport found that the
 * device is not there, or the device broke the rules of each of them
 */
bool virtio_blk_is_broken(struct virtio_blk *vblk)
{
	unsigned int i;

	for (i = 0; i < vblk->num_queues; i++) {
		struct virtqueue *vq = vblk->queues[i].vq;

		if (!vq || !virtqueue_is_broken(vq))
			return false;
	}
	return true;
}

/**
 * virtio_blk_abandon - fail all requests, now and from here on
 * @vblk: disk
 */
void virtio_blk_abandon(struct virtio_blk *vblk)
{
	struct request_queue *q = vblk->disk->queue;
	struct rq_list outstanding = {};
	struct request *rq;
	unsigned int i;

	blk_mq_quiesce_queue(q);
	virtio_blk_reset_device(vblk);
	for (i = 0; i < vblk->num_queues; i++)
		virtio_blk_take_outstanding(&vblk->queues[i], &outstanding);
	virtio_blk_stop_queues(vblk);
	while ((rq = rq_list_pop(&outstanding)))
		blk_mq_end_request(rq, BLK_STS_IOERR);
	blk_mq_unquiesce_queue(q);
	blk_mq_start_stopped_hw_queues(q, true);
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
