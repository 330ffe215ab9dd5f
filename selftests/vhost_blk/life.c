// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a device: its workers, its owners, its backing device changed and
 * resized, and many devices at a time.
 *
 * usage: life DISK OTHER LOOP FILE
 *	DISK	a block device that may be overwritten, 64 MiB or more
 *	OTHER	another one, at least as large
 *	LOOP	a loop device
 *	FILE	on this file
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/loop.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fixture.h"

#define DEVICES		200

static int threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int num = 0;

	while (readdir(dir))
		num++;
	closedir(dir);
	/* Without "." and "..". */
	return num - 2;
}

static int read_ok(struct fixture *f, unsigned int queue)
{
	void *data = vhost_client_alloc(&f->c, 4096, 4096);

	return simple(f, queue, VIRTIO_BLK_T_IN, 0, data, 4096, NULL) ==
	       VIRTIO_BLK_S_OK;
}

static void test_workers(const char *disk)
{
	enum { QUEUES = 3 };
	unsigned int i, id[QUEUES], first, now;
	int before = threads(), ok = 1;
	struct fixture f;

	set_up_bound(&f, disk, O_RDWR, QUEUES);
	tap_equal(vhost_client_new_worker(&f.c, &id[0]), -EINVAL,
		  "a worker is refused without an owner");
	set_up_running(&f, QUEUES, ALL_FEATURES);
	tap_equal(threads(), before + 1,
		  "the worker of all queues is a thread of the owner");
	vhost_client_get_worker(&f.c, 0, &first);
	for (i = 0; i < QUEUES; i++) {
		ok &= !vhost_client_new_worker(&f.c, &id[i]);
		ok &= !vhost_client_attach_worker(&f.c, i, id[i]);
	}
	tap_ok(ok, "every queue can have a worker of its own");
	tap_equal(threads(), before + 1 + QUEUES, "each of them a thread");
	for (i = 0; i < QUEUES; i++)
		ok &= !vhost_client_get_worker(&f.c, i, &now) && now == id[i] &&
		      read_ok(&f, i);
	tap_ok(ok, "and each serves its queue");
	tap_equal(vhost_client_free_worker(&f.c, id[0]), -EBUSY,
		  "a worker with a queue can't be freed");
	vhost_client_attach_worker(&f.c, 0, first);
	tap_equal(vhost_client_free_worker(&f.c, id[0]), 0,
		  "one without can");
	tap_ok(read_ok(&f, 0), "its queue is served by another");
	tear_down(&f);
	tap_ok(soon(threads() == before), "the workers end with the device");
}

static void test_worker_changes(const char *disk)
{
	unsigned int worker[2];
	struct fixture f;
	int round, answered = 0;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	vhost_client_new_worker(&f.c, &worker[0]);
	vhost_client_new_worker(&f.c, &worker[1]);
	for (round = 0; round < 20; round++) {
		size_t mark = f.c.mem_free;

		send_reads(&f, 64);
		vhost_client_attach_worker(&f.c, 0, worker[round % 2]);
		answered += take_answers(&f, 64);
		f.c.mem_free = mark;
	}
	tap_equal(answered, 20 * 64,
		  "requests in flight survive a change of the worker");
	tear_down(&f);
}

/* The exit status is 0 if all is well. */
static int in_child(int (*what)(struct fixture *), struct fixture *f)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(what(f));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int is_refused(struct fixture *f)
{
	uint64_t features = f->c.features;

	return vhost_client_run(&f->c, true) != -EPERM ||
	       vhost_client_ioctl(&f->c, VHOST_SET_FEATURES, &features) != -EPERM ||
	       vhost_client_set_wce(&f->c, 0) == 0 ||
	       vhost_client_ioctl(&f->c, VHOST_SET_OWNER, NULL) != -EBUSY ||
	       vhost_client_reset_owner(&f->c) != -EPERM ||
	       vhost_client_ioctl(&f->c, VHOST_SET_LOG_BASE, &features) != -EPERM;
}

