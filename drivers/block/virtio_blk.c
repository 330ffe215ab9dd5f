// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: the guest driver for virtio block devices (virtio 1.4, section
 * 5.2).
 *
 * Every hardware queue of blk-mq is a virtqueue with its own lock and interrupt.
 * A request becomes a scatter-gather list of three parts: the header that the
 * device reads, the data, and the status byte that the device writes. Header,
 * status and the first data segments live in the request's driver part (struct
 * virtio_blk_pdu), so that an ordinary request allocates nothing here.
 *
 * The path of a request: queue_rq prepares the list outside of the queue's lock,
 * adds it to the ring under it, and kicks the device if the block layer says
 * that it is the last of its batch; commit_rqs kicks for batches that ended
 * early. The interrupt takes what the device has used and completes it on the
 * CPU that blk-mq wants.
 *
 * The device's configuration space is checked before it is believed: what makes
 * no sense fails the probe with a message, and a status byte that means nothing
 * fails one request.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string_helpers.h>
#include <linux/virtio.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "compat.h"

#define VIRTIO_BLK_MINORS	16

/* Data segments in the driver part of a request; longer lists are chained. */
#define VIRTIO_BLK_INLINE_SEGMENTS	2

/* Descriptors of a request that are not data: header and status. */
#define VIRTIO_BLK_OVERHEAD	2

/* No VIRTIO_BLK_S_* has this value. */
#define VIRTIO_BLK_STATUS_NONE	0xff

/* Bytes of the file offset type bound what a disk can hold. */
#define VIRTIO_BLK_MAX_CAPACITY	((u64)LLONG_MAX >> SECTOR_SHIFT)

static int virtio_blk_major;
static DEFINE_IDA(virtio_blk_ida);

/**
 * struct virtio_blk_queue - a virtqueue as blk-mq sees it
 * @vq: the virtqueue
 * @lock: protects @vq; taken in interrupts
 * @name: of the interrupt
 */
struct virtio_blk_queue {
	struct virtqueue *vq;
	spinlock_t lock; /* protects vq */
	char name[16];
} ____cacheline_aligned_in_smp;

/**
 * struct virtio_blk - a disk
 * @vdev: the device; NULL once it is removed
 * @disk: what the block layer shows of it
 * @tag_set: the requests
 * @queues: @num_queues of them
 * @num_queues: virtqueues in use
 * @index: place in the row of names vda, vdb, ...
 * @config_work: reads the configuration space after the device changed it
 *
 * Freed with the last reference to @disk, which a process that has it open may
 * hold longer than the device exists.
 */
struct virtio_blk {
	struct virtio_device *vdev;
	struct gendisk *disk;
	struct blk_mq_tag_set tag_set;
	struct virtio_blk_queue *queues;
	unsigned int num_queues;
	int index;
	struct work_struct config_work;
};

/**
 * struct virtio_blk_pdu - the driver part of a request
 * @hdr: what the device is asked for, in its byte order
 * @status: the device's answer
 * @data: the data segments
 * @segments: memory of the first %VIRTIO_BLK_INLINE_SEGMENTS of @data
 */
struct virtio_blk_pdu {
	struct virtio_blk_outhdr hdr;
	u8 status;
	struct sg_table data;
	struct scatterlist segments[];
};

static struct virtio_blk_queue *virtio_blk_hctx_queue(struct blk_mq_hw_ctx *hctx)
{
	struct virtio_blk *vblk = hctx->queue->queuedata;

	return &vblk->queues[hctx->queue_num];
}

/* Fill the header of a request from the block layer. */
static blk_status_t virtio_blk_prepare_header(struct virtio_blk *vblk,
					      struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	u64 sector = 0;
	u32 type;

	switch (req_op(rq)) {
	case REQ_OP_READ:
		type = VIRTIO_BLK_T_IN;
		sector = blk_rq_pos(rq);
		break;
	case REQ_OP_WRITE:
		type = VIRTIO_BLK_T_OUT;
		sector = blk_rq_pos(rq);
		break;
	case REQ_OP_FLUSH:
		type = VIRTIO_BLK_T_FLUSH;
		break;
	case REQ_OP_DRV_IN:
		/* Whoever made the request filled the header. */
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}

	pdu->hdr.type = cpu_to_virtio32(vblk->vdev, type);
	pdu->hdr.ioprio = cpu_to_virtio32(vblk->vdev, req_get_ioprio(rq));
	pdu->hdr.sector = cpu_to_virtio64(vblk->vdev, sector);
	return BLK_STS_OK;
}

