// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk storage: operations on the backing device as bios.
 *
 * An operation usually is one bio. It is several bios if its data needs more vectors than
 * one bio holds. The first bio and its vectors are part of struct vhost_blk_io, so that
 * most operations allocate nothing.
 *
 * Guest memory that is pinned already (channel->memory) is added to a bio as it is. Any
 * other page of the guest is pinned while a bio is filled. It is released in process
 * context, because marking a page dirty may sleep and the end of a bio may not.
 *
 * A bio waits in channel->made until the owner submits it. Submitting may sleep until the
 * device has ended other bios.
 *
 * Data goes through a bounce buffer, part by part, in these cases:
 *
 * - The device's DMA can't take its address, or its pieces are not whole blocks.
 * - It is written to a device that reads it more than once, for a checksum or for a
 *   second copy. The guest may change it in between.
 * - A read failed because of a checksum. Two pieces of the data can be the same page.
 *
 * vhost_blk_io_continue() copies the data that was read, and starts the next part.
 *
 * Ranges longer than the device's current limit are also split into parts.
 *
 * Starting an operation never waits for memory. A bio beyond the first, a bounce buffer or
 * a copy of ranges is allocated if possible. Otherwise the start fails with -EBUSY, and
 * nothing was started. When nothing else of the channel is in flight, the caller sets
 * may_use_reserve. Then the operation uses what the channel has in reserve: one bio
 * (channel->spare), one bounce buffer, and one list of ranges. If one bio is not enough for
 * the operation, it goes on in parts.
 */
#include <linux/blkdev.h>
#include <linux/slab.h>

#include "blk.h"

/* The most vectors of a bio beyond the first. The allocation then fits into one page. */
#define VHOST_BLK_MAX_VECS	240

/* Flags of a polled bio; see vhost_blk_io_can_poll(). */
#define VHOST_BLK_POLLED	(REQ_POLLED | REQ_NOWAIT | REQ_NOMERGE)

/*
 * Tags to allocate at once. The block layer takes them from one word of its bitmap. With
 * 64 tags a word has 16 of them, so a larger number gains nothing.
 */
#define VHOST_BLK_TAG_BATCH	16u

/* Parts of ranges in flight at once. */
#define VHOST_BLK_MAX_PARTS	32

/* Pages in all bounce buffers of a channel at which no more are allocated. */
#define VHOST_BLK_MAX_BOUNCE_PAGES	1024

/**
 * struct vhost_blk_bio - a bio of an operation beyond the first one
 * @node: in vhost_blk_channel.ended
 * @bio: the bio
 * @vecs: its vectors
 */
struct vhost_blk_bio {
	struct llist_node node;
	struct bio bio;
	struct bio_vec vecs[];
};

/**
 * struct vhost_blk_bounce - a bounce buffer and the data that goes through it
 * @iter: the guest memory that is left
 * @iov: copy of the iovecs of @iter, or NULL if @iter uses the caller's
 * @opf: operation and flags of all parts
 * @sector: start of the next part
 * @is_reserve: it is vhost_blk_channel.reserve
 * @num_pages: elements of @pages; 0 if the buffer is not needed yet
 * @pages: the pages; whole logical blocks of the device
 */
struct vhost_blk_bounce {
	struct iov_iter iter;
	const void *iov;
	blk_opf_t opf;
	sector_t sector;
	bool is_reserve;
	unsigned int num_pages;
	struct page *pages[VHOST_BLK_INLINE_VECS];
};

static struct block_device *vhost_blk_io_bdev(const struct vhost_blk_io *io)
{
	return io->channel->bdev;
}

/* Bios */

static void vhost_blk_io_start(struct vhost_blk_io *io)
{
	io->status = BLK_STS_OK;
	atomic_set(&io->pending, 1);
}

/**
 * vhost_blk_io_mark_void - mark a failed operation as void if its owner is being killed
 * @io: an operation that is being started or continued
 *
 * A process that is being killed can't pin its memory. The failure then says nothing
 * about the request.
 */
void vhost_blk_io_mark_void(struct vhost_blk_io *io)
{
	io->is_void |= fatal_signal_pending(current);
}

static void vhost_blk_io_put(struct vhost_blk_io *io)
{
	if (atomic_dec_and_test(&io->pending))
		io->done(io);
}

static void vhost_blk_bio_end(struct bio *bio)
{
	struct vhost_blk_io *io = bio->bi_private;
	struct vhost_blk_channel *channel = io->channel;

	/* If several bios fail, the last error stored wins. Any one is correct. */
	if (unlikely(bio->bi_status))
		WRITE_ONCE(io->status, bio->bi_status);
	if (bio != &io->first) {
		struct vhost_blk_bio *further =
			container_of(bio, struct vhost_blk_bio, bio);

		llist_add(&further->node, &channel->ended);
	}
	if (unlikely(io->is_polled))
		atomic_dec(&channel->num_polled);
	/* The owner may free the operation and the channel from here on. */
	vhost_blk_io_put(io);
}

/* Unpin the guest's pages if the bio has pins of its own. May sleep. */
static void vhost_blk_bio_release(struct bio *bio)
{
	bool written = bio_op(bio) == REQ_OP_READ;
	unsigned int i;

	/*
	 * One call per vector, which matches the pins. Most guest pages are already
	 * dirty. The call skips the page lock for them.
	 */
	for (i = 0; bio_flagged(bio, BIO_PAGE_PINNED) && i < bio->bi_vcnt; i++) {
		struct bio_vec *bv = &bio->bi_io_vec[i];
		unsigned int pages = DIV_ROUND_UP(bv->bv_offset + bv->bv_len,
						  PAGE_SIZE);

		unpin_user_page_range_dirty_lock(bv->bv_page, pages, written);
	}
	bio_uninit(bio);
}

static void vhost_blk_channel_release_ended(struct vhost_blk_channel *channel)
{
	struct vhost_blk_bio *further, *next;

	if (llist_empty(&channel->ended))
		return;
	llist_for_each_entry_safe(further, next, llist_del_all(&channel->ended),
				  node) {
		vhost_blk_bio_release(&further->bio);
		if (channel->spare ||
		    further->bio.bi_max_vecs != VHOST_BLK_MAX_VECS)
			kfree(further);
		else
			channel->spare = further;
	}
}

