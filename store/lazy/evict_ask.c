/*
 * What buckets answer before chunks are evicted: a thread of its own asks them, so that whoever
 * evicts waits for no network. It learns where pushed snapshots lie, and has the pins confirmed.
 * Buckets that have not answered the last time are asked after the others; what these have said
 * can be used meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/lazy/evict_internal.h"
#include "store/remote/share_ids.h"
#include "store/remote/share_meta.h"

#define LEARN_MS 60000	/* of a bucket; what is left is learned the next time */
#define ENOUGH_MS 10000 /* after this, no bucket is waited for that has not answered */

void evict_answers_fini(struct evict_answers *a)
{
	for (size_t i = 0; i < a->n; i++)
		pins_held_fini(&a->held[i]);
	a->n = 0;
}

static bool is_stopping(struct evictor *e)
{
	pthread_mutex_lock(&e->lock);
	bool stopping = e->stopping;
	pthread_mutex_unlock(&e->lock);
	return stopping;
}

/* ---- what was pushed ---- */

/* Pairs of one bucket. */
struct pair {
	char local[SNAPSHOT_ID_SIZE];
	struct share_id remote;
};

static int note_pair(void *arg, const char *local, const struct share_id *remote)
{
	struct pair p = { .remote = *remote };

	snprintf(p.local, sizeof(p.local), "%s", local);
	return buf_append(arg, &p, sizeof(p));
}

/* The snapshot's tree is held, so a collection keeps what is added. */
static int add_locs(struct evictor *e, struct remote *r, const struct share_record *rec,
		    struct error *err)
{
	struct share_meta meta;
	int rc = share_meta_fetch(remote_objects(r), OBJECT_BACKGROUND, rec, &meta, err);

	if (rc < 0)
		return rc;
	lazy_index_hold(e->opt.index);
	rc = store_need_format(e->opt.store, STORE_FORMAT_FAR, err);
	if (rc == 0)
		rc = lazy_index_add(e->opt.index, remote_uuid(r), &meta, err);
	lazy_index_release(e->opt.index);
	share_meta_fini(&meta);
	return rc;
}

/* Learn where a snapshot lies that was pushed. */
static int learn(struct evictor *e, struct remote *r, const struct pair *p, struct error *err)
{
	struct share_record rec;
	struct store_hold hold;
	struct snapshot s;
	int rc;

	if (lazy_index_has_push(e->opt.index, remote_uuid(r), &p->remote))
		return 0;
	rc = store_hold_snapshot(e->opt.store, p->local, &s, &hold, NULL);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	rc = remote_read_record(r, &p->remote, &rec, err);
	if (rc == 0) {
		if (rec.state == SHARE_READY)
			rc = add_locs(e, r, &rec, err);
		else
			rc = share_ids_drop(e->opt.store->kv, remote_uuid(r), p->local, &p->remote);
		share_record_fini(&rec);
	}
	store_release(e->opt.store, &hold);
	snapshot_fini(&s);
	return rc == -ENOENT ? 0 : rc;
}

/* Of one snapshot alone: its record or a container is damaged, or of a newer version. */
static bool is_of_snapshot(int rc)
{
	return rc == -EBADMSG || rc == -ENOTSUP || rc == -EINVAL || rc == -EFBIG;
}

/* What cannot be learned stays here. */
static void learn_all(struct evictor *e, const char *uuid)
{
	const int64_t until_ms = monotonic_ms() + LEARN_MS;
	CLEANUP(buf_fini_p) struct buf pairs = BUF_INIT;
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc = share_ids_each(e->opt.store->kv, uuid, note_pair, &pairs);

	if (rc < 0 || pairs.len == 0 || remotes_get_uuid(e->opt.remotes, uuid, &r, &err) < 0)
		return;
	rc = remote_writable(r, &err);
	for (size_t i = 0; rc == 0 && i < pairs.len / sizeof(struct pair); i++) {
		const struct pair *p = (const struct pair *)pairs.data + i;

		rc = learn(e, r, p, &err);
		if (is_of_snapshot(rc)) {
			log_warn("snapshot %s is not evicted: %s", p->local, error_text(&err));
			rc = 0;
		}
		if (rc == 0 && (is_stopping(e) || monotonic_ms() >= until_ms))
			rc = -ECANCELED;
	}
	if (rc < 0 && rc != -ECANCELED && rc != -EROFS)
		log_debug("what was pushed stays here: %s", error_text(&err));
	remotes_release(e->opt.remotes, r);
}

