/* SPDX-License-Identifier: GPL-2.0 */
/* The listening socket, and messages with their file descriptors. */
#ifndef VHOST_BLKD_TRANSPORT_H
#define VHOST_BLKD_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#include "options.h"
#include "protocol.h"

/**
 * struct listener - the listening socket
 * @fd: the socket; -1 if there is none
 * @path: its file, which is removed with it; NULL if the socket was passed by --fd
 * @device: st_dev of the file
 * @inode: st_ino of the file
 */
struct listener {
	int fd;
	const char *path;
	dev_t device;
	ino_t inode;
};

/* The longest path of a socket, in bytes. */
#define MAX_SOCKET_PATH	(sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

/*
 * The path has 1 to MAX_SOCKET_PATH bytes. Logs a failure. A socket file on which nobody listens
 * is replaced.
 */
bool listener_open(struct listener *listener, const char *path);
void listener_close(struct listener *listener);
bool socket_is_listening(int fd);
bool socket_is_stream(int fd);

/**
 * struct receiver - a message that is being received
 * @msg: the message
 * @got: number of bytes received
 */
struct receiver {
	struct message msg;
	size_t got;
};

enum received {
	RECEIVED_PART,		/* the message is incomplete */
	RECEIVED_HEADER,	/* the caller has to check the size of the payload */
	RECEIVED_ALL,
	RECEIVED_END,		/* the peer has closed the connection */
	RECEIVED_ERROR,		/* see errno; EMSGSIZE: too many file descriptors */
};

void receiver_init(struct receiver *receiver);
/*
 * Returns whether the message has been received whole and the next receiver_read() returns
 * RECEIVED_ALL without reading: after RECEIVED_HEADER of a message without payload.
 */
bool receiver_has_all(const struct receiver *receiver);
/* Does not block. */
enum received receiver_read(struct receiver *receiver, int fd);
/* Closes the file descriptors that were not taken. */
void message_close_fds(struct message *msg);
int message_take_fd(struct message *msg, unsigned int index);

/* Does not block. Returns 0 or a negative errno; -EAGAIN if the socket is full. */
int message_send(int fd, const struct message *msg);

#endif
