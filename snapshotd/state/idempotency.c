#include "snapshotd/state/idempotency.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "snapshotd/state/json_record.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/kv/meta_version.h"

#define VERSION 1
#define LOOK_MS 200 /* between two looks at `cancelled` */

enum state {
	RUNNING,
	BROKEN, /* begun, and who did it has died, or the result is not kept */
	DONE,
};

struct entry {
	TAILQ_ENTRY(entry) link;
	char name[DIGEST_HEX_SIZE];
	char id[SNAPSHOT_ID_SIZE];
	struct digest print;
	int64_t begun_ms; /* Unix time */
	int64_t since_ms; /* the same, CLOCK_MONOTONIC: what its age is taken from */
	enum state state;
	bool effect;
	bool unwritten; /* the disk is full: it has no record */
	int status;	/* of DONE */
	size_t bytes;	/* of its result */
};
TAILQ_HEAD(entry_list, entry);

struct idempotency {
	struct kv *kv;
	pthread_mutex_t lock;
	pthread_cond_t ended; /* one is no longer RUNNING */
	/* Guarded by lock. */
	struct entry_list list; /* the oldest first */
	size_t n, bytes;
	bool told_full;
	int64_t wall_ms, monotonic_ms; /* of tests */
};

static int64_t wall_now(const struct idempotency *i)
{
	return i->wall_ms ? i->wall_ms : clock_ms();
}

static int64_t now(const struct idempotency *i)
{
	return i->monotonic_ms ? i->monotonic_ms : monotonic_ms();
}

/* ---- records ---- */

static int record_put(struct idempotency *i, const struct entry *e, const char *result)
{
	char print[DIGEST_HEX_SIZE];
	json_t *j;
	int rc;

	digest_to_hex(&e->print, print);
	j = json_pack("{s:i, s:s, s:s, s:I}", "version", VERSION, "request", print, "id", e->id,
		      "begunAt", (json_int_t)e->begun_ms);
	if (j && e->effect && json_object_set_new(j, "effect", json_true()) < 0) {
		json_decref(j);
		j = NULL;
	}
	if (j && result &&
	    (json_object_set_new(j, "status", json_integer(e->status)) < 0 ||
	     json_object_set_new(j, "result", json_string(result)) < 0)) {
		json_decref(j);
		j = NULL;
	}
	rc = j ? json_record_put(i->kv, META_IDEMPOTENCY, e->name, j, KV_LOG) : -ENOMEM;
	json_decref(j);
	return rc;
}

/* Of one that begins, or has an effect. Where the disk is full it goes on without a record. */
static int note_locked(struct idempotency *i, struct entry *e)
{
	int rc = record_put(i, e, NULL);

	if (rc == 0)
		e->unwritten = false;
	if (rc != -ENOSPC)
		return rc;
	if (!i->told_full)
		log_warn("the disk is full: calls are not recorded, and may be done twice where "
			 "snapshotd is killed");
	i->told_full = true;
	e->unwritten = true;
	return 0;
}

static void drop_locked(struct idempotency *i, struct entry *e)
{
	if (!e->unwritten && meta_del(i->kv, META_IDEMPOTENCY, e->name, KV_LOG) < 0)
		log_warn("the record of a call that has ended cannot be deleted");
	TAILQ_REMOVE(&i->list, e, link);
	i->n--;
	i->bytes -= e->bytes;
	free(e);
}

/* The oldest go that are too old or too many; not those under way. room: for more of them. */
static void trim_locked(struct idempotency *i, size_t room)
{
	int64_t before = now(i) - (int64_t)IDEMPOTENCY_KEEP_S * 1000;
	struct entry *e, *next;

	for (e = TAILQ_FIRST(&i->list); e; e = next) {
		next = TAILQ_NEXT(e, link);
		if (e->since_ms >= before && i->n + room <= IDEMPOTENCY_COUNT &&
		    i->bytes <= IDEMPOTENCY_BYTES)
			return;
		if (e->state != RUNNING)
			drop_locked(i, e);
	}
}

static void add_locked(struct idempotency *i, struct entry *e)
{
	struct entry *before;

	TAILQ_FOREACH_REVERSE(before, &i->list, entry_list, link)
	if (before->since_ms <= e->since_ms)
		break;
	if (before)
		TAILQ_INSERT_AFTER(&i->list, before, e, link);
	else
		TAILQ_INSERT_HEAD(&i->list, e, link);
	i->n++;
	i->bytes += e->bytes;
}

