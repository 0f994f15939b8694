/*
 * carry.h - inodes without a name that somebody still has open when their
 * epoch is sealed. They are not in the new tree, so they are carried, whole,
 * into the current epoch.
 */
#ifndef VARVE_FS_CARRY_H
#define VARVE_FS_CARRY_H

#include "fs/view/view.h"

struct carry; /* prepared copies */

/*
 * Copy every such inode of v->sealed. Their chunks are pinned under `owner` in
 * batch, which is written with the new base. Layers need not be locked.
 */
MUST_CHECK int carry_prepare(struct view *v, struct kv_batch *batch, const char *owner,
			     struct carry **out);
/* Is there anything to carry? */
bool carry_is_needed(const struct carry *c);
/*
 * Put the copies into v->cur, beneath what it already says of them, and into
 * the database. Layers are locked exclusively, before the exchange. After a
 * failure the view shows the same as before, and the call may be repeated.
 */
MUST_CHECK int carry_apply(struct view *v, struct carry *c);
/*
 * Punch [0, end) of the staging file, except what was carried. For when the new
 * base is recorded: then nothing else in that range is referred to.
 */
void carry_punch_rest(const struct carry *c, struct staging *st, uint64_t end);
void carry_free(struct carry *c);

#endif
