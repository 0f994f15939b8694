/*
 * What there is to do is found by looking at all snapshots and image steps. That takes time in
 * proportion to their number, so the thread rests 50 times as long as the last look took, and at
 * least TICK_MS.
 *
 * Locks: `lock` guards what is said so, and is held for moments. `image_lock` is held while the
 * image of a build is pushed: only another build's waits for it. It is taken before `lock`.
 */
#include "snapshotd/state/sharer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/state/json_record.h"
#include "snapshotd/state/skipped.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define TICK_MS 1000
#define REST 50 /* times as long as the work before */
#define FIRST_ANSWER_MS 5000
#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS (5 * 60 * 1000u)
#define PROBE_TIMEOUT_MS 10000

enum slot { SLOT_QUEUE, SLOT_IMAGE };

struct sharer {
	struct sharer_options opt; /* opt.remote is owned */
	pthread_t thread;
	bool started, swept;
	pthread_mutex_t image_lock;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* of what lock guards */
	_Atomic bool stopping;	/* written under lock */
	/* guarded by lock: */
	bool answered; /* it is known whether the bucket is away */
	int64_t retry_ms;
	unsigned backoff_ms;
	bool refused; /* it answers, but took none of the last pushes; see accept_locked */
	struct sharer_stats stats;
	char now[2][SNAPSHOT_ID_SIZE]; /* by enum slot: what is being pushed, or "" */
	/* The thread's own: */
	struct skipped skipped;
};

const char *sharer_remote(const struct sharer *sh)
{
	return sh->opt.remote;
}

unsigned sharer_beat_ms(const struct sharer *sh)
{
	return sh->opt.beat_ms;
}

static bool is_stopping(void *arg)
{
	struct sharer *sh = arg;

	return atomic_load(&sh->stopping);
}

/* ---- whether the bucket is there ---- */

/*
 * What says something of the snapshot, not of the bucket. -ENOTSUP: it borrows of a bucket that is
 * not at hand, or is of a newer version. -EREMOTEIO: it cannot be read here, or in another bucket.
 */
static bool is_of_snapshot(int rc)
{
	return rc == -ENOENT || rc == -EINVAL || rc == -ENODATA || rc == -EBADMSG || rc == -EFBIG ||
	       rc == -EEXIST || rc == -EROFS || rc == -ECANCELED || rc == -ECHILD ||
	       rc == -ENOTSUP || rc == -EREMOTEIO;
}

/* What says that nothing can be pushed now, though the bucket answers; or the database fails. */
static bool is_refusal(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EACCES || rc == -EIO;
}

static void set_away(struct sharer *sh, const char *why)
{
	bool news;

	pthread_mutex_lock(&sh->lock);
	news = (!sh->stats.away || !sh->answered) && !sh->refused;
	sh->stats.away = sh->answered = true;
	snprintf(sh->stats.why, sizeof(sh->stats.why), "%s", why);
	sh->backoff_ms =
		news ? RETRY_MIN_MS : MIN(MAX(sh->backoff_ms * 2, RETRY_MIN_MS), RETRY_MAX_MS);
	sh->retry_ms = monotonic_ms() + sh->backoff_ms;
	pthread_cond_broadcast(&sh->changed);
	pthread_mutex_unlock(&sh->lock);
	if (news && !is_stopping(sh))
		log_warn("nothing is shared through remote %s for now: %s", sh->opt.remote, why);
}

/* It takes what is pushed: if that ends, the first wait is short, and told of. */
static void accept_locked(struct sharer *sh)
{
	sh->refused = false;
	sh->backoff_ms = 0;
}

static void set_there(struct sharer *sh)
{
	bool news;

	pthread_mutex_lock(&sh->lock);
	news = sh->stats.away && !sh->refused;
	sh->stats.away = false;
	sh->answered = true;
	if (!sh->refused)
		sh->backoff_ms = 0;
	pthread_cond_broadcast(&sh->changed);
	pthread_mutex_unlock(&sh->lock);
	if (news)
		log_info("remote %s answers again", sh->opt.remote);
}

