/*
 * Snapshot records and names over the meta family.
 *
 * Writers hold ss->lock from their reads to their write, so a name is never
 * given twice. Readers take no lock: a name is read, then the record that it
 * names; if that is gone, the name is read again. Chunks and nodes, which must
 * be flushed before a record is written, are flushed before the lock is taken,
 * because that may take long: what the record refers to was written before the
 * call.
 */
#include "store/names/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/near.h"
#include "store/names/snapshot_internal.h"

_Static_assert(SNAPSHOT_NAME_MAX <= META_NAME_MAX, "a name is part of a key");

struct snapshots *snapshots_new(struct kv *kv)
{
	struct snapshots *ss = calloc(1, sizeof(*ss));
	if (!ss)
		return NULL;
	ss->kv = kv;
	pthread_mutex_init(&ss->lock, NULL);
	return ss;
}

void snapshots_free(struct snapshots *ss)
{
	if (!ss)
		return;
	pthread_mutex_destroy(&ss->lock);
	free(ss);
}

void snapshot_fini(struct snapshot *s)
{
	json_decref(s->config);
	s->config = NULL;
}

/* ---- reading ---- */

/* The record of an id. 0, -ENOENT, or a failure. */
static int load(struct snapshots *ss, const char *id, struct snapshot *out, struct error *err)
{
	struct kv_value v = { 0 };
	int rc = meta_get(ss->kv, META_SNAPSHOT, id, &v);
	if (rc == -ENOENT)
		return rc;
	if (rc == 0)
		rc = snapshot_decode(v.data, v.len, out);
	kv_value_release(&v);
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot read the record of snapshot %s", id);
}

/* The id that a name stands for. */
static int load_name(struct snapshots *ss, const char *name, char out_id[SNAPSHOT_ID_SIZE],
		     struct error *err)
{
	struct kv_value v = { 0 };
	int rc = meta_get(ss->kv, META_NAME, name, &v);
	if (rc == -ENOENT)
		return rc;
	if (rc == 0 && v.len != SNAPSHOT_ID_SIZE - 1)
		rc = -EBADMSG;
	if (rc == 0) {
		memcpy(out_id, v.data, v.len);
		out_id[v.len] = '\0';
	}
	kv_value_release(&v);
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot read snapshot name \"%s\"", name);
}

static int load_by_name(struct snapshots *ss, const char *name, struct snapshot *out,
			struct error *err)
{
	char id[SNAPSHOT_ID_SIZE], last[SNAPSHOT_ID_SIZE] = "";
	for (;;) {
		int rc = load_name(ss, name, id, err);
		if (rc != 0)
			return rc;
		rc = load(ss, id, out, err);
		/* The record went between the two reads: the name may stand for another one now. */
		if (rc != -ENOENT || strcmp(id, last) == 0)
			return rc;
		memcpy(last, id, sizeof(id));
	}
}

struct nearest {
	const char *to;
	size_t distance;
	char name[SNAPSHOT_NAME_MAX + 1]; /* "" if none is near */
};

static int compare_name(void *arg, const char *name, const void *value, size_t len)
{
	struct nearest *n = arg;

	(void)value;
	(void)len;
	if (strlen(name) >= sizeof(n->name))
		return 0;
	size_t distance = near_distance(n->to, name);
	if (distance < n->distance && distance <= near_limit(n->to, name)) {
		n->distance = distance;
		memcpy(n->name, name, strlen(name) + 1);
	}
	return 0;
}

static int not_found(struct snapshots *ss, const char *name, struct error *err)
{
	struct nearest nearest = { .to = name, .distance = SIZE_MAX };
	if (!err)
		return -ENOENT;
	if (snapshot_name_check(name, NULL) != 0)
		return error_set(err, -ENOENT, "no such snapshot, and no valid name of one");
	if (meta_each(ss->kv, META_NAME, "", compare_name, &nearest) == 0 && nearest.name[0])
		return error_set(err, -ENOENT, "no snapshot named \"%s\"; did you mean \"%s\"?",
				 name, nearest.name);
	return error_set(err, -ENOENT, "no snapshot named \"%s\"", name);
}

