// SPDX-License-Identifier: GPL-2.0
/*
 * Discard, write zeroes and secure erase, their limits and mistakes, and the
 * write cache that the driver can switch.
 *
 * usage: ranges DISCARD ZEROES NONE CACHED LOSES
 *	DISCARD	a block device that can discard and reads zeroes then
 *	ZEROES	one that can write zeroes, with blocks of 4096 bytes
 *	NONE	one that can do neither and has no write cache
 *	CACHED	one with a write cache that knows no FUA: durable is what was
 *		flushed
 *	LOSES	one that says that it can write zeroes until it is asked to
 */
#define _GNU_SOURCE
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fixture.h"

#define BLOCK		4096
#define BLOCK_SECTORS	(BLOCK / SECTOR)
#define BIT(bit)	(1ULL << (bit))

typedef struct virtio_blk_discard_write_zeroes range_t;

/* A request with @num ranges, of @bytes bytes. */
static int send_bytes(struct fixture *f, uint32_t type, const void *list,
		      uint32_t bytes)
{
	void *copy = vhost_client_alloc(&f->c, bytes ?: 1, 16);
	struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ copy, bytes, false },
		{ f->status, 1, true },
	};

	if (bytes)
		memcpy(copy, list, bytes);
	else
		segs[1] = segs[2];
	f->hdr->type = type;
	f->hdr->sector = 0;
	return request(f, 0, segs, bytes ? 3 : 2, NULL, NULL);
}

static int send_ranges(struct fixture *f, uint32_t type, const range_t *ranges,
		       unsigned int num)
{
	return send_bytes(f, type, ranges, num * sizeof(*ranges));
}

static int send_one(struct fixture *f, uint32_t type, uint64_t sector,
		    uint32_t sectors, uint32_t flags)
{
	range_t range = { .sector = sector, .num_sectors = sectors,
			  .flags = flags };

	return send_ranges(f, type, &range, 1);
}

/* Writes blocks that are not zero at the start of the disk. */
static void fill_disk(struct fixture *f, unsigned int blocks)
{
	uint8_t *data = vhost_client_alloc(&f->c, blocks * BLOCK, BLOCK);

	memset(data, 0x5a, blocks * BLOCK);
	if (simple(f, 0, VIRTIO_BLK_T_OUT, 0, data, blocks * BLOCK, NULL))
		tap_bail("can't write");
}

/* 'z' for a block of zeroes, 'd' for one of data, '?' for one of both. */
static const char *disk_map(struct fixture *f, unsigned int blocks)
{
	static char map[64];
	uint8_t *data = aligned_alloc(BLOCK, blocks * BLOCK);
	unsigned int i, j, zeroes;

	if (pread(f->disk, data, blocks * BLOCK, 0) != (ssize_t)blocks * BLOCK)
		tap_bail("can't read the disk");
	for (i = 0; i < blocks; i++) {
		for (j = 0, zeroes = 0; j < BLOCK; j++)
			zeroes += !data[i * BLOCK + j];
		map[i] = zeroes == BLOCK ? 'z' : zeroes ? '?' : 'd';
	}
	map[blocks] = 0;
	free(data);
	return map;
}

static void map_is(struct fixture *f, const char *want, const char *text)
{
	const char *got = disk_map(f, strlen(want));

	if (!tap_ok(!strcmp(got, want), "%s", text))
		printf("# got %s, want %s\n", got, want);
}

static void test_offer(const char *disk, const char *name, int bit, bool offered)
{
	struct virtio_blk_config config;
	struct fixture f;
	uint64_t features;
	uint32_t limit, segs;

	set_up_bound(&f, disk, O_RDWR, 1);
	vhost_client_get_features(&f.c, &features);
	vhost_client_get_config(&f.c, &config);
	limit = bit == VIRTIO_BLK_F_DISCARD ? config.max_discard_sectors :
		bit == VIRTIO_BLK_F_WRITE_ZEROES ? config.max_write_zeroes_sectors :
		config.max_secure_erase_sectors;
	segs = bit == VIRTIO_BLK_F_DISCARD ? config.max_discard_seg :
	       bit == VIRTIO_BLK_F_WRITE_ZEROES ? config.max_write_zeroes_seg :
	       config.max_secure_erase_seg;
	tap_ok(!!(features & BIT(bit)) == offered && !!limit == offered &&
	       !!segs == offered, "%s is %soffered, with limits to match", name,
	       offered ? "" : "not ");
	vhost_client_close(&f.c);
	close(f.disk);

	set_up_bound(&f, disk, O_RDONLY, 1);
	vhost_client_get_features(&f.c, &features);
	tap_ok(!(features & BIT(bit)), "%s is not offered by a read-only device",
	       name);
	tear_down(&f);
}

