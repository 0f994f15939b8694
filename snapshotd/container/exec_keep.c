#include "snapshotd/container/exec_keep.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/host/keeper_box.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/write_all.h"

#ifndef EXEC_KEEP_VERSION
#define EXEC_KEEP_VERSION 1u
#endif

/*
 * The state of an attached one is longer, and has another number. So a daemon that would let it
 * grow, and run on without followers, does not take it.
 */
#define ATTACHED_VERSION (EXEC_KEEP_VERSION + 1u)
#define PLAIN_SIZE offsetof(struct exec_state, attached)
#define TRIM_STEP (256u << 10) /* a multiple of a page */
/* Whichever it is, all of it is in the page that is mapped. */
static_assert(sizeof(struct exec_state) <= 4096, "a page holds the state");
/* Those came later, to where nothing was: others have zeros there, and do not look. */
static_assert(offsetof(struct exec_state, rc) == offsetof(struct exec_state, done) + 4,
	      "killed takes no room");
static_assert(offsetof(struct exec_state, base) == offsetof(struct exec_state, attached) + 8,
	      "followed takes no room");

/* What is in a box: first those that stay when it is over. */
enum { MEMORY, SPOOL_OUT, SPOOL_ERR, N_DONE, SOCK = N_DONE, PIPE_OUT, PIPE_ERR, N_RUNNING };

static atomic_uint n_names;

/* ---- names ---- */

bool exec_keep_take_name(void)
{
	if (atomic_fetch_add(&n_names, 1) < EXEC_KEEP_NAMES_MAX)
		return true;
	atomic_fetch_sub(&n_names, 1);
	return false;
}

void exec_keep_add_name(void)
{
	atomic_fetch_add(&n_names, 1);
}

void exec_keep_give_name(void)
{
	atomic_fetch_sub(&n_names, 1);
}

static void tell_full(void)
{
	static atomic_bool told;

	if (!atomic_exchange(&told, true))
		log_warn("programs are started that end with this daemon: %u of them, their inputs "
			 "and results are kept already",
			 EXEC_KEEP_NAMES_MAX);
}

/* ---- the box ---- */

bool exec_keep_reserve(struct exec_keep *k)
{
	if (k->keeper && !k->has_name)
		k->has_name = exec_keep_take_name();
	return !k->keeper || k->has_name;
}

void exec_keep_let_go(struct exec_keep *k)
{
	if (k->is_kept)
		keeper_drop(k->keeper, k->name);
	if (k->has_name)
		exec_keep_give_name();
	k->is_kept = k->has_name = false;
}

static void put(struct exec_keep *k, unsigned n)
{
	const int fds[N_RUNNING] = { k->memory, k->spool[0], k->spool[1],
				     k->sock,	k->pipes[0], k->pipes[1] };
	const uint32_t count = n;
	int rc;

	if (!k->keeper)
		return;
	if (!exec_keep_reserve(k)) {
		tell_full();
		return;
	}
	rc = keeper_box_put(k->keeper, k->name, &count, sizeof(count), fds, n);
	if (rc < 0) {
		log_warn("exec %s will end with this daemon: %s", k->state->id, strerror(-rc));
		if (!k->is_kept)
			exec_keep_let_go(k);
		return;
	}
	k->is_kept = true;
}

void exec_keep_put(struct exec_keep *k)
{
	put(k, N_RUNNING);
}

void exec_keep_done(struct exec_keep *k)
{
	k->state->done_ms = monotonic_ms();
	atomic_thread_fence(memory_order_seq_cst);
	k->state->done = true;
	/* Who writes to its pipes still is told that nobody reads. */
	put(k, N_DONE);
}

/* ---- making, finding ---- */

