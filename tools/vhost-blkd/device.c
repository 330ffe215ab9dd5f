// SPDX-License-Identifier: GPL-2.0
/* Open, bind and call /dev/vhost-blk: see device.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/virtio_config.h>

#include "../lib/vhost_workers.h"
#include "device.h"
#include "log.h"

#define DEVICE_PATH	"/dev/vhost-blk"

/* The version of IOTLB messages that the daemon uses. */
#define BACKEND_FEATURES	(1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2)

/*
 * How long to wait for a device node, and for a disk that is in use. When a device has just
 * appeared, udev still has to make its links and to set its group. If an earlier daemon was
 * killed, its device holds the disk until its last request has ended.
 */
#define WAIT_TIMEOUT_MS		5000
#define WAIT_INTERVAL_MS	100

int device_ioctl(struct device *device, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(device->fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

unsigned int vhost_parameter(const char *name, unsigned int otherwise)
{
	unsigned int value = 0;
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/vhost/parameters/%s", name);
	file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%u", &value) != 1)
			value = 0;
		fclose(file);
	}
	return value ? value : otherwise;
}

bool device_must_stop(const struct device *device, int timeout_ms)
{
	struct pollfd stop = { .fd = device->stop_fd, .events = POLLIN };

	return poll(&stop, 1, timeout_ms) > 0;
}

/* Opening the disk */

/*
 * An attempt at @path has failed with @error after @waited milliseconds. Wait for the next one.
 * The first time a message says so, for users who have mistyped a name. Returns false if the
 * process has to stop.
 */
static bool wait_for_attempt(const struct device *device, const char *path, int error, int waited)
{
	if (!waited)
		say("%s: %s: trying again for %d s", path, strerror(error),
		    WAIT_TIMEOUT_MS / 1000);
	return !device_must_stop(device, WAIT_INTERVAL_MS);
}

/*
 * Wait until @path exists and may be opened in @mode. Returns false if the process has to stop.
 * After WAIT_TIMEOUT_MS it returns true as well: the caller's open() then says what is wrong.
 */
static bool wait_for_node(const struct device *device, const char *path, int mode)
{
	int waited;

	for (waited = 0; waited < WAIT_TIMEOUT_MS; waited += WAIT_INTERVAL_MS) {
		if (!access(path, mode) || (errno != ENOENT && errno != EACCES))
			break;
		if (!wait_for_attempt(device, path, errno, waited))
			return false;
	}
	return true;
}

static int open_block_device(const struct device *device)
{
	const struct options *options = device->options;
	const char *path = options->blk_file;
	struct stat st;
	int fd;

	if (!wait_for_node(device, path, options->read_only ? R_OK : R_OK | W_OK))
		return -1;
	if (stat(path, &st)) {
		say("%s: %s", path, errno == ENOENT ?
		    "there is no such block device" : strerror(errno));
		return -1;
	}
	if (!S_ISBLK(st.st_mode)) {
		say("%s: not a block device%s", path, S_ISREG(st.st_mode) ?
		    "; serve an image file by a loop device (losetup -f --show FILE)" :
		    "");
		return -1;
	}
	fd = open(path, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if (errno == EACCES || errno == EPERM)
		say("%s: this user may not %s it: change its owner or mode%s",
		    path, options->read_only ? "read" : "write",
		    options->read_only ? "" : ", or use --read-only");
	else if (errno == EROFS)
		say("%s: write-protected: use --read-only", path);
	else
		say("%s: %s", path, strerror(errno));
	return -1;
}

static int open_vhost(const struct device *device)
{
	int fd = device->options->vhost_fd;

	if (fd < 0) {
		if (!wait_for_node(device, DEVICE_PATH, R_OK | W_OK))
			return -1;
		fd = open(DEVICE_PATH, O_RDWR | O_CLOEXEC);
	}
	/* Another message may remove an IOTLB miss between poll() and read(). */
	if (fd >= 0 && !fcntl(fd, F_SETFL, O_NONBLOCK))
		return fd;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		say(DEVICE_PATH " is not there: load its module (modprobe vhost_blk)");
	else if (errno == EACCES || errno == EPERM)
		say(DEVICE_PATH ": this user may not open it: change its owner or mode");
	else
		say(DEVICE_PATH ": %s", strerror(errno));
	return -1;
}

static const char *bind_advice(int error)
{
	switch (error) {
	case EBUSY:
		return "in use: mounted, part of another device, or served by another process";
	case EOPNOTSUPP:
		return "a zoned device: the kernel does not serve those";
	case EPERM:
		return "the device cgroup of this process forbids it";
	case ENOTTY:
		return "the descriptor of --vhost-fd is not " DEVICE_PATH;
	default:
		return strerror(error);
	}
}

static int bind_once(struct device *device, int disk)
{
	const struct options *options = device->options;
	struct vhost_blk_bind bind = {
		.fd = disk,
		.flags = (options->read_only ? VHOST_BLK_BIND_READ_ONLY : 0) |
			 (options->share_rw ? VHOST_BLK_BIND_SHARED : 0),
		.num_queues = options->num_queues,
	};

	if (options->serial)
		memcpy(bind.serial, options->serial, strlen(options->serial));
	return device_ioctl(device, VHOST_BLK_BIND, &bind);
}

/* Give the kernel a name for its counters and traces: the socket's name without .sock. */
static int set_name(struct device *device)
{
	const char *path = device->options->socket_path, *base;
	struct vhost_blk_name name = {};
	size_t len, i;

	if (!path)
		return 0;
	base = strrchr(path, '/');
	base = base ? base + 1 : path;
	len = strlen(base);
	if (len > strlen(".sock") && !strcmp(base + len - strlen(".sock"), ".sock"))
		len -= strlen(".sock");
	for (i = 0; i < len && i < sizeof(name.name) - 1; i++)
		name.name[i] = base[i] > ' ' && base[i] <= '~' ? base[i] : '_';
	return device_ioctl(device, VHOST_BLK_SET_NAME, &name);
}

static bool bind_disk(struct device *device, int disk)
{
	int waited, ret;

	for (waited = 0;; waited += WAIT_INTERVAL_MS) {
		ret = bind_once(device, disk);
		if (ret != -EBUSY || waited >= WAIT_TIMEOUT_MS)
			break;
		if (!wait_for_attempt(device, device->options->blk_file, -ret, waited))
			return false;
	}
	if (ret)
		say("%s: %s", device->options->blk_file, bind_advice(-ret));
	return !ret;
}

/* Check that the kernel has all ioctls that a connection needs, and can make the workers. */
static bool try_calls(struct device *device)
{
	int ret = device_acquire(device);

	if (ret && ret != -ENOTTY) {
		say("%s: the kernel does not let this process use the device: %s",
		    device->options->blk_file, strerror(-ret));
		return false;
	}
	if (!ret)
		ret = device_set_ring_state(device, VHOST_BLK_SET_VRING_RUNNING, 0, 0);
	if (!ret)
		ret = device_set_ring_inflight(device, 0, 0);
	if (!ret)
		ret = set_name(device);
	if (ret == -ENOTTY)
		say("the loaded vhost_blk is too old: load that of this version (vhost-blk-upgrade)");
	else if (ret)
		say("%s: %s", device->options->blk_file, strerror(-ret));
	device_release(device);
	return !ret;
}

static bool ask_device(struct device *device)
{
	const struct options *options = device->options;
	uint64_t backend;

	device->config_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->config_event < 0 ||
	    device_ioctl(device, VHOST_GET_FEATURES, &device->features)) {
		say("%s: %s", options->blk_file, strerror(errno));
		return false;
	}
	if (device_ioctl(device, VHOST_GET_BACKEND_FEATURES, &backend) ||
	    (backend & BACKEND_FEATURES) != BACKEND_FEATURES)
		device->features &= ~(1ULL << VIRTIO_F_ACCESS_PLATFORM);
	if (device->features & 1ULL << VIRTIO_BLK_F_RO && !options->read_only) {
		say("%s: write-protected: use --read-only", options->blk_file);
		return false;
	}
	return true;
}

bool device_open(struct device *device, const struct options *options, int stop_fd)
{
	*device = (struct device){
		.fd = -1,
		.disk = -1,
		.config_event = -1,
		.stop_fd = stop_fd,
		.options = options,
	};
	device->disk = open_block_device(device);
	if (device->disk < 0)
		return false;
	device->fd = open_vhost(device);
	return device->fd >= 0 && bind_disk(device, device->disk) &&
	       try_calls(device) && ask_device(device);
}

void device_close(struct device *device)
{
	if (device->config_event >= 0)
		close(device->config_event);
	if (device->fd >= 0)
		close(device->fd);
	if (device->disk >= 0)
		close(device->disk);
	device->config_event = -1;
	device->fd = -1;
	device->disk = -1;
}

int device_flush(struct device *device)
{
	return !device->options->read_only && fsync(device->disk) ? -errno : 0;
}

/* The owner */

/* Ring 0 keeps the worker that the kernel makes for all rings. Make one for each other ring. */
static int make_workers(struct device *device)
{
	unsigned int i;

	for (i = 1; i < device->options->num_queues; i++) {
		struct vhost_worker_state worker = {};
		struct vhost_vring_worker ring = { .index = i };
		int ret = device_ioctl(device, VHOST_NEW_WORKER, &worker);

		ring.worker_id = worker.worker_id;
		if (!ret)
			ret = device_ioctl(device, VHOST_ATTACH_VRING_WORKER,
					   &ring);
		if (ret)
			return ret;
	}
	return 0;
}

static int set_polling(struct device *device)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < device->options->num_queues && !ret; i++)
		ret = device_set_ring_state(device,
					    VHOST_SET_VRING_BUSYLOOP_TIMEOUT, i,
					    device->options->poll_us);
	return ret;
}

