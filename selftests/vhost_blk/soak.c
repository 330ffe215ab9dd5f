// SPDX-License-Identifier: GPL-2.0
/*
 * Data over a long time: everything that a driver and a VMM may do, all at once,
 * and not a byte wrong.
 *
 * usage: soak --seconds N [--seed S] [--tolerate-errors] DISK...
 *	DISK	a block device that may be overwritten; 32 MiB of it are used
 *
 * Each disk has a process that owns a device over it, with four queues. It writes,
 * reads, zeroes and discards, in pieces of any length and alignment, and meanwhile
 * stops and starts the device, binds it again, resets its owner, turns the dirty
 * log on and off and looks into it, changes workers, their processors, polling and
 * the memory table, pins memory and unpins it.
 * Now and then it is killed, and the next one first reads everything.
 *
 * Every block that is written says where it belongs and which generation it is.
 * What a block may hold is in memory that survives the process: usually one
 * generation, more of them after a write that nobody has seen the answer of.
 *
 * With --tolerate-errors a request may fail, which leaves the old or the new in
 * each of its blocks. SIGUSR1 ends the tolerance: what is started a second later
 * must succeed again.
 *
 * What the kernel or the disk does not offer is left out, and listed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "vhost_client.h"

#define DEVICE		"/dev/vhost-blk"
#define SECTOR		512
#define PAGE		4096
#define QUEUES		4
#define SLOTS		10	/* requests under way in a queue */
#define MAX_DISKS	16
#define AREA		(32ULL << 20)
#define MAX_DATA	(256 << 10)
#define MAX_PIECES	254
#define MAX_RANGES	8
#define MEMORY		(24ULL << 20)
#define UNALIGNED	64	/* the most between two pieces of any alignment */
#define SLOT_BUFFER	(MAX_DATA + (MAX_PIECES + 1) * SECTOR)

#define TIMEOUT_MS	(10000 * limit_factor())	/* for an answer */
#define MISSES_MS	(60000 * limit_factor())	/* the same, with translations */
#define SIGNAL_MS	(2000 * limit_factor())	/* from an answer to its signal */
#define CALL_MS		(30000 * limit_factor())	/* for calls that are to be tried again */
#define END_S		(120 * limit_factor())	/* for a process to drain, verify and end */

/* Generations that are none. */
#define GEN_UNKNOWN	0
#define GEN_ZERO	1
#define GEN_FIRST	2
#define MAX_GENS	4

/* What may be missing, and the names for it. */
enum lack {
	NO_FLUSH, NO_WCE, NO_DISCARD, NO_ZEROES, NO_ODD, NO_LOG, NO_IOTLB,
	NO_RESET, NO_WORKERS, NO_POLLING, NO_PINNING, NO_COUNTERS, LACKS
};

static const char *const lack_names[LACKS] = {
	"flush", "write cache control", "discard", "write zeroes",
	"pieces of any length", "dirty log", "IOTLB", "reset of the owner",
	"workers", "polling", "pinned memory", "counters"
};

/* A generation that a block may hold is in the first @num of @gens. */
struct block {
	uint32_t gens[MAX_GENS];
	uint8_t num;
};

/* A disk and all that has to survive its owner. */
struct disk {
	bool stop, verified;
	long strict_ms;		/* errors of requests from then on count */
	uint32_t next_gen;
	uint32_t lacks;
	unsigned long requests, blocks_read, tolerated, stops, logs, pages_logged;
	unsigned long bad_bytes, bad_errors, unanswered;
	char failure[160];
	unsigned int num_blocks;
	struct block *blocks;
	/* The parent's */
	const char *path;
	pid_t pid;
	unsigned int life;
	unsigned long kills;
	long kill_ms;
	bool killed, ended;
};

static struct disk *disks;
static unsigned int num_disks;
static uint64_t seed;
static bool tolerant;

/* A request under way, and memory for one. */
struct slot {
	bool busy;
	uint32_t type;
	unsigned int first, num;	/* blocks */
	uint32_t gen;
	uint32_t bytes;
	long start_ms;
	unsigned int log_life;		/* nonzero if the log will be checked */
	struct virtio_blk_outhdr *hdr;
	uint8_t *status;
	struct vring_desc *table;
	uint8_t *buffer;
	struct vhost_client_seg segs[MAX_PIECES + 2];
	unsigned int num_segs;
};

enum mode { RANDOM, VERIFY, DRAIN };

/* The owner of a disk's device. */
static struct {
	struct disk *d;
	struct vhost_client c;
	struct virtio_blk_config config;
	uint64_t rng;
	int fd;
	uint32_t unit;
	bool *busy;
	struct slot slots[QUEUES][SLOTS];
	struct slot *by_head[QUEUES][1024];
	unsigned int in_flight, depth;
	enum mode mode;
	unsigned int next_verify;
	uint8_t *scratch, *expected;
	unsigned long *dirty;
	unsigned int log_life;
	unsigned int worker;
	bool has_worker;
} o;

