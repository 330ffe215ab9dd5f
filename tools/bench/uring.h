/* SPDX-License-Identifier: GPL-2.0 */
/*
 * As little of an io_uring as it takes to read and write a file: what a program
 * pays that asks the kernel for I/O without a virtqueue in between.
 */
#ifndef URING_H
#define URING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct uring;

/*
 * NULL, with errno. The file is registered, so that the kernel needn't look it up.
 * With @buffer, memory that all data is in, so is that, and its pages stay pinned:
 * what a program can do with memory of its own, and not with all of a guest's.
 * With @poll a wait polls the device, which has to have poll queues, for the end of
 * requests.
 */
struct uring *uring_open(int fd, unsigned int depth, const struct iovec *buffer,
			 bool poll);
void uring_close(struct uring *u);

/*
 * Writes the entry of a request, of which only the offset changes from one time to
 * the next. Tags are less than the depth.
 */
void uring_prepare(struct uring *u, unsigned int tag, bool write, void *data,
		   uint32_t bytes);
void uring_add(struct uring *u, unsigned int tag, uint64_t offset);
/* One system call: starts what was added and waits until one has ended. */
int uring_enter(struct uring *u);
/* Takes one that has ended: what it returned. False if there is none. */
bool uring_get(struct uring *u, unsigned int *tag, int32_t *result);

#endif
