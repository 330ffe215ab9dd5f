// SPDX-License-Identifier: GPL-2.0
/* A virtio driver in user space for vhost devices: see vhost_client.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vhost_client.h"

#define RING_ALIGN	4096
/* Timeout for a miss that the device has sent already. */
#define MISS_MS		1000
#define LONG_BITS	(8 * sizeof(long))

/* Features that vhost_client_setup() does not take from its argument. */
#define OTHER_FEATURES	(1ULL << VHOST_F_LOG_ALL | 1ULL << VIRTIO_F_ACCESS_PLATFORM)

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
	c->pin_memory = getenv("VHOST_CLIENT_PIN_MEMORY");
	c->mem_fd = -1;
	c->mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->mem == MAP_FAILED) {
		close(c->fd);
		return -ENOMEM;
	}
	c->mem_size = mem_size;
	return 0;
}

int vhost_client_open_shared(struct vhost_client *c, int fd, size_t mem_size)
{
	memset(c, 0, sizeof(*c));
	c->mem_fd = memfd_create("guest memory", MFD_CLOEXEC);
	if (c->mem_fd < 0)
		return -errno;
	c->mem = MAP_FAILED;
	if (!ftruncate(c->mem_fd, mem_size))
		c->mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			      c->mem_fd, 0);
	if (c->mem == MAP_FAILED) {
		close(c->mem_fd);
		return -ENOMEM;
	}
	c->fd = fd;
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
	if (c->mem_fd >= 0)
		close(c->mem_fd);
	if (c->log)
		munmap(c->log, c->log_bytes);
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

/*
 * An ioctl that waits for requests in flight fails with -EAGAIN while the IOTLB lacks the
 * ring. The device has sent a miss then. Reply to it and repeat the ioctl.
 */
static int ioctl_served(struct vhost_client *c, unsigned long cmd, void *arg)
{
	int ret;

	do {
		ret = vhost_client_ioctl(c, cmd, arg);
	} while (ret == -EAGAIN && c->iotlb &&
		 vhost_client_iotlb_serve(c, MISS_MS) > 0);
	return ret;
}

int vhost_client_set_wce(struct vhost_client *c, uint8_t wce)
{
	struct {
		struct vhost_blk_config head;
		uint8_t wce;
	} set = {
		.head.offset = offsetof(struct virtio_blk_config, wce),
		.head.size = 1,
		.wce = wce,
	};

	return ioctl_served(c, VHOST_BLK_SET_CONFIG, &set);
}

