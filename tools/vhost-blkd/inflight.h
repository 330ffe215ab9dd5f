/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The record of the chains in flight. The daemon allocates its memory, the front end keeps
 * it, and the kernel writes to it. It has a region for each ring (struct
 * vhost_blk_inflight). A page of the daemon follows, with the cache mode for a daemon that
 * is started later.
 *
 * A malicious front end may pass another file, or truncate it. Therefore the daemon never
 * accesses the mapping. It uses system calls for its own page. Only the kernel accesses
 * the regions.
 */
#ifndef VHOST_BLKD_INFLIGHT_H
#define VHOST_BLKD_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"
#include "protocol.h"

/**
 * struct inflight - the record of a connection
 * @mapping: mapping of the record, for the kernel
 * @fd: file of the record; -1 if there is none
 * @num_queues: number of regions
 * @own_page: offset of the daemon's page in the file
 */
struct inflight {
	struct mapping mapping;
	int fd;
	unsigned int num_queues;
	uint64_t own_page;
};

/*
 * Allocate a record for @msg->num_queues rings, and set the size in @msg. Returns the file
 * descriptor or a negative errno.
 */
int inflight_create(struct vhost_user_inflight *msg);
/* Use the record in @fd. Takes @fd if it succeeds. Returns 0 or a negative errno. */
int inflight_set(struct inflight *inflight,
		 const struct vhost_user_inflight *msg, int fd);
void inflight_clear(struct inflight *inflight);

/* Returns the address of a ring's region, or 0 if there is no record. */
uint64_t inflight_addr(const struct inflight *inflight, unsigned int index);

/* Read the cache mode. Returns false if none was stored. */
bool inflight_load(const struct inflight *inflight, bool *write_back);
/* Store the cache mode, if there is a record. Returns 0 or a negative errno. */
int inflight_store(const struct inflight *inflight, bool write_back);

#endif