/* ---- buckets ---- */

struct uuids {
	size_t n;
	char v[REMOTES_MAX][SNAPSHOT_ID_SIZE];
};

static int note_bucket(void *arg, const char *name, const char *bucket,
		       const struct object_counts *counts)
{
	struct uuids *u = arg;

	(void)name, (void)counts;
	for (size_t i = 0; i < u->n; i++)
		if (strcmp(u->v[i], bucket) == 0)
			return 0;
	if (*bucket && u->n < REMOTES_MAX)
		snprintf(u->v[u->n++], SNAPSHOT_ID_SIZE, "%s", bucket);
	return 0;
}

/* Those that have not answered the last time go last. */
static void order(struct evictor *e, const struct uuids *all, struct uuids *out)
{
	for (int silent = 0; silent < 2; silent++)
		for (size_t i = 0; i < all->n; i++) {
			size_t k = 0;

			while (k < e->n_silent && strcmp(e->silent[k], all->v[i]) != 0)
				k++;
			if ((k < e->n_silent) == silent)
				memcpy(out->v[out->n++], all->v[i], SNAPSHOT_ID_SIZE);
		}
	e->n_silent = 0;
}

static void add_answer(struct evictor *e, struct pins_held *h)
{
	pthread_mutex_lock(&e->lock);
	if (e->answers.n < REMOTES_MAX)
		e->answers.held[e->answers.n++] = *h;
	else
		pins_held_fini(h);
	pthread_mutex_unlock(&e->lock);
}

static void ask_bucket(struct evictor *e, const char *uuid)
{
	struct error err = ERROR_INIT;
	struct pins_held h;
	int rc;

	learn_all(e, uuid);
	rc = pins_confirm(e->opt.pins, uuid, &h, &err);
	if (rc == 0) {
		add_answer(e, &h);
	} else if (rc != -EROFS && rc != -ECANCELED) {
		memcpy(e->silent[e->n_silent++], uuid, SNAPSHOT_ID_SIZE);
		log_warn("nothing is evicted that is only in a bucket: %s", error_text(&err));
	}
}

void evictor_ask(struct evictor *e)
{
	struct uuids all = { .n = 0 }, ordered = { .n = 0 };
	int rc = remotes_each_seen(e->opt.remotes, note_bucket, &all);

	pthread_mutex_lock(&e->lock);
	evict_answers_fini(&e->answers);
	e->asking = true;
	e->answered = false;
	e->asked_ms = monotonic_ms();
	pthread_mutex_unlock(&e->lock);
	order(e, &all, &ordered);
	for (size_t i = 0; rc == 0 && i < ordered.n && !is_stopping(e); i++)
		ask_bucket(e, ordered.v[i]);
	pthread_mutex_lock(&e->lock);
	e->asking = false;
	e->answered = true;
	pthread_mutex_unlock(&e->lock);
}

bool evict_ask_is_done(struct evictor *e)
{
	bool done;

	pthread_mutex_lock(&e->lock);
	done = e->answered || (e->answers.n && monotonic_ms() - e->asked_ms >= ENOUGH_MS);
	if (!done && !e->asking) {
		e->wanted = true;
		pthread_cond_signal(&e->wake);
	}
	pthread_mutex_unlock(&e->lock);
	return done;
}

void evict_ask_take(struct evictor *e, struct evict_answers *out)
{
	pthread_mutex_lock(&e->lock);
	*out = e->answers;
	e->answers.n = 0;
	e->answered = false;
	pthread_mutex_unlock(&e->lock);
}

static void *asker(void *arg)
{
	struct evictor *e = arg;

	pthread_setname_np(pthread_self(), "varve-evict");
	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		if (!e->wanted) {
			pthread_cond_wait(&e->wake, &e->lock);
			continue;
		}
		e->wanted = false;
		pthread_mutex_unlock(&e->lock);
		evictor_ask(e);
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int evict_ask_start(struct evictor *e)
{
	int rc = -pthread_create(&e->thread, NULL, asker, e);

	e->started = rc == 0;
	return rc;
}

void evictor_stop(struct evictor *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	e->stopping = true;
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
	if (e->started)
		pthread_join(e->thread, NULL);
	e->started = false;
}
