/*
 * Where a mount is: attached, detached, and held by others between the two.
 *
 * The connection ends when the kernel has let go of the superblock, whoever
 * unmounted it. Until then it is served, at its place or without one. What is
 * unmounted is always what we have mounted, by its id; a path may lead to what
 * others have put there.
 */
#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/host/mount_holders.h"
#include "fs/host/mountinfo.h"
#include "store/base/log.h"

/* It is at its place no more, and `served` or not; the record says so unless we are ending. */
static void note_unmounted(struct mount *m, bool served)
{
	int r = 0;

	pthread_mutex_lock(&m->writing);
	pthread_mutex_lock(&m->state);
	const bool was_attached = !m->closing && m->rec.attached;

	m->served = m->served && served;
	m->placed = false;
	if (was_attached)
		mount_record_set_attached(&m->rec, false);
	pthread_mutex_unlock(&m->state);
	if (was_attached)
		r = mount_record_write(m->store, &m->rec, KV_LOG);
	pthread_mutex_unlock(&m->writing);
	if (r)
		log_error("mount %s: cannot record that it was unmounted: %s", m->rec.id,
			  strerror(-r));
}

/* From a serving thread: nobody has it mounted or open any more. */
static void on_session_end(void *arg)
{
	note_unmounted(arg, false);
}

int mount_check_place(const char *path, struct error *err)
{
	struct stat st;

	if (path[0] != '/')
		return error_set(err, -EINVAL, "mount point %s is not an absolute path", path);
	if (stat(path, &st) < 0)
		return error_set_errno(err, -errno, "mount point %s", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "mount point %s is not a directory", path);
	return 0;
}

/* op held. The kernel does not say that it forgets what it knew at an unmount. */
static void end_session(struct mount *m)
{
	if (!m->session)
		return;
	session_stop(m->session);
	m->session = NULL;
	mount_nobody_is_inside(m);
	pthread_mutex_lock(&m->state);
	m->served = m->placed = false;
	pthread_mutex_unlock(&m->state);
}

static void get_state(struct mount *m, bool *served, bool *placed)
{
	pthread_mutex_lock(&m->state);
	*served = m->served;
	*placed = m->placed;
	pthread_mutex_unlock(&m->state);
}

/* Not, if the session has ended meanwhile. */
static void set_placed(struct mount *m, bool placed)
{
	pthread_mutex_lock(&m->state);
	m->placed = placed && m->served;
	pthread_mutex_unlock(&m->state);
}

/* ---- attach ---- */

static struct session_options session_options_of(struct mount *m)
{
	return (struct session_options){ .mountpoint = m->rec.mountpoint,
					 .place_fd = m->place_fd,
					 .fsname = m->rec.fsname,
					 .read_only = m->rec.read_only,
					 .allow_dev = m->rec.limits.allow_dev,
					 .allow_suid = m->rec.limits.allow_suid,
					 .no_exec = m->rec.limits.no_exec,
					 .shared = m->rec.cache == MOUNT_CACHE_SHARED,
					 .on_end = on_session_end,
					 .arg = m,
					 .keep_as = m->rec.id };
}

static void set_state(struct mount *m, bool served, bool placed)
{
	pthread_mutex_lock(&m->state);
	m->served = served;
	m->placed = placed;
	m->closing = false;
	pthread_mutex_unlock(&m->state);
}

int mount_attach_locked(struct mount *m, struct error *err)
{
	const struct session_options opt = session_options_of(m);
	bool served, placed;
	int r = m->place_fd ? 0 : mount_check_place(m->rec.mountpoint, err);

	if (r)
		return r;
	get_state(m, &served, &placed);
	if (served) {
		r = session_place_again(m->session, &opt, err);
		set_placed(m, r == 0);
		return r;
	}
	end_session(m);
	r = journal_begin_connection(m->view.journal);
	if (r)
		return error_set_errno(err, r, "cannot begin a connection in the journal");
	set_state(m, true, true);
	r = session_start(m->pool, &m->view, &opt, &m->session, err);
	atomic_store(&m->is_kept, !r && session_is_kept(m->session));
	if (r)
		set_state(m, false, false);
	return r;
}

