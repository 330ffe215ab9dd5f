// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk: a virtio-blk device served by the host kernel from a block device.
 *
 * This file is /dev/vhost-blk: which block device is bound, what features and
 * configuration space follow from it, and when the rings run. What happens to a
 * request is told in blk.h and the three files that it names.
 *
 * The life of a device: opened, bound (only then are there queues), owned by a
 * process, running, stopped, perhaps bound again and running again, released.
 * Stopping waits until nothing is in flight, so that no bio, no worker and no write to
 * guest memory outlives it, unless the caller is killed meanwhile. Releasing does so for
 * a second; a device whose disk takes longer goes when that is done.
 *
 * Locks, outermost first: &struct vhost_blk.lock serializes the ioctls, vhost
 * core's device mutex protects what vhost core keeps of the device, and a
 * virtqueue's mutex protects a queue. Completions take none of them.
 */
#include <linux/compat.h>
#include <linux/ctype.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "blk.h"

#define CREATE_TRACE_POINTS
#include <trace/events/vhost_blk.h>

/*
 * From the range for local use, and fixed: kmod makes the device node before
 * the module is loaded only of a number it knows, and opening it loads the
 * module.
 */
#define VHOST_BLK_MINOR	250

/* How often a device is asked for its capacity when somebody wants to know. */
#define VHOST_BLK_CAPACITY_INTERVAL	HZ

/* More than any configuration space will ever have, in bytes. */
#define VHOST_BLK_MAX_CONFIG	4096

/* Bits that the rings bring, beside those of the block device. */
#define VHOST_BLK_RING_FEATURES	(BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) | \
				 BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
				 BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
				 BIT_ULL(VIRTIO_F_ANY_LAYOUT) | \
				 BIT_ULL(VIRTIO_F_VERSION_1) | \
				 BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) | \
				 BIT_ULL(VHOST_F_LOG_ALL))

#define VHOST_BLK_BIND_FLAGS	(VHOST_BLK_BIND_READ_ONLY | \
				 VHOST_BLK_BIND_SHARED)

#define VHOST_BLK_BACKEND_FEATURES	BIT_ULL(VHOST_BACKEND_F_IOTLB_MSG_V2)

/* How long the last close of a device waits for what is in flight. */
#define VHOST_BLK_RELEASE_TIMEOUT	HZ

static atomic_t vhost_blk_next_id = ATOMIC_INIT(0);

struct workqueue_struct *vhost_blk_wq;

/*
 * What is offered as long as the device is bound. It may lose abilities (a disk
 * whose first write zeroes fails does), but a driver that has negotiated them has
 * to get through a stop and a start, also where the VMM binds the same device
 * again in between; its requests are unsupported then.
 */
static u64 vhost_blk_bind_features(const struct vhost_blk *blk,
				   struct vhost_blk_backing *backing)
{
	u64 features = VHOST_BLK_RING_FEATURES |
		       vhost_blk_backing_features(backing);

	if (blk->num_queues > 1)
		features |= BIT_ULL(VIRTIO_BLK_F_MQ);
	if (blk->backing && vhost_blk_backing_is_same(blk->backing, backing)) {
		features |= blk->features;
		vhost_blk_backing_keep_offer(backing, blk->backing);
	}
	return features;
}

static void vhost_blk_free_queues(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; blk->queues && i < blk->num_queues; i++)
		if (blk->queues[i])
			vhost_blk_queue_free(blk->queues[i]);
	kvfree(blk->queues);
	kvfree(blk->vqs);
	blk->queues = NULL;
	blk->vqs = NULL;
	blk->num_queues = 0;
}

