/* SPDX-License-Identifier: GPL-2.0 */
/* The daemon as a child of the test, which is to end and to be started again. */
#ifndef USER_PROCESS_H
#define USER_PROCESS_H

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fixture.h"

/* A flag of /proc/net/unix: __SO_ACCEPTCON of the kernel. */
#define LISTENS	0x10000

/**
 * struct process - a daemon with four queues
 * @program: its path
 * @socket: where it listens
 * @disk: what it serves
 * @pid: of the last one that was started
 */
struct process {
	const char *program;
	const char *socket;
	const char *disk;
	pid_t pid;
};

static inline void start_daemon(struct process *daemon)
{
	char socket[256], disk[256];

	snprintf(socket, sizeof(socket), "--socket-path=%s", daemon->socket);
	snprintf(disk, sizeof(disk), "--blk-file=%s", daemon->disk);
	unlink(daemon->socket);
	daemon->pid = fork();
	if (daemon->pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (daemon->pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(daemon->program, daemon->program, socket, disk, "--num-queues=4", NULL);
	_exit(127);
}

static inline bool daemon_has_ended(const struct process *daemon)
{
	siginfo_t info = {};

	return !waitid(P_PID, daemon->pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
	       info.si_pid == daemon->pid;
}

/* After a signal. SIGTERM may come before the daemon handles it. */
static inline void bury_daemon(struct process *daemon)
{
	int status;

	if (waitpid(daemon->pid, &status, 0) != daemon->pid)
		tap_bail("waitpid: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		tap_bail("the daemon ended with status %d", WEXITSTATUS(status));
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM)
		tap_bail("the daemon ended by signal %d", WTERMSIG(status));
}

/* Whether a process listens at the socket. The file is there a moment earlier. */
static inline bool is_listening(const char *socket)
{
	FILE *sockets = fopen("/proc/net/unix", "re");
	unsigned int flags;
	bool found = false;
	char line[512];

	if (!sockets)
		tap_bail("/proc/net/unix: %s", strerror(errno));
	while (!found && fgets(line, sizeof(line), sockets))
		found = sscanf(line, "%*s %*s %*s %x", &flags) == 1 &&
			flags & LISTENS && strstr(line, socket);
	fclose(sockets);
	return found;
}

static inline void wait_for_daemon(const struct process *daemon)
{
	long end = vhost_client_now_ms() + TIMEOUT_MS;

	while (!is_listening(daemon->socket)) {
		if (daemon_has_ended(daemon) || vhost_client_now_ms() > end)
			tap_bail("the daemon doesn't start");
		usleep(1000);
	}
}

/* Connects again as soon as there is a socket, while the daemon lives. */
static inline int connect_daemon(const struct process *daemon, struct backend *b)
{
	long end = vhost_client_now_ms() + TIMEOUT_MS;
	int ret;

	do {
		ret = vhost_user_connect(&b->u);
		if (!ret)
			return 0;
		usleep(1000);
	} while (!daemon_has_ended(daemon) && vhost_client_now_ms() < end);
	return ret;
}

#endif