/*
 * Inodes without a name that nobody has open any more, after another process: its FORGETs may
 * be lost. The kernel is asked while requests are served and no lock is held, since it may
 * have to wait for one. What is made meanwhile is not looked at.
 */
struct nameless {
	struct buf inos; /* of uint64_t, ascending */
	uint64_t below;
	bool no_memory;
};

static bool collect(void *arg, uint64_t ino)
{
	struct nameless *l = arg;

	if (ino < l->below && buf_append(&l->inos, &ino, sizeof(ino)))
		l->no_memory = true;
	return true;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static bool is_to_stay(void *arg, uint64_t ino)
{
	const struct nameless *l = arg;

	return !l->inos.len ||
	       !bsearch(&ino, l->inos.data, l->inos.len / sizeof(ino), sizeof(ino), by_number);
}

static void drop_unused(struct mount *m, uint64_t below)
{
	struct nameless l = { BUF_INIT, below, false };
	int r = view_drop_orphans_but(&m->view, collect, &l);
	uint64_t *inos = (uint64_t *)(void *)l.inos.data;
	size_t n = 0;

	for (size_t i = 0; i < l.inos.len / sizeof(*inos); i++)
		if (!journal_has_made(m->view.journal, inos[i]) &&
		    !session_kernel_knows(m->session, inos[i]))
			inos[n++] = inos[i];
	l.inos.len = n * sizeof(*inos);
	if (n)
		qsort(inos, n, sizeof(*inos), by_number);
	if (!r && n)
		r = view_drop_orphans_but(&m->view, is_to_stay, &l);
	if (r || l.no_memory)
		log_warn("mount %s: inodes without a name are left: %s", m->rec.id,
			 strerror(r ? -r : ENOMEM));
	buf_fini(&l.inos);
}

int mount_adopt(struct mount *m, const struct mount_found *found, struct error *err)
{
	const uint64_t below = atomic_load(&m->view.next_ino);
	struct session_options opt = session_options_of(m);
	bool placed = false;
	int r;

	opt.waiting = &found->waiting;
	set_state(m, true, true);
	r = session_adopt(m->pool, &m->view, &opt, found->fuse_fd, &m->session, &placed, err);
	atomic_store(&m->is_kept, !r && session_is_kept(m->session));
	if (r)
		set_state(m, false, false);
	if (!r && !placed)
		note_unmounted(m, true);
	if (!r)
		drop_unused(m, below);
	return r;
}

/* The quotas count from now on, the rest for what is placed from now on. */
static void use_limits(struct mount *m, const struct mount_limits *limits)
{
	atomic_store(&m->view.quota_bytes, limits->quota_bytes);
	atomic_store(&m->view.quota_inodes, limits->quota_inodes);
}

/*
 * Write that it is, or is not, to be attached at `mountpoint`, which is taken over, with these
 * limits.
 */
static int record_place(struct mount *m, char *mountpoint, bool attached,
			const struct mount_limits *limits, char **old)
{
	int r;

	pthread_mutex_lock(&m->writing);
	struct mount_record next = m->rec;

	*old = m->rec.mountpoint;
	next.mountpoint = mountpoint;
	next.limits = *limits;
	mount_record_set_attached(&next, attached);
	r = mount_record_write(m->store, &next, KV_LOG);
	if (!r)
		mount_record_become(m, &next);
	pthread_mutex_unlock(&m->writing);
	return r;
}

/* The record comes first: that can be taken back without anyone having seen the mount. */
static int attach_at(struct mount *m, const char *mountpoint, const struct mount_limits *limits,
		     struct error *err)
{
	char *path = strdup(mountpoint ? mountpoint : m->rec.mountpoint), *old, *tried;
	const bool was = m->rec.attached;
	const struct mount_limits had = m->rec.limits;
	int r, undo;

	if (!path)
		return error_set(err, -ENOMEM, "out of memory");
	r = record_place(m, path, true, limits ? limits : &had, &old);
	if (r) {
		free(path);
		return error_set_errno(err, r, "cannot record where it is mounted");
	}
	r = mount_attach_locked(m, err);
	if (!r) {
		use_limits(m, &m->rec.limits);
		free(old);
		return 0;
	}
	undo = record_place(m, old, was, &had, &tried);
	if (undo) {
		log_error("mount %s: cannot record that it is not mounted: %s", m->rec.id,
			  strerror(-undo));
		pthread_mutex_lock(&m->state);
		m->rec.mountpoint = old;
		m->rec.limits = had;
		mount_record_set_attached(&m->rec, was);
		pthread_mutex_unlock(&m->state);
		tried = path;
	}
	free(tried);
	return r;
}

static void note_place(struct mount *m, const struct mountinfo *mi)
{
	bool served, placed;

	get_state(m, &served, &placed);
	if (!placed || !m->session ||
	    mountinfo_find(mi, session_at(m->session)->id, session_at(m->session)->dev))
		return;
	note_unmounted(m, true);
}

void mount_note_place(struct mount *m, const struct mountinfo *mi)
{
	/* Who has op changes it now. */
	if (pthread_mutex_trylock(&m->op))
		return;
	note_place(m, mi);
	pthread_mutex_unlock(&m->op);
}

/* op held. */
static void look_for_it(struct mount *m)
{
	struct mountinfo mi;

	if (mountinfo_read("/proc/self/mountinfo", &mi))
		return;
	note_place(m, &mi);
	mountinfo_fini(&mi);
}

int mount_attach_upon(struct mount *m, const char *mountpoint, int place_fd,
		      const struct mount_limits *limits, struct error *err)
{
	bool served, placed;
	int r;

	pthread_mutex_lock(&m->op);
	get_state(m, &served, &placed);
	if (placed) {
		look_for_it(m);
		get_state(m, &served, &placed);
	}
	if (placed)
		r = error_set(err, -EBUSY, "it is mounted at %s already", m->rec.mountpoint);
	else {
		m->place_fd = place_fd;
		r = attach_at(m, mountpoint, limits, err);
		m->place_fd = 0;
	}
	pthread_mutex_unlock(&m->op);
	return r;
}

int mount_attach(struct mount *m, const char *mountpoint, struct error *err)
{
	return mount_attach_upon(m, mountpoint, 0, NULL, err);
}

/* ---- detach ---- */

int mount_flush(struct mount *m, unsigned max_ms)
{
	int r = m->session ? session_syncfs(m->session, max_ms) : 0;

	if (r && r != -ETIMEDOUT)
		log_warn("mount %s: cannot flush: %s", m->rec.id, strerror(-r));
	return r;
}

/* Wait a little for the connection to end after an unmount. */
static bool wait_ended(struct mount *m, int ms)
{
	for (; !session_ended(m->session) && ms > 0; ms--)
		usleep(1000);
	return session_ended(m->session);
}

/* df, or a container runtime that copies all mounts, holds one for a moment. */
#define BUSY_TRIES 20
#define BUSY_WAIT_US 20000

/* Off its place. -ENOENT, which others may have done, is no failure. */
static int unmount(struct mount *m, bool lazy, struct error *err)
{
	const struct kernel_mount *at = session_at(m->session);
	struct error why = ERROR_INIT;
	int r = kernel_mount_remove(at, m->rec.mountpoint, false, &why);

	for (int i = 1; i < BUSY_TRIES && r == -EBUSY && !lazy; i++) {
		usleep(BUSY_WAIT_US);
		r = kernel_mount_remove(at, m->rec.mountpoint, false, &why);
	}
	if (r == -EBUSY && lazy) {
		mount_flush(m, SESSION_DRAIN_MS);
		r = kernel_mount_remove(at, m->rec.mountpoint, true, &why);
	}
	if (r && r != -ENOENT)
		return error_set(err, r, "cannot unmount %s: %s", m->rec.mountpoint,
				 error_text(&why));
	set_placed(m, false);
	return 0;
}

void mount_describe_holders(struct mount *m, char *out, size_t size)
{
	pthread_mutex_lock(&m->op);
	if (m->session)
		mount_holders(session_at(m->session), out, size);
	else
		*out = 0;
	pthread_mutex_unlock(&m->op);
}

static int held_error(struct mount *m, struct error *err)
{
	char who[512];

	mount_holders(session_at(m->session), who, sizeof(who));
	return error_set(err, -EBUSY,
			 "it is unmounted from %s, but %s; attached, it goes on for all; forced, "
			 "they are cut off",
			 m->rec.mountpoint, who);
}

int mount_check_free(struct mount *m, struct error *err)
{
	bool served, placed;

	get_state(m, &served, &placed);
	if (placed) {
		look_for_it(m);
		get_state(m, &served, &placed);
	}
	if (placed)
		return error_set(err, -EBUSY, "%s is mounted", m->rec.mountpoint);
	return served ? held_error(m, err) : 0;
}

/* What was unmounted, or is cut off: let it end, make its changes safe, and record it. */
static int settle_detached(struct mount *m, enum mount_detach_how how, bool sync, struct error *err)
{
	int r;

	/*
	 * Who still is inside keeps what was unmounted alive. He is served until he
	 * leaves, or until the daemon ends.
	 */
	if (m->session && wait_ended(m, how == MOUNT_GENTLY ? 2000 : 200)) {
		end_session(m);
	} else if (how == MOUNT_FORCED) {
		if (sync)
			mount_flush(m, SESSION_DRAIN_MS);
		end_session(m);
	}
	r = sync ? view_sync(&m->view) : 0;
	if (r)
		error_set_errno(err, r,
				"%s is unmounted, but its changes could not be "
				"synced",
				m->rec.mountpoint);
	pthread_mutex_lock(&m->writing);
	struct mount_record next = m->rec;

	mount_record_set_attached(&next, false);
	mount_record_become(m, &next);
	if (mount_record_write(m->store, &next, sync ? KV_SYNC : KV_LOG))
		log_error("mount %s: cannot record its state", m->rec.id);
	pthread_mutex_unlock(&m->writing);
	return r;
}

int mount_detach(struct mount *m, enum mount_detach_how how, enum mount_detach_reason why,
		 struct error *err)
{
	bool served, placed;
	int r = 0;

	pthread_mutex_lock(&m->op);
	get_state(m, &served, &placed);
	/* Whether it still is there shows when it is unmounted: the list of all mounts is long. */
	if (placed)
		r = unmount(m, how != MOUNT_GENTLY, err);
	else if (served && how != MOUNT_FORCED)
		r = held_error(m, err);
	if (served && !r)
		r = settle_detached(m, how, why != MOUNT_DETACH_DISCARD, err);
	pthread_mutex_unlock(&m->op);
	return r;
}

void mount_cut_off(struct mount *m)
{
	pthread_mutex_lock(&m->op);
	end_session(m);
	note_unmounted(m, false);
	pthread_mutex_unlock(&m->op);
}

/* ---- the end of the daemon ---- */

unsigned mountpoint_depth(const char *mountpoint)
{
	unsigned depth = 0;

	for (const char *p = mountpoint; *p; p++)
		depth += p[0] == '/' && p[1] != '/' && p[1] != '\0';
	return depth;
}

void mount_keep_attached(struct mount *m)
{
	pthread_mutex_lock(&m->state);
	m->closing = true;
	pthread_mutex_unlock(&m->state);
}

/* op held. What its record says stays, so that the next daemon attaches it again. */
static void leave(struct mount *m)
{
	struct error err = ERROR_INIT;
	bool served, placed;
	int r;

	get_state(m, &served, &placed);
	if (placed && unmount(m, true, &err))
		log_error("mount %s: %s", m->rec.id, error_text(&err));
	if (served && !wait_ended(m, 200))
		mount_flush(m, SESSION_DRAIN_MS);
	if (served || m->session) {
		r = view_sync(&m->view);
		if (r)
			log_error("mount %s: its changes could not be synced: %s", m->rec.id,
				  strerror(-r));
	}
	session_stop(m->session);
	m->session = NULL;
}

void mount_close(struct mount *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->op);
	mount_keep_attached(m);
	leave(m);
	mount_join_seal(m);
	staging_reclaim(m->view.staging);
	if (journal_settle(m->view.journal))
		log_error("mount %s: its journal is kept for the next start", m->rec.id);
	pthread_mutex_unlock(&m->op);
	mount_free(m);
}
