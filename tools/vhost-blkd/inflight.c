// SPDX-License-Identifier: GPL-2.0
/* The record of the chains in flight: see inflight.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/vhost_blk.h>

#include "inflight.h"

/* Rings that are served by different CPUs must not share a cache line. */
#define REGION_ALIGNMENT	64

/**
 * struct own_page - state that the daemon keeps in the record
 * @magic: %OWN_MAGIC, or 0 if nothing was stored yet
 * @version: %OWN_VERSION
 * @write_back: cache mode that the driver or the front end relies on
 */
struct own_page {
	uint64_t magic;
	uint32_t version;
	uint32_t write_back;
};

#define OWN_MAGIC	0x64626c6b76686264ULL
#define OWN_VERSION	1

/*
 * Size of a region. It has room for the largest ring, whatever size the front end asks
 * for. A driver may use larger rings than QEMU's queue-size.
 */
#define REGION_BYTES	(sizeof(struct vhost_blk_inflight) + \
			 VHOST_BLK_MAX_RING * \
			 sizeof(struct vhost_blk_inflight_desc))
#define REGION_STRIDE	((REGION_BYTES + REGION_ALIGNMENT - 1) / \
			 REGION_ALIGNMENT * REGION_ALIGNMENT)

static uint64_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* Offset of the daemon's own page, which follows the regions. */
static uint64_t own_page_offset(unsigned int num_queues)
{
	uint64_t page = page_size();

	return (num_queues * REGION_STRIDE + page - 1) / page * page;
}

static bool makes_sense(const struct vhost_user_inflight *msg)
{
	return msg->num_queues && msg->num_queues <= VHOST_BLK_MAX_QUEUES &&
	       msg->queue_size && msg->queue_size <= VHOST_BLK_MAX_RING;
}

int inflight_create(struct vhost_user_inflight *msg)
{
	uint64_t size;
	int fd, ret;

	if (!makes_sense(msg))
		return -EINVAL;
	size = own_page_offset(msg->num_queues) + page_size();
	fd = memfd_create("vhost-blkd-inflight",
			  MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	msg->mmap_size = size;
	msg->mmap_offset = 0;
	return fd;
}

/* The kernel checks this as well, but too late for a good message. */
static bool file_has(int fd, const struct vhost_user_inflight *msg)
{
	struct stat st;
	uint64_t end;

	return !__builtin_add_overflow(msg->mmap_offset, msg->mmap_size,
				       &end) &&
	       !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	       end <= (uint64_t)st.st_size;
}

int inflight_set(struct inflight *inflight,
		 const struct vhost_user_inflight *msg, int fd)
{
	uint64_t own_page = own_page_offset(msg->num_queues);
	struct mapping mapping;
	int ret;

	if (!makes_sense(msg) || msg->mmap_offset % REGION_ALIGNMENT)
		return -EINVAL;
	if (msg->mmap_size < own_page + page_size() || !file_has(fd, msg))
		return -ERANGE;
	ret = mapping_create(&mapping, fd, msg->mmap_offset, msg->mmap_size);
	if (ret)
		return ret;
	inflight_clear(inflight);
	*inflight = (struct inflight){
		.mapping = mapping,
		.fd = fd,
		.num_queues = msg->num_queues,
		.own_page = msg->mmap_offset + own_page,
	};
	return 0;
}

void inflight_clear(struct inflight *inflight)
{
	mapping_remove(&inflight->mapping);
	if (inflight->fd >= 0)
		close(inflight->fd);
	*inflight = (struct inflight){ .fd = -1 };
}

uint64_t inflight_addr(const struct inflight *inflight, unsigned int index)
{
	if (inflight->fd < 0 || index >= inflight->num_queues)
		return 0;
	return (uintptr_t)inflight->mapping.data +
	       index * REGION_STRIDE;
}

bool inflight_load(const struct inflight *inflight, bool *write_back)
{
	struct own_page page;

	if (inflight->fd < 0 ||
	    pread(inflight->fd, &page, sizeof(page), inflight->own_page) !=
	    sizeof(page) ||
	    page.magic != OWN_MAGIC || page.version != OWN_VERSION)
		return false;
	*write_back = page.write_back;
	return true;
}

int inflight_store(const struct inflight *inflight, bool write_back)
{
	struct own_page page = {
		.magic = OWN_MAGIC,
		.version = OWN_VERSION,
		.write_back = write_back,
	};
	ssize_t ret;

	if (inflight->fd < 0)
		return 0;
	ret = pwrite(inflight->fd, &page, sizeof(page), inflight->own_page);
	if (ret < 0)
		return -errno;
	return ret == sizeof(page) ? 0 : -EIO;
}
