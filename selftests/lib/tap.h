/* SPDX-License-Identifier: GPL-2.0 */
/* Test results of a C program in TAP: a line a test, the plan at the end. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* One count for all files of a program. */
__attribute__((weak)) int tap_tests, tap_failures;

/* What every limit of time is multiplied by: the machine may be slow. */
static inline int limit_factor(void)
{
	const char *text = getenv("LIMIT_FACTOR");
	int factor = text ? atoi(text) : 1;

	return factor > 0 ? factor : 1;
}

static inline void tap_line(const char *result, const char *fmt, va_list args)
{
	printf("%s %d - ", result, ++tap_tests);
	vprintf(fmt, args);
	printf("\n");
	fflush(stdout);
}

/* One test: its name says what is true if it passes. Returns whether it did. */
__attribute__((format(printf, 2, 3)))
static inline int tap_ok(_Bool passed, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tap_line(passed ? "ok" : "not ok", fmt, args);
	va_end(args);
	tap_failures += !passed;
	return passed;
}

/* The same, of an integer that must have one value. */
#define tap_equal(got, want, ...) \
	do { \
		long long got_ = (got), want_ = (want); \
		if (!tap_ok(got_ == want_, __VA_ARGS__)) \
			printf("# got %lld, want %lld\n", got_, want_); \
	} while (0)

/* Ends the program when there is no point in going on. */
__attribute__((format(printf, 1, 2), noreturn))
static inline void tap_bail(const char *fmt, ...)
{
	va_list args;

	printf("Bail out! ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	exit(1);
}

static inline int tap_end(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures ? 1 : 0;
}

#endif
