// SPDX-License-Identifier: GPL-2.0
/*
 * The process of the device is one loop that waits for the driver's messages, for
 * kicks, for what it is told, and for the time at which a request is to be answered.
 * Requests that wait are in a list, until they are answered or the device is reset.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <glob.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <linux/vduse.h>
#include <linux/virtio_config.h>

#include "device.h"
#include "disk.h"
#include "fixture.h"
#include "vdpa.h"

#define WORDS	1024

struct waiting {
	struct waiting *next;
	unsigned int queue;
	double due;
	struct vduse_chain chain;
};

struct tricks {
	long long times;
	long long status;
	long long id;
	long long id_add;
	long long length;
	long long answers;
	long long index_add;
	long long interrupts;
	long long scribble;
	long long delay;
	long long stall;
	long long undone;
	long long silent;
	long long next;
	long long type;
	long long queue;
};

static const struct tricks honest = {
	.status = -1, .id = -1, .length = -1, .answers = 1, .interrupts = 1, .next = -1,
	.type = -1, .queue = -1,
};

/* The process has one device. */
static struct {
	struct vduse vduse;
	struct disk disk;
	struct tricks tricks;
	struct waiting *first;
	/* How many requests of each type came. */
	unsigned long seen[VIRTIO_BLK_TYPES];
	long long queues;
	long long ring;
	long long config_bytes;
	long long legacy;
	long long indirect;
	long long in_order;
	long long reset;
	long long start;
	long long refusals;
	long long starts;
	int socket;
} me = {
	.queues = 1, .ring = 128, .config_bytes = sizeof(struct virtio_blk_config),
	.indirect = 1,
};

static const struct word {
	const char *name;
	long long *value;
} words[] = {
	{ "queues", &me.queues },
	{ "ring", &me.ring },
	{ "config_bytes", &me.config_bytes },
	{ "legacy", &me.legacy },
	{ "indirect", &me.indirect },
	{ "in_order", &me.in_order },
	{ "reset", &me.reset },
	{ "start", &me.start },
	{ "refusals", &me.refusals },
	{ "times", &me.tricks.times },
	{ "status", &me.tricks.status },
	{ "id", &me.tricks.id },
	{ "id_add", &me.tricks.id_add },
	{ "length", &me.tricks.length },
	{ "answers", &me.tricks.answers },
	{ "index_add", &me.tricks.index_add },
	{ "interrupts", &me.tricks.interrupts },
	{ "scribble", &me.tricks.scribble },
	{ "delay", &me.tricks.delay },
	{ "stall", &me.tricks.stall },
	{ "undone", &me.tricks.undone },
	{ "silent", &me.tricks.silent },
	{ "next", &me.tricks.next },
	{ "type", &me.tricks.type },
	{ "queue", &me.tricks.queue },
};

/* --- answers --- */

/* What is done to a request. */
static const struct tricks *tricks_for(unsigned int queue, const struct vduse_chain *chain)
{
	const struct tricks *t = &me.tricks;

	if ((t->type == -1 || t->type == disk_request_type(chain)) &&
	    (t->queue == -1 || t->queue == queue))
		return t;
	return &honest;
}

static void interrupt(unsigned int queue, long long times)
{
	long long i;

	for (i = 0; i < times; i++) {
		/* One that comes too soon after another is the same one. */
		if (i)
			usleep(500);
		vduse_interrupt(&me.vduse, queue);
	}
}

/*
 * Over all that is the device's to write, with numbers that repeat.
 */
static void scribble(struct vduse_queue *queue)
{
	uint32_t *word = (uint32_t *)queue->ring.used;
	unsigned int seed = 1, i;

	for (i = 0; i < 1 + queue->ring.num * 2; i++) {
		seed = seed * 1103515245 + 12345;
		word[i] = seed;
	}
}

/* These are not the device's to write, but it can. */
static void change_next_flags(struct vduse_queue *queue, bool set)
{
	unsigned int i;

	for (i = 0; i < queue->ring.num; i++) {
		if (set)
			queue->ring.desc[i].flags |= VRING_DESC_F_NEXT;
		else
			queue->ring.desc[i].flags &= ~VRING_DESC_F_NEXT;
	}
}

