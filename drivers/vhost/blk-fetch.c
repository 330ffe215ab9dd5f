// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: how a descriptor chain is fetched.
 *
 * The fast path handles nearly all chains: no longer than drivers make them, each piece in
 * one memory region. It reads an indirect table at once, and tries the region of the
 * last address first. It makes no decision about what is valid. It leaves these cases to
 * the slow path:
 *
 * - an IOTLB, the dirty log, or a ring of the other endianness,
 * - a chain that is longer, or whose pieces cross regions,
 * - a chain with any error.
 *
 * The slow path is not vhost core's. vhost core takes the descriptors of an indirect
 * table in the order of the table, and ignores "next". Then one chain would mean two
 * things, depending on the path.
 */
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <linux/vhost_iotlb.h>

#include "blk.h"

/* False for @len 0, which wraps to a large value. */
static bool vhost_blk_region_contains(const struct vhost_blk_region *region,
				      u64 addr, u32 len)
{
	u64 offset = addr - region->start;

	return offset < region->size && (u64)len - 1 < region->size - offset;
}

/* Read each word once. The guest may change the descriptors at any time. */
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

/* Cache the region of @addr. Returns whether it contains all @len bytes. */
static noinline bool vhost_blk_fetch_find_region(struct vhost_blk_queue *queue,
						 u64 addr, u32 len)
{
	const struct vhost_iotlb_map *map =
		vhost_iotlb_itree_first(queue->vq.umem, addr, addr);

	if (!map || map->perm != VHOST_MAP_RW)
		return false;
	queue->fetch.region = (struct vhost_blk_region){
		.start = map->start,
		.size = map->last - map->start + 1,
		.user = map->addr,
	};
	return vhost_blk_region_contains(&queue->fetch.region, addr, len);
}

/* Translate to the owner's address. False if the piece is not in one region. */
static __always_inline bool
vhost_blk_fetch_translate(struct vhost_blk_queue *queue, u64 addr, u32 len,
			  void __user **user)
{
	const struct vhost_blk_region *region = &queue->fetch.region;

	if (unlikely(!vhost_blk_region_contains(region, addr, len)) &&
	    !vhost_blk_fetch_find_region(queue, addr, len))
		return false;
	*user = (void __user *)(uintptr_t)(region->user + addr - region->start);
	return true;
}

/*
 * Follow the chain that begins at fetch.descs[0], and fill vq->iov. If @num is not 0,
 * fetch.descs holds an indirect table of @num descriptors. Otherwise the next descriptors
 * are in the ring.
 */
static bool vhost_blk_fetch_chain(struct vhost_blk_queue *queue, unsigned int num)
{
	const struct vhost_blk_desc *desc = queue->fetch.descs;
	struct vhost_blk_chain *chain = &queue->fetch.chain;
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int limit = num ?: vq->num, steps;
	struct iovec *iov = vq->iov, *writable = iov;
	size_t out_bytes = 0, in_bytes = 0;

	for (steps = 0; steps < VHOST_BLK_FAST_CHAIN_MAX; steps++) {
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
			desc = &queue->fetch.descs[array_index_nospec(next, num)];
		else if (!vhost_blk_fetch_read(queue->fetch.descs, vq->desc + next, 1))
			return false;
	}
	return false;
}

/* Read and follow the indirect table that fetch.descs[0] refers to. */
static bool vhost_blk_fetch_table(struct vhost_blk_queue *queue)
{
	struct vhost_blk_desc *head = queue->fetch.descs;
	u32 len = le64_to_cpu(head->rest);
	unsigned int num = len / sizeof(*head);
	void __user *table;

	if (len % sizeof(*head) || num > VHOST_BLK_FAST_CHAIN_MAX)
		return false;
	return vhost_blk_fetch_translate(queue, le64_to_cpu(head->addr), len,
					 &table) &&
	       vhost_blk_fetch_read(queue->fetch.descs, table, num) &&
	       vhost_blk_fetch_chain(queue, num);
}

/* Update vq->avail_idx. On an error returns false and changes nothing. */
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
	/* Pairs with the driver's barrier: read ring entries and descriptors after idx. */
	smp_rmb();
	return true;
}

/**
 * vhost_blk_fetch_choose_path - decide whether the fast path can handle a ring
 * @queue: the queue, its @vq.mutex held
 *
 * To be called when the ring starts and when its features change. The IOTLB is added and
 * removed only while the ring is stopped.
 */
