// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: stops a device and starts it again, with its disk in use.
 *
 * Reasons for that are a request whose time is up, if the administrator wants
 * recovery; a device that asks for a reset, likewise; a virtqueue whose rules the
 * device broke, which stays out of service until there is a reset; and the transport
 * (suspend, a reset of the bus).
 *
 * Whoever finds a reason calls virtio_blk_schedule_recovery(), and the work does the rest:
 *
 *	the queue is quiesced, the device is reset, all requests are taken back
 *	the virtqueues are deleted; features, virtqueues and the cache mode are set
 *	up anew, at most as often as a request may be sent again
 *	the requests are requeued, or fail; the queue goes on
 *
 * So no request ends before the device has forgotten it, nor before it is known what
 * becomes of the device. A request that was taken back is in recovery.outstanding, in
 * no ring: whoever took it from there ends it, once.
 *
 * The work runs in a workqueue with a rescuer. Every start allocates without I/O, as memory
 * could come from writes to this disk. The virtio core offers no way to set up virtqueues that
 * exist for a device that was reset, so they are allocated again.
 *
 * Every wait for the device has an end. virtio_pci waits for ever for a modern device
 * to acknowledge a reset; here the register is written and polled first.
 */
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/reboot.h>
#include <linux/sched/mm.h>
#include <linux/sysfs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "virtio_blk.h"

/* What reads as all ones is not there. */
#define VIRTIO_BLK_STATUS_GONE	0xff

/* For a reset to be acknowledged, and between two polls, in microseconds. */
#define VIRTIO_BLK_RESET_TIMEOUT	(10 * USEC_PER_SEC)
#define VIRTIO_BLK_RESET_POLL		1000

/* Between two resets, and before another start of a device that did not start. */
#define VIRTIO_BLK_RESET_INTERVAL	HZ

static unsigned char recovery;
module_param(recovery, byte, 0644);
MODULE_PARM_DESC(recovery,
		 "How often a request that does not end is sent again, after a reset, before it fails; 0: wait for ever. For disks that are found from now on");

static struct workqueue_struct *virtio_blk_workqueue;

/* Devices are being shut down: none is reset or started any more. */
static bool virtio_blk_shut_down;

/*
 * Before the virtio core resets the devices, after which the next kernel, or nobody,
 * has them.
 */
static int virtio_blk_reboot(struct notifier_block *nb, unsigned long event,
			     void *data)
{
	WRITE_ONCE(virtio_blk_shut_down, true);
	flush_workqueue(virtio_blk_workqueue);
	return NOTIFY_DONE;
}

static struct notifier_block virtio_blk_reboot_notifier = {
	.notifier_call = virtio_blk_reboot,
};

/**
 * virtio_blk_init_workqueue - make what all disks share
 *
 * Return: 0 or an error
 */
int virtio_blk_init_workqueue(void)
{
	int err;

	/*
	 * Recovery has to get on without memory where its device does. A reset that
	 * waits for works which need some (vduse's) is no fault of it: the last flag
	 * keeps the kernel from a warning.
	 */
	virtio_blk_workqueue = alloc_workqueue("virtio_blk",
					       WQ_MEM_RECLAIM | WQ_UNBOUND |
					       __WQ_LEGACY, 0);
	if (!virtio_blk_workqueue)
		return -ENOMEM;
	err = register_reboot_notifier(&virtio_blk_reboot_notifier);
	if (err)
		destroy_workqueue(virtio_blk_workqueue);
	return err;
}

/**
 * virtio_blk_exit_workqueue - undo virtio_blk_init_workqueue()
 */
void virtio_blk_exit_workqueue(void)
{
	unregister_reboot_notifier(&virtio_blk_reboot_notifier);
	destroy_workqueue(virtio_blk_workqueue);
}

static long virtio_blk_count(struct virtio_blk *vblk,
			     enum virtio_blk_counter counter)
{
	return atomic_long_inc_return(&vblk->recovery.counters[counter]);
}

static bool virtio_blk_is_gone(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;

	return vdev->config->get_status(vdev) == VIRTIO_BLK_STATUS_GONE;
}

/* How often a request is sent again. A broken ring is worth one try in any case. */
static unsigned int virtio_blk_attempts(struct virtio_blk *vblk)
{
	return max(READ_ONCE(vblk->recovery.attempts), 1);
}