int snapshots_get(struct snapshots *ss, const char *name_or_id, struct snapshot *out,
		  struct error *err)
{
	if (snapshot_name_check(name_or_id, NULL) != 0)
		return not_found(ss, name_or_id, err);
	int rc = -ENOENT;
	if (strlen(name_or_id) == SNAPSHOT_ID_SIZE - 1)
		rc = load(ss, name_or_id, out, err);
	if (rc == -ENOENT)
		rc = load_by_name(ss, name_or_id, out, err);
	return rc == -ENOENT ? not_found(ss, name_or_id, err) : rc;
}

struct record_walk {
	snapshot_fn fn;
	void *arg;
	bool unfinished;  /* only these */
	struct error err; /* where a record is damaged */
};

static int call_for_record(void *arg, const char *id, const void *value, size_t len)
{
	struct record_walk *w = arg;
	struct snapshot s;

	if (w->unfinished && !snapshot_may_be_unfinished(value, len))
		return 0;
	int rc = snapshot_decode(value, len, &s);

	if (rc != 0)
		return error_set_errno(&w->err, rc, "the record \"%s%.*s\" is damaged",
				       meta_prefix(META_SNAPSHOT), SNAPSHOT_NAME_MAX, id);
	rc = w->fn(w->arg, &s);
	snapshot_fini(&s);
	return rc;
}

static int walk(struct snapshots *ss, struct record_walk *with, struct error *err)
{
	struct record_walk w = *with;
	int rc = meta_each(ss->kv, META_SNAPSHOT, "", call_for_record, &w);

	if (!rc)
		return 0;
	return w.err.msg[0] ? error_set(err, rc, "%s", error_text(&w.err))
			    : error_set_errno(err, rc, "cannot list snapshots");
}

int snapshots_each_record(struct snapshots *ss, snapshot_fn fn, void *arg, struct error *err)
{
	return walk(ss, &(struct record_walk){ .fn = fn, .arg = arg }, err);
}

struct unfinished {
	snapshot_fn fn;
	void *arg;
};

static int call_if_unfinished(void *arg, const struct snapshot *s)
{
	const struct unfinished *u = arg;

	return s->status == SNAPSHOT_BUILDING || s->takes[0] ? u->fn(u->arg, s) : 0;
}

int snapshots_each_unfinished(struct snapshots *ss, snapshot_fn fn, void *arg, struct error *err)
{
	struct unfinished u = { fn, arg };

	return walk(
		ss,
		&(struct record_walk){ .fn = call_if_unfinished, .arg = &u, .unfinished = true },
		err);
}

int snapshot_append(void *list, const struct snapshot *s)
{
	int rc = buf_append(list, s, sizeof(*s));

	if (rc == 0)
		json_incref(s->config);
	return rc;
}

void snapshots_list_free(struct snapshot *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snapshot_fini(&list[i]);
	free(list);
}

static void list_drop(struct buf *list)
{
	snapshots_list_free((struct snapshot *)list->data, list->len / sizeof(struct snapshot));
	*list = (struct buf)BUF_INIT;
}

static int by_age(const void *a, const void *b)
{
	const struct snapshot *x = a, *y = b;
	if (x->created_at_ms != y->created_at_ms)
		return x->created_at_ms < y->created_at_ms ? 1 : -1;
	return strcmp(x->id, y->id);
}

int snapshots_list(struct snapshots *ss, struct snapshot **out, size_t *out_n, struct error *err)
{
	struct buf list = BUF_INIT;
	int rc = snapshots_each_record(ss, snapshot_append, &list, err);
	if (rc != 0) {
		list_drop(&list);
		return rc;
	}
	*out = (struct snapshot *)list.data;
	*out_n = list.len / sizeof(struct snapshot);
	if (*out_n)
		qsort(*out, *out_n, sizeof(**out), by_age);
	return 0;
}

/* ---- writing; every function below holds the lock ---- */

static int batch_put_record(struct snapshots *ss, struct kv_batch *b, const struct snapshot *s)
{
	char *text = NULL;
	size_t len = 0;
	int rc = snapshot_encode(s, &text, &len);
	if (rc != 0)
		return rc;
	rc = meta_batch_put(ss->kv, b, META_SNAPSHOT, s->id, text, len);
	free(text);
	return rc;
}

static void batch_put_name(struct snapshots *ss, struct kv_batch *b, const char *name,
			   const char *id)
{
	struct meta_key k = meta_key(META_NAME, name);
	kv_batch_put(ss->kv, b, KV_META, k.text, k.len, id, strlen(id));
}

