/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The configuration space. Most of it is the kernel's; what is kept here is the mode of the
 * write cache, on which kernel, driver and front end have to agree also after this daemon
 * was replaced by another one, or the guest by a migrated one.
 */
#ifndef VHOST_BLKD_CONFIG_H
#define VHOST_BLKD_CONFIG_H

#include <stdbool.h>

struct message;
struct ring;
struct session;

/* The messages GET_CONFIG, SET_CONFIG and SET_BACKEND_REQ_FD. An enum outcome. */
int config_get(struct session *session, struct message *msg);
int config_set(struct session *session, struct message *msg);
int config_set_backend_fd(struct session *session, struct message *msg);

/* After SET_INFLIGHT_FD. An enum outcome. */
int config_adopt_record(struct session *session);
/* Before a ring runs. 0, or -1 if the connection has to end. */
int config_settle_cache(struct session *session, const struct ring *ring);

/*
 * The kernel's config eventfd has fired, or the front end reads again. False if the
 * connection has to end.
 */
bool config_tell_front_end(struct session *session);

#endif
