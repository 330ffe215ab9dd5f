/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interfaces between the layers of vhost_blk.
 *
 *	blk.c		device: /dev/vhost-blk, its ioctls, bind, start and stop
 *	blk-queue.c	ring: the worker; used elements and signals to the guest
 *	blk-fetch.c	ring: fetching of descriptor chains
 *	blk-direct.c	ring: answers in the context in which the disk ends a request
 *	blk-area.c	ring: memory of the owner, pinned and mapped for the kernel
 *	blk-inflight.c	ring: the record of chains in flight, for a later owner
 *	blk-wait.c	ring: delays before a signal (gathering) and before sleep (polling)
 *	blk-request.c	protocol: parsing of a chain, its status and used length
 *	blk-bdev.c	storage: the block device, its features and limits
 *	blk-io.c	storage: operations on the block device as bios
 *	blk-memory.c	guest memory that stays pinned, and its pages by address
 *
 * The vhost worker of a queue takes a request down through ring, protocol and
 * storage. The way back has two steps. First, the storage layer calls
 * vhost_blk_io.done in the context in which the last bio ended. This puts the request
 * on vhost_blk_queue.completed. Second, the worker takes the whole list, writes the
 * status bytes and used elements, and signals the guest once.
 *
 * If the worker sleeps and few requests are in flight, the first step can answer the
 * request: see blk-direct.c. The worker then only releases it.
 *
 * No request fails for want of kernel memory. A request of up to
 * VHOST_BLK_INLINE_VECS segments needs none. Any other request tries to allocate. If
 * that fails, it waits until nothing else of its queue is in flight. Then it uses the
 * queue's reserve.
 */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/bio.h>
#include <linux/blk_types.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/sizes.h>
#include <linux/uio.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "vhost.h"
#include "compat.h"

/* Data segments of a request that needs no memory beyond struct vhost_blk_request. */
#define VHOST_BLK_INLINE_VECS	16

/* Pages pinned by one call. Larger data takes more calls, not a larger array. */
#define VHOST_BLK_PIN_BATCH	16

/*
 * The largest data of one request, in bytes: SEG_MAX segments of SIZE_MAX bytes. It
 * bounds the pages and bios that a guest can pin with one descriptor chain.
 */
#define VHOST_BLK_SEG_MAX	254
#define VHOST_BLK_SIZE_MAX	SZ_1M
#define VHOST_BLK_MAX_DATA	((size_t)VHOST_BLK_SEG_MAX * VHOST_BLK_SIZE_MAX)

/* Descriptors of the longest chain on the fast path: header, SEG_MAX of data, status. */
#define VHOST_BLK_FAST_CHAIN_MAX	(VHOST_BLK_SEG_MAX + 2)

/*
 * The load of a queue at which it fetches no more, in bytes of data in flight. It bounds
 * the guest pages that are pinned, the memory for their bios, and the time that stopping
 * the ring takes.
 */
#define VHOST_BLK_MAX_LOAD	SZ_256M

/* The load of a range: its length divided by DISCOUNT, but at least RANGE_LOAD bytes. */
#define VHOST_BLK_RANGE_DISCOUNT	64
#define VHOST_BLK_RANGE_LOAD		((u64)SZ_4M)

/* Ranges of one discard, write zeroes or secure erase request. */
#define VHOST_BLK_MAX_RANGES	32

/* For allocations that may fail. Charged to the memory cgroup of the device's owner. */
#define VHOST_BLK_GFP_TRY	(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN | \
				 __GFP_ACCOUNT)

/*
 * For work that may outlive its device. Such work must not wait for storage: all devices share
 * max_active of this workqueue. Destroyed at module exit.
 */
extern struct workqueue_struct *vhost_blk_wq;

/**
 * struct vhost_blk_waiter - waits for storage in the place of processes that may be killed
 * @wq: ordered, so that a disk that hangs keeps one kernel thread for each device
 * @num_flushes: flushes that have not ended. Until they have, @wq can't be destroyed.
 */
struct vhost_blk_waiter {
	struct workqueue_struct *wq;
	atomic_t num_flushes;
};

/* Memory */

struct vhost_blk_memory;

struct vhost_blk_memory *vhost_blk_memory_alloc(unsigned int max);
int vhost_blk_memory_add(struct vhost_blk_memory *memory, u64 user, u64 size);
int vhost_blk_pin_pages(unsigned long addr, unsigned int num, struct page **pages);
int vhost_blk_memory_pin(struct vhost_blk_memory *memory,
			 const struct vhost_blk_memory *old);