void sharer_failed(struct sharer *sh, int rc, const struct error *err)
{
	if (rc < 0 && !is_of_snapshot(rc))
		set_away(sh, error_text(err));
}

int sharer_get(struct sharer *sh, struct remote **out, struct error *err)
{
	struct timespec until = monotonic_after_ms(FIRST_ANSWER_MS);
	char why[sizeof(sh->stats.why)] = "it has not answered yet";
	bool away;
	int rc;

	pthread_mutex_lock(&sh->lock);
	while (!sh->answered && !is_stopping(sh) &&
	       pthread_cond_timedwait(&sh->changed, &sh->lock, &until) == 0)
		;
	away = !sh->answered || sh->stats.away;
	if (sh->answered)
		memcpy(why, sh->stats.why, sizeof(why));
	pthread_mutex_unlock(&sh->lock);
	if (away)
		return error_set(err, -EAGAIN, "remote %s is away: %s", sh->opt.remote, why);
	rc = remotes_get(sh->opt.remotes, sh->opt.remote, out, err); /* it is open */
	if (rc < 0)
		set_away(sh, error_text(err));
	return rc < 0 ? -EAGAIN : 0;
}

/* A small request, to know that it answers. */
static int probe(struct remote *r, struct error *err)
{
	struct object_request q = { .op = OBJECT_LIST,
				    .priority = OBJECT_CONTROL,
				    .key = "format",
				    .max_keys = 1,
				    .timeout_ms = PROBE_TIMEOUT_MS };
	int rc;

	object_run(remote_objects(r), &q, 1);
	rc = q.result < 0 ? error_set(err, q.result, "%s", error_text(&q.err)) : 0;
	object_request_fini(&q);
	return rc;
}

/* ---- what is to be done ---- */

struct look {
	struct sharer *sh;
	const char *uuid;
	struct buf items;
	size_t waiting; /* those that are no items, as their time has not come */
	size_t failed;	/* of both */
};

static int add_item(struct look *l, const struct snapshot *s, const char *key)
{
	struct share_item it = { .created_at_ms = s->created_at_ms };

	memcpy(it.local, s->id, sizeof(it.local));
	snprintf(it.key, sizeof(it.key), "%s", key);
	l->failed += skipped_has(&l->sh->skipped, &it);
	if (skipped_waits(&l->sh->skipped, &it)) {
		l->waiting++;
		return 0;
	}
	return buf_append(&l->items, &it, sizeof(it));
}

static int look_at_snapshot(void *arg, const struct snapshot *s)
{
	struct look *l = arg;
	int rc = is_stopping(l->sh) ? -ECANCELED : publish_wants(l->sh->opt.store, l->uuid, s);

	return rc == 1 ? add_item(l, s, "") : rc;
}

static int look_at_step(void *arg, const char *key, const json_t *j)
{
	const char *local = json_record_text(j, "snapshot");
	struct look *l = arg;
	struct snapshot s;
	int rc = publish_wants_image(l->sh->opt.store, l->uuid, key, local);

	if (rc != 1 || snapshots_get(l->sh->opt.store->snapshots, local, &s, NULL) < 0)
		return MIN(rc, 0);
	rc = s.status == SNAPSHOT_READY ? add_item(l, &s, key) : 0;
	snapshot_fini(&s);
	return rc;
}

/* The oldest first: what comes later often shares with it. */
static int by_age(const void *a, const void *b)
{
	const struct share_item *x = a, *y = b;

	return x->created_at_ms < y->created_at_ms ? -1 : x->created_at_ms > y->created_at_ms;
}

static void set_queue(struct sharer *sh, size_t n, size_t failed)
{
	pthread_mutex_lock(&sh->lock);
	sh->stats.queue = n;
	sh->stats.skipped = failed;
	if (failed == 0)
		accept_locked(sh);
	pthread_mutex_unlock(&sh->lock);
}