int vhost_client_set_config_call(struct vhost_client *c, int fd)
{
	return vhost_client_ioctl(c, VHOST_BLK_SET_CONFIG_CALL, &fd);
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

uint64_t vhost_client_dma(struct vhost_client *c, const void *addr)
{
	uint64_t gpa = vhost_client_gpa(c, addr);

	return c->iotlb ? gpa - VHOST_CLIENT_BASE + VHOST_CLIENT_IOVA_BASE : gpa;
}

int vhost_client_set_mem_table(struct vhost_client *c,
			       const struct vhost_memory_region *regions,
			       unsigned int num)
{
	size_t size = sizeof(struct vhost_memory) + num * sizeof(*regions);
	struct vhost_memory *table = calloc(1, size);
	unsigned int i;
	int ret;

	if (!table)
		return -ENOMEM;
	table->nregions = num;
	memcpy(table->regions, regions, num * sizeof(*regions));
	ret = vhost_client_ioctl(c, VHOST_SET_MEM_TABLE, table);
	free(table);

	c->gpa_end = 0;
	for (i = 0; i < num; i++) {
		uint64_t end = regions[i].guest_phys_addr +
			       regions[i].memory_size;

		if (end > c->gpa_end)
			c->gpa_end = end;
	}
	return ret;
}

static int set_default_mem_table(struct vhost_client *c)
{
	struct vhost_memory_region region = {
		.guest_phys_addr = VHOST_CLIENT_BASE,
		.memory_size = c->mem_size,
		.userspace_addr = (uintptr_t)c->mem,
	};

	return vhost_client_set_mem_table(c, &region, 1);
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

int vhost_client_alloc_rings(struct vhost_client *c, unsigned int num_queues,
			     unsigned int ring_size)
{
	unsigned int i;
	int ret = 0;

	c->queues = calloc(num_queues, sizeof(*c->queues));
	if (!c->queues)
		return -ENOMEM;
	for (i = 0; i < num_queues && !ret; i++) {
		c->num_queues = i + 1;
		ret = alloc_ring(c, &c->queues[i], ring_size);
	}
	return ret;
}

uint64_t vhost_client_ring_addr(struct vhost_client *c, const void *addr)
{
	return c->iotlb ? vhost_client_dma(c, addr) : (uintptr_t)addr;
}

static int set_ring_addr(struct vhost_client *c, unsigned int index, bool log)
{
	struct vring *vring = &c->queues[index].vring;
	struct vhost_vring_addr addr = {
		.index = index,
		.flags = log ? 1U << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = vhost_client_ring_addr(c, vring->desc),
		.avail_user_addr = vhost_client_ring_addr(c, vring->avail),
		.used_user_addr = vhost_client_ring_addr(c, vring->used),
		.log_guest_addr = vhost_client_dma(c, vring->used),
	};

	return vhost_client_ioctl(c, VHOST_SET_VRING_ADDR, &addr);
}

static int set_ring(struct vhost_client *c, unsigned int index)
{
	struct vhost_client_queue *q = &c->queues[index];
	struct vhost_vring_state num = { .index = index, .num = q->num };
	/* After a stop all fetched chains are used. */
	struct vhost_vring_state base = {
		.index = index,
		.num = q->vring.used->idx,
	};
	struct vhost_vring_file kick = { .index = index, .fd = q->kick_fd };
	struct vhost_vring_file call = { .index = index, .fd = q->call_fd };
	struct vhost_vring_file err = { .index = index, .fd = q->err_fd };
	int ret;

	ret = vhost_client_ioctl(c, VHOST_SET_VRING_NUM, &num);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_BASE, &base);
	if (!ret)
		ret = set_ring_addr(c, index, c->log);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_KICK, &kick);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_CALL, &call);
	if (!ret)
		ret = vhost_client_ioctl(c, VHOST_SET_VRING_ERR, &err);
	return ret;
}

static int set_features(struct vhost_client *c, bool log)
{
	uint64_t features = c->features;

	if (log)
		features |= 1ULL << VHOST_F_LOG_ALL;
	return ioctl_served(c, VHOST_SET_FEATURES, &features);
}

static int set_log_base(struct vhost_client *c)
{
	uint64_t base = (uintptr_t)c->log;

	return vhost_client_ioctl(c, VHOST_SET_LOG_BASE, &base);
}

static int set_backend_features(struct vhost_client *c)
{
	uint64_t features = 1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2;

	return vhost_client_ioctl(c, VHOST_SET_BACKEND_FEATURES, &features);
}

int vhost_client_pin_memory(struct vhost_client *c, bool pin)
{
	uint32_t value = pin;

	return vhost_client_ioctl(c, VHOST_BLK_SET_PIN_MEMORY, &value);
}

/* Set up everything but the rings. */
static int configure_device(struct vhost_client *c)
{
	int ret = vhost_client_ioctl(c, VHOST_SET_OWNER, NULL);

	if (!ret && c->pin_memory)
		ret = vhost_client_pin_memory(c, true);
	if (!ret && c->iotlb)
		ret = set_backend_features(c);
	if (!ret && c->log)
		ret = set_log_base(c);
	if (!ret)
		ret = set_features(c, c->log);
	if (!ret)
		ret = set_default_mem_table(c);
	return ret;
}