static void test_discard(const char *disk)
{
	range_t many[4] = {
		{ .sector = 1 * BLOCK_SECTORS, .num_sectors = BLOCK_SECTORS },
		{ .sector = 3 * BLOCK_SECTORS, .num_sectors = 0 },
		{ .sector = 5 * BLOCK_SECTORS, .num_sectors = 2 * BLOCK_SECTORS },
		{ .sector = 7 * BLOCK_SECTORS, .num_sectors = BLOCK_SECTORS },
	};
	struct virtio_blk_config config;
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_get_config(&f.c, &config);
	fill_disk(&f, 8);
	tap_equal(send_one(&f, VIRTIO_BLK_T_DISCARD, 2 * BLOCK_SECTORS,
			   BLOCK_SECTORS, 0), VIRTIO_BLK_S_OK,
		  "a discard succeeds");
	map_is(&f, "ddzddddd", "it discards its range and nothing else");
	tap_equal(send_ranges(&f, VIRTIO_BLK_T_DISCARD, many, 4),
		  VIRTIO_BLK_S_OK, "a discard of several ranges succeeds");
	map_is(&f, "dzzddzzz", "it discards each of them");
	tap_equal(send_one(&f, VIRTIO_BLK_T_DISCARD, 0,
			   config.capacity < config.max_discard_sectors ?
			   config.capacity : config.max_discard_sectors, 0),
		  VIRTIO_BLK_S_OK, "the longest discard succeeds");
	map_is(&f, "zzzzzzzz", "and leaves nothing");
	tear_down(&f);
}

static void test_zeroes(const char *disk)
{
	range_t mixed[2] = {
		{ .sector = 1 * BLOCK_SECTORS, .num_sectors = BLOCK_SECTORS,
		  .flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP },
		{ .sector = 3 * BLOCK_SECTORS, .num_sectors = BLOCK_SECTORS },
	};
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	fill_disk(&f, 8);
	tap_equal(send_one(&f, VIRTIO_BLK_T_WRITE_ZEROES, 6 * BLOCK_SECTORS,
			   BLOCK_SECTORS, 0), VIRTIO_BLK_S_OK,
		  "writing zeroes succeeds");
	map_is(&f, "ddddddzd", "it zeroes its range and nothing else");
	tap_equal(send_ranges(&f, VIRTIO_BLK_T_WRITE_ZEROES, mixed, 2),
		  VIRTIO_BLK_S_OK, "so it does with and without unmap");
	map_is(&f, "dzdzddzd", "and zeroes each range");
	tear_down(&f);
}

