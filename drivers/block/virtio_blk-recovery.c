// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: stops and restarts a device while its disk is in use.
 *
 * The reasons for a restart:
 *
 * - A request has timed out, if the administrator has enabled recovery.
 * - The device asks for a reset, if the administrator has enabled recovery.
 * - The device made an error in a virtqueue. It stays broken until a reset.
 * - The transport asks for it (suspend, reset of the bus).
 *
 * virtio_blk_schedule_recovery() queues recovery.work, which does this:
 *
 * 1. Quiesce the request queue, reset the device, and take all requests back.
 * 2. Delete the virtqueues. Set up features, virtqueues and cache mode again. This is
 *    tried as many times as a request may be sent again.
 * 3. Requeue the requests, or fail them. Unquiesce the request queue.
 *
 * So a request ends only after the device has lost access to it, and after it is known
 * whether the device works again. A request that was taken back is in
 * recovery.outstanding and in no ring. The code that removes it from there ends it.
 *
 * The workqueue has a rescuer, and a start allocates with memalloc_noio_save(). Both
 * avoid a deadlock: freeing memory may need writes to this disk. The virtio core can't
 * set up existing virtqueues of a device after a reset, so they are allocated again.
 *
 * Each wait for the device is bounded. virtio_pci waits forever for a modern device to
 * acknowledge a reset. Therefore this file writes and polls the register itself.
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

/* A read from a device that is not present returns all ones. */
#define VIRTIO_BLK_STATUS_GONE	0xff

/* Timeout and interval of polling for the end of a reset, in microseconds. */
#define VIRTIO_BLK_RESET_TIMEOUT	(10 * USEC_PER_SEC)
#define VIRTIO_BLK_RESET_POLL		1000

/* The least time between two resets, and before another try to start, in jiffies. */
#define VIRTIO_BLK_RESET_INTERVAL	HZ

/* How long a suspend waits before it looks at the polled queues again, in jiffies. */
#define VIRTIO_BLK_REAP_INTERVAL	DIV_ROUND_UP(HZ, 50)

static unsigned char recovery;
module_param(recovery, byte, 0644);
MODULE_PARM_DESC(recovery,
		 "How often a request that does not end is sent again, after a reset, before it fails; 0: wait for ever. For disks that are found from now on");

static struct workqueue_struct *virtio_blk_workqueue;

/* Set at shutdown. No device is reset or started any more. */
static bool virtio_blk_shut_down;

/*
 * Called before the virtio core resets all devices. After that they belong to the next
 * kernel, if there is one.
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
 * virtio_blk_init_workqueue - allocate the workqueue of all disks
 *
 * Return: 0 or an error
 */
int virtio_blk_init_workqueue(void)
{
	int err;

	/*
	 * WQ_MEM_RECLAIM: recovery must make progress without free memory. A reset may
	 * wait for work of a workqueue without this flag (vduse's). __WQ_LEGACY avoids
	 * the kernel's warning about that.
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

/* Allowed attempts of a request. A broken ring always gets one. */
static unsigned int virtio_blk_attempts(struct virtio_blk *vblk)
{
	return max(READ_ONCE(vblk->recovery.attempts), 1);
}

/**
 * virtio_blk_schedule_recovery - schedule a reset of the device
 * @vblk: disk. The caller holds the recovery lock, or the lock of a queue whose virtqueue
 *	is in use.
 *
 * May be called in interrupts. Resets are at least %VIRTIO_BLK_RESET_INTERVAL apart.
 *
 * Return: true, or false if the system is shutting down and there will be no reset
 */
bool virtio_blk_schedule_recovery(struct virtio_blk *vblk)
{
	unsigned long left = READ_ONCE(vblk->recovery.not_before) - jiffies;

	if (READ_ONCE(virtio_blk_shut_down))
		return false;
	/* If the moment has passed, the difference has wrapped. */
	if (left > VIRTIO_BLK_RESET_INTERVAL)
		left = 0;
	WRITE_ONCE(vblk->recovery.reset_scheduled, true);
	queue_delayed_work(virtio_blk_workqueue, &vblk->recovery.work, left);
	return true;
}

/**
 * virtio_blk_check_status - check whether the device asks for a reset
 * @vblk: disk with a live device; the recovery lock is held
 *
 * Virtio 1.4, section 2.1.2. May sleep.
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

/* Virtio 1.4, section 4.1.4: a PCI capability has the address of the register. */
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
 * Take the device's access to memory away. Returns 0 if it was reset, -ENODEV if it is not
 * present, or -ETIMEDOUT if it did not acknowledge the reset and its bus mastering was
 * switched off.
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
		/* It may be off, if the device did not acknowledge an earlier reset. */
		pci_set_master(to_pci_dev(vdev->dev.parent));
		/* What else virtio_pci does: no callback of before the reset still runs. */
		virtio_synchronize_cbs(vdev);
		return 0;
	}
	virtio_reset_device(vdev);
	return 0;
}