/* The queues, and with them vhost core's part of the device. */
static int vhost_blk_alloc_queues(struct vhost_blk *blk, unsigned int num)
{
	unsigned int i;

	blk->num_queues = num;
	blk->queues = kvcalloc(num, sizeof(*blk->queues), GFP_KERNEL_ACCOUNT);
	blk->vqs = kvcalloc(num, sizeof(*blk->vqs), GFP_KERNEL_ACCOUNT);
	if (!blk->queues || !blk->vqs)
		goto err;

	for (i = 0; i < num; i++) {
		blk->queues[i] = kvzalloc_obj(*blk->queues[i],
					      GFP_KERNEL_ACCOUNT);
		if (!blk->queues[i])
			goto err;
		vhost_blk_queue_init(blk->queues[i], blk, i);
		blk->vqs[i] = &blk->queues[i]->vq;
	}
	vhost_dev_init(&blk->dev, blk->vqs, num, UIO_MAXIOV, 0, 0, true, NULL);
	/* For those who don't hold the lock: from here on all of it is there. */
	smp_store_release(&blk->bound, true);
	return 0;
err:
	vhost_blk_free_queues(blk);
	return -ENOMEM;
}

static int vhost_blk_check_bind(const struct vhost_blk *blk,
				const struct vhost_blk_bind *bind)
{
	if (bind->flags & ~VHOST_BLK_BIND_FLAGS || bind->reserved)
		return -EINVAL;
	if (!bind->num_queues || bind->num_queues > VHOST_BLK_MAX_QUEUES)
		return -EINVAL;
	if (!blk->bound)
		return 0;
	if (blk->running)
		return -EBUSY;
	if (bind->num_queues != blk->num_queues)
		return -EINVAL;
	return blk->dev.mm && blk->dev.mm != current->mm ? -EPERM : 0;
}

static long vhost_blk_bind(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_backing *backing;
	struct vhost_blk_bind bind;
	struct file *user;
	int ret;

	if (copy_from_user(&bind, argp, sizeof(bind)))
		return -EFAULT;
	ret = vhost_blk_check_bind(blk, &bind);
	if (ret)
		return ret;

	user = fget(bind.fd);
	if (!user)
		return -EBADF;
	backing = vhost_blk_backing_open(user,
					 bind.flags & VHOST_BLK_BIND_READ_ONLY,
					 bind.flags & VHOST_BLK_BIND_SHARED ?
					 NULL : &blk->holder);
	fput(user);
	if (IS_ERR(backing))
		return PTR_ERR(backing);
	if (!blk->bound) {
		ret = vhost_blk_alloc_queues(blk, bind.num_queues);
		if (ret) {
			vhost_blk_backing_close(backing);
			return ret;
		}
	}
	blk->features = vhost_blk_bind_features(blk, backing);
	vhost_blk_backing_close(blk->backing);
	blk->backing = backing;
	blk->write_back = true;
	memcpy(blk->serial, bind.serial, sizeof(blk->serial));
	return 0;
}

static long vhost_blk_get_config(struct vhost_blk *blk, void __user *argp)
{
	struct virtio_blk_config config = {};
	struct vhost_blk_config want;
	u32 known;

	if (copy_from_user(&want, argp, sizeof(want)))
		return -EFAULT;
	if (want.size > VHOST_BLK_MAX_CONFIG)
		return -E2BIG;

	vhost_blk_backing_config(blk->backing, &config);
	config.wce = blk->write_back &&
		     vhost_blk_backing_write_cache(blk->backing);
	config.num_queues = __cpu_to_virtio16(true, blk->num_queues);

	argp += offsetof(struct vhost_blk_config, data);
	known = want.offset < sizeof(config) ?
		min_t(u32, want.size, sizeof(config) - want.offset) : 0;
	if (copy_to_user(argp, (u8 *)&config + want.offset, known) ||
	    clear_user(argp + known, want.size - known))
		return -EFAULT;
	return 0;
}

/* With @dev's mutex, as long as which the answer holds. */
static bool vhost_blk_can_write_used(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++)
		if (!vhost_blk_queue_can_write_used(blk->queues[i]))
			return false;
	return true;
}

/* The owner alone may do what reads or writes the guest's memory. */
static long vhost_blk_check_owner(struct vhost_blk *blk)
{
	long ret = vhost_dev_check_owner(&blk->dev);

	return ret ?: vhost_blk_can_write_used(blk) ? 0 : -EAGAIN;
}

/*
 * Wait until nothing that was fetched before is in flight. 0, or -EINTR if the caller
 * is being killed.
 */
