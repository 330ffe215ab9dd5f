// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: the short way to fetch a descriptor chain.
 *
 * vhost core reads every descriptor and looks up every address by itself, which
 * is most of what it costs to fetch a request. Nearly all chains are as long as a
 * driver makes them and in one memory region. Those are taken here: an indirect
 * table is read at once, and the region of the last address is tried first.
 *
 * Nothing is decided here. Whatever is not of that kind (an IOTLB, the dirty log,
 * a ring of the other endianness, a longer chain, and above all anything that is
 * wrong with one) is left untouched for vhost core, which alone says what is legal.
 */
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <linux/vhost_iotlb.h>

#include "blk.h"

/* An empty piece ends before it begins: it is in no region. */
static bool vhost_blk_region_contains(const struct vhost_blk_region *region,
				      u64 addr, u32 len)
{
	u64 offset = addr - region->start;

	return offset < region->size && (u64)len - 1 < region->size - offset;
}

/* Descriptors as they are at this moment, each word of them read once. */
static bool vhost_blk_fetch_read(struct vhost_blk_desc *descs,
				 const void __user *from, unsigned int num)
{
	const __le64 __user *word = from;
	unsigned int i;

	if (!user_read_access_begin(from, num * sizeof(*descs)))
		return false;
	for (i = 0; i < num; i++) {
		unsafe_get_user(descs[i].addr, word++, fault);
		unsafe_get_user(descs[i].rest, word++, fault);
	}
	user_read_access_end();
	return true;

fault:
	user_read_access_end();
	return false;
}

/* Remember the region that a piece of guest memory is in, if it is in one. */
static noinline bool vhost_blk_fetch_find_region(struct vhost_blk_queue *queue,
						 u64 addr, u32 len)
{
	const struct vhost_iotlb_map *map =
		vhost_iotlb_itree_first(queue->vq.umem, addr, addr);

	if (!map || map->perm != VHOST_MAP_RW)
		return false;
	queue->region = (struct vhost_blk_region){
		.start = map->start,
		.size = map->last - map->start + 1,
		.user = map->addr,
	};
	return vhost_blk_region_contains(&queue->region, addr, len);
}

/* The owner's address of guest memory. False if that isn't in one region. */
static __always_inline bool
vhost_blk_fetch_translate(struct vhost_blk_queue *queue, u64 addr, u32 len,
			  void __user **user)
{
	const struct vhost_blk_region *region = &queue->region;

	if (unlikely(!vhost_blk_region_contains(region, addr, len)) &&
	    !vhost_blk_fetch_find_region(queue, addr, len))
		return false;
	*user = (void __user *)(uintptr_t)(region->user + addr - region->start);
	return true;
}

/*
 * Follow the chain that begins with @descs[0], into vq->iov. The descriptors are in
 * an indirect table of @num, all of them in @descs, or if @num is 0 in the ring.
 */
static bool vhost_blk_fetch_chain(struct vhost_blk_queue *queue, unsigned int num)
{
	const struct vhost_blk_desc *desc = queue->descs;
	struct vhost_blk_chain *chain = &queue->chain;
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int limit = num ?: vq->num, steps;
	struct iovec *iov = vq->iov, *writable = iov;
	size_t out_bytes = 0, in_bytes = 0;

	for (steps = 0; steps < VHOST_BLK_ORDINARY_CHAIN; steps++) {
		u64 rest = le64_to_cpu(desc->rest);
		u16 flags = rest >> 32, next = rest >> 48;
		u32 len = rest;

		if (flags & VRING_DESC_F_INDIRECT ||
		    !vhost_blk_fetch_translate(queue, le64_to_cpu(desc->addr), len,
					       &iov->iov_base))
			return false;
		iov++->iov_len = len;
		if (flags & VRING_DESC_F_WRITE) {
			in_bytes += len;
		} else if (!in_bytes) {
			out_bytes += len;
			writable = iov;
		} else {
			return false;
		}
		if (!(flags & VRING_DESC_F_NEXT)) {
			chain->out = writable - vq->iov;
			chain->in = iov - writable;
			chain->out_bytes = out_bytes;
			chain->in_bytes = in_bytes;
			return true;
		}
		if (next >= limit)
			return false;
		if (num)
			desc = &queue->descs[array_index_nospec(next, num)];
		else if (!vhost_blk_fetch_read(queue->descs, vq->desc + next, 1))
			return false;
	}
	return false;
}