static int record_parse(const char *name, const json_t *j, struct entry *e)
{
	const char *id = json_record_text(j, "id"), *result = json_record_text(j, "result");

	*e = (struct entry){ .begun_ms = json_record_int(j, "begunAt"),
			     .status = (int)json_record_int(j, "status"),
			     .bytes = strlen(result) };
	e->state = e->status ? DONE : BROKEN;
	e->effect = json_is_true(json_object_get(j, "effect"));
	if (json_record_int(j, "version") != VERSION || strlen(name) >= sizeof(e->name) ||
	    strlen(id) >= sizeof(e->id))
		return -EBADMSG;
	strcpy(e->name, name);
	strcpy(e->id, id);
	return digest_from_hex(json_record_text(j, "request"), &e->print);
}

static int load_one(void *arg, const char *name, const json_t *j)
{
	struct idempotency *i = arg;
	struct entry *e;

	if (json_record_int(j, "version") > VERSION)
		return -EPROTO; /* see idempotency_check */
	e = malloc(sizeof(*e));
	if (!e)
		return -ENOMEM;
	if (record_parse(name, j, e) < 0) {
		log_warn("the record of a call is damaged: left out");
		free(e);
		return meta_del(i->kv, META_IDEMPOTENCY, name, KV_LOG);
	}
	/* One from the future is of a clock that was set back: as if it had begun now. */
	e->since_ms = now(i) - MAX(wall_now(i) - e->begun_ms, 0);
	add_locked(i, e);
	return 0;
}

int idempotency_check(struct kv *kv, struct error *err)
{
	return meta_check_versions(kv, META_IDEMPOTENCY, VERSION, err);
}

int idempotency_open(struct kv *kv, struct idempotency **out, struct error *err)
{
	struct idempotency *i = calloc(1, sizeof(*i));
	int rc;

	if (!i)
		return error_set(err, -ENOMEM, "out of memory");
	i->kv = kv;
	pthread_mutex_init(&i->lock, NULL);
	cond_init_monotonic(&i->ended);
	TAILQ_INIT(&i->list);
	rc = json_record_each(kv, META_IDEMPOTENCY, load_one, i);
	if (rc < 0) {
		idempotency_close(i);
		return error_set_errno(err, rc, "cannot read the records of calls");
	}
	trim_locked(i, 0);
	*out = i;
	return 0;
}

void idempotency_close(struct idempotency *i)
{
	struct entry *e;

	if (!i)
		return;
	while ((e = TAILQ_FIRST(&i->list))) {
		TAILQ_REMOVE(&i->list, e, link);
		free(e);
	}
	pthread_cond_destroy(&i->ended);
	pthread_mutex_destroy(&i->lock);
	free(i);
}

/* ---- calls ---- */

static struct entry *find_locked(struct idempotency *i, const char *name)
{
	struct entry *e;

	TAILQ_FOREACH(e, &i->list, link)
	if (strcmp(e->name, name) == 0)
		return e;
	return NULL;
}

static struct entry *wait_locked(struct idempotency *i, const char *name,
				 const struct idempotency_wait *wait, int *rc)
{
	int64_t end = monotonic_ms() + wait->max_ms;
	struct entry *e;

	*rc = 0;
	while ((e = find_locked(i, name)) && e->state == RUNNING) {
		struct timespec until = monotonic_after_ms(LOOK_MS);
		bool gone;

		if (monotonic_ms() >= end) {
			*rc = -EBUSY;
			return e;
		}
		pthread_cond_timedwait(&i->ended, &i->lock, &until);
		pthread_mutex_unlock(&i->lock);
		gone = wait->cancelled && wait->cancelled(wait->arg);
		pthread_mutex_lock(&i->lock);
		if (gone) {
			*rc = -ECANCELED;
			return NULL;
		}
	}
	return e;
}

static int new_locked(struct idempotency *i, const char *name, const struct digest *print,
		      struct entry **out)
{
	struct entry *e;
	int rc;

	trim_locked(i, 1);
	if (i->n >= IDEMPOTENCY_COUNT)
		return -EAGAIN;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	strcpy(e->name, name);
	id_random(e->id);
	e->print = *print;
	e->begun_ms = wall_now(i);
	e->since_ms = now(i);
	rc = note_locked(i, e);
	if (rc < 0) {
		free(e);
		return rc;
	}
	add_locked(i, e);
	*out = e;
	return 0;
}

static int result_get(struct idempotency *i, const struct entry *e, struct idempotent *out)
{
	json_t *j;
	int rc = json_record_get(i->kv, META_IDEMPOTENCY, e->name, &j);

	if (rc < 0)
		return rc;
	out->result = strdup(json_record_text(j, "result"));
	out->status = e->status;
	json_decref(j);
	return out->result ? 0 : -ENOMEM;
}

