/*
 * upload.h - the bytes of a request's body on their way to a program's stdin,
 * as frames: what reads them can tell a body that has come whole from one that
 * was broken off, which the end of a pipe does not say.
 *
 * A frame: its length (u32, little-endian) and as many bytes. One of length 0
 * is the last, and only comes after a whole body.
 */
#ifndef VARVE_SNAPSHOTD_UPLOAD_H
#define VARVE_SNAPSHOTD_UPLOAD_H

#include <stdbool.h>

#include "snapshotd/http/http.h"
#include "store/base/error.h"
#include "store/base/macros.h"

struct upload;

/* Starts a thread that takes rq's streamed body. *out_fd: stdin of the program; owned by *out. */
MUST_CHECK int upload_start(struct http_request *rq, struct upload **out, int *out_fd,
			    struct error *err);
/* The program has ended: stop, wherever the body is. Whether all of it was passed on. */
bool upload_finish(struct upload *u);

#endif
