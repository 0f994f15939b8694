#include "fs/fuse/ahead.h"

#include <string.h>

#include "fs/fuse/ahead_tree.h"
#include "store/base/wire.h"

/* How far away the next file's number may be; how many are loaded; how soon more are loaded. */
#define FILES_GAP 64u
#define FILES_WINDOW 96u
#define FILES_MARGIN 48u
/* The same within one file, in bytes; its readers may overtake each other a little. */
#define BYTES_SLACK (512u << 10)
#define BYTES_WINDOW (2u << 20)
#define BYTES_MARGIN (1u << 20)
/* How often a stream has to go on as expected. */
#define STREAK 2u
/* A job loads this much; of many files, only the beginning of each. */
#define JOB_BYTES (8u << 20)
#define FILE_BYTES (256u << 10)

void ahead_init(struct ahead_streams *s)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
}

void ahead_fini(struct ahead_streams *s)
{
	pthread_mutex_destroy(&s->lock);
}

/* The stream that ino continues, or a new one. */
static struct ahead_stream *find_files(struct ahead_streams *s, uint64_t ino)
{
	for (unsigned i = 0; i < AHEAD_STREAMS; i++) {
		struct ahead_stream *f = &s->files[i];

		if (f->last && ino > f->last && ino - f->last <= FILES_GAP) {
			f->streak++;
			f->last = ino;
			return f;
		}
		if (f->last == ino)
			return f;
	}
	struct ahead_stream *f = &s->files[s->next++ % AHEAD_STREAMS];

	*f = (struct ahead_stream){ .last = ino };
	return f;
}

static bool note_file(struct ahead_streams *s, uint64_t ino, struct ahead_job *out)
{
	struct ahead_stream *f = find_files(s, ino);

	if (f->streak < STREAK || ino + FILES_MARGIN < f->ahead)
		return false;
	*out = (struct ahead_job){ 0, MAX(ino + 1, f->ahead), ino + 1 + FILES_WINDOW };
	f->ahead = out->to;
	return true;
}

static bool note_bytes(struct ahead_streams *s, uint64_t ino, uint64_t off, uint64_t end,
		       struct ahead_job *out)
{
	struct ahead_stream *b = &s->bytes[ino % AHEAD_STREAMS];

	if (b->ino != ino || off > b->last + BYTES_SLACK || off + BYTES_SLACK < b->last) {
		*b = (struct ahead_stream){ .last = end, .ino = ino };
		return false;
	}
	if (end > b->last) {
		b->last = end;
		b->streak++;
	}
	if (b->streak < STREAK || b->last + BYTES_MARGIN < b->ahead)
		return false;
	*out = (struct ahead_job){ ino, MAX(b->last, b->ahead), b->last + BYTES_WINDOW };
	b->ahead = out->to;
	return true;
}

bool ahead_note(struct ahead_streams *s, uint64_t ino, uint64_t off, uint64_t len,
		struct ahead_job *out)
{
	bool todo;

	pthread_mutex_lock(&s->lock);
	todo = off ? false : note_file(s, ino, out);
	if (!todo)
		todo = note_bytes(s, ino, off, off + len, out);
	pthread_mutex_unlock(&s->lock);
	return todo;
}

/* ---- loading ---- */

struct loader {
	struct chunk_store *chunks;
	size_t left;
};

/* 1: it is enough. */
static int load_extent(void *arg, uint64_t off, const struct extent_rec *e)
{
	struct loader *l = arg;
	struct chunk *c;

	(void)off;
	if (e->kind != EXTENT_CHUNK)
		return 0;
	if (e->len > l->left)
		return 1;
	l->left -= e->len;
	if (chunk_store_get(l->chunks, &e->digest, &c) == 0)
		chunk_unref(c);
	return 0;
}