static uint64_t rnd(void)
{
	o.rng ^= o.rng >> 12;
	o.rng ^= o.rng << 25;
	o.rng ^= o.rng >> 27;
	return o.rng * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(uint64_t limit)
{
	return (rnd() >> 8) % limit;
}

static bool one_in(unsigned int n)
{
	return !below(n);
}

static void seed_rng(uint64_t a, uint64_t b)
{
	unsigned int i;

	o.rng = seed * 0x9e3779b97f4a7c15ULL + a * 0xbf58476d1ce4e5b9ULL +
		b * 0x94d049bb133111ebULL;
	if (!o.rng)
		o.rng = 1;
	for (i = 0; i < 8; i++)
		rnd();
}

__attribute__((format(printf, 1, 2)))
static void note_failure(const char *fmt, ...)
{
	va_list args;

	if (*o.d->failure)
		return;
	va_start(args, fmt);
	vsnprintf(o.d->failure, sizeof(o.d->failure), fmt, args);
	va_end(args);
}

static bool lacks(enum lack what)
{
	return o.d->lacks >> what & 1;
}

static bool errors_count(long start_ms)
{
	long strict_ms = __atomic_load_n(&o.d->strict_ms, __ATOMIC_RELAXED);

	return !tolerant || (strict_ms && start_ms >= strict_ms);
}

/* What a block holds */

static void make_block(uint8_t *data, unsigned int index, uint32_t gen)
{
	uint64_t *words = (uint64_t *)data;
	uint64_t x = seed + index * 0x9e3779b97f4a7c15ULL + gen;
	unsigned int i;

	words[0] = index;
	words[1] = gen;
	for (i = 2; i < o.unit / sizeof(*words); i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		words[i] = x ^ x >> 29;
	}
}

static bool block_is(const uint8_t *data, unsigned int index, uint32_t gen)
{
	const uint64_t *words = (const uint64_t *)data;

	if (gen == GEN_ZERO)
		return !*data && !memcmp(data, data + 1, o.unit - 1);
	if (words[0] != index || words[1] != gen)
		return false;
	make_block(o.expected, index, gen);
	return !memcmp(data, o.expected, o.unit);
}

/* What the block may hold from now on, beside what it could hold already. */
static void expect_too(unsigned int index, uint32_t gen)
{
	struct block *b = &o.d->blocks[index];

	if (b->num == MAX_GENS) {
		b->gens[0] = GEN_UNKNOWN;
		b->num = 1;
	}
	b->gens[b->num] = gen;
	/* A kill may come at any time: first the value, then the number. */
	__atomic_store_n(&b->num, b->num + 1, __ATOMIC_RELEASE);
}

static void expect_only(unsigned int index, uint32_t gen)
{
	struct block *b = &o.d->blocks[index];

	b->gens[0] = gen;
	__atomic_store_n(&b->num, 1, __ATOMIC_RELEASE);
}

static void report_bad_block(const uint8_t *data, unsigned int index)
{
	const uint64_t *words = (const uint64_t *)data;
	const struct block *b = &o.d->blocks[index];

	o.d->bad_bytes += o.unit;
	note_failure("block %u of %u bytes: begins with %llx %llx instead of generation %u (of %u)",
		     index, o.unit, (unsigned long long)words[0],
		     (unsigned long long)words[1], b->gens[b->num - 1], b->num);
	expect_only(index, GEN_UNKNOWN);
}

static void check_block(const uint8_t *data, unsigned int index)
{
	const struct block *b = &o.d->blocks[index];
	unsigned int i;

	o.d->blocks_read++;
	for (i = 0; i < b->num; i++)
		if (b->gens[i] == GEN_UNKNOWN)
			return;
	for (i = 0; i < b->num; i++)
		if (block_is(data, index, b->gens[i])) {
			expect_only(index, b->gens[i]);
			return;
		}
	report_bad_block(data, index);
}

/* Making requests */

/* From the pieces of a request to the scratch buffer or back. */
static void copy_pieces(struct slot *s, bool gather)
{
	uint8_t *at = o.scratch;
	unsigned int i;

	for (i = 1; i + 1 < s->num_segs; i++) {
		if (gather)
			memcpy(at, s->segs[i].addr, s->segs[i].len);
		else
			memcpy(s->segs[i].addr, at, s->segs[i].len);
		at += s->segs[i].len;
	}
}

static unsigned int min_uint(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

static unsigned int any_pieces(unsigned int most)
{
	if (one_in(8))
		return 1 + below(most);
	return one_in(2) ? 1 : 1 + below(min_uint(8, most));
}

/*
 * Divides the data into pieces of any length and alignment, or else into whole
 * blocks at addresses that every device takes.
 */
static void lay_out(struct slot *s, bool odd, unsigned int most)
{
	uint32_t grain = odd ? 1 : o.unit;
	uint32_t left = s->bytes / grain;
	unsigned int pieces = min_uint(any_pieces(most), left);
	size_t at = 0;

	s->segs[0] = (struct vhost_client_seg){ s->hdr, sizeof(*s->hdr), false };
	s->num_segs = 1;
	for (; pieces; pieces--) {
		uint32_t spare = left - pieces, len = 1;

		if (spare)
			len += below(2 * spare / pieces + 1);
		if (pieces == 1 || len > spare + 1)
			len = spare + 1;
		at += odd ? below(UNALIGNED) : SECTOR * below(2);
		s->segs[s->num_segs++] = (struct vhost_client_seg){
			s->buffer + at, len * grain, s->type == VIRTIO_BLK_T_IN
		};
		at += len * grain;
		left -= len;
	}
	s->segs[s->num_segs++] = (struct vhost_client_seg){ s->status, 1, true };
}

/* The blocks of a list of ranges, as far as the limits of the device allow. */
static void make_ranges(struct slot *s)
{
	struct virtio_blk_discard_write_zeroes *list = (void *)o.scratch;
	bool zeroes = s->type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint32_t max_sectors = zeroes ? o.config.max_write_zeroes_sectors :
					o.config.max_discard_sectors;
	uint32_t max_ranges = min_uint(MAX_RANGES, zeroes ?
				       o.config.max_write_zeroes_seg :
				       o.config.max_discard_seg);
	unsigned int most = min_uint(max_sectors / (o.unit / SECTOR), s->num);
	unsigned int done = 0, num = 0;

	while (most && num < max_ranges && done < s->num) {
		unsigned int part = 1 + below(min_uint(most, s->num - done));

		list[num].sector = (uint64_t)(s->first + done) * o.unit / SECTOR;
		list[num].num_sectors = part * (o.unit / SECTOR);
		list[num].flags = zeroes && o.config.write_zeroes_may_unmap &&
				  one_in(2);
		done += part;
		num++;
	}
	s->num = done;
	s->bytes = num * sizeof(*list);
}

static uint32_t any_type(void)
{
	unsigned int dice = below(100);

	if (dice < 4 && !lacks(NO_FLUSH))
		return VIRTIO_BLK_T_FLUSH;
	if (dice < 9 && !lacks(NO_ZEROES))
		return VIRTIO_BLK_T_WRITE_ZEROES;
	if (dice < 12 && !lacks(NO_DISCARD))
		return VIRTIO_BLK_T_DISCARD;
	return dice < 55 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
}

/* Finds blocks that no request under way has to do with. */
static bool choose_blocks(struct slot *s)
{
	unsigned int most = MAX_DATA / o.unit, i;

	if (o.mode == VERIFY) {
		s->type = VIRTIO_BLK_T_IN;
		s->first = o.next_verify;
		s->num = min_uint(most, o.d->num_blocks - s->first);
		o.next_verify += s->num;
		return s->num;
	}
	s->type = any_type();
	s->first = below(o.d->num_blocks);
	s->num = 1 + below(one_in(8) ? most : min_uint(most, 32 * SECTOR / o.unit));
	s->num = min_uint(s->num, o.d->num_blocks - s->first);
	if (s->type == VIRTIO_BLK_T_FLUSH)
		s->num = 0;
	for (i = 0; i < s->num; i++)
		if (o.busy[s->first + i])
			return false;
	return true;
}

static void make_data(struct slot *s)
{
	unsigned int i;

	for (i = 0; i < s->num; i++)
		make_block(o.scratch + i * o.unit, s->first + i, s->gen);
}

/* What the request carries to the device, and what it may make of its blocks. */
static void make_payload(struct slot *s)
{
	unsigned int i;

	s->bytes = s->num * o.unit;
	s->gen = GEN_UNKNOWN;
	if (s->type == VIRTIO_BLK_T_OUT) {
		s->gen = o.d->next_gen++;
		make_data(s);
	} else if (s->type == VIRTIO_BLK_T_WRITE_ZEROES) {
		s->gen = GEN_ZERO;
		make_ranges(s);
	} else if (s->type == VIRTIO_BLK_T_DISCARD) {
		make_ranges(s);
	} else if (s->type == VIRTIO_BLK_T_IN) {
		return;
	}
	for (i = 0; i < s->num; i++)
		expect_too(s->first + i, s->gen);
}

/* From here on the pages of the request's buffer are clean. */
static void watch_log(struct slot *s)
{
	uint64_t page = vhost_client_gpa(&o.c, s->buffer) / VHOST_CLIENT_LOG_PAGE;
	uint64_t end = page + SLOT_BUFFER / VHOST_CLIENT_LOG_PAGE;

	o.d->pages_logged += vhost_client_log_take(&o.c, o.dirty);
	for (; page <= end; page++)
		o.dirty[page / (8 * sizeof(long))] &=
			~(1UL << page % (8 * sizeof(long)));
	s->log_life = o.log_life;
}

/* With room for three descriptors in the ring. */
static void submit(unsigned int queue, struct slot *s, bool odd)
{
	bool is_list = s->type == VIRTIO_BLK_T_DISCARD ||
		       s->type == VIRTIO_BLK_T_WRITE_ZEROES;
	bool indirect = o.c.features & 1ULL << VIRTIO_RING_F_INDIRECT_DESC &&
			one_in(2);
	unsigned int room = o.c.queues[queue].num_free - 2;
	int head;

	make_payload(s);
	/* A list is no whole block, but it never goes to the device as data. */
	lay_out(s, odd || is_list,
		indirect ? MAX_PIECES : min_uint(room, MAX_PIECES));
	if (s->type == VIRTIO_BLK_T_IN)
		memset(s->buffer, 0xa5, SLOT_BUFFER);
	else
		copy_pieces(s, false);
	s->hdr->type = s->type;
	s->hdr->sector = is_list || s->type == VIRTIO_BLK_T_FLUSH ? 0 :
			 (uint64_t)s->first * o.unit / SECTOR;
	*s->status = 0xee;
	s->log_life = 0;
	if (o.c.log && s->type == VIRTIO_BLK_T_IN && one_in(8))
		watch_log(s);
	s->busy = true;
	s->start_ms = vhost_client_now_ms();
	head = vhost_client_add(&o.c, queue, s->segs, s->num_segs,
				indirect ? s->table : NULL);
	if (head < 0)
		abort();
	memset(&o.busy[s->first], true, s->num);
	o.by_head[queue][head] = s;
	o.in_flight++;
	o.d->requests++;
}

/* Answers */

/* Every page that the device wrote must be in the log before the answer is. */
static void check_log(struct slot *s)
{
	unsigned int i;

	if (!s->log_life || s->log_life != o.log_life)
		return;
	o.d->pages_logged += vhost_client_log_take(&o.c, o.dirty);
	for (i = 1; i < s->num_segs; i++) {
		const uint8_t *at = s->segs[i].addr;
		const uint8_t *end = at + s->segs[i].len - 1;

		for (; at <= end; at += PAGE)
			if (!vhost_client_log_test(&o.c, o.dirty, at))
				break;
		if (at <= end || !vhost_client_log_test(&o.c, o.dirty, end)) {
			o.d->bad_bytes += s->segs[i].len;
			note_failure("a page that was written is not in the dirty log (piece %u of %u)",
				     i, s->num_segs);
		}
	}
}

static void succeeded(struct slot *s, uint32_t len)
{
	bool is_read = s->type == VIRTIO_BLK_T_IN;
	unsigned int i;

	if (len != (is_read ? s->bytes + 1 : 1)) {
		o.d->bad_errors++;
		note_failure("a request of type %u and %u bytes has used length %u",
			     s->type, s->bytes, len);
	}
	if (is_read) {
		check_log(s);
		copy_pieces(s, true);
	}
	for (i = 0; i < s->num; i++)
		if (is_read)
			check_block(o.scratch + i * o.unit, s->first + i);
		else
			expect_only(s->first + i, s->gen);
}

static void failed(struct slot *s)
{
	/* A disk may lose that ability; the blocks are as they were. */
	if (s->type == VIRTIO_BLK_T_WRITE_ZEROES &&
	    *s->status == VIRTIO_BLK_S_UNSUPP)
		return;
	if (!errors_count(s->start_ms) && *s->status == VIRTIO_BLK_S_IOERR) {
		o.d->tolerated++;
		return;
	}
	o.d->bad_errors++;
	note_failure("a request of type %u, %u blocks from %u, %u pieces: status %u",
		     s->type, s->num, s->first, s->num_segs - 2, *s->status);
}

static void complete(unsigned int queue)
{
	struct slot *s;
	uint32_t len;
	int head;

	while ((head = vhost_client_get_used(&o.c, queue, &len, 0)) >= 0) {
		s = o.by_head[queue][head];
		o.by_head[queue][head] = NULL;
		if (!s) {
			o.d->bad_errors++;
			note_failure("a chain was answered twice");
			_exit(2);
		}
		if (*s->status == VIRTIO_BLK_S_OK)
			succeeded(s, len);
		else
			failed(s);
		memset(&o.busy[s->first], false, s->num);
		s->busy = false;
		o.in_flight--;
	}
}

static void fill(unsigned int queue)
{
	unsigned int i;

	for (i = 0; i < SLOTS && i < o.depth && o.mode != DRAIN; i++) {
		struct slot *s = &o.slots[queue][i];

		if (o.c.queues[queue].num_free < 3)
			break;
		if (!s->busy && choose_blocks(s))
			submit(queue, s, !lacks(NO_ODD) && one_in(2));
	}
	vhost_client_kick(&o.c, queue, false);
}

/* What the device knows of its requests, for who looks into it. */
static void print_counters(void)
{
	static char text[8192];

	if (!vhost_client_counters(&o.c, text, sizeof(text)))
		printf("# %s\n%s", o.d->path, text);
	fflush(stdout);
}

static void check_deadlines(void)
{
	int limit = o.c.iotlb ? MISSES_MS : TIMEOUT_MS;
	unsigned int queue, i;
	long now = vhost_client_now_ms();

	for (queue = 0; queue < QUEUES; queue++)
		for (i = 0; i < SLOTS; i++) {
			struct slot *s = &o.slots[queue][i];

			if (!s->busy || now - s->start_ms < limit)
				continue;
			o.d->unanswered++;
			note_failure("queue %u: no answer to type %u, block %u, within %d ms (%u waiting, %lu misses)",
				     queue, s->type, s->first, limit,
				     o.in_flight, o.c.misses);
			print_counters();
			_exit(2);
		}
}

static bool any_used(void)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		struct vhost_client_queue *q = &o.c.queues[i];

		if (__atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) !=
		    q->last_used)
			return true;
	}
	return false;
}