static void vhost_blk_channel_add(struct vhost_blk_channel *channel,
				  struct bio *bio)
{
	bio_list_add(&channel->made.bios, bio);
	channel->made.num++;
}

/**
 * vhost_blk_channel_take - take the bios that are to be submitted
 * @channel: the channel
 *
 * Return: the bios. The caller has to pass them to vhost_blk_submit().
 */
struct vhost_blk_bios vhost_blk_channel_take(struct vhost_blk_channel *channel)
{
	struct vhost_blk_bios made = channel->made;

	channel->made = (struct vhost_blk_bios){};
	return made;
}

/**
 * vhost_blk_submit - submit bios to the block layer
 * @bios: the result of vhost_blk_channel_take()
 *
 * May sleep for a tag, for as long as the device takes to end other bios. To be called
 * without a lock that is needed meanwhile. On return the operations and their channel
 * may be gone.
 */
void vhost_blk_submit(struct vhost_blk_bios *bios)
{
	struct blk_plug plug;
	struct bio *bio;

	/* A single bio gains nothing from a plug. */
	if (bios->num == 1) {
		submit_bio(bio_list_pop(&bios->bios));
		return;
	}
	blk_start_plug(&plug);
	while ((bio = bio_list_pop(&bios->bios))) {
		/* The number of tags to allocate at once. */
		plug.nr_ios = min(bios->num--, VHOST_BLK_TAG_BATCH);
		submit_bio(bio);
	}
	blk_finish_plug(&plug);
}

struct vhost_blk_submission {
	struct work_struct work;
	struct vhost_blk_bios bios;
};

static void vhost_blk_submission_work(struct work_struct *work)
{
	struct vhost_blk_submission *submission =
		container_of(work, struct vhost_blk_submission, work);

	vhost_blk_submit(&submission->bios);
	kfree(submission);
}

/**
 * vhost_blk_submit_async - let a kernel thread submit bios to the block layer
 * @bios: the result of vhost_blk_channel_take()
 * @waiter: submits them
 *
 * For callers that hold locks or that may be killed. May sleep, but waits for a tag only if
 * there is no memory. The bios keep the cgroup of the process in which they were made. On
 * return the operations and their channel may be gone.
 */
void vhost_blk_submit_async(struct vhost_blk_bios *bios,
			    struct vhost_blk_waiter *waiter)
{
	struct vhost_blk_submission *submission;

	if (!bios->num)
		return;
	submission = kzalloc_obj(*submission, GFP_NOIO);
	if (!submission) {
		vhost_blk_submit(bios);
		return;
	}
	INIT_WORK(&submission->work, vhost_blk_submission_work);
	submission->bios = *bios;
	queue_work(waiter->wq, &submission->work);
}

/*
 * Get a bio with @nr_vecs vectors. If memory is short, get channel->spare, and set
 * *@nr_vecs to its size. Any bio of that size can later become the spare. Returns NULL if
 * the spare is in use.
 */
static struct vhost_blk_bio *
vhost_blk_channel_get_bio(struct vhost_blk_channel *channel,
			  unsigned int *nr_vecs)
{
	struct vhost_blk_bio *further;

	further = kmalloc(struct_size(further, vecs, *nr_vecs),
			  VHOST_BLK_GFP_TRY);
	if (likely(further))
		return further;
	further = channel->spare;
	channel->spare = NULL;
	*nr_vecs = VHOST_BLK_MAX_VECS;
	return further;
}

/* Set the fields that bio_init() and bio_reset() clear. */
static void vhost_blk_bio_attach(struct vhost_blk_io *io, struct bio *bio)
{
	bio->bi_ioprio = io->priority;
	bio->bi_private = io;
	bio->bi_end_io = vhost_blk_bio_end;
}

/*
 * Get and initialize a bio with @nr_vecs vectors, or with fewer. Returns NULL if there is
 * no memory. The first bio of an operation needs none if it is small.
 */
static struct bio *vhost_blk_bio_make(struct vhost_blk_io *io,
				      unsigned int nr_vecs, blk_opf_t opf)
{
	struct block_device *bdev = vhost_blk_io_bdev(io);
	struct bio *bio;

	if (!io->has_first && nr_vecs <= VHOST_BLK_INLINE_VECS) {
		io->has_first = true;
		bio = &io->first;
		bio_init(bio, bdev, io->vecs, VHOST_BLK_INLINE_VECS, opf);
	} else {
		struct vhost_blk_bio *further;

		nr_vecs = min_t(unsigned int, nr_vecs, VHOST_BLK_MAX_VECS);
		further = vhost_blk_channel_get_bio(io->channel, &nr_vecs);
		if (unlikely(!further))
			return NULL;
		bio = &further->bio;
		bio_init(bio, bdev, further->vecs, nr_vecs, opf);
	}
	vhost_blk_bio_attach(io, bio);
	return bio;
}

/*
 * Add @bytes bytes in pinned pages, from @offset into the first page.
 *
 * vhost_blk_bio_release() drops one pin per vector and page. If data is merged into the
 * last vector, and begins in that vector's last page, this page has a second pin. Drop
 * it here.
 */
static int vhost_blk_bio_add_pages(struct bio *bio, struct page **pages,
				   size_t offset, size_t bytes)
{
	unsigned int nr = DIV_ROUND_UP(offset + bytes, PAGE_SIZE);
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned int len = min(bytes, PAGE_SIZE - offset);
		unsigned short vcnt = bio->bi_vcnt;

		if (!vcnt) {
			__bio_add_page(bio, pages[i], len, offset);
		} else if (bio_add_page(bio, pages[i], len, offset) != len) {
			unpin_user_pages(pages + i, nr - i);
			return -EIO;
		} else if (offset && bio->bi_vcnt == vcnt) {
			unpin_user_page(pages[i]);
		}
		bytes -= len;
		offset = 0;
	}
	return 0;
}

