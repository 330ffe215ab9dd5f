// SPDX-License-Identifier: GPL-2.0
/*
 * Who waits for a disk that takes its time: nobody who didn't ask for it, and who did
 * only as long as it isn't killed.
 *
 * usage: waits call ONE_TAG
 *	ONE_TAG	a disk that needs some 100 ms for a request, and does one at a time
 * usage: waits tags FEW_TAGS
 *	FEW_TAGS	one that needs half a second, and does four at a time
 * usage: waits killed|stop|pinned|table SLOW
 *	SLOW	one that needs seconds, has a write cache and does hundreds at a time
 * usage: waits flushes HANGING NAME OTHER
 *	HANGING	a disk of the device mapper with a write cache, which is suspended
 *	NAME	what dmsetup calls it
 *	OTHER	a disk with a write cache
 * usage: waits ranges DISCARD
 *	DISCARD	one that needs some 10 ms for a discard
 * usage: waits drained ONE_TAG
 *	ONE_TAG	the same, which does one at a time
 * usage: waits polled POLLED
 *	POLLED	one that is polled for, needs most of a second for a request, and does one
 *		at a time
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fixture.h"

#define READS		8
#define READERS		40
#define BOUNCED		(512 << 10)
#define STACK_BYTES	65536
/* More than WQ_DFL_ACTIVE of any kernel. */
#define FLUSHES		1100

static double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static uint16_t answers(const struct fixture *f)
{
	return __atomic_load_n(&f->c.queues[0].vring.used->idx, __ATOMIC_ACQUIRE);
}

/* --- call --- */

/*
 * Calls that have nothing to do with requests, while the worker waits for a tag: it
 * has requests to answer then, and has not done so.
 */
static void test_call(const char *one_tag)
{
	struct vhost_vring_file call = {}, err = {};
	struct vhost_vring_state state = {};
	struct fixture f;
	uint8_t *statuses;
	uint16_t seen;

	set_up(&f, one_tag, O_RDWR, 1, ALL_FEATURES);
	statuses = send_reads(&f, READS);
	await_in_flight(&f, 0, READS);
	call.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	tap_equal(vhost_client_ioctl(&f.c, VHOST_SET_VRING_CALL, &call), 0,
		  "an eventfd is replaced while the disk has no free tag");
	err.fd = f.c.queues[0].err_fd;
	vhost_client_ioctl(&f.c, VHOST_SET_VRING_ERR, &err);
	vhost_client_ioctl(&f.c, VHOST_GET_VRING_BASE, &state);
	vhost_client_ioctl(&f.c, VHOST_GET_VRING_BUSYLOOP_TIMEOUT, &state);
	seen = answers(&f);
	if (!tap_ok(seen < READS - 1,
		    "and no call waits for the disk that need not"))
		printf("# %u requests have been answered meanwhile\n", seen);
	close(f.c.queues[0].call_fd);
	f.c.queues[0].call_fd = call.fd;
	tap_equal(take_answers(&f, READS), READS, "every request is answered");
	tap_equal(count_ok(statuses, READS), READS, "with success");
	tap_ok(vhost_client_signals(&f.c, 0) > 0, "and the new eventfd signalled");
	tear_down(&f);
}

/* --- killed --- */

/* Of any number at a time: nobody claims the disk. */
static void set_up_shared(struct fixture *f, const char *disk)
{
	int ret;

	f->disk = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	ret = vhost_client_open(&f->c, DEVICE, MEMORY);
	if (!ret)
		ret = vhost_client_bind(&f->c, f->disk, VHOST_BLK_BIND_SHARED, 1,
					SERIAL);
	if (ret)
		tap_bail("can't bind %s: %s", disk, strerror(-ret));
	set_up_running(f, 1, ALL_FEATURES);
}

static void stop(struct fixture *f)
{
	vhost_client_run(&f->c, false);
}

static void write_through(struct fixture *f)
{
	vhost_client_set_wce(&f->c, 0);
}

static void replace_memory(struct fixture *f)
{
	const struct vhost_memory_region region = {
		.guest_phys_addr = VHOST_CLIENT_BASE,
		.memory_size = f->c.mem_size,
		.userspace_addr = (uintptr_t)f->c.mem,
	};

	vhost_client_set_mem_table(&f->c, &region, 1);
}