static void await_signal(long ms)
{
	struct pollfd files[QUEUES + 1];
	unsigned int i;

	for (i = 0; i < QUEUES; i++)
		files[i] = (struct pollfd){ .fd = o.c.queues[i].call_fd,
					    .events = POLLIN };
	files[i] = (struct pollfd){ .fd = o.c.fd, .events = POLLIN };
	if (!poll(files, QUEUES + o.c.iotlb, ms) && any_used() &&
	    !poll(files, QUEUES, SIGNAL_MS)) {
		o.d->unanswered++;
		note_failure("an answer came without a signal");
	}
	for (i = 0; i < QUEUES; i++)
		vhost_client_signals(&o.c, i);
	if (o.c.iotlb)
		vhost_client_iotlb_serve(&o.c, 0);
}

/* Random requests for some time; or all of a verification; or what is left. */
static void work(enum mode mode, long ms)
{
	long end = vhost_client_now_ms() + ms, left = ms;
	unsigned int i;

	o.mode = mode;
	do {
		for (i = 0; i < QUEUES; i++) {
			complete(i);
			fill(i);
			/* Asks for a signal of what comes now. */
			complete(i);
		}
		check_deadlines();
		if (mode != RANDOM)
			left = o.in_flight ? 1000 : 0;
		else
			left = end - vhost_client_now_ms();
		if (left > 0)
			await_signal(left);
	} while (left > 0 || (mode == VERIFY && o.next_verify < o.d->num_blocks));
}

