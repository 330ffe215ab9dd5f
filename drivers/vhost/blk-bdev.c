// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk storage: the block device behind a virtio-blk device, with the features and
 * limits that follow from it.
 *
 * Most properties are read from the block device each time, because it can grow, shrink
 * and lose abilities at any time. The limits of ranges are read once, at the bind. A
 * driver may rely on them while it runs.
 *
 * A device that is bound for writing is claimed exclusively: a mounted file system or a
 * second VM would corrupt it. The VMM can ask for a bind without a claim. A read-only
 * bind never claims.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "blk.h"

/* The longest range of a bio in sectors of 512 bytes: bi_size has 32 bits for bytes. */
#define VHOST_BLK_MAX_BIO_SECTORS	(UINT_MAX >> SECTOR_SHIFT)

/* Operations on ranges; indices of vhost_blk_backing.offered. */
enum vhost_blk_range_op {
	VHOST_BLK_RANGE_DISCARD,
	VHOST_BLK_RANGE_WRITE_ZEROES,
	VHOST_BLK_RANGE_SECURE_ERASE,
	VHOST_BLK_NUM_RANGE_OPS
};

/**
 * struct vhost_blk_backing - a bound block device
 * @file: vhost_blk's own open file of the device; it has the claim, if any
 * @bdev: block device of @file
 * @read_only: writes are refused
 * @offered: the longest range that a driver may send, in sectors of 512 bytes; 0 if the
 *	operation is not offered
 */
struct vhost_blk_backing {
	struct file *file;
	struct block_device *bdev;
	bool read_only;
	unsigned int offered[VHOST_BLK_NUM_RANGE_OPS];
};

/**
 * struct vhost_blk_flush - a flush whose caller may be killed before it ends
 * @work: performs the flush
 * @done: completed when the flush has ended
 * @file: file of the device
 * @waiter: where @work is queued
 * @users: references of the caller and of @work; the last one frees the structure
 * @error: result; valid after @done
 */
struct vhost_blk_flush {
	struct work_struct work;
	struct completion done;
	struct file *file;
	struct vhost_blk_waiter *waiter;
	refcount_t users;
	int error;
};

/*
 * Called with bd_holder_lock held, which it has to release. The device still exists here.
 * The sync is what the block layer does itself for a holder without mark_dead.
 */
static void vhost_blk_mark_dead(struct block_device *bdev, bool surprise)
{
	struct vhost_blk_holder *holder = bdev->bd_holder;

	holder->gone(holder);
	mutex_unlock(&bdev->bd_holder_lock);
	if (!surprise)
		sync_blockdev(bdev);
}

static const struct blk_holder_ops vhost_blk_holder_ops = {
	.mark_dead	= vhost_blk_mark_dead,
};

/*
 * Open the device of @user again. The new file has its own claim, and stays open if the
 * VMM closes @user. The device number may belong to another device by now, even though
 * @user is open. So compare the two.
 */
static struct file *vhost_blk_reopen(struct file *user, bool writable,
				     struct vhost_blk_holder *holder)
{
	blk_mode_t mode = BLK_OPEN_READ | (writable ? BLK_OPEN_WRITE : 0);
	struct file *file;

	if (!S_ISBLK(file_inode(user)->i_mode))
		return ERR_PTR(-ENOTBLK);
	if (!(user->f_mode & FMODE_READ))
		return ERR_PTR(-EACCES);
	file = bdev_file_open_by_dev(file_bdev(user)->bd_dev, mode,
				     writable ? holder : NULL,
				     writable && holder ?
				     &vhost_blk_holder_ops : NULL);
	if (!IS_ERR(file) && file_bdev(file) != file_bdev(user)) {
		bdev_fput(file);
		return ERR_PTR(-ENXIO);
	}
	return file;
}

/*
 * The page cache of a disk and the page caches of its partitions are separate. A page of
 * either can hold data of the same sectors. vhost_blk_apply_to_caches() calls one of the
 * next functions for each cache, with the @bytes bytes from @start on that belong to the
 * device.
 */
static int vhost_blk_sync_cache(struct block_device *bdev, loff_t start,
				loff_t bytes)
{
	return sync_blockdev_range(bdev, start, start + bytes - 1);
}

