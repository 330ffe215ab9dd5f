// SPDX-License-Identifier: GPL-2.0
/*
 * Busy polling of rings and of the backing device, and what a queue that polls or
 * that has much to do leaves to the others.
 *
 * usage: poll DISK SLOW POLLED
 *	DISK	a block device that may be overwritten, 64 MiB or more
 *	SLOW	one that needs milliseconds for a request
 *	POLLED	one with poll queues, of two tags each
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "fixture.h"

#define SECOND_US	1000000

/* Reads one after the other, with a pause before each; kicks sent for them. */
static unsigned long kicks_for(struct fixture *f, unsigned int queue, int num,
			       unsigned int pause_us)
{
	size_t mark = f->c.mem_free;
	uint8_t *data = vhost_client_alloc(&f->c, 4096, 4096);
	unsigned long before = f->c.queues[queue].kicks;
	int i;

	for (i = 0; i < num; i++) {
		if (pause_us)
			usleep(pause_us);
		if (simple(f, queue, VIRTIO_BLK_T_IN, 8 * i, data, 4096, NULL))
			tap_bail("a read fails");
	}
	f->c.mem_free = mark;
	return f->c.queues[queue].kicks - before;
}

static void test_kicks(const char *disk)
{
	enum { NUM = 200 };
	struct fixture f;
	unsigned long kicks;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	/* The worker of a slow kernel may see the next request before it sleeps. */
	kicks = kicks_for(&f, 0, NUM, 1000 * limit_factor());
	if (!tap_ok(kicks > NUM / 2, "without polling a lone request needs a kick"))
		printf("# %lu kicks for %d\n", kicks, NUM);
	tap_equal(vhost_client_counter(&f.c, 0, "polls"), 0, "nothing is polled");
	vhost_client_run(&f.c, false);

	vhost_client_set_busyloop(&f.c, 0, SECOND_US);
	vhost_client_run(&f.c, true);
	kicks = kicks_for(&f, 0, NUM, 0);
	if (!tap_ok(kicks <= NUM / 20, "in a window of polling it needs none"))
		printf("# %lu kicks for %d\n", kicks, NUM);
	tap_ok(vhost_client_counter(&f.c, 0, "poll_hits") > NUM / 2,
	       "the windows have found the requests");
	tear_down(&f);
}

static void test_adapts(const char *disk)
{
	struct fixture f;
	long long polls;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_set_busyloop(&f.c, 0, 200);
	kicks_for(&f, 0, 30, 20000);
	polls = vhost_client_counter(&f.c, 0, "polls");
	kicks_for(&f, 0, 10, 20000);
	polls = vhost_client_counter(&f.c, 0, "polls") - polls;
	if (!tap_ok(polls <= 10, "polling that finds nothing ends"))
		printf("# %lld windows for the last ten requests\n", polls);
	tear_down(&f);
}

static void test_control(const char *disk)
{
	struct fixture f;
	double start;

	set_up(&f, disk, O_RDWR, 2, ALL_FEATURES);
	vhost_client_run(&f.c, false);
	vhost_client_set_busyloop(&f.c, 0, 60 * SECOND_US);
	vhost_client_run(&f.c, true);
	kicks_for(&f, 0, 10, 0);

	start = now();
	kicks_for(&f, 1, 20, 0);
	tap_ok(now() - start < 5 * limit_factor(), "a queue is served while another one polls");
	start = now();
	vhost_client_set_busyloop(&f.c, 0, 60 * SECOND_US);
	tap_ok(now() - start < 5 * limit_factor(), "a call doesn't wait for the window's end");
	vhost_client_set_busyloop(&f.c, 0, 0);
	kicks_for(&f, 0, 5, 10000);
	tap_ok(kicks_for(&f, 0, 20, 10000) >= 15, "a window ends when it is taken away");
	vhost_client_set_busyloop(&f.c, 0, 60 * SECOND_US);
	kicks_for(&f, 0, 5, 0);
	start = now();
	tap_equal(vhost_client_run(&f.c, false), 0, "a queue that polls stops");
	tap_ok(now() - start < 5 * limit_factor(), "without waiting for the window's end");
	tear_down(&f);
}

static double time_of_reads(struct fixture *f)
{
	double start = now();

	kicks_for(f, 0, 200, 0);
	return now() - start;
}

/* The driver runs on the CPU on which the worker polls. */
static void test_gives_way(const char *disk)
{
	double asleep, polling;
	struct fixture f;
	cpu_set_t all, one;

	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	/* The worker inherits that. */
	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	asleep = time_of_reads(&f);
	vhost_client_set_busyloop(&f.c, 0, SECOND_US);
	kicks_for(&f, 0, 20, 0);
	polling = time_of_reads(&f);
	if (!tap_ok(polling < 4 * asleep + 0.05 * limit_factor(),
		    "who polls gives the CPU away as soon as another wants it"))
		printf("# 200 reads took %.3f s, without polling %.3f s\n", polling,
		       asleep);
	tear_down(&f);
	sched_setaffinity(0, sizeof(all), &all);
}