static struct exec_keep *keep_new(struct keeper *keeper)
{
	struct exec_keep *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	*k = (struct exec_keep){
		.keeper = keeper, .memory = -1, .spool = { -1, -1 }, .sock = -1, .pipes = { -1, -1 }
	};
	return k;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void exec_keep_close(struct exec_keep *k)
{
	if (k->state)
		(void)munmap(k->state, sizeof(*k->state));
	k->state = NULL;
	close_fd(&k->memory);
	close_fd(&k->sock);
	for (int i = 0; i < 2; i++) {
		close_fd(&k->spool[i]);
		close_fd(&k->pipes[i]);
	}
}

static void keep_free(struct exec_keep *k)
{
	exec_keep_close(k);
	free(k);
}

void exec_keep_free(struct exec_keep *k)
{
	if (!k)
		return;
	exec_keep_let_go(k);
	keep_free(k);
}

static int map_state(struct exec_keep *k)
{
	void *at = mmap(NULL, sizeof(*k->state), PROT_READ | PROT_WRITE, MAP_SHARED, k->memory, 0);

	if (at == MAP_FAILED)
		return -errno;
	k->state = at;
	return 0;
}

static int make(struct exec_keep *k)
{
	k->memory = memfd_create("varve-exec-state", MFD_CLOEXEC);
	k->spool[0] = memfd_create("varve-stdout", MFD_CLOEXEC);
	k->spool[1] = memfd_create("varve-stderr", MFD_CLOEXEC);
	if (k->memory < 0 || k->spool[0] < 0 || k->spool[1] < 0 ||
	    ftruncate(k->memory, PLAIN_SIZE) < 0)
		return -errno;
	return map_state(k);
}

int exec_keep_new(struct keeper *keeper, const char *id, const char *owner, struct exec_keep **out,
		  struct error *err)
{
	struct exec_keep *k = keep_new(keeper);
	int rc = k ? make(k) : -ENOMEM;

	if (rc < 0) {
		if (k)
			keep_free(k);
		return error_set_errno(err, rc, "cannot keep the program's output");
	}
	k->state->version = EXEC_KEEP_VERSION;
	k->state->size = PLAIN_SIZE;
	snprintf(k->state->id, sizeof(k->state->id), "%s", id);
	snprintf(k->name, sizeof(k->name), EXEC_KEEP_PREFIX "%s", k->state->id);
	snprintf(k->state->owner, sizeof(k->state->owner), "%s", owner);
	*out = k;
	return 0;
}

int exec_keep_attach(struct exec_keep *k, struct error *err)
{
	if (ftruncate(k->memory, sizeof(*k->state)) < 0)
		return error_set_errno(err, -errno, "cannot keep the program's output");
	k->state->version = ATTACHED_VERSION;
	k->state->size = sizeof(*k->state);
	k->state->attached = true;
	return 0;
}

static bool is_ours(const struct exec_state *s, size_t size)
{
	if (s->size != size)
		return false;
	return size == PLAIN_SIZE ? s->version == EXEC_KEEP_VERSION
				  : s->version == ATTACHED_VERSION;
}

static int open_box(struct exec_keep *k, int box)
{
	uint32_t count;
	int fds[N_RUNNING] = { -1, -1, -1, -1, -1, -1 };
	int rc = keeper_box_open(box, &count, sizeof(count), fds, N_RUNNING);
	struct stat st;

	if (rc == -EBADMSG)
		rc = keeper_box_open(box, &count, sizeof(count), fds, N_DONE);
	if (rc < 0)
		return rc;
	k->memory = fds[MEMORY];
	k->spool[0] = fds[SPOOL_OUT];
	k->spool[1] = fds[SPOOL_ERR];
	k->sock = fds[SOCK];
	k->pipes[0] = fds[PIPE_OUT];
	k->pipes[1] = fds[PIPE_ERR];
	k->is_begun = true;
	if (fstat(k->memory, &st) < 0)
		return -errno;
	if (st.st_size != PLAIN_SIZE && st.st_size != sizeof(*k->state))
		return -EPROTO;
	rc = map_state(k);
	if (rc == 0 && !is_ours(k->state, (size_t)st.st_size))
		rc = -EPROTO;
	return rc;
}

int exec_keep_check(int box)
{
	struct exec_keep *k = keep_new(NULL);
	int rc = k ? open_box(k, box) : -ENOMEM;

	if (k)
		keep_free(k);
	return rc == -EBADMSG ? -EPROTO : rc;
}

/* The daemon died before the keeper had only what stays: nobody reads its pipes any more. */
static void put_done(struct exec_keep *k)
{
	if (!k->state->done || k->sock < 0)
		return;
	close_fd(&k->sock);
	close_fd(&k->pipes[0]);
	close_fd(&k->pipes[1]);
	put(k, N_DONE);
}

/* The daemon died before all of them were there: they are written again. */
static void take_back_notes(struct exec_keep *k)
{
	if (!k->state->noted || k->state->done)
		return;
	for (int i = 0; i < 2; i++)
		if (ftruncate(k->spool[i], (off_t)k->state->noted_at[i]) < 0)
			log_warn("%s: %s", k->name, strerror(errno));
	k->state->noted = false;
}

static const char *why_not(int rc)
{
	return rc == -EPROTO || rc == -EBADMSG ? "a daemon of another version has kept it"
					       : strerror(-rc);
}

struct exec_keep *exec_keep_next(struct keeper *keeper)
{
	char name[KEEPER_NAME_MAX + 1];
	int box;

