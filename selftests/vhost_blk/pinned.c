// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory that stays pinned (VHOST_BLK_SET_PIN_MEMORY).
 *
 * usage: pinned calls DISK [DEVICE_MEMORY]
 *	DISK		a block device that may be overwritten
 *	DEVICE_MEMORY	a file that can be mapped and is memory of a device
 * usage: pinned data DISK anonymous|huge|hugetlb|memfd|memfd_hugetlb
 * usage: pinned table DISK
 *	DISK	one that needs milliseconds for a request
 * usage: pinned owner SLOW
 *	SLOW	one that needs a tenth of a second for a request
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "locked.h"
#include "traffic.h"

#define HUGE_PAGE	(2 << 20)
#define PAGE		4096
/* The available and the used ring, each across the end of a page. */
#define RING_PAGES	4

static const struct {
	const char *name;
	int flags;	/* of mmap() */
	int memfd;	/* flags of memfd_create(), or -1 */
	int advice;
} kinds[] = {
	{ "anonymous", MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_NOHUGEPAGE },
	{ "huge", MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_HUGEPAGE },
	{ "hugetlb", MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, MADV_NORMAL },
	{ "memfd", MAP_SHARED, 0, MADV_NORMAL },
	{ "memfd_hugetlb", MAP_SHARED, MFD_HUGETLB, MADV_NORMAL },
};

#define NUM_KINDS	(sizeof(kinds) / sizeof(*kinds))

/* In KiB, from fdinfo; 0 if the device has no pinned memory, or -1. */
static long long pinned_kb(struct fixture *f)
{
	char text[8192], *line;

	if (vhost_client_counters(&f->c, text, sizeof(text)))
		return -1;
	line = strstr(text, "\npinned:");
	return line ? atoll(line + 8) : 0;
}

/* Guest memory of another kind takes the place of the client's. Returns its file or -1. */
static int replace_memory(struct fixture *f, unsigned int kind)
{
	size_t size = f->c.mem_size;
	uint8_t *mem;
	int fd = -1;

	munmap(f->c.mem, size);
	/* Aligned, between pages that nothing uses. */
	mem = mmap(NULL, size + 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem += HUGE_PAGE - (uintptr_t)mem % HUGE_PAGE;
	if (kinds[kind].memfd >= 0) {
		fd = memfd_create("guest", MFD_CLOEXEC | kinds[kind].memfd);
		if (fd < 0 || ftruncate(fd, size))
			tap_bail("no memfd: %s", strerror(errno));
	}
	mem = mmap(mem, size, PROT_READ | PROT_WRITE, MAP_FIXED | kinds[kind].flags, fd, 0);
	if (mem == MAP_FAILED)
		tap_bail("no memory: %s", strerror(errno));
	if (kinds[kind].advice != MADV_NORMAL)
		madvise(mem, size, kinds[kind].advice);
	f->c.mem = mem;
	f->c.mem_free = 0;
	return fd;
}

static void set_up_pinned(struct fixture *f, const char *disk, unsigned int queues)
{
	set_up_bound(f, disk, O_RDWR, queues);
	f->c.pin_memory = true;
	set_up_running(f, queues, ALL_FEATURES);
}

static int set_regions(struct fixture *f, void *second, size_t bytes)
{
	struct vhost_memory_region regions[] = {
		{
			.guest_phys_addr = VHOST_CLIENT_BASE,
			.memory_size = f->c.mem_size,
			.userspace_addr = (uintptr_t)f->c.mem,
		}, {
			.guest_phys_addr = VHOST_CLIENT_BASE + (1ULL << 32),
			.memory_size = bytes,
			.userspace_addr = (uintptr_t)second,
		}
	};

	return vhost_client_set_mem_table(&f->c, regions, second ? 2 : 1);
}

static bool reads_and_writes(struct fixture *f)
{
	return pieces_match(f, 1, PAGE, PAGE, false) &&
	       pieces_match(f, 3, 2 * PAGE + SECTOR, 4 * PAGE, false);
}

/* --- calls --- */

static void test_order(const char *disk)
{
	long long before = pins(false);
	struct fixture f;
	uint32_t two = 2;

	set_up_bound(&f, disk, O_RDWR, 1);
	tap_equal(vhost_client_pin_memory(&f.c, true), -EPERM,
		  "memory can't be pinned without an owner");
	set_up_running(&f, 1, ALL_FEATURES);
	tap_equal(vhost_client_pin_memory(&f.c, true), -EBUSY,
		  "nor while the device runs");
	vhost_client_run(&f.c, false);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_BLK_SET_PIN_MEMORY, &two), -EINVAL,
		  "the value is 0 or 1");
	tap_equal(vhost_client_ioctl(&f.c, VHOST_BLK_SET_PIN_MEMORY, NULL), -EFAULT,
		  "and must be readable");
	tap_equal(vhost_client_pin_memory(&f.c, true), 0,
		  "a table that is set already is pinned");
	tap_equal(pinned_kb(&f), MEMORY >> 10, "all of it, by fdinfo");
	tap_equal(status_kb("VmPin"), MEMORY >> 10, "and by the owner's status");
	tap_equal(pins(false) - before, MEMORY / PAGE, "and by the pages");
	before = pins(true);
	tap_equal(vhost_client_pin_memory(&f.c, true), 0, "pinning again succeeds");
	tap_equal(pins(true), before, "and pins nothing");
	vhost_client_run(&f.c, true);
	tap_ok(reads_and_writes(&f), "the device works");
	tap_equal(pins(true), before, "and pins nothing for a request");
	vhost_client_run(&f.c, false);
	tap_equal(vhost_client_pin_memory(&f.c, false), 0, "pinning ends");
	tap_equal(status_kb("VmPin") + pinned_kb(&f), 0, "with all pins");
	vhost_client_run(&f.c, true);
	tap_ok(reads_and_writes(&f), "the device works");
	tap_ok(pins(true) > before, "and requests pin their own pages");
	tear_down(&f);
}

