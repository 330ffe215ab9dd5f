// SPDX-License-Identifier: GPL-2.0
/*
 * Appends blocks to a zone, several at a time, and looks whether each is where the
 * answer said. No call of a block device appends; of an NVMe namespace one does, so it
 * takes one that the kernel's NVMe target makes of the zoned disk.
 *
 * usage: append NAMESPACE SECTOR
 *	of an empty zone's beginning
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/nvme_ioctl.h>

#define SECTOR_SIZE	512
#define BLOCK_SECTORS	8
#define BLOCK_SIZE	(BLOCK_SECTORS * SECTOR_SIZE)
#define THREADS		8
#define BLOCKS		8	/* of a thread */
#define NVME_ZONE_APPEND	0x7d

static int fd;
static int nsid;
static uint64_t zone;
static uint64_t where[THREADS][BLOCKS];

/* What block "number" of a thread is full of: never 0. */
static uint64_t content(int thread, int number)
{
	return 0x6170706e00000000 | thread << 8 | number;
}

static void fill(uint64_t *block, uint64_t value)
{
	size_t i;

	for (i = 0; i < BLOCK_SIZE / sizeof(*block); i++)
		block[i] = value;
}

static uint64_t *new_block(void)
{
	void *block;

	if (posix_memalign(&block, BLOCK_SIZE, BLOCK_SIZE))
		err(1, "no memory");
	return block;
}

static uint64_t append(uint64_t *block)
{
	struct nvme_passthru_cmd64 cmd = {
		.opcode = NVME_ZONE_APPEND,
		.nsid = nsid,
		.addr = (uintptr_t)block,
		.data_len = BLOCK_SIZE,
		.cdw10 = (uint32_t)zone,
		.cdw11 = zone >> 32,
		.cdw12 = BLOCK_SECTORS - 1,
	};
	int status = ioctl(fd, NVME_IOCTL_IO64_CMD, &cmd);

	if (status < 0)
		err(1, "append");
	if (status)
		errx(1, "append: status %#x", status);
	return cmd.result;
}

static void *append_all(void *arg)
{
	int i, thread = (uintptr_t)arg;
	uint64_t *block = new_block();

	for (i = 0; i < BLOCKS; i++) {
		fill(block, content(thread, i));
		where[thread][i] = append(block);
	}
	free(block);
	return NULL;
}

/* A block of the zone that is no other's, with what was appended. */
static void check(int thread, int i, uint64_t *block, uint64_t *wanted)
{
	static unsigned char used[THREADS * BLOCKS];
	uint64_t place = where[thread][i] - zone;

	if (place % BLOCK_SECTORS || place / BLOCK_SECTORS >= sizeof(used))
		errx(1, "block %d of thread %d is at %llu", i, thread,
		     (unsigned long long)where[thread][i]);
	if (used[place / BLOCK_SECTORS]++)
		errx(1, "two blocks are at %llu",
		     (unsigned long long)where[thread][i]);
	if (pread(fd, block, BLOCK_SIZE, where[thread][i] * SECTOR_SIZE) !=
	    BLOCK_SIZE)
		err(1, "read");
	fill(wanted, content(thread, i));
	if (memcmp(block, wanted, BLOCK_SIZE))
		errx(1, "at %llu is %#llx instead of %#llx",
		     (unsigned long long)where[thread][i],
		     (unsigned long long)block[0],
		     (unsigned long long)wanted[0]);
}

int main(int argc, char **argv)
{
	uint64_t *block = new_block(), *wanted = new_block();
	pthread_t threads[THREADS];
	int i, thread;

	if (argc != 3)
		errx(2, "usage: %s NAMESPACE SECTOR", argv[0]);
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0)
		err(1, "%s", argv[1]);
	nsid = ioctl(fd, NVME_IOCTL_ID);
	if (nsid < 0)
		err(1, "%s is no NVMe namespace", argv[1]);
	zone = strtoull(argv[2], NULL, 0);

	for (thread = 0; thread < THREADS; thread++)
		if (pthread_create(&threads[thread], NULL, append_all,
				   (void *)(uintptr_t)thread))
			errx(1, "no thread");
	for (thread = 0; thread < THREADS; thread++)
		pthread_join(threads[thread], NULL);

	for (thread = 0; thread < THREADS; thread++)
		for (i = 0; i < BLOCKS; i++)
			check(thread, i, block, wanted);
	printf("%d blocks in %d sectors\n", THREADS * BLOCKS,
	       THREADS * BLOCKS * BLOCK_SECTORS);
	return 0;
}