void vhost_blk_memory_get(struct vhost_blk_memory *memory);
void vhost_blk_memory_put(struct vhost_blk_memory *memory);
void vhost_blk_memory_put_later(struct vhost_blk_memory *memory);
u64 vhost_blk_memory_bytes(const struct vhost_blk_memory *memory);
unsigned int vhost_blk_memory_count(const struct vhost_blk_memory *memory,
				    unsigned long addr, size_t *bytes);
size_t vhost_blk_memory_find(const struct vhost_blk_memory *memory, unsigned long addr,
			     size_t bytes, struct bio_vec *vecs, unsigned int *num);

/* Storage */

struct vhost_blk_backing;
struct vhost_blk_bio;
struct vhost_blk_bounce;
struct seq_file;

/**
 * struct vhost_blk_holder - claims a device that is bound for writing
 * @gone: called when the device or its medium is being removed. May sleep. Must not
 *	bind, and must not wait for I/O.
 */
struct vhost_blk_holder {
	void (*gone)(struct vhost_blk_holder *holder);
};

struct vhost_blk_backing *vhost_blk_backing_open(struct file *user,
						 bool read_only,
						 struct vhost_blk_holder *holder);
void vhost_blk_backing_close(struct vhost_blk_backing *backing);
void vhost_blk_backing_invalidate_cache(struct vhost_blk_backing *backing);
int vhost_blk_backing_flush(struct vhost_blk_backing *backing,
			    struct vhost_blk_waiter *waiter);
struct block_device *vhost_blk_backing_bdev(const struct vhost_blk_backing *backing);
bool vhost_blk_backing_is_same(const struct vhost_blk_backing *a,
			       const struct vhost_blk_backing *b);
u64 vhost_blk_backing_features(const struct vhost_blk_backing *backing);
void vhost_blk_backing_config(const struct vhost_blk_backing *backing,
			      struct virtio_blk_config *config);
u64 vhost_blk_backing_capacity(const struct vhost_blk_backing *backing);
bool vhost_blk_backing_read_only(const struct vhost_blk_backing *backing);
bool vhost_blk_backing_write_cache(const struct vhost_blk_backing *backing);
bool vhost_blk_backing_contains(const struct vhost_blk_backing *backing,
				u64 sector, u64 bytes);
unsigned int vhost_blk_backing_max_range(const struct vhost_blk_backing *backing,
					 enum req_op op);
unsigned int vhost_blk_backing_current_range(const struct vhost_blk_backing *backing,
					     enum req_op op);
void vhost_blk_backing_keep_offer(struct vhost_blk_backing *backing,
				  const struct vhost_blk_backing *old);

/**
 * struct vhost_blk_range - a part of the backing device
 * @sector: start, in sectors of 512 bytes
 * @sectors: length, in sectors of 512 bytes
 * @opf: what to do with it: REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES or
 *	REQ_OP_SECURE_ERASE, with flags
 */
struct vhost_blk_range {
	u64 sector;
	u32 sectors;
	blk_opf_t opf;
};

/**
 * struct vhost_blk_ranges - ranges that are submitted in several parts
 * @num: elements of @list
 * @next: index of the first range that is not submitted completely
 * @list: the ranges; the element at @next holds its remaining part
 */
struct vhost_blk_ranges {
	unsigned int num;
	unsigned int next;
	struct vhost_blk_range list[VHOST_BLK_MAX_RANGES];
};

/**
 * struct vhost_blk_bios - bios that wait to be submitted
 * @bios: the bios, in order of submission
 * @num: number of @bios
 */
struct vhost_blk_bios {
	struct bio_list bios;
	unsigned int num;
};

/**
 * struct vhost_blk_channel - storage state that the operations of one queue share
 * @backing: the backing device
 * @bdev: block device of @backing
 * @memory: pinned memory of the owner, or NULL. Set by the owner. Operations that use it
 *	rely on the owner's reference: see vhost_blk_io_keep_memory().
 * @stable_writes: pages must not change while they are written; read from the device
 *	when the channel is opened
 * @checked_reads: the pages of a read are verified against a checksum; read from the
 *	device when the channel is opened
 * @poll: submit operations as polled where possible. Set by the owner. The owner must
 *	then poll as long as vhost_blk_channel_poll() returns true.
 * @made: bios of started operations that are not submitted yet
 * @next_sector: end of the last bio
 * @poll_disabled: polled operations were too slow; start no more of them
 * @num_polled: polled operations in flight
 * @polled: list of polled &struct vhost_blk_io, which end only when polled
 * @spare: the bio in reserve for when allocation fails; NULL while in use
 * @ended: bios that have ended and are not released yet; lock-free
 * @pages: scratch array for pages that are being added to a bio
 * @bounce_pages: total pages of the bounce buffers in use, without @reserve
 * @reserve: the bounce buffer in reserve for when allocation fails; NULL while in use
 * @reserve_ranges: the list of ranges in reserve for when allocation fails
 *
 * The queue's mutex protects everything but @ended and @num_polled.
 */
