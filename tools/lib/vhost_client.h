/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio driver in user space for vhost devices in the kernel.
 *
 * It acts as both users of a vhost device. As the VMM it binds the device, sets memory and
 * rings, and starts it. As the guest's driver it adds descriptor chains to the rings.
 * "Guest memory" is a part of this process's memory, with the guest physical address
 * VHOST_CLIENT_BASE. Nothing is checked, so that a test can make any chain, valid or not.
 *
 * It also has the dirty log of a migration, a virtual IOMMU that replies to the device's
 * misses, workers, and busy polling.
 *
 * A client must be used by one thread only. Functions return 0 or a negative errno, unless
 * their comment says otherwise.
 */
#ifndef VHOST_CLIENT_H
#define VHOST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vhost_workers.h"

/* Guest physical address of the first byte of guest memory. */
#define VHOST_CLIENT_BASE	0x100000000ULL
/* I/O virtual address of the same byte. It differs, so that a mix-up fails. */
#define VHOST_CLIENT_IOVA_BASE	0x7000000000ULL
/* Bytes of guest memory per bit of the dirty log. */
#define VHOST_CLIENT_LOG_PAGE	4096

/**
 * struct vhost_client_queue - a split virtqueue
 * @num: number of descriptors
 * @vring: addresses of the ring, in guest memory
 * @kick_fd: eventfd of kicks
 * @call_fd: eventfd of signals
 * @err_fd: eventfd of ring errors
 * @free_head: first free descriptor; they are linked by next
 * @num_free: number of free descriptors
 * @last_used: number of used elements taken
 * @last_kick: available index at the last vhost_client_kick()
 * @kicks: number of kicks sent
 * @signals: number of signals received; updated by vhost_client_signals()
 */
struct vhost_client_queue {
	unsigned int num;
	struct vring vring;
	int kick_fd;
	int call_fd;
	int err_fd;
	uint16_t free_head;
	unsigned int num_free;
	uint16_t last_used;
	uint16_t last_kick;
	unsigned long kicks;
	unsigned long signals;
};

/**
 * struct vhost_client - a device and its guest
 * @fd: file descriptor of the device
 * @features: negotiated features, without VHOST_F_LOG_ALL
 * @mem: guest memory
 * @mem_fd: file of @mem, for a device in another process; -1 if @mem is private
 * @mem_size: size of @mem
 * @mem_free: offset in @mem of memory that is not allocated
 * @gpa_end: end of the memory table
 * @pin_memory: the device keeps guest memory pinned, from its configuration on. Set by
 *	vhost_client_open() if the environment has VHOST_CLIENT_PIN_MEMORY.
 * @num_queues: number of elements of @queues
 * @queues: the virtqueues
 * @log: the dirty log, with one bit per guest physical page; NULL if it is off
 * @log_bytes: size of @log, and of a bitmap for vhost_client_log_take()
 * @iotlb: the device uses I/O virtual addresses
 * @iotlb_granule: size of the translation in a reply to a miss
 * @iotlb_fd: readable if there is a miss
 * @iotlb_serve: replies to the misses that are there; returns how many. NULL: by @fd
 * @iotlb_send: sends a message to the device. NULL: by @fd
 * @iotlb_data: belongs to @iotlb_serve and @iotlb_send
 * @misses: number of misses that got a reply
 */
struct vhost_client {
	int fd;
	uint64_t features;
	uint8_t *mem;
	int mem_fd;
	size_t mem_size;
	size_t mem_free;
	uint64_t gpa_end;
	bool pin_memory;
	unsigned int num_queues;
	struct vhost_client_queue *queues;
	unsigned long *log;
	size_t log_bytes;
	bool iotlb;
	size_t iotlb_granule;
	int iotlb_fd;
	int (*iotlb_serve)(struct vhost_client *c);
	int (*iotlb_send)(struct vhost_client *c, const struct vhost_iotlb_msg *msg);
	void *iotlb_data;
	unsigned long misses;
};

