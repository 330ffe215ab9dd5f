/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio block device that misbehaves as it is told, in a process of its own.
 *
 * It is told by words "NAME=NUMBER", before it starts and later. A word is a field of
 * the configuration space or something about zones (disk.c), or one of these:
 *
 *	queues=N ring=N		queues, and descriptors of a ring; the latter also later,
 *				after the next reset
 *	config_bytes=N		of the configuration space, what is beyond reads as 0
 *	legacy=1		without VIRTIO_F_VERSION_1
 *	indirect=0		without VIRTIO_RING_F_INDIRECT_DESC
 *	in_order=1		with VIRTIO_F_IN_ORDER, which 6.12 doesn't use
 *
 * or what is done to each of the next requests, -1 being what is right:
 *
 *	times=N			so many of them, then it is right again; 0: all
 *	status=N		the status byte
 *	id=N length=N		in the used ring
 *	id_add=N		to the id
 *	answers=N		so often the answer is in the used ring
 *	index_add=N		to the index of the used ring, after the answer
 *	interrupts=N		for an answer; 0: none
 *	scribble=1		no answer, the used ring is overwritten
 *	delay=N			answered after so many milliseconds
 *	stall=N			not answered until the device was reset N times; -1: ever
 *	undone=1		not done, whatever is answered
 *	silent=1		done, but not answered
 *	next=N			the NEXT flag of all descriptors is set (1) or cleared (0)
 *				when a request comes; to be used with one in flight
 *	type=N queue=N		all of this is for requests of one type, of one queue; -1:
 *				of any
 *
 * or what is done to the driver otherwise:
 *
 *	spurious=N		as many interrupts at once, for nothing
 *	reset=1 start=1		a reset, or what else the status says, is refused
 *	reset=2 start=2		it is not answered
 *	refusals=N		start=1 ends when so many starts were refused; 0: never
 *
 * Changes of the configuration space are announced to the driver. The word "honest=1" is
 * for an end of all tricks with requests.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Of the device; the disk has another one, which is none until there is a driver. */
#define DEVICE_NAME	"hostile"

struct device {
	pid_t pid;
	int socket;
	char disk[32];
	/* Shared with the device: of each sector, whether it waits for a flush. */
	unsigned char *unflushed;
};

__attribute__((format(printf, 2, 3)))
void device_start(struct device *device, const char *fmt, ...);

/*
 * Gives the device to the driver that is loaded, and returns whether that made a disk
 * of it. This and the opposite are given up after so many seconds.
 */
bool device_attach(struct device *device, unsigned int seconds);
bool device_detach(struct device *device, unsigned int seconds);

__attribute__((format(printf, 2, 3)))
void device_tell(struct device *device, const char *fmt, ...);

/*
 * The number of requests of a type that were done ("requests=N") or that came
 * ("seen=N"), or of all that wait ("held"); how many starts there were, the refused
 * ones included ("starts"); whether the device is in use ("ready"); how many sectors of
 * a zone were written ("written=ZONE").
 */
long long device_ask(struct device *device, const char *what);

/*
 * Whether the device has done a flush since it last wrote there. Any process may ask,
 * since no message is exchanged.
 */
bool device_has_flushed(const struct device *device, uint64_t offset, size_t bytes);

/* The device is detached, and goes. */
void device_end(struct device *device);

/* The process ends as it stands; nothing of the above is left to do. */
void device_kill(struct device *device);

#endif