/* Cut @bytes off the end of @bio. Unpin the pages that no vector needs any more. */
static void vhost_blk_bio_shorten(struct bio *bio, unsigned int bytes)
{
	bool has_pins = bio_flagged(bio, BIO_PAGE_PINNED);

	while (bytes) {
		struct bio_vec *bv = &bio->bi_io_vec[bio->bi_vcnt - 1];
		unsigned int cut = min(bytes, bv->bv_len);
		unsigned int keep = DIV_ROUND_UP(bv->bv_offset + bv->bv_len - cut,
						 PAGE_SIZE);
		unsigned int had = DIV_ROUND_UP(bv->bv_offset + bv->bv_len,
						PAGE_SIZE);

		if (cut == bv->bv_len)
			keep = 0;
		while (has_pins && had-- > keep)
			unpin_user_page(bv->bv_page + had);

		bv->bv_len -= cut;
		if (!bv->bv_len)
			bio->bi_vcnt--;
		bio->bi_iter.bi_size -= cut;
		bytes -= cut;
	}
}

/* Move @data back by @bytes. */
static void vhost_blk_data_rewind(struct vhost_blk_data *data, size_t bytes)
{
	data->bytes += bytes;
	while (bytes > data->skip) {
		bytes -= data->skip;
		data->iov--;
		data->num++;
		data->skip = data->iov->iov_len;
	}
	data->skip -= bytes;
}

/* Pin the next pages of @data and add them to @bio. */
static int vhost_blk_bio_pin(struct bio *bio, struct vhost_blk_data *data,
			     struct page **pages)
{
	unsigned long addr = (unsigned long)data->iov->iov_base + data->skip;
	size_t bytes = min(data->iov->iov_len - data->skip, data->bytes);
	unsigned int flags = op_is_write(bio->bi_opf) ? 0 : FOLL_WRITE;
	unsigned int room = min_t(unsigned int, VHOST_BLK_PIN_BATCH,
				  bio->bi_max_vecs - bio->bi_vcnt);
	size_t offset = offset_in_page(addr);
	int pinned, ret;

	pinned = pin_user_pages_fast(addr - offset,
				     min_t(size_t, room,
					   DIV_ROUND_UP(offset + bytes,
							PAGE_SIZE)),
				     flags, pages);
	if (unlikely(pinned <= 0))
		return pinned ?: -EFAULT;
	bytes = min(bytes, pinned * PAGE_SIZE - offset);
	ret = vhost_blk_bio_add_pages(bio, pages, offset, bytes);
	if (!ret)
		vhost_blk_data_advance(data, bytes);
	return ret;
}

/* Pin pages for @bio until it is full or @data at its end. */
static int vhost_blk_bio_fill_pinning(struct bio *bio, struct vhost_blk_data *data,
				      struct page **pages)
{
	int ret = 0;

	bio_set_flag(bio, BIO_PAGE_PINNED);
	while (data->bytes && bio->bi_vcnt < bio->bi_max_vecs && likely(!ret))
		ret = vhost_blk_bio_pin(bio, data, pages);
	return ret;
}

/* The first piece of @data: its address and length. */
static unsigned long vhost_blk_data_piece(const struct vhost_blk_data *data, size_t *bytes)
{
	*bytes = min(data->iov->iov_len - data->skip, data->bytes);
	return (unsigned long)data->iov->iov_base + data->skip;
}

/*
 * Fill @bio with pages of @memory until it is full or @data at its end. If a part of the
 * data is not in @memory, return false and leave both as they were.
 */
static bool vhost_blk_bio_fill_found(struct bio *bio, struct vhost_blk_data *data,
				     const struct vhost_blk_memory *memory)
{
	struct vhost_blk_data left = *data;

	while (left.bytes && bio->bi_vcnt < bio->bi_max_vecs) {
		unsigned int num = bio->bi_max_vecs - bio->bi_vcnt;
		unsigned long addr;
		size_t bytes;

		addr = vhost_blk_data_piece(&left, &bytes);
		bytes = vhost_blk_memory_find(memory, addr, bytes,
					      bio->bi_io_vec + bio->bi_vcnt, &num);
		if (unlikely(!bytes)) {
			bio->bi_vcnt = 0;
			bio->bi_iter.bi_size = 0;
			return false;
		}
		bio->bi_vcnt += num;
		bio->bi_iter.bi_size += bytes;
		vhost_blk_data_advance(&left, bytes);
	}
	*data = left;
	return true;
}

/*
 * Fill @bio from @data until either is at its end. If the bio is full, cut it at a logical
 * block, and move @data back accordingly.
 */
static noinline int vhost_blk_bio_fill(struct vhost_blk_io *io, struct bio *bio,
				       struct vhost_blk_data *data)
{
	struct vhost_blk_channel *channel = io->channel;
	unsigned int over;
	int ret;

	if (channel->memory && vhost_blk_bio_fill_found(bio, data, channel->memory)) {
		io->memory = channel->memory;
	} else {
		ret = vhost_blk_bio_fill_pinning(bio, data, channel->pages);
		if (unlikely(ret))
			return ret;
	}

	over = bio->bi_iter.bi_size & (bdev_logical_block_size(bio->bi_bdev) - 1);
	if (unlikely(over)) {
		vhost_blk_bio_shorten(bio, over);
		vhost_blk_data_rewind(data, over);
	}
	/* Not even one block fitted: its pieces are more than the vectors of a bio. */
	return bio->bi_iter.bi_size ? 0 : -EINVAL;
}

/*
 * Submitting a polled bio must not sleep, neither for a tag nor for the end of a queue
 * freeze. Other polled bios may hold the tag or block the freeze, and nobody polls for
 * them meanwhile. Therefore:
 *
 * - Polled bios have REQ_NOWAIT. If submitting would sleep, the bio ends with
 *   BLK_STS_AGAIN, and is submitted again without polling when no polled one is in flight.
 * - No other operation is started while polled ones are in flight.
 *
 * Polled bios are not merged: a bio that is merged in front of one takes its cookie away.
 *
 * A disk with a poll_bio() of its own, as those of device mapper, may not be asked for a bio
 * that is still being submitted. This may be, since vq.mutex is not held meanwhile, and a
 * drain or another worker polls.
 */
static bool vhost_blk_io_can_poll(const struct vhost_blk_io *io,
				  unsigned int nr_vecs)
{
	struct block_device *bdev = vhost_blk_io_bdev(io);
	const struct queue_limits *limits = &bdev_get_queue(bdev)->limits;

	return !io->channel->poll_disabled && !bdev->bd_disk->fops->poll_bio &&
	       (limits->features & BLK_FEAT_POLL) &&
	       (limits->features & BLK_FEAT_NOWAIT) &&
	       nr_vecs <= VHOST_BLK_INLINE_VECS;
}

