/* What every import does around its source: limits, errors, workers, the end. */
#include "store/import/ingest.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/import/ingest_internal.h"

#define DEFAULT_MAX_ENTRIES 50000000ull
#define QUEUE_CAP 64 /* jobs of at most CHUNK_MAX or a batch each */
#define TRIM_ENTRIES 20000

/* Half of the machine's memory, at least 1 GiB, for names and inodes. */
static uint64_t meta_limit(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	uint64_t all = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;

	return MAX(all / 2, 1ull << 30);
}

static int make_workers(struct ingest *in)
{
	in->pool = pool_new(in->threads, QUEUE_CAP);
	if (!in->pool)
		return -ENOMEM;
	struct file_chunks_options opt = { .chunks = in->store->chunks,
					   .pool = in->pool,
					   .emit = ingest_emit_extent };
	for (unsigned i = 0; i < INGEST_STREAMS; i++) {
		in->streams[i].chunks = file_chunks_new(&opt);
		if (!in->streams[i].chunks)
			return -ENOMEM;
	}
	return 0;
}

int ingest_init(struct ingest *in, struct store *s, const struct ingest_options *opt, bool indexed,
		struct progress *p, struct error *err)
{
	static const struct ingest_options defaults;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (!opt)
		opt = &defaults;
	memset(in, 0, sizeof(*in));
	in->store = s;
	in->progress = p;
	in->threads = opt->threads ? opt->threads : cores > 0 ? (unsigned)cores : 1;
	in->one_file_system = opt->one_file_system;
	in->max_bytes = opt->max_bytes ? opt->max_bytes : INGEST_MAX_BYTES;
	in->max_entries = opt->max_entries ? opt->max_entries : DEFAULT_MAX_ENTRIES;
	in->max_meta = meta_limit();
	pthread_mutex_init(&in->lock, NULL);
	/*
	 * Slow, because the data may come from a client; whoever writes the
	 * record has another session.
	 */
	guard_session_begin_slow(s->guard, &in->session);
	if (p) {
		p->phase = "reading";
		p->done_items = p->total_items = p->done_bytes = p->total_bytes = 0;
	}
	in->tree = ingest_tree_new(indexed);
	int r = in->tree ? make_workers(in) : -ENOMEM;
	if (r < 0)
		return error_set_errno(err, r, "cannot start an import");
	return space_check(&s->space, SPACE_GROWTH, 0, err);
}

static void free_scratch(struct ingest *in)
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

void ingest_fini(struct ingest *in)
{
	ingest_file_drop_batch(in);
	pool_free(in->pool);
	free_scratch(in);
	for (unsigned i = 0; i < INGEST_STREAMS; i++) {
		if (in->streams[i].chunks)
			in->new_bytes += file_chunks_new_bytes(in->streams[i].chunks);
		file_chunks_free(in->streams[i].chunks);
	}
	if (!in->whole)
		snapshots_note_garbage(in->store->snapshots, in->new_bytes);
	ingest_tree_free(in->tree);
	/* Some hundred bytes per entry, in small pieces, which malloc would keep. */
	if (in->entries > TRIM_ENTRIES)
		(void)malloc_trim(0);
	guard_session_end(in->store->guard, &in->session);
	pthread_mutex_destroy(&in->lock);
}

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

int ingest_emit_extent(void *inode, uint64_t offset, const struct extent_rec *e)
{
	return ingest_inode_add_extent(inode, offset, e);
}

int ingest_finish(struct ingest *in, int result, struct ingest_result *out, struct error *err)
{
	int r = result;

	if (r == 0)
		r = ingest_file_wait(in);
	pool_drain(in->pool);
	if (r < 0)
		ingest_fail(in, r, "cannot import: %s", strerror(-r)); /* if none was kept */
	if (atomic_load(&in->failed))
		return error_set(err, in->first.code, "%s", in->first.msg);
	free_scratch(in);
	memset(out, 0, sizeof(*out));
	out->new_bytes = in->new_bytes;
	out->remarks = in->remarks;
	for (unsigned i = 0; i < INGEST_STREAMS; i++)
		out->new_bytes += file_chunks_new_bytes(in->streams[i].chunks);
	if (in->progress) {
		in->progress->phase = "sealing";
		in->progress->done_bytes = atomic_load(&in->bytes);
		progress_tick(in->progress, true);
	}
	r = ingest_tree_store(in->tree, in->store, in->progress, out, err);
	if (r < 0)
		return r;
	r = kv_flush_content(in->store->kv);
	if (r < 0)
		return error_set_errno(err, r, "cannot flush the store");
	progress_tick(in->progress, true);
	in->whole = true;
	return 0;
}
