/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/vhost-blk: the disk in the kernel. It is opened and bound to the block device
 * once; a connection borrows it, from device_acquire() to device_release().
 *
 * Functions return 0 or a negative errno unless they say otherwise.
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
 * struct device - the kernel's disk
 * @fd: /dev/vhost-blk
 * @config_event: an eventfd that fires when the capacity has changed
 * @features: that the kernel offers
 * @options: of the command line
 */
struct device {
	int fd;
	int config_event;
	uint64_t features;
	const struct options *options;
};

/* A parameter of the module vhost, or @otherwise where it cannot be read or is 0. */
unsigned int vhost_parameter(const char *name, unsigned int otherwise);

/* Says what is wrong if it fails. */
bool device_open(struct device *device, const struct options *options);
void device_close(struct device *device);

/* Makes this process's memory guest memory, with the workers that are wanted. */
int device_acquire(struct device *device);
/* Stops the rings, drained, and lets the kernel forget all of the connection. */
int device_release(struct device *device);

/* An ioctl that is repeated if a signal came. */
int device_ioctl(struct device *device, unsigned long request, void *arg);
/* Without the bit that is vhost-user's alone. */
int device_set_features(struct device *device, uint64_t features);
int device_set_memory(struct device *device, const struct memory *memory);
int device_get_config(struct device *device, uint32_t offset, void *data,
		      uint32_t size);
/* Write-back or write-through. EOPNOTSUPP: the disk has no volatile cache. */
int device_set_write_back(struct device *device, bool write_back);
/* Whether the config eventfd fires. */
int device_watch_config(struct device *device, bool watch);
/* VHOST_SET_VRING_{KICK,CALL,ERR} and the calls that take a struct vhost_vring_state. */
int device_set_ring_fd(struct device *device, unsigned long request,
		       unsigned int index, int fd);
int device_set_ring_state(struct device *device, unsigned long request,
			  unsigned int index, unsigned int num);
/* A translation of the IOTLB comes or goes. */
int device_send_iotlb(struct device *device, const struct vhost_iotlb_msg *msg);
/* Whether there was one. */
bool device_read_miss(struct device *device, struct vhost_iotlb_msg *miss);
/* 0 for no record. */
int device_set_ring_inflight(struct device *device, unsigned int index,
			     uint64_t addr);
/* The next index of the available ring; -1 for an error. */
int device_get_ring_base(struct device *device, unsigned int index);

#endif