/* The last one that the device writes. */
static uint8_t *status_byte(const struct vduse_chain *chain)
{
	const struct iovec *last = &chain->pieces[chain->num_out + chain->num_in - 1];

	return (uint8_t *)last->iov_base + last->iov_len - 1;
}

static void put_answer(struct vduse_queue *queue, const struct vduse_chain *chain,
		       const struct tricks *t, uint8_t status, uint32_t length)
{
	long long i;

	if (t->status != -1)
		status = t->status;
	*status_byte(chain) = status;
	if (t->length != -1)
		length = t->length;
	for (i = 0; i < t->answers; i++)
		vduse_push(queue, (t->id == -1 ? chain->id : t->id) + t->id_add, length);
	queue->ring.used->idx += t->index_add;
}

static void answer(unsigned int index, const struct vduse_chain *chain)
{
	struct vduse_queue *queue = &me.vduse.queues[index];
	const struct tricks *t = tricks_for(index, chain);
	uint8_t status = VIRTIO_BLK_S_OK;
	uint32_t length = 0;

	if (t->scribble) {
		scribble(queue);
	} else {
		if (!t->undone)
			status = disk_do(&me.disk, chain, &length);
		if (!t->silent)
			put_answer(queue, chain, t, status, length + 1);
	}
	if (vduse_wants_interrupt(queue) || t->interrupts > 1)
		interrupt(index, t->interrupts);
	if (t == &me.tricks && t->times && !--me.tricks.times)
		me.tricks = honest;
}

static void wait_with(unsigned int queue, const struct vduse_chain *chain)
{
	struct waiting *waiting = malloc(sizeof(*waiting));
	struct waiting **end = &me.first;

	waiting->next = NULL;
	waiting->queue = queue;
	waiting->due = now() + me.tricks.delay / 1e3;
	waiting->chain = *chain;
	while (*end)
		end = &(*end)->next;
	*end = waiting;
}

static void serve(unsigned int queue)
{
	static struct vduse_chain chain;
	const struct tricks *t;
	uint64_t kicks;

	if (read(me.vduse.queues[queue].kick, &kicks, sizeof(kicks)) < 0)
		return;
	while (vduse_pop(&me.vduse, &me.vduse.queues[queue], &chain)) {
		if (!chain.num_in)
			die("no place for a status");
		/*
		 * The device does not see what the driver put there, but a rest of
		 * an earlier request: VDUSE copies to its buffer only what is to be
		 * read. It should not be taken for an answer.
		 */
		*status_byte(&chain) = 0xff;
		me.seen[disk_request_type(&chain) % VIRTIO_BLK_TYPES]++;
		t = tricks_for(queue, &chain);
		if (t->next != -1)
			change_next_flags(&me.vduse.queues[queue], t->next);
		if (t->stall || t->delay)
			wait_with(queue, &chain);
		else
			answer(queue, &chain);
	}
}

/* Answers what waits and is due. Returns the milliseconds until the next one is. */
static int answer_waiting(void)
{
	struct waiting *waiting;

	while (!me.tricks.stall && (waiting = me.first)) {
		double left = waiting->due - now();

		if (left > 0)
			return left * 1e3 + 1;
		me.first = waiting->next;
		answer(waiting->queue, &waiting->chain);
		free(waiting);
	}
	return -1;
}

static void forget_waiting(void)
{
	struct waiting *waiting;

	while ((waiting = me.first)) {
		me.first = waiting->next;
		free(waiting);
	}
}

static void take_message(void)
{
	static const enum vduse_reply replies[] = {
		VDUSE_ACCEPT, VDUSE_REFUSE, VDUSE_IGNORE
	};

	switch (vduse_message(&me.vduse, replies[me.reset], replies[me.start])) {
	case VDUSE_RESET:
		forget_waiting();
		if (me.tricks.stall > 0)
			me.tricks.stall--;
		break;
	case VDUSE_STARTED:
		me.starts++;
		break;
	case VDUSE_REFUSED:
		me.starts++;
		if (me.refusals && !--me.refusals)
			me.start = 0;
		break;
	case VDUSE_NOTHING:
		break;
	}
}

