/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A session is a connection of a front end: the negotiated features, the guest's memory
 * and the rings. The end of a session stops the rings, waits for the requests in flight and
 * frees everything.
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

/* A feature bit. */
#define BIT(n)		(1ULL << (n))

/* No reply to GET_CONFIG has given the capacity in this connection. */
#define UNKNOWN_CAPACITY	UINT64_MAX

/* What handling a message has led to. */
enum outcome {
	CLOSE = -1,	/* end the connection. The reason was printed. */
	DONE = 0,
	REFUSED = 1,	/* answer with an error. The connection goes on. */
};

/* Messages of a connection that goes on. Each is printed once in a connection. */
enum note {
	NOTE_CACHE_FAILED = 1 << 0,
	NOTE_CACHE_UNKNOWN = 1 << 1,
	NOTE_NOT_TOLD = 1 << 2,
};

/**
 * struct session - a connection
 * @device: the device that the connection uses
 * @fd: the socket
 * @stop_fd: readable when this process has to end
 * @backend_fd: socket for requests to the front end, or -1
 * @config_pending: the configuration has changed, and the front end does not know yet
 * @told_capacity: capacity in the last reply to GET_CONFIG, or UNKNOWN_CAPACITY
 * @features: acknowledged features, with VHOST_USER_F_PROTOCOL_FEATURES and VHOST_F_LOG_ALL
 * @protocol_features: acknowledged protocol features
 * @status: device status that the front end has set last
 * @paused: the front end is changing memory regions; no ring runs until the changes end
 * @write_back: the kernel's write cache is in write-back mode
 * @cache_known: the driver knows @write_back
 * @was_reset: no ring has run since RESET_DEVICE
 * @cache_agreed: the front end shows @write_back to the driver
 * @notes: bits of enum note: messages that were printed
 * @memory: the guest's memory
 * @log: the dirty log
 * @log_bytes: bytes of the dirty log, which begins with the guest's page 0
 * @inflight: the record of the chains in flight
 * @iotlb: translations of the virtual IOMMU
 * @receiver: the message that is being received
 * @num_rings: number of the device's rings
 * @rings: the rings
 */
struct session {
	struct device *device;
	int fd;
	int stop_fd;
	int backend_fd;
	bool config_pending;
	uint64_t told_capacity;
	uint64_t features;
	uint64_t protocol_features;
	uint64_t status;
	bool paused;
	bool write_back;
	bool cache_known;
	bool was_reset;
	bool cache_agreed;
	unsigned int notes;
	struct memory memory;
	struct mapping log;
	uint64_t log_bytes;
	struct inflight inflight;
	struct iotlb iotlb;
	struct receiver receiver;
	unsigned int num_rings;
	struct ring rings[VHOST_BLK_MAX_QUEUES];
};

/*
 * Returns true if it succeeds: session_end() closes @fd. Returns false after a message that
 * says what is wrong: @fd is still the caller's.
 */
bool session_begin(struct session *session, struct device *device, int fd,
		   int stop_fd);
/*
 * Returns false if the kernel has not stopped the rings. The process must exit then: the
 * kernel may still use its memory.
 */
bool session_end(struct session *session);

/*
 * Handle the messages that have arrived. Returns false if the connection has ended. If the
 * front end has not simply closed it, the reason was printed.
 */
bool session_serve(struct session *session);
/*
 * End a pause of the rings that began with a change of memory. The caller does so after a
 * while without a message. Returns false if the connection has to end.
 */
bool session_resume(struct session *session);

/* Print why the connection ends. Returns -1 for the caller to return. */
int session_fail(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
/* Returns true the first time in a connection. The caller then prints the message. */
bool session_may_print(struct session *session, enum note note);
/* Wait for @timeout_ms. Returns false early if the connection or this process has to end. */
bool session_wait(const struct session *session, int timeout_ms);

#endif