static int becomes_owner(struct fixture *f)
{
	return vhost_client_configure(&f->c) || vhost_client_run(&f->c, true) ||
	       !read_ok(f, 0) || vhost_client_reset_owner(&f->c);
}

static void test_owners(const char *disk)
{
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_equal(in_child(is_refused, &f), 0,
		  "a process that is not the owner is refused");
	tap_equal(vhost_client_reset_owner(&f.c), 0, "the owner can step back");
	tap_equal(vhost_client_run(&f.c, true), -EPERM,
		  "and is refused then itself");
	tap_equal(in_child(becomes_owner, &f), 0,
		  "a process that got the file can become the owner");
	tap_ok(!vhost_client_configure(&f.c) && !vhost_client_run(&f.c, true) &&
	       read_ok(&f, 0), "and the first one once more");
	tear_down(&f);
}

static void test_reset_in_flight(const char *disk)
{
	enum { NUM = 64 };
	uint16_t fetched;
	struct fixture f;
	uint8_t *statuses;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	statuses = send_reads(&f, NUM);
	tap_equal(vhost_client_reset_owner(&f.c), 0,
		  "the owner can step back with requests in flight");
	fetched = f.c.queues[0].vring.used->idx;
	tap_equal(count_ok(statuses, NUM), fetched, "which were answered");
	usleep(20000);
	tap_equal(f.c.queues[0].vring.used->idx, fetched, "and no more after that");
	vhost_client_configure(&f.c);
	vhost_client_run(&f.c, true);
	tap_equal(take_answers(&f, NUM), NUM, "the next owner gets the rest");
	tear_down(&f);
}

static void mark_disk(const char *disk, int value)
{
	char block[4096] __attribute__((aligned(4096)));
	int fd = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);

	memset(block, value, sizeof(block));
	if (fd < 0 || pwrite(fd, block, sizeof(block), 0) != sizeof(block))
		tap_bail("%s: %s", disk, strerror(errno));
	close(fd);
}

/* First byte of the bound device, by a request. */
static int first_byte(struct fixture *f)
{
	uint8_t *data = vhost_client_alloc(&f->c, 4096, 4096);

	if (simple(f, 0, VIRTIO_BLK_T_IN, 0, data, 4096, NULL))
		return -1;
	return data[0];
}

static void test_rebind(const char *disk, const char *other)
{
	struct vhost_client taken;
	struct fixture f;
	int fd, fd2;

	mark_disk(disk, 1);
	mark_disk(other, 2);
	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_equal(first_byte(&f), 1, "the first device is read");
	vhost_client_run(&f.c, false);
	fd = open(other, O_RDWR | O_CLOEXEC);
	tap_equal(vhost_client_bind(&f.c, fd, 0, 1, ""), 0,
		  "another device takes its place while stopped");
	vhost_client_run(&f.c, true);
	tap_equal(first_byte(&f), 2, "and then it is read");
	fd2 = open(disk, O_RDWR | O_CLOEXEC);
	vhost_client_open(&taken, DEVICE, MEMORY);
	tap_equal(vhost_client_bind(&taken, fd2, 0, 1, ""), 0,
		  "the first one is free for others");
	tap_equal(vhost_client_bind(&taken, fd, 0, 1, ""), -EBUSY,
		  "the second is not");
	vhost_client_close(&taken);
	close(fd);
	close(fd2);
	tear_down(&f);
}

static void test_many(const char *disk)
{
	static struct fixture f[DEVICES];
	struct rlimit files = { 8192, 8192 };
	int i, ok = 0;

	setrlimit(RLIMIT_NOFILE, &files);
	for (i = 0; i < DEVICES; i++)
		set_up(&f[i], disk, O_RDONLY, 1, ALL_FEATURES);
	for (i = 0; i < DEVICES; i++)
		ok += read_ok(&f[i], 0);
	tap_equal(ok, DEVICES, "%d devices are served at a time", DEVICES);
	for (i = 0; i < DEVICES; i++)
		tear_down(&f[i]);
}

