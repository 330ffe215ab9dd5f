// SPDX-License-Identifier: GPL-2.0
/*
 * A device that breaks the rules of its rings: what it answers, how often, and how it
 * says so. Requests may fail, but they end, and what was acknowledged is there.
 *
 * A ring whose rules were broken is out of service. Without recovery its requests fail
 * when their time is up, and all that come later. With recovery the device is reset,
 * and used as if nothing had been.
 *
 * usage: hostile MODULE [TEST...]
 */
#include "fixture.h"
#include "disk.h"

#define DEPTH	32

static void disk_works(struct device *device, const char *when)
{
	device_tell(device, "honest=1");
	tap_ok(data_is_right(device), "%s the disk works", when);
}

/* What the device does makes no difference. */
static void test_harmless(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "%s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_equal(t.result->failed, 0, "none fails");
	tap_ok(traffic_is_right(&t), "the data is right");
	tap_equal(disk_attribute(device, "recovery/lost_interrupts"), 0,
		  "no interrupt was lost");
	disk_works(device, "afterwards");
}

/* One request after the other gets each status that a byte can be. */
static void test_status(struct device *device, const struct test *test)
{
	unsigned int status, wrong = 0;

	for (status = VIRTIO_BLK_S_OK + 1; status <= 255; status++) {
		device_tell(device, "status=%u", status);
		if (disk_read(device, 0, BLOCK, 0, SOON) > 0)
			continue;
		printf("# status %u is no error\n", status);
		wrong++;
	}
	tap_equal(wrong, 0, "any status byte but 0 is an error");
	device_tell(device, "status=%u", VIRTIO_BLK_S_IOERR);
	tap_equal(disk_read(device, 0, BLOCK, 0, SOON), EIO, "IOERR is EIO");
	device_tell(device, "status=%u", VIRTIO_BLK_S_UNSUPP);
	tap_equal(disk_read(device, 0, BLOCK, 0, SOON), EOPNOTSUPP, "UNSUPP is EOPNOTSUPP");
	device_tell(device, "status=85");
	tap_equal(disk_read(device, 0, BLOCK, 0, SOON), EIO, "nonsense is EIO");
	device_tell(device, "status=255");
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), EIO,
		  "what the driver puts there before is EIO");
	disk_works(device, "afterwards");
	(void)test;
}

static void test_some_fail(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "times=%u %s", test->number, test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_equal(t.result->failed, test->number, "those answered with nonsense fail");
	tap_ok(traffic_is_right(&t), "the others' data is right");
	disk_works(device, "afterwards");
}

