/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the guest driver on a device of their own (device.h) share: the
 * module and the disk, requests that may never end, and the kernel's log.
 *
 * Whoever uses a disk here is another process, which is waited for as long as is said
 * and no longer: what hangs is a failed test.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "device.h"

#define BLOCK	4096
/* What finish() says of what did not end. */
#define HANGS	(-1)
/* What a read says of data that is not the expected. */
#define WRONG	200
/* What a write says that was to be flushed, and has succeeded without it. */
#define NOT_FLUSHED	201
/* For what should take no time, where the machine is slow. */
#define SOON	(30 * limit_factor())

/* In seconds. */
static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/*
 * One test: @run gets a device that does as the words say, with its disk, of which a
 * request times out after a second. It is taken away afterwards, and the module, too.
 */
struct test {
	const char *name;
	void (*run)(struct device *device, const struct test *test);
	/* Of the module, and of the device; both may be NULL. */
	const char *parameters;
	const char *words;
	/* What the test wants: words for the device, and how often something happens. */
	const char *trick;
	unsigned int number;
	/* It runs only if it is named: the kernel reports what no driver can prevent. */
	bool if_named;
};

/* The program's arguments are the module's file, and what tests to run: all. */
int run_tests(int argc, char **argv, const struct test *tests, unsigned int num);

/* For who has more to test than that: the module's file is named, then loaded. */
void use_module(const char *path);
void load_module(const char *parameters);
bool unload_module(void);

/* --- processes --- */

/* Ends with what the function returns, an errno or 0. */
pid_t start(int (*function)(void *), void *argument);
int finish(pid_t pid, unsigned int seconds);

/* Runs a command line of the shell. */
__attribute__((format(printf, 2, 3)))
int command(unsigned int seconds, const char *fmt, ...);

/* --- requests --- */

/* How a write is followed by a flush. ONLY_FSYNC leaves out the write. */
enum flush {
	NO_FLUSH,
	ONLY_FSYNC,
	BY_FSYNC,
	BY_DSYNC,
};

/* All data is made of a seed and the place on the disk. */
struct io {
	const struct device *device;
	bool write;
	uint64_t offset;
	size_t bytes;
	unsigned int seed;
	enum flush flush;
};

/* An io is one request, or as many as it has to be. */
pid_t start_io(const struct io *io);
int disk_write(const struct device *device, uint64_t offset, size_t bytes,
	       unsigned int seed, unsigned int seconds);
int disk_read(const struct device *device, uint64_t offset, size_t bytes,
	      unsigned int seed, unsigned int seconds);

/* Whether the whole disk, or what of it there is memory for, takes data and keeps it. */
bool data_is_right(const struct device *device);

/*
 * Discards, writes zeroes or erases (BLKDISCARD, BLKZEROOUT, BLKSECDISCARD). Returns an
 * errno, 0, or HANGS.
 */
int disk_range(const struct device *device, unsigned long request, uint64_t offset,
	       uint64_t bytes);

#define TRAFFIC_BLOCKS	1024

/* Writes of a block each, several at a time. */
struct traffic {
	const struct device *device;
	unsigned int blocks;
	unsigned int depth;
	unsigned int seed;
	/* The number of the first block. */
	unsigned int first;
	pid_t pid;
	struct traffic_result {
		unsigned int good;
		unsigned int failed;
		int error;
		bool acknowledged[TRAFFIC_BLOCKS];
	} *result;
};

void traffic_start(struct traffic *t, const struct device *device, unsigned int blocks,
		   unsigned int depth);
/* The same of one CPU. Its blocks follow those of the CPUs before. */
void traffic_start_on(struct traffic *t, unsigned int cpu, const struct device *device,
		      unsigned int blocks, unsigned int depth);
/* How many have ended so far. */
unsigned int traffic_ended(const struct traffic *t);
/* Whether all ended. */
bool traffic_finish(struct traffic *t, unsigned int seconds);
/* Whether what was acknowledged is there. */
bool traffic_is_right(struct traffic *t);

/* --- sysfs, and the log --- */

long long disk_attribute(const struct device *device, const char *name);
void set_disk_attribute(const struct device *device, const char *name, long long value);

void log_begin(void);
/* How many lines of the log there are with a text, since the test began. */
unsigned int log_lines(const char *text);
/* How many warnings and errors the driver had, and the latest in @latest. */
unsigned int log_messages(const char **latest);
/* Whether the kernel reported a bug. */
bool log_has_reports(void);

#endif
