// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's emulator that counts the instructions executed at every
 * address, between the marks of a benchmark (backend -m): exact, whatever the
 * interrupts are, and without an instruction of its own in the machine.
 *
 * usage: qemu-system-x86_64 ... -plugin profile.so,out=FILE
 *	At every end of a window FILE is written anew: a line "ADDRESS COUNT" for
 *	each instruction, the address hexadecimal. It adds up all windows since the
 *	last one that found a file FILE.reset, which it removes.
 */
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* "test $0x6b72616d, %eax" and "$0x6b72616e": as in backend.c. */
#define MARK_BYTES	5
static const uint8_t mark_start[MARK_BYTES] = { 0xa9, 0x6d, 0x61, 0x72, 0x6b };
static const uint8_t mark_end[MARK_BYTES] = { 0xa9, 0x6e, 0x61, 0x72, 0x6b };

/**
 * struct block - instructions that are executed one after the other
 * @index: of the counter of its executions
 * @before: what that said when the window began
 * @counted: in windows
 * @insns: their number
 * @addresses: of each
 */
struct block {
	size_t index;
	uint64_t before;
	uint64_t counted;
	size_t insns;
	uint64_t addresses[];
};

/* More blocks than that are never seen; they would share the last counter. */
#define MAX_BLOCKS	(1 << 22)

static struct qemu_plugin_scoreboard *counters;
static GMutex lock;
static GPtrArray *blocks;
static const char *out_path;
static char *reset_path;

static qemu_plugin_u64 counter_of(const struct block *block)
{
	return (qemu_plugin_u64){ counters, block->index * sizeof(uint64_t) };
}

static uint64_t executed(const struct block *block)
{
	return qemu_plugin_u64_sum(counter_of(block));
}

static void window_starts(unsigned int vcpu, void *unused)
{
	unsigned int i;

	(void)vcpu;
	(void)unused;
	g_mutex_lock(&lock);
	if (!unlink(reset_path))
		for (i = 0; i < blocks->len; i++)
			((struct block *)blocks->pdata[i])->counted = 0;
	for (i = 0; i < blocks->len; i++) {
		struct block *block = blocks->pdata[i];

		block->before = executed(block);
	}
	g_mutex_unlock(&lock);
}

static void write_out(void)
{
	FILE *file = fopen(out_path, "w");
	unsigned int i;
	size_t j;

	if (!file)
		return;
	for (i = 0; i < blocks->len; i++) {
		struct block *block = blocks->pdata[i];

		for (j = 0; block->counted && j < block->insns; j++)
			fprintf(file, "%016" PRIx64 " %" PRIu64 "\n",
				block->addresses[j], block->counted);
	}
	fclose(file);
}

static void window_ends(unsigned int vcpu, void *unused)
{
	unsigned int i;

	(void)vcpu;
	(void)unused;
	g_mutex_lock(&lock);
	for (i = 0; i < blocks->len; i++) {
		struct block *block = blocks->pdata[i];

		block->counted += executed(block) - block->before;
	}
	write_out();
	g_mutex_unlock(&lock);
}

static void find_mark(struct qemu_plugin_insn *insn)
{
	uint8_t bytes[MARK_BYTES];

	if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes))
		return;
	if (!memcmp(bytes, mark_start, sizeof(bytes)))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, window_starts,
						       QEMU_PLUGIN_CB_NO_REGS, NULL);
	else if (!memcmp(bytes, mark_end, sizeof(bytes)))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, window_ends,
						       QEMU_PLUGIN_CB_NO_REGS, NULL);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t insns = qemu_plugin_tb_n_insns(tb), i;
	struct block *block = g_malloc0(sizeof(*block) +
					insns * sizeof(*block->addresses));

	(void)id;
	block->insns = insns;
	for (i = 0; i < insns; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		block->addresses[i] = qemu_plugin_insn_vaddr(insn);
		find_mark(insn);
	}
	g_mutex_lock(&lock);
	block->index = MIN(blocks->len, MAX_BLOCKS - 1);
	g_ptr_array_add(blocks, block);
	g_mutex_unlock(&lock);
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb,
		QEMU_PLUGIN_INLINE_ADD_U64, counter_of(block), 1);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
					   const qemu_info_t *info, int argc,
					   char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "profile: out=FILE is needed\n");
		return -1;
	}
	out_path = g_strdup(argv[0] + 4);
	reset_path = g_strconcat(out_path, ".reset", NULL);
	blocks = g_ptr_array_new();
	counters = qemu_plugin_scoreboard_new(MAX_BLOCKS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
