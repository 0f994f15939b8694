/* near.h - finds the name that somebody may have meant. Pure. */
#ifndef VARVE_BASE_NEAR_H
#define VARVE_BASE_NEAR_H

#include <stddef.h>

#define NEAR_MAX 128 /* bytes of a name that are looked at */

/*
 * How many single edits (insert, delete, replace, swap of neighbours) lead from
 * a to b, ignoring case: optimal string alignment.
 */
size_t near_distance(const char *a, const char *b);
/*
 * The distance at which `other` is still a slip in typing `word`: one edit per three
 * characters of the longer one, two at most. So no two-letter word is near another.
 */
size_t near_limit(const char *word, const char *other);

#endif
