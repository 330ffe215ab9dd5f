// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: what the device's configuration space says of it (virtio 1.4,
 * section 5.2.4), checked before it is believed and turned into the limits of
 * a block device.
 *
 * What the driver can't do without fails the probe, with a message: a block size
 * or a capacity that no disk can have, segments that hold no page. What it can,
 * it clamps or leaves out, with a message: the ranges of discards and of
 * what is like them, hints about alignment.
 */
#include <linux/log2.h>
#include <linux/string_helpers.h>
#include <linux/virtio_config.h>

#include "virtio_blk.h"

/* Bytes of the file offset type bound what a disk can hold. */
#define VIRTIO_BLK_MAX_CAPACITY	((u64)LLONG_MAX >> SECTOR_SHIFT)

static int virtio_blk_segment_limits(struct virtio_blk *vblk,
				     struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 seg_max = 1, size_max = 0;

	if (vblk->ring_size <= VIRTIO_BLK_OVERHEAD) {
		dev_err(&vdev->dev, "ring of %u descriptors can't hold a request\n",
			vblk->ring_size);
		return -EINVAL;
	}
	virtio_cread_feature(vdev, VIRTIO_BLK_F_SEG_MAX,
			     struct virtio_blk_config, seg_max, &seg_max);
	if (!seg_max)
		dev_warn(&vdev->dev, "requests of no segment make no sense: assuming one\n");
	/* No chain, indirect ones included, is longer than its ring. */
	lim->max_segments = clamp_t(u32, seg_max, 1,
				    min(vblk->ring_size - VIRTIO_BLK_OVERHEAD,
					USHRT_MAX));

	lim->max_segment_size = min_t(size_t, virtio_max_dma_size(vdev),
				      UINT_MAX);
	virtio_cread_feature(vdev, VIRTIO_BLK_F_SIZE_MAX,
			     struct virtio_blk_config, size_max, &size_max);
	/* Some devices offer the feature and say 0 for no limit. */
	if (!size_max)
		return 0;
	if (size_max < BLK_MIN_SEGMENT_SIZE) {
		dev_err(&vdev->dev,
			"segments of at most %u bytes are not supported, %u are the least\n",
			size_max, (u32)BLK_MIN_SEGMENT_SIZE);
		return -EINVAL;
	}
	lim->max_segment_size = min(lim->max_segment_size, size_max);
	return 0;
}

static int virtio_blk_block_size(struct virtio_blk *vblk,
				 struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 block = SECTOR_SIZE;

	virtio_cread_feature(vdev, VIRTIO_BLK_F_BLK_SIZE,
			     struct virtio_blk_config, blk_size, &block);
	if (blk_validate_block_size(block)) {
		dev_err(&vdev->dev, "block size of %u bytes is not supported\n",
			block);
		return -EINVAL;
	}
	/* Its pages may be scattered. */
	if (block / min_t(u32, lim->max_segment_size, PAGE_SIZE) >
	    lim->max_segments) {
		dev_err(&vdev->dev,
			"block of %u bytes does not fit into %u segments\n",
			block, lim->max_segments);
		return -EINVAL;
	}
	lim->logical_block_size = block;
	return 0;
}

static int virtio_blk_topology(struct virtio_blk *vblk, struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 block = lim->logical_block_size, opt_io;
	u8 exp, alignment;
	u16 min_io;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_TOPOLOGY))
		return 0;
	virtio_cread(vdev, struct virtio_blk_config, physical_block_exp, &exp);
	virtio_cread(vdev, struct virtio_blk_config, alignment_offset,
		     &alignment);
	virtio_cread(vdev, struct virtio_blk_config, min_io_size, &min_io);
	virtio_cread(vdev, struct virtio_blk_config, opt_io_size, &opt_io);

	if (exp >= 32 - ilog2(block)) {
		dev_err(&vdev->dev,
			"physical block of 2^%u logical blocks is too large\n",
			exp);
		return -EINVAL;
	}
	lim->physical_block_size = block << exp;
	lim->alignment_offset = block * alignment;
	if (min_io <= UINT_MAX / block)
		lim->io_min = block * min_io;
	if (opt_io <= UINT_MAX / block)
		lim->io_opt = block * opt_io;
	return 0;
}

/*
 * How long a range may be, 0 for not at all. The block layer splits at this
 * length, and must not split a unit.
 */