/**
 * struct vhost_client_seg - a piece of a descriptor chain
 * @addr: address in guest memory
 * @len: length in bytes
 * @device_writes: the device writes to it
 */
struct vhost_client_seg {
	void *addr;
	uint32_t len;
	bool device_writes;
};

/* Open @path and allocate @mem_size bytes of guest memory. */
int vhost_client_open(struct vhost_client *c, const char *path, size_t mem_size);
/* Use @fd, which vhost_client_close() closes. Guest memory can be shared. */
int vhost_client_open_shared(struct vhost_client *c, int fd, size_t mem_size);
void vhost_client_close(struct vhost_client *c);

/* VHOST_BLK_BIND. @fd is a block device, @serial a string. */
int vhost_client_bind(struct vhost_client *c, int fd, uint32_t flags,
		      unsigned int num_queues, const char *serial);
int vhost_client_get_config(struct vhost_client *c,
			    struct virtio_blk_config *config);
int vhost_client_get_features(struct vhost_client *c, uint64_t *features);

/* VHOST_BLK_SET_CONFIG of the field wce. */
int vhost_client_set_wce(struct vhost_client *c, uint8_t wce);
int vhost_client_set_config_call(struct vhost_client *c, int fd);

/*
 * Do everything between bind and run: set the owner, the offered features that are in
 * @features, the memory table, and @num_queues rings of @ring_size. The dirty log and the
 * IOTLB are switched on by the functions below, not by their bits in @features.
 */
int vhost_client_setup(struct vhost_client *c, uint64_t features,
		       unsigned int num_queues, unsigned int ring_size);
/*
 * Set everything up again after vhost_client_reset_owner(), with the existing rings. Each
 * continues at its used index.
 */
int vhost_client_configure(struct vhost_client *c);
int vhost_client_reset_owner(struct vhost_client *c);
/* Allocate rings and eventfds only. The device does not learn of them. */
int vhost_client_alloc_rings(struct vhost_client *c, unsigned int num_queues,
			     unsigned int ring_size);
/* Set any memory regions. vhost_client_gpa() still uses the default region. */
int vhost_client_set_mem_table(struct vhost_client *c,
			       const struct vhost_memory_region *regions,
			       unsigned int num);
/* VHOST_BLK_SET_PIN_MEMORY. */
int vhost_client_pin_memory(struct vhost_client *c, bool pin);
int vhost_client_run(struct vhost_client *c, bool run);
/* Start or stop one ring. */
int vhost_client_run_ring(struct vhost_client *c, unsigned int queue, bool run);
/* Set the record of the chains in flight of a ring; NULL for none. */
int vhost_client_set_inflight(struct vhost_client *c, unsigned int queue,
			      struct vhost_blk_inflight *record);
int vhost_client_ioctl(struct vhost_client *c, unsigned long cmd, void *arg);

/* Allocate guest memory. Returns NULL if there is not enough. */
void *vhost_client_alloc(struct vhost_client *c, size_t size, size_t align);
uint64_t vhost_client_gpa(struct vhost_client *c, const void *addr);
/* Returns the address for a descriptor: guest physical or I/O virtual. */
uint64_t vhost_client_dma(struct vhost_client *c, const void *addr);
/* Returns the address of a ring for the device: in this process, or I/O virtual. */
uint64_t vhost_client_ring_addr(struct vhost_client *c, const void *addr);

/*
 * Make a chain available. It consists of descriptors of the ring, or of an indirect table
 * in guest memory if @indirect is not NULL. Returns the index of the head, or a negative
 * errno.
 */
int vhost_client_add(struct vhost_client *c, unsigned int queue,
		     const struct vhost_client_seg *segs, unsigned int num,
		     struct vring_desc *indirect);
/*
 * Write a descriptor to vring.desc or to an indirect table, or make a head available. No
 * descriptor is allocated or freed. vhost_client_get_elem() takes the used element.
 */
void vhost_client_set_desc(struct vring_desc *table, unsigned int index,
			   uint64_t addr, uint32_t len, uint16_t flags,
			   uint16_t next);
