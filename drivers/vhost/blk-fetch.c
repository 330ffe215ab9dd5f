// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: the short way to fetch a descriptor chain.
 *
 * vhost core reads every descriptor and looks up every address by itself, which
 * is most of what it costs to fetch a request. Nearly all chains are short, in one
 * memory region and in order. Those are taken here: an indirect table is read at
 * once, and the region of the last address is tried first.
 *
 * Nothing is decided here. Whatever is not of that kind (an IOTLB, the dirty log,
 * a ring of the other endianness, a long chain, and above all anything that is
 * wrong with one) is left untouched for vhost core, which alone says what is legal.
 */
#include <linux/uaccess.h>
#include <linux/vhost_iotlb.h>

#include "blk.h"

/* Descriptors of an ordinary request: its data, header and status. */
#define VHOST_BLK_SHORT_CHAIN	(VHOST_BLK_INLINE_VECS + 2)

/* The owner's address of guest memory, or NULL if it isn't in one region. */
static void __user *vhost_blk_fetch_translate(struct vhost_blk_queue *queue,
					      u64 addr, u32 len, u32 perm)
{
	const struct vhost_iotlb_map *region = queue->region;
	u64 last = addr + len - 1;

	if (unlikely(!len || last < addr))
		return NULL;
	if (unlikely(!region || addr < region->start || last > region->last)) {
		region = vhost_iotlb_itree_first(queue->vq.umem, addr, last);
		if (!region || addr < region->start || last > region->last)
			return NULL;
		queue->region = region;
	}
	if (unlikely(!(region->perm & perm)))
		return NULL;
	return (void __user *)(uintptr_t)(region->addr + addr - region->start);
}

/* Add a descriptor to the chain in vq->iov. */
static bool vhost_blk_fetch_add(struct vhost_blk_queue *queue,
				const struct vring_desc *desc,
				struct vhost_blk_chain *chain)
{
	u16 flags = le16_to_cpu((__force __le16)desc->flags);
	u32 len = le32_to_cpu((__force __le32)desc->len);
	bool write = flags & VRING_DESC_F_WRITE;
	struct iovec *iov = &queue->vq.iov[chain->out + chain->in];

	if (unlikely(flags & VRING_DESC_F_INDIRECT || (!write && chain->in)))
		return false;
	iov->iov_base = vhost_blk_fetch_translate(queue,
						  le64_to_cpu((__force __le64)desc->addr),
						  len, write ? VHOST_MAP_WO :
							       VHOST_MAP_RO);
	iov->iov_len = len;
	chain->in += write;
	chain->out += !write;
	return iov->iov_base;
}

/* An indirect table: descriptors in whatever order, in one piece of memory. */
static bool vhost_blk_fetch_table(struct vhost_blk_queue *queue,
				  const struct vring_desc *head,
				  struct vhost_blk_chain *chain)
{
	struct vring_desc table[VHOST_BLK_SHORT_CHAIN];
	u32 len = le32_to_cpu((__force __le32)head->len);
	unsigned int num = len / sizeof(*table), i = 0, steps;
	void __user *from;

	if (len % sizeof(*table) || num > VHOST_BLK_SHORT_CHAIN)
		return false;
	from = vhost_blk_fetch_translate(queue,
					 le64_to_cpu((__force __le64)head->addr),
					 len, VHOST_MAP_RO);
	if (!from || copy_from_user(table, from, len))
		return false;

	for (steps = 0; steps < num; steps++) {
		if (!vhost_blk_fetch_add(queue, &table[i], chain))
			return false;
		if (!((__force __le16)table[i].flags & cpu_to_le16(VRING_DESC_F_NEXT)))
			return true;
		i = le16_to_cpu((__force __le16)table[i].next);
		if (i >= num)
			return false;
	}
	return false;
}

/* Descriptors of the ring itself. */
static bool vhost_blk_fetch_ring(struct vhost_blk_queue *queue,
				 struct vring_desc *desc,
				 struct vhost_blk_chain *chain)
{
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int steps;

	for (steps = 0; steps < VHOST_BLK_SHORT_CHAIN; steps++) {
		u16 next;

		if (!vhost_blk_fetch_add(queue, desc, chain))
			return false;
		if (!((__force __le16)desc->flags & cpu_to_le16(VRING_DESC_F_NEXT)))
			return true;
		next = le16_to_cpu((__force __le16)desc->next);
		if (next >= vq->num ||
		    copy_from_user(desc, vq->desc + next, sizeof(*desc)))
			return false;
	}
	return false;
}

/**
 * vhost_blk_fetch_short - fetch the next chain if it is an ordinary one
 * @queue: a running queue with its @vq.mutex held; its @region was found since
 *	that was taken, or is NULL
 * @chain: gets what @vq.iov has of the chain then
 *
 * Virtio 1.4, section 2.7. May sleep to get at guest memory.
 *
 * Return: index of the chain's first descriptor, or -EAGAIN if vhost core has to
 * be asked, because there is no chain or none for here.
 */
int vhost_blk_fetch_short(struct vhost_blk_queue *queue,
			  struct vhost_blk_chain *chain)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vring_desc desc;
	__virtio16 entry;
	bool good;
	u16 head;

	/* vhost core reads the index, and orders that before the entries. */
	if (vq->avail_idx == vq->last_avail_idx || vq->iotlb ||
	    vhost_has_feature(vq, VHOST_F_LOG_ALL) ||
	    !vhost_is_little_endian(vq))
		return -EAGAIN;
	if (get_user(entry, &vq->avail->ring[vq->last_avail_idx &
					     (vq->num - 1)]))
		return -EAGAIN;
	head = vhost16_to_cpu(vq, entry);
	if (head >= vq->num ||
	    copy_from_user(&desc, vq->desc + head, sizeof(desc)))
		return -EAGAIN;

	chain->out = 0;
	chain->in = 0;
	if ((__force __le16)desc.flags == cpu_to_le16(VRING_DESC_F_INDIRECT))
		good = vhost_blk_fetch_table(queue, &desc, chain);
	else
		good = vhost_blk_fetch_ring(queue, &desc, chain);
	if (!good)
		return -EAGAIN;
	vq->last_avail_idx++;
	return head;
}