static void start_log(struct fixture *f)
{
	vhost_client_log_start(&f->c);
}

static void reset_owner(struct fixture *f)
{
	vhost_client_reset_owner(&f->c);
}

static void nothing(struct fixture *f)
{
	(void)f;
	pause();
}

static const struct {
	const char *name;
	void (*call)(struct fixture *f);
} waiting[] = {
	{ "stops the rings", stop },
	{ "switches to write-through", write_through },
	{ "replaces the memory table", replace_memory },
	{ "starts the dirty log", start_log },
	{ "resets the owner", reset_owner },
	{ "does nothing", nothing },
};

#define NUM_WAITING	(sizeof(waiting) / sizeof(*waiting))

/* A process with requests in flight that waits for them in a call. */
static pid_t start_waiting(const char *disk, unsigned int i)
{
	struct fixture f;
	int ready[2];
	pid_t pid;
	char byte;

	if (pipe2(ready, O_CLOEXEC))
		tap_bail("no pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		set_up_shared(&f, disk);
		send_reads(&f, READS);
		await_in_flight(&f, 0, READS);
		if (write(ready[1], "", 1) == 1)
			waiting[i].call(&f);
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		tap_bail("no requests in flight");
	close(ready[0]);
	return pid;
}

/* Whether the process ends as killed, and not by itself. */
static bool is_dead(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static int stop_in_clone(void *arg)
{
	stop(arg);
	return 0;
}

/* A process with the owner's memory and files. */
static pid_t start_clone(struct fixture *f, int (*call)(void *f))
{
	uint8_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid = clone(call, stack + STACK_BYTES, CLONE_VM | CLONE_FILES | SIGCHLD, f);

	if (pid < 0)
		tap_bail("no clone: %s", strerror(errno));
	return pid;
}

/*
 * Who calls is killed; then the owner goes on. Returns whether the killed one ended before the
 * requests.
 */
static bool interrupt(struct fixture *f, int (*call)(void *f))
{
	pid_t pid = start_clone(f, call);

	usleep(200000);
	kill(pid, SIGKILL);
	return is_dead(pid) && !answers(f);
}

static void test_killed(const char *slow)
{
	pid_t pids[NUM_WAITING];
	struct fixture f;
	bool dead[NUM_WAITING];
	uint8_t *statuses;
	bool interrupted;
	unsigned int i;

	for (i = 0; i < NUM_WAITING; i++)
		pids[i] = start_waiting(slow, i);
	/* Made last: as long as this has no answer, nobody has. */
	set_up_shared(&f, slow);
	statuses = send_reads(&f, READS);
	await_in_flight(&f, 0, READS);
	usleep(200000);
	for (i = 0; i < NUM_WAITING; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < NUM_WAITING; i++)
		dead[i] = is_dead(pids[i]) && !answers(&f);
	interrupted = interrupt(&f, stop_in_clone);
	for (i = 0; i < NUM_WAITING; i++)
		tap_ok(dead[i], "a process that %s can be killed before the disk has answered",
		       waiting[i].name);
	tap_ok(interrupted, "so can one that does it for another");

	tap_equal(vhost_client_bind(&f.c, f.disk, VHOST_BLK_BIND_SHARED, 1, SERIAL),
		  -EBUSY, "a stop that was interrupted is none");
	tap_equal(vhost_client_run(&f.c, true), 0, "the device can be started again");
	tap_equal(count_ok(statuses, READS), READS,
		  "what was in flight is answered then");
	take_answers(&f, READS);
	tear_down(&f);
}

/* --- tags --- */

/* A process that reads from the disk all the time, and so waits for a tag most of it. */
static pid_t start_reader(const char *disk)
{
	static uint8_t data[4096] __attribute__((aligned(4096)));
	pid_t pid = fork();
	int fd;

	if (pid < 0)
		tap_bail("no fork: %s", strerror(errno));
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	while (pread(fd, data, sizeof(data), 0) == sizeof(data))
		;
	_exit(1);
}

/* Sends a write at an odd address. It goes through a bounce buffer, one part after the other. */
static void send_bounced_write(struct fixture *f)
{
	uint8_t *data = vhost_client_alloc(&f->c, BOUNCED + 4096, 4096);
	struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ data + 1, BOUNCED, false },
		{ f->status, 1, true },
	};

	f->hdr->type = VIRTIO_BLK_T_OUT;
	vhost_client_add(&f->c, 0, segs, 3, NULL);
	vhost_client_kick(&f->c, 0, true);
	await_in_flight(f, 0, 1);
}

