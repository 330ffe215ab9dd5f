// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk storage: a block device as the backing of a virtio-blk device.
 *
 * An operation is one bio in the ordinary case and a row of them when its data
 * needs more vectors than one holds. The guest's pages are pinned while a bio
 * is being filled and let go in vhost_blk_io_release(), which runs in process
 * context: dirtying a page may sleep, ending a bio may not.
 *
 * The first bio and its vectors are part of the operation, so that an ordinary
 * request allocates nothing. Further bios come from the backing's bio set.
 *
 * A device that is bound for writing is claimed exclusively: a mounted file
 * system or a second VM would corrupt it. Read-only bindings can share.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/log2.h>
#include <linux/slab.h>

#include "blk.h"

/* Pages pinned by one call; more need further calls, not more memory. */
#define VHOST_BLK_PIN_BATCH	16

/**
 * struct vhost_blk_backing - a bound block device
 * @file: the backend's own open file of it, with the claim if it is writable
 * @bdev: the same device
 * @read_only: writes are refused
 * @bios: &struct vhost_blk_bio beyond an operation's first
 */
struct vhost_blk_backing {
	struct file *file;
	struct block_device *bdev;
	bool read_only;
	struct bio_set bios;
};

/*
 * Open the device of @user once more, for as long as it is bound. A device that
 * went away can leave its number to another one, even with @user still open.
 */
static struct file *vhost_blk_reopen(struct file *user, bool writable,
				     void *holder)
{
	blk_mode_t mode = BLK_OPEN_READ | (writable ? BLK_OPEN_WRITE : 0);
	struct file *file;

	if (!S_ISBLK(file_inode(user)->i_mode))
		return ERR_PTR(-ENOTBLK);
	if (!(user->f_mode & FMODE_READ))
		return ERR_PTR(-EACCES);
	file = bdev_file_open_by_dev(file_bdev(user)->bd_dev, mode,
				     writable ? holder : NULL, NULL);
	if (!IS_ERR(file) && file_bdev(file) != file_bdev(user)) {
		bdev_fput(file);
		return ERR_PTR(-ENXIO);
	}
	return file;
}

/*
 * What the host wrote is there for the guest; what it has cached is not there
 * any more when the guest has written.
 */
static int vhost_blk_prepare(struct vhost_blk_backing *backing)
{
	int ret;

	if (bdev_is_zoned(backing->bdev))
		return -EOPNOTSUPP;
	ret = sync_blockdev(backing->bdev);
	if (!ret && !backing->read_only)
		invalidate_bdev(backing->bdev);
	return ret;
}

/**
 * vhost_blk_backing_open - bind a block device
 * @user: an open file of it; only its device and access mode are used
 * @read_only: bind for reading even where @user may write
 * @holder: who claims a device bound for writing; the same holder can claim it
 *	again while it still has it
 *
 * May sleep.
 *
 * Return: the backing, or an ERR_PTR(): -ENOTBLK no block device, -EACCES not
 * open for reading, -EPERM not allowed in the caller's device cgroup, -EBUSY
 * mounted or claimed by somebody else, -EOPNOTSUPP zoned, -EIO what the host has
 * cached could not be written, -ENXIO the device is gone, -ENOMEM.
 */
struct vhost_blk_backing *vhost_blk_backing_open(struct file *user,
						 bool read_only, void *holder)
{
	bool writable = user->f_mode & FMODE_WRITE && !read_only;
	struct vhost_blk_backing *backing;
	int ret;

	backing = kzalloc_obj(*backing, GFP_KERNEL_ACCOUNT);
	if (!backing)
		return ERR_PTR(-ENOMEM);

	ret = bioset_init(&backing->bios, BIO_POOL_SIZE,
			  offsetof(struct vhost_blk_bio, bio),
			  BIOSET_NEED_BVECS);
	if (ret)
		goto err_free;

	backing->file = vhost_blk_reopen(user, writable, holder);
	if (IS_ERR(backing->file)) {
		ret = PTR_ERR(backing->file);
		goto err_bios;
	}
	backing->bdev = file_bdev(backing->file);
	backing->read_only = !writable || bdev_read_only(backing->bdev);

	ret = vhost_blk_prepare(backing);
	if (ret)
		goto err_file;
	return backing;

err_file:
	bdev_fput(backing->file);
err_bios:
	bioset_exit(&backing->bios);
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
	/* What somebody read through the page cache meanwhile may be stale. */
	if (!backing->read_only)
		invalidate_bdev(backing->bdev);
	bdev_fput(backing->file);
	bioset_exit(&backing->bios);
	kfree(backing);
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
		features |= BIT_ULL(VIRTIO_BLK_F_FLUSH);
	return features;
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

	config->capacity = __cpu_to_virtio64(true, bdev_nr_sectors(bdev));
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
				u64 sector, size_t bytes)
{
	u64 capacity = bdev_nr_sectors(backing->bdev);
	unsigned int block = bdev_logical_block_size(backing->bdev);

	return IS_ALIGNED(bytes, block) &&
	       IS_ALIGNED(sector, block >> SECTOR_SHIFT) &&
	       sector <= capacity &&
	       bytes >> SECTOR_SHIFT <= capacity - sector;
}

