/*
 * The moment. All mounts' journals are held, then the database is copied (hard links, and its log),
 * then each journal is cut and copied, and the holds end. So the database has of each mount what
 * its journal's copy does not. Staged data is copied after that, which may take long: until then
 * none of it is overwritten or punched (fs/mount/mount_backup.h). Database and journals are copied
 * to STATE first, where links are possible, so that the hold is short wherever the backup goes.
 */
#include "snapshotd/state/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/host/mountinfo.h"
#include "fs/mount/mount_backup.h"
#include "store/base/clock.h"
#include "store/base/copy_file.h"
#include "store/base/log.h"
#include "store/base/sync_dir.h"

#define SCRATCH "backup.tmp" /* in STATE */
#define TRIES 3		     /* when mounts are made and filled at the moment */

struct backed_up {
	struct mount_entry *e; /* in use until the release */
	struct mount_backup *copy;
};

struct backup {
	struct store *s;
	struct mounts *ms;
	struct progress *p_caller; /* or NULL */
	struct progress *p;	   /* &own */
	struct error *err;
	int dir;
	bool made;	     /* it was not there */
	bool same_disk;	     /* it fills the disk that mounts and database are on */
	bool no_room;	     /* beyond what is kept back there */
	struct progress own; /* what copies look at: the caller's, and room */
	struct buf strays;   /* names of files of no mount that is loaded, each with its NUL */
	struct backed_up *mounts;
	size_t n;
	struct backup_result *out;
};

/* ---- directories ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type;
	if (ftw->level > 0)
		(void)!remove(path);
	return 0;
}

/* What we made below an open directory. */
static void empty_dir(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/.", fd);
	(void)!nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void empty_named(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	empty_dir(fd);
	close(fd);
}

void backup_sweep(const struct store *s)
{
	empty_named(s->dir_fd, SCRATCH);
	(void)!unlinkat(s->dir_fd, SCRATCH, AT_REMOVEDIR);
}

/* The entries of a directory's directory; NULL with errno. */
static DIR *open_list(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d && fd >= 0)
		close(fd);
	return d;
}

static int is_empty(int fd)
{
	static const char *const none[] = { ".", "..", "lost+found" };
	DIR *d = open_list(fd, ".");
	struct dirent *e;
	int n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		n++;
		for (size_t i = 0; i < ARRAY_SIZE(none); i++)
			n -= strcmp(e->d_name, none[i]) == 0;
	}
	closedir(d);
	return n == 0;
}

static unsigned char type_of(DIR *d, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN) /* some filesystems do not say */
		return e->d_type;
	if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return DT_UNKNOWN;
	return S_ISREG(st.st_mode) ? DT_REG : S_ISDIR(st.st_mode) ? DT_DIR : DT_UNKNOWN;
}

/* The daemon would have to answer its own writes; and a backup in its store is in the next one. */
static int check_place(struct backup *b, const char *dir)
{
	struct mountinfo mi = MOUNTINFO_INIT;
	char proc[64], real[4096];
	ssize_t n;
	struct stat st, own;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", b->dir);
	n = readlink(proc, real, sizeof(real) - 1);
	if (n < 0 || fstat(b->dir, &st) < 0 || fstat(b->s->dir_fd, &own) < 0)
		return error_set_errno(b->err, -errno, "%s", dir);
	real[n] = '\0';
	b->same_disk = st.st_dev == own.st_dev;
	if (st.st_uid != geteuid()) /* who could turn our names elsewhere */
		return error_set(b->err, -EPERM, "%s belongs to another user", dir);
	if (path_is_within(real, b->s->dir))
		return error_set(b->err, -EINVAL, "%s is in the state directory", dir);
	int rc = mountinfo_read("/proc/self/mountinfo", &mi);

	if (rc < 0)
		return error_set_errno(b->err, rc, "cannot read the list of mounts");
	for (size_t i = 0; i < mi.n && rc == 0; i++)
		if (mi.entries[i].dev == st.st_dev && strcmp(mi.entries[i].type, "fuse.varve") == 0)
			rc = error_set(b->err, -EINVAL, "%s is in a mount of snapshotd", dir);
	mountinfo_fini(&mi);
	return rc;
}

/* Takes the directory if it is empty. */
static int take_dir(struct backup *b, const char *dir)
{
	int rc;

	b->made = mkdir(dir, 0700) == 0;
	rc = !b->made && errno != EEXIST ? -errno : 0;
	if (rc == 0) {
		b->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = b->dir < 0 ? -errno : 0;
	}
	if (rc < 0)
		return error_set_errno(b->err, rc, "%s", dir);
	rc = check_place(b, dir);
	if (rc == 0) {
		int empty = is_empty(b->dir);

		rc = empty < 0	  ? error_set_errno(b->err, empty, "%s", dir)
		     : empty == 0 ? error_set(b->err, -ENOTEMPTY, "%s is not empty", dir)
				  : 0;
	}
	if (rc < 0) {
		close(b->dir);
		b->dir = -1;
	}
	return rc;
}