struct vhost_blk_channel {
	struct vhost_blk_backing *backing;
	struct block_device *bdev;
	struct vhost_blk_memory *memory;
	bool stable_writes;
	bool checked_reads;
	bool poll;
	struct vhost_blk_bios made;
	sector_t next_sector;
	bool poll_disabled;
	atomic_t num_polled;
	struct list_head polled;
	struct vhost_blk_bio *spare;
	struct llist_head ended;
	struct page *pages[VHOST_BLK_PIN_BATCH];
	unsigned int bounce_pages;
	struct vhost_blk_bounce *reserve;
	struct vhost_blk_ranges reserve_ranges;
};

/* True while polled operations are in flight. Only polled ones may start meanwhile. */
static inline bool vhost_blk_channel_has_polled(const struct vhost_blk_channel *channel)
{
	return unlikely(atomic_read(&channel->num_polled));
}

void vhost_blk_channel_init(struct vhost_blk_channel *channel);
int vhost_blk_channel_open(struct vhost_blk_channel *channel,
			   struct vhost_blk_backing *backing);
void vhost_blk_channel_close(struct vhost_blk_channel *channel);
struct vhost_blk_bios vhost_blk_channel_take(struct vhost_blk_channel *channel);
void vhost_blk_submit(struct vhost_blk_bios *bios);
void vhost_blk_submit_async(struct vhost_blk_bios *bios,
			    struct vhost_blk_waiter *waiter);
bool vhost_blk_channel_poll(struct vhost_blk_channel *channel);
void vhost_blk_channel_disable_polling(struct vhost_blk_channel *channel);

/**
 * struct vhost_blk_io - one operation on the backing device
 * @done: called once for each start, and once for each vhost_blk_io_continue() that
 *	returns 1. Any context. Can run before that call returns. Set by the owner.
 * @channel: channel of the operation. Set by the owner.
 * @priority: an IOPRIO_PRIO_VALUE(), or 0 for the worker's priority. Set by the owner.
 * @status: result; valid from @done on
 * @pending: bios in flight, plus one while more bios are being made
 * @sector: start of a polled operation, or of @rest, in sectors of 512 bytes
 * @bytes: data length of the last bio
 * @bounce: bounce buffer; NULL if the bios use the guest's pages
 * @reread: bounce buffer for a second try if the checksums of a read don't match;
 *	NULL if the device has no checksums
 * @ranges: ranges that are started in parts, else NULL
 * @rest: data of the next part, if @has_rest
 * @rest_opf: operation and flags of that part
 * @memory: memory that stays pinned, which the bios use without pins of their own, or the
 *	owner for something else; else NULL
 * @polled: in vhost_blk_channel.polled while @is_polled
 * @is_polled: the bio ends only when it is polled
 * @unfinished: another part has to be started when the bios in flight have ended
 * @has_rest: there was no memory to start all of a read or write
 * @bounce_needs_copy: @bounce holds data that is not copied to the guest yet
 * @flush_after: the last part is a flush, if @unfinished
 * @is_void: failed because the owner was being killed; must not be reported to the
 *	guest
 * @has_first: @first is in use
 * @first: the first bio, and for most operations the only one
 * @vecs: the vectors of @first
 *
 * The storage layer owns an operation from the call that starts it until @done. The
 * caller owns it otherwise. After @done the caller must call vhost_blk_io_release()
 * before it uses the operation again.
 */
struct vhost_blk_io {
	void (*done)(struct vhost_blk_io *io);
	struct vhost_blk_channel *channel;
	u16 priority;
	blk_status_t status;
	atomic_t pending;
	sector_t sector;
	unsigned int bytes;
	struct vhost_blk_bounce *bounce;
	struct vhost_blk_bounce *reread;
	struct vhost_blk_ranges *ranges;
	struct vhost_blk_data *rest;
	blk_opf_t rest_opf;
	struct vhost_blk_memory *memory;
	struct list_head polled;
	bool is_polled;
	bool unfinished;
	bool has_rest;
	bool bounce_needs_copy;
	bool flush_after;
	bool is_void;
	bool has_first;
	struct bio first;
	struct bio_vec vecs[VHOST_BLK_INLINE_VECS];
};

/**
 * struct vhost_blk_data - a cursor over data in the owner's memory
 * @iov: the pieces that are left
 * @num: elements of @iov
 * @skip: bytes of the first piece that are consumed
 * @bytes: bytes left; the last piece may be longer
 *
 * Simpler than an iov_iter, which costs more. Most requests have one piece and pin it
 * with one call.
 */
