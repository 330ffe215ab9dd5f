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
 * Stopping and releasing wait until nothing is in flight, so that no bio, no
 * worker and no write to guest memory outlives them.
 *
 * Locks, outermost first: &struct vhost_blk.lock serializes the ioctls, vhost
 * core's device mutex protects what vhost core keeps of the device, and a
 * virtqueue's mutex protects a queue. Completions take none of them.
 */
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "blk.h"

/*
 * From the range for local use, and fixed: kmod makes the device node before
 * the module is loaded only of a number it knows, and opening it loads the
 * module.
 */
#define VHOST_BLK_MINOR	250

/* The requests of one queue that a worker starts before it looks at another. */
#define VHOST_BLK_BURST	256

/* More than any configuration space will ever have, in bytes. */
#define VHOST_BLK_MAX_CONFIG	4096

/* Bits that the rings bring, beside those of the block device. */
#define VHOST_BLK_RING_FEATURES	(BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) | \
				 BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
				 BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
				 BIT_ULL(VIRTIO_F_ANY_LAYOUT) | \
				 BIT_ULL(VIRTIO_F_VERSION_1))

static u64 vhost_blk_features(const struct vhost_blk *blk)
{
	u64 features = VHOST_BLK_RING_FEATURES |
		       vhost_blk_backing_features(blk->backing);

	if (blk->num_queues > 1)
		features |= BIT_ULL(VIRTIO_BLK_F_MQ);
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
		vhost_blk_queue_init(blk->queues[i], blk);
		blk->vqs[i] = &blk->queues[i]->vq;
	}
	vhost_dev_init(&blk->dev, blk->vqs, num, UIO_MAXIOV, VHOST_BLK_BURST, 0,
		       true, NULL);
	return 0;
err:
	vhost_blk_free_queues(blk);
	return -ENOMEM;
}

static int vhost_blk_check_bind(const struct vhost_blk *blk,
				const struct vhost_blk_bind *bind)
{
	if (bind->flags & ~VHOST_BLK_BIND_READ_ONLY || bind->reserved)
		return -EINVAL;
	if (!bind->num_queues || bind->num_queues > VHOST_BLK_MAX_QUEUES)
		return -EINVAL;
	if (!blk->num_queues)
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
					 blk);
	fput(user);
	if (IS_ERR(backing))
		return PTR_ERR(backing);
	if (!blk->num_queues) {
		ret = vhost_blk_alloc_queues(blk, bind.num_queues);
		if (ret) {
			vhost_blk_backing_close(backing);
			return ret;
		}
	}
	vhost_blk_backing_close(blk->backing);
	blk->backing = backing;
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
	/* FLUSH without CONFIG_WCE means that the cache is on. */
	config.wce = vhost_blk_backing_write_cache(blk->backing);
	config.num_queues = __cpu_to_virtio16(true, blk->num_queues);

	argp += offsetof(struct vhost_blk_config, data);
	known = want.offset < sizeof(config) ?
		min_t(u32, want.size, sizeof(config) - want.offset) : 0;
	if (copy_to_user(argp, (u8 *)&config + want.offset, known) ||
	    clear_user(argp + known, want.size - known))
		return -EFAULT;
	return 0;
}

static long vhost_blk_get_features(struct vhost_blk *blk, void __user *argp)
{
	u64 features = vhost_blk_features(blk);

	return copy_to_user(argp, &features, sizeof(features)) ? -EFAULT : 0;
}

static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	unsigned int i;
	u64 features;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~vhost_blk_features(blk))
		return -EOPNOTSUPP;
	if (blk->running)
		return -EBUSY;

	for (i = 0; i < blk->num_queues; i++) {
		struct vhost_virtqueue *vq = blk->vqs[i];

		mutex_lock(&vq->mutex);
		vq->acked_features = features;
		mutex_unlock(&vq->mutex);
	}
	return 0;
}

static void vhost_blk_stop(struct vhost_blk *blk, bool answer)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_stop(blk->queues[i], answer);
	blk->running = false;
}

