/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the three rooms of vhost_blk know of each other.
 *
 *	blk.c		the character device: bind, start, stop, life of a queue
 *	blk-queue.c	ring: descriptor chains in, used elements and signals out
 *	blk-fetch.c	ring: how a descriptor chain is fetched
 *	blk-inflight.c	ring: a record of what is in flight, for who serves it next
 *	blk-wait.c	ring: how long to look for more before a signal or sleep
 *	blk-request.c	protocol: what a chain asks for and what it is answered
 *	blk-bdev.c	storage: a block device, its features and limits
 *	blk-io.c	storage: operations on it as bios
 *
 * A request goes down from ring to protocol to storage in a vhost worker and
 * comes back up in two steps: storage calls vhost_blk_io.done in whatever
 * context the bio ended, which puts the request on its queue's list, and the
 * worker takes the whole list, answers it and signals the guest once.
 *
 * No request fails for want of kernel memory. An ordinary one needs none. For
 * the others memory is tried for; where there is none, a request waits until it
 * is alone in its queue and then makes do with what the queue has in reserve.
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

/* Data segments of a request that needs no memory beyond its own. */
#define VHOST_BLK_INLINE_VECS	16

/* Pages pinned by one call; more need further calls, not more memory. */
#define VHOST_BLK_PIN_BATCH	16

/*
 * The most data one request may carry, in bytes: SEG_MAX segments of SIZE_MAX
 * bytes. Together they bound the pages and the bios that a guest can pin down
 * with one descriptor chain.
 */
#define VHOST_BLK_SEG_MAX	254
#define VHOST_BLK_SIZE_MAX	SZ_1M
#define VHOST_BLK_MAX_DATA	((size_t)VHOST_BLK_SEG_MAX * VHOST_BLK_SIZE_MAX)

/* Descriptors of the longest chain that a driver makes: data, header and status. */
#define VHOST_BLK_FAST_CHAIN_MAX	(VHOST_BLK_SEG_MAX + 2)

/*
 * The load of one queue, in bytes of data under way, at which no more is fetched: what
 * one guest can have pinned, and with bios for it, does not grow with its memory, nor
 * does the time that a stop takes with its ring.
 */
#define VHOST_BLK_MAX_LOAD	SZ_256M

/* What a range counts of that: a part of its length, but not less than so many bytes. */
#define VHOST_BLK_RANGE_DISCOUNT	64
#define VHOST_BLK_RANGE_LOAD		((u64)SZ_4M)

/* Ranges of one discard, write zeroes or secure erase request. */
#define VHOST_BLK_MAX_RANGES	32

/* For memory that there is a way to do without; charged to the guest's owner. */
#define VHOST_BLK_GFP_TRY	(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN | \
				 __GFP_ACCOUNT)

/* For waits that outlive the process that has begun them; flushed at module's end. */
extern struct workqueue_struct *vhost_blk_wq;

/* Storage */

struct vhost_blk_backing;
struct vhost_blk_bio;
struct vhost_blk_bounce;
struct seq_file;

/**
 * struct vhost_blk_holder - what claims a device that is bound for writing
 * @gone: called when the device is being removed, or its medium is. May sleep, but
 *	neither bind nor wait for I/O.
 */
struct vhost_blk_holder {
	void (*gone)(struct vhost_blk_holder *holder);
};

struct vhost_blk_backing *vhost_blk_backing_open(struct file *user,
						 bool read_only,
						 struct vhost_blk_holder *holder);
void vhost_blk_backing_close(struct vhost_blk_backing *backing);
void vhost_blk_backing_invalidate_cache(struct vhost_blk_backing *backing);
int vhost_blk_backing_flush(struct vhost_blk_backing *backing);
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
 * struct vhost_blk_ranges - ranges that don't all go to the device at once
 * @num: elements of @list
 * @next: the first that has not been submitted as a whole
 * @list: the ranges; of the one at @next what is left
 */
struct vhost_blk_ranges {
	unsigned int num;
	unsigned int next;
	struct vhost_blk_range list[VHOST_BLK_MAX_RANGES];
};

/**
 * struct vhost_blk_bios - bios that are to be submitted
 * @bios: the bios, in their order
 * @num: how many
 */
struct vhost_blk_bios {
	struct bio_list bios;
	unsigned int num;
};

