// SPDX-License-Identifier: GPL-2.0
/*
 * A device that does not answer, or does not say that it did, and what the driver does
 * about it: nothing but look into the ring by default, and reset the device if it is
 * to recover. All times are a fraction of what they are by default: requests time out
 * after a second.
 *
 * usage: recovery MODULE [TEST...]
 */
#include "fixture.h"
#include "disk.h"

#define DEPTH	32

static void is_counted(struct device *device, const char *name, long long value)
{
	char attribute[64];

	snprintf(attribute, sizeof(attribute), "recovery/%s", name);
	tap_equal(disk_attribute(device, attribute), value, "%s is %lld", name, value);
}

/* A reset may come before all of them have been sent for the first time. */
static void some_were_sent_again(struct device *device, long long most)
{
	long long number = disk_attribute(device, "recovery/requeued");

	tap_ok(number > 0 && number <= most, "%lld requests of %lld were sent again", number, most);
}

/* Waits until the device counts so many: "held" are requests that it has. */
static void wait_count(struct device *device, const char *what, long long number)
{
	double end = now() + SOON;

	while (device_ask(device, what) < number) {
		if (now() > end)
			tap_bail("the device has counted %lld, not %lld: %s",
				 device_ask(device, what), number, what);
		usleep(10000);
	}
}

static bool has_ended(pid_t pid)
{
	return finish(pid, 0) != HANGS;
}

/* Three answers without an interrupt, each of which is found when its time is up. */
static void test_lost(struct device *device, const struct test *test)
{
	double begin;
	int i;

	if (test->number)
		set_disk_attribute(device, "recovery/attempts", test->number);
	device_tell(device, "interrupts=0");
	for (i = 0; i < 3; i++) {
		begin = now();
		tap_equal(disk_write(device, i * BLOCK, BLOCK, i, SOON), 0,
			  "a write whose interrupt was lost succeeds");
		tap_ok(now() - begin > 0.9 && now() - begin < 5 * limit_factor(),
		       "when its time is up (%.1f s)", now() - begin);
	}
	tap_equal(log_lines("interrupt of queue 0 was lost"), 1, "the log says so, once");
	is_counted(device, "lost_interrupts", 3);
	is_counted(device, "device_resets", 0);
	device_tell(device, "honest=1");
	for (i = 0; i < 3; i++)
		tap_equal(disk_read(device, i * BLOCK, BLOCK, i, SOON), 0,
			  "the data is right");
	is_counted(device, "lost_interrupts", 3);
}

static void test_lost_some(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "times=%u interrupts=0", test->number);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed,
	       "with %u interrupts lost every request succeeds", test->number);
	tap_ok(traffic_is_right(&t), "and the data is right");
	is_counted(device, "device_resets", 0);
}

/* Without recovery a request is waited for. */
static void test_waits(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "stall=-1");
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	wait_count(device, "held", DEPTH);
	sleep(test->number);
	tap_equal(traffic_ended(&t), 0, "for %u times their timeout no request ends",
		  test->number);
	device_tell(device, "stall=0");
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed,
	       "when the device comes back all succeed");
	tap_ok(traffic_is_right(&t), "and the data is right");
	is_counted(device, "device_resets", 0);
	is_counted(device, "timed_out", 0);
}

/* A device that works again after some resets. */
static void test_reset_helps(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "stall=%u", test->number);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed,
	       "with a device that needs %u resets every request succeeds", test->number);
	tap_ok(traffic_is_right(&t), "and the data is right");
	is_counted(device, "device_resets", test->number);
	some_were_sent_again(device, DEPTH * test->number);
	is_counted(device, "timed_out", 0);
	is_counted(device, "lost_interrupts", 0);
	tap_ok(log_lines("the device was reset") > 0, "the log says so");
}

/* A device that never answers again, until somebody repairs it. */
static void test_gives_up(struct device *device, const struct test *test)
{
	double begin;

	device_tell(device, "stall=-1");
	begin = now();
	tap_equal(disk_write(device, 0, BLOCK, 1, 2 * SOON), ETIMEDOUT,
		  "a request fails with ETIMEDOUT");
	begin = now() - begin;
	tap_ok(begin > 0.9 * (test->number + 1) &&
	       begin < 3 * (test->number + 1) * limit_factor(),
	       "after %u attempts, %.1f s", test->number + 1, begin);
	is_counted(device, "device_resets", test->number + 1);
	is_counted(device, "requeued", test->number);
	is_counted(device, "timed_out", 1);
	device_tell(device, "stall=0");
	tap_ok(data_is_right(device), "once the device is repaired it is used again");
}

