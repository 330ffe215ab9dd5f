// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk: a virtio-blk device that the host kernel serves from a block device.
 *
 * This file implements /dev/vhost-blk: bind, features, configuration space, start and
 * stop of the rings. blk.h has the path of a request and the list of files.
 *
 * A device goes through these states: open, bound (the queues exist from here on), owned
 * by a process, running, stopped, released. A stopped device can be bound and started
 * again.
 *
 * A stop waits until nothing is in flight. After it no bio and no worker touches guest
 * memory. A fatal signal interrupts the wait. A release waits for up to
 * VHOST_BLK_RELEASE_TIMEOUT. After that, release_work stops and frees the device.
 *
 * Locks, outermost first:
 *	vhost_blk.lock	serializes the ioctls
 *	dev.mutex	protects vhost core's state of the device
 *	vq.mutex	protects a queue
 *	direct.lock	protects the used ring of a queue among completions; a spinlock
 * Bio completions take only the last one.
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
#include <linux/vhost_iotlb.h>
#include <linux/wait_bit.h>

#include "blk.h"

#define CREATE_TRACE_POINTS
#include <trace/events/vhost_blk.h>

/*
 * From the range of minors for local use. It is fixed because kmod creates a device node
 * for an unloaded module only if its number is known. Opening that node loads the module.
 */
#define VHOST_BLK_MINOR	250

/* How often the capacity is checked while config_call is set. */
#define VHOST_BLK_CAPACITY_INTERVAL	HZ

/* The largest read of the configuration space, in bytes. More than any device has. */
#define VHOST_BLK_MAX_CONFIG	4096

/* Feature bits of the rings. The block device adds its own. */
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

/* More regions than vhost core accepts with any setting of its max_mem_regions. */
#define VHOST_BLK_MAX_REGIONS	U16_MAX

/* How long the last close of a device waits for requests in flight. */
#define VHOST_BLK_RELEASE_TIMEOUT	HZ

/* Between two looks at what is in flight after that. */
#define VHOST_BLK_RELEASE_INTERVAL	(HZ / 20)

static atomic_t vhost_blk_next_id = ATOMIC_INIT(0);

struct workqueue_struct *vhost_blk_wq;

/*
 * A bound device keeps all features that it once offered, even if the block device loses
 * an ability (a disk whose first write zeroes fails does so). A driver that negotiated
 * them must survive a stop and a start, and a new bind of the same device in between.
 * Requests that the device can't do any more end with VIRTIO_BLK_S_UNSUPP.
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

	if (blk->waiter.wq)
		destroy_workqueue(blk->waiter.wq);
	blk->waiter.wq = NULL;
	for (i = 0; blk->queues && i < blk->num_queues; i++)
		if (blk->queues[i])
			vhost_blk_queue_free(blk->queues[i]);
	kvfree(blk->queues);
	kvfree(blk->vqs);
	blk->queues = NULL;
	blk->vqs = NULL;
	blk->num_queues = 0;
}

/* Also initializes @waiter and @dev. Sets @bound on success. */
static int vhost_blk_alloc_queues(struct vhost_blk *blk, unsigned int num)
{
	unsigned int i;

	blk->num_queues = num;
	blk->queues = kvcalloc(num, sizeof(*blk->queues), GFP_KERNEL_ACCOUNT);
	blk->vqs = kvcalloc(num, sizeof(*blk->vqs), GFP_KERNEL_ACCOUNT);
	blk->waiter.wq = alloc_ordered_workqueue("vhost_blk/%u", 0, blk->id);
	if (!blk->queues || !blk->vqs || !blk->waiter.wq)
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
	/* Pairs with vhost_blk_is_bound(): readers without @lock see all of the above. */
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

/* Called with @dev's mutex. The result is valid until that is released. */
static bool vhost_blk_can_write_used(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++)
		if (!vhost_blk_queue_can_write_used(blk->queues[i]))
			return false;
	return true;
}

/* For calls that access guest memory: the caller must be the owner. */
static long vhost_blk_check_owner(struct vhost_blk *blk)
{
	long ret = vhost_dev_check_owner(&blk->dev);

	return ret ?: vhost_blk_can_write_used(blk) ? 0 : -EAGAIN;
}

/*
 * Wait until no request that was fetched before the call is in flight. Returns the
 * errors of vhost_blk_queue_drain().
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
 * Virtio 1.4, section 5.2.5.2. The cache mode can change at any time. If this fails, the
 * old mode stays: no write that has ended is taken for durable by mistake.
 */
