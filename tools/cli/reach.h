/*
 * reach.h - what could not be reached, found in what package tools say: apt and
 * mmdebstrap, npm, pip, curl, wget and git. Pure: lines go in, one finding
 * comes out, for the message of what failed because of it.
 */
#ifndef VARVE_TOOLS_REACH_H
#define VARVE_TOOLS_REACH_H

#include <stdbool.h>
#include <stddef.h>

struct reach {
	char host[128];	  /* host or host:port; "" for none so far */
	char reason[200]; /* what the tool said */
	char key[64];	  /* of a signature that could not be checked, or "" */
	/* private */
	char from[128]; /* host of the line before, where a reason may follow */
};
#define REACH_INIT             \
	{                      \
		"", "", "", "" \
	}

/* One line, without its end. The first that tells of a host is kept. */
void reach_line(struct reach *r, const char *line, size_t len);
bool reach_found(const struct reach *r);
/* "could not reach deb.example.org: Temporary failure ...", or "" where nothing was found. */
void reach_text(const struct reach *r, char *out, size_t size);

#endif