static bool vhost_blk_io_has_ended(const struct vhost_blk_io *io)
{
	return !atomic_read(&io->pending);
}

static void vhost_blk_io_rw_polled(struct vhost_blk_io *io, blk_opf_t opf,
				   sector_t sector, struct vhost_blk_data *data)
{
	struct bio *bio = vhost_blk_bio_make(io, VHOST_BLK_INLINE_VECS,
					     opf | VHOST_BLK_POLLED);

	bio->bi_iter.bi_sector = sector;
	if (vhost_blk_bio_fill(io, bio, data)) {
		vhost_blk_io_mark_void(io);
		bio_io_error(bio);
		return;
	}
	io->sector = sector;
	io->bytes = bio->bi_iter.bi_size;
	io->is_polled = true;
	atomic_inc(&io->channel->num_polled);
	list_add_tail(&io->polled, &io->channel->polled);
	vhost_blk_channel_add(io->channel, bio);
}

static void vhost_blk_io_resubmit_unpolled(struct vhost_blk_io *io)
{
	struct bio *bio = &io->first;
	bool has_pins = bio_flagged(bio, BIO_PAGE_PINNED);
	unsigned short vcnt = bio->bi_vcnt;
	blk_opf_t opf = bio->bi_opf & ~VHOST_BLK_POLLED;

	list_del_init(&io->polled);
	io->is_polled = false;
	vhost_blk_io_start(io);
	bio_reset(bio, vhost_blk_io_bdev(io), opf);
	if (has_pins)
		bio_set_flag(bio, BIO_PAGE_PINNED);
	bio->bi_iter.bi_sector = io->sector;
	bio->bi_iter.bi_size = io->bytes;
	bio->bi_vcnt = vcnt;
	vhost_blk_bio_attach(io, bio);
	vhost_blk_channel_add(io->channel, bio);
}

/*
 * Take back the bios of an operation that can't be started. vhost_blk_io_release() frees
 * them.
 */
static noinline void vhost_blk_io_unmake(struct vhost_blk_io *io)
{
	struct vhost_blk_channel *channel = io->channel;
	struct vhost_blk_bios made = vhost_blk_channel_take(channel);
	struct bio *bio;

	while ((bio = bio_list_pop(&made.bios))) {
		struct vhost_blk_bio *further =
			container_of(bio, struct vhost_blk_bio, bio);

		if (bio->bi_private != io)
			vhost_blk_channel_add(channel, bio);
		else if (bio != &io->first)
			llist_add(&further->node, &channel->ended);
	}
}

/* Data in the guest's pages */

/*
 * There is no memory for another bio. The data that is left becomes the next part of the
 * operation. Its iovecs must not change until then, so this needs @may_use_reserve.
 */
static noinline int vhost_blk_io_rw_defer(struct vhost_blk_io *io, blk_opf_t opf,
					  sector_t sector, struct vhost_blk_data *data,
					  bool may_use_reserve)
{
	if (!may_use_reserve) {
		vhost_blk_io_unmake(io);
		return -EBUSY;
	}
	io->has_rest = true;
	io->rest = data;
	io->rest_opf = opf;
	io->sector = sector;
	io->unfinished = true;
	vhost_blk_io_put(io);
	return 0;
}

/*
 * Returns 0, or -EBUSY as for vhost_blk_io_rw().
 *
 * Inlined by force. Otherwise the second, rare caller makes the compiler emit a call.
 */
static __always_inline int
vhost_blk_io_rw_direct(struct vhost_blk_io *io, blk_opf_t opf, sector_t sector,
		       struct vhost_blk_data *data, unsigned int nr_vecs,
		       bool may_use_reserve)
{
	struct vhost_blk_channel *channel = io->channel;

	/*
	 * The block layer compares each bio with all bios in the plug for a merge. Skip
	 * that unless this bio continues the last one. A following bio can still be
	 * merged with it.
	 */
	if (sector != channel->next_sector)
		opf |= REQ_NOMERGE;

	for (;;) {
		struct bio *bio = vhost_blk_bio_make(io, nr_vecs, opf);

		if (unlikely(!bio))
			return vhost_blk_io_rw_defer(io, opf, sector, data,
						     may_use_reserve);
		bio->bi_iter.bi_sector = sector;
		if (unlikely(vhost_blk_bio_fill(io, bio, data))) {
			vhost_blk_io_mark_void(io);
			bio_io_error(bio);
			return 0;
		}
		sector += bio_sectors(bio);
		channel->next_sector = sector;
		vhost_blk_channel_add(channel, bio);
		if (!data->bytes)
			return 0;
		/* For the next bio. */
		atomic_inc(&io->pending);
	}
}

/* Start the next part of an operation for which there was no memory. */
static noinline void vhost_blk_io_rw_rest(struct vhost_blk_io *io)
{
	io->has_rest = false;
	io->unfinished = false;
	vhost_blk_io_start(io);
	/* channel->spare is free, so that the part has a bio. */
	vhost_blk_io_rw_direct(io, io->rest_opf, io->sector, io->rest, VHOST_BLK_MAX_VECS,
			       true);
}

/* Bounce buffers */

static void vhost_blk_bounce_free_pages(struct vhost_blk_bounce *bounce)
{
	while (bounce->num_pages)
		__free_page(bounce->pages[--bounce->num_pages]);
}

/*
 * Allocate whole blocks of pages for up to @bytes bytes. Returns 0 or -ENOMEM. The pages
 * are zeroed: a device can report success without having written all of a read, and the
 * guest must not see old host memory.
 */
static int vhost_blk_bounce_alloc_pages(struct vhost_blk_bounce *bounce,
					struct block_device *bdev, size_t bytes,
					gfp_t gfp)
{
	unsigned int per_block = DIV_ROUND_UP(bdev_logical_block_size(bdev),
					      PAGE_SIZE);
	unsigned int want = min_t(size_t, DIV_ROUND_UP(bytes, PAGE_SIZE),
				  VHOST_BLK_INLINE_VECS);

	while (bounce->num_pages < want) {
		struct page *page = alloc_page(gfp | __GFP_ZERO);

		if (!page)
			break;
		bounce->pages[bounce->num_pages++] = page;
	}
	while (bounce->num_pages % per_block)
		__free_page(bounce->pages[--bounce->num_pages]);
	return bounce->num_pages ? 0 : -ENOMEM;
}