/*
 * Who stops a device goes on with the rest of its requests. To get a tag for it takes longer
 * than to be killed. The worker does not wait for one: the first part has got it.
 */
static void test_tags(const char *few_tags)
{
	pid_t readers[READERS], pid;
	struct fixture f;
	unsigned int i;
	double begin;

	set_up_shared(&f, few_tags);
	send_bounced_write(&f);
	pid = start_clone(&f, stop_in_clone);
	for (i = 0; i < READERS; i++)
		readers[i] = start_reader(few_tags);
	/* Then the first part has ended. */
	sleep(2 * limit_factor());
	begin = now();
	kill(pid, SIGKILL);
	tap_ok(is_dead(pid), "a process that stops a device with more to submit is killed");
	if (!tap_ok(now() - begin < limit_factor(), "before the disk has a free tag for it"))
		printf("# it took %.1f s\n", now() - begin);
	for (i = 0; i < READERS; i++)
		kill(readers[i], SIGKILL);
	for (i = 0; i < READERS; i++)
		waitpid(readers[i], NULL, 0);
	tap_equal(vhost_client_run(&f.c, true), 0, "the device can be started again");
	tap_ok(vhost_client_get_used(&f.c, 0, NULL, TIMEOUT_MS) >= 0 &&
	       *f.status == VIRTIO_BLK_S_OK, "all of the request is done then");
	tear_down(&f);
}

/* --- stop --- */

static void send_to_queue_1(struct fixture *f, uint32_t type)
{
	struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ vhost_client_alloc(&f->c, 4096, 4096), 4096, true },
		{ f->status, 1, true },
	};

	f->hdr->type = type;
	*f->status = 0xee;
	vhost_client_add(&f->c, 1, segs, 3, NULL);
}

static void send_lone_read(struct fixture *f)
{
	send_to_queue_1(f, VIRTIO_BLK_T_IN);
	vhost_client_kick(&f->c, 1, true);
	await_in_flight(f, 1, 1);
}

/*
 * Sets up two queues, with requests in flight in the first. With pinned memory the second has
 * a lone one before that. Its completion may answer it, because the worker has seen that the
 * disk is late.
 */
static uint8_t *set_up_waiting(struct fixture *f, const char *slow, bool pinned)
{
	uint8_t *statuses;

	set_up_bound(f, slow, O_RDWR, 2);
	f->c.pin_memory = pinned;
	set_up_running(f, 2, ALL_FEATURES);
	if (pinned) {
		send_lone_read(f);
		vhost_client_get_used(&f->c, 1, NULL, TIMEOUT_MS);
		send_lone_read(f);
	}
	statuses = send_reads(f, READS);
	await_in_flight(f, 0, READS);
	return statuses;
}

/* A stop that waits for the first queue, and is interrupted, has stopped the second. */
static void test_stop(const char *slow)
{
	uint8_t *statuses;
	struct fixture f;

	statuses = set_up_waiting(&f, slow, false);
	tap_ok(interrupt(&f, stop_in_clone), "a stop of two queues is interrupted");
	send_to_queue_1(&f, VIRTIO_BLK_T_IN);
	vhost_client_kick(&f.c, 1, true);
	usleep(200000);
	tap_equal(vhost_client_counter(&f.c, 1, "in_flight"), 0,
		  "neither queue fetches anything then");
	tap_equal(vhost_client_run(&f.c, true), 0, "the device can be started again");
	tap_ok(vhost_client_get_used(&f.c, 1, NULL, TIMEOUT_MS) >= 0 &&
	       *f.status == VIRTIO_BLK_S_OK, "the second queue goes on then");
	take_answers(&f, READS);
	tap_equal(count_ok(statuses, READS), READS, "and the first one");
	tear_down(&f);
}

