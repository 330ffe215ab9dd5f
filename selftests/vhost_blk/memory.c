// SPDX-License-Identifier: GPL-2.0
/*
 * Requests while every allocation of the module fails: all are done, and no call waits
 * for the disk that need not.
 *
 * usage: memory data DISK PROBABILITY
 *	DISK		a block device that keeps its data and discards, 64 MiB or more
 *	PROBABILITY	a file that takes how many of a hundred allocations fail
 * usage: memory call ONE_TAG PROBABILITY
 *	ONE_TAG		a disk that needs some 100 ms for a request, and does one at a time
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fixture.h"

#define BLOCK		4096
#define BLOCK_SECTORS	(BLOCK / SECTOR)

static void set_percent(const char *probability, const char *percent)
{
	int fd = open(probability, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, percent, strlen(percent)) < 0)
		tap_bail("%s: %s", probability, strerror(errno));
	close(fd);
}

/* --- data --- */

/* Whether a request is answered with success; prints the answer otherwise. */
static bool succeeds(const char *name, int status)
{
	if (status != VIRTIO_BLK_S_OK)
		printf("# %s: status %d\n", name, status);
	return status == VIRTIO_BLK_S_OK;
}

/*
 * Discards every second block in one request. Returns whether just those are zero.
 * pieces_match() has written all blocks before, so the disk needs no memory.
 */
static bool discard_matches(struct fixture *f)
{
	enum { RANGES = 32, BLOCKS = 2 * RANGES };
	uint8_t *data = vhost_client_alloc(&f->c, BLOCKS * BLOCK, BLOCK);
	struct virtio_blk_discard_write_zeroes *ranges =
		vhost_client_alloc(&f->c, RANGES * sizeof(*ranges), 16);
	struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ ranges, RANGES * sizeof(*ranges), false },
		{ f->status, 1, true },
	};
	unsigned int i;
	bool ok;

	memset(data, 0x5a, BLOCKS * BLOCK);
	ok = succeeds("write", simple(f, 0, VIRTIO_BLK_T_OUT, PIECES_SECTOR, data, BLOCKS * BLOCK,
				      NULL));
	for (i = 0; i < RANGES; i++) {
		ranges[i].sector = PIECES_SECTOR + 2 * i * BLOCK_SECTORS;
		ranges[i].num_sectors = BLOCK_SECTORS;
		ranges[i].flags = 0;
	}
	f->hdr->type = VIRTIO_BLK_T_DISCARD;
	f->hdr->sector = 0;
	ok &= succeeds("discard", request(f, 0, segs, 3, NULL, NULL));
	ok &= succeeds("read", simple(f, 0, VIRTIO_BLK_T_IN, PIECES_SECTOR, data, BLOCKS * BLOCK,
				      NULL));
	for (i = 0; i < BLOCKS; i++) {
		if (data[i * BLOCK] == (i % 2 ? 0x5a : 0))
			continue;
		printf("# block %u begins with 0x%x\n", i, data[i * BLOCK]);
		ok = false;
	}
	return ok;
}

static void test_data(const char *disk, const char *probability)
{
	enum { MOST = 254, LONG = 1 << 20 };
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	/* The disk needs memory for what is written the first time. */
	if (!pieces_match(&f, 4, LONG, LONG, false))
		tap_bail("can't write");
	set_percent(probability, "100");
	tap_ok(pieces_match(&f, 20, BLOCK, 2 * BLOCK, false),
	       "data of 20 pages is right");
	tap_ok(pieces_match(&f, MOST, BLOCK, 2 * BLOCK, false),
	       "data of %u pages is right", MOST);
	tap_ok(pieces_match(&f, 4, LONG, LONG, false), "data of 4 MiB is right");
	tap_ok(discard_matches(&f), "of many ranges each is discarded, and nothing else");
	set_percent(probability, "0");
	tear_down(&f);
}

/* --- call --- */

/* How many reads the disk has done so far. */
static unsigned long reads_done(const struct fixture *f)
{
	unsigned long reads = 0;
	struct stat st = {};
	char path[64];
	FILE *file;

	fstat(f->disk, &st);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat", major(st.st_rdev),
		 minor(st.st_rdev));
	file = fopen(path, "re");
	if (!file || fscanf(file, "%lu", &reads) != 1)
		tap_bail("no %s", path);
	fclose(file);
	return reads;
}

/* Adds a read of @num pages that are not adjacent. */
static void add_scattered_read(struct fixture *f, unsigned int num, uint8_t *status)
{
	struct vhost_client_seg segs[RING] = { { f->hdr, sizeof(*f->hdr), false } };
	uint8_t *data = vhost_client_alloc(&f->c, 2 * num * BLOCK, BLOCK);
	unsigned int i;

	f->hdr->type = VIRTIO_BLK_T_IN;
	f->hdr->sector = 0;
	for (i = 0; i < num; i++)
		segs[i + 1] = (struct vhost_client_seg){ data + 2 * i * BLOCK, BLOCK, true };
	segs[num + 1] = (struct vhost_client_seg){ status, 1, true };
	if (vhost_client_add(&f->c, 0, segs, num + 2, NULL) < 0)
		tap_bail("ring too small");
}

static void test_call(const char *one_tag, const char *probability)
{
	enum { SMALL = 16, LARGE = 2, ALL = SMALL + LARGE, PAGES = 64 };
	struct vhost_vring_file call = {};
	struct vhost_vring_state state = {};
	struct fixture f;
	uint8_t *statuses;
	unsigned long reads;
	unsigned int i;

	set_up(&f, one_tag, O_RDWR, 1, ALL_FEATURES);
	/* The first access to a page of the guest can need memory, too. */
	memset(f.c.mem + f.c.mem_free, 0, f.c.mem_size - f.c.mem_free);
	statuses = vhost_client_alloc(&f.c, ALL, 1);
	memset(statuses, 0xee, ALL);
	add_reads(&f, SMALL, statuses);
	for (i = SMALL; i < ALL; i++)
		add_scattered_read(&f, PAGES, &statuses[i]);
	set_percent(probability, "100");
	vhost_client_kick(&f.c, 0, true);
	/* One of the large ones finds what the queue has in reserve. */
	await_in_flight(&f, 0, SMALL + 1);
	reads = reads_done(&f);
	call.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_SET_VRING_CALL, &call), 0,
		  "an eventfd is replaced while there is no memory and the disk has no free tag");
	vhost_client_ioctl(&f.c, VHOST_GET_VRING_BASE, &state);
	reads = reads_done(&f) - reads;
	if (!tap_ok(reads < SMALL / 4, "and no call waits for the disk that need not"))
		printf("# it has done %lu reads meanwhile\n", reads);
	close(f.c.queues[0].call_fd);
	f.c.queues[0].call_fd = call.fd;
	tap_equal(take_answers(&f, ALL), ALL, "every request is answered");
	tap_equal(count_ok(statuses, ALL), ALL, "with success");
	set_percent(probability, "0");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	const char *test = argc == 4 ? argv[1] : "";

	if (!strcmp(test, "data"))
		test_data(argv[2], argv[3]);
	else if (!strcmp(test, "call"))
		test_call(argv[2], argv[3]);
	else
		tap_bail("usage: %s data|call DISK PROBABILITY", argv[0]);
	return tap_end();
}