static u32 virtio_blk_range_sectors(struct virtio_device *vdev,
				    const char *what, u32 sectors, u32 unit)
{
	unit >>= SECTOR_SHIFT;
	if (sectors < unit)
		dev_warn(&vdev->dev, "%s of at most %u sectors is not used: blocks have %u\n",
			 what, sectors, unit);
	return round_down(sectors, unit);
}

/*
 * What ranges should be aligned to, in bytes, 0 for nothing. The block layer
 * calculates with a power of two that fits into a range. It is only a hint.
 */
static u32 virtio_blk_range_alignment(struct virtio_device *vdev,
				      const char *what, u32 alignment,
				      u32 sectors)
{
	if (!alignment)
		return 0;
	if (is_power_of_2(alignment) && alignment <= sectors &&
	    alignment <= UINT_MAX >> SECTOR_SHIFT)
		return alignment << SECTOR_SHIFT;
	dev_warn(&vdev->dev, "alignment of %s to %u sectors is ignored\n", what,
		 alignment);
	return 0;
}

/* Returns what discards should be aligned to, in bytes, 0 for nothing. */
static u32 virtio_blk_discard_limits(struct virtio_blk *vblk,
				     struct queue_limits *lim)
{
	u32 block = max(lim->physical_block_size, lim->logical_block_size);
	struct virtio_device *vdev = vblk->vdev;
	u32 sectors, ranges, alignment;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_DISCARD))
		return 0;
	virtio_cread(vdev, struct virtio_blk_config, max_discard_sectors,
		     &sectors);
	virtio_cread(vdev, struct virtio_blk_config, max_discard_seg, &ranges);
	virtio_cread(vdev, struct virtio_blk_config, discard_sector_alignment,
		     &alignment);

	/* Devices that know no limit say 0. */
	sectors = virtio_blk_range_sectors(vdev, "discard", sectors ?: UINT_MAX,
					   block);
	lim->max_hw_discard_sectors = sectors;
	lim->max_discard_segments = min_t(u32, ranges ?: lim->max_segments,
					  VIRTIO_BLK_MAX_RANGES);
	return virtio_blk_range_alignment(vdev, "discard", alignment, sectors);
}

static void virtio_blk_write_zeroes_limits(struct virtio_blk *vblk,
					   struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 sectors;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_WRITE_ZEROES))
		return;
	virtio_cread(vdev, struct virtio_blk_config, max_write_zeroes_sectors,
		     &sectors);
	/* As with discards. */
	lim->max_write_zeroes_sectors =
		virtio_blk_range_sectors(vdev, "write zeroes",
					 sectors ?: UINT_MAX,
					 lim->logical_block_size);
}

/* A request is one range. Returns the same as virtio_blk_discard_limits(). */
static u32 virtio_blk_secure_erase_limits(struct virtio_blk *vblk,
					  struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 sectors, ranges, alignment;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_SECURE_ERASE))
		return 0;
	virtio_cread(vdev, struct virtio_blk_config, max_secure_erase_sectors,
		     &sectors);
	virtio_cread(vdev, struct virtio_blk_config, max_secure_erase_seg,
		     &ranges);
	virtio_cread(vdev, struct virtio_blk_config,
		     secure_erase_sector_alignment, &alignment);

	sectors = virtio_blk_range_sectors(vdev, "secure erase",
					   ranges ? sectors : 0,
					   lim->logical_block_size);
	lim->max_secure_erase_sectors = sectors;
	sectors = min(sectors, lim->max_hw_discard_sectors);
	if (!sectors)
		return 0;
	return virtio_blk_range_alignment(vdev, "secure erase", alignment,
					  sectors);
}

/* The block layer has one granularity for both: the finer one, but no finer than a block. */
static void virtio_blk_discard_and_erase_limits(struct virtio_blk *vblk,
						struct queue_limits *lim)
{
	u32 alignment = virtio_blk_discard_limits(vblk, lim);

	alignment = min_not_zero(alignment,
				 virtio_blk_secure_erase_limits(vblk, lim));
	lim->discard_granularity = max3(lim->physical_block_size,
					lim->logical_block_size, alignment);
}

