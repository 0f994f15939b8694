/* macros.h - small compiler helpers used everywhere. */
#ifndef VARVE_BASE_MACROS_H
#define VARVE_BASE_MACROS_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Run fn(&local) when the local leaves scope; fn accepts a pointer to NULL. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hand an owned pointer over: evaluates to the pointer and clears it. */
#define STEAL(p)                    \
	({                          \
		typeof(p) p_ = (p); \
		(p) = NULL;         \
		p_;                 \
	})

/* Defines `name_p(type *p)` for CLEANUP: calls name(*p). */
#define DEFINE_CLEANUP(type, name)                                   \
	static inline __attribute__((unused)) void name##_p(type *p) \
	{                                                            \
		name(*p);                                            \
	}

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                   \
	({                          \
		typeof(a) a_ = (a); \
		typeof(b) b_ = (b); \
		a_ < b_ ? a_ : b_;  \
	})
#define MAX(a, b)                   \
	({                          \
		typeof(a) a_ = (a); \
		typeof(b) b_ = (b); \
		a_ > b_ ? a_ : b_;  \
	})
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
