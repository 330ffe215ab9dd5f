// SPDX-License-Identifier: GPL-2.0
/* Translations of a virtual IOMMU: see iotlb.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/virtio_config.h>

#include "iotlb.h"
#include "log.h"
#include "session.h"

/* The kernel's default for max_iotlb_entries, used if the parameter is unreadable. */
#define DEFAULT_MAX	2048

/*
 * The translations of rings may take 1 / RING_SHARE of the kernel's table. They are sent to
 * the kernel again after updates for 1 / UPDATE_SHARE of the table. Both together are less
 * than the table, so the kernel never drops a ring's translation.
 */
#define RING_SHARE	4
#define UPDATE_SHARE	2

void iotlb_init(struct iotlb *iotlb)
{
	*iotlb = (struct iotlb){
		.max = vhost_parameter("max_iotlb_entries", DEFAULT_MAX),
	};
	receiver_init(&iotlb->reply);
}

bool iotlb_is_used(const struct session *session)
{
	return session->features & BIT(VIRTIO_F_ACCESS_PLATFORM);
}

void iotlb_forget(struct iotlb *iotlb)
{
	free(iotlb->rings);
	iotlb->rings = NULL;
	iotlb->num = 0;
	iotlb->updates = 0;
}

static uint64_t last_byte(const struct vhost_iotlb_msg *msg)
{
	return msg->iova + (msg->size - 1);
}

/* Rings */

/* Whether a part of @area has no translation. Sets @missing to its first address. */
static bool lacks_area(const struct iotlb *iotlb, const struct ring_area *area,
		       uint64_t *missing)
{
	uint64_t at = area->start, last = area->start + (area->size - 1);
	unsigned int i = 0;

	while (i < iotlb->num) {
		const struct vhost_iotlb_msg *known = &iotlb->rings[i++];

		if (at < known->iova || at > last_byte(known) ||
		    (known->perm & area->access) != area->access)
			continue;
		if (last_byte(known) >= last)
			return false;
		at = last_byte(known) + 1;
		i = 0;
	}
	*missing = at;
	return true;
}

/* Whether a part of @ring has no translation. Sets @question to a miss for it. */
static bool lacks_ring(const struct iotlb *iotlb, const struct ring *ring,
		       struct vhost_iotlb_msg *question)
{
	struct ring_area areas[RING_AREAS];
	unsigned int i;

	ring_get_areas(ring, areas);
	for (i = 0; i < RING_AREAS; i++) {
		uint64_t missing;

		if (!lacks_area(iotlb, &areas[i], &missing))
			continue;
		*question = (struct vhost_iotlb_msg){
			.iova = missing,
			.perm = areas[i].access,
			.type = VHOST_IOTLB_MISS,
		};
		return true;
	}
	return false;
}

bool iotlb_has_ring(const struct iotlb *iotlb, const struct ring *ring)
{
	struct vhost_iotlb_msg question;

	return !lacks_ring(iotlb, ring, &question);
}

static bool is_of_a_ring(const struct session *session,
			 const struct vhost_iotlb_msg *msg)
{
	struct ring_area areas[RING_AREAS];
	unsigned int i, area;

	for (i = 0; i < session->num_rings; i++) {
		if (!session->rings[i].has_addr || !session->rings[i].num)
			continue;
		ring_get_areas(&session->rings[i], areas);
		for (area = 0; area < RING_AREAS; area++)
			if (areas[area].start <= last_byte(msg) &&
			    msg->iova <= areas[area].start +
					 (areas[area].size - 1))
				return true;
	}
	return false;
}

/* Find a translation of the same range: a front end may send one again. */
static struct vhost_iotlb_msg *find_same(const struct iotlb *iotlb,
					 const struct vhost_iotlb_msg *msg)
{
	unsigned int i;

	for (i = 0; i < iotlb->num; i++)
		if (iotlb->rings[i].iova == msg->iova &&
		    iotlb->rings[i].size == msg->size)
			return &iotlb->rings[i];
	return NULL;
}

/* Returns 0, or -1 to end the connection. */
static int remember(struct iotlb *iotlb, const struct vhost_iotlb_msg *msg)
{
	struct vhost_iotlb_msg *same = find_same(iotlb, msg), *rings;

	if (same) {
		*same = *msg;
		return 0;
	}
	if (iotlb->num >= iotlb->max / RING_SHARE)
		return session_fail("the rings are in more pieces than the kernel keeps translations for (max_iotlb_entries of the module vhost)");
	rings = reallocarray(iotlb->rings, iotlb->num + 1, sizeof(*rings));
	if (!rings)
		return session_fail("no memory for a translation");
	iotlb->rings = rings;
	rings[iotlb->num++] = *msg;
	return 0;
}

static void forget_range(struct iotlb *iotlb, const struct vhost_iotlb_msg *msg)
{
	unsigned int i = 0;

	while (i < iotlb->num) {
		struct vhost_iotlb_msg *known = &iotlb->rings[i];

		if (known->iova <= last_byte(msg) &&
		    msg->iova <= last_byte(known))
			*known = iotlb->rings[--iotlb->num];
		else
			i++;
	}
}

/* Messages of the front end */

