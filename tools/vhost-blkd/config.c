// SPDX-License-Identifier: GPL-2.0
/* The configuration space and the mode of the write cache: see config.h. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <linux/virtio_blk.h>

#include "config.h"
#include "log.h"
#include "session.h"

/* Header and status take two descriptors. QEMU's rings have 128 by default. */
#define SEG_MAX		(128 - 2)

static int store_cache(struct session *session)
{
	int ret = inflight_store(&session->inflight, session->write_back);

	if (ret)
		return session_fail("the record of what is in flight is not written: %s",
				    strerror(-ret));
	return DONE;
}

/*
 * Set the cache mode. Returns 0, a negative errno of the kernel, or 1 to end the
 * connection.
 *
 * A change to write-through is recorded before it is made. A change to write-back is
 * recorded after it. If this daemon dies in between, the next one uses write-through,
 * which needs no flushes of the driver.
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
 * The mode that the driver relies on can't be used, and the connection ends. The next one must
 * find that mode in the record.
 */
static void keep_choice(struct session *session, bool write_back)
{
	session->write_back = write_back;
	store_cache(session);
}

/*
 * After a reset of the device the cache is write-back again, if the driver reads the
 * configuration anew. QEMU shows the driver its own copy without asking. Then the mode
 * stays.
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

static int read_config(struct session *session, struct virtio_blk_config *config)
{
	int ret = device_get_config(session->device, 0, config, sizeof(*config));

	if (ret)
		return session_fail("the kernel does not give the configuration: %s",
				    strerror(-ret));
	return 0;
}

int config_get(struct session *session, struct message *msg)
{
	struct vhost_user_config *config = &msg->config;
	struct virtio_blk_config all = {};

	if (config->size > VHOST_USER_MAX_CONFIG ||
	    msg->header.size != VHOST_USER_CONFIG_HEADER + config->size)
		return session_fail("GET_CONFIG: %u bytes of configuration in a message of %u",
				    config->size, msg->header.size);
	/* An empty reply means an error. */
	if (config->offset > VHOST_USER_MAX_CONFIG - config->size) {
		msg->header.size = 0;
		return DONE;
	}
	if (session->was_reset && reset_cache(session))
		return CLOSE;
	if (read_config(session, &all))
		return CLOSE;
	if (all.seg_max > SEG_MAX)
		all.seg_max = SEG_MAX;
	memset(config->data, 0, config->size);
	if (config->offset < sizeof(all)) {
		uint32_t there = sizeof(all) - config->offset;

		memcpy(config->data, (uint8_t *)&all + config->offset,
		       there < config->size ? there : config->size);
	}
	if (!config->offset && config->size >= sizeof(all.capacity))
		session->told_capacity = all.capacity;
	session->cache_agreed = true;
	return DONE;
}

/* The cache mode is the only field that a driver can write. */
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
		/* A device without a cache is no failure. */
		if (ret != -EOPNOTSUPP && session_may_print(session, NOTE_CACHE_FAILED))
			say("the mode of the write cache does not change: %s",
			    strerror(-ret));
		return REFUSED;
	}
	session->cache_known = true;
	session->cache_agreed = true;
	return DONE;
}

/*
 * Make sure that the cache mode is the one that the driver relies on.
 *
 * If the ring was in use before, the driver may have chosen a mode with an earlier
 * daemon. If this daemon has not told the front end the configuration, the driver relies
 * on what an earlier one told. In both cases the mode is not known. Use write-through,
 * which is always safe, but slow.
 */
int config_settle_cache(struct session *session, const struct ring *ring)
{
	uint64_t protocol = session->protocol_features;
	bool disagreed = protocol & VHOST_USER_PROTOCOL_F_CONFIG &&
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
	if (ret < 0) {
		keep_choice(session, false);
		return session_fail("the kernel does not write through: %s",
				    strerror(-ret));
	}
	if (ret)
		return CLOSE;
	if (session_may_print(session, NOTE_CACHE_UNKNOWN))
		say("the driver's choice of the write cache is not known: write-through until it chooses again");
	/* QEMU does not pass on a choice that equals its own copy. So let it read again. */
	session->config_pending = true;
	return 0;
}

/* Use the cache mode that an earlier daemon has recorded. */
int config_adopt_record(struct session *session)
{
	bool write_back;
	int ret;

	if (!inflight_load(&session->inflight, &write_back))
		return session->cache_known ? store_cache(session) : DONE;
	session->cache_known = true;
	session->cache_agreed = true;
	ret = use_write_back(session, write_back);
	if (ret < 0 && ret != -EOPNOTSUPP) {
		keep_choice(session, write_back);
		return session_fail("the mode of the write cache does not change: %s",
				    strerror(-ret));
	}
	return ret > 0 ? CLOSE : DONE;
}

/*
 * QEMU reads the configuration when it makes the device, and not when it connects again. It
 * ignores a message about a device that is not started. When a ring starts, the device is.
 */
int config_check_capacity(struct session *session)
{
	struct virtio_blk_config config = {};

	if (read_config(session, &config))
		return CLOSE;
	if (config.capacity != session->told_capacity)
		session->config_pending = true;
	return 0;
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
	iotlb_ask_again(&session->iotlb);
	/* The kernel has not signalled earlier changes. */
	return ring_any_runs(session) && config_check_capacity(session) ? CLOSE : DONE;
}

static bool takes_config_changes(const struct session *session)
{
	const uint64_t needed = VHOST_USER_PROTOCOL_F_BACKEND_REQ |
				VHOST_USER_PROTOCOL_F_CONFIG;

	return session->backend_fd >= 0 &&
	       (session->protocol_features & needed) == needed;
}

/*
 * The front end has closed its end of the back-end channel. Without a virtual IOMMU the
 * rings need no channel. To end the connection would not help: the front end would connect
 * again, and its rings would start again.
 */
static bool lose_backend_fd(struct session *session, int error)
{
	if (iotlb_is_used(session)) {
		session_fail("the front end's socket for requests of the back end: %s",
			     strerror(error));
		return false;
	}
	if (session_may_print(session, NOTE_NOT_TOLD))
		say("the front end is not told of a new configuration: %s",
		    strerror(error));
	close(session->backend_fd);
	session->backend_fd = -1;
	return true;
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
	if (!takes_config_changes(session))
		return true;
	ret = message_send(session->backend_fd, &msg);
	session->config_pending = ret == -EAGAIN;
	return !ret || ret == -EAGAIN || lose_backend_fd(session, -ret);
}
