// SPDX-License-Identifier: GPL-2.0
/*
 * Two ways to one disk, by the daemon's socket and by the calls of /dev/vhost-blk: each
 * kind of request, legal or not, has the same status, the same used length, and leaves the
 * same bytes in memory and on the disk.
 *
 * usage: data NAME DISK SOCKET
 *	NAME	of the kind of disk
 *	DISK	the disk that the daemon serves, with --serial=vhost-blk-test; 32 MiB or
 *		more, which are overwritten
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

#define AREA		(1 << 20)	/* of the disk, that requests may change */
#define MAX_BYTES	(512 << 10)
#define MAX_PIECES	64
#define ROOM		(2 * MAX_BYTES)	/* where the pieces are scattered */
#define ANY		0xff		/* a status that depends on the disk */

/**
 * struct spec - a request
 * @name: what it is
 * @type: of its header
 * @sector: of its header, counted from the end of the disk if it is negative
 * @bytes: of its data
 * @pieces: of the data
 * @offset: of the first piece in its page
 * @header: bytes of its header
 * @indirect: its descriptors are in a table
 * @readable: its data is for the device to read
 * @range: the data is ranges of a discard and its like, with these sectors each
 * @flags: of the ranges
 * @status: what it has to end with
 */
struct spec {
	const char *name;
	uint32_t type;
	int64_t sector;
	uint32_t bytes;
	unsigned int pieces;
	unsigned int offset;
	unsigned int header;
	bool indirect;
	bool readable;
	unsigned int range;
	uint32_t flags;
	int status;
};

#define RANGE	sizeof(struct virtio_blk_discard_write_zeroes)

