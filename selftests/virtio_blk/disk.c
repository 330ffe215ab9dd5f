// SPDX-License-Identifier: GPL-2.0
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"

#define MIN(a, b)	((a) < (b) ? (a) : (b))

static const struct field {
	const char *name;
	unsigned int offset;
	unsigned int size;
	int feature;
} fields[] = {
#define FIELD(name, field, feature)					\
	{ name, offsetof(struct virtio_blk_config, field),		\
	  sizeof(((struct virtio_blk_config *)0)->field), feature }
	FIELD("capacity", capacity, -1),
	FIELD("size_max", size_max, VIRTIO_BLK_F_SIZE_MAX),
	FIELD("seg_max", seg_max, VIRTIO_BLK_F_SEG_MAX),
	FIELD("cylinders", geometry.cylinders, VIRTIO_BLK_F_GEOMETRY),
	FIELD("heads", geometry.heads, VIRTIO_BLK_F_GEOMETRY),
	FIELD("sectors", geometry.sectors, VIRTIO_BLK_F_GEOMETRY),
	FIELD("blk_size", blk_size, VIRTIO_BLK_F_BLK_SIZE),
	FIELD("physical_block_exp", physical_block_exp, VIRTIO_BLK_F_TOPOLOGY),
	FIELD("alignment_offset", alignment_offset, VIRTIO_BLK_F_TOPOLOGY),
	FIELD("min_io_size", min_io_size, VIRTIO_BLK_F_TOPOLOGY),
	FIELD("opt_io_size", opt_io_size, VIRTIO_BLK_F_TOPOLOGY),
	FIELD("num_queues", num_queues, VIRTIO_BLK_F_MQ),
	FIELD("discard", max_discard_sectors, VIRTIO_BLK_F_DISCARD),
	FIELD("discard_seg", max_discard_seg, VIRTIO_BLK_F_DISCARD),
	FIELD("discard_alignment", discard_sector_alignment, VIRTIO_BLK_F_DISCARD),
	FIELD("zeroes", max_write_zeroes_sectors, VIRTIO_BLK_F_WRITE_ZEROES),
	FIELD("zeroes_seg", max_write_zeroes_seg, VIRTIO_BLK_F_WRITE_ZEROES),
	FIELD("unmap", write_zeroes_may_unmap, VIRTIO_BLK_F_WRITE_ZEROES),
	FIELD("erase", max_secure_erase_sectors, VIRTIO_BLK_F_SECURE_ERASE),
	FIELD("erase_seg", max_secure_erase_seg, VIRTIO_BLK_F_SECURE_ERASE),
	FIELD("erase_alignment", secure_erase_sector_alignment, VIRTIO_BLK_F_SECURE_ERASE),
	FIELD("zone_sectors", zoned.zone_sectors, VIRTIO_BLK_F_ZONED),
	FIELD("max_open_zones", zoned.max_open_zones, VIRTIO_BLK_F_ZONED),
	FIELD("max_active_zones", zoned.max_active_zones, VIRTIO_BLK_F_ZONED),
	FIELD("max_append", zoned.max_append_sectors, VIRTIO_BLK_F_ZONED),
	FIELD("granularity", zoned.write_granularity, VIRTIO_BLK_F_ZONED),
	FIELD("model", zoned.model, VIRTIO_BLK_F_ZONED),
	/* Features without a field. */
	{ "read_only", 0, 0, VIRTIO_BLK_F_RO },
	{ "flush", 0, 0, VIRTIO_BLK_F_FLUSH },
	{ "lifetime", 0, 0, VIRTIO_BLK_F_LIFETIME },
};

static const struct {
	const char *name;
	unsigned int offset;
} zone_fields[] = {
	{ "zones", offsetof(struct disk_zones, number) },
	{ "zone_start", offsetof(struct disk_zones, start) },
	{ "zone_capacity", offsetof(struct disk_zones, capacity) },
	{ "zone_pointer", offsetof(struct disk_zones, pointer) },
	{ "zone_type", offsetof(struct disk_zones, type) },
	{ "zone_state", offsetof(struct disk_zones, state) },
	/* The sector that appended data are said to be at. */
	{ "append", offsetof(struct disk_zones, append) },
};

#define LENGTH(array)	(sizeof(array) / sizeof(*(array)))

void disk_init(struct disk *disk)
{
	memset(disk, 0, sizeof(*disk));
	disk->data = calloc(1, DISK_BYTES);
	if (!disk->data)
		die("no memory for a disk");
	disk->config.capacity = DISK_BYTES / SECTOR;
	memset(&disk->zones, 0xff, sizeof(disk->zones));
}