/**
 * virtio_blk_schedule_recovery - have the device reset
 * @vblk: disk. The caller holds the lock of one of its queues, whose virtqueue is in
 *	use, or the recovery lock; may be called in interrupts
 *
 * A second reset is not made earlier than %VIRTIO_BLK_RESET_INTERVAL after one.
 *
 * Return: whether it will be reset, which it is not any more once devices are shut down
 */
bool virtio_blk_schedule_recovery(struct virtio_blk *vblk)
{
	unsigned long not_before = READ_ONCE(vblk->recovery.not_before);
	unsigned long delay = 0;

	if (READ_ONCE(virtio_blk_shut_down))
		return false;
	if (time_before(jiffies, not_before))
		delay = not_before - jiffies;
	WRITE_ONCE(vblk->recovery.reset_scheduled, true);
	queue_delayed_work(virtio_blk_workqueue, &vblk->recovery.work, delay);
	return true;
}

/**
 * virtio_blk_check_status - look whether the device asks for a reset
 * @vblk: disk of a live device, with the recovery lock held
 *
 * May sleep. Virtio 1.4, section 2.1.2.
 */
void virtio_blk_check_status(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;
	u8 status = vdev->config->get_status(vdev);

	if (status == VIRTIO_BLK_STATUS_GONE ||
	    !(status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return;
	if (READ_ONCE(vblk->recovery.attempts)) {
		virtio_blk_schedule_recovery(vblk);
	} else if (!vblk->recovery.reset_requested) {
		vblk->recovery.reset_requested = true;
		dev_warn(&vdev->dev,
			 "device needs a reset: write to recovery/attempts of %s to allow it\n",
			 vblk->disk->disk_name);
	}
}

/* --- reset --- */

/* Virtio 1.4, section 4.1.4: a capability tells where the register is. */
static u8 __iomem *virtio_blk_map_status(struct pci_dev *pdev)
{
	u8 pos, type, bar;
	u32 offset;

	for (pos = pci_find_capability(pdev, PCI_CAP_ID_VNDR); pos;
	     pos = pci_find_next_capability(pdev, pos, PCI_CAP_ID_VNDR)) {
		pci_read_config_byte(pdev,
				     pos + offsetof(struct virtio_pci_cap, cfg_type),
				     &type);
		if (type == VIRTIO_PCI_CAP_COMMON_CFG)
			break;
	}
	if (!pos)
		return NULL;
	pci_read_config_byte(pdev, pos + offsetof(struct virtio_pci_cap, bar),
			     &bar);
	pci_read_config_dword(pdev, pos + offsetof(struct virtio_pci_cap, offset),
			      &offset);
	if (bar >= PCI_STD_NUM_BARS)
		return NULL;
	offset += offsetof(struct virtio_pci_common_cfg, device_status);
	return pci_iomap_range(pdev, bar, offset, sizeof(u8));
}

/*
 * Stops all that the device does to memory: it is reset, is not there, or is kept from
 * memory. Returns whether it can be used again, as an error.
 */
static int virtio_blk_reset_device(struct virtio_blk *vblk)
{
	u8 __iomem *reg = vblk->recovery.device_status;
	struct virtio_device *vdev = vblk->vdev;
	u8 status;

	if (virtio_blk_is_gone(vblk))
		return -ENODEV;
	if (reg) {
		iowrite8(0, reg);
		read_poll_timeout(ioread8, status,
				  !status || status == VIRTIO_BLK_STATUS_GONE,
				  VIRTIO_BLK_RESET_POLL, VIRTIO_BLK_RESET_TIMEOUT,
				  false, reg);
		if (status == VIRTIO_BLK_STATUS_GONE)
			return -ENODEV;
		if (status) {
			pci_clear_master(to_pci_dev(vdev->dev.parent));
			return -ETIMEDOUT;
		}
	}
	virtio_reset_device(vdev);
	return 0;
}

/**
 * struct virtio_blk_unplugged - what the virtio core sees of a device that is not there
 * @vdev: device
 * @config: what it had before
 * @ops: the same, with a status of a device that was reset
 */
struct virtio_blk_unplugged {
	struct virtio_device *vdev;
	const struct virtio_config_ops *config;
	struct virtio_config_ops ops;
};

static u8 virtio_blk_unplugged_status(struct virtio_device *vdev)
{
	return 0;
}

static void virtio_blk_restore_ops(void *data)
{
	struct virtio_blk_unplugged *unplugged = data;

	unplugged->vdev->config = unplugged->config;
}

/*
 * The virtio core warns, with a stack, if the status of a device is not 0 after its driver
 * was removed. That of one which is not there is never 0, and that is no bug. Only until
 * the driver core has unbound the driver.
 */
static void virtio_blk_hide_status(struct virtio_device *vdev)
{
	struct virtio_blk_unplugged *unplugged;

	unplugged = devm_kzalloc(&vdev->dev, sizeof(*unplugged), GFP_KERNEL);
	if (!unplugged)
		return;
	unplugged->vdev = vdev;
	unplugged->config = vdev->config;
	unplugged->ops = *vdev->config;
	unplugged->ops.get_status = virtio_blk_unplugged_status;
	if (!devm_add_action(&vdev->dev, virtio_blk_restore_ops, unplugged))
		vdev->config = &unplugged->ops;
}

/* --- stop and start, with the recovery lock held --- */

/*
 * Takes everything from a live device: its requests are outstanding, and it has no
 * virtqueue. Dispatchers are kept away by the caller. Returns what
 * virtio_blk_reset_device() does.
 */
static int virtio_blk_stop(struct virtio_blk *vblk)
{
	int err = virtio_blk_reset_device(vblk);
	unsigned int i;

	for (i = 0; i < vblk->num_queues; i++) {
		struct virtio_blk_queue *queue = &vblk->queues[i];
		DEFINE_IO_COMP_BATCH(iob);

		virtio_blk_reap(queue, &iob);
		if (iob.complete)
			iob.complete(&iob);
		virtio_blk_take_outstanding(queue, &vblk->recovery.outstanding);
	}
	/* From here on no handler of timeouts looks at what was taken back. */
	blk_sync_queue(vblk->disk->queue);
	vblk->vdev->config->del_vqs(vblk->vdev);
	WRITE_ONCE(vblk->recovery.reset_scheduled, false);
	return err;
}

/* Starts a device that was reset and has agreed on the features. */
static int virtio_blk_start(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;
	int err;

	err = virtio_blk_restore_config(vblk);
	if (err)
		return err;
	err = virtio_blk_find_vqs(vblk);
	if (err)
		return err;
	virtio_device_ready(vdev);
	vblk->recovery.state = VIRTIO_BLK_LIVE;
	vblk->recovery.failed_starts = 0;
	vblk->recovery.reset_requested = false;
	/* Changes in between were not reported. */
	mod_delayed_work(system_freezable_wq, &vblk->config_work, 0);
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
	return -EINVAL;
}

/* Starts a device that was reset. One that does not start is reset again. */
static int virtio_blk_restart(struct virtio_blk *vblk)
{
	int err = virtio_blk_negotiate(vblk->vdev);

	if (!err)
		err = virtio_blk_start(vblk);
	if (!err)
		return 0;
	return virtio_blk_reset_device(vblk) ?: err;
}

static void virtio_blk_fail(struct request *rq, bool timed_out)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	pdu->in.status = VIRTIO_BLK_STATUS_NONE;
	pdu->timed_out = timed_out;
	/* Marks it as complete: nobody else may end it. */
	blk_mq_complete_request(rq);
}

static void virtio_blk_requeue(struct virtio_blk *vblk, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	bool timed_out = vblk->recovery.timed_out;

	/* The block layer keeps it apart from others from here on. */
	if (!(rq->rq_flags & RQF_DONTPREP))
		pdu->attempts = 0;
	rq->rq_flags |= RQF_DONTPREP;

	if (vblk->zone_sectors && virtio_blk_may_write(rq)) {
		/* The zone may have it already, at its write pointer. */
		virtio_blk_fail(rq, false);
	} else if (vblk->recovery.queries_fail && req_op(rq) == REQ_OP_DRV_IN) {
		virtio_blk_fail(rq, false);
	} else if (pdu->attempts >= virtio_blk_attempts(vblk)) {
		if (timed_out)
			virtio_blk_count(vblk, VIRTIO_BLK_TIMED_OUT);
		virtio_blk_fail(rq, timed_out);
	} else {
		pdu->attempts++;
		virtio_blk_count(vblk, VIRTIO_BLK_REQUEUED);
		blk_mq_requeue_request(rq, false);
	}
}

/* What was taken back is sent again, or fails. The queue goes on. */
static void virtio_blk_continue(struct virtio_blk *vblk)
{
	struct request_queue *q = vblk->disk->queue;
	bool dead = vblk->recovery.state == VIRTIO_BLK_DEAD;
	struct request *rq;

	while ((rq = rq_list_pop(&vblk->recovery.outstanding))) {
		if (dead)
			virtio_blk_fail(rq, false);
		else
			virtio_blk_requeue(vblk, rq);
	}
	vblk->recovery.timed_out = false;
	WRITE_ONCE(vblk->recovery.not_before, jiffies + VIRTIO_BLK_RESET_INTERVAL);
	blk_mq_unquiesce_queue(q);
	blk_mq_start_stopped_hw_queues(q, true);
	blk_mq_kick_requeue_list(q);
}

static void virtio_blk_mark_dead(struct virtio_blk *vblk, int err)
{
	vblk->recovery.state = VIRTIO_BLK_DEAD;
	if (err == -ENODEV)
		dev_err(&vblk->vdev->dev, "device is gone: no more I/O\n");
	else if (err == -ETIMEDOUT)
		dev_err(&vblk->vdev->dev,
			"device does not acknowledge a reset: no more I/O\n");
	else
		dev_err(&vblk->vdev->dev,
			"device does not come back as it was (error %d): no more I/O\n",
			err);
}

/* Whether another start may go better. */
static bool virtio_blk_may_start(struct virtio_blk *vblk, int err)
{
	return err != -ENODEV && err != -ETIMEDOUT &&
	       ++vblk->recovery.failed_starts < virtio_blk_attempts(vblk);
}

static void virtio_blk_recover(struct virtio_blk *vblk)
{
	int err = 0;

	if (vblk->recovery.state == VIRTIO_BLK_LIVE) {
		blk_mq_quiesce_queue(vblk->disk->queue);
		err = virtio_blk_stop(vblk);
		vblk->recovery.state = VIRTIO_BLK_STOPPED;
		/* Whoever sees a request end, sees why. */
		virtio_blk_count(vblk, VIRTIO_BLK_DEVICE_RESETS);
	}
	if (!err)
		err = virtio_blk_restart(vblk);
	if (err && virtio_blk_may_start(vblk, err)) {
		mod_delayed_work(virtio_blk_workqueue, &vblk->recovery.work,
				 VIRTIO_BLK_RESET_INTERVAL);
		return;
	}
	if (err)
		virtio_blk_mark_dead(vblk, err);
	else
		dev_warn_ratelimited(&vblk->vdev->dev, "%s: the device was reset\n",
				     vblk->recovery.timed_out ?
				     "a request did not end" :
				     "the device asked for it or broke a ring");
	virtio_blk_continue(vblk);
}

static void virtio_blk_recovery_work(struct work_struct *work)
{
	struct virtio_blk *vblk = container_of(to_delayed_work(work),
					       struct virtio_blk, recovery.work);
	struct virtio_blk_recovery *recovery = &vblk->recovery;
	unsigned int noio = memalloc_noio_save();

	mutex_lock(&recovery->lock);
	if (!READ_ONCE(virtio_blk_shut_down) &&
	    (recovery->state == VIRTIO_BLK_STOPPED ||
	     (recovery->state == VIRTIO_BLK_LIVE && READ_ONCE(recovery->reset_scheduled))))
		virtio_blk_recover(vblk);
	mutex_unlock(&recovery->lock);
	memalloc_noio_restore(noio);
}

/* --- the life of a disk --- */

/**
 * virtio_blk_init_recovery - prepare to stop and start a device
 * @vblk: disk, of a device whose features are negotiated
 */
void virtio_blk_init_recovery(struct virtio_blk *vblk)
{
	struct device *parent = vblk->vdev->dev.parent;

	mutex_init(&vblk->recovery.lock);
	INIT_DELAYED_WORK(&vblk->recovery.work, virtio_blk_recovery_work);
	vblk->recovery.state = VIRTIO_BLK_LIVE;
	vblk->recovery.attempts = recovery;
	vblk->recovery.not_before = jiffies;
	if (virtio_has_feature(vblk->vdev, VIRTIO_F_VERSION_1) &&
	    dev_is_pci(parent) &&
	    !strcmp(dev_driver_string(parent), "virtio-pci"))
		vblk->recovery.device_status =
			virtio_blk_map_status(to_pci_dev(parent));
}

/**
 * virtio_blk_exit_recovery - undo virtio_blk_init_recovery()
 * @vblk: disk, whose device has no virtqueue any more
 */
void virtio_blk_exit_recovery(struct virtio_blk *vblk)
{
	if (vblk->recovery.device_status)
		pci_iounmap(to_pci_dev(vblk->vdev->dev.parent),
			    vblk->recovery.device_status);
}

/**
 * virtio_blk_suspend - stop a device for the transport
 * @vblk: disk
 * @fail_if_busy: fail if a request does not end in time, instead of taking it back
 *
 * Waits for requests as long as one may take (queue/io_timeout), with recovery as long
 * as all its attempts may. What comes is held up until virtio_blk_resume().
 *
 * Return: 0, or %-EBUSY after a message
 */
int virtio_blk_suspend(struct virtio_blk *vblk, bool fail_if_busy)
{
	struct virtio_blk_recovery *recovery = &vblk->recovery;
	struct request_queue *q = vblk->disk->queue;
	unsigned int tries = 1 + READ_ONCE(recovery->attempts);

	blk_freeze_queue_start(q);
	if (!blk_mq_freeze_queue_wait_timeout(q, tries * q->rq_timeout + HZ) &&
	    fail_if_busy) {
		blk_mq_unfreeze_queue_nomemrestore(q);
		dev_err(&vblk->vdev->dev,
			"a request does not end: the disk can't be suspended\n");
		return -EBUSY;
	}

	mutex_lock(&recovery->lock);
	/* It is quiesced while it waits for another start. */
	if (recovery->state != VIRTIO_BLK_STOPPED)
		blk_mq_quiesce_queue(q);
	blk_mq_unfreeze_queue_nomemrestore(q);
	if (recovery->state == VIRTIO_BLK_LIVE)
		virtio_blk_stop(vblk);
	recovery->state = VIRTIO_BLK_SUSPENDED;
	mutex_unlock(&recovery->lock);
	return 0;
}

/**
 * virtio_blk_resume - undo virtio_blk_suspend()
 * @vblk: disk; the transport has reset the device and negotiated its features
 *
 * If the device does not start, what was held up fails rather than waits for ever.
 *
 * Return: 0, or an error after a message
 */
int virtio_blk_resume(struct virtio_blk *vblk)
{
	unsigned int noio = memalloc_noio_save();
	int err;

	mutex_lock(&vblk->recovery.lock);
	err = virtio_blk_start(vblk);
	if (err)
		virtio_blk_mark_dead(vblk, err);
	virtio_blk_continue(vblk);
	mutex_unlock(&vblk->recovery.lock);
	memalloc_noio_restore(noio);
	return err;
}

/**
 * virtio_blk_fail_if_dead - fail all requests of a device that will end none
 * @vblk: disk, which is removed
 *
 * Return: whether it is such a device: it is not there, or could not be started again
 */
bool virtio_blk_fail_if_dead(struct virtio_blk *vblk)
{
	struct virtio_blk_recovery *recovery = &vblk->recovery;
	bool dead, gone;

	mutex_lock(&recovery->lock);
	gone = virtio_blk_is_gone(vblk);
	if (recovery->state == VIRTIO_BLK_LIVE && gone) {
		blk_mq_quiesce_queue(vblk->disk->queue);
		virtio_blk_stop(vblk);
		recovery->state = VIRTIO_BLK_STOPPED;
	}
	if (recovery->state == VIRTIO_BLK_STOPPED) {
		virtio_blk_mark_dead(vblk, gone ? -ENODEV : -EIO);
		virtio_blk_continue(vblk);
	}
	dead = recovery->state == VIRTIO_BLK_DEAD;
	mutex_unlock(&recovery->lock);
	return dead;
}

/**
 * virtio_blk_fail_queries - end the driver's own requests with a reset
 * @vblk: disk, which is removed
 *
 * From here on such requests fail when they are taken back. May return before the reset.
 */
void virtio_blk_fail_queries(struct virtio_blk *vblk)
{
	struct virtio_blk_recovery *recovery = &vblk->recovery;

	mutex_lock(&recovery->lock);
	recovery->queries_fail = true;
	if (recovery->state == VIRTIO_BLK_LIVE)
		virtio_blk_schedule_recovery(vblk);
	mutex_unlock(&recovery->lock);
}

/**
 * virtio_blk_release_device - leave a device for good
 * @vblk: disk that was removed or not added, without requests
 *
 * From here on there is no recovery.
 */
void virtio_blk_release_device(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;

	disable_delayed_work_sync(&vblk->recovery.work);
	mutex_lock(&vblk->recovery.lock);
	if (vblk->recovery.state == VIRTIO_BLK_LIVE)
		virtio_blk_stop(vblk);
	vblk->recovery.state = VIRTIO_BLK_DEAD;
	mutex_unlock(&vblk->recovery.lock);
	if (vdev->config->get_status(vdev))
		virtio_blk_hide_status(vdev);
}

/**
 * virtio_blk_timeout - a request's time is up
 * @rq: request
 *
 * Return: %BLK_EH_DONE if the request has ended or recovery will see to it that it
 * does; %BLK_EH_RESET_TIMER if it is waited for
 */
enum blk_eh_timer_return virtio_blk_timeout(struct request *rq)
{
	struct virtio_blk_queue *queue = rq->mq_hctx->driver_data;
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	enum blk_eh_timer_return ret = BLK_EH_DONE;
	struct virtio_blk *vblk = queue->vblk;
	bool gone = virtio_blk_is_gone(vblk);
	DEFINE_IO_COMP_BATCH(iob);
	unsigned int found;

	found = virtio_blk_reap(queue, &iob);
	if (iob.complete)
		iob.complete(&iob);

	spin_lock_irq(&queue->lock);
	if (!pdu->sent) {
		/* It is done, and nobody said so; or it was taken back. */
		if (found && !queue->polled &&
		    virtio_blk_count(vblk, VIRTIO_BLK_LOST_INTERRUPTS) == 1)
			dev_warn(&vblk->vdev->dev,
				 "an interrupt of queue %u was lost: its request was done\n",
				 rq->mq_hctx->queue_num);
	} else if (time_is_after_jiffies(READ_ONCE(rq->deadline))) {
		/* It was taken back and sent again meanwhile. */
		ret = BLK_EH_RESET_TIMER;
	} else if (READ_ONCE(vblk->recovery.attempts)) {
		vblk->recovery.timed_out = true;
		if (!virtio_blk_schedule_recovery(vblk))
			ret = BLK_EH_RESET_TIMER;
	} else if (!gone || !virtio_blk_schedule_recovery(vblk)) {
		ret = BLK_EH_RESET_TIMER;
	}
	spin_unlock_irq(&queue->lock);
	return ret;
}

/* --- attributes, recovery/ --- */

static ssize_t attempts_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	return sysfs_emit(buf, "%u\n", virtio_blk_of(dev)->recovery.attempts);
}

