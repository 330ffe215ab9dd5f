/* SPDX-License-Identifier: GPL-2.0 */
/* Tells the service manager that the disk is ready: sd_notify(3). */
#ifndef VHOST_BLKD_NOTIFY_H
#define VHOST_BLKD_NOTIFY_H

void notify_ready(void);

#endif
