// SPDX-License-Identifier: GPL-2.0
/* The control plane of vhost-user: see vhost_user.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vhost_user.h"

/* Of QEMU's docs/interop/vhost-user.rst. */
enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
};

#define VHOST_USER_VERSION		1
#define VHOST_USER_F_PROTOCOL_FEATURES	30

struct vhost_user_region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	uint64_t mmap_offset;
};

struct vhost_user_memory {
	uint32_t num;
	uint32_t padding;
	struct vhost_user_region region;
};

struct vhost_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

struct vhost_user_msg {
	struct vhost_user_header header;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct vhost_user_memory memory;
	};
} __attribute__((packed));

/* The payload is in the message; @fd goes with it unless it is -1. */
static int send_msg(struct vhost_client *c, struct vhost_user_msg *msg,
		    enum vhost_user_request request, size_t size, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = {
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	struct iovec iov = { msg, sizeof(msg->header) + size };
	struct msghdr packet = { .msg_iov = &iov, .msg_iovlen = 1 };

	msg->header = (struct vhost_user_header){
		request, VHOST_USER_VERSION, size
	};
	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		packet.msg_control = &control;
		packet.msg_controllen = sizeof(control);
	}
	if (sendmsg(c->fd, &packet, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		return -EPIPE;
	return 0;
}

static int send_u64(struct vhost_client *c, enum vhost_user_request request,
		    uint64_t value, int fd)
{
	struct vhost_user_msg msg = { .u64 = value };

	return send_msg(c, &msg, request, sizeof(msg.u64), fd);
}

static int send_state(struct vhost_client *c, enum vhost_user_request request,
		      unsigned int index, unsigned int num)
{
	struct vhost_user_msg msg = { .state = { index, num } };

	return send_msg(c, &msg, request, sizeof(msg.state), -1);
}

int vhost_user_open(struct vhost_client *c, const char *path, size_t mem_size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = connect(fd, (struct sockaddr *)&address, sizeof(address)) ?
	      -errno : vhost_client_open_shared(c, fd, mem_size);
	if (ret)
		close(fd);
	return ret;
}

int vhost_user_get_features(struct vhost_client *c, uint64_t *features)
{
	struct vhost_user_msg msg;
	size_t size = sizeof(msg.header) + sizeof(msg.u64);
	int ret = send_msg(c, &msg, VHOST_USER_GET_FEATURES, 0, -1);

	if (ret)
		return ret;
	if (recv(c->fd, &msg, size, MSG_WAITALL) != (ssize_t)size ||
	    msg.header.request != VHOST_USER_GET_FEATURES)
		return -EPROTO;
	*features = msg.u64;
	return 0;
}

static int send_memory(struct vhost_client *c)
{
	struct vhost_user_msg msg = { .memory = {
		.num = 1,
		.region = {
			.guest_addr = VHOST_CLIENT_BASE,
			.size = c->mem_size,
			.user_addr = (uintptr_t)c->mem,
		},
	} };

	return send_msg(c, &msg, VHOST_USER_SET_MEM_TABLE, sizeof(msg.memory),
			c->mem_fd);
}

static int send_ring(struct vhost_client *c, unsigned int index)
{
	struct vhost_client_queue *q = &c->queues[index];
	struct vhost_user_msg msg = { .addr = {
		.index = index,
		.desc_user_addr = (uintptr_t)q->vring.desc,
		.avail_user_addr = (uintptr_t)q->vring.avail,
		.used_user_addr = (uintptr_t)q->vring.used,
	} };
	int ret;

	ret = send_state(c, VHOST_USER_SET_VRING_NUM, index, q->num);
	if (!ret)
		ret = send_state(c, VHOST_USER_SET_VRING_BASE, index, 0);
	if (!ret)
		ret = send_msg(c, &msg, VHOST_USER_SET_VRING_ADDR,
			       sizeof(msg.addr), -1);
	if (!ret)
		ret = send_u64(c, VHOST_USER_SET_VRING_CALL, index, q->call_fd);
	if (!ret)
		ret = send_u64(c, VHOST_USER_SET_VRING_ERR, index, q->err_fd);
	if (!ret)
		ret = send_u64(c, VHOST_USER_SET_VRING_KICK, index, q->kick_fd);
	return ret;
}

int vhost_user_setup(struct vhost_client *c, uint64_t features,
		     unsigned int num_queues, unsigned int ring_size)
{
	struct vhost_user_msg msg;
	uint64_t offered;
	unsigned int i;
	int ret;

	ret = send_msg(c, &msg, VHOST_USER_SET_OWNER, 0, -1);
	if (!ret)
		ret = vhost_user_get_features(c, &offered);
	if (ret)
		return ret;
	c->features = offered & features &
		      ~(1ULL << VHOST_F_LOG_ALL |
			1ULL << VHOST_USER_F_PROTOCOL_FEATURES |
			1ULL << VIRTIO_F_ACCESS_PLATFORM);
	ret = send_u64(c, VHOST_USER_SET_FEATURES, c->features, -1);
	if (!ret)
		ret = send_memory(c);
	if (!ret)
		ret = vhost_client_alloc_rings(c, num_queues, ring_size);
	for (i = 0; i < num_queues && !ret; i++)
		ret = send_ring(c, i);
	/* Answered when everything before it has taken effect. */
	if (!ret)
		ret = vhost_user_get_features(c, &offered);
	return ret;
}
