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

/* Guest physical address of the first byte of guest memory. */
#define VHOST_CLIENT_BASE	0x100000000ULL

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
 * @kicks: kicks sent
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
	unsigned long kicks;
};

/**
 * struct vhost_client - a device and its guest
 * @fd: of the device
 * @features: negotiated
 * @mem: guest memory of @mem_size bytes; rings grow from its start, what is from
 *	@mem_free on belongs to the caller
 * @num_queues: elements of @queues
 */
struct vhost_client {
	int fd;
	uint64_t features;
	uint8_t *mem;
	size_t mem_size;
	size_t mem_free;
	unsigned int num_queues;
	struct vhost_client_queue *queues;
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
void vhost_client_close(struct vhost_client *c);

/* VHOST_BLK_BIND of an open block device, the serial from a string. */
int vhost_client_bind(struct vhost_client *c, int fd, uint32_t flags,
		      unsigned int num_queues, const char *serial);
int vhost_client_get_config(struct vhost_client *c,
			    struct virtio_blk_config *config);
int vhost_client_get_features(struct vhost_client *c, uint64_t *features);

/*
 * Everything between bind and run: owner, those of the device's features that
 * are in @features, memory table, @num_queues rings of @ring_size.
 */
int vhost_client_setup(struct vhost_client *c, uint64_t features,
		       unsigned int num_queues, unsigned int ring_size);
int vhost_client_run(struct vhost_client *c, bool run);
int vhost_client_ioctl(struct vhost_client *c, unsigned long cmd, void *arg);

/* Memory of the guest, aligned; NULL if there is no more. */
void *vhost_client_alloc(struct vhost_client *c, size_t size, size_t align);
uint64_t vhost_client_gpa(struct vhost_client *c, const void *addr);

/*
 * Makes a chain available, as descriptors of the ring or, with an indirect table
 * in guest memory, as one. Returns the head's index or a negative errno.
 */
int vhost_client_add(struct vhost_client *c, unsigned int queue,
		     const struct vhost_client_seg *segs, unsigned int num,
		     struct vring_desc *indirect);
/* Kicks if the device wants it; @force does anyway. */
void vhost_client_kick(struct vhost_client *c, unsigned int queue, bool force);
/*
 * Takes one used element: the head's index, its length in @len, and frees its
 * descriptors. -EAGAIN if there is none within @timeout_ms.
 */
int vhost_client_get_used(struct vhost_client *c, unsigned int queue,
			  uint32_t *len, int timeout_ms);

#endif
