#include "store/base/space.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <time.h>

#include "store/base/clock.h"

/* Before it refuses, it looks again, unless the last look is newer than this. */
#define REFUSE_LOOK_MS 10

int space_init(struct space *sp, int dir_fd, uint64_t reserve_bytes)
{
	struct statvfs v;

	if (fstatvfs(dir_fd, &v) < 0)
		return -errno;
	if (reserve_bytes == SPACE_RESERVE_DEFAULT) {
		reserve_bytes = (uint64_t)v.f_blocks * v.f_frsize / 20;
		reserve_bytes = MAX(reserve_bytes, SPACE_RESERVE_MIN);
		reserve_bytes = MIN(reserve_bytes, SPACE_RESERVE_MAX);
	}
	sp->dir_fd = dir_fd;
	sp->reserve_bytes = reserve_bytes == SPACE_RESERVE_NONE ? 0 : reserve_bytes;
	(void)space_free(sp);
	return 0;
}

uint64_t space_free(struct space *sp)
{
	struct statvfs v;
	uint64_t n;

	/* What is taken from here on may be counted twice, but is never missed. */
	atomic_store(&sp->taken_bytes, 0);
	n = fstatvfs(sp->dir_fd, &v) < 0 ? UINT64_MAX : (uint64_t)v.f_bavail * v.f_frsize;
	atomic_store(&sp->free_bytes, n);
	atomic_store(&sp->looked_ms, monotonic_coarse_ms());
	return n;
}

uint64_t space_room(struct space *sp)
{
	uint64_t n = space_free(sp);

	return n - MIN(n, sp->reserve_bytes);
}

static uint64_t kept_from(const struct space *sp, enum space_user who)
{
	return who == SPACE_OWN ? sp->reserve_bytes / 2 : sp->reserve_bytes;
}

/* 0 bytes asks for one. */
static bool has_room(struct space *sp, enum space_user who, uint64_t bytes)
{
	uint64_t n = atomic_load_explicit(&sp->free_bytes, memory_order_relaxed);
	uint64_t taken = atomic_load_explicit(&sp->taken_bytes, memory_order_relaxed);
	uint64_t keep = kept_from(sp, who);

	n -= MIN(n, taken);
	return n > keep && n - keep >= bytes;
}

static int ask(struct space *sp, enum space_user who, uint64_t bytes)
{
	int64_t age =
		monotonic_coarse_ms() - atomic_load_explicit(&sp->looked_ms, memory_order_relaxed);

	if (!sp->reserve_bytes)
		return 0;
	if (age >= SPACE_LOOK_MS ||
	    atomic_load_explicit(&sp->taken_bytes, memory_order_relaxed) >= SPACE_LOOK_BYTES ||
	    (age >= REFUSE_LOOK_MS && !has_room(sp, who, bytes)))
		(void)space_free(sp);
	return has_room(sp, who, bytes) ? 0 : -ENOSPC;
}

int space_take(struct space *sp, enum space_user who, uint64_t bytes)
{
	int r = ask(sp, who, bytes);

	if (!r && bytes)
		atomic_fetch_add_explicit(&sp->taken_bytes, bytes, memory_order_relaxed);
	return r;
}

int space_check(struct space *sp, enum space_user who, uint64_t bytes, struct error *err)
{
	int r = ask(sp, who, bytes);

	if (r)
		error_set(err, r,
			  "the disk of the state directory is nearly full: %llu MiB may be needed, "
			  "%llu MiB are free, and %llu MiB kept back (diskReserveBytes)",
			  (unsigned long long)(bytes + (1u << 20) - 1) >> 20,
			  (unsigned long long)atomic_load(&sp->free_bytes) >> 20,
			  (unsigned long long)kept_from(sp, who) >> 20);
	return r;
}
