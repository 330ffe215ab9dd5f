// SPDX-License-Identifier: GPL-2.0
/*
 * Reads of 4 KiB for a while, for who wants to see what a device does meanwhile.
 * Prints how many there were in a second.
 *
 * usage: load DISK SECONDS [QUEUES [WORKERS]]
 *	QUEUES	1 by default
 *	WORKERS	made in addition, each for one of the queues; none by default
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "fixture.h"

#define DEPTH	8

static void add_workers(struct vhost_client *c, unsigned int num)
{
	unsigned int i, id;

	for (i = 0; i < num; i++)
		if (vhost_client_new_worker(c, &id) ||
		    vhost_client_attach_worker(c, i, id))
			tap_bail("no worker");
}

/* Adds a read; each has its own memory, which returns when it is answered. */
static void add_read(struct fixture *f, unsigned int queue, unsigned int sector,
		     uint8_t *data)
{
	struct vhost_client_seg segs[] = {
		{ f->hdr, sizeof(*f->hdr), false },
		{ data, 4096, true },
		{ f->status, 1, true },
	};

	f->hdr->sector = sector;
	if (vhost_client_add(&f->c, queue, segs, 3, NULL) < 0)
		tap_bail("ring too small");
}

int main(int argc, char **argv)
{
	unsigned int queues = argc > 3 ? atoi(argv[3]) : 1;
	unsigned int workers = argc > 4 ? atoi(argv[4]) : 0;
	unsigned long done = 0;
	struct fixture f;
	unsigned int i, j;
	uint8_t *data;
	double start;

	if (argc < 3)
		tap_bail("usage: %s DISK SECONDS [QUEUES [WORKERS]]", argv[0]);
	set_up_bound(&f, argv[1], O_RDWR, queues);
	set_up_running(&f, queues, ALL_FEATURES);
	add_workers(&f.c, workers);
	data = vhost_client_alloc(&f.c, 4096, 4096);
	f.hdr->type = VIRTIO_BLK_T_IN;
	f.hdr->ioprio = 0;
	start = now();
	for (i = 0; i < queues; i++) {
		for (j = 0; j < DEPTH; j++)
			add_read(&f, i, 0, data);
		vhost_client_kick(&f.c, i, false);
	}
	while (now() - start < atof(argv[2])) {
		bool any = false;

		for (i = 0; i < queues; i++) {
			while (vhost_client_get_used(&f.c, i, NULL, 0) >= 0) {
				any = true;
				done++;
				add_read(&f, i, done * 8 % 65536, data);
			}
			vhost_client_kick(&f.c, i, false);
		}
		if (!any)
			usleep(1000);
	}
	printf("%.0f\n", done / (now() - start));
	tear_down(&f);
	return 0;
}
