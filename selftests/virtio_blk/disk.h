/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio block device's disk in memory: what it says of itself in its configuration
 * space, which can be anything, and what it does with a request, which is honest.
 *
 * The zones of a host-managed disk are written from their beginning on, if they are not
 * said to be other ones.
 */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/virtio_blk.h>

#include "vduse.h"

#define SECTOR		512
#define DISK_BYTES	(64 << 20)

/* Of virtio 1.4, section 5.2. */
#define VIRTIO_BLK_F_LIFETIME		15
#define VIRTIO_BLK_T_GET_LIFETIME	10
#define VIRTIO_BLK_TYPES		32

/* What is reported of each zone, where it is not what it should be. */
struct disk_zones {
	long long number;
	long long start;
	long long capacity;
	long long pointer;
	long long type;
	long long state;
	long long append;
};

struct disk {
	uint8_t *data;
	struct virtio_blk_config config;
	uint64_t features;
	struct disk_zones zones;
	/* Of each zone, how many sectors were written. */
	uint32_t written[DISK_BYTES / SECTOR];
	/* How many requests of each type were done. */
	unsigned long requests[VIRTIO_BLK_TYPES];
	/* Of each sector, whether it was written since the last flush. */
	unsigned char *unflushed;
};

void disk_init(struct disk *disk);

/*
 * Sets a field of the configuration space, with the feature that it belongs to, or
 * something about zones. Returns whether there is such a thing.
 */
bool disk_set(struct disk *disk, const char *name, long long value);

/* The type of a request, a VIRTIO_BLK_T_*. */
uint32_t disk_request_type(const struct vduse_chain *chain);

/* Returns the status. The device writes so many bytes beside it. */
uint8_t disk_do(struct disk *disk, const struct vduse_chain *chain, uint32_t *written);

#endif
