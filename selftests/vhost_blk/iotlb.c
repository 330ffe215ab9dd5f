// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory behind a virtual IOMMU (VIRTIO_F_ACCESS_PLATFORM): the device asks
 * for every translation that it misses, waits for it and obeys it.
 *
 * usage: iotlb DISK SLOW
 *	DISK	a block device that may be overwritten, 64 MiB or more
 *	SLOW	one that needs milliseconds for a request
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

#define PAGE	4096

static void set_up_iotlb(struct fixture *f, const char *disk, size_t granule)
{
	set_up_bound(f, disk, O_RDWR, 1);
	if (vhost_client_use_iotlb(&f->c, granule))
		tap_bail("no IOTLB");
	set_up_running(f, 1, ALL_FEATURES);
	/* In no page of the ring's. */
	f->hdr = vhost_client_alloc(&f->c, PAGE, PAGE);
	f->status = (uint8_t *)(f->hdr + 1);
}

static void test_data(const char *disk, size_t granule, const char *what)
{
	struct fixture f;

	set_up_iotlb(&f, disk, granule);
	tap_ok(pieces_match(&f, 1, 512, 4096, false), "%s: a sector", what);
	tap_ok(pieces_match(&f, 200, 1536, 2048, false),
	       "%s: 200 pieces across pages", what);
	tap_ok(pieces_match(&f, 100, 4096, 8192, true),
	       "%s: an indirect table", what);
	tap_ok(f.c.misses > 0, "%s: the device has asked", what);
	tear_down(&f);
}

static void test_miss(const char *disk)
{
	struct pollfd fd = { .events = POLLIN };
	struct fixture f;
	uint8_t *data;

	set_up_iotlb(&f, disk, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 512, NULL);
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	tap_ok(!read_is_answered(&f, data, 200 * limit_factor()),
	       "a request whose data has no translation waits");
	fd.fd = f.c.fd;
	tap_ok(poll(&fd, 1, 0) == 1 && fd.revents & POLLIN,
	       "poll says that a miss is to be read");
	tap_ok(vhost_client_iotlb_serve(&f.c, TIMEOUT_MS) > 0, "it is read");
	tap_ok(vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS) >= 0,
	       "and with the translation the request goes on");
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	read_is_answered(&f, data, 50);
	tap_equal(vhost_client_run(&f.c, false), 0,
		  "a device that waits for a translation can be stopped");
	tear_down(&f);
}

/* Misses that are there to be read, none of which is answered. */
static unsigned int take_misses(struct fixture *f)
{
	struct vhost_msg_v2 msg;
	unsigned int num = 0;

	while (read(f->c.fd, &msg, sizeof(msg)) == sizeof(msg))
		num++;
	return num;
}

/* A guest that kicks is no reason to ask once more. */
static void test_kicks(const char *disk)
{
	struct fixture f;
	uint8_t *data;
	int i;

	set_up_iotlb(&f, disk, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL);
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	read_is_answered(&f, data, 50);
	for (i = 0; i < 200; i++) {
		vhost_client_kick(&f.c, 0, true);
		usleep(1000);
	}
	tap_equal(take_misses(&f), 1, "a miss is one question, however often the guest kicks");
	vhost_client_iotlb_map(&f.c, vhost_client_alloc(&f.c, PAGE, PAGE), PAGE,
			       VHOST_ACCESS_RW);
	usleep(100000 * limit_factor());
	tap_equal(take_misses(&f), 1, "when something else was answered it is asked again");
	vhost_client_iotlb_map(&f.c, data, PAGE, VHOST_ACCESS_RW);
	tap_ok(vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS) >= 0,
	       "and the answer is what it waits for");
	tear_down(&f);
}

static void test_ring_unmapped(const char *disk)
{
	struct fixture f;
	uint8_t *data;
	int i;

	set_up_iotlb(&f, disk, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	for (i = 0; i < 20; i++) {
		vhost_client_iotlb_unmap(&f.c, f.c.queues[0].vring.used, PAGE);
		vhost_client_iotlb_unmap(&f.c, f.c.queues[0].vring.desc, PAGE);
		if (simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL))
			break;
	}
	tap_equal(i, 20, "a ring that is unmapped %d times is asked for again", 20);
	tear_down(&f);
}

/* All that there were have to make room for one that nobody needs. */
static void evict(struct fixture *f)
{
	void *page = f->c.mem + f->c.mem_size - PAGE;
	unsigned int i, max = max_translations();

	for (i = 0; i < max; i++)
		vhost_client_iotlb_map(&f->c, page, PAGE, VHOST_ACCESS_RW);
}

/* The same while a read into @data is in flight. */
static void evict_under_read(struct fixture *f, const char *slow, void *data)
{
	simple(f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL);
	read_is_in_flight(f, data);
	evict(f);
	if (*f->status != 0xee)
		tap_bail("%s is too fast", slow);
}

