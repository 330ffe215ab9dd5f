/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The configuration space. Most of it comes from the kernel. The daemon keeps the mode of
 * the write cache. Kernel, driver and front end must agree on it, even after a restart of
 * this daemon or a migration of the guest.
 */
#ifndef VHOST_BLKD_CONFIG_H
#define VHOST_BLKD_CONFIG_H

#include <stdbool.h>

struct message;
struct ring;
struct session;

/* Handle GET_CONFIG, SET_CONFIG and SET_BACKEND_REQ_FD. Return an enum outcome. */
int config_get(struct session *session, struct message *msg);
int config_set(struct session *session, struct message *msg);
int config_set_backend_fd(struct session *session, struct message *msg);

/* Called after SET_INFLIGHT_FD. Returns an enum outcome. */
int config_adopt_record(struct session *session);
/* Called before a ring is started. Returns 0, or -1 to end the connection. */
int config_settle_cache(struct session *session, const struct ring *ring);
/*
 * Called when the first ring has started. Decides whether the front end is to be told of the
 * configuration: it is unless its last GET_CONFIG in this connection gave the present
 * capacity. Returns 0, or -1 to end the connection.
 */
int config_check_capacity(struct session *session);

/*
 * Tell the front end that the configuration changed. Called when the kernel's eventfd was
 * signalled, and when the front end's socket is writable and session->config_pending is set.
 * Returns false to end the connection.
 */
bool config_tell_front_end(struct session *session);

#endif
