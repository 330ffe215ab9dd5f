/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The control plane of vhost-user for the client of vhost_client.h: the device is
 * another process at the end of a socket. Once it is set up, everything of
 * vhost_client.h that concerns guest memory, rings and used elements works as with
 * a device of the kernel; the calls that are ioctls don't.
 *
 * No protocol features are negotiated, so that rings run as soon as they have
 * their eventfds.
 */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include "vhost_client.h"

/* Connects to a socket and allocates @mem_size bytes of guest memory. */
int vhost_user_open(struct vhost_client *c, const char *path, size_t mem_size);
int vhost_user_get_features(struct vhost_client *c, uint64_t *features);
/* As vhost_client_setup(), and the device runs. vhost_client_close() ends it. */
int vhost_user_setup(struct vhost_client *c, uint64_t features,
		     unsigned int num_queues, unsigned int ring_size);

#endif
