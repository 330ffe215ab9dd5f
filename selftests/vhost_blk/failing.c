// SPDX-License-Identifier: GPL-2.0
/*
 * Block devices that fail, hang or go while they serve requests.
 *
 * usage: failing TEST DISK [NAME]
 *	TEST	one of those in the table at the end
 *	DISK	a block device that may be overwritten
 *	NAME	what lib/disks.sh knows it by, or another disk, or for "away"
 *		the commands that take the disk away and back
 *
 * What happens to the device, the shell functions of that file do, whose path is
 * in the environment as DISKS.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "traffic.h"

#define QUEUES	2
/* What every device has. */
#define RING_FEATURES	(1ULL << VIRTIO_F_VERSION_1 | \
			 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
			 1ULL << VIRTIO_RING_F_EVENT_IDX)

/*
 * A command line for bash that runs beside this program, and has none of its files
 * when this returns: closing one of a device can take until that very command.
 */
__attribute__((format(printf, 1, 2)))
static pid_t shell_start(const char *fmt, ...)
{
	char command[1024] = ". \"$DISKS\"; ";
	size_t len = strlen(command);
	int executed[2];
	va_list args;
	pid_t pid;
	char end;

	va_start(args, fmt);
	vsnprintf(command + len, sizeof(command) - len, fmt, args);
	va_end(args);
	if (pipe2(executed, O_CLOEXEC))
		tap_bail("no pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		execlp("bash", "bash", "-c", command, NULL);
		_exit(127);
	}
	close(executed[1]);
	while (read(executed[0], &end, 1) > 0)
		;
	close(executed[0]);
	return pid;
}

static void shell_wait(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) < 0 || status)
		tap_bail("the device can't be changed");
}

/* Requests all the time while a command runs. Returns whether all were answered. */
static bool traffic_while(struct traffic *t, pid_t pid)
{
	int status;

	while (!waitpid(pid, &status, WNOHANG))
		traffic_go(t);
	if (status)
		tap_bail("the device can't be changed");
	return traffic_finish(t, 30);
}

/* Whether of so many requests all succeed, or all fail. */
static bool traffic_all(struct traffic *t, unsigned int requests, bool good)
{
	unsigned long sent = t->sent, before = good ? t->good : t->failed;

	if (traffic_run(t, requests) &&
	    (good ? t->good : t->failed) - before == t->sent - sent)
		return true;
	traffic_report(t);
	return false;
}

/* A device that works has the right data all over. */
static void works_again(struct traffic *t)
{
	tap_ok(traffic_all(t, 100, true), "after it, requests succeed");
	tap_ok(!t->wrong && traffic_matches_rings(t) && traffic_matches_disk(t),
	       "and the data is right");
}

static void set_up_traffic(struct fixture *f, struct traffic *t, const char *disk)
{
	set_up(f, disk, O_RDWR, QUEUES, RING_FEATURES);
	traffic_init(t, f, QUEUES, true);
	if (!traffic_all(t, 100, true))
		tap_bail("the device fails too early");
}

static void test_flakey(const char *disk, const char *name)
{
	struct fixture f;
	struct traffic t;

	set_up_traffic(&f, &t, disk);
	tap_ok(traffic_while(&t, shell_start("flakey_down %s", name)) && !t.odd,
	       "while a device begins to fail every request is answered");
	tap_ok(traffic_all(&t, 100, false), "then all fail with IOERR");
	tap_ok(traffic_while(&t, shell_start("flakey_up %s", name)) && !t.odd,
	       "while it recovers every request is answered");
	works_again(&t);
	tear_down(&f);
}

static void test_bad_blocks(const char *disk, const char *name)
{
	static const struct {
		unsigned int sector;
		unsigned int sectors;
		int status;
	} requests[] = {
		{ 8184,    8, VIRTIO_BLK_S_OK },
		{ 8191,    1, VIRTIO_BLK_S_OK },
		{ 8188,    8, VIRTIO_BLK_S_IOERR },
		{ 8192,    8, VIRTIO_BLK_S_IOERR },
		{ 8199,    1, VIRTIO_BLK_S_IOERR },
		{ 8199,    8, VIRTIO_BLK_S_IOERR },
		{ 8200,    8, VIRTIO_BLK_S_OK },
		{ 4096, 8192, VIRTIO_BLK_S_IOERR },
		{ 8200, 8192, VIRTIO_BLK_S_OK },
	};
	struct fixture f;
	unsigned int i;
	uint8_t *data;

	set_up(&f, disk, O_RDWR, 1, RING_FEATURES);
	data = vhost_client_alloc(&f.c, 8192 * SECTOR, 4096);
	for (i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		unsigned int first = requests[i].sector;
		unsigned int bytes = requests[i].sectors * SECTOR;

		tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, first, data, bytes, NULL),
			  requests[i].status, "a write of %u sectors at %u %s",
			  requests[i].sectors, first,
			  requests[i].status ? "fails" : "succeeds");
		tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, first, data, bytes, NULL),
			  requests[i].status, "so does a read");
	}
	shell_wait(shell_start("nullb_badblocks %s -8192-8199", name));
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_OUT, 4096, data, 8192 * SECTOR, NULL),
		  VIRTIO_BLK_S_OK, "once the blocks are good, a write succeeds");
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 4096, data, 8192 * SECTOR, NULL),
		  VIRTIO_BLK_S_OK, "and a read");
	tear_down(&f);
}

