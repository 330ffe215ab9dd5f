/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rings of a connection. A ring is started in the kernel when it has a size, addresses
 * and a kick eventfd, and is enabled. The front end may set these up in any order, because
 * the kernel gets them at the start.
 *
 * Functions return 0; or -1 to end the connection, after a message.
 */
#ifndef VHOST_BLKD_RING_H
#define VHOST_BLKD_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/vhost.h>

struct session;

/**
 * struct ring_area - one of the three parts of a ring
 * @start: as the front end has given it
 * @size: bytes
 * @access: what the kernel does there, VHOST_ACCESS_RO or _RW
 */
struct ring_area {
	uint64_t start;
	uint64_t size;
	uint8_t access;
};

#define RING_AREAS	3

/**
 * struct ring - state of a ring
 * @num: number of descriptors; 0 if not set
 * @addr: addresses, in the front end's address space, or the guest's with a virtual IOMMU
 * @has_addr: @addr is set
 * @base: next index of the available ring; valid while the ring is stopped
 * @kick: the ring has a kick eventfd; vhost-user calls such a ring started
 * @enabled: set by SET_VRING_ENABLE
 * @running: the kernel serves the ring
 * @ran: the kernel has served the ring in this connection
 * @asks: the ring waits for translations of its addresses, to be asked for from the front end
 */
struct ring {
	unsigned int num;
	struct vhost_vring_addr addr;
	bool has_addr;
	uint16_t base;
	bool kick;
	bool enabled;
	bool running;
	bool ran;
	bool asks;
};

/* Get the parts of a ring that has a size and addresses. */
void ring_get_areas(const struct ring *ring, struct ring_area areas[RING_AREAS]);

/*
 * Start a ring if it is complete and rings are not paused. With a virtual IOMMU the ring
 * starts when its addresses have translations, which may be later.
 */
int ring_update(struct session *session, unsigned int index);
int ring_update_all(struct session *session);
int ring_stop(struct session *session, unsigned int index);
int ring_stop_all(struct session *session);
bool ring_any_runs(const struct session *session);

/* Set the addresses of a ring, which may be running. */
int ring_set_addr(struct session *session, const struct vhost_vring_addr *addr);

/*
 * Check that the dirty log covers all memory that the kernel may log. To be called before
 * a ring starts, and after each change while a ring runs.
 */
int ring_check_log(const struct session *session);

#endif