static void batch_del(struct snapshots *ss, struct kv_batch *b, enum meta_kind kind,
		      const char *text)
{
	struct meta_key k = meta_key(kind, text);
	kv_batch_del(ss->kv, b, KV_META, k.text, k.len);
}

/* 0 if the name is free or already that of `id`, else -EEXIST. */
static int name_claim(struct snapshots *ss, const char *name, const char *id, struct error *err)
{
	char holder[SNAPSHOT_ID_SIZE];
	int rc = snapshot_name_check(name, err);
	if (rc != 0)
		return rc;
	rc = load_name(ss, name, holder, err);
	if (rc == 0 && strcmp(holder, id) == 0)
		return 0;
	if (rc == 0)
		return error_set(err, -EEXIST, "a snapshot named \"%s\" exists already", name);
	if (rc != -ENOENT)
		return rc;
	rc = meta_has(ss->kv, META_SNAPSHOT, name);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot look up \"%s\"", name);
	return rc == 0 ? 0 : error_set(err, -EEXIST, "\"%s\" is the id of a snapshot", name);
}

/* Write s over `old` (may be NULL) with what `also` (may be NULL) holds. */
static int store_locked(struct snapshots *ss, const struct snapshot *s, const struct snapshot *old,
			struct kv_batch *also, enum kv_durability d, struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *own = also ? NULL : kv_batch_new();
	struct kv_batch *b = also ? also : own;
	if (!b)
		return error_set_errno(err, -ENOMEM, "cannot write snapshot %s", s->id);
	int rc = s->name[0] ? name_claim(ss, s->name, s->id, err) : 0;
	if (rc != 0)
		return rc;
	rc = batch_put_record(ss, b, s);
	if (rc == 0) {
		if (old && old->name[0] && strcmp(old->name, s->name) != 0)
			batch_del(ss, b, META_NAME, old->name);
		if (s->name[0])
			batch_put_name(ss, b, s->name, s->id);
		rc = kv_write(ss->kv, b, d);
	}
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot write snapshot %s", s->id);
}

static int put_locked(struct snapshots *ss, const struct snapshot *s, struct kv_batch *also,
		      struct error *err)
{
	struct snapshot old = { 0 };
	int rc = load(ss, s->id, &old, err);
	if (rc != 0 && rc != -ENOENT)
		return rc;
	rc = store_locked(ss, s, rc == 0 ? &old : NULL, also, KV_SYNC, err);
	snapshot_fini(&old);
	return rc;
}

int snapshots_put(struct snapshots *ss, struct snapshot *s, struct kv_batch *also,
		  struct error *err)
{
	int rc = s->has_root ? kv_flush_content(ss->kv) : 0;
	if (rc != 0)
		return error_set_errno(err, rc, "cannot flush the chunks of snapshot %s", s->name);
	if (!s->id[0])
		id_random(s->id);
	if (!s->created_at_ms)
		s->created_at_ms = clock_ms();
	if (!s->last_used_at_ms)
		s->last_used_at_ms = s->created_at_ms;
	pthread_mutex_lock(&ss->lock);
	rc = put_locked(ss, s, also, err);
	pthread_mutex_unlock(&ss->lock);
	return rc;
}

static int update_locked(struct snapshots *ss, const char *id, snapshot_change_fn fn, void *arg,
			 struct kv_batch *also, enum kv_durability d, struct snapshot *out,
			 struct error *err)
{
	struct snapshot s;
	int rc = -ENOENT;
	if (snapshot_name_check(id, NULL) == 0)
		rc = load(ss, id, &s, err);
	if (rc == -ENOENT)
		return error_set(err, rc, "there is no snapshot %s any more", id);
	if (rc != 0)
		return rc;
	char old_name[SNAPSHOT_NAME_MAX + 1];
	memcpy(old_name, s.name, sizeof(old_name));
	fn(arg, &s);
	struct snapshot old = { 0 };
	memcpy(old.name, old_name, sizeof(old_name));
	rc = store_locked(ss, &s, &old, also, d, err);
	if (rc == 0 && out)
		*out = s;
	else
		snapshot_fini(&s);
	return rc;
}

