// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blkd: a vhost-user-blk back end whose requests the host kernel serves.
 *
 * The daemon is the control plane of one disk. A VMM connects, and sends the guest's
 * memory and rings by vhost-user messages. The daemon maps the memory, and passes rings
 * and eventfds to /dev/vhost-blk. From then on no request passes through the daemon. It
 * sleeps until the next message.
 *
 *	options.c	the command line
 *	transport.c	sockets; messages and their file descriptors
 *	session.c	a connection: handling of each message
 *	config.c	the configuration space and the write cache
 *	ring.c		start and stop of rings
 *	memory.c	mappings of the guest's memory and of the dirty log
 *	iotlb.c		translations of a virtual IOMMU
 *	inflight.c	the record of the chains in flight, which outlives the daemon
 *	device.c	the ioctls of /dev/vhost-blk
 *
 * The daemon has one thread and one connection at a time. An invalid message of the VMM
 * ends the connection, with a line on standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "device.h"
#include "log.h"
#include "notify.h"
#include "options.h"
#include "session.h"

/* Time without a message after which the memory table counts as complete. */
#define MEMORY_PAUSE_MS		20

/* Time until the next accept() after a connection has failed. */
#define ACCEPT_PAUSE_MS		100

/**
 * struct server - state of this process
 * @device: the disk
 * @listener: listening socket; its @fd is -1 if --fd is a connected socket
 * @stop_fd: readable when this process has to end
 * @connected: @session is in use
 * @session: the connection
 */
struct server {
	struct device device;
	struct listener listener;
	int stop_fd;
	bool connected;
	struct session session;
};

/*
 * SIGTERM and SIGINT are read from a file descriptor, so that they are handled between two
 * messages. SIGPIPE and SIGXFSZ are ignored, because system calls return the same errors.
 */
static int open_stop_fd(void)
{
	sigset_t signals;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		say("signalfd: %s", strerror(errno));
	return fd;
}

static bool begin(struct server *server, int fd)
{
	server->connected = session_begin(&server->session, &server->device, fd,
					  server->stop_fd);
	if (!server->connected)
		close(fd);
	return server->connected;
}

/* Open the socket of the command line, or take one that listens or is connected. */
static bool open_socket(struct server *server, const struct options *options)
{
	if (options->socket_path)
		return listener_open(&server->listener, options->socket_path);
	if (!socket_is_listening(options->fd))
		return begin(server, options->fd);
	server->listener.fd = options->fd;
	return true;
}

/* If one connection fails, the next one may succeed. */
static void accept_connection(struct server *server)
{
	int fd = accept4(server->listener.fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0 && begin(server, fd))
		return;
	if (fd < 0 && errno != EAGAIN)
		say("accepting a connection: %s", strerror(errno));
	usleep(ACCEPT_PAUSE_MS * 1000);
}

static bool end_connection(struct server *server)
{
	server->connected = false;
	return session_end(&server->session);
}

/* What poll waits for, of the listening socket or of a connection. */
enum { STOP, SOCKET, CONFIG, BACKEND, MISSES, NUM_FILES };

/* A question and a new configuration have to be sent, and a reply comes. */
static short backend_events(const struct session *session)
{
	bool unsent = session->config_pending ||
		      (iotlb_is_used(session) && session->iotlb.state == UNASKED);

	if (session->backend_fd < 0)
		return 0;
	return (unsent ? POLLOUT : 0) |
	       (session->iotlb.state == ASKED ? POLLIN : 0);
}

static void poll_connection(const struct server *server, struct pollfd *files)
{
	const struct session *session = &server->session;
	short backend = backend_events(session);

	files[SOCKET] = (struct pollfd){ session->fd, POLLIN, 0 };
	files[CONFIG] = (struct pollfd){ server->device.config_event, POLLIN, 0 };
	files[BACKEND] = (struct pollfd){ backend ? session->backend_fd : -1,
					  backend, 0 };
	files[MISSES] = (struct pollfd){ iotlb_wants_misses(session) ?
					 server->device.fd : -1, POLLIN, 0 };
}

static bool serve_connection(struct server *server, const struct pollfd *files,
			     bool silent)
{
	struct session *session = &server->session;
	bool changed = session->config_pending && files[BACKEND].revents;
	bool ok = true;
	uint64_t times;

	if (files[CONFIG].revents &&
	    read(files[CONFIG].fd, &times, sizeof(times)) == sizeof(times))
		changed = true;
	if (changed)
		ok = config_tell_front_end(session);
	if (ok && files[SOCKET].revents)
		ok = session_serve(session);
	/* After that, since a front end that goes closes this one, too. */
	if (ok && session->backend_fd >= 0 && files[BACKEND].revents & ~POLLOUT)
		ok = iotlb_take_reply(session);
	if (ok && silent && session->paused)
		ok = session_resume(session);
	ok = ok && iotlb_ask(session);
	return ok || end_connection(server);
}

/* Returns false if this process has to end because of an error. */
static bool serve_once(struct server *server, bool *stop)
{
	struct pollfd files[NUM_FILES] = {
		[STOP] = { .fd = server->stop_fd, .events = POLLIN },
		[SOCKET] = { .fd = server->listener.fd, .events = POLLIN },
		[CONFIG] = { .fd = -1 },
		[BACKEND] = { .fd = -1 },
		[MISSES] = { .fd = -1 },
	};
	bool paused = server->connected && server->session.paused;
	int ready;

	if (server->connected)
		poll_connection(server, files);
	ready = poll(files, NUM_FILES, paused ? MEMORY_PAUSE_MS : -1);
	if (ready < 0)
		return errno == EINTR;
	*stop = files[STOP].revents;
	if (*stop)
		return true;
	if (server->connected)
		return serve_connection(server, files, !ready);
	if (files[SOCKET].revents)
		accept_connection(server);
	return true;
}

/* Returns when a signal comes, or when the connection of --fd ends. */
static bool serve(struct server *server)
{
	bool stop = false, ok = true;

	while (ok && !stop && (server->connected || server->listener.fd >= 0))
		ok = serve_once(server, &stop);
	if (server->connected)
		ok = end_connection(server) && ok;
	return ok;
}

int main(int argc, char **argv)
{
	static struct server server;
	struct options options;
	bool ok;

	options_parse(&options, argc, argv);
	server.listener.fd = -1;
	server.stop_fd = open_stop_fd();
	ok = server.stop_fd >= 0 && device_open(&server.device, &options, server.stop_fd) &&
	     open_socket(&server, &options);
	if (ok) {
		notify_ready();
		ok = serve(&server);
	} else if (server.stop_fd >= 0) {
		/* A signal has ended the wait for the disk. */
		ok = device_must_stop(&server.device, 0);
	}
	listener_close(&server.listener);
	device_close(&server.device);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
