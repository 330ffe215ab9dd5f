// SPDX-License-Identifier: GPL-2.0
/*
 * The messages of a connection: see session.h. The table requests[] has the handler, the
 * payload sizes and the number of descriptors of each message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <linux/virtio_config.h>

#include "config.h"
#include "log.h"
#include "session.h"

#define PROTOCOL_FEATURES (VHOST_USER_PROTOCOL_F_MQ | \
			   VHOST_USER_PROTOCOL_F_LOG_SHMFD | \
			   VHOST_USER_PROTOCOL_F_REPLY_ACK | \
			   VHOST_USER_PROTOCOL_F_BACKEND_REQ | \
			   VHOST_USER_PROTOCOL_F_CONFIG | \
			   VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | \
			   VHOST_USER_PROTOCOL_F_RESET_DEVICE | \
			   VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | \
			   VHOST_USER_PROTOCOL_F_STATUS)

/*
 * The protocol features that a virtual IOMMU needs: IOTLB misses are sent over the back-end
 * channel, and the front end waits for the acknowledgment of an invalidation.
 */
#define IOMMU_FEATURES	(VHOST_USER_PROTOCOL_F_BACKEND_REQ | \
			 VHOST_USER_PROTOCOL_F_REPLY_ACK)

/* The kernel's default for max_mem_regions, used if the parameter is unreadable. */
#define DEFAULT_MAX_REGIONS	64

/* How many headers and payloads to read before the caller checks for signals again. */
#define MAX_STEPS	64

int session_fail(const char *format, ...)
{
	char reason[512];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	say("the connection is closed: %s", reason);
	return CLOSE;
}

bool session_may_print(struct session *session, enum note note)
{
	if (session->notes & note)
		return false;
	session->notes |= note;
	return true;
}

bool session_wait(const struct session *session, int timeout_ms)
{
	struct pollfd ends[] = {
		{ .fd = session->stop_fd, .events = POLLIN },
		{ .fd = session->fd, .events = POLLRDHUP },
	};

	return !poll(ends, 2, timeout_ms);
}

/* Features */

