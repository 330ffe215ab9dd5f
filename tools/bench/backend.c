// SPDX-License-Identifier: GPL-2.0
/*
 * What a request costs on a virtio-blk device in the kernel (vhost), on one in
 * another process (vhost-user), and on the block device itself (io_uring). The
 * first two are driven by the same virtqueue client, as a guest's driver would: as
 * many requests as there is room for, a kick if the device wants it, sleep until a
 * signal, take all that is done.
 *
 * usage: backend [OPTION...] KIND TARGET[,TARGET...] WORKLOAD...
 *	KIND		vhost, vhost-process, user or uring; the first and the last with memory
 *			that stays pinned are vhost-pinned and uring-registered. A device of
 *			vhost-process belongs to another process, as one of user does.
 *	TARGET		a block device, or the socket of a vhost-user device
 *	-n REQUESTS	of a window of measuring (1024); more at a large depth, less if large
 *	-r WINDOWS	that are measured (5)
 *	-p PID		of the process that serves a vhost-user device
 *	-c		count events instead of measuring time
 *	-l		measure the latency of requests instead: from the client's writing it to
 *			the ring to its finding it done after a wake-up
 *	-i		a nanosecond is an instruction: as under QEMU's "-icount shift=0"
 *	-m		mark the windows for profile.c
 *	-x TEXT		begins each line of the output
 *
 * A workload is RW-SIZE-qdDEPTH[-OPTION...], as randread-4k-qd32-noevent, with
 *	noevent		no event index, but the flags that say the same
 *	direct		descriptors in the ring itself, not in an indirect table
 *	pollN		busy polling of up to N microseconds
 *	qN		N queues, each with so many requests
 *	worker		... and a worker for each of them
 *	devN		N devices, of as many targets
 *	segN		the data in N pieces
 *	record		a vhost-user device keeps the record of what is in flight
 *	huge		memory is anonymous and in huge pages; not with a vhost-user device
 *	patient		a client that takes the CPU from nobody when it is woken, so that
 *			on one CPU the device goes on with what there is to do
 *	iopoll		an io_uring that polls the device for the end of requests; that has
 *			to have poll queues
 *	lateN, spread, scsi
 *			what the device is, for its name only: it ends a request N us after
 *			its submission, some earlier and some later, it is a SCSI disk
 *
 * Prints "WORKLOAD,METRIC,VALUE,SPREAD" for every metric, a request: the median of
 * the windows, and how far they are apart, relative to it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/vhost_client.h"
#include "../lib/vhost_user.h"
#include "meter.h"
#include "uring.h"

#define RING		256
#define MAX_RING	512
#define PAGE		4096
#define HUGE_PAGE	(2 << 20)
#define LARGE		(64 * 1024)
#define DEEP		8
#define TURNS		32
#define MAX_WINDOWS	64
#define MAX_TARGETS	64
#define MAX_SEGS	256
#define SERIAL		"bench"

/* As Linux's driver asks for; event index and indirect tables as it is told. */
#define FEATURES	(1ULL << VIRTIO_F_VERSION_1 | \
			 1ULL << VIRTIO_BLK_F_SEG_MAX | \
			 1ULL << VIRTIO_BLK_F_SIZE_MAX | \
			 1ULL << VIRTIO_BLK_F_BLK_SIZE | \
			 1ULL << VIRTIO_BLK_F_FLUSH | \
			 1ULL << VIRTIO_BLK_F_TOPOLOGY | \
			 1ULL << VIRTIO_BLK_F_CONFIG_WCE | \
			 1ULL << VIRTIO_BLK_F_MQ)

enum target_kind {
	TARGET_VHOST,
	TARGET_VHOST_PROCESS,
	TARGET_VHOST_PINNED,
	TARGET_USER,
	TARGET_URING,
	TARGET_URING_REGISTERED,
};

struct options {
	enum target_kind kind;
	char *targets[MAX_TARGETS];
	unsigned int num_targets;
	unsigned int requests;
	unsigned int windows;
	pid_t server;
	bool count;
	bool latency;
	bool instructions;
	bool mark;
	const char *prefix;
};

struct workload {
	const char *name;
	bool write;
	bool random;
	uint32_t bytes;
	unsigned int depth;
	bool event_idx;
	bool indirect;
	unsigned int poll_us;
	unsigned int queues;
	bool workers;
	unsigned int devices;
	unsigned int segs;
	bool record;
	bool huge;
	bool patient;
	bool iopoll;
};