/* Requests that must fail and leave the first 8 blocks as they are. */
static void test_refused(const char *disk, uint32_t type, const char *name,
			 bool unmap_is_known)
{
	enum { TOO_MANY = 64 };
	range_t list[TOO_MANY] = {
		{ .sector = 0, .num_sectors = BLOCK_SECTORS },
		{ .sector = ~7ULL, .num_sectors = 2 * BLOCK_SECTORS },
	};
	struct virtio_blk_config config;
	struct vhost_client_seg segs[4];
	struct fixture f;
	uint32_t max;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_get_config(&f.c, &config);
	max = type == VIRTIO_BLK_T_DISCARD ? config.max_discard_sectors :
	      config.max_write_zeroes_sectors;
	fill_disk(&f, 8);
	tap_equal(send_bytes(&f, type, list, 0), VIRTIO_BLK_S_IOERR,
		  "%s without ranges is an error", name);
	tap_equal(send_bytes(&f, type, list, 15), VIRTIO_BLK_S_IOERR,
		  "%s with less than a range is", name);
	tap_equal(send_bytes(&f, type, list, 17), VIRTIO_BLK_S_IOERR,
		  "%s with more than a range is", name);
	tap_equal(send_ranges(&f, type, list, TOO_MANY), VIRTIO_BLK_S_IOERR,
		  "%s with too many ranges is", name);
	tap_equal(send_ranges(&f, type, list, 2), VIRTIO_BLK_S_IOERR,
		  "%s with a range that wraps around is", name);
	tap_equal(send_one(&f, type, config.capacity - BLOCK_SECTORS,
			   2 * BLOCK_SECTORS, 0), VIRTIO_BLK_S_IOERR,
		  "%s across the end is", name);
	if (max < UINT32_MAX)
		tap_equal(send_one(&f, type, 0, max + 1, 0), VIRTIO_BLK_S_IOERR,
			  "%s longer than the limit is", name);
	if (config.blk_size == BLOCK)
		tap_equal(send_one(&f, type, 1, BLOCK_SECTORS, 0),
			  VIRTIO_BLK_S_IOERR, "%s inside of a block is", name);
	tap_equal(send_one(&f, type, 0, BLOCK_SECTORS, 2), VIRTIO_BLK_S_UNSUPP,
		  "%s with an unknown flag is unsupported", name);
	if (!unmap_is_known)
		tap_equal(send_one(&f, type, 0, BLOCK_SECTORS,
				   VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
			  VIRTIO_BLK_S_UNSUPP, "%s with unmap is", name);

	f.hdr->type = type;
	segs[0] = (struct vhost_client_seg){ f.hdr, 16, false };
	segs[1] = (struct vhost_client_seg){ vhost_client_alloc(&f.c, 16, 16),
					     16, false };
	segs[2] = (struct vhost_client_seg){ vhost_client_alloc(&f.c, 512, 512),
					     512, true };
	segs[3] = (struct vhost_client_seg){ f.status, 1, true };
	memcpy(segs[1].addr, list, 16);
	tap_equal(request(&f, 0, segs, 4, NULL, NULL), VIRTIO_BLK_S_IOERR,
		  "%s with room for data is an error", name);
	map_is(&f, "dddddddd", "and none of these did anything");
	tear_down(&f);
}

static void test_not_offered(const char *disk, uint32_t type, const char *name)
{
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_equal(send_one(&f, type, 0, BLOCK_SECTORS, 0), VIRTIO_BLK_S_UNSUPP,
		  "%s is unsupported by a device that can't", name);
	tear_down(&f);
}

static void test_not_negotiated(const char *disk)
{
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ~BIT(VIRTIO_BLK_F_DISCARD));
	fill_disk(&f, 1);
	tap_equal(send_one(&f, VIRTIO_BLK_T_DISCARD, 0, BLOCK_SECTORS, 0),
		  VIRTIO_BLK_S_UNSUPP,
		  "discard is unsupported if the driver didn't ask for it");
	map_is(&f, "d", "and does nothing");
	tear_down(&f);
}

static void test_rebind(const char *discard, const char *none)
{
	struct fixture f;
	int fd;

	set_up(&f, discard, O_RDWR, 1, ALL_FEATURES);
	vhost_client_run(&f.c, false);
	fd = open(none, O_RDWR | O_CLOEXEC);
	vhost_client_bind(&f.c, fd, 0, 1, "");
	tap_equal(vhost_client_run(&f.c, true), -EOPNOTSUPP,
		  "what was negotiated must be there after another bind");
	close(fd);
	tear_down(&f);
}

static void test_lost_ability(const char *loses)
{
	struct fixture f;
	int status;

	set_up(&f, loses, O_RDWR, 1, ALL_FEATURES);
	fill_disk(&f, 2);
	send_one(&f, VIRTIO_BLK_T_WRITE_ZEROES, 0, BLOCK_SECTORS, 0);
	status = send_one(&f, VIRTIO_BLK_T_WRITE_ZEROES, 0, BLOCK_SECTORS, 0);
	tap_ok(status == VIRTIO_BLK_S_UNSUPP || status == VIRTIO_BLK_S_OK,
	       "what a device can't do any more is unsupported");
	map_is(&f, status ? "dd" : "zd", "and not done");
	vhost_client_run(&f.c, false);
	tap_equal(vhost_client_run(&f.c, true), 0,
		  "it can still be stopped and started");
	vhost_client_run(&f.c, false);
	vhost_client_bind(&f.c, f.disk, 0, 1, SERIAL);
	tap_equal(vhost_client_run(&f.c, true), 0,
		  "also if it was bound again in between");
	tear_down(&f);
}

