/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The control plane of vhost-user for the client of vhost_client.h: the device is
 * another process at the end of a socket. Once it is set up, everything of
 * vhost_client.h that concerns guest memory, rings and used elements works as with
 * a device of the kernel; the calls that are ioctls don't.
 *
 * Without protocol features rings run as soon as they have their eventfds. With
 * them the client plays a VMM of today: it waits for the answer to each message,
 * keeps the record of what is in flight, and can connect again with it.
 *
 * Messages can also be sent as bytes, with any descriptors, right or wrong.
 *
 * The protocol is that of QEMU's docs/interop/vhost-user.rst.
 */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include "vhost_client.h"
#include "vhost_user_protocol.h"

/* Descriptors that one message of this client can carry. */
#define VHOST_USER_MAX_FDS	32

struct vhost_user_msg {
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
	};
} __attribute__((packed));

/**
 * struct vhost_user - a device in another process
 * @client: its guest memory and rings; the client's fd is the socket, -1 while there
 *	is no connection
 * @path: where to connect
 * @protocol_features: negotiated
 * @backend_fd: this end of the back end's channel, -1 if it has none
 * @inflight_fd: the record of what is in flight, -1 if there is none
 * @inflight: the same, mapped
 * @inflight_desc: as the back end has described it
 * @log_fd: the dirty log's file, -1 if there is none
 */
struct vhost_user {
	struct vhost_client *client;
	char *path;
	uint64_t protocol_features;
	int backend_fd;
	int inflight_fd;
	uint8_t *inflight;
	struct vhost_user_inflight inflight_desc;
	int log_fd;
};

/* Connects to a socket and allocates @mem_size bytes of guest memory for @c. */
int vhost_user_open(struct vhost_user *u, struct vhost_client *c,
		    const char *path, size_t mem_size);
/* Ends the connection and frees all, the client's memory and rings as well. */
void vhost_user_close(struct vhost_user *u);
/* The connection alone: memory, rings and record stay, and the next may have them. */
void vhost_user_disconnect(struct vhost_user *u);
int vhost_user_connect(struct vhost_user *u);

/*
 * Of one message each. A message without an answer of its own is acknowledged if
 * REPLY_ACK is negotiated: -EREMOTEIO if the back end says that it failed, -EPIPE if
 * the connection has ended.
 */
int vhost_user_get_features(struct vhost_user *u, uint64_t *features);
int vhost_user_set_features(struct vhost_user *u, uint64_t features);
int vhost_user_get_protocol_features(struct vhost_user *u, uint64_t *features);
int vhost_user_get_queue_num(struct vhost_user *u, uint64_t *num);
int vhost_user_get_config(struct vhost_user *u, struct virtio_blk_config *config);
/* @flags is 1 for a migration, else 0. */
int vhost_user_set_config(struct vhost_user *u, uint32_t offset, uint32_t flags,
			  const void *data, uint32_t size);
int vhost_user_set_wce(struct vhost_user *u, uint8_t wce);
int vhost_user_get_status(struct vhost_user *u, uint64_t *status);
int vhost_user_set_status(struct vhost_user *u, uint64_t status);
int vhost_user_reset_device(struct vhost_user *u);
int vhost_user_get_max_mem_slots(struct vhost_user *u, uint64_t *slots);
/* A piece of guest memory. */
int vhost_user_add_mem(struct vhost_user *u, size_t offset, size_t size);
int vhost_user_rem_mem(struct vhost_user *u, size_t offset, size_t size);
/* All of guest memory, in one region. */
int vhost_user_set_mem_table(struct vhost_user *u);
/* @request is one of NUM, BASE and ENABLE. */
int vhost_user_set_vring(struct vhost_user *u, enum vhost_user_request request,
			 unsigned int index, unsigned int num);
int vhost_user_set_vring_addr(struct vhost_user *u, unsigned int index);
/* @request is one of KICK, CALL and ERR; @fd may be -1 for none. */
int vhost_user_set_vring_fd(struct vhost_user *u, enum vhost_user_request request,
			    unsigned int index, int fd);
/* Stops the ring. */
int vhost_user_get_vring_base(struct vhost_user *u, unsigned int index,
			      uint16_t *base);

/*
 * What belongs together. Negotiate takes those of @protocol_features that are offered,
 * and is called before setup; both are not needed for a device without.
 *
 * Setup is as vhost_client_setup(), and the device runs; configure is the same once
 * more with the rings and the record that there are, each ring from where its used
 * index is: after vhost_user_connect().
 */
int vhost_user_negotiate(struct vhost_user *u, uint64_t protocol_features);
int vhost_user_setup(struct vhost_user *u, uint64_t features,
		     unsigned int num_queues, unsigned int ring_size);
int vhost_user_configure(struct vhost_user *u);
/* Owner and features, in which those of the protocol are. */
int vhost_user_set_up_device(struct vhost_user *u, uint64_t features);
/* Everything of a ring from its size to its kick, and enables it. */
int vhost_user_start_ring(struct vhost_user *u, unsigned int index,
			  unsigned int base);

/* A new record for so many rings; and the one that there is to the back end. */
int vhost_user_get_inflight(struct vhost_user *u, unsigned int num_queues,
			    unsigned int ring_size);
int vhost_user_set_inflight(struct vhost_user *u);

/* As vhost_client_log_start() and _stop(), in memory that is shared. */
int vhost_user_log_start(struct vhost_user *u);
int vhost_user_log_stop(struct vhost_user *u);

/*
 * Gives the back end a channel of its own. Take waits for a message on it, answers it
 * if an answer is wanted, and returns its request, or -EAGAIN.
 */
int vhost_user_open_backend(struct vhost_user *u);
int vhost_user_take_backend(struct vhost_user *u, int timeout_ms);

/*
 * The virtual IOMMU: as vhost_client_use_iotlb(), between negotiate and setup, on a new
 * channel of the back end. Take miss waits for a question there, which has to be replied
 * to before the next one comes; -EAGAIN if there is none.
 */
int vhost_user_use_iotlb(struct vhost_user *u, size_t granule);
int vhost_user_take_miss(struct vhost_user *u, struct vhost_iotlb_msg *miss,
			 int timeout_ms);
int vhost_user_reply_miss(struct vhost_user *u);

/* Bytes as they are, with @num descriptors. */
int vhost_user_send_bytes(struct vhost_user *u, const void *bytes, size_t size,
			  const int *fds, unsigned int num);
/* A message with @size bytes of payload, and version and size in its header. */
int vhost_user_send(struct vhost_user *u, struct vhost_user_msg *msg,
		    uint32_t request, uint32_t flags, size_t size,
		    const int *fds, unsigned int num);
/*
 * The next message of the back end and the bytes of its payload; a descriptor that
 * comes with it is stored in @fd, or closed if that is NULL. -EPROTO if it is not the
 * reply to @request.
 */
int vhost_user_receive(struct vhost_user *u, struct vhost_user_msg *msg,
		       uint32_t request, int *fd);
/* Whether the back end has ended the connection, within so much time. */
bool vhost_user_is_closed(struct vhost_user *u, int timeout_ms);

#endif
