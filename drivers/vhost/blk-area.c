// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk ring: memory of the owner that is pinned and mapped for the kernel.
 *
 * The kernel can access an area in any context and in any process. The pages count as
 * locked memory of the owner. If the owner maps other memory at the address, the area still
 * is the old memory.
 */
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "blk.h"

/**
 * vhost_blk_area_open - pin memory and map it for the kernel
 * @area: a closed area
 * @mm: the owner's memory, which is the current process's
 * @addr: address there
 * @bytes: length, no more than a record of the largest ring has
 *
 * May sleep.
 *
 * Return: 0, or
 *	-EFAULT	the memory is not there, or can't be pinned for long
 *	-EINTR	the process is being killed
 *	-ENOMEM	the limit of locked memory is reached, or there is no memory
 */
int vhost_blk_area_open(struct vhost_blk_area *area, struct mm_struct *mm, u64 addr,
			size_t bytes)
{
	unsigned int num = DIV_ROUND_UP(offset_in_page(addr) + bytes, PAGE_SIZE);
	void *map;
	int ret;

	ret = vhost_blk_pin_pages(addr & PAGE_MASK, num, area->pages);
	if (ret)
		return ret;
	area->num_pages = num;
	ret = account_locked_vm(mm, num, true);
	if (ret)
		goto err_pin;
	map = vmap(area->pages, num, VM_MAP, PAGE_KERNEL);
	if (!map) {
		ret = -ENOMEM;
		goto err_account;
	}
	area->map = map + offset_in_page(addr);
	return 0;

err_account:
	account_locked_vm(mm, num, false);
err_pin:
	unpin_user_pages(area->pages, num);
	return ret;
}

/**
 * vhost_blk_area_close - undo vhost_blk_area_open()
 * @area: the area, which nothing accesses any more; closing it twice is harmless
 * @mm: as for vhost_blk_area_open()
 *
 * Any process. May sleep.
 */
void vhost_blk_area_close(struct vhost_blk_area *area, struct mm_struct *mm)
{
	if (!area->map)
		return;
	vunmap((void *)((unsigned long)area->map & PAGE_MASK));
	area->map = NULL;
	account_locked_vm(mm, area->num_pages, false);
	unpin_user_pages_dirty_lock(area->pages, area->num_pages, true);
}