/**
 * struct vhost_blk_channel - what the operations of one queue share
 * @backing: where they go
 * @bdev: its block device
 * @stable_writes: the device needs pages that nobody changes while they are
 *	written, as it was when the channel was opened
 * @checked_reads: the pages of a read are held against a checksum; likewise
 * @poll: operations that start now end faster if they are polled for. Set by the
 *	owner, who has to poll as long as vhost_blk_channel_poll() asks for it.
 * @made: bios of operations that have been started, not yet submitted
 * @next_sector: where the last bio ended
 * @poll_disabled: polling was given up, for what starts from here on
 * @num_polled: polled operations that have not ended
 * @polled: &struct vhost_blk_io that end only when they are polled for
 * @spare: the bio for when there is no memory for another, NULL while in use
 * @ended: bios that have ended, not yet released; lock-free
 * @ended_wait: who needs one of them
 * @pages: the pages that are being added to a bio
 * @bounce_pages: pages of all bounce buffers in use
 * @reserve: the bounce buffer for when there is no memory for another, NULL while
 *	in use
 * @reserve_ranges: the same for ranges
 *
 * Everything but @ended and @num_polled is for one thread at a time, which the queue's mutex
 * sees to.
 */
struct vhost_blk_channel {
	struct vhost_blk_backing *backing;
	struct block_device *bdev;
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
	wait_queue_head_t ended_wait;
	struct page *pages[VHOST_BLK_PIN_BATCH];
	unsigned int bounce_pages;
	struct vhost_blk_bounce *reserve;
	struct vhost_blk_ranges reserve_ranges;
};

/* Whether nothing but polled operations may be started. */
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
bool vhost_blk_channel_poll(struct vhost_blk_channel *channel);
void vhost_blk_channel_disable_polling(struct vhost_blk_channel *channel);

/**
 * struct vhost_blk_io - one operation on the backing device
 * @done: called once for every start and every vhost_blk_io_continue() that says
 *	so, in any context, and maybe before that call returns. Set by the owner.
 * @channel: where the operation goes. Set by the owner.
 * @priority: an IOPRIO_PRIO_VALUE() or 0 for the worker's own. Set by the owner.
 * @status: how it ended; valid from @done on
 * @pending: bios that have not ended, plus one while they are still being made
 * @sector: where a polled operation begins, in sectors of 512 bytes
 * @bytes: data of the last bio
 * @bounce: for data that the device can't reach where it is, else NULL
 * @reread: what to put into @bounce if the device's checksums are not those of what
 *	was read; NULL if there are none
 * @ranges: for ranges that are longer than the device now takes, else NULL
 * @is_void: it failed because its owner was being killed, and has to count as never done
 * @bounce_needs_copy: @bounce has data for the guest
 * @is_polled: it ends only when it is polled for
 * @polled: in @channel's list then
 * @unfinished: there is more to do when what is under way has ended
 * @flush_after: after all else a flush, if @unfinished
 * @has_first: @first is in use
 * @first: the first bio, the only one of an ordinary operation
 * @vecs: the vectors of @first
 *
 * Owned by the storage room from the call that starts it until @done, by the
 * caller otherwise. After @done the caller owes a vhost_blk_io_release() before
 * it uses the operation again.
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
	struct list_head polled;
	bool is_polled;
	bool unfinished;
	bool flush_after;
	bool is_void;
	bool bounce_needs_copy;
	bool has_first;
	struct bio first;
	struct bio_vec vecs[VHOST_BLK_INLINE_VECS];
};

/**
 * struct vhost_blk_data - bytes in the owner's memory, in pieces
 * @iov: the pieces that are left
 * @num: elements of @iov
 * @skip: bytes of the first piece that are gone
 * @bytes: what is left in all; the last piece may have more
 *
 * A cursor like an iov_iter that knows of nothing else, since most requests have
 * one piece, and pins it at once.
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
void vhost_blk_io_release(struct vhost_blk_io *io);

/* Nearly all operations have ended, and well, when their only bio has. */
static inline int vhost_blk_io_continue(struct vhost_blk_io *io)
{
	if (likely(!io->status && !io->unfinished && !io->bounce_needs_copy))
		return 0;
	return vhost_blk_io_continue_slow(io);
}

/* Protocol */