/* What a VMM does meanwhile */

/*
 * The result of a call that need not be there. Where errors are injected, one may
 * fail that is.
 */
static bool worked(int ret, enum lack what)
{
	if (!ret)
		return true;
	if (ret == -ENOTTY || ret == -EOPNOTSUPP) {
		__atomic_fetch_or(&o.d->lacks, 1U << what, __ATOMIC_RELAXED);
	} else if (errors_count(vhost_client_now_ms())) {
		o.d->bad_errors++;
		note_failure("%s: error %d", lack_names[what], ret);
	}
	return false;
}

/* Calls without which nothing goes on: the last resort is to end. */
static void must(int (*call)(void), const char *what)
{
	long now = vhost_client_now_ms();
	long end = now + (errors_count(now) ? 0 : CALL_MS);
	int ret;

	while ((ret = call())) {
		if (vhost_client_now_ms() >= end) {
			o.d->bad_errors++;
			note_failure("%s: error %d", what, ret);
			_exit(2);
		}
		usleep(10000);
	}
}

static int start(void)
{
	return vhost_client_run(&o.c, true);
}

static int stop(void)
{
	o.d->stops++;
	return vhost_client_run(&o.c, false);
}

static int bind_disk(void)
{
	return vhost_client_bind(&o.c, o.fd, 0, QUEUES, "soak");
}

