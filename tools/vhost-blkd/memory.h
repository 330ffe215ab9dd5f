/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's memory in this process: regions that the front end has given as file
 * descriptors, and the dirty log. The daemon maps them and never touches them: a
 * file that was truncated is an error for the kernel's worker alone.
 */
#ifndef VHOST_BLKD_MEMORY_H
#define VHOST_BLKD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

/* Guest memory for which the dirty log has one bit, in bytes. */
#define LOG_PAGE	4096

/**
 * struct mapping - a part of a file in this process
 * @start: of what was mapped, aligned as the file needs it; NULL if nothing is
 * @length: of what was mapped
 * @data: the byte that was asked for
 */
struct mapping {
	void *start;
	size_t length;
	uint8_t *data;
};

/* Maps @size bytes from @offset on, for reading and writing. 0 or a negative errno. */
int mapping_create(struct mapping *mapping, int fd, uint64_t offset,
		   uint64_t size);
void mapping_remove(struct mapping *mapping);

struct region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	struct mapping mapping;
};

struct memory {
	struct region *regions;
	unsigned int num;
	unsigned int max;
};

/*
 * Adds a region, for whose whole life @fd is not needed. 0 or a negative errno: EINVAL
 * for addresses that make no sense, EEXIST for one that overlaps another, E2BIG.
 */
int memory_add(struct memory *memory, const struct vhost_user_region *region,
	       int fd);
/* The region's number, or -1. */
int memory_find(const struct memory *memory,
		const struct vhost_user_region *region);
void memory_remove(struct memory *memory, unsigned int index);
void memory_clear(struct memory *memory);

/*
 * The address in this process of @size bytes that the front end knows as @user_addr,
 * or 0 if they are not in one region.
 */
uint64_t memory_translate(const struct memory *memory, uint64_t user_addr,
			  uint64_t size);

/* The end of the highest region, in guest physical addresses. */
uint64_t memory_end(const struct memory *memory);

#endif
