/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The record of what is in flight: memory that the daemon makes, the front end keeps,
 * and the kernel writes. It has a region for each ring (struct vhost_blk_inflight) and
 * behind them a page of the daemon's own, in which a daemon that is started again finds
 * what the guest's driver has chosen.
 *
 * The file may come from a front end that lies or truncates it: its own page is read and
 * written by system calls, the rest by the kernel alone.
 */
#ifndef VHOST_BLKD_INFLIGHT_H
#define VHOST_BLKD_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"
#include "protocol.h"

/**
 * struct inflight - the record of a connection
 * @fd: its file; -1 if there is none
 * @num_queues: rings that have a region
 * @own_page: where the daemon's page is in the file
 */
struct inflight {
	struct mapping mapping;
	int fd;
	unsigned int num_queues;
	uint64_t own_page;
};

/*
 * Makes the memory for @msg->num_queues rings and completes the message. Returns its
 * descriptor or a negative errno.
 */
int inflight_create(struct vhost_user_inflight *msg);
/* Takes the memory, and with it @fd if it succeeds. 0 or a negative errno. */
int inflight_set(struct inflight *inflight,
		 const struct vhost_user_inflight *msg, int fd);
void inflight_clear(struct inflight *inflight);

/* The address of a ring's region; 0 if there is no record. */
uint64_t inflight_addr(const struct inflight *inflight, unsigned int index);

/* Whether the page has been written before, and what it says. */
bool inflight_load(const struct inflight *inflight, bool *write_back);
/* 0, also if there is no record, or a negative errno. */
int inflight_store(const struct inflight *inflight, bool write_back);

#endif
