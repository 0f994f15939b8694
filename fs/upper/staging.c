#include "fs/upper/staging.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Punching starts at this many dead ranges, or dead bytes; the most ranges that are kept. */
#define RECLAIM_RANGES (16u << 10)
#define RECLAIM_BYTES (64ull << 20)
#define RANGES_MAX (256u << 10)
/* Punching less than a block gives nothing back. */
#define PUNCH_MIN 4096u
/* Writes wait while the kernel punches: not for more than this at a time. */
#define PUNCH_PIECE (256u << 10)

/* A sync of no more than this logs the data instead of syncing the file. */
#define RECENT_RANGES 64u
#define RECENT_BYTES (64u << 10)

struct dead_range {
	uint64_t pos, len;
};

struct dead_list {
	struct dead_range *r;
	size_t n, cap;
	uint64_t bytes;
};

/* Two references: the file's, which lasts to the next freeze, and the copy's. */
struct staging_frozen {
	_Atomic unsigned refs;
	_Atomic uint64_t below; /* nothing below this is overwritten or punched */
	_Atomic bool spoilt;	/* something may have been, before it was thawed */
	int fd;
	uint64_t len;
};

struct staging {
	int dir_fd;
	char *name;
	_Atomic int fd; /* -1: there is no file yet */
	pthread_mutex_t opening;
	struct journal *journal;
	struct space *space; /* borrowed; NULL: no reserve is kept */
	_Atomic uint64_t end;
	_Atomic uint64_t copies;       /* begun */
	_Atomic uint64_t writes;       /* count */
	uint64_t synced;	       /* of these; guarded by syncing */
	pthread_mutex_t syncing;       /* one at a time; before lock */
	pthread_rwlock_t overwriting;  /* to write: `frozen` is set. Before lock */
	struct staging_frozen *frozen; /* read under either; may be thawed, or NULL */

	pthread_mutex_t lock;			 /* guards what follows */
	struct dead_range recent[RECENT_RANGES]; /* written since the last sync */
	unsigned n_recent;
	uint64_t recent_bytes;
	bool recent_overflow; /* there were more */
	struct dead_list dead;
	bool reclaiming; /* the thread is at it */
	bool has_thread; /* to be joined */
	pthread_t thread;
	pthread_mutex_t punching; /* before lock: one at a time */
};

/* The file, made by the first call that needs it. -errno. */
static int file_of(struct staging *st)
{
	int fd = atomic_load(&st->fd);

	if (fd >= 0)
		return fd;
	pthread_mutex_lock(&st->opening);
	fd = atomic_load(&st->fd);
	if (fd < 0) {
		fd = openat(st->dir_fd, st->name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0) {
			fd = -errno;
		} else {
			journal_set_data_file(st->journal, fd, st->name);
			atomic_store(&st->fd, fd);
		}
	}
	pthread_mutex_unlock(&st->opening);
	return fd;
}

