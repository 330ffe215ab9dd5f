/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets: listening, and messages in and out with their descriptors. */
#ifndef VHOST_BLKD_TRANSPORT_H
#define VHOST_BLKD_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "options.h"
#include "protocol.h"

/**
 * struct listener - where front ends connect
 * @fd: the socket; -1 if there is none
 * @path: its file, that goes with it, or NULL
 * @device, @inode: of that file
 */
struct listener {
	int fd;
	const char *path;
	dev_t device;
	ino_t inode;
};

/* Says what is wrong if it fails. A file without a listener is replaced. */
bool listener_open(struct listener *listener, const char *path);
void listener_close(struct listener *listener);
bool socket_is_listening(int fd);
bool socket_is_stream(int fd);

/**
 * struct receiver - a message that arrives
 * @msg: what there is of it
 * @got: its bytes that there are
 */
struct receiver {
	struct message msg;
	size_t got;
};

enum received {
	RECEIVED_PART,		/* there is nothing more for now */
	RECEIVED_HEADER,	/* the payload's size is to be checked */
	RECEIVED_ALL,
	RECEIVED_END,		/* the peer has closed the connection */
	RECEIVED_ERROR,		/* errno says which; EMSGSIZE: too many descriptors */
};

void receiver_init(struct receiver *receiver);
/* Does not wait. */
enum received receiver_read(struct receiver *receiver, int fd);
/* Closes the descriptors that nobody took. */
void message_close_fds(struct message *msg);
int message_take_fd(struct message *msg, unsigned int index);

/* Does not wait. 0 or a negative errno; EAGAIN: the peer does not read. */
int message_send(int fd, const struct message *msg);

#endif