/* Nor are its requests answered, by whatever way: the ring is the VMM's. */
static void test_stop_pinned(const char *slow)
{
	struct vhost_vring_state state = { .index = 1, .num = 32768 };
	struct vhost_vring_addr addr = { .index = 1, .used_user_addr = -4096UL };
	volatile uint16_t *used;
	uint8_t *statuses, *data;
	struct fixture f;

	statuses = set_up_waiting(&f, slow, true);
	used = &f.c.queues[1].vring.used->idx;
	tap_ok(interrupt(&f, stop_in_clone),
	       "a stop of two queues with pinned memory is interrupted");
	tap_equal(vhost_client_ioctl(&f.c, VHOST_SET_VRING_NUM, &state), -EBUSY,
		  "the size of a ring with requests in flight can't be changed");
	state.num = 1;
	tap_equal(vhost_client_ioctl(&f.c, VHOST_SET_VRING_BASE, &state), -EBUSY,
		  "nor its index");
	tap_equal(vhost_client_ioctl(&f.c, VHOST_SET_VRING_ADDR, &addr), -EBUSY,
		  "nor its addresses");
	/* This read ends after those of the device. */
	data = vhost_client_alloc(&f.c, 4096, 4096);
	if (pread(f.disk, data, 4096, 0) != 4096)
		tap_bail("can't read %s: %s", slow, strerror(errno));
	tap_equal(*used, 1, "a request that ends after the stop is not answered");
	tap_equal(vhost_client_run(&f.c, true), 0, "the device can be started again");
	tap_ok(vhost_client_get_used(&f.c, 1, NULL, TIMEOUT_MS) >= 0 &&
	       *f.status == VIRTIO_BLK_S_OK, "which answers it");
	take_answers(&f, READS);
	tap_equal(count_ok(statuses, READS), READS, "and those of the other queue");
	tear_down(&f);
}

/* --- table --- */

static uint8_t *other_memory;

static int move_memory_in_clone(void *arg)
{
	struct fixture *f = arg;
	const struct vhost_memory_region region = {
		.guest_phys_addr = VHOST_CLIENT_BASE,
		.memory_size = f->c.mem_size,
		.userspace_addr = (uintptr_t)other_memory,
	};

	vhost_client_set_mem_table(&f->c, &region, 1);
	return 0;
}

/* Whether the device answers a request that needs no disk in the memory that is at @memory. */
static bool is_answered_in(struct fixture *f, uint8_t *memory)
{
	size_t status = f->status - f->c.mem;

	send_to_queue_1(f, VIRTIO_BLK_T_GET_ID);
	memcpy(other_memory, f->c.mem, f->c.mem_size);
	vhost_client_kick(&f->c, 1, true);
	return vhost_client_get_used(&f->c, 1, NULL, TIMEOUT_MS) >= 0 &&
	       f->c.mem[status] != other_memory[status] &&
	       memory[status] == VIRTIO_BLK_S_OK;
}

/*
 * A new memory table holds for all that is fetched from then on, even if the call is
 * interrupted while it waits for what was fetched before.
 */
static void test_table(const char *slow)
{
	uint8_t *statuses;
	struct fixture f;

	statuses = set_up_waiting(&f, slow, false);
	other_memory = mmap(NULL, f.c.mem_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (other_memory == MAP_FAILED)
		tap_bail("no memory");
	tap_ok(is_answered_in(&f, f.c.mem), "the second queue uses the memory table");
	tap_ok(interrupt(&f, move_memory_in_clone),
	       "a new memory table is interrupted that waits for the first queue");
	tap_ok(is_answered_in(&f, other_memory), "the second queue uses the new table");
	tap_equal(take_answers(&f, READS), READS, "the first queue's requests end");
	tap_equal(count_ok(statuses, READS), READS, "in the old memory");
	munmap(other_memory, f.c.mem_size);
	tear_down(&f);
}

/* --- flushes --- */

static int write_through_in_clone(void *arg)
{
	write_through(arg);
	return 0;
}

static bool is_blocked(pid_t pid)
{
	char path[64], stat[256] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file) {
		fgets(stat, sizeof(stat), file);
		fclose(file);
	}
	return strstr(stat, ") D ");
}