/* Drops mapped and locked pages, too. -EBUSY if a page is made dirty again meanwhile. */
static int vhost_blk_drop_cache(struct block_device *bdev, loff_t start,
				loff_t bytes)
{
	loff_t last = start + bytes - 1;
	int ret = vhost_blk_sync_cache(bdev, start, bytes);

	if (ret)
		return ret;
	/* Releases buffers that per-CPU caches hold. Their pages could not be dropped. */
	invalidate_bdev(bdev);
	return invalidate_inode_pages2_range(bdev->bd_mapping,
					     start >> PAGE_SHIFT,
					     last >> PAGE_SHIFT);
}

/* Does not wait. Pages that are being read or written stay. */
static int vhost_blk_invalidate_cache(struct block_device *bdev, loff_t start,
				      loff_t bytes)
{
	unmap_mapping_range(bdev->bd_mapping, start, bytes, 0);
	invalidate_bdev(bdev);
	return 0;
}

static int vhost_blk_apply_to_caches(struct block_device *bdev,
				     int (*act)(struct block_device *bdev,
						loff_t start, loff_t bytes))
{
	int ret = act(bdev, 0, LLONG_MAX);
	struct block_device *part;
	unsigned long index;

	if (bdev_is_partition(bdev))
		return ret ?: act(bdev_whole(bdev),
				  get_start_sect(bdev) << SECTOR_SHIFT,
				  bdev_nr_bytes(bdev));

	rcu_read_lock();
	xa_for_each_start(&bdev->bd_disk->part_tbl, index, part, 1) {
		if (ret || !kobject_get_unless_zero(&part->bd_device.kobj))
			continue;
		rcu_read_unlock();
		ret = act(part, 0, LLONG_MAX);
		put_device(&part->bd_device);
		rcu_read_lock();
	}
	rcu_read_unlock();
	return ret;
}

/*
 * Write back what the host has cached, so that the guest reads it. Drop it if the guest
 * may write, so that the host reads the guest's data later. Other users of a device
 * without a claim may keep changing pages. That is not an error.
 */
static int vhost_blk_prepare(struct vhost_blk_backing *backing, bool claimed)
{
	int ret;

	if (bdev_is_zoned(backing->bdev))
		return -EOPNOTSUPP;
	if (backing->read_only)
		return vhost_blk_apply_to_caches(backing->bdev,
						 vhost_blk_sync_cache);
	ret = vhost_blk_apply_to_caches(backing->bdev, vhost_blk_drop_cache);
	return ret == -EBUSY && !claimed ? 0 : ret;
}

static enum vhost_blk_range_op vhost_blk_range_op(enum req_op op)
{
	if (op == REQ_OP_DISCARD)
		return VHOST_BLK_RANGE_DISCARD;
	if (op == REQ_OP_WRITE_ZEROES)
		return VHOST_BLK_RANGE_WRITE_ZEROES;
	return VHOST_BLK_RANGE_SECURE_ERASE;
}

/**
 * vhost_blk_backing_current_range - the longest range that the device takes now
 * @backing: the device
 * @op: REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES or REQ_OP_SECURE_ERASE
 *
 * Return: length in sectors of 512 bytes; 0 if the device can't do the operation.
 */
unsigned int vhost_blk_backing_current_range(const struct vhost_blk_backing *backing,
					     enum req_op op)
{
	unsigned int block = bdev_logical_block_size(backing->bdev);
	unsigned int sectors = 0;

	if (backing->read_only)
		return 0;
	if (op == REQ_OP_DISCARD)
		sectors = bdev_max_discard_sectors(backing->bdev);
	else if (op == REQ_OP_WRITE_ZEROES)
		sectors = bdev_write_zeroes_sectors(backing->bdev);
	else if (op == REQ_OP_SECURE_ERASE)
		sectors = bdev_max_secure_erase_sectors(backing->bdev);
	return round_down(min(sectors, VHOST_BLK_MAX_BIO_SECTORS),
			  block >> SECTOR_SHIFT);
}

