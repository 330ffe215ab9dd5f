/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The glue that makes a loadable object of vhost-blk.c and vhost-blk-pci.c
 *
 * The object is made for LD_PRELOAD: QEMU has no way to load a device that it
 * was not built with, but it exports its symbols to its own modules. The two
 * files are as they would be in a QEMU tree; their type_init() constructors
 * are only led here instead of to QEMU's register_module_init(), by a -D of
 * the build.
 *
 * Two things are decided here. LD_PRELOAD is inherited, so the object turns up
 * in programs that are no QEMU: it does nothing there (the build makes all of
 * its references weak, so that it loads at all). And it fits one version of
 * QEMU only, with structures in common that have no stable layout: it ends any
 * other QEMU at once.
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

/* What qemu-system-* --version says, without its first words */
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

/* In the place of register_module_init(), before main() */
void vhost_blk_module_init(void (*fn)(void), module_init_type type)
{
    if (in_qemu()) {
        check_version();
        register_module_init(fn, type);
    }
}