static int vhost_blk_drain(struct vhost_blk *blk)
{
	long timeout = MAX_SCHEDULE_TIMEOUT;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < blk->num_queues && !ret; i++) {
		mutex_lock(&blk->vqs[i]->mutex);
		ret = vhost_blk_queue_drain(blk->queues[i], true, &timeout);
		mutex_unlock(&blk->vqs[i]->mutex);
	}
	return ret;
}

/*
 * Virtio 1.4, section 5.2.5.2: how writes are cached, at any time. On an error it is
 * as it was: no write that has ended is taken for durable.
 */
static long vhost_blk_set_write_back(struct vhost_blk *blk, bool write_back)
{
	bool through = blk->write_back && !write_back;
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_blk_check_owner(blk);
	if (!ret) {
		WRITE_ONCE(blk->write_back, write_back);
		/* What began as write-back ends so, and then is made durable. */
		if (through)
			ret = vhost_blk_drain(blk);
	}
	mutex_unlock(&blk->dev.mutex);
	if (!ret && through && !vhost_blk_backing_read_only(blk->backing))
		ret = vhost_blk_backing_flush(blk->backing);
	if (ret && through)
		WRITE_ONCE(blk->write_back, true);
	return ret;
}

static long vhost_blk_set_config(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_config config;
	u8 write_back;

	if (copy_from_user(&config, argp, sizeof(config)) ||
	    copy_from_user(&write_back,
			   argp + offsetof(struct vhost_blk_config, data), 1))
		return -EFAULT;
	if (config.offset != offsetof(struct virtio_blk_config, wce) ||
	    config.size != 1 || write_back > 1)
		return -EINVAL;
	if (!(blk->features & BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE)))
		return -EOPNOTSUPP;
	return vhost_blk_set_write_back(blk, write_back);
}

/* Names are read without a lock, and stand in lines of text. */
static long vhost_blk_set_name(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_name name;
	unsigned int i, len;

	if (copy_from_user(&name, argp, sizeof(name)))
		return -EFAULT;
	len = strnlen(name.name, sizeof(name.name));
	if (len == sizeof(name.name))
		return -EINVAL;
	for (i = 0; i < len; i++)
		if (!isascii(name.name[i]) || !isgraph(name.name[i]))
			return -EINVAL;
	if (blk->running)
		return -EBUSY;
	strscpy_pad(blk->name, name.name);
	return 0;
}

static void vhost_blk_schedule_capacity_check(struct vhost_blk *blk)
{
	queue_delayed_work(system_freezable_power_efficient_wq,
			   &blk->config_work, VHOST_BLK_CAPACITY_INTERVAL);
}

/*
 * The block layer tells user space of a new capacity (a uevent), but nobody in
 * the kernel, so that it has to be asked. Only the removal of a claimed device is
 * told: vhost_blk_gone(). An ioctl may wait for a device that hangs: then there is
 * nothing new either.
 */
static void vhost_blk_config_work(struct work_struct *work)
{
	struct vhost_blk *blk = container_of(to_delayed_work(work),
					     struct vhost_blk, config_work);
	u64 capacity;

	if (!mutex_trylock(&blk->lock)) {
		vhost_blk_schedule_capacity_check(blk);
		return;
	}
	if (blk->config_call) {
		capacity = vhost_blk_backing_capacity(blk->backing);
		if (capacity != blk->capacity)
			eventfd_signal(blk->config_call);
		blk->capacity = capacity;
		vhost_blk_schedule_capacity_check(blk);
	}
	mutex_unlock(&blk->lock);
}

/* The claimed device is being removed: @config_work looks at it at once. */
static void vhost_blk_gone(struct vhost_blk_holder *holder)
{
	struct vhost_blk *blk = container_of(holder, struct vhost_blk, holder);

	mod_delayed_work(system_freezable_power_efficient_wq,
			 &blk->config_work, 0);
}

