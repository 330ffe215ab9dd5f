// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk memory: guest memory that stays pinned, and its pages by address.
 *
 * After VHOST_BLK_SET_PIN_MEMORY all regions of the memory table are pinned from
 * VHOST_SET_MEM_TABLE until they leave the table. A request then needs no page pins of its
 * own.
 *
 * A &struct vhost_blk_memory is one state of the memory table. It never changes. A new
 * memory table takes those regions over that it has in common with the old one, and pins
 * the others.
 *
 * For each CHUNK_SIZE bytes of a region, aligned in the owner's address space, there is one
 * entry. It is the first page, if all pages are of one folio, or an array of pages.
 * Finding pages takes no lock and may be done in any context.
 *
 * The owner may unmap or truncate memory that is pinned. Then the pages do not belong to
 * its address space any more, but stay allocated, and requests go on using them.
 */
#include <linux/capability.h>
#include <linux/mm.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "blk.h"

#define CHUNK_SIZE	((unsigned long)SZ_2M)
#define CHUNK_PAGES	(CHUNK_SIZE / PAGE_SIZE)

/* In vhost_blk_pinned.chunks: the first of CHUNK_PAGES pages of one folio. */
#define CHUNK_IS_FOLIO	1UL
/* In an array of pages: the page follows its predecessor in the same folio. */
#define PAGE_CONTINUES	1UL

/**
 * struct vhost_blk_pinned - a part of the owner's memory that is pinned
 * @refs: number of &struct vhost_blk_memory that have it
 * @mm: the address space that is charged; only the structure is held
 * @start: first address, a multiple of PAGE_SIZE
 * @end: address behind it, a multiple of PAGE_SIZE
 * @chunks: an entry for each chunk from @start on: a page with CHUNK_IS_FOLIO, or the
 *	address of an array of CHUNK_PAGES pages, some of which have PAGE_CONTINUES. An
 *	array has NULL for pages that are outside of the region.
 */
struct vhost_blk_pinned {
	refcount_t refs;
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	unsigned long chunks[];
};

/**
 * struct vhost_blk_memory_part - a region of the memory table
 * @start: first address in the owner's memory, rounded down to pages
 * @end: address behind it, rounded up to pages
 * @pinned: the pages; NULL before vhost_blk_memory_pin()
 */
struct vhost_blk_memory_part {
	unsigned long start;
	unsigned long end;
	struct vhost_blk_pinned *pinned;
};

/**
 * struct vhost_blk_memory - the pinned pages of a memory table
 * @refs: the device while it is the current one, requests in flight when it no longer is
 * @work: frees it, when the last reference was dropped where that is not possible
 * @num: elements of @parts
 * @parts: the regions, sorted by address
 */
struct vhost_blk_memory {
	refcount_t refs;
	struct work_struct work;
	unsigned int num;
	struct vhost_blk_memory_part parts[];
};

/* Pinning */

/* As RDMA and vDPA do: mlock() counts in another counter, against the same limit. */
static int vhost_blk_pinned_charge(struct mm_struct *mm, unsigned long pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (atomic64_add_return(pages, &mm->pinned_vm) <= limit ||
	    capable(CAP_IPC_LOCK))
		return 0;
	atomic64_sub(pages, &mm->pinned_vm);
	return -ENOMEM;
}

static unsigned long vhost_blk_pinned_pages(const struct vhost_blk_pinned *pinned)
{
	return (pinned->end - pinned->start) >> PAGE_SHIFT;
}

static unsigned int vhost_blk_page_index(unsigned long addr)
{
	return (addr & (CHUNK_SIZE - 1)) >> PAGE_SHIFT;
}

/* The part of the region in the chunk of @addr that begins at @addr, in pages. */
static unsigned int vhost_blk_pages_in_chunk(const struct vhost_blk_pinned *pinned,
					     unsigned long addr)
{
	return min((pinned->end - addr) >> PAGE_SHIFT,
		   CHUNK_PAGES - vhost_blk_page_index(addr));
}

static unsigned long *vhost_blk_chunk(struct vhost_blk_pinned *pinned,
				      unsigned long addr)
{
	return &pinned->chunks[addr / CHUNK_SIZE - pinned->start / CHUNK_SIZE];
}

