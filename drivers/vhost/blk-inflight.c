// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: the record of the chains in flight, in memory of the VMM.
 *
 * vhost-user defines the record for split rings ("Inflight I/O tracking" in QEMU's
 * docs/interop/vhost-user.rst); see &struct vhost_blk_inflight. If the owner of the
 * device dies, the next owner of the ring passes the same record. It names the chains
 * that were fetched and not used. The new device redoes them, in the order of their
 * first fetch, before it fetches anything new.
 *
 * When the owner is killed, its worker goes on for a moment and may lose access to guest
 * memory at any step. Therefore the steps below are ordered so that the next start
 * understands the record after each of them.
 *
 * The record's pages are pinned while the ring is started, for two reasons:
 *
 * - Any process can write to the record.
 * - The first page identifies the record. A device whose owner was killed keeps the record
 *   until its last request has ended. Another device can't start with it before.
 */
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "blk.h"

static DEFINE_MUTEX(vhost_blk_records_lock); /* the list of records in use */
static LIST_HEAD(vhost_blk_records);

/* The address of the first byte identifies a record. */
static int vhost_blk_record_claim(struct vhost_blk_record *record)
{
	struct vhost_blk_record *other;
	int ret = 0;

	mutex_lock(&vhost_blk_records_lock);
	list_for_each_entry(other, &vhost_blk_records, node)
		if (other->area.pages[0] == record->area.pages[0] &&
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

/**
 * vhost_blk_record_open - claim the record
 * @queue: a queue that is being started
 *
 * Called with @vq.mutex held, in the owner's address space. May sleep. Without a record
 * it does nothing.
 *
 * Until the record is claimed, another device may still add used elements to the ring. Read
 * the used index after the claim.
 *
 * Return: 0, or
 *	-EBUSY	another device still has requests in flight with the same record
 *	-EFAULT	the record is not in the owner's memory
 *	-EINTR	the process is being killed
 *	-ENOMEM	the limit of locked memory is reached, or there is no memory
 */
int vhost_blk_record_open(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;
	struct mm_struct *mm = queue->vq.dev->mm;
	int ret;

	if (!record->addr)
		return 0;
	ret = vhost_blk_area_open(&record->area, mm, record->addr,
				  struct_size(record->map, desc, queue->vq.num));
	if (ret)
		return ret;
	ret = vhost_blk_record_claim(record);
	if (ret)
		vhost_blk_area_close(&record->area, mm);
	else
		record->map = record->area.map;
	return ret;
}

/* Sort by the order of fetching. */
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

/*
 * The last owner may have died after it wrote the used index, and before it cleared the
 * chains of that batch. Clear them now.
 */
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

/* Collect the chains to redo. The VMM may change the record at any time. */
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
	/* Each chain that was fetched is either used or in record->redo. */
	vq->last_avail_idx = vq->last_used_idx + num;
	vq->avail_idx = vq->last_avail_idx;
	return 0;
}

/**
 * vhost_blk_record_recover - read the chains to redo, and start recording
 * @queue: a queue that is being started, its record claimed and its used index read
 *
 * Called with @vq.mutex held. May sleep. Without a record it does nothing. With one it sets
 * @vq.last_avail_idx. If it fails, the caller has to call vhost_blk_record_close().
 *
 * Return: 0, or
 *	-EINVAL	the record contradicts itself or the ring
 *	-ENOMEM
 */
int vhost_blk_record_recover(struct vhost_blk_queue *queue)
{
	struct vhost_blk_record *record = &queue->record;
	struct vhost_blk_inflight *map = record->map;
	struct vhost_virtqueue *vq = &queue->vq;
	int ret = 0;

	if (!map)
		return 0;
	record->counter = 0;
	/* If nothing is in flight, ignore the rest: the ring may have been reset since. */
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
	/* A valid version says that the other fields are valid. */
	smp_store_release(&map->version, VHOST_BLK_INFLIGHT_VERSION);
	return 0;
}

/**
 * vhost_blk_record_close - stop recording, and release the record for another device
 * @queue: a queue with nothing in flight
 *
 * Called with @vq.mutex held, in any process. May sleep.
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
	record->map = NULL;
	vhost_blk_record_unclaim(record);
	vhost_blk_area_close(&record->area, queue->vq.dev->mm);
}

/**
 * vhost_blk_record_mark_fetched - record that a chain is in flight
 * @queue: a running queue with a record, its @vq.mutex held
 * @head: index of the chain's first descriptor, less than the size of the ring
 */
void vhost_blk_record_mark_fetched(struct vhost_blk_queue *queue, u16 head)
{
	struct vhost_blk_inflight_desc *desc = &queue->record.map->desc[head];

	WRITE_ONCE(desc->counter, queue->record.counter++);
	/* If inflight is 1, counter is valid. */
	smp_store_release(&desc->inflight, 1);
}

/**
 * vhost_blk_record_link_batch - record the chains that are about to be used
 * @queue: a running queue with a record; the caller owns its used ring: see blk-direct.c
 * @elems: the used elements; the caller's memory, not the guest's
 * @count: elements of @elems
 *
 * Any context.
 */
void vhost_blk_record_link_batch(struct vhost_blk_queue *queue,
				 const struct vring_used_elem *elems, unsigned int count)
{
	struct vhost_blk_inflight *map = queue->record.map;
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int i;

	for (i = 0; i < count; i++) {
		u16 head = vhost32_to_cpu(vq, elems[i].id);

		WRITE_ONCE(map->desc[head].next, map->last_batch_head);
		WRITE_ONCE(map->last_batch_head, head);
	}
	/* The list must be complete before the used index is written. */
	smp_wmb();
}

/**
 * vhost_blk_record_clear_batch - record that the chains of a batch were used
 * @queue: as for vhost_blk_record_link_batch(), after the used index was written
 * @elems: as for vhost_blk_record_link_batch()
 * @count: as for vhost_blk_record_link_batch()
 */
void vhost_blk_record_clear_batch(struct vhost_blk_queue *queue,
				  const struct vring_used_elem *elems, unsigned int count)
{
	struct vhost_blk_inflight *map = queue->record.map;
	struct vhost_virtqueue *vq = &queue->vq;
	unsigned int i;

	/* The used index must be written before inflight is cleared. */
	smp_wmb();
	for (i = 0; i < count; i++)
		WRITE_ONCE(map->desc[vhost32_to_cpu(vq, elems[i].id)].inflight, 0);
	/* used_idx says that inflight is cleared for all chains up to it. */
	smp_store_release(&map->used_idx, vq->last_used_idx);
}
