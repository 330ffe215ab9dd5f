// SPDX-License-Identifier: GPL-2.0
/*
 * A host-managed disk whose device fails: zones that are not known are not written, and
 * what changes a zone is not sent twice.
 *
 * usage: zones MODULE [TEST...]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/blkzoned.h>
#include <sys/ioctl.h>

#include "fixture.h"
#include "disk.h"

/* Types of requests. */
#define READS		"type=0 "
#define WRITES		"type=1 "
#define FLUSHES		"type=4 "
#define ZONE_REPORTS	"type=16 "
#define ZONE_RESETS	"type=24 "

#define ZONE_SECTORS	2048
#define ZONES		"model=1 zone_sectors=2048 granularity=4096 max_append=1024 "
/* Longer than any test. */
#define NEVER_MS	120000

static long long requests(struct device *device, const char *what, unsigned int type)
{
	char question[32];

	snprintf(question, sizeof(question), "%s=%u", what, type);
	return device_ask(device, question);
}

static void is_counted(struct device *device, const char *name, long long value)
{
	char attribute[64];

	snprintf(attribute, sizeof(attribute), "recovery/%s", name);
	tap_equal(disk_attribute(device, attribute), value, "%s is %lld", name, value);
}

static int open_disk(const struct device *device)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", device->disk);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int reset_zone(void *argument)
{
	struct blk_zone_range range = { .nr_sectors = ZONE_SECTORS };
	int fd = open_disk(argument);

	return fd < 0 || ioctl(fd, BLKRESETZONE, &range) ? errno : 0;
}

static int reset_first_zone(struct device *device)
{
	return finish(start(reset_zone, device), SOON);
}

/* Returns the write pointer of the first zone, or -1. The block layer learns it, too. */
static long long write_pointer(const struct device *device)
{
	struct blk_zone_report *report;
	long long pointer = -1;
	int fd = open_disk(device);

	report = calloc(1, sizeof(*report) + sizeof(struct blk_zone));
	report->nr_zones = 1;
	if (!ioctl(fd, BLKREPORTZONE, report))
		pointer = report->zones[0].wp;
	free(report);
	close(fd);
	return pointer;
}

/* --- zones that are not known --- */

/* Reports fail that follow a change of the capacity, until the device is repaired. */
static void test_unknown(struct device *device, const struct test *test)
{
	double end = now() + SOON;

	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), 0, "a zone is written");
	device_tell(device, "%s capacity=%u", test->trick, DISK_BYTES / SECTOR);
	while (!log_lines("zones are not known") && now() < end)
		usleep(100000);
	tap_equal(disk_write(device, BLOCK, BLOCK, 1, SOON), EIO,
		  "where the report of zones failed, writes fail");
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_OUT), 1, "the device does not see them");
	tap_equal(disk_read(device, 0, BLOCK, 1, SOON), 0, "reads succeed");

	device_tell(device, "honest=1 zone_start=-1 capacity=%u",
		    DISK_BYTES / SECTOR - ZONE_SECTORS);
	end = now() + SOON;
	/* After a write that failed, the block layer wants to see the zone again. */
	while (write_pointer(device) >= 0 && disk_write(device, BLOCK, BLOCK, 1, SOON) &&
	       now() < end)
		usleep(100000);
	tap_equal(device_ask(device, "written=0"), 2 * BLOCK / SECTOR,
		  "after a report that succeeded, so do writes");
	tap_equal(disk_read(device, BLOCK, BLOCK, 1, SOON), 0, "the data is right");
	tap_equal(disk_attribute(device, "queue/nr_zones"),
		  DISK_BYTES / SECTOR / ZONE_SECTORS - 1, "all zones are known");
}

/* --- recovery --- */

/* The device has done it, but does not answer. */
static void test_write(struct device *device, const struct test *test)
{
	device_tell(device, "%s", test->trick);
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), EIO, "a write fails with EIO");
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_OUT), 1, "the device has seen it once");
	is_counted(device, "device_resets", 1);
	is_counted(device, "requeued", 0);
	tap_equal(disk_read(device, 0, BLOCK, 1, SOON), 0, "it has written the data");
	tap_equal(write_pointer(device), BLOCK / SECTOR, "the zone is reported as it is");
	tap_equal(disk_write(device, BLOCK, BLOCK, 1, SOON), 0,
		  "then it is written from there on");
	tap_equal(reset_first_zone(device), 0, "it is reset");
	tap_equal(disk_write(device, 0, BLOCK, 2, SOON), 0,
		  "and is written from its beginning on");
	tap_equal(disk_read(device, 0, BLOCK, 2, SOON), 0, "the data is right");
}