int vhost_client_configure(struct vhost_client *c)
{
	int ret = configure_device(c);
	unsigned int i;

	for (i = 0; i < c->num_queues && !ret; i++)
		ret = set_ring(c, i);
	return ret;
}

int vhost_client_reset_owner(struct vhost_client *c)
{
	/* Some other vhost devices read an argument. */
	struct vhost_vring_state none = {};

	return ioctl_served(c, VHOST_RESET_OWNER, &none);
}

int vhost_client_setup(struct vhost_client *c, uint64_t features,
		       unsigned int num_queues, unsigned int ring_size)
{
	uint64_t offered;
	unsigned int i;
	int ret;

	ret = vhost_client_get_features(c, &offered);
	if (ret)
		return ret;
	c->features = offered & features & ~OTHER_FEATURES;
	if (c->iotlb)
		c->features |= 1ULL << VIRTIO_F_ACCESS_PLATFORM;
	ret = configure_device(c);
	if (!ret)
		ret = vhost_client_alloc_rings(c, num_queues, ring_size);
	for (i = 0; i < num_queues && !ret; i++)
		ret = set_ring(c, i);
	return ret;
}

/* The start reads the used rings. It fails with an error if the IOTLB lacks one. */
static int map_used_rings(struct vhost_client *c)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < c->num_queues && !ret; i++) {
		struct vring *vring = &c->queues[i].vring;

		ret = vhost_client_iotlb_map(c, vring->used,
					     sizeof(*vring->used) + 2 +
					     vring->num *
					     sizeof(*vring->used->ring),
					     VHOST_ACCESS_RW);
	}
	return ret;
}

int vhost_client_run(struct vhost_client *c, bool run)
{
	uint32_t running = run;
	int ret = 0;

	if (c->iotlb && run)
		ret = map_used_rings(c);
	if (!ret)
		ret = ioctl_served(c, VHOST_BLK_SET_RUNNING, &running);
	return ret;
}

int vhost_client_run_ring(struct vhost_client *c, unsigned int queue, bool run)
{
	struct vhost_vring_state state = { .index = queue, .num = run };

	return ioctl_served(c, VHOST_BLK_SET_VRING_RUNNING, &state);
}

int vhost_client_set_inflight(struct vhost_client *c, unsigned int queue,
			      struct vhost_blk_inflight *record)
{
	struct vhost_blk_vring_inflight inflight = {
		.index = queue,
		.addr = (uintptr_t)record,
	};

	return vhost_client_ioctl(c, VHOST_BLK_SET_VRING_INFLIGHT, &inflight);
}

static void fill_desc(struct vhost_client *c, struct vring_desc *desc,
		      const struct vhost_client_seg *seg, bool more)
{
	desc->addr = vhost_client_dma(c, seg->addr);
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
		vring->desc[head].addr = vhost_client_dma(c, indirect);
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
	vhost_client_offer(c, queue, head);
	return head;
}

void vhost_client_set_desc(struct vring_desc *table, unsigned int index,
			   uint64_t addr, uint32_t len, uint16_t flags,
			   uint16_t next)
{
	table[index] = (struct vring_desc){
		.addr = addr,
		.len = len,
		.flags = flags,
		.next = next,
	};
}

void vhost_client_offer(struct vhost_client *c, unsigned int queue,
			uint16_t head)
{
	struct vring *vring = &c->queues[queue].vring;

	vring->avail->ring[vring->avail->idx % vring->num] = head;
	__atomic_store_n(&vring->avail->idx, vring->avail->idx + 1,
			 __ATOMIC_RELEASE);
}

static bool wants_kick(struct vhost_client *c, struct vhost_client_queue *q)
{
	uint16_t old = q->last_kick;

	q->last_kick = q->vring.avail->idx;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (c->features & (1ULL << VIRTIO_RING_F_EVENT_IDX)) {
		uint16_t event = *(volatile uint16_t *)
			&vring_avail_event(&q->vring);

		return vring_need_event(event, q->last_kick, old);
	}
	return !(*(volatile uint16_t *)&q->vring.used->flags &
		 VRING_USED_F_NO_NOTIFY);
}