static int find_work(struct look *l, struct error *err)
{
	struct store *s = l->sh->opt.store;
	int rc = 0;

	if (!l->sh->swept)
		rc = publish_sweep(s, l->uuid);
	l->sh->swept = rc >= 0;
	if (rc >= 0)
		rc = json_record_each(s->kv, META_IMAGE_STEP, look_at_step, l);
	if (rc >= 0)
		rc = snapshots_each(s->snapshots, look_at_snapshot, l, err);
	if (rc < 0)
		return error_set_errno(err, rc, "look for snapshots to share");
	skipped_sweep(&l->sh->skipped);
	set_queue(l->sh, l->items.len / sizeof(struct share_item) + l->waiting, l->failed);
	if (l->items.len)
		qsort(l->items.data, l->items.len / sizeof(struct share_item),
		      sizeof(struct share_item), by_age);
	return 0;
}

/* ---- doing it ---- */

static void note_push(struct sharer *sh, enum slot slot, int rc, const struct push_result *res)
{
	metrics_work(sh->opt.metrics, METRICS_PUSH, rc < 0);
	pthread_mutex_lock(&sh->lock);
	sh->now[slot][0] = '\0';
	sh->stats.bytes += res->bytes;
	sh->stats.published += rc >= 0;
	sh->stats.failed += rc < 0;
	if (rc >= 0)
		accept_locked(sh);
	pthread_cond_broadcast(&sh->changed);
	pthread_mutex_unlock(&sh->lock);
}

static int is_that(void *arg, const struct snapshot *s)
{
	return strcmp(s->id, arg) == 0;
}

/* Whether one is the other's ancestor, or they are the same: the second push has little to do. */
static bool are_related(struct sharer *sh, char *a, char *b)
{
	struct snapshots *all = sh->opt.store->snapshots;

	return strcmp(a, b) == 0 || snapshots_history_each(all, a, is_that, b, NULL) == 1 ||
	       snapshots_history_each(all, b, is_that, a, NULL) == 1;
}

/* False: the other slot pushes what shares most with it, *other. */
static bool begin_push(struct sharer *sh, enum slot slot, const char *local,
		       char other[SNAPSHOT_ID_SIZE])
{
	const char *now = sh->now[slot == SLOT_QUEUE ? SLOT_IMAGE : SLOT_QUEUE];
	char own[SNAPSHOT_ID_SIZE];
	bool may;

	snprintf(own, sizeof(own), "%s", local);
	other[0] = '\0';
	for (;;) {
		pthread_mutex_lock(&sh->lock);
		may = strcmp(now, other) == 0; /* there is none, or it was compared */
		memcpy(other, now, SNAPSHOT_ID_SIZE);
		if (may)
			memcpy(sh->now[slot], own, sizeof(own));
		pthread_mutex_unlock(&sh->lock);
		if (may || (other[0] && are_related(sh, own, other)))
			return may;
	}
}

/* ... or once it does not. */
static void begin_push_of_image(struct sharer *sh, const char *local)
{
	char other[SNAPSHOT_ID_SIZE];

	while (!begin_push(sh, SLOT_IMAGE, local, other)) {
		pthread_mutex_lock(&sh->lock);
		while (strcmp(sh->now[SLOT_QUEUE], other) == 0)
			pthread_cond_wait(&sh->changed, &sh->lock);
		pthread_mutex_unlock(&sh->lock);
	}
}

int sharer_publish_image(struct sharer *sh, const char *key, const char *local, bool replace,
			 struct share_record *out_won, struct error *err)
{
	struct progress p = { .cancelled = is_stopping, .arg = sh };
	const struct publish_image image = {
		.key = key, .local = local, .replace = replace, .progress = &p
	};
	struct push_result res = { 0 };
	struct remote *r;
	int rc = sharer_get(sh, &r, err);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&sh->image_lock);
	begin_push_of_image(sh, local);
	rc = publish_image(sh->opt.store, r, &image, &res, out_won, err);
	note_push(sh, SLOT_IMAGE, rc, &res);
	pthread_mutex_unlock(&sh->image_lock);
	remotes_release(sh->opt.remotes, r);
	sharer_failed(sh, rc, err);
	return rc;
}

static int publish_name(struct sharer *sh, struct remote *r, const char *local, struct progress *p,
			struct push_result *res, struct error *err)
{
	bool taken = false;
	int rc = publish_snapshot(sh->opt.store, r, local, p, res, &taken, err);