static ssize_t attempts_store(struct device *dev, struct device_attribute *attr,
			      const char *buf, size_t count)
{
	struct virtio_blk *vblk = virtio_blk_of(dev);
	u8 attempts;
	int err = kstrtou8(buf, 0, &attempts);

	if (err)
		return err;
	WRITE_ONCE(vblk->recovery.attempts, attempts);
	/* The device may have asked for a reset before. */
	mod_delayed_work(system_freezable_wq, &vblk->config_work, 0);
	return count;
}
static DEVICE_ATTR_RW(attempts);

static ssize_t counter_show(struct device *dev, struct device_attribute *attr,
			    char *buf);

static struct device_attribute virtio_blk_counter_attrs[] = {
	[VIRTIO_BLK_LOST_INTERRUPTS] =
		__ATTR(lost_interrupts, 0444, counter_show, NULL),
	[VIRTIO_BLK_DEVICE_RESETS] =
		__ATTR(device_resets, 0444, counter_show, NULL),
	[VIRTIO_BLK_REQUEUED] = __ATTR(requeued, 0444, counter_show, NULL),
	[VIRTIO_BLK_TIMED_OUT] = __ATTR(timed_out, 0444, counter_show, NULL),
};

static ssize_t counter_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	struct virtio_blk *vblk = virtio_blk_of(dev);
	size_t index = attr - virtio_blk_counter_attrs;

	return sysfs_emit(buf, "%ld\n",
			  atomic_long_read(&vblk->recovery.counters[index]));
}

static struct attribute *virtio_blk_recovery_attrs[] = {
	&dev_attr_attempts.attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_LOST_INTERRUPTS].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_DEVICE_RESETS].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_REQUEUED].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_TIMED_OUT].attr,
	NULL,
};

const struct attribute_group virtio_blk_recovery_group = {
	.name	= "recovery",
	.attrs	= virtio_blk_recovery_attrs,
};