/* --- what it is told --- */

static bool set_word(const char *name, long long value)
{
	unsigned int i;

	for (i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (!strcmp(name, words[i].name)) {
			*words[i].value = value;
			return true;
		}
	}
	return false;
}

static void set_ring(void)
{
	struct vduse_vq_config config = { .max_size = me.ring };
	unsigned int i;

	for (i = 0; i < me.queues; i++) {
		config.index = i;
		if (ioctl(me.vduse.fd, VDUSE_VQ_SETUP, &config))
			die("ring of %lld: %s", me.ring, strerror(errno));
	}
}

/* Returns whether the configuration space is another one. */
static bool obey(char *text)
{
	struct virtio_blk_config before = me.disk.config;
	char *word, *save, *value;

	for (word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		long long number;

		value = strchr(word, '=');
		if (!value)
			die("no number: %s", word);
		*value++ = '\0';
		number = strtoull(value, NULL, 0);
		if (!strcmp(word, "spurious"))
			interrupt(0, number);
		else if (!strcmp(word, "honest"))
			me.tricks = honest;
		else if (!set_word(word, number) && !disk_set(&me.disk, word, number))
			die("unknown: %s", word);
		if (me.vduse.fd && !strcmp(word, "ring"))
			set_ring();
	}
	return memcmp(&before, &me.disk.config, sizeof(before));
}

static long long look_up(const char *what)
{
	struct waiting *waiting;
	long long n = 0;

	if (!strncmp(what, "requests=", 9))
		return me.disk.requests[atoi(what + 9)];
	if (!strncmp(what, "seen=", 5))
		return me.seen[atoi(what + 5)];
	if (!strncmp(what, "written=", 8))
		return me.disk.written[atoi(what + 8)];
	if (!strcmp(what, "starts"))
		return me.starts;
	if (!strcmp(what, "ready"))
		return me.vduse.queues[0].ready;
	if (strcmp(what, "held"))
		die("unknown question: %s", what);
	for (waiting = me.first; waiting; waiting = waiting->next)
		n++;
	return n;
}

/* Returns whether it is to go on. */
static bool take_order(void)
{
	char text[WORDS + 1];
	ssize_t len = recv(me.socket, text, WORDS, 0);
	long long reply = 0;

	if (len <= 0)
		return false;
	text[len] = '\0';
	if (text[0] == '?')
		reply = look_up(text + 1);
	else if (obey(text))
		vduse_change_config(&me.vduse, &me.disk.config, me.config_bytes);
	if (send(me.socket, &reply, sizeof(reply), 0) < 0)
		die("no answer to %s: %s", text, strerror(errno));
	return true;
}

static void loop(void)
{
	struct pollfd polls[2 + VDUSE_MAX_QUEUES] = {
		{ .fd = me.socket, .events = POLLIN },
		{ .fd = me.vduse.fd, .events = POLLIN },
	};
	unsigned int i;

	for (i = 0; i < me.queues; i++) {
		polls[2 + i].fd = me.vduse.queues[i].kick;
		polls[2 + i].events = POLLIN;
	}
	do {
		poll(polls, 2 + me.queues, answer_waiting());
		/* After an answer that took too long there are no more messages. */
		if (polls[1].revents & POLLERR)
			polls[1].fd = -1;
		else if (polls[1].revents & POLLIN)
			take_message();
		for (i = 0; i < me.queues; i++)
			if (polls[2 + i].revents & POLLIN)
				serve(i);
	} while (!polls[0].revents || take_order());
}