static const struct spec specs[] = {
	{ .name = "a write of a sector", .type = VIRTIO_BLK_T_OUT, .sector = 5,
	  .bytes = 512, .readable = true },
	{ .name = "a write of a page", .type = VIRTIO_BLK_T_OUT, .sector = 8,
	  .bytes = 4096, .readable = true },
	{ .name = "a write in an indirect table", .type = VIRTIO_BLK_T_OUT,
	  .bytes = 65536, .pieces = 16, .indirect = true, .readable = true },
	{ .name = "a write in pieces at odd places", .type = VIRTIO_BLK_T_OUT,
	  .bytes = 8192, .pieces = 7, .offset = 4077, .readable = true },
	{ .name = "a large write", .type = VIRTIO_BLK_T_OUT, .sector = 16,
	  .bytes = MAX_BYTES, .pieces = 3, .readable = true },
	{ .name = "a read of a sector", .type = VIRTIO_BLK_T_IN, .sector = 9,
	  .bytes = 512 },
	{ .name = "a read of a page", .type = VIRTIO_BLK_T_IN, .bytes = 4096 },
	{ .name = "a read in an indirect table", .type = VIRTIO_BLK_T_IN,
	  .bytes = 65536, .pieces = 64, .indirect = true },
	{ .name = "a read in pieces at odd places", .type = VIRTIO_BLK_T_IN,
	  .bytes = 8192, .pieces = 5, .offset = 1 },
	{ .name = "a large read", .type = VIRTIO_BLK_T_IN, .sector = 32,
	  .bytes = MAX_BYTES },
	{ .name = "a read of the last sector", .type = VIRTIO_BLK_T_IN, .sector = -1,
	  .bytes = 512 },
	{ .name = "a flush", .type = VIRTIO_BLK_T_FLUSH },
	{ .name = "GET_ID", .type = VIRTIO_BLK_T_GET_ID, .bytes = 20 },
	{ .name = "GET_ID with more room", .type = VIRTIO_BLK_T_GET_ID, .bytes = 64 },
	{ .name = "GET_ID with less room", .type = VIRTIO_BLK_T_GET_ID, .bytes = 5 },
	{ .name = "a discard", .type = VIRTIO_BLK_T_DISCARD, .bytes = RANGE,
	  .range = 128, .readable = true, .status = ANY },
	{ .name = "a discard of four ranges", .type = VIRTIO_BLK_T_DISCARD,
	  .bytes = 4 * RANGE, .range = 64, .readable = true, .status = ANY },
	{ .name = "a discard that unmaps", .type = VIRTIO_BLK_T_DISCARD,
	  .bytes = RANGE, .range = 64, .flags = 1, .readable = true,
	  .status = VIRTIO_BLK_S_UNSUPP },
	{ .name = "a discard of part of a range", .type = VIRTIO_BLK_T_DISCARD,
	  .bytes = RANGE - 1, .range = 64, .readable = true, .status = ANY },
	{ .name = "write zeroes", .type = VIRTIO_BLK_T_WRITE_ZEROES, .bytes = RANGE,
	  .range = 256, .readable = true, .status = ANY },
	{ .name = "write zeroes that unmap", .type = VIRTIO_BLK_T_WRITE_ZEROES,
	  .bytes = RANGE, .range = 256, .flags = 1, .readable = true, .status = ANY },
	{ .name = "a secure erase", .type = VIRTIO_BLK_T_SECURE_ERASE, .bytes = RANGE,
	  .range = 64, .readable = true, .status = ANY },
	{ .name = "an unknown type", .type = 4711, .status = VIRTIO_BLK_S_UNSUPP },
	{ .name = "a zone report", .type = VIRTIO_BLK_T_ZONE_REPORT, .bytes = 4096,
	  .status = VIRTIO_BLK_S_UNSUPP },
	{ .name = "a short header", .type = VIRTIO_BLK_T_IN, .header = 15,
	  .status = VIRTIO_BLK_S_IOERR },
	{ .name = "a read of less than a sector", .type = VIRTIO_BLK_T_IN,
	  .bytes = 511, .status = VIRTIO_BLK_S_IOERR },
	{ .name = "a read across the end", .type = VIRTIO_BLK_T_IN, .sector = -1,
	  .bytes = 4096, .status = VIRTIO_BLK_S_IOERR },
	{ .name = "a read with data to be read", .type = VIRTIO_BLK_T_IN,
	  .bytes = 512, .readable = true, .status = VIRTIO_BLK_S_IOERR },
	{ .name = "a write with room to be written", .type = VIRTIO_BLK_T_OUT,
	  .bytes = 512, .status = VIRTIO_BLK_S_IOERR },
	{ .name = "a flush with data", .type = VIRTIO_BLK_T_FLUSH, .bytes = 512,
	  .status = VIRTIO_BLK_S_IOERR },
};

/* What became of a request. */
struct result {
	int status;
	uint32_t len;
	uint8_t room[ROOM];
	uint8_t disk[AREA] __attribute__((aligned(4096)));
};

static uint64_t capacity;

/* Where its data is; the same in both memories. */
static uint8_t *room_of(struct fixture *f)
{
	return f->c.mem + MEMORY - ROOM - 2 * MAX_PIECES * sizeof(struct vring_desc);
}

/* The data, and what is around it. */
static void fill_room(const struct spec *spec, uint8_t *room, uint8_t *data)
{
	struct virtio_blk_discard_write_zeroes range = {
		.num_sectors = spec->range,
		.flags = spec->flags,
	};
	size_t at;

	fill(room, ROOM, spec->bytes);
	for (at = 0; spec->range && at < spec->bytes; at += RANGE) {
		size_t left = spec->bytes - at;

		range.sector = 8 + 2 * at / RANGE * spec->range;
		memcpy(data + at, &range, left < RANGE ? left : RANGE);
	}
}

static unsigned int make_chain(struct fixture *f, const struct spec *spec,
			       struct vhost_client_seg *segs)
{
	uint8_t *data = room_of(f) + spec->offset;
	unsigned int pieces = spec->pieces ?: 1, num = 0;
	size_t at, len;

	f->hdr->type = spec->type;
	f->hdr->sector = spec->sector + (spec->sector < 0 ? capacity : 0);
	segs[num++] = (struct vhost_client_seg){
		f->hdr, spec->header ?: sizeof(*f->hdr), false
	};
	for (at = 0; at < spec->bytes; at += len, pieces--) {
		len = (spec->bytes - at) / pieces;
		segs[num++] = (struct vhost_client_seg){
			data + at, len, !spec->readable
		};
	}
	segs[num++] = (struct vhost_client_seg){ f->status, 1, true };
	return num;
}

