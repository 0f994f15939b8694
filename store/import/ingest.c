/* What every import does around its source: options, workers, the end. */
#include "store/import/ingest.h"

#include <errno.h>
#include <malloc.h>
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

void ingest_fini(struct ingest *in)
{
	ingest_file_drop_batch(in);
	pool_free(in->pool);
	ingest_scratch_free(in);
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
	ingest_scratch_free(in);
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
