/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes vhost-blk.c and vhost-blk-pci.c a loadable object
 *
 * The object is loaded by LD_PRELOAD: QEMU can't load a device that it was not
 * built with, but it exports its symbols for its own modules. The two files
 * are the same as in a QEMU tree. The build defines a macro that redirects
 * their type_init() constructors from QEMU's register_module_init() to here.
 *
 * This file handles these cases:
 *
 * - LD_PRELOAD is inherited. In a program that is not QEMU, such as a script
 *   that runs QEMU, the object does nothing. The build makes all of its
 *   references weak, so that it can be loaded there.
 * - In QEMU the object removes itself from LD_PRELOAD, so that the programs
 *   that QEMU starts do not load it.
 * - The object fits one version of QEMU only, for x86_64, because it shares
 *   structures that have no stable layout. It ends any other QEMU at once.
 */
#include "qemu/osdep.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/qapi-types-control.h"
#include "qapi/qapi-types-machine.h"
#include "qemu/module.h"
#include <dlfcn.h>

#pragma weak qmp_query_version
#pragma weak qmp_query_target
#pragma weak register_module_init

/* What qemu-vhost-blk looks for in the output of QEMU --version */
#define PROBE_VARIABLE "VHOST_BLK_PCI_PROBE"
#define PROBE_ANSWER "vhost-blk-pci.so is loaded"

const char *vhost_blk_missing_import(void);
void vhost_blk_module_init(void (*fn)(void), module_init_type type);

static bool in_qemu(void)
{
    return qmp_query_version && qmp_query_target && register_module_init;
}

static void G_GNUC_PRINTF(1, 2) G_NORETURN refuse(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

static void check_target(void)
{
    g_autoptr(TargetInfo) info = qmp_query_target(NULL);

    if (info->arch != SYS_EMU_TARGET_X86_64) {
        refuse("this QEMU emulates %s, but vhost-blk-pci.so is for x86_64: "
               "run qemu-system-x86_64", SysEmuTarget_str(info->arch));
    }
}

/* The version that qemu-system-* --version prints */
static char *running_version(void)
{
    g_autoptr(VersionInfo) info = qmp_query_version(NULL);
    const char *package = info->package;

    return g_strdup_printf("%" PRId64 ".%" PRId64 ".%" PRId64 "%s%s%s",
                           info->qemu->major, info->qemu->minor,
                           info->qemu->micro, *package ? " (" : "", package,
                           *package ? ")" : "");
}

static void check_version(void)
{
    g_autofree char *version = running_version();

    if (strcmp(version, VHOST_BLK_QEMU_VERSION)) {
        refuse("vhost-blk-pci.so was built for QEMU %s, but this is QEMU %s: "
               "build it again with tools/qemu/build", VHOST_BLK_QEMU_VERSION,
               version);
    }
}

static void check_imports(void)
{
    const char *name = vhost_blk_missing_import();

    if (name) {
        refuse("this QEMU has no %s, which vhost-blk-pci.so needs: "
               "build it again with tools/qemu/build", name);
    }
}

/* The programs that QEMU starts have nothing to do with the object. */
static void leave_environment(void)
{
    g_auto(GStrv) objects = NULL;
    g_autoptr(GString) others = g_string_new(NULL);
    const char *preloaded = g_getenv("LD_PRELOAD");
    Dl_info self;

    if (!preloaded || !dladdr(vhost_blk_module_init, &self)) {
        return;
    }
    objects = g_strsplit_set(preloaded, ": ", -1);
    for (char **object = objects; *object; object++) {
        if (**object && strcmp(*object, self.dli_fname)) {
            g_string_append_printf(others, "%s%s", others->len ? ":" : "",
                                   *object);
        }
    }
    if (others->len) {
        g_setenv("LD_PRELOAD", others->str, true);
    } else {
        g_unsetenv("LD_PRELOAD");
    }
}

static void enter_qemu(void)
{
    static bool entered;

    if (!entered) {
        entered = true;
        check_target();
        check_version();
        check_imports();
        leave_environment();
    }
}

/* Called instead of register_module_init(), before main() */
void vhost_blk_module_init(void (*fn)(void), module_init_type type)
{
    if (!in_qemu()) {
        return;
    }
    if (getenv(PROBE_VARIABLE)) {
        puts(PROBE_ANSWER);
        return;
    }
    enter_qemu();
    register_module_init(fn, type);
}