static void test_pulled(const char *disk, const char *other)
{
	uint8_t *out, *in;
	struct fixture f;
	struct traffic t;
	int spare;

	set_up_traffic(&f, &t, disk);
	out = vhost_client_alloc(&f.c, 4096, 4096);
	in = vhost_client_alloc(&f.c, 4096, 4096);
	/* Without the first, the kernel waits for what is in flight. */
	tap_ok(traffic_while(&t, shell_start("set_attribute \"$(sysfs_of %s)/device/state\" offline && pull_scsi %s",
					     disk, disk)),
	       "when a disk is pulled every request is answered");
	tap_ok(t.failed && !t.odd && !t.wrong, "some of them with IOERR");
	tap_ok(traffic_all(&t, 20, false), "then all fail");
	tap_equal(vhost_client_run(&f.c, false), 0, "the device stops");
	tap_ok(vhost_client_bind(&f.c, f.disk, 0, QUEUES, SERIAL) < 0,
	       "the disk can't be bound any more");

	spare = open(other, O_RDWR | O_CLOEXEC);
	tap_equal(vhost_client_bind(&f.c, spare, 0, QUEUES, SERIAL), 0,
		  "another one can");
	tap_equal(vhost_client_run(&f.c, true), 0, "and runs");
	fill(out, 4096, 1);
	tap_ok(simple(&f, 0, VIRTIO_BLK_T_OUT, 0, out, 4096, NULL) ==
	       VIRTIO_BLK_S_OK &&
	       simple(&f, 0, VIRTIO_BLK_T_IN, 0, in, 4096, NULL) ==
	       VIRTIO_BLK_S_OK && !memcmp(out, in, 4096),
	       "with the right data");
	close(spare);
	tear_down(&f);
}

/* Takes a SCSI disk away; returns when it is gone. */
static void delete_scsi(const char *disk)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/block/%s/device/delete",
		 strrchr(disk, '/') + 1);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		tap_bail("no %s", path);
	close(fd);
}

/* A look at the capacity each second would find it a second after the first call. */
static void test_removed(const char *disk, const char *name)
{
	struct pollfd call = { .events = POLLIN };
	struct virtio_blk_config config;
	double start, deleted, end;
	struct fixture f;
	int ret;

	(void)name;
	set_up(&f, disk, O_RDWR, 1, RING_FEATURES);
	call.fd = eventfd(0, EFD_CLOEXEC);
	start = now();
	vhost_client_set_config_call(&f.c, call.fd);
	delete_scsi(disk);
	deleted = now();
	ret = poll(&call, 1, TIMEOUT_MS);
	end = now();
	printf("# deleted after %.3f s, signalled after %.3f s\n", deleted - start,
	       end - start);
	/* On a slow machine that can't be told apart. */
	tap_ok(ret == 1 && (end - start < 0.9 || deleted - start > 0.5),
	       "a removal is signalled at once");
	vhost_client_get_config(&f.c, &config);
	tap_equal(config.capacity, 0, "the configuration has nothing left");
	tear_down(&f);
	close(call.fd);
}

/* Requests that wait while the device is away go on when it is back. */
static void test_away(const char *disk, const char *command)
{
	struct fixture f;
	struct traffic t;

	set_up_traffic(&f, &t, disk);
	tap_ok(traffic_while(&t, shell_start("%s", command)),
	       "every request is answered when it is back again");
	tap_equal(t.failed + t.odd, 0, "and none has failed");
	works_again(&t);
	tear_down(&f);
}

static void test_link_restored(const char *disk, const char *name)
{
	(void)name;
	test_away(disk, "break_nvme_tcp; sleep 3; restore_nvme_tcp");
}

/* With fast_io_fail_tmo=1. */
static void test_link_failing(const char *disk, const char *name)
{
	struct fixture f;
	struct traffic t;
	double end;

	(void)name;
	set_up_traffic(&f, &t, disk);
	tap_ok(traffic_while(&t, shell_start("break_nvme_tcp; sleep 3")),
	       "every request is answered though the link is down");
	tap_ok(t.failed && !t.odd, "some of them with IOERR");
	tap_ok(traffic_all(&t, 20, false), "then all fail");
	shell_wait(shell_start("restore_nvme_tcp"));
	for (end = now() + 30 * limit_factor(); now() < end; usleep(100000))
		if (simple(&f, 0, VIRTIO_BLK_T_IN, 0, t.slots[0].room, 4096,
			   NULL) == VIRTIO_BLK_S_OK)
			break;
	tap_ok(now() < end, "when the link is up again, requests succeed");
	works_again(&t);
	tear_down(&f);
}