static long vhost_blk_set_config_call(struct vhost_blk *blk, void __user *argp)
{
	struct eventfd_ctx *call = NULL;
	s32 fd;

	if (copy_from_user(&fd, argp, sizeof(fd)))
		return -EFAULT;
	if (fd != -1) {
		call = eventfd_ctx_fdget(fd);
		if (IS_ERR(call))
			return PTR_ERR(call);
	}
	swap(blk->config_call, call);
	if (call)
		eventfd_ctx_put(call);
	blk->capacity = vhost_blk_backing_capacity(blk->backing);
	if (blk->config_call)
		vhost_blk_schedule_capacity_check(blk);
	return 0;
}

static long vhost_blk_get_features(struct vhost_blk *blk, void __user *argp)
{
	return copy_to_user(argp, &blk->features, sizeof(blk->features)) ?
	       -EFAULT : 0;
}

/* Whether vhost core is ready for the features; with @dev's mutex. */
static long vhost_blk_prepare_features(struct vhost_blk *blk, u64 features)
{
	u64 change = features ^ blk->vqs[0]->acked_features;

	if (features & ~blk->features)
		return -EOPNOTSUPP;
	/* Migration begins and ends while the guest runs. */
	if (blk->running && change & ~BIT_ULL(VHOST_F_LOG_ALL))
		return -EBUSY;
	if (features & BIT_ULL(VHOST_F_LOG_ALL) &&
	    !vhost_log_access_ok(&blk->dev))
		return -EFAULT;
	if (blk->running)
		return 0;
	/*
	 * A VMM sets the features for each start. What was mapped for the one before
	 * may be something else by now: nobody says so between a stop and a start.
	 * What was asked for and not answered will not be: newer kernels would not
	 * ask anything else for its queue.
	 */
	if (features & BIT_ULL(VIRTIO_F_ACCESS_PLATFORM)) {
		vhost_clear_msg(&blk->dev);
		return vhost_init_device_iotlb(&blk->dev);
	}
	if (change & BIT_ULL(VIRTIO_F_ACCESS_PLATFORM))
		vhost_clear_device_iotlb(&blk->dev);
	return 0;
}

static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	long timeout = MAX_SCHEDULE_TIMEOUT;
	unsigned int i;
	u64 features;
	long ret;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_has_owner(&blk->dev) ? vhost_blk_check_owner(blk) : 0;
	if (!ret)
		ret = vhost_blk_prepare_features(blk, features);
	for (i = 0; i < blk->num_queues && !ret; i++) {
		struct vhost_virtqueue *vq = blk->vqs[i];

		mutex_lock(&vq->mutex);
		/* A request is logged from its fetch on, or not at all. */
		if (blk->running)
			ret = vhost_blk_queue_drain(blk->queues[i], true,
						    &timeout);
		if (!ret) {
			vq->acked_features = features;
			vhost_blk_fetch_choose_path(blk->queues[i]);
		}
		mutex_unlock(&vq->mutex);
	}
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static long vhost_blk_get_backend_features(void __user *argp)
{
	u64 features = VHOST_BLK_BACKEND_FEATURES;

	return copy_to_user(argp, &features, sizeof(features)) ? -EFAULT : 0;
}

static long vhost_blk_set_backend_features(struct vhost_blk *blk,
					   void __user *argp)
{
	u64 features;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_BACKEND_FEATURES)
		return -EOPNOTSUPP;
	vhost_set_backend_features(&blk->dev, features);
	return 0;
}

/* Whether a ring has anything in flight, or could have. */
static bool vhost_blk_any_started(const struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++)
		if (blk->queues[i]->started)
			return true;
	return false;
}

/* No ring runs any more. */
static void vhost_blk_mark_stopped(struct vhost_blk *blk)
{
	if (blk->running)
		vhost_blk_backing_invalidate_cache(blk->backing);
	blk->running = false;
}

/*
 * Stop the rings. On an error, one of vhost_blk_queue_stop(), nothing is fetched any
 * more, the device still counts as running, and this is to be repeated.
 */
static int vhost_blk_stop(struct vhost_blk *blk, bool write_used, long timeout)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < blk->num_queues && !ret; i++)
		ret = vhost_blk_queue_stop(blk->queues[i], write_used, &timeout);
	if (!ret)
		vhost_blk_mark_stopped(blk);
	return ret;
}