/* Nothing that was answered may be waiting: the used index says where to go on. */
static int reset_owner(void)
{
	int ret = vhost_client_reset_owner(&o.c);

	if (ret == -ENOTTY)
		return worked(ret, NO_RESET);
	o.has_worker = false;
	return ret ? ret : vhost_client_configure(&o.c);
}

/* While the device runs, pinning can only end. */
static void change_pinning(bool pin)
{
	if (!lacks(NO_PINNING) && worked(vhost_client_pin_memory(&o.c, pin), NO_PINNING))
		o.c.pin_memory = pin;
}

static void pause_device(void)
{
	must(stop, "stop");
	usleep(below(3000));
	if (one_in(8))
		change_pinning(true);
	if (one_in(3))
		must(bind_disk, "bind again");
	if (one_in(3) && !lacks(NO_RESET))
		must(reset_owner, "reset of the owner");
	must(start, "start");
}

static void toggle_log(void)
{
	/* What began before is not checked. */
	o.log_life++;
	if (o.c.log) {
		worked(vhost_client_log_stop(&o.c), NO_LOG);
		free(o.dirty);
		o.dirty = NULL;
		return;
	}
	if (!worked(vhost_client_log_start(&o.c), NO_LOG))
		return;
	o.d->logs++;
	o.dirty = calloc(1, o.c.log_bytes);
}