/* What VHOST_SET_MEM_TABLE says to a second region, which it must not take. */
static void test_refused(struct fixture *f, void *second, size_t bytes, int error,
			 const char *name)
{
	long long before = pins(false);

	tap_equal(set_regions(f, second, bytes), error, "%s is refused", name);
	tap_ok(pins(false) == before && pinned_kb(f) == MEMORY >> 10 &&
	       status_kb("VmPin") == MEMORY >> 10 && reads_and_writes(f),
	       "and the old table stays whole");
}

static void test_errors(const char *disk, const char *device_memory)
{
	uint8_t *room = mmap(NULL, 4 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fixture f;
	void *mapped;
	int fd;

	set_up_pinned(&f, disk, 1);
	munmap(room + 3 * HUGE_PAGE, PAGE);
	test_refused(&f, room, 4 * HUGE_PAGE, -EFAULT, "a region with a hole");
	mprotect(room + HUGE_PAGE, PAGE, PROT_READ);
	test_refused(&f, room, 2 * HUGE_PAGE, -EFAULT, "one that is read-only in part");
	test_refused(&f, room, 0, -EFAULT, "an empty region");
	test_refused(&f, room, 1ULL << 62, -EFAULT, "one that is too long");

	fd = open(disk, O_RDWR | O_CLOEXEC);
	mapped = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		tap_bail("can't map %s: %s", disk, strerror(errno));
	test_refused(&f, mapped, HUGE_PAGE, -EOPNOTSUPP, "a mapping whose file writes back");
	munmap(mapped, HUGE_PAGE);
	close(fd);

	fd = device_memory ? open(device_memory, O_RDWR | O_CLOEXEC) : -1;
	mapped = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
					    fd, 0);
	if (mapped == MAP_FAILED) {
		printf("# no memory of a device\n");
	} else {
		tap_equal(set_regions(&f, mapped, PAGE), 0, "memory of a device is no error");
		tap_equal(pinned_kb(&f), MEMORY >> 10, "and not pinned");
	}
	tear_down(&f);
}

