/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio device in user space, by VDUSE: its queues are split rings that it maps,
 * its requests are chains of pieces in memory, and what it puts into the used ring
 * is up to the caller, be it an answer or not.
 *
 * The device exists from vduse_create() on. It gets a driver when it is added to the
 * vDPA bus ("vdpa dev add name NAME mgmtdev vduse"), and then has to serve
 * vduse_fd() (vduse_message) and the kicks of its queues (vduse_pop).
 */
#ifndef VDUSE_H
#define VDUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <linux/virtio_ring.h>

#define VDUSE_MAX_QUEUES	4
/* A chain is no longer than the largest ring, or its indirect table. */
#define VDUSE_MAX_PIECES	1024
/* The rings, and one for all data. */
#define VDUSE_MAX_REGIONS	(3 * VDUSE_MAX_QUEUES + 1)

struct vduse_queue {
	struct vring ring;
	uint16_t last_avail;
	/* Readable after a kick. */
	int kick;
	bool ready;
};

/* Memory of the driver that is mapped. */
struct vduse_region {
	uint64_t start;
	uint64_t last;
	char *memory;
};

struct vduse {
	char name[64];
	int control;
	int fd;
	unsigned int num_queues;
	struct vduse_queue queues[VDUSE_MAX_QUEUES];
	unsigned int num_regions;
	struct vduse_region regions[VDUSE_MAX_REGIONS];
};

/* A request: first the pieces that the driver wrote, then those for the device. */
struct vduse_chain {
	uint16_t id;
	unsigned int num_out;
	unsigned int num_in;
	struct iovec pieces[VDUSE_MAX_PIECES];
};

/*
 * What the driver did to the device, and how the device takes it. A start is refused
 * when the driver says that it is done with the features.
 */
enum vduse_event {
	VDUSE_NOTHING,
	VDUSE_STARTED,
	VDUSE_REFUSED,
	VDUSE_RESET,
};

enum vduse_reply {
	VDUSE_ACCEPT,
	VDUSE_REFUSE,
	VDUSE_IGNORE,
};

int vduse_create(struct vduse *v, const char *name, uint64_t features,
		 unsigned int num_queues, unsigned int ring_size,
		 const void *config, size_t config_size);
void vduse_destroy(struct vduse *v);

/* Takes one message. How it is answered is up to the caller. */
enum vduse_event vduse_message(struct vduse *v, enum vduse_reply to_reset,
			       enum vduse_reply to_others);

/* Takes a request. A chain that makes no sense ends the program. */
bool vduse_pop(struct vduse *v, struct vduse_queue *queue,
	       struct vduse_chain *chain);
void vduse_push(struct vduse_queue *queue, uint32_t id, uint32_t len);
bool vduse_wants_interrupt(const struct vduse_queue *queue);

/* Fails if the device is not in use. */
int vduse_interrupt(struct vduse *v, unsigned int queue);
int vduse_change_config(struct vduse *v, const void *config, size_t size);

__attribute__((format(printf, 1, 2), noreturn))
void die(const char *fmt, ...);

#endif
