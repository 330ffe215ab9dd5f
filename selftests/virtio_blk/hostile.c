// SPDX-License-Identifier: GPL-2.0
/*
 * A device that breaks the rules of its rings: what it answers, how often, and how it
 * says so. Requests may fail, but they end, and what was acknowledged is there.
 *
 * A ring whose rules were broken is out of service. The device is reset at once, with
 * recovery or without, and used as if nothing had been. The requests that it had are
 * sent again, once at least, before they fail.
 *
 * usage: hostile MODULE [TEST...]
 */
#include "fixture.h"
#include "disk.h"

#define DEPTH	32
/* Longer than any test. */
#define NEVER_MS	120000

static void is_counted(struct device *device, const char *name, long long value)
{
	char attribute[64];

	snprintf(attribute, sizeof(attribute), "recovery/%s", name);
	tap_equal(disk_attribute(device, attribute), value, "%s is %lld", name, value);
}

static void disk_works(struct device *device, const char *when)
{
	device_tell(device, "honest=1");
	tap_ok(data_is_right(device), "%s the disk works", when);
}

/* What the device does makes no difference. */
static void test_harmless(struct device *device, const struct test *test)
{
	struct traffic t;

	/* On a busy machine an answer can be taken later than a second after it was given. */
	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
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
static void breaks_once(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "times=1 %s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_ok(t.result->failed <= test->number, "at most %u fail", test->number);
	tap_ok(traffic_is_right(&t), "the data is right");
	is_counted(device, "device_resets", 1);
	is_counted(device, "timed_out", 0);
	disk_works(device, "afterwards");
}

/* No time-out is needed for a reset. */
static void test_broken(struct device *device, const struct test *test)
{
	const char *latest;

	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	breaks_once(device, test);
	tap_ok(log_messages(&latest) > 0 && log_lines("broke the rules of the ring") <= 1,
	       "the log says why, once");
}

/* Also with recovery. On a busy machine an honest answer can take more than io_timeout. */
static void test_recovers(struct device *device, const struct test *test)
{
	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	set_disk_attribute(device, "recovery/attempts", 2);
	breaks_once(device, test);
}

/* The driver can't see the error. A request that times out leads to the reset. */
static void test_recovers_late(struct device *device, const struct test *test)
{
	set_disk_attribute(device, "queue/io_timeout", 1000 * limit_factor());
	set_disk_attribute(device, "recovery/attempts", 2);
	breaks_once(device, test);
}

/* With every answer. The virtio core has a line for each, which the driver can't help. */
static void test_broken_for_ever(struct device *device, const struct test *test)
{
	const char *latest;
	struct traffic t;
	int messages;

	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	device_tell(device, "%s", test->trick);
	traffic_start(&t, device, test->number, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_ok(t.result->failed == test->number && t.result->error == EIO, "all with EIO");
	is_counted(device, "timed_out", 0);
	tap_ok(disk_attribute(device, "recovery/device_resets") <= 2 * test->number,
	       "the device was reset no more often than requests were sent");
	messages = log_messages(&latest) - log_lines("id 128 out of range");
	tap_ok(messages > 0 && messages <= 30, "the log is not full of it (%d lines)",
	       messages);
	disk_works(device, "once the device is repaired");
}

/* A request is sent again as often as the administrator says, but once at least. */
static void test_attempts(struct device *device, const struct test *test)
{
	static const unsigned int attempts[] = { 0, 1, 3 };
	long long seen, resets;
	unsigned int i, times;

	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	device_tell(device, "%s", test->trick);
	for (i = 0; i < sizeof(attempts) / sizeof(*attempts); i++) {
		set_disk_attribute(device, "recovery/attempts", attempts[i]);
		times = 1 + (attempts[i] ?: 1);
		seen = device_ask(device, "seen=1");
		resets = disk_attribute(device, "recovery/device_resets");
		tap_equal(disk_write(device, 0, BLOCK, 1, SOON), EIO,
			  "with %u attempts a write fails", attempts[i]);
		tap_equal(device_ask(device, "seen=1") - seen, times,
			  "it was sent %u times", times);
		tap_equal(disk_attribute(device, "recovery/device_resets") - resets, times,
			  "after a reset each");
	}
	disk_works(device, "once the device is repaired");
}

static void test_removal_for_ever(struct device *device, const struct test *test)
{
	struct traffic t;

	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	device_tell(device, "%s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	usleep(100000);
	tap_ok(device_detach(device, SOON), "the device can be taken away");
	tap_ok(traffic_finish(&t, SOON), "every request ends");
	tap_equal(t.result->good, 0, "none has succeeded");
	(void)test;
}

/* Of one queue, while there are requests in both. */
static void test_one_of_two(struct device *device, const struct test *test)
{
	unsigned int cpu;
	struct traffic t[2];

	set_disk_attribute(device, "queue/io_timeout", NEVER_MS);
	device_tell(device, "times=1 %s", test->trick);
	for (cpu = 0; cpu < 2; cpu++)
		traffic_start_on(&t[cpu], cpu, device, TRAFFIC_BLOCKS, DEPTH);
	for (cpu = 0; cpu < 2; cpu++) {
		tap_ok(traffic_finish(&t[cpu], 2 * SOON), "every request of CPU %u ends", cpu);
		tap_equal(t[cpu].result->failed, 0, "none fails");
		tap_ok(traffic_is_right(&t[cpu]), "the data is right");
	}
	is_counted(device, "device_resets", 1);
	disk_works(device, "afterwards");
}

/*
 * The virtio core follows the NEXT flags of descriptors, which the device can change. It
 * then loses descriptors, or takes those of others for free, and stops the kernel when it
 * is asked for the requests that the device has not done.
 */
static void test_next_flags(struct device *device, const struct test *test)
{
	unsigned int i;

	set_disk_attribute(device, "recovery/attempts", 1);
	device_tell(device, "times=1 %s", test->trick);
	disk_write(device, 0, BLOCK, 1, SOON);
	device_tell(device, "honest=1");
	for (i = 0; i < test->number; i++)
		if (disk_write(device, i * BLOCK, BLOCK, 1, SOON))
			break;
	tap_equal(i, test->number, "requests succeed");
	device_tell(device, "stall=1");
	tap_equal(disk_write(device, 0, BLOCK, 1, SOON), 0, "after a reset, too");
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
		{ .name = "id out of range, in order", .run = test_broken,
		  .trick = "id=128", .words = "in_order=1", .number = DEPTH },
		{ .name = "id not in flight, in order", .run = test_broken,
		  .trick = "id=100", .words = "in_order=1", .number = DEPTH },
		{ .name = "id of 32 bits", .run = test_broken, .trick = "id=0xffffffff" },
		{ .name = "id of 32 bits, recovery", .run = test_recovers,
		  .trick = "id=0xffffffff" },
		{ .name = "id not in flight", .run = test_broken, .trick = "id=100" },
		{ .name = "id not in flight, recovery", .run = test_recovers,
		  .trick = "id=100" },
		/* The second one may be taken for that of a new request, which then fails. */
		{ .name = "answer given twice", .run = test_broken, .trick = "answers=2",
		  .number = 1 },
		{ .name = "answer given twice, recovery", .run = test_recovers,
		  .trick = "answers=2", .number = 1 },
		{ .name = "index one ahead", .run = test_broken, .trick = "index_add=1",
		  .number = 1 },
		{ .name = "index one ahead, recovery", .run = test_recovers,
		  .trick = "index_add=1", .number = 1 },
		{ .name = "index far ahead", .run = test_broken, .trick = "index_add=1000",
		  .number = DEPTH },
		{ .name = "index far ahead, recovery", .run = test_recovers,
		  .trick = "index_add=1000", .number = DEPTH },
		{ .name = "overwritten used ring", .run = test_broken, .trick = "scribble=1",
		  .number = DEPTH },
		{ .name = "overwritten used ring, recovery", .run = test_recovers,
		  .trick = "scribble=1", .number = DEPTH },
		/* Without recovery, two requests are waited for that were answered. */
		{ .name = "index behind, recovery", .run = test_recovers_late,
		  .trick = "index_add=0xfffe", .number = DEPTH },
		{ .name = "zone append", .run = test_append,
		  .words = "model=1 zone_sectors=2048 granularity=4096 max_append=1024" },
		{ .name = "removal when broken", .run = test_removal, .trick = "id=128",
		  .number = 60000 },
		{ .name = "removal when one of two is broken", .run = test_removal,
		  .trick = "id=128", .words = "queues=2 num_queues=2", .number = 2000 },
		{ .name = "broken with every answer", .run = test_broken_for_ever,
		  .trick = "id=128", .number = 256 },
		{ .name = "attempts", .run = test_attempts, .trick = "id=128" },
		{ .name = "removal when broken with every answer",
		  .run = test_removal_for_ever, .trick = "id=128" },
		{ .name = "one of two queues", .run = test_one_of_two,
		  .trick = "queue=0 id=128", .words = "queues=2 num_queues=2" },
		{ .name = "one of two queues, overwritten", .run = test_one_of_two,
		  .trick = "queue=0 scribble=1", .words = "queues=2 num_queues=2" },
		{ .name = "NEXT flags cleared, indirect", .run = test_next_flags,
		  .trick = "next=0", .number = 2 * 128 },
		{ .name = "NEXT flags cleared", .run = test_next_flags, .trick = "next=0",
		  .words = "indirect=0 seg_max=4", .number = 2 * 128, .if_named = true },
		{ .name = "NEXT flags cleared, reset", .run = test_next_flags,
		  .trick = "next=0 stall=1", .words = "indirect=0 seg_max=4",
		  .number = 2 * 128, .if_named = true },
		{ .name = "NEXT flags set", .run = test_next_flags, .trick = "next=1",
		  .words = "indirect=0 seg_max=4", .number = 2 * 128, .if_named = true },
		{ .name = "NEXT flags set, reset", .run = test_next_flags,
		  .trick = "next=1 stall=1", .words = "indirect=0 seg_max=4",
		  .number = 2 * 128, .if_named = true },
		{ .name = "NEXT flags set, indirect", .run = test_next_flags,
		  .trick = "next=1", .number = 2 * 128, .if_named = true },
		{ .name = "NEXT flags set, indirect, reset", .run = test_next_flags,
		  .trick = "next=1 stall=1", .number = 2 * 128, .if_named = true },
	};

	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
