/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the loadable object takes from QEMU and its libraries
 *
 * All references of the object are weak: one that nothing resolves is a null
 * pointer, and not an error as the object is loaded. The build writes the name
 * of each into imports.inc. No header is included here, since it would declare
 * some of them in another way.
 */
const char *vhost_blk_missing_import(void);

#define IMPORT(symbol) extern const char symbol[] __attribute__((weak));
#include "imports.inc"
#undef IMPORT

#define IMPORT(symbol) { #symbol, symbol },
static const struct {
    const char *name;
    const void *address;
} imports[] = {
#include "imports.inc"
};

/* The first symbol that this QEMU lacks */
const char *vhost_blk_missing_import(void)
{
    for (unsigned i = 0; i < sizeof(imports) / sizeof(*imports); i++) {
        if (!imports[i].address) {
            return imports[i].name;
        }
    }
    return 0;
}
