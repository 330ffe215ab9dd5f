// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of /dev/vhost-blk: what each demands, answers and refuses.
 *
 * usage: abi DISK CACHED MOUNTED
 *	DISK	a block device without a write cache that may be overwritten
 *	CACHED	one with a write cache
 *	MOUNTED	one that is mounted
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/fs.h>

#include "tap.h"
#include "vhost_client.h"

#define DEVICE	"/dev/vhost-blk"
#define MEMORY	(8 << 20)

static int open_disk(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		tap_bail("%s: %s", path, strerror(errno));
	return fd;
}

static void open_client(struct vhost_client *c)
{
	int ret = vhost_client_open(c, DEVICE, MEMORY);

	if (ret)
		tap_bail(DEVICE ": %s (modprobe vhost_blk)", strerror(-ret));
}

static void test_unbound(void)
{
	struct virtio_blk_config config;
	struct vhost_client c;
	uint64_t features;

	open_client(&c);
	tap_equal(vhost_client_get_features(&c, &features), -ENODEV,
		  "features are refused before bind");
	tap_equal(vhost_client_get_config(&c, &config), -ENODEV,
		  "configuration is refused before bind");
	tap_equal(vhost_client_run(&c, true), -ENODEV,
		  "running is refused before bind");
	tap_equal(vhost_client_ioctl(&c, VHOST_SET_OWNER, NULL), -ENODEV,
		  "an owner is refused before bind");
	tap_equal(vhost_client_ioctl(&c, BLKFLSBUF, NULL), -ENOTTY,
		  "a call of another kind of file is refused");
	vhost_client_close(&c);
}

/* The file has claimed the device, for as many queues as there can be. */
static void test_bind_shared(struct vhost_client *claimer, int fd)
{
	struct vhost_client other;

	open_client(&other);
	tap_equal(vhost_client_bind(&other, fd, VHOST_BLK_BIND_SHARED, 1, ""), 0,
		  "a device that is claimed can be bound shared");
	tap_equal(vhost_client_bind(&other, fd, 0, 1, ""), -EBUSY,
		  "but not be claimed as well");
	tap_equal(vhost_client_bind(claimer, fd, VHOST_BLK_BIND_SHARED,
				    VHOST_BLK_MAX_QUEUES, ""), 0,
		  "the claim is given up by binding shared");
	tap_equal(vhost_client_bind(&other, fd, 0, 1, ""), 0,
		  "then another file can claim the device");
	tap_equal(vhost_client_bind(claimer, fd, 0, VHOST_BLK_MAX_QUEUES, ""),
		  -EBUSY, "and the first one has to wait for it");
	vhost_client_close(&other);
	tap_equal(vhost_client_bind(claimer, fd, 0, VHOST_BLK_MAX_QUEUES, ""), 0,
		  "a claim that is free again can be taken again");
}

static void test_bind(const char *disk, const char *mounted)
{
	struct vhost_blk_bind bind = { .num_queues = 1 };
	struct vhost_client c, other;
	int fd = open_disk(disk, O_RDWR);
	int file, fd2;

	open_client(&c);
	tap_equal(vhost_client_bind(&c, -1, 0, 1, ""), -EBADF,
		  "bind refuses a bad file descriptor");
	file = open_disk("/proc/self/exe", O_RDONLY);
	tap_equal(vhost_client_bind(&c, file, 0, 1, ""), -ENOTBLK,
		  "bind refuses what is no block device");
	close(file);
	fd2 = open_disk(disk, O_WRONLY);
	tap_equal(vhost_client_bind(&c, fd2, 0, 1, ""), -EACCES,
		  "bind refuses a file that can't be read");
	close(fd2);
	tap_equal(vhost_client_bind(&c, fd, 1U << 31, 1, ""), -EINVAL,
		  "bind refuses unknown flags");
	bind.fd = fd;
	bind.reserved = 1;
	tap_equal(vhost_client_ioctl(&c, VHOST_BLK_BIND, &bind), -EINVAL,
		  "bind refuses reserved bits");
	tap_equal(vhost_client_ioctl(&c, VHOST_BLK_BIND, (void *)8), -EFAULT,
		  "bind refuses a bad address");
	tap_equal(vhost_client_bind(&c, fd, 0, 0, ""), -EINVAL,
		  "bind refuses 0 queues");
	tap_equal(vhost_client_bind(&c, fd, 0, VHOST_BLK_MAX_QUEUES + 1, ""),
		  -EINVAL, "bind refuses more queues than the limit");
	fd2 = open_disk(mounted, O_RDWR);
	tap_equal(vhost_client_bind(&c, fd2, 0, 1, ""), -EBUSY,
		  "bind refuses a mounted device");
	close(fd2);

	tap_equal(vhost_client_bind(&c, fd, 0, VHOST_BLK_MAX_QUEUES, ""), 0,
		  "bind takes as many queues as the limit");
	open_client(&other);
	tap_equal(vhost_client_bind(&other, fd, 0, 1, ""), -EBUSY,
		  "a device bound for writing can't be bound for writing again");
	tap_equal(vhost_client_bind(&other, fd, VHOST_BLK_BIND_READ_ONLY, 1, ""),
		  0, "but it can for reading");
	vhost_client_close(&other);
	tap_equal(vhost_client_bind(&c, fd, 0, VHOST_BLK_MAX_QUEUES, ""), 0,
		  "the same device can be bound again by the same file");
	tap_equal(vhost_client_bind(&c, fd, 0, 1, ""), -EINVAL,
		  "bind refuses another number of queues");
	test_bind_shared(&c, fd);
	vhost_client_close(&c);

	open_client(&c);
	tap_equal(vhost_client_bind(&c, fd, 0, 1, ""), 0,
		  "closing the file releases the device");
	vhost_client_close(&c);
	close(fd);
}

