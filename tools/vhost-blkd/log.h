/* SPDX-License-Identifier: GPL-2.0 */
/* Messages to the administrator, one line on standard error each. */
#ifndef VHOST_BLKD_LOG_H
#define VHOST_BLKD_LOG_H

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
