#include "fs/staging.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The database below needs room to log what has to be said about a full disk. */
#define RESERVE_BYTES (96ull << 20)
/* Bytes handed out between two looks at the free space. */
#define SPACE_CHECK_BYTES (16ull << 20)
#define RECLAIM_BATCH 1024u
#define RECLAIM_BYTES (64ull << 20)
/* Punching less than a block gives nothing back. */
#define PUNCH_MIN 4096u

struct dead_range {
	uint64_t pos, len;
};

struct staging {
	int fd;
	struct kv *kv;
	_Atomic uint64_t end;
	_Atomic uint64_t checked_at;	 /* value of end at the last look at free space */
	_Atomic uint64_t writes, synced; /* counts: dirty while they differ */
	pthread_mutex_t lock;		 /* guards the list of dead ranges */
	struct dead_range dead[RECLAIM_BATCH];
	unsigned n_dead;
	uint64_t dead_bytes;
};

int staging_open(int dir_fd, const char *name, struct kv *kv, struct staging **out,
		 struct error *err)
{
	struct staging *st = calloc(1, sizeof(*st));

	if (!st)
		return error_set(err, -ENOMEM, "out of memory");
	st->fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (st->fd < 0) {
		int e = -errno;

		free(st);
		return error_set_errno(err, e, "cannot open staging file %s", name);
	}
	st->kv = kv;
	pthread_mutex_init(&st->lock, NULL);
	*out = st;
	return 0;
}

void staging_close(struct staging *st)
{
	if (!st)
		return;
	close(st->fd);
	pthread_mutex_destroy(&st->lock);
	free(st);
}

void staging_set_end(struct staging *st, uint64_t end)
{
	struct stat s;

	/* What lies beyond is dead, but would show where new space is not written in time. */
	if (ftruncate(st->fd, (off_t)end) < 0 && fstat(st->fd, &s) == 0)
		end = MAX(end, (uint64_t)s.st_size);
	atomic_store(&st->end, end);
	atomic_store(&st->checked_at, end);
}

uint64_t staging_end(struct staging *st)
{
	return atomic_load(&st->end);
}

int staging_room(struct staging *st, uint64_t *out)
{
	struct statvfs v;

	if (fstatvfs(st->fd, &v) < 0)
		return -errno;
	pthread_mutex_lock(&st->lock);
	uint64_t avail = (uint64_t)v.f_bavail * v.f_frsize + st->dead_bytes;
	pthread_mutex_unlock(&st->lock);

	*out = avail - MIN(avail, RESERVE_BYTES);
	return 0;
}

static int check_space(struct staging *st, uint64_t want)
{
	uint64_t room = 0;
	int r = staging_room(st, &room);

	if (r)
		return r;
	/* Near the end, what is dead is given back before it is counted on. */
	if (room < want + RECLAIM_BYTES)
		staging_reclaim(st);
	return room < want ? -ENOSPC : 0;
}

int staging_alloc(struct staging *st, uint64_t len, uint64_t *out_pos)
{
	/* Relaxed is enough: positions only need to be distinct. */
	uint64_t checked = atomic_load_explicit(&st->checked_at, memory_order_relaxed);
	uint64_t end = atomic_load_explicit(&st->end, memory_order_relaxed);

	if (end + len - checked >= SPACE_CHECK_BYTES || end == checked) {
		int r = check_space(st, len);

		if (r)
			return r;
		atomic_store_explicit(&st->checked_at, end, memory_order_relaxed);
	}
	*out_pos = atomic_fetch_add_explicit(&st->end, len, memory_order_relaxed);
	return 0;
}

int staging_write(struct staging *st, uint64_t pos, const void *data, size_t len)
{
	const char *p = data;
	int r = 0;

	while (len && !r) {
		ssize_t n = pwrite(st->fd, p, len, (off_t)pos);

		if (n < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		p += n;
		pos += (uint64_t)n;
		len -= (size_t)n;
	}
	/* Counted once it is there: a sync that runs beside it may have missed it. */
	atomic_fetch_add(&st->writes, 1);
	return r;
}

int staging_read(struct staging *st, uint64_t pos, void *out, size_t len)
{
	char *p = out;

	while (len) {
		ssize_t n = pread(st->fd, p, len, (off_t)pos);

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

void staging_punch(struct staging *st, uint64_t from, uint64_t to)
{
	if (to > from)
		(void)!fallocate(st->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
				 (off_t)(to - from));
}

static void reclaim_locked(struct staging *st)
{
	if (!st->n_dead)
		return;
	/* A power cut must not bring a file back whose data is gone already. */
	if (kv_sync_log(st->kv) == 0)
		for (unsigned i = 0; i < st->n_dead; i++)
			staging_punch(st, st->dead[i].pos, st->dead[i].pos + st->dead[i].len);
	st->n_dead = 0;
	st->dead_bytes = 0;
}

void staging_reclaim(struct staging *st)
{
	pthread_mutex_lock(&st->lock);
	reclaim_locked(st);
	pthread_mutex_unlock(&st->lock);
}

void staging_free(struct staging *st, uint64_t pos, uint64_t len)
{
	if (len < PUNCH_MIN)
		return;
	pthread_mutex_lock(&st->lock);
	/* A neighbour of the last one (a file deleted extent by extent) joins it. */
	if (st->n_dead && st->dead[st->n_dead - 1].pos + st->dead[st->n_dead - 1].len == pos) {
		st->dead[st->n_dead - 1].len += len;
	} else {
		/* I/O under the lock: only freers wait, once in a thousand ranges. */
		if (st->n_dead == RECLAIM_BATCH)
			reclaim_locked(st);
		st->dead[st->n_dead++] = (struct dead_range){ pos, len };
	}
	st->dead_bytes += len;
	if (st->dead_bytes >= RECLAIM_BYTES)
		reclaim_locked(st);
	pthread_mutex_unlock(&st->lock);
}

int staging_sync(struct staging *st)
{
	uint64_t writes = atomic_load(&st->writes);

	if (writes == atomic_load(&st->synced))
		return 0;
	if (fdatasync(st->fd) < 0)
		return -errno;
	atomic_store(&st->synced, writes);
	return 0;
}
