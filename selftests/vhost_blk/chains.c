// SPDX-License-Identifier: GPL-2.0
/*
 * Descriptor chains that no driver makes by mistake: every layout that is legal,
 * however odd, is served, and every one that is not has its answer.
 *
 * usage: chains DISK
 *	DISK	a block device that may be overwritten, 64 MiB or more
 *
 * All of it twice: an ordinary chain is fetched a shorter way than one that the dirty
 * log needs to know of, and must mean the same.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "fixture.h"

#define NEXT		VRING_DESC_F_NEXT
#define WRITE		VRING_DESC_F_WRITE
#define INDIRECT	VRING_DESC_F_INDIRECT
#define DATA		4096

/* A device with two queues and a read's parts in guest memory. */
struct chains {
	struct fixture f;
	struct vring_desc *ring;
	struct vring_desc *table;
	uint64_t hdr;
	uint64_t data;
	uint64_t status;
	uint8_t *bytes;
};

static bool logged;

static void open_fixture(struct fixture *f, const char *disk, unsigned int num_queues)
{
	set_up(f, disk, O_RDWR, num_queues, ALL_FEATURES);
	if (logged && vhost_client_log_start(&f->c))
		tap_bail("the dirty log can't be started");
}

static void open_chains(struct chains *t, const char *disk)
{
	struct vhost_client *c = &t->f.c;

	open_fixture(&t->f, disk, 2);
	t->ring = c->queues[0].vring.desc;
	t->table = vhost_client_alloc(c, 1024 * sizeof(*t->table), 16);
	t->bytes = vhost_client_alloc(c, DATA, 4096);
	t->hdr = vhost_client_gpa(c, t->f.hdr);
	t->data = vhost_client_gpa(c, t->bytes);
	t->status = vhost_client_gpa(c, t->f.status);
	t->f.hdr->type = VIRTIO_BLK_T_IN;
	t->f.hdr->sector = 0;
	*t->f.status = 0xee;
}

/* Offers the ring's descriptor 0. The status, or -1 without an answer. */
static int offer(struct chains *t, int timeout_ms, uint32_t *len)
{
	struct vring_used_elem elem;

	vhost_client_offer(&t->f.c, 0, 0);
	vhost_client_kick(&t->f.c, 0, true);
	if (vhost_client_get_elem(&t->f.c, 0, &elem, timeout_ms))
		return -1;
	if (len)
		*len = elem.len;
	return *t->f.status;
}

static void desc(struct vring_desc *table, unsigned int i, uint64_t addr,
		 uint32_t len, uint16_t flags)
{
	vhost_client_set_desc(table, i, addr, len, flags, i + 1);
}

/* The queue has stopped and said so; the other queue and a restart are sound. */
static void expect_stop(struct chains *t, const char *what)
{
	void *data = vhost_client_alloc(&t->f.c, DATA, 4096);
	uint64_t errors;

	tap_equal(offer(t, 100 * limit_factor(), NULL), -1, "%s: no answer", what);
	tap_ok(read(t->f.c.queues[0].err_fd, &errors, sizeof(errors)) > 0,
	       "%s: the error eventfd fires", what);
	tap_equal(simple(&t->f, 1, VIRTIO_BLK_T_IN, 0, data, DATA, NULL),
		  VIRTIO_BLK_S_OK, "%s: the other queue goes on", what);
	tear_down(&t->f);
}

static void test_header_and_data_in_one(const char *disk)
{
	struct virtio_blk_outhdr *hdr;
	struct chains t;
	uint8_t back[512] __attribute__((aligned(4096)));

	open_chains(&t, disk);
	hdr = vhost_client_alloc(&t.f.c, sizeof(*hdr) + 512, 4096);
	hdr->type = VIRTIO_BLK_T_OUT;
	hdr->ioprio = 0;
	hdr->sector = 8;
	memset(hdr + 1, 0x3c, 512);
	desc(t.ring, 0, vhost_client_gpa(&t.f.c, hdr), sizeof(*hdr) + 512, NEXT);
	desc(t.ring, 1, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_OK,
		  "header and data in one descriptor");
	tap_ok(pread(t.f.disk, back, 512, 8 * 512) == 512 &&
	       !memcmp(back, hdr + 1, 512), "and the data is on the disk");
	tear_down(&t.f);
}

