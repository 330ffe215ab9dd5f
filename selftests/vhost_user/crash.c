// SPDX-License-Identifier: GPL-2.0
/*
 * The record of what is in flight: the daemon dies at any moment while 32 requests are
 * under way in each of several queues, and another one goes on with the same memory,
 * rings and record. No request is lost, none fails, none is answered twice, and what
 * is read is what was written.
 *
 * usage: crash [--rounds N] [--term] [--between COMMAND] DAEMON SOCKET DISK
 *	--rounds	how often the daemon ends (50)
 *	--term		by SIGTERM instead of SIGKILL
 *	--between	what is done between its end and the next one's start, such as to
 *			replace the module
 *	DAEMON		the program, which is started with SOCKET and DISK
 *	DISK		may be overwritten, 8 MiB or more
 *
 * Each request has an area of the disk for itself, so that requests which are under way
 * at the same time never meet, and one that is done again does what it did before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "process.h"

#define QUEUES		4
#define DEPTH		32
#define SLOTS		(QUEUES * DEPTH)
#define AREA		(64 << 10)
#define MAX_BYTES	(16 << 10)
#define MAX_PIECES	4
/* Of a life of the daemon at most, from when it serves. */
#define LIFE_US		60000
/* Without any answer. */
#define HANG_MS		(60000 * limit_factor())
/* Answered, but nobody was told. */
#define SIGNAL_MS	(3000 * limit_factor())

/**
 * struct slot - a request that may be under way
 * @head: of its chain, or -1
 * @type: what it does, at @start in its area with @bytes bytes
 * @model: what its area has to hold
 */
struct slot {
	int head;
	unsigned int queue;
	uint32_t type;
	size_t start;
	size_t bytes;
	struct virtio_blk_outhdr *hdr;
	uint8_t *status;
	uint8_t *data;
	struct vring_desc *table;
	uint8_t *model;
};

/**
 * struct crash - a guest that outlives its back ends
 * @stop: no new requests
 * @last_ms: when something was answered, or there was a new back end
 * @lost_signals: answers that were found without a signal
 */
struct crash {
	struct backend b;
	struct process daemon;
	const char *between;
	int signal;
	unsigned int random;
	bool stop;
	long last_ms;
	unsigned long sent, answered, failed, odd, wrong, twice, lost_signals;
	unsigned long in_flight_at_death;
	struct slot slots[SLOTS];
};

static unsigned int below(struct crash *t, unsigned int limit)
{
	t->random = t->random * 1103515245 + 12345;
	return (t->random >> 8) % limit;
}

/* The daemon */

/* In so many microseconds, while this process does something else. */
static pid_t end_daemon_later(struct crash *t, unsigned int us)
{
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (pid)
		return pid;
	usleep(us);
	kill(t->daemon.pid, t->signal);
	_exit(0);
}

static int attach(struct crash *t)
{
	int ret = connect_daemon(&t->daemon, &t->b);

	if (!ret)
		ret = vhost_user_negotiate(&t->b.u, ALL_PROTOCOL);
	if (!ret)
		ret = vhost_user_configure(&t->b.u);
	t->last_ms = vhost_client_now_ms();
	return ret;
}

/* Requests */

/* Cuts the data into pieces; how many there are. */
static unsigned int cut(struct crash *t, struct slot *slot,
			struct vhost_client_seg *segs)
{
	unsigned int pieces = 1 + below(t, MAX_PIECES), num = 0;
	size_t at = 0, len;

	for (; at < slot->bytes; at += len, pieces--) {
		len = slot->bytes - at;
		if (pieces > 1 && len > 1)
			len = 1 + below(t, len - 1);
		segs[num++] = (struct vhost_client_seg){
			slot->data + at, len, slot->type == VIRTIO_BLK_T_IN
		};
	}
	return num;
}

static void choose(struct crash *t, unsigned int index)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT,
		VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN,
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_FLUSH
	};
	struct slot *slot = &t->slots[index];

	slot->type = types[below(t, sizeof(types) / sizeof(*types))];
	slot->bytes = SECTOR * (1 + below(t, MAX_BYTES / SECTOR));
	slot->start = SECTOR * below(t, (AREA - slot->bytes) / SECTOR + 1);
	if (slot->type == VIRTIO_BLK_T_FLUSH) {
		slot->start = 0;
		slot->bytes = 0;
	}
	if (slot->type == VIRTIO_BLK_T_OUT)
		fill(slot->data, slot->bytes, below(t, 1 << 20));
	else
		memset(slot->data, 0xaa, slot->bytes);
	*slot->hdr = (struct virtio_blk_outhdr){
		.type = slot->type,
		.sector = slot->type == VIRTIO_BLK_T_FLUSH ? 0 :
			  (index * AREA + slot->start) / SECTOR,
	};
	*slot->status = 0xee;
}

