// SPDX-License-Identifier: GPL-2.0
/*
 * A hostile VMM at the daemon's socket: valid conversations, of which anything may be
 * changed. The daemon ends a bad connection, prints no message twice for it, and goes on.
 * Another daemon's disk goes on answering.
 *
 * usage: fuzz [--seconds N] [--connections N] [--seed S] SOCKET PID LOG INNOCENT_SOCKET
 *	--seconds	how long it lasts (10), or
 *	--connections	so many connections, after which memory and descriptors of the
 *			daemon are held against what they were before
 *	SOCKET		of the daemon PID, which writes to LOG
 *	INNOCENT_SOCKET	of another one, whose disk of 16 MiB or more is overwritten
 *
 * A conversation is a list of messages. Messages are left out, repeated or exchanged;
 * in one that is sent, bytes, numbers, sizes and descriptors are changed; the rings,
 * the record of what is in flight and the size of the memory change behind the daemon's
 * back. Guest memory is written by system calls only: this program can't hurt itself.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#define PAGE		4096ULL
#define QUEUES		4
#define RING_SIZE	64
#define RING_BYTES	(4 * PAGE)
#define AVAIL_OFFSET	PAGE
#define USED_OFFSET	(2 * PAGE)
#define ENDS_OFFSET	(3 * PAGE)

/* Guest memory: two halves of a file, far from each other for guest and VMM. */
#define HALF		(1ULL << 20)
#define LOW_GPA		0ULL
#define HIGH_GPA	0x100000000ULL
#define LOW_USER	0x7f0000000000ULL
#define HIGH_USER	0x7f5000000000ULL
/* Behind the virtual IOMMU: of the first region only. */
#define IOVA		0x600000000000ULL
#define LOG_BYTES	((HIGH_GPA + HALF) / PAGE / 8)

/* The daemon may be slow, but not so slow. */
#define STUCK_S		(60 * limit_factor())
#define INNOCENT_MS	(20000 * limit_factor())

#define MAX_STEPS	128

/* What is no message. */
enum {
	SEND_READS = 1000,	/* into the rings, and kicks */
	SCRIBBLE,		/* into guest memory */
	LIE,			/* in the record of what is in flight */
	ANSWER,			/* questions for translations */
	TRUNCATE,		/* guest memory or log */
	WAIT,
};

struct step {
	uint32_t request;
	unsigned int ring;
};

struct message {
	struct vhost_user_msg msg;
	size_t size;
	int fds[VHOST_USER_MAX_FDS];
	unsigned int num_fds;
};

/**
 * struct talk - a conversation
 * @u: the connection
 * @wrong: one in so many things is wrong; never if 0
 * @features: of the device
 * @logs: it has a dirty log
 * @mapped: guest memory is behind a virtual IOMMU
 * @got_record: the daemon has just given a record of what is in flight
 * @mem: guest memory
 * @log: for the dirty log
 * @pair: a socket pair for the back end's channel
 */
struct talk {
	struct vhost_client c;
	struct vhost_user u;
	unsigned int wrong;
	uint64_t features;
	bool logs;
	bool mapped;
	bool got_record;
	int mem, log;
	int kick, call;
	int pair[2];
	uint16_t avail[QUEUES];
	struct step steps[MAX_STEPS];
	unsigned int num_steps;
};

static struct {
	pid_t pid;
	const char *log;
	unsigned long connections, messages, ended, valid, valid_ended;
	unsigned long repeats;
} daemon_;

/* What the innocent process says. */
static struct shared {
	bool stop;
	unsigned long requests;
	char failure[128];
} *shared;

static uint64_t random_state;

