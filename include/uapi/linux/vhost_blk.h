/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of /dev/vhost-blk: a virtio-blk device (virtio 1.4, section 5.2) whose rings the
 * kernel serves from a block device.
 *
 * It adds nine ioctls to those of <linux/vhost.h>. A VMM uses them in this order:
 *
 *	open("/dev/vhost-blk")
 *	VHOST_BLK_BIND			sets the block device and the number of queues
 *	VHOST_GET_FEATURES		returns the features that this device allows
 *	VHOST_BLK_GET_CONFIG		returns its configuration space
 *	VHOST_BLK_SET_CONFIG_CALL	sets an eventfd for changes of the capacity
 *	VHOST_BLK_SET_NAME		sets its name in counters and trace events
 *	VHOST_SET_OWNER
 *	VHOST_BLK_SET_PIN_MEMORY	keeps guest memory pinned
 *	VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE,
 *	VHOST_SET_VRING_{NUM,BASE,ADDR,KICK,CALL,ERR}
 *	VHOST_BLK_SET_VRING_INFLIGHT	sets the record of the chains in flight
 *	VHOST_BLK_SET_RUNNING 1, or VHOST_BLK_SET_VRING_RUNNING for each ring
 *	VHOST_BLK_SET_CONFIG		passes on a write of the driver
 *	...
 *	VHOST_BLK_SET_RUNNING 0		returns when nothing is in flight
 *	close
 *
 * Documentation/vhost-blk-abi.rst describes every ioctl with its errors.
 */
#ifndef _UAPI_LINUX_VHOST_BLK_H
#define _UAPI_LINUX_VHOST_BLK_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/vhost.h>

/* Limits. Larger values are refused; the ABI text has the errors. */
#define VHOST_BLK_MAX_QUEUES	256
#define VHOST_BLK_MAX_RING	1024	/* descriptors of one ring */
#define VHOST_BLK_SERIAL_BYTES	20	/* VIRTIO_BLK_ID_BYTES */
#define VHOST_BLK_NAME_BYTES	64

/* Refuse writes, even if the file descriptor permits them. */
#define VHOST_BLK_BIND_READ_ONLY	(1U << 0)
/* Don't claim the block device. Others may open, mount or bind it as well. */
#define VHOST_BLK_BIND_SHARED		(1U << 1)

/**
 * struct vhost_blk_bind - argument of VHOST_BLK_BIND
 * @fd: file descriptor of a block device. Its access mode decides whether the guest may
 *	write. The kernel keeps its own reference.
 * @flags: VHOST_BLK_BIND_*; all other bits zero
 * @num_queues: number of request queues, 1 to %VHOST_BLK_MAX_QUEUES. It must be the same
 *	in all binds of one open file.
 * @reserved: zero
 * @serial: data for VIRTIO_BLK_T_GET_ID: ASCII, padded with NUL. If all bytes are used,
 *	there is no NUL.
 */
struct vhost_blk_bind {
	__s32 fd;
	__u32 flags;
	__u32 num_queues;
	__u32 reserved;
	__u8  serial[VHOST_BLK_SERIAL_BYTES];
};

/**
 * struct vhost_blk_config - a part of the configuration space
 * @offset: offset of the first byte in struct virtio_blk_config
 * @size: number of bytes. Bytes that this kernel does not know read as zero.
 * @data: the bytes, little endian
 */
struct vhost_blk_config {
	__u32 offset;
	__u32 size;
	__u8  data[];
};

/**
 * struct vhost_blk_name - argument of VHOST_BLK_SET_NAME
 * @name: printable ASCII without spaces, padded with NUL, with at least one NUL
 */
struct vhost_blk_name {
	char name[VHOST_BLK_NAME_BYTES];
};

/**
 * struct vhost_blk_vring_inflight - argument of VHOST_BLK_SET_VRING_INFLIGHT
 * @index: index of the ring
 * @reserved: zero
 * @addr: address of a &struct vhost_blk_inflight in the owner's memory, aligned to 8
 *	bytes; 0 for no record. Its @desc must have as many elements as the ring has
 *	descriptors when it is started.
 */
struct vhost_blk_vring_inflight {
	__u32 index;
	__u32 reserved;
	__u64 addr;
};

#define VHOST_BLK_INFLIGHT_VERSION	1

/**
 * struct vhost_blk_inflight_desc - one descriptor in the record
 * @inflight: 1 from the fetch of the chain that begins with it until its used element
 * @padding: not accessed
 * @next: head of the chain that was used before this one
 * @counter: order of fetching; higher is later
 */
struct vhost_blk_inflight_desc {
	__u8  inflight;
	__u8  padding[5];
	__u16 next;
	__u64 counter;
};

/**
 * struct vhost_blk_inflight - vhost-user's record of the chains in flight of a split ring
 * @features: zero
 * @version: %VHOST_BLK_INFLIGHT_VERSION; or 0 for a new record, which is all zero
 * @desc_num: elements of @desc
 * @last_batch_head: head of the chain that was used last
 * @used_idx: index of the used ring up to which @desc is up to date
 * @desc: one element for each descriptor
 *
 * All fields are in the machine's byte order. See "Inflight I/O tracking" in QEMU's
 * docs/interop/vhost-user.rst.
 */
struct vhost_blk_inflight {
	__u64 features;
	__u16 version;
	__u16 desc_num;
	__u16 last_batch_head;
	__u16 used_idx;
	struct vhost_blk_inflight_desc desc[];
};

#define VHOST_BLK_BIND		_IOW(VHOST_VIRTIO, 0x90, struct vhost_blk_bind)
#define VHOST_BLK_GET_CONFIG	_IOWR(VHOST_VIRTIO, 0x91, struct vhost_blk_config)
/* 1 starts all rings. 0 stops them and waits for the requests in flight. */
#define VHOST_BLK_SET_RUNNING	_IOW(VHOST_VIRTIO, 0x92, __u32)
/* Only the byte "wce" can be written: 1 for write-back, 0 for write-through. */
#define VHOST_BLK_SET_CONFIG	_IOW(VHOST_VIRTIO, 0x93, struct vhost_blk_config)
/* An eventfd that is signalled when the capacity changes, or -1 for none. */
#define VHOST_BLK_SET_CONFIG_CALL _IOW(VHOST_VIRTIO, 0x94, __s32)
/* Starts (num 1) or stops (num 0) one ring. */
#define VHOST_BLK_SET_VRING_RUNNING _IOW(VHOST_VIRTIO, 0x95, struct vhost_vring_state)
/* Only while the ring is stopped. */
#define VHOST_BLK_SET_VRING_INFLIGHT _IOW(VHOST_VIRTIO, 0x96, \
					  struct vhost_blk_vring_inflight)
/* Only while the device is not running. */
#define VHOST_BLK_SET_NAME	_IOW(VHOST_VIRTIO, 0x97, struct vhost_blk_name)
/*
 * 1 pins the regions of the memory table, now and whenever the table is set. Only while the
 * device is not running. 0 ends this at any time.
 */
#define VHOST_BLK_SET_PIN_MEMORY _IOW(VHOST_VIRTIO, 0x98, __u32)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