static void load_files(const struct tree_fs *base, uint64_t from, uint64_t to, struct loader *l)
{
	struct tree_iter *it CLEANUP(tree_iter_free_p) = tree_iter_new(base->nodes, &base->root);
	struct key_parts p;
	struct extent_rec e;
	uint8_t first[8];
	size_t n;

	wire_set64be(first, from);
	for (int r = it ? tree_iter_seek(it, first, sizeof(first)) : 0; r == 1;
	     r = tree_iter_next(it)) {
		const uint8_t *k = tree_iter_key(it, &n);

		if (key_parse(k, n, &p) || p.ino >= to)
			return;
		if (p.kind != KEY_EXTENT || n != 17 || wire_get64be(k + 9) >= FILE_BYTES)
			continue;
		const uint8_t *v = tree_iter_value(it, &n);

		if (extent_decode(v, n, &e) || load_extent(l, 0, &e))
			return;
	}
}

void ahead_run(struct view *v, const struct ahead_job *job)
{
	struct loader l = { .left = JOB_BYTES };
	struct tree_fs base;

	/* A base that is replaced meanwhile may lack nodes: then nothing is loaded. */
	pthread_rwlock_rdlock(&v->layers);
	base = v->base;
	pthread_rwlock_unlock(&v->layers);
	l.chunks = base.chunks;
	want_hold(); /* what is far away is not loaded ahead */
	if (ahead_is_tree(job))
		ahead_tree(&base, job->ino);
	else if (job->ino)
		(void)!tree_fs_extents(&base, job->ino, job->from, job->to, load_extent, &l);
	else
		load_files(&base, job->from, job->to, &l);
	want_let_go();
	want_begin(NULL, 0);
}

/* ---- threads ---- */

static bool is_running_locked(const struct ahead_pool *p, const struct session *s)
{
	for (unsigned i = 0; i < AHEAD_THREADS; i++)
		if (p->running[i] == s)
			return true;
	return false;
}

/* Take the first job of a mount that has no thread, else the first job. The queue is not empty. */
static struct ahead_queued take_locked(struct ahead_pool *p)
{
	unsigned i = 0;

	while (i < p->n && is_running_locked(p, p->queue[i].s))
		i++;
	if (i == p->n)
		i = 0;
	const struct ahead_queued q = p->queue[i];

	memmove(p->queue + i, p->queue + i + 1, (--p->n - i) * sizeof(p->queue[0]));
	return q;
}

/* lock held: which of the threads a caller is, for p->running. */
static struct session **my_place_locked(struct ahead_pool *p)
{
	unsigned i = 0;

	while (p->running[i])
		i++;
	return &p->running[i];
}

static void *thread_main(void *arg)
{
	struct ahead_pool *p = arg;

	pthread_setname_np(pthread_self(), "varve-ahead");
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->n && !p->stop)
			pthread_cond_wait(&p->cond, &p->lock);
		if (!p->n)
			break;
		const struct ahead_queued q = take_locked(p);
		struct session **place = my_place_locked(p);

		*place = q.s;
		pthread_mutex_unlock(&p->lock);
		p->run(q.s, &q.job);
		pthread_mutex_lock(&p->lock);
		*place = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int ahead_pool_start(struct ahead_pool *p,
		     void (*run)(struct session *s, const struct ahead_job *job))
{
	int r = 0;

	memset(p, 0, sizeof(*p));
	p->run = run;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	while (!r && p->n_started < AHEAD_THREADS) {
		r = -pthread_create(&p->threads[p->n_started], NULL, thread_main, p);
		p->n_started += r == 0;
	}
	return r;
}

void ahead_pool_stop(struct ahead_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_started; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
}

bool ahead_pool_push(struct ahead_pool *p, struct session *s, const struct ahead_job *job)
{
	unsigned of_it = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->n; i++)
		of_it += p->queue[i].s == s;
	const bool room = p->n < AHEAD_QUEUE && of_it < AHEAD_QUEUE_MOUNT;

	if (room) {
		p->queue[p->n].s = s;
		p->queue[p->n++].job = *job;
		pthread_cond_signal(&p->cond);
	}
	pthread_mutex_unlock(&p->lock);
	return room;
}