/* Sets an attribute of the disk in sysfs, with wildcards. */
static void set_attribute(const char *disk, const char *name, const char *value)
{
	char pattern[128];
	struct stat st;
	glob_t found;
	int fd;

	stat(disk, &st);
	snprintf(pattern, sizeof(pattern), "/sys/dev/block/%u:%u/%s",
		 major(st.st_rdev), minor(st.st_rdev), name);
	if (glob(pattern, 0, NULL, &found))
		tap_bail("no %s", pattern);
	fd = open(found.gl_pathv[0], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		tap_bail("%s doesn't take %s", found.gl_pathv[0], value);
	close(fd);
	globfree(&found);
}

/*
 * A driver goes by the limit that it was told, the device by the one that it has: more
 * than a hundred parts.
 */
static void test_lowered_limit(const char *discard)
{
	struct virtio_blk_config before, after;
	range_t ranges[3];
	struct fixture f;
	unsigned int i;

	set_up(&f, discard, O_RDWR, 1, ALL_FEATURES);
	vhost_client_get_config(&f.c, &before);
	fill_disk(&f, 32);
	set_attribute(discard, "queue/discard_max_bytes", "4096");
	vhost_client_get_config(&f.c, &after);
	tap_equal(after.max_discard_sectors, before.max_discard_sectors,
		  "a limit that is lowered is offered as before");
	tap_equal(send_one(&f, VIRTIO_BLK_T_DISCARD, BLOCK_SECTORS,
			   31 * BLOCK_SECTORS, 0), VIRTIO_BLK_S_OK,
		  "what is longer than the new one succeeds");
	map_is(&f, "dzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "and is done");
	fill_disk(&f, 32);
	for (i = 0; i < 3; i++)
		ranges[i] = (range_t){ .sector = 4096 * i, .num_sectors = 1000 };
	ranges[1].num_sectors = 0;
	ranges[2] = (range_t){ .sector = BLOCK_SECTORS, .num_sectors = 8 };
	tap_equal(send_ranges(&f, VIRTIO_BLK_T_DISCARD, ranges, 3),
		  VIRTIO_BLK_S_OK, "so do several, of more than a hundred parts");
	map_is(&f, "zzzzzzzzzzzzzzzz", "which are done");

	vhost_client_run(&f.c, false);
	vhost_client_bind(&f.c, f.disk, 0, 1, SERIAL);
	vhost_client_run(&f.c, true);
	tap_equal(send_one(&f, VIRTIO_BLK_T_DISCARD, 0, 256, 0), VIRTIO_BLK_S_OK,
		  "also after the same device was bound again");
	set_attribute(discard, "queue/discard_max_bytes", "0");
	tap_equal(send_one(&f, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP,
		  "a limit of 0 makes it unsupported");
	tear_down(&f);
}

static void test_lowered_zeroes(const char *zeroes)
{
	struct fixture f;

	set_up(&f, zeroes, O_RDWR, 1, ALL_FEATURES);
	fill_disk(&f, 20);
	set_attribute(zeroes, "device/scsi_disk/*/max_write_same_blocks", "2");
	tap_equal(send_one(&f, VIRTIO_BLK_T_WRITE_ZEROES, BLOCK_SECTORS,
			   17 * BLOCK_SECTORS, 0), VIRTIO_BLK_S_OK,
		  "zeroes for more than a lowered limit succeed");
	map_is(&f, "dzzzzzzzzzzzzzzzzzdd", "and are written");
	set_attribute(zeroes, "device/scsi_disk/*/max_write_same_blocks", "65535");
	tear_down(&f);
}

/* Flushes that the block device has got so far. */
static long flushes(const char *disk)
{
	unsigned long f[17] = {};
	char path[64];
	struct stat st;
	FILE *file;
	int i;

	stat(disk, &st);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat",
		 major(st.st_rdev), minor(st.st_rdev));
	file = fopen(path, "r");
	for (i = 0; file && i < 17; i++)
		if (fscanf(file, "%lu", &f[i]) != 1)
			break;
	if (!file || i < 16)
		tap_bail("can't read %s", path);
	fclose(file);
	return f[15];
}

/* How many of ten writes were made durable, or flushed along. */
static long durable_writes(struct fixture *f, const char *disk)
{
	long before = flushes(disk);
	int i;

	for (i = 0; i < 10; i++)
		fill_disk(f, 1);
	return flushes(disk) - before;
}

static void test_cache(const char *cached, const char *none)
{
	struct virtio_blk_config config;
	struct fixture f;
	uint64_t features;

	set_up(&f, cached, O_RDWR, 1, ALL_FEATURES);
	vhost_client_get_features(&f.c, &features);
	tap_ok(features & BIT(VIRTIO_BLK_F_CONFIG_WCE),
	       "CONFIG_WCE is offered by a device with a write cache");
	vhost_client_get_config(&f.c, &config);
	tap_equal(config.wce, 1, "it begins as write-back");
	tap_equal(durable_writes(&f, cached), 0, "where writes are not durable");
	tap_equal(vhost_client_set_wce(&f.c, 0), 0,
		  "the driver can make it write-through");
	vhost_client_get_config(&f.c, &config);
	tap_equal(config.wce, 0, "which the configuration says");
	tap_ok(durable_writes(&f, cached) >= 10, "where every write is durable");
	tap_equal(vhost_client_set_wce(&f.c, 1), 0, "and write-back again");
	tap_equal(durable_writes(&f, cached), 0, "as it was");
	tap_equal(vhost_client_set_wce(&f.c, 2), -EINVAL,
		  "there is no third way");
	tear_down(&f);

	set_up(&f, cached, O_RDWR, 1, ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	tap_equal(durable_writes(&f, cached), 0,
		  "a driver that only flushes gets write-back");
	tear_down(&f);
	set_up(&f, cached, O_RDWR, 1, ~BIT(VIRTIO_BLK_F_FLUSH));
	tap_ok(durable_writes(&f, cached) >= 10,
	       "one that doesn't gets write-through");
	tear_down(&f);

	set_up(&f, none, O_RDWR, 1, ALL_FEATURES);
	tap_equal(vhost_client_set_wce(&f.c, 0), -EOPNOTSUPP,
		  "without a cache there is nothing to switch");
	tear_down(&f);
}

/* Zeroes are writes: a driver that can't flush relies on them. */
static void test_durable_zeroes(const char *zeroes)
{
	struct fixture f;
	uint64_t features;
	long before;
	int i;

	set_up(&f, zeroes, O_RDWR, 1, ~BIT(VIRTIO_BLK_F_FLUSH));
	vhost_client_get_features(&f.c, &features);
	if (!(features & BIT(VIRTIO_BLK_F_FLUSH)))
		tap_bail("%s has no write cache", zeroes);
	before = flushes(zeroes);
	for (i = 0; i < 10; i++)
		send_one(&f, VIRTIO_BLK_T_WRITE_ZEROES, 0, BLOCK_SECTORS, 0);
	tap_ok(flushes(zeroes) - before >= 10,
	       "zeroes are durable without a flush, too");
	tear_down(&f);
}

/* What was written as write-back is durable once write-through has begun. */
static void test_switch_flushes(const char *cached)
{
	struct fixture f;
	long before;

	set_up(&f, cached, O_RDWR, 1, ALL_FEATURES);
	fill_disk(&f, 1);
	before = flushes(cached);
	vhost_client_set_wce(&f.c, 0);
	tap_ok(flushes(cached) > before, "the switch to write-through flushes");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	const char *discard, *zeroes, *none, *cached;

	if (argc != 6)
		tap_bail("usage: %s DISCARD ZEROES NONE CACHED LOSES", argv[0]);
	discard = argv[1];
	zeroes = argv[2];
	none = argv[3];
	cached = argv[4];

	test_offer(discard, "discard", VIRTIO_BLK_F_DISCARD, true);
	test_offer(none, "discard", VIRTIO_BLK_F_DISCARD, false);
	test_offer(zeroes, "write zeroes", VIRTIO_BLK_F_WRITE_ZEROES, true);
	test_offer(none, "write zeroes", VIRTIO_BLK_F_WRITE_ZEROES, false);
	test_offer(none, "secure erase", VIRTIO_BLK_F_SECURE_ERASE, false);
	test_discard(discard);
	test_zeroes(zeroes);
	test_refused(discard, VIRTIO_BLK_T_DISCARD, "discard", false);
	test_refused(zeroes, VIRTIO_BLK_T_WRITE_ZEROES, "write zeroes", true);
	test_not_offered(none, VIRTIO_BLK_T_DISCARD, "discard");
	test_not_offered(none, VIRTIO_BLK_T_WRITE_ZEROES, "write zeroes");
	test_not_offered(none, VIRTIO_BLK_T_SECURE_ERASE, "secure erase");
	test_not_negotiated(discard);
	test_rebind(discard, none);
	test_lost_ability(argv[5]);
	test_cache(cached, none);
	test_switch_flushes(cached);
	test_durable_zeroes(zeroes);
	test_lowered_zeroes(zeroes);
	/* From 0 the limit can't be raised again. */
	test_lowered_limit(discard);
	return tap_end();
}
