/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A vhost-user front end for the client of vhost_client.h. The device is another process,
 * the back end, at a socket. After the setup, the functions of vhost_client.h for guest
 * memory, rings and used elements work as with a kernel device. Its functions that call an
 * ioctl don't.
 *
 * Without protocol features, a ring runs as soon as it has its eventfds. With protocol
 * features the client behaves as a VMM: it waits for the answer to each message, keeps the
 * record of the chains in flight, and can connect again with that record.
 *
 * Tests can also send bytes with any descriptors, valid or not.
 *
 * QEMU's docs/interop/vhost-user.rst specifies the protocol.
 */
#ifndef VHOST_USER_H
#define VHOST_USER_H

#include "vhost_client.h"
#include "vhost_user_protocol.h"

/* Number of descriptors that this client can send with one message. */
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
 * @client: the guest memory and the rings. Its fd is the socket, or -1 without a connection.
 * @path: path of the socket
 * @protocol_features: negotiated protocol features
 * @backend_fd: the client's end of the back-end channel, or -1
 * @inflight_fd: file of the record of the chains in flight, or -1
 * @inflight: the mapped record
 * @inflight_desc: size and layout of the record, from the back end
 * @log_fd: file of the dirty log, or -1
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

/* Connect to a socket and allocate @mem_size bytes of guest memory for @c. */
int vhost_user_open(struct vhost_user *u, struct vhost_client *c,
		    const char *path, size_t mem_size);
/* Disconnect and free everything, the client's memory and rings included. */
void vhost_user_close(struct vhost_user *u);
/* Disconnect. Memory, rings and record stay for vhost_user_connect(). */
void vhost_user_disconnect(struct vhost_user *u);
int vhost_user_connect(struct vhost_user *u);

/*
 * Each of these functions sends one message. If REPLY_ACK is negotiated, it waits for the
 * acknowledgment of a message that has no reply of its own. Returns 0 or a negative errno:
 *	EREMOTEIO	the back end has refused the message
 *	EPIPE		the connection has ended
 *	EPROTO		the reply is wrong
 */
int vhost_user_get_features(struct vhost_user *u, uint64_t *features);
int vhost_user_set_features(struct vhost_user *u, uint64_t features);
int vhost_user_get_protocol_features(struct vhost_user *u, uint64_t *features);
int vhost_user_get_queue_num(struct vhost_user *u, uint64_t *num);
int vhost_user_get_config(struct vhost_user *u, struct virtio_blk_config *config);
/* @flags is 1 for a migration, otherwise 0. */
int vhost_user_set_config(struct vhost_user *u, uint32_t offset, uint32_t flags,
			  const void *data, uint32_t size);
int vhost_user_set_wce(struct vhost_user *u, uint8_t wce);
int vhost_user_get_status(struct vhost_user *u, uint64_t *status);
int vhost_user_set_status(struct vhost_user *u, uint64_t status);
int vhost_user_reset_device(struct vhost_user *u);
int vhost_user_get_max_mem_slots(struct vhost_user *u, uint64_t *slots);
/* Add or remove a region: @size bytes from @offset of guest memory on. */
int vhost_user_add_mem(struct vhost_user *u, size_t offset, size_t size);
int vhost_user_rem_mem(struct vhost_user *u, size_t offset, size_t size);
/* Set a table with one region for all guest memory. */
int vhost_user_set_mem_table(struct vhost_user *u);
/* @request is VHOST_USER_SET_VRING_NUM, _BASE or _ENABLE. */
int vhost_user_set_vring(struct vhost_user *u, enum vhost_user_request request,
			 unsigned int index, unsigned int num);
int vhost_user_set_vring_addr(struct vhost_user *u, unsigned int index);
/* @request is VHOST_USER_SET_VRING_KICK, _CALL or _ERR. @fd is -1 for none. */
int vhost_user_set_vring_fd(struct vhost_user *u, enum vhost_user_request request,
			    unsigned int index, int fd);
/* Stop the ring and get its next index of the available ring. */
int vhost_user_get_vring_base(struct vhost_user *u, unsigned int index,
			      uint16_t *base);

/*
 * Negotiate those of @protocol_features that the back end offers. To be called before
 * vhost_user_setup(), or not at all.
 */
int vhost_user_negotiate(struct vhost_user *u, uint64_t protocol_features);
/* Do what vhost_client_setup() does, and start all rings. */
int vhost_user_setup(struct vhost_user *u, uint64_t features,
		     unsigned int num_queues, unsigned int ring_size);
/*
 * Set up the device again after vhost_user_connect(), with the same memory, rings and
 * record. Each ring starts at its used index.
 */
int vhost_user_configure(struct vhost_user *u);
/* Send SET_OWNER and SET_FEATURES, with the bit for protocol features if negotiated. */
int vhost_user_set_up_device(struct vhost_user *u, uint64_t features);
/* Set size, base, addresses and eventfds of a ring, and enable it. */
int vhost_user_start_ring(struct vhost_user *u, unsigned int index,
			  unsigned int base);

/* Get a new record of the chains in flight from the back end. */
int vhost_user_get_inflight(struct vhost_user *u, unsigned int num_queues,
			    unsigned int ring_size);
/* Send the record to the back end. */
int vhost_user_set_inflight(struct vhost_user *u);

/* Do what vhost_client_log_start() and _stop() do, with a log in shared memory. */
int vhost_user_log_start(struct vhost_user *u);
int vhost_user_log_stop(struct vhost_user *u);

/* Open the back-end channel, over which the back end sends messages. */
int vhost_user_open_backend(struct vhost_user *u);
/*
 * Wait for a message on the back-end channel, and reply if it asks for a reply. Returns the
 * request, or -EAGAIN after the timeout.
 */
int vhost_user_take_backend(struct vhost_user *u, int timeout_ms);

/*
 * Use a virtual IOMMU, as vhost_client_use_iotlb() does, and open the back-end channel for
 * it. To be called between vhost_user_negotiate() and vhost_user_setup().
 */
int vhost_user_use_iotlb(struct vhost_user *u, size_t granule);
/*
 * Wait for an IOTLB miss on the back-end channel. Messages of a new configuration are
 * dropped. Returns -EAGAIN after the timeout. The next miss comes after
 * vhost_user_reply_miss().
 */
int vhost_user_take_miss(struct vhost_user *u, struct vhost_iotlb_msg *miss,
			 int timeout_ms);
int vhost_user_reply_miss(struct vhost_user *u);

/* Send bytes without a header, with @num descriptors. */
int vhost_user_send_bytes(struct vhost_user *u, const void *bytes, size_t size,
			  const int *fds, unsigned int num);
/* Send a message with @size bytes of payload. Its header is made here. */
int vhost_user_send(struct vhost_user *u, struct vhost_user_msg *msg,
		    uint32_t request, uint32_t flags, size_t size,
		    const int *fds, unsigned int num);
/*
 * Receive a reply. Returns the bytes of its payload, or -EPROTO if it is not the reply to
 * @request. A descriptor that comes with it is stored in @fd, or closed if @fd is NULL.
 */
int vhost_user_receive(struct vhost_user *u, struct vhost_user_msg *msg,
		       uint32_t request, int *fd);
/* Returns whether the back end closes the connection within @timeout_ms. */
bool vhost_user_is_closed(struct vhost_user *u, int timeout_ms);

#endif