static void vhost_blk_io_put(struct vhost_blk_io *io)
{
	if (atomic_dec_and_test(&io->pending))
		io->done(io);
}

static void vhost_blk_bio_end(struct bio *bio)
{
	struct vhost_blk_io *io = bio->bi_private;

	/* Any of several errors will do. */
	if (unlikely(bio->bi_status))
		WRITE_ONCE(io->status, bio->bi_status);
	vhost_blk_io_put(io);
}

static void vhost_blk_io_start(struct vhost_blk_io *io)
{
	io->status = BLK_STS_OK;
	io->bios = NULL;
	atomic_set(&io->pending, 1);
}

/* Make a bio with room for @nr_vecs vectors; a bio set never fails GFP_NOIO. */
static struct bio *vhost_blk_bio_make(struct vhost_blk_io *io,
				      unsigned short nr_vecs, blk_opf_t opf)
{
	struct vhost_blk_backing *backing = io->backing;
	struct vhost_blk_bio *vbio;
	struct bio *bio;

	if (!io->bios && nr_vecs <= VHOST_BLK_INLINE_VECS) {
		vbio = &io->first;
		bio_init(&vbio->bio, backing->bdev, io->vecs,
			 VHOST_BLK_INLINE_VECS, opf);
	} else {
		bio = bio_alloc_bioset(backing->bdev, nr_vecs, opf, GFP_NOIO,
				       &backing->bios);
		vbio = container_of(bio, struct vhost_blk_bio, bio);
	}
	vbio->next = io->bios;
	io->bios = vbio;
	vbio->bio.bi_private = io;
	vbio->bio.bi_end_io = vhost_blk_bio_end;
	return &vbio->bio;
}

/*
 * Add pinned pages of @bytes bytes from @offset into the first one. A pin per
 * page and vector is what bio_release_pages() undoes, so that data which goes
 * on in the page where the vector so far ends must give its second pin back.
 */
static int vhost_blk_bio_add_pages(struct bio *bio, struct page **pages,
				   size_t offset, size_t bytes)
{
	unsigned int nr = DIV_ROUND_UP(offset + bytes, PAGE_SIZE);
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned int len = min(bytes, PAGE_SIZE - offset);
		unsigned short vcnt = bio->bi_vcnt;

		if (bio_add_page(bio, pages[i], len, offset) != len) {
			unpin_user_pages(pages + i, nr - i);
			return -EIO;
		}
		if (offset && bio->bi_vcnt == vcnt)
			unpin_user_page(pages[i]);
		bytes -= len;
		offset = 0;
	}
	return 0;
}

/* Take @bytes off the end of @bio, and off the pins what no vector needs now. */
static void vhost_blk_bio_shorten(struct bio *bio, unsigned int bytes)
{
	while (bytes) {
		struct bio_vec *bv = &bio->bi_io_vec[bio->bi_vcnt - 1];
		unsigned int cut = min(bytes, bv->bv_len);
		unsigned int keep = DIV_ROUND_UP(bv->bv_offset + bv->bv_len - cut,
						 PAGE_SIZE);
		unsigned int had = DIV_ROUND_UP(bv->bv_offset + bv->bv_len,
						PAGE_SIZE);

		if (cut == bv->bv_len)
			keep = 0;
		while (had-- > keep)
			unpin_user_page(bv->bv_page + had);

		bv->bv_len -= cut;
		if (!bv->bv_len)
			bio->bi_vcnt--;
		bio->bi_iter.bi_size -= cut;
		bytes -= cut;
	}
}

/*
 * Fill @bio from @iter until either is at its end. A bio that is full ends at a
 * logical block, and what was too much goes back to @iter.
 */