static void test_header_in_bytes(const char *disk)
{
	struct chains t;
	uint32_t len;
	int i;

	open_chains(&t, disk);
	for (i = 0; i < 16; i++)
		desc(t.ring, i, t.hdr + i, 1, NEXT);
	desc(t.ring, 16, t.data, DATA, NEXT | WRITE);
	desc(t.ring, 17, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, &len), VIRTIO_BLK_S_OK,
		  "a header in 16 descriptors");
	tap_equal(len, DATA + 1, "its used length is data and status");
	tear_down(&t.f);
}

static void test_empty_descriptors(const char *disk)
{
	struct chains t;
	uint32_t len;

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.hdr, 0, NEXT);
	desc(t.ring, 2, t.data, DATA, NEXT | WRITE);
	desc(t.ring, 3, t.status, 1, NEXT | WRITE);
	desc(t.ring, 4, t.data, 0, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, &len), VIRTIO_BLK_S_OK,
		  "empty descriptors in a chain");
	tap_equal(len, DATA + 1, "count nothing");
	tear_down(&t.f);
}

static void test_status_at_data_end(const char *disk)
{
	struct chains t;
	uint32_t len;

	open_chains(&t, disk);
	t.f.status = t.bytes + 512;
	*t.f.status = 0xee;
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.data, 100, NEXT | WRITE);
	desc(t.ring, 2, t.data + 100, 413, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, &len), VIRTIO_BLK_S_OK,
		  "the status behind the data of an odd piece");
	tap_equal(len, 513, "its used length is data and status");
	tear_down(&t.f);
}

/* Data in pieces of one to 40 bytes at odd addresses, written and read back. */
static void test_crumbs(const char *disk)
{
	enum { BYTES = 4096, MAX = 1000 };
	struct chains t;
	uint8_t *out, *in;
	unsigned int type, n, pos, piece;
	int status = 0;

	open_chains(&t, disk);
	out = vhost_client_alloc(&t.f.c, BYTES, 1);
	in = vhost_client_alloc(&t.f.c, 3 * BYTES, 1) + 1;
	fill(out, BYTES, 7);
	for (type = VIRTIO_BLK_T_OUT; ; type = VIRTIO_BLK_T_IN) {
		t.f.hdr->type = type;
		desc(t.table, 0, t.hdr, 16, NEXT);
		for (n = 1, pos = 0; pos < BYTES; n++, pos += piece) {
			uint8_t *from = type == VIRTIO_BLK_T_OUT ?
					out + pos : in + 2 * pos;

			piece = n * 7 % 40 + 1;
			if (piece > BYTES - pos)
				piece = BYTES - pos;
			desc(t.table, n, vhost_client_gpa(&t.f.c, from), piece,
			     NEXT | (type == VIRTIO_BLK_T_IN ? WRITE : 0));
		}
		desc(t.table, n, t.status, 1, WRITE);
		desc(t.ring, 0, vhost_client_gpa(&t.f.c, t.table),
		     (n + 1) * sizeof(*t.table), INDIRECT);
		status |= offer(&t, TIMEOUT_MS, NULL);
		if (type == VIRTIO_BLK_T_IN)
			break;
	}
	tap_equal(status, VIRTIO_BLK_S_OK, "data in %u pieces of 1 to 40 bytes",
		  n - 1);
	for (n = 1, pos = 0; pos < BYTES; n++, pos += piece) {
		piece = n * 7 % 40 + 1;
		if (piece > BYTES - pos)
			piece = BYTES - pos;
		if (memcmp(out + pos, in + 2 * pos, piece))
			break;
	}
	tap_equal(pos, BYTES, "comes back as it was");
	tear_down(&t.f);
}

static void test_large_bounce(const char *disk)
{
	enum { BYTES = 2 << 20 };
	struct fixture f;
	uint8_t *out, *in;

	open_fixture(&f, disk, 1);
	out = vhost_client_alloc(&f.c, BYTES + 1, 4096) + 1;
	in = vhost_client_alloc(&f.c, BYTES + 3, 4096) + 3;
	fill(out, BYTES, 9);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, 0, out, BYTES, NULL),
		  VIRTIO_BLK_S_OK, "2 MiB at an odd address can be written");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, in, BYTES, NULL),
		  VIRTIO_BLK_S_OK, "and read");
	tap_ok(!memcmp(in, out, BYTES), "and are what they were");
	tap_ok(vhost_client_counter(&f.c, 0, "bounced") == 2,
	       "through a bounce buffer");
	tear_down(&f);
}