/* What requests are counted by. */
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
 * struct vhost_blk_request - a descriptor chain between fetch and answer
 * @io: the operation that it became
 * @queue: the queue it came from and returns to
 * @node: in &vhost_blk_queue.completed
 * @status_addr: where the guest wants the status byte, in the owner's memory
 * @sector: as the guest gave it
 * @started: when it was fetched, in nanoseconds of the monotonic clock; 0 if
 *	nobody wants to know
 * @bytes: what it concerns of the backing device, or of the serial
 * @log: what the device may write of the chain, for the dirty log; NULL if nothing but
 *	the status is written, or with an IOTLB
 * @log_iov: the same with an IOTLB
 * @num_log: elements of either
 * @translated: with an IOTLB, the guest's addresses of the chain
 * @num_translated: elements of @translated; 0 while the request is free
 * @status_log: guest physical address of the status byte, if @logged
 * @type: VIRTIO_BLK_T_*, without the bits that mean nothing
 * @used_bytes: what the used element will say if the request succeeds: bytes
 *	written from the first writable one on
 * @data_bytes: guest memory that the I/O reads or writes
 * @load: what it counts of VHOST_BLK_MAX_LOAD
 * @head: index of the chain's first descriptor
 * @kind: what it is counted as
 * @status_first: the status is all that is writable
 * @logged: the dirty log is on
 * @has_reserve: uses what its queue has only once; nothing is fetched beside it
 */
struct vhost_blk_request {
	struct vhost_blk_io io;
	struct vhost_blk_queue *queue;
	struct llist_node node;
	u8 __user *status_addr;
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
	bool logged;
	bool has_reserve;
};

/**
 * struct vhost_blk_chain - a descriptor chain that was fetched
 * @out: readable elements of the queue's iov, which come first
 * @in: writable elements behind them
 * @out_bytes: what is readable in all
 * @in_bytes: what is writable in all
 * @log_num: elements of the queue's log: guest physical addresses of the writable part
 *	if @logged, or with an IOTLB the addresses of all of it that were translated
 * @logged: the dirty log is on
 * @is_redone: it was in flight in a record
 * @may_use_reserve: nothing else is in flight, so that the queue's own arrays can serve
 * @readable: what is left to be read of the chain
 * @writable: what is left to be written, the status excepted
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
bool vhost_blk_request_uses(const struct vhost_blk_request *req, u64 start,
			    u64 last);
void vhost_blk_request_release(struct vhost_blk_request *req);

/* Ring */

/**
 * struct vhost_blk_counters - what a queue has done since its device was bound
 * @requests: answered, by kind
 * @bytes: of those that succeeded: data read or written, ranges discarded
 * @errors: of the requests, those answered with anything but success
 * @bounced: requests whose data went through a bounce buffer
 * @polled: requests that the backing device was polled for
 * @kicks: times that a kick woke the worker
 * @signals: times that vhost core was asked to signal the guest
 * @batches: updates of the used ring
 * @polls: windows of busy polling
 * @poll_hits: such windows in which something came
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
	u64 polls;
	u64 poll_hits;
};

/**
 * struct vhost_blk_desc - a split descriptor in two words, as it is read
 * @addr: guest physical address
 * @rest: from its lowest bit on: length (32 bits), flags and next (16 each)
 *
 * Virtio 1.4, section 2.7.5, of a little-endian ring.
 */
struct vhost_blk_desc {
	__le64 addr;
	__le64 rest;
};

/**
 * struct vhost_blk_region - guest memory that is in one piece of the owner's
 * @start: guest physical address
 * @size: in bytes; 0 if it is none
 * @user: the owner's address
 */
struct vhost_blk_region {
	u64 start;
	u64 size;
	u64 user;
};

/**
 * struct vhost_blk_fetch - how chains get out of a ring
 * @region: guest memory that an address was in; forgotten when the memory table has
 *	changed
 * @has_fast_path: the short way to fetch knows rings like this one
 * @descs: the chain that is being fetched, before it is checked
 * @chain: the chain that is being started, checked
 * @header: the own copy of its header
 */
struct vhost_blk_fetch {
	struct vhost_blk_region region;
	bool has_fast_path;
	struct vhost_blk_desc descs[VHOST_BLK_FAST_CHAIN_MAX];
	struct vhost_blk_chain chain;
	struct virtio_blk_outhdr header;
};