static int send_update(struct session *session,
		       const struct vhost_iotlb_msg *msg)
{
	int ret = device_send_iotlb(session->device, msg);

	if (ret)
		return session_fail("the kernel refuses a translation: %s",
				    strerror(-ret));
	return 0;
}

static int repeat_rings(struct session *session)
{
	struct iotlb *iotlb = &session->iotlb;
	unsigned int i;
	int ret = 0;

	iotlb->updates = 0;
	for (i = 0; i < iotlb->num && !ret; i++)
		ret = send_update(session, &iotlb->rings[i]);
	return ret;
}

/* A translation to an address outside guest memory is refused. The connection goes on. */
static int update(struct session *session, const struct vhost_iotlb_msg *msg)
{
	struct iotlb *iotlb = &session->iotlb;
	struct vhost_iotlb_msg own = *msg;

	own.uaddr = memory_translate(&session->memory, msg->uaddr, msg->size);
	if (!own.uaddr || msg->perm & ~VHOST_ACCESS_RW)
		return REFUSED;
	if (is_of_a_ring(session, &own) && remember(iotlb, &own))
		return CLOSE;
	if (send_update(session, &own))
		return CLOSE;
	if (++iotlb->updates > iotlb->max / UPDATE_SHARE &&
	    repeat_rings(session))
		return CLOSE;
	return ring_update_all(session);
}

/*
 * The kernel returns when the device does not use the range any more. It waits for requests
 * in flight, as long as the disk needs.
 */
static int invalidate(struct session *session, const struct vhost_iotlb_msg *msg)
{
	int ret = device_send_iotlb(session->device, msg);

	if (ret)
		return session_fail("the kernel keeps a translation: %s",
				    strerror(-ret));
	forget_range(&session->iotlb, msg);
	return DONE;
}

int iotlb_handle(struct session *session, struct message *msg)
{
	const struct vhost_iotlb_msg *iotlb = &msg->iotlb;

	if (!iotlb_is_used(session) || !iotlb->size ||
	    last_byte(iotlb) < iotlb->iova)
		return REFUSED;
	switch (iotlb->type) {
	case VHOST_IOTLB_UPDATE:
		return update(session, iotlb);
	case VHOST_IOTLB_INVALIDATE:
		return invalidate(session, iotlb);
	default:
		return REFUSED;
	}
}

/* Questions */

bool iotlb_wants_misses(const struct session *session)
{
	return iotlb_is_used(session) && session->backend_fd >= 0 &&
	       session->iotlb.state == NO_QUESTION && ring_any_runs(session);
}

/* Look for a miss of a ring that waits to start, then for one of the kernel. */
static bool find_question(struct session *session)
{
	struct iotlb *iotlb = &session->iotlb;
	unsigned int i;

	for (i = 0; i < session->num_rings; i++) {
		struct ring *ring = &session->rings[i];

		if (!ring->asks)
			continue;
		ring->asks = false;
		if (lacks_ring(iotlb, ring, &iotlb->question))
			return true;
	}
	return ring_any_runs(session) &&
	       device_read_miss(session->device, &iotlb->question);
}

bool iotlb_ask(struct session *session)
{
	struct iotlb *iotlb = &session->iotlb;
	struct message msg = {
		.header = {
			.request = VHOST_USER_BACKEND_IOTLB_MSG,
			.flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
			.size = sizeof(msg.iotlb),
		},
		.reply_fd = -1,
	};
	int ret;

	if (!iotlb_is_used(session) || session->backend_fd < 0 ||
	    iotlb->state == ASKED)
		return true;
	if (iotlb->state == NO_QUESTION && !find_question(session))
		return true;
	msg.iotlb = iotlb->question;
	ret = message_send(session->backend_fd, &msg);
	iotlb->state = ret ? UNASKED : ASKED;
	if (ret && ret != -EAGAIN)
		session_fail("the front end's socket for requests of the back end: %s",
			     strerror(-ret));
	return !ret || ret == -EAGAIN;
}

void iotlb_ask_again(struct iotlb *iotlb)
{
	if (iotlb->state == ASKED)
		iotlb->state = UNASKED;
	message_close_fds(&iotlb->reply.msg);
	receiver_init(&iotlb->reply);
}

static bool is_reply(const struct message *msg)
{
	const struct vhost_user_header *header = &msg->header;

	return header->request == VHOST_USER_BACKEND_IOTLB_MSG &&
	       header->flags == (VHOST_USER_VERSION | VHOST_USER_REPLY) &&
	       header->size == sizeof(msg->u64);
}

/*
 * The value of the reply is not used. Without a translation, the ring or the kernel asks
 * again after the next update.
 */
bool iotlb_take_reply(struct session *session)
{
	struct iotlb *iotlb = &session->iotlb;

	for (;;) {
		switch (receiver_read(&iotlb->reply, session->backend_fd)) {
		case RECEIVED_PART:
			return true;
		case RECEIVED_HEADER:
			if (is_reply(&iotlb->reply.msg))
				continue;
			session_fail("the front end replies to no question");
			return false;
		case RECEIVED_ALL:
			message_close_fds(&iotlb->reply.msg);
			receiver_init(&iotlb->reply);
			iotlb->state = NO_QUESTION;
			return true;
		default:
			session_fail("the front end has closed its socket for requests of the back end");
			return false;
		}
	}
}
