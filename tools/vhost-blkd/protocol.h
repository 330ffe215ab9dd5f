/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The messages of vhost-user, as QEMU's docs/interop/vhost-user.rst defines them,
 * as far as a virtio-blk device has a use for them.
 */
#ifndef VHOST_BLKD_PROTOCOL_H
#define VHOST_BLKD_PROTOCOL_H

#include <stdint.h>
#include <linux/vhost.h>

#include "../lib/vhost_user_protocol.h"

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
};

/* In the u64 of SET_VRING_KICK, CALL and ERR, beside the ring's index. */
#define VHOST_USER_VRING_INDEX_MASK	0xff
#define VHOST_USER_VRING_NO_FD		(1U << 8)

#define VHOST_USER_MAX_FDS		8
#define VHOST_USER_MAX_TABLE		8	/* regions of SET_MEM_TABLE */
#define VHOST_USER_MAX_CONFIG		256	/* bytes */

struct vhost_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

struct vhost_user_region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	uint64_t mmap_offset;
};

struct vhost_user_memory {
	uint32_t num;
	uint32_t padding;
	struct vhost_user_region regions[VHOST_USER_MAX_TABLE];
};

struct vhost_user_mem_reg {
	uint64_t padding;
	struct vhost_user_region region;
};

struct vhost_user_log {
	uint64_t size;
	uint64_t offset;
};

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_MAX_CONFIG];
};

#define VHOST_USER_CONFIG_HEADER	offsetof(struct vhost_user_config, data)

/* Some front ends send the padding at its end, some do not. */
struct vhost_user_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding;
};

#define VHOST_USER_INFLIGHT_UNPADDED	offsetof(struct vhost_user_inflight, padding)

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
		uint8_t payload[sizeof(struct vhost_user_config)];
	};
	int fds[VHOST_USER_MAX_FDS];
	unsigned int num_fds;
	int reply_fd;
};

#endif
