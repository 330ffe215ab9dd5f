// SPDX-License-Identifier: GPL-2.0
/*
 * What QEMU's devices don't have, on a device that behaves: secure erase, lifetime, a
 * serial number and a geometry of any kind, a ring without indirect descriptors.
 *
 * usage: rare MODULE [TEST...]
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <sys/ioctl.h>

#include "fixture.h"
#include "disk.h"

static long long requests(struct device *device, unsigned int type)
{
	char question[32];

	snprintf(question, sizeof(question), "requests=%u", type);
	return device_ask(device, question);
}

/* The device puts zeroes where it discards, erases, or writes them. */
static void test_ranges(struct device *device, const struct test *test)
{
	static const struct {
		const char *what;
		unsigned long ioctl;
		unsigned int type;
	} kinds[] = {
		{ "discard", BLKDISCARD, VIRTIO_BLK_T_DISCARD },
		{ "write zeroes", BLKZEROOUT, VIRTIO_BLK_T_WRITE_ZEROES },
		{ "secure erase", BLKSECDISCARD, VIRTIO_BLK_T_SECURE_ERASE },
	};
	unsigned int i, j, others;

	for (i = 0; i < 3; i++) {
		disk_write(device, 0, 1 << 20, 1, SOON);
		others = 0;
		for (j = 0; j < 3; j++)
			others += j == i ? 0 : requests(device, kinds[j].type);
		tap_equal(disk_range(device, kinds[i].ioctl, 64 << 10, 128 << 10), 0,
			  "%s of 128 KiB succeeds", kinds[i].what);
		tap_equal(requests(device, kinds[i].type), test->number,
			  "it is %u requests for 64 sectors", test->number);
		for (j = 0; j < 3; j++)
			others -= j == i ? 0 : requests(device, kinds[j].type);
		tap_equal(others, 0, "there are no others");
		tap_equal(command(SOON, "dd if=/dev/%s bs=64k skip=1 count=2 iflag=direct 2> /dev/null | cmp -n 131072 - /dev/zero",
				  device->disk), 0, "the data is gone");
		tap_equal(disk_read(device, 0, 64 << 10, 1, SOON), 0,
			  "what is before is there");
		tap_equal(disk_read(device, 192 << 10, 64 << 10, 1, SOON), 0,
			  "what is behind is there");
	}
}

static void test_no_ranges(struct device *device, const struct test *test)
{
	tap_equal(disk_range(device, BLKDISCARD, 0, 1 << 20), EOPNOTSUPP,
		  "a device without discard does not");
	tap_equal(disk_range(device, BLKSECDISCARD, 0, 1 << 20), EOPNOTSUPP,
		  "one without secure erase does not");
	tap_equal(disk_range(device, BLKZEROOUT, 0, 1 << 20), 0,
		  "one without write zeroes is written");
	(void)test;
}

/* Whether an attribute is just this, or can't be read at all. */
static bool reads_as(const struct device *device, const char *name, const char *text)
{
	return !command(SOON, "test \"$(cat /sys/block/%s/%s 2>&1)\" = \"%s\"",
			device->disk, name, text);
}

static void test_lifetime(struct device *device, const struct test *test)
{
	tap_ok(reads_as(device, "life_time", "0x0b 0xfff2"),
	       "life_time is what the device says");
	tap_ok(reads_as(device, "pre_eol_info", "0x01"), "so is pre_eol_info");
	tap_equal(requests(device, VIRTIO_BLK_T_GET_LIFETIME), 2, "it is asked each time");
	device_tell(device, "status=1");
	tap_ok(command(SOON, "cat /sys/block/%s/life_time 2> /dev/null", device->disk) > 0,
	       "an error is one");
	device_tell(device, "honest=1");
	(void)test;
}

static void test_no_lifetime(struct device *device, const struct test *test)
{
	tap_ok(command(SOON, "test -e /sys/block/%s/life_time", device->disk) > 0,
	       "without the feature there is no life_time");
	tap_ok(command(SOON, "test -e /sys/block/%s/pre_eol_info", device->disk) > 0,
	       "nor pre_eol_info");
	(void)test;
}

static void test_serial(struct device *device, const struct test *test)
{
	char command_line[] = "printf '\\177\\200%%s\\n/../\\377\\376 and more'";

	tap_equal(command(SOON, "test \"$(cat /sys/block/%s/serial | od -c)\" = \"$(%s | head -c 20 | od -c)\"",
			  device->disk, command_line), 0,
		  "a serial number is 20 bytes, whatever is in them");
	device_tell(device, "status=%u", VIRTIO_BLK_S_UNSUPP);
	tap_ok(reads_as(device, "serial", ""), "a device without one has none");
	device_tell(device, "honest=1");
	(void)test;
}

static void test_geometry(struct device *device, const struct test *test)
{
	struct hd_geometry geometry = {};
	char path[64], got[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", device->disk);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, HDIO_GETGEO, &geometry))
		tap_bail("%s: %s", path, strerror(errno));
	close(fd);
	snprintf(got, sizeof(got), "%u/%u/%u", geometry.cylinders, geometry.heads,
		 geometry.sectors);
	if (!tap_ok(!strcmp(got, test->trick), "the geometry is %s", test->trick))
		printf("# it is %s\n", got);
}

static void test_data(struct device *device, const struct test *test)
{
	struct traffic t;

	traffic_start(&t, device, TRAFFIC_BLOCKS, 64);
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed, "every request succeeds");
	tap_ok(traffic_is_right(&t), "the data is right");
	tap_ok(data_is_right(device), "that of large requests, too");
	(void)test;
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ .name = "ranges", .run = test_ranges, .number = 4,
		  .words = "discard=64 discard_seg=1 zeroes=64 zeroes_seg=1 erase=64 erase_seg=1" },
		{ .name = "no ranges", .run = test_no_ranges },
		{ .name = "lifetime", .run = test_lifetime, .words = "lifetime=1" },
		{ .name = "no lifetime", .run = test_no_lifetime },
		{ .name = "serial number", .run = test_serial },
		{ .name = "geometry", .run = test_geometry, .trick = "1000/16/63",
		  .words = "cylinders=1000 heads=16 sectors=63" },
		{ .name = "geometry of nothing", .run = test_geometry, .trick = "64/64/32",
		  .words = "cylinders=1000 heads=0 sectors=63" },
		{ .name = "no geometry", .run = test_geometry, .trick = "64/64/32" },
		{ .name = "legacy", .run = test_data, .words = "legacy=1" },
		{ .name = "no indirect descriptors", .run = test_data,
		  .words = "indirect=0 seg_max=126" },
		{ .name = "in order", .run = test_data, .words = "in_order=1" },
		{ .name = "in order, no indirect descriptors", .run = test_data,
		  .words = "in_order=1 indirect=0 seg_max=126" },
	};

	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