/* The device runs as long as one ring does. */
static int vhost_blk_stop_ring(struct vhost_blk *blk, unsigned int index)
{
	long timeout = MAX_SCHEDULE_TIMEOUT;
	int ret = vhost_blk_queue_stop(blk->queues[index], true, &timeout);

	if (!ret && !vhost_blk_any_started(blk))
		vhost_blk_mark_stopped(blk);
	return ret;
}

/* A stop that was interrupted comes to its end before. */
static int vhost_blk_start_queue(struct vhost_blk_queue *queue)
{
	long timeout = MAX_SCHEDULE_TIMEOUT;
	int ret;

	if (queue->started && !vhost_vq_get_backend(&queue->vq)) {
		ret = vhost_blk_queue_stop(queue, true, &timeout);
		if (ret)
			return ret;
	}
	if (queue->started)
		return 0;
	mutex_lock(&queue->vq.mutex);
	ret = vhost_blk_queue_start(queue);
	mutex_unlock(&queue->vq.mutex);
	return ret;
}

/* Whether the features fit: the device may have been bound again since they were set. */
static bool vhost_blk_can_start(const struct vhost_blk *blk)
{
	return !(blk->vqs[0]->acked_features & ~blk->features);
}

/* On an error no ring runs. */
static long vhost_blk_start(struct vhost_blk *blk)
{
	unsigned int i;
	int ret = 0;

	if (!vhost_blk_can_start(blk))
		return -EOPNOTSUPP;
	blk->running = true;
	for (i = 0; i < blk->num_queues && !ret; i++)
		ret = vhost_blk_start_queue(blk->queues[i]);
	if (ret)
		vhost_blk_stop(blk, true, MAX_SCHEDULE_TIMEOUT);
	return ret;
}

static long vhost_blk_start_ring(struct vhost_blk *blk, unsigned int index)
{
	int ret;

	if (!vhost_blk_can_start(blk))
		return -EOPNOTSUPP;
	ret = vhost_blk_start_queue(blk->queues[index]);
	/* One without addresses. */
	if (!ret && !blk->queues[index]->started)
		ret = -EINVAL;
	if (!ret)
		blk->running = true;
	else if (!vhost_blk_any_started(blk))
		/* A stop that was interrupted has come to its end, no more. */
		vhost_blk_mark_stopped(blk);
	return ret;
}

