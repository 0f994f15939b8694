/*
 * newer.h - a daemon of another build, for upgrades: the usual one with a version of its own. Of
 * what the file $VARVE_NEWER names, a word a line, it reads and writes the next format only.
 */
#ifndef VARVE_TESTS_NEWER_H
#define VARVE_TESTS_NEWER_H

#include <stdbool.h>

#define NEWER_VERSION "0.2.0"

/* 1 if it is named there. */
unsigned newer(const char *what);
/* Hangs for so long where that is named there, once: nothing is named there then. */
void newer_hangs(const char *what, unsigned seconds);

/* Mounts are adopted. */
extern bool newer_has_adopted;

#endif