void vhost_client_kick(struct vhost_client *c, unsigned int queue, bool force)
{
	struct vhost_client_queue *q = &c->queues[queue];
	uint64_t one = 1;

	if (!wants_kick(c, q) && !force)
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

long vhost_client_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool used_ready(struct vhost_client_queue *q)
{
	return __atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) !=
	       q->last_used;
}

unsigned long vhost_client_signals(struct vhost_client *c, unsigned int queue)
{
	struct vhost_client_queue *q = &c->queues[queue];
	uint64_t signals;

	if (read(q->call_fd, &signals, sizeof(signals)) == sizeof(signals))
		q->signals += signals;
	return q->signals;
}

/* Wait for a signal of the queue. Reply to misses meanwhile. */
static int wait_used(struct vhost_client *c, unsigned int queue, int timeout_ms)
{
	struct vhost_client_queue *q = &c->queues[queue];
	long end = vhost_client_now_ms() + timeout_ms;

	while (!used_ready(q)) {
		struct pollfd files[] = {
			{ .fd = q->call_fd, .events = POLLIN },
			{ .fd = c->iotlb_fd, .events = POLLIN },
		};
		long left = end - vhost_client_now_ms();

		/* Enable signals, then check again, then sleep. */
		vring_used_event(&q->vring) = q->last_used;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (used_ready(q))
			break;
		if (left <= 0 || !poll(files, 1 + c->iotlb, left))
			return -EAGAIN;
		if (files[0].revents)
			vhost_client_signals(c, queue);
		if (c->iotlb && files[1].revents)
			vhost_client_iotlb_serve(c, 0);
	}
	return 0;
}

int vhost_client_get_elem(struct vhost_client *c, unsigned int queue,
			  struct vring_used_elem *elem, int timeout_ms)
{
	struct vhost_client_queue *q = &c->queues[queue];
	int ret;

	if (!used_ready(q)) {
		ret = wait_used(c, queue, timeout_ms);
		if (ret)
			return ret;
	}
	*elem = q->vring.used->ring[q->last_used % q->num];
	q->last_used++;
	return 0;
}

int vhost_client_get_used(struct vhost_client *c, unsigned int queue,
			  uint32_t *len, int timeout_ms)
{
	struct vhost_client_queue *q = &c->queues[queue];
	struct vring_used_elem elem;
	int ret = vhost_client_get_elem(c, queue, &elem, timeout_ms);

	if (ret)
		return ret;
	if (elem.id >= q->num)
		return -EPROTO;
	if (len)
		*len = elem.len;
	free_chain(q, elem.id);
	return elem.id;
}

/* The dirty log. Features and rings are set in QEMU's order. */

static int set_log(struct vhost_client *c, bool log)
{
	int ret = set_features(c, log);
	unsigned int i;

	for (i = 0; i < c->num_queues && !ret; i++)
		ret = set_ring_addr(c, i, log);
	return ret;
}

int vhost_client_log_start(struct vhost_client *c)
{
	uint64_t pages = c->gpa_end / VHOST_CLIENT_LOG_PAGE + 1;
	int ret;

	c->log_bytes = (pages + LONG_BITS - 1) / LONG_BITS * sizeof(long);
	c->log = mmap(NULL, c->log_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->log == MAP_FAILED) {
		c->log = NULL;
		return -ENOMEM;
	}
	ret = set_log_base(c);
	if (!ret)
		ret = set_log(c, true);
	if (ret)
		vhost_client_log_stop(c);
	return ret;
}

int vhost_client_log_stop(struct vhost_client *c)
{
	int ret = set_log(c, false);

	munmap(c->log, c->log_bytes);
	c->log = NULL;
	return ret;
}