struct vhost_blk_data {
	const struct iovec *iov;
	unsigned int num;
	size_t skip;
	size_t bytes;
};

static inline void vhost_blk_data_init(struct vhost_blk_data *data,
				       const struct iovec *iov,
				       unsigned int num, size_t bytes)
{
	data->iov = iov;
	data->num = num;
	data->skip = 0;
	data->bytes = bytes;
}

static inline void vhost_blk_data_advance(struct vhost_blk_data *data,
					  size_t bytes)
{
	data->bytes -= bytes;
	data->skip += bytes;
	if (!data->bytes)
		return;
	while (data->num && data->skip >= data->iov->iov_len) {
		data->skip -= data->iov->iov_len;
		data->iov++;
		data->num--;
	}
}

static inline void vhost_blk_data_iter(const struct vhost_blk_data *data,
				       unsigned int direction,
				       struct iov_iter *iter)
{
	iov_iter_init(iter, direction, data->iov, data->num,
		      data->skip + data->bytes);
	iov_iter_advance(iter, data->skip);
}

void vhost_blk_io_init(struct vhost_blk_io *io);
int vhost_blk_io_rw(struct vhost_blk_io *io, blk_opf_t opf, sector_t sector,
		    struct vhost_blk_data *data, bool may_use_reserve);
int vhost_blk_io_ranges(struct vhost_blk_io *io,
			const struct vhost_blk_range *ranges, unsigned int num,
			bool durable, bool may_use_reserve);
int vhost_blk_io_flush(struct vhost_blk_io *io);
int vhost_blk_io_continue_slow(struct vhost_blk_io *io);
void vhost_blk_io_mark_void(struct vhost_blk_io *io);
void vhost_blk_io_keep_memory(struct vhost_blk_io *io);
void vhost_blk_io_release(struct vhost_blk_io *io);

/* The fast path: nearly all operations succeed and consist of one part. */
static inline int vhost_blk_io_continue(struct vhost_blk_io *io)
{
	if (likely(!io->status && !io->unfinished && !io->bounce_needs_copy))
		return 0;
	return vhost_blk_io_continue_slow(io);
}

/*
 * Whether an operation has ended, and its data is where it belongs, without a process: what
 * vhost_blk_io_continue() does for it is nothing.
 */
static inline bool vhost_blk_io_is_plain(const struct vhost_blk_io *io)
{
	return !io->status && !io->unfinished && !io->bounce && !io->is_polled;
}

/* Protocol */

/* The kinds by which requests are counted. */
enum vhost_blk_kind {
	VHOST_BLK_READ,
	VHOST_BLK_WRITE,
	VHOST_BLK_FLUSH,
	VHOST_BLK_DISCARD,
	VHOST_BLK_WRITE_ZEROES,
	VHOST_BLK_SECURE_ERASE,
	VHOST_BLK_OTHER,
	VHOST_BLK_NUM_KINDS
};

/**
 * struct vhost_blk_request - a request from its fetch until its used element
 * @io: its operation on the backing device
 * @queue: its queue, always the same
 * @node: in vhost_blk_queue.completed, vhost_blk_queue.blocked or vhost_blk_direct.answered
 * @status_addr: address of the status byte, in the owner's memory
 * @status_page: the page of @status_addr; NULL if the worker is to answer. It is in
 *	vhost_blk_io.memory of @io, or else @status_pinned.
 * @sector: sector field of the header
 * @started: time of the fetch, CLOCK_MONOTONIC in nanoseconds; 0 if the trace event
 *	vhost_blk_request_completed was off
 * @bytes: bytes of the backing device or of the serial that it covers
 * @load: its share of VHOST_BLK_MAX_LOAD
 * @log: for the dirty log: guest physical addresses that the device may write; NULL
 *	if it writes the status only, or with an IOTLB
 * @log_iov: the same with an IOTLB, as addresses in the owner's memory
 * @status_log: guest physical address of the status byte, if @logged
 * @num_log: elements of @log or @log_iov
 * @translated: with an IOTLB, all I/O virtual addresses of the chain
 * @num_translated: elements of @translated; 0 while the request is free
 * @type: VIRTIO_BLK_T_*, without the bits that vhost_blk_request_type() drops
 * @used_bytes: used length if the request succeeds: bytes written from the start of
 *	the writable part on
 * @data_bytes: bytes of guest memory that the operation reads or writes
 * @head: index of the chain's first descriptor
 * @kind: enum vhost_blk_kind
 * @status_first: the writable part is the status byte only
 * @status_pinned: @status_page has a pin of this request
 * @logged: the dirty log is on
 * @has_reserve: it may use the reserves of its queue; nothing is fetched until it ends
 */
