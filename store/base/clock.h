/* clock.h - the time of day, monotonic time, and waiting until a point in the latter. */
#ifndef VARVE_CLOCK_H
#define VARVE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/*
 * Unix time, for records and for what people read. It may jump: what is waited for, and how long
 * something took, goes by the clocks below.
 */
static inline int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline int64_t monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t monotonic_us(void)
{
	return monotonic_ns() / 1000;
}

static inline int64_t monotonic_ms(void)
{
	return monotonic_ns() / 1000000;
}

/* As monotonic_ms, but it goes on while the host sleeps. */
static inline int64_t boottime_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The time at the last tick, some milliseconds ago. No system call. */
static inline int64_t monotonic_coarse_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The time `ms` from now, for pthread_cond_timedwait on a condition from cond_init_monotonic. */
static inline struct timespec monotonic_after_ms(int64_t ms)
{
	int64_t ns = monotonic_ns() + ms * 1000000;

	return (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
}

/* A condition whose timed waits go by the monotonic clock. */
static inline void cond_init_monotonic(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

#endif
