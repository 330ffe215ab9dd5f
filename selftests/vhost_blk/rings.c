// SPDX-License-Identifier: GPL-2.0
/*
 * Rings that start and stop one by one, as a vhost-user front end wants it: a firmware
 * uses one of sixteen, and a driver may stop one while the others go on.
 *
 * usage: rings DISK
 *	DISK	it is overwritten
 */
#define _GNU_SOURCE
#include "fixture.h"

#define QUEUES	3

/* A read of one sector on a queue; its status, or -1 if there is no answer soon. */
static int read_on(struct fixture *f, unsigned int queue)
{
	uint8_t *data = vhost_client_alloc(&f->c, SECTOR, SECTOR);

	return simple(f, queue, VIRTIO_BLK_T_IN, 0, data, SECTOR, NULL);
}

/* Makes a read available that nobody is to take. Returns its status byte. */
static uint8_t *offer_read(struct fixture *f, unsigned int queue)
{
	uint8_t *status = vhost_client_alloc(&f->c, 1, 1);
	struct vhost_client_seg segs[3] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ vhost_client_alloc(&f->c, SECTOR, SECTOR), SECTOR, true },
		{ status, 1, true },
	};

	f->hdr->type = VIRTIO_BLK_T_IN;
	f->hdr->sector = 0;
	*status = 0xee;
	if (vhost_client_add(&f->c, queue, segs, 3, NULL) < 0)
		tap_bail("ring too small");
	vhost_client_kick(&f->c, queue, true);
	return status;
}

static int base_of(struct fixture *f, unsigned int queue)
{
	struct vhost_vring_state state = { .index = queue };
	int ret = vhost_client_ioctl(&f->c, VHOST_GET_VRING_BASE, &state);

	return ret ?: (int)state.num;
}

static void test_life(struct fixture *f, const char *disk)
{
	uint64_t features = f->c.features & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
	struct vhost_vring_state num = { .index = 1, .num = RING };
	uint8_t *waiting;
	int fd = open(disk, O_RDWR);

	tap_equal(vhost_client_run_ring(&f->c, 1, true), 0, "one ring is started");
	tap_equal(vhost_client_run_ring(&f->c, 1, true), 0,
		  "starting it twice is no error");
	tap_equal(read_on(f, 1), VIRTIO_BLK_S_OK, "it is served");
	waiting = offer_read(f, 2);
	usleep(200000);
	tap_equal(*waiting, 0xee, "the others are not");
	tap_equal(vhost_client_ioctl(&f->c, VHOST_SET_VRING_NUM, &num), -EBUSY,
		  "its size is fixed while it runs");
	num.index = 0;
	tap_equal(vhost_client_ioctl(&f->c, VHOST_SET_VRING_NUM, &num), 0,
		  "that of the others is not");
	tap_equal(vhost_client_bind(&f->c, fd, 0, QUEUES, ""), -EBUSY,
		  "the device counts as running");
	tap_equal(vhost_client_ioctl(&f->c, VHOST_SET_FEATURES, &features), -EBUSY,
		  "its features are fixed");

	tap_equal(vhost_client_run_ring(&f->c, 2, true), 0, "another ring is started");
	tap_equal(vhost_client_get_used(&f->c, 2, NULL, TIMEOUT_MS) >= 0 &&
		  *waiting == VIRTIO_BLK_S_OK, 1,
		  "what was made available before is done");
	tap_equal(vhost_client_run_ring(&f->c, 1, false), 0, "the first is stopped");
	tap_equal(vhost_client_run_ring(&f->c, 1, false), 0,
		  "stopping it twice is no error");
	tap_equal(base_of(f, 1), 1, "it says where it has got to");
	tap_equal(read_on(f, 2), VIRTIO_BLK_S_OK, "the other goes on");
	waiting = offer_read(f, 1);
	usleep(200000);
	tap_equal(*waiting, 0xee, "the stopped one does not");
	tap_equal(vhost_client_bind(&f->c, fd, 0, QUEUES, ""), -EBUSY,
		  "the device still counts as running");
	tap_equal(vhost_client_run_ring(&f->c, 2, false), 0, "the last ring is stopped");
	tap_equal(vhost_client_bind(&f->c, fd, 0, QUEUES, ""), 0,
		  "then it does not any more");
	tap_equal(vhost_client_ioctl(&f->c, VHOST_SET_FEATURES, &features), 0,
		  "and takes other features");
	f->c.features = features;

	tap_equal(vhost_client_run_ring(&f->c, 1, true), 0, "a ring is started again");
	tap_equal(vhost_client_get_used(&f->c, 1, NULL, TIMEOUT_MS) >= 0, 1,
		  "and goes on where it stopped");
	tap_equal(vhost_client_run(&f->c, true), 0, "all rings are started");
	tap_equal(read_on(f, 0) == VIRTIO_BLK_S_OK && read_on(f, 1) == VIRTIO_BLK_S_OK &&
		  read_on(f, 2) == VIRTIO_BLK_S_OK, 1, "and served");
	tap_equal(vhost_client_run(&f->c, false), 0, "all are stopped");
	waiting = offer_read(f, 1);
	usleep(200000);
	tap_equal(*waiting, 0xee, "that one, too");
	close(fd);
}

static void test_errors(struct fixture *f)
{
	struct vhost_vring_addr none = { .index = 0 };
	struct vhost_vring_state state = { .index = QUEUES, .num = 1 };

	tap_equal(vhost_client_ioctl(&f->c, VHOST_BLK_SET_VRING_RUNNING, &state),
		  -ENOBUFS, "a ring that the device does not have is refused");
	state.index = 0;
	state.num = 2;
	tap_equal(vhost_client_ioctl(&f->c, VHOST_BLK_SET_VRING_RUNNING, &state),
		  -EINVAL, "neither start nor stop is refused");
	tap_equal(vhost_client_ioctl(&f->c, VHOST_BLK_SET_VRING_RUNNING, NULL),
		  -EFAULT, "a bad address is refused");
	vhost_client_ioctl(&f->c, VHOST_SET_VRING_ADDR, &none);
	tap_equal(vhost_client_run_ring(&f->c, 0, true), -EINVAL,
		  "a ring without addresses is refused");
	tap_equal(vhost_client_bind(&f->c, f->disk, 0, QUEUES, ""), 0,
		  "after that the device does not count as running");
}

int main(int argc, char **argv)
{
	struct fixture f;

	if (argc != 2)
		tap_bail("usage: %s DISK", argv[0]);
	set_up_bound(&f, argv[1], O_RDWR, QUEUES);
	set_up_running(&f, QUEUES, ALL_FEATURES);
	vhost_client_run(&f.c, false);
	test_life(&f, argv[1]);
	test_errors(&f);
	tear_down(&f);
	return tap_end();
}
