// SPDX-License-Identifier: GPL-2.0
/* Sockets: see transport.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "transport.h"

/* Listening */

static bool is_alive(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive = fd >= 0 &&
		     (!connect(fd, (const struct sockaddr *)address,
			       sizeof(*address)) ||
		      errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return alive;
}

/* Remove the socket file of a daemon that has died. */
static bool remove_dead_socket(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT;
	if (!S_ISSOCK(st.st_mode)) {
		say("--socket-path=%s: the file is there, and no socket: remove it or choose another path",
		    path);
		return false;
	}
	if (is_alive(address)) {
		say("--socket-path=%s: another process listens there: stop it or choose another path",
		    path);
		return false;
	}
	if (unlink(path) && errno != ENOENT) {
		say("--socket-path=%s: the old socket is not removed: %s",
		    path, strerror(errno));
		return false;
	}
	return true;
}

bool listener_open(struct listener *listener, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;

	*listener = (struct listener){ .fd = -1 };
	strcpy(address.sun_path, path);
	if (!remove_dead_socket(&address))
		return false;
	listener->fd = socket(AF_UNIX,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0 ||
	    bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener->fd, 1) || stat(path, &st)) {
		say("--socket-path=%s: %s", path, strerror(errno));
		listener_close(listener);
		return false;
	}
	listener->path = path;
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	return true;
}

void listener_close(struct listener *listener)
{
	struct stat st;

	/* Remove the file only if another daemon has not replaced it. */
	if (listener->path && !lstat(listener->path, &st) &&
	    st.st_dev == listener->device && st.st_ino == listener->inode)
		unlink(listener->path);
	if (listener->fd >= 0)
		close(listener->fd);
	*listener = (struct listener){ .fd = -1 };
}

static int socket_option(int fd, int option)
{
	socklen_t size = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) ? -1 : value;
}

bool socket_is_listening(int fd)
{
	return socket_option(fd, SO_ACCEPTCONN) == 1;
}

bool socket_is_stream(int fd)
{
	return socket_option(fd, SO_DOMAIN) == AF_UNIX &&
	       socket_option(fd, SO_TYPE) == SOCK_STREAM;
}

/* Messages */

void receiver_init(struct receiver *receiver)
{
	memset(receiver, 0, sizeof(*receiver));
	receiver->msg.reply_fd = -1;
}

void message_close_fds(struct message *msg)
{
	unsigned int i;

	for (i = 0; i < msg->num_fds; i++)
		if (msg->fds[i] >= 0)
			close(msg->fds[i]);
	msg->num_fds = 0;
}

int message_take_fd(struct message *msg, unsigned int index)
{
	int fd = msg->fds[index];

	msg->fds[index] = -1;
	return fd;
}

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
};

/* Returns false if there were too many file descriptors. The excess ones are closed. */
static bool take_fds(struct message *msg, struct msghdr *packet)
{
	bool fit = !(packet->msg_flags & MSG_CTRUNC);
	struct cmsghdr *header;
	size_t i, num;
	int fd;

	for (header = CMSG_FIRSTHDR(packet); header;
	     header = CMSG_NXTHDR(packet, header)) {
		if (header->cmsg_level != SOL_SOCKET ||
		    header->cmsg_type != SCM_RIGHTS)
			continue;
		num = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < num; i++) {
			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int),
			       sizeof(fd));
			if (msg->num_fds < VHOST_USER_MAX_FDS) {
				msg->fds[msg->num_fds++] = fd;
			} else {
				close(fd);
				fit = false;
			}
		}
	}
	return fit;
}

static enum received receive_bytes(struct receiver *receiver, int fd,
				   size_t want)
{
	union control control;
	struct iovec iov = {
		(uint8_t *)&receiver->msg.header + receiver->got,
		want - receiver->got
	};
	struct msghdr packet = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t ret;

	do {
		ret = recvmsg(fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return errno == EAGAIN ? RECEIVED_PART : RECEIVED_ERROR;
	if (!take_fds(&receiver->msg, &packet)) {
		errno = EMSGSIZE;
		return RECEIVED_ERROR;
	}
	if (!ret)
		return RECEIVED_END;
	receiver->got += ret;
	return receiver->got == want ? RECEIVED_ALL : RECEIVED_PART;
}

/* receive_bytes() and message_send() use header and payload as one buffer. */
_Static_assert(offsetof(struct message, payload) ==
	       offsetof(struct message, header) +
	       sizeof(struct vhost_user_header), "padding in a message");

bool receiver_has_all(const struct receiver *receiver)
{
	const size_t header = sizeof(receiver->msg.header);

	return receiver->got >= header &&
	       receiver->got == header + receiver->msg.header.size;
}

enum received receiver_read(struct receiver *receiver, int fd)
{
	const size_t header = sizeof(receiver->msg.header);
	enum received ret;

	if (receiver->got < header) {
		ret = receive_bytes(receiver, fd, header);
		return ret == RECEIVED_ALL ? RECEIVED_HEADER : ret;
	}
	if (receiver_has_all(receiver))
		return RECEIVED_ALL;
	return receive_bytes(receiver, fd, header + receiver->msg.header.size);
}

int message_send(int fd, const struct message *msg)
{
	union control control = { .header = {
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	struct iovec iov = {
		(void *)&msg->header, sizeof(msg->header) + msg->header.size
	};
	struct msghdr packet = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t ret;

	if (msg->reply_fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &msg->reply_fd,
		       sizeof(msg->reply_fd));
		packet.msg_control = &control;
		packet.msg_controllen = CMSG_SPACE(sizeof(int));
	}
	do {
		ret = sendmsg(fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return -errno;
	return (size_t)ret == iov.iov_len ? 0 : -EAGAIN;
}