void vhost_client_offer(struct vhost_client *c, unsigned int queue,
			uint16_t head);
int vhost_client_get_elem(struct vhost_client *c, unsigned int queue,
			  struct vring_used_elem *elem, int timeout_ms);
/* Returns CLOCK_MONOTONIC in milliseconds. */
long vhost_client_now_ms(void);
/* Send a kick if the device has kicks enabled, or if @force is set. */
void vhost_client_kick(struct vhost_client *c, unsigned int queue, bool force);
/*
 * Take one used element and free its descriptors. Sets *@len. Returns the index of the
 * head, -EAGAIN if no element comes within @timeout_ms, or -EPROTO if the index is not
 * valid. If an element is already there, there is no system call.
 */
int vhost_client_get_used(struct vhost_client *c, unsigned int queue,
			  uint32_t *len, int timeout_ms);
/* Returns the number of signals, including those that no one waited for. */
unsigned long vhost_client_signals(struct vhost_client *c, unsigned int queue);

/*
 * The dirty log of a migration. Between start and stop the device sets the bit of each
 * page that it writes. Both may be called while the device runs. take() moves the set bits
 * to @bitmap, which has @log_bytes, and returns their number.
 */
int vhost_client_log_start(struct vhost_client *c);
int vhost_client_log_stop(struct vhost_client *c);
unsigned long vhost_client_log_take(struct vhost_client *c,
				    unsigned long *bitmap);
/* Returns whether the bit of @addr's page is set in @bitmap. */
bool vhost_client_log_test(struct vhost_client *c, const unsigned long *bitmap,
			   const void *addr);

/*
 * The virtual IOMMU. vhost_client_use_iotlb() is called between bind and setup. It makes
 * the device see guest memory at VHOST_CLIENT_IOVA_BASE. A translation has @granule bytes,
 * a power of two of at least a page; 0 means all guest memory. Returns -EOPNOTSUPP if the
 * device has no IOTLB.
 *
 * vhost_client_get_used() replies to misses while it waits. vhost_client_iotlb_serve() does
 * the same for other callers. It returns the number of replies, which is 0 if no miss comes
 * within @timeout_ms.
 */
int vhost_client_use_iotlb(struct vhost_client *c, size_t granule);
int vhost_client_iotlb_serve(struct vhost_client *c, int timeout_ms);
/*
 * Reply to a miss. There is no reply for an address outside guest memory, as with a real
 * IOMMU.
 */
int vhost_client_iotlb_answer(struct vhost_client *c, uint64_t iova);
/* Send one IOTLB message. map() and unmap() send that of a piece of guest memory. */
int vhost_client_iotlb_send(struct vhost_client *c, uint8_t type, uint64_t iova,
			    uint64_t size, uint64_t uaddr, uint8_t perm);
int vhost_client_iotlb_map(struct vhost_client *c, const void *addr, size_t size,
			   uint8_t perm);
int vhost_client_iotlb_unmap(struct vhost_client *c, const void *addr,
			     size_t size);

/* Workers and busy polling. */
int vhost_client_new_worker(struct vhost_client *c, unsigned int *id);
int vhost_client_free_worker(struct vhost_client *c, unsigned int id);
int vhost_client_attach_worker(struct vhost_client *c, unsigned int queue,
			       unsigned int id);
int vhost_client_get_worker(struct vhost_client *c, unsigned int queue,
			    unsigned int *id);
/*
 * Let each thread of this process but the first run on one processor, chosen by @random from
 * those that the first may use. Workers that vhost made as threads of their owner are among them.
 * A request that is in flight may then end on another processor than that of its worker.
 */
void vhost_client_move_threads(uint64_t random);
int vhost_client_set_busyloop(struct vhost_client *c, unsigned int queue,
			      unsigned int us);

/* Get all counters as text, or the value of one counter (-ENOENT if there is none). */
int vhost_client_counters(struct vhost_client *c, char *text, size_t size);
long long vhost_client_counter(struct vhost_client *c, unsigned int queue,
			       const char *name);

#endif