static int vhost_blk_bounce_get_pages(struct vhost_blk_channel *channel,
				      struct vhost_blk_bounce *bounce)
{
	int ret;

	if (channel->bounce_pages >= VHOST_BLK_MAX_BOUNCE_PAGES)
		return -ENOMEM;
	ret = vhost_blk_bounce_alloc_pages(bounce,
					   channel->bdev,
					   iov_iter_count(&bounce->iter),
					   VHOST_BLK_GFP_TRY);
	channel->bounce_pages += bounce->num_pages;
	return ret;
}

static struct vhost_blk_bounce *
vhost_blk_bounce_take_reserve(struct vhost_blk_channel *channel)
{
	struct vhost_blk_bounce *bounce = channel->reserve;

	channel->reserve = NULL;
	return bounce;
}

static void vhost_blk_bounce_free(struct vhost_blk_channel *channel,
				  struct vhost_blk_bounce *bounce)
{
	kfree(bounce->iov);
	if (bounce->is_reserve) {
		bounce->iov = NULL;
		channel->reserve = bounce;
		return;
	}
	channel->bounce_pages -= bounce->num_pages;
	vhost_blk_bounce_free_pages(bounce);
	kfree(bounce);
}

/* Allocate a bounce buffer for @iter, without pages. */
static struct vhost_blk_bounce *vhost_blk_bounce_make(struct iov_iter *iter)
{
	struct vhost_blk_bounce *bounce;

	bounce = kzalloc_obj(*bounce, VHOST_BLK_GFP_TRY);
	if (!bounce)
		return NULL;
	bounce->iov = dup_iter(&bounce->iter, iter, VHOST_BLK_GFP_TRY);
	if (bounce->iov)
		return bounce;
	kfree(bounce);
	return NULL;
}

/*
 * Get a bounce buffer for @data. With @defer_pages it has no pages yet. Returns NULL if
 * there is no memory and @may_use_reserve is false.
 */
static struct vhost_blk_bounce *
vhost_blk_bounce_get(struct vhost_blk_io *io, blk_opf_t opf, sector_t sector,
		     const struct vhost_blk_data *data, bool may_use_reserve, bool defer_pages)
{
	struct vhost_blk_channel *channel = io->channel;
	struct vhost_blk_bounce *bounce;
	struct iov_iter iter;

	vhost_blk_data_iter(data, op_is_write(opf) ? ITER_SOURCE : ITER_DEST,
			    &iter);
	bounce = vhost_blk_bounce_make(&iter);
	if (bounce && !defer_pages && vhost_blk_bounce_get_pages(channel, bounce)) {
		vhost_blk_bounce_free(channel, bounce);
		bounce = NULL;
	}
	if (!bounce && may_use_reserve) {
		bounce = vhost_blk_bounce_take_reserve(channel);
		bounce->iter = iter;
	}
	if (bounce) {
		bounce->opf = opf;
		bounce->sector = sector;
	}
	return bounce;
}

static void vhost_blk_io_put_bounces(struct vhost_blk_io *io)
{
	if (io->bounce)
		vhost_blk_bounce_free(io->channel, io->bounce);
	if (io->reread)
		vhost_blk_bounce_free(io->channel, io->reread);
	io->bounce = NULL;
	io->reread = NULL;
}

/* Start the next part of an operation, as large as the buffer. */
static void vhost_blk_bounce_submit(struct vhost_blk_io *io)
{
	struct vhost_blk_bounce *bounce = io->bounce;
	struct bio *bio = vhost_blk_bio_make(io, bounce->num_pages, bounce->opf);
	size_t left = iov_iter_count(&bounce->iter);
	unsigned int i;

	bio->bi_iter.bi_sector = bounce->sector;
	for (i = 0; left && i < bounce->num_pages; i++) {
		size_t len = min(left, PAGE_SIZE);

		if (op_is_write(bounce->opf) &&
		    copy_page_from_iter(bounce->pages[i], 0, len,
					&bounce->iter) != len) {
			vhost_blk_io_mark_void(io);
			bio_io_error(bio);
			return;
		}
		__bio_add_page(bio, bounce->pages[i], len, 0);
		left -= len;
	}
	bounce->sector += bio_sectors(bio);
	io->unfinished = left;
	io->bytes = bio->bi_iter.bi_size;
	io->bounce_needs_copy = !op_is_write(bounce->opf);
	vhost_blk_channel_add(io->channel, bio);
}

/* Returns whether all data that was read was copied to the guest. */
static bool vhost_blk_bounce_copy_read(struct vhost_blk_io *io)
{
	struct vhost_blk_bounce *bounce = io->bounce;
	size_t left = io->bytes;
	unsigned int i;

	for (i = 0; left; i++) {
		size_t len = min(left, PAGE_SIZE);

		if (copy_page_to_iter(bounce->pages[i], 0, len,
				      &bounce->iter) != len)
			return false;
		left -= len;
	}
	return true;
}

/*
 * The bits that must be 0 in the address of a piece. A driver that sets its DMA alignment
 * to less than 511 handles pieces of that alignment. 511 is the block layer's default.
 * Drivers with larger blocks that keep it may rely on a block being in one page.
 */
static unsigned int vhost_blk_piece_mask(struct block_device *bdev)
{
	unsigned int mask = bdev_dma_alignment(bdev);

	if (mask >= SECTOR_SIZE - 1)
		mask |= (bdev_logical_block_size(bdev) - 1) & ~PAGE_MASK;
	return mask;
}

/*
 * The most vectors that @data can need; 0 if the device can't take its pieces. They must
 * have the alignment of vhost_blk_piece_mask(). They must be whole blocks, because the
 * block layer can split a bio between any two pieces.
 */
static unsigned int vhost_blk_data_vecs(const struct vhost_blk_data *data,
					struct block_device *bdev)
{
	unsigned int block_mask = bdev_logical_block_size(bdev) - 1;
	unsigned int piece_mask = vhost_blk_piece_mask(bdev);
	const struct iovec *iov = data->iov;
	size_t skip = data->skip, left = data->bytes;
	unsigned int vecs = 0;