static long vhost_blk_set_running(struct vhost_blk *blk, void __user *argp)
{
	u32 running;
	long ret;

	if (copy_from_user(&running, argp, sizeof(running)))
		return -EFAULT;
	if (running > 1)
		return -EINVAL;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_blk_check_owner(blk);
	if (!ret && running)
		ret = vhost_blk_start(blk);
	else if (!ret)
		ret = vhost_blk_stop(blk, true, MAX_SCHEDULE_TIMEOUT);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static long vhost_blk_set_vring_running(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_vring_state state;
	long ret;

	if (copy_from_user(&state, argp, sizeof(state)))
		return -EFAULT;
	if (state.num > 1)
		return -EINVAL;
	if (state.index >= blk->num_queues)
		return -ENOBUFS;
	state.index = array_index_nospec(state.index, blk->num_queues);

	mutex_lock(&blk->dev.mutex);
	ret = vhost_blk_check_owner(blk);
	if (!ret && state.num)
		ret = vhost_blk_start_ring(blk, state.index);
	else if (!ret)
		ret = vhost_blk_stop_ring(blk, state.index);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static long vhost_blk_set_vring_inflight(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_vring_inflight inflight;
	struct vhost_blk_queue *queue;
	long ret;

	if (copy_from_user(&inflight, argp, sizeof(inflight)))
		return -EFAULT;
	if (inflight.reserved || !IS_ALIGNED(inflight.addr, sizeof(u64)))
		return -EINVAL;
	if (inflight.index >= blk->num_queues)
		return -ENOBUFS;
	queue = blk->queues[array_index_nospec(inflight.index, blk->num_queues)];

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_check_owner(&blk->dev);
	if (!ret && queue->started)
		ret = -EBUSY;
	if (!ret)
		queue->record.addr = inflight.addr;
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

/*
 * Of a stopped device: everything of the owner's that vhost core has is gone
 * afterwards, and another process can become the owner. The worker stops for good:
 * after the grace period nothing queues work for it, and after the flush it has none.
 */
static void vhost_blk_quiesce(struct vhost_blk *blk)
{
	vhost_dev_stop(&blk->dev);
	synchronize_rcu();
	vhost_dev_flush(&blk->dev);
}

static long vhost_blk_reset_owner(struct vhost_blk *blk)
{
	struct vhost_iotlb *umem;
	unsigned int i;
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_blk_check_owner(blk);
	if (!ret)
		ret = vhost_blk_stop(blk, true, MAX_SCHEDULE_TIMEOUT);
	if (ret)
		goto out;
	umem = vhost_dev_reset_owner_prepare();
	if (!umem) {
		ret = -ENOMEM;
		goto out;
	}
	vhost_blk_quiesce(blk);
	for (i = 0; i < blk->num_queues; i++)
		blk->queues[i]->record.addr = 0;
	vhost_dev_reset_owner(&blk->dev, umem);
out:
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static long vhost_blk_core_ioctl(struct vhost_blk *blk, unsigned int cmd,
				 void __user *argp)
{
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_ioctl(&blk->dev, cmd, argp);
	if (ret == -ENOIOCTLCMD)
		ret = vhost_vring_ioctl(&blk->dev, cmd, argp);
	/*
	 * No answer may go to an address of the table that was replaced. With an
	 * IOTLB the table is for the dirty log only.
	 */
	if (cmd == VHOST_SET_MEM_TABLE && !ret && vhost_blk_can_write_used(blk))
		ret = vhost_blk_drain(blk);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static long vhost_blk_worker_ioctl(struct vhost_blk *blk, unsigned int cmd,
				   void __user *argp)
{
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_worker_ioctl(&blk->dev, cmd, argp);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static long vhost_blk_bound_ioctl(struct vhost_blk *blk, unsigned int cmd,
				  void __user *argp)
{
	switch (cmd) {
	case VHOST_BLK_GET_CONFIG:
		return vhost_blk_get_config(blk, argp);
	case VHOST_BLK_SET_RUNNING:
		return vhost_blk_set_running(blk, argp);
	case VHOST_BLK_SET_VRING_RUNNING:
		return vhost_blk_set_vring_running(blk, argp);
	case VHOST_BLK_SET_VRING_INFLIGHT:
		return vhost_blk_set_vring_inflight(blk, argp);
	case VHOST_BLK_SET_CONFIG:
		return vhost_blk_set_config(blk, argp);
	case VHOST_BLK_SET_CONFIG_CALL:
		return vhost_blk_set_config_call(blk, argp);
	case VHOST_BLK_SET_NAME:
		return vhost_blk_set_name(blk, argp);
	case VHOST_GET_FEATURES:
		return vhost_blk_get_features(blk, argp);
	case VHOST_SET_FEATURES:
		return vhost_blk_set_features(blk, argp);
	case VHOST_GET_BACKEND_FEATURES:
		return vhost_blk_get_backend_features(argp);
	case VHOST_SET_BACKEND_FEATURES:
		return vhost_blk_set_backend_features(blk, argp);
	case VHOST_RESET_OWNER:
		return vhost_blk_reset_owner(blk);
	case VHOST_NEW_WORKER:
	case VHOST_FREE_WORKER:
	case VHOST_ATTACH_VRING_WORKER:
	case VHOST_GET_VRING_WORKER:
		return vhost_blk_worker_ioctl(blk, cmd, argp);
	default:
		return vhost_blk_core_ioctl(blk, cmd, argp);
	}
}

static long vhost_blk_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	struct vhost_blk *blk = file->private_data;
	void __user *argp = (void __user *)arg;
	long ret;

	/* vhost core would read an argument for any number. */
	if (_IOC_TYPE(cmd) != VHOST_VIRTIO)
		return -ENOTTY;

	mutex_lock(&blk->lock);
	if (cmd == VHOST_BLK_BIND)
		ret = vhost_blk_bind(blk, argp);
	else if (!blk->bound)
		ret = -ENODEV;
	else
		ret = vhost_blk_bound_ioctl(blk, cmd, argp);
	mutex_unlock(&blk->lock);
	return ret;
}

static bool vhost_blk_is_bound(const struct vhost_blk *blk)
{
	/* Pairs with vhost_blk_alloc_queues(), for who doesn't hold the lock. */
	return smp_load_acquire(&blk->bound);
}

/* Misses of the IOTLB are read from the device, updates written to it. */
static ssize_t vhost_blk_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct file *file = iocb->ki_filp;
	struct vhost_blk *blk = file->private_data;

	if (!vhost_blk_is_bound(blk))
		return -ENODEV;
	return vhost_chr_read_iter(&blk->dev, to, file->f_flags & O_NONBLOCK ||
				   iocb->ki_flags & IOCB_NOWAIT);
}

/* A message, in either version. */
union vhost_blk_message {
	int type;
	struct vhost_msg v1;
	struct vhost_msg_v2 v2;
};

/*
 * On return from the message that takes a translation away nothing of it is touched
 * any more.
 */
static int vhost_blk_prepare_invalidation(struct vhost_blk *blk,
					  const union vhost_blk_message *msg)
{
	const struct vhost_iotlb_msg *iotlb = msg->type == VHOST_IOTLB_MSG_V2 ?
					      &msg->v2.iotlb : &msg->v1.iotlb;
	long timeout = MAX_SCHEDULE_TIMEOUT;
	unsigned int i;
	int ret = 0;

	if (iotlb->type != VHOST_IOTLB_INVALIDATE)
		return 0;
	for (i = 0; i < blk->num_queues && !ret; i++)
		ret = vhost_blk_queue_pause(blk->queues[i], iotlb->iova,
					    iotlb->iova + iotlb->size - 1,
					    &timeout);
	return ret;
}

/* With @lock, so that the owner stays who it is. */
static ssize_t vhost_blk_handle_iotlb_msg(struct vhost_blk *blk, struct iov_iter *from)
{
	union vhost_blk_message msg = {};
	struct kvec kvec = { .iov_base = &msg };
	struct iov_iter iter;
	unsigned int i;
	ssize_t ret;

	kvec.iov_len = copy_from_iter(&msg, sizeof(msg), from);
	iov_iter_kvec(&iter, ITER_SOURCE, &kvec, 1, kvec.iov_len);

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_check_owner(&blk->dev);
	if (ret) {
		mutex_unlock(&blk->dev.mutex);
		return ret;
	}
	ret = vhost_blk_prepare_invalidation(blk, &msg);
	mutex_unlock(&blk->dev.mutex);
	if (!ret)
		ret = vhost_chr_write_iter(&blk->dev, &iter);
	/* Who waits for another translation asks for it anew. */
	vhost_clear_msg(&blk->dev);
	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_resume(blk->queues[i]);
	return ret;
}

static ssize_t vhost_blk_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;
	ssize_t ret;

	if (!vhost_blk_is_bound(blk))
		return -ENODEV;
	if (mutex_lock_killable(&blk->lock))
		return -EINTR;
	ret = vhost_blk_handle_iotlb_msg(blk, from);
	mutex_unlock(&blk->lock);
	return ret;
}

static __poll_t vhost_blk_poll(struct file *file, poll_table *wait)
{
	struct vhost_blk *blk = file->private_data;

	if (!vhost_blk_is_bound(blk))
		return EPOLLERR;
	return vhost_chr_poll(file, &blk->dev, wait);
}

static void vhost_blk_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct vhost_blk *blk = file->private_data;
	unsigned int i;

	seq_printf(seq, "vhost-blk-id:\t%u\n", blk->id);
	if (!vhost_blk_is_bound(blk))
		return;
	/* A long stop must not hold up who wants to know why it is long. */
	if (mutex_trylock(&blk->lock)) {
		struct block_device *bdev = vhost_blk_backing_bdev(blk->backing);

		if (*blk->name)
			seq_printf(seq, "name:\t%s\n", blk->name);
		seq_printf(seq, "backing:\t%u:%u\n", MAJOR(bdev->bd_dev),
			   MINOR(bdev->bd_dev));
		seq_printf(seq, "running:\t%d\n", blk->running);
		mutex_unlock(&blk->lock);
	}
	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_show(blk->queues[i], seq);
}

/* Of a stopped device, or one that was never bound. */
static void vhost_blk_destroy(struct vhost_blk *blk)
{
	if (blk->bound) {
		vhost_blk_quiesce(blk);
		vhost_dev_cleanup(&blk->dev);
	}
	vhost_blk_free_queues(blk);
	vhost_blk_backing_close(blk->backing);
	kvfree(blk);
}

static void vhost_blk_release_work(struct work_struct *work)
{
	struct vhost_blk *blk = container_of(work, struct vhost_blk,
					     release_work);

	/* Nobody can kill this. */
	vhost_blk_stop(blk, false, MAX_SCHEDULE_TIMEOUT);
	vhost_blk_destroy(blk);
	/* The module's end waits for this function's. */
	module_put(THIS_MODULE);
}

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk;

	blk = kvzalloc_obj(*blk, GFP_KERNEL_ACCOUNT);
	if (!blk)
		return -ENOMEM;
	mutex_init(&blk->lock);
	INIT_DELAYED_WORK(&blk->config_work, vhost_blk_config_work);
	INIT_WORK(&blk->release_work, vhost_blk_release_work);
	blk->holder.gone = vhost_blk_gone;
	blk->id = atomic_inc_return(&vhost_blk_next_id);
	file->private_data = blk;
	return 0;
}

/*
 * The owner may be gone and any other process current: guest memory is left alone.
 * A process that ends doesn't wait for a device that is stuck: what is in flight then
 * ends behind its back, and the claim of the device with it.
 */
static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	/* The device can go until it is closed, and then nothing looks at it. */
	disable_delayed_work_sync(&blk->config_work);
	if (blk->config_call)
		eventfd_ctx_put(blk->config_call);
	if (blk->bound &&
	    vhost_blk_stop(blk, false, VHOST_BLK_RELEASE_TIMEOUT)) {
		__module_get(THIS_MODULE);
		queue_work(vhost_blk_wq, &blk->release_work);
		return 0;
	}
	vhost_blk_destroy(blk);
	return 0;
}

