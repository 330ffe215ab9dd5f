// SPDX-License-Identifier: GPL-2.0
/*
 * A guest and a VMM without any sense: what a machine with /dev/vhost-blk must
 * survive, and what another machine must not notice.
 *
 * usage: fuzz --seconds N [--seed S] DISK INNOCENT_DISK
 *	DISK		a block device that may be overwritten
 *	INNOCENT_DISK	another one, 16 MiB or more, whose user behaves
 *
 * Some processes own a device over DISK each, one of them at a time a writable one.
 * In each a thread makes rings out of good and bad chains, starts, stops, binds
 * and moves memory; one scribbles into the rings; two call everything with any
 * argument. Since little gets done when all of that happens at once, each device
 * has moods. Now and then a process is killed and started anew. Meanwhile the
 * innocent process writes and reads, and looks at the answers. Whether the kernel
 * has complained is for the caller to see in its log.
 *
 * The processes can't hurt themselves: guest memory is a file that is mapped
 * twice, for the device far away from everything else, where it may be unmapped
 * and protected at will, and for this program where no memory table has it.
 *
 * A seed makes the same random numbers for each thread; how the threads meet is
 * up to the machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>

#include "tap.h"
#include "vhost_client.h"

#define DEVICE		"/dev/vhost-blk"
#define SECTOR		512ULL
#define PAGE		4096ULL
#define WORKERS		3
#define CALLERS		2
#define QUEUES		4
#define MAX_RING	1024
#define MAX_WORKERS	8	/* of vhost, in one device */
#define MAX_BUSYLOOP	1000	/* us: a case must not take seconds */

/* How long an honest request, or the end of a process, may take. */
#define INNOCENT_MS	(10000 * limit_factor())
#define STUCK_S		(60 * limit_factor())

/*
 * Guest memory: rings, indirect tables, lists of ranges, headers and status bytes,
 * data; then the dirty log, which is guest memory as well.
 */
#define RING_BYTES	(64ULL << 10)
#define AVAIL_OFFSET	(16ULL << 10)
#define USED_OFFSET	(32ULL << 10)
#define TABLES		(QUEUES * RING_BYTES)
#define TABLE_BYTES	(8ULL << 10)
#define NUM_TABLES	128
#define LISTS		(TABLES + NUM_TABLES * TABLE_BYTES)
#define LIST_BYTES	(8ULL << 10)
#define NUM_LISTS	64
#define ENDS		(LISTS + NUM_LISTS * LIST_BYTES)
#define END_BYTES	128ULL
#define NUM_ENDS	1024
#define DATA		(ENDS + NUM_ENDS * END_BYTES)
#define MEMORY		(16ULL << 20)
#define LOG_BYTES	(2ULL << 20)

/*
 * Where the device sees it. Nothing else is mapped within a terabyte, so that a
 * hole stays one. Tables have guest physical addresses below MAX_GPA, for which
 * the log has room, or so high that the log's end is no user address.
 */
#define VIEW		0x100000000000ULL
#define MAX_GPA		(LOG_BYTES * 8 * PAGE)

/* What the processes tell each other. */
struct shared {
	bool stop;
	unsigned long rings, chains, ioctls, answers;
	unsigned long beats[WORKERS];
	unsigned long innocent_requests, innocent_slowest_ms;
	char innocent_failure[128];
};

static struct shared *shared;

/* What else goes on while the chains are made. */
#define SCRIBBLES	1	/* into the rings */
#define CALLS		2	/* of any kind */
#define MOVES		4	/* of memory */

struct rng {
	uint64_t state;
};

/* A fuzzing process. */
static struct {
	struct vhost_client c;
	unsigned int number;
	int disk, disk_ro;
	int memfd;
	uint8_t *mem;
	uint64_t capacity;
	unsigned int num_queues, ring_size;
	int kick, call, err;
	unsigned int cursor[QUEUES];
	unsigned int turn;
	uint16_t seen[QUEUES];
	unsigned int workers;
	unsigned int moods;
	bool iotlb;
} w;

