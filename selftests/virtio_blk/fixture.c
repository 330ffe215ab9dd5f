// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/aio_abi.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fixture.h"
#include "disk.h"

#define MODULE	"virtio_blk"

static const char *module_path;

/* --- the log --- */

#define LOG_BYTES	(1 << 20)

static int log_fd = -1;
static char log_text[LOG_BYTES];
static size_t log_len;

void log_begin(void)
{
	if (log_fd < 0)
		log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0 || lseek(log_fd, 0, SEEK_END) < 0)
		tap_bail("/dev/kmsg: %s", strerror(errno));
	log_len = 0;
	log_text[0] = '\0';
}

/* A record is "PRIORITY,NUMBER,TIME,FLAGS;TEXT" and a line feed, and maybe more lines. */
static void log_read(void)
{
	char record[8192];
	ssize_t len;

	for (;;) {
		len = read(log_fd, record, sizeof(record) - 1);
		/* What was overwritten meanwhile is lost. */
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0 || log_len + len >= LOG_BYTES)
			return;
		memcpy(log_text + log_len, record, len);
		log_len += len;
		log_text[log_len] = '\0';
	}
}

/* Calls a function for each line of the log. */
static void log_each(void (*function)(const char *line, void *argument), void *argument)
{
	char line[1024], *at = log_text, *end;

	log_read();
	while ((end = strchr(at, '\n'))) {
		snprintf(line, sizeof(line), "%.*s", (int)(end - at), at);
		function(line, argument);
		at = end + 1;
	}
}

struct search {
	const char *text;
	unsigned int found;
	char latest[1024];
};

static void find_text(const char *line, void *argument)
{
	struct search *search = argument;

	search->found += !!strstr(line, search->text);
}

unsigned int log_lines(const char *text)
{
	struct search search = { .text = text };

	log_each(find_text, &search);
	return search.found;
}

/* The lowest three bits of the number in front are the level; 4 is a warning. */
static void find_message(const char *line, void *argument)
{
	struct search *search = argument;
	const char *text = strchr(line, ';');

	if (!text || (atoi(line) & 7) > 4 || !strstr(text, MODULE) ||
	    strstr(text, "probe with driver") || strstr(text, "taints kernel") ||
	    strstr(text, "module verification") || strstr(text, "callbacks suppressed"))
		return;
	search->found++;
	snprintf(search->latest, sizeof(search->latest), "%s", text + 1);
}

unsigned int log_messages(const char **latest)
{
	static struct search search;

	memset(&search, 0, sizeof(search));
	log_each(find_message, &search);
	*latest = search.latest;
	return search.found;
}

static void find_report(const char *line, void *argument)
{
	static const char *const reports[] = {
		"WARNING: ", "BUG: ", "Oops", "Call Trace:", "INFO: task ",
		"KASAN", "UBSAN", "lockdep", "soft lockup", "rcu: INFO",
	};
	bool *found = argument;
	unsigned int i;

	for (i = 0; i < sizeof(reports) / sizeof(*reports); i++)
		*found |= !!strstr(line, reports[i]);
}

bool log_has_reports(void)
{
	bool found = false;

	log_each(find_report, &found);
	return found;
}

/* --- processes --- */

pid_t start(int (*function)(void *), void *argument)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(function(argument));
	return pid;
}

int finish(pid_t pid, unsigned int seconds)
{
	double end = now() + seconds;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now() > end)
			return HANGS;
		usleep(2000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int run_shell(void *argument)
{
	execl("/bin/sh", "sh", "-c", argument, NULL);
	return errno;
}

int command(unsigned int seconds, const char *fmt, ...)
{
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	return finish(start(run_shell, line), seconds);
}

/* --- the module --- */

void use_module(const char *path)
{
	module_path = path;
}

void load_module(const char *parameters)
{
	int fd = open(module_path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, parameters ?: "", 0))
		tap_bail("can't load %s: %s", module_path, strerror(errno));
	close(fd);
}

bool unload_module(void)
{
	return !syscall(SYS_delete_module, MODULE, O_NONBLOCK);
}

/* --- sysfs --- */

static void attribute_path(const struct device *device, const char *name, char *path,
			   size_t size)
{
	snprintf(path, size, "/sys/block/%s/%s", device->disk, name);
}

