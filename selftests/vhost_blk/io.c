// SPDX-License-Identifier: GPL-2.0
/*
 * Requests through the rings of /dev/vhost-blk, legal and not, and what becomes
 * of them when the device stops.
 *
 * usage: io DISK SLOW LARGE
 *	DISK	a block device that may be overwritten, 64 MiB or more
 *	SLOW	one that needs milliseconds for a request
 *	LARGE	one with logical blocks of 4096 bytes, for whose DMA an address
 *		need only be a multiple of four
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

static void test_types(const char *disk)
{
	struct vhost_client_seg segs[3];
	uint8_t *out, *in, *direct;
	struct fixture f;
	uint32_t len;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	out = vhost_client_alloc(&f.c, 4096, 4096);
	in = vhost_client_alloc(&f.c, 4096, 4096);
	direct = vhost_client_alloc(&f.c, 4096, 4096);
	fill(out, 4096, 1);

	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, 80, out, 4096, &len),
		  VIRTIO_BLK_S_OK, "a write succeeds");
	tap_equal(len, 1, "its used length is the status");
	tap_ok(pread(f.disk, direct, 4096, 80 * SECTOR) == 4096 &&
	       !memcmp(out, direct, 4096), "its data is on the disk");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 80, in, 4096, &len),
		  VIRTIO_BLK_S_OK, "a read succeeds");
	tap_equal(len, 4097, "its used length is data and status");
	tap_ok(!memcmp(out, in, 4096), "its data is what was written");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &len),
		  VIRTIO_BLK_S_OK, "a flush succeeds");

	memset(in, 0xff, 32);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_GET_ID, 0, in,
			 VIRTIO_BLK_ID_BYTES, &len),
		  VIRTIO_BLK_S_OK, "GET_ID succeeds");
	tap_ok(!strcmp((char *)in, SERIAL), "it answers the serial");
	tap_equal(len, VIRTIO_BLK_ID_BYTES + 1,
		  "its used length is serial and status");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_GET_ID, 0, in, 64, &len),
		  VIRTIO_BLK_S_OK, "GET_ID with room for more succeeds");
	tap_equal(len, VIRTIO_BLK_ID_BYTES, "its used length is the serial alone");
	tap_equal(simple(&f, 0, 4711, 0, NULL, 0, &len), VIRTIO_BLK_S_UNSUPP,
		  "an unknown type is unsupported");
	tap_equal(len, 1, "its used length is the status");
	tap_equal(simple(&f, 0, 4711, 0, in, 512, &len), VIRTIO_BLK_S_UNSUPP,
		  "so it is with data to read");
	segs[0] = (struct vhost_client_seg){ f.hdr, sizeof(*f.hdr), false };
	segs[1] = (struct vhost_client_seg){ out, 16, false };
	segs[2] = (struct vhost_client_seg){ f.status, 1, true };
	f.hdr->type = VIRTIO_BLK_T_DISCARD;
	tap_equal(request(&f, 0, segs, 3, NULL, &len), VIRTIO_BLK_S_UNSUPP,
		  "and with data to write");
	f.hdr->type = VIRTIO_BLK_T_IN;
	tap_equal(request(&f, 0, segs, 3, NULL, &len), VIRTIO_BLK_S_IOERR,
		  "a read with data to write is an error");
	tear_down(&f);
}

/* A page at sector 80, of any type. */
static int with_data(struct fixture *f, uint32_t type, void *data, bool read)
{
	const struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ data, 4096, read },
		{ f->status, 1, true },
	};

	f->hdr->type = type;
	f->hdr->sector = 80;
	return request(f, 0, segs, 3, NULL, NULL);
}

