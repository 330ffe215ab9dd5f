// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that end only once, in all ways that recovery has.
 *
 * The block layer makes one flush of those that several processes wait for, and has one
 * request for it, which it uses again. A flush that is ended twice ends another one that
 * the device has not done. The test's processes write and flush 20 ms apart. If one of
 * them succeeds, the device has done a flush after the write.
 *
 * The requests that the driver sends itself (serial number, lifetime, report of zones)
 * have a process that waits, with memory on its stack. The end of such a request must be
 * its only one, too.
 *
 * usage: flush MODULE [TEST...]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/blkzoned.h>
#include <sys/ioctl.h>

#include "fixture.h"
#include "disk.h"

#define PROCESSES	8
#define SEED		7

/* Types of requests. */
#define WRITES		"type=1 "
#define FLUSHES		"type=4 "
#define SERIAL		"type=8 "
#define LIFETIME	"type=10 "
#define ZONE_REPORTS	"type=16 "

#define ZONES	"model=1 zone_sectors=2048 granularity=4096 max_append=1024"

/* Processes that do the same, and how they ended. */
struct processes {
	pid_t pids[PROCESSES];
	unsigned int good;
	unsigned int not_flushed;
	unsigned int failed;
	unsigned int hanging;
	int error;
};

static long long requests(struct device *device, const char *what, unsigned int type)
{
	char question[32];

	snprintf(question, sizeof(question), "%s=%u", what, type);
	return device_ask(device, question);
}

static long long counter(struct device *device, const char *name)
{
	char attribute[64];

	snprintf(attribute, sizeof(attribute), "recovery/%s", name);
	return disk_attribute(device, attribute);
}

static void is_counted(struct device *device, const char *name, long long value)
{
	tap_equal(counter(device, name), value, "%s is %lld", name, value);
}

/* --- processes that write and flush --- */

/* Each has a block of its own. */
static struct io write_of(const struct device *device, unsigned int i, enum flush flush)
{
	struct io io = {
		.device = device, .write = true, .offset = i * BLOCK, .bytes = BLOCK,
		.seed = SEED, .flush = flush,
	};

	return io;
}

static int write_and_flush(const struct device *device)
{
	struct io io = write_of(device, 0, BY_FSYNC);

	return finish(start_io(&io), SOON);
}

/* Starts processes that write and then flush, each in one of the ways. */
static void start_writers(struct processes *p, struct device *device,
			  const struct test *test)
{
	unsigned int i;

	memset(p, 0, sizeof(*p));
	device_tell(device, "%s", test->trick);
	for (i = 0; i < PROCESSES; i++) {
		struct io io = write_of(device, i, i % 2 ? BY_DSYNC : BY_FSYNC);

		p->pids[i] = start_io(&io);
		usleep(20000);
	}
}

/*
 * The same, but the data of all is written before the device is told the trick. Some
 * processes write it once more, the others only flush.
 */
static void start_flushers(struct processes *p, struct device *device,
			   const struct test *test)
{
	static const enum flush kinds[] = { ONLY_FSYNC, BY_FSYNC, BY_DSYNC, ONLY_FSYNC };
	unsigned int i;

	memset(p, 0, sizeof(*p));
	for (i = 0; i < PROCESSES; i++)
		disk_write(device, i * BLOCK, BLOCK, SEED, SOON);
	device_tell(device, "%s", test->trick);
	for (i = 0; i < PROCESSES; i++) {
		struct io io = write_of(device, i, kinds[i % 4]);

		p->pids[i] = start_io(&io);
		usleep(20000);
	}
}

static void note_end(struct processes *p, int err)
{
	if (!err) {
		p->good++;
	} else if (err == HANGS) {
		p->hanging++;
	} else if (err == NOT_FLUSHED) {
		p->not_flushed++;
	} else {
		p->failed++;
		p->error = err;
	}
}

