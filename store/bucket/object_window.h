/*
 * object_window.h - a bounded number of requests under way at once, for one thread that makes and
 * takes them in order.
 */
#ifndef VARVE_OBJECT_WINDOW_H
#define VARVE_OBJECT_WINDOW_H

#include "store/bucket/object_store.h"

struct object_window;
/* At most `width` at once. Borrows os. NULL when out of memory. */
struct object_window *object_window_new(struct object_store *os, unsigned width);
/* Takes what is under way first. */
void object_window_free(struct object_window *w);
DEFINE_CLEANUP(struct object_window *, object_window_free)

/*
 * What becomes of a request: called once for each, by the thread that uses the window, in the order
 * in which they were added, with the answer in r. The first result other than 0 ends the
 * work: it is returned by the call below that met it, and by all later ones. What was under way is
 * still taken.
 */
typedef int (*object_taken_fn)(void *arg, struct object_request *r, struct error *err);

/*
 * Submit a copy of *in; what it points to stays in place until it is taken. Takes the oldest one
 * first, and waits for it, while `width` are under way.
 */
MUST_CHECK int object_window_add(struct object_window *w, const struct object_request *in,
				 object_taken_fn taken, void *arg, struct error *err);
/* Take all that is under way. */
MUST_CHECK int object_window_drain(struct object_window *w, struct error *err);

#endif