	while ((box = keeper_take_any(keeper, EXEC_KEEP_PREFIX, name)) >= 0) {
		struct exec_keep *k = keep_new(keeper);
		int rc = k ? open_box(k, box) : -ENOMEM;

		close(box);
		if (rc == 0) {
			memcpy(k->name, name, sizeof(k->name));
			take_back_notes(k);
			k->is_kept = k->has_name = true;
			exec_keep_add_name();
			put_done(k);
			return k;
		}
		log_error(
			"exec %s: its program, or its result, cannot be gone on with and ends: %s",
			name + strlen(EXEC_KEEP_PREFIX), why_not(rc));
		if (k)
			keep_free(k);
		keeper_drop(keeper, name);
	}
	return NULL;
}

/* ---- output ---- */

size_t exec_keep_len(const struct exec_keep *k, int stream)
{
	struct stat st;

	return fstat(k->spool[stream - 1], &st) < 0 ? 0 : (size_t)st.st_size;
}

ssize_t exec_keep_move(struct exec_keep *k, int stream, int pipe, size_t len)
{
	off_t at = (off_t)exec_keep_len(k, stream);
	ssize_t n = splice(pipe, NULL, k->spool[stream - 1], &at, len, SPLICE_F_NONBLOCK);

	return n < 0 ? -errno : n;
}

int exec_keep_note(struct exec_keep *k, int stream, const void *data, size_t len)
{
	if (lseek(k->spool[stream - 1], 0, SEEK_END) < 0)
		return -errno;
	return write_all(k->spool[stream - 1], data, len);
}

/* What was behind the window meanwhile may have been read as zeros. */
ssize_t exec_keep_read(const struct exec_keep *k, int stream, uint64_t at, void *room, size_t len)
{
	ssize_t n = pread(k->spool[stream - 1], room, len, (off_t)at);

	if (n < 0)
		return -errno;
	return atomic_load(&k->state->base[stream - 1]) > at ? -ENODATA : n;
}

/* ---- the window ---- */

bool exec_keep_note_sent(struct exec_keep *k, int stream, uint64_t at)
{
	_Atomic uint64_t *sent = &k->state->sent[stream - 1];
	uint64_t was = atomic_load(sent);

	while (was < at && !atomic_compare_exchange_weak(sent, &was, at))
		;
	return was < at && atomic_exchange(&k->stalled, false);
}

size_t exec_keep_ahead(const struct exec_keep *k, int stream)
{
	uint64_t len = exec_keep_len(k, stream), sent = atomic_load(&k->state->sent[stream - 1]);

	return len > sent ? len - sent : 0;
}

/* The place is told first: who reads there meanwhile sees it. */
void exec_keep_trim(struct exec_keep *k, int stream, size_t behind)
{
	_Atomic uint64_t *base = &k->state->base[stream - 1];
	uint64_t sent = atomic_load(&k->state->sent[stream - 1]);
	uint64_t to = sent > behind ? (sent - behind) / TRIM_STEP * TRIM_STEP : 0;

	if (to <= atomic_load(base))
		return;
	atomic_store(base, to);
	if (fallocate(k->spool[stream - 1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)to) < 0)
		log_warn("%s: its output stays in memory: %s", k->name, strerror(errno));
}

size_t exec_keep_held(const struct exec_keep *k)
{
	size_t held = 0;

	for (int i = 0; i < 2; i++)
		held += exec_keep_len(k, i + 1) - (size_t)atomic_load(&k->state->base[i]);
	return held;
}
