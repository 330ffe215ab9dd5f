/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest behind a virtual IOMMU (VIRTIO_F_ACCESS_PLATFORM). The kernel translates the
 * guest's addresses by a table, its IOTLB, and asks for what the table lacks. The front
 * end answers, by addresses of its own, which become those of this process here.
 *
 * One question is with the front end at a time. It handles none while it waits for an
 * answer to a message, so that no message may wait for a translation: a ring starts when
 * the front end has told where all of it is.
 *
 * The kernel's table has a limit, at which the oldest translation makes room for a new
 * one. Those of rings are repeated before that: a ring that is stopped has to be answered
 * in.
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
	UNASKED,	/* the front end does not read */
	ASKED,		/* and has not replied */
};

/**
 * struct iotlb - what the front end has told, and is asked
 * @max: translations that the kernel keeps
 * @rings: those of rings, with addresses of this process
 * @num: how many they are
 * @updates: translations that the kernel got since it got those of @rings
 * @state: of @question
 * @question: a miss
 * @reply: to the question, as it arrives
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
/* The kernel has forgotten all translations. */
void iotlb_forget(struct iotlb *iotlb);

/* The message IOTLB_MSG. An enum outcome. */
int iotlb_handle(struct session *session, struct message *msg);

/* Whether the next question is to be looked for when the kernel has one. */
bool iotlb_wants_misses(const struct session *session);
/* False if the connection has to end. */
bool iotlb_ask(struct session *session);
bool iotlb_take_reply(struct session *session);
/* The front end has given another socket for requests of the back end. */
void iotlb_ask_again(struct iotlb *iotlb);

#endif
