// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: host-managed zoned disks (virtio 1.4, section 5.2.6.1). This file has their
 * limits and the report of their zones. Operations that change a zone are in
 * virtio_blk-main.c.
 *
 * Only modern devices have zones. All their numbers are little endian.
 */
#include <linux/build_bug.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "virtio_blk.h"

/*
 * The block layer allocates one byte per zone, in one piece. The limit also bounds the
 * number of reports that a device can cause.
 */
#define VIRTIO_BLK_MAX_ZONES	KMALLOC_MAX_SIZE

/*
 * The block layer allocates memory for each zone that can be open. A larger limit of the
 * device counts as no limit.
 */
#define VIRTIO_BLK_MAX_OPEN_ZONES	SZ_64K

/* The largest report, in bytes. It is allocated in one piece. */
#define VIRTIO_BLK_MAX_REPORT	SZ_256K

/* Types and states have the same numbers in the block layer, as in ZBC. */
static_assert(VIRTIO_BLK_ZT_CONV == (int)BLK_ZONE_TYPE_CONVENTIONAL);
static_assert(VIRTIO_BLK_ZT_SWR == (int)BLK_ZONE_TYPE_SEQWRITE_REQ);
static_assert(VIRTIO_BLK_ZT_SWP == (int)BLK_ZONE_TYPE_SEQWRITE_PREF);
static_assert(VIRTIO_BLK_ZS_NOT_WP == (int)BLK_ZONE_COND_NOT_WP);
static_assert(VIRTIO_BLK_ZS_EMPTY == (int)BLK_ZONE_COND_EMPTY);
static_assert(VIRTIO_BLK_ZS_IOPEN == (int)BLK_ZONE_COND_IMP_OPEN);
static_assert(VIRTIO_BLK_ZS_EOPEN == (int)BLK_ZONE_COND_EXP_OPEN);
static_assert(VIRTIO_BLK_ZS_CLOSED == (int)BLK_ZONE_COND_CLOSED);
static_assert(VIRTIO_BLK_ZS_RDONLY == (int)BLK_ZONE_COND_READONLY);
static_assert(VIRTIO_BLK_ZS_FULL == (int)BLK_ZONE_COND_FULL);
static_assert(VIRTIO_BLK_ZS_OFFLINE == (int)BLK_ZONE_COND_OFFLINE);

static bool virtio_blk_zone_size_is_valid(const struct queue_limits *lim,
					  u32 sectors)
{
	return is_power_of_2(sectors) &&
	       sectors >= lim->logical_block_size >> SECTOR_SHIFT;
}

static bool virtio_blk_granularity_is_valid(const struct queue_limits *lim,
					    u32 bytes, u32 zone_sectors)
{
	return is_power_of_2(bytes) && bytes >= lim->logical_block_size &&
	       bytes >> SECTOR_SHIFT <= zone_sectors;
}

static void virtio_blk_open_zones(struct virtio_blk *vblk,
				  struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;

	virtio_cread(vdev, struct virtio_blk_config, zoned.max_open_zones,
		     &lim->max_open_zones);
	virtio_cread(vdev, struct virtio_blk_config, zoned.max_active_zones,
		     &lim->max_active_zones);
	if (lim->max_open_zones > VIRTIO_BLK_MAX_OPEN_ZONES)
		lim->max_open_zones = 0;
	if (lim->max_active_zones > VIRTIO_BLK_MAX_OPEN_ZONES)
		lim->max_active_zones = 0;
	if (lim->max_active_zones &&
	    lim->max_open_zones > lim->max_active_zones) {
		dev_warn(&vdev->dev, "%u open zones are more than %u active ones can be\n",
			 lim->max_open_zones, lim->max_active_zones);
		lim->max_open_zones = lim->max_active_zones;
	}
}

/**
 * virtio_blk_zone_limits - set the limits of a host-managed disk
 * @vblk: disk
 * @lim: limits of a disk without zones; completed on return
 *
 * Return: 0, or an error after a message
 */
int virtio_blk_zone_limits(struct virtio_blk *vblk, struct queue_limits *lim)
{
	struct virtio_device *vdev = vblk->vdev;
	u32 granularity, append, sectors;

	virtio_cread(vdev, struct virtio_blk_config, zoned.zone_sectors,
		     &sectors);
	virtio_cread(vdev, struct virtio_blk_config, zoned.write_granularity,
		     &granularity);
	virtio_cread(vdev, struct virtio_blk_config, zoned.max_append_sectors,
		     &append);
	/* Compare @append in sectors. In bytes it could overflow. */
	if (!virtio_blk_zone_size_is_valid(lim, sectors) ||
	    !virtio_blk_granularity_is_valid(lim, granularity, sectors) ||
	    append < granularity >> SECTOR_SHIFT) {
		dev_err(&vdev->dev,
			"zones of %u sectors, written by %u bytes, appended to by %u sectors are not supported\n",
			sectors, granularity, append);
		return -EINVAL;
	}

	vblk->zone_sectors = sectors;
	virtio_blk_open_zones(vblk, lim);
	lim->features |= BLK_FEAT_ZONED;
	lim->chunk_sectors = sectors;
	lim->zone_write_granularity = granularity;
	lim->physical_block_size = granularity;
	lim->io_min = granularity;
	lim->max_hw_zone_append_sectors = append;
	/* Zones are reset, not discarded. */
	lim->max_hw_discard_sectors = 0;
	return 0;
}