static long vhost_blk_set_write_back(struct vhost_blk *blk, bool write_back)
{
	bool through = blk->write_back && !write_back;
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_blk_check_owner(blk);
	if (!ret) {
		WRITE_ONCE(blk->write_back, write_back);
		/* Writes that were fetched as write-back end before the flush below. */
		if (through)
			ret = vhost_blk_drain(blk);
	}
	mutex_unlock(&blk->dev.mutex);
	if (!ret && through && !vhost_blk_backing_read_only(blk->backing))
		ret = vhost_blk_backing_flush(blk->backing, &blk->waiter);
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

/*
 * Counters and trace events read the name without a lock. Therefore it can't change
 * while the device is running. They print it in lines of fields separated by spaces.
 */
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
 * The block layer reports a new capacity to user space (by a uevent), but to no one in
 * the kernel. Therefore this polls. Only the removal of a claimed device is reported:
 * see vhost_blk_gone().
 *
 * @lock is only tried. An ioctl that holds it may be waiting for a device that hangs.
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

/*
 * The claimed device is being removed: check its capacity now. Called with the block
 * device's bd_holder_lock, which a bind takes inside @lock. So this must not take @lock.
 */
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

/* Check @features and prepare the IOTLB. Called with @dev's mutex. */
static long vhost_blk_prepare_features(struct vhost_blk *blk, u64 features)
{
	u64 change = features ^ blk->vqs[0]->acked_features;

	if (features & ~blk->features)
		return -EOPNOTSUPP;
	/* VHOST_F_LOG_ALL changes while the guest runs, at both ends of a migration. */
	if (blk->running && change & ~BIT_ULL(VHOST_F_LOG_ALL))
		return -EBUSY;
	if (features & BIT_ULL(VHOST_F_LOG_ALL) &&
	    !vhost_log_access_ok(&blk->dev))
		return -EFAULT;
	if (blk->running)
		return 0;
	/*
	 * A VMM sets the features before each start. Drop the translations of the last
	 * run: no one invalidates them between a stop and a start. Drop its unanswered
	 * IOTLB misses as well: there will be no reply. Newer kernels send no other miss
	 * for a queue while one is pending.
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
		/* A request in flight must not see VHOST_F_LOG_ALL change. */
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

/* Whether any ring is started. Only a started ring can have requests in flight. */
static bool vhost_blk_any_started(const struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++)
		if (blk->queues[i]->started)
			return true;
	return false;
}

static void vhost_blk_mark_stopped(struct vhost_blk *blk)
{
	if (blk->running)
		vhost_blk_backing_invalidate_cache(blk->backing);
	blk->running = false;
}

/*
 * Stop all rings. They stop fetching before the first one is waited for. On an error of
 * vhost_blk_queue_stop() requests can still be in flight, and @running stays true. The
 * caller has to repeat the call.
 */
static int vhost_blk_stop(struct vhost_blk *blk, bool write_used, long timeout)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_stop_fetching(blk->queues[i]);
	for (i = 0; i < blk->num_queues && !ret; i++)
		ret = vhost_blk_queue_stop(blk->queues[i], write_used, &timeout);
	if (!ret)
		vhost_blk_mark_stopped(blk);
	return ret;
}

/* The device stays running while one ring is started. */
static int vhost_blk_stop_ring(struct vhost_blk *blk, unsigned int index)
{
	long timeout = MAX_SCHEDULE_TIMEOUT;
	int ret = vhost_blk_queue_stop(blk->queues[index], true, &timeout);

	if (!ret && !vhost_blk_any_started(blk))
		vhost_blk_mark_stopped(blk);
	return ret;
}

/* Whether the queue fetches nothing, but has requests in flight: a stop was interrupted. */
static bool vhost_blk_is_half_stopped(struct vhost_blk_queue *queue)
{
	return queue->started && !vhost_vq_get_backend(&queue->vq);
}

