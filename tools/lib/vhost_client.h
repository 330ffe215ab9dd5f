/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio driver in user space for vhost devices in the kernel.
 *
 * It plays both parts that a vhost device knows: the VMM, which binds the
 * device, gives it memory and rings and starts it, and the guest's driver, which
 * puts descriptor chains into the rings. "Guest memory" is a piece of this
 * process's memory whose guest physical address is VHOST_CLIENT_BASE. Nothing is
 * checked on the way, so that a test can make any chain, legal or not.
 *
 * Beyond plain requests it plays what a VMM does now and then: the dirty log of a
 * migration, the virtual IOMMU that answers the device's misses, workers, polling.
 *
 * Single-threaded: one client belongs to one thread. Functions return 0 or a
 * negative errno unless they say otherwise.
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
/* The same behind the virtual IOMMU: no address is right in both modes. */
#define VHOST_CLIENT_IOVA_BASE	0x7000000000ULL
/* Bytes of guest memory for which the dirty log has one bit. */
#define VHOST_CLIENT_LOG_PAGE	4096

/**
 * struct vhost_client_queue - a split virtqueue
 * @num: descriptors
 * @vring: where they are, in guest memory
 * @kick_fd: tells the device that something is available
 * @call_fd: tells the driver that something was used
 * @err_fd: tells the VMM that the ring is broken
 * @free_head: first of the unused descriptors, linked by next
 * @num_free: how many there are
 * @last_used: used elements seen so far
 * @last_kick: index of the available ring when a kick was last considered
 * @kicks: kicks sent
 * @signals: signals seen, of those the last only in vhost_client_signals()
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
 * @fd: of the device
 * @features: negotiated, without VHOST_F_LOG_ALL
 * @mem: guest memory of @mem_size bytes; rings grow from its start, what is from
 *	@mem_free on belongs to the caller
 * @mem_fd: the file that it is in, for a device in another process; -1 if private
 * @gpa_end: end of what the memory table covers
 * @num_queues: elements of @queues
 * @log: the dirty log while there is one, a bit for each guest physical page
 * @log_bytes: its size, and that of a bitmap for vhost_client_log_take()
 * @iotlb: whether the device sees iovas, for which it asks
 * @iotlb_granule: bytes of a translation that answers a miss
 * @misses: misses answered
 */
struct vhost_client {
	int fd;
	uint64_t features;
	uint8_t *mem;
	int mem_fd;
	size_t mem_size;
	size_t mem_free;
	uint64_t gpa_end;
	unsigned int num_queues;
	struct vhost_client_queue *queues;
	unsigned long *log;
	size_t log_bytes;
	bool iotlb;
	size_t iotlb_granule;
	unsigned long misses;
};

/**
 * struct vhost_client_seg - a piece of a descriptor chain
 * @addr: its memory, inside guest memory
 * @len: bytes
 * @device_writes: whether it is for the device to write
 */
struct vhost_client_seg {
	void *addr;
	uint32_t len;
	bool device_writes;
};

/* Opens @path and allocates @mem_size bytes of guest memory. */
int vhost_client_open(struct vhost_client *c, const char *path, size_t mem_size);
/* The same of an open file, which is closed in the end; memory that can be shared. */
int vhost_client_open_shared(struct vhost_client *c, int fd, size_t mem_size);
void vhost_client_close(struct vhost_client *c);

/* VHOST_BLK_BIND of an open block device, the serial from a string. */
int vhost_client_bind(struct vhost_client *c, int fd, uint32_t flags,
		      unsigned int num_queues, const char *serial);
int vhost_client_get_config(struct vhost_client *c,
			    struct virtio_blk_config *config);
int vhost_client_get_features(struct vhost_client *c, uint64_t *features);

/* VHOST_BLK_SET_CONFIG of the byte wce. */
int vhost_client_set_wce(struct vhost_client *c, uint8_t wce);
int vhost_client_set_config_call(struct vhost_client *c, int fd);

/*
 * Everything between bind and run: owner, those of the device's features that
 * are in @features, memory table, @num_queues rings of @ring_size. The dirty log
 * and the IOTLB are not had by their bits in @features but by the calls below.
 */
int vhost_client_setup(struct vhost_client *c, uint64_t features,
		       unsigned int num_queues, unsigned int ring_size);
/*
 * The same once more with the rings that there are, each from where its used
 * index is: after vhost_client_reset_owner().
 */
int vhost_client_configure(struct vhost_client *c);
int vhost_client_reset_owner(struct vhost_client *c);
/* The rings alone, with their eventfds, of which no device is told. */
int vhost_client_alloc_rings(struct vhost_client *c, unsigned int num_queues,
			     unsigned int ring_size);
/* Of any regions; vhost_client_gpa() goes on to answer for the default one. */
int vhost_client_set_mem_table(struct vhost_client *c,
			       const struct vhost_memory_region *regions,
			       unsigned int num);