/* Nothing that was fetched gets lost for want of a place to say so. */
static void test_stop_evicted(const char *slow)
{
	struct fixture f;
	uint32_t stop = 0;
	uint8_t *data;

	set_up_iotlb(&f, slow, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	evict_under_read(&f, slow, data);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_BLK_SET_RUNNING, &stop), -EAGAIN,
		  "a stop is refused while answers have nowhere to go");
	tap_ok(vhost_client_iotlb_serve(&f.c, TIMEOUT_MS) > 0, "the device asks where");
	tap_equal(vhost_client_run(&f.c, false), 0, "it stops when it knows");
	tap_equal(*f.status, VIRTIO_BLK_S_OK, "with everything answered");
	tear_down(&f);
}

/* As a VMM does it that resets a machine. Returns what the features' call did. */
static int start_again(struct fixture *f)
{
	uint64_t features = f->c.features;
	int ret;

	vhost_client_run(&f->c, false);
	ret = vhost_client_ioctl(&f->c, VHOST_SET_FEATURES, &features);
	vhost_client_run(&f->c, true);
	return ret;
}

/* Whether the request is answered, with all translations that the device asks for. */
static bool is_answered_when_mapped(struct fixture *f)
{
	while (vhost_client_iotlb_serve(&f->c, 50) > 0)
		;
	return vhost_client_get_used(&f->c, 0, NULL, TIMEOUT_MS) >= 0;
}

/* The next driver maps other pages. */
static void test_started_again(const char *disk)
{
	struct fixture f;
	uint8_t *data;

	set_up_iotlb(&f, disk, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL);
	tap_equal(start_again(&f), 0,
		  "a stopped device is given the same features again");
	tap_ok(!read_is_answered(&f, data, 200 * limit_factor()),
	       "what was mapped before the stop is not used any more");
	tap_ok(is_answered_when_mapped(&f), "but asked for again");
	tear_down(&f);
}

/* The VMM knew no answer: for a system that has been reset since. */
static void test_unanswered(const char *disk)
{
	struct vhost_msg_v2 miss;
	struct fixture f;
	uint8_t *data;

	set_up_iotlb(&f, disk, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	if (read_is_answered(&f, data, 200 * limit_factor()))
		tap_bail("data has a translation");
	tap_ok(read(f.c.fd, &miss, sizeof(miss)) > 0,
	       "a question is read, and not answered");
	start_again(&f);
	tap_ok(is_answered_when_mapped(&f),
	       "the device that is started again asks again");
	tear_down(&f);
}

/* A request in flight at a time, whose data is in the first or the second page. */
static void test_invalidation(const char *slow)
{
	volatile uint16_t *used;
	struct fixture f;
	uint8_t *data;
	bool in_flight;

	set_up_iotlb(&f, slow, PAGE);
	data = vhost_client_alloc(&f.c, 2 * PAGE, PAGE);
	used = &f.c.queues[0].vring.used->idx;
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 2 * PAGE, NULL);
	in_flight = read_is_in_flight(&f, data);
	vhost_client_iotlb_unmap(&f.c, data + PAGE, PAGE);
	tap_ok(in_flight && *used == 1,
	       "to take another translation away waits for no request");
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	tap_ok(*used == 2 && *f.status == VIRTIO_BLK_S_OK,
	       "to take away that of a request in flight waits until it is answered");
	vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 2 * PAGE, NULL),
		  VIRTIO_BLK_S_OK, "and the queue goes on with the new one");
	tear_down(&f);
}

/*
 * What is in flight is answered while there is a place for it. Without a @granule a page that
 * nobody uses is in the one translation, which vhost core removes as a whole.
 */
static void test_invalidation_of_ring(const char *slow, size_t granule, const char *what)
{
	volatile uint16_t *used;
	uint32_t stop = 0;
	struct fixture f;
	uint8_t *data;
	bool in_flight;

	set_up_iotlb(&f, slow, granule);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	used = &f.c.queues[0].vring.used->idx;
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, PAGE, NULL);
	in_flight = read_is_in_flight(&f, data);
	vhost_client_iotlb_unmap(&f.c, granule ? (void *)f.c.queues[0].vring.used :
					 f.c.mem + f.c.mem_size - PAGE, PAGE);
	tap_ok(in_flight && *used == 2 && *f.status == VIRTIO_BLK_S_OK,
	       "to take away %s waits for what is in flight", what);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_BLK_SET_RUNNING, &stop), 0,
		  "and then a stop needs no translation");
	tear_down(&f);
}