unsigned long vhost_client_log_take(struct vhost_client *c,
				    unsigned long *bitmap)
{
	unsigned long taken = 0, bits;
	size_t i;

	for (i = 0; i < c->log_bytes / sizeof(long); i++) {
		if (!__atomic_load_n(&c->log[i], __ATOMIC_RELAXED))
			continue;
		bits = __atomic_exchange_n(&c->log[i], 0, __ATOMIC_SEQ_CST);
		bitmap[i] |= bits;
		taken += __builtin_popcountl(bits);
	}
	return taken;
}

bool vhost_client_log_test(struct vhost_client *c, const unsigned long *bitmap,
			   const void *addr)
{
	uint64_t page = vhost_client_gpa(c, addr) / VHOST_CLIENT_LOG_PAGE;

	return bitmap[page / LONG_BITS] >> page % LONG_BITS & 1;
}

/* The virtual IOMMU. */

static int send_to_kernel(struct vhost_client *c, const struct vhost_iotlb_msg *iotlb)
{
	struct vhost_msg_v2 msg = { .type = VHOST_IOTLB_MSG_V2, .iotlb = *iotlb };

	return write(c->fd, &msg, sizeof(msg)) < 0 ? -errno : 0;
}

static int serve_kernel(struct vhost_client *c)
{
	struct vhost_msg_v2 msg;
	int answered = 0;

	while (read(c->fd, &msg, sizeof(msg)) == sizeof(msg))
		if (msg.iotlb.type == VHOST_IOTLB_MISS)
			answered += !vhost_client_iotlb_answer(c, msg.iotlb.iova);
	return answered;
}