/* The size of a report of @nr_zones zones, limited to what one request can carry. */
static size_t virtio_blk_report_size(struct virtio_blk *vblk,
				     unsigned int nr_zones)
{
	struct virtio_blk_zone_report *report;
	size_t size = struct_size(report, zones, nr_zones);
	size_t max = (size_t)queue_max_segments(vblk->disk->queue) << PAGE_SHIFT;

	return PAGE_ALIGN(min3(size, max, (size_t)VIRTIO_BLK_MAX_REPORT));
}

static bool virtio_blk_zone_is_valid(const struct blk_zone *zone)
{
	if (zone->type < BLK_ZONE_TYPE_CONVENTIONAL ||
	    zone->type > BLK_ZONE_TYPE_SEQWRITE_PREF ||
	    zone->capacity > zone->len)
		return false;

	switch (zone->cond) {
	case BLK_ZONE_COND_EMPTY:
	case BLK_ZONE_COND_IMP_OPEN:
	case BLK_ZONE_COND_EXP_OPEN:
	case BLK_ZONE_COND_CLOSED:
		return zone->wp >= zone->start &&
		       zone->wp - zone->start <= zone->len;
	case BLK_ZONE_COND_NOT_WP:
	case BLK_ZONE_COND_FULL:
	case BLK_ZONE_COND_READONLY:
	case BLK_ZONE_COND_OFFLINE:
		return true;
	default:
		return false;
	}
}

/* Report the zone that begins at @sector to the block layer. */
static int virtio_blk_report_zone(struct virtio_blk *vblk,
				  const struct virtio_blk_zone_descriptor *desc,
				  sector_t sector, unsigned int index,
				  struct blk_report_zones_args *args)
{
	struct gendisk *disk = vblk->disk;
	struct blk_zone zone = {
		.start		= le64_to_cpu((__force __le64)desc->z_start),
		.len		= min_t(u64, vblk->zone_sectors,
					get_capacity(disk) - sector),
		.capacity	= le64_to_cpu((__force __le64)desc->z_cap),
		.wp		= le64_to_cpu((__force __le64)desc->z_wp),
		.type		= desc->z_type,
		.cond		= desc->z_state,
	};

	if (zone.start != sector || !virtio_blk_zone_is_valid(&zone)) {
		pr_err_ratelimited("virtio_blk: [%s] zone at %llu is reported at %llu, of type %u, in state %u, with %llu sectors, written up to %llu\n",
				   disk->disk_name, sector, zone.start,
				   zone.type, zone.cond, zone.capacity, zone.wp);
		return -EIO;
	}
	if (zone.cond == BLK_ZONE_COND_FULL)
		zone.wp = zone.start + zone.len;
	else if (zone.cond == BLK_ZONE_COND_READONLY ||
		 zone.cond == BLK_ZONE_COND_OFFLINE)
		zone.wp = ULONG_MAX;
	return disk_report_zone(disk, &zone, index, args);
}

/**
 * virtio_blk_report_zones - report zones to the block layer
 * @disk: disk
 * @sector: a sector in the first zone
 * @nr_zones: the most zones to report
 * @args: arguments for disk_report_zone()
 *
 * The device may have been removed. @disk exists.
 *
 * Return: number of zones, or an error
 */
int virtio_blk_report_zones(struct gendisk *disk, sector_t sector,
			    unsigned int nr_zones,
			    struct blk_report_zones_args *args)
{
	struct virtio_blk *vblk = disk->private_data;
	size_t size = virtio_blk_report_size(vblk, nr_zones);
	struct virtio_blk_zone_report *report;
	unsigned int done = 0, end;
	int i, err = 0;

	report = kvzalloc(size, GFP_KERNEL);
	if (!report)
		return -ENOMEM;
	sector = round_down(sector, vblk->zone_sectors);
	while (!err && done < nr_zones && sector < get_capacity(disk)) {
		err = virtio_blk_get(vblk, VIRTIO_BLK_T_ZONE_REPORT, sector,
				     report, size);
		end = min3(le64_to_cpu((__force __le64)report->nr_zones),
			   (u64)(size - sizeof(*report)) / sizeof(*report->zones),
			   (u64)nr_zones - done);
		if (!err && !end)
			err = -EIO;
		for (i = 0; !err && i < end && sector < get_capacity(disk); i++) {
			err = virtio_blk_report_zone(vblk, &report->zones[i],
						     sector, done++, args);
			sector += vblk->zone_sectors;
		}
	}
	kvfree(report);
	return err ?: done;
}

/**
 * virtio_blk_revalidate_zones - make the block layer read all zones again
 * @vblk: disk of a device in use, with or without zones
 *
 * Waits for its own requests and for those in flight. Must not be called under the recovery
 * lock. After an error the block layer knows no zones.
 *
 * Return: 0, or an error after a message
 */
int virtio_blk_revalidate_zones(struct virtio_blk *vblk)
{
	u64 zones;

	if (!vblk->zone_sectors)
		return 0;
	/* Without the last zone, if that is smaller. */
	zones = get_capacity(vblk->disk) >> ilog2(vblk->zone_sectors);
	if (zones >= VIRTIO_BLK_MAX_ZONES) {
		dev_err(&vblk->vdev->dev, "%llu zones are too many\n", zones);
		return -EINVAL;
	}
	return blk_revalidate_disk_zones(vblk->disk);
}