/* Whether the process ends by itself, and in time. It is killed otherwise. */
static bool is_done(pid_t pid)
{
	double end = now() + 5 * limit_factor();
	int status;

	while (now() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status);
		usleep(1000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return false;
}

static void run_dmsetup(const char *command, const char *name)
{
	char line[100];

	snprintf(line, sizeof(line), "dmsetup %s %s", command, name);
	if (system(line))
		tap_bail("can't %s", line);
}

/* A flush that hangs, and whose caller is killed. */
static void leave_flush(struct fixture *f)
{
	pid_t pid = start_clone(f, write_through_in_clone);

	while (!is_blocked(pid))
		usleep(100);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* More flushes of a disk that hangs than a workqueue does at once. Nobody waits for them. */
static void test_flushes(const char *hanging, const char *name, const char *other_disk)
{
	struct fixture f, other;
	unsigned int i;

	set_up(&f, hanging, O_RDWR, 1, ALL_FEATURES);
	set_up(&other, other_disk, O_RDWR, 1, ALL_FEATURES);
	run_dmsetup("suspend --noflush", name);
	for (i = 0; i < FLUSHES; i++)
		leave_flush(&f);
	tap_ok(is_done(start_clone(&other, write_through_in_clone)),
	       "%u flushes that hang on one disk don't keep another from being flushed", FLUSHES);
	run_dmsetup("resume", name);
	tap_equal(vhost_client_set_wce(&f.c, 0), 0, "the first can be flushed again when it goes on");
	tear_down(&other);

	vhost_client_set_wce(&f.c, 1);
	run_dmsetup("suspend --noflush", name);
	leave_flush(&f);
	tear_down(&f);
	tap_ok(is_claimed(hanging), "a close leaves it claimed as long as a flush hangs");
	run_dmsetup("resume", name);
}

/* --- ranges, drained --- */

#define RANGES	32

/*
 * Sends @num discards of RANGES ranges each; their statuses. With a @distance of more than 8
 * sectors the block layer can't merge them.
 */
static uint8_t *send_discards(struct fixture *f, unsigned int num, unsigned int distance)
{
	struct virtio_blk_discard_write_zeroes *ranges;
	struct vhost_client_seg segs[3];
	struct virtio_blk_outhdr *hdr;
	uint8_t *statuses;
	unsigned int i;

	hdr = vhost_client_alloc(&f->c, sizeof(*hdr), 16);
	ranges = vhost_client_alloc(&f->c, RANGES * sizeof(*ranges), 16);
	statuses = vhost_client_alloc(&f->c, num, 1);
	memset(statuses, 0xee, num);
	hdr->type = VIRTIO_BLK_T_DISCARD;
	for (i = 0; i < RANGES; i++) {
		ranges[i].sector = distance * i;
		ranges[i].num_sectors = 8;
		ranges[i].flags = 0;
	}
	for (i = 0; i < num; i++) {
		segs[0] = (struct vhost_client_seg){ hdr, sizeof(*hdr), false };
		segs[1] = (struct vhost_client_seg){
			ranges, RANGES * sizeof(*ranges), false
		};
		segs[2] = (struct vhost_client_seg){ &statuses[i], 1, true };
		vhost_client_add(&f->c, 0, segs, 3, NULL);
	}
	vhost_client_kick(&f->c, 0, true);
	return statuses;
}

/* More ranges than anybody should have to wait for. */
static void test_ranges(const char *disk)
{
	enum { REQUESTS = 60, FEW = 4 };
	long long in_flight, most = 0;
	uint8_t *statuses;
	struct fixture f;

	set_up(&f, disk, O_RDWR, 1, ALL_FEATURES);
	statuses = send_discards(&f, REQUESTS, 8);
	while (answers(&f) < REQUESTS) {
		in_flight = vhost_client_counter(&f.c, 0, "in_flight");
		if (in_flight > most)
			most = in_flight;
	}
	take_answers(&f, REQUESTS);
	tap_equal(count_ok(statuses, REQUESTS), REQUESTS,
		  "%u discards of %u ranges each succeed", REQUESTS, RANGES);
	if (!tap_ok(most <= FEW, "but few of them are in flight at once"))
		printf("# %lld were\n", most);
	tear_down(&f);
}

/*
 * The worker has fetched as much as may be in flight, and waits for a tag. Meanwhile a new memory
 * table waits for all of it, and answers it: no completion is left to wake the worker.
 */
static void test_drained(const char *one_tag)
{
	enum { MOST = 2 };
	uint8_t *statuses, *data;
	struct fixture f;

	set_up(&f, one_tag, O_RDWR, 1, ALL_FEATURES);
	statuses = send_discards(&f, MOST, 16);
	await_in_flight(&f, 0, MOST);
	replace_memory(&f);
	tap_equal(answers(&f), MOST, "a new memory table waits for a queue that is full");
	take_answers(&f, MOST);
	tap_equal(count_ok(statuses, MOST), MOST, "its requests succeed");
	data = vhost_client_alloc(&f.c, 4096, 4096);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, data, 4096, NULL), VIRTIO_BLK_S_OK,
		  "and the next one is answered");
	tear_down(&f);
}