static int burst_of_reads(struct fixture *f, unsigned int num)
{
	uint8_t *statuses = send_reads(f, num);

	take_answers(f, num);
	return count_ok(statuses, num);
}

static void test_polled_device(const char *polled)
{
	struct fixture f;

	set_up(&f, polled, O_RDWR, 1, ALL_FEATURES);
	tap_ok(pieces_match(&f, 16, 4096, 8192, false),
	       "a device with poll queues serves without polling");
	tap_equal(vhost_client_counter(&f.c, 0, "polled"), 0,
		  "and not through them");
	vhost_client_run(&f.c, false);
	vhost_client_set_busyloop(&f.c, 0, SECOND_US);
	vhost_client_run(&f.c, true);
	tap_ok(pieces_match(&f, 16, 4096, 8192, false), "it serves with polling");
	tap_ok(vhost_client_counter(&f.c, 0, "polled") > 0,
	       "through its poll queues");
	tap_ok(pieces_match(&f, 200, 4096, 8192, false),
	       "more than one bio as well");
	tap_ok(pieces_match(&f, 8, 512, 1026, false), "and a bounce buffer");
	tap_equal(burst_of_reads(&f, 80), 80,
		  "80 requests at a time are served with two tags");

	add_reads(&f, 40, vhost_client_alloc(&f.c, 40, 1));
	vhost_client_kick(&f.c, 0, true);
	tap_equal(vhost_client_run(&f.c, false), 0,
		  "a device stops with polled requests in flight");
	tear_down(&f);
}

/*
 * A device mapper's disk may not be polled for a bio that is being submitted, of which another
 * thread that polls knows nothing.
 */
static void test_mapped_device(const char *mapped)
{
	struct fixture f;

	set_up(&f, mapped, O_RDWR, 1, ALL_FEATURES);
	vhost_client_run(&f.c, false);
	vhost_client_set_busyloop(&f.c, 0, SECOND_US);
	vhost_client_run(&f.c, true);
	tap_ok(pieces_match(&f, 16, 4096, 8192, false),
	       "a device mapper's device serves with polling");
	tap_equal(vhost_client_counter(&f.c, 0, "polled"), 0,
		  "but not through the poll queues below");
	tear_down(&f);
}

static void test_slow(const char *slow)
{
	struct fixture f;

	set_up(&f, slow, O_RDWR, 1, ALL_FEATURES);
	vhost_client_set_busyloop(&f.c, 0, 50);
	tap_equal(burst_of_reads(&f, 64), 64,
		  "requests that take longer than the window are served");
	tear_down(&f);
}

static volatile bool enough;

/* Keeps queue 0 busy until it is told to stop. */
static void *flood(void *arg)
{
	struct fixture *f = arg;
	uint8_t *statuses = vhost_client_alloc(&f->c, 80, 1);
	struct vhost_client_queue *q = &f->c.queues[0];
	uint16_t seen = 0;

	add_reads(f, 80, statuses);
	vhost_client_kick(&f->c, 0, true);
	while (!enough) {
		uint16_t used = __atomic_load_n(&q->vring.used->idx,
						__ATOMIC_ACQUIRE);

		/* What was used is available again at once. */
		while (seen != used)
			vhost_client_offer(&f->c, 0,
					   q->vring.used->ring[seen++ % q->num].id);
		vhost_client_kick(&f->c, 0, false);
	}
	return NULL;
}

static void test_fair(const char *disk)
{
	double start, end, worst = 0;
	long long flooded, more = 0;
	struct fixture f;
	pthread_t thread;
	int i;

	set_up(&f, disk, O_RDWR, 2, 1ULL << VIRTIO_F_VERSION_1);
	if (pthread_create(&thread, NULL, flood, &f))
		tap_bail("no thread");
	/* The thread shares the fixture, and is past its preparations then. */
	for (i = 0; i < TIMEOUT_MS; i++) {
		flooded = vhost_client_counter(&f.c, 0, "read");
		if (flooded > 200)
			break;
		usleep(1000);
	}
	end = now() + TIMEOUT_MS / 1000;
	for (i = 0; now() < end && (i < 100 || more < 200); i++) {
		start = now();
		kicks_for(&f, 1, 1, 0);
		if (now() - start > worst)
			worst = now() - start;
		more = vhost_client_counter(&f.c, 0, "read") - flooded;
	}
	enough = true;
	pthread_join(thread, NULL);
	if (!tap_ok(worst < 2 * limit_factor(), "a flooded queue leaves time to its neighbour"))
		printf("# the slowest of %d requests took %.3f s\n", i, worst);
	tap_ok(more >= 200, "and was flooded (%lld requests)", more);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	if (argc != 4 && argc != 5)
		tap_bail("usage: %s DISK SLOW POLLED [MAPPED]", argv[0]);
	test_kicks(argv[1]);
	test_adapts(argv[1]);
	test_control(argv[1]);
	test_gives_way(argv[1]);
	test_polled_device(argv[3]);
	if (argc == 5)
		test_mapped_device(argv[4]);
	test_slow(argv[2]);
	test_fair(argv[1]);
	return tap_end();
}