/**
 * vhost_blk_backing_max_range - the longest range that a driver may send
 * @backing: the device
 * @op: REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES or REQ_OP_SECURE_ERASE
 *
 * Return: length in sectors of 512 bytes; 0 if the operation was not offered.
 */
unsigned int vhost_blk_backing_max_range(const struct vhost_blk_backing *backing,
					 enum req_op op)
{
	return backing->offered[vhost_blk_range_op(op)];
}

/**
 * vhost_blk_backing_keep_offer - keep the limits of ranges of an earlier bind
 * @backing: the device
 * @old: the earlier bind, for which vhost_blk_backing_is_same() is true
 */
void vhost_blk_backing_keep_offer(struct vhost_blk_backing *backing,
				  const struct vhost_blk_backing *old)
{
	unsigned int i;

	for (i = 0; i < VHOST_BLK_NUM_RANGE_OPS; i++)
		backing->offered[i] = max(backing->offered[i], old->offered[i]);
}

static void vhost_blk_backing_offer(struct vhost_blk_backing *backing)
{
	static const enum req_op ops[] = {
		REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES, REQ_OP_SECURE_ERASE
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		backing->offered[vhost_blk_range_op(ops[i])] =
			vhost_blk_backing_current_range(backing, ops[i]);
}

/**
 * vhost_blk_backing_open - bind a block device
 * @user: an open file of the device; only its device and access mode are used
 * @read_only: bind for reading even if @user permits writing
 * @holder: claims a device that is bound for writing; NULL for no claim. The same holder
 *	can claim it again while it still has it. It must exist until the backing is
 *	closed.
 *
 * May sleep.
 *
 * Return: the backing, or an ERR_PTR():
 *	-ENOTBLK	not a block device
 *	-EACCES	not open for reading
 *	-EPERM	not allowed by the caller's device cgroup
 *	-EBUSY	mounted, claimed by another holder, or being written through the page
 *		cache
 *	-EOPNOTSUPP	a zoned device
 *	-EIO	data in the page cache could not be written back
 *	-ENXIO	the device is gone
 *	-ENOMEM
 */
struct vhost_blk_backing *vhost_blk_backing_open(struct file *user,
						 bool read_only,
						 struct vhost_blk_holder *holder)
{
	bool writable = user->f_mode & FMODE_WRITE && !read_only;
	struct vhost_blk_backing *backing;
	int ret;

	backing = kzalloc_obj(*backing, GFP_KERNEL_ACCOUNT);
	if (!backing)
		return ERR_PTR(-ENOMEM);

	backing->file = vhost_blk_reopen(user, writable, holder);
	if (IS_ERR(backing->file)) {
		ret = PTR_ERR(backing->file);
		goto err_free;
	}
	backing->bdev = file_bdev(backing->file);
	backing->read_only = !writable || bdev_read_only(backing->bdev);

	ret = vhost_blk_prepare(backing, holder);
	if (ret)
		goto err_file;
	vhost_blk_backing_offer(backing);
	return backing;

err_file:
	bdev_fput(backing->file);
err_free:
	kfree(backing);
	return ERR_PTR(ret);
}

/**
 * vhost_blk_backing_close - undo vhost_blk_backing_open()
 * @backing: a backing without operations, in flight or unreleased; or NULL
 *
 * May sleep.
 */
void vhost_blk_backing_close(struct vhost_blk_backing *backing)
{
	if (!backing)
		return;
	vhost_blk_backing_invalidate_cache(backing);
	bdev_fput(backing->file);
	kfree(backing);
}

/**
 * vhost_blk_backing_invalidate_cache - drop what the host has cached of the device
 * @backing: a backing without operations in flight
 *
 * Pages that were read while a guest was writing may be stale. May sleep.
 */
void vhost_blk_backing_invalidate_cache(struct vhost_blk_backing *backing)
{
	if (!backing->read_only)
		vhost_blk_apply_to_caches(backing->bdev, vhost_blk_invalidate_cache);
}

static void vhost_blk_flush_put(struct vhost_blk_flush *flush)
{
	if (refcount_dec_and_test(&flush->users))
		kfree(flush);
}

static void vhost_blk_flush_work(struct work_struct *work)
{
	struct vhost_blk_flush *flush =
		container_of(work, struct vhost_blk_flush, work);

	flush->error = blkdev_issue_flush(file_bdev(flush->file));
	fput(flush->file);
	complete(&flush->done);
	/* Then the device may be freed. That destroys the workqueue: it waits for this function. */
	if (atomic_dec_and_test(&flush->waiter->num_flushes))
		wake_up_var(&flush->waiter->num_flushes);
	vhost_blk_flush_put(flush);
}

/**
 * vhost_blk_backing_flush - flush the device's write cache
 * @backing: the device
 * @waiter: flushes for the caller
 *
 * May sleep.
 *
 * Return: 0, an error of the device, -EINTR if the caller is being killed, or -ENOMEM.
 * After the last two it is unknown which writes are durable.
 */
int vhost_blk_backing_flush(struct vhost_blk_backing *backing,
			    struct vhost_blk_waiter *waiter)
{
	struct vhost_blk_flush *flush = kzalloc_obj(*flush, GFP_KERNEL_ACCOUNT);
	int ret;

	if (!flush)
		return -ENOMEM;
	INIT_WORK(&flush->work, vhost_blk_flush_work);
	init_completion(&flush->done);
	flush->file = get_file(backing->file);
	flush->waiter = waiter;
	refcount_set(&flush->users, 2);
	atomic_inc(&waiter->num_flushes);
	queue_work(waiter->wq, &flush->work);

	ret = wait_for_completion_killable(&flush->done) ? -EINTR : flush->error;
	vhost_blk_flush_put(flush);
	return ret;
}

/**
 * vhost_blk_backing_bdev - the block device of a backing
 * @backing: the backing
 *
 * Return: the block device; valid while @backing is open.
 */
struct block_device *vhost_blk_backing_bdev(const struct vhost_blk_backing *backing)
{
	return backing->bdev;
}

/**
 * vhost_blk_backing_is_same - compare two backings
 * @a: one backing
 * @b: the other backing
 *
 * Return: true if both are the same device with the same access mode.
 */
bool vhost_blk_backing_is_same(const struct vhost_blk_backing *a,
			       const struct vhost_blk_backing *b)
{
	return a->bdev == b->bdev && a->read_only == b->read_only;
}

/**
 * vhost_blk_backing_features - virtio-blk features of a backing device
 * @backing: the device
 *
 * Virtio 1.4, section 5.2.3.
 *
 * Return: a mask of VIRTIO_BLK_F_* bits.
 */
u64 vhost_blk_backing_features(const struct vhost_blk_backing *backing)
{
	u64 features = BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |
		       BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |
		       BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |
		       BIT_ULL(VIRTIO_BLK_F_TOPOLOGY);

	if (backing->read_only)
		features |= BIT_ULL(VIRTIO_BLK_F_RO);
	if (bdev_write_cache(backing->bdev))
		features |= BIT_ULL(VIRTIO_BLK_F_FLUSH) |
			    BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE);
	if (vhost_blk_backing_max_range(backing, REQ_OP_DISCARD))
		features |= BIT_ULL(VIRTIO_BLK_F_DISCARD);
	if (vhost_blk_backing_max_range(backing, REQ_OP_WRITE_ZEROES))
		features |= BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES);
	if (vhost_blk_backing_max_range(backing, REQ_OP_SECURE_ERASE))
		features |= BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE);
	return features;
}