/* The device has not done it. What is left of the zone can be written after a reset. */
static void test_write_held(struct device *device, const struct test *test)
{
	device_tell(device, "%s", test->trick);
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), EIO, "a write fails with EIO");
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_OUT), 1, "the device has seen it once");
	tap_equal(reset_first_zone(device), 0, "the zone is reset");
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), 0, "then it is written");
	tap_equal(disk_read(device, 0, BLOCK, 1, SOON), 0, "the data is right");
}

static void test_reset(struct device *device, const struct test *test)
{
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), 0, "a zone is written");
	device_tell(device, "%s", test->trick);
	tap_equal(reset_first_zone(device), EIO, "a reset of the zone fails with EIO");
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_ZONE_RESET), 1,
		  "the device has seen it once");
	tap_equal(reset_first_zone(device), 0, "another one succeeds");
	tap_equal(disk_write(device, 0, BLOCK, 2, SOON), 0, "then the zone is written");
	tap_equal(disk_read(device, 0, BLOCK, 2, SOON), 0, "the data is right");
}

static void test_read(struct device *device, const struct test *test)
{
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), 0, "a zone is written");
	device_tell(device, "%s", test->trick);
	tap_equal(disk_read(device, 0, BLOCK, 1, SOON), 0, "a read is sent again and succeeds");
	is_counted(device, "requeued", 1);
	is_counted(device, "device_resets", 1);
}

static void test_flush(struct device *device, const struct test *test)
{
	struct io io = {
		.device = device, .write = true, .bytes = BLOCK, .seed = 1,
		.flush = BY_FSYNC,
	};

	device_tell(device, "%s", test->trick);
	tap_equal(finish(start_io(&io), SOON), 0, "a flush is sent again and succeeds");
	tap_equal(requests(device, "seen", VIRTIO_BLK_T_OUT), 1, "its write was sent once");
	is_counted(device, "requeued", 1);
	is_counted(device, "device_resets", 1);
}

/* --- removal --- */

/* The report that follows a change of the capacity is never answered. */
static void test_removal(struct device *device, const struct test *test)
{
	double begin = now();

	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	device_tell(device, "%s capacity=%u", test->trick, DISK_BYTES / SECTOR);
	while (!device_ask(device, "held") && now() - begin < SOON)
		usleep(10000);
	tap_equal(device_ask(device, "held"), 1, "the device does not report its zones");
	begin = now();
	tap_ok(device_detach(device, 2 * SOON), "it can be taken away");
	tap_ok(now() - begin < 5 * limit_factor(), "at once (%.1f s)", now() - begin);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ .name = "reports fail", .run = test_unknown,
		  .trick = ZONE_REPORTS "status=1", .words = ZONES "capacity=65536" },
		{ .name = "zones in the wrong place", .run = test_unknown,
		  .trick = "zone_start=7", .words = ZONES "capacity=65536" },
		{ .name = "write without an answer", .run = test_write, .words = ZONES,
		  .trick = WRITES "silent=1 times=1", .parameters = "recovery=2" },
		{ .name = "write that breaks the ring", .run = test_write, .words = ZONES,
		  .trick = WRITES "id=128 times=1" },
		{ .name = "write that is not done", .run = test_write_held, .words = ZONES,
		  .trick = WRITES "stall=1", .parameters = "recovery=2" },
		{ .name = "reset of a zone without an answer", .run = test_reset,
		  .words = ZONES, .trick = ZONE_RESETS "silent=1 times=1",
		  .parameters = "recovery=2" },
		{ .name = "read without an answer", .run = test_read, .words = ZONES,
		  .trick = READS "silent=1 times=1", .parameters = "recovery=2" },
		{ .name = "flush without an answer", .run = test_flush,
		  .words = ZONES "flush=1", .trick = FLUSHES "silent=1 times=1",
		  .parameters = "recovery=2" },
		{ .name = "removal during a report", .run = test_removal,
		  .words = ZONES "capacity=65536", .trick = ZONE_REPORTS "stall=-1" },
		{ .name = "removal during a report, recovery", .run = test_removal,
		  .words = ZONES "capacity=65536", .trick = ZONE_REPORTS "stall=-1",
		  .parameters = "recovery=1" },
	};

	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