static void test_resize(const char *loop, const char *file)
{
	struct virtio_blk_config before, after;
	struct pollfd call = { .events = POLLIN };
	struct fixture f;
	struct stat st;
	uint64_t drop;
	uint8_t *data;
	int fd;

	set_up(&f, loop, O_RDWR, 1, ALL_FEATURES);
	tap_equal(vhost_client_set_config_call(&f.c, f.disk), -EINVAL,
		  "a file that is no eventfd is refused");
	call.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	tap_equal(vhost_client_set_config_call(&f.c, call.fd), 0,
		  "an eventfd for changes is taken");
	data = vhost_client_alloc(&f.c, 4096, 4096);
	vhost_client_get_config(&f.c, &before);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, before.capacity, data, 4096,
			 NULL), VIRTIO_BLK_S_IOERR, "there is an end");
	tap_equal(poll(&call, 1, 2500), 0, "nothing changes by itself");

	fd = open(loop, O_RDWR | O_CLOEXEC);
	if (stat(file, &st) || truncate(file, st.st_size + (1 << 20)) ||
	    ioctl(fd, LOOP_SET_CAPACITY))
		tap_bail("%s can't grow: %s", loop, strerror(errno));
	tap_equal(poll(&call, 1, TIMEOUT_MS), 1, "a new size is signalled");
	vhost_client_get_config(&f.c, &after);
	tap_equal(after.capacity, before.capacity + 2048,
		  "the configuration has it");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, before.capacity, data, 4096,
			 NULL), VIRTIO_BLK_S_OK, "and requests go there");

	if (read(call.fd, &drop, sizeof(drop)) < 0)
		tap_bail("the eventfd can't be read");
	tap_equal(vhost_client_set_config_call(&f.c, -1), 0,
		  "the eventfd can be taken away");
	truncate(file, st.st_size);
	ioctl(fd, LOOP_SET_CAPACITY);
	tap_equal(poll(&call, 1, 2500), 0, "and is not signalled any more");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, before.capacity, data, 4096,
			 NULL), VIRTIO_BLK_S_IOERR,
		  "behind the end of a device that shrank there is nothing");
	close(fd);
	close(call.fd);
	tear_down(&f);
}

/* The owner dies and the file lives on in a child, which takes the device over. */
static void test_inherit(const char *disk)
{
	struct fixture f;
	int done[2], status = -1;
	pid_t pid, owner;
	char ok = 0;

	if (pipe(done))
		tap_bail("no pipe");
	pid = fork();
	if (!pid) {
		set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
		send_reads(&f, 64);
		owner = getpid();
		if (!fork()) {
			while (getppid() == owner)
				usleep(10000);
			ok = vhost_client_run(&f.c, false) == -EPERM &&
			     vhost_client_run(&f.c, true) == -EPERM;
			if (write(done[1], &ok, 1) != 1)
				_exit(1);
			_exit(0);
		}
		kill(getpid(), SIGKILL);
	}
	close(done[1]);
	waitpid(pid, &status, 0);
	tap_ok(read(done[0], &ok, 1) == 1 && ok,
	       "nobody rules a device whose owner was killed");
	/* Until the child's file is closed. */
	usleep(200000 * limit_factor());
	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	tap_ok(read_ok(&f, 0), "it is free when the last file is closed");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		tap_bail("usage: %s DISK OTHER LOOP FILE", argv[0]);
	test_workers(argv[1]);
	test_worker_changes(argv[1]);
	test_owners(argv[1]);
	test_reset_in_flight(argv[1]);
	test_rebind(argv[1], argv[2]);
	test_many(argv[1]);
	test_resize(argv[3], argv[4]);
	test_inherit(argv[1]);
	return tap_end();
}
