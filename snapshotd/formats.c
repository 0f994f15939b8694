#include "snapshotd/formats.h"

#include <errno.h>
#include <string.h>

#include "fs/fuse/session_pool.h"
#include "fs/mount/mount.h"
#include "snapshotd/container/exec_keep.h"
#include "snapshotd/container/kept.h"
#include "snapshotd/container/reaper.h"
#include "snapshotd/heritage.h"
#include "snapshotd/sandbox/exec_control.h"
#include "snapshotd/sandbox/sandbox_record.h"
#include "snapshotd/state/idempotency.h"
#include "store/kv/meta_version.h"
#include "store/names/snapshot.h"
#include "store/remote/remotes.h"

/* Descriptors that say nothing of their own. */
static int is_plain(int fd)
{
	(void)fd;
	return 0;
}

/* What is kept under names that begin so; the rest is mounts'. */
static const struct known {
	const char *start;
	int (*check)(int fd);
} known[] = {
	{ KEPT_PREFIX, kept_check },	   { EXEC_KEEP_PREFIX, exec_keep_check },
	{ EXEC_CONTROL_PREFIX, is_plain }, { REAPER_KEPT_NAME, is_plain },
	{ KEEPER_OWN_SOCKETS, is_plain },  { KEEPER_SERVICE_SOCKET, is_plain },
	{ HERITAGE_PREFIX, is_plain },
};

static int check(const char *name, int fd)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strncmp(name, known[i].start, strlen(known[i].start)) == 0)
			return known[i].check(fd);
	return session_pool_check_kept(name, fd);
}

static int check_kept(void *arg, const char *name, int fd)
{
	int rc = check(name, fd);

	if (rc != -EPROTO)
		return rc < 0 ? error_set_errno(arg, rc, "cannot look at what is kept as %s", name)
			      : 0;
	return error_set(arg, -EINVAL,
			 "what is kept as %s is of a version that this program does not know",
			 name);
}

int formats_check_kept(const struct keeper *k, struct error *err)
{
	return keeper_is_trial(k) ? keeper_each(k, check_kept, err) : 0;
}

int formats_check_store(struct store *s, struct error *err)
{
	int rc = mount_check_formats(s, err);

	if (!rc)
		rc = sandbox_records_check(s->kv, err);
	if (!rc)
		rc = meta_check_versions(s->kv, META_SNAPSHOT, SNAPSHOT_RECORD_VERSION, err);
	if (!rc)
		rc = meta_check_versions(s->kv, META_REMOTE, REMOTE_RECORD_VERSION, err);
	return rc ? rc : idempotency_check(s->kv, err);
}
