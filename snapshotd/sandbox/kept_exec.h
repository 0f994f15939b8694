/*
 * kept_exec.h - the end of a program that is kept (snapshotd/container/exec_keep.h): its outcome
 * is written where a successor of this daemon finds it, and its output is read from there.
 */
#ifndef VARVE_SNAPSHOTD_KEPT_EXEC_H
#define VARVE_SNAPSHOTD_KEPT_EXEC_H

#include "snapshotd/container/exec_keep.h"
#include "snapshotd/sandbox/async_exec.h"

/*
 * It has ended with rc: err says why, or out has its exit code and, as its output, the lines of
 * our own that follow the program's. Puts them there; *out then has all of it, but of an attached
 * one, whose output stays there alone. What fails
 * is rc and err from then on; returns rc.
 */
MUST_CHECK int kept_exec_end(struct exec_keep *k, int rc, struct exec_output *out,
			     struct error *err);
/* The same of one that a predecessor has seen the end of. out->budget is set. */
MUST_CHECK int kept_exec_load(struct exec_keep *k, struct exec_output *out, struct error *err);

#endif
