/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes vhost-blk.c and vhost-blk-pci.c a loadable object
 *
 * The object is loaded by LD_PRELOAD: QEMU can't load a device that it was not
 * built with, but it exports its symbols for its own modules. The two files
 * are the same as in a QEMU tree. The build defines a macro that redirects
 * their type_init() constructors from QEMU's register_module_init() to here.
 *
 * This file handles two cases:
 *
 * - Children of QEMU inherit LD_PRELOAD. In a program that is not QEMU the
 *   object does nothing. The build makes all of its references weak, so that
 *   it can be loaded there.
 * - The object fits one version of QEMU only, because it shares structures
 *   that have no stable layout. In any other version it ends the process.
 */
#include "qemu/osdep.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-types-control.h"
#include "qemu/module.h"

#pragma weak qmp_query_version
#pragma weak register_module_init

void vhost_blk_module_init(void (*fn)(void), module_init_type type);

static bool in_qemu(void)
{
    return qmp_query_version && register_module_init;
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
        fprintf(stderr, "vhost-blk-pci.so was built for QEMU %s, but this is "
                "QEMU %s: build it again with tools/qemu/build\n",
                VHOST_BLK_QEMU_VERSION, version);
        _exit(1);
    }
}

/* Called instead of register_module_init(), before main() */
void vhost_blk_module_init(void (*fn)(void), module_init_type type)
{
    if (in_qemu()) {
        check_version();
        register_module_init(fn, type);
    }
}
