// SPDX-License-Identifier: GPL-2.0
/* A virtio driver in user space for vhost devices: see vhost_client.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vhost_client.h"

#define RING_ALIGN	4096

int vhost_client_ioctl(struct vhost_client *c, unsigned long cmd, void *arg)
{
	return ioctl(c->fd, cmd, arg) < 0 ? -errno : 0;
}

int vhost_client_open(struct vhost_client *c, const char *path, size_t mem_size)
{
	memset(c, 0, sizeof(*c));
	c->fd = open(path, O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		return -errno;
	c->mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->mem == MAP_FAILED) {
		close(c->fd);
		return -ENOMEM;
	}
	c->mem_size = mem_size;
	return 0;
}

void vhost_client_close(struct vhost_client *c)
{
	unsigned int i;

	close(c->fd);
	for (i = 0; i < c->num_queues; i++) {
		close(c->queues[i].kick_fd);
		close(c->queues[i].call_fd);
		close(c->queues[i].err_fd);
	}
	free(c->queues);
	munmap(c->mem, c->mem_size);
}

int vhost_client_bind(struct vhost_client *c, int fd, uint32_t flags,
		      unsigned int num_queues, const char *serial)
{
	struct vhost_blk_bind bind = {
		.fd = fd,
		.flags = flags,
		.num_queues = num_queues,
	};

	memcpy(bind.serial, serial, strnlen(serial, sizeof(bind.serial)));
	return vhost_client_ioctl(c, VHOST_BLK_BIND, &bind);
}

int vhost_client_get_config(struct vhost_client *c,
			    struct virtio_blk_config *config)
{
	struct {
		struct vhost_blk_config head;
		uint8_t data[sizeof(*config)];
	} want = { .head.size = sizeof(*config) };
	int ret = vhost_client_ioctl(c, VHOST_BLK_GET_CONFIG, &want);

	if (!ret)
		memcpy(config, want.data, sizeof(*config));
	return ret;
}

int vhost_client_get_features(struct vhost_client *c, uint64_t *features)
{
	return vhost_client_ioctl(c, VHOST_GET_FEATURES, features);
}

void *vhost_client_alloc(struct vhost_client *c, size_t size, size_t align)
{
	size_t start = (c->mem_free + align - 1) / align * align;

	if (start + size > c->mem_size)
		return NULL;
	c->mem_free = start + size;
	return c->mem + start;
}

uint64_t vhost_client_gpa(struct vhost_client *c, const void *addr)
{
	return VHOST_CLIENT_BASE + ((const uint8_t *)addr - c->mem);
}

static int set_mem_table(struct vhost_client *c)
{
	struct {
		struct vhost_memory table;
		struct vhost_memory_region region;
	} mem = {
		.table.nregions = 1,
		.region = {
			.guest_phys_addr = VHOST_CLIENT_BASE,
			.memory_size = c->mem_size,
			.userspace_addr = (uintptr_t)c->mem,
		},
	};

	return vhost_client_ioctl(c, VHOST_SET_MEM_TABLE, &mem);
}

static int alloc_ring(struct vhost_client *c, struct vhost_client_queue *q,
		      unsigned int num)
{
	void *mem = vhost_client_alloc(c, vring_size(num, RING_ALIGN),
				       RING_ALIGN);
	unsigned int i;

	if (!mem)
		return -ENOMEM;
	vring_init(&q->vring, num, mem, RING_ALIGN);
	q->num = num;
	q->num_free = num;
	for (i = 0; i < num; i++)
		q->vring.desc[i].next = i + 1;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->kick_fd < 0 || q->call_fd < 0 || q->err_fd < 0 ? -EMFILE : 0;
}

static int set_ring(struct vhost_client *c, unsigned int index)
{
	struct vhost_client_queue *q = &c->queues[index];
	struct vhost_vring_state num = { .index = index, .num = q->num };
	struct vhost_vring_state base = { .index = index };
	struct vhost_vring_addr addr = {
		.index = index,
		.desc_user_addr = (uintptr_t)q->vring.desc,
		.avail_user_addr = (uintptr_t)q->vring.avail,
		.used_user_addr = (uintptr_t)q->vring.used,
	};
	struct vhost_vring_file kick = { .index = index, .fd = q->kick_fd };
	struct vhost_vring_file call = { .index = index, .fd = q->call_fd };
	struct vhost_vring_file err = { .index = index, .fd = q->err_fd };
	int ret;

	ret = vhost_client_ioctl(c, VHOST_SET_VRING_NUM, &num);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_BASE, &base);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_ADDR, &addr);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_KICK, &kick);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_CALL, &call);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_ERR, &err);
	return ret;
}

int vhost_client_setup(struct vhost_client *c, uint64_t features,
		       unsigned int num_queues, unsigned int ring_size)
{
	uint64_t offered;
	unsigned int i;
	int ret;

	ret = vhost_client_get_features(c, &offered);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_OWNER, NULL);
	if (ret)
		return ret;
	c->features = offered & features;
	ret = vhost_client_ioctl(c, VHOST_SET_FEATURES, &c->features);
	if (!ret)
		ret = set_mem_table(c);
	if (ret)
		return ret;

	c->queues = calloc(num_queues, sizeof(*c->queues));
	if (!c->queues)
		return -ENOMEM;
	for (i = 0; i < num_queues && !ret; i++) {
		c->num_queues = i + 1;
		ret = alloc_ring(c, &c->queues[i], ring_size);
		if (!ret)
			ret = set_ring(c, i);
	}
	return ret;
}

int vhost_client_run(struct vhost_client *c, bool run)
{
	uint32_t running = run;

	return vhost_client_ioctl(c, VHOST_BLK_SET_RUNNING, &running);
}

static void fill_desc(struct vhost_client *c, struct vring_desc *desc,
		      const struct vhost_client_seg *seg, bool more)
{
	desc->addr = vhost_client_gpa(c, seg->addr);
	desc->len = seg->len;
	desc->flags = (seg->device_writes ? VRING_DESC_F_WRITE : 0) |
		      (more ? VRING_DESC_F_NEXT : 0);
}

int vhost_client_add(struct vhost_client *c, unsigned int queue,
		     const struct vhost_client_seg *segs, unsigned int num,
		     struct vring_desc *indirect)
{
	struct vhost_client_queue *q = &c->queues[queue];
	struct vring *vring = &q->vring;
	uint16_t head = q->free_head, last = head;
	unsigned int need = indirect ? 1 : num;
	unsigned int i;

	if (!num || q->num_free < need)
		return -ENOSPC;
	for (i = 0; indirect && i < num; i++) {
		fill_desc(c, &indirect[i], &segs[i], i + 1 < num);
		indirect[i].next = i + 1;
	}
	if (indirect) {
		vring->desc[head].addr = vhost_client_gpa(c, indirect);
		vring->desc[head].len = num * sizeof(*indirect);
		vring->desc[head].flags = VRING_DESC_F_INDIRECT;
	}
	for (i = 0; !indirect && i < num; i++) {
		fill_desc(c, &vring->desc[last], &segs[i], i + 1 < num);
		if (i + 1 < num)
			last = vring->desc[last].next;
	}
	q->free_head = vring->desc[last].next;
	q->num_free -= need;

	vring->avail->ring[vring->avail->idx % q->num] = head;
	__atomic_store_n(&vring->avail->idx, vring->avail->idx + 1,
			 __ATOMIC_RELEASE);
	return head;
}

static bool wants_kick(struct vhost_client *c, struct vhost_client_queue *q)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (c->features & (1ULL << VIRTIO_RING_F_EVENT_IDX)) {
		uint16_t event = *(volatile uint16_t *)
			&vring_avail_event(&q->vring);

		/* True of the last chain; a test that batches may force. */
		return vring_need_event(event, q->vring.avail->idx,
					q->vring.avail->idx - 1);
	}
	return !(*(volatile uint16_t *)&q->vring.used->flags &
		 VRING_USED_F_NO_NOTIFY);
}