struct vhost_blk_request {
	struct vhost_blk_io io;
	struct vhost_blk_queue *queue;
	struct llist_node node;
	u8 __user *status_addr;
	struct page *status_page;
	u64 sector;
	u64 started;
	u64 bytes;
	u64 load;
	struct vhost_log *log;
	struct iovec *log_iov;
	u64 status_log;
	unsigned int num_log;
	struct vhost_log *translated;
	unsigned int num_translated;
	u32 type;
	u32 used_bytes;
	u32 data_bytes;
	u16 head;
	u8 kind;
	bool status_first;
	bool status_pinned;
	bool logged;
	bool has_reserve;
};

/**
 * struct vhost_blk_chain - a descriptor chain that was fetched
 * @out: number of readable pieces; they are the first in vq->iov
 * @in: number of writable pieces, which follow in vq->iov
 * @out_bytes: length of the readable part
 * @in_bytes: length of the writable part
 * @log_num: elements of vq->log in use. With an IOTLB they are all addresses of the
 *	chain. Without one they are those of the writable part if @logged, else none.
 * @logged: the dirty log is on
 * @is_redone: the chain was in flight in the record that the ring was started with
 * @may_use_reserve: nothing else of the queue is in flight, so that its reserves are free
 * @readable: cursor in the readable part
 * @writable: cursor in the writable part, without the status byte
 */
struct vhost_blk_chain {
	unsigned int out;
	unsigned int in;
	size_t out_bytes;
	size_t in_bytes;
	unsigned int log_num;
	bool logged;
	bool is_redone;
	bool may_use_reserve;
	struct vhost_blk_data readable;
	struct vhost_blk_data writable;
};

void vhost_blk_request_init(struct vhost_blk_request *req,
			    struct vhost_blk_queue *queue);
int vhost_blk_request_start(struct vhost_blk_request *req);
int vhost_blk_request_write_status(struct vhost_blk_request *req, u32 *used_bytes);
u32 vhost_blk_request_write_ok(struct vhost_blk_request *req);
bool vhost_blk_request_uses(const struct vhost_blk_request *req, u64 start,
			    u64 last);
void vhost_blk_request_release(struct vhost_blk_request *req);

/* Ring */

/**
 * struct vhost_blk_counters - statistics of a queue since the first bind
 * @requests: requests that ended, by kind
 * @bytes: bytes of the requests that succeeded, by kind
 * @errors: requests with a status other than VIRTIO_BLK_S_OK, by kind
 * @bounced: requests whose data went through a bounce buffer
 * @polled: requests whose operation was polled for
 * @kicks: runs of the worker because of a kick
 * @signals: calls of vhost_signal(), and signals with direct answers
 * @batches: updates of the used ring
 * @direct: requests that were answered in the context in which the disk ended them
 * @polls: windows of busy polling
 * @poll_hits: windows of busy polling in which work arrived
 */
struct vhost_blk_counters {
	u64 requests[VHOST_BLK_NUM_KINDS];
	u64 bytes[VHOST_BLK_NUM_KINDS];
	u64 errors[VHOST_BLK_NUM_KINDS];
	u64 bounced;
	u64 polled;
	u64 kicks;
	u64 signals;
	u64 batches;
	u64 direct;
	u64 polls;
	u64 poll_hits;
};

/**
 * struct vhost_blk_desc - a split descriptor as the fast path reads it, in two words
 * @addr: guest physical address
 * @rest: bits 0-31 length, bits 32-47 flags, bits 48-63 next
 *
 * Virtio 1.4, section 2.7.5. For little-endian rings only.
 */
struct vhost_blk_desc {
	__le64 addr;
	__le64 rest;
};

/**
 * struct vhost_blk_region - guest memory that is contiguous in the owner's memory
 * @start: guest physical address
 * @size: in bytes; 0 if unused
 * @user: address in the owner's memory
 */
struct vhost_blk_region {
	u64 start;
	u64 size;
	u64 user;
};

/**
 * struct vhost_blk_fetch - state of fetching from a ring
 * @region: the region of the last address, a cache of vq->umem; dropped when the memory
 *	table may have changed
 * @has_fast_path: the fast path can handle this ring
 * @descs: descriptors of the chain that is being fetched, not validated
 * @chain: the chain that is being started, validated
 * @header: copy of its request header
 */
struct vhost_blk_fetch {
	struct vhost_blk_region region;
	bool has_fast_path;
	struct vhost_blk_desc descs[VHOST_BLK_FAST_CHAIN_MAX];
	struct vhost_blk_chain chain;
	struct virtio_blk_outhdr header;
};

/* Estimated requests in flight from which on completions are gathered. */
#define VHOST_BLK_GATHER_MIN	4