static void io_area(int disk, struct result *result, bool write)
{
	ssize_t ret = write ? pwrite(disk, result->disk, AREA, 0) :
			      pread(disk, result->disk, AREA, 0);

	if (ret != AREA)
		tap_bail("the disk fails: %s", strerror(errno));
}

static void send_spec(struct fixture *f, const struct spec *spec,
		      struct result *result)
{
	struct vhost_client_seg segs[MAX_PIECES + 2];
	uint8_t *room = room_of(f);
	struct vring_desc *table = spec->indirect ?
		(struct vring_desc *)(room + ROOM) : NULL;

	fill(result->disk, AREA, 4711);
	io_area(f->disk, result, true);
	fill_room(spec, room, room + spec->offset);
	result->status = request(f, 0, segs, make_chain(f, spec, segs), table,
				 &result->len);
	memcpy(result->room, room, ROOM);
	io_area(f->disk, result, false);
}

static void compare(const char *name, struct fixture *direct,
		    struct fixture *user, const struct spec *spec)
{
	static struct result a, b;

	send_spec(direct, spec, &a);
	send_spec(user, spec, &b);
	if (!tap_ok(a.status == b.status && a.len == b.len &&
		    (spec->status == ANY || a.status == spec->status) &&
		    !memcmp(a.room, b.room, ROOM) &&
		    !memcmp(a.disk, b.disk, AREA),
		    "%s: %s is the same both ways", name, spec->name))
		printf("# by call: status %d, length %u; by socket: status %d, length %u; memory %s, disk %s\n",
		       a.status, a.len, b.status, b.len,
		       memcmp(a.room, b.room, ROOM) ? "differs" : "the same",
		       memcmp(a.disk, b.disk, AREA) ? "differs" : "the same");
}

static bool breaks(struct fixture *f)
{
	const struct vhost_client_seg seg = { f->hdr, sizeof(*f->hdr), false };
	uint64_t errors;

	vhost_client_add(&f->c, 1, &seg, 1, NULL);
	vhost_client_kick(&f->c, 1, true);
	return vhost_client_get_used(&f->c, 1, NULL, 100 * limit_factor()) == -EAGAIN &&
	       read(f->c.queues[1].err_fd, &errors, sizeof(errors)) == sizeof(errors);
}

/* The disk is the daemon's already, and this one has it beside. */
static void set_up_direct(struct fixture *f, const char *disk)
{
	struct virtio_blk_config config;
	int ret;

	f->disk = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (f->disk < 0)
		tap_bail("%s: %s", disk, strerror(errno));
	ret = vhost_client_open(&f->c, DEVICE, MEMORY);
	if (!ret)
		ret = vhost_client_bind(&f->c, f->disk, VHOST_BLK_BIND_SHARED, 2,
					SERIAL);
	if (!ret)
		ret = vhost_client_get_config(&f->c, &config);
	if (ret)
		tap_bail("can't bind %s: %s", disk, strerror(-ret));
	capacity = config.capacity;
	set_up_running(f, 2, ALL_FEATURES);
}

int main(int argc, char **argv)
{
	struct fixture direct;
	struct backend b;
	unsigned int i;

	if (argc != 4)
		tap_bail("usage: %s NAME DISK SOCKET", argv[0]);
	set_up_direct(&direct, argv[2]);
	set_up_backend(&b, argv[3], 2);
	open_disk(&b, argv[2]);
	for (i = 0; i < sizeof(specs) / sizeof(*specs); i++)
		compare(argv[1], &direct, &b.f, &specs[i]);
	tap_ok(breaks(&direct) && breaks(&b.f),
	       "%s: a chain without a status breaks its ring both ways", argv[1]);
	tear_down(&direct);
	tear_down_backend(&b);
	return tap_end();
}
