// SPDX-License-Identifier: GPL-2.0
/* Messages: see log.h. */
#include <stdarg.h>
#include <stdio.h>

#include "log.h"

void say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	/* One write per line, so that lines of several daemons do not mix. */
	fprintf(stderr, "vhost-blkd: %s\n", line);
}