static uint64_t features_of(const char *disk, int flags, uint32_t bind_flags,
			    unsigned int num_queues)
{
	struct vhost_client c;
	uint64_t features;
	int fd = open_disk(disk, flags);

	open_client(&c);
	if (vhost_client_bind(&c, fd, bind_flags, num_queues, "") ||
	    vhost_client_get_features(&c, &features))
		tap_bail("can't bind %s", disk);
	vhost_client_close(&c);
	close(fd);
	return features;
}

static void test_features(const char *disk, const char *cached)
{
	uint64_t plain = features_of(disk, O_RDWR, 0, 1);

	tap_ok(plain & 1ULL << VIRTIO_F_VERSION_1, "VERSION_1 is offered");
	tap_ok(plain & 1ULL << VIRTIO_RING_F_EVENT_IDX, "EVENT_IDX is offered");
	tap_ok(plain & 1ULL << VIRTIO_RING_F_INDIRECT_DESC,
	       "INDIRECT_DESC is offered");
	tap_ok(!(plain & 1ULL << VIRTIO_BLK_F_MQ), "MQ is not, with one queue");
	tap_ok(features_of(disk, O_RDWR, 0, 2) & 1ULL << VIRTIO_BLK_F_MQ,
	       "MQ is offered with two queues");
	tap_ok(!(plain & 1ULL << VIRTIO_BLK_F_RO),
	       "RO is not offered by a device open for writing");
	tap_ok(features_of(disk, O_RDONLY, 0, 1) & 1ULL << VIRTIO_BLK_F_RO,
	       "RO is offered by a device open for reading only");
	tap_ok(features_of(disk, O_RDWR, VHOST_BLK_BIND_READ_ONLY, 1) &
	       1ULL << VIRTIO_BLK_F_RO,
	       "RO is offered by a device bound read-only");
	tap_ok(!(plain & 1ULL << VIRTIO_BLK_F_FLUSH),
	       "FLUSH is not offered by a device without a write cache");
	tap_ok(features_of(cached, O_RDWR, 0, 1) & 1ULL << VIRTIO_BLK_F_FLUSH,
	       "FLUSH is offered by a device with one");
}

static void test_set_features(const char *disk)
{
	struct vhost_client c;
	uint64_t features, more;
	int fd = open_disk(disk, O_RDWR);

	open_client(&c);
	vhost_client_bind(&c, fd, 0, 1, "");
	vhost_client_get_features(&c, &features);
	more = features | 1ULL << VIRTIO_BLK_F_SCSI;
	tap_equal(vhost_client_ioctl(&c, VHOST_SET_FEATURES, &more), -EOPNOTSUPP,
		  "a feature that was not offered is refused");
	tap_equal(vhost_client_ioctl(&c, VHOST_SET_FEATURES, &features), 0,
		  "all that were offered are taken");
	vhost_client_close(&c);
	close(fd);
}