static void test_all_time_out(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "stall=-1");
	traffic_start(&t, device, test->number, test->number);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_ok(t.result->failed == test->number && t.result->error == ETIMEDOUT,
	       "all with ETIMEDOUT");
	is_counted(device, "timed_out", test->number);
}

static void test_switched_on(struct device *device, const struct test *test)
{
	struct traffic t;

	is_counted(device, "attempts", 0);
	device_tell(device, "stall=1");
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	sleep(3);
	tap_equal(traffic_ended(&t), 0, "without recovery no request ends");
	set_disk_attribute(device, "recovery/attempts", test->number);
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed,
	       "when it is switched on all succeed");
	tap_ok(traffic_is_right(&t), "and the data is right");
}

/*
 * Answers that come when the time of their requests is up, so that some of them come when
 * the requests are just looked at. With recovery, they come when some of the requests were
 * taken back: the block layer looks at times once a second, and a reset takes less.
 */
static void test_late(struct device *device, const struct test *test)
{
	struct traffic t;

	set_disk_attribute(device, "queue/io_timeout", 100);
	device_tell(device, "%s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, 8 * DEPTH);
	sleep(test->number);
	device_tell(device, "honest=1");
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_ok(!t.result->failed || t.result->error == ETIMEDOUT, "what fails, with ETIMEDOUT");
	tap_equal(disk_attribute(device, "recovery/requeued") > 0, !!test->parameters,
		  "some requests were%s sent again", test->parameters ? "" : " not");
	tap_ok(traffic_is_right(&t), "the data is right");
	tap_ok(data_is_right(device), "the disk works");
}

/* The first starts after a reset fail. The next ones, a second later each, do not. */
static void test_starts_again(struct device *device, const struct test *test)
{
	long long before = device_ask(device, "starts");
	struct traffic t;
	double begin;

	device_tell(device, "stall=1 start=1 refusals=%u", test->number);
	begin = now();
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed,
	       "with a device that refuses %u starts every request succeeds", test->number);
	tap_ok(now() - begin > 0.9 * (test->number + 1), "after a second each (%.1f s)",
	       now() - begin);
	tap_ok(traffic_is_right(&t), "and the data is right");
	tap_equal(device_ask(device, "starts") - before, test->number + 1,
		  "it was started %u times", test->number + 1);
	some_were_sent_again(device, DEPTH);
	is_counted(device, "timed_out", 0);
	tap_equal(log_lines("no more I/O"), 0, "the log does not say that it is lost");
	tap_ok(data_is_right(device), "the disk works");
}

/* Whoever sees a request fail can use the device again. */
static void test_ends_when_back(struct device *device, const struct test *test)
{
	struct io io = {
		.device = device, .write = true, .bytes = BLOCK,
	};
	pid_t pid;

	device_tell(device, "stall=-1");
	pid = start_io(&io);
	wait_count(device, "seen=1", test->number + 1);
	/* The next reset is of a request that was sent often enough. */
	device_tell(device, "start=1 refusals=1");
	tap_equal(finish(pid, 2 * SOON), ETIMEDOUT, "a request fails with ETIMEDOUT");
	tap_equal(device_ask(device, "ready"), 1, "the device was started before");
	is_counted(device, "timed_out", 1);
	device_tell(device, "stall=0");
	tap_ok(data_is_right(device), "the disk works");
}

/* A device that can't be made to work again: its requests fail. */
static void test_lost_for_good(struct device *device, const struct test *test)
{
	struct traffic t;

	/* Of the transport, which waits for answers to its messages. */
	command(SOON, "echo 1 > /sys/class/vduse/" DEVICE_NAME "/msg_timeout");
	device_tell(device, "stall=-1 %s", test->trick);
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	tap_ok(traffic_finish(&t, 2 * SOON), "every request ends");
	tap_equal(t.result->failed, TRAFFIC_BLOCKS, "all fail");
	tap_equal(log_lines("no more I/O"), 1, "the log says so, once");
	tap_equal(disk_read(device, 0, BLOCK, 0, SOON), EIO, "and fail later, too");
}

/* The starts that fail are bounded, and some time apart. */
static void test_start_refused(struct device *device, const struct test *test)
{
	long long starts = -device_ask(device, "starts");
	double begin = now();

	test_lost_for_good(device, test);
	begin = now() - begin;
	starts += device_ask(device, "starts");
	tap_ok(starts > 1 && starts <= test->number + 1, "it was started %lld times", starts);
	tap_ok(begin > 0.9 * starts, "a second apart (%.1f s)", begin);
}

