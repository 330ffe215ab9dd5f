// SPDX-License-Identifier: GPL-2.0
/*
 * Requests whose data goes through a bounce buffer of the backend, and why.
 *
 * usage: bounce zeroed DISK		reads of the disk succeed and fill nothing
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fixture.h"

#define BYTES	(64 << 10)

/* Leaves much of the machine's free memory with something in it. */
static void soil_memory(void)
{
	size_t bytes = 512 << 20;
	pid_t pid = fork();

	if (!pid) {
		void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory != MAP_FAILED)
			memset(memory, 0xaa, bytes);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* A page that the disk left alone must not show what was in it before. */
static void test_zeroed(const char *disk)
{
	enum { ROUNDS = 64 };
	unsigned int round, i, good = 0;
	size_t leaked = 0;
	struct fixture f;
	uint8_t *data;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = (uint8_t *)vhost_client_alloc(&f.c, BYTES + 1, 4096) + 1;
	soil_memory();
	for (round = 0; round < ROUNDS; round++) {
		memset(data, 0x55, BYTES);
		good += simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, BYTES, NULL) ==
			VIRTIO_BLK_S_OK;
		for (i = 0; i < BYTES; i++)
			leaked += !!data[i];
	}
	tap_ok(good == ROUNDS &&
	       vhost_client_counter(&f.c, 0, "bounced") == ROUNDS,
	       "reads at an odd address go through a buffer");
	tap_equal(leaked, 0, "what the disk doesn't fill is zero");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], "zeroed"))
		tap_bail("usage: %s zeroed DISK", argv[0]);
	test_zeroed(argv[2]);
	return tap_end();
}