bool disk_set(struct disk *disk, const char *name, long long value)
{
	unsigned int i;

	for (i = 0; i < LENGTH(fields); i++) {
		if (strcmp(name, fields[i].name))
			continue;
		memcpy((char *)&disk->config + fields[i].offset, &value,
		       fields[i].size);
		if (fields[i].feature >= 0)
			disk->features |= 1ULL << fields[i].feature;
		return true;
	}
	for (i = 0; i < LENGTH(zone_fields); i++) {
		if (strcmp(name, zone_fields[i].name))
			continue;
		*(long long *)((char *)&disk->zones + zone_fields[i].offset) = value;
		return true;
	}
	return false;
}

/* --- the data of a request --- */

/*
 * Copies between a buffer and the pieces of a request, from a place in them on. The
 * pieces are one way, without what is at their ends: the header, the status.
 */
static size_t copy(const struct iovec *pieces, unsigned int num, size_t skip,
		   void *buffer, size_t len, bool to_pieces)
{
	size_t done = 0;
	unsigned int i;

	for (i = 0; i < num && done < len; i++) {
		size_t bytes = pieces[i].iov_len;
		char *piece = pieces[i].iov_base;

		if (skip >= bytes) {
			skip -= bytes;
			continue;
		}
		bytes = MIN(bytes - skip, len - done);
		if (to_pieces)
			memcpy(piece + skip, (char *)buffer + done, bytes);
		else
			memcpy((char *)buffer + done, piece + skip, bytes);
		done += bytes;
		skip = 0;
	}
	return done;
}

static size_t total(const struct iovec *pieces, unsigned int num)
{
	size_t bytes = 0;
	unsigned int i;

	for (i = 0; i < num; i++)
		bytes += pieces[i].iov_len;
	return bytes;
}

static size_t get(const struct vduse_chain *chain, size_t skip, void *buffer, size_t len)
{
	return copy(chain->pieces, chain->num_out, skip, buffer, len, false);
}

static size_t put(const struct vduse_chain *chain, void *buffer, size_t len)
{
	return copy(chain->pieces + chain->num_out, chain->num_in, 0, buffer, len, true);
}

/* --- requests --- */

static bool is_inside(uint64_t sector, uint64_t bytes)
{
	return sector <= DISK_BYTES / SECTOR && bytes <= DISK_BYTES - sector * SECTOR;
}

/* --- zones --- */

/* How much of the zone is written that a sector is in; NULL where there is none. */
static uint32_t *written_of(struct disk *disk, uint64_t sector)
{
	uint32_t sectors = disk->config.zoned.zone_sectors;

	if (disk->config.zoned.model != VIRTIO_BLK_Z_HM || disk->zones.type != -1 ||
	    !sectors || sector >= DISK_BYTES / SECTOR)
		return NULL;
	return &disk->written[sector / sectors];
}

/* Whether sectors may be written, and then they are. */
static bool advance(struct disk *disk, uint64_t sector, uint64_t sectors)
{
	uint32_t *written = written_of(disk, sector);
	uint32_t size = disk->config.zoned.zone_sectors;

	if (!written)
		return true;
	if (sector % size != *written || sectors > size - *written)
		return false;
	*written += sectors;
	return true;
}

/* Discards, write zeroes and secure erases: what was there is zero after each. */
static uint8_t do_ranges(struct disk *disk, const struct vduse_chain *chain)
{
	struct virtio_blk_discard_write_zeroes range;
	size_t skip = sizeof(struct virtio_blk_outhdr);

	for (; get(chain, skip, &range, sizeof(range)) == sizeof(range);
	     skip += sizeof(range)) {
		if (!is_inside(range.sector, (uint64_t)range.num_sectors * SECTOR))
			return VIRTIO_BLK_S_IOERR;
		memset(disk->data + range.sector * SECTOR, 0,
		       (size_t)range.num_sectors * SECTOR);
	}
	return VIRTIO_BLK_S_OK;
}

static long long unless_set(long long set, long long honest)
{
	return set == -1 ? honest : set;
}

static void describe_zone(struct disk *disk, uint64_t sector,
			  struct virtio_blk_zone_descriptor *zone)
{
	const struct disk_zones *zones = &disk->zones;
	uint64_t left = disk->config.capacity - sector;
	const uint32_t *place = written_of(disk, sector);
	uint32_t written = place ? *place : 0;
	uint8_t state = VIRTIO_BLK_ZS_EMPTY;

	if (written)
		state = written < disk->config.zoned.zone_sectors ?
			VIRTIO_BLK_ZS_IOPEN : VIRTIO_BLK_ZS_FULL;

	memset(zone, 0, sizeof(*zone));
	zone->z_start = unless_set(zones->start, sector);
	zone->z_cap = unless_set(zones->capacity,
				 MIN(left, disk->config.zoned.zone_sectors));
	zone->z_wp = unless_set(zones->pointer, sector + written);
	zone->z_type = unless_set(zones->type, VIRTIO_BLK_ZT_SWR);
	zone->z_state = unless_set(zones->state, state);
}

