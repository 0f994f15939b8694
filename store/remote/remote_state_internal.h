/* remote_state_internal.h - what a remote is, for the files of remote.h. */
#ifndef VARVE_REMOTE_STATE_INTERNAL_H
#define VARVE_REMOTE_STATE_INTERNAL_H

#include <pthread.h>

#include "store/base/buf.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_format.h"
#include "store/remote/reference.h"

struct pins;
struct remote {
	char name[REMOTE_NAME_MAX + 1];
	struct object_store *os;     /* owned; once it is unlocked, without seals */
	struct object_store *sealed; /* `os`, or behind it; NULL: it is not encrypted */
	struct share_format format;
	struct object_store *front; /* object_alternate.h, behind `os` or it; NULL: it has none */
	/* Owned, but for its backend, which `os` closes; NULL: there is none, or why not: */
	struct remote *_Atomic alternate; /* set once, after: */
	char *alternate_url;
	pthread_mutex_t alternate_lock; /* a leaf */
	struct error why_alternate;	/* guarded by alternate_lock */
	struct pins *pins;		/* borrowed; or NULL */
	struct buf format_text;		/* `format`, as it was read */
};

#endif