/**
 * struct vhost_blk_backoff - leaves out waits after some that were in vain
 * @left_out: waits that are still to be left out
 * @length: initial value of @left_out at the last failure; 0 after a success
 */
struct vhost_blk_backoff {
	unsigned int left_out;
	unsigned int length;
};

/**
 * struct vhost_blk_wait - when to signal and when to sleep
 * @pending_signals: used elements that the guest was not signalled for
 * @signalled_at: time of the oldest signal that the guest has not reacted to; if it has
 *	reacted to all, of the last signal
 * @depth: estimate of the requests that the guest keeps in flight
 * @gather: of the waits for completions. While waits are left out, signals are sent at once.
 * @gather_successes: successes since the last failure or growth of @depth
 * @gather_grow: successes after which @depth grows
 * @refill: of the waits for new requests
 * @reaction_ns: estimate of the time from a signal to the guest's reaction
 * @poll_ns: length of the next window of busy polling
 * @poll_end: end of the current window of busy polling; 0 if there is none
 * @idle_since: time at which the queue ran out of work; 0 while it has work
 */
struct vhost_blk_wait {
	unsigned int pending_signals;
	u64 signalled_at;
	unsigned int depth;
	struct vhost_blk_backoff gather;
	unsigned int gather_successes;
	unsigned int gather_grow;
	struct vhost_blk_backoff refill;
	u64 reaction_ns;
	u64 poll_ns;
	u64 poll_end;
	u64 idle_since;
};

/* Pages of the longest record, at any offset into the first page. */
#define VHOST_BLK_AREA_PAGES \
	(DIV_ROUND_UP(sizeof(struct vhost_blk_inflight) + VHOST_BLK_MAX_RING * \
		      sizeof(struct vhost_blk_inflight_desc), PAGE_SIZE) + 1)

/**
 * struct vhost_blk_area - memory of the owner that is pinned and mapped for the kernel
 * @map: address in the kernel; NULL while it is closed
 * @num_pages: elements of @pages
 * @pages: the pinned pages
 */
struct vhost_blk_area {
	void *map;
	unsigned int num_pages;
	struct page *pages[VHOST_BLK_AREA_PAGES];
};

/**
 * struct vhost_blk_redo - a chain that was in flight in the record and is to be redone
 * @counter: its counter in the record: the order of fetching
 * @head: index of its first descriptor
 */
struct vhost_blk_redo {
	u64 counter;
	u16 head;
};

/**
 * struct vhost_blk_record - the record of the chains in flight of a ring
 * @addr: address of the record in the owner's memory; 0 for no record
 * @map: kernel mapping of the record; NULL while the queue is not started
 * @counter: counter for the next chain
 * @redo: chains to redo, in the order of their first fetch
 * @num_redo: elements of @redo
 * @next_redo: index of the first element that is not fetched again yet
 * @area: its memory
 * @node: in the list of all records in use
 */
struct vhost_blk_record {
	u64 addr;
	struct vhost_blk_inflight *map;
	u64 counter;
	struct vhost_blk_redo *redo;
	unsigned int num_redo;
	unsigned int next_redo;
	struct vhost_blk_area area;
	struct list_head node;
};

static inline bool vhost_blk_record_has_redo(const struct vhost_blk_record *record)
{
	return record->next_redo < record->num_redo;
}

/**
 * struct vhost_blk_direct - answers in the context in which the disk ends a request
 * @lock: taken by completions. Innermost but for the locks of eventfds and timers.
 * @granted: completions may answer, and own the used ring under @lock. Changes under @lock
 *	and @vq.mutex.
 * @answered: requests that were answered and are to be released; lock-free
 * @num_answered: requests ever added to @answered; under @lock
 * @num_released: requests ever released from @answered
 * @num_late: requests in flight when the worker last slept after it had fetched any; 0 for
 *	a disk that ends requests while they are submitted
 * @last_avail_idx: @vq.last_avail_idx when the worker last went to sleep
 * @pin_failed: the ring can't be pinned
 * @worker: the thread that granted the last right; has a reference
 * @used: mapping of the used ring, from the first grant on
 * @avail: mapping of the available ring, from the first grant on
 *
 * @vq.mutex protects every field without another rule.
 */
struct vhost_blk_direct {
	spinlock_t lock; /* see above */
	bool granted;
	struct llist_head answered;
	unsigned int num_answered;
	unsigned int num_released;
	unsigned int num_late;
	u16 last_avail_idx;
	bool pin_failed;
	struct task_struct *worker;
	struct vhost_blk_area used;
	struct vhost_blk_area avail;
};