int vhost_client_run(struct vhost_client *c, bool run);
/* The same of one ring. */
int vhost_client_run_ring(struct vhost_client *c, unsigned int queue, bool run);
/* The record of what is in flight in a ring, in this process's memory; NULL for none. */
int vhost_client_set_inflight(struct vhost_client *c, unsigned int queue,
			      struct vhost_blk_inflight *record);
int vhost_client_ioctl(struct vhost_client *c, unsigned long cmd, void *arg);

/* Memory of the guest, aligned; NULL if there is no more. */
void *vhost_client_alloc(struct vhost_client *c, size_t size, size_t align);
uint64_t vhost_client_gpa(struct vhost_client *c, const void *addr);
/* What belongs into a descriptor: the guest physical address or the iova. */
uint64_t vhost_client_dma(struct vhost_client *c, const void *addr);

/*
 * Makes a chain available, as descriptors of the ring or, with an indirect table
 * in guest memory, as one. Returns the head's index or a negative errno.
 */
int vhost_client_add(struct vhost_client *c, unsigned int queue,
		     const struct vhost_client_seg *segs, unsigned int num,
		     struct vring_desc *indirect);
/*
 * By hand, with no descriptors taken or given back: writes one, of a ring
 * (vring.desc) or of an indirect table, and makes a head available. What it
 * becomes, vhost_client_get_elem() takes from the used ring.
 */
void vhost_client_set_desc(struct vring_desc *table, unsigned int index,
			   uint64_t addr, uint32_t len, uint16_t flags,
			   uint16_t next);
void vhost_client_offer(struct vhost_client *c, unsigned int queue,
			uint16_t head);
int vhost_client_get_elem(struct vhost_client *c, unsigned int queue,
			  struct vring_used_elem *elem, int timeout_ms);
/* The clock of the timeouts: milliseconds since whenever. */
long vhost_client_now_ms(void);
/* Kicks if the device wants it; @force does anyway. */
void vhost_client_kick(struct vhost_client *c, unsigned int queue, bool force);
/*
 * Takes one used element: the head's index, its length in @len, and frees its
 * descriptors. -EAGAIN if there is none within @timeout_ms, -EPROTO if the head is
 * no descriptor. No system call if there is one already.
 */
int vhost_client_get_used(struct vhost_client *c, unsigned int queue,
			  uint32_t *len, int timeout_ms);
/* Signals so far, with those that nobody waited for. */
unsigned long vhost_client_signals(struct vhost_client *c, unsigned int queue);

/*
 * The dirty log, as of a migration: from start to stop the device sets the bit of
 * each page that it writes. Both may be called while the device runs. Take moves
 * the bits that are set into those of @bitmap, of @log_bytes, and returns how many
 * there were.
 */
int vhost_client_log_start(struct vhost_client *c);
int vhost_client_log_stop(struct vhost_client *c);
unsigned long vhost_client_log_take(struct vhost_client *c,
				    unsigned long *bitmap);
/* Whether the page of @addr is in a bitmap. */
bool vhost_client_log_test(struct vhost_client *c, const unsigned long *bitmap,
			   const void *addr);

/*
 * The virtual IOMMU. Called between bind and setup, use_iotlb makes the device see
 * guest memory at VHOST_CLIENT_IOVA_BASE, in translations of @granule bytes, a
 * power of two of pages, or of all guest memory if it is 0. -EOPNOTSUPP if the
 * device has no IOTLB.
 *
 * From then on whoever waits in vhost_client_get_used() answers misses. So does
 * serve, for who doesn't wait: it returns the misses that it has answered, which
 * is 0 if there are none within @timeout_ms.
 */
int vhost_client_use_iotlb(struct vhost_client *c, size_t granule);
int vhost_client_iotlb_serve(struct vhost_client *c, int timeout_ms);
/* A message by hand; map and unmap send those of a piece of guest memory. */
int vhost_client_iotlb_send(struct vhost_client *c, uint8_t type, uint64_t iova,
			    uint64_t size, uint64_t uaddr, uint8_t perm);
int vhost_client_iotlb_map(struct vhost_client *c, const void *addr, size_t size,
			   uint8_t perm);
int vhost_client_iotlb_unmap(struct vhost_client *c, const void *addr,
			     size_t size);

/* Workers and polling. */
int vhost_client_new_worker(struct vhost_client *c, unsigned int *id);
int vhost_client_free_worker(struct vhost_client *c, unsigned int id);
int vhost_client_attach_worker(struct vhost_client *c, unsigned int queue,
			       unsigned int id);
int vhost_client_get_worker(struct vhost_client *c, unsigned int queue,
			    unsigned int *id);
int vhost_client_set_busyloop(struct vhost_client *c, unsigned int queue,
			      unsigned int us);

/* The device's counters: all as text, ended by NUL; one, or -ENOENT. */
int vhost_client_counters(struct vhost_client *c, char *text, size_t size);
long long vhost_client_counter(struct vhost_client *c, unsigned int queue,
			       const char *name);

#endif
