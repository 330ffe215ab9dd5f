/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a stretch of a benchmark has cost, by who paid: this thread (the client)
 * and the workers, which are all other threads of this process or those of a server.
 *
 * Time and events are never taken at once: counting an event costs time. On a
 * machine under QEMU's "-icount shift=0" a nanosecond is an instruction.
 */
#ifndef METER_H
#define METER_H

#include <stdint.h>
#include <sys/types.h>

/**
 * struct meter_time - nanoseconds since some time in the past
 * @wall: of the clock
 * @client: that this thread ran
 * @workers: that the workers ran
 * @first: of that, the first thread of a server
 * @idle: that CPUs had nothing to do, all of them added up
 */
struct meter_time {
	uint64_t wall;
	uint64_t client;
	uint64_t workers;
	uint64_t first;
	uint64_t idle;
};

/**
 * struct meter_events - what happened in the client and in the workers
 * @syscalls: system calls that began
 * @switches: times that the CPU was given to another thread
 * @wakeups: times that the client or a worker was woken, by whomever: another thread or
 *	an interrupt, an idle CPU's included
 * @idles: times that the CPU had nothing to do then
 * @timers: interrupts of the CPUs' timers, which end the requests of null_blk and
 *	scsi_debug, and tick; of nobody in particular
 */
struct meter_events {
	uint64_t syscalls[2];
	uint64_t switches[2];
	uint64_t wakeups[2];
	uint64_t idles[2];
	uint64_t timers;
};

enum {
	METER_CLIENT,
	METER_WORKERS,
};

struct meter;

/*
 * The workers are the threads of @server, or of this process if that is 0. Those
 * that there are when a reading starts are counted.
 */
void meter_start_time(struct meter_time *t, pid_t server);
/* Turns the reading into the time that has passed since. */
void meter_stop_time(struct meter_time *t, pid_t server);

/* NULL, with errno, where events can't be counted. */
struct meter *meter_start_events(pid_t server);
void meter_stop_events(struct meter *meter, struct meter_events *events);

#endif