int vhost_client_use_iotlb(struct vhost_client *c, size_t granule)
{
	uint64_t features;
	int ret = vhost_client_get_features(c, &features);

	if (ret)
		return ret;
	if (!(features & 1ULL << VIRTIO_F_ACCESS_PLATFORM))
		return -EOPNOTSUPP;
	c->iotlb = true;
	c->iotlb_granule = granule;
	c->iotlb_fd = c->fd;
	/* Reading must not block when the last message was read by another call. */
	return fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int vhost_client_iotlb_send(struct vhost_client *c, uint8_t type, uint64_t iova,
			    uint64_t size, uint64_t uaddr, uint8_t perm)
{
	struct vhost_iotlb_msg msg = {
		.iova = iova,
		.size = size,
		.uaddr = uaddr,
		.perm = perm,
		.type = type,
	};

	return c->iotlb_send ? c->iotlb_send(c, &msg) : send_to_kernel(c, &msg);
}

int vhost_client_iotlb_map(struct vhost_client *c, const void *addr, size_t size,
			   uint8_t perm)
{
	return vhost_client_iotlb_send(c, VHOST_IOTLB_UPDATE,
				       vhost_client_dma(c, addr), size,
				       (uintptr_t)addr, perm);
}

int vhost_client_iotlb_unmap(struct vhost_client *c, const void *addr,
			     size_t size)
{
	return vhost_client_iotlb_send(c, VHOST_IOTLB_INVALIDATE,
				       vhost_client_dma(c, addr), size, 0, 0);
}

int vhost_client_iotlb_answer(struct vhost_client *c, uint64_t iova)
{
	uint64_t offset = iova - VHOST_CLIENT_IOVA_BASE;
	size_t granule = c->iotlb_granule;
	size_t size = granule;

	if (offset >= c->mem_size)
		return -EFAULT;
	if (granule)
		offset = offset / granule * granule;
	else
		offset = 0;
	if (!size || size > c->mem_size - offset)
		size = c->mem_size - offset;
	c->misses++;
	return vhost_client_iotlb_map(c, c->mem + offset, size, VHOST_ACCESS_RW);
}

int vhost_client_iotlb_serve(struct vhost_client *c, int timeout_ms)
{
	struct pollfd file = { .fd = c->iotlb_fd, .events = POLLIN };

	if (timeout_ms)
		poll(&file, 1, timeout_ms);
	return c->iotlb_serve ? c->iotlb_serve(c) : serve_kernel(c);
}

/* Workers and busy polling. */

int vhost_client_new_worker(struct vhost_client *c, unsigned int *id)
{
	struct vhost_worker_state worker = {};
	int ret = vhost_client_ioctl(c, VHOST_NEW_WORKER, &worker);

	*id = worker.worker_id;
	return ret;
}

int vhost_client_free_worker(struct vhost_client *c, unsigned int id)
{
	struct vhost_worker_state worker = { .worker_id = id };

	return vhost_client_ioctl(c, VHOST_FREE_WORKER, &worker);
}

int vhost_client_attach_worker(struct vhost_client *c, unsigned int queue,
			       unsigned int id)
{
	struct vhost_vring_worker worker = { .index = queue, .worker_id = id };

	return vhost_client_ioctl(c, VHOST_ATTACH_VRING_WORKER, &worker);
}

int vhost_client_get_worker(struct vhost_client *c, unsigned int queue,
			    unsigned int *id)
{
	struct vhost_vring_worker worker = { .index = queue };
	int ret = vhost_client_ioctl(c, VHOST_GET_VRING_WORKER, &worker);

	*id = worker.worker_id;
	return ret;
}

/* The processor of @all with this number, counted modulo how many there are. */
static void choose_cpu(const cpu_set_t *all, uint64_t number, cpu_set_t *one)
{
	unsigned int cpu = 0, left = number % CPU_COUNT(all);

	while (!CPU_ISSET(cpu, all) || left--)
		cpu++;
	CPU_ZERO(one);
	CPU_SET(cpu, one);
}

void vhost_client_move_threads(uint64_t random)
{
	struct dirent *entry;
	cpu_set_t all, one;
	DIR *tasks;

	if (sched_getaffinity(getpid(), sizeof(all), &all))
		return;
	tasks = opendir("/proc/self/task");
	if (!tasks)
		return;
	while ((entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);

		if (!tid || tid == getpid())
			continue;
		choose_cpu(&all, random, &one);
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		/* The thread may have ended since. */
		sched_setaffinity(tid, sizeof(one), &one);
	}
	closedir(tasks);
}

int vhost_client_set_busyloop(struct vhost_client *c, unsigned int queue,
			      unsigned int us)
{
	struct vhost_vring_state state = { .index = queue, .num = us };

	return vhost_client_ioctl(c, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state);
}

/* Counters. */

int vhost_client_counters(struct vhost_client *c, char *text, size_t size)
{
	char path[64];
	size_t got = 0;
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", c->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		ret = read(fd, text + got, size - 1 - got);
		if (ret > 0)
			got += ret;
	} while (ret > 0);
	text[got] = 0;
	close(fd);
	return ret < 0 ? -EIO : 0;
}

/* Returns the number after the word @name in a line. */
static long long find_counter(const char *line, const char *name)
{
	const char *end = strchrnul(line, '\n');
	size_t len = strlen(name);
	const char *at = line;

	while ((at = strpbrk(at, "\t ")) && at < end) {
		at++;
		if (!strncmp(at, name, len) && at[len] == ' ')
			return atoll(at + len);
	}
	return -ENOENT;
}

long long vhost_client_counter(struct vhost_client *c, unsigned int queue,
			       const char *name)
{
	/* 256 queues with some hundred bytes each. */
	static char text[1 << 17];
	char start[32], *line;
	int ret = vhost_client_counters(c, text, sizeof(text));

	if (ret)
		return ret;
	snprintf(start, sizeof(start), "\nqueue%u:", queue);
	line = strstr(text, start);
	return line ? find_counter(line + 1, name) : -ENOENT;
}