	for (; left; iov++) {
		unsigned long addr = (unsigned long)iov->iov_base + skip;
		size_t bytes = min(left, iov->iov_len - skip);

		if ((addr & piece_mask) | (bytes & block_mask))
			return 0;
		vecs += DIV_ROUND_UP(offset_in_page(addr) + bytes, PAGE_SIZE);
		left -= bytes;
		skip = 0;
	}
	return vecs;
}

/*
 * The vectors that @data needs if all of it is in @memory: fewer than pages, if folios are
 * large. Returns @pages if a part of it is not there.
 */
static unsigned int vhost_blk_data_found_vecs(struct vhost_blk_data data,
					      const struct vhost_blk_memory *memory,
					      unsigned int pages)
{
	unsigned int vecs = 0;

	while (data.bytes) {
		size_t bytes;
		unsigned long addr = vhost_blk_data_piece(&data, &bytes);
		unsigned int num = vhost_blk_memory_count(memory, addr, &bytes);

		if (!num)
			return pages;
		vecs += num;
		vhost_blk_data_advance(&data, bytes);
	}
	return vecs;
}

static int vhost_blk_io_rw_bounced(struct vhost_blk_io *io, blk_opf_t opf,
				   sector_t sector,
				   const struct vhost_blk_data *data, bool may_use_reserve)
{
	struct vhost_blk_bounce *bounce;

	bounce = vhost_blk_bounce_get(io, opf, sector, data, may_use_reserve, false);
	if (!bounce)
		return -EBUSY;
	io->bounce = bounce;
	vhost_blk_io_start(io);
	vhost_blk_bounce_submit(io);
	return 0;
}

/*
 * A read failed because of its checksum. Read again into a bounce buffer, which no other
 * piece shares. If there is no memory, use the reserve. While another operation has the
 * reserve, return -EBUSY.
 */
static int vhost_blk_io_reread(struct vhost_blk_io *io)
{
	struct vhost_blk_channel *channel = io->channel;
	struct vhost_blk_bounce *bounce = io->reread, *reserve;

	if (!bounce->num_pages && vhost_blk_bounce_get_pages(channel, bounce)) {
		reserve = vhost_blk_bounce_take_reserve(channel);
		if (!reserve) {
			cond_resched();
			return -EBUSY;
		}
		reserve->iter = bounce->iter;
		swap(reserve->iov, bounce->iov);
		reserve->opf = bounce->opf;
		reserve->sector = bounce->sector;
		vhost_blk_bounce_free(channel, bounce);
		bounce = reserve;
	}
	io->reread = NULL;
	vhost_blk_io_release(io);
	io->bounce = bounce;
	vhost_blk_io_start(io);
	vhost_blk_bounce_submit(io);
	return 1;
}

/**
 * vhost_blk_io_init - initialize an operation, once
 * @io: zeroed memory
 */
void vhost_blk_io_init(struct vhost_blk_io *io)
{
	INIT_LIST_HEAD(&io->polled);
}

/**
 * vhost_blk_io_rw - start a read or write
 * @io: the operation, with @done, @channel and @priority set
 * @opf: REQ_OP_READ or REQ_OP_WRITE, with flags
 * @sector: start, in sectors of 512 bytes; the whole range was checked with
 *	vhost_blk_backing_contains()
 * @data: user memory to write from or to read into, at least one block; consumed
 * @may_use_reserve: no other operation of the channel is in flight, and @data and its
 *	iovecs stay unchanged until this one has ended
 *
 * Must run in the address space of @data. May sleep for user memory. Errors of the
 * operation are in @io->status.
 *
 * Return: 0; or -EBUSY, only without @may_use_reserve, if there is no memory or if polled
 * operations must end first. Then nothing was started.
 */
int vhost_blk_io_rw(struct vhost_blk_io *io, blk_opf_t opf, sector_t sector,
		    struct vhost_blk_data *data, bool may_use_reserve)
{
	struct vhost_blk_channel *channel = io->channel;
	unsigned int nr_vecs = 0;

	if (likely(!channel->stable_writes) || !op_is_write(opf))
		nr_vecs = vhost_blk_data_vecs(data, vhost_blk_io_bdev(io));
	if (nr_vecs > VHOST_BLK_INLINE_VECS && channel->memory)
		nr_vecs = vhost_blk_data_found_vecs(*data, channel->memory, nr_vecs);
	if (unlikely(channel->checked_reads) && nr_vecs && !op_is_write(opf)) {
		io->reread = vhost_blk_bounce_get(io, opf, sector, data, may_use_reserve,
						  true);
		if (!io->reread)
			return -EBUSY;
	}

	if (channel->poll && nr_vecs && vhost_blk_io_can_poll(io, nr_vecs)) {
		vhost_blk_io_start(io);
		vhost_blk_io_rw_polled(io, opf, sector, data);
		return 0;
	}
	if (vhost_blk_channel_has_polled(channel))
		return -EBUSY;
	if (unlikely(!nr_vecs))
		return vhost_blk_io_rw_bounced(io, opf, sector, data, may_use_reserve);
	vhost_blk_io_start(io);
	return vhost_blk_io_rw_direct(io, opf, sector, data, nr_vecs, may_use_reserve);
}

/* Whether a range is longer than the device's current limit. */
static bool vhost_blk_ranges_need_split(const struct vhost_blk_io *io,
					const struct vhost_blk_range *ranges,
					unsigned int num)
{
	unsigned int i;

	for (i = 0; i < num; i++)
		if (ranges[i].sectors >
		    vhost_blk_backing_current_range(io->channel->backing,
						    ranges[i].opf & REQ_OP_MASK))
			return true;
	return false;
}

static void vhost_blk_io_put_ranges(struct vhost_blk_io *io)
{
	if (io->ranges != &io->channel->reserve_ranges)
		kfree(io->ranges);
	io->ranges = NULL;
}

/* Returns false if there is no memory. */
static bool vhost_blk_range_submit(struct vhost_blk_io *io,
				   const struct vhost_blk_range *range,
				   unsigned int sectors)
{
	struct bio *bio = vhost_blk_bio_make(io, 0, range->opf);

	if (unlikely(!bio))
		return false;
	bio->bi_iter.bi_sector = range->sector;
	bio->bi_iter.bi_size = sectors << SECTOR_SHIFT;
	atomic_inc(&io->pending);
	vhost_blk_channel_add(io->channel, bio);
	return true;
}