/* Drivers set or leave out the bit of the direction, and old ones that of a barrier. */
static void test_type_bits(const char *disk)
{
	const uint32_t barrier = VIRTIO_BLK_T_BARRIER;
	uint8_t *out, *in;
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	out = vhost_client_alloc(&f.c, 4096, 4096);
	in = vhost_client_alloc(&f.c, 4096, 4096);
	fill(out, 4096, 5);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_FLUSH | VIRTIO_BLK_T_OUT, 0, NULL, 0,
			 NULL), VIRTIO_BLK_S_OK, "a flush with a direction succeeds");
	tap_equal(vhost_client_counter(&f.c, 0, "flush"), 1, "and is a flush");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_FLUSH | barrier, 0, NULL, 0, NULL),
		  VIRTIO_BLK_S_OK, "so does one that is a barrier");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_GET_ID | VIRTIO_BLK_T_OUT, 0, in,
			 VIRTIO_BLK_ID_BYTES, NULL),
		  VIRTIO_BLK_S_OK, "GET_ID with a direction succeeds");
	tap_ok(!strcmp((char *)in, SERIAL), "and answers the serial");
	tap_equal(with_data(&f, VIRTIO_BLK_T_OUT | barrier, out, false),
		  VIRTIO_BLK_S_OK, "a write that is a barrier succeeds");
	tap_equal(with_data(&f, VIRTIO_BLK_T_IN | barrier, in, true),
		  VIRTIO_BLK_S_OK, "and a read");
	tap_ok(!memcmp(out, in, 4096), "which reads what was written");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_ZONE_APPEND, 0, in, 512, NULL),
		  VIRTIO_BLK_S_UNSUPP,
		  "SECURE_ERASE with a direction is another type");
	tear_down(&f);
}

static void test_layouts(const char *disk)
{
	struct vhost_client_seg segs[4];
	struct fixture f;
	uint8_t *data;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_ok(pieces_match(&f, 1, 512, 4096, false), "data of one sector");
	tap_ok(pieces_match(&f, 16, 4096, 8192, false), "data in 16 pages");
	tap_ok(pieces_match(&f, 17, 4096, 8192, false), "data in 17 pages");
	tap_ok(pieces_match(&f, 200, 512, 1024, false), "data in 200 sectors");
	tap_ok(pieces_match(&f, 254, 1024, 1536, false),
	       "data in 254 pieces across page ends");
	tap_ok(pieces_match(&f, 254, 4096, 4096, true),
	       "data in 254 pages through an indirect table");
	tap_ok(pieces_match(&f, 2, 5 << 20, 5 << 20, false),
	       "10 MiB of data in two pieces");
	tap_ok(pieces_match(&f, 3, 1536, 2048, true),
	       "pieces that go on in the page where the last one ended");

	data = vhost_client_alloc(&f.c, 4096, 4096);
	f.hdr->type = VIRTIO_BLK_T_IN;
	f.hdr->sector = 0;
	segs[0] = (struct vhost_client_seg){ f.hdr, 5, false };
	segs[1] = (struct vhost_client_seg){ (uint8_t *)f.hdr + 5, 11, false };
	segs[2] = (struct vhost_client_seg){ data, 512, true };
	segs[3] = (struct vhost_client_seg){ f.status, 1, true };
	tap_equal(request(&f, 0, segs, 4, NULL, NULL), VIRTIO_BLK_S_OK,
		  "a header in two pieces");

	f.status = data + 512;
	segs[0] = (struct vhost_client_seg){ f.hdr, 16, false };
	segs[1] = (struct vhost_client_seg){ data, 513, true };
	tap_equal(request(&f, 0, segs, 2, NULL, NULL), VIRTIO_BLK_S_OK,
		  "data and status in one piece");
	tear_down(&f);
}

/* Where a bio has to end in the middle of a piece, it must end at a block. */
static void test_large_blocks(const char *disk)
{
	struct fixture f;
	uint8_t *data;
	uint32_t len;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, 4096, 4096);
	tap_ok(pieces_match(&f, 200, 4096, 8192, false),
	       "large blocks: data in 200 pages");
	tap_ok(pieces_match(&f, 200, 4096, 8192 + 512, false),
	       "large blocks: data in 200 pieces across page ends");
	tap_ok(pieces_match(&f, 3, 1 << 20, (1 << 20) + 512, false),
	       "large blocks: data in 3 MiB across page ends");
	tap_ok(pieces_match(&f, 100, 4096, 4096 + 4, false),
	       "large blocks: data in 100 pieces at odd multiples of four");
	tap_ok(pieces_match(&f, 8, 4096, 4096 + 2, false),
	       "large blocks: pieces at addresses for no DMA");
	tap_ok(pieces_match(&f, 8, 512, 4096, false),
	       "large blocks: pieces smaller than a block");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 512, &len),
		  VIRTIO_BLK_S_IOERR, "large blocks: so is less than a block");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 1, data, 4096, &len),
		  VIRTIO_BLK_S_IOERR, "large blocks: and a start inside of one");
	tear_down(&f);
}