static uint64_t rnd(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(uint64_t limit)
{
	return (rnd() >> 8) % limit;
}

static bool one_in(unsigned int n)
{
	return n && !below(n);
}

static uint64_t edge(void)
{
	uint64_t bit = 1ULL << below(64);

	switch (below(6)) {
	case 0:
		return bit;
	case 1:
		return bit - 1;
	case 2:
		return -bit;
	case 3:
		return below(1024);
	case 4:
		return PAGE * below(1 << 20);
	default:
		return rnd();
	}
}

/* The innocent process */

static void be_innocent(const char *socket)
{
	unsigned int seed = 0, bytes = 16 << 10;
	struct backend b;
	uint8_t *out, *in;

	set_up_backend(&b, socket, 1);
	out = vhost_client_alloc(&b.f.c, bytes, PAGE);
	in = vhost_client_alloc(&b.f.c, bytes, PAGE);
	while (!shared->stop) {
		uint64_t sector = bytes / SECTOR * (++seed % 1000);

		fill(out, bytes, seed);
		memset(in, 0, bytes);
		if (simple(&b.f, 0, VIRTIO_BLK_T_OUT, sector, out, bytes, NULL) ||
		    simple(&b.f, 0, VIRTIO_BLK_T_IN, sector, in, bytes, NULL)) {
			strcpy(shared->failure, "a request failed");
			_exit(1);
		}
		if (memcmp(in, out, bytes)) {
			strcpy(shared->failure, "data read is not what was written");
			_exit(1);
		}
		shared->requests += 2;
		/* It is to be served, not to take the processor. */
		usleep(5000);
	}
	tear_down_backend(&b);
	_exit(0);
}

static pid_t start_innocent(const char *socket)
{
	pid_t pid = fork();

	if (pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_innocent(socket);
	}
	return pid;
}

/* Things that a descriptor can be */

static int make_memfd(uint64_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size))
		abort();
	return fd;
}

/* The caller closes it. */
static int any_fd(void)
{
	int fds[2];

	switch (below(8)) {
	case 0:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case 1:
		return make_memfd(below(4 * PAGE));
	case 2:
		return make_memfd(2 * HALF);
	case 3:
		if (pipe2(fds, O_CLOEXEC))
			abort();
		close(fds[1]);
		return fds[0];
	case 4:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
			abort();
		close(fds[1]);
		return fds[0];
	case 5:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 6:
		return open("/dev/zero", O_RDWR | O_CLOEXEC);
	default:
		return open("/dev/vhost-blk", O_PATH | O_CLOEXEC);
	}
}

/* Guest memory */

static uint64_t ring_offset(unsigned int ring)
{
	return ring * RING_BYTES;
}

static void write_memory(struct talk *t, uint64_t offset, const void *data,
			 size_t size)
{
	/* Beyond what was truncated, it grows again: then some of it is a hole. */
	if (pwrite(t->mem, data, size, offset) != (ssize_t)size)
		abort();
}

/* Reads of a page each, in descriptors of the ring. */
static void offer_reads(struct talk *t, unsigned int ring)
{
	const uint64_t base = ring_offset(ring);
	const uint64_t low = t->mapped ? IOVA : LOW_GPA;
	unsigned int i, num = 1 + below(RING_SIZE / 3);

	for (i = 0; i < num; i++) {
		uint16_t head = 3 * i, slot = t->avail[ring] % RING_SIZE;
		uint64_t ends = base + ENDS_OFFSET + 32 * i;
		uint64_t data = t->mapped ? IOVA + HALF / 2 : HIGH_GPA;
		struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_IN };
		struct vring_desc desc[3] = {
			{ low + ends, 16, VRING_DESC_F_NEXT, head + 1 },
			{ data + PAGE * below(HALF / 2 / PAGE), PAGE,
			  VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, head + 2 },
			{ low + ends + 16, 1, VRING_DESC_F_WRITE, 0 },
		};

		write_memory(t, ends, &hdr, sizeof(hdr));
		write_memory(t, base + head * sizeof(*desc), desc, sizeof(desc));
		write_memory(t, base + AVAIL_OFFSET + 4 + 2 * slot, &head, 2);
		t->avail[ring]++;
	}
	write_memory(t, base + AVAIL_OFFSET + 2, &t->avail[ring], 2);
}

