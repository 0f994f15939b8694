/*
 * exec_input.h - our standard input on its way to a program in a sandbox: a
 * thread of its own, with a connection of its own, which it makes when there is
 * something to send.
 */
#ifndef VARVE_TOOLS_EXEC_INPUT_H
#define VARVE_TOOLS_EXEC_INPUT_H

#include <stdbool.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "tools/cli/address.h"

/*
 * Whether there is input to pass on: not where it is closed, /dev/null, or a
 * terminal, which several programs in the background may share.
 */
bool exec_input_is_there(void);

struct exec_input;
/* Starts to send it to a program whose input is open. */
MUST_CHECK int exec_input_start(const struct address *daemon, const char *sandbox,
				const char *exec_id, struct exec_input **out, struct error *err);
/*
 * Whether some has been read, and its end has not been taken: if the daemon has gone meanwhile, the
 * program takes what it has got for all of it.
 */
bool exec_input_is_open(const struct exec_input *in);
/* Whether it cannot be sent, or not all of it: then *why tells. in may be NULL. */
bool exec_input_has_failed(const struct exec_input *in, struct error *why);
/* The program has ended: what it has not read is left. Frees in; NULL is accepted. */
void exec_input_stop(struct exec_input *in);

#endif
