/* SPDX-License-Identifier: GPL-2.0 */
/* The command line. */
#ifndef VHOST_BLKD_OPTIONS_H
#define VHOST_BLKD_OPTIONS_H

#include <stdbool.h>

/**
 * struct options - the command line
 * @socket_path: path of the socket to listen on, of 1 to MAX_SOCKET_PATH bytes; NULL with @fd
 * @fd: a listening or connected socket; -1 with @socket_path
 * @blk_file: path of the block device
 * @serial: serial number of at most VHOST_BLK_SERIAL_BYTES, or NULL
 * @vhost_fd: an open /dev/vhost-blk, or -1
 * @num_queues: number of request queues
 * @poll_us: busy polling time of a worker before it sleeps, in microseconds
 * @read_only: refuse writes
 * @share_rw: do not claim the block device
 * @worker_per_virtqueue: use one kernel thread per ring
 * @pin_memory: keep guest memory pinned
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
	bool pin_memory;
};

/* Ends the process for --help, --version and wrong arguments. */
void options_parse(struct options *options, int argc, char **argv);

#endif