static void test_refused(const char *disk)
{
	struct virtio_blk_config config;
	struct vhost_client_seg segs[2];
	struct fixture f;
	uint8_t *data;
	uint32_t len;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_get_config(&f.c, &config);
	data = vhost_client_alloc(&f.c, 4096, 4096);

	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, config.capacity - 1, data, 512,
			 &len), VIRTIO_BLK_S_OK, "the last sector can be read");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, config.capacity - 1, data, 1024,
			 &len), VIRTIO_BLK_S_IOERR,
		  "a read across the end is an error");
	tap_equal(len, 0, "and its used length is nothing");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, config.capacity, data, 512,
			 &len), VIRTIO_BLK_S_IOERR, "so is a write behind the end");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, UINT64_MAX, data, 512, &len),
		  VIRTIO_BLK_S_IOERR, "and one at the largest sector number");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 511, &len),
		  VIRTIO_BLK_S_IOERR, "and a length that is no sector");

	segs[0] = (struct vhost_client_seg){ f.hdr, 8, false };
	segs[1] = (struct vhost_client_seg){ f.status, 1, true };
	tap_equal(request(&f, 0, segs, 2, NULL, NULL), VIRTIO_BLK_S_IOERR,
		  "a short header is an error");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 4096, &len),
		  VIRTIO_BLK_S_OK, "and the queue goes on");
	tear_down(&f);

	set_up(&f, disk, O_RDONLY, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, 4096, 4096);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, 0, data, 512, &len),
		  VIRTIO_BLK_S_IOERR, "a write to a read-only device is an error");
	tear_down(&f);
}

static void test_broken_ring(const char *disk)
{
	struct vhost_client_seg seg;
	struct fixture f;
	uint8_t *data;
	uint64_t errors;
	uint32_t len;

	set_up(&f, disk, O_RDWR, 2, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, 512, 512);
	seg = (struct vhost_client_seg){ f.hdr, sizeof(*f.hdr), false };
	vhost_client_add(&f.c, 0, &seg, 1, NULL);
	vhost_client_kick(&f.c, 0, false);
	tap_equal(vhost_client_get_used(&f.c, 0, &len, 100 * limit_factor()), -EAGAIN,
		  "a chain without room for a status is not answered");
	tap_ok(read(f.c.queues[0].err_fd, &errors, sizeof(errors)) ==
	       sizeof(errors), "the error eventfd of its queue fires");
	tap_equal(simple(&f, 1, VIRTIO_BLK_T_IN, 0, data, 512, &len),
		  VIRTIO_BLK_S_OK, "the other queue goes on");
	f.c.queues[0].vring.avail->idx += 2 * RING;
	vhost_client_kick(&f.c, 0, true);
	tap_equal(simple(&f, 1, VIRTIO_BLK_T_IN, 0, data, 512, &len),
		  VIRTIO_BLK_S_OK, "also while the broken one is kicked");
	tear_down(&f);
}

static void test_queues(const char *disk)
{
	enum { QUEUES = 4, ROUNDS = 200 };
	struct fixture f;
	uint8_t *data[QUEUES];
	unsigned int i, round;
	uint32_t len;
	int ok = 1;

	set_up(&f, disk, O_RDWR, QUEUES, ALL_FEATURES);
	for (i = 0; i < QUEUES; i++)
		data[i] = vhost_client_alloc(&f.c, 4096, 4096);
	for (round = 0; round < ROUNDS && ok; round++)
		for (i = 0; i < QUEUES && ok; i++)
			ok = simple(&f, i, VIRTIO_BLK_T_IN, 8 * round, data[i],
				    4096, &len) == VIRTIO_BLK_S_OK;
	tap_ok(ok, "%d queues serve %d requests each", QUEUES, ROUNDS);
	tear_down(&f);

	set_up(&f, disk, O_RDWR, 1, 1ULL << VIRTIO_F_VERSION_1);
	data[0] = vhost_client_alloc(&f.c, 4096, 4096);
	for (round = 0; round < ROUNDS && ok; round++)
		ok = simple(&f, 0, VIRTIO_BLK_T_IN, 8 * round, data[0], 4096,
			    &len) == VIRTIO_BLK_S_OK;
	tap_ok(ok, "requests are served without EVENT_IDX");
	tear_down(&f);
}