static void send_request(struct crash *t, unsigned int index)
{
	struct slot *slot = &t->slots[index];
	struct vhost_client_seg segs[MAX_PIECES + 2];
	unsigned int num = 0;

	choose(t, index);
	segs[num++] = (struct vhost_client_seg){ slot->hdr, sizeof(*slot->hdr), false };
	num += cut(t, slot, segs + num);
	segs[num++] = (struct vhost_client_seg){ slot->status, 1, true };
	slot->head = vhost_client_add(&t->b.f.c, slot->queue, segs, num,
				      below(t, 2) ? slot->table : NULL);
	if (slot->head < 0)
		tap_bail("a ring of %d is too small", RING);
	t->sent++;
}

static void send_requests(struct crash *t)
{
	bool sent[QUEUES] = {};
	unsigned int i;

	for (i = 0; i < SLOTS && !t->stop; i++) {
		if (t->slots[i].head >= 0)
			continue;
		send_request(t, i);
		sent[t->slots[i].queue] = true;
	}
	for (i = 0; i < QUEUES; i++)
		if (sent[i])
			vhost_client_kick(&t->b.f.c, i, false);
}

static void check_answer(struct crash *t, struct slot *slot, uint32_t len)
{
	bool read = slot->type == VIRTIO_BLK_T_IN;

	t->answered++;
	slot->head = -1;
	t->failed += *slot->status == VIRTIO_BLK_S_IOERR;
	t->odd += *slot->status > VIRTIO_BLK_S_IOERR || len != 1 + read * slot->bytes;
	if (*slot->status != VIRTIO_BLK_S_OK)
		return;
	if (slot->type == VIRTIO_BLK_T_OUT)
		memcpy(slot->model + slot->start, slot->data, slot->bytes);
	else if (read)
		t->wrong += memcmp(slot->model + slot->start, slot->data,
				   slot->bytes) != 0;
}

/* All answers of a queue; its signals are asked for afterwards. */
static unsigned int take_queue(struct crash *t, unsigned int queue)
{
	unsigned int i, taken = 0;
	uint32_t len;
	int head;

	while ((head = vhost_client_get_used(&t->b.f.c, queue, &len, 0)) != -EAGAIN) {
		taken++;
		for (i = queue; i < SLOTS; i += QUEUES)
			if (t->slots[i].head == head)
				break;
		if (i < SLOTS)
			check_answer(t, &t->slots[i], len);
		else
			t->twice++;
	}
	if (taken)
		t->last_ms = vhost_client_now_ms();
	return taken;
}

static bool take_unsignalled(struct crash *t)
{
	unsigned int i, taken = 0;

	for (i = 0; i < QUEUES; i++)
		taken += take_queue(t, i);
	return taken;
}

static unsigned int in_flight(const struct crash *t)
{
	unsigned int i, num = 0;

	for (i = 0; i < SLOTS; i++)
		num += t->slots[i].head >= 0;
	return num;
}

/*
 * Takes what was signalled, as a guest would: an answer without a signal stays unseen for
 * a while. Returns whether the connection still stands.
 */
static bool take_signalled(struct crash *t)
{
	struct pollfd files[QUEUES + 1];
	unsigned int i;

	for (i = 0; i < QUEUES; i++)
		files[i] = (struct pollfd){
			.fd = t->b.f.c.queues[i].call_fd, .events = POLLIN
		};
	files[i] = (struct pollfd){ .fd = t->b.f.c.fd, .events = POLLIN };
	if (poll(files, QUEUES + 1, SIGNAL_MS) <= 0) {
		t->lost_signals += take_unsignalled(t);
		return true;
	}
	for (i = 0; i < QUEUES; i++) {
		if (!files[i].revents)
			continue;
		vhost_client_signals(&t->b.f.c, i);
		take_queue(t, i);
	}
	return !files[QUEUES].revents;
}

/* Until the daemon ends, or all is answered; false if it never will be. */
static bool serve(struct crash *t)
{
	do {
		send_requests(t);
		if (t->stop && !in_flight(t))
			return true;
		if (vhost_client_now_ms() - t->last_ms > HANG_MS)
			return false;
	} while (take_signalled(t));
	return true;
}

/* One life of the daemon; false if requests hang. */
static bool live(struct crash *t)
{
	bool early = !below(t, 4), ended;
	pid_t killer = 0;
	int ret;

	if (early)
		killer = end_daemon_later(t, below(t, LIFE_US));
	ret = attach(t);
	if (ret && !early)
		tap_bail("the daemon can't be set up: %s", strerror(-ret));
	if (!early)
		killer = end_daemon_later(t, below(t, LIFE_US));
	ended = ret || serve(t);
	t->in_flight_at_death += in_flight(t);
	waitpid(killer, NULL, 0);
	bury_daemon(&t->daemon);
	vhost_user_disconnect(&t->b.u);
	return ended;
}