/* Fields without their feature stay 0. */
static void vhost_blk_config_ranges(const struct vhost_blk_backing *backing,
				    struct virtio_blk_config *config)
{
	unsigned int block = bdev_logical_block_size(backing->bdev) >> SECTOR_SHIFT;
	unsigned int discard = vhost_blk_backing_max_range(backing, REQ_OP_DISCARD);
	unsigned int zeroes = vhost_blk_backing_max_range(backing,
							  REQ_OP_WRITE_ZEROES);
	unsigned int erase = vhost_blk_backing_max_range(backing,
							 REQ_OP_SECURE_ERASE);
	__virtio32 segs = __cpu_to_virtio32(true, VHOST_BLK_MAX_RANGES);

	if (discard) {
		unsigned int unit =
			bdev_discard_granularity(backing->bdev) >> SECTOR_SHIFT;

		config->max_discard_sectors = __cpu_to_virtio32(true, discard);
		config->max_discard_seg = segs;
		config->discard_sector_alignment =
			__cpu_to_virtio32(true, max(unit, block));
	}
	if (zeroes) {
		config->max_write_zeroes_sectors = __cpu_to_virtio32(true, zeroes);
		config->max_write_zeroes_seg = segs;
		config->write_zeroes_may_unmap = !!discard;
	}
	if (erase) {
		config->max_secure_erase_sectors = __cpu_to_virtio32(true, erase);
		config->max_secure_erase_seg = segs;
		config->secure_erase_sector_alignment =
			__cpu_to_virtio32(true, block);
	}
}

