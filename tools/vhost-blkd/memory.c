// SPDX-License-Identifier: GPL-2.0
/* Guest memory: see memory.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

/*
 * Get the size that the offset and the length of a mapping have to be multiples of. On
 * hugetlbfs it is the size of a huge page.
 */
static uint64_t file_granule(int fd)
{
	uint64_t page = sysconf(_SC_PAGESIZE);
	struct stat st;

	if (fstat(fd, &st) || st.st_blksize <= (blksize_t)page ||
	    st.st_blksize & (st.st_blksize - 1))
		return page;
	return st.st_blksize;
}

int mapping_create(struct mapping *mapping, int fd, uint64_t offset,
		   uint64_t size)
{
	uint64_t granule = file_granule(fd);
	uint64_t before = offset & (granule - 1);
	uint64_t length;
	void *start;

	if (!size || __builtin_add_overflow(size, before + granule - 1, &length))
		return -EINVAL;
	length &= ~(granule - 1);
	if (length > PTRDIFF_MAX || offset > INT64_MAX - length)
		return -EINVAL;
	start = mmap(NULL, length, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_NORESERVE, fd, offset - before);
	if (start == MAP_FAILED)
		return -errno;
	/* Keep the guest's data out of core dumps. */
	madvise(start, length, MADV_DONTDUMP);
	*mapping = (struct mapping){
		.start = start,
		.length = length,
		.data = (uint8_t *)start + before,
	};
	return 0;
}

void mapping_remove(struct mapping *mapping)
{
	if (mapping->start)
		munmap(mapping->start, mapping->length);
	*mapping = (struct mapping){};
}

static bool region_makes_sense(const struct vhost_user_region *region)
{
	uint64_t end;

	return region->size &&
	       !__builtin_add_overflow(region->guest_addr, region->size, &end) &&
	       !__builtin_add_overflow(region->user_addr, region->size, &end);
}

static bool overlaps_another(const struct memory *memory,
			     const struct vhost_user_region *region)
{
	unsigned int i;

	for (i = 0; i < memory->num; i++) {
		const struct region *other = &memory->regions[i];

		if (region->guest_addr < other->guest_addr + other->size &&
		    other->guest_addr < region->guest_addr + region->size)
			return true;
	}
	return false;
}

int memory_add(struct memory *memory, const struct vhost_user_region *region,
	       int fd)
{
	struct region *regions, *added;
	int ret;

	if (!region_makes_sense(region))
		return -EINVAL;
	if (overlaps_another(memory, region))
		return -EEXIST;
	if (memory->num >= memory->max)
		return -E2BIG;
	regions = reallocarray(memory->regions, memory->num + 1,
			       sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	memory->regions = regions;
	added = &regions[memory->num];
	*added = (struct region){
		.guest_addr = region->guest_addr,
		.size = region->size,
		.user_addr = region->user_addr,
	};
	ret = mapping_create(&added->mapping, fd, region->mmap_offset,
			     region->size);
	if (!ret)
		memory->num++;
	return ret;
}

int memory_find(const struct memory *memory,
		const struct vhost_user_region *region)
{
	unsigned int i;

	for (i = 0; i < memory->num; i++) {
		const struct region *at = &memory->regions[i];

		if (at->guest_addr == region->guest_addr &&
		    at->user_addr == region->user_addr &&
		    at->size == region->size)
			return i;
	}
	return -1;
}

void memory_remove(struct memory *memory, unsigned int index)
{
	mapping_remove(&memory->regions[index].mapping);
	memory->num--;
	memory->regions[index] = memory->regions[memory->num];
}

void memory_clear(struct memory *memory)
{
	while (memory->num)
		memory_remove(memory, memory->num - 1);
	free(memory->regions);
	memory->regions = NULL;
}

uint64_t memory_translate(const struct memory *memory, uint64_t user_addr,
			  uint64_t size)
{
	unsigned int i;

	for (i = 0; i < memory->num; i++) {
		const struct region *region = &memory->regions[i];
		uint64_t offset = user_addr - region->user_addr;

		if (offset < region->size && size <= region->size - offset)
			return (uintptr_t)region->mapping.data + offset;
	}
	return 0;
}

uint64_t memory_end(const struct memory *memory)
{
	uint64_t end = 0;
	unsigned int i;

	for (i = 0; i < memory->num; i++) {
		const struct region *region = &memory->regions[i];

		if (region->guest_addr + region->size > end)
			end = region->guest_addr + region->size;
	}
	return end;
}
