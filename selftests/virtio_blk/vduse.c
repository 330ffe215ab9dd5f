// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/vduse.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#include "vduse.h"

#define ALIGNMENT	4096

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("# device: ", stderr);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* --- the device --- */

static void set_up_queue(struct vduse *v, unsigned int index, unsigned int size)
{
	struct vduse_vq_config config = { .index = index, .max_size = size };
	struct vduse_queue *queue = &v->queues[index];

	queue->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (queue->kick < 0 || ioctl(v->fd, VDUSE_VQ_SETUP, &config))
		die("queue %u: %s", index, strerror(errno));
}

/* One that a program left behind that was killed is taken away first. */
static int create(struct vduse *v, struct vduse_dev_config *device)
{
	if (!ioctl(v->control, VDUSE_CREATE_DEV, device))
		return 0;
	if (errno != EEXIST || ioctl(v->control, VDUSE_DESTROY_DEV, v->name))
		return -errno;
	return ioctl(v->control, VDUSE_CREATE_DEV, device) ? -errno : 0;
}

int vduse_create(struct vduse *v, const char *name, uint64_t features,
		 unsigned int num_queues, unsigned int ring_size,
		 const void *config, size_t config_size)
{
	struct vduse_dev_config *device;
	uint64_t version = 0;
	char path[128];
	unsigned int i;
	int err;

	memset(v, 0, sizeof(*v));
	snprintf(v->name, sizeof(v->name), "%s", name);
	v->num_queues = num_queues;
	v->control = open("/dev/vduse/control", O_RDWR | O_CLOEXEC);
	if (v->control < 0 || ioctl(v->control, VDUSE_SET_API_VERSION, &version))
		return -errno;

	device = calloc(1, sizeof(*device) + config_size);
	snprintf(device->name, sizeof(device->name), "%s", name);
	device->device_id = VIRTIO_ID_BLOCK;
	device->features = features | 1ULL << VIRTIO_F_ACCESS_PLATFORM;
	device->vq_num = num_queues;
	device->vq_align = ALIGNMENT;
	device->config_size = config_size;
	memcpy(device->config, config, config_size);
	err = create(v, device);
	free(device);
	if (err)
		return err;

	snprintf(path, sizeof(path), "/dev/vduse/%s", name);
	v->fd = open(path, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return -errno;
	for (i = 0; i < num_queues; i++)
		set_up_queue(v, i, ring_size);
	return 0;
}

void vduse_destroy(struct vduse *v)
{
	char name[VDUSE_NAME_MAX] = "";

	snprintf(name, sizeof(name), "%s", v->name);
	close(v->fd);
	if (ioctl(v->control, VDUSE_DESTROY_DEV, name))
		die("can't destroy %s: %s", name, strerror(errno));
	close(v->control);
}

/* --- memory --- */

static void unmap_all(struct vduse *v)
{
	unsigned int i;

	for (i = 0; i < v->num_regions; i++)
		munmap(v->regions[i].memory,
		       v->regions[i].last - v->regions[i].start + 1);
	v->num_regions = 0;
}

static struct vduse_region *map_region(struct vduse *v, uint64_t address)
{
	struct vduse_iotlb_entry entry = { .start = address, .last = address };
	struct vduse_region *region = &v->regions[v->num_regions];
	int fd = ioctl(v->fd, VDUSE_IOTLB_GET_FD, &entry);

	if (fd < 0)
		die("nothing is mapped at %#llx: %s", (unsigned long long)address,
		    strerror(errno));
	if (++v->num_regions > VDUSE_MAX_REGIONS)
		die("more than %u regions", VDUSE_MAX_REGIONS);
	region->start = entry.start;
	region->last = entry.last;
	region->memory = mmap(NULL, entry.last - entry.start + 1,
			      PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			      entry.offset);
	if (region->memory == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	close(fd);
	return region;
}

static void *translate(struct vduse *v, uint64_t address, size_t len)
{
	struct vduse_region *region = NULL;
	unsigned int i;

	for (i = 0; i < v->num_regions && !region; i++)
		if (address >= v->regions[i].start && address <= v->regions[i].last)
			region = &v->regions[i];
	if (!region)
		region = map_region(v, address);
	if (len > region->last - address + 1)
		die("%zu bytes at %#llx are not in one region", len,
		    (unsigned long long)address);
	return region->memory + (address - region->start);
}

/* --- messages --- */

static void start_queue(struct vduse *v, unsigned int index)
{
	struct vduse_queue *queue = &v->queues[index];
	struct vduse_vq_info info = { .index = index };
	struct vduse_vq_eventfd kick = { .index = index, .fd = queue->kick };

	if (queue->ready)
		return;
	if (ioctl(v->fd, VDUSE_VQ_GET_INFO, &info))
		die("queue %u: %s", index, strerror(errno));
	if (!info.ready)
		return;
	queue->ring.num = info.num;
	queue->ring.desc = translate(v, info.desc_addr,
				     info.num * sizeof(struct vring_desc));
	queue->ring.avail = translate(v, info.driver_addr, info.num * 2 + 6);
	queue->ring.used = translate(v, info.device_addr, info.num * 8 + 6);
	queue->last_avail = info.split.avail_index;
	if (ioctl(v->fd, VDUSE_VQ_SETUP_KICKFD, &kick))
		die("kicks of queue %u: %s", index, strerror(errno));
	queue->ready = true;
}

static void stop_queues(struct vduse *v)
{
	unsigned int i;

	for (i = 0; i < v->num_queues; i++)
		v->queues[i].ready = false;
	unmap_all(v);
}

static enum vduse_event new_status(struct vduse *v, uint8_t status)
{
	unsigned int i;

	if (!status) {
		stop_queues(v);
		return VDUSE_RESET;
	}
	if (!(status & VIRTIO_CONFIG_S_DRIVER_OK))
		return VDUSE_NOTHING;
	for (i = 0; i < v->num_queues; i++)
		start_queue(v, i);
	return VDUSE_STARTED;
}

/* Of all that a driver says when it starts, this is said once. */
static bool is_new_start(uint8_t status)
{
	return (status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)) ==
	       VIRTIO_CONFIG_S_FEATURES_OK;
}

enum vduse_event vduse_message(struct vduse *v, enum vduse_reply to_reset,
			       enum vduse_reply to_others)
{
	struct vduse_dev_request request;
	struct vduse_dev_response response = {};
	enum vduse_event event = VDUSE_NOTHING;
	enum vduse_reply reply = to_others;

	if (read(v->fd, &request, sizeof(request)) != sizeof(request))
		die("no message: %s", strerror(errno));
	if (request.type != VDUSE_SET_STATUS)
		die("message of type %u", request.type);
	if (!request.s.status)
		reply = to_reset;
	if (!request.s.status || reply == VDUSE_ACCEPT)
		event = new_status(v, request.s.status);
	else if (reply == VDUSE_REFUSE && is_new_start(request.s.status))
		event = VDUSE_REFUSED;
	if (reply == VDUSE_IGNORE)
		return event;
	response.request_id = request.request_id;
	if (reply == VDUSE_REFUSE)
		response.result = VDUSE_REQ_RESULT_FAILED;
	/* Too late an answer is to nothing any more. */
	if (write(v->fd, &response, sizeof(response)) < 0 && errno != ENOENT)
		die("no answer: %s", strerror(errno));
	return event;
}

/* --- rings --- */

static void add_piece(struct vduse *v, struct vduse_chain *chain,
		      const struct vring_desc *desc)
{
	unsigned int num = chain->num_out + chain->num_in;

	if (num == VDUSE_MAX_PIECES)
		die("endless chain");
	chain->pieces[num].iov_base = translate(v, desc->addr, desc->len);
	chain->pieces[num].iov_len = desc->len;
	if (desc->flags & VRING_DESC_F_WRITE)
		chain->num_in++;
	else if (chain->num_in)
		die("a piece to read follows one to write");
	else
		chain->num_out++;
}

static void follow(struct vduse *v, struct vduse_chain *chain,
		   const struct vring_desc *table, unsigned int num,
		   unsigned int index)
{
	const struct vring_desc *desc;

	do {
		if (index >= num)
			die("descriptor %u of %u", index, num);
		desc = &table[index];
		if (desc->flags & VRING_DESC_F_INDIRECT)
			follow(v, chain, translate(v, desc->addr, desc->len),
			       desc->len / sizeof(*desc), 0);
		else
			add_piece(v, chain, desc);
		index = desc->next;
	} while (desc->flags & VRING_DESC_F_NEXT);
}

bool vduse_pop(struct vduse *v, struct vduse_queue *queue,
	       struct vduse_chain *chain)
{
	struct vring *ring = &queue->ring;

	if (!queue->ready ||
	    __atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) == queue->last_avail)
		return false;
	chain->id = ring->avail->ring[queue->last_avail++ % ring->num];
	chain->num_out = 0;
	chain->num_in = 0;
	follow(v, chain, ring->desc, ring->num, chain->id);
	return true;
}