static void run(char *text, unsigned char *unflushed)
{
	uint64_t features = 0;
	long long ready = 0;
	int err;

	me.tricks = honest;
	disk_init(&me.disk);
	me.disk.unflushed = unflushed;
	obey(text);
	if (!me.legacy)
		features |= 1ULL << VIRTIO_F_VERSION_1;
	if (me.indirect)
		features |= 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	if (me.in_order)
		features |= 1ULL << VIRTIO_F_IN_ORDER;
	err = vduse_create(&me.vduse, DEVICE_NAME, features | me.disk.features,
			   me.queues, me.ring, &me.disk.config, me.config_bytes);
	if (err)
		die("no VDUSE device: %s", strerror(-err));
	if (send(me.socket, &ready, sizeof(ready), 0) < 0)
		die("nobody there: %s", strerror(errno));
	loop();
	vduse_destroy(&me.vduse);
}

/* --- the test's side --- */

void device_start(struct device *device, const char *fmt, ...)
{
	const struct timeval limit = { .tv_sec = 2 * SOON };
	char text[WORDS + 1];
	long long ready;
	int sockets[2];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	memset(device, 0, sizeof(*device));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		tap_bail("no socket: %s", strerror(errno));
	device->unflushed = mmap(NULL, DISK_BYTES / SECTOR, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (device->unflushed == MAP_FAILED)
		tap_bail("no memory: %s", strerror(errno));
	fflush(stdout);
	device->pid = fork();
	if (!device->pid) {
		close(sockets[0]);
		me.socket = sockets[1];
		/* The device goes on, whatever becomes of the test. */
		prctl(PR_SET_NAME, "device");
		run(text, device->unflushed);
		_exit(0);
	}
	close(sockets[1]);
	device->socket = sockets[0];
	setsockopt(device->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (recv(device->socket, &ready, sizeof(ready), 0) != sizeof(ready))
		tap_bail("the device does not start: %s", text);
}

static void find_disk(struct device *device)
{
	const char *end;
	glob_t found;

	device->disk[0] = '\0';
	if (!glob("/sys/bus/vdpa/devices/" DEVICE_NAME "/virtio*/block/vd*", 0, NULL,
		  &found)) {
		end = strrchr(found.gl_pathv[0], '/') + 1;
		snprintf(device->disk, sizeof(device->disk), "%s", end);
	}
	globfree(&found);
}

static int attach(void *name)
{
	return -vdpa_add(name, "vduse");
}

static int detach(void *name)
{
	return -vdpa_del(name);
}

bool device_attach(struct device *device, unsigned int seconds)
{
	if (finish(start(attach, DEVICE_NAME), seconds))
		return false;
	find_disk(device);
	return device->disk[0];
}

bool device_detach(struct device *device, unsigned int seconds)
{
	device->disk[0] = '\0';
	return !finish(start(detach, DEVICE_NAME), seconds);
}

static long long exchange(struct device *device, const char *text)
{
	long long reply;

	if (send(device->socket, text, strlen(text), MSG_NOSIGNAL) < 0 ||
	    recv(device->socket, &reply, sizeof(reply), 0) != sizeof(reply))
		tap_bail("the device does not hear: %s", text);
	return reply;
}

void device_tell(struct device *device, const char *fmt, ...)
{
	char text[WORDS];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	exchange(device, text);
}

long long device_ask(struct device *device, const char *what)
{
	char text[WORDS];

	snprintf(text, sizeof(text), "?%s", what);
	return exchange(device, text);
}

bool device_has_flushed(const struct device *device, uint64_t offset, size_t bytes)
{
	return !memchr(device->unflushed + offset / SECTOR, 1, bytes / SECTOR);
}

void device_end(struct device *device)
{
	int status = 0;

	munmap(device->unflushed, DISK_BYTES / SECTOR);
	if (!device->pid)
		return;
	close(device->socket);
	if (waitpid(device->pid, &status, 0) != device->pid || status)
		tap_bail("the device ended with %#x", status);
}

void device_kill(struct device *device)
{
	kill(device->pid, SIGKILL);
	waitpid(device->pid, NULL, 0);
	device->pid = 0;
	close(device->socket);
}