static void finish_processes(struct processes *p, unsigned int seconds)
{
	double end = now() + seconds, left;
	unsigned int i;

	for (i = 0; i < PROCESSES; i++) {
		left = end - now();
		note_end(p, finish(p->pids[i], left > 0 ? left : 0));
	}
	printf("# %u good, %u good without a flush, %u failed, the latest with %d, %u hanging\n",
	       p->good, p->not_flushed, p->failed, p->error, p->hanging);
}

/* What no writer may ever see. */
static void flushes_are_true(const struct processes *p)
{
	tap_equal(p->hanging, 0, "every process ends");
	tap_equal(p->not_flushed, 0, "the device has flushed what it was said to have");
}

static void all_succeed(struct device *device, const struct processes *p)
{
	unsigned int i, wrong = 0;

	flushes_are_true(p);
	tap_equal(p->good, PROCESSES, "all succeed");
	for (i = 0; i < PROCESSES; i++)
		wrong += disk_read(device, i * BLOCK, BLOCK, SEED, SOON) != 0;
	tap_equal(wrong, 0, "the data is right");
	is_counted(device, "timed_out", 0);
}

static void all_fail(const struct processes *p)
{
	flushes_are_true(p);
	tap_equal(p->failed, PROCESSES, "all fail");
}

static void flush_works(struct device *device)
{
	device_tell(device, "honest=1 start=0");
	tap_equal(write_and_flush(device), 0, "afterwards a flush succeeds");
	tap_ok(data_is_right(device), "and the disk works");
}

/* --- tests of flushes --- */

/* Of one flush, then of all, some of which are found when another request ends. */
static void test_lost_interrupt(struct device *device, const struct test *test)
{
	struct processes p;

	device_tell(device, "times=1 %s", test->trick);
	tap_equal(write_and_flush(device), 0, "an fsync succeeds");
	is_counted(device, "lost_interrupts", 1);
	start_flushers(&p, device, test);
	finish_processes(&p, 2 * SOON);
	all_succeed(device, &p);
	is_counted(device, "device_resets", 0);
}

/* Each flush that fails was sent twice, and counts once. */
static void test_one_times_out(struct device *device, const struct test *test)
{
	device_tell(device, "%s", test->trick);
	tap_equal(write_and_flush(device), ETIMEDOUT, "an fsync fails with ETIMEDOUT");
	is_counted(device, "timed_out", 1);
	is_counted(device, "requeued", test->number);
	is_counted(device, "device_resets", test->number + 1);
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_FLUSH), test->number + 1,
		  "the device has seen it %u times", test->number + 1);
	flush_works(device);
}

static void test_all_time_out(struct device *device, const struct test *test)
{
	long long seen;
	struct processes p;

	start_flushers(&p, device, test);
	finish_processes(&p, 2 * SOON);
	all_fail(&p);
	tap_equal(p.error, ETIMEDOUT, "with ETIMEDOUT");
	tap_equal(requests(device, "requests", VIRTIO_BLK_T_FLUSH), 0,
		  "the device has flushed nothing");
	seen = requests(device, "seen", VIRTIO_BLK_T_FLUSH);
	is_counted(device, "timed_out", seen / (test->number + 1));
	is_counted(device, "requeued", seen / (test->number + 1) * test->number);
	is_counted(device, "device_resets", seen);
	flush_works(device);
}

/*
 * What the device had when it was reset is sent again. So is what came while the ring
 * was broken, which the device has never seen.
 */
static void are_sent_again(struct device *device, struct processes *p,
			   unsigned int requeued)
{
	finish_processes(p, 2 * SOON);
	all_succeed(device, p);
	is_counted(device, "device_resets", 1);
	if (requeued)
		is_counted(device, "requeued", requeued);
	else
		tap_ok(counter(device, "requeued") > 0, "what is sent again is counted");
	flush_works(device);
}

static void test_sent_again(struct device *device, const struct test *test)
{
	struct processes p;

	start_flushers(&p, device, test);
	are_sent_again(device, &p, test->number);
}

static void test_writes_sent_again(struct device *device, const struct test *test)
{
	struct processes p;

	start_writers(&p, device, test);
	/* On a slow machine the last ones come after the reset. */
	are_sent_again(device, &p, 0);
}