/* The memory of one request. */
struct slot {
	struct virtio_blk_outhdr *hdr;
	uint8_t *status;
	uint8_t *data;
	struct vring_desc *table;
	uint64_t begun;
};

/*
 * A queue of a device and the requests that are kept in it. Each has descriptors of
 * its own, which are written once: a slot is known by the first of them, its head.
 */
struct lane {
	struct vhost_client *c;
	unsigned int queue;
	struct vhost_client_queue *q;
	struct slot slots[MAX_RING];
	uint16_t free[RING];
	unsigned int num_free;
};

/* Everything that a workload runs on. */
struct bench {
	const struct options *opt;
	const struct workload *w;
	unsigned int requests;
	uint64_t blocks;
	pid_t server;	/* the process that owns the devices; 0 if it is this one */
	struct vhost_client *devices;
	struct vhost_user *users;
	int *files;
	struct lane *lanes;
	unsigned int num_lanes;
	unsigned int turn;
	struct uring *uring;
	unsigned int uring_free[RING];
	unsigned int uring_num_free;
	uint64_t uring_begun[RING];
	/* Of the window's requests, in nanoseconds; NULL if nobody asks for them. */
	double *latencies;
	unsigned int num_latencies, max_latencies;
	uint64_t random;
	uint64_t next;
	unsigned long kicks, signals;
};

#define __printf(a, b)	__attribute__((format(printf, a, b)))
#define __noreturn	__attribute__((noreturn))

