/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/vhost-blk. The daemon opens it and binds it to the block device once. Each
 * connection uses it from device_acquire() to device_release().
 *
 * Functions return 0 or a negative errno, unless a comment says otherwise.
 */
#ifndef VHOST_BLKD_DEVICE_H
#define VHOST_BLKD_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>

#include "memory.h"
#include "options.h"

/**
 * struct device - an open /dev/vhost-blk
 * @fd: descriptor of /dev/vhost-blk
 * @disk: descriptor of the block device
 * @config_event: eventfd that the kernel signals when the capacity changes
 * @stop_fd: readable when this process is to end
 * @features: virtio and vhost features that the kernel offers
 * @options: options of the command line
 */
struct device {
	int fd;
	int disk;
	int config_event;
	int stop_fd;
	uint64_t features;
	const struct options *options;
};

/* Returns a parameter of the module vhost. If it is 0 or unreadable, returns @otherwise. */
unsigned int vhost_parameter(const char *name, unsigned int otherwise);

/*
 * Open and bind. This waits for a disk that is not there yet, and for a busy one. Returns false
 * after a message that says what is wrong, or without one if @stop_fd is readable meanwhile.
 */
bool device_open(struct device *device, const struct options *options, int stop_fd);
void device_close(struct device *device);

/* Return whether this process is to end, now or within a time. */
bool device_must_stop(const struct device *device, int timeout_ms);

/* Become the owner: the kernel's workers use this process's memory. Make all workers. */
int device_acquire(struct device *device);
/*
 * Stop the rings, wait for the requests in flight, and reset what this connection has set
 * in the kernel.
 */
int device_release(struct device *device);

/* Make durable what the disk has answered. */
int device_flush(struct device *device);

/* Call an ioctl again as long as signals interrupt it. */
int device_ioctl(struct device *device, unsigned long request, void *arg);
/* Set features without VHOST_USER_F_PROTOCOL_FEATURES, which the kernel does not know. */
int device_set_features(struct device *device, uint64_t features);
int device_set_memory(struct device *device, const struct memory *memory);
int device_get_config(struct device *device, uint32_t offset, void *data,
		      uint32_t size);
/*
 * Set write-back or write-through. Returns -EOPNOTSUPP if the disk has no volatile write
 * cache.
 */
int device_set_write_back(struct device *device, bool write_back);
/* Switch the signals of device->config_event on or off. */
int device_watch_config(struct device *device, bool watch);
/* @request is VHOST_SET_VRING_KICK, _CALL or _ERR. @fd is -1 for none. */
int device_set_ring_fd(struct device *device, unsigned long request,
		       unsigned int index, int fd);
/* @request is an ioctl that takes a struct vhost_vring_state. */
int device_set_ring_state(struct device *device, unsigned long request,
			  unsigned int index, unsigned int num);
/* Send a message of type VHOST_IOTLB_UPDATE or VHOST_IOTLB_INVALIDATE to the kernel. */
int device_send_iotlb(struct device *device, const struct vhost_iotlb_msg *msg);
/* Read an IOTLB miss of the kernel. Returns false if there is none. */
bool device_read_miss(struct device *device, struct vhost_iotlb_msg *miss);
/* Set the address of the ring's record of chains in flight. 0 means no record. */
int device_set_ring_inflight(struct device *device, unsigned int index,
			     uint64_t addr);
/* Returns the next index of the available ring, or -1 on an error. */
int device_get_ring_base(struct device *device, unsigned int index);

#endif