static int begin_locked(struct idempotency *i, struct entry *e, const struct digest *print,
			struct idempotent *out)
{
	bool is_new = !e;
	int rc = is_new ? new_locked(i, out->name, print, &e) : 0;

	if (rc < 0)
		return rc;
	memcpy(out->id, e->id, sizeof(out->id));
	out->begun_ms = e->begun_ms;
	if (!is_new && e->state == DONE)
		return result_get(i, e, out);
	out->again = !is_new;
	out->effect = e->effect;
	e->state = RUNNING;
	return 0;
}

static int tell(int rc, struct error *err)
{
	switch (rc) {
	case -EEXIST:
		return error_set(err, rc, "this Idempotency-Key has been used for another request");
	case -EBUSY:
		return error_set(err, rc, "the request of this Idempotency-Key is still under way");
	case -ECANCELED:
		return error_set(err, rc, "cancelled");
	case -EAGAIN:
		return error_set(err, rc, "too many requests are under way: try again later");
	default:
		return error_set_errno(err, rc, "the record of the request");
	}
}

int idempotency_begin(struct idempotency *i, const char *key, const struct digest *print,
		      const struct idempotency_wait *wait, struct idempotent *out,
		      struct error *err)
{
	static const struct idempotency_wait at_once;
	struct idempotent c = { .status = 0 };
	struct digest name;
	struct entry *e;
	int rc = hash_bytes(key, strlen(key), &name);

	if (rc < 0)
		return error_set(err, rc, "out of memory");
	digest_to_hex(&name, c.name);
	pthread_mutex_lock(&i->lock);
	e = find_locked(i, c.name);
	if (e && digest_equal(&e->print, print))
		e = wait_locked(i, c.name, wait ? wait : &at_once, &rc);
	/* Also after the wait: what it waited for may have failed, and another have the key. */
	if (rc == 0 && e && !digest_equal(&e->print, print))
		rc = -EEXIST;
	if (rc == 0)
		rc = begin_locked(i, e, print, &c);
	pthread_mutex_unlock(&i->lock);
	if (rc < 0)
		return tell(rc, err);
	*out = c;
	return 0;
}

int idempotency_effect(struct idempotency *i, struct idempotent *c, struct error *err)
{
	struct entry *e;
	int rc = 0;

	if (!c->name[0] || c->status)
		return 0;
	pthread_mutex_lock(&i->lock);
	e = find_locked(i, c->name);
	if (!e->effect) {
		e->effect = true;
		rc = note_locked(i, e);
	}
	pthread_mutex_unlock(&i->lock);
	return rc < 0 ? tell(rc, err) : 0;
}

void idempotency_done(struct idempotency *i, struct idempotent *c, int status, const char *result)
{
	size_t len = strlen(result);
	struct entry *e;

	if (!c->name[0] || c->status)
		return;
	pthread_mutex_lock(&i->lock);
	e = find_locked(i, c->name);
	c->name[0] = '\0';
	e->state = BROKEN;
	e->status = status;
	if (len <= IDEMPOTENCY_RESULT_MAX && record_put(i, e, result) == 0) {
		e->state = DONE;
		e->unwritten = false;
		e->bytes = len;
		i->bytes += len;
	}
	trim_locked(i, 0);
	pthread_cond_broadcast(&i->ended);
	pthread_mutex_unlock(&i->lock);
}

void idempotency_leave(struct idempotency *i, struct idempotent *c)
{
	if (!c->name[0] || c->status)
		return;
	pthread_mutex_lock(&i->lock);
	find_locked(i, c->name)->state = BROKEN;
	c->name[0] = '\0';
	pthread_cond_broadcast(&i->ended);
	pthread_mutex_unlock(&i->lock);
}

void idempotency_forget(struct idempotency *i, struct idempotent *c)
{
	if (!c->name[0] || c->status)
		return;
	pthread_mutex_lock(&i->lock);
	drop_locked(i, find_locked(i, c->name));
	c->name[0] = '\0';
	pthread_cond_broadcast(&i->ended);
	pthread_mutex_unlock(&i->lock);
}

void idempotent_fini(struct idempotent *c)
{
	free(c->result);
	c->result = NULL;
}

size_t idempotency_count(struct idempotency *i)
{
	size_t n;

	pthread_mutex_lock(&i->lock);
	n = i->n;
	pthread_mutex_unlock(&i->lock);
	return n;
}

void idempotency_set_now(struct idempotency *i, int64_t wall_ms, int64_t monotonic_ms)
{
	pthread_mutex_lock(&i->lock);
	i->wall_ms = wall_ms;
	i->monotonic_ms = monotonic_ms;
	pthread_mutex_unlock(&i->lock);
}