static void test_answered(const char *disk)
{
	struct chains t;
	uint32_t len;

	open_chains(&t, disk);
	desc(t.ring, 0, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, &len), VIRTIO_BLK_S_IOERR,
		  "a chain without a header is an error");
	tap_equal(len, 1, "of which the status is written");
	desc(t.ring, 0, t.hdr, 15, NEXT);
	desc(t.ring, 1, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "so is one with a byte too little");
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.data, 512, NEXT);
	desc(t.ring, 2, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "and a read with data to write");
	t.f.hdr->type = VIRTIO_BLK_T_OUT;
	desc(t.ring, 1, t.data, 512, NEXT | WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "and a write with data to read");
	t.f.hdr->type = VIRTIO_BLK_T_FLUSH;
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "and a flush with data");
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.status, 1, WRITE);
	t.f.hdr->type = 0xdeadbeef;
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_UNSUPP,
		  "an unknown type is unsupported");
	t.f.hdr->type = VIRTIO_BLK_T_IN;
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_OK,
		  "and the queue goes on");
	tear_down(&t.f);
}

static void test_writable_first(const char *disk)
{
	struct chains t;

	open_chains(&t, disk);
	desc(t.ring, 0, t.status, 1, WRITE | NEXT);
	desc(t.ring, 1, t.hdr, 16, 0);
	expect_stop(&t, "writable before readable");

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, 0);
	expect_stop(&t, "nothing writable");

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.status, 0, WRITE);
	expect_stop(&t, "nothing but an empty writable");
}

static void test_indices(const char *disk)
{
	struct chains t;

	open_chains(&t, disk);
	vhost_client_set_desc(t.ring, 0, t.hdr, 16, NEXT, 1);
	vhost_client_set_desc(t.ring, 1, t.data, 512, NEXT | WRITE, 0);
	expect_stop(&t, "a loop");

	open_chains(&t, disk);
	vhost_client_set_desc(t.ring, 0, t.data, 1, NEXT | WRITE, 0);
	expect_stop(&t, "a loop of more descriptors than any chain has");

	open_chains(&t, disk);
	vhost_client_set_desc(t.ring, 0, t.hdr, 16, NEXT, RING);
	expect_stop(&t, "a next descriptor out of range");

	open_chains(&t, disk);
	t.f.c.queues[0].vring.avail->ring[0] = 0x7fff;
	t.f.c.queues[0].vring.avail->idx = 0;
	desc(t.ring, 0, t.hdr, 16, 0);
	vhost_client_offer(&t.f.c, 0, RING + 1);
	vhost_client_kick(&t.f.c, 0, true);
	expect_stop(&t, "a head out of range");

	open_chains(&t, disk);
	t.f.c.queues[0].vring.avail->idx = 2 * RING;
	expect_stop(&t, "an available index too far ahead");
}

static void test_indirect(const char *disk)
{
	uint64_t table;
	struct chains t;

	open_chains(&t, disk);
	table = vhost_client_gpa(&t.f.c, t.table);
	desc(t.ring, 0, table, sizeof(*t.table) + 1, INDIRECT);
	expect_stop(&t, "an indirect table of odd length");

	open_chains(&t, disk);
	table = vhost_client_gpa(&t.f.c, t.table);
	desc(t.ring, 0, table, sizeof(*t.table), INDIRECT);
	desc(t.table, 0, table, sizeof(*t.table), INDIRECT);
	expect_stop(&t, "a nested indirect table");

	open_chains(&t, disk);
	table = vhost_client_gpa(&t.f.c, t.table);
	desc(t.ring, 0, table, 2 * sizeof(*t.table), INDIRECT);
	vhost_client_set_desc(t.table, 0, t.hdr, 16, NEXT, 0);
	expect_stop(&t, "a loop in an indirect table");

	open_chains(&t, disk);
	table = vhost_client_gpa(&t.f.c, t.table);
	desc(t.ring, 0, table, 2 * sizeof(*t.table), INDIRECT | NEXT);
	desc(t.table, 0, t.hdr, 16, NEXT);
	desc(t.table, 1, t.status, 1, WRITE);
	expect_stop(&t, "an indirect table that is not the last");

	open_chains(&t, disk);
	desc(t.ring, 0, 1ULL << 60, 32, INDIRECT);
	expect_stop(&t, "an indirect table outside of guest memory");
}