/* The last test of a process. */
static void test_limit(const char *disk)
{
	void *room = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fixture f;

	limit_locked_memory(MEMORY);
	set_up_pinned(&f, disk, 1);
	tap_ok(true, "as much as RLIMIT_MEMLOCK can be pinned");
	test_refused(&f, room, PAGE, -ENOMEM, "a page more");
	vhost_client_reset_owner(&f.c);
	tap_equal(status_kb("VmPin"), 0, "a reset owner is charged for nothing");
	tap_equal(vhost_client_configure(&f.c), 0, "and can pin again");
	tear_down(&f);
	tap_equal(status_kb("VmPin"), 0, "so is one that has closed the device");
}

/* --- data --- */

static void test_data(const char *disk, unsigned int kind)
{
	const char *name = kinds[kind].name;
	long long idle = pins(false), before;
	struct traffic t;
	struct fixture f;
	int fd;

	set_up_bound(&f, disk, O_RDWR, 2);
	fd = replace_memory(&f, kind);
	f.c.pin_memory = true;
	set_up_running(&f, 2, ALL_FEATURES);
	tap_equal(pins(false) - idle, MEMORY / PAGE, "%s: all pages are pinned", name);
	before = pins(true);
	tap_ok(pieces_match(&f, 1, PAGE, PAGE, false), "%s: 4 KiB", name);
	tap_ok(pieces_match(&f, 1, 64 << 10, 64 << 10, false), "%s: 64 KiB", name);
	tap_ok(pieces_match(&f, 1, 512 << 10, 512 << 10, false), "%s: 512 KiB", name);
	tap_ok(pieces_match(&f, 1, 4 << 20, 4 << 20, false), "%s: 4 MiB", name);
	tap_ok(pieces_match(&f, 200, PAGE + SECTOR, 3 * PAGE, false),
	       "%s: 200 pieces in several pages each", name);
	tap_equal(pins(true), before, "%s: none of these requests pins its pages", name);
	/* Its own direct I/O to the disk pins pages. */
	traffic_init(&t, &f, 2, true);
	before = pins(true);
	tap_ok(traffic_run(&t, 1000) && !t.failed && !t.odd && !t.wrong,
	       "%s: any pieces", name);
	traffic_report(&t);
	/* Once, for answers where the disk ends a request. */
	tap_ok(pins(true) - before <= RING_PAGES,
	       "%s: and none of these, which may pin the ring", name);
	traffic_free(&t);
	tear_down(&f);
	if (fd >= 0)
		close(fd);
	tap_ok(soon(pins(false) == idle), "%s: a close unpins all", name);
}

/* --- table --- */

static void test_table(const char *disk)
{
	long long before;
	struct traffic t;
	struct fixture f;
	unsigned int i;
	uint8_t *room;
	bool right = true;

	set_up_pinned(&f, disk, 2);
	room = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	traffic_init(&t, &f, 2, true);
	before = pins(true);
	for (i = 0; i < 50 && right; i++) {
		traffic_go(&t);
		right = !set_regions(&f, room, HUGE_PAGE) &&
			pinned_kb(&f) == (MEMORY + HUGE_PAGE) >> 10;
		traffic_go(&t);
		right = right && !set_regions(&f, NULL, 0) && pinned_kb(&f) == MEMORY >> 10;
	}
	tap_ok(right, "a region comes and goes under load");
	before += (long long)i * HUGE_PAGE / PAGE;
	/* Each table makes the device forget where the two rings are. */
	tap_ok(pins(true) >= before && pins(true) - before <= 2LL * i * 2 * RING_PAGES,
	       "and nothing else is pinned again, but for rings");
	tap_equal(status_kb("VmPin"), MEMORY >> 10, "nor charged");
	traffic_go(&t);
	tap_equal(vhost_client_pin_memory(&f.c, false), 0, "pinning ends under load");
	tap_ok(traffic_run(&t, 100) && !t.failed && !t.odd && !t.wrong &&
	       traffic_matches_rings(&t), "all data is right");
	traffic_report(&t);
	tap_equal(status_kb("VmPin"), 0, "and nothing is charged");
	munmap(room, HUGE_PAGE);
	traffic_free(&t);
	tear_down(&f);
}

