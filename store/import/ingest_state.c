/* An import under way: its first failure, remarks, limits, progress and idle scratches. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/import/ingest_internal.h"

int ingest_fail(struct ingest *in, int code, const char *fmt, ...)
{
	pthread_mutex_lock(&in->lock);
	if (in->first.code == 0) {
		char msg[sizeof(in->first.msg)];
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(msg, sizeof(msg), fmt, ap);
		va_end(ap);
		for (char *p = msg; *p; p++) /* names may hold anything; a message is one line */
			if ((unsigned char)*p < ' ' || *p == 0x7f)
				*p = '?';
		error_set(&in->first, code, "%s", msg);
	}
	pthread_mutex_unlock(&in->lock);
	atomic_store(&in->failed, true);
	return code;
}

int ingest_fail_at(struct ingest *in, int code, const struct ingest_inode *i, const char *what)
{
	struct buf path CLEANUP(buf_fini_p) = BUF_INIT;
	const char *text = "?";

	if (ingest_inode_path(i, &path) == 0 && buf_cstr(&path))
		text = (const char *)path.data;
	return ingest_fail(in, code, "%s %.300s: %s", what, text, strerror(-code));
}

void ingest_remark(struct ingest *in, enum remark_kind kind, const char *path)
{
	pthread_mutex_lock(&in->lock);
	remarks_add(&in->remarks, kind, path, strlen(path));
	pthread_mutex_unlock(&in->lock);
}

void ingest_remark_at(struct ingest *in, enum remark_kind kind, const struct ingest_inode *i)
{
	struct buf path CLEANUP(buf_fini_p) = BUF_INIT;
	bool ok = ingest_inode_path(i, &path) == 0 && buf_cstr(&path);

	ingest_remark(in, kind, ok ? (const char *)path.data : "?");
}

void ingest_tick(struct ingest *in)
{
	if (!in->progress)
		return;
	in->progress->done_items = in->entries;
	in->progress->done_bytes = atomic_load_explicit(&in->bytes, memory_order_relaxed);
	progress_tick(in->progress, false);
}

static int check_space(struct ingest *in)
{
	struct error err = ERROR_INIT;
	int r = space_check(&in->store->space, SPACE_GROWTH, 0, &err);

	return r ? ingest_fail(in, r, "%s", err.msg) : 0;
}

int ingest_count_entry(struct ingest *in)
{
	if (atomic_load(&in->failed))
		return in->first.code;
	if (++in->entries > in->max_entries)
		return ingest_fail(in, -EFBIG, "more than %llu entries",
				   (unsigned long long)in->max_entries);
	if (ingest_tree_bytes(in->tree) > in->max_meta)
		return ingest_count_meta(in, in->max_meta);
	if (progress_cancelled(in->progress))
		return ingest_fail(in, -ECANCELED, "cancelled");
	ingest_tick(in);
	return check_space(in);
}

int ingest_count_bytes(struct ingest *in, uint64_t n)
{
	uint64_t before = atomic_fetch_add_explicit(&in->bytes, n, memory_order_relaxed);

	if (n > in->max_bytes || before > in->max_bytes - n)
		return ingest_fail(in, -EFBIG, "more than %llu bytes of data",
				   (unsigned long long)in->max_bytes);
	return check_space(in);
}

int ingest_count_meta(struct ingest *in, uint64_t n)
{
	uint64_t before = atomic_fetch_add_explicit(&in->meta_bytes, n, memory_order_relaxed);

	if (before + n >= in->max_meta)
		return ingest_fail(in, -EFBIG,
				   "names and attributes need more memory than %llu MiB",
				   (unsigned long long)in->max_meta >> 20);
	return 0;
}

struct ingest_scratch *ingest_scratch_get(struct ingest *in)
{
	struct file_chunks_options opt = { .chunks = in->store->chunks,
					   .emit = ingest_emit_extent };

	pthread_mutex_lock(&in->lock);
	struct ingest_scratch *sc = in->idle;
	if (sc)
		in->idle = sc->next;
	pthread_mutex_unlock(&in->lock);
	if (sc)
		return sc;
	sc = calloc(1, sizeof(*sc));
	if (!sc)
		return NULL;
	sc->chunks = file_chunks_new(&opt);
	sc->buffer = malloc(INGEST_READ_SIZE);
	if (!sc->chunks || !sc->buffer) {
		file_chunks_free(sc->chunks);
		free(sc->buffer);
		free(sc);
		return NULL;
	}
	return sc;
}

void ingest_scratch_put(struct ingest *in, struct ingest_scratch *sc)
{
	pthread_mutex_lock(&in->lock);
	sc->next = in->idle;
	in->idle = sc;
	pthread_mutex_unlock(&in->lock);
}

void ingest_scratch_free(struct ingest *in)
{
	while (in->idle) {
		struct ingest_scratch *sc = in->idle;

		in->idle = sc->next;
		in->new_bytes += file_chunks_new_bytes(sc->chunks);
		file_chunks_free(sc->chunks);
		free(sc->buffer);
		free(sc);
	}
}

int ingest_emit_extent(void *inode, uint64_t offset, const struct extent_rec *e)
{
	return ingest_inode_add_extent(inode, offset, e);
}