int device_acquire(struct device *device)
{
	uint64_t backend = BACKEND_FEATURES;
	int ret = device_ioctl(device, VHOST_SET_OWNER, NULL);
	uint32_t pin = 1;

	if (ret)
		return ret;
	if (device->options->pin_memory)
		ret = device_ioctl(device, VHOST_BLK_SET_PIN_MEMORY, &pin);
	if (!ret && device->features & 1ULL << VIRTIO_F_ACCESS_PLATFORM)
		ret = device_ioctl(device, VHOST_SET_BACKEND_FEATURES, &backend);
	if (!ret && device->options->worker_per_virtqueue)
		ret = make_workers(device);
	if (!ret && device->options->poll_us)
		ret = set_polling(device);
	if (ret)
		device_release(device);
	return ret;
}

/*
 * With -EAGAIN, chains of the record are to be redone, and their translations will not come
 * any more. Then close the kernel's device, as when the daemon dies. The chains stay in the
 * record.
 */
int device_release(struct device *device)
{
	int ret = device_ioctl(device, VHOST_RESET_OWNER, NULL);

	if (ret != -EAGAIN || device->options->vhost_fd >= 0)
		return ret;
	device_close(device);
	if (device_must_stop(device, 0))
		return 0;
	return device_open(device, device->options, device->stop_fd) ? 0 : -ENODEV;
}

