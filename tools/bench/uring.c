// SPDX-License-Identifier: GPL-2.0
/* A lean io_uring: see uring.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uring.h"

struct uring {
	int ring;
	bool fixed_buffer;
	/* Entries that the kernel has not been told of. */
	unsigned int added;
	unsigned int *sq_tail, *sq_array, sq_mask;
	unsigned int *cq_head, *cq_tail, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	void *rings;
	size_t rings_size, sqes_size;
};

static int map_rings(struct uring *u, const struct io_uring_params *p)
{
	size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned int);
	size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(*u->cqes);

	u->rings_size = sq > cq ? sq : cq;
	u->sqes_size = p->sq_entries * sizeof(*u->sqes);
	u->rings = mmap(NULL, u->rings_size, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_POPULATE, u->ring, IORING_OFF_SQ_RING);
	u->sqes = mmap(NULL, u->sqes_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, u->ring, IORING_OFF_SQES);
	if (u->rings == MAP_FAILED || u->sqes == MAP_FAILED)
		return -1;
	u->sq_tail = u->rings + p->sq_off.tail;
	u->sq_array = u->rings + p->sq_off.array;
	u->sq_mask = p->sq_entries - 1;
	u->cq_head = u->rings + p->cq_off.head;
	u->cq_tail = u->rings + p->cq_off.tail;
	u->cq_mask = p->cq_entries - 1;
	u->cqes = u->rings + p->cq_off.cqes;
	return 0;
}

static int register_all(struct uring *u, int fd, const struct iovec *buffer)
{
	if (syscall(SYS_io_uring_register, u->ring, IORING_REGISTER_FILES, &fd, 1))
		return -1;
	if (!buffer)
		return 0;
	u->fixed_buffer = true;
	return syscall(SYS_io_uring_register, u->ring, IORING_REGISTER_BUFFERS,
		       buffer, 1);
}

struct uring *uring_open(int fd, unsigned int depth, const struct iovec *buffer,
			 bool poll)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 (poll ? IORING_SETUP_IOPOLL : 0),
	};
	struct uring *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->ring = syscall(SYS_io_uring_setup, depth, &p);
	if (u->ring < 0)
		goto err_free;
	if (map_rings(u, &p) || register_all(u, fd, buffer))
		goto err_close;
	return u;

err_close:
	close(u->ring);
err_free:
	free(u);
	return NULL;
}

void uring_close(struct uring *u)
{
	munmap(u->rings, u->rings_size);
	munmap(u->sqes, u->sqes_size);
	close(u->ring);
	free(u);
}

void uring_prepare(struct uring *u, unsigned int tag, bool write, void *data,
		   uint32_t bytes)
{
	struct io_uring_sqe *sqe = &u->sqes[tag];

	memset(sqe, 0, sizeof(*sqe));
	if (u->fixed_buffer)
		sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
	else
		sqe->opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->addr = (uintptr_t)data;
	sqe->len = bytes;
	sqe->user_data = tag;
}

void uring_add(struct uring *u, unsigned int tag, uint64_t offset)
{
	unsigned int tail = *u->sq_tail;

	u->sqes[tag].off = offset;
	u->sq_array[tail & u->sq_mask] = tag;
	__atomic_store_n(u->sq_tail, tail + 1, __ATOMIC_RELEASE);
	u->added++;
}

int uring_enter(struct uring *u)
{
	long ret = syscall(SYS_io_uring_enter, u->ring, u->added, 1,
			   IORING_ENTER_GETEVENTS, NULL, 0);

	if (ret < 0)
		return -errno;
	u->added -= ret;
	return 0;
}

bool uring_get(struct uring *u, unsigned int *tag, int32_t *result)
{
	unsigned int head = *u->cq_head;
	struct io_uring_cqe *cqe = &u->cqes[head & u->cq_mask];

	if (head == __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE))
		return false;
	*tag = cqe->user_data;
	*result = cqe->res;
	__atomic_store_n(u->cq_head, head + 1, __ATOMIC_RELEASE);
	return true;
}