int snapshots_update(struct snapshots *ss, const char *id, snapshot_change_fn fn, void *arg,
		     struct kv_batch *also, struct snapshot *out, struct error *err)
{
	int rc = kv_flush_content(ss->kv);
	if (rc != 0)
		return error_set_errno(err, rc, "cannot flush the chunks of snapshot %s", id);
	pthread_mutex_lock(&ss->lock);
	rc = update_locked(ss, id, fn, arg, also, KV_SYNC, out, err);
	pthread_mutex_unlock(&ss->lock);
	return rc;
}

/* Change the record that name_or_id stands for; no new root. */
static int change(struct snapshots *ss, const char *name_or_id, snapshot_change_fn fn, void *arg,
		  enum kv_durability d, struct error *err)
{
	struct snapshot s;
	pthread_mutex_lock(&ss->lock);
	int rc = snapshots_get(ss, name_or_id, &s, err);
	if (rc == 0) {
		snapshot_fini(&s);
		rc = update_locked(ss, s.id, fn, arg, NULL, d, NULL, err);
	}
	pthread_mutex_unlock(&ss->lock);
	return rc;
}

static void change_name(void *arg, struct snapshot *s)
{
	snprintf(s->name, sizeof(s->name), "%s", (const char *)arg);
}

int snapshots_rename(struct snapshots *ss, const char *name_or_id, const char *new_name,
		     struct error *err)
{
	int rc = snapshot_name_check(new_name, err);
	if (rc != 0)
		return rc;
	return change(ss, name_or_id, change_name, (void *)new_name, KV_SYNC, err);
}

static void change_pin(void *arg, struct snapshot *s)
{
	const struct snapshot *want = arg;
	s->pinned = want->pinned;
	s->ttl_seconds = want->ttl_seconds;
}

int snapshots_pin(struct snapshots *ss, const char *name_or_id, bool pinned, int64_t ttl_seconds,
		  struct error *err)
{
	if (ttl_seconds < 0)
		return error_set(err, -EINVAL, "a time to live must not be negative");
	struct snapshot want = { .pinned = pinned, .ttl_seconds = ttl_seconds };
	return change(ss, name_or_id, change_pin, &want, KV_SYNC, err);
}

static void change_last_used(void *arg, struct snapshot *s)
{
	(void)arg;
	s->last_used_at_ms = MAX(s->last_used_at_ms, clock_ms());
}

int snapshots_touch(struct snapshots *ss, const char *id)
{
	return change(ss, id, change_last_used, NULL, KV_LOG, NULL);
}

static int delete_locked(struct snapshots *ss, const struct snapshot *s, struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	if (!b)
		return error_set_errno(err, -ENOMEM, "cannot delete snapshot %s", s->id);
	batch_del(ss, b, META_SNAPSHOT, s->id);
	if (s->name[0])
		batch_del(ss, b, META_NAME, s->name);
	int rc = kv_write(ss->kv, b, KV_SYNC);
	if (rc == 0) /* relaxed: an estimate */
		atomic_fetch_add_explicit(&ss->deleted_bytes, MAX(s->new_bytes, 1u),
					  memory_order_relaxed);
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot delete snapshot %s", s->id);
}

uint64_t snapshots_deleted_bytes(struct snapshots *ss)
{
	return atomic_load_explicit(&ss->deleted_bytes, memory_order_relaxed);
}

void snapshots_note_garbage(struct snapshots *ss, uint64_t bytes)
{
	atomic_fetch_add_explicit(&ss->deleted_bytes, bytes, memory_order_relaxed);
}

int snapshots_delete(struct snapshots *ss, const char *name_or_id, struct error *err)
{
	struct snapshot s;
	pthread_mutex_lock(&ss->lock);
	int rc = snapshots_get(ss, name_or_id, &s, err);
	if (rc == 0) {
		if (s.pinned)
			rc = error_set(err, -EBUSY, "snapshot \"%s\" is pinned",
				       s.name[0] ? s.name : s.id);
		else
			rc = delete_locked(ss, &s, err);
		snapshot_fini(&s);
	}
	pthread_mutex_unlock(&ss->lock);
	return rc;
}

