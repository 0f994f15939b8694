#include "fs/mount/mount_backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/mount/mount_internal.h"
#include "store/base/copy_file.h"

struct mount_backup {
	struct mount *m; /* until the release */
	char id[SNAPSHOT_ID_SIZE];
	struct journal_cut cut;
	int journal_fd; /* of the copy; -1: there is none */
	struct staging_frozen *frozen;
};

void mount_backup_hold(struct mount *m)
{
	journal_hold(m->view.journal);
}

void mount_backup_release(struct mount *m)
{
	journal_release(m->view.journal, 0);
}

int mount_backup_cut(struct mount *m, bool held_before, struct mount_backup **out)
{
	struct mount_backup *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->m = m;
	b->journal_fd = -1;
	memcpy(b->id, m->rec.id, sizeof(b->id)); /* constant */
	/* In this order: what the journal has at the cut was written to the file before. */
	r = staging_freeze(m->view.staging, &b->frozen);
	if (!r) {
		journal_cut(m->view.journal, &b->cut);
		r = staging_cut(m->view.staging, b->frozen);
	}
	if (!r && !held_before && (b->cut.applied > 0 || b->cut.min_epoch > 0))
		r = -EAGAIN;
	if (r) {
		mount_backup_free(b);
		return r;
	}
	*out = b;
	return 0;
}

const char *mount_backup_id(const struct mount_backup *b)
{
	return b->id;
}

int mount_backup_journal(struct mount_backup *b, int dir_fd)
{
	char name[64];

	if (!b->cut.len)
		return 0;
	snprintf(name, sizeof(name), "journal/%s", b->id);
	b->journal_fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return b->journal_fd < 0 ? -errno
				 : journal_copy(b->m->view.journal, &b->cut, b->journal_fd);
}

struct copying {
	struct progress *caller; /* or NULL */
	const struct mount_backup *b;
};

/* Nothing more is worth copying when something is missing already. */
static bool is_in_vain(void *arg)
{
	const struct copying *c = arg;

	return !staging_frozen_is_whole(c->b->frozen) || progress_cancelled(c->caller);
}

static void report(void *arg, const struct progress *own)
{
	const struct copying *c = arg;

	if (!c->caller)
		return;
	c->caller->done_bytes = own->done_bytes;
	progress_tick(c->caller, false);
}

static int copy_staged(struct mount_backup *b, int dir_fd, struct progress *p)
{
	uint64_t len;
	char name[64];
	struct copying c = { .caller = p, .b = b };
	struct progress own = { .report = report,
				.cancelled = is_in_vain,
				.arg = &c,
				.done_bytes = p ? p->done_bytes : 0 };
	const int from = staging_frozen_fd(b->frozen, &len);
	int to, r;

	if (from < 0)
		return 0;
	snprintf(name, sizeof(name), "staging/%s", b->id);
	to = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = copy_file(from, to, len, &own);
	if (p)
		p->done_bytes = own.done_bytes;
	if ((!r || r == -ECANCELED) && !staging_frozen_is_whole(b->frozen))
		r = -EOVERFLOW;
	if (!r && fsync(to) < 0)
		r = -errno;
	close(to);
	return r;
}

int mount_backup_data(struct mount_backup *b, int dir_fd, struct progress *p)
{
	if (b->journal_fd >= 0 && fsync(b->journal_fd) < 0)
		return -errno;
	return copy_staged(b, dir_fd, p);
}

void mount_backup_thaw(struct mount_backup *b)
{
	staging_thaw(STEAL(b->frozen));
	if (b->journal_fd >= 0)
		close(b->journal_fd);
	b->journal_fd = -1;
}

void mount_backup_free(struct mount_backup *b)
{
	if (!b)
		return;
	mount_backup_thaw(b);
	free(b);
}