static uint8_t report_zones(struct disk *disk, const struct vduse_chain *chain,
			    uint64_t sector, size_t bytes)
{
	struct virtio_blk_zone_report *report = calloc(1, bytes);
	uint64_t n = 0, room;

	room = (bytes - sizeof(*report)) / sizeof(*report->zones);
	for (; n < room && sector < disk->config.capacity; n++) {
		describe_zone(disk, sector, &report->zones[n]);
		sector += disk->config.zoned.zone_sectors;
	}
	report->nr_zones = unless_set(disk->zones.number, n);
	put(chain, report, bytes);
	free(report);
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_append(struct disk *disk, const struct vduse_chain *chain,
			 uint64_t zone, size_t bytes)
{
	const uint32_t *written = written_of(disk, zone);
	uint64_t sector, answer;

	if (!written)
		return VIRTIO_BLK_S_IOERR;
	sector = zone + *written;
	if (!is_inside(sector, bytes) || !advance(disk, sector, bytes / SECTOR))
		return VIRTIO_BLK_S_IOERR;
	get(chain, sizeof(struct virtio_blk_outhdr), disk->data + sector * SECTOR, bytes);
	answer = unless_set(disk->zones.append, sector);
	put(chain, &answer, sizeof(answer));
	return VIRTIO_BLK_S_OK;
}

static uint8_t set_written(struct disk *disk, uint64_t sector, uint32_t sectors)
{
	uint32_t *written = written_of(disk, sector);

	if (!written)
		return VIRTIO_BLK_S_IOERR;
	*written = sectors;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_other(struct disk *disk, const struct vduse_chain *chain,
			const struct virtio_blk_outhdr *hdr, size_t out, size_t in)
{
	/* Not even ended as a string should be. */
	char id[VIRTIO_BLK_ID_BYTES] = "\x7f\x80%s\n/../\xff\xfe and more";
	uint16_t lifetime[3] = { 1, 0x0b, 0xfff2 };

	switch (hdr->type) {
	case VIRTIO_BLK_T_FLUSH:
		memset(disk->unflushed, 0, DISK_BYTES / SECTOR);
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		put(chain, id, MIN(in, sizeof(id)));
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_LIFETIME:
		put(chain, lifetime, MIN(in, sizeof(lifetime)));
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		return do_ranges(disk, chain);
	case VIRTIO_BLK_T_ZONE_REPORT:
		return report_zones(disk, chain, hdr->sector, in);
	case VIRTIO_BLK_T_ZONE_APPEND:
		return do_append(disk, chain, hdr->sector, out - sizeof(*hdr));
	case VIRTIO_BLK_T_ZONE_OPEN:
	case VIRTIO_BLK_T_ZONE_CLOSE:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_ZONE_FINISH:
		return set_written(disk, hdr->sector, disk->config.zoned.zone_sectors);
	case VIRTIO_BLK_T_ZONE_RESET:
		return set_written(disk, hdr->sector, 0);
	case VIRTIO_BLK_T_ZONE_RESET_ALL:
		memset(disk->written, 0, sizeof(disk->written));
		return VIRTIO_BLK_S_OK;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

uint32_t disk_request_type(const struct vduse_chain *chain)
{
	struct virtio_blk_outhdr hdr;

	if (get(chain, 0, &hdr, sizeof(hdr)) != sizeof(hdr))
		die("request of less than %zu bytes", sizeof(hdr));
	return hdr.type;
}

uint8_t disk_do(struct disk *disk, const struct vduse_chain *chain, uint32_t *written)
{
	size_t in = total(chain->pieces + chain->num_out, chain->num_in) - 1;
	size_t out = total(chain->pieces, chain->num_out);
	struct virtio_blk_outhdr hdr;

	*written = in;
	get(chain, 0, &hdr, sizeof(hdr));
	if (hdr.type < VIRTIO_BLK_TYPES)
		disk->requests[hdr.type]++;
	if (hdr.type == VIRTIO_BLK_T_OUT) {
		out -= sizeof(hdr);
		if (!is_inside(hdr.sector, out) || !advance(disk, hdr.sector, out / SECTOR))
			return VIRTIO_BLK_S_IOERR;
		get(chain, sizeof(hdr), disk->data + hdr.sector * SECTOR, out);
		memset(disk->unflushed + hdr.sector, 1, out / SECTOR);
		return VIRTIO_BLK_S_OK;
	}
	if (hdr.type == VIRTIO_BLK_T_IN) {
		if (!is_inside(hdr.sector, in))
			return VIRTIO_BLK_S_IOERR;
		put(chain, disk->data + hdr.sector * SECTOR, in);
		return VIRTIO_BLK_S_OK;
	}
	return do_other(disk, chain, &hdr, out, in);
}