static uint64_t rnd(struct rng *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(struct rng *r, uint64_t limit)
{
	return (rnd(r) >> 8) % limit;
}

static bool one_in(struct rng *r, unsigned int n)
{
	return !below(r, n);
}

static void seed_rng(struct rng *r, uint64_t seed, uint64_t a, uint64_t b)
{
	unsigned int i;

	r->state = seed * 0x9e3779b97f4a7c15ULL + a * 0xbf58476d1ce4e5b9ULL +
		   b * 0x94d049bb133111ebULL;
	if (!r->state)
		r->state = 1;
	for (i = 0; i < 8; i++)
		rnd(r);
}

static void count(unsigned long *counter, unsigned long n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static bool stopping(void)
{
	return __atomic_load_n(&shared->stop, __ATOMIC_RELAXED);
}

/* The innocent process */

static void innocent_fail(const char *what, int ret)
{
	snprintf(shared->innocent_failure, sizeof(shared->innocent_failure),
		 "%s (%d)", what, ret);
	_exit(1);
}

static void innocent_request(struct vhost_client *c, uint32_t type,
			     uint64_t sector, void *data, uint32_t bytes)
{
	static struct virtio_blk_outhdr *hdr;
	static uint8_t *status;
	struct vhost_client_seg segs[3];
	unsigned long ms;
	long start;
	int ret;

	if (!hdr)
		hdr = vhost_client_alloc(c, sizeof(*hdr), 16);
	if (!status)
		status = vhost_client_alloc(c, 1, 1);
	*hdr = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	*status = 0xee;
	segs[0] = (struct vhost_client_seg){ hdr, sizeof(*hdr), false };
	segs[1] = (struct vhost_client_seg){ data, bytes,
					     type == VIRTIO_BLK_T_IN };
	segs[2] = (struct vhost_client_seg){ status, 1, true };

	start = vhost_client_now_ms();
	vhost_client_add(c, 0, segs, 3, NULL);
	vhost_client_kick(c, 0, false);
	ret = vhost_client_get_used(c, 0, NULL, INNOCENT_MS);
	if (ret < 0)
		innocent_fail("a request was not answered", ret);
	if (*status != VIRTIO_BLK_S_OK)
		innocent_fail("a request failed", *status);
	ms = vhost_client_now_ms() - start;
	if (ms > shared->innocent_slowest_ms)
		shared->innocent_slowest_ms = ms;
	shared->innocent_requests++;
}

static void innocent_round(struct vhost_client *c, struct rng *r,
			   uint64_t *out, uint64_t *in)
{
	uint32_t bytes = PAGE * (1 + below(r, 16));
	uint64_t sector = 8 * below(r, (16 << 20) / PAGE - 16);
	unsigned int i;

	for (i = 0; i < bytes / sizeof(*out); i++)
		out[i] = rnd(r);
	memset(in, 0, bytes);
	innocent_request(c, VIRTIO_BLK_T_OUT, sector, out, bytes);
	innocent_request(c, VIRTIO_BLK_T_IN, sector, in, bytes);
	if (memcmp(in, out, bytes))
		innocent_fail("data read is not what was written", 0);
}

static void be_innocent(const char *disk, uint64_t seed)
{
	int fd = open(disk, O_RDWR | O_CLOEXEC), ret;
	struct vhost_client c;
	uint64_t *out, *in;
	struct rng r;

	seed_rng(&r, seed, ~0ULL, 0);
	ret = vhost_client_open(&c, DEVICE, 4 << 20);
	if (!ret)
		ret = vhost_client_bind(&c, fd, 0, 1, "innocent");
	if (!ret)
		ret = vhost_client_setup(&c, ~0ULL, 1, 64);
	if (!ret)
		ret = vhost_client_run(&c, true);
	if (ret)
		innocent_fail("the device can't be started", ret);
	out = vhost_client_alloc(&c, 64 << 10, PAGE);
	in = vhost_client_alloc(&c, 64 << 10, PAGE);
	while (!stopping()) {
		innocent_round(&c, &r, out, in);
		/* It is to be served, not to take the processor. */
		usleep(1000);
	}
	vhost_client_close(&c);
	_exit(0);
}

/* Numbers with a chance to be wrong in an interesting way */

static uint64_t any_edge(struct rng *r)
{
	uint64_t edge = 1ULL << below(r, 64);

	switch (below(r, 4)) {
	case 0:
		return edge;
	case 1:
		return edge - 1;
	case 2:
		return -edge;
	default:
		return rnd(r);
	}
}

/* A guest physical address for a descriptor. */
static uint64_t any_gpa(struct rng *r)
{
	switch (below(r, 16)) {
	case 0:
		return any_edge(r);
	case 1:
		return VHOST_CLIENT_BASE + MEMORY - below(r, 2 * PAGE);
	case 2:
		return VHOST_CLIENT_BASE + MEMORY + below(r, PAGE);
	case 3:
		return VHOST_CLIENT_BASE - below(r, PAGE);
	case 4:
		return VHOST_CLIENT_BASE + below(r, DATA);
	case 5:
		return -below(r, 1 << 20);
	case 6:
	case 7:
		return VHOST_CLIENT_BASE + below(r, MEMORY);
	default:
		return VHOST_CLIENT_BASE + DATA +
		       SECTOR * below(r, (MEMORY - DATA) / SECTOR);
	}
}

static uint32_t any_len(struct rng *r)
{
	static const uint32_t edges[] = {
		0, 1, 15, 16, 17, 511, 512, 513, 4095, 4096, 4097, 65536,
		1 << 20, (1 << 20) + 1, 1 << 24, INT32_MAX, 1U << 31,
		UINT32_MAX - 511, UINT32_MAX
	};

	switch (below(r, 4)) {
	case 0:
		return edges[below(r, sizeof(edges) / sizeof(*edges))];
	case 1:
		return below(r, 8192);
	default:
		return SECTOR * (1 + below(r, 16));
	}
}

/* A user address that the device may write, or that the kernel must refuse. */
static uint64_t any_view(struct rng *r)
{
	switch (below(r, 8)) {
	case 0:
		return VIEW - PAGE * below(r, 256);
	case 1:
		return VIEW + MEMORY + LOG_BYTES + PAGE * below(r, 256);
	case 2:
		return 1ULL << 63 | rnd(r);
	case 3:
		return VIEW + below(r, MEMORY);
	default:
		return VIEW + PAGE * below(r, MEMORY / PAGE);
	}
}

/* Of a table, under the rules above. */
static uint64_t any_table_gpa(struct rng *r)
{
	switch (below(r, 4)) {
	case 0:
		return PAGE * below(r, MAX_GPA / PAGE / 2);
	case 1:
		return -PAGE * below(r, 1 << 20);
	case 2:
		return VHOST_CLIENT_BASE + below(r, 2 * MEMORY);
	default:
		return VHOST_CLIENT_BASE + PAGE * below(r, 2 * MEMORY / PAGE);
	}
}

static uint64_t any_table_size(struct rng *r)
{
	switch (below(r, 8)) {
	case 0:
		return 0;
	case 1:
		return 1ULL << 63 | rnd(r);
	case 2:
		return below(r, MEMORY);
	default:
		return PAGE * (1 + below(r, MEMORY / PAGE));
	}
}

/* Guest memory */

static void map_view(void)
{
	if (mmap((void *)VIEW, MEMORY + LOG_BYTES, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, w.memfd, 0) == MAP_FAILED)
		abort();
}

static void set_good_table(void)
{
	struct vhost_memory_region region = {
		.guest_phys_addr = VHOST_CLIENT_BASE,
		.memory_size = MEMORY,
		.userspace_addr = VIEW,
	};

	vhost_client_set_mem_table(&w.c, &region, 1);
}

/* All of guest memory, in pieces that are not in order in this process. */
static void set_split_table(struct rng *r)
{
	struct vhost_memory_region regions[16];
	uint64_t piece = MEMORY / 16;
	unsigned int i, turn = below(r, 16);

	for (i = 0; i < 16; i++)
		regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = VHOST_CLIENT_BASE + i * piece,
			.memory_size = piece - (one_in(r, 64) ? PAGE : 0),
			.userspace_addr = VIEW + (i + turn) % 16 * piece,
		};
	vhost_client_set_mem_table(&w.c, regions, 16);
}

static void set_bad_table(struct rng *r)
{
	struct vhost_memory_region regions[70] = {};
	unsigned int num = one_in(r, 4) ? below(r, 70) : below(r, 6);
	unsigned int i;

	for (i = 0; i < num; i++) {
		regions[i].guest_phys_addr = any_table_gpa(r);
		regions[i].memory_size = any_table_size(r);
		regions[i].userspace_addr = any_view(r);
		regions[i].flags_padding = one_in(r, 16) ? rnd(r) : 0;
	}
	vhost_client_set_mem_table(&w.c, regions, num);
}

/* Takes a piece of memory away from under the device, or gives all back. */
static void move_memory(struct rng *r)
{
	uint64_t start = PAGE * below(r, MEMORY / PAGE);
	size_t size = PAGE * (1 + below(r, (MEMORY - start) / PAGE));
	void *addr = (void *)(VIEW + start);

	switch (below(r, 12)) {
	case 0:
		munmap(addr, size);
		break;
	case 1:
		mprotect(addr, size, PROT_NONE);
		break;
	case 2:
		mprotect(addr, size, PROT_READ);
		break;
	case 3:
		madvise(addr, size, MADV_DONTNEED);
		break;
	case 4:
		madvise(addr, size, MADV_REMOVE);
		break;
	case 5:
		set_bad_table(r);
		break;
	case 6:
	case 7:
		set_split_table(r);
		break;
	default:
		map_view();
		set_good_table();
	}
}

/* Rings and chains */

static struct vring_desc *ring_descs(unsigned int queue)
{
	return (struct vring_desc *)(w.mem + queue * RING_BYTES);
}

static struct vring_avail *ring_avail(unsigned int queue)
{
	return (struct vring_avail *)(w.mem + queue * RING_BYTES + AVAIL_OFFSET);
}

static struct vring_used *ring_used(unsigned int queue)
{
	return (struct vring_used *)(w.mem + queue * RING_BYTES + USED_OFFSET);
}

static uint64_t gpa(const void *addr)
{
	return VHOST_CLIENT_BASE + ((const uint8_t *)addr - w.mem);
}

static void kick(void)
{
	uint64_t one = 1;

	if (write(w.kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

/* The eventfds of all queues are the same: who is told more looks more often. */
static void set_ring(unsigned int queue, bool log)
{
	uint64_t base = (w.iotlb ? VHOST_CLIENT_BASE : VIEW) +
			queue * RING_BYTES;
	struct vhost_vring_state num = { queue, w.ring_size };
	struct vhost_vring_state index = { queue, ring_avail(queue)->idx };
	struct vhost_vring_addr addr = {
		.index = queue,
		.flags = log ? 1U << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = base,
		.avail_user_addr = base + AVAIL_OFFSET,
		.used_user_addr = base + USED_OFFSET,
		.log_guest_addr = VHOST_CLIENT_BASE + queue * RING_BYTES +
				  USED_OFFSET,
	};
	struct vhost_vring_file file = { .index = queue };

	vhost_client_ioctl(&w.c, VHOST_SET_VRING_NUM, &num);
	vhost_client_ioctl(&w.c, VHOST_SET_VRING_BASE, &index);
	vhost_client_ioctl(&w.c, VHOST_SET_VRING_ADDR, &addr);
	file.fd = w.kick;
	vhost_client_ioctl(&w.c, VHOST_SET_VRING_KICK, &file);
	file.fd = w.call;
	vhost_client_ioctl(&w.c, VHOST_SET_VRING_CALL, &file);
	file.fd = w.err;
	vhost_client_ioctl(&w.c, VHOST_SET_VRING_ERR, &file);
}

static uint64_t any_sector(struct rng *r)
{
	if (one_in(r, 32))
		return any_edge(r);
	if (one_in(r, 16))
		return w.capacity - below(r, 16);
	return below(r, w.capacity / 8) * 8;
}

static uint32_t any_type(struct rng *r)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD,
		VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_SECURE_ERASE,
		VIRTIO_BLK_T_SCSI_CMD
	};

	if (one_in(r, 32))
		return any_edge(r);
	if (one_in(r, 4))
		return types[below(r, sizeof(types) / sizeof(*types))];
	return one_in(r, 2) ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
}

/* A list of ranges to discard or to zero; its bytes, most often whole elements. */
static uint32_t make_ranges(struct rng *r, struct virtio_blk_discard_write_zeroes *list)
{
	unsigned int num = one_in(r, 8) ? below(r, 257) : 1 + below(r, 4), i;

	for (i = 0; i < num; i++) {
		list[i].sector = any_sector(r);
		list[i].num_sectors = one_in(r, 16) ? any_edge(r) : 8 * below(r, 64);
		list[i].flags = one_in(r, 16) ? rnd(r) : below(r, 2);
	}
	return num * sizeof(*list) + (one_in(r, 16) ? below(r, 16) : 0);
}

/* A chain while it is being made: descriptors in order, linked afterwards. */
struct chain {
	struct vring_desc descs[260];
	unsigned int num;
	struct virtio_blk_outhdr *hdr;
};

static void add_piece(struct chain *ch, uint64_t addr, uint32_t len, bool writes)
{
	ch->descs[ch->num++] = (struct vring_desc){
		.addr = addr,
		.len = len,
		.flags = writes ? VRING_DESC_F_WRITE : 0,
	};
}

static unsigned int any_pieces(struct rng *r)
{
	if (one_in(r, 64))
		return below(r, 255);
	return one_in(r, 4) ? below(r, 20) : 1;
}

/* Memory for a chain that those before it don't use any more, most probably. */
static void *next_of(uint64_t area, unsigned int num, size_t bytes)
{
	return w.mem + area + w.turn++ % num * bytes;
}

/* Whole sectors in pieces of whole sectors, or of any length. */
static void add_data(struct rng *r, struct chain *ch, bool writes)
{
	unsigned int pieces = any_pieces(r), i;
	uint64_t grain = one_in(r, 4) ? 1 : SECTOR;
	uint32_t total = 0, len;

	for (i = 0; i < pieces; i++) {
		len = grain * (1 + below(r, 8 * PAGE / grain));
		if (i + 1 == pieces)
			len += -(total + len) % SECTOR;
		total += len;
		add_piece(ch, VHOST_CLIENT_BASE + DATA + grain *
			  below(r, (MEMORY - DATA) / grain - 9 * PAGE / grain),
			  len, writes);
	}
}

/* One that a driver might make. */
static void make_good_chain(struct rng *r, struct chain *ch)
{
	uint8_t *ends = next_of(ENDS, NUM_ENDS, END_BYTES);
	uint32_t type = any_type(r);
	unsigned int i;

	ch->num = 0;
	ch->hdr = (struct virtio_blk_outhdr *)ends;
	ch->hdr->type = type;
	ch->hdr->ioprio = one_in(r, 8) ? rnd(r) : 0;
	ch->hdr->sector = any_sector(r);
	add_piece(ch, gpa(ends), sizeof(*ch->hdr), false);
	if (type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT) {
		add_data(r, ch, type == VIRTIO_BLK_T_IN);
	} else if (type == VIRTIO_BLK_T_GET_ID) {
		add_piece(ch, gpa(ends + 64), one_in(r, 4) ? below(r, 64) : 20,
			  true);
	} else if (type != VIRTIO_BLK_T_FLUSH) {
		void *list = next_of(LISTS, NUM_LISTS, LIST_BYTES);

		add_piece(ch, gpa(list), make_ranges(r, list), false);
	}
	add_piece(ch, gpa(ends + 48), 1, true);
	for (i = 0; i + 1 < ch->num; i++)
		ch->descs[i].flags |= VRING_DESC_F_NEXT;
}

static void make_random_chain(struct rng *r, struct chain *ch)
{
	unsigned int num = 1 + below(r, one_in(r, 8) ? 258 : 6);

	ch->num = 0;
	ch->hdr = NULL;
	while (ch->num < num) {
		add_piece(ch, any_gpa(r), any_len(r), false);
		ch->descs[ch->num - 1].flags =
			one_in(r, 8) ? rnd(r) : below(r, 8) & ~VRING_DESC_F_INDIRECT;
	}
}

/* Changes one field. */
static void mutate(struct rng *r, struct chain *ch)
{
	struct vring_desc *desc = &ch->descs[below(r, ch->num)];

	switch (below(r, 8)) {
	case 0:
	case 1:
		desc->addr = any_gpa(r);
		break;
	case 2:
	case 3:
		desc->len = any_len(r);
		break;
	case 4:
		desc->flags ^= 1U << below(r, 3);
		break;
	case 5:
		desc->flags = rnd(r);
		break;
	case 6:
		if (ch->hdr)
			ch->hdr->sector = any_edge(r);
		break;
	default:
		if (ch->hdr)
			ch->hdr->type = one_in(r, 2) ? any_type(r) : any_edge(r);
	}
}

/*
 * Writes a chain into a table of @size descriptors from index @at on. Most links
 * are right.
 */
static void link_chain(struct rng *r, const struct chain *ch,
		       struct vring_desc *table, unsigned int size, unsigned int at,
		       bool wild)
{
	unsigned int i;

	for (i = 0; i < ch->num; i++) {
		const struct vring_desc *desc = &ch->descs[i];
		uint16_t next = (at + i + 1) % size;

		if (wild && one_in(r, ch->num))
			next = one_in(r, 2) ? rnd(r) : below(r, size);
		vhost_client_set_desc(table, (at + i) % size, desc->addr,
				      desc->len, desc->flags, next);
	}
}

/* Puts the chain into an indirect table and makes it a chain that says so. */
static void make_indirect(struct rng *r, struct chain *ch, bool wild)
{
	struct vring_desc *table = next_of(TABLES, NUM_TABLES, TABLE_BYTES);
	uint32_t len = ch->num * sizeof(*table);

	link_chain(r, ch, table, 512, 0, wild);
	if (wild && one_in(r, 4))
		table[below(r, ch->num)].flags |= VRING_DESC_F_INDIRECT;
	if (wild && one_in(r, 4))
		len = one_in(r, 2) ? any_len(r) : len + below(r, 32) - 16;
	ch->num = 0;
	add_piece(ch, gpa(table), len, wild && one_in(r, 8));
	ch->descs[0].flags |= VRING_DESC_F_INDIRECT;
	if (wild && one_in(r, 8))
		ch->descs[0].flags |= VRING_DESC_F_NEXT;
}

static void offer(struct rng *r, unsigned int queue, uint16_t head, bool wild)
{
	struct vring_avail *avail = ring_avail(queue);
	uint16_t idx = avail->idx;

	if (wild && one_in(r, 8))
		head = rnd(r);
	avail->ring[idx % w.ring_size] = head;
	if (wild && one_in(r, 32))
		idx += one_in(r, 2) ? rnd(r) : below(r, w.ring_size);
	__atomic_store_n(&avail->idx, idx + 1, __ATOMIC_RELEASE);
}

static void make_chain(struct rng *r, bool wild)
{
	unsigned int queue = below(r, w.num_queues);
	unsigned int head = w.cursor[queue] % w.ring_size;
	struct chain ch;

	if (wild && one_in(r, 4)) {
		make_random_chain(r, &ch);
	} else {
		make_good_chain(r, &ch);
		if (wild)
			mutate(r, &ch);
	}
	if (ch.num > w.ring_size / 2 || one_in(r, 3))
		make_indirect(r, &ch, wild && one_in(r, 2));
	link_chain(r, &ch, ring_descs(queue), w.ring_size, head,
		   wild && one_in(r, 4));
	offer(r, queue, head, wild);
	w.cursor[queue] += ch.num;
	count(&shared->chains, 1);
}

/* Most often a driver has no more under way than fits. */
static void await_room(struct rng *r)
{
	unsigned int tries = one_in(r, 16) ? 0 : 20, i;

	for (i = 0; i < w.num_queues; i++)
		while (tries && (uint16_t)(ring_avail(i)->idx - ring_used(i)->idx) >
		       w.ring_size / 16) {
			usleep(200);
			tries--;
		}
}

/* The descriptors that have been used up in all queues. */
static unsigned int descs_used(void)
{
	unsigned int i, sum = 0;

	for (i = 0; i < QUEUES; i++)
		sum += w.cursor[i];
	return sum;
}

/*
 * Half of a ring at most, unless chains are to be written over while they are
 * under way. The last chain may be bad: what comes behind is most often not looked
 * at.
 */
static void make_chains(struct rng *r)
{
	unsigned int num = 1 + below(r, one_in(r, 4) ? 100 : 10);
	unsigned int end = descs_used() + w.ring_size / 2;

	if (one_in(r, 32))
		end += 4 * w.ring_size;
	await_room(r);
	while (--num && descs_used() < end)
		make_chain(r, false);
	make_chain(r, one_in(r, 3));
	kick();
}

/* Life of a device */

static void dirty_log(struct rng *r, bool on)
{
	uint64_t base = one_in(r, 8) ? any_view(r) : VIEW + MEMORY;
	uint64_t features;
	unsigned int i;

	if (vhost_client_get_features(&w.c, &features))
		return;
	if (!(features & 1ULL << VHOST_F_LOG_ALL))
		return;
	vhost_client_ioctl(&w.c, VHOST_SET_LOG_BASE, &base);
	features = w.c.features;
	if (on)
		features |= 1ULL << VHOST_F_LOG_ALL;
	vhost_client_ioctl(&w.c, VHOST_SET_FEATURES, &features);
	for (i = 0; i < w.num_queues; i++)
		set_ring(i, on);
}

/* Answers since the last look, as far as only the device writes its index. */
static void count_answers(void)
{
	unsigned int i;

	for (i = 0; i < w.num_queues; i++) {
		uint16_t now = ring_used(i)->idx;

		uint16_t answers = now - w.seen[i];

		/* More than a step can have is no number of answers. */
		if (answers <= MAX_RING)
			count(&shared->answers, answers);
		w.seen[i] = now;
	}
}

/* Where the used index is, is where the device goes on. */
static void reset_rings(void)
{
	unsigned int i;

	for (i = 0; i < w.num_queues; i++) {
		w.seen[i] = ring_avail(i)->idx;
		ring_used(i)->idx = w.seen[i];
		set_ring(i, false);
	}
}

static void map_all(void)
{
	vhost_client_iotlb_send(&w.c, VHOST_IOTLB_UPDATE, VHOST_CLIENT_BASE,
				MEMORY, VIEW, VHOST_ACCESS_RW);
}

static void map_iotlb(struct rng *r)
{
	if (one_in(r, 4))
		vhost_client_iotlb_send(&w.c, VHOST_IOTLB_UPDATE, any_table_gpa(r),
					any_table_size(r), any_view(r), rnd(r));
	else if (one_in(r, 4))
		vhost_client_iotlb_send(&w.c, one_in(r, 8) ? rnd(r) :
					VHOST_IOTLB_INVALIDATE, any_gpa(r),
					any_table_size(r), 0, 0);
	else
		map_all();
}

/* Most misses are answered, with a page of memory or of nothing. */
static void answer_misses(struct rng *r)
{
	struct vhost_msg_v2 msg;

	while (read(w.c.fd, &msg, sizeof(msg)) == sizeof(msg)) {
		uint64_t iova = msg.iotlb.iova & -PAGE;
		uint64_t offset = iova - VHOST_CLIENT_BASE;

		if (one_in(r, 8))
			continue;
		if (offset >= MEMORY)
			offset = PAGE * below(r, MEMORY / PAGE);
		vhost_client_iotlb_send(&w.c, VHOST_IOTLB_UPDATE, iova, PAGE,
					VIEW + offset, one_in(r, 8) ? rnd(r) :
					VHOST_ACCESS_RW);
	}
}

static void use_workers(struct rng *r)
{
	unsigned int id = below(r, MAX_WORKERS);

	switch (below(r, 3)) {
	case 0:
		if (w.workers < MAX_WORKERS &&
		    !vhost_client_new_worker(&w.c, &id))
			w.workers++;
		break;
	case 1:
		if (!vhost_client_free_worker(&w.c, id) && w.workers)
			w.workers--;
		break;
	default:
		vhost_client_attach_worker(&w.c, below(r, w.num_queues), id);
	}
}

/* Only one device at a time gets it for writing. */
static void bind_disk(struct rng *r)
{
	if (one_in(r, 4) ||
	    vhost_client_bind(&w.c, w.disk, 0, w.num_queues, "fuzz"))
		vhost_client_bind(&w.c, w.disk_ro, below(r, 2), w.num_queues,
				  "fuzz");
}

/*
 * In half of the calls memory is pinned, as far as it can be. Then the completion of a request
 * may answer it.
 */
static void pin_memory(struct rng *r)
{
	vhost_client_pin_memory(&w.c, one_in(r, 2));
}

/* Records of what is in flight, anywhere in guest memory. */
static void set_records(struct rng *r)
{
	struct vhost_blk_vring_inflight record = { 0 };
	unsigned int i;

	for (i = 0; i < w.num_queues; i++) {
		record.index = i;
		record.addr = one_in(r, 4) ? any_view(r) & ~7ULL : 0;
		vhost_client_ioctl(&w.c, VHOST_BLK_SET_VRING_INFLIGHT, &record);
	}
}

/* A process that has the file too but does not own the device. */
static void share_file(struct rng *r)
{
	uint32_t stop = 0;
	useconds_t delay = below(r, 20000);

	if (fork())
		return;
	ioctl(w.c.fd, VHOST_BLK_SET_RUNNING, &stop);
	ioctl(w.c.fd, VHOST_SET_OWNER, NULL);
	usleep(delay);
	_exit(0);
}

static void restart(struct rng *r)
{
	vhost_client_run(&w.c, false);
	count_answers();
	if (one_in(r, 4))
		bind_disk(r);
	if (one_in(r, 16)) {
		vhost_client_reset_owner(&w.c);
		vhost_client_ioctl(&w.c, VHOST_SET_OWNER, NULL);
		vhost_client_ioctl(&w.c, VHOST_SET_FEATURES, &w.c.features);
		map_view();
		set_good_table();
		w.workers = 0;
	}
	pin_memory(r);
	reset_rings();
	set_records(r);
	if (w.iotlb)
		map_all();
	vhost_client_run(&w.c, true);
	kick();
}

/* Whether a ring has become broken; if so, sooner or later it gets a new start. */
static void look_for_errors(struct rng *r)
{
	struct pollfd err = { .fd = w.err, .events = POLLIN };
	uint64_t drop;

	if (poll(&err, 1, one_in(r, 2) ? below(r, 5) : 0) <= 0 || one_in(r, 4))
		return;
	if (read(w.err, &drop, sizeof(drop)) == sizeof(drop))
		restart(r);
}

static void disturb(struct rng *r)
{
	switch (below(r, 9)) {
	case 0:
		restart(r);
		break;
	case 1:
		if (one_in(r, 2))
			use_workers(r);
		else
			vhost_client_move_threads(rnd(r));
		break;
	case 2:
		vhost_client_set_busyloop(&w.c, below(r, w.num_queues),
					  below(r, 2) * below(r, MAX_BUSYLOOP));
		break;
	case 3:
		dirty_log(r, one_in(r, 2));
		break;
	case 4:
		if (w.iotlb)
			map_iotlb(r);
		break;
	case 5:
		if (one_in(r, 8))
			share_file(r);
		break;
	case 6:
		pin_memory(r);
		break;
	default:
		if (w.moods & MOVES)
			move_memory(r);
	}
}

static void one_step(struct rng *r)
{
	if (one_in(r, 16))
		disturb(r);
	else
		make_chains(r);
	if (w.iotlb)
		answer_misses(r);
	if (one_in(r, 2))
		usleep(below(r, 2000));
	look_for_errors(r);
	count_answers();
}

static uint64_t any_features(struct rng *r)
{
	uint64_t features;

	if (vhost_client_get_features(&w.c, &features))
		return 0;
	features &= ~(1ULL << VHOST_F_LOG_ALL);
	if (!one_in(r, 4))
		features &= ~(1ULL << VIRTIO_F_ACCESS_PLATFORM);
	return one_in(r, 4) ? features & rnd(r) : features;
}

/* Opens, binds and starts; the rest of the errors are as good as a success. */
static bool begin_ring(struct rng *r)
{
	uint64_t backend = 1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2;

	w.c.fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (w.c.fd < 0)
		abort();
	w.num_queues = 1 + below(r, QUEUES);
	w.ring_size = 1U << (one_in(r, 8) ? below(r, 11) : 5 + below(r, 6));
	w.workers = 0;
	w.moods = one_in(r, 2) ? 0 : below(r, 8);
	bind_disk(r);
	if (vhost_client_ioctl(&w.c, VHOST_SET_OWNER, NULL))
		return false;
	map_view();
	w.c.features = any_features(r);
	w.iotlb = w.c.features >> VIRTIO_F_ACCESS_PLATFORM & 1;
	if (w.iotlb)
		vhost_client_ioctl(&w.c, VHOST_SET_BACKEND_FEATURES, &backend);
	vhost_client_ioctl(&w.c, VHOST_SET_FEATURES, &w.c.features);
	pin_memory(r);
	set_good_table();
	reset_rings();
	set_records(r);
	if (w.iotlb)
		map_all();
	return !vhost_client_run(&w.c, true);
}

static void one_ring(struct rng *r)
{
	unsigned int steps = 1 + below(r, one_in(r, 4) ? 200 : 40);

	if (begin_ring(r))
		count(&shared->rings, 1);
	else
		steps = below(r, 4);
	while (steps-- && !stopping()) {
		one_step(r);
		count(&shared->beats[w.number], 1);
	}
	if (one_in(r, 2))
		vhost_client_run(&w.c, false);
	count_answers();
	close(w.c.fd);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* The thread that writes where the device and the driver write as well. */
static void *scribbler(void *arg)
{
	struct rng *r = arg;

	while (!stopping()) {
		unsigned int queue = below(r, QUEUES);
		unsigned int writes = w.moods & SCRIBBLES ? below(r, 50) : 0;
		uint16_t *at;

		while (writes--) {
			switch (below(r, 4)) {
			case 0:
				ring_used(queue)->flags = rnd(r);
				break;
			case 1:
				ring_avail(queue)->flags = rnd(r);
				break;
			case 2:
				at = (uint16_t *)(w.mem + queue * RING_BYTES);
				at[below(r, RING_BYTES / 2)] = rnd(r);
				break;
			default:
				at = &ring_avail(queue)->ring[w.ring_size];
				*at = ring_used(queue)->idx + below(r, 8);
			}
		}
		usleep(1000);
	}
	return NULL;
}

/* The threads that call anything with anything */

struct call {
	unsigned long cmd;
	void (*make)(struct rng *r, void *arg);
};

static void make_u64(struct rng *r, void *arg)
{
	uint64_t *features = arg;

	*features = one_in(r, 2) ? w.c.features : any_edge(r);
}

static void make_state(struct rng *r, void *arg)
{
	struct vhost_vring_state *state = arg;

	state->index = one_in(r, 16) ? rnd(r) : below(r, QUEUES);
	state->num = one_in(r, 2) ? any_edge(r) : 1U << below(r, 12);
}

static void make_busyloop(struct rng *r, void *arg)
{
	struct vhost_vring_state *state = arg;

	make_state(r, arg);
	state->num = below(r, MAX_BUSYLOOP);
}

/* Each is a file that it isn't meant for, but none that the others need. */
static int any_fd(struct rng *r)
{
	int files[] = { w.kick, w.call, w.err, -1, w.disk, w.c.fd };

	if (one_in(r, 8))
		return below(r, 32) - 2;
	return files[below(r, 6)];
}

static void make_file(struct rng *r, void *arg)
{
	struct vhost_vring_file *file = arg;

	make_state(r, arg);
	file->fd = any_fd(r);
}

static void make_fd(struct rng *r, void *arg)
{
	*(int *)arg = any_fd(r);
}

static void make_addr(struct rng *r, void *arg)
{
	struct vhost_vring_addr *addr = arg;

	make_state(r, arg);
	addr->flags = one_in(r, 8) ? rnd(r) : below(r, 2);
	addr->desc_user_addr = any_view(r);
	addr->avail_user_addr = any_view(r);
	addr->used_user_addr = any_view(r);
	addr->log_guest_addr = any_table_gpa(r);
}

static void make_table(struct rng *r, void *arg)
{
	struct vhost_memory *table = arg;
	unsigned int i;

	table->nregions = one_in(r, 8) ? rnd(r) : below(r, 4);
	table->padding = one_in(r, 16);
	for (i = 0; i < 4; i++) {
		table->regions[i].guest_phys_addr = any_table_gpa(r);
		table->regions[i].memory_size = any_table_size(r);
		table->regions[i].userspace_addr = any_view(r);
	}
	/* What lies behind would be regions of anything. */
	if (table->nregions > 4 && table->nregions < 1 << 16)
		table->nregions = 4;
}

static void make_log_base(struct rng *r, void *arg)
{
	*(uint64_t *)arg = one_in(r, 2) ? VIEW + MEMORY : any_view(r);
}

static void make_worker(struct rng *r, void *arg)
{
	struct vhost_vring_worker *worker = arg;

	make_state(r, arg);
	worker->worker_id = one_in(r, 8) ? any_edge(r) : below(r, MAX_WORKERS);
}

static void make_bind(struct rng *r, void *arg)
{
	struct vhost_blk_bind *bind = arg;

	memset(bind, 0, sizeof(*bind));
	bind->fd = one_in(r, 2) ? w.disk_ro : any_fd(r);
	bind->flags = one_in(r, 8) ? rnd(r) : below(r, 2);
	bind->num_queues = one_in(r, 4) ? any_edge(r) : w.num_queues;
	bind->reserved = one_in(r, 16);
}

static void make_config(struct rng *r, void *arg)
{
	struct vhost_blk_config *config = arg;

	config->offset = one_in(r, 4) ? any_edge(r) : below(r, 100);
	config->size = one_in(r, 4) ? any_edge(r) : below(r, 8);
	config->data[0] = below(r, 4);
}

static void make_running(struct rng *r, void *arg)
{
	*(uint32_t *)arg = one_in(r, 8) ? any_edge(r) : !one_in(r, 4);
}

static void make_ring_running(struct rng *r, void *arg)
{
	struct vhost_vring_state *state = arg;

	make_state(r, arg);
	make_running(r, &state->num);
}

static void make_record(struct rng *r, void *arg)
{
	struct vhost_blk_vring_inflight *record = arg;

	make_state(r, arg);
	record->reserved = one_in(r, 16);
	record->addr = one_in(r, 4) ? 0 : any_view(r);
	if (!one_in(r, 4))
		record->addr &= ~7ULL;
}

static void make_name(struct rng *r, void *arg)
{
	struct vhost_blk_name *name = arg;
	unsigned int i;

	for (i = 0; i < sizeof(name->name); i++)
		name->name[i] = one_in(r, 16) ? rnd(r) : 'a';
	if (!one_in(r, 4))
		name->name[below(r, sizeof(name->name))] = 0;
}

static const struct call calls[] = {
	{ VHOST_GET_FEATURES, make_u64 },
	{ VHOST_SET_FEATURES, make_u64 },
	{ VHOST_SET_OWNER, make_u64 },
	{ VHOST_SET_MEM_TABLE, make_table },
	{ VHOST_SET_LOG_BASE, make_log_base },
	{ VHOST_SET_LOG_FD, make_fd },
	{ VHOST_FREE_WORKER, make_worker },
	{ VHOST_SET_VRING_NUM, make_state },
	{ VHOST_SET_VRING_ADDR, make_addr },
	{ VHOST_SET_VRING_BASE, make_state },
	{ VHOST_GET_VRING_BASE, make_state },
	{ VHOST_SET_VRING_ENDIAN, make_state },
	{ VHOST_GET_VRING_ENDIAN, make_state },
	{ VHOST_ATTACH_VRING_WORKER, make_worker },
	{ VHOST_GET_VRING_WORKER, make_worker },
	{ VHOST_SET_VRING_KICK, make_file },
	{ VHOST_SET_VRING_CALL, make_file },
	{ VHOST_SET_VRING_ERR, make_file },
	{ VHOST_SET_VRING_BUSYLOOP_TIMEOUT, make_busyloop },
	{ VHOST_GET_VRING_BUSYLOOP_TIMEOUT, make_state },
	{ VHOST_SET_BACKEND_FEATURES, make_u64 },
	{ VHOST_GET_BACKEND_FEATURES, make_u64 },
#ifdef VHOST_SET_FORK_FROM_OWNER
	{ VHOST_SET_FORK_FROM_OWNER, make_running },
	{ VHOST_GET_FORK_FROM_OWNER, make_running },
#endif
	{ VHOST_NET_SET_BACKEND, make_file },
	{ VHOST_BLK_BIND, make_bind },
	{ VHOST_BLK_GET_CONFIG, make_config },
	{ VHOST_BLK_SET_RUNNING, make_running },
	{ VHOST_BLK_SET_CONFIG, make_config },
	{ VHOST_BLK_SET_CONFIG_CALL, make_fd },
	{ VHOST_BLK_SET_VRING_RUNNING, make_ring_running },
	{ VHOST_BLK_SET_VRING_INFLIGHT, make_record },
	{ VHOST_BLK_SET_NAME, make_name },
	{ VHOST_BLK_SET_PIN_MEMORY, make_running },
};

#define NUM_CALLS	(sizeof(calls) / sizeof(*calls))

/* A number of vhost's that is none of the above. */
static unsigned long any_cmd(struct rng *r)
{
	unsigned long cmd = _IOC(below(r, 4), VHOST_VIRTIO, below(r, 256),
				 below(r, 64));
	unsigned int i;

	for (i = 0; i < NUM_CALLS; i++)
		if (cmd == calls[i].cmd)
			return VHOST_GET_FEATURES;
	/* Workers have to be counted. */
	return cmd == VHOST_NEW_WORKER || cmd == VHOST_RESET_OWNER ?
	       VHOST_GET_FEATURES : cmd;
}

static void call_anything(struct rng *r, void *arg)
{
	const struct call *call = &calls[below(r, NUM_CALLS)];
	unsigned long cmd = call->cmd;
	uint64_t at = (uintptr_t)arg;

	call->make(r, arg);
	if (one_in(r, 64))
		cmd = any_cmd(r);
	if (one_in(r, 64))
		cmd = VHOST_RESET_OWNER;
	if (one_in(r, 32))
		at = one_in(r, 4) ? 0 : any_view(r);
	/* The worst arguments come from memory that changes under the call. */
	ioctl(w.c.fd, cmd, at);
	count(&shared->ioctls, 1);
}

static void *caller(void *arg)
{
	/* As long as any call's answer, and with room for the longest. */
	static __thread uint64_t buffer[2048];
	struct rng *r = arg;
	char text[4096];

	while (!stopping()) {
		unsigned int num = w.moods & CALLS ? below(r, 30) : 0;

		while (num--)
			call_anything(r, buffer);
		if (one_in(r, 16))
			vhost_client_counters(&w.c, text, sizeof(text));
		usleep(below(r, 20000));
	}
	return NULL;
}

static void open_everything(const char *disk)
{
	uint64_t bytes = 0;

	w.disk = open(disk, O_RDWR | O_CLOEXEC);
	w.disk_ro = open(disk, O_RDONLY | O_CLOEXEC);
	w.memfd = memfd_create("guest", MFD_CLOEXEC);
	w.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w.err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w.disk < 0 || w.disk_ro < 0 || w.memfd < 0 || w.kick < 0 ||
	    w.call < 0 || w.err < 0 || ftruncate(w.memfd, MEMORY + LOG_BYTES) ||
	    ioctl(w.disk, BLKGETSIZE64, &bytes))
		abort();
	w.capacity = bytes / SECTOR;
	w.mem = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, w.memfd, 0);
	if (w.mem == MAP_FAILED)
		abort();
	w.c.mem = w.mem;
	w.c.mem_size = MEMORY;
}

static void be_fuzzer(const char *disk, uint64_t seed, unsigned int number,
		      unsigned int life)
{
	static struct rng rngs[2 + CALLERS];
	pthread_t thread;
	unsigned int i;

	w.number = number;
	w.c.fd = -1;
	w.num_queues = 1;
	w.ring_size = 1;
	for (i = 0; i < 2 + CALLERS; i++)
		seed_rng(&rngs[i], seed, number + 1, life * 16 + i);
	open_everything(disk);
	for (i = 1; i < 2 + CALLERS; i++)
		if (pthread_create(&thread, NULL, i == 1 ? scribbler : caller,
				   &rngs[i]))
			abort();
	while (!stopping())
		one_ring(&rngs[0]);
	_exit(0);
}

/* The parent */

struct process {
	pid_t pid;
	unsigned int life;
	bool killed;
	unsigned long beats, first_beat;
	long beat_ms;
};

static struct process fuzzers[WORKERS];
static pid_t innocent;
static unsigned int crashes, kills, stuck;

static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void start_fuzzer(const char *disk, uint64_t seed, unsigned int number)
{
	struct process *p = &fuzzers[number];

	p->life++;
	p->killed = false;
	p->first_beat = shared->beats[number];
	p->beat_ms = vhost_client_now_ms();
	p->pid = fork_child();
	if (!p->pid)
		be_fuzzer(disk, seed, number, p->life);
}

/* Whether process @number has ended; a crash is told. */
static bool reap(unsigned int number)
{
	struct process *p = &fuzzers[number];
	int status;

	if (!p->pid)
		return true;
	if (waitpid(p->pid, &status, WNOHANG) != p->pid)
		return false;
	p->pid = 0;
	if (!p->killed && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		crashes++;
		printf("# process %u in life %u ended by itself, status %#x\n",
		       number, p->life, status);
	}
	return true;
}

/* One that makes no step any more sits in a call that doesn't return. */
static void watch(unsigned int number)
{
	struct process *p = &fuzzers[number];
	unsigned long beats = shared->beats[number];

	if (beats != p->beats)
		p->beat_ms = vhost_client_now_ms();
	p->beats = beats;
	if (vhost_client_now_ms() - p->beat_ms < STUCK_S * 1000)
		return;
	printf("# process %u (%d) in life %u made no step for %d s\n", number,
	       p->pid, p->life, STUCK_S);
	stuck++;
	p->beat_ms = vhost_client_now_ms();
}

/* On a slow machine it lives longer. */
static void kill_fuzzer(unsigned int number)
{
	struct process *p = &fuzzers[number];

	if (p->killed || p->beats - p->first_beat < 50)
		return;
	p->killed = true;
	kill(p->pid, SIGKILL);
	kills++;
}

static void report_progress(long seconds)
{
	printf("# %ld s: %lu rings, %lu chains, %lu answers, %lu ioctls, %u kills;",
	       seconds, shared->rings, shared->chains, shared->answers,
	       shared->ioctls, kills);
	printf(" innocent: %lu requests, slowest %lu ms\n",
	       shared->innocent_requests, shared->innocent_slowest_ms);
	fflush(stdout);
}

static void supervise(const char *disk, uint64_t seed, long seconds)
{
	long start = vhost_client_now_ms(), report = 5, next_kill = 1000;
	struct rng r;
	unsigned int i;

	seed_rng(&r, seed, 0, 0);
	while (vhost_client_now_ms() - start < seconds * 1000 &&
	       !*shared->innocent_failure) {
		usleep(20000);
		for (i = 0; i < WORKERS; i++) {
			if (reap(i))
				start_fuzzer(disk, seed, i);
			watch(i);
		}
		if (vhost_client_now_ms() - start > next_kill) {
			kill_fuzzer(below(&r, WORKERS));
			next_kill += 500 + below(&r, 3000);
		}
		if (vhost_client_now_ms() - start > report * 1000) {
			report_progress(report);
			report += 5;
		}
	}
}

/* Whether all end when they are asked to. */
static bool end_all(void)
{
	long start = vhost_client_now_ms();
	unsigned int i, left = WORKERS;

	shared->stop = true;
	while (left && vhost_client_now_ms() - start < STUCK_S * 1000) {
		usleep(20000);
		for (i = left = 0; i < WORKERS; i++)
			left += !reap(i);
	}
	for (i = 0; i < WORKERS; i++)
		if (fuzzers[i].pid)
			kill(fuzzers[i].pid, SIGKILL);
	return !left;
}

/* If it hasn't said anything itself. */
static void innocent_failed(const char *why)
{
	if (!*shared->innocent_failure)
		strcpy(shared->innocent_failure, why);
}

static bool innocent_ended(void)
{
	long start = vhost_client_now_ms();
	int status;

	while (vhost_client_now_ms() - start < 2 * INNOCENT_MS) {
		if (waitpid(innocent, &status, WNOHANG) == innocent) {
			if (WIFEXITED(status) && !WEXITSTATUS(status))
				return true;
			innocent_failed("it ended before the others");
			return false;
		}
		usleep(20000);
	}
	innocent_failed("it doesn't end");
	kill(innocent, SIGKILL);
	return false;
}

static int finish(void)
{
	bool ended = end_all();

	if (!tap_ok(innocent_ended() && shared->innocent_requests,
		    "the innocent device was answered %lu times with right data",
		    shared->innocent_requests))
		printf("# %s\n", shared->innocent_failure);
	tap_ok(ended && !stuck && shared->rings && shared->answers,
	       "the fuzzer ended by itself (%lu rings, %lu chains, %lu ioctls)",
	       shared->rings, shared->chains, shared->ioctls);
	tap_ok(!crashes, "none of its processes crashed (%u were killed)", kills);
	return tap_end();
}

static uint64_t new_seed(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 'n' },
		{ "seed", required_argument, NULL, 's' },
		{}
	};
	uint64_t seed = new_seed();
	long seconds = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'n')
			seconds = atol(optarg);
		if (option == 's')
			seed = strtoull(optarg, NULL, 0);
	}
	if (argc - optind != 2 || !seconds)
		tap_bail("usage: %s --seconds N [--seed S] DISK INNOCENT_DISK",
			 argv[0]);
	printf("# seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		tap_bail("no memory");
	innocent = fork_child();
	if (!innocent)
		be_innocent(argv[optind + 1], seed);
	supervise(argv[optind], seed, seconds);
	report_progress(seconds);
	return finish();
}
