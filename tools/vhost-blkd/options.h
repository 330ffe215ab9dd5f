/* SPDX-License-Identifier: GPL-2.0 */
/* The command line. */
#ifndef VHOST_BLKD_OPTIONS_H
#define VHOST_BLKD_OPTIONS_H

#include <stdbool.h>

/**
 * struct options - what the user wants
 * @socket_path: where to listen, or NULL for @fd
 * @fd: a socket that listens or is connected, or -1 for @socket_path
 * @blk_file: the block device
 * @serial: at most VHOST_BLK_SERIAL_BYTES
 * @vhost_fd: an open /dev/vhost-blk, or -1
 * @num_queues: of the device
 * @poll_us: how long a worker looks for more before it sleeps, in microseconds
 * @read_only: refuse writes
 * @share_rw: do not claim the block device
 * @worker_per_virtqueue: a kernel thread for each ring
 */
struct options {
	const char *socket_path;
	int fd;
	const char *blk_file;
	const char *serial;
	int vhost_fd;
	unsigned int num_queues;
	unsigned int poll_us;
	bool read_only;
	bool share_rw;
	bool worker_per_virtqueue;
};

/* Ends the process where there is nothing to serve: --help, a wrong argument. */
void options_parse(struct options *options, int argc, char **argv);

#endif