static struct page *vhost_blk_page_of(const struct page *entry)
{
	return (struct page *)((unsigned long)entry & ~PAGE_CONTINUES);
}

/**
 * vhost_blk_pin_pages - pin all pages of a range for long, for reading and writing
 * @addr: address of the first page in the current process
 * @num: number of pages
 * @pages: receives the pages
 *
 * May sleep. Does not count the pages as locked or pinned memory.
 *
 * Return: 0, or an error, after which none of the pages is pinned:
 *	-EFAULT	the memory is not there, or can't be pinned for long
 *	-EINTR	the process is being killed
 *	others of pin_user_pages_fast()
 */
int vhost_blk_pin_pages(unsigned long addr, unsigned int num, struct page **pages)
{
	unsigned int done = 0;

	while (done < num) {
		int ret = -EINTR;

		if (!fatal_signal_pending(current))
			ret = pin_user_pages_fast(addr + done * PAGE_SIZE, num - done,
						  FOLL_WRITE | FOLL_LONGTERM,
						  pages + done);
		if (ret <= 0) {
			unpin_user_pages(pages, done);
			return ret ?: -EFAULT;
		}
		done += ret;
	}
	return 0;
}

/* Set PAGE_CONTINUES. Returns whether all pages are of one folio, in order. */
static bool vhost_blk_tag_pages(struct page **pages, unsigned int num)
{
	bool one_folio = true;

	while (--num) {
		if (pages[num] == pages[num - 1] + 1 &&
		    page_folio(pages[num]) == page_folio(pages[num - 1]))
			pages[num] = (void *)((unsigned long)pages[num] |
					      PAGE_CONTINUES);
		else
			one_folio = false;
	}
	return one_folio;
}

/*
 * Pin the part of the region that begins at @addr and ends with its chunk. *@pages is a
 * zeroed array. If it is used, set it to NULL.
 */
static int vhost_blk_pin_chunk(struct vhost_blk_pinned *pinned, unsigned long addr,
			       struct page ***pages)
{
	unsigned int num = vhost_blk_pages_in_chunk(pinned, addr);
	struct page **first = *pages + vhost_blk_page_index(addr);
	unsigned long *chunk = vhost_blk_chunk(pinned, addr);
	int ret = vhost_blk_pin_pages(addr, num, first);

	if (ret)
		return ret;
	if (vhost_blk_tag_pages(first, num) && num == CHUNK_PAGES) {
		*chunk = (unsigned long)*first | CHUNK_IS_FOLIO;
		memset(first, 0, num * sizeof(*first));
	} else {
		*chunk = (unsigned long)*pages;
		*pages = NULL;
	}
	return 0;
}

/*
 * get_user_pages() fails with the same error for memory that is not there and for memory
 * that can't be pinned, such as files of most file systems. Tell the two apart.
 */
static int vhost_blk_pin_error(struct mm_struct *mm, unsigned long start,
			       unsigned long end, int error)
{
	struct vm_area_struct *vma;
	unsigned long addr = start;

	if (error != -EFAULT || mmap_read_lock_killable(mm))
		return error;
	do {
		vma = vma_lookup(mm, addr);
		if (!vma || !(vma->vm_flags & VM_WRITE))
			break;
		addr = vma->vm_end;
	} while (addr < end);
	mmap_read_unlock(mm);
	return addr < end ? error : -EOPNOTSUPP;
}

static int vhost_blk_pin_chunks(struct vhost_blk_pinned *pinned)
{
	struct page **pages = NULL;
	unsigned long addr;
	int ret = 0;

	for (addr = pinned->start; addr < pinned->end && !ret;
	     addr = round_down(addr, CHUNK_SIZE) + CHUNK_SIZE) {
		if (!pages)
			pages = kcalloc(CHUNK_PAGES, sizeof(*pages),
					GFP_KERNEL_ACCOUNT);
		ret = pages ? vhost_blk_pin_chunk(pinned, addr, &pages) : -ENOMEM;
		cond_resched();
	}
	kfree(pages);
	return vhost_blk_pin_error(pinned->mm, pinned->start, pinned->end, ret);
}