static long vhost_blk_start(struct vhost_blk *blk)
{
	unsigned int i;
	int ret = 0;

	if (blk->running)
		return 0;
	/* Bound again since the features were set, to a device with less. */
	if (blk->vqs[0]->acked_features & ~vhost_blk_features(blk))
		return -EOPNOTSUPP;

	for (i = 0; i < blk->num_queues && !ret; i++) {
		mutex_lock(&blk->vqs[i]->mutex);
		ret = vhost_blk_queue_start(blk->queues[i]);
		mutex_unlock(&blk->vqs[i]->mutex);
	}
	if (ret)
		vhost_blk_stop(blk, true);
	else
		blk->running = true;
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
	ret = vhost_dev_check_owner(&blk->dev);
	if (!ret && running)
		ret = vhost_blk_start(blk);
	else if (!ret)
		vhost_blk_stop(blk, true);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

/* No answer may go to an address of the memory table that was replaced. */
static void vhost_blk_drain(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++) {
		mutex_lock(&blk->vqs[i]->mutex);
		vhost_blk_queue_drain(blk->queues[i], true);
		mutex_unlock(&blk->vqs[i]->mutex);
	}
}

static long vhost_blk_core_ioctl(struct vhost_blk *blk, unsigned int cmd,
				 void __user *argp)
{
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_ioctl(&blk->dev, cmd, argp);
	if (ret == -ENOIOCTLCMD)
		ret = vhost_vring_ioctl(&blk->dev, cmd, argp);
	else if (cmd == VHOST_SET_MEM_TABLE && !ret)
		vhost_blk_drain(blk);
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
	case VHOST_GET_FEATURES:
		return vhost_blk_get_features(blk, argp);
	case VHOST_SET_FEATURES:
		return vhost_blk_set_features(blk, argp);
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
	else if (!blk->num_queues)
		ret = -ENODEV;
	else
		ret = vhost_blk_bound_ioctl(blk, cmd, argp);
	mutex_unlock(&blk->lock);
	return ret;
}

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk;

	blk = kvzalloc_obj(*blk, GFP_KERNEL_ACCOUNT);
	if (!blk)
		return -ENOMEM;
	mutex_init(&blk->lock);
	file->private_data = blk;
	return 0;
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	if (blk->num_queues) {
		/*
		 * The owner may be gone and any other process current: guest
		 * memory is left alone.
		 */
		vhost_blk_stop(blk, false);
		vhost_dev_stop(&blk->dev);
		/*
		 * A completion that this drained may still be about to queue
		 * the worker. After it has, the worker runs dry.
		 */
		synchronize_rcu();
		vhost_dev_flush(&blk->dev);
		vhost_dev_cleanup(&blk->dev);
	}
	vhost_blk_free_queues(blk);
	vhost_blk_backing_close(blk->backing);
	kvfree(blk);
	return 0;
}

static const struct file_operations vhost_blk_fops = {
	.owner		= THIS_MODULE,
	.open		= vhost_blk_open,
	.release	= vhost_blk_release,
	.unlocked_ioctl	= vhost_blk_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice vhost_blk_misc = {
	.minor	= VHOST_BLK_MINOR,
	.name	= "vhost-blk",
	.fops	= &vhost_blk_fops,
};

static int __init vhost_blk_init(void)
{
	int ret = misc_register(&vhost_blk_misc);

	if (ret == -EBUSY)
		pr_err("vhost_blk: another module has misc device number %d or the name vhost-blk (see /proc/misc); unload it first\n",
		       VHOST_BLK_MINOR);
	return ret;
}
module_init(vhost_blk_init);

static void __exit vhost_blk_exit(void)
{
	misc_deregister(&vhost_blk_misc);
}
module_exit(vhost_blk_exit);

MODULE_DESCRIPTION("Host kernel backend for virtio-blk");
MODULE_LICENSE("GPL");
MODULE_ALIAS_MISCDEV(VHOST_BLK_MINOR);
MODULE_ALIAS("devname:vhost-blk");