/**
 * struct virtio_blk_unplugged - hides the status of a device that is not present
 * @vdev: device
 * @config: its original operations
 * @ops: a copy of them whose get_status returns 0
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
 * The virtio core warns, with a stack trace, if the status of a device is not 0 after its
 * driver was removed. The status of a device that is not present is never 0. Replace its
 * operations until the driver core has unbound the driver.
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
 * Stop a live device. Its requests go to recovery.outstanding, and its virtqueues are
 * deleted. The caller has quiesced the request queue, or there are no requests. Returns
 * the result of virtio_blk_reset_device().
 */
static int virtio_blk_stop(struct virtio_blk *vblk)
{
	int err = virtio_blk_reset_device(vblk);
	unsigned int i;

	for (i = 0; i < vblk->num_queues; i++) {
		struct virtio_blk_queue *queue = &vblk->queues[i];

		virtio_blk_reap(queue);
		virtio_blk_take_outstanding(queue, &vblk->recovery.outstanding);
	}
	/* Wait for timeout handlers, which may still use requests that were taken back. */
	blk_sync_queue(vblk->disk->queue);
	vblk->vdev->config->del_vqs(vblk->vdev);
	WRITE_ONCE(vblk->recovery.reset_scheduled, false);
	return err;
}

/* Start a device after a reset and the negotiation of its features. */
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
	/* The device may have changed its configuration without an interrupt. */
	mod_delayed_work(system_freezable_wq, &vblk->config_work, 0);
	return 0;
}

/* Negotiate the same features as before. The device may refuse them now. */
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

/* Start a device after a reset. If that fails, reset it again. */
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
	/* The block layer marks it as complete, so that no timeout handler ends it. */
	blk_mq_complete_request(rq);
}

