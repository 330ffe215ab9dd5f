// SPDX-License-Identifier: GPL-2.0
/*
 * The command line. Some options are those of QEMU's conventions for vhost-user back ends.
 * The others are this device's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/vhost_blk.h>

#include "log.h"
#include "options.h"
#include "transport.h"

#define MAX_POLL_US	1000000

/* Exit status for a wrong argument. The unit tells systemd not to restart then. */
#define EXIT_USAGE	2

enum {
	OPTION_SOCKET_PATH = 256,
	OPTION_FD,
	OPTION_BLK_FILE,
	OPTION_READ_ONLY,
	OPTION_PRINT_CAPABILITIES,
	OPTION_NUM_QUEUES,
	OPTION_SERIAL,
	OPTION_POLL_US,
	OPTION_WORKER_PER_VIRTQUEUE,
	OPTION_PIN_MEMORY,
	OPTION_SHARE_RW,
	OPTION_VHOST_FD,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{ "socket-path", required_argument, NULL, OPTION_SOCKET_PATH },
	{ "fd", required_argument, NULL, OPTION_FD },
	{ "blk-file", required_argument, NULL, OPTION_BLK_FILE },
	{ "read-only", no_argument, NULL, OPTION_READ_ONLY },
	{ "print-capabilities", no_argument, NULL, OPTION_PRINT_CAPABILITIES },
	{ "num-queues", required_argument, NULL, OPTION_NUM_QUEUES },
	{ "serial", required_argument, NULL, OPTION_SERIAL },
	{ "poll-us", required_argument, NULL, OPTION_POLL_US },
	{ "worker-per-virtqueue", no_argument, NULL,
	  OPTION_WORKER_PER_VIRTQUEUE },
	{ "pin-memory", no_argument, NULL, OPTION_PIN_MEMORY },
	{ "share-rw", no_argument, NULL, OPTION_SHARE_RW },
	{ "vhost-fd", required_argument, NULL, OPTION_VHOST_FD },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{}
};

static const char usage[] =
"Usage: vhost-blkd --socket-path=PATH --blk-file=DEVICE [OPTION...]\n"
"Serves a block device to a virtual machine: a vhost-user-blk back end whose\n"
"requests the host kernel handles (/dev/vhost-blk).\n"
"\n"
"  --socket-path=PATH      listen on a Unix socket\n"
"  --fd=N                  use a socket that is open, listening or connected\n"
"  --blk-file=DEVICE       the block device\n"
"  --read-only             the guest may not write\n"
"  --num-queues=N          request queues, 1 to 256 (processors online)\n"
"  --serial=TEXT           serial number of the disk, at most 20 bytes\n"
"  --poll-us=N             a worker looks for new requests for N microseconds\n"
"                          before it sleeps (0)\n"
"  --worker-per-virtqueue  a kernel thread for each queue instead of one\n"
"  --pin-memory            keep the guest's memory pinned: requests cost less\n"
"  --share-rw              others may have the block device open as well\n"
"  --vhost-fd=N            use an open /dev/vhost-blk\n"
"  --print-capabilities    print what this back end can do, in JSON\n"
"  --version, --help\n";

static void __attribute__((noreturn)) refuse(void)
{
	say("try: vhost-blkd --help");
	exit(EXIT_USAGE);
}

static unsigned int parse_number(const char *option, const char *text,
				 unsigned int min, unsigned int max)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < min ||
	    value > max) {
		say("--%s=%s: not a number between %u and %u", option, text,
		    min, max);
		refuse();
	}
	return value;
}

static int parse_fd(const char *option, const char *text)
{
	int fd = parse_number(option, text, 0, 1U << 20);

	if (fcntl(fd, F_GETFD) < 0) {
		say("--%s=%s: no such descriptor is open", option, text);
		exit(EXIT_USAGE);
	}
	return fd;
}

static const char *parse_socket_path(const char *text)
{
	if (!*text || strlen(text) > MAX_SOCKET_PATH) {
		say("--socket-path=%s: the path has to have 1 to %zu bytes", text,
		    MAX_SOCKET_PATH);
		refuse();
	}
	return text;
}

static const char *parse_serial(const char *text)
{
	if (strlen(text) > VHOST_BLK_SERIAL_BYTES) {
		say("--serial=%s: longer than %u bytes", text,
		    VHOST_BLK_SERIAL_BYTES);
		refuse();
	}
	return text;
}

static void __attribute__((noreturn)) print_and_exit(const char *text)
{
	fputs(text, stdout);
	exit(fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS);
}

static void parse_option(struct options *options, int option)
{
	switch (option) {
	case OPTION_SOCKET_PATH:
		options->socket_path = parse_socket_path(optarg);
		break;
	case OPTION_FD:
		options->fd = parse_fd("fd", optarg);
		break;
	case OPTION_BLK_FILE:
		options->blk_file = optarg;
		break;
	case OPTION_READ_ONLY:
		options->read_only = true;
		break;
	case OPTION_NUM_QUEUES:
		options->num_queues = parse_number("num-queues", optarg, 1,
						   VHOST_BLK_MAX_QUEUES);
		break;
	case OPTION_SERIAL:
		options->serial = parse_serial(optarg);
		break;
	case OPTION_POLL_US:
		options->poll_us = parse_number("poll-us", optarg, 0,
						MAX_POLL_US);
		break;
	case OPTION_WORKER_PER_VIRTQUEUE:
		options->worker_per_virtqueue = true;
		break;
	case OPTION_PIN_MEMORY:
		options->pin_memory = true;
		break;
	case OPTION_SHARE_RW:
		options->share_rw = true;
		break;
	case OPTION_VHOST_FD:
		options->vhost_fd = parse_fd("vhost-fd", optarg);
		break;
	case OPTION_HELP:
		print_and_exit(usage);
	case OPTION_VERSION:
		print_and_exit("vhost-blkd " VERSION "\n");
	default:
		refuse();
	}
}

static void check_options(const struct options *options)
{
	if (!options->socket_path && options->fd < 0) {
		say("where to serve is missing: --socket-path=PATH or --fd=N");
		refuse();
	}
	if (options->socket_path && options->fd >= 0) {
		say("--socket-path and --fd exclude each other");
		refuse();
	}
	if (options->fd >= 0 && !socket_is_stream(options->fd)) {
		say("--fd=%d: not a Unix stream socket", options->fd);
		refuse();
	}
	if (!options->blk_file || !*options->blk_file) {
		say("the block device is missing: --blk-file=DEVICE");
		refuse();
	}
}

static unsigned int default_queues(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (online < 1)
		return 1;
	return online < VHOST_BLK_MAX_QUEUES ? online : VHOST_BLK_MAX_QUEUES;
}

/* With --print-capabilities all other arguments are ignored, even invalid ones. */
static bool wants_capabilities(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--print-capabilities"))
			return true;
	return false;
}

void options_parse(struct options *options, int argc, char **argv)
{
	int option;

	if (wants_capabilities(argc, argv))
		print_and_exit("{\n"
			       "  \"type\": \"block\",\n"
			       "  \"features\": [ \"read-only\", \"blk-file\" ]\n"
			       "}\n");

	*options = (struct options){
		.fd = -1,
		.vhost_fd = -1,
		.num_queues = default_queues(),
	};
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		parse_option(options, option);
	if (optind < argc) {
		say("%s: not an option", argv[optind]);
		refuse();
	}
	check_options(options);
}