static int replace_locked(struct snapshots *ss, struct snapshot *s, const struct snapshot *old,
			  struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	if (!b)
		return error_set_errno(err, -ENOMEM, "cannot replace snapshot \"%s\"", old->name);
	if (old->pinned || old->status == SNAPSHOT_BUILDING)
		return error_set(err, -EBUSY, "snapshot \"%s\" is %s", old->name,
				 old->pinned ? "pinned" : "still being built");
	batch_del(ss, b, META_SNAPSHOT, old->id);
	if (s->name[0])
		batch_del(ss, b, META_NAME, s->name);
	memcpy(s->name, old->name, sizeof(s->name));
	int rc = batch_put_record(ss, b, s);
	if (rc == 0) {
		batch_put_name(ss, b, s->name, s->id);
		rc = kv_write(ss->kv, b, KV_SYNC);
	}
	if (rc == 0)
		atomic_fetch_add_explicit(&ss->deleted_bytes, MAX(old->new_bytes, 1u),
					  memory_order_relaxed);
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot replace snapshot \"%s\"", old->name);
}

int snapshots_replace(struct snapshots *ss, const char *name_or_id, const char *name,
		      struct error *err)
{
	struct snapshot s = { 0 }, old = { 0 };
	int rc = snapshot_name_check(name, err);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&ss->lock);
	rc = snapshots_get(ss, name_or_id, &s, err);
	int found = rc == 0 ? load_by_name(ss, name, &old, err) : rc;
	if (rc == 0 && found == 0 && strcmp(s.id, old.id) != 0)
		rc = replace_locked(ss, &s, &old, err);
	else if (rc == 0 && found == -ENOENT)
		rc = update_locked(ss, s.id, change_name, (void *)name, NULL, KV_SYNC, NULL, err);
	else if (rc == 0)
		rc = found;
	pthread_mutex_unlock(&ss->lock);
	snapshot_fini(&old);
	snapshot_fini(&s);
	return rc;
}

/* Both have their records in one batch. */
static int move_name_locked(struct snapshots *ss, struct snapshot *to, struct snapshot *from,
			    struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? 0 : -ENOMEM;

	if (rc == 0 && to->name[0])
		batch_del(ss, b, META_NAME, to->name);
	memcpy(to->name, from->name, sizeof(to->name));
	from->name[0] = '\0';
	if (rc == 0)
		rc = batch_put_record(ss, b, to);
	if (rc == 0)
		rc = batch_put_record(ss, b, from);
	if (rc == 0) {
		batch_put_name(ss, b, to->name, to->id);
		rc = kv_write(ss->kv, b, KV_SYNC);
	}
	return rc == 0 ? 0 : error_set_errno(err, rc, "cannot move the name \"%s\"", to->name);
}

int snapshots_move_name(struct snapshots *ss, const char *id, const char *from, const char *name,
			struct error *err)
{
	struct snapshot s = { 0 }, old = { 0 };
	int rc;

	pthread_mutex_lock(&ss->lock);
	rc = snapshots_get(ss, id, &s, err);
	if (rc == 0)
		rc = snapshots_get(ss, from, &old, err);
	if (rc == 0 && (strcmp(s.id, old.id) == 0 || strcmp(old.name, name) != 0))
		rc = error_set(err, -EEXIST, "snapshot %s does not have the name \"%s\" to give",
			       from, name);
	if (rc == 0)
		rc = move_name_locked(ss, &s, &old, err);
	pthread_mutex_unlock(&ss->lock);
	snapshot_fini(&old);
	snapshot_fini(&s);
	return rc;
}

bool snapshot_is_expired(const struct snapshot *s, int64_t now_ms)
{
	if (s->pinned || s->ttl_seconds <= 0 || s->status == SNAPSHOT_BUILDING)
		return false;
	/* Divide, because a ttl may have any size. */
	return now_ms > s->last_used_at_ms &&
	       (now_ms - s->last_used_at_ms) / 1000 >= s->ttl_seconds;
}

int snapshots_expire(struct snapshots *ss, int64_t now_ms, uint64_t *out_count, struct error *err)
{
	struct snapshot *list = NULL;
	size_t n = 0;
	uint64_t count = 0;
	pthread_mutex_lock(&ss->lock);
	int rc = snapshots_list(ss, &list, &n, err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (!snapshot_is_expired(&list[i], now_ms))
			continue;
		rc = delete_locked(ss, &list[i], err);
		count += rc == 0;
	}
	pthread_mutex_unlock(&ss->lock);
	snapshots_list_free(list, n);
	if (rc == 0)
		*out_count = count;
	return rc;
}