static void test_killed(struct device *device, const struct test *test)
{
	struct traffic t;

	command(SOON, "echo 1 > /sys/class/vduse/" DEVICE_NAME "/msg_timeout");
	device_tell(device, "stall=-1");
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	wait_count(device, "held", DEPTH);
	device_kill(device);
	sleep(test->number);
	tap_equal(traffic_ended(&t), 0, "without recovery no request ends");
	set_disk_attribute(device, "recovery/attempts", 1);
	tap_ok(traffic_finish(&t, 2 * SOON) && t.result->failed == TRAFFIC_BLOCKS,
	       "with it every request ends, and fails");
}

static void test_serial(struct device *device, const struct test *test)
{
	device_tell(device, "stall=%u", test->number);
	tap_equal(command(SOON, "test -n \"$(cat /sys/block/%s/serial)\"", device->disk), 0,
		  "the serial number is read from a device that needs a reset");
	device_tell(device, "stall=-1");
	tap_ok(command(SOON, "cat /sys/block/%s/serial", device->disk) > 0,
	       "and is an error on one that never answers");
	device_tell(device, "stall=0");
}

/* The device goes while it has requests. */
static void test_removal(struct device *device, const struct test *test)
{
	struct traffic t;

	device_tell(device, "stall=-1");
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	wait_count(device, "held", DEPTH);
	tap_ok(device_detach(device, 2 * SOON), "a device that is stuck can be taken away");
	tap_ok(traffic_finish(&t, SOON) && t.result->failed == TRAFFIC_BLOCKS,
	       "every request ends, and fails");
	(void)test;
}

static int detach(void *device)
{
	return !device_detach(device, 2 * SOON);
}

static void test_removal_waits(struct device *device, const struct test *test)
{
	struct traffic t;
	pid_t pid;

	device_tell(device, "stall=-1");
	traffic_start(&t, device, TRAFFIC_BLOCKS, DEPTH);
	wait_count(device, "held", DEPTH);
	pid = start(detach, device);
	sleep(test->number);
	tap_ok(!has_ended(pid), "without recovery a device that is stuck is waited for");
	device_tell(device, "stall=0");
	tap_equal(finish(pid, 2 * SOON), 0, "it goes when it has come back");
	tap_ok(traffic_finish(&t, SOON), "every request ends");
	tap_ok(t.result->good >= DEPTH, "those that it had succeed");
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ .name = "lost interrupts", .run = test_lost },
		{ .name = "lost interrupts, recovery", .run = test_lost, .number = 3 },
		{ .name = "some lost interrupts", .run = test_lost_some, .number = 60 },
		{ .name = "stuck", .run = test_waits, .number = 4 },
		{ .name = "a reset helps", .run = test_reset_helps, .number = 1,
		  .parameters = "recovery=2" },
		{ .name = "two resets help", .run = test_reset_helps, .number = 2,
		  .parameters = "recovery=2" },
		{ .name = "attempt 1 of 1", .run = test_gives_up, .number = 1,
		  .parameters = "recovery=1" },
		{ .name = "attempt 3 of 3", .run = test_gives_up, .number = 3,
		  .parameters = "recovery=3" },
		{ .name = "all time out", .run = test_all_time_out, .number = 100,
		  .parameters = "recovery=1" },
		{ .name = "switched on", .run = test_switched_on, .number = 1 },
		{ .name = "late answers", .run = test_late, .number = 5,
		  .trick = "delay=150" },
		{ .name = "late answers, recovery", .run = test_late, .number = 5,
		  .parameters = "recovery=3", .trick = "delay=700" },
		{ .name = "reset refused", .run = test_reset_helps, .number = 1,
		  .parameters = "recovery=2", .words = "reset=1" },
		{ .name = "start refused once", .run = test_starts_again, .number = 1,
		  .parameters = "recovery=2" },
		{ .name = "start refused twice", .run = test_starts_again, .number = 2,
		  .parameters = "recovery=4" },
		{ .name = "no end before the start", .run = test_ends_when_back,
		  .number = 2, .parameters = "recovery=2" },
		{ .name = "features refused", .run = test_start_refused, .number = 3,
		  .parameters = "recovery=3", .trick = "start=1" },
		{ .name = "reset not answered", .run = test_lost_for_good,
		  .parameters = "recovery=2", .trick = "reset=2" },
		{ .name = "smaller ring", .run = test_lost_for_good,
		  .parameters = "recovery=2", .trick = "ring=64" },
		{ .name = "device killed", .run = test_killed, .number = 3 },
		{ .name = "serial number", .run = test_serial, .number = 1,
		  .parameters = "recovery=1" },
		{ .name = "removal", .run = test_removal, .parameters = "recovery=1" },
		{ .name = "removal without recovery", .run = test_removal_waits,
		  .number = 3 },
	};

	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
