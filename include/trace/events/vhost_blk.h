/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of vhost_blk. A request is received, submitted (if it needs the backing
 * device), and completed. "device" is the id in the fdinfo of the device's file. "name" is
 * set by the VMM with VHOST_BLK_SET_NAME.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_blk

#if !defined(_TRACE_VHOST_BLK_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_VHOST_BLK_H

#include <linux/tracepoint.h>
#include <linux/virtio_blk.h>

struct vhost_blk;

#define show_vhost_blk_type(type) \
	__print_symbolic(type, \
			 { VIRTIO_BLK_T_IN, "IN" }, \
			 { VIRTIO_BLK_T_OUT, "OUT" }, \
			 { VIRTIO_BLK_T_FLUSH, "FLUSH" }, \
			 { VIRTIO_BLK_T_GET_ID, "GET_ID" }, \
			 { VIRTIO_BLK_T_DISCARD, "DISCARD" }, \
			 { VIRTIO_BLK_T_WRITE_ZEROES, "WRITE_ZEROES" }, \
			 { VIRTIO_BLK_T_SECURE_ERASE, "SECURE_ERASE" })

#define show_vhost_blk_status(status) \
	__print_symbolic(status, \
			 { VIRTIO_BLK_S_OK, "OK" }, \
			 { VIRTIO_BLK_S_IOERR, "IOERR" }, \
			 { VIRTIO_BLK_S_UNSUPP, "UNSUPP" })

DECLARE_EVENT_CLASS(vhost_blk_request,
	TP_PROTO(const struct vhost_blk *blk, unsigned int queue, u16 head_index,
		 u32 type, u64 sector, u64 bytes),

	TP_ARGS(blk, queue, head_index, type, sector, bytes),

	TP_STRUCT__entry(
		__field(unsigned int, device)
		__string(name, blk->name)
		__field(unsigned int, queue)
		__field(u16, head)
		__field(u32, type)
		__field(u64, sector)
		__field(u64, bytes)
	),

	TP_fast_assign(
		__entry->device = blk->id;
		__assign_str(name);
		__entry->queue = queue;
		__entry->head = head_index;
		__entry->type = type;
		__entry->sector = sector;
		__entry->bytes = bytes;
	),

	TP_printk("device=%u queue=%u head=%u type=%s sector=%llu bytes=%llu name=%s",
		  __entry->device, __entry->queue, __entry->head,
		  show_vhost_blk_type(__entry->type), __entry->sector,
		  __entry->bytes, __get_str(name))
);

/* The header was read. "bytes" is the length of the data that follows it. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_request_received,
	TP_PROTO(const struct vhost_blk *blk, unsigned int queue, u16 head_index,
		 u32 type, u64 sector, u64 bytes),
	TP_ARGS(blk, queue, head_index, type, sector, bytes)
);

/* The request goes to the backing device. "bytes" is the length there. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_request_submitted,
	TP_PROTO(const struct vhost_blk *blk, unsigned int queue, u16 head_index,
		 u32 type, u64 sector, u64 bytes),
	TP_ARGS(blk, queue, head_index, type, sector, bytes)
);

/*
 * The status is written. "latency_ns" is the time since the chain was fetched; 0 if the
 * event was off then.
 */
TRACE_EVENT(vhost_blk_request_completed,
	TP_PROTO(const struct vhost_blk *blk, unsigned int queue, u16 head_index,
		 u32 type, u64 sector, u64 bytes, u8 status, u64 latency),

	TP_ARGS(blk, queue, head_index, type, sector, bytes, status, latency),

	TP_STRUCT__entry(
		__field(unsigned int, device)
		__string(name, blk->name)
		__field(unsigned int, queue)
		__field(u16, head)
		__field(u8, status)
		__field(u32, type)
		__field(u64, sector)
		__field(u64, bytes)
		__field(u64, latency)
	),

	TP_fast_assign(
		__entry->device = blk->id;
		__assign_str(name);
		__entry->queue = queue;
		__entry->head = head_index;
		__entry->status = status;
		__entry->type = type;
		__entry->sector = sector;
		__entry->bytes = bytes;
		__entry->latency = latency;
	),

	TP_printk("device=%u queue=%u head=%u type=%s sector=%llu bytes=%llu status=%s latency_ns=%llu name=%s",
		  __entry->device, __entry->queue, __entry->head,
		  show_vhost_blk_type(__entry->type), __entry->sector,
		  __entry->bytes, show_vhost_blk_status(__entry->status),
		  __entry->latency, __get_str(name))
);

#endif /* _TRACE_VHOST_BLK_H */

#include <trace/define_trace.h>