/* Offers the ring's descriptor 0, a write of a sector of @value at sector 16. */
static void expect_written(struct chains *t, int value, const char *what)
{
	uint8_t back[512] __attribute__((aligned(4096)));

	memset(t->bytes, value, 512);
	tap_equal(offer(t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_OK, "%s", what);
	tap_ok(pread(t->f.disk, back, 512, 16 * 512) == 512 &&
	       !memcmp(back, t->bytes, 512), "and the data is on the disk");
}

/* The order of a chain is that of "next", in a table as in the ring. */
static void test_next(const char *disk)
{
	struct chains t;

	open_chains(&t, disk);
	t.f.hdr->type = VIRTIO_BLK_T_OUT;
	t.f.hdr->sector = 16;
	vhost_client_set_desc(t.table, 0, t.hdr, 16, NEXT, 2);
	vhost_client_set_desc(t.table, 1, t.status, 1, WRITE, 0);
	vhost_client_set_desc(t.table, 2, t.data, 512, NEXT, 1);
	desc(t.ring, 0, vhost_client_gpa(&t.f.c, t.table), 3 * sizeof(*t.table),
	     INDIRECT);
	expect_written(&t, 0x4e, "an indirect table in another order");
	vhost_client_set_desc(t.ring, 0, t.hdr, 16, NEXT, 7);
	vhost_client_set_desc(t.ring, 7, t.data, 512, NEXT, 3);
	vhost_client_set_desc(t.ring, 3, t.status, 1, WRITE, 0);
	expect_written(&t, 0x4f, "descriptors in another order");
	vhost_client_set_desc(t.ring, 0, t.hdr, 16, NEXT, 5);
	vhost_client_set_desc(t.ring, 5, vhost_client_gpa(&t.f.c, t.table + 1),
			      2 * sizeof(*t.table), INDIRECT, 0);
	vhost_client_set_desc(t.table, 1, t.data, 512, NEXT, 1);
	vhost_client_set_desc(t.table, 2, t.status, 1, WRITE, 0);
	expect_written(&t, 0x50, "a table behind a descriptor");
	tear_down(&t.f);
}

/* Data, and the table, across two regions of guest memory that are not neighbours. */
static void test_regions(const char *disk)
{
	struct vhost_memory_region regions[2];
	struct vring_desc *table;
	uint8_t *data, *back;
	struct chains t;
	uint64_t split;

	open_chains(&t, disk);
	data = vhost_client_alloc(&t.f.c, 2 * DATA, DATA);
	split = data + DATA - t.f.c.mem;
	regions[0] = (struct vhost_memory_region){
		.guest_phys_addr = VHOST_CLIENT_BASE,
		.memory_size = split,
		.userspace_addr = (uintptr_t)t.f.c.mem,
	};
	/* The second page of what is in one piece for the guest is another one here. */
	back = vhost_client_alloc(&t.f.c, DATA, DATA);
	regions[1] = (struct vhost_memory_region){
		.guest_phys_addr = VHOST_CLIENT_BASE + split,
		.memory_size = DATA,
		.userspace_addr = (uintptr_t)back,
	};
	if (vhost_client_set_mem_table(&t.f.c, regions, 2))
		tap_bail("no memory table");
	fill(data, DATA, 3);
	fill(back, DATA, 4);
	/* The table's second descriptor is in the other region. */
	table = (struct vring_desc *)(data + DATA) - 1;
	t.f.hdr->type = VIRTIO_BLK_T_OUT;
	t.f.hdr->sector = 24;
	vhost_client_set_desc(t.ring, 0, t.hdr, 16, NEXT, 1);
	vhost_client_set_desc(t.ring, 1, VHOST_CLIENT_BASE + split - 512, 1024, NEXT, 2);
	vhost_client_set_desc(t.ring, 2, t.status, 1, WRITE, 0);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_OK,
		  "data across two regions");
	t.bytes = aligned_alloc(DATA, DATA);
	tap_ok(pread(t.f.disk, t.bytes, 1024, 24 * 512) == 1024 &&
	       !memcmp(t.bytes, data + DATA - 512, 512) &&
	       !memcmp(t.bytes + 512, back, 512), "and the data is on the disk");
	vhost_client_set_desc(table, 0, t.hdr, 16, NEXT, 1);
	vhost_client_set_desc((struct vring_desc *)back, 0, t.status, 1, WRITE, 0);
	vhost_client_set_desc(t.ring, 0, VHOST_CLIENT_BASE + split - sizeof(*table),
			      2 * sizeof(*table), INDIRECT, 0);
	t.f.hdr->type = VIRTIO_BLK_T_FLUSH;
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_OK,
		  "an indirect table across two regions");
	free(t.bytes);
	tear_down(&t.f);
}