static void next_daemon(struct crash *t)
{
	if (t->between && system(t->between))
		tap_bail("%s: fails", t->between);
	start_daemon(&t->daemon);
}

/* Setting up */

static void make_slots(struct crash *t)
{
	struct vhost_client *c = &t->b.f.c;
	unsigned int i;

	for (i = 0; i < SLOTS; i++) {
		struct slot *slot = &t->slots[i];

		slot->head = -1;
		slot->queue = i % QUEUES;
		slot->hdr = vhost_client_alloc(c, sizeof(*slot->hdr), 16);
		slot->status = vhost_client_alloc(c, 1, 1);
		slot->data = vhost_client_alloc(c, MAX_BYTES, SECTOR);
		slot->table = vhost_client_alloc(c, (MAX_PIECES + 2) *
						 sizeof(*slot->table), 16);
		slot->model = calloc(1, AREA);
		if (!slot->table || !slot->model)
			tap_bail("out of memory");
	}
}

static void clear_disk(struct crash *t)
{
	static uint8_t zeroes[AREA] __attribute__((aligned(4096)));
	unsigned int i;

	open_disk(&t->b, t->daemon.disk);
	for (i = 0; i < SLOTS; i++)
		if (pwrite(t->b.f.disk, zeroes, AREA, i * AREA) != AREA)
			tap_bail("%s: %s", t->daemon.disk, strerror(errno));
}

static bool disk_matches(struct crash *t)
{
	static uint8_t data[AREA] __attribute__((aligned(4096)));
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		if (pread(t->b.f.disk, data, AREA, i * AREA) != AREA ||
		    memcmp(data, t->slots[i].model, AREA))
			return false;
	return true;
}

static void set_up_first(struct crash *t)
{
	start_daemon(&t->daemon);
	wait_for_daemon(&t->daemon);
	set_up_backend(&t->b, t->daemon.socket, QUEUES);
	make_slots(t);
	clear_disk(t);
}

static bool rings_are_empty(struct crash *t)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		struct vring *vring = &t->b.f.c.queues[i].vring;

		if (vring->used->idx != vring->avail->idx ||
		    t->b.f.c.queues[i].num_free != RING)
			return false;
	}
	return true;
}

static void report(struct crash *t, unsigned int rounds)
{
	printf("# %u times, with %lu requests in flight on average\n", rounds,
	       rounds ? t->in_flight_at_death / rounds : 0);
	printf("# %lu sent, %lu answered, %lu failed, %lu odd, %lu wrong, %lu twice, %lu without a signal\n",
	       t->sent, t->answered, t->failed, t->odd, t->wrong, t->twice,
	       t->lost_signals);
}

static void run(struct crash *t, unsigned int rounds)
{
	unsigned int round;
	bool ended;

	set_up_first(t);
	t->last_ms = vhost_client_now_ms();
	end_daemon_later(t, LIFE_US);
	ended = serve(t);
	bury_daemon(&t->daemon);
	vhost_user_disconnect(&t->b.u);
	for (round = 1; round < rounds && ended; round++) {
		next_daemon(t);
		ended = live(t);
	}
	next_daemon(t);
	if (ended && attach(t))
		tap_bail("the last daemon can't be set up");
	t->stop = true;
	ended = ended && serve(t);
	report(t, round);
	tap_ok(ended && t->sent == t->answered, "%lu requests, none of them lost",
	       t->sent);
	tap_equal(t->twice, 0, "none was answered twice");
	tap_equal(t->failed, 0, "none failed");
	tap_equal(t->odd, 0, "none was answered with anything else");
	tap_equal(t->wrong, 0, "reads got what was written");
	tap_equal(t->lost_signals, 0, "each answer was signalled");
	tap_ok(rings_are_empty(t), "the rings are empty");
	tap_ok(disk_matches(t), "the disk has what was written");
	vhost_user_close(&t->b.u);
	kill(t->daemon.pid, SIGTERM);
	bury_daemon(&t->daemon);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "term", no_argument, NULL, 't' },
		{ "between", required_argument, NULL, 'b' },
		{}
	};
	static struct crash t = { .signal = SIGKILL };
	unsigned int rounds = 50;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'r')
			rounds = atoi(optarg);
		else if (option == 't')
			t.signal = SIGTERM;
		else if (option == 'b')
			t.between = optarg;
	}
	if (argc - optind != 3)
		tap_bail("usage: %s [--rounds N] [--term] [--between COMMAND] DAEMON SOCKET DISK",
			 argv[0]);
	t.daemon = (struct process){
		.program = argv[optind],
		.socket = argv[optind + 1],
		.disk = argv[optind + 2],
	};
	t.random = getpid();
	run(&t, rounds);
	return tap_end();
}