static int make_dirs(struct backup *b)
{
	static const char *const names[] = { "staging", "remote", "builds" };
	int rc = fchmod(b->dir, 0700) < 0 ? -errno : 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && rc == 0; i++)
		rc = mkdirat(b->dir, names[i], 0700) < 0 ? -errno : 0;
	return rc < 0 ? error_set_errno(b->err, rc, "cannot make a directory of the backup") : 0;
}

static int sync_fd(int fd)
{
	int rc = fsync(fd) < 0 ? -errno : 0;

	close(fd);
	return rc;
}

static int sync_name(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : sync_fd(fd);
}

/* Call fn for the files of a directory, not for those below it; -ENOENT. */
static int each_file(int parent, const char *name,
		     int (*fn)(struct backup *b, int from, const char *name, int to),
		     struct backup *b, int to)
{
	DIR *d = open_list(parent, name);
	struct dirent *e;
	int rc = d ? 0 : -errno;

	while (rc == 0 && (e = readdir(d)))
		if (type_of(d, e) == DT_REG)
			rc = fn(b, dirfd(d), e->d_name, to);
	if (d)
		closedir(d);
	return rc;
}

/* ---- the moment ---- */

static int add_mount(struct backup *b, struct mount_entry *e)
{
	struct backed_up *p = reallocarray(b->mounts, b->n + 1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	b->mounts = p;
	p[b->n++] = (struct backed_up){ e, NULL };
	mount_backup_hold(mount_entry_mount(e));
	return 0;
}

static bool has_mount(const struct backup *b, const struct mount_entry *e)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->mounts[i].e == e)
			return true;
	return false;
}

/* Hold those that there are, but for those that are held. */
static int hold_mounts(struct backup *b)
{
	struct mount_entry **list;
	size_t n;
	int rc = mounts_list(b->ms, &list, &n);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (rc < 0 || has_mount(b, list[i]) || (rc = add_mount(b, list[i])) < 0)
			mounts_put(b->ms, list[i]);
	free(list);
	return rc;
}

/* What its journal is bringing to the database is waited for while no other mount is held. */
static int settle_mount(void *arg, struct mount_entry *e)
{
	(void)arg;
	mount_backup_hold(mount_entry_mount(e));
	mount_backup_release(mount_entry_mount(e));
	return 0;
}

static void release_mounts(struct backup *b)
{
	for (size_t i = 0; i < b->n; i++) {
		mount_backup_release(mount_entry_mount(b->mounts[i].e));
		mounts_put(b->ms, b->mounts[i].e);
	}
}

static void drop_mounts(struct backup *b)
{
	for (size_t i = 0; i < b->n; i++)
		mount_backup_free(b->mounts[i].copy);
	free(b->mounts);
	b->mounts = NULL;
	b->n = 0;
}

static int copy_held(struct backup *b, const char *db, int scratch)
{
	int rc = hold_mounts(b);
	const size_t before = b->n;

	if (rc == 0)
		rc = kv_copy(b->s->kv, db);
	if (rc == 0) /* the database has the records of some that were made meanwhile */
		rc = hold_mounts(b);
	for (size_t i = 0; i < b->n && rc == 0; i++)
		rc = mount_backup_cut(mount_entry_mount(b->mounts[i].e), i < before,
				      &b->mounts[i].copy);
	for (size_t i = 0; i < b->n && rc == 0; i++)
		rc = mount_backup_journal(b->mounts[i].copy, scratch);
	return rc;
}

