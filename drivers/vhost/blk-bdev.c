// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk storage: a block device as the backing of a virtio-blk device, with
 * the features and limits that follow from it. Most are read when they are asked
 * for: a device can grow, shrink and lose abilities at any time. How long ranges may
 * be is offered once: a driver may go by it as long as it runs.
 *
 * A device that is bound for writing is claimed exclusively, since a mounted file
 * system or a second VM would corrupt it, unless the VMM says that others may have
 * it. Read-only bindings can always share.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "blk.h"

/* The longest range of one bio, in sectors of 512 bytes: bytes count in 32 bits. */
#define VHOST_BLK_MAX_BIO_SECTORS	(UINT_MAX >> SECTOR_SHIFT)

/* The operations on ranges, as indices. */
enum vhost_blk_range_op {
	VHOST_BLK_RANGE_DISCARD,
	VHOST_BLK_RANGE_WRITE_ZEROES,
	VHOST_BLK_RANGE_SECURE_ERASE,
	VHOST_BLK_NUM_RANGE_OPS
};

/**
 * struct vhost_blk_backing - a bound block device
 * @file: the backend's own open file of it, with the claim if there is one
 * @bdev: the same device
 * @read_only: writes are refused
 * @offered: the longest ranges that a driver may send, in sectors of 512 bytes, 0
 *	for what can't be done
 */
struct vhost_blk_backing {
	struct file *file;
	struct block_device *bdev;
	bool read_only;
	unsigned int offered[VHOST_BLK_NUM_RANGE_OPS];
};

/**
 * struct vhost_blk_flush - a flush whose maker may be killed before it ends
 * @work: does it
 * @done: it has ended
 * @file: of the device
 * @users: its maker and @work
 * @error: how it ended, from @done on
 */
struct vhost_blk_flush {
	struct work_struct work;
	struct completion done;
	struct file *file;
	refcount_t users;
	int error;
};

/*
 * Called with the lock, to let go of it, and for a device that is still there. What
 * the block layer does for a holder without this operation is done here as well.
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
 * Open the device of @user once more, for as long as it is bound. A device that
 * went away can leave its number to another one, even with @user still open.
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
 * The page cache of a disk knows nothing of those of its partitions, and these know
 * nothing of it. The functions below do for @bytes bytes from @start on what
 * vhost_blk_apply_to_caches() does for all pages that may have data of the device.
 */
static int vhost_blk_sync_cache(struct block_device *bdev, loff_t start,
				loff_t bytes)
{
	return sync_blockdev_range(bdev, start, start + bytes - 1);
}

/* Pages that are mapped or locked, too. -EBUSY if somebody goes on changing one. */
static int vhost_blk_drop_cache(struct block_device *bdev, loff_t start,
				loff_t bytes)
{
	loff_t last = start + bytes - 1;
	int ret = vhost_blk_sync_cache(bdev, start, bytes);

	if (ret)
		return ret;
	/* A page whose buffers a CPU keeps at hand stays without this. */
	invalidate_bdev(bdev);
	return invalidate_inode_pages2_range(bdev->bd_mapping,
					     start >> PAGE_SHIFT,
					     last >> PAGE_SHIFT);
}

/* Nothing is waited for: what is being read or written right now stays. */
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
 * What the host wrote is there for the guest; what it has cached is not there
 * any more when the guest has written. Others may go on using a device that is
 * shared.
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
 * vhost_blk_backing_current_range - the longest range that the device now takes
 * @backing: the device
 * @op: REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES or REQ_OP_SECURE_ERASE
 *
 * Return: sectors of 512 bytes; 0 if the device can't do it.
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
 * vhost_blk_backing_max_range - the longest range that a request may have
 * @backing: the device
 * @op: REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES or REQ_OP_SECURE_ERASE
 *
 * Return: sectors of 512 bytes; 0 if that was not offered.
 */