void vhost_client_kick(struct vhost_client *c, unsigned int queue, bool force)
{
	struct vhost_client_queue *q = &c->queues[queue];
	uint64_t one = 1;

	if (!force && !wants_kick(c, q))
		return;
	q->kicks++;
	if (write(q->kick_fd, &one, sizeof(one)) != sizeof(one))
		abort();
}

static void free_chain(struct vhost_client_queue *q, uint16_t head)
{
	uint16_t last = head;

	q->num_free++;
	while (q->vring.desc[last].flags & VRING_DESC_F_NEXT) {
		last = q->vring.desc[last].next;
		q->num_free++;
	}
	q->vring.desc[last].next = q->free_head;
	q->free_head = head;
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int vhost_client_get_used(struct vhost_client *c, unsigned int queue,
			  uint32_t *len, int timeout_ms)
{
	struct vhost_client_queue *q = &c->queues[queue];
	long end = now_ms() + timeout_ms;
	struct vring_used_elem *elem;
	uint64_t drop;

	while (__atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) ==
	       q->last_used) {
		struct pollfd call = { .fd = q->call_fd, .events = POLLIN };
		long left = end - now_ms();

		/* Ask for a signal, then look again, then sleep. */
		vring_used_event(&q->vring) = q->last_used;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (*(volatile uint16_t *)&q->vring.used->idx != q->last_used)
			break;
		if (left <= 0 || !poll(&call, 1, left))
			return -EAGAIN;
		if (read(q->call_fd, &drop, sizeof(drop)) < 0 && errno != EAGAIN)
			return -errno;
	}

	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	elem = &q->vring.used->ring[q->last_used % q->num];
	q->last_used++;
	if (len)
		*len = elem->len;
	free_chain(q, elem->id);
	return elem->id;
}