/* Once, amid other requests. */
static void test_broken(struct device *device, const struct test *test)
{
	const char *latest;
	struct traffic t;

	device_tell(device, "times=1 %s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_ok(t.result->failed > 0 && t.result->error == EIO, "some with EIO");
	tap_ok(log_messages(&latest) > 0 && log_lines("broke the rules of the ring") <= 1,
	       "the log says why, once");
	tap_equal(disk_read(device, 0, BLOCK, 0, SOON), EIO, "then all fail, at once");
	tap_equal(disk_attribute(device, "recovery/device_resets"), 0, "nothing was reset");
}

static void test_recovers(struct device *device, const struct test *test)
{
	struct traffic t;

	set_disk_attribute(device, "recovery/attempts", 2);
	device_tell(device, "times=1 %s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_ok(t.result->failed <= test->number, "at most %u fail", test->number);
	tap_ok(traffic_is_right(&t), "the data is right");
	tap_equal(disk_attribute(device, "recovery/device_resets"), 1,
		  "the device was reset, once");
	disk_works(device, "afterwards");
}

static void test_removal(struct device *device, const struct test *test)
{
	struct traffic t;
	double begin;

	set_disk_attribute(device, "queue/io_timeout", test->number);
	device_tell(device, "delay=300 %s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	/* The first answers have come; the others never will. */
	usleep(600000);
	begin = now();
	tap_ok(device_detach(device, SOON), "the device can be taken away");
	printf("# after %.1f s\n", now() - begin);
	tap_ok(traffic_finish(&t, SOON), "every request ends");
	tap_equal(t.result->good, 0, "none has succeeded");
}

/*
 * An NVMe namespace over the disk has a call that appends (append.c). What the device
 * says of where the data are has to be an error, or goes to who asked.
 */
static void test_append(struct device *device, const struct test *test)
{
	static const char *const lies[] = {
		"append=2041", "append=2048", "append=4096", "append=0x7ffffffffffffff8",
	};
	unsigned int i;

	if (command(2 * SOON, ". /opt/disks.sh; ip link set lo up; make_nvme_tcp /dev/%s",
		    device->disk))
		tap_bail("no NVMe namespace on a zoned disk");
	tap_equal(command(SOON, ". /opt/disks.sh; /opt/append $(nvme_namespace) 0"), 0,
		  "appended blocks are where the device says");
	for (i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		device_tell(device, "%s", lies[i]);
		tap_equal(command(SOON, ". /opt/disks.sh; /opt/append $(nvme_namespace) 0 2>&1 | grep 'append: status'"),
			  0, "%s, which is not in the zone: the request fails", lies[i]);
	}
	command(SOON, ". /opt/disks.sh; remove_nvme_tcp");
	(void)test;
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ .name = "two interrupts", .run = test_harmless, .trick = "interrupts=2" },
		{ .name = "interrupts for nothing", .run = test_harmless,
		  .trick = "spurious=1000 interrupts=3" },
		{ .name = "length 0", .run = test_harmless, .trick = "length=0" },
		{ .name = "length 4 GiB", .run = test_harmless, .trick = "length=0xffffffff" },
		{ .name = "status", .run = test_status },
		{ .name = "status, many", .run = test_some_fail, .trick = "status=77",
		  .number = 100 },
		{ .name = "id out of range", .run = test_broken, .trick = "id=128" },
		{ .name = "id out of range, recovery", .run = test_recovers,
		  .trick = "id=128" },
		{ .name = "id of 32 bits", .run = test_broken, .trick = "id=0xffffffff" },
		{ .name = "id of 32 bits, recovery", .run = test_recovers,
		  .trick = "id=0xffffffff" },
		{ .name = "id not in flight", .run = test_broken, .trick = "id=100" },
		{ .name = "id not in flight, recovery", .run = test_recovers,
		  .trick = "id=100" },
		/* The second one may be taken for that of a new request, which then fails. */
		{ .name = "answer given twice", .run = test_broken, .trick = "answers=2" },
		{ .name = "answer given twice, recovery", .run = test_recovers,
		  .trick = "answers=2", .number = 1 },
		{ .name = "index one ahead", .run = test_broken, .trick = "index_add=1" },
		{ .name = "index one ahead, recovery", .run = test_recovers,
		  .trick = "index_add=1", .number = 1 },
		{ .name = "index far ahead", .run = test_broken, .trick = "index_add=1000" },
		{ .name = "index far ahead, recovery", .run = test_recovers,
		  .trick = "index_add=1000", .number = DEPTH },
		{ .name = "overwritten used ring", .run = test_broken, .trick = "scribble=1" },
		{ .name = "overwritten used ring, recovery", .run = test_recovers,
		  .trick = "scribble=1", .number = DEPTH },
		/* Without recovery, two requests are waited for that were answered. */
		{ .name = "index behind, recovery", .run = test_recovers,
		  .trick = "index_add=0xfffe", .number = DEPTH },
		{ .name = "zone append", .run = test_append,
		  .words = "model=1 zone_sectors=2048 granularity=4096 max_append=1024" },
		{ .name = "removal when broken", .run = test_removal, .trick = "id=128",
		  .number = 60000 },
		{ .name = "removal when one of two is broken", .run = test_removal,
		  .trick = "id=128", .words = "queues=2 num_queues=2", .number = 2000 },
	};

	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