	if (taken)
		log_warn("snapshot %s is in remote %s without its name, which stands for another "
			 "host's there",
			 local, sh->opt.remote);
	return rc;
}

/* As publish_image. -EALREADY: the next look shows what is left to do. */
static int push_item(struct sharer *sh, struct remote *r, const struct share_item *it,
		     struct share_record *out_won, struct error *err)
{
	struct progress p = { .cancelled = is_stopping, .arg = sh };
	const struct publish_image image = { .key = it->key, .local = it->local, .progress = &p };
	struct push_result res = { 0 };
	char other[SNAPSHOT_ID_SIZE];
	int rc;

	if (!begin_push(sh, SLOT_QUEUE, it->local, other))
		return -EALREADY;
	rc = it->key[0] ? publish_image(sh->opt.store, r, &image, &res, out_won, err)
			: publish_name(sh, r, it->local, &p, &res, err);
	note_push(sh, SLOT_QUEUE, rc, &res);
	return rc;
}

static int use_winner(struct sharer *sh, struct remote *r, const struct share_item *it,
		      struct share_record *won, struct error *err)
{
	const struct lost_image lost = { it->key, it->local, won };
	int rc = 0;

	if (sh->opt.lost)
		rc = sh->opt.lost(sh->opt.store, sh->opt.remotes, r, &lost, err);
	share_record_fini(won);
	if (rc >= 0)
		log_info("another host's image of %.12s was first; it is used", it->key);
	return rc;
}

/* 0 also where this one alone cannot be pushed. */
static int publish_item(struct sharer *sh, struct remote *r, const struct share_item *it,
			struct error *err)
{
	struct share_record won;
	int rc = push_item(sh, r, it, &won, err);

	if (rc == 1)
		rc = use_winner(sh, r, it, &won, err);
	if (rc >= 0 || rc == -ENOENT) { /* deleted meanwhile */
		skipped_drop(&sh->skipped, it);
		return 0;
	}
	if (rc == -EALREADY)
		return 0;
	if (rc == -ECANCELED)
		return rc;
	if ((!is_of_snapshot(rc) || rc == -EREMOTEIO) && probe(r, NULL) < 0)
		return rc;
	if (skipped_add(&sh->skipped, it) < 0)
		return -ENOMEM;
	log_warn("snapshot %s is not shared for now: %s", it->local, error_text(err));
	if (!is_refusal(rc))
		return 0;
	/* The others rest, too, but come before this one then. */
	pthread_mutex_lock(&sh->lock);
	sh->refused = true;
	pthread_mutex_unlock(&sh->lock);
	return rc;
}

static int publish_all(struct sharer *sh, const struct look *l, struct error *err)
{
	const struct share_item *it = (const struct share_item *)l->items.data;
	size_t n = l->items.len / sizeof(*it), queue = n + l->waiting, failed = l->failed;
	struct remote *r;
	int rc = remotes_get(sh->opt.remotes, sh->opt.remote, &r, err);

	if (rc < 0)
		return rc;
	if (remote_writable(r, NULL) < 0) { /* images can be found there, that is all */
		n = 0;
		set_queue(sh, 0, 0);
	}
	for (size_t i = 0; i < n && rc == 0 && !is_stopping(sh); i++) {
		failed -= skipped_has(&sh->skipped, &it[i]);
		rc = publish_item(sh, r, &it[i], err);
		queue -= rc == 0 && !skipped_waits(&sh->skipped, &it[i]);
		failed += skipped_has(&sh->skipped, &it[i]);
		set_queue(sh, queue, failed);
	}
	remotes_release(sh->opt.remotes, r);
	return rc;
}

/* One look, and what that shows. No request if there is nothing to do. */
static int work(struct sharer *sh, int64_t *out_look_ms, struct error *err)
{
	char uuid[SNAPSHOT_ID_SIZE];
	struct look l = { .sh = sh, .uuid = uuid };
	int64_t from = monotonic_ms();
	int rc;

	remotes_bucket(sh->opt.remotes, sh->opt.remote, uuid);
	if (!uuid[0])
		return error_set(err, -ENOENT, "there is no remote of that name");
	rc = find_work(&l, err);
	*out_look_ms = monotonic_ms() - from;
	if (rc == 0 && l.items.len)
		rc = publish_all(sh, &l, err);
	buf_fini(&l.items);
	return rc;
}

