// SPDX-License-Identifier: GPL-2.0
/*
 * Requests whose data goes through a bounce buffer of the backend, and why.
 *
 * usage: bounce zeroed DISK		reads of the disk succeed and fill nothing
 *	  bounce stable NAME=DISK	writes must be copied, reads need not be
 *	  bounce changed NAME=DISK	the disk has protection information
 *	  bounce repeated NAME=DISK	likewise
 *	  bounce blocks NAME=DISK	blocks of 4096 bytes, and no promise to take
 *					buffers that begin inside of one
 */
#define _GNU_SOURCE
#include <pthread.h>
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

static void test_stable(const char *name, const char *disk)
{
	enum { ROUNDS = 8 };
	struct fixture f;
	uint8_t *data;
	int i;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, BYTES, 4096);
	fill(data, BYTES, 1);
	for (i = 0; i < ROUNDS; i++)
		if (simple(&f, 0, VIRTIO_BLK_T_OUT, 0, data, BYTES, NULL))
			break;
	tap_equal(vhost_client_counter(&f.c, 0, "bounced"), ROUNDS,
		  "%s: writes are copied", name);
	for (i = 0; i < ROUNDS; i++)
		if (simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, BYTES, NULL))
			break;
	tap_equal(vhost_client_counter(&f.c, 0, "bounced"), ROUNDS,
		  "%s: reads are not", name);
	tap_ok(pieces_match(&f, 100, 4096, 8192, false),
	       "%s: longer writes than a buffer", name);
	tear_down(&f);
}

/* A part of a write that a thread goes on changing. */
struct changing {
	uint8_t *data;
	size_t bytes;
	volatile bool end;
};

static void *change(void *arg)
{
	struct changing *changing = arg;
	size_t i;

	while (!changing->end)
		for (i = 0; i < changing->bytes; i += 61)
			changing->data[i]++;
	return NULL;
}

/* What the answers say is in @statuses. */
static void send_writes(struct fixture *f, unsigned int num, uint8_t *data,
			struct virtio_blk_outhdr *hdrs, uint8_t *statuses)
{
	struct vhost_client_seg segs[3];
	unsigned int i;

	for (i = 0; i < num; i++) {
		hdrs[i].type = VIRTIO_BLK_T_OUT;
		hdrs[i].sector = i * (BYTES / SECTOR);
		statuses[i] = 0xee;
		segs[0] = (struct vhost_client_seg){ &hdrs[i], 16, false };
		segs[1] = (struct vhost_client_seg){ data + i * BYTES, BYTES, false };
		segs[2] = (struct vhost_client_seg){ &statuses[i], 1, true };
		if (vhost_client_add(&f->c, 0, segs, 3, NULL) < 0)
			tap_bail("ring too small");
	}
	vhost_client_kick(&f->c, 0, true);
}

static void test_changed(const char *name, const char *disk)
{
	enum { NUM = 32, ROUNDS = 10 };
	struct virtio_blk_outhdr *hdrs;
	struct changing changing = {};
	unsigned int round, good = 0;
	uint8_t *data, *statuses;
	struct fixture f;
	pthread_t thread;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, NUM * BYTES, 4096);
	hdrs = vhost_client_alloc(&f.c, NUM * sizeof(*hdrs), 16);
	statuses = vhost_client_alloc(&f.c, NUM, 1);
	changing.data = data;
	changing.bytes = NUM * BYTES;
	if (pthread_create(&thread, NULL, change, &changing))
		tap_bail("no thread");
	for (round = 0; round < ROUNDS; round++) {
		send_writes(&f, NUM, data, hdrs, statuses);
		if (take_answers(&f, NUM) < NUM)
			break;
		good += count_ok(statuses, NUM);
	}
	changing.end = true;
	pthread_join(thread, NULL);
	tap_equal(good, NUM * ROUNDS,
		  "%s: data that changes while it is written", name);
	for (round = 0, good = 0; round < NUM; round++)
		good += !simple(&f, 0, VIRTIO_BLK_T_IN, round * (BYTES / SECTOR),
				data, BYTES, NULL);
	tap_equal(good, NUM, "%s: and can be read", name);
	tear_down(&f);
}

/* A read of @num pieces of which all are the same page. */
static int read_repeated(struct fixture *f, unsigned int num, uint8_t *page,
			 struct vring_desc *table)
{
	struct vhost_client_seg segs[RING + 2];
	unsigned int i;

	f->hdr->type = VIRTIO_BLK_T_IN;
	f->hdr->sector = 0;
	segs[0] = (struct vhost_client_seg){ f->hdr, sizeof(*f->hdr), false };
	for (i = 1; i <= num; i++)
		segs[i] = (struct vhost_client_seg){ page, 4096, true };
	segs[i] = (struct vhost_client_seg){ f->status, 1, true };
	return request(f, 0, segs, num + 2, table, NULL);
}

static void test_repeated(const char *name, const char *disk)
{
	enum { NUM = 200, BLOCK = 4096 };
	static const unsigned int nums[] = { 2, 16, NUM };
	struct vring_desc *table;
	uint8_t *data, *page;
	struct fixture f;
	unsigned int i;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, NUM * BLOCK, 4096);
	page = vhost_client_alloc(&f.c, BLOCK, 4096);
	table = vhost_client_alloc(&f.c, (NUM + 2) * sizeof(*table), 16);
	fill(data, NUM * BLOCK, 7);
	if (simple(&f, 0, VIRTIO_BLK_T_OUT, 0, data, NUM * BLOCK, NULL))
		tap_bail("can't write");
	for (i = 0; i < sizeof(nums) / sizeof(*nums); i++) {
		tap_equal(read_repeated(&f, nums[i], page, table),
			  VIRTIO_BLK_S_OK,
			  "%s: a read of %u pieces that are one page", name, nums[i]);
		tap_ok(!memcmp(page, data + (nums[i] - 1) * BLOCK, BLOCK),
		       "%s: the last piece is in it", name);
	}
	tap_ok(pieces_match(&f, 200, 4096, 8192, false),
	       "%s: others get their data", name);
	tear_down(&f);
}

static void test_blocks(const char *name, const char *disk)
{
	struct fixture f;
	long long bounced;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_ok(pieces_match(&f, 8, 4096, 4096, false),
	       "%s: pieces that begin on a block", name);
	bounced = vhost_client_counter(&f.c, 0, "bounced");
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, vhost_client_alloc(&f.c, BYTES, 4096),
	       BYTES, NULL);
	tap_equal(vhost_client_counter(&f.c, 0, "bounced"), bounced,
		  "%s: they are not copied when they are read", name);
	tap_ok(pieces_match(&f, 8, 4096, 4096 + 512, false),
	       "%s: pieces that begin inside of a block", name);
	tap_ok(pieces_match(&f, 2, 64 << 10, (64 << 10) + 1536, false),
	       "%s: longer ones", name);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const char *name, const char *disk);
	} tests[] = {
		{ "stable", test_stable },
		{ "changed", test_changed },
		{ "repeated", test_repeated },
		{ "blocks", test_blocks },
	};
	unsigned int i;
	char *disk;

	if (argc == 3 && !strcmp(argv[1], "zeroed")) {
		test_zeroed(argv[2]);
		return tap_end();
	}
	for (i = 0; argc == 3 && i < sizeof(tests) / sizeof(*tests); i++) {
		disk = strchr(argv[2], '=');
		if (!disk || strcmp(argv[1], tests[i].name))
			continue;
		*disk++ = 0;
		tests[i].run(argv[2], disk);
		return tap_end();
	}
	tap_bail("usage: %s TEST [NAME=]DISK", argv[0]);
}