static void vhost_blk_unpin_chunk(unsigned long chunk, unsigned int index,
				  unsigned int num)
{
	struct page **pages = (struct page **)chunk;
	unsigned int i;

	if (chunk & CHUNK_IS_FOLIO) {
		unpin_user_page_range_dirty_lock((void *)(chunk & ~CHUNK_IS_FOLIO),
						 num, true);
		return;
	}
	for (i = index; i < index + num; i++)
		pages[i] = vhost_blk_page_of(pages[i]);
	unpin_user_pages_dirty_lock(pages + index, num, true);
	kfree(pages);
}

/* Also frees a region of which only the first chunks are pinned. @pinned may be NULL. */
static void vhost_blk_pinned_put(struct vhost_blk_pinned *pinned)
{
	unsigned long addr;

	if (!pinned || !refcount_dec_and_test(&pinned->refs))
		return;
	for (addr = pinned->start; addr < pinned->end;
	     addr = round_down(addr, CHUNK_SIZE) + CHUNK_SIZE) {
		unsigned long chunk = *vhost_blk_chunk(pinned, addr);

		if (!chunk)
			break;
		vhost_blk_unpin_chunk(chunk, vhost_blk_page_index(addr),
				      vhost_blk_pages_in_chunk(pinned, addr));
		cond_resched();
	}
	atomic64_sub(vhost_blk_pinned_pages(pinned), &pinned->mm->pinned_vm);
	mmdrop(pinned->mm);
	kvfree(pinned);
}

static struct vhost_blk_pinned *vhost_blk_pinned_create(unsigned long start,
							unsigned long end)
{
	unsigned long chunks = DIV_ROUND_UP(end, CHUNK_SIZE) - start / CHUNK_SIZE;
	struct vhost_blk_pinned *pinned;
	int ret;

	ret = vhost_blk_pinned_charge(current->mm, (end - start) >> PAGE_SHIFT);
	if (ret)
		return ERR_PTR(ret);
	pinned = kvzalloc(struct_size(pinned, chunks, chunks), GFP_KERNEL_ACCOUNT);
	if (!pinned) {
		atomic64_sub((end - start) >> PAGE_SHIFT, &current->mm->pinned_vm);
		return ERR_PTR(-ENOMEM);
	}
	refcount_set(&pinned->refs, 1);
	pinned->start = start;
	pinned->end = end;
	pinned->mm = current->mm;
	mmgrab(pinned->mm);
	ret = vhost_blk_pin_chunks(pinned);
	if (ret) {
		vhost_blk_pinned_put(pinned);
		return ERR_PTR(ret);
	}
	return pinned;
}

/* Memory of a device has no pages to pin. No request can use it as data. */
static bool vhost_blk_is_device_memory(unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool ret;

	if (mmap_read_lock_killable(mm))
		return false;
	vma = vma_lookup(mm, addr);
	ret = vma && vma->vm_flags & (VM_IO | VM_PFNMAP);
	mmap_read_unlock(mm);
	return ret;
}

/* Tables of memory */

