/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest behind a virtual IOMMU (VIRTIO_F_ACCESS_PLATFORM). The kernel translates the
 * guest's addresses by its IOTLB. If the IOTLB lacks a translation, the kernel reports a
 * miss. The daemon sends the miss to the front end. The front end replies with addresses in
 * its own address space. The daemon translates these to its own addresses for the kernel.
 *
 * At most one miss is with the front end. The front end handles no miss while it waits for
 * the reply to a message. Therefore no message may wait for a translation: a ring starts
 * once all of it has translations.
 *
 * The IOTLB has a limit. At the limit the kernel drops the oldest translation for a new one.
 * The daemon sends those of rings again before that, because a stop writes used elements.
 */
#ifndef VHOST_BLKD_IOTLB_H
#define VHOST_BLKD_IOTLB_H

#include <stdbool.h>
#include <linux/vhost_types.h>

#include "transport.h"

struct ring;
struct session;

enum question {
	NO_QUESTION,
	UNASKED,	/* not sent yet: the front end does not read */
	ASKED,		/* sent, without a reply */
};

/**
 * struct iotlb - translations of rings, and the miss that the front end gets
 * @max: number of translations that the kernel keeps
 * @rings: translations of rings, with addresses of this process
 * @num: number of elements of @rings
 * @updates: number of translations that the kernel got since it got @rings
 * @state: state of @question
 * @question: the miss
 * @reply: the part of the reply that has been received
 */
struct iotlb {
	unsigned int max;
	struct vhost_iotlb_msg *rings;
	unsigned int num;
	unsigned int updates;
	enum question state;
	struct vhost_iotlb_msg question;
	struct receiver reply;
};

void iotlb_init(struct iotlb *iotlb);
bool iotlb_is_used(const struct session *session);
bool iotlb_has_ring(const struct iotlb *iotlb, const struct ring *ring);
/* Drop all translations: the kernel has dropped them. */
void iotlb_forget(struct iotlb *iotlb);

/* Handle the message IOTLB_MSG. Returns an enum outcome. */
int iotlb_handle(struct session *session, struct message *msg);

/* Whether to read the next miss of the kernel. */
bool iotlb_wants_misses(const struct session *session);
/* Both return false to end the connection. */
bool iotlb_ask(struct session *session);
bool iotlb_take_reply(struct session *session);
/* Send the miss again: the front end has set another socket for back-end requests. */
void iotlb_ask_again(struct iotlb *iotlb);

#endif