/**
 * struct vhost_blk_wait - what was learned of when to signal and when to sleep
 * @pending_signals: answers in the ring that the guest wasn't told of
 * @signalled_at: when the first signal was sent that it hasn't seen yet, or the last
 * @depth: requests that the guest has under way, as far as learned
 * @gather_pause: signals that are to go without gathering before
 * @gather_backoff: how many that were the last time; 0 after a success
 * @gather_successes: in a row
 * @gather_grow: of them, until more is tried for
 * @reaction_ns: what it takes the guest to react to a signal, as far as learned
 * @poll_ns: how long to look for work before sleeping
 * @poll_end: when the window of polling that is open ends; 0 if none is
 * @idle_since: since when there was nothing to do; 0 while there is
 */
struct vhost_blk_wait {
	unsigned int pending_signals;
	u64 signalled_at;
	unsigned int depth;
	unsigned int gather_pause;
	unsigned int gather_backoff;
	unsigned int gather_successes;
	unsigned int gather_grow;
	u64 reaction_ns;
	u64 poll_ns;
	u64 poll_end;
	u64 idle_since;
};

/* Pages of the longest record, wherever it begins. */
#define VHOST_BLK_RECORD_PAGES \
	(DIV_ROUND_UP(sizeof(struct vhost_blk_inflight) + VHOST_BLK_MAX_RING * \
		      sizeof(struct vhost_blk_inflight_desc), PAGE_SIZE) + 1)

/**
 * struct vhost_blk_redo - a chain that is to be done again
 * @counter: when it was fetched, in chains
 * @head: index of its first descriptor
 */
struct vhost_blk_redo {
	u64 counter;
	u16 head;
};

/**
 * struct vhost_blk_record - the record of what is in flight in a ring
 * @addr: where it is in the owner's memory; 0 if there is none
 * @map: its mapping in the kernel; NULL but between start and the end of a stop
 * @counter: chains that were fetched
 * @redo: what is to be done again, in its order
 * @num_redo: elements of @redo
 * @next_redo: the first of them that has not been fetched again
 * @num_pages: elements of @pages
 * @pages: that it is in, pinned
 * @node: in the list of records in use
 */
struct vhost_blk_record {
	u64 addr;
	struct vhost_blk_inflight *map;
	u64 counter;
	struct vhost_blk_redo *redo;
	unsigned int num_redo;
	unsigned int next_redo;
	unsigned int num_pages;
	struct page *pages[VHOST_BLK_RECORD_PAGES];
	struct list_head node;
};

static inline bool vhost_blk_record_has_redo(const struct vhost_blk_record *record)
{
	return record->next_redo < record->num_redo;
}

/**
 * struct vhost_blk_queue - a virtqueue and the requests that are under way in it
 * @vq: vhost core's part. Its mutex protects every field that is not described
 *	otherwise; its private_data is the &struct vhost_blk while running.
 * @blk: the device
 * @index: which of its queues
 * @work: runs the queue for any reason but a kick
 * @poll_timer: queues @work when it is time to look for slow polled operations
 * @requests: the memory of all requests, made when the queue starts and kept
 *	until it starts with another ring size or the device goes
 * @free: a stack of the requests that are not in use
 * @num_requests: elements of @requests: the ring's size at the last start
 * @num_free: elements of @free; the rest are in flight
 * @load: of the requests in flight
 * @started: between a start and the end of the stop that follows
 * @broken: the guest made a ring that can't be followed; nothing more is
 *	fetched until the queue is started again
 * @reserve_in_use: a request is in flight that has what the queue has only once
 * @ring_missing: the IOTLB lacks the ring, and the VMM was asked for it
 * @chain_missing: the same of the chain that is to be fetched next
 * @paused: nothing is fetched for a moment
 * @run_after_pause: there was a reason to, meanwhile
 * @record: of what is in flight, for who serves the ring next
 * @fetch: the way in
 * @channel: the storage room's part
 * @wait: the way out
 * @counters: for who runs the machine; read without any lock
 * @completed: requests whose I/O ended, waiting to be answered; lock-free
 * @working: whether the worker will look at @completed by itself
 * @drained: who waits for @completed to fill while the queue stops
 */
