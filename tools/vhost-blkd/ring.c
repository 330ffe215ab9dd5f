// SPDX-License-Identifier: GPL-2.0
/* The rings of a connection: see ring.h. */
#include <errno.h>
#include <string.h>
#include <linux/virtio_ring.h>

#include "config.h"
#include "log.h"
#include "session.h"

/*
 * How long to wait for the record of the chains in flight. If an earlier daemon was
 * killed, its device holds the record until its last request has ended.
 */
#define RECORD_TIMEOUT_MS	30000
#define RECORD_INTERVAL_MS	20

enum { DESC, AVAIL, USED };

/* Available and used ring have the index of an event at their end. */
void ring_get_areas(const struct ring *ring, struct ring_area areas[RING_AREAS])
{
	const struct vhost_vring_addr *addr = &ring->addr;
	const unsigned int num = ring->num;

	areas[DESC] = (struct ring_area){
		addr->desc_user_addr, num * sizeof(struct vring_desc),
		VHOST_ACCESS_RO
	};
	areas[AVAIL] = (struct ring_area){
		addr->avail_user_addr, sizeof(struct vring_avail) +
		(num + 1) * sizeof(uint16_t), VHOST_ACCESS_RO
	};
	areas[USED] = (struct ring_area){
		addr->used_user_addr, sizeof(struct vring_used) +
		num * sizeof(struct vring_used_elem) + sizeof(uint16_t),
		VHOST_ACCESS_RW
	};
}

/* Whether a part of the ring exceeds the 64-bit address space. */
static bool wraps_around(const struct ring *ring)
{
	struct ring_area areas[RING_AREAS];
	unsigned int i;

	ring_get_areas(ring, areas);
	for (i = 0; i < RING_AREAS; i++)
		if (areas[i].start + (areas[i].size - 1) < areas[i].start)
			return true;
	return false;
}

static bool logs_used_ring(const struct ring *ring)
{
	return ring->has_addr && ring->addr.flags & 1U << VHOST_VRING_F_LOG;
}

static bool log_has(const struct session *session, uint64_t guest_end)
{
	uint64_t pages = guest_end / LOG_PAGE + !!(guest_end % LOG_PAGE);

	return session->log.start && pages / 8 + !!(pages % 8) <=
				     session->log_bytes;
}

int ring_check_log(const struct session *session)
{
	bool all = session->features & 1ULL << VHOST_F_LOG_ALL;
	struct ring_area areas[RING_AREAS];
	unsigned int i;
	uint64_t end;

	for (i = 0; i < session->num_rings; i++) {
		const struct ring *ring = &session->rings[i];

		if (!logs_used_ring(ring))
			continue;
		/* With a virtual IOMMU the log is indexed by guest physical address. */
		if (iotlb_is_used(session)) {
			all = true;
			continue;
		}
		ring_get_areas(ring, areas);
		if (__builtin_add_overflow(ring->addr.log_guest_addr,
					   areas[USED].size, &end) ||
		    !log_has(session, end))
			return session_fail("ring %u: the dirty log does not cover the used ring",
					    i);
	}
	if (all && !log_has(session, memory_end(&session->memory)))
		return session_fail("the dirty log does not cover the guest's memory");
	return 0;
}

static uint64_t translate(const struct session *session,
			  const struct ring_area *area)
{
	return iotlb_is_used(session) ? area->start :
		memory_translate(&session->memory, area->start, area->size);
}

/*
 * Give the kernel the addresses of the ring in this process. With a virtual IOMMU these are
 * I/O virtual addresses, which the kernel translates.
 */
static int set_kernel_addr(struct session *session, unsigned int index)
{
	const struct ring *ring = &session->rings[index];
	struct vhost_vring_addr own = ring->addr;
	struct ring_area areas[RING_AREAS];
	int ret;

	ring_get_areas(ring, areas);
	own.desc_user_addr = translate(session, &areas[DESC]);
	own.avail_user_addr = translate(session, &areas[AVAIL]);
	own.used_user_addr = translate(session, &areas[USED]);
	/* 0 is a valid I/O virtual address. */
	if (!iotlb_is_used(session) &&
	    (!own.desc_user_addr || !own.avail_user_addr || !own.used_user_addr))
		return session_fail("ring %u: its addresses are not in the guest's memory",
				    index);
	ret = device_ioctl(session->device, VHOST_SET_VRING_ADDR, &own);
	if (ret)
		return session_fail("ring %u: the kernel refuses its addresses: %s",
				    index, strerror(-ret));
	return 0;
}