/* A worker of its own for a queue, or the one it began with. */
static void change_worker(void)
{
	static unsigned int first;
	unsigned int queue = below(QUEUES), i;

	if (!o.has_worker) {
		if (!worked(vhost_client_get_worker(&o.c, 0, &first), NO_WORKERS) ||
		    !worked(vhost_client_new_worker(&o.c, &o.worker), NO_WORKERS))
			return;
		o.has_worker = true;
		worked(vhost_client_attach_worker(&o.c, queue, o.worker),
		       NO_WORKERS);
		return;
	}
	for (i = 0; i < QUEUES; i++)
		worked(vhost_client_attach_worker(&o.c, i, first), NO_WORKERS);
	if (worked(vhost_client_free_worker(&o.c, o.worker), NO_WORKERS))
		o.has_worker = false;
}

/* The same memory in another number of regions. */
static void change_table(void)
{
	struct vhost_memory_region regions[8];
	unsigned int num = 1 << below(4), i;
	uint64_t size = MEMORY / num;
	int ret;

	for (i = 0; i < num; i++)
		regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = VHOST_CLIENT_BASE + i * size,
			.memory_size = size,
			.userspace_addr = (uintptr_t)o.c.mem + i * size,
		};
	ret = vhost_client_set_mem_table(&o.c, regions, num);
	if (ret && errors_count(vhost_client_now_ms())) {
		o.d->bad_errors++;
		note_failure("memory table: error %d", ret);
	}
}

static void read_counters(void)
{
	if (vhost_client_counter(&o.c, 0, "read") < 0)
		__atomic_fetch_or(&o.d->lacks, 1U << NO_COUNTERS,
				  __ATOMIC_RELAXED);
}

static void disturb(void)
{
	switch (below(12)) {
	case 0:
	case 1:
	case 2:
		pause_device();
		break;
	case 3:
		if (!lacks(NO_LOG))
			toggle_log();
		break;
	case 4:
		if (!lacks(NO_WORKERS))
			change_worker();
		break;
	case 5:
		if (!lacks(NO_POLLING))
			worked(vhost_client_set_busyloop(&o.c, below(QUEUES),
							 below(2) * below(200)),
			       NO_POLLING);
		break;
	case 6:
		change_table();
		break;
	case 7:
		if (o.c.iotlb)
			vhost_client_iotlb_unmap(&o.c, o.c.mem + PAGE *
						 below(MEMORY / PAGE / 2),
						 PAGE * (1 + below(512)));
		break;
	case 8:
		if (!lacks(NO_WCE))
			worked(vhost_client_set_wce(&o.c, below(2)), NO_WCE);
		break;
	case 9:
		change_pinning(false);
		break;
	case 10:
		vhost_client_move_threads(rnd());
		break;
	default:
		read_counters();
	}
}

/* Life of an owner */

