// SPDX-License-Identifier: GPL-2.0
/*
 * A device whose configuration space makes no sense, or changes all the time.
 *
 * What the driver can't do without is refused. The rest is clamped or left out, and the
 * disk works. There is one message, of the driver or, where it is only passed on, of
 * the block layer or the virtio core, or none where a value stands for no limit.
 *
 * usage: config MODULE
 */
#include <linux/fs.h>

#include "fixture.h"
#include "disk.h"

#define ZONES	"model=1 zone_sectors=2048 granularity=4096 max_append=1024 "
/* In the rows of the table. */
#define ANY	(-1)

enum verdict {
	REFUSED,
	/* It works: data is kept, and ranges are discarded, or not. */
	USED,
	/* The same, but data is not written as it likes, or there is no place for it. */
	SHOWN,
	/* The kernel decides. */
	EITHER,
};

struct lie {
	const char *words;
	enum verdict verdict;
	/* Of the driver, warnings or errors. */
	int messages;
	/* In sysfs, what becomes of it. */
	const char *attribute;
	long long value;
};

static const struct lie lies[] = {
	/* The block: what the kernel can, and pages that fit into a request. */
	{ "blk_size=0", REFUSED, 1, NULL, 0 },
	{ "blk_size=1", REFUSED, 1, NULL, 0 },
	{ "blk_size=3", REFUSED, 1, NULL, 0 },
	{ "blk_size=513", REFUSED, 1, NULL, 0 },
	{ "blk_size=8192", EITHER, ANY, NULL, 0 },
	{ "blk_size=131072", REFUSED, 1, NULL, 0 },
	{ "blk_size=0x80000000", REFUSED, 1, NULL, 0 },
	{ "blk_size=65536 seg_max=4", REFUSED, 1, NULL, 0 },
	/* Segments: one at least, of a page at least. 0 bytes are no limit. */
	{ "seg_max=0", USED, 1, "queue/max_segments", 1 },
	{ "seg_max=0xffffffff", USED, 0, "queue/max_segments", 126 },
	{ "seg_max=1 size_max=4096", USED, 0, "queue/max_segment_size", 4096 },
	{ "size_max=0", USED, 0, NULL, 0 },
	{ "size_max=1", REFUSED, 1, NULL, 0 },
	{ "size_max=4095", REFUSED, 1, NULL, 0 },
	{ "size_max=4097", USED, 0, "queue/max_segment_size", 4097 },
	{ "size_max=0xffffffff", USED, 0, NULL, 0 },
	/* Queues, and rings that a request fits into. */
	{ "num_queues=0", REFUSED, 1, NULL, 0 },
	{ "num_queues=0xffff", REFUSED, 0, NULL, 0 },
	{ "queues=2 num_queues=0xffff", USED, 0, NULL, 0 },
	{ "ring=1", REFUSED, 1, NULL, 0 },
	{ "ring=2", REFUSED, 1, NULL, 0 },
	{ "ring=3", REFUSED, 1, NULL, 0 },
	{ "ring=4 seg_max=9", USED, 0, "queue/max_segments", 2 },
	{ "ring=4 indirect=0 seg_max=9", USED, 0, "queue/max_segments", 2 },
	/* As many sectors as a file can have bytes. */
	{ "capacity=0", SHOWN, 0, "size", 0 },
	{ "capacity=1", SHOWN, 0, "size", 1 },
	{ "capacity=0x3fffffffffffff", USED, 0, "size", 0x3fffffffffffff },
	{ "capacity=0x40000000000000", REFUSED, 1, NULL, 0 },
	{ "capacity=0xffffffffffffffff", REFUSED, 1, NULL, 0 },
	/* The topology is for hints, but a physical block has a size. */
	{ "physical_block_exp=3", USED, 0, "queue/physical_block_size", 4096 },
	{ "physical_block_exp=22", USED, 0, "queue/physical_block_size", 0x80000000 },
	{ "physical_block_exp=23", REFUSED, 1, NULL, 0 },
	{ "physical_block_exp=255", REFUSED, 1, NULL, 0 },
	{ "alignment_offset=255", USED, 0, NULL, 0 },
	{ "min_io_size=0xffff opt_io_size=1", USED, 0, NULL, 0 },
	{ "min_io_size=0 opt_io_size=0xffffffff", USED, 0, NULL, 0 },
	{ "blk_size=4096 min_io_size=0xffff opt_io_size=0xfffff alignment_offset=255", USED, 0,
	  NULL, 0 },
	/* Ranges: 0 is no limit, but for secure erase. Alignment is a hint. */
	{ "discard=0 discard_seg=0", USED, 0, "queue/discard_max_bytes", 0x1fffffffe00 },
	{ "discard=1 blk_size=4096", USED, 1, "queue/discard_max_bytes", 0 },
	{ "discard=64 discard_alignment=3", USED, 1, "queue/discard_granularity", 512 },
	{ "discard=8 discard_alignment=16", USED, 1, "queue/discard_granularity", 512 },
	{ "discard=0xffffffff discard_seg=0xffffffff discard_alignment=0xffffffff", USED, 1,
	  "queue/discard_granularity", 512 },
	{ "discard=0xffffffff discard_alignment=0x80000000", USED, 1,
	  "queue/discard_granularity", 512 },
	{ "zeroes=0 zeroes_seg=0", USED, 0, "queue/write_zeroes_max_bytes", 0x1fffffffe00 },
	{ "zeroes=1 blk_size=4096", USED, 1, "queue/write_zeroes_max_bytes", 0 },
	{ "zeroes=0xffffffff unmap=255", USED, 0, NULL, 0 },
	{ "erase=0 erase_seg=1", USED, 1, NULL, 0 },
	{ "erase=64 erase_seg=0", USED, 1, NULL, 0 },
	{ "erase=1 erase_seg=1 blk_size=4096", USED, 1, NULL, 0 },
	{ "erase=64 erase_seg=0xffffffff erase_alignment=3 discard=64", USED, 1, NULL, 0 },
	{ "erase=0xffffffff erase_seg=1 erase_alignment=0xffffffff", USED, 0, NULL, 0 },
	/* What is beyond the end of the space reads as 0. */
	{ "config_bytes=8 blk_size=512", REFUSED, 1, NULL, 0 },
	{ "config_bytes=8 seg_max=9 size_max=4096 discard=9 zeroes=9", USED, 1,
	  "queue/max_segments", 1 },
	/* Zones: of a power of two, and not too many. */
	{ ZONES, SHOWN, 0, "queue/nr_zones", 64 },
	{ ZONES "model=2", USED, 0, "queue/nr_zones", 0 },
	{ ZONES "model=3", REFUSED, 1, NULL, 0 },
	{ ZONES "model=255", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_sectors=0", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_sectors=3", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_sectors=4 blk_size=4096", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_sectors=0x80000000", SHOWN, 0, "queue/nr_zones", 1 },
	{ ZONES "zone_sectors=8 capacity=0x3fffffffffffff", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_sectors=8 capacity=0x3fffffffffffff zone_type=1 zone_state=0", REFUSED, 1,
	  NULL, 0 },
	{ ZONES "capacity=131073", SHOWN, 0, "queue/nr_zones", 65 },
	{ ZONES "granularity=0", REFUSED, 1, NULL, 0 },
	{ ZONES "granularity=3", REFUSED, 1, NULL, 0 },
	{ ZONES "granularity=256", REFUSED, 1, NULL, 0 },
	{ ZONES "granularity=0x80000000 max_append=0xffffffff", REFUSED, 1, NULL, 0 },
	{ ZONES "max_append=0", REFUSED, 1, NULL, 0 },
	{ ZONES "max_append=0xffffffff", SHOWN, 0, NULL, 0 },
	{ ZONES "max_open_zones=9 max_active_zones=3", SHOWN, 1, "queue/max_open_zones", 3 },
	{ ZONES "max_open_zones=0xffffffff max_active_zones=0xffffffff", SHOWN, 0,
	  "queue/max_open_zones", 0 },
	/* The report of zones. */
	{ ZONES "zones=0", REFUSED, ANY, NULL, 0 },
	{ ZONES "zones=1", SHOWN, 0, "queue/nr_zones", 64 },
	{ ZONES "zones=0x7fffffffffffffff", SHOWN, 0, "queue/nr_zones", 64 },
	{ ZONES "zone_start=7", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_capacity=0", REFUSED, ANY, NULL, 0 },
	{ ZONES "zone_capacity=0x7fffffffffffffff", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_state=2 zone_pointer=0x7fffffffffffffff", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_type=0", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_type=99", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_state=5", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_state=255", REFUSED, 1, NULL, 0 },
	{ ZONES "zone_state=13", SHOWN, 0, "queue/nr_zones", 64 },
	{ ZONES "zone_state=15", SHOWN, 0, "queue/nr_zones", 64 },
	{ ZONES "zone_type=1 zone_state=0", EITHER, 0, NULL, 0 },
};

/* What is not supported is written as data, or not done. */
static bool ranges_end(const struct device *device)
{
	static const unsigned long requests[] = { BLKDISCARD, BLKZEROOUT, BLKSECDISCARD };
	unsigned int i;
	bool well = true;
	int err;

	for (i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		err = disk_range(device, requests[i], 1 << 20, 2 << 20);
		if (!err || err == EOPNOTSUPP)
			continue;
		printf("# ioctl %#lx ends with %d\n", requests[i], err);
		well = false;
	}
	return well;
}

static bool attribute_is_right(const struct device *device, const struct lie *lie)
{
	long long got;

	if (!lie->attribute)
		return true;
	got = disk_attribute(device, lie->attribute);
	if (got != lie->value)
		printf("# %s is %lld, want %lld\n", lie->attribute, got, lie->value);
	return got == lie->value;
}

static bool disk_is_right(const struct device *device, const struct lie *lie)
{
	if (lie->verdict == REFUSED) {
		printf("# there is a disk\n");
		return false;
	}
	if (!attribute_is_right(device, lie))
		return false;
	return lie->verdict == SHOWN || (data_is_right(device) && ranges_end(device));
}

/* Both of which the kernel adds to, in its own words. */
static bool log_is_right(const struct lie *lie)
{
	const char *latest;
	int messages = log_messages(&latest);

	if ((lie->messages == ANY || messages == lie->messages) && !log_has_reports())
		return true;
	printf("# %d messages, want %d, the latest: %s\n", messages, lie->messages, latest);
	return false;
}

static void test_lie(const struct lie *lie)
{
	static const char *const verdicts[] = {
		[REFUSED] = "is refused", [USED] = "works", [SHOWN] = "is shown",
		[EITHER] = "works or is refused",
	};
	struct device device;
	bool right = true;

	log_begin();
	device_start(&device, "%s", lie->words);
	if (device_attach(&device, SOON))
		right = disk_is_right(&device, lie);
	else if (lie->verdict == USED || lie->verdict == SHOWN)
		right = false;
	right &= log_is_right(lie);
	if (!device_detach(&device, SOON))
		tap_bail("%s: there is no way on", lie->words);
	device_end(&device);
	if (!tap_ok(right, "%s: %s", lie->words, verdicts[lie->verdict]))
		command(SOON, "dmesg | tail -n 20 | sed 's/^/# /'");
}

/* The capacity is another one all the time, and at times none that there is. */
static void test_changes(struct device *device, const struct test *test)
{
	const long long sectors = DISK_BYTES / SECTOR;
	const char *latest;
	struct traffic t;
	unsigned int i;

	traffic_start(&t, device, TRAFFIC_BLOCKS, 32);
	for (i = 0; i < test->number; i++)
		device_tell(device, "capacity=%lld", i % 10 ? sectors - i % 7 * 8 : -1LL);
	device_tell(device, "capacity=%lld", sectors / 2);
	tap_ok(traffic_finish(&t, 2 * SOON) && !t.result->failed,
	       "while the capacity changes every request succeeds");
	tap_ok(traffic_is_right(&t), "and the data is right");
	for (i = 0; i < 100u * limit_factor() && disk_attribute(device, "size") != sectors / 2; i++)
		usleep(20000);
	tap_equal(disk_attribute(device, "size"), sectors / 2, "the latest capacity is used");
	i = log_messages(&latest);
	tap_ok(i > 0 && i < test->number / 10, "not each that makes no sense is in the log");
}

/*
 * Of two requests just one fits into the ring. A device like this one, of 7.3's VDUSE,
 * must not be kicked with a lock held that the interrupt takes: the machine would hang.
 */
static void test_full_ring(struct device *device, const struct test *test)
{
	struct traffic t;
	unsigned int i;
	bool ended = true, right = true;

	for (i = 0; i < test->number && ended; i++) {
		traffic_start(&t, device, TRAFFIC_BLOCKS, 32);
		ended = traffic_finish(&t, 2 * SOON) && !t.result->failed;
		right &= traffic_is_right(&t);
	}
	tap_ok(ended, "every request succeeds");
	tap_ok(right, "and the data is right");
}

static void test_config(struct device *device, const struct test *test)
{
	const char *latest;

	device_tell(device, "%s", test->trick);
	usleep(300000);
	tap_equal(disk_attribute(device, "size"), DISK_BYTES / SECTOR,
		  "a disk that is in use has the limits that it had");
	tap_equal(log_messages(&latest), 0, "there is no message");
	tap_ok(data_is_right(device), "the disk works");
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ .name = "changes of the capacity", .run = test_changes, .number = 1000 },
		{ .name = "a ring that is always full", .run = test_full_ring,
		  .words = "ring=4 indirect=0", .number = 5 },
		{ .name = "changes of all else", .run = test_config,
		  .words = "blk_size=512 seg_max=64 discard=64 zeroes=64 num_queues=1",
		  .trick = "blk_size=0 seg_max=0 discard=1 discard_alignment=3 num_queues=0" },
	};
	unsigned int i;

	if (argc < 2)
		tap_bail("usage: %s MODULE [LIE...]", argv[0]);
	use_module(argv[1]);
	load_module(NULL);
	for (i = 0; i < sizeof(lies) / sizeof(*lies); i++)
		if (argc == 2 || !strcmp(argv[2], lies[i].words))
			test_lie(&lies[i]);
	tap_ok(unload_module(), "the module unloads");
	return run_tests(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
