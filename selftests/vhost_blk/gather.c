// SPDX-License-Identifier: GPL-2.0
/*
 * Answers are gathered before the driver is told of them, where it has many requests
 * under way, and it need not kick while it replaces them; and none is kept back, whatever
 * the driver does next or says.
 *
 * usage: gather DISK LATE
 *	DISK	a block device that answers at once, 64 MiB or more
 *	LATE	one that takes longer than a driver that makes 32 requests
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "fixture.h"

/*
 * What a driver needs to make a request, and to get to its handler, in seconds. A worker that
 * sleeps needs longer to run than a fast driver makes a request in.
 */
#define MAKING		20e-6
#define MAKING_SLOWLY	70e-6
#define REACTING	150e-6

/* A request that took longer was made while the machine had something else to do. */
#define DISTURBED	60e-6

/* After how many requests it is not worth it to interrupt the driver. */
#define FEW		8

/* Signals to a driver that always has the same number of requests under way, and its kicks. */
struct signals {
	unsigned long kicks;
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
 * A driver with one processor and always @depth requests under way, each of which it needs
 * @making seconds to make. Between two of them it may be interrupted, and has as many to make
 * as were answered then. Returns whether it could make @num requests.
 */
static bool drive(struct fixture *f, unsigned int depth, unsigned int num, double making,
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
	signals->kicks -= q->kicks;
	while ((made < num || to_make) && now() < limit) {
		if (to_make) {
			begun = now();
			vhost_client_offer(&f->c, 0, heads[--to_make]);
			vhost_client_kick(&f->c, 0, false);
			made++;
			since++;
			spend(making);
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
	signals->kicks += q->kicks;
	return made >= num;
}

static void test_lone(const char *disk)
{
	enum { NUM = 400 };
	struct signals signals = {};
	struct fixture f;
	bool done;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	done = drive(&f, 1, NUM, MAKING, &signals);
	tear_down(&f);
	tap_equal(done ? signals.all : 0, NUM - 1,
		  "of a lone answer the driver is told at once");
}

enum { ROUND = 400 };

enum verdict { GOOD, BAD, UNDECIDED };

static enum verdict judge_signals(const struct signals *signals)
{
	enum { ENOUGH = 10 };

	if (signals->undisturbed < ENOUGH)
		return UNDECIDED;
	return signals->early <= signals->undisturbed / 2 ? GOOD : BAD;
}

/*
 * While the driver makes requests none of them ends. A worker that sleeps meanwhile is
 * kicked for nearly each.
 */
static enum verdict judge_kicks(const struct signals *signals)
{
	return signals->kicks <= ROUND / 4 ? GOOD : BAD;
}

/*
 * Where the machine has something else to do, too, a good round may be long in coming, even
 * among those that nothing disturbs on this processor. Without the waits none is good.
 */
static void test_good_round(const char *disk, double making,
			    enum verdict (*judge)(const struct signals *signals),
			    const char *name)
{
	enum verdict verdict = UNDECIDED, last = UNDECIDED;
	double limit = now() + 60 * limit_factor();
	struct signals signals;
	unsigned int i;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		tap_ok(true, "%s # SKIP one CPU only", name);
		return;
	}
	for (i = 0; now() < limit && verdict != GOOD; i++) {
		struct fixture f;
		bool done;

		signals = (struct signals){};
		set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
		done = drive(&f, 32, ROUND, making, &signals);
		tear_down(&f);
		verdict = done ? judge(&signals) : BAD;
		if (verdict == UNDECIDED)
			usleep(10000);
		else
			last = verdict;
		if (!done)
			break;
	}
	if (last == UNDECIDED)
		tap_ok(true, "%s # SKIP the machine is too slow", name);
	else
		tap_ok(verdict == GOOD, "%s", name);
	printf("# round %u: of %u requests %lu kicks, %lu signals, %lu to an undisturbed driver, %lu early\n",
	       i, ROUND, signals.kicks, signals.all, signals.undisturbed, signals.early);
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
	if (!drive(&f, 32, 400, MAKING, &signals))
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
	if (argc != 3)
		tap_bail("usage: %s DISK LATE", argv[0]);
	test_lone(argv[1]);
	test_good_round(argv[1], MAKING, judge_signals,
			"a driver that makes requests is not told of each answer");
	test_good_round(argv[2], MAKING_SLOWLY, judge_kicks,
			"a driver that replaces its requests kicks seldom");
	test_keeps_none(argv[1]);
	test_lies(argv[1]);
	return tap_end();
}
