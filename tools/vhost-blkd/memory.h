/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's memory in this process: regions that the front end has sent as file
 * descriptors, and the dirty log. The daemon maps them for the kernel's worker and never
 * reads or writes them. If the front end truncates such a file, the worker gets an error
 * and the daemon gets no SIGBUS.
 */
#ifndef VHOST_BLKD_MEMORY_H
#define VHOST_BLKD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

/* Bytes of guest memory for each bit of the dirty log. */
#define LOG_PAGE	4096

/**
 * struct mapping - a mapped part of a file
 * @start: start of the mapping, aligned to the file's block size; NULL if not mapped
 * @length: bytes of the mapping
 * @data: address of the first byte that the caller asked for
 */
struct mapping {
	void *start;
	size_t length;
	uint8_t *data;
};

/*
 * Map @size bytes from @offset on, for reading and writing. Returns 0 or a negative errno.
 */
int mapping_create(struct mapping *mapping, int fd, uint64_t offset,
		   uint64_t size);
void mapping_remove(struct mapping *mapping);

/**
 * struct region - a region of guest memory
 * @guest_addr: guest physical address
 * @size: bytes
 * @user_addr: address in the front end's address space
 * @mapping: the region in this process
 */
struct region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	struct mapping mapping;
};

/**
 * struct memory - all regions of guest memory
 * @regions: array of @num regions, in any order
 * @num: number of regions
 * @max: number of regions that the kernel allows
 */
struct memory {
	struct region *regions;
	unsigned int num;
	unsigned int max;
};

/*
 * Map a region and add it. The caller can close @fd afterwards. Returns 0 or a negative
 * errno:
 *	EINVAL	the size is 0, or an address plus the size exceeds 64 bits
 *	EEXIST	the region overlaps another one
 *	E2BIG	there are memory->max regions already
 */
int memory_add(struct memory *memory, const struct vhost_user_region *region,
	       int fd);
/* Returns the index of the region with these addresses and this size, or -1. */
int memory_find(const struct memory *memory,
		const struct vhost_user_region *region);
/* Unmap a region. The last region gets its index. */
void memory_remove(struct memory *memory, unsigned int index);
void memory_clear(struct memory *memory);

/*
 * Translate an address of the front end into an address of this process. Returns 0 if the
 * @size bytes are not within one region.
 */
uint64_t memory_translate(const struct memory *memory, uint64_t user_addr,
			  uint64_t size);

/* Returns the guest physical address where the highest region ends. */
uint64_t memory_end(const struct memory *memory);

#endif
