/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All kernel version checks. drivers/ is written for the newest supported kernel. This
 * file provides its interfaces on older kernels.
 *
 * Supported and tested: 6.12 (LTS, Debian 13) and 7.3.
 */
#ifndef _VHOST_BLK_COMPAT_H
#define _VHOST_BLK_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/slab.h>
#include <linux/thread_info.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#error "Linux 6.12 or newer is needed: make KDIR=/lib/modules/VERSION/build"
#endif

#ifndef kzalloc_obj
#define kzalloc_obj(obj, gfp)	kzalloc(sizeof(obj), gfp)
#define kvzalloc_obj(obj, gfp)	kvzalloc(sizeof(obj), gfp)
#endif

/* Lazy preemption exists since 6.13, and only on some architectures. */
#ifndef TIF_NEED_RESCHED_LAZY
#define TIF_NEED_RESCHED_LAZY TIF_NEED_RESCHED
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#include <linux/blk-mq-virtio.h>
#include <linux/virtio.h>
#define blk_mq_map_hw_queues(map, dev, offset) \
	blk_mq_virtio_map_queues(map, dev_to_virtio(dev), offset)

/* Older kernels merge requests only with this flag. */
static inline int compat_alloc_tag_set(struct blk_mq_tag_set *set)
{
	set->flags |= BLK_MQ_F_SHOULD_MERGE;
	return blk_mq_alloc_tag_set(set);
}

#define blk_mq_alloc_tag_set compat_alloc_tag_set

#define max_hw_zone_append_sectors	max_zone_append_sectors

#define blk_mq_unfreeze_queue_nomemrestore	blk_mq_unfreeze_queue
#endif

/* From block/blk.h, which is private to the block layer. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define BLK_MIN_SEGMENT_SIZE	PAGE_SIZE
#else
#define BLK_MIN_SEGMENT_SIZE	SZ_4K
#endif

/*
 * Operations whose arguments changed. X_OP(name) defines name_op() with the arguments of
 * the running kernel. It calls name(), which is written for the newest kernel.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#define GETGEO_OP(name) \
	static int name##_op(struct block_device *bdev, struct hd_geometry *geo) \
	{ \
		return name(bdev->bd_disk, geo); \
	}
#else
#define GETGEO_OP(name) \
	static int name##_op(struct gendisk *disk, struct hd_geometry *geo) \
	{ \
		return name(disk, geo); \
	}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
struct blk_report_zones_args {
	report_zones_cb cb;
	void *data;
};

static inline int disk_report_zone(struct gendisk *disk, struct blk_zone *zone,
				   unsigned int idx,
				   struct blk_report_zones_args *args)
{
	return args->cb(zone, idx, args->data);
}

#define REPORT_ZONES_OP(name) \
	static int name##_op(struct gendisk *disk, sector_t sector, \
			     unsigned int nr_zones, report_zones_cb cb, \
			     void *data) \
	{ \
		struct blk_report_zones_args args = { .cb = cb, .data = data }; \
		return name(disk, sector, nr_zones, &args); \
	}
#else
#define REPORT_ZONES_OP(name) \
	static int name##_op(struct gendisk *disk, sector_t sector, \
			     unsigned int nr_zones, \
			     struct blk_report_zones_args *args) \
	{ \
		return name(disk, sector, nr_zones, args); \
	}
#endif

/*
 * In 6.12 at least, blk_revalidate_disk_zones() returns with limits_lock held if all zones
 * of a disk are conventional. Release the lock only if this thread holds it, because
 * another thread can hold it at any time.
 */
#if defined(CONFIG_BLK_DEV_ZONED) && LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#include <linux/blkdev.h>

/* The low bits of a mutex's owner are flags, with and without PREEMPT_RT. */
static inline bool compat_holds(struct mutex *lock)
{
#ifdef CONFIG_PREEMPT_RT
	unsigned long owner = (unsigned long)READ_ONCE(lock->rtmutex.owner);
#else
	unsigned long owner = atomic_long_read(&lock->owner);
#endif

	return (owner & ~7UL) == (unsigned long)current;
}

static inline int compat_revalidate_disk_zones(struct gendisk *disk)
{
	int err = blk_revalidate_disk_zones(disk);

	if (err && compat_holds(&disk->queue->limits_lock))
		queue_limits_cancel_update(disk->queue);
	return err;
}

#define blk_revalidate_disk_zones compat_revalidate_disk_zones
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define COMPAT_NODE	unsigned int
#else
#define COMPAT_NODE	int
#endif
#define INIT_REQUEST_OP(name) \
	static int name##_op(struct blk_mq_tag_set *set, struct request *rq, \
			     unsigned int index, COMPAT_NODE node) \
	{ \
		return name(set, rq, index, node); \
	}

/* Members of struct virtio_driver: the transport resets a device under its driver. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define VIRTIO_RESET_OPS(prepare, done)
#else
#define VIRTIO_RESET_OPS(prepare, done) \
	.reset_prepare = prepare, .reset_done = done,
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
#define blk_rq_map_sg(rq, sgl)	blk_rq_map_sg((rq)->q, rq, sgl)
#define timer_container_of	from_timer
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define blk_mq_num_possible_queues(max) \
	min_not_zero(num_possible_cpus(), max)

#define blk_rq_map_kern(rq, buf, len, gfp) \
	blk_rq_map_kern((rq)->q, rq, buf, len, gfp)
#endif

/*
 * The block layer makes and checks protection information vector by vector. It fails if a
 * protection interval continues in the next vector. Newer kernels require an alignment
 * that prevents this. Require it here for older ones.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#include <linux/blk-integrity.h>

static inline unsigned int compat_bdev_dma_alignment(struct block_device *bdev)
{
	struct blk_integrity *bi = bdev_get_integrity(bdev);
	unsigned int mask = bdev_dma_alignment(bdev);

	if (bi && bi->csum_type)
		mask |= (1U << bi->interval_exp) - 1;
	return mask;
}

#define bdev_dma_alignment compat_bdev_dma_alignment

static inline bool bdev_has_integrity_csum(struct block_device *bdev)
{
	struct blk_integrity *bi = bdev_get_integrity(bdev);

	return bi && bi->csum_type;
}
#endif

/* For the calls, and for the declaration in vhost.h. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#define vhost_add_used_n(vq, heads, nheads, count) \
	vhost_add_used_n(vq, heads, count)
#endif

#endif /* _VHOST_BLK_COMPAT_H */
