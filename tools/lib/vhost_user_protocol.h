/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vhost-user as QEMU's docs/interop/vhost-user.rst defines it, as far as a virtio-blk
 * device has a use for it: vhost-blkd's, and that of the client that tests it.
 */
#ifndef VHOST_USER_PROTOCOL_H
#define VHOST_USER_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>
#include <linux/vhost.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_LOG_BASE = 6,
	VHOST_USER_SET_LOG_FD = 7,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_IOTLB_MSG = 22,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
	VHOST_USER_NUM_REQUESTS
};

/* What the back end asks of the front end, on a socket of its own. */
#define VHOST_USER_BACKEND_IOTLB_MSG		1
#define VHOST_USER_BACKEND_CONFIG_CHANGE_MSG	2

/* A feature bit that no driver sees. */
#define VHOST_USER_F_PROTOCOL_FEATURES		30

#define VHOST_USER_PROTOCOL_F_MQ			(1ULL << 0)
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD			(1ULL << 1)
#define VHOST_USER_PROTOCOL_F_REPLY_ACK			(1ULL << 3)
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ		(1ULL << 5)
#define VHOST_USER_PROTOCOL_F_CONFIG			(1ULL << 9)
#define VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD		(1ULL << 12)
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE		(1ULL << 13)
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS	(1ULL << 15)
#define VHOST_USER_PROTOCOL_F_STATUS			(1ULL << 16)

/* Flags of a header. */
#define VHOST_USER_VERSION_MASK		3
#define VHOST_USER_VERSION		1
#define VHOST_USER_REPLY		(1U << 2)
#define VHOST_USER_NEED_REPLY		(1U << 3)

/* In the u64 of SET_VRING_KICK, CALL and ERR, beside the ring's index. */
#define VHOST_USER_VRING_INDEX_MASK	0xff
#define VHOST_USER_VRING_NO_FD		(1U << 8)

#define VHOST_USER_MAX_REGIONS		8	/* of SET_MEM_TABLE */
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
	struct vhost_user_region regions[VHOST_USER_MAX_REGIONS];
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
};

#define VHOST_USER_INFLIGHT_UNPADDED \
	(offsetof(struct vhost_user_inflight, queue_size) + sizeof(uint16_t))

#endif