/* A host-aware disk is used like one without zones. */
static int virtio_blk_zones(struct virtio_blk *vblk, struct queue_limits *lim)
{
	u8 model = VIRTIO_BLK_Z_NONE;

	virtio_cread_feature(vblk->vdev, VIRTIO_BLK_F_ZONED,
			     struct virtio_blk_config, zoned.model, &model);
	switch (model) {
	case VIRTIO_BLK_Z_NONE:
	case VIRTIO_BLK_Z_HA:
		return 0;
	case VIRTIO_BLK_Z_HM:
		return virtio_blk_zone_limits(vblk, lim);
	default:
		dev_err(&vblk->vdev->dev, "zone model %u is unknown\n", model);
		return -EINVAL;
	}
}

/**
 * virtio_blk_read_limits - the limits of a disk by its configuration space
 * @vblk: disk, with its queues
 * @lim: all 0, to be filled
 *
 * Return: 0, or an error after a message
 */
int virtio_blk_read_limits(struct virtio_blk *vblk, struct queue_limits *lim)
{
	int err;

	lim->max_hw_sectors = UINT_MAX;
	lim->features = BLK_FEAT_ROTATIONAL;
	if (virtio_blk_write_cache(vblk->vdev))
		lim->features |= BLK_FEAT_WRITE_CACHE;

	err = virtio_blk_segment_limits(vblk, lim);
	if (!err)
		err = virtio_blk_block_size(vblk, lim);
	if (!err)
		err = virtio_blk_topology(vblk, lim);
	if (err)
		return err;
	virtio_blk_discard_and_erase_limits(vblk, lim);
	virtio_blk_write_zeroes_limits(vblk, lim);
	return virtio_blk_zones(vblk, lim);
}

/**
 * virtio_blk_read_geometry - remember the geometry, if the device has one
 * @vblk: disk
 */
void virtio_blk_read_geometry(struct virtio_blk *vblk)
{
	struct virtio_device *vdev = vblk->vdev;
	struct hd_geometry *geometry = &vblk->geometry;

	if (!virtio_has_feature(vdev, VIRTIO_BLK_F_GEOMETRY))
		return;
	virtio_cread(vdev, struct virtio_blk_config, geometry.cylinders,
		     &geometry->cylinders);
	virtio_cread(vdev, struct virtio_blk_config, geometry.heads,
		     &geometry->heads);
	virtio_cread(vdev, struct virtio_blk_config, geometry.sectors,
		     &geometry->sectors);
}

/**
 * virtio_blk_write_cache - whether the device has a cache that is to be flushed
 * @vdev: device
 *
 * Return: whether it has, which it may be told to change (VIRTIO_BLK_F_CONFIG_WCE)
 */
bool virtio_blk_write_cache(struct virtio_device *vdev)
{
	u8 wce = true;

	virtio_cread_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE,
			     struct virtio_blk_config, wce, &wce);
	return wce && virtio_has_feature(vdev, VIRTIO_BLK_F_FLUSH);
}

/**
 * virtio_blk_update_capacity - make the disk as large as the device says
 * @vblk: disk
 * @resized: not for the first time
 *
 * Return: 0, or an error after a message
 */
int virtio_blk_update_capacity(struct virtio_blk *vblk, bool resized)
{
	struct gendisk *disk = vblk->disk;
	unsigned int block = queue_logical_block_size(disk->queue);
	char binary[16], decimal[16];
	u64 capacity, blocks;

	virtio_cread(vblk->vdev, struct virtio_blk_config, capacity, &capacity);
	if (capacity > VIRTIO_BLK_MAX_CAPACITY) {
		dev_err_ratelimited(&vblk->vdev->dev,
				    "capacity of %llu sectors is more than a disk can have\n",
				    capacity);
		return -EINVAL;
	}
	if (resized && capacity == get_capacity(disk))
		return 0;

	blocks = DIV_ROUND_UP_ULL(capacity, block >> SECTOR_SHIFT);
	string_get_size(blocks, block, STRING_UNITS_2, binary, sizeof(binary));
	string_get_size(blocks, block, STRING_UNITS_10, decimal, sizeof(decimal));
	/* The text is the in-tree driver's: programs look for it. */
	dev_notice_ratelimited(&vblk->vdev->dev,
			       "[%s] %s%llu %u-byte logical blocks (%s/%s)\n",
			       disk->disk_name, resized ? "new size: " : "",
			       blocks, block, decimal, binary);
	set_capacity_and_notify(disk, capacity);
	return resized ? virtio_blk_revalidate_zones(vblk) : 0;
}