/* Finishes a stop that was interrupted, before the start. */
static int vhost_blk_start_queue(struct vhost_blk_queue *queue)
{
	long timeout = MAX_SCHEDULE_TIMEOUT;
	int ret;

	if (vhost_blk_is_half_stopped(queue)) {
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

/* A bind after VHOST_SET_FEATURES can have changed the features that are offered. */
static bool vhost_blk_can_start(const struct vhost_blk *blk)
{
	return !(blk->vqs[0]->acked_features & ~blk->features);
}

/* Start all rings that have addresses. On an error, stop all rings. */
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
	/* vhost_blk_queue_start() skips a ring without addresses. */
	if (!ret && !blk->queues[index]->started)
		ret = -EINVAL;
	if (!ret)
		blk->running = true;
	else if (!vhost_blk_any_started(blk))
		/* vhost_blk_start_queue() only finished an interrupted stop. */
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

/* Replace @memory. Returns the old one, which the caller has to put. */
static struct vhost_blk_memory *vhost_blk_use_memory(struct vhost_blk *blk,
						     struct vhost_blk_memory *memory)
{
	struct vhost_blk_memory *old = blk->memory;
	unsigned int i;

	blk->memory = memory;
	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_set_memory(blk->queues[i], memory);
	return old;
}

/* The regions of vhost core's memory table, if there is one. */
static int vhost_blk_add_current_regions(struct vhost_blk_memory *memory,
					 const struct vhost_iotlb *umem)
{
	const struct vhost_iotlb_map *map;
	int ret = 0;

	if (!umem)
		return 0;
	list_for_each_entry(map, &umem->list, link)
		ret = ret ?: vhost_blk_memory_add(memory, map->addr, map->size);
	return ret;
}

/* The regions of the memory table at @table, which vhost core will read again. */
static int vhost_blk_add_regions(struct vhost_blk_memory *memory, unsigned int num,
				 const struct vhost_memory __user *table)
{
	struct vhost_memory_region region;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < num && !ret; i++) {
		if (copy_from_user(&region, &table->regions[i], sizeof(region)))
			return -EFAULT;
		ret = vhost_blk_memory_add(memory, region.userspace_addr,
					   region.memory_size);
	}
	return ret;
}

/*
 * Pin the memory table at @table, or if this is NULL, the current one. If the owner changes
 * the table before vhost core reads it, some requests pin their own pages.
 */
static struct vhost_blk_memory *
vhost_blk_pin_mem_table(struct vhost_blk *blk, const struct vhost_memory __user *table)
{
	unsigned int num = blk->dev.umem ? blk->dev.umem->nmaps : 0;
	struct vhost_blk_memory *memory;
	int ret;

	if (table && get_user(num, &table->nregions))
		return ERR_PTR(-EFAULT);
	if (num > VHOST_BLK_MAX_REGIONS)
		return ERR_PTR(-E2BIG);
	memory = vhost_blk_memory_alloc(num);
	if (!memory)
		return ERR_PTR(-ENOMEM);
	if (table)
		ret = vhost_blk_add_regions(memory, num, table);
	else
		ret = vhost_blk_add_current_regions(memory, blk->dev.umem);
	if (!ret)
		ret = vhost_blk_memory_pin(memory, blk->memory);
	if (ret) {
		vhost_blk_memory_put(memory);
		return ERR_PTR(ret);
	}
	return memory;
}

static long vhost_blk_set_pin_memory(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_memory *memory = NULL;
	long ret;
	u32 pin;

	if (copy_from_user(&pin, argp, sizeof(pin)))
		return -EFAULT;
	if (pin > 1)
		return -EINVAL;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_check_owner(&blk->dev);
	if (!ret && pin && blk->running)
		ret = -EBUSY;
	if (!ret && pin) {
		memory = vhost_blk_pin_mem_table(blk, NULL);
		ret = PTR_ERR_OR_ZERO(memory);
	}
	if (!ret)
		memory = vhost_blk_use_memory(blk, memory);
	mutex_unlock(&blk->dev.mutex);
	if (!IS_ERR(memory))
		vhost_blk_memory_put(memory);
	return ret;
}

/*
 * Stop the worker of a stopped device for good, so that vhost core's state can be freed
 * and another process can become the owner. A completion may still be queueing work
 * inside its RCU read section. After the grace period none is. After the flush the
 * worker has no work.
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
	vhost_blk_memory_put(vhost_blk_use_memory(blk, NULL));
	vhost_dev_reset_owner(&blk->dev, umem);
out:
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

/*
 * In place of vhost core's: completions read the eventfd without the ring's mutex. Called
 * with @dev's mutex.
 */
static long vhost_blk_set_vring_call(struct vhost_blk *blk, void __user *argp)
{
	struct eventfd_ctx *call = NULL;
	struct vhost_vring_file file;
	struct vhost_blk_queue *queue;

	if (copy_from_user(&file, argp, sizeof(file)))
		return -EFAULT;
	if (file.index >= blk->num_queues)
		return -ENOBUFS;
	queue = blk->queues[array_index_nospec(file.index, blk->num_queues)];
	if (file.fd != VHOST_FILE_UNBIND) {
		call = eventfd_ctx_fdget(file.fd);
		if (IS_ERR(call))
			return PTR_ERR(call);
	}
	call = vhost_blk_direct_set_call(queue, call);
	if (call)
		eventfd_ctx_put(call);
	return 0;
}

static void vhost_blk_forget_mappings(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_forget_mappings(blk->queues[i]);
}

/*
 * With pinned memory all of the new table is pinned before it is set. If anything fails,
 * the old table stays.
 */
static long vhost_blk_set_mem_table(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_memory *memory = NULL;
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_check_owner(&blk->dev);
	if (!ret && blk->memory) {
		memory = vhost_blk_pin_mem_table(blk, argp);
		ret = PTR_ERR_OR_ZERO(memory);
	}
	if (!ret)
		ret = vhost_dev_ioctl(&blk->dev, VHOST_SET_MEM_TABLE, argp);
	if (!ret && memory)
		memory = vhost_blk_use_memory(blk, memory);
	if (!ret)
		vhost_blk_forget_mappings(blk);
	/*
	 * Requests in flight have addresses of the old table: finish them first. With an
	 * IOTLB only the dirty log uses the table.
	 */
	if (!ret && vhost_blk_can_write_used(blk))
		ret = vhost_blk_drain(blk);
	mutex_unlock(&blk->dev.mutex);
	if (!IS_ERR(memory))
		vhost_blk_memory_put(memory);
	return ret;
}

/*
 * vhost core lets a ring that fetches nothing change its size, index and addresses, and does
 * not check the addresses before the next start. After an interrupted stop it still has
 * requests in flight, whose used elements go where these say. The argument begins with the
 * ring's number. A VMM that changes this between here and vhost core is found out by
 * vhost_blk_queue_drain().
 */
static long vhost_blk_move_vring(struct vhost_blk *blk, unsigned int cmd, void __user *argp)
{
	u32 index;

	if (get_user(index, (u32 __user *)argp))
		return -EFAULT;
	if (index < blk->num_queues &&
	    vhost_blk_is_half_stopped(blk->queues[array_index_nospec(index, blk->num_queues)]))
		return -EBUSY;
	return vhost_vring_ioctl(&blk->dev, cmd, argp);
}

static long vhost_blk_vring_ioctl(struct vhost_blk *blk, unsigned int cmd, void __user *argp)
{
	switch (cmd) {
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
	case VHOST_SET_VRING_ADDR:
		return vhost_blk_move_vring(blk, cmd, argp);
	case VHOST_SET_VRING_CALL:
		return vhost_blk_set_vring_call(blk, argp);
	default:
		return vhost_vring_ioctl(&blk->dev, cmd, argp);
	}
}

static long vhost_blk_core_ioctl(struct vhost_blk *blk, unsigned int cmd,
				 void __user *argp)
{
	long ret;

	mutex_lock(&blk->dev.mutex);
	ret = vhost_dev_ioctl(&blk->dev, cmd, argp);
	if (ret == -ENOIOCTLCMD)
		ret = vhost_blk_vring_ioctl(blk, cmd, argp);
	if (!ret && cmd == VHOST_SET_VRING_ADDR)
		vhost_blk_forget_mappings(blk);
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
	case VHOST_BLK_SET_PIN_MEMORY:
		return vhost_blk_set_pin_memory(blk, argp);
	case VHOST_SET_MEM_TABLE:
		return vhost_blk_set_mem_table(blk, argp);
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

	/* vhost core reads an argument for any command, even one that it doesn't know. */
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
	/* Pairs with vhost_blk_alloc_queues(), for callers without @lock. */
	return smp_load_acquire(&blk->bound);
}

/* The VMM reads IOTLB misses from the file and writes IOTLB updates to it. */
static ssize_t vhost_blk_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct file *file = iocb->ki_filp;
	struct vhost_blk *blk = file->private_data;

	if (!vhost_blk_is_bound(blk))
		return -ENODEV;
	return vhost_chr_read_iter(&blk->dev, to, file->f_flags & O_NONBLOCK ||
				   iocb->ki_flags & IOCB_NOWAIT);
}