unsigned int vhost_blk_backing_max_range(const struct vhost_blk_backing *backing,
					 enum req_op op)
{
	return backing->offered[vhost_blk_range_op(op)];
}

/**
 * vhost_blk_backing_keep_offer - go on offering what another binding has
 * @backing: the device
 * @old: a binding of the same device, alike
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
 * @user: an open file of it; only its device and access mode are used
 * @read_only: bind for reading even where @user may write
 * @holder: who claims a device bound for writing, NULL for nobody; the same
 *	holder can claim it again while it still has it. It stays until the backing
 *	is closed.
 *
 * May sleep.
 *
 * Return: the backing, or an ERR_PTR(): -ENOTBLK no block device, -EACCES not
 * open for reading, -EPERM not allowed in the caller's device cgroup, -EBUSY
 * mounted or claimed by somebody else, or written to through the page cache right
 * now, -EOPNOTSUPP zoned, -EIO what the host has
 * cached could not be written, -ENXIO the device is gone, -ENOMEM.
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
 * @backing: with no operation under way or unreleased; NULL does nothing
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
 * @backing: the device, with no operation under way
 *
 * May sleep. What somebody read through the page cache while a guest was writing
 * may be stale; after this it is read anew.
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
	vhost_blk_flush_put(flush);
	/* The module's end waits for this function's. */
	module_put(THIS_MODULE);
}

/**
 * vhost_blk_backing_flush - make every finished write durable
 * @backing: the device
 *
 * May sleep.
 *
 * Return: 0 or the device's error; -EINTR if the caller is being killed, -ENOMEM: it
 * isn't known then.
 */
int vhost_blk_backing_flush(struct vhost_blk_backing *backing)
{
	struct vhost_blk_flush *flush = kzalloc_obj(*flush, GFP_KERNEL_ACCOUNT);
	int ret;

	if (!flush)
		return -ENOMEM;
	INIT_WORK(&flush->work, vhost_blk_flush_work);
	init_completion(&flush->done);
	flush->file = get_file(backing->file);
	refcount_set(&flush->users, 2);
	__module_get(THIS_MODULE);
	queue_work(vhost_blk_wq, &flush->work);

	ret = wait_for_completion_killable(&flush->done) ? -EINTR : flush->error;
	vhost_blk_flush_put(flush);
	return ret;
}

/**
 * vhost_blk_backing_bdev - the block device itself, to make bios for
 * @backing: the device
 *
 * Return: the device, for as long as @backing is open.
 */
struct block_device *vhost_blk_backing_bdev(const struct vhost_blk_backing *backing)
{
	return backing->bdev;
}

/**
 * vhost_blk_backing_is_same - whether two are bindings of one device, alike
 * @a: one of them
 * @b: the other
 *
 * Return: true if they are.
 */
bool vhost_blk_backing_is_same(const struct vhost_blk_backing *a,
			       const struct vhost_blk_backing *b)
{
	return a->bdev == b->bdev && a->read_only == b->read_only;
}

/**
 * vhost_blk_backing_features - virtio-blk features that the device makes possible
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

/* The fields of ranges; each has a meaning only where its feature is offered. */
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
 * vhost_blk_backing_config - fill the configuration space from the device
 * @backing: the device
 * @config: zeroed by the caller; gets the fields of the features that
 *	vhost_blk_backing_features() returns, and the capacity
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
	/* A stacked device can answer -1: its parts are not aligned alike. */
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
 * vhost_blk_backing_capacity - how large the device is now
 * @backing: the device
 *
 * Return: whole logical blocks of it, in sectors of 512 bytes; 0 from the moment that
 * its removal begins.
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
 * Return: true if they are.
 */
bool vhost_blk_backing_read_only(const struct vhost_blk_backing *backing)
{
	return backing->read_only;
}

/**
 * vhost_blk_backing_write_cache - whether a finished write can still get lost
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
 * @sector: start, in sectors of 512 bytes, as the guest gave it
 * @bytes: length
 *
 * Return: true if the range is made of whole logical blocks of the device.
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
