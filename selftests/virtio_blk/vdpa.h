/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The vDPA bus: a device of a parent, such as "vduse", is given to the driver there is,
 * and taken away from it. Both return when the driver is done with it.
 */
#ifndef VDPA_H
#define VDPA_H

/* Return 0 or a negative errno. */
int vdpa_add(const char *name, const char *parent);
int vdpa_del(const char *name);

#endif
