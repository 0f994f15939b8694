/* command.h - what a command of the user prints: a secret, mostly. */
#ifndef VARVE_COMMAND_H
#define VARVE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"

/*
 * Run it by sh, and wait for at most a minute and until *stop (NULL: never); then it and its
 * children are killed, -ECANCELED if it was stopped. Appends its standard output, up to max bytes
 * and some, to out, which the caller wipes in any case. -ETIMEDOUT; -EBADMSG: it prints more;
 * -EACCES: it fails. No output is ever part of a message.
 */
MUST_CHECK int command_output(const char *command, const _Atomic bool *stop, size_t max,
			      struct buf *out, struct error *err);
/* Leave nothing of what the buffer had in memory, and free it. */
void command_wipe(struct buf *secret);

#endif
