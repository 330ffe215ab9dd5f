// SPDX-License-Identifier: GPL-2.0
/*
 * The configuration space, and the one byte of it that a driver writes: the mode of the
 * write cache. See config.h.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <linux/virtio_blk.h>

#include "config.h"
#include "log.h"
#include "session.h"

/* A ring of 128 descriptors, as QEMU makes them, less header and status. */
#define SEG_MAX		(128 - 2)

static int store_cache(struct session *session)
{
	int ret = inflight_store(&session->inflight, session->write_back);

	if (ret)
		return session_fail("the record of what is in flight cannot be written: %s",
				    strerror(-ret));
	return DONE;
}

/*
 * 0 or a negative errno of the kernel, or 1 if the connection has to end. The record says
 * write-through from before it holds: a daemon that is started again must not believe in
 * flushes that do not come.
 */
static int use_write_back(struct session *session, bool write_back)
{
	bool old = session->write_back;
	int ret;

	session->write_back = write_back && old;
	if (store_cache(session))
		return 1;
	ret = device_set_write_back(session->device, write_back);
	session->write_back = ret ? old : write_back;
	return store_cache(session) ? 1 : ret;
}

/*
 * A reset makes the cache write-back for a driver that learns it. QEMU does not ask again:
 * it shows the driver what it has read or set last, and so the cache stays as it is.
 */
static int reset_cache(struct session *session)
{
	int ret;

	session->was_reset = false;
	if (session->write_back)
		return 0;
	ret = use_write_back(session, true);
	if (ret < 0)
		return session_fail("the mode of the write cache does not change: %s",
				    strerror(-ret));
	return ret ? CLOSE : 0;
}

int config_get(struct session *session, struct message *msg)
{
	struct vhost_user_config *config = &msg->config;
	struct virtio_blk_config all = {};
	int ret;

	if (config->size > VHOST_USER_MAX_CONFIG ||
	    msg->header.size != VHOST_USER_CONFIG_HEADER + config->size)
		return session_fail("GET_CONFIG: %u bytes of configuration in a message of %u",
				    config->size, msg->header.size);
	/* An empty answer is an error. */
	if (config->offset > VHOST_USER_MAX_CONFIG - config->size) {
		msg->header.size = 0;
		return DONE;
	}
	if (session->was_reset && reset_cache(session))
		return CLOSE;
	ret = device_get_config(session->device, 0, &all, sizeof(all));
	if (ret)
		return session_fail("the kernel does not give the configuration: %s",
				    strerror(-ret));
	if (all.seg_max > SEG_MAX)
		all.seg_max = SEG_MAX;
	memset(config->data, 0, config->size);
	if (config->offset < sizeof(all)) {
		uint32_t there = sizeof(all) - config->offset;

		memcpy(config->data, (uint8_t *)&all + config->offset,
		       there < config->size ? there : config->size);
	}
	session->cache_agreed = true;
	return DONE;
}

/* Of all that a driver may write, the mode of the cache alone means something. */
int config_set(struct session *session, struct message *msg)
{
	const struct vhost_user_config *config = &msg->config;
	const uint32_t at = offsetof(struct virtio_blk_config, wce);
	int ret;

	if (config->size > VHOST_USER_MAX_CONFIG ||
	    msg->header.size != VHOST_USER_CONFIG_HEADER + config->size)
		return session_fail("SET_CONFIG: %u bytes of configuration in a message of %u",
				    config->size, msg->header.size);
	if (config->offset > at || at - config->offset >= config->size)
		return REFUSED;
	ret = use_write_back(session, config->data[at - config->offset]);
	if (ret > 0)
		return CLOSE;
	if (ret) {
		/* A driver may try as often as it likes, also where there is no cache. */
		if (ret != -EOPNOTSUPP && !session->cache_failed)
			say("the mode of the write cache does not change: %s",
			    strerror(-ret));
		session->cache_failed = true;
		return REFUSED;
	}
	session->cache_known = true;
	session->cache_agreed = true;
	return DONE;
}

/*
 * A driver that may choose has done so in an earlier life of this disk, if the ring has
 * been in use. It goes by what an earlier daemon has told the front end, if this one has
 * not told it anything. It may rely on write-through then: that is right in any case,
 * though slow.
 */
int config_settle_cache(struct session *session, const struct ring *ring)
{
	uint64_t protocol = session->protocol_features;
	bool disagreed = protocol & BIT(VHOST_USER_PROTOCOL_F_CONFIG) &&
			 !session->cache_agreed;
	int ret;

	session->was_reset = false;
	if (session->cache_known || ring->ran ||
	    !(session->features & BIT(VIRTIO_BLK_F_CONFIG_WCE)))
		return 0;
	if (!ring->base && !disagreed)
		return store_cache(session);
	session->cache_known = true;
	if (!session->write_back)
		return 0;
	ret = use_write_back(session, false);
	if (ret < 0)
		return session_fail("the kernel does not write through: %s",
				    strerror(-ret));
	if (ret)
		return CLOSE;
	say("the driver's choice of the write cache is not known: write-through until it chooses again");
	/* QEMU does not pass on a choice that it takes for the present one. */
	session->config_pending = true;
	return 0;
}

/* What an earlier daemon has written down, for this one to go on with. */
int config_adopt_record(struct session *session)
{
	bool write_back;
	int ret;

	if (!inflight_load(&session->inflight, &write_back))
		return session->cache_known ? store_cache(session) : DONE;
	session->cache_known = true;
	session->cache_agreed = true;
	ret = use_write_back(session, write_back);
	if (ret < 0 && ret != -EOPNOTSUPP)
		return session_fail("the mode of the write cache does not change: %s",
				    strerror(-ret));
	return ret > 0 ? CLOSE : DONE;
}

int config_set_backend_fd(struct session *session, struct message *msg)
{
	int ret = device_watch_config(session->device, true);

	if (ret)
		return session_fail("the kernel does not tell of a new configuration: %s",
				    strerror(-ret));
	if (session->backend_fd >= 0)
		close(session->backend_fd);
	session->backend_fd = message_take_fd(msg, 0);
	return DONE;
}

bool config_tell_front_end(struct session *session)
{
	struct message msg = {
		.header = {
			.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
			.flags = VHOST_USER_VERSION,
		},
		.reply_fd = -1,
	};
	int ret;

	session->config_pending = false;
	if (session->backend_fd < 0 ||
	    !(session->protocol_features & BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
		return true;
	ret = message_send(session->backend_fd, &msg);
	if (ret == -EAGAIN)
		session->config_pending = true;
	else if (ret)
		session_fail("the front end's socket for requests of the back end: %s",
			     strerror(-ret));
	return !ret || ret == -EAGAIN;
}