/* Writers that never pause do not keep a freeze from beginning. Nobody takes it twice. */
static void init_overwriting(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int staging_open(int dir_fd, const char *name, bool fresh, struct journal *j, struct staging **out,
		 struct error *err)
{
	struct staging *st = calloc(1, sizeof(*st));

	if (!st || !(st->name = strdup(name))) {
		free(st);
		return error_set(err, -ENOMEM, "out of memory");
	}
	st->dir_fd = dir_fd;
	st->fd = -1;
	st->journal = j;
	pthread_mutex_init(&st->opening, NULL);
	pthread_mutex_init(&st->lock, NULL);
	pthread_mutex_init(&st->punching, NULL);
	pthread_mutex_init(&st->syncing, NULL);
	init_overwriting(&st->overwriting);
	int fd = fresh ? 0 : file_of(st);

	if (fd < 0) {
		staging_close(st);
		return error_set_errno(err, fd, "cannot open staging file %s", name);
	}
	*out = st;
	return 0;
}

void staging_limit(struct staging *st, struct space *sp)
{
	st->space = sp;
}

static void drop_frozen(struct staging_frozen *fz)
{
	if (!fz || atomic_fetch_sub(&fz->refs, 1) > 1)
		return;
	if (fz->fd >= 0)
		close(fz->fd);
	free(fz);
}

void staging_close(struct staging *st)
{
	if (!st)
		return;
	if (st->has_thread)
		pthread_join(st->thread, NULL);
	if (st->fd >= 0) {
		journal_set_data_file(st->journal, -1, NULL);
		close(st->fd);
	}
	free(st->dead.r);
	drop_frozen(st->frozen);
	pthread_rwlock_destroy(&st->overwriting);
	pthread_mutex_destroy(&st->punching);
	pthread_mutex_destroy(&st->syncing);
	pthread_mutex_destroy(&st->lock);
	pthread_mutex_destroy(&st->opening);
	free(st->name);
	free(st);
}

void staging_set_end(struct staging *st, uint64_t end)
{
	struct stat s;

	/* What lies beyond is dead, but would show in new space that is not written in time. */
	if (st->fd >= 0 && ftruncate(st->fd, (off_t)end) < 0 && fstat(st->fd, &s) == 0)
		end = MAX(end, (uint64_t)s.st_size);
	atomic_store(&st->end, end);
}

uint64_t staging_end(struct staging *st)
{
	return atomic_load(&st->end);
}

uint64_t staging_room(struct staging *st)
{
	uint64_t room = st->space ? space_room(st->space) : UINT64_MAX;

	pthread_mutex_lock(&st->lock);
	room += MIN(st->dead.bytes, UINT64_MAX - room);
	pthread_mutex_unlock(&st->lock);
	return room;
}

static int take_space(struct staging *st, uint64_t len)
{
	int r = st->space ? space_take(st->space, SPACE_GROWTH, len) : 0;
	bool any_dead;

	if (!r)
		return 0;
	pthread_mutex_lock(&st->lock);
	any_dead = st->dead.n > 0;
	pthread_mutex_unlock(&st->lock);
	if (!any_dead)
		return r;
	staging_reclaim(st);
	(void)space_free(st->space);
	return space_take(st->space, SPACE_GROWTH, len);
}

int staging_alloc(struct staging *st, uint64_t len, uint64_t *out_pos)
{
	int r = take_space(st, len);

	/* Relaxed is enough: positions only need to be distinct. */
	if (!r)
		*out_pos = atomic_fetch_add_explicit(&st->end, len, memory_order_relaxed);
	return r;
}

static void note_recent(struct staging *st, uint64_t pos, uint64_t len)
{
	struct dead_range *last;

	pthread_mutex_lock(&st->lock);
	last = st->n_recent ? &st->recent[st->n_recent - 1] : NULL;
	st->recent_bytes += len;
	if (st->recent_bytes > RECENT_BYTES)
		st->recent_overflow = true;
	if (st->recent_overflow)
		;
	else if (last && last->pos + last->len == pos)
		last->len += len;
	else if (st->n_recent < RECENT_RANGES)
		st->recent[st->n_recent++] = (struct dead_range){ pos, len };
	else
		st->recent_overflow = true;
	pthread_mutex_unlock(&st->lock);
}

int staging_write(struct staging *st, uint64_t pos, const void *data, size_t len)
{
	const uint64_t from = pos;
	const char *p = data;
	int fd = file_of(st), r = MIN(fd, 0);

	while (len && !r) {
		ssize_t n = pwrite(fd, p, len, (off_t)pos);

		if (n < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		p += n;
		pos += (uint64_t)n;
		len -= (size_t)n;
	}
	note_recent(st, from, pos - from);
	/* Counted after it is written: a sync that runs meanwhile may have missed it. */
	atomic_fetch_add(&st->writes, 1);
	return r;
}

/* ---- a copy ---- */

/* `overwriting` or `lock` held. */
static uint64_t frozen_below(const struct staging *st)
{
	return st->frozen ? atomic_load(&st->frozen->below) : 0;
}

int staging_overwrite(struct staging *st, uint64_t pos, const void *data, size_t len)
{
	int r;

	/* I/O under the lock: a freeze waits for what is being overwritten. */
	pthread_rwlock_rdlock(&st->overwriting);
	r = pos < frozen_below(st) ? -EBUSY : staging_write(st, pos, data, len);
	pthread_rwlock_unlock(&st->overwriting);
	return r;
}

bool staging_is_frozen(struct staging *st, uint64_t pos)
{
	bool frozen;

	pthread_rwlock_rdlock(&st->overwriting);
	frozen = pos < frozen_below(st);
	pthread_rwlock_unlock(&st->overwriting);
	return frozen;
}

void staging_spoil(struct staging *st)
{
	pthread_rwlock_rdlock(&st->overwriting);
	if (frozen_below(st) > 0) {
		atomic_store(&st->frozen->spoilt, true);
		atomic_store(&st->frozen->below, 0);
	}
	pthread_rwlock_unlock(&st->overwriting);
}

bool staging_frozen_is_whole(const struct staging_frozen *fz)
{
	return !atomic_load(&fz->spoilt);
}

uint64_t staging_copies(const struct staging *st)
{
	return atomic_load(&st->copies);
}

int staging_freeze(struct staging *st, struct staging_frozen **out)
{
	struct staging_frozen *fz = calloc(1, sizeof(*fz)), *was;

	if (!fz)
		return -ENOMEM;
	fz->fd = -1;
	fz->refs = 2;
	fz->below = UINT64_MAX;
	pthread_rwlock_wrlock(&st->overwriting);
	pthread_mutex_lock(&st->lock); /* nobody punches what is dead from now on */
	const bool busy = frozen_below(st) > 0;

	was = st->frozen;
	if (!busy) {
		st->frozen = fz;
		atomic_fetch_add(&st->copies, 1);
	}
	pthread_mutex_unlock(&st->lock);
	pthread_rwlock_unlock(&st->overwriting);
	if (busy) {
		free(fz);
		return -EBUSY;
	}
	drop_frozen(was);
	*out = fz;
	return 0;
}

int staging_cut(struct staging *st, struct staging_frozen *fz)
{
	const int fd = atomic_load(&st->fd);

	fz->len = staging_end(st);
	if (fd >= 0 && (fz->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	atomic_store(&fz->below, MAX(fz->len, (uint64_t)1)); /* 0: thawed */
	return 0;
}

int staging_frozen_fd(const struct staging_frozen *fz, uint64_t *out_len)
{
	*out_len = fz->len;
	return fz->fd;
}

void staging_thaw(struct staging_frozen *fz)
{
	if (!fz)
		return;
	atomic_store(&fz->below, 0); /* what is dead is punched with the next that dies */
	drop_frozen(fz);
}

int staging_read(struct staging *st, uint64_t pos, void *out, size_t len)
{
	const int fd = atomic_load(&st->fd);
	char *p = out;

	while (len) {
		ssize_t n = fd < 0 ? 0 : pread(fd, p, len, (off_t)pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) /* a record names space that the file does not have */
			return -EBADMSG;
		p += n;
		pos += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static void punch(struct staging *st, uint64_t from, uint64_t to)
{
	const int fd = atomic_load(&st->fd);

	while (fd >= 0 && from < to) {
		uint64_t end = MIN(to, from - from % PUNCH_PIECE + PUNCH_PIECE);

		(void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
				 (off_t)(end - from));
		from = end;
	}
}

static int by_pos(const void *a, const void *b)
{
	const struct dead_range *x = a, *y = b;

	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* Files that were written together mostly go together: neighbours are punched as one. */
static void punch_all(struct staging *st, struct dead_list *l)
{
	uint64_t from = 0, to = 0;

	qsort(l->r, l->n, sizeof(*l->r), by_pos);
	for (size_t i = 0; i < l->n; i++) {
		if (l->r[i].pos != to) {
			if (to - from >= PUNCH_MIN)
				punch(st, from, to);
			from = l->r[i].pos;
		}
		to = l->r[i].pos + l->r[i].len;
	}
	if (to - from >= PUNCH_MIN)
		punch(st, from, to);
}

void staging_reclaim(struct staging *st)
{
	struct dead_list l;

	/* I/O under the lock: a reclaim waits for one that has begun before. */
	pthread_mutex_lock(&st->punching);
	pthread_mutex_lock(&st->lock);
	l = (struct dead_list){ NULL, 0, 0, 0 };
	/* What is dead before a freeze is so in the copy; the rest has to wait. */
	if (!frozen_below(st)) {
		l = st->dead;
		st->dead = (struct dead_list){ NULL, 0, 0, 0 };
	}
	pthread_mutex_unlock(&st->lock);
	/* A power cut must not bring back a file whose data is already gone. */
	if (l.n && journal_sync(st->journal) == 0)
		punch_all(st, &l);
	free(l.r);
	pthread_mutex_unlock(&st->punching);
}

static void *reclaim_main(void *arg)
{
	struct staging *st = arg;

	staging_reclaim(st);
	pthread_mutex_lock(&st->lock);
	st->reclaiming = false;
	pthread_mutex_unlock(&st->lock);
	return NULL;
}

/* lock held. If no thread can be started, the next call tries again. */
static void start_reclaim(struct staging *st)
{
	if (st->has_thread) /* it has ended, except for releasing the lock */
		pthread_join(st->thread, NULL);
	st->has_thread = pthread_create(&st->thread, NULL, reclaim_main, st) == 0;
	st->reclaiming = st->has_thread;
	if (st->has_thread)
		pthread_setname_np(st->thread, "varve-punch");
}

/* If the list has no room, the range is forgotten: it is given back when the mount's layers go. */
static void add_dead(struct dead_list *l, uint64_t pos, uint64_t len)
{
	/* A neighbour of the last one (a file deleted extent by extent) joins it. */
	if (l->n && l->r[l->n - 1].pos + l->r[l->n - 1].len == pos) {
		l->r[l->n - 1].len += len;
		l->bytes += len;
		return;
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct dead_range *p = cap > RANGES_MAX ? NULL : realloc(l->r, cap * sizeof(*p));

		if (!p)
			return;
		l->r = p;
		l->cap = cap;
	}
	l->r[l->n++] = (struct dead_range){ pos, len };
	l->bytes += len;
}

void staging_free(struct staging *st, uint64_t pos, uint64_t len)
{
	pthread_mutex_lock(&st->lock);
	add_dead(&st->dead, pos, len);
	if (!st->reclaiming && !frozen_below(st) &&
	    (st->dead.n >= RECLAIM_RANGES || st->dead.bytes >= RECLAIM_BYTES))
		start_reclaim(st);
	pthread_mutex_unlock(&st->lock);
}

void staging_punch(struct staging *st, uint64_t from, uint64_t to)
{
	bool frozen;

	pthread_mutex_lock(&st->lock);
	frozen = frozen_below(st) > 0;
	if (frozen && from < to)
		add_dead(&st->dead, from, to - from);
	pthread_mutex_unlock(&st->lock);
	if (!frozen)
		punch(st, from, to);
}

/* Log what was written since the last sync. -E2BIG if that is too much. */
static int log_recent(struct staging *st)
{
	struct dead_range r[RECENT_RANGES];
	bool overflow;
	unsigned n;
	int res = 0;

	pthread_mutex_lock(&st->lock);
	n = st->n_recent;
	overflow = st->recent_overflow;
	if (n)
		memcpy(r, st->recent, n * sizeof(r[0]));
	st->n_recent = 0;
	st->recent_bytes = 0;
	st->recent_overflow = false;
	pthread_mutex_unlock(&st->lock);
	if (overflow)
		return -E2BIG;
	uint8_t *bytes = malloc(JOURNAL_DATA_MAX);

	if (!bytes)
		return -E2BIG;
	for (unsigned i = 0; i < n && !res; i++) {
		res = staging_read(st, r[i].pos, bytes, r[i].len);
		if (!res)
			res = journal_append_data(st->journal, r[i].pos, bytes, r[i].len);
	}
	free(bytes);
	return res ? -E2BIG : 0;
}

static int sync_file(struct staging *st)
{
	int r = journal_sync_data(st->journal);

	if (r) { /* the list was given up: the next sync must not trust it */
		pthread_mutex_lock(&st->lock);
		st->recent_overflow = true;
		pthread_mutex_unlock(&st->lock);
	}
	return r;
}

int staging_sync(struct staging *st)
{
	int r = 0;

	/* I/O under the lock, so that one sync does not count as done what another still logs. */
	pthread_mutex_lock(&st->syncing);
	uint64_t writes = atomic_load(&st->writes);

	if (writes != st->synced) {
		r = log_recent(st);
		if (r)
			r = sync_file(st);
		if (!r)
			st->synced = writes;
	}
	pthread_mutex_unlock(&st->syncing);
	return r;
}