/* Nowhere to put the answer, and nothing that the guest could do with it. */
static void test_invalidation_of_all(const char *slow)
{
	volatile uint16_t *used;
	struct fixture f;
	uint64_t errors;
	uint8_t *data;

	set_up_iotlb(&f, slow, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	used = &f.c.queues[0].vring.used->idx;
	evict_under_read(&f, slow, data);
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	tap_ok(read(f.c.queues[0].err_fd, &errors, sizeof(errors)) > 0,
	       "a queue whose ring and buffers are unmapped stops");
	tap_ok(*used == 1 && *f.status == 0xee, "and nothing is answered any more");
	tap_equal(vhost_client_run(&f.c, false), 0, "but the device stops");
	tear_down(&f);
}

struct storm {
	struct fixture *f;
	void *page;
	volatile bool stop;
};

static void *invalidate(void *arg)
{
	struct storm *s = arg;

	while (!s->stop)
		vhost_client_iotlb_unmap(&s->f->c, s->page, PAGE);
	return NULL;
}

/* Each of them makes the queue pause, whatever it is about to do. */
static void test_storm(const char *disk)
{
	enum { ROUNDS = 300, READS = 16 };
	struct storm s = {};
	unsigned int i, got = 0;
	pthread_t thread;
	struct fixture f;
	size_t mark;

	set_up_iotlb(&f, disk, PAGE);
	s.f = &f;
	/* Nobody uses it. */
	s.page = f.c.mem + f.c.mem_size - PAGE;
	mark = f.c.mem_free;
	if (pthread_create(&thread, NULL, invalidate, &s))
		tap_bail("no thread");
	for (i = 0; i < ROUNDS; i++) {
		send_reads(&f, READS);
		got = take_answers(&f, READS);
		if (got != READS)
			break;
		f.c.mem_free = mark;
	}
	s.stop = true;
	pthread_join(thread, NULL);
	if (!tap_ok(i == ROUNDS, "a storm of invalidations holds no request back for good"))
		printf("# %u of %u answers in round %u\n", got, READS, i);
	tear_down(&f);
}

static void test_permission(const char *disk)
{
	struct fixture f;
	uint64_t errors;
	uint8_t *data;

	set_up_iotlb(&f, disk, PAGE);
	data = vhost_client_alloc(&f.c, PAGE, PAGE);
	simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 512, NULL);
	vhost_client_iotlb_unmap(&f.c, data, PAGE);
	vhost_client_iotlb_map(&f.c, data, PAGE, VHOST_ACCESS_RO);
	memset(data, 0x77, PAGE);
	read_is_answered(&f, data, 200 * limit_factor());
	tap_ok(data[0] == 0x77 && data[PAGE - 1] == 0x77,
	       "a read into memory that is mapped for reading doesn't write it");
	tap_ok(read(f.c.queues[0].err_fd, &errors, sizeof(errors)) > 0,
	       "and stops its queue");
	tear_down(&f);
}

static void test_messages(const char *disk)
{
	struct vhost_client c;
	uint64_t features;
	char byte;
	int fd;

	fd = open(disk, O_RDWR | O_CLOEXEC);
	if (fd < 0 || vhost_client_open(&c, DEVICE, MEMORY))
		tap_bail("can't open %s", disk);
	tap_ok(read(c.fd, &byte, 1) < 0 && errno == ENODEV,
	       "misses can't be read before bind");
	tap_ok(write(c.fd, &byte, 1) < 0 && errno == ENODEV,
	       "translations can't be written before bind");
	vhost_client_bind(&c, fd, 0, 1, "");
	tap_equal(vhost_client_iotlb_send(&c, VHOST_IOTLB_UPDATE, 0, PAGE,
					  (uintptr_t)c.mem, VHOST_ACCESS_RW),
		  -EPERM, "nor by who is not the owner");
	vhost_client_ioctl(&c, VHOST_GET_BACKEND_FEATURES, &features);
	tap_ok(features & 1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2,
	       "messages of the second version are offered");
	features = ~0ULL;
	tap_equal(vhost_client_ioctl(&c, VHOST_SET_BACKEND_FEATURES, &features),
		  -EOPNOTSUPP, "a backend feature that was not is refused");
	vhost_client_close(&c);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		tap_bail("usage: %s DISK SLOW", argv[0]);
	test_data(argv[1], PAGE, "pages");
	test_data(argv[1], 0, "one translation");
	test_miss(argv[1]);
	test_kicks(argv[1]);
	test_ring_unmapped(argv[1]);
	test_stop_evicted(argv[2]);
	test_invalidation(argv[2]);
	test_invalidation_of_ring(argv[2], PAGE, "the ring's");
	test_invalidation_of_ring(argv[2], 0, "a part of the ring's translation");
	test_invalidation_of_all(argv[2]);
	test_storm(argv[1]);
	test_started_again(argv[1]);
	test_unanswered(argv[1]);
	test_permission(argv[1]);
	test_messages(argv[1]);
	return tap_end();
}
