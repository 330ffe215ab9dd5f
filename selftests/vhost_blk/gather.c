// SPDX-License-Identifier: GPL-2.0
/*
 * Answers are gathered before the driver is told of them, where it has many requests
 * under way; and none is kept back, whatever the driver does next or says.
 *
 * usage: gather DISK
 *	DISK	a block device that answers at once, 64 MiB or more
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "fixture.h"

/* What a driver needs to make a request, and to get to its handler, in seconds. */
#define MAKING		20e-6
#define REACTING	150e-6

/* A request that took longer was made while the machine had something else to do. */
#define DISTURBED	60e-6

/* After how many requests it is not worth it to interrupt the driver. */
#define FEW		8

/* Signals to a driver that always has the same number of requests under way. */
struct signals {
	unsigned long all;
	unsigned long undisturbed;	/* by anything while requests were made */
	unsigned long early;		/* and when it had made but a few since the last */
};

static void spend(double seconds)
{
	double end = now() + seconds;

	while (now() < end)
		;
}

static uint16_t used_idx(const struct vhost_client_queue *q)
{
	return __atomic_load_n(&q->vring.used->idx, __ATOMIC_ACQUIRE);
}

static void say_seen(struct vhost_client_queue *q, uint16_t seen)
{
	*(volatile uint16_t *)&vring_used_event(&q->vring) = seen;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* An interrupt's handler: takes all answers, into @heads from element @num on. */
static unsigned int handle(struct vhost_client_queue *q, uint16_t *heads,
			   unsigned int num)
{
	while (used_idx(q) != q->last_used) {
		while (used_idx(q) != q->last_used)
			heads[num++] = q->vring.used->ring[q->last_used++ % q->num].id;
		say_seen(q, q->last_used);
	}
	return num;
}

/*
 * A driver with one processor and always @depth requests under way. Between two of
 * them it may be interrupted, and has as many to make as were answered then. Returns
 * whether it could make @num requests.
 */
static bool drive(struct fixture *f, unsigned int depth, unsigned int num,
		  struct signals *signals)
{
	struct vhost_client_queue *q = &f->c.queues[0];
	unsigned long seen = vhost_client_signals(&f->c, 0);
	unsigned int to_make = 0, made = depth, since = 0;
	double limit = now() + TIMEOUT_MS / 1000, begun;
	uint16_t heads[RING];
	bool disturbed = true;

	say_seen(q, q->last_used);
	send_reads(f, depth);
	while ((made < num || to_make) && now() < limit) {
		if (to_make) {
			begun = now();
			vhost_client_offer(&f->c, 0, heads[--to_make]);
			vhost_client_kick(&f->c, 0, false);
			made++;
			since++;
			spend(MAKING);
			disturbed |= now() - begun > DISTURBED;
		}
		if (made >= num || vhost_client_signals(&f->c, 0) == seen)
			continue;
		signals->all++;
		signals->undisturbed += !disturbed && to_make;
		signals->early += !disturbed && to_make && since < FEW;
		spend(REACTING);
		seen = vhost_client_signals(&f->c, 0);
		to_make = handle(q, heads, to_make);
		since = 0;
		disturbed = false;
	}
	return made >= num;
}

static void test_lone(const char *disk)
{
	enum { NUM = 400 };
	struct signals signals = {};
	struct fixture f;
	bool done;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	done = drive(&f, 1, NUM, &signals);
	tear_down(&f);
	tap_equal(done ? signals.all : 0, NUM - 1,
		  "of a lone answer the driver is told at once");
}

/*
 * Where the machine has something else to do, too, a good round may be long in coming, even
 * among those that nothing disturbs on this processor. Without gathering none is good.
 */
static void test_gathers(const char *disk)
{
	enum { NUM = 400, ENOUGH = 10 };
	struct signals signals;
	double limit = now() + 60 * limit_factor();
	bool done, good = false, disturbed = true;
	unsigned int i;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		tap_ok(true, "answers that share signals # SKIP one CPU only");
		return;
	}
	for (i = 0; now() < limit && !good; i++) {
		struct fixture f;

		signals = (struct signals){};
		set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
		done = drive(&f, 32, NUM, &signals);
		tear_down(&f);
		if (!done)
			break;
		if (signals.undisturbed < ENOUGH) {
			usleep(10000);
			continue;
		}
		disturbed = false;
		good = signals.early <= signals.undisturbed / 2;
	}
	if (done && disturbed)
		tap_ok(true, "answers that share signals # SKIP the machine is too slow");
	else
		tap_ok(good, "a driver that makes requests is not told of each answer");
	printf("# round %u: of %u requests %lu signals, %lu to an undisturbed driver, %lu early\n",
	       i, NUM, signals.all, signals.undisturbed, signals.early);
}

/* Bursts of any size after one that makes the device expect more. */
static void test_keeps_none(const char *disk)
{
	unsigned int i, num = 0, answered = 0;
	struct signals signals = {};
	uint8_t *statuses;
	struct fixture f;
	size_t mark;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	if (!drive(&f, 32, 400, &signals))
		tap_bail("no answers");
	take_answers(&f, 32);
	mark = f.c.mem_free;
	for (i = 0; i < 300; i++) {
		num = 1 + rand() % 32;
		statuses = send_reads(&f, num);
		answered = take_answers(&f, num);
		if (answered < num || count_ok(statuses, num) < num)
			break;
		f.c.mem_free = mark;
	}
	if (!tap_ok(i == 300, "a driver that goes on with fewer requests is told of all"))
		printf("# burst %u: %u of %u\n", i, answered, num);
	tear_down(&f);
}

/* The driver says that it has seen what it can't have, or never sees anything. */
static void test_lies(const char *disk)
{
	struct vhost_client_queue *q;
	double start = now(), limit;
	struct fixture f;
	unsigned int i;
	uint16_t want;
	size_t mark;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	q = &f.c.queues[0];
	mark = f.c.mem_free;
	for (i = 0; i < 500; i++) {
		say_seen(q, i & 1 ? rand() : q->last_used - 1);
		want = q->last_used + 8;
		send_reads(&f, 8);
		for (limit = now() + 5 * limit_factor(); used_idx(q) != want && now() < limit;)
			say_seen(q, i & 1 ? rand() : q->last_used - 1);
		if (used_idx(q) != want)
			break;
		take_answers(&f, 8);
		f.c.mem_free = mark;
	}
	if (!tap_ok(i == 500 && now() - start < 30 * limit_factor(),
		    "whatever the driver says it has seen, it is answered"))
		printf("# %u of 500 bursts in %.1f s\n", i, now() - start);
	tap_equal(vhost_client_run(&f.c, false), 0, "and the device stops");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		tap_bail("usage: %s DISK", argv[0]);
	test_lone(argv[1]);
	test_gathers(argv[1]);
	test_keeps_none(argv[1]);
	test_lies(argv[1]);
	return tap_end();
}