void vduse_push(struct vduse_queue *queue, uint32_t id, uint32_t len)
{
	struct vring_used *used = queue->ring.used;
	struct vring_used_elem *elem = &used->ring[used->idx % queue->ring.num];

	elem->id = id;
	elem->len = len;
	__atomic_store_n(&used->idx, used->idx + 1, __ATOMIC_SEQ_CST);
}

bool vduse_wants_interrupt(const struct vduse_queue *queue)
{
	return !(__atomic_load_n(&queue->ring.avail->flags, __ATOMIC_SEQ_CST) &
		 VRING_AVAIL_F_NO_INTERRUPT);
}

int vduse_interrupt(struct vduse *v, unsigned int queue)
{
	uint32_t index = queue;

	return ioctl(v->fd, VDUSE_VQ_INJECT_IRQ, &index) ? -errno : 0;
}

int vduse_change_config(struct vduse *v, const void *config, size_t size)
{
	struct vduse_config_data *data = calloc(1, sizeof(*data) + size);
	int err = 0;

	data->length = size;
	memcpy(data->buffer, config, size);
	if (ioctl(v->fd, VDUSE_DEV_SET_CONFIG, data) ||
	    ioctl(v->fd, VDUSE_DEV_INJECT_CONFIG_IRQ))
		err = -errno;
	free(data);
	return err;
}
