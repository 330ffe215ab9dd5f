/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A connection of a front end: what it has negotiated, its memory and its rings. The end
 * of a session stops the rings, drained, and gives everything back.
 */
#ifndef VHOST_BLKD_SESSION_H
#define VHOST_BLKD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "inflight.h"
#include "iotlb.h"
#include "memory.h"
#include "ring.h"
#include "transport.h"

#define BIT(n)		(1ULL << (n))	/* of features */

/* Of a message. */
enum outcome {
	CLOSE = -1,	/* the connection, for a reason that was said */
	DONE = 0,
	REFUSED = 1,	/* the connection goes on */
};

/**
 * struct session - a connection
 * @fd: its socket
 * @stop_fd: readable when this process is to end
 * @backend_fd: a socket for requests to the front end, or -1
 * @config_pending: the front end has not been told of a new configuration
 * @features: acknowledged, with VHOST_USER_F_PROTOCOL_FEATURES and VHOST_F_LOG_ALL
 * @protocol_features: acknowledged
 * @status: the device status that the front end has set last
 * @paused: no ring runs until the front end has made its changes to memory
 * @write_back: the write cache as the kernel has it
 * @cache_known: the driver knows that it is so
 * @cache_failed: it could not be changed, which has been said
 * @was_reset: no ring has run since RESET_DEVICE
 * @cache_agreed: the front end shows the driver what the kernel does
 * @log_bytes: of the dirty log, from the guest's first page on
 * @num_rings: of the device
 */
struct session {
	struct device *device;
	int fd;
	int stop_fd;
	int backend_fd;
	bool config_pending;
	uint64_t features;
	uint64_t protocol_features;
	uint64_t status;
	bool paused;
	bool write_back;
	bool cache_known;
	bool cache_failed;
	bool was_reset;
	bool cache_agreed;
	struct memory memory;
	struct mapping log;
	uint64_t log_bytes;
	struct inflight inflight;
	struct iotlb iotlb;
	struct receiver receiver;
	unsigned int num_rings;
	struct ring rings[VHOST_BLK_MAX_QUEUES];
};

/* Takes @fd, if it succeeds. Says what is wrong if it fails. */
bool session_begin(struct session *session, struct device *device, int fd,
		   int stop_fd);
/* False if the kernel keeps something: then this process must not go on. */
bool session_end(struct session *session);

/*
 * Serves what has arrived. False at the end of the connection, for which the reason has
 * been said unless the front end has just closed it.
 */
bool session_serve(struct session *session);
/* After a while without a message. */
bool session_resume(struct session *session);

/* Says why the connection ends. -1, for the caller to return. */
int session_fail(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
/* Waits for a moment. False if meanwhile the connection or this process is to end. */
bool session_wait(const struct session *session, int timeout_ms);

#endif