static void __printf(1, 2) __noreturn die(const char *format, ...)
{
	va_list args;

	fputs("backend: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* Where the next request goes: by a multiplication, for a division takes long. */
static uint64_t next_offset(struct bench *b)
{
	uint64_t block = b->next;

	if (b->w->random) {
		b->random ^= b->random << 13;
		b->random ^= b->random >> 7;
		b->random ^= b->random << 17;
		block = (unsigned __int128)b->random * b->blocks >> 64;
	} else if (++b->next == b->blocks) {
		b->next = 0;
	}
	return block * b->w->bytes;
}

/* Latencies are those of a pass of their own: the clock is not read in the others. */
static uint64_t read_clock(const struct bench *b)
{
	struct timespec t;

	if (!b->latencies)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void add_latency(struct bench *b, uint64_t begun, uint64_t ended)
{
	if (b->latencies && b->num_latencies < b->max_latencies)
		b->latencies[b->num_latencies++] = ended - begun;
}

/* Virtqueues */

/* As many requests as there is room for, and a kick. */
static void submit(struct bench *b, struct lane *lane)
{
	struct vring_avail *avail = lane->q->vring.avail;
	unsigned int mask = lane->q->num - 1;
	uint16_t next = avail->idx;
	uint64_t now = read_clock(b);

	while (lane->num_free) {
		uint16_t head = lane->free[--lane->num_free];
		struct slot *slot = &lane->slots[head];

		slot->hdr->sector = next_offset(b) / 512;
		*slot->status = 0xff;
		slot->begun = now;
		avail->ring[next++ & mask] = head;
		__atomic_store_n(&avail->idx, next, __ATOMIC_RELEASE);
	}
	vhost_client_kick(lane->c, lane->queue, false);
}

static bool is_done(const struct vhost_client_queue *q)
{
	return __atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE) != q->last_used;
}

/* A read that blocks is the one system call of a wait. */
static void wait_for_signal(struct lane *lane)
{
	struct vhost_client_queue *q = lane->q;
	uint64_t signals;

	vring_used_event(&q->vring) = q->last_used;
	q->vring.avail->flags = 0;
	for (;;) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (is_done(q))
			break;
		if (read(q->call_fd, &signals, sizeof(signals)) != sizeof(signals))
			die("no signal: %s", strerror(errno));
		q->signals += signals;
	}
	q->vring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
}

/* Waits for the lane to be served, and returns how many requests were. */
static unsigned int reap(struct bench *b, struct lane *lane)
{
	struct vhost_client_queue *q = lane->q;
	const struct vring_used *used = q->vring.used;
	unsigned int done = lane->num_free;
	uint64_t now;

	if (!is_done(q))
		wait_for_signal(lane);
	now = read_clock(b);
	while (is_done(q)) {
		uint32_t head = used->ring[q->last_used++ & (q->num - 1)].id;

		if (head >= q->num || !lane->slots[head].status)
			die("%s: a bad used element", b->w->name);
		if (*lane->slots[head].status != VIRTIO_BLK_S_OK)
			die("%s: a request fails", b->w->name);
		add_latency(b, lane->slots[head].begun, now);
		lane->free[lane->num_free++] = head;
	}
	return lane->num_free - done;
}

/*
 * Lanes take turns: while one is served, the next is looked after. Those that have
 * nothing to do are new, or were drained.
 */
static unsigned int run_lanes(struct bench *b, unsigned int requests, bool refill)
{
	unsigned int done = 0;

	while (done < requests) {
		struct lane *lane = &b->lanes[b->turn];

		if (lane->num_free < b->w->depth)
			done += reap(b, lane);
		if (refill)
			submit(b, lane);
		if (++b->turn == b->num_lanes)
			b->turn = 0;
	}
	return done;
}

/* The bare device */

static void submit_uring(struct bench *b)
{
	uint64_t now = read_clock(b);

	while (b->uring_num_free) {
		unsigned int tag = b->uring_free[--b->uring_num_free];

		b->uring_begun[tag] = now;
		uring_add(b->uring, tag, next_offset(b));
	}
}

static unsigned int run_uring(struct bench *b, unsigned int requests, bool refill)
{
	unsigned int done = 0, tag;
	int32_t result;
	uint64_t now;

	while (done < requests) {
		if (refill)
			submit_uring(b);
		if (uring_enter(b->uring))
			die("io_uring: %s", strerror(errno));
		now = read_clock(b);
		while (uring_get(b->uring, &tag, &result)) {
			if (result != (int32_t)b->w->bytes)
				die("%s: a request returns %d", b->w->name, result);
			add_latency(b, b->uring_begun[tag], now);
			b->uring_free[b->uring_num_free++] = tag;
			done++;
		}
	}
	return done;
}

static unsigned int run(struct bench *b, unsigned int requests)
{
	return b->uring ? run_uring(b, requests, true) :
			  run_lanes(b, requests, true);
}

static unsigned int drain(struct bench *b)
{
	unsigned int i, in_flight = 0;

	if (b->uring)
		return run_uring(b, b->w->depth - b->uring_num_free, false);
	for (i = 0; i < b->num_lanes; i++)
		in_flight += b->w->depth - b->lanes[i].num_free;
	return run_lanes(b, in_flight, false);
}

/*
 * Ends so many requests, or a few more, and returns how many. With one queue as many
 * are under way in the end as before, so that a window has no beginning and no end.
 * Several don't come back to where they were: there nothing is under way, neither
 * before nor after.
 */
static unsigned int run_window(struct bench *b)
{
	unsigned int done = run(b, b->requests);

	if (b->num_lanes > 1)
		done += drain(b);
	return done;
}

/* Setting up */

/* A chain may not be longer than the ring, even one in an indirect table. */
static unsigned int ring_size(const struct workload *w)
{
	return w->segs + 2 > RING ? MAX_RING : RING;
}

/* Anonymous memory takes the place of the client's file, which would need hugetlbfs. */
static void use_huge_pages(struct vhost_client *c)
{
	uint8_t *mem = mmap(NULL, c->mem_size + HUGE_PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("no memory");
	mem += HUGE_PAGE - (uintptr_t)mem % HUGE_PAGE;
	munmap(c->mem, c->mem_size);
	c->mem = mem;
	if (madvise(mem, c->mem_size, MADV_HUGEPAGE))
		die("no huge pages: %s", strerror(errno));
	memset(mem, 0, c->mem_size);
}

/*
 * Allocates the pages in an order in which no two that follow each other do so in
 * the memory of the machine: the worst case, and always the same. With huge pages
 * they follow each other.
 */
static void lay_out(struct vhost_client *c, const struct workload *w)
{
	size_t pages = c->mem_size / PAGE, stride, i, page;

	if (w->huge) {
		use_huge_pages(c);
		return;
	}
	madvise(c->mem, c->mem_size, MADV_NOHUGEPAGE);
	for (stride = 3; pages % stride == 0; stride += 2)
		;
	for (i = 0, page = 0; i < pages; i++, page = (page + stride) % pages)
		*(volatile uint8_t *)&c->mem[page * PAGE] = 0;
}

static void *guest_memory(struct vhost_client *c, size_t size, size_t align)
{
	void *mem = vhost_client_alloc(c, size, align);

	if (!mem)
		die("out of guest memory");
	return mem;
}

static size_t data_span(const struct workload *w)
{
	return (size_t)w->bytes * (w->segs > 1 ? 2 : 1);
}

static size_t memory_size(const struct workload *w)
{
	size_t slot = data_span(w) + 2 * PAGE +
		      (w->segs + 2) * sizeof(struct vring_desc);

	size_t size = w->queues * (w->depth * slot + (1 << 16)) + (1 << 20);
	size_t unit = w->huge ? HUGE_PAGE : PAGE;

	return (size + unit - 1) / unit * unit;
}

static void make_slot(struct vhost_client *c, const struct workload *w,
		      struct slot *slot)
{
	slot->hdr = guest_memory(c, sizeof(*slot->hdr), 16);
	slot->status = guest_memory(c, 1, 1);
	slot->data = guest_memory(c, data_span(w), PAGE);
	slot->hdr->type = w->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	slot->hdr->ioprio = 0;
	if (w->indirect)
		slot->table = guest_memory(c, (w->segs + 2) *
					   sizeof(*slot->table), 16);
}

/* The descriptors of a slot: in its table, or of the ring from its head on. */
static void write_chain(struct lane *lane, const struct workload *w, unsigned int head)
{
	const struct slot *slot = &lane->slots[head];
	struct vring_desc *ring = lane->q->vring.desc;
	struct vring_desc *table = w->indirect ? slot->table : ring;
	unsigned int i, at = w->indirect ? 0 : head;
	uint16_t for_device = w->write ? 0 : VRING_DESC_F_WRITE;
	uint32_t piece = w->bytes / w->segs;
	struct vhost_client *c = lane->c;

	vhost_client_set_desc(table, at, vhost_client_dma(c, slot->hdr),
			      sizeof(*slot->hdr), VRING_DESC_F_NEXT, at + 1);
	/* With a gap behind each, so that they stay pieces. */
	for (i = 0, at++; i < w->segs; i++, at++)
		vhost_client_set_desc(table, at,
				      vhost_client_dma(c, slot->data + 2 * i * piece),
				      piece, VRING_DESC_F_NEXT | for_device, at + 1);
	vhost_client_set_desc(table, at, vhost_client_dma(c, slot->status), 1,
			      VRING_DESC_F_WRITE, 0);
	if (w->indirect)
		vhost_client_set_desc(ring, head, vhost_client_dma(c, table),
				      (w->segs + 2) * sizeof(*table),
				      VRING_DESC_F_INDIRECT, 0);
}

static void make_lane(struct bench *b, struct lane *lane, struct vhost_client *c,
		      unsigned int queue)
{
	unsigned int step = b->w->indirect ? 1 : b->w->segs + 2, head;
	int flags;

	lane->c = c;
	lane->queue = queue;
	lane->q = &c->queues[queue];
	if (b->w->depth * step > lane->q->num)
		die("%s: no room in the ring", b->w->name);
	for (head = 0; head < b->w->depth * step; head += step) {
		make_slot(c, b->w, &lane->slots[head]);
		write_chain(lane, b->w, head);
		lane->free[lane->num_free++] = head;
	}
	flags = fcntl(lane->q->call_fd, F_GETFL);
	fcntl(lane->q->call_fd, F_SETFL, flags & ~O_NONBLOCK);
}

static uint64_t features_of(const struct workload *w)
{
	uint64_t features = FEATURES;

	if (w->event_idx)
		features |= 1ULL << VIRTIO_RING_F_EVENT_IDX;
	if (w->indirect)
		features |= 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	return features;
}

static int open_disk(struct bench *b, const char *path)
{
	int fd = open(path, (b->w->write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	off_t size;

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	size = lseek(fd, 0, SEEK_END);
	if (size < (off_t)b->w->bytes)
		die("%s is too small", path);
	b->blocks = size / b->w->bytes;
	return fd;
}

static int attach_workers(struct vhost_client *c, unsigned int num)
{
	unsigned int i, id;
	int ret = 0;

	for (i = 0; i < num && !ret; i++) {
		ret = vhost_client_new_worker(c, &id);
		if (!ret)
			ret = vhost_client_attach_worker(c, i, id);
	}
	return ret;
}

/* Do what the owner of a device does. The rings have been allocated. */
static int start_vhost(struct vhost_client *c, const struct workload *w)
{
	unsigned int i;
	int ret = vhost_client_configure(c);

	if (!ret && w->workers)
		ret = attach_workers(c, w->queues);
	for (i = 0; i < w->queues && w->poll_us && !ret; i++)
		ret = vhost_client_set_busyloop(c, i, w->poll_us);
	return ret ? ret : vhost_client_run(c, true);
}

/*
 * Let another process own the device. It has the same memory at the same addresses, and
 * sleeps until it is killed. Returns its process ID, or a negative error.
 */
static pid_t start_in_process(struct vhost_client *c, const struct workload *w)
{
	int ret = -EPIPE, pipe_fds[2];
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ret = start_vhost(c, w);
		if (write(pipe_fds[1], &ret, sizeof(ret)) == sizeof(ret))
			pause();
		_exit(1);
	}
	close(pipe_fds[1]);
	if (pid > 0 && read(pipe_fds[0], &ret, sizeof(ret)) != sizeof(ret))
		ret = -EPIPE;
	close(pipe_fds[0]);
	return ret ? ret : pid;
}

static void open_vhost(struct bench *b, struct vhost_client *c, unsigned int index)
{
	const struct workload *w = b->w;
	int fd = open("/dev/vhost-blk", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		die("/dev/vhost-blk: %s", strerror(errno));
	b->files[index] = open_disk(b, b->opt->targets[index]);
	ret = vhost_client_open_shared(c, fd, memory_size(w));
	c->pin_memory = b->opt->kind == TARGET_VHOST_PINNED;
	if (!ret)
		lay_out(c, w);
	if (!ret)
		ret = vhost_client_bind(c, b->files[index], 0, w->queues, SERIAL);
	if (!ret)
		ret = vhost_client_get_features(c, &c->features);
	c->features &= features_of(w);
	if (!ret)
		ret = vhost_client_alloc_rings(c, w->queues, ring_size(w));
	if (!ret && b->opt->kind == TARGET_VHOST_PROCESS)
		ret = b->server = start_in_process(c, w);
	else if (!ret)
		ret = start_vhost(c, w);
	if (ret < 0)
		die("%s: %s", w->name, strerror(-ret));
}

static void open_user(struct bench *b, struct vhost_client *c, unsigned int index)
{
	const struct workload *w = b->w;
	struct vhost_user *user = &b->users[index];
	int ret = vhost_user_open(user, c, b->opt->targets[index], memory_size(w));

	/* What this client can't ask the server for. */
	b->blocks = (1ULL << 30) / w->bytes;
	if (!ret)
		lay_out(c, w);
	if (!ret && w->record)
		ret = vhost_user_negotiate(user, VHOST_USER_PROTOCOL_F_REPLY_ACK |
						 VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
	if (!ret)
		ret = vhost_user_setup(user, features_of(w), w->queues,
				       ring_size(w));
	if (ret)
		die("%s: %s", b->opt->targets[index], strerror(-ret));
}

static void set_up_lanes(struct bench *b)
{
	const struct workload *w = b->w;
	unsigned int i;

	if (b->opt->num_targets < w->devices)
		die("%s: too few targets", w->name);
	if (b->opt->kind == TARGET_VHOST_PROCESS && w->devices > 1)
		die("%s: one device only", w->name);
	b->num_lanes = w->devices * w->queues;
	b->devices = calloc(w->devices, sizeof(*b->devices));
	b->users = calloc(w->devices, sizeof(*b->users));
	b->files = calloc(w->devices, sizeof(*b->files));
	b->lanes = calloc(b->num_lanes, sizeof(*b->lanes));
	if (!b->devices || !b->users || !b->files || !b->lanes)
		die("out of memory");
	for (i = 0; i < w->devices; i++) {
		if (b->opt->kind == TARGET_USER)
			open_user(b, &b->devices[i], i);
		else
			open_vhost(b, &b->devices[i], i);
	}
	for (i = 0; i < b->num_lanes; i++)
		make_lane(b, &b->lanes[i], &b->devices[i / w->queues],
			  i % w->queues);
}

static void tear_down_lanes(struct bench *b)
{
	unsigned int i;

	if (b->opt->kind == TARGET_VHOST_PROCESS) {
		kill(b->server, SIGKILL);
		waitpid(b->server, NULL, 0);
	}
	for (i = 0; i < b->w->devices; i++) {
		if (b->opt->kind == TARGET_USER) {
			vhost_user_close(&b->users[i]);
		} else {
			vhost_client_close(&b->devices[i]);
			close(b->files[i]);
		}
	}
	free(b->lanes);
	free(b->files);
	free(b->users);
	free(b->devices);
}

/* The same kind of memory as a guest has. */
static void set_up_uring(struct bench *b)
{
	struct iovec all;
	unsigned int i;
	void *data;
	int ret;

	b->devices = calloc(1, sizeof(*b->devices));
	b->files = calloc(1, sizeof(*b->files));
	if (!b->devices || !b->files)
		die("out of memory");
	b->files[0] = open_disk(b, b->opt->targets[0]);
	ret = vhost_client_open_shared(b->devices, -1, memory_size(b->w));
	if (ret)
		die("no memory: %s", strerror(-ret));
	lay_out(b->devices, b->w);
	all = (struct iovec){ b->devices->mem, b->devices->mem_size };
	b->uring = uring_open(b->files[0], b->w->depth,
			      b->opt->kind == TARGET_URING_REGISTERED ? &all : NULL,
			      b->w->iopoll);
	if (!b->uring)
		die("io_uring: %s", strerror(errno));
	for (i = 0; i < b->w->depth; i++) {
		data = guest_memory(b->devices, b->w->bytes, PAGE);
		uring_prepare(b->uring, i, b->w->write, data, b->w->bytes);
		b->uring_free[b->uring_num_free++] = i;
	}
}

static void tear_down_uring(struct bench *b)
{
	uring_close(b->uring);
	vhost_client_close(b->devices);
	close(b->files[0]);
	free(b->files);
	free(b->devices);
}

/* Output */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const struct bench *b, const char *metric, double *values,
		  unsigned int num)
{
	double median, spread = 0;

	qsort(values, num, sizeof(*values), by_value);
	median = (values[num / 2] + values[(num - 1) / 2]) / 2;
	if (median)
		spread = (values[num - 1] - values[0]) / median;
	printf("%s%s,%s,%.10g,%.4f\n", b->opt->prefix, b->w->name, metric, median,
	       spread);
}

static void print_one(const struct bench *b, const char *metric, double value)
{
	print(b, metric, &value, 1);
}

/*
 * A profiler that counts executed instructions (profile.c) looks for this one. It
 * does nothing; the immediate tells a start from an end.
 */
#define MARK_START	0x6b72616d
#define MARK_END	0x6b72616e

static void mark_start(void)
{
	asm volatile("test %0, %%eax" : : "i" (MARK_START) : "cc");
}

static void mark_end(void)
{
	asm volatile("test %0, %%eax" : : "i" (MARK_END) : "cc");
}

static void print_time(const struct bench *b, const char *of, double *values)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%s", b->opt->instructions ? "insn" : "ns", of);
	print(b, name, values, b->opt->windows);
}

static void measure(struct bench *b)
{
	double all[MAX_WINDOWS], client[MAX_WINDOWS], workers[MAX_WINDOWS];
	double other[MAX_WINDOWS], first[MAX_WINDOWS], idle[MAX_WINDOWS];
	unsigned int i, n = 0, windows = b->opt->windows;
	struct meter_time t;

	for (i = 0; i < windows; i++) {
		meter_start_time(&t, b->server);
		if (b->opt->mark)
			mark_start();
		n = run_window(b);
		if (b->opt->mark)
			mark_end();
		meter_stop_time(&t, b->server);
		/* An idle CPU runs no instruction: the clock leaps. */
		if (b->opt->instructions)
			t.wall -= t.idle;
		all[i] = (double)t.wall / n;
		idle[i] = (double)t.idle / n;
		client[i] = (double)t.client / n;
		workers[i] = (double)t.workers / n;
		other[i] = all[i] - client[i] - workers[i];
		first[i] = (double)t.first / n;
	}
	print_time(b, "", all);
	print_time(b, "_client", client);
	print_time(b, "_workers", workers);
	print_time(b, "_other", other);
	if (b->server)
		print_time(b, "_first", first);
	print(b, "idle", idle, windows);
	/* Of the last window; a profile has one. */
	if (b->opt->mark)
		print_one(b, "requests", n);
}

static void add_up_queues(struct bench *b)
{
	unsigned int i;

	b->kicks = 0;
	b->signals = 0;
	for (i = 0; i < b->num_lanes; i++) {
		b->kicks += b->lanes[i].q->kicks;
		b->signals += b->lanes[i].q->signals;
	}
}

static void count(struct bench *b)
{
	struct meter_events e;
	unsigned long kicks, signals;
	struct meter *meter;
	unsigned int n;

	add_up_queues(b);
	kicks = b->kicks;
	signals = b->signals;
	meter = meter_start_events(b->server);
	if (!meter)
		die("no events can be counted: %s", strerror(errno));
	n = run_window(b);
	meter_stop_events(meter, &e);
	add_up_queues(b);
	print_one(b, "syscalls", (double)(e.syscalls[0] + e.syscalls[1]) / n);
	print_one(b, "syscalls_client", (double)e.syscalls[0] / n);
	print_one(b, "syscalls_workers", (double)e.syscalls[1] / n);
	print_one(b, "switches", (double)(e.switches[0] + e.switches[1]) / n);
	print_one(b, "switches_client", (double)e.switches[0] / n);
	print_one(b, "switches_workers", (double)e.switches[1] / n);
	print_one(b, "wakeups", (double)(e.wakeups[0] + e.wakeups[1]) / n);
	print_one(b, "wakeups_client", (double)e.wakeups[0] / n);
	print_one(b, "wakeups_workers", (double)e.wakeups[1] / n);
	print_one(b, "idles", (double)(e.idles[0] + e.idles[1]) / n);
	print_one(b, "timers", (double)e.timers / n);
	if (!b->uring) {
		print_one(b, "kicks", (double)(b->kicks - kicks) / n);
		print_one(b, "signals", (double)(b->signals - signals) / n);
	}
}

/* The value that so many percent of the latencies don't exceed; they are sorted. */
static double percentile(const struct bench *b, unsigned int percent)
{
	return b->latencies[(uint64_t)(b->num_latencies - 1) * percent / 100];
}

/* The mean and percentiles of each window, of which the medians are printed. */
static void measure_latency(struct bench *b)
{
	double mean[MAX_WINDOWS], half[MAX_WINDOWS], most[MAX_WINDOWS], sum;
	unsigned int i, j, windows = b->opt->windows;

	b->max_latencies = 2 * b->requests;
	b->latencies = calloc(b->max_latencies, sizeof(*b->latencies));
	if (!b->latencies)
		die("out of memory");
	/* What is in flight was begun without a clock. */
	drain(b);
	run_window(b);
	for (i = 0; i < windows; i++) {
		b->num_latencies = 0;
		run_window(b);
		for (j = 0, sum = 0; j < b->num_latencies; j++)
			sum += b->latencies[j];
		qsort(b->latencies, j, sizeof(*b->latencies), by_value);
		mean[i] = sum / j;
		half[i] = percentile(b, 50);
		most[i] = percentile(b, 99);
	}
	print(b, "latency_mean", mean, windows);
	print(b, "latency_p50", half, windows);
	print(b, "latency_p99", most, windows);
	drain(b);
	free(b->latencies);
	b->latencies = NULL;
}

/* About the same work for each, and more turns where many take part in one. */
static unsigned int requests_of(const struct options *opt, const struct workload *w)
{
	unsigned int requests = opt->requests, in_flight;

	if (w->bytes >= LARGE)
		requests /= 8;
	if (w->depth > DEEP)
		requests *= w->depth / DEEP;
	/* Who waits for whom changes from turn to turn. */
	if (w->queues * w->devices > 1)
		requests *= 4;
	/* Each has to have some turns. */
	in_flight = w->depth * w->queues * w->devices;
	return requests < TURNS * in_flight ? TURNS * in_flight : requests;
}

static void run_workload(const struct options *opt, const struct workload *w)
{
	bool bare = opt->kind == TARGET_URING || opt->kind == TARGET_URING_REGISTERED;
	struct bench b = {
		.opt = opt,
		.w = w,
		.requests = requests_of(opt, w),
		.server = opt->server,
		.random = 88172645463325252ULL,
	};
	const struct sched_param none = {};

	if (bare)
		set_up_uring(&b);
	else
		set_up_lanes(&b);
	sched_setscheduler(0, w->patient ? SCHED_BATCH : SCHED_OTHER, &none);
	/* The queues fill, caches get warm. */
	run_window(&b);
	if (opt->count)
		count(&b);
	else if (opt->latency)
		measure_latency(&b);
	else
		measure(&b);
	drain(&b);
	if (bare)
		tear_down_uring(&b);
	else
		tear_down_lanes(&b);
	fflush(stdout);
}

/* What it is told */

/* "SIZEk" in bytes; 0 if that is no size. */
static uint32_t parse_size(const char *text)
{
	char *end;
	unsigned long kib = strtoul(text, &end, 10);

	return strcmp(end, "k") ? 0 : kib * 1024;
}

/* Whether @word is @name followed by a number from 1 to @max. */
static bool is_number(const char *word, const char *name, unsigned int *value,
		      unsigned int max)
{
	unsigned long number;
	char *end;

	if (strncmp(word, name, strlen(name)) || !word[strlen(name)])
		return false;
	number = strtoul(word + strlen(name), &end, 10);
	if (*end || !number || number > max)
		return false;
	*value = number;
	return true;
}

/* What the name says of the device is for who reads the figures. */
static bool is_of_device(const char *word)
{
	unsigned int us;

	return is_number(word, "late", &us, 1000000) || !strcmp(word, "spread") ||
	       !strcmp(word, "scsi");
}

static bool parse_option(struct workload *w, const char *word)
{
	if (!strcmp(word, "noevent"))
		w->event_idx = false;
	else if (!strcmp(word, "direct"))
		w->indirect = false;
	else if (!strcmp(word, "worker"))
		w->workers = true;
	else if (!strcmp(word, "record"))
		w->record = true;
	else if (!strcmp(word, "huge"))
		w->huge = true;
	else if (!strcmp(word, "patient"))
		w->patient = true;
	else if (!strcmp(word, "iopoll"))
		w->iopoll = true;
	else if (!is_of_device(word))
		return is_number(word, "poll", &w->poll_us, 1000000) ||
		       is_number(word, "qd", &w->depth, RING) ||
		       is_number(word, "q", &w->queues, 256) ||
		       is_number(word, "dev", &w->devices, MAX_TARGETS) ||
		       is_number(word, "seg", &w->segs, MAX_SEGS);
	return true;
}

static bool parse_words(struct workload *w, char *text)
{
	char *save, *word = strtok_r(text, "-", &save);

	if (!word)
		return false;
	w->write = !!strstr(word, "write");
	w->random = !strncmp(word, "rand", 4);
	if (strcmp(word + (w->random ? 4 : 0), w->write ? "write" : "read"))
		return false;
	word = strtok_r(NULL, "-", &save);
	if (word)
		w->bytes = parse_size(word);
	if (!w->bytes)
		return false;
	while ((word = strtok_r(NULL, "-", &save)))
		if (!parse_option(w, word))
			return false;
	return w->bytes % (w->segs * 512) == 0;
}

static struct workload parse_workload(const char *name)
{
	struct workload w = {
		.name = name,
		.depth = 1,
		.event_idx = true,
		.indirect = true,
		.queues = 1,
		.devices = 1,
		.segs = 1,
	};
	char *text = strdup(name);

	if (!text || !parse_words(&w, text))
		die("no workload: %s", name);
	free(text);
	return w;
}

static enum target_kind parse_kind(const char *text)
{
	static const char * const names[] = {
		[TARGET_VHOST] = "vhost",
		[TARGET_VHOST_PROCESS] = "vhost-process",
		[TARGET_VHOST_PINNED] = "vhost-pinned",
		[TARGET_USER] = "user",
		[TARGET_URING] = "uring",
		[TARGET_URING_REGISTERED] = "uring-registered",
	};
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(text, names[i]))
			return i;
	die("no kind of target: %s", text);
}

int main(int argc, char **argv)
{
	struct options opt = { .requests = 1024, .windows = 5, .prefix = "" };
	char *target;
	int option;

	while ((option = getopt(argc, argv, "n:r:p:climx:")) != -1) {
		switch (option) {
		case 'n':
			opt.requests = atoi(optarg);
			break;
		case 'r':
			opt.windows = atoi(optarg);
			break;
		case 'p':
			opt.server = atoi(optarg);
			break;
		case 'c':
			opt.count = true;
			break;
		case 'l':
			opt.latency = true;
			break;
		case 'i':
			opt.instructions = true;
			break;
		case 'm':
			opt.mark = true;
			break;
		case 'x':
			opt.prefix = optarg;
			break;
		default:
			return 2;
		}
	}
	if (argc - optind < 3 || opt.requests < 8 || !opt.windows ||
	    opt.windows > MAX_WINDOWS)
		die("usage: backend [-n REQUESTS] [-r WINDOWS] [-p PID] [-clim] [-x TEXT] KIND TARGETS WORKLOAD...");
	opt.kind = parse_kind(argv[optind++]);
	for (target = strtok(argv[optind++], ","); target; target = strtok(NULL, ",")) {
		if (opt.num_targets == MAX_TARGETS)
			die("too many targets");
		opt.targets[opt.num_targets++] = target;
	}
	for (; optind < argc; optind++) {
		struct workload w = parse_workload(argv[optind]);

		run_workload(&opt, &w);
	}
	return 0;
}
