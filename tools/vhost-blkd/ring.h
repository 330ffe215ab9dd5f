/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rings of a connection. A ring runs in the kernel from when it has its size, its
 * addresses and a kick eventfd, and is enabled. What the kernel is told of a ring, it is
 * told when the ring starts: the front end may set it up in any order.
 *
 * Functions return 0, or -1 if the connection has to end, and the reason was said.
 */
#ifndef VHOST_BLKD_RING_H
#define VHOST_BLKD_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/vhost.h>

struct session;

/**
 * struct ring - what the front end has said of a ring
 * @num: descriptors, or 0
 * @addr: in the front end's address space
 * @has_addr: whether @addr is set
 * @base: the next index of the available ring, while the ring is stopped
 * @kick: it has an eventfd, so that the ring is started in the words of vhost-user
 * @enabled: as SET_VRING_ENABLE has it
 * @running: in the kernel
 * @ran: in this connection
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
};

/* Starts a ring that can run, unless the rings are paused. */
int ring_update(struct session *session, unsigned int index);
int ring_update_all(struct session *session);
int ring_stop(struct session *session, unsigned int index);
int ring_stop_all(struct session *session);
bool ring_any_runs(const struct session *session);

/* Of a ring that may run. */
int ring_set_addr(struct session *session, const struct vhost_vring_addr *addr);

/*
 * Whether the dirty log has a bit for everything that the kernel may log: before a ring
 * starts, and after each change while one runs.
 */
int ring_check_log(const struct session *session);

#endif