/*
 * The length of the next part of @range; 0 if the device can't do the operation any more.
 * A discard is split at the device's granularity, because devices ignore a part of a
 * unit.
 */
static unsigned int vhost_blk_range_part(const struct vhost_blk_backing *backing,
					 const struct vhost_blk_range *range)
{
	enum req_op op = range->opf & REQ_OP_MASK;
	unsigned int max = vhost_blk_backing_current_range(backing, op);
	unsigned int unit = bdev_discard_granularity(vhost_blk_backing_bdev(backing)) >>
			    SECTOR_SHIFT;
	u64 end = range->sector + max;
	u32 over;

	if (range->sectors <= max)
		return range->sectors;
	if (op != REQ_OP_DISCARD || unit <= 1)
		return max;
	div_u64_rem(end, unit, &over);
	return over < max ? max - over : max;
}

/*
 * Start the next parts of the ranges: at least one, because the first bio needs no memory.
 */
static void vhost_blk_ranges_submit(struct vhost_blk_io *io)
{
	struct vhost_blk_ranges *ranges = io->ranges;
	unsigned int parts = 0;

	vhost_blk_io_start(io);
	while (parts < VHOST_BLK_MAX_PARTS && ranges->next < ranges->num) {
		struct vhost_blk_range *range = &ranges->list[ranges->next];
		unsigned int sectors = vhost_blk_range_part(io->channel->backing,
							    range);

		if (range->sectors && !sectors) {
			WRITE_ONCE(io->status, BLK_STS_NOTSUPP);
			break;
		}
		if (sectors && !vhost_blk_range_submit(io, range, sectors))
			break;
		parts += !!sectors;
		range->sector += sectors;
		range->sectors -= sectors;
		if (!range->sectors)
			ranges->next++;
	}
	io->unfinished = ranges->next < ranges->num || io->flush_after;
	vhost_blk_io_put(io);
}

static int vhost_blk_io_ranges_in_parts(struct vhost_blk_io *io,
					const struct vhost_blk_range *ranges,
					unsigned int num, bool may_use_reserve)
{
	io->ranges = kzalloc_obj(*io->ranges, VHOST_BLK_GFP_TRY);
	if (!io->ranges && !may_use_reserve)
		return -EBUSY;
	if (!io->ranges)
		io->ranges = &io->channel->reserve_ranges;
	io->ranges->num = num;
	io->ranges->next = 0;
	memcpy(io->ranges->list, ranges, num * sizeof(*ranges));
	vhost_blk_ranges_submit(io);
	return 0;
}

/**
 * vhost_blk_io_ranges - start a discard, write zeroes or secure erase
 * @io: the operation, with @done, @channel and @priority set
 * @ranges: the ranges, each checked with vhost_blk_backing_contains() and no longer than
 *	vhost_blk_backing_max_range(); empty ones are skipped
 * @num: elements of @ranges, at most %VHOST_BLK_MAX_RANGES
 * @durable: end with a flush, because REQ_FUA is for writes of data only
 * @may_use_reserve: no other operation of the channel is in flight
 *
 * May sleep.
 *
 * If there is no memory for a bio for each range, they are submitted in parts.
 *
 * Return: 0; or -EBUSY if polled operations must end first, or without @may_use_reserve
 * if there is no memory. Then nothing was started.
 */
int vhost_blk_io_ranges(struct vhost_blk_io *io,
			const struct vhost_blk_range *ranges, unsigned int num,
			bool durable, bool may_use_reserve)
{
	unsigned int i;

	if (vhost_blk_channel_has_polled(io->channel))
		return -EBUSY;
	io->flush_after = durable;
	if (unlikely(vhost_blk_ranges_need_split(io, ranges, num)))
		return vhost_blk_io_ranges_in_parts(io, ranges, num, may_use_reserve);
	vhost_blk_io_start(io);
	io->unfinished = durable;
	for (i = 0; i < num; i++) {
		if (!ranges[i].sectors ||
		    vhost_blk_range_submit(io, &ranges[i], ranges[i].sectors))
			continue;
		vhost_blk_io_unmake(io);
		vhost_blk_io_release(io);
		return vhost_blk_io_ranges_in_parts(io, ranges, num, may_use_reserve);
	}
	vhost_blk_io_put(io);
	return 0;
}

/**
 * vhost_blk_io_flush - start a flush of the device's write cache
 * @io: the operation, with @done, @channel and @priority set
 *
 * May sleep.
 *
 * Return: 0; or -EBUSY if polled operations must end first. Then nothing was started.
 */
int vhost_blk_io_flush(struct vhost_blk_io *io)
{
	if (vhost_blk_channel_has_polled(io->channel))
		return -EBUSY;
	vhost_blk_io_start(io);
	vhost_blk_channel_add(io->channel,
			      vhost_blk_bio_make(io, 0, REQ_OP_WRITE |
						 REQ_PREFLUSH | REQ_SYNC));
	return 0;
}

/* The status of a bio that can't be polled, or whose submission would have slept. */
static bool vhost_blk_io_needs_resubmit(const struct vhost_blk_io *io)
{
	return (io->status == BLK_STS_AGAIN || io->status == BLK_STS_NOTSUPP) &&
	       io->is_polled;
}

static bool vhost_blk_io_needs_reread(const struct vhost_blk_io *io)
{
	return io->status == BLK_STS_PROTECTION && io->reread;
}

static bool vhost_blk_io_is_complete(const struct vhost_blk_io *io)
{
	if (unlikely(io->status))
		return !vhost_blk_io_needs_resubmit(io) &&
		       !vhost_blk_io_needs_reread(io);
	return likely(!io->unfinished);
}

static void vhost_blk_io_put_memory(struct vhost_blk_io *io)
{
	if (unlikely(io->memory != io->channel->memory))
		vhost_blk_memory_put_later(io->memory);
	io->memory = NULL;
}

static void vhost_blk_io_release_bios(struct vhost_blk_io *io)
{
	if (io->has_first) {
		vhost_blk_bio_release(&io->first);
		io->has_first = false;
	}
	vhost_blk_channel_release_ended(io->channel);
}