static void test_burst(const char *disk)
{
	enum { NUM = 80 };
	volatile uint16_t *used;
	uint64_t signals = 0;
	struct fixture f;
	int i;

	set_up(&f, disk, O_RDWR, 1, 1ULL << VIRTIO_F_VERSION_1);
	used = &f.c.queues[0].vring.used->idx;
	send_reads(&f, NUM);
	for (i = 0; i < TIMEOUT_MS && *used != NUM; i++)
		usleep(1000);
	tap_equal(*used, NUM, "one kick serves %d requests", NUM);
	if (read(f.c.queues[0].call_fd, &signals, sizeof(signals)) < 0)
		signals = 0;
	if (!tap_ok(signals && signals <= NUM / 4, "with far fewer signals"))
		printf("# %llu signals\n", (unsigned long long)signals);
	tear_down(&f);
}

/*
 * A ring that is full of requests which end at once leaves nothing in flight that
 * could bring the worker back: the driver must be asked for kicks again.
 */
static void test_full_ring(const char *disk)
{
	struct vhost_client_seg segs[2];
	struct vring_desc *tables;
	struct fixture f;
	int i, round, answered = 0;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tables = vhost_client_alloc(&f.c, RING * 2 * sizeof(*tables), 16);
	f.hdr->type = VIRTIO_BLK_T_GET_ID;
	segs[0] = (struct vhost_client_seg){ f.hdr, 16, false };
	segs[1] = (struct vhost_client_seg){ f.status, 1, true };
	for (round = 0; answered == round * RING && round < 3; round++) {
		for (i = 0; i < RING; i++)
			vhost_client_add(&f.c, 0, segs, 2, &tables[2 * i]);
		vhost_client_kick(&f.c, 0, false);
		while (answered < (round + 1) * RING &&
		       vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS) >= 0)
			answered++;
		/* Until the worker sleeps. */
		usleep(10000);
	}
	tap_equal(answered, 3 * RING, "a ring is filled 3 times and served");
	tear_down(&f);
}

/* A guest that offers the same chain again and again, without ever waiting. */
static void test_same_head(const char *disk)
{
	struct vhost_client_seg segs[2];
	struct fixture f;
	struct vring *vring;
	uint32_t len;
	int i, head;

	set_up(&f, disk, O_RDWR, 1, 1ULL << VIRTIO_F_VERSION_1);
	vring = &f.c.queues[0].vring;
	f.hdr->type = VIRTIO_BLK_T_FLUSH;
	segs[0] = (struct vhost_client_seg){ f.hdr, 16, false };
	segs[1] = (struct vhost_client_seg){ f.status, 1, true };
	head = vhost_client_add(&f.c, 0, segs, 2, NULL);
	for (i = 1; i < RING; i++)
		vring->avail->ring[i] = head;
	vring->avail->idx = RING;
	vhost_client_kick(&f.c, 0, true);
	for (i = 0; i < RING; i++)
		if (vhost_client_get_used(&f.c, 0, &len, TIMEOUT_MS) < 0)
			break;
	tap_equal(i, RING, "a chain that is offered %d times is served as often",
		  RING);
	tear_down(&f);
}