void vhost_blk_fetch_choose_path(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;

	queue->fetch.has_fast_path = !vq->iotlb && vhost_is_little_endian(vq) &&
				     !vhost_has_feature(vq, VHOST_F_LOG_ALL) &&
				     !vhost_blk_record_has_redo(&queue->record);
}

/**
 * vhost_blk_fetch_drop_region - drop the cached region
 * @queue: a queue with its @vq.mutex held
 *
 * To be called when the memory table may have changed.
 */
void vhost_blk_fetch_drop_region(struct vhost_blk_queue *queue)
{
	queue->fetch.region.size = 0;
}

/*
 * The fast path. Returns the index of the chain's first descriptor, the size of the ring
 * if it is empty, or -EOPNOTSUPP to use the slow path.
 */
static int vhost_blk_fetch_fast(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	__virtio16 entry;
	u16 head, flags;
	bool good;

	if (unlikely(!queue->fetch.has_fast_path))
		return -EOPNOTSUPP;
	if (vq->avail_idx == vq->last_avail_idx) {
		if (!vhost_blk_fetch_avail_idx(vq))
			return -EOPNOTSUPP;
		if (vq->avail_idx == vq->last_avail_idx)
			return vq->num;
	}
	if (get_user(entry, &vq->avail->ring[vq->last_avail_idx &
					     (vq->num - 1)]))
		return -EOPNOTSUPP;
	head = vhost16_to_cpu(vq, entry);
	if (head >= vq->num ||
	    !vhost_blk_fetch_read(queue->fetch.descs, vq->desc + head, 1))
		return -EOPNOTSUPP;

	flags = le64_to_cpu(queue->fetch.descs->rest) >> 32;
	if (flags == VRING_DESC_F_INDIRECT)
		good = vhost_blk_fetch_table(queue);
	else
		good = vhost_blk_fetch_chain(queue, 0);
	if (!good)
		return -EOPNOTSUPP;
	vq->last_avail_idx++;
	return head;
}

/* Slow path */

static void vhost_blk_fetch_send_miss(struct vhost_blk_queue *queue, u64 addr, u8 access)
{
	struct vhost_virtqueue *vq = &queue->vq;
	bool v2 = vhost_backend_has_feature(vq, VHOST_BACKEND_F_IOTLB_MSG_V2);
	struct vhost_iotlb_msg *msg;
	struct vhost_msg_node *node;

	node = vhost_new_msg(vq, v2 ? VHOST_IOTLB_MSG_V2 : VHOST_IOTLB_MSG);
	if (!node)
		return;
	msg = v2 ? &node->msg_v2.iotlb : &node->msg.iotlb;
	msg->type = VHOST_IOTLB_MISS;
	msg->iova = addr;
	msg->perm = access;
	vhost_enqueue_msg(vq->dev, &vq->dev->read_list, node);
}

/*
 * Translate @addr to *@user, the owner's address, and shorten *@len to what is contiguous
 * there. Returns 0, or
 *	-EFAULT	the address is in no memory region
 *	-EPERM	the translation does not permit @access
 *	-EAGAIN	the IOTLB lacks the address, and a miss was sent to the VMM
 */
static int vhost_blk_fetch_map(struct vhost_blk_queue *queue, u64 addr, u8 access,
			       void __user **user, size_t *len)
{
	struct vhost_virtqueue *vq = &queue->vq;
	const struct vhost_iotlb_map *map =
		vhost_iotlb_itree_first(vq->iotlb ?: vq->umem, addr, addr);

	if (!map && !vq->iotlb)
		return -EFAULT;
	if (!map) {
		vhost_blk_fetch_send_miss(queue, addr, access);
		return -EAGAIN;
	}
	if (!(map->perm & access))
		return -EPERM;
	*user = (void __user *)(uintptr_t)(map->addr + addr - map->start);
	*len = min_t(u64, *len - 1, map->last - addr) + 1;
	return 0;
}

/* Errors as for vhost_blk_fetch_map(), or -EFAULT if the memory can't be read. */
static int vhost_blk_fetch_copy(struct vhost_blk_queue *queue, void *to, u64 addr,
				size_t len)
{
	while (len) {
		void __user *user;
		size_t piece = len;
		int ret = vhost_blk_fetch_map(queue, addr, VHOST_ACCESS_RO, &user,
					      &piece);

		if (ret)
			return ret;
		if (copy_from_user(to, user, piece))
			return -EFAULT;
		to += piece;
		addr += piece;
		len -= piece;
	}
	return 0;
}