static void test_broken_for_ever(struct device *device, const struct test *test)
{
	struct processes p;

	start_flushers(&p, device, test);
	finish_processes(&p, 2 * SOON);
	all_fail(&p);
	tap_equal(p.error, EIO, "with EIO");
	is_counted(device, "timed_out", 0);
	flush_works(device);
}

static void test_writes_time_out(struct device *device, const struct test *test)
{
	struct processes p;

	start_writers(&p, device, test);
	finish_processes(&p, 2 * SOON);
	all_fail(&p);
	tap_equal(p.error, ETIMEDOUT, "with ETIMEDOUT");
	is_counted(device, "timed_out", PROCESSES);
	is_counted(device, "requeued", PROCESSES * test->number);
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_FLUSH), 0,
		  "nothing is flushed that was not written");
	flush_works(device);
}

static void test_does_not_come_back(struct device *device, const struct test *test)
{
	struct processes p;

	start_flushers(&p, device, test);
	finish_processes(&p, 2 * SOON);
	all_fail(&p);
	tap_equal(log_lines("no more I/O"), 1, "the log says so, once");
}

static void test_killed(struct device *device, const struct test *test)
{
	struct processes p;

	/* Of the transport, which waits for answers to its messages. */
	command(SOON, "echo 1 > /sys/class/vduse/" DEVICE_NAME "/msg_timeout");
	start_flushers(&p, device, test);
	device_kill(device);
	set_disk_attribute(device, "recovery/attempts", 1);
	finish_processes(&p, 2 * SOON);
	all_fail(&p);
}

static void test_removal(struct device *device, const struct test *test)
{
	struct processes p;

	start_flushers(&p, device, test);
	tap_ok(device_detach(device, 2 * SOON), "a device that is stuck can be taken away");
	finish_processes(&p, SOON);
	all_fail(&p);
}

/* --- requests that a process waits for with memory on its stack --- */

static int read_attribute(const struct device *device, const char *name)
{
	char path[128], text[64];
	int fd, err = 0;

	snprintf(path, sizeof(path), "/sys/block/%s/%s", device->disk, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text)) < 0)
		err = errno;
	close(fd);
	return err;
}

static int read_serial(void *device)
{
	return read_attribute(device, "serial");
}

static int read_lifetime(void *device)
{
	return read_attribute(device, "life_time");
}

static int report_zone(void *argument)
{
	const struct device *device = argument;
	struct blk_zone_report *report;
	char path[64];
	int fd;

	report = calloc(1, sizeof(*report) + sizeof(struct blk_zone));
	report->nr_zones = 1;
	snprintf(path, sizeof(path), "/dev/%s", device->disk);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || ioctl(fd, BLKREPORTZONE, report) ? errno : 0;
}

static void start_readers(struct processes *p, struct device *device,
			  unsigned int type)
{
	int (*reader)(void *device) = read_serial;
	unsigned int i;

	if (type == VIRTIO_BLK_T_GET_LIFETIME)
		reader = read_lifetime;
	else if (type == VIRTIO_BLK_T_ZONE_REPORT)
		reader = report_zone;
	memset(p, 0, sizeof(*p));
	for (i = 0; i < PROCESSES; i++) {
		p->pids[i] = start(reader, device);
		usleep(20000);
	}
}

static void test_readers_time_out(struct device *device, const struct test *test)
{
	struct processes p;

	device_tell(device, "%s", test->trick);
	start_readers(&p, device, test->number);
	finish_processes(&p, SOON);
	tap_equal(p.failed, PROCESSES, "all fail");
	tap_equal(p.error, ETIMEDOUT, "with ETIMEDOUT");
	is_counted(device, "timed_out", PROCESSES);
	is_counted(device, "requeued", PROCESSES);
	device_tell(device, "honest=1");
	start_readers(&p, device, test->number);
	finish_processes(&p, SOON);
	tap_equal(p.good, PROCESSES, "once the device is repaired, all succeed");
}