static void test_addresses(const char *disk)
{
	struct chains t;

	open_chains(&t, disk);
	desc(t.ring, 0, 0x1000, 16, NEXT);
	desc(t.ring, 1, t.status, 1, WRITE);
	expect_stop(&t, "a header outside of guest memory");

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, VHOST_CLIENT_BASE + MEMORY - 512, 1024, NEXT | WRITE);
	desc(t.ring, 2, t.status, 1, WRITE);
	expect_stop(&t, "data across the end of guest memory");

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, UINT64_MAX - 511, 1024, NEXT | WRITE);
	desc(t.ring, 2, t.status, 1, WRITE);
	expect_stop(&t, "data that wraps around");

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.data, UINT32_MAX, NEXT | WRITE);
	desc(t.ring, 2, t.status, 1, WRITE);
	expect_stop(&t, "data of 4 GiB");
}

/* Memory in the table that the owner has not mapped any more. */
static void test_unmapped(const char *disk)
{
	struct chains t;
	uint8_t *hole;

	open_chains(&t, disk);
	hole = vhost_client_alloc(&t.f.c, DATA, 4096);
	munmap(hole, DATA);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, vhost_client_gpa(&t.f.c, hole), DATA, NEXT | WRITE);
	desc(t.ring, 2, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "data in memory that is unmapped is an error");
	desc(t.ring, 1, vhost_client_gpa(&t.f.c, hole) + 1, 512, NEXT | WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "also behind a bounce buffer");
	desc(t.ring, 0, vhost_client_gpa(&t.f.c, hole), 16, NEXT);
	desc(t.ring, 1, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "so is a header there");
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, vhost_client_gpa(&t.f.c, hole), 1, WRITE);
	expect_stop(&t, "a status in memory that is unmapped");

	open_chains(&t, disk);
	hole = vhost_client_alloc(&t.f.c, DATA, 4096);
	mprotect(hole, DATA, PROT_READ);
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, vhost_client_gpa(&t.f.c, hole), DATA, NEXT | WRITE);
	desc(t.ring, 2, t.status, 1, WRITE);
	tap_equal(offer(&t, TIMEOUT_MS, NULL), VIRTIO_BLK_S_IOERR,
		  "a read into memory that is read-only is an error");
	tear_down(&t.f);
}

static void test_restart(const char *disk)
{
	struct vhost_vring_state base = {};
	struct fixture f;
	struct chains t;

	open_chains(&t, disk);
	desc(t.ring, 0, t.hdr, 16, 0);
	offer(&t, 100, NULL);
	vhost_client_run(&t.f.c, false);
	vhost_client_ioctl(&t.f.c, VHOST_GET_VRING_BASE, &base);
	tap_equal(base.num, 0, "a chain that can't be answered is not taken");
	desc(t.ring, 0, t.hdr, 16, NEXT);
	desc(t.ring, 1, t.status, 1, WRITE);
	vhost_client_run(&t.f.c, true);
	tap_ok(vhost_client_get_used(&t.f.c, 0, NULL, TIMEOUT_MS) >= 0,
	       "once it is mended, a restart serves it");
	tear_down(&t.f);

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_ok(pieces_match(&f, 4, 4096, 4096, false),
	       "and another device never noticed");
	tear_down(&f);
}

static void test_all(const char *disk)
{
	test_header_and_data_in_one(disk);
	test_header_in_bytes(disk);
	test_empty_descriptors(disk);
	test_status_at_data_end(disk);
	test_crumbs(disk);
	test_large_bounce(disk);
	test_answered(disk);
	test_writable_first(disk);
	test_indices(disk);
	test_indirect(disk);
	test_next(disk);
	test_regions(disk);
	test_addresses(disk);
	test_unmapped(disk);
	test_restart(disk);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		tap_bail("usage: %s DISK", argv[0]);
	test_all(argv[1]);
	printf("# the same, with the dirty log\n");
	logged = true;
	test_all(argv[1]);
	return tap_end();
}