static uint64_t offered_features(const struct session *session)
{
	uint64_t features = session->device->features;

	if ((session->protocol_features & IOMMU_FEATURES) != IOMMU_FEATURES)
		features &= ~BIT(VIRTIO_F_ACCESS_PLATFORM);
	return features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static int get_features(struct session *session, struct message *msg)
{
	msg->u64 = offered_features(session);
	return DONE;
}

static int enable_all_rings(struct session *session)
{
	unsigned int i;

	for (i = 0; i < session->num_rings; i++)
		session->rings[i].enabled = true;
	return ring_update_all(session);
}

static int set_features(struct session *session, struct message *msg)
{
	uint64_t features = msg->u64;
	int ret;

	if (features & ~offered_features(session))
		return session_fail("features 0x%llx are not offered",
				    (unsigned long long)
				    (features & ~offered_features(session)));
	session->features = features;
	if (ring_any_runs(session) && ring_check_log(session))
		return CLOSE;
	ret = device_set_features(session->device, features);
	if (ret == -EBUSY)
		return session_fail("features change while rings run");
	if (ret)
		return session_fail("the kernel refuses the features: %s",
				    strerror(-ret));
	/* The kernel has dropped its translations. Rings that wait to start send misses again. */
	if (!ring_any_runs(session))
		iotlb_forget(&session->iotlb);
	if (!(features & BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
		return enable_all_rings(session);
	return ring_update_all(session);
}

static int get_protocol_features(struct session *session, struct message *msg)
{
	(void)session;
	msg->u64 = PROTOCOL_FEATURES;
	return DONE;
}

static int set_protocol_features(struct session *session, struct message *msg)
{
	if (msg->u64 & ~PROTOCOL_FEATURES)
		return session_fail("protocol features 0x%llx are not offered",
				    (unsigned long long)
				    (msg->u64 & ~PROTOCOL_FEATURES));
	session->protocol_features = msg->u64;
	return DONE;
}

static int get_queue_num(struct session *session, struct message *msg)
{
	msg->u64 = session->num_rings;
	return DONE;
}

/* The device was acquired when the connection began. */
static int set_owner(struct session *session, struct message *msg)
{
	(void)session;
	(void)msg;
	return DONE;
}

/* Memory */

/* What to do if memory can't be pinned; the other errors speak for themselves. */
static const char *memory_advice(const struct session *session, int error)
{
	if (!session->device->options->pin_memory)
		return "";
	switch (error) {
	case ENOMEM:
		return ": --pin-memory needs a limit of locked memory (ulimit -l) above the guest's memory";
	case EOPNOTSUPP:
		return ": --pin-memory needs guest memory in a memfd, or in a file of tmpfs or hugetlbfs";
	default:
		return "";
	}
}

/* Set the kernel's memory table. On return no request uses the old table. */
static int update_memory(struct session *session)
{
	int ret = device_set_memory(session->device, &session->memory);

	if (ret)
		return session_fail("the kernel refuses the memory table: %s%s",
				    strerror(-ret), memory_advice(session, -ret));
	return DONE;
}

/* Replaces the whole table. All memory gets new addresses, so none of it stays pinned. */
static int replace_memory(struct session *session)
{
	const struct memory none = {};
	int ret = 0;

	/* The old memory is not to count against the limit while the new one is pinned. */
	if (session->device->options->pin_memory)
		ret = device_set_memory(session->device, &none);
	if (ret)
		return session_fail("the kernel keeps the memory table: %s", strerror(-ret));
	return update_memory(session);
}

/* Drop all translations, in the kernel too, because memory is removed. Rings are stopped. */
static int drop_translations(struct session *session)
{
	int ret = 0;

	if (iotlb_is_used(session))
		ret = device_set_features(session->device, session->features);
	if (ret)
		return session_fail("the kernel keeps translations: %s",
				    strerror(-ret));
	iotlb_forget(&session->iotlb);
	return DONE;
}

static int add_region(struct session *session,
		      const struct vhost_user_region *region, int fd)
{
	int ret = memory_add(&session->memory, region, fd);
	const char *reason;

	switch (ret) {
	case 0:
		return DONE;
	case -EINVAL:
		reason = "its addresses make no sense";
		break;
	case -EEXIST:
		reason = "it overlaps another one";
		break;
	case -E2BIG:
		reason = "there are too many (max_mem_regions of the module vhost)";
		break;
	default:
		reason = strerror(-ret);
	}
	return session_fail("memory region 0x%llx of 0x%llx bytes: %s",
			    (unsigned long long)region->guest_addr,
			    (unsigned long long)region->size, reason);
}

/*
 * Stop all rings while the front end replaces regions. Between two of its messages, memory
 * that the guest uses may have no region. No message marks the end of the changes: the
 * rings go on at the first message that does not change memory, or after a while without a
 * message.
 */
static int pause_rings(struct session *session)
{
	session->paused = true;
	return ring_stop_all(session);
}

bool session_resume(struct session *session)
{
	session->paused = false;
	return !ring_update_all(session);
}

static int set_mem_table(struct session *session, struct message *msg)
{
	struct vhost_user_memory *table = &msg->memory;
	struct memory old = session->memory;
	unsigned int i;
	int ret;

	if (table->num > VHOST_USER_MAX_REGIONS || table->num != msg->num_fds ||
	    msg->header.size != offsetof(struct vhost_user_memory,
					 regions[table->num]))
		return session_fail("SET_MEM_TABLE: %u regions in %u bytes with %u descriptors",
				    table->num, msg->header.size, msg->num_fds);
	if (pause_rings(session))
		return CLOSE;
	session->memory = (struct memory){ .max = old.max };
	for (i = 0, ret = 0; i < table->num && !ret; i++)
		ret = add_region(session, &table->regions[i], msg->fds[i]);
	if (!ret)
		ret = replace_memory(session);
	if (!ret)
		ret = drop_translations(session);
	memory_clear(&old);
	if (!ret && !session_resume(session))
		ret = CLOSE;
	return ret;
}

static int get_max_mem_slots(struct session *session, struct message *msg)
{
	msg->u64 = session->memory.max;
	return DONE;
}

static int add_mem_reg(struct session *session, struct message *msg)
{
	if (add_region(session, &msg->mem_reg.region, msg->fds[0]))
		return CLOSE;
	if (ring_any_runs(session) && ring_check_log(session))
		return CLOSE;
	return update_memory(session);
}

static int rem_mem_reg(struct session *session, struct message *msg)
{
	const struct vhost_user_region *region = &msg->mem_reg.region;
	struct memory *memory = &session->memory;
	struct region removed;
	int index = memory_find(memory, region);

	if (index < 0)
		return session_fail("memory region 0x%llx of 0x%llx bytes is not there to be removed",
				    (unsigned long long)region->guest_addr,
				    (unsigned long long)region->size);
	if (pause_rings(session))
		return CLOSE;
	/* Move the region to the end. The kernel's table has to be without it before the unmap. */
	removed = memory->regions[index];
	memory->regions[index] = memory->regions[memory->num - 1];
	memory->regions[--memory->num] = removed;
	if (update_memory(session) || drop_translations(session)) {
		memory->num++;
		return CLOSE;
	}
	mapping_remove(&removed.mapping);
	return DONE;
}

/* The dirty log */

static int set_log_base(struct session *session, struct message *msg)
{
	struct vhost_user_log log = msg->log;
	struct mapping mapping, old = session->log;
	uint64_t base;
	int ret;

	ret = mapping_create(&mapping, msg->fds[0], log.offset, log.size);
	if (ret)
		return session_fail("the dirty log of 0x%llx bytes: %s",
				    (unsigned long long)log.size,
				    strerror(-ret));
	session->log = mapping;
	session->log_bytes = log.size;
	base = (uintptr_t)mapping.data;
	ret = ring_any_runs(session) ? ring_check_log(session) : 0;
	if (!ret) {
		ret = device_ioctl(session->device, VHOST_SET_LOG_BASE, &base);
		/* Setting the table waits for requests in flight. They used the old log. */
		if (!ret)
			ret = device_set_memory(session->device,
						&session->memory);
		if (ret)
			session_fail("the kernel refuses the dirty log: %s",
				     strerror(-ret));
	}
	/* After an error the kernel may use either log. Stop the rings before the unmap. */
	if (ret)
		ring_stop_all(session);
	mapping_remove(&old);
	msg->u64 = 0;
	return ret ? CLOSE : DONE;
}

static int set_log_fd(struct session *session, struct message *msg)
{
	int ret = device_ioctl(session->device, VHOST_SET_LOG_FD, &msg->fds[0]);

	if (ret)
		return session_fail("the eventfd of the dirty log: %s",
				    strerror(-ret));
	return DONE;
}

/* Rings */

static int check_index(const struct session *session, unsigned int index)
{
	if (index >= session->num_rings)
		return session_fail("ring %u: there are %u", index,
				    session->num_rings);
	return 0;
}

/* The size and the base of a ring can't change while it runs. */
static int check_stopped(const struct session *session, unsigned int index)
{
	if (check_index(session, index))
		return CLOSE;
	if (session->rings[index].running)
		return session_fail("ring %u: it runs, and is set up anew",
				    index);
	return 0;
}

static int set_vring_num(struct session *session, struct message *msg)
{
	const struct vhost_vring_state *state = &msg->state;

	if (check_stopped(session, state->index))
		return CLOSE;
	if (!state->num || state->num > VHOST_BLK_MAX_RING ||
	    state->num & (state->num - 1))
		return session_fail("ring %u: %u descriptors, has to be a power of two up to %u",
				    state->index, state->num,
				    VHOST_BLK_MAX_RING);
	session->rings[state->index].num = state->num;
	return ring_update(session, state->index);
}

static int set_vring_addr(struct session *session, struct message *msg)
{
	struct vhost_vring_addr addr = msg->addr;

	if (check_index(session, addr.index))
		return CLOSE;
	return ring_set_addr(session, &addr);
}

static int set_vring_base(struct session *session, struct message *msg)
{
	const struct vhost_vring_state *state = &msg->state;

	if (check_stopped(session, state->index))
		return CLOSE;
	if (state->num > UINT16_MAX)
		return session_fail("ring %u: base %u is more than 16 bits",
				    state->index, state->num);
	session->rings[state->index].base = state->num;
	/*
	 * The driver uses the ring already. It has learned of the disk before a migration or a
	 * restore, whatever this front end has read.
	 */
	if (state->num && !session->rings[state->index].ran)
		session->told_capacity = UNKNOWN_CAPACITY;
	return DONE;
}

/* Remove the kick eventfd from the kernel. The next SET_VRING_KICK starts the ring again. */
static int forget_kick(struct session *session, unsigned int index)
{
	int ret = device_set_ring_fd(session->device, VHOST_SET_VRING_KICK,
				     index, -1);

	session->rings[index].kick = false;
	if (ret)
		return session_fail("ring %u: the kernel keeps its eventfd: %s",
				    index, strerror(-ret));
	return DONE;
}

/*
 * Stop a ring for the front end. With the last ring the guest has stopped, and its memory may be
 * saved. The saved guest may take answered writes for durable. So flush the disk's write cache.
 */
static int stop_ring(struct session *session, unsigned int index)
{
	bool ran = session->rings[index].running;
	int ret;

	if (ring_stop(session, index))
		return CLOSE;
	if (!ran || ring_any_runs(session))
		return DONE;
	ret = device_flush(session->device);
	if (ret)
		return session_fail("the disk's write cache is not flushed: %s",
				    strerror(-ret));
	return DONE;
}

static int get_vring_base(struct session *session, struct message *msg)
{
	unsigned int index = msg->state.index;

	if (check_index(session, index) || stop_ring(session, index) ||
	    forget_kick(session, index))
		return CLOSE;
	msg->state.num = session->rings[index].base;
	return DONE;
}

/* Pass the eventfd of SET_VRING_KICK, CALL or ERR to the kernel. */
static int set_vring_fd(struct session *session, struct message *msg,
			unsigned long request)
{
	unsigned int index = msg->u64 & VHOST_USER_VRING_INDEX_MASK;
	bool none = msg->u64 & VHOST_USER_VRING_NO_FD;
	int ret;

	if (check_index(session, index))
		return CLOSE;
	if (none != !msg->num_fds)
		return session_fail("ring %u: an eventfd is missing, or one too many",
				    index);
	ret = device_set_ring_fd(session->device, request, index,
				 none ? -1 : msg->fds[0]);
	if (ret)
		return session_fail("ring %u: the kernel refuses an eventfd: %s",
				    index, strerror(-ret));
	return DONE;
}

static int set_vring_kick(struct session *session, struct message *msg)
{
	unsigned int index = msg->u64 & VHOST_USER_VRING_INDEX_MASK;

	if (msg->u64 & VHOST_USER_VRING_NO_FD)
		return session_fail("ring %u: without a kick eventfd it would have to be polled",
				    index);
	if (set_vring_fd(session, msg, VHOST_SET_VRING_KICK))
		return CLOSE;
	session->rings[index].kick = true;
	return ring_update(session, index);
}

/*
 * The front end may have closed the last eventfd before it read the last signal: QEMU does at the
 * end of a connection, and starts rings with an eventfd that it never reads. So signal each new
 * one. One signal too many does no harm.
 */
static int set_vring_call(struct session *session, struct message *msg)
{
	struct pollfd call = { .events = POLLOUT };

	if (set_vring_fd(session, msg, VHOST_SET_VRING_CALL))
		return CLOSE;
	/*
	 * One that is full is signalled already, and could block. A front end that fills it just
	 * now blocks its own daemon, until that is killed.
	 */
	call.fd = msg->num_fds ? msg->fds[0] : -1;
	if (poll(&call, 1, 0) == 1 && call.revents & POLLOUT && eventfd_write(call.fd, 1))
		return session_fail("ring %u: its call eventfd can't be written: %s",
				    (unsigned int)(msg->u64 & VHOST_USER_VRING_INDEX_MASK),
				    strerror(errno));
	return DONE;
}

static int set_vring_err(struct session *session, struct message *msg)
{
	return set_vring_fd(session, msg, VHOST_SET_VRING_ERR);
}

static int set_vring_enable(struct session *session, struct message *msg)
{
	const struct vhost_vring_state *state = &msg->state;

	if (check_index(session, state->index))
		return CLOSE;
	if (state->num > 1)
		return session_fail("ring %u: enable %u", state->index,
				    state->num);
	session->rings[state->index].enabled = state->num;
	return state->num ? ring_update(session, state->index) :
			    stop_ring(session, state->index);
}

/* Reset all rings. The call and error eventfds stay. */
static int reset_rings(struct session *session)
{
	unsigned int i;

	if (ring_stop_all(session))
		return CLOSE;
	for (i = 0; i < session->num_rings; i++) {
		struct ring *ring = &session->rings[i];

		if (ring->kick && forget_kick(session, i))
			return CLOSE;
		*ring = (struct ring){ .ran = ring->ran };
	}
	return DONE;
}

/*
 * The driver was reset, or a snapshot brings another driver. What the last one knew and
 * which rings it ran says nothing about it.
 */
static void forget_driver(struct session *session)
{
	unsigned int i;

	session->cache_known = false;
	for (i = 0; i < session->num_rings; i++)
		session->rings[i].ran = false;
}

static int reset_device(struct session *session, struct message *msg)
{
	(void)msg;
	session->status = 0;
	session->was_reset = true;
	forget_driver(session);
	return reset_rings(session);
}

/* Front ends set 0 after each stop, whether the driver has reset the device or not. */
static int set_status(struct session *session, struct message *msg)
{
	session->status = msg->u64;
	return session->status ? DONE : reset_rings(session);
}

static int get_status(struct session *session, struct message *msg)
{
	msg->u64 = session->status;
	return DONE;
}

/* The record of what is in flight */

static int get_inflight_fd(struct session *session, struct message *msg)
{
	int fd = inflight_create(&msg->inflight);

	/* A front end asks for a new record after a reset. */
	forget_driver(session);
	if (fd < 0)
		return session_fail("a record of %u rings of %u descriptors: %s",
				    msg->inflight.num_queues,
				    msg->inflight.queue_size, strerror(-fd));
	/* message_close_fds() closes it together with the request's descriptors. */
	msg->fds[msg->num_fds++] = fd;
	msg->reply_fd = fd;
	return DONE;
}

static int set_inflight_fd(struct session *session, struct message *msg)
{
	int ret;

	if (ring_any_runs(session))
		return session_fail("a new record of what is in flight while rings run");
	if (msg->inflight.num_queues > session->num_rings)
		return session_fail("the record of what is in flight has %u rings, there are %u",
				    msg->inflight.num_queues,
				    session->num_rings);
	ret = inflight_set(&session->inflight, &msg->inflight, msg->fds[0]);
	if (ret)
		return session_fail("a record of %u rings of %u descriptors in %llu bytes: %s",
				    msg->inflight.num_queues,
				    msg->inflight.queue_size,
				    (unsigned long long)msg->inflight.mmap_size,
				    ret == -ERANGE ? "too few of them" :
				    strerror(-ret));
	message_take_fd(msg, 0);
	return config_adopt_record(session);
}

/* The messages */

/**
 * struct request - format and handler of a request
 * @name: name of the request in the specification
 * @handle: handles the request. Returns DONE, REFUSED or CLOSE.
 * @min_size: smallest size of the payload, in bytes
 * @max_size: largest size of the payload, in bytes
 * @min_fds: smallest number of descriptors
 * @max_fds: largest number of descriptors
 * @reply: the reply is the message's payload after @handle, not an acknowledgment
 * @memory: the request changes guest memory and does not end a pause of the rings
 * @reply_size: size of the reply's payload; 0 if it is the size of the request's
 */
struct request {
	const char *name;
	int (*handle)(struct session *session, struct message *msg);
	uint16_t min_size;
	uint16_t max_size;
	uint8_t min_fds;
	uint8_t max_fds;
	bool reply;
	bool memory;
	uint16_t reply_size;
};

#define U64		sizeof(uint64_t)
#define STATE		sizeof(struct vhost_vring_state)
#define ADDR		sizeof(struct vhost_vring_addr)
#define TABLE		sizeof(struct vhost_user_memory)
#define MEM_REG		sizeof(struct vhost_user_mem_reg)
#define LOG		sizeof(struct vhost_user_log)
#define CONFIG		sizeof(struct vhost_user_config)
#define INFLIGHT	sizeof(struct vhost_user_inflight)
#define IOTLB		sizeof(struct vhost_iotlb_msg)

#define REQUEST(id, function, min, max, ...) \
	[VHOST_USER_ ## id] = { .name = #id, .handle = (function), \
				.min_size = (min), .max_size = (max), \
				__VA_ARGS__ }

static const struct request requests[VHOST_USER_NUM_REQUESTS] = {
	REQUEST(GET_FEATURES, get_features, 0, 0,
		.reply = true, .reply_size = U64),
	REQUEST(SET_FEATURES, set_features, U64, U64),
	REQUEST(SET_OWNER, set_owner, 0, 0),
	/* Deprecated. The specification allows to ignore it. */
	REQUEST(RESET_OWNER, set_owner, 0, 0),
	REQUEST(SET_MEM_TABLE, set_mem_table, U64, TABLE,
		.max_fds = VHOST_USER_MAX_FDS, .memory = true),
	REQUEST(SET_LOG_BASE, set_log_base, LOG, LOG,
		.min_fds = 1, .max_fds = 1, .reply = true, .reply_size = U64),
	REQUEST(SET_LOG_FD, set_log_fd, 0, 0, .min_fds = 1, .max_fds = 1),
	REQUEST(SET_VRING_NUM, set_vring_num, STATE, STATE),
	REQUEST(SET_VRING_ADDR, set_vring_addr, ADDR, ADDR),
	REQUEST(SET_VRING_BASE, set_vring_base, STATE, STATE),
	REQUEST(GET_VRING_BASE, get_vring_base, STATE, STATE, .reply = true),
	REQUEST(SET_VRING_KICK, set_vring_kick, U64, U64, .max_fds = 1),
	REQUEST(SET_VRING_CALL, set_vring_call, U64, U64, .max_fds = 1),
	REQUEST(SET_VRING_ERR, set_vring_err, U64, U64, .max_fds = 1),
	REQUEST(GET_PROTOCOL_FEATURES, get_protocol_features, 0, 0,
		.reply = true, .reply_size = U64),
	REQUEST(SET_PROTOCOL_FEATURES, set_protocol_features, U64, U64),
	REQUEST(GET_QUEUE_NUM, get_queue_num, 0, 0,
		.reply = true, .reply_size = U64),
	REQUEST(SET_VRING_ENABLE, set_vring_enable, STATE, STATE),
	REQUEST(SET_BACKEND_REQ_FD, config_set_backend_fd, 0, 0,
		.min_fds = 1, .max_fds = 1),
	REQUEST(IOTLB_MSG, iotlb_handle, IOTLB, IOTLB),
	REQUEST(GET_CONFIG, config_get, VHOST_USER_CONFIG_HEADER, CONFIG,
		.reply = true),
	REQUEST(SET_CONFIG, config_set, VHOST_USER_CONFIG_HEADER, CONFIG),
	REQUEST(GET_INFLIGHT_FD, get_inflight_fd,
		VHOST_USER_INFLIGHT_UNPADDED, INFLIGHT, .reply = true),
	REQUEST(SET_INFLIGHT_FD, set_inflight_fd,
		VHOST_USER_INFLIGHT_UNPADDED, INFLIGHT,
		.min_fds = 1, .max_fds = 1),
	REQUEST(RESET_DEVICE, reset_device, 0, 0),
	REQUEST(GET_MAX_MEM_SLOTS, get_max_mem_slots, 0, 0,
		.reply = true, .reply_size = U64),
	REQUEST(ADD_MEM_REG, add_mem_reg, MEM_REG, MEM_REG,
		.min_fds = 1, .max_fds = 1, .memory = true),
	/* Some front ends send the region's descriptor. It is not used. */
	REQUEST(REM_MEM_REG, rem_mem_reg, MEM_REG, MEM_REG, .max_fds = 1,
		.memory = true),
	REQUEST(SET_STATUS, set_status, U64, U64),
	REQUEST(GET_STATUS, get_status, 0, 0,
		.reply = true, .reply_size = U64),
};

static const struct request *find_request(const struct message *msg)
{
	uint32_t id = msg->header.request;

	return id < VHOST_USER_NUM_REQUESTS && requests[id].handle ?
	       &requests[id] : NULL;
}

static int check_header(const struct message *msg)
{
	const struct vhost_user_header *header = &msg->header;
	const struct request *request = find_request(msg);

	if ((header->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
	    header->flags & VHOST_USER_REPLY)
		return session_fail("no vhost-user message: flags 0x%x",
				    header->flags);
	if (!request)
		return session_fail("request %u is not known",
				    header->request);
	if (header->size < request->min_size ||
	    header->size > request->max_size)
		return session_fail("%s: %u bytes", request->name,
				    header->size);
	return 0;
}

static int send_reply(struct session *session, struct message *msg)
{
	int ret;

	msg->header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	ret = message_send(session->fd, msg);
	if (ret)
		return session_fail("the front end takes no answer: %s",
				    ret == -EAGAIN ? "it does not read" :
				    strerror(-ret));
	return 0;
}

static bool wants_ack(const struct session *session, const struct message *msg)
{
	return session->protocol_features & VHOST_USER_PROTOCOL_F_REPLY_ACK &&
	       msg->header.flags & VHOST_USER_NEED_REPLY;
}

static int handle_message(struct session *session, struct message *msg)
{
	const struct request *request = find_request(msg);
	int ret;

	if (msg->num_fds < request->min_fds || msg->num_fds > request->max_fds)
		return session_fail("%s: %u descriptors", request->name,
				    msg->num_fds);
	if (session->paused && !request->memory && !session_resume(session))
		return CLOSE;
	ret = request->handle(session, msg);
	if (ret == CLOSE)
		return CLOSE;
	if (request->reply) {
		if (request->reply_size)
			msg->header.size = request->reply_size;
		return send_reply(session, msg);
	}
	if (!wants_ack(session, msg))
		return 0;
	msg->u64 = ret;
	msg->header.size = sizeof(msg->u64);
	return send_reply(session, msg);
}

bool session_serve(struct session *session)
{
	struct receiver *receiver = &session->receiver;
	unsigned int i;
	int ret = 0;

	/* poll() does not report a message that has been received whole. Handle it at once. */
	for (i = 0; (i < MAX_STEPS || receiver_has_all(receiver)) && !ret; i++) {
		switch (receiver_read(receiver, session->fd)) {
		case RECEIVED_PART:
			return true;
		case RECEIVED_HEADER:
			ret = check_header(&receiver->msg);
			break;
		case RECEIVED_ALL:
			ret = handle_message(session, &receiver->msg);
			message_close_fds(&receiver->msg);
			receiver_init(receiver);
			break;
		case RECEIVED_END:
			if (receiver->got)
				session_fail("it ended in a message");
			return false;
		case RECEIVED_ERROR:
			session_fail("receiving: %s", errno == EMSGSIZE ?
				     "too many descriptors" : strerror(errno));
			return false;
		}
	}
	return !ret;
}

/* Begin and end */

bool session_begin(struct session *session, struct device *device, int fd,
		   int stop_fd)
{
	int ret = device_acquire(device);

	if (ret) {
		say("the kernel does not let this process use the device: %s",
		    strerror(-ret));
		return false;
	}
	/* A device without a volatile write cache returns -EOPNOTSUPP. */
	ret = device_set_write_back(device, true);
	if (ret && ret != -EOPNOTSUPP) {
		say("the kernel does not set the write cache: %s",
		    strerror(-ret));
		device_release(device);
		return false;
	}
	memset(session, 0, sizeof(*session));
	session->device = device;
	session->fd = fd;
	session->stop_fd = stop_fd;
	session->backend_fd = -1;
	session->told_capacity = UNKNOWN_CAPACITY;
	session->write_back = true;
	session->memory.max = vhost_parameter("max_mem_regions",
					      DEFAULT_MAX_REGIONS);
	iotlb_init(&session->iotlb);
	session->inflight.fd = -1;
	session->num_rings = device->options->num_queues;
	receiver_init(&session->receiver);
	return true;
}

bool session_end(struct session *session)
{
	int ret = device_release(session->device);

	device_watch_config(session->device, false);
	if (ret) {
		say("the kernel does not stop the rings: %s", strerror(-ret));
		return false;
	}
	message_close_fds(&session->receiver.msg);
	memory_clear(&session->memory);
	mapping_remove(&session->log);
	iotlb_forget(&session->iotlb);
	message_close_fds(&session->iotlb.reply.msg);
	inflight_clear(&session->inflight);
	if (session->backend_fd >= 0)
		close(session->backend_fd);
	close(session->fd);
	return true;
}
