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
/* Each use has its own names, so that they nest without shadowing. */
#define MACRO_CAT_(a, b) a##b
#define MACRO_CAT(a, b) MACRO_CAT_(a, b)
#define MIN_(a, b, x, y)           \
	({                         \
		typeof(a) x = (a); \
		typeof(b) y = (b); \
		x < y ? x : y;     \
	})
#define MAX_(a, b, x, y)           \
	({                         \
		typeof(a) x = (a); \
		typeof(b) y = (b); \
		x > y ? x : y;     \
	})
#define MIN(a, b) MIN_(a, b, MACRO_CAT(min_a_, __COUNTER__), MACRO_CAT(min_b_, __COUNTER__))
#define MAX(a, b) MAX_(a, b, MACRO_CAT(max_a_, __COUNTER__), MACRO_CAT(max_b_, __COUNTER__))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
