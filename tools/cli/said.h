/* said.h - what other programs and builds say, line by line, on standard error. */
#ifndef VARVE_TOOLS_SAID_H
#define VARVE_TOOLS_SAID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

#include "tools/cli/reach.h"

/* A line without its end to standard error; escaped where that is a terminal. */
void said_line(const char *line, size_t len);
/* The same for any stream. */
void said_line_to(FILE *f, const char *line, size_t len);

/*
 * A build's event {"step", "type", "message", "stream"} to f: what a command
 * said as it is, what the build itself says behind "==> ". reach (may be NULL)
 * sees it too.
 */
void said_build_event(FILE *f, const json_t *event, struct reach *reach);

#endif