static void test_readers_break_ring(struct device *device, const struct test *test)
{
	struct processes p;

	device_tell(device, "%s", test->trick);
	start_readers(&p, device, test->number);
	finish_processes(&p, SOON);
	tap_equal(p.good, PROCESSES, "all succeed");
	is_counted(device, "device_resets", 1);
	is_counted(device, "timed_out", 0);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ .name = "lost interrupt", .run = test_lost_interrupt, .words = "flush=1",
		  .trick = FLUSHES "interrupts=0" },
		{ .name = "one times out", .run = test_one_times_out, .words = "flush=1",
		  .trick = FLUSHES "stall=-1", .parameters = "recovery=1", .number = 1 },
		{ .name = "all time out", .run = test_all_time_out, .words = "flush=1",
		  .trick = FLUSHES "stall=-1", .parameters = "recovery=1", .number = 1 },
		{ .name = "sent again", .run = test_sent_again, .words = "flush=1",
		  .trick = FLUSHES "stall=1", .parameters = "recovery=2", .number = 1 },
		{ .name = "broken ring", .run = test_sent_again, .words = "flush=1",
		  .trick = FLUSHES "times=1 id=128 undone=1" },
		{ .name = "broken ring, recovery", .run = test_sent_again,
		  .words = "flush=1", .trick = FLUSHES "times=1 id=128 undone=1",
		  .parameters = "recovery=1" },
		{ .name = "broken for ever", .run = test_broken_for_ever,
		  .words = "flush=1", .trick = FLUSHES "id=128 undone=1" },
		{ .name = "writes time out", .run = test_writes_time_out,
		  .words = "flush=1", .trick = WRITES "stall=-1",
		  .parameters = "recovery=1", .number = 1 },
		{ .name = "writes sent again", .run = test_writes_sent_again,
		  .words = "flush=1", .trick = WRITES "stall=1",
		  .parameters = "recovery=2" },
		{ .name = "writes break the ring", .run = test_writes_sent_again,
		  .words = "flush=1", .trick = WRITES "times=1 id=128 undone=1" },
		{ .name = "does not come back", .run = test_does_not_come_back,
		  .words = "flush=1", .trick = FLUSHES "stall=-1 start=1",
		  .parameters = "recovery=2" },
		{ .name = "device killed", .run = test_killed, .words = "flush=1",
		  .trick = FLUSHES "stall=-1" },
		{ .name = "removal", .run = test_removal, .words = "flush=1",
		  .trick = FLUSHES "stall=-1", .parameters = "recovery=1" },
		{ .name = "serial number times out", .run = test_readers_time_out,
		  .number = VIRTIO_BLK_T_GET_ID, .trick = SERIAL "stall=-1",
		  .parameters = "recovery=1" },
		{ .name = "lifetime times out", .run = test_readers_time_out,
		  .number = VIRTIO_BLK_T_GET_LIFETIME, .trick = LIFETIME "stall=-1",
		  .words = "lifetime=1", .parameters = "recovery=1" },
		{ .name = "report of zones times out", .run = test_readers_time_out,
		  .number = VIRTIO_BLK_T_ZONE_REPORT, .trick = ZONE_REPORTS "stall=-1",
		  .words = ZONES, .parameters = "recovery=1" },
		{ .name = "serial number breaks the ring", .run = test_readers_break_ring,
		  .number = VIRTIO_BLK_T_GET_ID, .trick = SERIAL "times=1 id=128" },
		{ .name = "lifetime breaks the ring", .run = test_readers_break_ring,
		  .number = VIRTIO_BLK_T_GET_LIFETIME, .trick = LIFETIME "times=1 id=128",
		  .words = "lifetime=1" },
		{ .name = "report of zones breaks the ring", .words = ZONES,
		  .run = test_readers_break_ring, .number = VIRTIO_BLK_T_ZONE_REPORT,
		  .trick = ZONE_REPORTS "times=1 id=128" },
	};

	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
