/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the vhost-user daemon begin with: a connection to its socket, and
 * rings that run on it. Requests are those of ../vhost_blk/fixture.h and traffic.h.
 */
#ifndef USER_FIXTURE_H
#define USER_FIXTURE_H

#include "../vhost_blk/traffic.h"
#include "vhost_user.h"

#define ALL_PROTOCOL	(~0ULL)

/**
 * struct backend - a connection to a daemon
 * @f: its guest memory and rings, and its disk past the daemon
 * @u: the connection
 */
struct backend {
	struct fixture f;
	struct vhost_user u;
};

/*
 * Connects and negotiates; without protocol features if there are none. A VMM that has
 * the configuration space reads it before anything else.
 */
static inline void connect_backend(struct backend *b, const char *socket,
				   uint64_t protocol_features)
{
	int ret = vhost_user_open(&b->u, &b->f.c, socket, MEMORY);
	struct virtio_blk_config config;

	if (!ret && protocol_features)
		ret = vhost_user_negotiate(&b->u, protocol_features);
	if (!ret && b->u.protocol_features & VHOST_USER_PROTOCOL_F_CONFIG)
		ret = vhost_user_get_config(&b->u, &config);
	if (ret)
		tap_bail("%s: %s", socket, strerror(-ret));
	b->f.disk = -1;
}

/* Places for a request's ends, behind the rings. */
static inline void alloc_ends(struct fixture *f)
{
	f->hdr = vhost_client_alloc(&f->c, sizeof(*f->hdr), 16);
	f->status = vhost_client_alloc(&f->c, 1, 1);
}

/* Of a connected one: all rings run. */
static inline void run_backend(struct backend *b, unsigned int num_queues,
			       uint64_t features)
{
	int ret = vhost_user_setup(&b->u, features, num_queues, RING);

	if (ret)
		tap_bail("the daemon can't be set up: %s", strerror(-ret));
	alloc_ends(&b->f);
}

static inline void set_up_backend(struct backend *b, const char *socket,
				  unsigned int num_queues)
{
	connect_backend(b, socket, ALL_PROTOCOL);
	run_backend(b, num_queues, ALL_FEATURES);
}

/* Of a connected one: features, memory and stopped rings of which it knows nothing. */
static inline void prepare_backend(struct backend *b, unsigned int num_queues)
{
	int ret = vhost_user_set_up_device(&b->u, ALL_FEATURES);

	if (!ret)
		ret = vhost_user_set_mem_table(&b->u);
	if (!ret)
		ret = vhost_client_alloc_rings(&b->f.c, num_queues, RING);
	if (ret)
		tap_bail("the daemon can't be set up: %s", strerror(-ret));
	alloc_ends(&b->f);
}

static inline void open_disk(struct backend *b, const char *disk)
{
	b->f.disk = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (b->f.disk < 0)
		tap_bail("%s: %s", disk, strerror(errno));
}

static inline void tear_down_backend(struct backend *b)
{
	vhost_user_close(&b->u);
	if (b->f.disk >= 0)
		close(b->f.disk);
}

/* The status of a read of one page in a ring, -1 if it is not answered. */
static inline int read_page(struct backend *b, unsigned int queue)
{
	size_t mark = b->f.c.mem_free;
	void *data = vhost_client_alloc(&b->f.c, 4096, 4096);
	int ret = simple(&b->f, queue, VIRTIO_BLK_T_IN, 0, data, 4096, NULL);

	b->f.c.mem_free = mark;
	return ret;
}

#endif