/* The ways in which an owner can take memory away that is pinned. */
static void take_unmap(uint8_t *mem, size_t bytes, int fd)
{
	(void)fd;
	mmap(mem, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void take_discard(uint8_t *mem, size_t bytes, int fd)
{
	(void)fd;
	madvise(mem, bytes, MADV_DONTNEED);
}

static void take_punch(uint8_t *mem, size_t bytes, int fd)
{
	(void)mem;
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MEMORY - bytes, bytes);
}

static void take_truncate(uint8_t *mem, size_t bytes, int fd)
{
	(void)mem;
	if (ftruncate(fd, MEMORY - bytes) || ftruncate(fd, MEMORY))
		tap_bail("can't truncate: %s", strerror(errno));
}

static const struct {
	const char *name;
	unsigned int kind;
	void (*take)(uint8_t *mem, size_t bytes, int fd);
} takers[] = {
	{ "unmapped", 0, take_unmap },
	{ "discarded", 0, take_discard },
	{ "discarded of huge pages", 1, take_discard },
	{ "punched out of its file", 3, take_punch },
	{ "truncated", 3, take_truncate },
};

#define NUM_TAKERS	(sizeof(takers) / sizeof(*takers))

/* The last pages of memory are taken away while they are read into. */
static void test_taken(const char *disk, unsigned int taker)
{
	enum { BYTES = 64 << 10 };
	long long idle = pins(false);
	struct vhost_client_seg segs[3];
	struct fixture f;
	uint8_t *room;
	int fd, ret;

	set_up_bound(&f, disk, O_RDWR, 1);
	fd = replace_memory(&f, takers[taker].kind);
	f.c.pin_memory = true;
	set_up_running(&f, 1, ALL_FEATURES);
	room = f.c.mem + MEMORY - BYTES;
	memset(room, 0x55, BYTES);
	if (pwrite(f.disk, room, BYTES, 0) != BYTES)
		tap_bail("can't write to the disk: %s", strerror(errno));
	f.hdr->type = VIRTIO_BLK_T_IN;
	f.hdr->sector = 0;
	*f.status = 0xee;
	segs[0] = (struct vhost_client_seg){ f.hdr, sizeof(*f.hdr), false };
	segs[1] = (struct vhost_client_seg){ room, BYTES, true };
	segs[2] = (struct vhost_client_seg){ f.status, 1, true };
	vhost_client_add(&f.c, 0, segs, 3, NULL);
	vhost_client_kick(&f.c, 0, true);
	await_in_flight(&f, 0, 1);
	takers[taker].take(room, BYTES, fd);
	ret = vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS);
	tap_ok(ret >= 0 && *f.status == VIRTIO_BLK_S_OK,
	       "memory is %s while it is read into", takers[taker].name);
	tap_ok(!*room && !memcmp(room, room + 1, BYTES - 1), "the new memory is untouched");
	tap_ok(simple(&f, 0, VIRTIO_BLK_T_IN, 0, f.hdr + 1, PAGE, NULL) == VIRTIO_BLK_S_OK,
	       "and the device works");
	/* A table without the region, and one with it, pins what is there now. */
	vhost_client_set_mem_table(&f.c, NULL, 0);
	tap_equal(set_regions(&f, NULL, 0), 0, "the new memory can be pinned");
	tap_ok(simple(&f, 0, VIRTIO_BLK_T_OUT, 128, room, PAGE, NULL) == VIRTIO_BLK_S_OK &&
	       simple(&f, 0, VIRTIO_BLK_T_IN, 128, room + PAGE, PAGE, NULL) == VIRTIO_BLK_S_OK &&
	       !memcmp(room, room + PAGE, PAGE), "and used");
	tear_down(&f);
	if (fd >= 0)
		close(fd);
	tap_ok(soon(pins(false) == idle), "a close unpins all");
}