/* Read one index or entry of the available ring in one access. Errors as above. */
static int vhost_blk_fetch_avail(struct vhost_blk_queue *queue,
				 const __virtio16 __user *from, u16 *value)
{
	struct vhost_virtqueue *vq = &queue->vq;
	size_t len = sizeof(*from);
	__virtio16 entry;

	if (vq->iotlb) {
		void __user *user;
		int ret = vhost_blk_fetch_map(queue, (uintptr_t)from,
					      VHOST_ACCESS_RO, &user, &len);

		if (ret)
			return ret;
		from = user;
	}
	if (len < sizeof(*from) || get_user(entry, from))
		return -EFAULT;
	*value = vhost16_to_cpu(vq, entry);
	return 0;
}

/**
 * struct vhost_blk_table - the table that holds the descriptors of a chain
 * @addr: guest address of an indirect table
 * @num: number of descriptors
 * @indirect: an indirect table; otherwise the ring's descriptor table
 */
struct vhost_blk_table {
	u64 addr;
	unsigned int num;
	bool indirect;
};

static int vhost_blk_fetch_desc(struct vhost_blk_queue *queue,
				const struct vhost_blk_table *table, u16 index,
				struct vring_desc *desc)
{
	struct vhost_virtqueue *vq = &queue->vq;

	if (table->indirect)
		return vhost_blk_fetch_copy(queue, desc, table->addr +
					    index * sizeof(*desc), sizeof(*desc));
	if (vq->iotlb)
		return vhost_blk_fetch_copy(queue, desc,
					    (uintptr_t)(vq->desc + index),
					    sizeof(*desc));
	return copy_from_user(desc, vq->desc + index, sizeof(*desc)) ? -EFAULT : 0;
}

/* Virtio 1.4, section 2.7.5.3: no table within a table, and no NEXT beside INDIRECT. */
static int vhost_blk_fetch_enter_table(struct vhost_blk_queue *queue,
				       const struct vring_desc *desc,
				       struct vhost_blk_table *table)
{
	struct vhost_virtqueue *vq = &queue->vq;
	u32 len = vhost32_to_cpu(vq, desc->len);

	if (table->indirect || len % sizeof(*desc) ||
	    desc->flags & cpu_to_vhost16(vq, VRING_DESC_F_NEXT))
		return -EINVAL;
	table->addr = vhost64_to_cpu(vq, desc->addr);
	table->num = len / sizeof(*desc);
	table->indirect = true;
	return table->addr + len < table->addr ? -EFAULT : 0;
}

/* Add the memory of a descriptor to the chain. */
static int vhost_blk_fetch_add(struct vhost_blk_queue *queue,
			       const struct vring_desc *desc)
{
	struct vhost_blk_chain *chain = &queue->fetch.chain;
	struct vhost_virtqueue *vq = &queue->vq;
	bool writable = desc->flags & cpu_to_vhost16(vq, VRING_DESC_F_WRITE);
	const u64 start = vhost64_to_cpu(vq, desc->addr);
	const size_t len = vhost32_to_cpu(vq, desc->len);
	u64 addr = start;
	size_t left = len;

	if (!writable && chain->in)
		return -EINVAL;
	if (left && addr + left - 1 < addr)
		return -EFAULT;
	*(writable ? &chain->in_bytes : &chain->out_bytes) += left;
	while (left) {
		struct iovec *iov = &vq->iov[chain->out + chain->in];
		int ret;

		if (chain->out + chain->in == ARRAY_SIZE(vq->iov))
			return -ENOBUFS;
		iov->iov_len = left;
		ret = vhost_blk_fetch_map(queue, addr, writable ?
					  VHOST_ACCESS_WO : VHOST_ACCESS_RO,
					  &iov->iov_base, &iov->iov_len);
		if (ret)
			return ret;
		addr += iov->iov_len;
		left -= iov->iov_len;
		*(writable ? &chain->in : &chain->out) += 1;
	}
	/*
	 * With an IOTLB vq->log is for invalidations. The dirty log then takes the owner's
	 * addresses from vq->iov. Both arrays have the same size, and each entry of vq->log
	 * has an element of vq->iov.
	 */
	if (len && (vq->iotlb || (writable && chain->logged)))
		vq->log[chain->log_num++] = (struct vhost_log){ start, len };
	return 0;
}

/*
 * Follow the chain that begins at the ring's descriptor @next. The number of steps is
 * bounded because a chain can be a loop.
 */