/* --- polled --- */

static void half_a_second(struct fixture *f)
{
	(void)f;
	usleep(500000);
}

/* Tests that this process and its workers keep no CPU busy during the call. */
static void test_idle(struct fixture *f, void (*call)(struct fixture *f), const char *name)
{
	double begin = now(), cpu_begin = cpu_seconds(), share;

	call(f);
	share = (cpu_seconds() - cpu_begin) / (now() - begin);
	if (!tap_ok(share < 0.4, "%s", name))
		printf("# a CPU was busy for %.2f of the time\n", share);
}

/*
 * One read is polled for. The disk has no tag for the others, and they may not wait for one
 * before it has ended.
 */
static uint8_t *send_polled_reads(struct fixture *f)
{
	uint8_t *statuses;

	/* Also forgets that the disk was too slow to be polled for. */
	vhost_client_run(&f->c, false);
	vhost_client_run(&f->c, true);
	statuses = send_reads(f, 3);
	/* The first may have ended by now. */
	await_in_flight(f, 0, 2);
	return statuses;
}

static void test_polled(const char *polled)
{
	struct fixture f;
	uint8_t *statuses;

	set_up(&f, polled, O_RDWR, 1, ALL_FEATURES);
	vhost_client_set_busyloop(&f.c, 0, 1000);
	statuses = send_polled_reads(&f);
	test_idle(&f, half_a_second, "requests that wait for a polled one keep no CPU busy");
	tap_equal(take_answers(&f, 3), 3, "every request is answered");
	tap_equal(count_ok(statuses, 3), 3, "with success");
	tap_ok(vhost_client_counter(&f.c, 0, "polled") > 0, "the first was polled for");

	send_polled_reads(&f);
	test_idle(&f, stop, "nor does a stop that waits for them");
	tap_equal(vhost_client_counter(&f.c, 0, "in_flight"), 0, "all have ended then");
	tear_down(&f);
}

int main(int argc, char **argv)
{
	const char *test = argc > 2 ? argv[1] : "";

	if (!strcmp(test, "call"))
		test_call(argv[2]);
	else if (!strcmp(test, "tags"))
		test_tags(argv[2]);
	else if (!strcmp(test, "killed"))
		test_killed(argv[2]);
	else if (!strcmp(test, "stop"))
		test_stop(argv[2]);
	else if (!strcmp(test, "pinned"))
		test_stop_pinned(argv[2]);
	else if (!strcmp(test, "table"))
		test_table(argv[2]);
	else if (!strcmp(test, "flushes") && argc > 4)
		test_flushes(argv[2], argv[3], argv[4]);
	else if (!strcmp(test, "ranges"))
		test_ranges(argv[2]);
	else if (!strcmp(test, "drained"))
		test_drained(argv[2]);
	else if (!strcmp(test, "polled"))
		test_polled(argv[2]);
	else
		tap_bail("unknown test, or a disk is missing");
	return tap_end();
}