static void read_all_rings(struct talk *t)
{
	uint64_t one = 1;
	unsigned int i;

	for (i = 0; i < QUEUES; i++)
		offer_reads(t, i);
	if (write(t->kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

static void scribble(struct talk *t)
{
	uint64_t values[4] = { rnd(), edge(), edge(), rnd() };
	unsigned int i;

	for (i = 0; i < 8; i++)
		write_memory(t, below(QUEUES * RING_BYTES), values, sizeof(values));
}

/* Where the daemon has put them, and anything in them. */
static void lie(struct talk *t)
{
	struct vhost_user *u = &t->u;
	unsigned int i, changes = 1 + below(16);
	size_t size = u->inflight_desc.mmap_size;

	if (u->inflight_fd < 0 || size < 64)
		return;
	for (i = 0; i < changes; i++) {
		size_t at = one_in(2) ? below(64) : below(size);

		u->inflight[at] = one_in(2) ? rnd() : below(3);
	}
	/* It should be sealed. */
	if (one_in(8) && !ftruncate(u->inflight_fd, below(size)))
		tap_bail("the record of what is in flight can be truncated");
}

static void truncate_memory(struct talk *t)
{
	if (ftruncate(one_in(4) ? t->log : t->mem, PAGE * below(2 * HALF / PAGE)))
		abort();
}

/* Messages as they should be */

static void add_fd(struct message *m, int fd)
{
	m->fds[m->num_fds++] = fd;
}

static struct vhost_user_region half(bool high)
{
	return (struct vhost_user_region){
		.guest_addr = high ? HIGH_GPA : LOW_GPA,
		.size = HALF,
		.user_addr = high ? HIGH_USER : LOW_USER,
		.mmap_offset = high ? HALF : 0,
	};
}

static void build_vring_addr(struct talk *t, struct message *m, unsigned int ring)
{
	uint64_t user = (t->mapped ? IOVA : LOW_USER) + ring_offset(ring);

	m->msg.addr = (struct vhost_vring_addr){
		.index = ring,
		.flags = t->logs ? 1U << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = user,
		.avail_user_addr = user + AVAIL_OFFSET,
		.used_user_addr = user + USED_OFFSET,
		.log_guest_addr = LOW_GPA + ring_offset(ring) + USED_OFFSET,
	};
	m->size = sizeof(m->msg.addr);
}

static void build_memory(struct talk *t, struct message *m)
{
	m->msg.memory.num = 2;
	m->msg.memory.regions[0] = half(false);
	m->msg.memory.regions[1] = half(true);
	m->size = offsetof(struct vhost_user_memory, regions[2]);
	add_fd(m, t->mem);
	add_fd(m, t->mem);
}

static void build_config(struct message *m, bool set)
{
	const size_t head = VHOST_USER_CONFIG_HEADER;

	m->msg.config.size = sizeof(struct virtio_blk_config);
	if (set) {
		m->msg.config.offset = offsetof(struct virtio_blk_config, wce);
		m->msg.config.size = 1;
		m->msg.config.data[0] = below(2);
	}
	m->size = head + m->msg.config.size;
}

static uint64_t choose_features(bool logs, bool mapped)
{
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
			    1ULL << VHOST_USER_F_PROTOCOL_FEATURES;

	if (one_in(2))
		features |= 1ULL << VIRTIO_RING_F_EVENT_IDX;
	if (logs)
		features |= 1ULL << VHOST_F_LOG_ALL;
	if (mapped)
		features |= 1ULL << VIRTIO_F_ACCESS_PLATFORM;
	return features;
}

static uint64_t choose_protocol(bool mapped)
{
	uint64_t ack = VHOST_USER_PROTOCOL_F_REPLY_ACK;

	return VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD |
	       VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_CONFIG |
	       VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD |
	       VHOST_USER_PROTOCOL_F_RESET_DEVICE |
	       VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS |
	       VHOST_USER_PROTOCOL_F_STATUS | (mapped || one_in(2) ? ack : 0);
}

static void build_u64(struct message *m, uint64_t value)
{
	m->msg.u64 = value;
	m->size = sizeof(m->msg.u64);
}

static void build_state(struct message *m, unsigned int ring, unsigned int num)
{
	m->msg.state = (struct vhost_vring_state){ ring, num };
	m->size = sizeof(m->msg.state);
}

static void build_slot(struct message *m, bool high)
{
	m->msg.mem_reg.region = half(high);
	m->size = sizeof(m->msg.mem_reg);
}

static void build_inflight(struct talk *t, struct message *m, bool set)
{
	if (set) {
		m->msg.inflight = t->u.inflight_desc;
		if (t->u.inflight_fd >= 0)
			add_fd(m, t->u.inflight_fd);
	} else {
		m->msg.inflight.num_queues = QUEUES;
		m->msg.inflight.queue_size = RING_SIZE;
	}
	m->size = sizeof(m->msg.inflight);
}

static void build_log(struct talk *t, struct message *m)
{
	m->msg.log.size = LOG_BYTES;
	m->size = sizeof(m->msg.log);
	add_fd(m, t->log);
}

/* A page of a ring, or all of the first region. Two that overlap say the same. */
static void build_iotlb(struct talk *t, struct message *m, unsigned int ring)
{
	bool page = one_in(2);

	m->msg.iotlb = (struct vhost_iotlb_msg){
		.iova = IOVA + (page ? ring_offset(ring) : 0),
		.size = page ? PAGE : HALF,
		.uaddr = LOW_USER + (page ? ring_offset(ring) : 0),
		.perm = one_in(t->wrong) ? VHOST_ACCESS_RO : VHOST_ACCESS_RW,
		.type = one_in(3) ? VHOST_IOTLB_INVALIDATE : VHOST_IOTLB_UPDATE,
	};
	m->size = sizeof(m->msg.iotlb);
}

static void build(struct talk *t, const struct step *step, struct message *m)
{
	memset(m, 0, sizeof(*m));
	switch (step->request) {
	case VHOST_USER_SET_FEATURES:
		build_u64(m, t->features);
		break;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		build_u64(m, choose_protocol(t->mapped));
		break;
	case VHOST_USER_SET_MEM_TABLE:
		build_memory(t, m);
		break;
	case VHOST_USER_ADD_MEM_REG:
		add_fd(m, t->mem);
		build_slot(m, step->ring);
		break;
	case VHOST_USER_REM_MEM_REG:
		build_slot(m, step->ring);
		break;
	case VHOST_USER_SET_LOG_BASE:
		build_log(t, m);
		break;
	case VHOST_USER_SET_VRING_NUM:
		build_state(m, step->ring, RING_SIZE);
		break;
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
		build_state(m, step->ring, 0);
		break;
	case VHOST_USER_SET_VRING_ENABLE:
		build_state(m, step->ring, !one_in(8));
		break;
	case VHOST_USER_SET_VRING_ADDR:
		build_vring_addr(t, m, step->ring);
		break;
	case VHOST_USER_SET_LOG_FD:
		add_fd(m, t->call);
		break;
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_SET_VRING_KICK:
		build_u64(m, step->ring);
		add_fd(m, step->request == VHOST_USER_SET_VRING_KICK ? t->kick :
								       t->call);
		break;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		add_fd(m, t->pair[1]);
		break;
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		build_config(m, step->request == VHOST_USER_SET_CONFIG);
		break;
	case VHOST_USER_GET_INFLIGHT_FD:
	case VHOST_USER_SET_INFLIGHT_FD:
		build_inflight(t, m, step->request == VHOST_USER_SET_INFLIGHT_FD);
		break;
	case VHOST_USER_IOTLB_MSG:
		build_iotlb(t, m, step->ring);
		break;
	case VHOST_USER_SET_STATUS:
		build_u64(m, below(16));
		break;
	}
	m->msg.header = (struct vhost_user_header){
		step->request, VHOST_USER_VERSION, m->size
	};
	if (one_in(4))
		m->msg.header.flags |= VHOST_USER_NEED_REPLY;
}

/* Conversations as they should be */

static void add_step(struct talk *t, uint32_t request, unsigned int ring)
{
	if (t->num_steps < MAX_STEPS)
		t->steps[t->num_steps++] = (struct step){ request, ring };
}

static void add_ring(struct talk *t, unsigned int ring)
{
	static const uint32_t requests[] = {
		VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
		VHOST_USER_SET_VRING_ADDR, VHOST_USER_SET_VRING_CALL,
		VHOST_USER_SET_VRING_ERR, VHOST_USER_SET_VRING_KICK,
		VHOST_USER_SET_VRING_ENABLE,
	};
	unsigned int i;

	for (i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		add_step(t, requests[i], ring);
}

static void add_memory(struct talk *t)
{
	if (one_in(2)) {
		add_step(t, VHOST_USER_SET_MEM_TABLE, 0);
	} else {
		add_step(t, VHOST_USER_ADD_MEM_REG, 0);
		add_step(t, VHOST_USER_ADD_MEM_REG, 1);
	}
}

/* What may come at any time once rings run, and what may not. */
static void add_anything(struct talk *t)
{
	static const uint32_t right[] = {
		VHOST_USER_GET_VRING_BASE, VHOST_USER_SET_VRING_ENABLE,
		VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_KICK,
		VHOST_USER_SET_FEATURES, VHOST_USER_SET_LOG_BASE,
		VHOST_USER_SET_MEM_TABLE, VHOST_USER_SET_CONFIG,
		VHOST_USER_GET_CONFIG, VHOST_USER_GET_INFLIGHT_FD,
		VHOST_USER_SET_STATUS, VHOST_USER_RESET_DEVICE,
		VHOST_USER_SET_LOG_FD, VHOST_USER_RESET_OWNER, SEND_READS,
		SEND_READS, WAIT, VHOST_USER_IOTLB_MSG, ANSWER,
	};
	static const uint32_t wrong[] = {
		VHOST_USER_REM_MEM_REG, VHOST_USER_ADD_MEM_REG,
		VHOST_USER_SET_INFLIGHT_FD, VHOST_USER_SET_VRING_BASE,
		VHOST_USER_SET_VRING_NUM, SCRIBBLE, LIE, TRUNCATE,
	};
	uint32_t request = right[below(sizeof(right) / sizeof(*right))];
	bool memory;

	if (t->wrong && one_in(3))
		request = wrong[below(sizeof(wrong) / sizeof(*wrong))];
	memory = request == VHOST_USER_ADD_MEM_REG ||
		 request == VHOST_USER_REM_MEM_REG;
	add_step(t, request, below(memory ? 2 : QUEUES));
}

static void plan(struct talk *t)
{
	unsigned int i, rings = 1 + below(QUEUES);

	add_step(t, VHOST_USER_GET_PROTOCOL_FEATURES, 0);
	add_step(t, VHOST_USER_SET_PROTOCOL_FEATURES, 0);
	add_step(t, VHOST_USER_GET_QUEUE_NUM, 0);
	add_step(t, VHOST_USER_GET_MAX_MEM_SLOTS, 0);
	add_step(t, VHOST_USER_SET_OWNER, 0);
	add_step(t, VHOST_USER_SET_BACKEND_REQ_FD, 0);
	add_step(t, VHOST_USER_GET_CONFIG, 0);
	add_step(t, VHOST_USER_SET_FEATURES, 0);
	add_memory(t);
	if (one_in(2)) {
		add_step(t, VHOST_USER_GET_INFLIGHT_FD, 0);
		add_step(t, VHOST_USER_SET_INFLIGHT_FD, 0);
	}
	if (t->logs)
		add_step(t, VHOST_USER_SET_LOG_BASE, 0);
	for (i = 0; i < rings; i++)
		add_ring(t, i);
	add_step(t, SEND_READS, 0);
	for (i = 0; i < 3 * t->mapped; i++)
		add_step(t, ANSWER, 0);
	for (i = below(24); i; i--)
		add_anything(t);
	for (i = 0; i < rings && one_in(2); i++)
		add_step(t, VHOST_USER_GET_VRING_BASE, i);
}

/* What goes wrong with them */

static void disorder(struct talk *t)
{
	unsigned int i, with;
	struct step step;

	for (i = 0; i < t->num_steps; i++) {
		if (!one_in(3 * t->wrong))
			continue;
		with = below(t->num_steps);
		step = t->steps[i];
		if (one_in(2))
			t->steps[i] = t->steps[with];
		if (one_in(2))
			t->steps[with] = step;
	}
}

static void change_fds(struct message *m, bool *mine)
{
	unsigned int i, num = one_in(2) ? below(VHOST_USER_MAX_FDS) : below(4);

	for (i = 0; i < num; i++) {
		if (i < m->num_fds && one_in(2))
			continue;
		m->fds[i] = any_fd();
		mine[i] = true;
	}
	m->num_fds = num;
}

/* A number of the payload; most are 64 bits, all are at least 16. */
static void change_number(struct message *m)
{
	char *payload = (char *)&m->msg + sizeof(m->msg.header);
	uint64_t value = edge();
	size_t width = 2 << below(3), numbers = m->size / width;

	if (numbers)
		memcpy(payload + width * below(numbers), &value, width);
}

/* The second region comes near the first one, over it, or they wrap. */
static void change_regions(struct vhost_user_memory *memory)
{
	struct vhost_user_region *region = memory->regions;
	int64_t by = PAGE * (below(5) - 2LL);

	region[1].guest_addr = region[0].guest_addr +
			       (one_in(2) ? region[0].size : 0) + by;
	if (one_in(2))
		region[1].user_addr = region[0].user_addr + by;
	if (one_in(4))
		region[0].size = -region[0].guest_addr + by;
	if (one_in(4))
		memory->num = below(12);
}

static void change_memory(struct message *m)
{
	struct vhost_user_memory memory = m->msg.memory;
	int64_t by = PAGE * (below(5) - 2LL);

	if (m->msg.header.request == VHOST_USER_SET_MEM_TABLE) {
		change_regions(&memory);
		m->msg.memory = memory;
		return;
	}
	m->msg.mem_reg.region.guest_addr += by;
	m->msg.mem_reg.region.user_addr += one_in(2) ? by : 0;
}

static void change_header(struct message *m)
{
	struct vhost_user_header header = m->msg.header;

	switch (below(4)) {
	case 0:
		header.size = edge();
		break;
	case 1:
		m->size = below(sizeof(m->msg) - sizeof(header));
		header.size = m->size;
		break;
	case 2:
		header.flags = edge();
		break;
	default:
		header.request = one_in(2) ? below(48) : edge();
	}
	m->msg.header = header;
}

static void damage(struct message *m, bool *mine)
{
	uint32_t request = m->msg.header.request;

	switch (below(5)) {
	case 0:
		change_fds(m, mine);
		break;
	case 1:
		change_header(m);
		break;
	case 2:
		if (request == VHOST_USER_SET_MEM_TABLE ||
		    request == VHOST_USER_ADD_MEM_REG) {
			change_memory(m);
			break;
		}
		/* fall through */
	default:
		change_number(m);
	}
}

/* Talking */

/* Keeps what the daemon gives, such as a record. */
static void take_record(struct talk *t, struct vhost_user_msg *msg, int fd)
{
	struct vhost_user_inflight *desc = &t->u.inflight_desc;
	size_t size = msg->inflight.mmap_size;
	uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (t->u.inflight_fd >= 0) {
		munmap(t->u.inflight, desc->mmap_size);
		close(t->u.inflight_fd);
		t->u.inflight_fd = -1;
	}
	if (map == MAP_FAILED) {
		close(fd);
		return;
	}
	t->got_record = true;
	*desc = msg->inflight;
	t->u.inflight = map;
	t->u.inflight_fd = fd;
}

/* Reads what there is to read; false at the end of the connection. */
static bool take_replies(struct talk *t, int timeout_ms)
{
	struct pollfd file = { .fd = t->c.fd, .events = POLLIN };
	struct vhost_user_msg msg;
	int fd;

	while (poll(&file, 1, timeout_ms) > 0) {
		char byte;

		if (recv(t->c.fd, &byte, 1, MSG_PEEK) <= 0)
			return false;
		fd = -1;
		if (vhost_user_receive(&t->u, &msg, VHOST_USER_GET_INFLIGHT_FD,
				       &fd) == -EPIPE)
			return false;
		if (fd >= 0)
			take_record(t, &msg, fd);
		timeout_ms = 0;
	}
	return true;
}

static bool wait_record(struct talk *t)
{
	unsigned int i;

	t->got_record = false;
	for (i = 0; i < 50 && !t->got_record; i++)
		if (!take_replies(t, 20))
			return false;
	return true;
}

static bool send_message(struct talk *t, struct message *m)
{
	size_t size = sizeof(m->msg.header) + m->size;
	bool mine[VHOST_USER_MAX_FDS] = {};
	unsigned int i;
	int ret;

	if (one_in(t->wrong))
		damage(m, mine);
	/* Half a message: the rest never comes. */
	if (one_in(20 * t->wrong))
		size = below(size);
	ret = vhost_user_send_bytes(&t->u, &m->msg, size, m->fds,
				    size ? m->num_fds : 0);
	for (i = 0; i < m->num_fds; i++)
		if (mine[i])
			close(m->fds[i]);
	daemon_.messages++;
	return !ret && size == sizeof(m->msg.header) + m->size;
}

/* The questions that there are: truly, or with whatever is a message, or not at all. */
static bool answer_questions(struct talk *t)
{
	struct vhost_iotlb_msg miss;
	struct message m;

	while (!vhost_user_take_miss(&t->u, &miss, 20)) {
		build(t, &(struct step){ VHOST_USER_IOTLB_MSG, 0 }, &m);
		m.msg.iotlb = (struct vhost_iotlb_msg){
			.iova = IOVA,
			.size = HALF,
			.uaddr = LOW_USER,
			.perm = VHOST_ACCESS_RW,
			.type = VHOST_IOTLB_UPDATE,
		};
		if (!one_in(8) && !send_message(t, &m))
			return false;
		if (one_in(t->wrong) ? send(t->pair[0], &m, below(sizeof(m)), MSG_NOSIGNAL) < 0 :
				       vhost_user_reply_miss(&t->u))
			return true;
	}
	return true;
}

/* Whether the conversation goes on. */
static bool take_step(struct talk *t, const struct step *step)
{
	struct message m;

	switch (step->request) {
	case SEND_READS:
		read_all_rings(t);
		return true;
	case SCRIBBLE:
		scribble(t);
		return true;
	case LIE:
		lie(t);
		return true;
	case TRUNCATE:
		truncate_memory(t);
		return true;
	case ANSWER:
		return answer_questions(t);
	case WAIT:
		return take_replies(t, 2);
	}
	build(t, step, &m);
	if (!send_message(t, &m))
		return false;
	return m.msg.header.request == VHOST_USER_GET_INFLIGHT_FD ? wait_record(t) :
								   take_replies(t, 0);
}

static void begin_talk(struct talk *t, const char *socket, unsigned int wrong)
{
	*t = (struct talk){
		.wrong = wrong,
		.u.path = (char *)socket,
		.u.backend_fd = -1,
		.u.inflight_fd = -1,
		.mem = make_memfd(2 * HALF),
		.log = make_memfd(LOG_BYTES),
		.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	t->u.client = &t->c;
	t->logs = one_in(2);
	t->mapped = one_in(3);
	t->features = choose_features(t->logs, t->mapped);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t->pair))
		abort();
	t->u.backend_fd = t->pair[0];
	plan(t);
	if (wrong)
		disorder(t);
}

static void end_talk(struct talk *t)
{
	close(t->c.fd);
	close(t->mem);
	close(t->log);
	close(t->kick);
	close(t->call);
	close(t->pair[0]);
	close(t->pair[1]);
	if (t->u.inflight_fd >= 0) {
		munmap(t->u.inflight, t->u.inflight_desc.mmap_size);
		close(t->u.inflight_fd);
	}
}

/* Whether the daemon serves a connection, which shows that it is done with the last. */
static bool greet(struct talk *t)
{
	struct pollfd file = { .events = POLLIN };
	struct vhost_user_msg msg;

	if (vhost_user_connect(&t->u))
		return false;
	file.fd = t->c.fd;
	return !vhost_user_send(&t->u, &msg, VHOST_USER_GET_FEATURES, 0, 0, NULL, 0) &&
	       poll(&file, 1, STUCK_S * 1000) == 1 &&
	       vhost_user_receive(&t->u, &msg, VHOST_USER_GET_FEATURES, NULL) == 8;
}

/* Of the lines that the log has got since the last call: how many begin as an earlier one. */
static unsigned int count_repeats(void)
{
	static FILE *file;
	char line[1024], known[8][sizeof("vhost-blkd: the connection is closed")];
	unsigned int i, num = 0, repeats = 0;

	if (!file)
		file = fopen(daemon_.log, "r");
	if (!file)
		tap_bail("%s: %s", daemon_.log, strerror(errno));
	clearerr(file);
	while (fgets(line, sizeof(line), file)) {
		line[sizeof(known[0]) - 1] = '\0';
		for (i = 0; i < num && strcmp(known[i], line); i++)
			;
		repeats += i < num;
		if (i == num && num < sizeof(known) / sizeof(*known))
			strcpy(known[num++], line);
	}
	return repeats;
}

/* One connection; false if the daemon doesn't serve any more. */
static bool talk(const char *socket, unsigned int wrong)
{
	struct talk t;
	unsigned int i;
	bool served;

	begin_talk(&t, socket, wrong);
	served = greet(&t);
	/* Of the last one. */
	daemon_.repeats += count_repeats();
	daemon_.connections++;
	for (i = 0; i < t.num_steps && served; i++)
		if (!take_step(&t, &t.steps[i]))
			break;
	/* Also of its last answers. */
	if (!wrong && i == t.num_steps)
		served = take_replies(&t, 0) && served;
	daemon_.ended += i < t.num_steps;
	daemon_.valid += !wrong;
	daemon_.valid_ended += !wrong && i < t.num_steps;
	end_talk(&t);
	return served;
}

static bool daemon_lives(void)
{
	return !kill(daemon_.pid, 0);
}

/* Most conversations go wrong only here and there, or they would never get far. */
static bool any_talk(const char *socket)
{
	static const unsigned int wrong[] = { 0, 200, 100, 50, 50, 20, 5, 2 };

	return talk(socket, wrong[below(sizeof(wrong) / sizeof(*wrong))]);
}

static void fuzz_for(const char *socket, int seconds)
{
	double begin = now();
	bool served = true;

	while (served && now() - begin < seconds && !*shared->failure)
		served = any_talk(socket);
	tap_ok(served && daemon_lives(), "the daemon served %lu connections",
	       daemon_.connections);
}

/* Memory and descriptors */

static unsigned int count_fds(void)
{
	unsigned int num = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", daemon_.pid);
	dir = opendir(path);
	if (!dir)
		tap_bail("%s: %s", path, strerror(errno));
	while (readdir(dir))
		num++;
	closedir(dir);
	return num;
}

static unsigned int count_maps(void)
{
	unsigned int num = 0;
	char path[64];
	FILE *file;
	int c;

	snprintf(path, sizeof(path), "/proc/%d/maps", daemon_.pid);
	file = fopen(path, "r");
	if (!file)
		tap_bail("%s: %s", path, strerror(errno));
	while ((c = getc(file)) != EOF)
		num += c == '\n';
	fclose(file);
	return num;
}

static unsigned long resident_kib(void)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", daemon_.pid);
	file = fopen(path, "r");
	if (!file)
		tap_bail("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file))
		sscanf(line, "VmRSS: %lu", &kib);
	fclose(file);
	return kib;
}

struct usage {
	unsigned int fds, maps;
	unsigned long kib;
};

/* In the same connection each time, in which nothing else is done. */
static struct usage measure_usage(const char *socket)
{
	struct usage usage;
	struct talk t;

	begin_talk(&t, socket, 0);
	if (!greet(&t))
		tap_bail("%s: no answer", socket);
	usage.fds = count_fds();
	usage.maps = count_maps();
	usage.kib = resident_kib();
	end_talk(&t);
	return usage;
}

static void fuzz_times(const char *socket, unsigned int connections)
{
	struct usage before, after;
	bool served = true;
	unsigned int i;

	/* What is allocated once. */
	for (i = 0; i < 50 && served; i++)
		served = any_talk(socket);
	before = measure_usage(socket);
	for (i = 0; i < connections && served; i++)
		served = any_talk(socket);
	tap_ok(served && daemon_lives(), "the daemon served %u connections", i);
	after = measure_usage(socket);
	tap_equal(after.fds, before.fds, "it has as many descriptors as before");
	tap_equal(after.maps, before.maps, "and mappings");
	if (!tap_ok(after.kib <= before.kib + 256, "and no more memory"))
		printf("# %lu KiB before, %lu after\n", before.kib, after.kib);
}

static void finish_innocent(pid_t pid)
{
	double end = now() + INNOCENT_MS / 1000;
	int status = -1;

	shared->stop = true;
	while (waitpid(pid, &status, WNOHANG) != pid && now() < end)
		usleep(10000);
	if (!tap_ok(!status && shared->requests && !*shared->failure,
		    "the disk of another daemon served %lu requests",
		    shared->requests))
		printf("# %s\n", shared->failure);
	kill(pid, SIGKILL);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 'n' },
		{ "connections", required_argument, NULL, 'c' },
		{ "seed", required_argument, NULL, 's' },
		{}
	};
	uint64_t seed = now() * 1000 + getpid();
	int option, seconds = 10, connections = 0;
	pid_t innocent;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'n')
			seconds = atoi(optarg);
		if (option == 'c')
			connections = atoi(optarg);
		if (option == 's')
			seed = strtoull(optarg, NULL, 0);
	}
	if (argc - optind != 4)
		tap_bail("usage: %s [--seconds N] [--connections N] [--seed S] SOCKET PID LOG INNOCENT_SOCKET",
			 argv[0]);
	printf("# seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	random_state = seed * 0x9e3779b97f4a7c15ULL | 1;
	daemon_.pid = atoi(argv[optind + 1]);
	daemon_.log = argv[optind + 2];
	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	innocent = start_innocent(argv[optind + 3]);
	if (connections)
		fuzz_times(argv[optind], connections);
	else
		fuzz_for(argv[optind], seconds);
	printf("# %lu connections, of which %lu were ended, %lu messages\n",
	       daemon_.connections, daemon_.ended, daemon_.messages);
	tap_equal(daemon_.valid_ended, 0, "none of %lu valid ones was ended",
		  daemon_.valid);
	tap_equal(daemon_.repeats, 0, "no connection says a thing twice");
	finish_innocent(innocent);
	return tap_end();
}
