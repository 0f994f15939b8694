/* What a write, a truncation and a change of owner take from a file: rights to run as another. */
#include "fs/view/view_internal.h"

#include <sys/stat.h>

uint32_t mode_without_suid(uint32_t mode, bool any_sgid)
{
	if (S_ISDIR(mode))
		return mode;
	mode &= ~(uint32_t)S_ISUID;
	if (any_sgid || mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

void view_kill_caps_tx(struct view *v, struct upper_tx *tx, struct unode *u)
{
	if (u->caps_checked)
		return;
	/* If the transaction fails, what it deletes stays: then the next one looks again. */
	if (!view_del_xattr_tx(v, tx, u, XATTR_CAPS))
		u->caps_checked = !tx->error;
}