struct vhost_blk_queue {
	struct vhost_virtqueue vq;
	struct vhost_blk *blk;
	unsigned int index;
	struct vhost_work work;
	struct timer_list poll_timer;
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
	struct vhost_blk_record record;
	struct vhost_blk_fetch fetch;
	struct vhost_blk_channel channel;
	struct vhost_blk_wait wait;
	struct vhost_blk_counters counters;
	struct llist_head completed ____cacheline_aligned_in_smp;
	bool working;
	wait_queue_head_t drained;
};

void vhost_blk_fetch_choose_path(struct vhost_blk_queue *queue);
void vhost_blk_fetch_drop_region(struct vhost_blk_queue *queue);
int vhost_blk_fetch(struct vhost_blk_queue *queue);
void vhost_blk_fetch_undo(struct vhost_blk_queue *queue);

int vhost_blk_record_open(struct vhost_blk_queue *queue);
void vhost_blk_record_close(struct vhost_blk_queue *queue);
void vhost_blk_record_mark_fetched(struct vhost_blk_queue *queue, u16 head);
void vhost_blk_record_link_batch(struct vhost_blk_queue *queue, unsigned int count);
void vhost_blk_record_clear_batch(struct vhost_blk_queue *queue, unsigned int count);

void vhost_blk_wait_start(struct vhost_blk_queue *queue);
void vhost_blk_wait_note_signal(struct vhost_blk_queue *queue);
void vhost_blk_wait_adapt(struct vhost_blk_queue *queue);
bool vhost_blk_wait_should_resched(void);
bool vhost_blk_wait_should_signal(struct vhost_blk_queue *queue);
bool vhost_blk_wait_gather(struct vhost_blk_queue *queue);
bool vhost_blk_wait_poll(struct vhost_blk_queue *queue);

void vhost_blk_queue_init(struct vhost_blk_queue *queue, struct vhost_blk *blk,
			  unsigned int index);
int vhost_blk_queue_start(struct vhost_blk_queue *queue);
int vhost_blk_queue_pause(struct vhost_blk_queue *queue, u64 start, u64 last,
			  long *timeout);
void vhost_blk_queue_resume(struct vhost_blk_queue *queue);
bool vhost_blk_queue_can_write_used(struct vhost_blk_queue *queue);
int vhost_blk_queue_stop(struct vhost_blk_queue *queue, bool write_used,
			 long *timeout);
int vhost_blk_queue_drain(struct vhost_blk_queue *queue, bool write_used,
			  long *timeout);
void vhost_blk_queue_free(struct vhost_blk_queue *queue);
void vhost_blk_queue_completed(struct vhost_blk_request *req);
void vhost_blk_queue_show(const struct vhost_blk_queue *queue,
			  struct seq_file *seq);

/* Device */

/**
 * struct vhost_blk - an open /dev/vhost-blk
 * @dev: vhost core's part; its mutex is for vhost core's own calls and for
 *	starting and stopping
 * @lock: serializes the ioctls; outside of @dev's mutex, which does not exist
 *	before the first bind
 * @id: tells devices apart in traces and counters
 * @name: what the owner calls the device; under @lock, fixed while running
 * @holder: what claims the block device
 * @backing: the bound device. Changed under @lock while no queue runs, so that
 *	a running queue reads it without.
 * @features: offered since the last bind
 * @serial: answer to VIRTIO_BLK_T_GET_ID; as @backing
 * @num_queues: as bound
 * @bound: since the first bind, for ever; all below and @dev exist. Set with
 *	release semantics, for readers without @lock.
 * @running: between VHOST_BLK_SET_RUNNING 1 and 0, or while a ring runs; under @lock
 * @write_back: what the driver has set VIRTIO_BLK_F_CONFIG_WCE's byte to; the
 *	queues read it without a lock
 * @config_call: signalled when the capacity changes, or NULL; under @lock and,
 *	for @config_work, cancelled before it changes
 * @config_work: looks whether the capacity has changed
 * @release_work: frees the device where closing it can't wait for that
 * @capacity: the last that the VMM was told of, in sectors of 512 bytes
 * @queues: @num_queues of them
 * @vqs: what vhost core wants to see of them
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
	bool running;
	bool write_back;
	struct eventfd_ctx *config_call;
	struct delayed_work config_work;
	struct work_struct release_work;
	u64 capacity;
	struct vhost_blk_queue **queues;
	struct vhost_virtqueue **vqs;
};

#endif /* _VHOST_BLK_H */
