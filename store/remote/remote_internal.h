/* remote_internal.h - what remote.c and remote_names.c share. */
#ifndef VARVE_SHARE_REMOTE_INTERNAL_H
#define VARVE_SHARE_REMOTE_INTERNAL_H

#include "store/remote/remote.h"
#include "store/layout/share_format.h"

struct remote {
	char name[REMOTE_NAME_MAX + 1];
	struct object_store *os; /* owned */
	struct share_format format;
	struct pins *pins; /* borrowed; or NULL */
};

#endif