static int vhost_blk_fetch_follow(struct vhost_blk_queue *queue, u16 next)
{
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_table table = { .num = vq->num };
	unsigned int steps;

	for (steps = 0; steps <= VHOST_BLK_MAX_RING; steps++) {
		struct vring_desc desc;
		int ret;

		if (next >= table.num)
			return -EINVAL;
		ret = vhost_blk_fetch_desc(queue, &table, next, &desc);
		if (ret)
			return ret;
		if (desc.flags & cpu_to_vhost16(vq, VRING_DESC_F_INDIRECT)) {
			ret = vhost_blk_fetch_enter_table(queue, &desc, &table);
			next = 0;
		} else {
			ret = vhost_blk_fetch_add(queue, &desc);
			next = vhost16_to_cpu(vq, desc.next);
			if (!(desc.flags & cpu_to_vhost16(vq, VRING_DESC_F_NEXT)))
				return ret;
		}
		if (ret)
			return ret;
	}
	return -EINVAL;
}

/*
 * Returns the head of the next available chain, the size of the ring if it is empty, or
 * an error of vhost_blk_fetch_avail().
 */
static int vhost_blk_fetch_head(struct vhost_blk_queue *queue)
{
	struct vhost_virtqueue *vq = &queue->vq;
	u16 idx, head;
	int ret;

	if (vq->avail_idx == vq->last_avail_idx) {
		ret = vhost_blk_fetch_avail(queue, &vq->avail->idx, &idx);
		if (!ret && (u16)(idx - vq->last_avail_idx) > vq->num)
			ret = -EINVAL;
		if (ret)
			return ret;
		if (idx == vq->last_avail_idx)
			return vq->num;
		vq->avail_idx = idx;
		/* As in vhost_blk_fetch_avail_idx(). */
		smp_rmb();
	}
	ret = vhost_blk_fetch_avail(queue, &vq->avail->ring[vq->last_avail_idx &
							    (vq->num - 1)],
				    &head);
	return ret ?: head < vq->num ? head : -EINVAL;
}

/* The slow path. Returns as vhost_blk_fetch(). Chains to be redone come first. */
static noinline int vhost_blk_fetch_slow(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;
	struct vhost_virtqueue *vq = &queue->vq;
	bool redo = vhost_blk_record_has_redo(record);
	int head, ret;

	head = redo ? record->redo[record->next_redo].head :
	       vhost_blk_fetch_head(queue);
	if (head < 0 || head == vq->num)
		return head;
	queue->fetch.chain = (struct vhost_blk_chain){
		.logged = vhost_has_feature(vq, VHOST_F_LOG_ALL),
		.is_redone = redo,
	};
	ret = vhost_blk_fetch_follow(queue, head);
	if (ret)
		return ret;
	if (!redo) {
		vq->last_avail_idx++;
		return head;
	}
	record->next_redo++;
	vhost_blk_fetch_choose_path(queue);
	return head;
}

/**
 * vhost_blk_fetch_undo - put the last chain back, so that it is fetched again
 * @queue: the queue after a successful vhost_blk_fetch()
 */
void vhost_blk_fetch_undo(struct vhost_blk_queue *queue)
{
	if (!queue->fetch.chain.is_redone) {
		queue->vq.last_avail_idx--;
		return;
	}
	queue->record.next_redo--;
	vhost_blk_fetch_choose_path(queue);
}

/**
 * vhost_blk_fetch - fetch the next chain
 * @queue: a running queue with its @vq.mutex held; @fetch.chain and @vq.iov receive the
 *	chain
 *
 * Virtio 1.4, section 2.7. May sleep to access guest memory.
 *
 * Return: index of the chain's first descriptor, the size of the ring if it is empty, or
 *	-EAGAIN	the IOTLB lacks a translation, and a miss was sent to the VMM
 *	-EINTR	guest memory is not accessible because the process is being killed
 *	others	the chain is invalid
 */
int vhost_blk_fetch(struct vhost_blk_queue *queue)
{
	int head;

	queue->fetch.chain.logged = false;
	queue->fetch.chain.is_redone = false;
	queue->fetch.chain.log_num = 0;
	queue->fetch.chain.may_use_reserve = false;
	head = vhost_blk_fetch_fast(queue);
	if (unlikely(head < 0))
		head = vhost_blk_fetch_slow(queue);
	if (unlikely(head == -EFAULT && fatal_signal_pending(current)))
		return -EINTR;
	if (unlikely(head < 0 && head != -EAGAIN))
		vq_err(&queue->vq, "Available chain %u can't be followed: %d\n",
		       queue->vq.last_avail_idx, head);
	return head;
}