static void gone_for_good(struct fixture *f, struct traffic *t)
{
	tap_ok(t->failed && !t->odd, "some of them with IOERR");
	tap_ok(traffic_all(t, 20, false), "then all fail");
	tap_equal(vhost_client_run(&f->c, false), 0, "the device stops");
	tear_down(f);
	tap_ok(true, "and closes");
}

/* With ctrl_loss_tmo=2. */
static void test_link_lost(const char *disk, const char *name)
{
	struct fixture f;
	struct traffic t;

	(void)name;
	set_up_traffic(&f, &t, disk);
	tap_ok(traffic_while(&t, shell_start("break_nvme_tcp; sleep 6")),
	       "every request is answered when the link is lost for good");
	gone_for_good(&f, &t);
}

static void test_controller_deleted(const char *disk, const char *name)
{
	struct fixture f;
	struct traffic t;

	(void)name;
	set_up_traffic(&f, &t, disk);
	tap_ok(traffic_while(&t, shell_start("pull_nvme_tcp; sleep 1")),
	       "every request is answered when the controller is deleted");
	gone_for_good(&f, &t);
}

/* Reads that the device keeps until the command ends. */
static pid_t begin_hanging(struct fixture *f, unsigned int num,
			   uint8_t **statuses, const char *hang,
			   const char *go_on)
{
	shell_wait(shell_start("%s", hang));
	*statuses = send_reads(f, num);
	usleep(200000);
	return shell_start("sleep 2; %s", go_on);
}

static bool is_running(pid_t pid)
{
	siginfo_t info = {};

	return !waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
	       !info.si_pid;
}

static void test_hanging(const char *disk, const char *hang, const char *go_on)
{
	enum { NUM = 16 };
	volatile uint16_t *used;
	struct fixture f;
	uint8_t *statuses;
	bool claimed;
	double start;
	pid_t pid;
	int ret;

	set_up(&f, disk, O_RDWR, 1, RING_FEATURES);
	used = &f.c.queues[0].vring.used->idx;
	pid = begin_hanging(&f, NUM, &statuses, hang, go_on);
	tap_equal(*used, 0, "the device hangs");
	start = now();
	ret = vhost_client_run(&f.c, false);
	tap_ok(!ret && now() - start > 1, "a stop waits for a device that hangs");
	tap_ok(*used == NUM && count_ok(statuses, NUM) == NUM,
	       "everything was answered then");
	shell_wait(pid);
	tap_equal(vhost_client_run(&f.c, true), 0, "it can run again");
	take_answers(&f, NUM);
	tap_equal(simple(&f, 0, VIRTIO_BLK_T_IN, 0, statuses, SECTOR, NULL),
		  VIRTIO_BLK_S_OK, "and serves");
	vhost_client_close(&f.c);
	close(f.disk);

	set_up(&f, disk, O_RDWR, 1, RING_FEATURES);
	pid = begin_hanging(&f, NUM, &statuses, hang, go_on);
	tear_down(&f);
	claimed = is_claimed(disk);
	tap_ok(claimed || !is_running(pid),
	       "a close leaves it claimed as long as it hangs");
	shell_wait(pid);
	tap_ok(soon(!is_claimed(disk)), "and releases it then");
}

static void test_suspended(const char *disk, const char *name)
{
	char hang[100], go_on[100];

	snprintf(hang, sizeof(hang), "dmsetup suspend --noflush %s", name);
	snprintf(go_on, sizeof(go_on), "dmsetup resume %s", name);
	test_hanging(disk, hang, go_on);
}

static void test_link_down(const char *disk, const char *name)
{
	(void)name;
	test_hanging(disk, "break_nvme_tcp; sleep 1", "restore_nvme_tcp");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*test)(const char *disk, const char *name);
	} tests[] = {
		{ "flakey", test_flakey },
		{ "bad-blocks", test_bad_blocks },
		{ "pulled", test_pulled },
		{ "removed", test_removed },
		{ "away", test_away },
		{ "suspended", test_suspended },
		{ "link-restored", test_link_restored },
		{ "link-failing", test_link_failing },
		{ "link-lost", test_link_lost },
		{ "link-down", test_link_down },
		{ "controller-deleted", test_controller_deleted },
	};
	unsigned int i;

	for (i = 0; argc >= 3 && i < sizeof(tests) / sizeof(*tests); i++)
		if (!strcmp(argv[1], tests[i].name)) {
			tests[i].test(argv[2], argc > 3 ? argv[3] : NULL);
			return tap_end();
		}
	tap_bail("usage: %s TEST DISK [NAME]", argv[0]);
}