/* An indirect table, in one piece of memory, that @descs[0] tells of. */
static bool vhost_blk_fetch_table(struct vhost_blk_queue *queue)
{
	struct vhost_blk_desc *head = queue->descs;
	u32 len = le64_to_cpu(head->rest);
	unsigned int num = len / sizeof(*head);
	void __user *table;

	if (len % sizeof(*head) || num > VHOST_BLK_ORDINARY_CHAIN)
		return false;
	return vhost_blk_fetch_translate(queue, le64_to_cpu(head->addr), len,
					 &table) &&
	       vhost_blk_fetch_read(queue->descs, table, num) &&
	       vhost_blk_fetch_chain(queue, num);
}

/*
 * Learn what else the guest has made available. False if that can't be, in which
 * case nothing is changed and vhost core will say so.
 */
static bool vhost_blk_fetch_avail_idx(struct vhost_virtqueue *vq)
{
	__virtio16 entry;
	u16 idx;

	if (get_user(entry, &vq->avail->idx))
		return false;
	idx = vhost16_to_cpu(vq, entry);
	if ((u16)(idx - vq->last_avail_idx) > vq->num)
		return false;
	vq->avail_idx = idx;
	/* The entries of the ring and their descriptors are read after it. */
	smp_rmb();
	return true;
}

/**
 * vhost_blk_fetch_begin - prepare for fetching
 * @queue: a running queue whose @vq.mutex was just taken
 *
 * Without the mutex what the ring is like can change.
 */
void vhost_blk_fetch_begin(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;

	queue->is_ordinary = !vq->iotlb && vhost_is_little_endian(vq) &&
			     !vhost_has_feature(vq, VHOST_F_LOG_ALL);
}

/**
 * vhost_blk_fetch_forget - look the memory table up anew
 * @queue: a queue with its @vq.mutex held
 */
void vhost_blk_fetch_forget(struct vhost_blk_queue *queue)
{
	queue->region.size = 0;
}

/**
 * vhost_blk_fetch_ordinary - fetch the next chain if it is an ordinary one
 * @queue: a running queue with its @vq.mutex held, after vhost_blk_fetch_begin();
 *	its @chain gets what @vq.iov has of the chain then
 *
 * Virtio 1.4, section 2.7. May sleep to get at guest memory.
 *
 * Return: index of the chain's first descriptor; the size of the ring if it is
 * empty; or -EAGAIN if vhost core has to be asked, because this is nothing for
 * here.
 */
int vhost_blk_fetch_ordinary(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	__virtio16 entry;
	u16 head, flags;
	bool good;

	if (unlikely(!queue->is_ordinary))
		return -EAGAIN;
	if (vq->avail_idx == vq->last_avail_idx) {
		if (!vhost_blk_fetch_avail_idx(vq))
			return -EAGAIN;
		if (vq->avail_idx == vq->last_avail_idx)
			return vq->num;
	}
	if (get_user(entry, &vq->avail->ring[vq->last_avail_idx &
					     (vq->num - 1)]))
		return -EAGAIN;
	head = vhost16_to_cpu(vq, entry);
	if (head >= vq->num ||
	    !vhost_blk_fetch_read(queue->descs, vq->desc + head, 1))
		return -EAGAIN;

	flags = le64_to_cpu(queue->descs->rest) >> 32;
	if (flags == VRING_DESC_F_INDIRECT)
		good = vhost_blk_fetch_table(queue);
	else
		good = vhost_blk_fetch_chain(queue, 0);
	if (!good)
		return -EAGAIN;
	vq->last_avail_idx++;
	return head;
}