static blk_status_t virtio_blk_map_data(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	unsigned int segments = blk_rq_nr_phys_segments(rq);

	pdu->data.nents = 0;
	if (!segments)
		return BLK_STS_OK;
	pdu->data.sgl = pdu->segments;
	if (sg_alloc_table_chained(&pdu->data, segments, pdu->segments,
				   VIRTIO_BLK_INLINE_SEGMENTS))
		return BLK_STS_RESOURCE;
	pdu->data.nents = blk_rq_map_sg(rq, pdu->data.sgl);
	return BLK_STS_OK;
}

static void virtio_blk_unmap_data(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	if (blk_rq_nr_phys_segments(rq))
		sg_free_table_chained(&pdu->data, VIRTIO_BLK_INLINE_SEGMENTS);
}

/* Header, data, status: the order of virtio 1.4, section 5.2.6. */
static int virtio_blk_add(struct virtio_blk_queue *queue, struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);
	struct scatterlist hdr, status, *parts[3];
	unsigned int out = 0, in = 0;

	sg_init_one(&hdr, &pdu->hdr, sizeof(pdu->hdr));
	parts[out++] = &hdr;
	if (pdu->data.nents && rq_data_dir(rq) == WRITE)
		parts[out++] = pdu->data.sgl;
	else if (pdu->data.nents)
		parts[out + in++] = pdu->data.sgl;
	/* A device that writes no status has not succeeded. */
	pdu->status = VIRTIO_BLK_STATUS_NONE;
	sg_init_one(&status, &pdu->status, sizeof(pdu->status));
	parts[out + in++] = &status;

	return virtqueue_add_sgs(queue->vq, parts, out, in, rq, GFP_ATOMIC);
}

static blk_status_t virtio_blk_queue_rq(struct blk_mq_hw_ctx *hctx,
					const struct blk_mq_queue_data *bd)
{
	struct virtio_blk_queue *queue = virtio_blk_hctx_queue(hctx);
	struct request *rq = bd->rq;
	unsigned long flags;
	blk_status_t status;
	bool kick;
	int err;

	status = virtio_blk_prepare_header(hctx->queue->queuedata, rq);
	if (status)
		return status;
	status = virtio_blk_map_data(rq);
	if (status)
		return status;
	blk_mq_start_request(rq);

	spin_lock_irqsave(&queue->lock, flags);
	err = virtio_blk_add(queue, rq);
	/* What did not fit waits for requests that the device must hear of. */
	kick = (bd->last || err) && virtqueue_kick_prepare(queue->vq);
	spin_unlock_irqrestore(&queue->lock, flags);

	if (kick)
		virtqueue_notify(queue->vq);
	if (likely(!err))
		return BLK_STS_OK;

	virtio_blk_unmap_data(rq);
	switch (err) {
	case -ENOSPC:
		/* The ring is full: a completion runs the queue again. */
		return BLK_STS_DEV_RESOURCE;
	case -ENOMEM:
		return BLK_STS_RESOURCE;
	default:
		return BLK_STS_IOERR;
	}
}

static void virtio_blk_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	struct virtio_blk_queue *queue = virtio_blk_hctx_queue(hctx);
	unsigned long flags;
	bool kick;

	spin_lock_irqsave(&queue->lock, flags);
	kick = virtqueue_kick_prepare(queue->vq);
	spin_unlock_irqrestore(&queue->lock, flags);
	if (kick)
		virtqueue_notify(queue->vq);
}

static blk_status_t virtio_blk_status(u8 status)
{
	switch (status) {
	case VIRTIO_BLK_S_OK:
		return BLK_STS_OK;
	case VIRTIO_BLK_S_UNSUPP:
		return BLK_STS_NOTSUPP;
	default:
		return BLK_STS_IOERR;
	}
}

static void virtio_blk_complete(struct request *rq)
{
	struct virtio_blk_pdu *pdu = blk_mq_rq_to_pdu(rq);

	virtio_blk_unmap_data(rq);
	blk_mq_end_request(rq, virtio_blk_status(pdu->status));
}