/**
 * struct vhost_blk_queue - a virtqueue and its requests
 * @vq: vhost core's part. @vq.mutex protects every field without another rule. Its
 *	private_data is the &struct vhost_blk while the ring runs, else NULL.
 * @blk: the device
 * @index: index in vhost_blk.queues
 * @work: runs the queue for any reason but a kick
 * @timer: queues @work to poll for slow polled operations, and to release requests that
 *	were answered directly
 * @requests: all requests. Allocated at the start of the ring. Freed when it is
 *	started with another size, or with the device.
 * @free: stack of pointers to the free requests
 * @num_requests: elements of @requests: the size of the ring at its last start
 * @num_free: elements of @free; all other requests are in flight
 * @load: sum of vhost_blk_request.load of the requests in flight
 * @started: set by a start, cleared at the end of the stop
 * @broken: the guest made an error in the ring; nothing is fetched until the next start
 * @reserve_in_use: a request in flight has vhost_blk_request.has_reserve
 * @ring_missing: the IOTLB lacks the ring, and the VMM was asked for it
 * @chain_missing: the IOTLB lacks a part of the next chain, and the VMM was asked for it
 * @paused: nothing is fetched until vhost_blk_queue_resume()
 * @run_after_pause: the worker ran while @paused, and has to run again afterwards
 * @kicks_enabled: all available chains were fetched, and a kick will announce the next
 * @record: the record of the chains in flight
 * @fetch: state of fetching
 * @channel: state of the storage layer
 * @wait: state of gathering and busy polling
 * @counters: statistics; read without a lock. The owner of the used ring changes them:
 *	see blk-direct.c.
 * @direct: state of direct answers
 * @blocked: requests of which a part has ended, and whose next part can't start yet: while
 *	polled operations are in flight, or without memory; protected by @vq.mutex
 * @completed: requests whose I/O has ended, without a used element yet; lock-free
 * @working: the worker is running the queue and will check @completed; accessed
 *	without a lock by completions
 * @drained: woken when a request is added to the empty @completed
 */
struct vhost_blk_queue {
	struct vhost_virtqueue vq;
	struct vhost_blk *blk;
	unsigned int index;
	struct vhost_work work;
	struct timer_list timer;
	struct vhost_blk_request *requests;
	struct vhost_blk_request **free;
	unsigned int num_requests;
	unsigned int num_free;
	u64 load;
	bool started;
	bool broken;
	bool reserve_in_use;
	bool ring_missing;
	bool chain_missing;
	bool paused;
	bool run_after_pause;
	bool kicks_enabled;
	struct vhost_blk_record record;
	struct vhost_blk_fetch fetch;
	struct vhost_blk_channel channel;
	struct vhost_blk_wait wait;
	struct vhost_blk_counters counters;
	struct vhost_blk_direct direct;
	struct llist_head blocked;
	struct llist_head completed ____cacheline_aligned_in_smp;
	bool working;
	wait_queue_head_t drained;
};

void vhost_blk_fetch_choose_path(struct vhost_blk_queue *queue);
void vhost_blk_fetch_drop_region(struct vhost_blk_queue *queue);
int vhost_blk_fetch(struct vhost_blk_queue *queue);
void vhost_blk_fetch_undo(struct vhost_blk_queue *queue);

int vhost_blk_area_open(struct vhost_blk_area *area, struct mm_struct *mm, u64 addr,
			size_t bytes);
void vhost_blk_area_close(struct vhost_blk_area *area, struct mm_struct *mm);

int vhost_blk_record_open(struct vhost_blk_queue *queue);
int vhost_blk_record_recover(struct vhost_blk_queue *queue);
void vhost_blk_record_close(struct vhost_blk_queue *queue);
void vhost_blk_record_mark_fetched(struct vhost_blk_queue *queue, u16 head);
void vhost_blk_record_link_batch(struct vhost_blk_queue *queue,
				 const struct vring_used_elem *elems, unsigned int count);
void vhost_blk_record_clear_batch(struct vhost_blk_queue *queue,
				  const struct vring_used_elem *elems, unsigned int count);

void vhost_blk_direct_init(struct vhost_blk_queue *queue);
bool vhost_blk_direct_is_wanted(const struct vhost_blk_queue *queue,
				unsigned int in_flight);
void vhost_blk_direct_grant(struct vhost_blk_queue *queue);
struct llist_node *vhost_blk_direct_revoke(struct vhost_blk_queue *queue);
bool vhost_blk_direct_answer(struct vhost_blk_request *req);
struct eventfd_ctx *vhost_blk_direct_set_call(struct vhost_blk_queue *queue,
					      struct eventfd_ctx *call);
void vhost_blk_direct_forget(struct vhost_blk_queue *queue);

