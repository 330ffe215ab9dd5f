// SPDX-License-Identifier: GPL-2.0
/*
 * What the host has cached of a block device when it is bound, and when it stops.
 *
 * usage: cache DISK
 *	DISK	a block device that may be overwritten, without partitions; it has
 *		one for the time of the test
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <pthread.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "fixture.h"

#define BYTES	4096

/* Of the partition, in sectors */
#define START	2048
#define SECTORS	65536

static void partition(const char *disk, int op)
{
	struct blkpg_partition part = {
		.start = START * SECTOR,
		.length = SECTORS * SECTOR,
		.pno = 1,
	};
	struct blkpg_ioctl_arg arg = { .op = op, .data = &part };
	int fd = open(disk, O_RDWR | O_CLOEXEC);

	if (ioctl(fd, BLKPG, &arg))
		tap_bail("can't change the partitions of %s: %s", disk,
			 strerror(errno));
	close(fd);
}

/* What the host finds through its page cache, or 0. */
static char cached(int fd, uint64_t sector)
{
	char data[BYTES];

	return pread(fd, data, BYTES, sector * SECTOR) == BYTES &&
	       data[0] == data[BYTES - 1] ? data[0] : 0;
}

static void write_cached(int fd, uint64_t sector, char what)
{
	char data[BYTES];

	memset(data, what, BYTES);
	if (pwrite(fd, data, BYTES, sector * SECTOR) != BYTES)
		tap_bail("can't write: %s", strerror(errno));
}

static char read_by_guest(struct fixture *f, uint64_t sector, char *data)
{
	return simple(f, 0, VIRTIO_BLK_T_IN, sector, data, BYTES, NULL) ==
	       VIRTIO_BLK_S_OK ? data[0] : 0;
}

static void write_by_guest(struct fixture *f, uint64_t sector, char *data, char what)
{
	memset(data, what, BYTES);
	if (simple(f, 0, VIRTIO_BLK_T_OUT, sector, data, BYTES, NULL))
		tap_bail("the guest can't write");
}

/*
 * One device is bound and the host uses the other: a disk and its partition, whose
 * sectors @bound and @other are the same.
 */
static void test_other_cache(const char *disk, uint64_t bound,
			     const char *user, uint64_t other, const char *name)
{
	struct fixture f;
	char *data;
	int fd = open(user, O_RDWR | O_CLOEXEC);

	write_cached(fd, other, 'a');
	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, BYTES, BYTES);
	tap_equal(read_by_guest(&f, bound, data), 'a',
		  "%s: the guest reads what was cached", name);
	write_by_guest(&f, bound, data, 'b');
	tap_equal(cached(fd, other), 'b',
		  "%s: the host reads what the guest wrote", name);
	write_by_guest(&f, bound, data, 'c');
	vhost_client_run(&f.c, false);
	tap_equal(cached(fd, other), 'c',
		  "%s: and what it wrote before the stop", name);
	tear_down(&f);
	close(fd);

	fd = open(user, O_RDWR | O_CLOEXEC);
	write_cached(fd, other, 'd');
	set_up(&f, disk, O_RDONLY, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, BYTES, BYTES);
	tap_equal(read_by_guest(&f, bound, data), 'd',
		  "%s: so does a guest that may only read", name);
	tear_down(&f);
	close(fd);
}

static void test_mapped(const char *disk)
{
	int fd = open(disk, O_RDWR | O_CLOEXEC);
	volatile char *mapped;
	struct fixture f;
	char *data;

	write_cached(fd, 0, 'a');
	mapped = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED || mlock((void *)mapped, BYTES) || *mapped != 'a')
		tap_bail("can't map %s", disk);
	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	data = vhost_client_alloc(&f.c, BYTES, BYTES);
	write_by_guest(&f, 0, data, 'b');
	tap_equal(*mapped, 'b', "a mapped and locked page: dropped by the bind");
	write_by_guest(&f, 0, data, 'c');
	vhost_client_run(&f.c, false);
	tap_equal(*mapped, 'c', "a mapped and locked page: dropped by the stop");
	tear_down(&f);
	munmap((void *)mapped, BYTES);
	close(fd);
}

static volatile bool enough;

/* Faster than it can be written back: it is dirty again at once. */
static void *change(void *page)
{
	volatile char *byte = page;

	while (!enough)
		(*byte)++;
	return NULL;
}

static void test_changing(const char *disk)
{
	int binds = 0, ret;
	double end;
	int fd = open(disk, O_RDWR | O_CLOEXEC);
	struct vhost_client c;
	pthread_t thread;
	void *mapped;

	mapped = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED ||
	    pthread_create(&thread, NULL, change, mapped))
		tap_bail("can't map %s", disk);
	vhost_client_open(&c, DEVICE, MEMORY);
	soon(*(volatile char *)mapped);
	/* The two have to meet, which they seldom do on a busy machine. */
	end = now() + 20 * limit_factor();
	do {
		ret = vhost_client_bind(&c, fd, 0, 1, SERIAL);
	} while (!ret && ++binds && now() < end);
	printf("# %d binds before that\n", binds);
	tap_equal(ret, -EBUSY, "a page that a process goes on changing: no bind");
	tap_equal(vhost_client_bind(&c, fd, VHOST_BLK_BIND_SHARED, 1, SERIAL), 0,
		  "but one for sharing");
	enough = true;
	pthread_join(thread, NULL);
	tap_equal(vhost_client_bind(&c, fd, 0, 1, SERIAL), 0,
		  "a bind when it has ended");
	vhost_client_close(&c);
	munmap(mapped, BYTES);
	close(fd);
}

int main(int argc, char **argv)
{
	char part[64];

	if (argc != 2)
		tap_bail("usage: %s DISK", argv[0]);
	partition(argv[1], BLKPG_ADD_PARTITION);
	snprintf(part, sizeof(part), "%s%s1", argv[1],
		 isdigit(argv[1][strlen(argv[1]) - 1]) ? "p" : "");
	if (!soon(!access(part, F_OK)))
		tap_bail("no %s", part);
	test_other_cache(argv[1], START, part, 0, "a disk, by its partition");
	test_other_cache(part, 0, argv[1], START, "a partition, by its disk");
	test_other_cache(argv[1], 0, argv[1], 0, "a disk, by itself");
	test_mapped(argv[1]);
	test_changing(argv[1]);
	partition(argv[1], BLKPG_DEL_PARTITION);
	return tap_end();
}