/**
 * vhost_blk_io_continue_slow - continue an operation whose @done was called
 * @io: the operation
 *
 * For vhost_blk_io_continue(). Must run in the address space of the operation's data. May
 * sleep.
 *
 * Return: 1 if another part was started, for which @done will be called again; 0 if the
 * operation has ended, with @io->status; -EBUSY if other operations must end first, and
 * the call has to be repeated.
 */
int vhost_blk_io_continue_slow(struct vhost_blk_io *io)
{
	if (unlikely(io->bounce_needs_copy)) {
		io->bounce_needs_copy = false;
		if (!io->status && !vhost_blk_bounce_copy_read(io)) {
			vhost_blk_io_mark_void(io);
			io->status = BLK_STS_IOERR;
		}
	}
	if (likely(vhost_blk_io_is_complete(io)))
		return 0;
	if (vhost_blk_channel_has_polled(io->channel))
		return -EBUSY;

	if (vhost_blk_io_needs_reread(io))
		return vhost_blk_io_reread(io);
	if (vhost_blk_io_needs_resubmit(io)) {
		vhost_blk_io_resubmit_unpolled(io);
	} else if (io->has_rest) {
		vhost_blk_io_release_bios(io);
		/* The next part may find other memory. */
		if (io->memory)
			vhost_blk_io_put_memory(io);
		vhost_blk_io_rw_rest(io);
	} else if (io->bounce) {
		vhost_blk_io_release_bios(io);
		vhost_blk_io_start(io);
		vhost_blk_bounce_submit(io);
	} else if (io->ranges && io->ranges->next < io->ranges->num) {
		vhost_blk_io_release_bios(io);
		vhost_blk_ranges_submit(io);
	} else {
		vhost_blk_io_release(io);
		vhost_blk_io_flush(io);
	}
	return 1;
}

/**
 * vhost_blk_io_keep_memory - keep the pages of an operation pinned
 * @io: an operation, in flight or not, whose channel's memory is about to be replaced
 *
 * Called with the queue's mutex held. From here on the operation has a reference of its own
 * to the memory that it uses.
 */
void vhost_blk_io_keep_memory(struct vhost_blk_io *io)
{
	if (io->memory && io->memory == io->channel->memory)
		vhost_blk_memory_get(io->memory);
}

/**
 * vhost_blk_io_release - release the resources of an operation
 * @io: an operation whose @done was called, or that was never started
 *
 * May run in any process, because it accesses no user memory by address. May sleep.
 */
void vhost_blk_io_release(struct vhost_blk_io *io)
{
	vhost_blk_io_release_bios(io);
	if (unlikely(io->is_polled))
		list_del_init(&io->polled);
	io->is_polled = false;
	io->unfinished = false;
	io->has_rest = false;
	io->bounce_needs_copy = false;
	if (unlikely(io->bounce || io->reread))
		vhost_blk_io_put_bounces(io);
	if (unlikely(io->ranges))
		vhost_blk_io_put_ranges(io);
	if (io->memory)
		vhost_blk_io_put_memory(io);
}

/**
 * vhost_blk_channel_init - initialize a channel, once
 * @channel: zeroed memory
 */
void vhost_blk_channel_init(struct vhost_blk_channel *channel)
{
	INIT_LIST_HEAD(&channel->polled);
	init_llist_head(&channel->ended);
}

/**
 * vhost_blk_channel_open - open a channel to a backing device
 * @channel: a closed channel
 * @backing: the backing device of its operations
 *
 * May sleep.
 *
 * Return: 0, or -ENOMEM if the reserves can't be allocated.
 */
int vhost_blk_channel_open(struct vhost_blk_channel *channel,
			   struct vhost_blk_backing *backing)
{
	struct block_device *bdev = vhost_blk_backing_bdev(backing);

	channel->backing = backing;
	channel->bdev = bdev;
	channel->poll_disabled = false;
	channel->stable_writes = bdev_stable_writes(bdev);
	channel->checked_reads = bdev_has_integrity_csum(bdev);
	channel->spare = kmalloc(struct_size(channel->spare, vecs,
					     VHOST_BLK_MAX_VECS),
				 GFP_KERNEL_ACCOUNT);
	channel->reserve = kzalloc_obj(*channel->reserve, GFP_KERNEL_ACCOUNT);
	if (!channel->spare || !channel->reserve ||
	    vhost_blk_bounce_alloc_pages(channel->reserve, bdev,
					 bdev_logical_block_size(bdev),
					 GFP_KERNEL_ACCOUNT)) {
		vhost_blk_channel_close(channel);
		return -ENOMEM;
	}
	channel->reserve->is_reserve = true;
	return 0;
}

/**
 * vhost_blk_channel_close - undo vhost_blk_channel_open()
 * @channel: a channel whose operations are all released; closing it twice is harmless
 */
void vhost_blk_channel_close(struct vhost_blk_channel *channel)
{
	vhost_blk_channel_release_ended(channel);
	kfree(channel->spare);
	channel->spare = NULL;
	if (channel->reserve)
		vhost_blk_bounce_free_pages(channel->reserve);
	kfree(channel->reserve);
	channel->reserve = NULL;
}

/**
 * vhost_blk_channel_poll - poll once for the end of the polled operations
 * @channel: the channel
 *
 * Return: true if some are still in flight.
 */
bool vhost_blk_channel_poll(struct vhost_blk_channel *channel)
{
	struct vhost_blk_io *io;

	if (!vhost_blk_channel_has_polled(channel))
		return false;
	list_for_each_entry(io, &channel->polled, polled)
		if (!vhost_blk_io_has_ended(io))
			bio_poll(&io->first, NULL, BLK_POLL_ONESHOT);
	return vhost_blk_channel_has_polled(channel);
}

/**
 * vhost_blk_channel_disable_polling - start no more polled operations
 * @channel: the channel, whose polled operations take too long
 *
 * Either the device is slow, or the block layer holds its bios back. Polling is enabled
 * again when the channel is opened. The polled operations in flight still need polling.
 */
void vhost_blk_channel_disable_polling(struct vhost_blk_channel *channel)
{
	channel->poll_disabled = true;
}
