/* SPDX-License-Identifier: GPL-2.0 */
/* A message of vhost-user. */
#ifndef VHOST_BLKD_PROTOCOL_H
#define VHOST_BLKD_PROTOCOL_H

#include <stdint.h>

#include "../lib/vhost_user_protocol.h"

#define VHOST_USER_MAX_FDS	8

/**
 * struct message - a message and the descriptors that came with it
 * @padding: makes the payload follow the header and still be aligned
 * @header: as on the wire, and so is what follows
 * @u64: the payload, of the type that belongs to the request
 * @fds: descriptors; -1 for one that has been taken
 * @num_fds: how many came
 * @reply_fd: to be sent with the reply, or -1; it is not closed
 */
struct message {
	uint32_t padding;
	struct vhost_user_header header;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct vhost_user_memory memory;
		struct vhost_user_mem_reg mem_reg;
		struct vhost_user_log log;
		struct vhost_user_config config;
		struct vhost_user_inflight inflight;
		struct vhost_iotlb_msg iotlb;
		uint8_t payload[sizeof(struct vhost_user_config)];
	};
	int fds[VHOST_USER_MAX_FDS];
	unsigned int num_fds;
	int reply_fd;
};

#endif