/* STATE/backup.tmp, open, with a directory for journals. */
static int make_scratch(struct backup *b)
{
	int fd, rc;

	backup_sweep(b->s);
	if (mkdirat(b->s->dir_fd, SCRATCH, 0700) < 0)
		return -errno;
	fd = openat(b->s->dir_fd, SCRATCH, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && mkdirat(fd, "journal", 0700) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd < 0 ? -errno : fd;
}

static int take_moment(struct backup *b)
{
	char db[4200];
	int rc = -EAGAIN;

	snprintf(db, sizeof(db), "%s/" SCRATCH "/db", b->s->dir);
	for (int i = 0; i < TRIES && rc == -EAGAIN; i++) {
		drop_mounts(b);
		int scratch = make_scratch(b);

		/* Before the hold: what is written meanwhile is little. */
		rc = scratch < 0 ? scratch : kv_flush_content(b->s->kv);
		if (rc == 0)
			rc = mounts_each(b->ms, settle_mount, NULL);
		const int64_t start = monotonic_ns();

		if (rc == 0) {
			rc = copy_held(b, db, scratch);
			release_mounts(b);
		}
		b->out->held_ns = (uint64_t)(monotonic_ns() - start);
		if (scratch >= 0)
			close(scratch);
	}
	b->out->mounts = b->n;
	return rc < 0 ? error_set_errno(b->err, rc, "cannot copy the database and the journals")
		      : 0;
}

/* ---- the rest ---- */

static int take_file(struct backup *b, int from, const char *name, int to)
{
	const char *end = strrchr(name, '.');
	int rc;

	if (end && strcmp(end, ".new") == 0) /* it is being made */
		return 0;
	rc = copy_file_at(from, name, to, name, b->p);
	/* It was here before; or it is not needed any more. */
	return rc == -EEXIST || rc == -ENOENT ? 0 : rc;
}

/* Where far chunks are. Files come and go, but never change. */
static int take_remotes(struct backup *b)
{
	int from = openat(b->s->dir_fd, "remote", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *d = from < 0 ? NULL : fdopendir(from);
	struct dirent *e;

	if (!d && from >= 0)
		close(from);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (rc == 0 && (e = readdir(d))) {
		int to;
		char name[300];

		if (type_of(d, e) != DT_DIR || e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "remote/%s", e->d_name);
		if (mkdirat(b->dir, name, 0700) < 0 && errno != EEXIST) {
			rc = -errno;
			break;
		}
		to = openat(b->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		rc = to < 0 ? -errno : each_file(dirfd(d), e->d_name, take_file, b, to);
		if (rc == -ENOENT)
			rc = 0;
		if (to >= 0 && sync_fd(to) < 0 && rc == 0)
			rc = -errno;
	}
	closedir(d);
	return rc;
}

static int sync_file(struct backup *b, int from, const char *name, int to)
{
	(void)b, (void)to;
	return sync_name(from, name);
}

/* A directory of files from the scratch directory to its place; *linked: not one byte was copied.
 */
static int move_dir(struct backup *b, const char *name, bool *linked)
{
	char from[32];
	int to, rc;

	snprintf(from, sizeof(from), SCRATCH "/%s", name);
	*linked = renameat(b->s->dir_fd, from, b->dir, name) == 0;
	if (!*linked && errno != EXDEV)
		return -errno;
	if (*linked) {
		rc = each_file(b->dir, name, sync_file, b, -1);
		return rc < 0 ? rc : sync_name(b->dir, name);
	}
	if (mkdirat(b->dir, name, 0700) < 0)
		return -errno;
	to = openat(b->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (to < 0)
		return -errno;
	rc = each_file(b->s->dir_fd, from, take_file, b, to);
	return sync_fd(to) < 0 && rc == 0 ? -EIO : rc;
}

static int move_scratch(struct backup *b)
{
	bool linked;
	int rc = move_dir(b, "journal", &linked);

	if (rc == 0)
		rc = move_dir(b, "db", &b->out->linked);
	/* Whatever listed its files: without this, a daemon would begin a new one. */
	if (rc == 0 && faccessat(b->dir, "db/CURRENT", F_OK, 0) < 0)
		rc = -errno;
	return rc;
}

/* ---- files of mounts that were left out when the daemon started, as their records are kept ----
 */

static int note_file(struct backup *b, int from, const char *name, int to)
{
	(void)from, (void)to;
	return buf_append(&b->strays, name, strlen(name) + 1);
}

/* Before the moment: what is made later is no such mount's. */
static int note_strays(struct backup *b)
{
	int rc = each_file(b->s->dir_fd, "journal", note_file, b, -1);

	return rc < 0 ? rc : each_file(b->s->dir_fd, "staging", note_file, b, -1);
}

static bool is_mounts(const struct backup *b, const char *id)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(mount_backup_id(b->mounts[i].copy), id) == 0)
			return true;
	return false;
}

static int take_stray(struct backup *b, const char *dir, const char *id)
{
	int from = openat(b->s->dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int to = openat(b->dir, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int rc = from < 0 || to < 0 ? -errno : take_file(b, from, id, to);

	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return rc;
}

static int take_strays(struct backup *b)
{
	int rc = 0;

	for (size_t at = 0; at < b->strays.len && rc == 0;) {
		const char *id = (const char *)b->strays.data + at;

		at += strlen(id) + 1;
		if (is_mounts(b, id))
			continue;
		rc = take_stray(b, "journal", id);
		if (rc == 0)
			rc = take_stray(b, "staging", id);
	}
	return rc;
}

static int take_logs(struct backup *b)
{
	int to = openat(b->dir, "builds", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int rc = to < 0 ? -errno : each_file(b->s->dir_fd, "builds", take_file, b, to);

	if (to >= 0 && sync_fd(to) < 0 && rc == 0)
		rc = -EIO;
	return rc == -ENOENT ? 0 : rc;
}

static int take_data(struct backup *b)
{
	int rc = 0;

	for (size_t i = 0; i < b->n && rc == 0; i++) {
		rc = mount_backup_data(b->mounts[i].copy, b->dir, b->p);
		mount_backup_thaw(b->mounts[i].copy); /* what it keeps is kept no longer */
	}
	return rc;
}

static int sync_dirs(struct backup *b)
{
	static const char *const names[] = { "journal", "staging", "remote" };
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && rc == 0; i++)
		rc = sync_name(b->dir, names[i]);
	return rc < 0 ? rc : fsync(b->dir) < 0 ? -errno : 0;
}

/* With this it is a store. */
static int finish(struct backup *b, const char *dir)
{
	int rc = sync_dirs(b);

	if (rc == 0)
		rc = copy_file_at(b->s->dir_fd, "FORMAT", b->dir, "FORMAT.tmp", b->p);
	if (rc == 0)
		rc = renameat(b->dir, "FORMAT.tmp", b->dir, "FORMAT") < 0 ? -errno : 0;
	if (rc == 0)
		rc = fsync(b->dir) < 0 ? -errno : 0;
	return rc < 0 || !b->made ? rc : sync_parent_dir(AT_FDCWD, dir);
}

static int copy_all(struct backup *b, const char *dir)
{
	int rc = make_dirs(b);

	if (rc < 0)
		return rc;
	/* Twice: a file that the database's copy needs is here before it, or still after it. */
	rc = take_remotes(b);
	if (rc == 0)
		rc = note_strays(b);
	if (rc == 0 && (rc = take_moment(b)) < 0)
		return rc;
	if (rc == 0)
		rc = take_remotes(b);
	if (rc == 0)
		rc = take_data(b);
	if (rc == 0)
		rc = move_scratch(b);
	if (rc == 0)
		rc = take_strays(b);
	if (rc == 0)
		rc = take_logs(b);
	if (rc == 0)
		rc = finish(b, dir);
	if (b->no_room)
		return error_set(b->err, -ENOSPC,
				 "cannot make the backup %s: the disk of the state directory has "
				 "room only for what diskReserveBytes keeps back",
				 dir);
	if (rc == -EOVERFLOW)
		return error_set(
			b->err, rc,
			"cannot make the backup %s: a mount was written over faster than it "
			"was copied; take a checkpoint of it, and try again when less is written, "
			"or onto a faster disk",
			dir);
	return rc < 0 ? error_set_errno(b->err, rc, "cannot make the backup %s", dir) : 0;
}

/* Whether copies are to end: the caller wants that, or they would take the room of mounts. */
static bool is_over(void *arg)
{
	struct backup *b = arg;

	b->no_room |= b->same_disk && space_check(&b->s->space, SPACE_GROWTH, 0, NULL) < 0;
	return b->no_room || progress_cancelled(b->p_caller);
}

static void report(void *arg, const struct progress *own)
{
	struct backup *b = arg;

	if (!b->p_caller)
		return;
	b->p_caller->done_bytes = own->done_bytes;
	progress_tick(b->p_caller, true);
}

int backup_run(struct store *s, struct mounts *ms, const char *dir, struct progress *p,
	       struct backup_result *out, struct error *err)
{
	static atomic_flag running = ATOMIC_FLAG_INIT; /* one store a process */
	struct backup b = { .s = s, .ms = ms, .p_caller = p, .err = err, .dir = -1, .out = out };
	int rc;

	memset(out, 0, sizeof(*out));
	if (p)
		p->phase = "copying";
	b.own = (struct progress){ .report = report, .cancelled = is_over, .arg = &b };
	b.p = &b.own;
	if (atomic_flag_test_and_set(&running))
		return error_set(err, -EBUSY, "another backup is being made");
	rc = take_dir(&b, dir);
	if (rc == 0)
		rc = copy_all(&b, dir);
	drop_mounts(&b);
	backup_sweep(s);
	if (rc < 0 && b.dir >= 0)
		empty_dir(b.dir);
	if (rc < 0 && b.made)
		(void)!rmdir(dir);
	if (b.dir >= 0)
		close(b.dir);
	out->copied_bytes = b.own.done_bytes;
	buf_fini(&b.strays);
	atomic_flag_clear(&running);
	return rc;
}