/* ---- the thread ---- */

/* So long. False once it is to end. */
static bool rest(struct sharer *sh, int64_t ms)
{
	struct timespec until = monotonic_after_ms(ms);

	pthread_mutex_lock(&sh->lock);
	while (!is_stopping(sh) && pthread_cond_timedwait(&sh->changed, &sh->lock, &until) == 0)
		;
	pthread_mutex_unlock(&sh->lock);
	return !is_stopping(sh);
}

static bool is_there(struct sharer *sh)
{
	bool there;

	pthread_mutex_lock(&sh->lock);
	there = sh->answered && !sh->stats.away;
	pthread_mutex_unlock(&sh->lock);
	return there;
}

static bool may_try(struct sharer *sh)
{
	bool may;

	pthread_mutex_lock(&sh->lock);
	may = monotonic_ms() >= sh->retry_ms;
	pthread_mutex_unlock(&sh->lock);
	return may;
}

/* Whether it answers, as far as that is known. */
static bool find_remote(struct sharer *sh)
{
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc;

	if (is_there(sh))
		return true;
	if (!may_try(sh))
		return false;
	rc = remotes_get(sh->opt.remotes, sh->opt.remote, &r, &err);
	if (rc == 0) {
		rc = probe(r, &err);
		remotes_release(sh->opt.remotes, r);
	}
	if (rc == 0)
		set_there(sh);
	else if (rc != -ECANCELED) /* the daemon stops */
		set_away(sh, error_text(&err));
	return rc == 0;
}

static void *worker(void *arg)
{
	struct error err = ERROR_INIT;
	struct sharer *sh = arg;
	int64_t look_ms = 0;

	pthread_setname_np(pthread_self(), "varve-share");
	do {
		if (find_remote(sh) && work(sh, &look_ms, &err) < 0 && !is_stopping(sh))
			set_away(sh, error_text(&err));
	} while (rest(sh, MAX(look_ms * REST, (int64_t)TICK_MS)));
	return NULL;
}

int sharer_open(const struct sharer_options *opt, struct sharer **out, struct error *err)
{
	struct sharer *sh = calloc(1, sizeof(*sh));
	int rc;

	if (!sh)
		return error_set(err, -ENOMEM, "out of memory");
	sh->opt = *opt;
	sh->skipped.first_ms = opt->again_ms;
	pthread_mutex_init(&sh->lock, NULL);
	pthread_mutex_init(&sh->image_lock, NULL);
	cond_init_monotonic(&sh->changed);
	atomic_init(&sh->stopping, false);
	sh->opt.remote = strdup(opt->remote);
	rc = sh->opt.remote ? -pthread_create(&sh->thread, NULL, worker, sh) : -ENOMEM;
	if (rc < 0) {
		sharer_close(sh);
		return error_set_errno(err, rc, "cannot start the thread that shares snapshots");
	}
	sh->started = true;
	*out = sh;
	return 0;
}

void sharer_close(struct sharer *sh)
{
	if (!sh)
		return;
	pthread_mutex_lock(&sh->lock);
	atomic_store(&sh->stopping, true);
	pthread_cond_broadcast(&sh->changed);
	pthread_mutex_unlock(&sh->lock);
	if (sh->started)
		pthread_join(sh->thread, NULL);
	pthread_cond_destroy(&sh->changed);
	pthread_mutex_destroy(&sh->image_lock);
	pthread_mutex_destroy(&sh->lock);
	free((char *)sh->opt.remote);
	skipped_fini(&sh->skipped);
	free(sh);
}

void sharer_stats(struct sharer *sh, struct sharer_stats *out)
{
	pthread_mutex_lock(&sh->lock);
	*out = sh->stats;
	memcpy(out->now, sh->now[sh->now[SLOT_QUEUE][0] ? SLOT_QUEUE : SLOT_IMAGE],
	       sizeof(out->now));
	pthread_mutex_unlock(&sh->lock);
}