/* Calls */

int device_set_features(struct device *device, uint64_t features)
{
	features &= ~(1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
	return device_ioctl(device, VHOST_SET_FEATURES, &features);
}

int device_set_memory(struct device *device, const struct memory *memory)
{
	struct vhost_memory *table;
	unsigned int i;
	int ret;

	table = calloc(1, sizeof(*table) +
			  memory->num * sizeof(table->regions[0]));
	if (!table)
		return -ENOMEM;
	table->nregions = memory->num;
	for (i = 0; i < memory->num; i++) {
		const struct region *region = &memory->regions[i];

		table->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = region->guest_addr,
			.memory_size = region->size,
			.userspace_addr = (uintptr_t)region->mapping.data,
		};
	}
	ret = device_ioctl(device, VHOST_SET_MEM_TABLE, table);
	free(table);
	return ret;
}

int device_get_config(struct device *device, uint32_t offset, void *data,
		      uint32_t size)
{
	struct {
		struct vhost_blk_config config;
		uint8_t data[VHOST_USER_MAX_CONFIG];
	} get = { .config = { .offset = offset, .size = size } };
	int ret;

	if (size > sizeof(get.data))
		return -E2BIG;
	ret = device_ioctl(device, VHOST_BLK_GET_CONFIG, &get);
	if (!ret)
		memcpy(data, get.data, size);
	return ret;
}

int device_set_write_back(struct device *device, bool write_back)
{
	struct {
		struct vhost_blk_config config;
		uint8_t wce;
	} set = {
		.config = {
			.offset = offsetof(struct virtio_blk_config, wce),
			.size = 1,
		},
		.wce = write_back,
	};

	return device_ioctl(device, VHOST_BLK_SET_CONFIG, &set);
}

int device_watch_config(struct device *device, bool watch)
{
	int32_t fd = watch ? device->config_event : -1;
	uint64_t times;

	/* Drop an event of an earlier connection. */
	if (watch && read(device->config_event, &times, sizeof(times)) < 0 &&
	    errno != EAGAIN)
		return -errno;
	return device_ioctl(device, VHOST_BLK_SET_CONFIG_CALL, &fd);
}

int device_set_ring_fd(struct device *device, unsigned long request,
		       unsigned int index, int fd)
{
	struct vhost_vring_file file = { .index = index, .fd = fd };

	return device_ioctl(device, request, &file);
}

int device_set_ring_state(struct device *device, unsigned long request,
			  unsigned int index, unsigned int num)
{
	struct vhost_vring_state state = { .index = index, .num = num };

	return device_ioctl(device, request, &state);
}

int device_set_ring_inflight(struct device *device, unsigned int index,
			     uint64_t addr)
{
	struct vhost_blk_vring_inflight inflight = {
		.index = index,
		.addr = addr,
	};

	return device_ioctl(device, VHOST_BLK_SET_VRING_INFLIGHT, &inflight);
}

int device_send_iotlb(struct device *device, const struct vhost_iotlb_msg *msg)
{
	struct vhost_msg_v2 own = { .type = VHOST_IOTLB_MSG_V2, .iotlb = *msg };
	ssize_t ret;

	do {
		ret = write(device->fd, &own, sizeof(own));
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

bool device_read_miss(struct device *device, struct vhost_iotlb_msg *miss)
{
	struct vhost_msg_v2 msg;

	if (read(device->fd, &msg, sizeof(msg)) != sizeof(msg))
		return false;
	*miss = msg.iotlb;
	return true;
}

int device_get_ring_base(struct device *device, unsigned int index)
{
	struct vhost_vring_state state = { .index = index };
	int ret = device_ioctl(device, VHOST_GET_VRING_BASE, &state);

	return ret ? -1 : (int)(state.num & 0xffff);
}