static void test_config(const char *disk)
{
	struct {
		struct vhost_blk_config head;
		uint8_t data[sizeof(struct virtio_blk_config) + 8];
	} piece = {};
	struct virtio_blk_config config;
	struct vhost_client c;
	uint64_t bytes;
	int fd = open_disk(disk, O_RDWR), block;

	open_client(&c);
	vhost_client_bind(&c, fd, 0, 3, "");
	ioctl(fd, BLKGETSIZE64, &bytes);
	ioctl(fd, BLKSSZGET, &block);

	tap_equal(vhost_client_get_config(&c, &config), 0, "configuration is read");
	tap_equal(config.capacity, bytes / 512, "capacity is the device's");
	tap_equal(config.blk_size, block, "block size is the device's");
	tap_equal(config.num_queues, 3, "queues are as many as were bound");
	tap_ok(config.seg_max > 1 && config.size_max >= 4096,
	       "segment limits are there");

	piece.head.offset = offsetof(struct virtio_blk_config, blk_size);
	piece.head.size = 4;
	vhost_client_ioctl(&c, VHOST_BLK_GET_CONFIG, &piece);
	tap_ok(!memcmp(piece.data, &config.blk_size, 4),
	       "a piece of the configuration is what the whole has there");

	memset(piece.data, 0xff, sizeof(piece.data));
	piece.head.offset = 0;
	piece.head.size = sizeof(piece.data);
	vhost_client_ioctl(&c, VHOST_BLK_GET_CONFIG, &piece);
	tap_ok(!memcmp(piece.data, &config, sizeof(config)) &&
	       !memcmp(piece.data + sizeof(config), "\0\0\0\0\0\0\0\0", 8),
	       "bytes behind the configuration are zero");

	memset(piece.data, 0xff, sizeof(piece.data));
	piece.head.offset = UINT32_MAX;
	piece.head.size = 8;
	tap_ok(!vhost_client_ioctl(&c, VHOST_BLK_GET_CONFIG, &piece) &&
	       !memcmp(piece.data, "\0\0\0\0\0\0\0\0", 8),
	       "so are those far behind it");

	piece.head.size = 1 << 20;
	tap_equal(vhost_client_ioctl(&c, VHOST_BLK_GET_CONFIG, &piece), -E2BIG,
		  "an absurd size is refused");
	vhost_client_close(&c);
	close(fd);
}

static int run_in_child(struct vhost_client *c)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(-vhost_client_run(c, false));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

static void test_running(const char *disk)
{
	struct vhost_vring_addr addr = {};
	struct vhost_vring_state num = {};
	struct vhost_client c;
	uint64_t features;
	uint32_t two = 2;
	int fd = open_disk(disk, O_RDWR);

	open_client(&c);
	vhost_client_bind(&c, fd, 0, 1, "");
	tap_equal(vhost_client_run(&c, true), -EPERM,
		  "running is refused without an owner");
	vhost_client_setup(&c, ~0ULL, 1, 64);
	tap_equal(vhost_client_ioctl(&c, VHOST_BLK_SET_RUNNING, &two), -EINVAL,
		  "running knows 0 and 1");

	num.num = VHOST_BLK_MAX_RING * 2;
	vhost_client_ioctl(&c, VHOST_SET_VRING_NUM, &num);
	tap_equal(vhost_client_run(&c, true), -E2BIG,
		  "a ring larger than the limit is refused");
	num.num = 64;
	vhost_client_ioctl(&c, VHOST_SET_VRING_NUM, &num);

	addr.desc_user_addr = 1ULL << 63;
	addr.avail_user_addr = 1ULL << 63;
	addr.used_user_addr = 1ULL << 63;
	vhost_client_ioctl(&c, VHOST_SET_VRING_ADDR, &addr);
	tap_equal(vhost_client_run(&c, true), -EFAULT,
		  "a ring outside of the owner's memory is refused");
	addr.desc_user_addr = (uintptr_t)c.queues[0].vring.desc;
	addr.avail_user_addr = (uintptr_t)c.queues[0].vring.avail;
	addr.used_user_addr = (uintptr_t)c.queues[0].vring.used;
	vhost_client_ioctl(&c, VHOST_SET_VRING_ADDR, &addr);

	tap_equal(vhost_client_run(&c, true), 0, "a good ring runs");
	tap_equal(vhost_client_run(&c, true), 0, "running twice is no error");
	tap_equal(vhost_client_bind(&c, fd, 0, 1, ""), -EBUSY,
		  "bind is refused while running");
	features = c.features & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
	tap_equal(vhost_client_ioctl(&c, VHOST_SET_FEATURES, &features),
		  -EBUSY, "other features are refused while running");
	tap_equal(vhost_client_ioctl(&c, VHOST_SET_VRING_NUM, &num), -EBUSY,
		  "a ring size is refused while running");
	tap_equal(run_in_child(&c), -EPERM,
		  "a process that is not the owner can't stop it");
	tap_equal(vhost_client_run(&c, false), 0, "the owner can stop it");
	tap_equal(vhost_client_run(&c, false), 0, "stopping twice is no error");
	tap_equal(vhost_client_bind(&c, fd, 0, 1, ""), 0,
		  "bind is possible again");
	vhost_client_close(&c);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		tap_bail("usage: %s DISK CACHED MOUNTED", argv[0]);
	test_unbound();
	test_bind(argv[1], argv[3]);
	test_features(argv[1], argv[2]);
	test_set_features(argv[1]);
	test_config(argv[1]);
	test_running(argv[1]);
	return tap_end();
}