/* The last part that begins at or below @addr, or NULL. */
static const struct vhost_blk_memory_part *
vhost_blk_memory_part_of(const struct vhost_blk_memory *memory, unsigned long addr)
{
	unsigned int low = 0, high = memory->num;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (memory->parts[middle].start <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &memory->parts[low - 1] : NULL;
}

/* The pages of [@start, @end) if they are pinned already, else NULL. */
static struct vhost_blk_pinned *
vhost_blk_memory_get_pinned(const struct vhost_blk_memory *memory,
			    unsigned long start, unsigned long end)
{
	const struct vhost_blk_memory_part *part =
		vhost_blk_memory_part_of(memory, start);

	for (; part && part >= memory->parts && part->start == start; part--) {
		if (part->end == end) {
			refcount_inc(&part->pinned->refs);
			return part->pinned;
		}
	}
	return NULL;
}

/* Of parts that begin at one address the longest is last, for vhost_blk_memory_part_of(). */
static int vhost_blk_memory_compare(const void *a, const void *b)
{
	const struct vhost_blk_memory_part *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/**
 * vhost_blk_memory_alloc - allocate a table of memory
 * @max: the number of regions
 *
 * Return: a table without regions, or NULL.
 */
struct vhost_blk_memory *vhost_blk_memory_alloc(unsigned int max)
{
	struct vhost_blk_memory *memory;

	memory = kvzalloc(struct_size(memory, parts, max), GFP_KERNEL_ACCOUNT);
	if (memory)
		refcount_set(&memory->refs, 1);
	return memory;
}

/**
 * vhost_blk_memory_add - add a region to a table that is not pinned yet
 * @memory: a table with room for the region
 * @user: address in the owner's memory
 * @size: in bytes
 *
 * Return: 0, or -EFAULT if the region is empty or not in the owner's address space.
 */
int vhost_blk_memory_add(struct vhost_blk_memory *memory, u64 user, u64 size)
{
	struct vhost_blk_memory_part *part = &memory->parts[memory->num];

	if (!size || user > ULONG_MAX || size > ULONG_MAX ||
	    !access_ok((void __user *)(uintptr_t)user, size))
		return -EFAULT;
	part->start = round_down((unsigned long)user, PAGE_SIZE);
	part->end = round_up((unsigned long)(user + size), PAGE_SIZE);
	memory->num++;
	return 0;
}

/**
 * vhost_blk_memory_pin - pin the regions of a table
 * @memory: a table with all its regions
 * @old: the table that it replaces. Regions that are in both are not pinned again.
 *
 * Must run in the owner's process. May sleep for long. Device memory is left out.
 *
 * Return: 0, or an error after which the caller has to call vhost_blk_memory_put():
 *	-ENOMEM	more than RLIMIT_MEMLOCK, or there is no memory
 *	-EFAULT	a part of a region is not mapped, or not writable
 *	-EOPNOTSUPP a part of a region is memory that can't be pinned for long
 *	-EINTR	the process is being killed
 *	others of pin_user_pages_fast(), such as -EHWPOISON
 */
int vhost_blk_memory_pin(struct vhost_blk_memory *memory,
			 const struct vhost_blk_memory *old)
{
	unsigned int i, num = memory->num;

	sort(memory->parts, num, sizeof(*memory->parts), vhost_blk_memory_compare, NULL);
	/* From here on only parts that have pages count. */
	memory->num = 0;
	for (i = 0; i < num; i++) {
		struct vhost_blk_memory_part part = memory->parts[i];

		part.pinned = vhost_blk_memory_get_pinned(memory, part.start, part.end);
		if (!part.pinned && old)
			part.pinned = vhost_blk_memory_get_pinned(old, part.start,
								  part.end);
		if (!part.pinned && vhost_blk_is_device_memory(part.start))
			continue;
		if (!part.pinned)
			part.pinned = vhost_blk_pinned_create(part.start, part.end);
		if (IS_ERR(part.pinned))
			return PTR_ERR(part.pinned);
		memory->parts[memory->num++] = part;
	}
	return 0;
}

static void vhost_blk_memory_free(struct vhost_blk_memory *memory)
{
	while (memory->num)
		vhost_blk_pinned_put(memory->parts[--memory->num].pinned);
	kvfree(memory);
}

static void vhost_blk_memory_free_work(struct work_struct *work)
{
	vhost_blk_memory_free(container_of(work, struct vhost_blk_memory, work));
}

/**
 * vhost_blk_memory_get - take a reference
 * @memory: a table of memory
 */
void vhost_blk_memory_get(struct vhost_blk_memory *memory)
{
	refcount_inc(&memory->refs);
}

/**
 * vhost_blk_memory_put - drop a reference, and unpin the pages with the last one
 * @memory: a table of memory, or NULL
 *
 * May sleep for long.
 */
void vhost_blk_memory_put(struct vhost_blk_memory *memory)
{
	if (memory && refcount_dec_and_test(&memory->refs))
		vhost_blk_memory_free(memory);
}

/**
 * vhost_blk_memory_put_later - drop a reference; if it is the last one, unpin in a work
 * @memory: a table of memory that was pinned
 *
 * Any context.
 */
void vhost_blk_memory_put_later(struct vhost_blk_memory *memory)
{
	if (!refcount_dec_and_test(&memory->refs))
		return;
	INIT_WORK(&memory->work, vhost_blk_memory_free_work);
	queue_work(vhost_blk_wq, &memory->work);
}

/**
 * vhost_blk_memory_bytes - the size of all regions
 * @memory: a table of memory that was pinned
 *
 * Return: bytes. Regions that overlap count twice.
 */
u64 vhost_blk_memory_bytes(const struct vhost_blk_memory *memory)
{
	unsigned int i;
	u64 bytes = 0;

	for (i = 0; i < memory->num; i++)
		bytes += memory->parts[i].end - memory->parts[i].start;
	return bytes;
}

/* The entry of the chunk of @addr. Shorten *@bytes to the chunk and the region. */
static unsigned long vhost_blk_memory_chunk(const struct vhost_blk_memory *memory,
					    unsigned long addr, size_t *bytes)
{
	const struct vhost_blk_memory_part *part =
		vhost_blk_memory_part_of(memory, addr);

	if (!part || addr >= part->end)
		return 0;
	*bytes = min3(*bytes, part->end - addr, CHUNK_SIZE - (addr & (CHUNK_SIZE - 1)));
	return *vhost_blk_chunk(part->pinned, addr);
}

/**
 * vhost_blk_memory_count - count the vectors for data
 * @memory: a table of memory that was pinned
 * @addr: address in the owner's memory
 * @bytes: length, at least 1; set to the length that was looked at, which can be less
 *
 * Any context.
 *
 * Return: the number of vectors; 0 if @addr is not in the table. A region that has another
 * one inside may not be found behind that.
 */
unsigned int vhost_blk_memory_count(const struct vhost_blk_memory *memory,
				    unsigned long addr, size_t *bytes)
{
	unsigned long chunk = vhost_blk_memory_chunk(memory, addr, bytes);
	struct page **pages = (struct page **)chunk + vhost_blk_page_index(addr);
	unsigned int i, num, vecs;

	if (!chunk || chunk & CHUNK_IS_FOLIO)
		return !!chunk;
	num = DIV_ROUND_UP(offset_in_page(addr) + *bytes, PAGE_SIZE);
	for (i = 1, vecs = 1; i < num; i++)
		vecs += !((unsigned long)pages[i] & PAGE_CONTINUES);
	return vecs;
}

/* Fill vectors from an array of pages. Arguments as for vhost_blk_memory_find(). */
static size_t vhost_blk_memory_find_pages(struct page **pages, unsigned int offset,
					  size_t bytes, struct bio_vec *vecs,
					  unsigned int *num)
{
	const struct bio_vec *end = vecs + *num;
	unsigned int len = min(bytes, PAGE_SIZE - offset);
	struct bio_vec *vec = vecs;
	size_t left;

	bvec_set_page(vec, vhost_blk_page_of(*pages), len, offset);
	for (left = bytes - len; left; left -= len) {
		struct page *page = *++pages;

		len = min(left, PAGE_SIZE);
		if ((unsigned long)page & PAGE_CONTINUES) {
			vec->bv_len += len;
		} else {
			if (vec + 1 == end)
				break;
			bvec_set_page(++vec, page, len, 0);
		}
	}
	*num = vec + 1 - vecs;
	return bytes - left;
}

/**
 * vhost_blk_memory_find - find the pages of data
 * @memory: a table of memory that was pinned
 * @addr: address in the owner's memory
 * @bytes: length, at least 1
 * @vecs: filled; each with pages of one folio
 * @num: size of @vecs, at least 1; set to the number of vectors in use
 *
 * Any context.
 *
 * Return: the length that @vecs describe, which can be less; 0 if @addr is not in the table.
 * A region that has another one inside may not be found behind that.
 */
size_t vhost_blk_memory_find(const struct vhost_blk_memory *memory, unsigned long addr,
			     size_t bytes, struct bio_vec *vecs, unsigned int *num)
{
	unsigned long chunk = vhost_blk_memory_chunk(memory, addr, &bytes);
	unsigned int index = vhost_blk_page_index(addr);

	if (unlikely(!chunk))
		return 0;
	if (!(chunk & CHUNK_IS_FOLIO))
		return vhost_blk_memory_find_pages((struct page **)chunk + index,
						   offset_in_page(addr), bytes, vecs, num);
	bvec_set_page(vecs, (struct page *)(chunk & ~CHUNK_IS_FOLIO) + index, bytes,
		      offset_in_page(addr));
	*num = 1;
	return bytes;
}