static void virtio_blk_interrupt(struct virtqueue *vq)
{
	struct virtio_blk *vblk = vq->vdev->priv;
	struct virtio_blk_queue *queue = &vblk->queues[vq->index];
	struct request *rq;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&queue->lock, flags);
	do {
		virtqueue_disable_cb(vq);
		while ((rq = virtqueue_get_buf(vq, &len)))
			if (likely(!blk_should_fake_timeout(rq->q)))
				blk_mq_complete_request(rq);
	} while (!virtqueue_enable_cb(vq));
	spin_unlock_irqrestore(&queue->lock, flags);
}

static void virtio_blk_map_queues(struct blk_mq_tag_set *set)
{
	struct virtio_blk *vblk = set->driver_data;

	/* Each CPU submits to the queue whose interrupt comes back to it. */
	blk_mq_map_hw_queues(&set->map[HCTX_TYPE_DEFAULT], &vblk->vdev->dev, 0);
}

static const struct blk_mq_ops virtio_blk_mq_ops = {
	.queue_rq	= virtio_blk_queue_rq,
	.commit_rqs	= virtio_blk_commit_rqs,
	.complete	= virtio_blk_complete,
	.map_queues	= virtio_blk_map_queues,
};

static void virtio_blk_free_disk(struct gendisk *disk)
{
	struct virtio_blk *vblk = disk->private_data;

	ida_free(&virtio_blk_ida, vblk->index);
	kfree(vblk);
}

static const struct block_device_operations virtio_blk_fops = {
	.owner		= THIS_MODULE,
	.free_disk	= virtio_blk_free_disk,
};

/* Ask the device for its serial (VIRTIO_BLK_T_GET_ID) and wait for it. */
static int virtio_blk_get_id(struct virtio_blk *vblk, char *id)
{
	struct virtio_blk_pdu *pdu;
	struct request *rq;
	int err;

	rq = blk_mq_alloc_request(vblk->disk->queue, REQ_OP_DRV_IN, 0);
	if (IS_ERR(rq))
		return PTR_ERR(rq);
	pdu = blk_mq_rq_to_pdu(rq);
	pdu->hdr.type = cpu_to_virtio32(vblk->vdev, VIRTIO_BLK_T_GET_ID);
	pdu->hdr.ioprio = 0;
	pdu->hdr.sector = 0;

	err = blk_rq_map_kern(rq, id, VIRTIO_BLK_ID_BYTES, GFP_KERNEL);
	if (!err)
		err = blk_status_to_errno(blk_execute_rq(rq, false));
	blk_mq_free_request(rq);
	return err;
}

static ssize_t serial_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	struct virtio_blk *vblk = dev_to_disk(dev)->private_data;
	char *id;
	int ret;

	/* Not on the stack, which a request can't be mapped from. */
	id = kzalloc(VIRTIO_BLK_ID_BYTES, GFP_KERNEL);
	if (!id)
		return -ENOMEM;
	ret = virtio_blk_get_id(vblk, id);
	if (!ret)
		ret = sysfs_emit(buf, "%.*s", VIRTIO_BLK_ID_BYTES, id);
	else if (ret == -EOPNOTSUPP)
		ret = 0;
	kfree(id);
	return ret;
}
static DEVICE_ATTR_RO(serial);

static struct attribute *virtio_blk_attrs[] = {
	&dev_attr_serial.attr,
	NULL,
};
ATTRIBUTE_GROUPS(virtio_blk);

static int virtio_blk_update_capacity(struct virtio_blk *vblk, bool resized)
{
	struct gendisk *disk = vblk->disk;
	char size[16];
	u64 capacity;

	virtio_cread(vblk->vdev, struct virtio_blk_config, capacity, &capacity);
	if (capacity > VIRTIO_BLK_MAX_CAPACITY) {
		dev_err_ratelimited(&vblk->vdev->dev,
				    "capacity of %llu sectors is more than a disk can have\n",
				    capacity);
		return -EINVAL;
	}
	if (resized && capacity == get_capacity(disk))
		return 0;

	string_get_size(capacity, SECTOR_SIZE, STRING_UNITS_2, size,
			sizeof(size));
	dev_info_ratelimited(&vblk->vdev->dev,
			     "[%s] %s%llu sectors of 512 bytes (%s)\n",
			     disk->disk_name, resized ? "new size: " : "",
			     capacity, size);
	set_capacity_and_notify(disk, capacity);
	return 0;
}