static int vhost_blk_bio_fill(struct bio *bio, struct iov_iter *iter)
{
	struct page *batch[VHOST_BLK_PIN_BATCH], **pages = batch;
	unsigned int over;

	bio_set_flag(bio, BIO_PAGE_PINNED);
	while (iov_iter_count(iter) && bio->bi_vcnt < bio->bi_max_vecs) {
		unsigned int room = min_t(unsigned int, VHOST_BLK_PIN_BATCH,
					  bio->bi_max_vecs - bio->bi_vcnt);
		size_t offset;
		ssize_t bytes;
		int ret;

		bytes = iov_iter_extract_pages(iter, &pages, SIZE_MAX, room, 0,
					       &offset);
		if (bytes <= 0)
			return bytes ?: -EFAULT;
		ret = vhost_blk_bio_add_pages(bio, pages, offset, bytes);
		if (ret)
			return ret;
	}

	over = bio->bi_iter.bi_size & (bdev_logical_block_size(bio->bi_bdev) - 1);
	if (over) {
		vhost_blk_bio_shorten(bio, over);
		iov_iter_revert(iter, over);
	}
	/* The device would have to gather one block from too many pieces. */
	return bio->bi_iter.bi_size ? 0 : -EINVAL;
}

/*
 * Whether the device can take the pieces of @iter as they are: addresses as its
 * DMA wants them, and lengths of whole blocks, without which the block layer
 * can't split a bio between any two of them.
 */
static bool vhost_blk_iter_fits(const struct iov_iter *iter,
				struct block_device *bdev)
{
	unsigned int block_mask = bdev_logical_block_size(bdev) - 1;
	unsigned int dma_mask = bdev_dma_alignment(bdev);
	const struct iovec *iov = iter_iov(iter);
	size_t skip = iter->iov_offset;
	size_t left = iov_iter_count(iter);

	for (; left; iov++) {
		size_t bytes = min(left, iov->iov_len - skip);

		if (((unsigned long)iov->iov_base + skip) & dma_mask ||
		    bytes & block_mask)
			return false;
		left -= bytes;
		skip = 0;
	}
	return true;
}

/**
 * vhost_blk_io_rw - read or write
 * @io: the operation, with @done and @backing set
 * @opf: REQ_OP_READ or REQ_OP_WRITE, with flags
 * @sector: where, in sectors of 512 bytes; the whole range was checked with
 *	vhost_blk_backing_contains()
 * @iter: user memory to write from or read into, at least one block of it, as
 *	iovecs
 *
 * Starts the operation. May sleep to get at user memory or at a bio. Must run
 * in the address space that @iter is of. Errors arrive by @io->status.
 */
void vhost_blk_io_rw(struct vhost_blk_io *io, blk_opf_t opf, sector_t sector,
		     struct iov_iter *iter)
{
	bool more;

	vhost_blk_io_start(io);
	if (!vhost_blk_iter_fits(iter, io->backing->bdev)) {
		io->status = BLK_STS_INVAL;
		vhost_blk_io_put(io);
		return;
	}

	do {
		struct bio *bio;
		int ret;

		bio = vhost_blk_bio_make(io, iov_iter_npages(iter, BIO_MAX_VECS),
					 opf);
		bio->bi_iter.bi_sector = sector;
		ret = vhost_blk_bio_fill(bio, iter);
		if (ret) {
			io->status = errno_to_blk_status(ret);
			vhost_blk_io_put(io);
			return;
		}
		sector += bio_sectors(bio);
		more = iov_iter_count(iter);
		/* On behalf of the next bio, before this one can end. */
		if (more)
			atomic_inc(&io->pending);
		submit_bio(bio);
	} while (more);
}

/**
 * vhost_blk_io_flush - make finished writes durable
 * @io: the operation, with @done and @backing set
 *
 * Starts the operation. May sleep.
 */
void vhost_blk_io_flush(struct vhost_blk_io *io)
{
	vhost_blk_io_start(io);
	submit_bio(vhost_blk_bio_make(io, 0, REQ_OP_WRITE | REQ_PREFLUSH |
				      REQ_SYNC));
}

/**
 * vhost_blk_io_release - let go what an operation held
 * @io: an operation whose @done was called, or one whose @bios is NULL
 *
 * May sleep. Touches no user memory through an address, so that it may run
 * anywhere.
 */
void vhost_blk_io_release(struct vhost_blk_io *io)
{
	struct vhost_blk_bio *vbio;

	while ((vbio = io->bios)) {
		io->bios = vbio->next;
		bio_release_pages(&vbio->bio, bio_op(&vbio->bio) == REQ_OP_READ);
		if (vbio == &io->first)
			bio_uninit(&vbio->bio);
		else
			bio_put(&vbio->bio);
	}
}
