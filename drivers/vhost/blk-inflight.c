// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: a record of what is in flight, kept where the VMM wants it.
 *
 * It is the one that vhost-user defines for split rings ("Inflight I/O tracking" in
 * QEMU's docs/interop/vhost-user.rst), &struct vhost_blk_inflight. Whoever serves the
 * ring next, after the process that owned the device has died, learns from it which
 * chains were fetched and not used: these are done again, in the order in which they
 * were fetched, before anything new. The worker goes on for a moment when its process is
 * killed, and may lose the way to guest memory at any step; each prefix of the steps
 * below is one that the next start understands.
 *
 * The record's memory is pinned while the ring runs. So it can be written to from
 * anywhere, and it tells who else has it: a device whose process was killed has it until
 * its last request has ended, and until then nobody may do that again.
 */
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#include "blk.h"

static DEFINE_MUTEX(vhost_blk_records_lock); /* the list of records in use */
static LIST_HEAD(vhost_blk_records);

/* The place of the first byte tells records apart. */
static int vhost_blk_record_claim(struct vhost_blk_record *record)
{
	struct vhost_blk_record *other;
	int ret = 0;

	mutex_lock(&vhost_blk_records_lock);
	list_for_each_entry(other, &vhost_blk_records, node)
		if (other->pages[0] == record->pages[0] &&
		    offset_in_page(other->addr) == offset_in_page(record->addr))
			ret = -EBUSY;
	if (!ret)
		list_add(&record->node, &vhost_blk_records);
	mutex_unlock(&vhost_blk_records_lock);
	return ret;
}

static void vhost_blk_record_unclaim(struct vhost_blk_record *record)
{
	mutex_lock(&vhost_blk_records_lock);
	list_del(&record->node);
	mutex_unlock(&vhost_blk_records_lock);
}

static int vhost_blk_record_pin(struct vhost_blk_record *record, size_t bytes)
{
	unsigned int num = DIV_ROUND_UP(offset_in_page(record->addr) + bytes,
					PAGE_SIZE);
	int pinned;

	pinned = pin_user_pages_fast(record->addr & PAGE_MASK, num,
				     FOLL_WRITE | FOLL_LONGTERM, record->pages);
	if (pinned == num) {
		record->num_pages = num;
		return 0;
	}
	if (pinned > 0)
		unpin_user_pages(record->pages, pinned);
	return pinned < 0 ? pinned : -EFAULT;
}

static int vhost_blk_record_map(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;
	struct mm_struct *mm = queue->vq.dev->mm;
	void *map;
	int ret;

	ret = vhost_blk_record_pin(record, struct_size(record->map, desc,
						       queue->vq.num));
	if (ret)
		return ret;
	ret = account_locked_vm(mm, record->num_pages, true);
	if (ret)
		goto err_pin;
	ret = vhost_blk_record_claim(record);
	if (ret)
		goto err_account;
	map = vmap(record->pages, record->num_pages, VM_MAP, PAGE_KERNEL);
	if (!map) {
		ret = -ENOMEM;
		goto err_claim;
	}
	record->map = map + offset_in_page(record->addr);
	return 0;

err_claim:
	vhost_blk_record_unclaim(record);
err_account:
	account_locked_vm(mm, record->num_pages, false);
err_pin:
	unpin_user_pages(record->pages, record->num_pages);
	return ret;
}

/* The first that was fetched comes first. */
static int vhost_blk_record_compare(const void *a, const void *b)
{
	const struct vhost_blk_redo *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

static unsigned int vhost_blk_record_count(const struct vhost_blk_record *record,
					   unsigned int num)
{
	unsigned int i, count = 0;

	for (i = 0; i < num; i++)
		count += !!READ_ONCE(record->map->desc[i].inflight);
	return count;
}

/* The used index was written, but maybe not yet that those chains are done with. */
static int vhost_blk_record_end_batch(struct vhost_blk_queue *queue)
{
	struct vhost_blk_inflight *map = queue->record.map;
	struct vhost_virtqueue *vq = &queue->vq;
	u16 left = vq->last_used_idx - READ_ONCE(map->used_idx);
	u16 head = READ_ONCE(map->last_batch_head);

	if (left > vq->num)
		return -EINVAL;
	while (left--) {
		if (head >= vq->num)
			return -EINVAL;
		WRITE_ONCE(map->desc[head].inflight, 0);
		head = READ_ONCE(map->desc[head].next);
	}
	return 0;
}

/* Learn what is to be done again. The VMM can change the record meanwhile. */
static int vhost_blk_record_read(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;
	struct vhost_blk_inflight *map = record->map;
	struct vhost_virtqueue *vq = &queue->vq;
	struct vhost_blk_redo *redo;
	unsigned int i, num = 0;

	redo = kvcalloc(vq->num, sizeof(*redo), GFP_KERNEL_ACCOUNT);
	if (!redo)
		return -ENOMEM;
	for (i = 0; i < vq->num; i++)
		if (READ_ONCE(map->desc[i].inflight))
			redo[num++] = (struct vhost_blk_redo){
				.counter = READ_ONCE(map->desc[i].counter),
				.head = i,
			};
	sort(redo, num, sizeof(*redo), vhost_blk_record_compare, NULL);
	if (num)
		record->counter = redo[num - 1].counter + 1;
	record->redo = redo;
	record->num_redo = num;
	/* What was fetched is used or in flight. */
	vq->last_avail_idx = vq->last_used_idx + num;
	vq->avail_idx = vq->last_avail_idx;
	return 0;
}

static int vhost_blk_record_recover(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;
	struct vhost_blk_inflight *map = record->map;
	struct vhost_virtqueue *vq = &queue->vq;
	int ret = 0;

	record->counter = 0;
	/* A ring that was stopped may have begun another life since. */
	if (vhost_blk_record_count(record, vq->num)) {
		if (READ_ONCE(map->version) != VHOST_BLK_INFLIGHT_VERSION ||
		    READ_ONCE(map->desc_num) != vq->num)
			return -EINVAL;
		ret = vhost_blk_record_end_batch(queue) ?:
		      vhost_blk_record_read(queue);
		if (ret)
			return ret;
	}
	WRITE_ONCE(map->features, 0);
	WRITE_ONCE(map->desc_num, vq->num);
	WRITE_ONCE(map->used_idx, vq->last_used_idx);
	/* The version says that the others are valid. */
	smp_store_release(&map->version, VHOST_BLK_INFLIGHT_VERSION);
	return 0;
}

/**
 * vhost_blk_record_open - begin to record, and learn what is to be done again
 * @queue: a queue that is being started, its used index read
 *
 * Called with @vq.mutex held, by the owner; may sleep. Without a record there is
 * nothing to do. Otherwise it decides which chain is fetched next.
 *
 * Return: 0; -EBUSY if another device has not ended all that is in flight by the same
 * record; -EINVAL if the record contradicts itself or the ring; -EFAULT if it is not in
 * the owner's memory; -ENOMEM if no memory may be locked for it, or there is none.
 */
int vhost_blk_record_open(struct vhost_blk_queue *queue)
{
	int ret;

	if (!queue->record.addr)
		return 0;
	ret = vhost_blk_record_map(queue);
	if (ret)
		return ret;
	ret = vhost_blk_record_recover(queue);
	if (ret)
		vhost_blk_record_close(queue);
	return ret;
}

/**
 * vhost_blk_record_close - leave the record to whoever starts the ring next
 * @queue: a queue with nothing in flight
 *
 * Called with @vq.mutex held, in any process; may sleep.
 */
void vhost_blk_record_close(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;

	if (!record->map)
		return;
	kvfree(record->redo);
	record->redo = NULL;
	record->num_redo = 0;
	record->next_redo = 0;
	vunmap((void *)((unsigned long)record->map & PAGE_MASK));
	record->map = NULL;
	vhost_blk_record_unclaim(record);
	account_locked_vm(queue->vq.dev->mm, record->num_pages, false);
	unpin_user_pages_dirty_lock(record->pages, record->num_pages, true);
}

/**
 * vhost_blk_record_mark_fetched - a chain is in flight from now on
 * @queue: a running queue with a record, its @vq.mutex held
 * @head: index of the chain's first descriptor, below the ring's size
 */
void vhost_blk_record_mark_fetched(struct vhost_blk_queue *queue, u16 head)
{
	struct vhost_blk_inflight_desc *desc = &queue->record.map->desc[head];

	WRITE_ONCE(desc->counter, queue->record.counter++);
	/* In flight means that the counter is valid. */
	smp_store_release(&desc->inflight, 1);
}

/**
 * vhost_blk_record_link_batch - chains are about to be used
 * @queue: a running queue with a record, its @vq.mutex held; the first @count of its
 *	vq->heads are the chains
 * @count: how many
 */
void vhost_blk_record_link_batch(struct vhost_blk_queue *queue, unsigned int count)
{
	struct vhost_blk_inflight *map = queue->record.map;
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int i;

	for (i = 0; i < count; i++) {
		u16 head = vhost32_to_cpu(vq, vq->heads[i].id);

		WRITE_ONCE(map->desc[head].next, map->last_batch_head);
		WRITE_ONCE(map->last_batch_head, head);
	}
	/* The used index, which comes next, says that the list is whole. */
	smp_wmb();
}

/**
 * vhost_blk_record_clear_batch - and they have been
 * @queue: as for vhost_blk_record_link_batch()
 * @count: likewise
 */
void vhost_blk_record_clear_batch(struct vhost_blk_queue *queue, unsigned int count)
{
	struct vhost_blk_inflight *map = queue->record.map;
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int i;

	/* Behind the used index. */
	smp_wmb();
	for (i = 0; i < count; i++)
		WRITE_ONCE(map->desc[vhost32_to_cpu(vq, vq->heads[i].id)].inflight, 0);
	/* It says that the batch has been struck off. */
	smp_store_release(&map->used_idx, vq->last_used_idx);
}