static void virtio_blk_config_work(struct work_struct *work)
{
	struct virtio_blk *vblk =
		container_of(work, struct virtio_blk, config_work);

	virtio_blk_update_capacity(vblk, true);
}

static void virtio_blk_config_changed(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;

	queue_work(system_freezable_wq, &vblk->config_work);
}

static int virtio_blk_count_queues(struct virtio_device *vdev)
{
	u16 num;

	if (virtio_cread_feature(vdev, VIRTIO_BLK_F_MQ,
				 struct virtio_blk_config, num_queues, &num))
		return 1;
	if (!num) {
		dev_err(&vdev->dev, "device offers several queues, but has none\n");
		return -EINVAL;
	}
	return min_t(unsigned int, num, nr_cpu_ids);
}

static int virtio_blk_find_vqs(struct virtio_blk *vblk)
{
	unsigned int i, num = vblk->num_queues;
	struct irq_affinity affinity = {};
	struct virtqueue_info *info;
	struct virtqueue **vqs;
	int err = -ENOMEM;

	info = kcalloc(num, sizeof(*info), GFP_KERNEL);
	vqs = kcalloc(num, sizeof(*vqs), GFP_KERNEL);
	if (!info || !vqs)
		goto out;

	for (i = 0; i < num; i++) {
		struct virtio_blk_queue *queue = &vblk->queues[i];

		spin_lock_init(&queue->lock);
		snprintf(queue->name, sizeof(queue->name), "req.%u", i);
		info[i].name = queue->name;
		info[i].callback = virtio_blk_interrupt;
	}
	err = virtio_find_vqs(vblk->vdev, num, vqs, info, &affinity);
	for (i = 0; !err && i < num; i++)
		vblk->queues[i].vq = vqs[i];
out:
	kfree(vqs);
	kfree(info);
	return err;
}

static int virtio_blk_init_queues(struct virtio_blk *vblk)
{
	int err = virtio_blk_count_queues(vblk->vdev);

	if (err < 0)
		return err;
	vblk->num_queues = err;
	vblk->queues = kcalloc(vblk->num_queues, sizeof(*vblk->queues),
			       GFP_KERNEL);
	if (!vblk->queues)
		return -ENOMEM;
	err = virtio_blk_find_vqs(vblk);
	if (err) {
		kfree(vblk->queues);
		vblk->queues = NULL;
	}
	return err;
}

static void virtio_blk_exit_queues(struct virtio_blk *vblk)
{
	vblk->vdev->config->del_vqs(vblk->vdev);
	kfree(vblk->queues);
	vblk->queues = NULL;
}

/* Descriptors of the smallest ring: every request must fit into every ring. */
static unsigned int virtio_blk_ring_size(struct virtio_blk *vblk)
{
	unsigned int i, size = UINT_MAX;

	for (i = 0; i < vblk->num_queues; i++)
		size = min(size, virtqueue_get_vring_size(vblk->queues[i].vq));
	return size;
}

static int virtio_blk_segment_limits(struct virtio_blk *vblk,
				     struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	unsigned int ring = virtio_blk_ring_size(vblk);
	u32 seg_max, size_max;

	if (ring <= VIRTIO_BLK_OVERHEAD) {
		dev_err(&vdev->dev, "ring of %u descriptors can't hold a request\n",
			ring);
		return -EINVAL;
	}
	if (virtio_cread_feature(vdev, VIRTIO_BLK_F_SEG_MAX,
				 struct virtio_blk_config, seg_max, &seg_max))
		seg_max = 1;
	/* No chain, indirect ones included, is longer than its ring. */
	lim->max_segments = clamp_t(u32, seg_max, 1,
				    min(ring - VIRTIO_BLK_OVERHEAD, USHRT_MAX));

	lim->max_segment_size = min_t(size_t, virtio_max_dma_size(vdev),
				      UINT_MAX);
	if (virtio_cread_feature(vdev, VIRTIO_BLK_F_SIZE_MAX,
				 struct virtio_blk_config, size_max, &size_max))
		return 0;
	if (size_max < PAGE_SIZE) {
		dev_err(&vdev->dev,
			"segments of at most %u bytes are smaller than a page\n",
			size_max);
		return -EINVAL;
	}
	lim->max_segment_size = min(lim->max_segment_size, size_max);
	return 0;
}

