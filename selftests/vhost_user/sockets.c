// SPDX-License-Identifier: GPL-2.0
/*
 * The other ends of a vhost-user daemon's sockets, for errors.sh.
 *
 * usage: sockets ask PATH		asks the daemon at PATH for its features
 *	  sockets hold PATH		the same, and stays connected
 *	  sockets listen PATH COMMAND...	runs a command with a listening socket
 *	  sockets pair COMMAND...	runs a command with a connected one, asks, and closes
 *					it; the status is the command's
 *	  sockets notify PATH		prints what a service manager at PATH is told
 *
 * Commands have their socket as descriptor 3.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMAND_FD	3
#define GET_FEATURES	1
#define VERSION		1
#define REPLY		4

struct answer {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
	uint64_t features;
} __attribute__((packed));

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

static int bound_socket(int type, const char *path)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, type, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "%s", path);
	return fd;
}

static int connected_socket(const char *path)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "%s", path);
	return fd;
}

static void ask(int fd)
{
	const uint32_t request[] = { GET_FEATURES, VERSION, 0 };
	struct answer answer;

	if (send(fd, request, sizeof(request), MSG_NOSIGNAL) !=
	    sizeof(request) ||
	    recv(fd, &answer, sizeof(answer), MSG_WAITALL) != sizeof(answer))
		errx(1, "no answer");
	if (answer.request != GET_FEATURES ||
	    answer.flags != (VERSION | REPLY) || !answer.features)
		errx(1, "a wrong answer");
}

static void run_with(int fd, char **command)
{
	if (fd != COMMAND_FD) {
		dup2(fd, COMMAND_FD);
		close(fd);
	}
	execvp(command[0], command);
	err(127, "%s", command[0]);
}

static int run_pair(char **command)
{
	int ends[2], status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		err(1, "socketpair");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		close(ends[0]);
		run_with(ends[1], command);
	}
	close(ends[1]);
	ask(ends[0]);
	close(ends[0]);
	if (waitpid(pid, &status, 0) < 0)
		err(1, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void show_notification(const char *path)
{
	char text[256];
	int fd = bound_socket(SOCK_DGRAM, path);
	ssize_t got = recv(fd, text, sizeof(text) - 1, 0);

	if (got < 0)
		err(1, "%s", path);
	text[got] = 0;
	puts(text);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	int fd;

	if (!strcmp(what, "ask") || !strcmp(what, "hold")) {
		ask(connected_socket(argv[2]));
		if (!strcmp(what, "hold"))
			pause();
	} else if (!strcmp(what, "listen") && argc > 3) {
		fd = bound_socket(SOCK_STREAM, argv[2]);
		if (listen(fd, 1))
			err(1, "listen");
		run_with(fd, argv + 3);
	} else if (!strcmp(what, "pair")) {
		return run_pair(argv + 2);
	} else if (!strcmp(what, "notify")) {
		show_notification(argv[2]);
	} else {
		errx(1, "usage: %s ask|hold|listen|pair|notify ...", argv[0]);
	}
	return 0;
}