/**
 * vhost_blk_backing_config - fill the configuration space
 * @backing: the device
 * @config: zeroed by the caller; receives the capacity and the fields of the features that
 *	vhost_blk_backing_features() returns
 *
 * Virtio 1.4, section 5.2.4.
 */
void vhost_blk_backing_config(const struct vhost_blk_backing *backing,
			      struct virtio_blk_config *config)
{
	struct block_device *bdev = backing->bdev;
	unsigned int block = bdev_logical_block_size(bdev);
	int alignment = bdev_alignment_offset(bdev);

	config->capacity =
		__cpu_to_virtio64(true, vhost_blk_backing_capacity(backing));
	config->size_max = __cpu_to_virtio32(true, VHOST_BLK_SIZE_MAX);
	config->seg_max = __cpu_to_virtio32(true, VHOST_BLK_SEG_MAX);
	config->blk_size = __cpu_to_virtio32(true, block);
	config->physical_block_exp = ilog2(bdev_physical_block_size(bdev) /
					   block);
	/* -1 for a stacked device whose parts have different alignments. */
	config->alignment_offset = alignment > 0 ? alignment / block : 0;
	config->min_io_size = __cpu_to_virtio16(true,
						min_t(unsigned int, U16_MAX,
						      bdev_io_min(bdev) / block));
	config->opt_io_size = __cpu_to_virtio32(true,
						bdev_io_opt(bdev) / block);
	vhost_blk_config_ranges(backing, config);
}

static u64 vhost_blk_whole_blocks(struct block_device *bdev)
{
	return round_down(bdev_nr_sectors(bdev),
			  bdev_logical_block_size(bdev) >> SECTOR_SHIFT);
}

/**
 * vhost_blk_backing_capacity - current capacity of a backing device
 * @backing: the device
 *
 * Return: whole logical blocks, in sectors of 512 bytes; 0 once its removal has begun.
 */
u64 vhost_blk_backing_capacity(const struct vhost_blk_backing *backing)
{
	if (!disk_live(backing->bdev->bd_disk))
		return 0;
	return vhost_blk_whole_blocks(backing->bdev);
}

/**
 * vhost_blk_backing_read_only - whether writes are refused
 * @backing: the device
 *
 * Return: true if so.
 */
bool vhost_blk_backing_read_only(const struct vhost_blk_backing *backing)
{
	return backing->read_only;
}

/**
 * vhost_blk_backing_write_cache - whether a write that has ended can be lost
 * @backing: the device
 *
 * Return: true if the device has a volatile write cache.
 */
bool vhost_blk_backing_write_cache(const struct vhost_blk_backing *backing)
{
	return bdev_write_cache(backing->bdev);
}

/**
 * vhost_blk_backing_contains - check a range against capacity and block size
 * @backing: the device
 * @sector: start, in sectors of 512 bytes, from the guest
 * @bytes: length
 *
 * Return: true if the range consists of whole logical blocks of the device.
 */
bool vhost_blk_backing_contains(const struct vhost_blk_backing *backing,
				u64 sector, u64 bytes)
{
	u64 capacity = vhost_blk_whole_blocks(backing->bdev);
	unsigned int block = bdev_logical_block_size(backing->bdev);

	return IS_ALIGNED(bytes, block) &&
	       IS_ALIGNED(sector, block >> SECTOR_SHIFT) &&
	       sector <= capacity &&
	       bytes >> SECTOR_SHIFT <= capacity - sector;
}