static int virtio_blk_block_limits(struct virtio_blk *vblk,
				   struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 block, opt_io;
	u16 min_io;
	u8 exp, alignment;

	if (!virtio_cread_feature(vdev, VIRTIO_BLK_F_BLK_SIZE,
				  struct virtio_blk_config, blk_size, &block)) {
		if (blk_validate_block_size(block)) {
			dev_err(&vdev->dev,
				"block size of %u bytes is not supported\n",
				block);
			return -EINVAL;
		}
		lim->logical_block_size = block;
	}
	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_TOPOLOGY))
		return 0;

	virtio_cread(vdev, struct virtio_blk_config, physical_block_exp, &exp);
	virtio_cread(vdev, struct virtio_blk_config, alignment_offset,
		     &alignment);
	virtio_cread(vdev, struct virtio_blk_config, min_io_size, &min_io);
	virtio_cread(vdev, struct virtio_blk_config, opt_io_size, &opt_io);

	block = lim->logical_block_size;
	if (exp >= 32 - ilog2(block)) {
		dev_err(&vdev->dev,
			"physical block of 2^%u logical blocks is too large\n",
			exp);
		return -EINVAL;
	}
	lim->physical_block_size = block << exp;
	lim->alignment_offset = block * alignment;
	lim->io_min = block * min_io;
	if (opt_io <= UINT_MAX / block)
		lim->io_opt = block * opt_io;
	return 0;
}

static int virtio_blk_read_limits(struct virtio_blk *vblk,
				  struct queue_limits *lim)
{
	int err;

	lim->max_hw_sectors = UINT_MAX;
	lim->features = BLK_FEAT_ROTATIONAL;
	if (virtio_has_feature(vblk->vdev, VIRTIO_BLK_F_FLUSH))
		lim->features |= BLK_FEAT_WRITE_CACHE;
	lim->logical_block_size = SECTOR_SIZE;

	err = virtio_blk_block_limits(vblk, lim);
	return err ?: virtio_blk_segment_limits(vblk, lim);
}

static int virtio_blk_alloc_tags(struct virtio_blk *vblk)
{
	unsigned int depth = virtio_blk_ring_size(vblk);

	/* An indirect table takes one descriptor a request, a flush takes two. */
	if (!virtio_has_feature(vblk->vdev, VIRTIO_RING_F_INDIRECT_DESC))
		depth /= VIRTIO_BLK_OVERHEAD;

	vblk->tag_set.ops = &virtio_blk_mq_ops;
	vblk->tag_set.nr_hw_queues = vblk->num_queues;
	vblk->tag_set.queue_depth = max(depth, 1U);
	vblk->tag_set.numa_node = NUMA_NO_NODE;
	vblk->tag_set.cmd_size = struct_size_t(struct virtio_blk_pdu, segments,
					       VIRTIO_BLK_INLINE_SEGMENTS);
	vblk->tag_set.driver_data = vblk;
	return blk_mq_alloc_tag_set(&vblk->tag_set);
}

/* vda to vdz, then vdaa and so on. */
static void virtio_blk_name(int index, char *name)
{
	char letters[DISK_NAME_LEN] = {};
	int i = sizeof(letters) - 1;

	do {
		letters[--i] = 'a' + index % 26;
		index = index / 26 - 1;
	} while (index >= 0);
	snprintf(name, DISK_NAME_LEN, "vd%.*s", DISK_NAME_LEN - 3, &letters[i]);
}

static int virtio_blk_alloc_disk(struct virtio_blk *vblk)
{
	struct queue_limits lim = {};
	struct gendisk *disk;
	int err;

	err = virtio_blk_read_limits(vblk, &lim);
	if (err)
		return err;
	disk = blk_mq_alloc_disk(&vblk->tag_set, &lim, vblk);
	if (IS_ERR(disk)) {
		dev_err(&vblk->vdev->dev, "limits of the device are refused\n");
		return PTR_ERR(disk);
	}

	virtio_blk_name(vblk->index, disk->disk_name);
	disk->major = virtio_blk_major;
	disk->first_minor = vblk->index * VIRTIO_BLK_MINORS;
	disk->minors = VIRTIO_BLK_MINORS;
	disk->fops = &virtio_blk_fops;
	disk->private_data = vblk;
	if (virtio_has_feature(vblk->vdev, VIRTIO_BLK_F_RO))
		set_disk_ro(disk, true);
	vblk->disk = disk;
	return 0;
}