static void virtio_blk_requeue(struct virtio_blk *vblk, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	bool timed_out = vblk->recovery.timed_out;

	/* From here on the block layer does not merge it with other requests. */
	if (!(rq->rq_flags & RQF_DONTPREP))
		pdu->attempts = 0;
	rq->rq_flags |= RQF_DONTPREP;

	if (vblk->zone_sectors && virtio_blk_may_write(rq)) {
		/* The data may already be in the zone. Writing it again would be an error. */
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

/* Requeue or fail the requests that were taken back, and run the queue again. */
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

/* Whether to try another start. */
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
		/* Count the reset before a process can see one of its requests end. */
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
 * virtio_blk_init_recovery - prepare recovery
 * @vblk: disk whose device has negotiated its features
 *
 * There is no recovery before virtio_blk_begin(), whatever the device does.
 */
void virtio_blk_init_recovery(struct virtio_blk *vblk)
{
	struct device *parent = vblk->vdev->dev.parent;

	mutex_init(&vblk->recovery.lock);
	INIT_DELAYED_WORK(&vblk->recovery.work, virtio_blk_recovery_work);
	disable_delayed_work(&vblk->recovery.work);
	vblk->recovery.state = VIRTIO_BLK_NEW;
	vblk->recovery.attempts = recovery;
	vblk->recovery.not_before = jiffies;
	if (virtio_has_feature(vblk->vdev, VIRTIO_F_VERSION_1) &&
	    dev_is_pci(parent) &&
	    !strcmp(dev_driver_string(parent), "virtio-pci"))
		vblk->recovery.device_status =
			virtio_blk_map_status(to_pci_dev(parent));
}

/**
 * virtio_blk_begin - let the device serve requests
 * @vblk: disk with all that recovery needs
 *
 * A device that has already broken a ring is reset now.
 */
void virtio_blk_begin(struct virtio_blk *vblk)
{
	struct virtio_blk_recovery *recovery = &vblk->recovery;

	mutex_lock(&recovery->lock);
	virtio_device_ready(vblk->vdev);
	recovery->state = VIRTIO_BLK_LIVE;
	enable_delayed_work(&recovery->work);
	if (READ_ONCE(recovery->reset_scheduled))
		virtio_blk_schedule_recovery(vblk);
	mutex_unlock(&recovery->lock);
}

/**
 * virtio_blk_exit_recovery - undo virtio_blk_init_recovery()
 * @vblk: disk whose device has no virtqueues any more
 */
void virtio_blk_exit_recovery(struct virtio_blk *vblk)
{
	if (vblk->recovery.device_status)
		pci_iounmap(to_pci_dev(vblk->vdev->dev.parent),
			    vblk->recovery.device_status);
}

/*
 * Wait until no request of a queue that is being frozen is in flight. Returns false if that
 * takes longer than @timeout, in jiffies. The processes that poll may be frozen, so reap
 * for them.
 */
static bool virtio_blk_wait_frozen(struct virtio_blk *vblk, int timeout)
{
	int left, step = vblk->num_poll_queues ? VIRTIO_BLK_REAP_INTERVAL : timeout;
	unsigned int i;

	for (left = timeout; left > 0; left -= step) {
		for (i = 0; i < vblk->num_queues; i++)
			if (vblk->queues[i].polled)
				virtio_blk_reap(&vblk->queues[i]);
		if (blk_mq_freeze_queue_wait_timeout(vblk->disk->queue,
						     min(left, step)))
			return true;
	}
	return false;
}

/**
 * virtio_blk_suspend - stop a device for the transport
 * @vblk: disk
 * @fail_if_busy: fail if a request does not end in time, instead of taking it back
 *
 * Waits for the requests in flight, as long as one may take (queue/io_timeout). With
 * recovery it waits as long as all attempts may take. New requests wait until
 * virtio_blk_resume().
 *
 * Return: 0, or %-EBUSY after a message
 */
int virtio_blk_suspend(struct virtio_blk *vblk, bool fail_if_busy)
{
	struct virtio_blk_recovery *recovery = &vblk->recovery;
	struct request_queue *q = vblk->disk->queue;
	u64 timeout = (1 + READ_ONCE(recovery->attempts)) * (u64)q->rq_timeout + HZ;

	blk_freeze_queue_start(q);
	/* io_timeout can be years, and the result is an int. */
	if (!virtio_blk_wait_frozen(vblk, min_t(u64, timeout, INT_MAX)) &&
	    fail_if_busy) {
		blk_mq_unfreeze_queue_nomemrestore(q);
		dev_err(&vblk->vdev->dev,
			"a request does not end: the disk can't be suspended\n");
		return -EBUSY;
	}

	mutex_lock(&recovery->lock);
	/* A stopped device's queue is already quiesced. */
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
 * If the device does not start, the waiting requests fail.
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
 * virtio_blk_fail_if_dead - fail all requests if the device will end none of them
 * @vblk: disk that is being removed
 *
 * A device that is still suspended has refused its features when the transport resumed it, and
 * will not be resumed any more.
 *
 * Return: true if the device is not present, or could not be restarted
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
	if (recovery->state == VIRTIO_BLK_STOPPED ||
	    recovery->state == VIRTIO_BLK_SUSPENDED) {
		virtio_blk_mark_dead(vblk, gone ? -ENODEV : -EIO);
		virtio_blk_continue(vblk);
	}
	dead = recovery->state == VIRTIO_BLK_DEAD;
	mutex_unlock(&recovery->lock);
	return dead;
}

/**
 * virtio_blk_fail_queries - fail the driver's own requests, by a reset
 * @vblk: disk that is being removed
 *
 * Such requests fail when they are taken back, from now on. May return before the reset.
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
 * virtio_blk_release_device - stop a device and its recovery for good
 * @vblk: disk without requests, which was removed or never added
 */
void virtio_blk_release_device(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;

	disable_delayed_work_sync(&vblk->recovery.work);
	/* A dispatcher whose requests have ended meanwhile may be about to kick. */
	blk_mq_wait_quiesce_done(&vblk->tag_set);
	mutex_lock(&vblk->recovery.lock);
	if (vblk->recovery.state == VIRTIO_BLK_NEW ||
	    vblk->recovery.state == VIRTIO_BLK_LIVE)
		virtio_blk_stop(vblk);
	else if (vdev->config->get_status(vdev))
		/* A device that did not acknowledge a reset may do so by now. */
		virtio_blk_reset_device(vblk);
	vblk->recovery.state = VIRTIO_BLK_DEAD;
	mutex_unlock(&vblk->recovery.lock);
	if (vdev->config->get_status(vdev))
		virtio_blk_hide_status(vdev);
}

/**
 * virtio_blk_timeout - handle a request whose timeout has expired
 * @rq: request
 *
 * Return: %BLK_EH_DONE if the request has ended or recovery will end it;
 * %BLK_EH_RESET_TIMER to wait longer
 */
enum blk_eh_timer_return virtio_blk_timeout(struct request *rq)
{
	struct virtio_blk_queue *queue = rq->mq_hctx->driver_data;
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	enum blk_eh_timer_return ret = BLK_EH_DONE;
	struct virtio_blk *vblk = queue->vblk;
	bool gone = virtio_blk_is_gone(vblk);
	unsigned int found = virtio_blk_reap(queue);

	spin_lock_irq(&queue->lock);
	if (!pdu->sent) {
		/* It has ended without an interrupt, or it was taken back. */
		if (found && !queue->polled &&
		    virtio_blk_count(vblk, VIRTIO_BLK_LOST_INTERRUPTS) == 1)
			dev_warn(&vblk->vdev->dev,
				 "an interrupt of queue %u was lost: its request was done\n",
				 rq->mq_hctx->queue_num);
	} else if (time_is_after_jiffies(READ_ONCE(rq->deadline))) {
		/* It was taken back and sent again since its timeout expired. */
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
	/* Recovery is enabled now: check whether the device has asked for a reset. */
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