/* An IOTLB message of either version. */
union vhost_blk_message {
	int type;
	struct vhost_msg v1;
	struct vhost_msg_v2 v2;
};

/*
 * What vhost core removes from the IOTLB to invalidate a range: if a part of a translation is
 * in the range, the whole translation. Called with @dev's mutex.
 */
static struct vhost_blk_iova_range
vhost_blk_find_removed(struct vhost_blk *blk, u64 start, u64 last)
{
	struct vhost_blk_iova_range removed = { start, last };
	struct vhost_iotlb_map *map;

	if (!blk->dev.iotlb)
		return removed;
	map = vhost_iotlb_itree_first(blk->dev.iotlb, start, last);
	for (; map; map = vhost_iotlb_itree_next(map, start, last)) {
		removed.start = min(removed.start, map->start);
		removed.last = max(removed.last, map->last);
	}
	return removed;
}

/*
 * Before a translation is invalidated, finish the requests that use it. Afterwards
 * nothing touches the memory.
 */
static int vhost_blk_prepare_invalidation(struct vhost_blk *blk,
					  const union vhost_blk_message *msg)
{
	const struct vhost_iotlb_msg *iotlb = msg->type == VHOST_IOTLB_MSG_V2 ?
					      &msg->v2.iotlb : &msg->v1.iotlb;
	u64 start = iotlb->iova, last = iotlb->iova + iotlb->size - 1;
	struct vhost_blk_iova_range removed;
	long timeout = MAX_SCHEDULE_TIMEOUT;
	unsigned int i;
	int ret = 0;

	if (iotlb->type != VHOST_IOTLB_INVALIDATE)
		return 0;
	removed = vhost_blk_find_removed(blk, start, last);
	for (i = 0; i < blk->num_queues && !ret; i++)
		ret = vhost_blk_queue_pause(blk->queues[i], start, last, &removed, &timeout);
	return ret;
}

