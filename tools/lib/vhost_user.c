// SPDX-License-Identifier: GPL-2.0
/* A vhost-user front end: see vhost_user.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vhost_user.h"

/* How long to wait for an answer of the back end. */
#define TIMEOUT_S	120
#define LONG_BITS	(8 * sizeof(long))

#define PROTOCOL_FEATURES	(1ULL << VHOST_USER_F_PROTOCOL_FEATURES)
/*
 * Features that the bits of vhost_user_setup() do not select: the log is switched on by
 * vhost_user_log_start(), the others by vhost_user_negotiate() and vhost_user_use_iotlb().
 */
#define OTHER_FEATURES	(1ULL << VHOST_F_LOG_ALL | PROTOCOL_FEATURES | \
			 1ULL << VIRTIO_F_ACCESS_PLATFORM)

/* Messages */

int vhost_user_send_bytes(struct vhost_user *u, const void *bytes, size_t size,
			  const int *fds, unsigned int num)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
	} control = { .header = {
		.cmsg_len = CMSG_LEN(num * sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	struct iovec iov = { (void *)bytes, size };
	struct msghdr packet = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (num > VHOST_USER_MAX_FDS)
		return -EINVAL;
	if (num) {
		memcpy(CMSG_DATA(&control.header), fds, num * sizeof(int));
		packet.msg_control = &control;
		packet.msg_controllen = CMSG_SPACE(num * sizeof(int));
	}
	if (sendmsg(u->client->fd, &packet, MSG_NOSIGNAL) != (ssize_t)size)
		return -EPIPE;
	return 0;
}

int vhost_user_send(struct vhost_user *u, struct vhost_user_msg *msg,
		    uint32_t request, uint32_t flags, size_t size,
		    const int *fds, unsigned int num)
{
	msg->header = (struct vhost_user_header){
		request, VHOST_USER_VERSION | flags, size
	};
	return vhost_user_send_bytes(u, msg, sizeof(msg->header) + size, fds, num);
}

static int receive_header(int socket, struct vhost_user_msg *msg, int *fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { msg, sizeof(msg->header) };
	struct msghdr packet = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;

	*fd = -1;
	if (recvmsg(socket, &packet, MSG_WAITALL | MSG_CMSG_CLOEXEC) !=
	    (ssize_t)iov.iov_len)
		return -EPIPE;
	cmsg = CMSG_FIRSTHDR(&packet);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
	return 0;
}

static int receive_message(int socket, struct vhost_user_msg *msg, int *fd)
{
	char *payload = (char *)msg + sizeof(msg->header);
	ssize_t size, room = sizeof(*msg) - sizeof(msg->header);
	int ret = receive_header(socket, msg, fd);

	if (ret)
		return ret;
	size = msg->header.size;
	if (size <= room &&
	    (!size || recv(socket, payload, size, MSG_WAITALL) == size))
		return size;
	if (*fd >= 0)
		close(*fd);
	return -EPIPE;
}

int vhost_user_receive(struct vhost_user *u, struct vhost_user_msg *msg,
		       uint32_t request, int *fd)
{
	int passed, ret = receive_message(u->client->fd, msg, &passed);

	if (ret >= 0 &&
	    (msg->header.request != request ||
	     msg->header.flags != (VHOST_USER_VERSION | VHOST_USER_REPLY)))
		ret = -EPROTO;
	if (fd && ret >= 0)
		*fd = passed;
	else if (passed >= 0)
		close(passed);
	return ret;
}

bool vhost_user_is_closed(struct vhost_user *u, int timeout_ms)
{
	struct pollfd file = { .fd = u->client->fd, .events = POLLIN };
	long end = vhost_client_now_ms() + timeout_ms;
	char bytes[64];
	long left;

	/* Drop answers that arrived before the end. */
	do {
		left = end - vhost_client_now_ms();
		if (poll(&file, 1, left > 0 ? left : 0) <= 0)
			return false;
	} while (recv(file.fd, bytes, sizeof(bytes), 0) > 0);
	return true;
}

/*
 * Send a message that has a reply of its own. Returns the bytes of the reply's payload or a
 * negative errno.
 */
static int ask(struct vhost_user *u, struct vhost_user_msg *msg,
	       enum vhost_user_request request, size_t size, int *fd)
{
	int ret = vhost_user_send(u, msg, request, 0, size, NULL, 0);

	return ret ? ret : vhost_user_receive(u, msg, request, fd);
}

static int ask_u64(struct vhost_user *u, enum vhost_user_request request,
		   uint64_t *value)
{
	struct vhost_user_msg msg;
	int ret = ask(u, &msg, request, 0, NULL);

	if (ret < 0)
		return ret;
	if (ret != sizeof(msg.u64))
		return -EPROTO;
	*value = msg.u64;
	return 0;
}

/* Send a message. If REPLY_ACK is negotiated, wait for the acknowledgment. */
static int tell(struct vhost_user *u, struct vhost_user_msg *msg,
		enum vhost_user_request request, size_t size, const int *fds,
		unsigned int num)
{
	bool ack = u->protocol_features & VHOST_USER_PROTOCOL_F_REPLY_ACK;
	int ret = vhost_user_send(u, msg, request, ack ? VHOST_USER_NEED_REPLY : 0,
				  size, fds, num);

	if (ret || !ack)
		return ret;
	ret = vhost_user_receive(u, msg, request, NULL);
	if (ret < 0)
		return ret;
	if (ret != sizeof(msg->u64))
		return -EPROTO;
	return msg->u64 ? -EREMOTEIO : 0;
}

static int tell_u64(struct vhost_user *u, enum vhost_user_request request,
		    uint64_t value)
{
	struct vhost_user_msg msg = { .u64 = value };

	return tell(u, &msg, request, sizeof(msg.u64), NULL, 0);
}

/* The connection */

int vhost_user_connect(struct vhost_user *u)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = TIMEOUT_S };
	int fd;

	if (strlen(u->path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, u->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	u->client->fd = fd;
	return 0;
}

void vhost_user_disconnect(struct vhost_user *u)
{
	if (u->client->fd >= 0)
		close(u->client->fd);
	if (u->backend_fd >= 0)
		close(u->backend_fd);
	u->client->fd = -1;
	u->backend_fd = -1;
	u->protocol_features = 0;
}

int vhost_user_open(struct vhost_user *u, struct vhost_client *c,
		    const char *path, size_t mem_size)
{
	int ret = vhost_client_open_shared(c, -1, mem_size);

	if (ret)
		return ret;
	*u = (struct vhost_user){
		.client = c,
		.path = strdup(path),
		.backend_fd = -1,
		.inflight_fd = -1,
		.log_fd = -1,
	};
	ret = u->path ? vhost_user_connect(u) : -ENOMEM;
	if (ret)
		vhost_user_close(u);
	return ret;
}

static void forget_inflight(struct vhost_user *u)
{
	if (u->inflight_fd < 0)
		return;
	munmap(u->inflight, u->inflight_desc.mmap_size);
	close(u->inflight_fd);
	u->inflight_fd = -1;
}

void vhost_user_close(struct vhost_user *u)
{
	vhost_user_disconnect(u);
	forget_inflight(u);
	if (u->log_fd >= 0)
		close(u->log_fd);
	free(u->path);
	vhost_client_close(u->client);
}

/* One message each */

int vhost_user_get_features(struct vhost_user *u, uint64_t *features)
{
	return ask_u64(u, VHOST_USER_GET_FEATURES, features);
}

int vhost_user_set_features(struct vhost_user *u, uint64_t features)
{
	return tell_u64(u, VHOST_USER_SET_FEATURES, features);
}

int vhost_user_get_protocol_features(struct vhost_user *u, uint64_t *features)
{
	return ask_u64(u, VHOST_USER_GET_PROTOCOL_FEATURES, features);
}

int vhost_user_get_queue_num(struct vhost_user *u, uint64_t *num)
{
	return ask_u64(u, VHOST_USER_GET_QUEUE_NUM, num);
}

int vhost_user_get_config(struct vhost_user *u, struct virtio_blk_config *config)
{
	const int head = VHOST_USER_CONFIG_HEADER;
	struct vhost_user_msg msg = { .config.size = sizeof(*config) };
	int ret = ask(u, &msg, VHOST_USER_GET_CONFIG, head + sizeof(*config), NULL);

	if (ret < 0)
		return ret;
	if (!ret)
		return -EREMOTEIO;
	if (ret != head + (int)sizeof(*config) ||
	    msg.config.size != sizeof(*config))
		return -EPROTO;
	memcpy(config, msg.config.data, sizeof(*config));
	return 0;
}

int vhost_user_set_config(struct vhost_user *u, uint32_t offset, uint32_t flags,
			  const void *data, uint32_t size)
{
	struct vhost_user_msg msg = { .config = { offset, size, flags, {} } };

	if (size > sizeof(msg.config.data))
		return -EINVAL;
	memcpy(msg.config.data, data, size);
	return tell(u, &msg, VHOST_USER_SET_CONFIG,
		    VHOST_USER_CONFIG_HEADER + size, NULL, 0);
}

int vhost_user_set_wce(struct vhost_user *u, uint8_t wce)
{
	return vhost_user_set_config(u, offsetof(struct virtio_blk_config, wce), 0,
				     &wce, sizeof(wce));
}

int vhost_user_get_status(struct vhost_user *u, uint64_t *status)
{
	return ask_u64(u, VHOST_USER_GET_STATUS, status);
}

int vhost_user_set_status(struct vhost_user *u, uint64_t status)
{
	return tell_u64(u, VHOST_USER_SET_STATUS, status);
}

int vhost_user_reset_device(struct vhost_user *u)
{
	struct vhost_user_msg msg;

	return tell(u, &msg, VHOST_USER_RESET_DEVICE, 0, NULL, 0);
}

int vhost_user_get_max_mem_slots(struct vhost_user *u, uint64_t *slots)
{
	return ask_u64(u, VHOST_USER_GET_MAX_MEM_SLOTS, slots);
}

static struct vhost_user_region mem_region(struct vhost_user *u, size_t offset,
					   size_t size)
{
	return (struct vhost_user_region){
		.guest_addr = VHOST_CLIENT_BASE + offset,
		.size = size,
		.user_addr = (uintptr_t)u->client->mem + offset,
		.mmap_offset = offset,
	};
}

int vhost_user_add_mem(struct vhost_user *u, size_t offset, size_t size)
{
	struct vhost_user_msg msg = { .mem_reg.region = mem_region(u, offset, size) };
	uint64_t end = VHOST_CLIENT_BASE + offset + size;
	int ret = tell(u, &msg, VHOST_USER_ADD_MEM_REG, sizeof(msg.mem_reg),
		       &u->client->mem_fd, 1);

	if (!ret && u->client->gpa_end < end)
		u->client->gpa_end = end;
	return ret;
}

int vhost_user_rem_mem(struct vhost_user *u, size_t offset, size_t size)
{
	struct vhost_user_msg msg = { .mem_reg.region = mem_region(u, offset, size) };

	return tell(u, &msg, VHOST_USER_REM_MEM_REG, sizeof(msg.mem_reg), NULL, 0);
}

int vhost_user_set_mem_table(struct vhost_user *u)
{
	struct vhost_user_msg msg = { .memory = {
		.num = 1,
		.regions = { mem_region(u, 0, u->client->mem_size) },
	} };

	u->client->gpa_end = VHOST_CLIENT_BASE + u->client->mem_size;
	return tell(u, &msg, VHOST_USER_SET_MEM_TABLE,
		    offsetof(struct vhost_user_memory, regions[1]),
		    &u->client->mem_fd, 1);
}

int vhost_user_set_vring(struct vhost_user *u, enum vhost_user_request request,
			 unsigned int index, unsigned int num)
{
	struct vhost_user_msg msg = { .state = { index, num } };

	return tell(u, &msg, request, sizeof(msg.state), NULL, 0);
}

int vhost_user_set_vring_addr(struct vhost_user *u, unsigned int index)
{
	struct vring *vring = &u->client->queues[index].vring;
	struct vhost_user_msg msg = { .addr = {
		.index = index,
		.flags = u->client->log ? 1U << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = vhost_client_ring_addr(u->client, vring->desc),
		.avail_user_addr = vhost_client_ring_addr(u->client, vring->avail),
		.used_user_addr = vhost_client_ring_addr(u->client, vring->used),
		.log_guest_addr = vhost_client_dma(u->client, vring->used),
	} };

	return tell(u, &msg, VHOST_USER_SET_VRING_ADDR, sizeof(msg.addr), NULL, 0);
}

int vhost_user_set_vring_fd(struct vhost_user *u, enum vhost_user_request request,
			    unsigned int index, int fd)
{
	struct vhost_user_msg msg = {
		.u64 = index | (fd < 0 ? VHOST_USER_VRING_NO_FD : 0)
	};

	return tell(u, &msg, request, sizeof(msg.u64), &fd, fd >= 0);
}

int vhost_user_get_vring_base(struct vhost_user *u, unsigned int index,
			      uint16_t *base)
{
	struct vhost_user_msg msg = { .state = { .index = index } };
	int ret = ask(u, &msg, VHOST_USER_GET_VRING_BASE, sizeof(msg.state), NULL);

	if (ret < 0)
		return ret;
	if (ret != sizeof(msg.state) || msg.state.index != index ||
	    msg.state.num > UINT16_MAX)
		return -EPROTO;
	*base = msg.state.num;
	return 0;
}

/* The record of what is in flight */

int vhost_user_get_inflight(struct vhost_user *u, unsigned int num_queues,
			    unsigned int ring_size)
{
	struct vhost_user_msg msg = { .inflight = {
		.num_queues = num_queues,
		.queue_size = ring_size,
	} };
	int fd, ret = ask(u, &msg, VHOST_USER_GET_INFLIGHT_FD, sizeof(msg.inflight),
			  &fd);

	if (ret < 0)
		return ret;
	if (ret != sizeof(msg.inflight) || fd < 0) {
		if (fd >= 0)
			close(fd);
		return -EPROTO;
	}
	forget_inflight(u);
	u->inflight_desc = msg.inflight;
	u->inflight = mmap(NULL, msg.inflight.mmap_size, PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, msg.inflight.mmap_offset);
	if (u->inflight == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	u->inflight_fd = fd;
	return 0;
}

int vhost_user_set_inflight(struct vhost_user *u)
{
	struct vhost_user_msg msg = { .inflight = u->inflight_desc };

	return tell(u, &msg, VHOST_USER_SET_INFLIGHT_FD, sizeof(msg.inflight),
		    &u->inflight_fd, 1);
}

/* Sequences of messages */

int vhost_user_negotiate(struct vhost_user *u, uint64_t protocol_features)
{
	struct vhost_user_msg msg;
	uint64_t features;
	int ret = vhost_user_get_features(u, &features);

	if (!ret && !(features & PROTOCOL_FEATURES))
		ret = -EOPNOTSUPP;
	if (!ret)
		ret = vhost_user_get_protocol_features(u, &features);
	if (ret)
		return ret;
	features &= protocol_features;
	msg.u64 = features;
	ret = vhost_user_send(u, &msg, VHOST_USER_SET_PROTOCOL_FEATURES, 0,
			      sizeof(msg.u64), NULL, 0);
	if (!ret)
		u->protocol_features = features;
	return ret;
}

static int set_client_features(struct vhost_user *u)
{
	uint64_t features = u->client->features;

	if (u->client->log)
		features |= 1ULL << VHOST_F_LOG_ALL;
	if (u->protocol_features)
		features |= PROTOCOL_FEATURES;
	return vhost_user_set_features(u, features);
}

int vhost_user_set_up_device(struct vhost_user *u, uint64_t features)
{
	struct vhost_user_msg msg;
	uint64_t offered;
	int ret = tell(u, &msg, VHOST_USER_SET_OWNER, 0, NULL, 0);

	if (!ret)
		ret = vhost_user_get_features(u, &offered);
	if (ret)
		return ret;
	u->client->features = offered & features & ~OTHER_FEATURES;
	if (u->client->iotlb)
		u->client->features |= 1ULL << VIRTIO_F_ACCESS_PLATFORM;
	return set_client_features(u);
}

int vhost_user_start_ring(struct vhost_user *u, unsigned int index,
			  unsigned int base)
{
	struct vhost_client_queue *q = &u->client->queues[index];
	int ret = vhost_user_set_vring(u, VHOST_USER_SET_VRING_NUM, index, q->num);

	if (!ret)
		ret = vhost_user_set_vring(u, VHOST_USER_SET_VRING_BASE, index, base);
	if (!ret)
		ret = vhost_user_set_vring_addr(u, index);
	if (!ret)
		ret = vhost_user_set_vring_fd(u, VHOST_USER_SET_VRING_CALL, index,
					      q->call_fd);
	if (!ret)
		ret = vhost_user_set_vring_fd(u, VHOST_USER_SET_VRING_ERR, index,
					      q->err_fd);
	if (!ret)
		ret = vhost_user_set_vring_fd(u, VHOST_USER_SET_VRING_KICK, index,
					      q->kick_fd);
	if (!ret && u->protocol_features)
		ret = vhost_user_set_vring(u, VHOST_USER_SET_VRING_ENABLE, index, 1);
	return ret;
}

static int start_rings(struct vhost_user *u)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < u->client->num_queues && !ret; i++)
		ret = vhost_user_start_ring(u, i,
					    u->client->queues[i].vring.used->idx);
	return ret;
}

int vhost_user_setup(struct vhost_user *u, uint64_t features,
		     unsigned int num_queues, unsigned int ring_size)
{
	int ret = vhost_user_set_up_device(u, features);

	if (!ret && u->protocol_features & VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) {
		ret = vhost_user_get_inflight(u, num_queues, ring_size);
		if (!ret)
			ret = vhost_user_set_inflight(u);
	}
	if (!ret)
		ret = vhost_user_set_mem_table(u);
	if (!ret)
		ret = vhost_client_alloc_rings(u->client, num_queues, ring_size);
	if (!ret)
		ret = start_rings(u);
	/* The back end answers after it has handled all messages before. */
	if (!ret)
		ret = vhost_user_get_features(u, &features);
	return ret;
}

int vhost_user_configure(struct vhost_user *u)
{
	uint64_t features = u->client->features;
	int ret = vhost_user_set_up_device(u, features);

	/* The driver relies on all features. A back end without one of them is another device. */
	if (!ret && u->client->features != features)
		ret = -EPROTO;
	if (!ret && u->inflight_fd >= 0)
		ret = vhost_user_set_inflight(u);
	if (!ret)
		ret = vhost_user_set_mem_table(u);
	if (!ret)
		ret = start_rings(u);
	if (!ret)
		ret = vhost_user_get_features(u, &features);
	return ret;
}

/* The dirty log */

/* The back end replies even without REPLY_ACK. The reply's payload has no meaning. */
static int set_log_base(struct vhost_user *u)
{
	struct vhost_user_msg msg = { .log.size = u->client->log_bytes };
	int ret = vhost_user_send(u, &msg, VHOST_USER_SET_LOG_BASE, 0,
				  sizeof(msg.log), &u->log_fd, 1);

	if (!ret)
		ret = vhost_user_receive(u, &msg, VHOST_USER_SET_LOG_BASE, NULL);
	return ret < 0 ? ret : 0;
}

static int set_log(struct vhost_user *u)
{
	int ret = set_client_features(u);
	unsigned int i;

	for (i = 0; i < u->client->num_queues && !ret; i++)
		ret = vhost_user_set_vring_addr(u, i);
	return ret;
}

static int make_log(struct vhost_user *u)
{
	struct vhost_client *c = u->client;
	uint64_t pages = c->gpa_end / VHOST_CLIENT_LOG_PAGE + 1;

	c->log_bytes = (pages + LONG_BITS - 1) / LONG_BITS * sizeof(long);
	u->log_fd = memfd_create("dirty log", MFD_CLOEXEC);
	if (u->log_fd < 0)
		return -errno;
	if (!ftruncate(u->log_fd, c->log_bytes))
		c->log = mmap(NULL, c->log_bytes, PROT_READ | PROT_WRITE,
			      MAP_SHARED, u->log_fd, 0);
	if (c->log && c->log != MAP_FAILED)
		return 0;
	c->log = NULL;
	close(u->log_fd);
	u->log_fd = -1;
	return -ENOMEM;
}

int vhost_user_log_start(struct vhost_user *u)
{
	int ret = make_log(u);

	if (ret)
		return ret;
	ret = set_log_base(u);
	if (!ret)
		ret = set_log(u);
	if (ret)
		vhost_user_log_stop(u);
	return ret;
}

int vhost_user_log_stop(struct vhost_user *u)
{
	struct vhost_client *c = u->client;
	void *log = c->log;
	int ret;

	c->log = NULL;
	ret = set_log(u);
	munmap(log, c->log_bytes);
	close(u->log_fd);
	u->log_fd = -1;
	return ret;
}

/* The back end's channel */

int vhost_user_open_backend(struct vhost_user *u)
{
	struct vhost_user_msg msg;
	int fds[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	ret = tell(u, &msg, VHOST_USER_SET_BACKEND_REQ_FD, 0, &fds[1], 1);
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return ret;
	}
	if (u->backend_fd >= 0)
		close(u->backend_fd);
	u->backend_fd = fds[0];
	return 0;
}

/* Receive a message. If its header has NEED_REPLY, the caller has to reply. */
static int receive_backend(struct vhost_user *u, struct vhost_user_msg *msg,
			   int timeout_ms)
{
	struct pollfd file = { .fd = u->backend_fd, .events = POLLIN };
	int fd, ret;

	if (poll(&file, 1, timeout_ms) <= 0)
		return -EAGAIN;
	ret = receive_message(u->backend_fd, msg, &fd);
	if (ret < 0)
		return ret;
	if (fd >= 0)
		close(fd);
	return 0;
}

static int reply_backend(struct vhost_user *u, uint32_t request)
{
	struct vhost_user_msg msg = {
		.header = {
			request, VHOST_USER_VERSION | VHOST_USER_REPLY,
			sizeof(msg.u64)
		},
	};

	return send(u->backend_fd, &msg, sizeof(msg.header) + sizeof(msg.u64),
		    MSG_NOSIGNAL) < 0 ? -EPIPE : 0;
}

int vhost_user_take_backend(struct vhost_user *u, int timeout_ms)
{
	struct vhost_user_msg msg;
	int ret = receive_backend(u, &msg, timeout_ms);

	if (!ret && msg.header.flags & VHOST_USER_NEED_REPLY)
		ret = reply_backend(u, msg.header.request);
	return ret ? ret : (int)msg.header.request;
}

/* The virtual IOMMU */

int vhost_user_take_miss(struct vhost_user *u, struct vhost_iotlb_msg *miss,
			 int timeout_ms)
{
	struct vhost_user_msg msg;
	int ret;

	do {
		ret = receive_backend(u, &msg, timeout_ms);
	} while (!ret && msg.header.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	if (ret)
		return ret;
	if (msg.header.request != VHOST_USER_BACKEND_IOTLB_MSG ||
	    msg.header.size != sizeof(msg.iotlb) ||
	    !(msg.header.flags & VHOST_USER_NEED_REPLY))
		return -EPROTO;
	*miss = msg.iotlb;
	return miss->type == VHOST_IOTLB_MISS ? 0 : -EPROTO;
}

int vhost_user_reply_miss(struct vhost_user *u)
{
	return reply_backend(u, VHOST_USER_BACKEND_IOTLB_MSG);
}

static int serve_iotlb(struct vhost_client *c)
{
	struct vhost_user *u = c->iotlb_data;
	struct vhost_iotlb_msg miss;
	int answered = 0;

	while (!vhost_user_take_miss(u, &miss, 0)) {
		answered += !vhost_client_iotlb_answer(c, miss.iova);
		if (vhost_user_reply_miss(u))
			break;
	}
	return answered;
}

static int send_iotlb(struct vhost_client *c, const struct vhost_iotlb_msg *iotlb)
{
	struct vhost_user_msg msg = { .iotlb = *iotlb };

	return tell(c->iotlb_data, &msg, VHOST_USER_IOTLB_MSG, sizeof(msg.iotlb), NULL,
		    0);
}

int vhost_user_use_iotlb(struct vhost_user *u, size_t granule)
{
	struct vhost_client *c = u->client;
	uint64_t features;
	int ret = vhost_user_get_features(u, &features);

	if (ret)
		return ret;
	if (!(features & 1ULL << VIRTIO_F_ACCESS_PLATFORM))
		return -EOPNOTSUPP;
	ret = vhost_user_open_backend(u);
	if (ret)
		return ret;
	c->iotlb = true;
	c->iotlb_granule = granule;
	c->iotlb_fd = u->backend_fd;
	c->iotlb_serve = serve_iotlb;
	c->iotlb_send = send_iotlb;
	c->iotlb_data = u;
	return 0;
}