void vhost_blk_wait_start(struct vhost_blk_queue *queue);
void vhost_blk_wait_note_signal(struct vhost_blk_queue *queue);
void vhost_blk_wait_adapt(struct vhost_blk_queue *queue);
bool vhost_blk_wait_should_resched(void);
bool vhost_blk_wait_should_signal(struct vhost_blk_queue *queue);
bool vhost_blk_wait_gather(struct vhost_blk_queue *queue);
bool vhost_blk_wait_refill(struct vhost_blk_queue *queue);
bool vhost_blk_wait_expects_more(struct vhost_blk_queue *queue);
bool vhost_blk_wait_poll(struct vhost_blk_queue *queue);

/**
 * struct vhost_blk_iova_range - I/O virtual addresses
 * @start: the first address
 * @last: the last address
 */
struct vhost_blk_iova_range {
	u64 start;
	u64 last;
};

void vhost_blk_queue_init(struct vhost_blk_queue *queue, struct vhost_blk *blk,
			  unsigned int index);
int vhost_blk_queue_start(struct vhost_blk_queue *queue);
int vhost_blk_queue_pause(struct vhost_blk_queue *queue, u64 start, u64 last,
			  const struct vhost_blk_iova_range *removed, long *timeout);
void vhost_blk_queue_resume(struct vhost_blk_queue *queue);
bool vhost_blk_queue_can_write_used(struct vhost_blk_queue *queue);
void vhost_blk_queue_stop_fetching(struct vhost_blk_queue *queue);
void vhost_blk_queue_set_memory(struct vhost_blk_queue *queue,
				struct vhost_blk_memory *memory);
int vhost_blk_queue_stop(struct vhost_blk_queue *queue, bool write_used,
			 long *timeout);
int vhost_blk_queue_drain(struct vhost_blk_queue *queue, bool write_used,
			  long *timeout);
void vhost_blk_queue_forget_mappings(struct vhost_blk_queue *queue);
void vhost_blk_queue_free(struct vhost_blk_queue *queue);
void vhost_blk_queue_completed(struct vhost_blk_request *req);
void vhost_blk_queue_show(const struct vhost_blk_queue *queue,
			  struct seq_file *seq);

/* Device */

/**
 * struct vhost_blk - an open /dev/vhost-blk
 * @dev: vhost core's part. Its mutex protects vhost core's state, and starting and
 *	stopping of the rings. It does not exist before the first bind.
 * @lock: serializes the ioctls. Taken before @dev's mutex.
 * @id: identifies the device in fdinfo and trace events
 * @name: name of the device, from the owner. Under @lock. Does not change while
 *	@running.
 * @holder: claims the block device
 * @backing: the bound device. Changes under @lock while no ring runs. A running queue
 *	reads it without a lock.
 * @features: feature bits offered since the last bind
 * @serial: result of VIRTIO_BLK_T_GET_ID; same rule as @backing
 * @num_queues: number of queues, from the first bind
 * @bound: set at the first bind, never cleared. @dev, @queues and @vqs exist then. Set
 *	with release semantics for readers without @lock.
 * @memory: the memory table's pinned pages, after VHOST_BLK_SET_PIN_MEMORY; else NULL.
 *	Changes under @dev's mutex.
 * @running: a ring runs, or all were started by VHOST_BLK_SET_RUNNING; under @lock
 * @write_back: the driver's setting of VIRTIO_BLK_F_CONFIG_WCE; the queues read it
 *	without a lock
 * @config_call: eventfd that is signalled when the capacity changes, or NULL; under
 *	@lock
 * @config_work: checks the capacity periodically
 * @release_work: stops and frees the device if vhost_blk_release() can't wait
 * @waiter: waits for storage in the place of callers; exists from the first bind on
 * @capacity: the capacity that the VMM knows, in sectors of 512 bytes
 * @queues: the queues, @num_queues of them
 * @vqs: pointers to vhost_blk_queue.vq of @queues, for vhost core
 */
struct vhost_blk {
	struct vhost_dev dev;
	struct mutex lock; /* serializes the ioctls */
	unsigned int id;
	char name[VHOST_BLK_NAME_BYTES];
	struct vhost_blk_holder holder;
	struct vhost_blk_backing *backing;
	u64 features;
	u8 serial[VHOST_BLK_SERIAL_BYTES];
	unsigned int num_queues;
	bool bound;
	struct vhost_blk_memory *memory;
	bool running;
	bool write_back;
	struct eventfd_ctx *config_call;
	struct delayed_work config_work;
	struct delayed_work release_work;
	struct vhost_blk_waiter waiter;
	u64 capacity;
	struct vhost_blk_queue **queues;
	struct vhost_virtqueue **vqs;
};

#endif /* _VHOST_BLK_H */
