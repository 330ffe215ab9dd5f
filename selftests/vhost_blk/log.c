// SPDX-License-Identifier: GPL-2.0
/*
 * The dirty log: the pages that the device marks are those that it changed, no
 * page less and none more, whatever the requests are.
 *
 * usage: log DISK
 *	DISK	a block device that may be overwritten, 64 MiB or more
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

#define PAGE		VHOST_CLIENT_LOG_PAGE
#define BATCH		8
#define MAX_SEGS	24
#define DISK_SECTORS	4096

static uint32_t seed = 1;

static uint32_t random_below(uint32_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % limit;
}

/* What is known before and after of the memory that the device may write. */
struct watch {
	struct fixture f;
	uint8_t *before;
	unsigned long *logged;
	uint8_t *arena;
	size_t arena_bytes;
};

static bool page_is_drivers(struct watch *w, size_t page)
{
	struct vring *vring = &w->f.c.queues[0].vring;
	size_t first = ((uint8_t *)vring->desc - w->f.c.mem) / PAGE;
	size_t last = ((uint8_t *)vring->used - w->f.c.mem - 1) / PAGE;

	return page >= first && page <= last;
}

static void open_watch(struct watch *w, const char *disk, bool iotlb)
{
	struct vhost_client *c = &w->f.c;

	memset(w, 0, sizeof(*w));
	set_up_bound(&w->f, disk, O_RDWR, 1);
	if (iotlb && vhost_client_use_iotlb(c, PAGE))
		tap_bail("no IOTLB");
	set_up_running(&w->f, 1, ALL_FEATURES);
	if (vhost_client_log_start(c))
		tap_bail("the dirty log can't be started");
	w->before = malloc(c->mem_size);
	w->logged = calloc(1, c->log_bytes);
	w->arena_bytes = 8 << 20;
	w->arena = vhost_client_alloc(c, w->arena_bytes, PAGE);
}

static void close_watch(struct watch *w)
{
	free(w->before);
	free(w->logged);
	tear_down(&w->f);
}

/* From here on changes count. */
static void begin(struct watch *w)
{
	vhost_client_log_take(&w->f.c, w->logged);
	memset(w->logged, 0, w->f.c.log_bytes);
	memcpy(w->before, w->f.c.mem, w->f.c.mem_size);
}

/* The pages of guest memory that only one of the two knows of, now. */
static unsigned int compare_now(struct watch *w, unsigned int *missing)
{
	struct vhost_client *c = &w->f.c;
	unsigned int more = 0;
	size_t page;

	vhost_client_log_take(c, w->logged);
	*missing = 0;
	for (page = 0; page < c->mem_size / PAGE; page++) {
		bool changed = memcmp(w->before + page * PAGE,
				      c->mem + page * PAGE, PAGE);
		bool logged = vhost_client_log_test(c, w->logged,
						    c->mem + page * PAGE);

		if (page_is_drivers(w, page))
			changed = false;
		*missing += changed && !logged;
		more += logged && !changed;
	}
	return more;
}

/*
 * The page of the used ring is marked after its index was written, which is what
 * a driver sees.
 */
static unsigned int compare(struct watch *w, unsigned int *missing)
{
	unsigned int more = 0, i;

	for (i = 0; i < 100u * limit_factor(); i++) {
		more = compare_now(w, missing);
		if (!*missing)
			break;
		usleep(1000);
	}
	return more;
}

/*
 * Waits for @num answers without writing into the ring, then takes them. Returns
 * whether all came.
 */
static bool wait_for(struct watch *w, unsigned int num)
{
	struct vhost_client_queue *q = &w->f.c.queues[0];
	uint16_t want = q->last_used + num;
	int i;

	for (i = 0; i < TIMEOUT_MS * 10; i++) {
		if (__atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) == want)
			return true;
		if (w->f.c.iotlb)
			vhost_client_iotlb_serve(&w->f.c, 0);
		usleep(100);
	}
	return false;
}

static void take(struct watch *w, unsigned int num)
{
	while (num--)
		if (vhost_client_get_used(&w->f.c, 0, NULL, 0) < 0)
			tap_bail("an answer is missing");
}

struct chain {
	struct vhost_client_seg segs[MAX_SEGS + 2];
	unsigned int num;
};

/*
 * A request of random type, size and shape, with its data at a random place of
 * its part of the arena. Nothing in there is like what is on the disk, so that
 * every page that is written changes.
 */
static void make_random(struct chain *chain, uint8_t *arena, size_t bytes)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
		VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 4711
	};
	struct vhost_client_seg *segs = chain->segs;
	struct virtio_blk_outhdr *hdr = (void *)arena;
	uint32_t type = types[random_below(6)];
	size_t pos = 2 * PAGE + random_below(2 * PAGE);
	unsigned int num = 1, want, sectors = 0;

	memset(arena, 0xa5, bytes);
	hdr->type = type;
	hdr->ioprio = 0;
	hdr->sector = random_below(DISK_SECTORS - MAX_SEGS * 24);
	segs[0] = (struct vhost_client_seg){ hdr, sizeof(*hdr), false };
	want = type == VIRTIO_BLK_T_FLUSH ? 0 : random_below(MAX_SEGS);
	while (num <= want) {
		uint32_t len = SECTOR * (1 + random_below(24));

		if (type == VIRTIO_BLK_T_GET_ID)
			len = VIRTIO_BLK_ID_BYTES + random_below(PAGE);
		segs[num++] = (struct vhost_client_seg){
			arena + pos, len, type != VIRTIO_BLK_T_OUT
		};
		/* A read of it by another request must be a change there. */
		if (type == VIRTIO_BLK_T_OUT)
			memset(arena + pos, 0x5a, len);
		sectors += len / SECTOR;
		pos += len + random_below(3) * random_below(PAGE);
		if (type == VIRTIO_BLK_T_GET_ID)
			break;
	}
	pos += random_below(2 * PAGE);
	arena[pos] = 0xee;
	segs[num++] = (struct vhost_client_seg){ arena + pos, 1, true };
	chain->num = num;
}