/* Called with @lock, so that the owner does not change between check and update. */
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
	/* Queues that still lack a translation send their misses again. */
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
	/* Don't block on an ioctl that waits for I/O: the reader may want to know why. */
	if (mutex_trylock(&blk->lock)) {
		struct block_device *bdev = vhost_blk_backing_bdev(blk->backing);

		if (*blk->name)
			seq_printf(seq, "name:\t%s\n", blk->name);
		seq_printf(seq, "backing:\t%u:%u\n", MAJOR(bdev->bd_dev),
			   MINOR(bdev->bd_dev));
		seq_printf(seq, "running:\t%d\n", blk->running);
		if (blk->memory)
			seq_printf(seq, "pinned:\t%llu kB\n",
				   vhost_blk_memory_bytes(blk->memory) / SZ_1K);
		mutex_unlock(&blk->lock);
	}
	for (i = 0; i < blk->num_queues; i++)
		vhost_blk_queue_show(blk->queues[i], seq);
}

/* The device must be stopped, or never bound. */
static void vhost_blk_destroy(struct vhost_blk *blk)
{
	if (blk->bound) {
		vhost_blk_quiesce(blk);
		vhost_dev_cleanup(&blk->dev);
	}
	vhost_blk_memory_put(blk->memory);
	vhost_blk_free_queues(blk);
	vhost_blk_backing_close(blk->backing);
	kvfree(blk);
}

/*
 * Stop a device whose owner is gone. Flushes whose callers were killed may be left. They get
 * as much time again.
 */
static int vhost_blk_stop_unowned(struct vhost_blk *blk, long timeout)
{
	atomic_t *flushes = &blk->waiter.num_flushes;
	int ret = vhost_blk_stop(blk, false, timeout);

	if (!ret && !wait_var_event_timeout(flushes, !atomic_read(flushes), timeout))
		ret = -ETIMEDOUT;
	return ret;
}

/*
 * Look again and again, rather than wait: a workqueue runs a limited number of works at once,
 * and one owner may close as many devices with a slow disk as it likes.
 */
static void vhost_blk_release_work(struct work_struct *work)
{
	struct vhost_blk *blk = container_of(to_delayed_work(work), struct vhost_blk,
					     release_work);

	if (vhost_blk_stop_unowned(blk, 0)) {
		queue_delayed_work(vhost_blk_wq, &blk->release_work,
				   VHOST_BLK_RELEASE_INTERVAL);
		return;
	}
	vhost_blk_destroy(blk);
	/* Safe: vhost_blk_exit() destroys the workqueue, which waits for this function. */
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
	INIT_DELAYED_WORK(&blk->release_work, vhost_blk_release_work);
	blk->holder.gone = vhost_blk_gone;
	blk->id = atomic_inc_return(&vhost_blk_next_id);
	file->private_data = blk;
	return 0;
}

/*
 * The current process may not be the owner: don't write to guest memory. If the device is
 * stuck, the closing process does not wait for it. release_work then looks until nothing
 * is in flight any more, and the claim of the block device lasts until that is done.
 */
static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	/* vhost_blk_gone() can come until the backing is closed. It must not queue work. */
	disable_delayed_work_sync(&blk->config_work);
	if (blk->config_call)
		eventfd_ctx_put(blk->config_call);
	if (blk->bound &&
	    vhost_blk_stop_unowned(blk, VHOST_BLK_RELEASE_TIMEOUT)) {
		__module_get(THIS_MODULE);
		queue_delayed_work(vhost_blk_wq, &blk->release_work,
				   VHOST_BLK_RELEASE_INTERVAL);
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
