/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of /dev/vhost-blk: a virtio-blk device (virtio 1.4, section 5.2)
 * whose rings the kernel serves from a block device.
 *
 * Beside the calls of <linux/vhost.h> there are eight. A VMM uses them in this
 * order:
 *
 *	open("/dev/vhost-blk")
 *	VHOST_BLK_BIND			which block device, how many queues
 *	VHOST_GET_FEATURES		what that device makes possible
 *	VHOST_BLK_GET_CONFIG		the configuration space that follows from it
 *	VHOST_BLK_SET_CONFIG_CALL	an eventfd for when it changes
 *	VHOST_BLK_SET_NAME		what it is called in counters and traces
 *	VHOST_SET_OWNER, VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE,
 *	VHOST_SET_VRING_{NUM,BASE,ADDR,KICK,CALL,ERR}
 *	VHOST_BLK_SET_VRING_INFLIGHT	where to write down what is in flight
 *	VHOST_BLK_SET_RUNNING 1, or VHOST_BLK_SET_VRING_RUNNING for each ring
 *	VHOST_BLK_SET_CONFIG		when the driver writes to it
 *	...
 *	VHOST_BLK_SET_RUNNING 0		returns when nothing is in flight
 *	close
 *
 * Documentation/vhost-blk-abi.rst has every call with its errors.
 */
#ifndef _UAPI_LINUX_VHOST_BLK_H
#define _UAPI_LINUX_VHOST_BLK_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/vhost.h>

/* Limits: requests beyond them are refused with the errno in the ABI text. */
#define VHOST_BLK_MAX_QUEUES	256
#define VHOST_BLK_MAX_RING	1024	/* descriptors of one ring */
#define VHOST_BLK_SERIAL_BYTES	20	/* VIRTIO_BLK_ID_BYTES */
#define VHOST_BLK_NAME_BYTES	64

/* Refuse writes even where the file descriptor would allow them. */
#define VHOST_BLK_BIND_READ_ONLY	(1U << 0)
/* Don't claim the block device: others may have it open, mount or bind it, too. */
#define VHOST_BLK_BIND_SHARED		(1U << 1)

/**
 * struct vhost_blk_bind - the block device to serve
 * @fd: an open file descriptor of a block device; its access mode decides
 *	whether the guest may write. The kernel keeps its own reference.
 * @flags: VHOST_BLK_BIND_*, all other bits zero
 * @num_queues: request queues of the device, 1 to %VHOST_BLK_MAX_QUEUES; must
 *	stay the same when a bound device is bound again
 * @reserved: zero
 * @serial: what VIRTIO_BLK_T_GET_ID answers: ASCII, padded with NUL, without
 *	NUL at the end where all bytes are used
 */
struct vhost_blk_bind {
	__s32 fd;
	__u32 flags;
	__u32 num_queues;
	__u32 reserved;
	__u8  serial[VHOST_BLK_SERIAL_BYTES];
};

/**
 * struct vhost_blk_config - a piece of the device's configuration space
 * @offset: its first byte, counted in struct virtio_blk_config
 * @size: its bytes; those that this kernel does not know read as zero
 * @data: the bytes, little endian
 */
struct vhost_blk_config {
	__u32 offset;
	__u32 size;
	__u8  data[];
};

/**
 * struct vhost_blk_name - what people call the device
 * @name: printable ASCII without spaces, padded with NUL, at least one
 */
struct vhost_blk_name {
	char name[VHOST_BLK_NAME_BYTES];
};

/**
 * struct vhost_blk_vring_inflight - the record of what is in flight in a ring
 * @index: of the ring
 * @reserved: zero
 * @addr: of &struct vhost_blk_inflight in the owner's memory, aligned to 8 bytes,
 *	with as many elements as the ring has descriptors when it starts; 0 for none
 */
struct vhost_blk_vring_inflight {
	__u32 index;
	__u32 reserved;
	__u64 addr;
};

#define VHOST_BLK_INFLIGHT_VERSION	1

/**
 * struct vhost_blk_inflight_desc - what is known of a descriptor
 * @inflight: 1 from when the chain that begins with it is fetched until it is used
 * @padding: not touched
 * @next: the chain that was used before it
 * @counter: the higher, the later it was fetched
 */
struct vhost_blk_inflight_desc {
	__u8  inflight;
	__u8  padding[5];
	__u16 next;
	__u64 counter;
};

/**
 * struct vhost_blk_inflight - vhost-user's record of a split ring
 * @features: zero
 * @version: %VHOST_BLK_INFLIGHT_VERSION, or 0 if nothing has been recorded yet: all of
 *	it is zero then
 * @desc_num: elements of @desc
 * @last_batch_head: the chain that was used last
 * @used_idx: of the used ring, when @desc was true the last time
 * @desc: of each descriptor
 *
 * In the byte order of the machine, as the section "Inflight I/O tracking" of QEMU's
 * docs/interop/vhost-user.rst has it.
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
/* 1 starts the rings, 0 stops them and waits for the requests in flight. */
#define VHOST_BLK_SET_RUNNING	_IOW(VHOST_VIRTIO, 0x92, __u32)
/* Only the byte "wce" can be written: 1 write-back, 0 write-through. */
#define VHOST_BLK_SET_CONFIG	_IOW(VHOST_VIRTIO, 0x93, struct vhost_blk_config)
/* An eventfd that fires when the capacity has changed, or -1 for none. */
#define VHOST_BLK_SET_CONFIG_CALL _IOW(VHOST_VIRTIO, 0x94, __s32)
/* Start (num 1) or stop (num 0) one ring, as VHOST_BLK_SET_RUNNING does all of them. */
#define VHOST_BLK_SET_VRING_RUNNING _IOW(VHOST_VIRTIO, 0x95, struct vhost_vring_state)
/* Only while the ring is stopped. */
#define VHOST_BLK_SET_VRING_INFLIGHT _IOW(VHOST_VIRTIO, 0x96, \
					  struct vhost_blk_vring_inflight)
/* For counters and traces; before the device runs. */
#define VHOST_BLK_SET_NAME	_IOW(VHOST_VIRTIO, 0x97, struct vhost_blk_name)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