/* More data than a queue takes at a time: all of it is served in the end. */
static void test_in_flight_limit(const char *slow)
{
	enum { NUM = 3, SEGS = 254, BYTES = 1 << 20 };
	struct vhost_client_seg segs[SEGS + 2];
	struct vring_desc *table;
	uint8_t *data, *statuses;
	struct fixture f;
	int i, j, done = 0;

	set_up(&f, slow, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, BYTES, 4096);
	statuses = vhost_client_alloc(&f.c, NUM, 1);
	f.hdr->type = VIRTIO_BLK_T_IN;
	f.hdr->sector = 0;
	segs[0] = (struct vhost_client_seg){ f.hdr, 16, false };
	for (j = 1; j <= SEGS; j++)
		segs[j] = (struct vhost_client_seg){ data, BYTES, true };
	for (i = 0; i < NUM; i++) {
		segs[j] = (struct vhost_client_seg){ &statuses[i], 1, true };
		statuses[i] = 0xee;
		table = vhost_client_alloc(&f.c, (SEGS + 2) * sizeof(*table), 16);
		vhost_client_add(&f.c, 0, segs, SEGS + 2, table);
	}
	vhost_client_kick(&f.c, 0, true);
	for (i = 0; i < NUM; i++)
		if (vhost_client_get_used(&f.c, 0, NULL, 2 * TIMEOUT_MS) < 0)
			break;
	for (i = 0; i < NUM; i++)
		done += statuses[i] == VIRTIO_BLK_S_OK;
	tap_equal(done, NUM, "%d requests of %d MiB at a time are served", NUM,
		  SEGS);
	tear_down(&f);
}

/* Until the device has begun with the requests in a ring. It may have ended some of them. */
static void await_begin(struct fixture *f)
{
	if (!soon(vhost_client_counter(&f->c, 0, "in_flight") > 0 ||
		  f->c.queues[0].vring.used->idx))
		tap_bail("the device does not begin");
}

static void test_stop(const char *slow)
{
	enum { NUM = 64 };
	struct vhost_vring_state base = {};
	struct fixture f;
	uint8_t *statuses;

	set_up(&f, slow, O_RDWR, 1, ALL_FEATURES);
	statuses = send_reads(&f, NUM);
	await_begin(&f);
	tap_equal(vhost_client_run(&f.c, false), 0,
		  "a device with requests in flight stops");
	vhost_client_ioctl(&f.c, VHOST_GET_VRING_BASE, &base);
	tap_equal(count_ok(statuses, NUM), base.num, "what it has fetched is done");
	tap_equal(f.c.queues[0].vring.used->idx, base.num, "and used");
	tap_ok(base.num > 0, "and there was something");
	usleep(50000);
	tap_equal(f.c.queues[0].vring.used->idx, base.num,
		  "nothing is used after the stop");

	tap_equal(vhost_client_run(&f.c, true), 0, "it can run again");
	tap_equal(take_answers(&f, NUM), NUM, "and does the rest without a kick");
	tear_down(&f);
}

/* A running device with 64 reads available, of which it has begun some. */
static void begin_reads(struct fixture *f, const char *slow)
{
	set_up(f, slow, O_RDWR, 1, ALL_FEATURES);
	send_reads(f, 64);
	await_begin(f);
}

/* The ways to end with requests in flight; the next test would not get the disk
 * if one of them left something behind.
 */
static void test_abandon(const char *slow)
{
	struct fixture f;
	pid_t pid;
	int fd;

	begin_reads(&f, slow);
	tear_down(&f);
	set_up(&f, slow, O_RDWR, 1, ALL_FEATURES);
	tap_ok(1, "closing the file with requests in flight releases the device");
	tear_down(&f);

	pid = fork();
	if (!pid) {
		begin_reads(&f, slow);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	set_up(&f, slow, O_RDWR, 1, ALL_FEATURES);
	tap_ok(1, "so does killing the owner");

	/* A child keeps the file open while its owner is killed. */
	tear_down(&f);
	pid = fork();
	if (!pid) {
		begin_reads(&f, slow);
		if (!fork()) {
			sleep(1);
			_exit(0);
		}
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	sleep(1 + limit_factor());
	fd = open(slow, O_RDWR | O_EXCL);
	tap_ok(fd >= 0, "and when another process had the file last");
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		tap_bail("usage: %s DISK SLOW LARGE", argv[0]);
	test_types(argv[1]);
	test_type_bits(argv[1]);
	test_layouts(argv[1]);
	test_large_blocks(argv[3]);
	test_refused(argv[1]);
	test_broken_ring(argv[1]);
	test_queues(argv[1]);
	test_burst(argv[1]);
	test_full_ring(argv[1]);
	test_same_head(argv[1]);
	test_in_flight_limit(argv[2]);
	test_stop(argv[2]);
	test_abandon(argv[2]);
	return tap_end();
}