/* --- owner --- */

/* A child of a fork has copies of private memory, and the parent the pages. */
static void test_fork(const char *disk, unsigned int kind)
{
	const char *name = kinds[kind].name;
	uint8_t *mine, *out, *in;
	struct fixture f;
	int fd, status, ret;
	pid_t pid;

	set_up_bound(&f, disk, O_RDWR, 1);
	fd = replace_memory(&f, kind);
	f.c.pin_memory = true;
	set_up_running(&f, 1, ALL_FEATURES);
	mine = vhost_client_alloc(&f.c, PAGE, PAGE);
	out = vhost_client_alloc(&f.c, PAGE, PAGE);
	in = vhost_client_alloc(&f.c, PAGE, PAGE);
	fill(out, PAGE, 1);
	simple(&f, 0, VIRTIO_BLK_T_OUT, 8, out, PAGE, NULL);
	memset(mine, 1, PAGE);
	memset(in, 0, PAGE);
	pid = fork();
	if (!pid) {
		/* The guest's memory stays mapped here while the parent uses it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	if (pid < 0)
		tap_bail("no fork: %s", strerror(errno));
	memset(mine, 2, PAGE);
	ret = simple(&f, 0, VIRTIO_BLK_T_IN, 8, in, PAGE, NULL);
	tap_ok(ret == VIRTIO_BLK_S_OK && !memcmp(out, in, PAGE),
	       "%s: after a fork, the owner gets what it reads", name);
	fill(out, PAGE, 2);
	ret = simple(&f, 0, VIRTIO_BLK_T_OUT, 8, out, PAGE, NULL);
	tap_ok(ret == VIRTIO_BLK_S_OK && pread(f.disk, in, PAGE, PAGE) == PAGE &&
	       !memcmp(out, in, PAGE), "%s: and the disk what it writes", name);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	tear_down(&f);
	if (fd >= 0)
		close(fd);
}

/* The owner is killed while requests use its memory. */
static void test_killed(const char *slow)
{
	long long idle = pins(false);
	struct fixture f;
	int ready[2];
	pid_t pid;
	char byte;

	if (pipe2(ready, O_CLOEXEC))
		tap_bail("no pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		tap_bail("no fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		set_up_pinned(&f, slow, 1);
		send_reads(&f, 8);
		await_in_flight(&f, 0, 8);
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		tap_bail("no requests in flight");
	close(ready[0]);
	tap_equal(pins(false) - idle, MEMORY / PAGE, "a process has pinned its memory");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_ok(soon(pins(false) == idle), "when it was killed, no page stays pinned");
}

static int find_kind(const char *name)
{
	unsigned int i;

	for (i = 0; i < NUM_KINDS; i++)
		if (!strcmp(kinds[i].name, name))
			return i;
	return -1;
}

int main(int argc, char **argv)
{
	const char *test = argc >= 3 ? argv[1] : "";
	unsigned int i;

	if (!strcmp(test, "calls")) {
		test_order(argv[2]);
		test_errors(argv[2], argc > 3 ? argv[3] : NULL);
		test_limit(argv[2]);
	} else if (!strcmp(test, "data") && argc == 4 && find_kind(argv[3]) >= 0) {
		test_data(argv[2], find_kind(argv[3]));
		test_fork(argv[2], find_kind(argv[3]));
	} else if (!strcmp(test, "table")) {
		test_table(argv[2]);
	} else if (!strcmp(test, "owner")) {
		for (i = 0; i < NUM_TAKERS; i++)
			test_taken(argv[2], i);
		test_killed(argv[2]);
	} else {
		tap_bail("usage: %s calls|data|table|owner DISK", argv[0]);
	}
	return tap_end();
}