static void find_features(uint64_t offered)
{
	static const struct {
		unsigned int bit;
		enum lack lack;
	} bits[] = {
		{ VIRTIO_BLK_F_FLUSH, NO_FLUSH },
		{ VIRTIO_BLK_F_CONFIG_WCE, NO_WCE },
		{ VIRTIO_BLK_F_DISCARD, NO_DISCARD },
		{ VIRTIO_BLK_F_WRITE_ZEROES, NO_ZEROES },
		{ VHOST_F_LOG_ALL, NO_LOG },
		{ VIRTIO_F_ACCESS_PLATFORM, NO_IOTLB },
	};
	unsigned int i;

	for (i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		if (!(offered >> bits[i].bit & 1))
			o.d->lacks |= 1U << bits[i].lack;
}

static uint64_t any_features(void)
{
	uint64_t features = ~0ULL;

	if (one_in(3))
		features &= ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
	if (one_in(3))
		features &= ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	return features;
}

static int open_client(void)
{
	int ret = vhost_client_open(&o.c, DEVICE, MEMORY);

	if (ret)
		return ret;
	ret = bind_disk();
	if (ret)
		vhost_client_close(&o.c);
	return ret;
}

static void alloc_slots(void)
{
	unsigned int queue, i;

	for (queue = 0; queue < QUEUES; queue++)
		for (i = 0; i < SLOTS; i++) {
			struct slot *s = &o.slots[queue][i];

			s->buffer = vhost_client_alloc(&o.c, SLOT_BUFFER + PAGE,
						       PAGE);
			s->table = vhost_client_alloc(&o.c, (MAX_PIECES + 2) *
						      sizeof(*s->table), 16);
			s->hdr = vhost_client_alloc(&o.c, sizeof(*s->hdr), 16);
			s->status = vhost_client_alloc(&o.c, 1, 1);
		}
	if (!o.slots[QUEUES - 1][SLOTS - 1].status)
		abort();
}

static int setup(void)
{
	return vhost_client_setup(&o.c, any_features(), QUEUES, 256U << below(3));
}

/*
 * The killed owner may still be on its way out: until it is, the disk is claimed.
 * A miss that finds no memory is lost in the kernel, so that the IOTLB is not for
 * runs with errors.
 */
static void open_device(const char *path)
{
	long end = vhost_client_now_ms() + CALL_MS;
	uint64_t offered = 0;
	int ret;

	o.fd = open(path, O_RDWR | O_CLOEXEC);
	if (o.fd < 0)
		abort();
	while ((ret = open_client())) {
		if (vhost_client_now_ms() > end) {
			o.d->bad_errors++;
			note_failure("the device can't be bound: error %d", ret);
			_exit(2);
		}
		usleep(10000);
	}
	vhost_client_get_features(&o.c, &offered);
	vhost_client_get_config(&o.c, &o.config);
	find_features(offered);
	if (!lacks(NO_IOTLB) && !tolerant && one_in(3))
		vhost_client_use_iotlb(&o.c, one_in(2) ? 0 : PAGE << below(9));
	must(setup, "setup");
	alloc_slots();
	must(start, "start");
}

/* Whether pieces of any length are taken: there is no feature bit for that. */
static void try_odd(void)
{
	struct slot *s = &o.slots[0][0];
	struct vhost_client_seg segs[] = {
		{ s->hdr, sizeof(*s->hdr), false }, { s->buffer + 3, 1, true },
		{ s->buffer + 7, o.unit - 1, true }, { s->status, 1, true }
	};
	unsigned int tries;

	s->hdr->type = VIRTIO_BLK_T_IN;
	s->hdr->sector = 0;
	for (tries = tolerant ? 20 : 1; tries; tries--) {
		*s->status = 0xee;
		vhost_client_add(&o.c, 0, segs, 4, NULL);
		vhost_client_kick(&o.c, 0, false);
		if (vhost_client_get_used(&o.c, 0, NULL, TIMEOUT_MS) < 0)
			break;
		if (*s->status == VIRTIO_BLK_S_OK)
			return;
	}
	o.d->lacks |= 1U << NO_ODD;
}

static void own(struct disk *d)
{
	o.d = d;
	seed_rng(1 + (d - disks), d->life);
	open_device(d->path);
	o.unit = o.config.blk_size;
	if (d->life == 1) {
		d->num_blocks = AREA / SECTOR;
		if (d->num_blocks > o.config.capacity)
			d->num_blocks = o.config.capacity;
		d->num_blocks /= o.unit / SECTOR;
	}
	o.busy = calloc(d->num_blocks, sizeof(*o.busy));
	o.scratch = malloc(MAX_DATA + PAGE);
	o.expected = malloc(o.unit);
	if (!o.busy || !o.scratch || !o.expected)
		abort();
	if (d->life == 1)
		try_odd();

	o.depth = SLOTS;
	if (d->life > 1)
		work(VERIFY, 0);
	d->verified = true;
	while (!d->stop) {
		o.depth = 1 + below(SLOTS);
		work(RANDOM, one_in(4) ? below(500) : below(50));
		disturb();
	}
	o.depth = SLOTS;
	work(DRAIN, 0);
	o.next_verify = 0;
	work(VERIFY, 0);
	vhost_client_close(&o.c);
	_exit(0);
}

/* The parent */

static volatile sig_atomic_t no_more_errors;

static void on_sigusr1(int number)
{
	(void)number;
	no_more_errors = 1;
}

static void start_owner(struct disk *d)
{
	pid_t pid;

	d->life++;
	d->verified = false;
	d->killed = false;
	d->kill_ms = 0;
	pid = fork();
	if (pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		own(d);
	}
	d->pid = pid;
}

/* An owner that ends before it was asked to has said why, or has crashed. */
static void owner_ended(struct disk *d, int status)
{
	d->ended = true;
	if (d->stop && WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	o.d = d;
	note_failure("the owner ended by itself, status %#x", status);
	if (!d->unanswered)
		d->bad_errors++;
}

static void kill_owner(struct disk *d)
{
	kill(d->pid, SIGKILL);
	d->killed = true;
	d->kills++;
}

static void look_after(struct disk *d)
{
	int status;

	if (d->ended)
		return;
	if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
		if (d->killed)
			start_owner(d);
		else
			owner_ended(d, status);
		return;
	}
	if (no_more_errors && !d->strict_ms)
		d->strict_ms = vhost_client_now_ms() + 1000;
	if (d->stop || d->killed || !d->verified)
		return;
	if (!d->kill_ms)
		d->kill_ms = vhost_client_now_ms() + 1000 + below(5000);
	else if (vhost_client_now_ms() > d->kill_ms)
		kill_owner(d);
}

static void report_progress(long seconds)
{
	unsigned int i;

	for (i = 0; i < num_disks; i++)
		printf("# %ld s: %s: %lu requests, %lu blocks verified, %lu stops, %lu kills, %lu errors\n",
		       seconds, disks[i].path, disks[i].requests,
		       disks[i].blocks_read, disks[i].stops, disks[i].kills,
		       disks[i].tolerated);
	fflush(stdout);
}

static void supervise(long seconds)
{
	long begin = vhost_client_now_ms(), report = 10;
	unsigned int i, left = num_disks;

	while (left && vhost_client_now_ms() - begin < (seconds + END_S) * 1000) {
		usleep(10000);
		for (i = left = 0; i < num_disks; i++) {
			if (vhost_client_now_ms() - begin >= seconds * 1000)
				disks[i].stop = true;
			look_after(&disks[i]);
			left += !disks[i].ended;
		}
		if (vhost_client_now_ms() - begin >= report * 1000) {
			report_progress(report);
			report += 10;
		}
	}
	for (i = 0; i < num_disks; i++)
		if (!disks[i].ended) {
			kill(disks[i].pid, SIGKILL);
			owner_ended(&disks[i], -1);
		}
}

static void print_lacks(const struct disk *d)
{
	const char *separator = "";
	unsigned int i;

	if (!d->lacks)
		return;
	printf("# not offered: ");
	for (i = 0; i < LACKS; i++)
		if (d->lacks >> i & 1) {
			printf("%s%s", separator, lack_names[i]);
			separator = ", ";
		}
	printf("\n");
}

static void judge(const struct disk *d)
{
	printf("# %s\n", d->path);
	print_lacks(d);
	if (d->logs)
		printf("# %lu dirty logs, %lu pages in them\n", d->logs,
		       d->pages_logged);
	tap_ok(!d->bad_bytes && d->blocks_read,
	       "zero lost or corrupted bytes in %lu blocks that were verified",
	       d->blocks_read);
	tap_ok(!d->unanswered && d->requests,
	       "%lu requests were answered, across %lu stops and %lu kills",
	       d->requests, d->stops, d->kills);
	tap_ok(!d->bad_errors, "no error beside %lu that were tolerated",
	       d->tolerated);
	if (*d->failure)
		printf("# %s\n", d->failure);
	if (d->bad_bytes)
		printf("# %lu bytes are wrong\n", d->bad_bytes);
}

static void *alloc_shared(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		tap_bail("no memory");
	return mem;
}

static void add_disk(const char *path)
{
	struct disk *d = &disks[num_disks++];
	unsigned int i;

	d->path = path;
	d->next_gen = GEN_FIRST;
	d->blocks = alloc_shared(AREA / SECTOR * sizeof(*d->blocks));
	for (i = 0; i < AREA / SECTOR; i++)
		d->blocks[i].num = 1;
	start_owner(d);
}

static long parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 'n' },
		{ "seed", required_argument, NULL, 's' },
		{ "tolerate-errors", no_argument, NULL, 't' },
		{}
	};
	long seconds = 0;
	int option;

	seed = time(NULL);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'n')
			seconds = atol(optarg);
		if (option == 's')
			seed = strtoull(optarg, NULL, 0);
		if (option == 't')
			tolerant = true;
	}
	if (!seconds || optind == argc || argc - optind > MAX_DISKS)
		tap_bail("usage: %s --seconds N [--seed S] [--tolerate-errors] DISK...",
			 argv[0]);
	return seconds;
}

int main(int argc, char **argv)
{
	long seconds = parse_options(argc, argv);
	unsigned int i;

	printf("# seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	signal(SIGUSR1, on_sigusr1);
	seed_rng(0, 0);
	disks = alloc_shared(MAX_DISKS * sizeof(*disks));
	for (i = optind; i < (unsigned int)argc; i++)
		add_disk(argv[i]);
	supervise(seconds);
	for (i = 0; i < num_disks; i++)
		judge(&disks[i]);
	return tap_end();
}