long long disk_attribute(const struct device *device, const char *name)
{
	char path[256], text[64] = "";
	ssize_t len;
	int fd;

	attribute_path(device, name, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (len < 0)
		tap_bail("%s: %s", path, strerror(errno));
	close(fd);
	return strtoll(text, NULL, 0);
}

void set_disk_attribute(const struct device *device, const char *name, long long value)
{
	char path[256];
	int fd;

	attribute_path(device, name, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%lld", value) < 0)
		tap_bail("%s doesn't take %lld: %s", path, value, strerror(errno));
	close(fd);
}

/* --- requests --- */

static void fill(uint32_t *words, uint64_t offset, size_t bytes, unsigned int seed)
{
	uint64_t at;

	for (at = offset / 4; at < (offset + bytes) / 4; at++)
		*words++ = (at * 2654435761u) ^ (seed * 40503u);
}

static int open_disk(const struct device *device, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", device->disk);
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC | flags);
}

static int transfer(const struct io *io, void *data, void *expected)
{
	int fd = open_disk(io->device, io->flush == BY_DSYNC ? O_DSYNC : 0);
	ssize_t done;
	int err = 0;

	if (fd < 0)
		return errno;
	if (io->flush == ONLY_FSYNC)
		done = io->bytes;
	else if (io->write)
		done = pwrite(fd, expected, io->bytes, io->offset);
	else
		done = pread(fd, data, io->bytes, io->offset);
	if (done < 0)
		err = errno;
	else if ((size_t)done != io->bytes)
		err = EIO;
	else if (!io->write && memcmp(data, expected, io->bytes))
		err = WRONG;
	else if ((io->flush == ONLY_FSYNC || io->flush == BY_FSYNC) && fsync(fd))
		err = errno;
	else if (io->flush && !device_has_flushed(io->device, io->offset, io->bytes))
		err = NOT_FLUSHED;
	close(fd);
	return err;
}

static int do_io(void *argument)
{
	const struct io *io = argument;
	char *data;
	int err;

	if (posix_memalign((void **)&data, BLOCK, 2 * io->bytes))
		return ENOMEM;
	memset(data, 0, io->bytes);
	fill((uint32_t *)(data + io->bytes), io->offset, io->bytes, io->seed);
	err = transfer(io, data, data + io->bytes);
	free(data);
	return err;
}

pid_t start_io(const struct io *io)
{
	return start(do_io, (void *)io);
}

int disk_write(const struct device *device, uint64_t offset, size_t bytes,
	       unsigned int seed, unsigned int seconds)
{
	struct io io = {
		.device = device, .write = true, .offset = offset, .bytes = bytes,
		.seed = seed,
	};

	return finish(start_io(&io), seconds);
}

int disk_read(const struct device *device, uint64_t offset, size_t bytes,
	      unsigned int seed, unsigned int seconds)
{
	struct io io = {
		.device = device, .offset = offset, .bytes = bytes, .seed = seed,
	};

	return finish(start_io(&io), seconds);
}

/* Pieces of all sizes, which the block layer makes one request or many of. */
static int write_and_read(void *argument)
{
	static const size_t sizes[] = { 1 << 20, 4096, 65536, 12288, 256 << 10 };
	struct io io = { .device = argument, .seed = now() };
	uint64_t end = DISK_BYTES;
	unsigned int i;
	int err = 0;

	for (i = 0; i < 2 * 5 && !err; i++) {
		io.write = i < 5;
		io.bytes = sizes[i % 5];
		io.offset = (end - io.bytes) / 5 * (i % 5) / BLOCK * BLOCK;
		err = do_io(&io);
	}
	return err;
}

bool data_is_right(const struct device *device)
{
	int err = finish(start(write_and_read, (void *)device), SOON);

	if (err)
		printf("# I/O ended with %d\n", err);
	return !err;
}

struct range {
	const struct device *device;
	unsigned long request;
	uint64_t range[2];
};

static int do_range(void *argument)
{
	struct range *range = argument;
	int fd = open_disk(range->device, 0);

	return fd < 0 || ioctl(fd, range->request, range->range) ? errno : 0;
}

int disk_range(const struct device *device, unsigned long request, uint64_t offset,
	       uint64_t bytes)
{
	struct range range = { device, request, { offset, bytes } };

	return finish(start(do_range, &range), SOON);
}

/* --- traffic --- */

static void prepare_write(struct traffic *t, struct iocb *iocb, int fd, unsigned int block,
			  char *data)
{
	uint64_t offset = (uint64_t)(t->first + block) * BLOCK;

	fill((uint32_t *)data, offset, BLOCK, t->seed);
	memset(iocb, 0, sizeof(*iocb));
	iocb->aio_data = block;
	iocb->aio_lio_opcode = IOCB_CMD_PWRITE;
	iocb->aio_fildes = fd;
	iocb->aio_buf = (uintptr_t)data;
	iocb->aio_nbytes = BLOCK;
	iocb->aio_offset = offset;
}

static void note_result(struct traffic_result *result, const struct io_event *event)
{
	if (event->res == BLOCK) {
		result->good++;
		result->acknowledged[event->data] = true;
	} else {
		result->failed++;
		result->error = -event->res;
	}
}

/* Keeps as many in flight as can be, to the end. */
static int do_traffic(void *argument)
{
	struct traffic *t = argument;
	unsigned int sent = 0, ended = 0;
	struct iocb iocb, *iocbs = &iocb;
	aio_context_t context = 0;
	struct io_event event;
	int fd = open_disk(t->device, 0);
	char *data;

	if (fd < 0 || syscall(SYS_io_setup, t->depth, &context) ||
	    posix_memalign((void **)&data, BLOCK, (size_t)t->blocks * BLOCK))
		return errno;
	while (ended < t->blocks) {
		while (sent < t->blocks && sent - ended < t->depth) {
			prepare_write(t, &iocb, fd, sent, data + (size_t)sent * BLOCK);
			if (syscall(SYS_io_submit, context, 1, &iocbs) != 1)
				return errno;
			sent++;
		}
		if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
			return errno;
		note_result(t->result, &event);
		ended++;
	}
	return 0;
}

static int read_back(void *argument)
{
	struct traffic *t = argument;
	struct io io = { .device = t->device, .bytes = BLOCK, .seed = t->seed };
	unsigned int block;
	int err = 0;

	for (block = 0; block < t->blocks && !err; block++) {
		io.offset = (uint64_t)(t->first + block) * BLOCK;
		if (t->result->acknowledged[block])
			err = do_io(&io);
	}
	return err;
}

static void start_traffic(struct traffic *t, unsigned int first,
			  const struct device *device, unsigned int blocks,
			  unsigned int depth)
{
	static unsigned int seed;

	t->device = device;
	t->blocks = blocks;
	t->depth = depth;
	t->seed = ++seed;
	t->first = first;
	t->result = mmap(NULL, sizeof(*t->result), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	t->pid = start(do_traffic, t);
}

void traffic_start(struct traffic *t, const struct device *device, unsigned int blocks,
		   unsigned int depth)
{
	start_traffic(t, 0, device, blocks, depth);
}

void traffic_start_on(struct traffic *t, unsigned int cpu, const struct device *device,
		      unsigned int blocks, unsigned int depth)
{
	cpu_set_t before, wanted;

	CPU_ZERO(&wanted);
	CPU_SET(cpu, &wanted);
	/* The process that is started inherits it. */
	if (sched_getaffinity(0, sizeof(before), &before) ||
	    sched_setaffinity(0, sizeof(wanted), &wanted))
		tap_bail("no CPU %u: %s", cpu, strerror(errno));
	start_traffic(t, cpu * blocks, device, blocks, depth);
	sched_setaffinity(0, sizeof(before), &before);
}

unsigned int traffic_ended(const struct traffic *t)
{
	return __atomic_load_n(&t->result->good, __ATOMIC_RELAXED) +
	       __atomic_load_n(&t->result->failed, __ATOMIC_RELAXED);
}

bool traffic_finish(struct traffic *t, unsigned int seconds)
{
	int err = finish(t->pid, seconds);

	if (err)
		printf("# traffic ended with %d\n", err);
	if (err || t->result->failed)
		printf("# %u good, %u failed, the latest with %d\n", t->result->good,
		       t->result->failed, t->result->error);
	return !err;
}

bool traffic_is_right(struct traffic *t)
{
	int err = finish(start(read_back, t), 2 * SOON);

	if (err)
		printf("# reading back ended with %d\n", err);
	return !err;
}

/* --- tests --- */

static void show_hung_tasks(void)
{
	command(SOON, "for p in $(grep -l '^State:.*D' /proc/[0-9]*/status); do sed 's/^/# /' ${p%%/status}/comm ${p%%/status}/stack; done");
}

/* A test may have taken the device away itself. */
static bool take_away(struct device *device)
{
	return access("/sys/bus/vdpa/devices/" DEVICE_NAME, F_OK) ||
	       device_detach(device, SOON);
}

static void run_test(const struct test *test)
{
	struct device device;

	log_begin();
	printf("# %s\n", test->name);
	load_module(test->parameters);
	device_start(&device, "%s", test->words ?: "");
	if (!device_attach(&device, SOON)) {
		show_hung_tasks();
		tap_bail("%s: no disk", test->name);
	}
	set_disk_attribute(&device, "queue/io_timeout", 1000);
	test->run(&device, test);
	if (!tap_ok(take_away(&device), "%s: the device can be taken away",
		    test->name)) {
		show_hung_tasks();
		tap_bail("%s: there is no way on", test->name);
	}
	device_end(&device);
	tap_ok(unload_module(), "%s: the module unloads", test->name);
	if (!tap_ok(!log_has_reports(), "%s: the kernel has nothing to report", test->name))
		command(SOON, "dmesg | tail -n 60 | sed 's/^/# /'");
}

int run_tests(int argc, char **argv, const struct test *tests, unsigned int num)
{
	unsigned int i;
	int j;

	if (argc < 2)
		tap_bail("usage: %s MODULE [TEST...]", argv[0]);
	use_module(argv[1]);
	for (i = 0; i < num; i++) {
		bool wanted = argc == 2 && !tests[i].if_named;

		for (j = 2; j < argc; j++)
			wanted |= !strcmp(argv[j], tests[i].name);
		if (wanted)
			run_test(&tests[i]);
	}
	return tap_end();
}