static int set_up(struct session *session, unsigned int index)
{
	struct ring *ring = &session->rings[index];
	struct device *device = session->device;
	int ret;

	ret = device_set_ring_state(device, VHOST_SET_VRING_NUM, index,
				    ring->num);
	if (!ret)
		ret = device_set_ring_state(device, VHOST_SET_VRING_BASE,
					    index, ring->base);
	if (!ret)
		ret = device_set_ring_inflight(device, index,
					       inflight_addr(&session->inflight,
							     index));
	if (ret)
		return session_fail("ring %u of %u descriptors: the kernel refuses it: %s",
				    index, ring->num, strerror(-ret));
	return set_kernel_addr(session, index);
}

static int start_in_kernel(struct session *session, unsigned int index)
{
	int waited, ret;

	for (waited = 0;; waited += RECORD_INTERVAL_MS) {
		ret = device_set_ring_state(session->device,
					    VHOST_BLK_SET_VRING_RUNNING, index,
					    1);
		if (ret != -EBUSY || waited >= RECORD_TIMEOUT_MS)
			break;
		if (!session_wait(session, RECORD_INTERVAL_MS))
			return session_fail("ring %u: ended while requests of an earlier connection are in flight",
					    index);
	}
	if (ret == -EBUSY)
		return session_fail("ring %u: requests of an earlier connection are still in flight after %d s",
				    index, RECORD_TIMEOUT_MS / 1000);
	if (ret == -EINVAL)
		return session_fail("ring %u: the record of what is in flight makes no sense",
				    index);
	if (ret)
		return session_fail("ring %u: the kernel does not start it: %s",
				    index, strerror(-ret));
	return 0;
}

int ring_update(struct session *session, unsigned int index)
{
	struct ring *ring = &session->rings[index];
	bool first;

	if (session->paused || ring->running || !ring->num ||
	    !ring->has_addr || !ring->kick || !ring->enabled)
		return 0;
	if (iotlb_is_used(session) && wraps_around(ring))
		return session_fail("ring %u: its addresses are not in the guest's memory",
				    index);
	ring->asks = iotlb_is_used(session) &&
		     !iotlb_has_ring(&session->iotlb, ring);
	if (ring->asks)
		return 0;
	if (ring_check_log(session) || config_settle_cache(session, ring) ||
	    set_up(session, index) || start_in_kernel(session, index))
		return -1;
	first = !ring_any_runs(session);
	ring->running = true;
	ring->ran = true;
	return first ? config_check_capacity(session) : 0;
}

int ring_update_all(struct session *session)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < session->num_rings && !ret; i++)
		ret = ring_update(session, i);
	return ret;
}

int ring_stop(struct session *session, unsigned int index)
{
	struct ring *ring = &session->rings[index];
	int ret;

	ring->asks = false;
	if (!ring->running)
		return 0;
	ret = device_set_ring_state(session->device,
				    VHOST_BLK_SET_VRING_RUNNING, index, 0);
	if (ret == -EAGAIN)
		return session_fail("ring %u: stopped while it is not known where requests of an earlier connection are",
				    index);
	if (ret)
		return session_fail("ring %u: the kernel does not stop it: %s",
				    index, strerror(-ret));
	ret = device_get_ring_base(session->device, index);
	if (ret < 0)
		return session_fail("ring %u: the kernel does not say where it stopped",
				    index);
	ring->base = ret;
	ring->running = false;
	return 0;
}

int ring_stop_all(struct session *session)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < session->num_rings && !ret; i++)
		ret = ring_stop(session, i);
	return ret;
}

bool ring_any_runs(const struct session *session)
{
	unsigned int i;

	for (i = 0; i < session->num_rings; i++)
		if (session->rings[i].running)
			return true;
	return false;
}

static bool is_same_ring(const struct vhost_vring_addr *a,
			 const struct vhost_vring_addr *b)
{
	return a->desc_user_addr == b->desc_user_addr &&
	       a->avail_user_addr == b->avail_user_addr &&
	       a->used_user_addr == b->used_user_addr;
}

int ring_set_addr(struct session *session, const struct vhost_vring_addr *addr)
{
	struct ring *ring = &session->rings[addr->index];

	if (!ring->running) {
		ring->addr = *addr;
		ring->has_addr = true;
		return ring_update(session, addr->index);
	}
	/* While it runs, only the log flag may change: a migration begins or ends. */
	if (!is_same_ring(addr, &ring->addr))
		return session_fail("ring %u: it runs, and its addresses change",
				    addr->index);
	ring->addr = *addr;
	if (ring_check_log(session))
		return -1;
	return set_kernel_addr(session, addr->index);
}
