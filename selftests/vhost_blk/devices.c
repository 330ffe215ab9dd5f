// SPDX-License-Identifier: GPL-2.0
/*
 * Every kind of block device is offered as what it is and serves the right data.
 *
 * usage: devices [-r] NAME=DISK...
 *	NAME	what the tests' names begin with
 *	DISK	64 MiB or more, of which the start is overwritten
 *	-r	the disks are opened for reading only, and have any data
 */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "traffic.h"

#define QUEUES		2
#define REQUESTS	300

/* An attribute of the disk in sysfs, or -1. */
static long long attribute(const struct fixture *f, const char *name)
{
	char path[128], text[64] = "";
	struct stat st;
	int fd;

	fstat(f->disk, &st);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s",
		 major(st.st_rdev), minor(st.st_rdev), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	if (!strncmp(text, "write ", 6))
		return !strncmp(text, "write back", 10);
	return atoll(text);
}

/* The longest range in sectors: what the disk takes, in whole blocks. */
static long long max_range(const struct fixture *f, const char *name,
			   unsigned int block)
{
	long long bytes = attribute(f, name);

	if (bytes > UINT32_MAX)
		bytes = UINT32_MAX;
	return bytes / block * block / SECTOR;
}

static bool has(uint64_t features, int bit)
{
	return features >> bit & 1;
}

static void test_sizes(const char *name, const struct fixture *f,
		       const struct virtio_blk_config *config)
{
	long long block = attribute(f, "queue/logical_block_size");
	long long physical = attribute(f, "queue/physical_block_size");
	long long alignment = attribute(f, "alignment_offset");
	long long least = attribute(f, "queue/minimum_io_size") / block;

	tap_equal(config->capacity, attribute(f, "size"), "%s: capacity", name);
	tap_equal(config->blk_size, block, "%s: logical block size", name);
	tap_equal((long long)config->blk_size << config->physical_block_exp,
		  physical, "%s: physical block size", name);
	tap_equal(config->alignment_offset, alignment > 0 ? alignment / block : 0,
		  "%s: alignment offset", name);
	tap_equal(config->min_io_size, least < UINT16_MAX ? least : UINT16_MAX,
		  "%s: minimum I/O size", name);
	tap_equal(config->opt_io_size, attribute(f, "queue/optimal_io_size") / block,
		  "%s: optimal I/O size", name);
}

static void test_ranges(const char *name, const struct fixture *f,
			uint64_t features, const struct virtio_blk_config *config,
			bool read_only)
{
	unsigned int block = config->blk_size;
	long long discard = max_range(f, "queue/discard_max_bytes", block);
	long long zeroes = max_range(f, "queue/write_zeroes_max_bytes", block);

	if (read_only)
		discard = zeroes = 0;
	tap_equal(has(features, VIRTIO_BLK_F_DISCARD), discard > 0,
		  "%s: discard is %soffered", name, discard ? "" : "not ");
	tap_equal(config->max_discard_sectors, discard,
		  "%s: longest discard", name);
	if (discard) {
		long long unit = attribute(f, "queue/discard_granularity");

		tap_equal(config->discard_sector_alignment,
			  (unit > block ? unit : block) / SECTOR,
			  "%s: alignment of discards", name);
	}
	tap_equal(has(features, VIRTIO_BLK_F_WRITE_ZEROES), zeroes > 0,
		  "%s: write zeroes is %soffered", name, zeroes ? "" : "not ");
	tap_equal(config->max_write_zeroes_sectors, zeroes,
		  "%s: longest write zeroes", name);
}

static void test_offer(const char *name, struct fixture *f, bool read_only)
{
	bool cached = attribute(f, "queue/write_cache");
	struct virtio_blk_config config;
	uint64_t features = 0;

	if (vhost_client_get_features(&f->c, &features) ||
	    vhost_client_get_config(&f->c, &config))
		tap_bail("%s: no features", name);
	test_sizes(name, f, &config);
	test_ranges(name, f, features, &config, read_only);
	tap_ok(has(features, VIRTIO_BLK_F_FLUSH) == cached &&
	       has(features, VIRTIO_BLK_F_CONFIG_WCE) == cached &&
	       config.wce == cached,
	       "%s: %s write cache", name, cached ? "a" : "no");
	tap_equal(has(features, VIRTIO_BLK_F_RO), read_only, "%s: %s", name,
		  read_only ? "read-only" : "writable");
	tap_ok(has(features, VIRTIO_BLK_F_MQ) && config.num_queues == QUEUES,
	       "%s: %d queues", name, QUEUES);
}

static void test_data(const char *name, struct fixture *f, bool read_only)
{
	struct traffic t;

	traffic_init(&t, f, QUEUES, !read_only);
	if (!tap_ok(traffic_run(&t, REQUESTS) && t.good == t.sent,
		    "%s: random requests succeed", name))
		traffic_report(&t);
	tap_equal(t.wrong, 0, "%s: reads get the right data", name);
	tap_ok(traffic_matches_disk(&t), "%s: the disk has it", name);
	tap_ok(traffic_matches_rings(&t), "%s: and so the rings say", name);
	printf("# %s: %lld of %lu bounced\n", name,
	       vhost_client_counter(&f->c, 0, "bounced") +
	       vhost_client_counter(&f->c, 1, "bounced"), t.sent);
	if (read_only)
		tap_equal(simple(f, 0, VIRTIO_BLK_T_OUT, 0, t.slots[0].room,
				 t.block, NULL), VIRTIO_BLK_S_IOERR,
			  "%s: a write fails", name);
	traffic_free(&t);
}

static void test_device(const char *name, const char *disk, int flags)
{
	struct fixture f;
	bool read_only;
	int fd;

	/* Some drivers let nobody open for writing what can't be written. */
	fd = open(disk, flags);
	if (fd < 0 && (errno == EROFS || errno == EACCES))
		flags = O_RDONLY;
	close(fd);

	set_up_bound(&f, disk, flags, QUEUES);
	read_only = flags == O_RDONLY || attribute(&f, "ro") > 0;
	test_offer(name, &f, read_only);
	set_up_running(&f, QUEUES, ALL_FEATURES);
	test_data(name, &f, read_only);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	int i = 1, flags = O_RDWR;

	if (argc > 1 && !strcmp(argv[1], "-r")) {
		flags = O_RDONLY;
		i++;
	}
	if (i >= argc)
		tap_bail("usage: %s [-r] NAME=DISK...", argv[0]);
	for (; i < argc; i++) {
		char *disk = strchr(argv[i], '=');

		if (!disk)
			tap_bail("no disk in %s", argv[i]);
		*disk++ = 0;
		test_device(argv[i], disk, flags);
	}
	return tap_end();
}