static int virtio_blk_probe(struct virtio_device *vdev)
{
	struct virtio_blk *vblk;
	int err;

	if (!vdev->config->get) {
		dev_err(&vdev->dev, "no access to the configuration space\n");
		return -EINVAL;
	}
	vblk = kzalloc_obj(*vblk, GFP_KERNEL);
	if (!vblk)
		return -ENOMEM;
	vblk->vdev = vdev;
	vdev->priv = vblk;
	INIT_WORK(&vblk->config_work, virtio_blk_config_work);

	vblk->index = ida_alloc_max(&virtio_blk_ida,
				    (1 << MINORBITS) / VIRTIO_BLK_MINORS - 1,
				    GFP_KERNEL);
	if (vblk->index < 0) {
		err = vblk->index;
		goto err_free;
	}
	err = virtio_blk_init_queues(vblk);
	if (err)
		goto err_index;
	err = virtio_blk_alloc_tags(vblk);
	if (err)
		goto err_queues;
	err = virtio_blk_alloc_disk(vblk);
	if (err)
		goto err_tags;
	err = virtio_blk_update_capacity(vblk, false);
	if (err)
		goto err_disk;

	/* Adding the disk reads its partition table. */
	virtio_device_ready(vdev);
	err = device_add_disk(&vdev->dev, vblk->disk, virtio_blk_groups);
	if (err)
		goto err_reset;
	return 0;

err_reset:
	virtio_reset_device(vdev);
err_disk:
	/* Of a disk that was never added, free_disk is not called. */
	put_disk(vblk->disk);
err_tags:
	blk_mq_free_tag_set(&vblk->tag_set);
err_queues:
	virtio_blk_exit_queues(vblk);
err_index:
	ida_free(&virtio_blk_ida, vblk->index);
err_free:
	kfree(vblk);
	return err;
}

static void virtio_blk_remove(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;

	/* The core reports no more changes from here on. */
	cancel_work_sync(&vblk->config_work);
	/* Ends the requests in flight, for which the device must still work. */
	del_gendisk(vblk->disk);
	virtio_reset_device(vdev);
	blk_mq_free_tag_set(&vblk->tag_set);
	virtio_blk_exit_queues(vblk);
	vblk->vdev = NULL;
	put_disk(vblk->disk);
}

static const struct virtio_device_id virtio_blk_ids[] = {
	{ VIRTIO_ID_BLOCK, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, virtio_blk_ids);

static const unsigned int virtio_blk_features[] = {
	VIRTIO_BLK_F_SIZE_MAX,
	VIRTIO_BLK_F_SEG_MAX,
	VIRTIO_BLK_F_RO,
	VIRTIO_BLK_F_BLK_SIZE,
	VIRTIO_BLK_F_FLUSH,
	VIRTIO_BLK_F_TOPOLOGY,
	VIRTIO_BLK_F_MQ,
};

static struct virtio_driver virtio_blk_driver = {
	.driver.name		= KBUILD_MODNAME,
	.id_table		= virtio_blk_ids,
	.feature_table		= virtio_blk_features,
	.feature_table_size	= ARRAY_SIZE(virtio_blk_features),
	.probe			= virtio_blk_probe,
	.remove			= virtio_blk_remove,
	.config_changed		= virtio_blk_config_changed,
};

static int __init virtio_blk_init(void)
{
	int err;

	virtio_blk_major = register_blkdev(0, "virtblk");
	if (virtio_blk_major < 0)
		return virtio_blk_major;
	err = register_virtio_driver(&virtio_blk_driver);
	if (err == -EEXIST || err == -EBUSY)
		pr_err("virtio_blk: another driver of this name is in the kernel; unload it, or boot without it if it is built in\n");
	if (err)
		unregister_blkdev(virtio_blk_major, "virtblk");
	return err;
}
module_init(virtio_blk_init);

static void __exit virtio_blk_exit(void)
{
	unregister_virtio_driver(&virtio_blk_driver);
	unregister_blkdev(virtio_blk_major, "virtblk");
}
module_exit(virtio_blk_exit);

MODULE_DESCRIPTION("Virtio block driver");
MODULE_LICENSE("GPL");