/*
 * Changes count from before the device can see a chain: it may look at the ring
 * without having been kicked.
 */
static void begin_with(struct watch *w, const struct chain *chains,
		       unsigned int num)
{
	unsigned int i;

	begin(w);
	for (i = 0; i < num; i++)
		vhost_client_add(&w->f.c, 0, chains[i].segs, chains[i].num, NULL);
	vhost_client_kick(&w->f.c, 0, true);
	if (!wait_for(w, num))
		tap_bail("no answer");
}

static void test_random(const char *disk, bool iotlb, unsigned int rounds)
{
	const char *mode = iotlb ? "with an IOTLB" : "by guest address";
	unsigned int round, i, more = 0, missing = 0, part;
	struct chain chains[BATCH];
	struct watch w;

	open_watch(&w, disk, iotlb);
	part = w.arena_bytes / BATCH;
	for (round = 0; round < rounds && !more && !missing; round++) {
		unsigned int num = 1 + random_below(BATCH);

		for (i = 0; i < num; i++)
			make_random(&chains[i], w.arena + i * part, part);
		begin_with(&w, chains, num);
		more = compare(&w, &missing);
		take(&w, num);
	}
	if (!tap_ok(!missing, "%s: every page that %u rounds change is logged",
		    mode, round))
		printf("# %u pages of the last are not\n", missing);
	if (!tap_ok(!more, "%s: and no other page", mode))
		printf("# %u more pages of the last are\n", more);
	close_watch(&w);
}

/* One read, into fresh memory: whether it was logged exactly. */
static bool one_read(struct watch *w)
{
	unsigned int missing, more;
	struct chain chain = {
		.segs = {
			{ w->f.hdr, sizeof(*w->f.hdr), false },
			{ w->arena, 3 * PAGE, true },
			{ w->f.status, 1, true },
		},
		.num = 3,
	};

	memset(w->arena, random_below(255) | 1, 3 * PAGE);
	w->f.hdr->type = VIRTIO_BLK_T_IN;
	w->f.hdr->sector = 0;
	*w->f.status = 0xee;
	begin_with(w, &chain, 1);
	more = compare(w, &missing);
	take(w, 1);
	if (missing || more || *w->f.status)
		printf("# status %u, %u pages too few, %u too many\n",
		       *w->f.status, missing, more);
	return !missing && !more && !*w->f.status;
}

static void test_switch(const char *disk)
{
	struct watch w;

	open_watch(&w, disk, false);
	tap_ok(one_read(&w), "a read is logged");
	tap_equal(vhost_client_log_stop(&w.f.c), 0,
		  "the log can be stopped while running");
	w.f.hdr->type = VIRTIO_BLK_T_IN;
	memset(w.arena, 1, PAGE);
	tap_equal(simple(&w.f, 0, VIRTIO_BLK_T_IN, 0, w.arena, PAGE, NULL),
		  VIRTIO_BLK_S_OK, "and reads go on");
	tap_equal(vhost_client_log_start(&w.f.c), 0, "and started again");
	tap_ok(one_read(&w), "and then reads are logged");
	vhost_client_run(&w.f.c, false);
	vhost_client_run(&w.f.c, true);
	tap_ok(one_read(&w), "also after a stop and a start");
	close_watch(&w);
}

/* Reads that begin before the log does are over when it has begun. */
static void test_switch_in_flight(const char *disk)
{
	enum { NUM = 64 };
	struct fixture f;
	uint8_t *statuses;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	statuses = send_reads(&f, NUM);
	vhost_client_log_start(&f.c);
	take_answers(&f, NUM);
	tap_equal(count_ok(statuses, NUM), NUM,
		  "requests in flight survive the start of the log");
	tear_down(&f);
}

static void test_refused(const char *disk)
{
	struct fixture f;
	uint64_t features, nowhere = 1ULL << 63;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_ioctl(&f.c, VHOST_SET_LOG_BASE, &nowhere);
	features = f.c.features | 1ULL << VHOST_F_LOG_ALL;
	tap_equal(vhost_client_ioctl(&f.c, VHOST_SET_FEATURES, &features), -EFAULT,
		  "a log outside of the owner's memory is refused");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	char sector[SECTOR];
	int fd, i;

	if (argc != 2)
		tap_bail("usage: %s DISK", argv[0]);
	/* Nothing of this is in a guest's memory. */
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	for (i = 0; i < DISK_SECTORS; i++) {
		memset(sector, 0x40 + i % 32, sizeof(sector));
		if (fd < 0 || write(fd, sector, SECTOR) != SECTOR)
			tap_bail("%s: %s", argv[1], strerror(errno));
	}
	fsync(fd);
	close(fd);

	test_random(argv[1], false, 300);
	test_random(argv[1], true, 100);
	test_switch(argv[1]);
	test_switch_in_flight(argv[1]);
	test_refused(argv[1]);
	return tap_end();
}
