/*
 * build_log.h - a build's log: events, appended to a file (one JSON object a
 * line) and read from it by any number of readers while it grows; and output
 * cut into lines.
 *
 * Event: {"step": 0 before the first, "type": step type or "info", "message":
 * one line of valid UTF-8, "stream": "stdout", "stderr" or "info"}.
 */
#ifndef VARVE_SNAPSHOTD_BUILD_LOG_H
#define VARVE_SNAPSHOTD_BUILD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define BUILD_LOG_LINE_MAX 8192		 /* bytes of a message; a longer line is several events */
#define BUILD_LOG_OUTPUT_MAX (64u << 20) /* bytes of a log; output beyond it is dropped */

enum build_stream { BUILD_STDOUT, BUILD_STDERR, BUILD_INFO };

/* ---- lines ---- */

/* Splits bytes into lines at \n, \r and \r\n. A zeroed one with emit set is at a line's start. */
struct line_splitter {
	struct buf line; /* not ended yet */
	bool after_cr;
	/* Valid UTF-8 without NUL, at most BUILD_LOG_LINE_MAX bytes. */
	void (*emit)(void *arg, const char *text, size_t len);
	void *arg;
};
MUST_CHECK int line_splitter_feed(struct line_splitter *ls, const char *data, size_t len);
/* Emits what has no line end, and frees. */
void line_splitter_fini(struct line_splitter *ls);

/* ---- the log ---- */

struct build_log;
/* Creates the file, or empties it; go_on: keeps its events, and drops half of one at its end. */
MUST_CHECK int build_log_open(const char *path, bool go_on, struct build_log **out,
			      struct error *err);
/* No reader uses it any more. NULL is accepted. */
void build_log_free(struct build_log *l);
/*
 * From any thread. text is valid UTF-8. A disk that is full loses events, which
 * the daemon's log tells once.
 */
void build_log_add(struct build_log *l, unsigned step, const char *type, enum build_stream stream,
		   const char *text, size_t len);
/* No more events; wakes readers. Idempotent. */
void build_log_end(struct build_log *l);
/* Make what was added so far survive a power cut. A failure is logged. */
void build_log_sync(struct build_log *l);

typedef void (*build_event_fn)(void *arg, const json_t *event);
/*
 * Every event from the first on, until the log has ended. Asks cancelled (may
 * be NULL) several times a second: -ECANCELED. fn may be NULL: waits only.
 */
MUST_CHECK int build_log_follow(struct build_log *l, build_event_fn fn,
				bool (*cancelled)(void *arg), void *arg);
/* The events of a file that nobody writes any more; -ENOENT. */
MUST_CHECK int build_log_replay(const char *path, build_event_fn fn, void *arg);

#endif