static const struct file_operations vhost_blk_fops = {
	.owner		= THIS_MODULE,
	.open		= vhost_blk_open,
	.release	= vhost_blk_release,
	.read_iter	= vhost_blk_read_iter,
	.write_iter	= vhost_blk_write_iter,
	.poll		= vhost_blk_poll,
	.unlocked_ioctl	= vhost_blk_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= vhost_blk_show_fdinfo,
	.llseek		= noop_llseek,
};

static struct miscdevice vhost_blk_misc = {
	.minor	= VHOST_BLK_MINOR,
	.name	= "vhost-blk",
	.fops	= &vhost_blk_fops,
};

static int __init vhost_blk_init(void)
{
	int ret;

	vhost_blk_wq = alloc_workqueue("vhost_blk", WQ_UNBOUND, 0);
	if (!vhost_blk_wq)
		return -ENOMEM;
	ret = misc_register(&vhost_blk_misc);
	if (ret)
		destroy_workqueue(vhost_blk_wq);
	if (ret == -EBUSY)
		pr_err("vhost_blk: another module has misc device number %d or the name vhost-blk (see /proc/misc); unload it first\n",
		       VHOST_BLK_MINOR);
	return ret;
}
module_init(vhost_blk_init);

static void __exit vhost_blk_exit(void)
{
	misc_deregister(&vhost_blk_misc);
	destroy_workqueue(vhost_blk_wq);
}
module_exit(vhost_blk_exit);

MODULE_DESCRIPTION("Host kernel backend for virtio-blk");
MODULE_LICENSE("GPL");
MODULE_ALIAS_MISCDEV(VHOST_BLK_MINOR);
MODULE_ALIAS("devname:vhost-blk");
