/*
 * The records of remotes. What they say of buckets is also in memory, for lists of snapshots and
 * for metrics.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/kv/meta.h"
#include "store/remote/remotes_internal.h"

/* ---- what is in memory of the records ---- */

struct seen *remotes_find_seen(struct remotes *rs, const char *name)
{
	for (size_t i = 0; i < rs->n_seen; i++)
		if (strcmp(rs->seen[i].name, name) == 0)
			return &rs->seen[i];
	return NULL;
}

/* -EBUSY: there is no room. */
static int note_seen(struct remotes *rs, const char *name, const char *bucket)
{
	struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, name);
	if (!s && rs->n_seen < REMOTES_MAX) {
		s = &rs->seen[rs->n_seen++];
		*s = (struct seen){ 0 };
		snprintf(s->name, sizeof(s->name), "%s", name);
	}
	if (s)
		snprintf(s->bucket, sizeof(s->bucket), "%s", bucket);
	pthread_mutex_unlock(&rs->lock);
	return s ? 0 : -EBUSY;
}

void remotes_forget_seen(struct remotes *rs, const char *name)
{
	struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, name);
	if (s)
		*s = rs->seen[--rs->n_seen];
	pthread_mutex_unlock(&rs->lock);
}

void remotes_bucket(struct remotes *rs, const char *name, char out[SNAPSHOT_ID_SIZE])
{
	const struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, name);
	snprintf(out, SNAPSHOT_ID_SIZE, "%s", s ? s->bucket : "");
	pthread_mutex_unlock(&rs->lock);
}

void remotes_add_counts(struct object_counts *to, const struct object_counts *c)
{
	for (int i = 0; i < OBJECT_OPS; i++)
		to->requests[i] += c->requests[i];
	to->bytes_in += c->bytes_in;
	to->bytes_out += c->bytes_out;
	to->failed += c->failed;
	to->retried += c->retried;
	to->throttled += c->throttled;
}

void remotes_keep_counts_locked(struct remotes *rs, const char *name, struct object_store *os)
{
	struct seen *s = remotes_find_seen(rs, name);
	struct object_counts c;

	if (!s)
		return;
	object_store_counts(os, &c);
	remotes_add_counts(&s->past, &c);
}

int remotes_each_seen(struct remotes *rs, remotes_seen_fn fn, void *arg)
{
	int rc = 0;

	pthread_mutex_lock(&rs->lock);
	for (size_t i = 0; i < rs->n_seen && rc == 0; i++) {
		struct object_counts sum = rs->seen[i].past, now;
		struct open_remote *o;

		LIST_FOREACH(o, &rs->list, link)
		{
			if (o->os && strcmp(o->name, rs->seen[i].name) == 0) {
				object_store_counts(o->r ? remote_objects(o->r) : o->os, &now);
				remotes_add_counts(&sum, &now);
			}
			/* What others borrow of it goes through connections of their own. */
			if (o->other && strcmp(o->lender, rs->seen[i].name) == 0) {
				object_store_counts(o->other, &now);
				remotes_add_counts(&sum, &now);
			}
		}
		rc = fn(arg, rs->seen[i].name, rs->seen[i].bucket, &sum);
	}
	pthread_mutex_unlock(&rs->lock);
	return rc;
}

/* ---- records ---- */

/* bucket may be NULL. */
static int parse(const void *text, size_t len, struct remote_config *out,
		 char bucket[SNAPSHOT_ID_SIZE], struct error *err)
{
	json_error_t why;
	json_t *j = json_loadb(text, len, 0, &why);
	const char *uuid = json_string_value(json_object_get(j, "uuid"));
	int rc = 0;

	if (bucket)
		snprintf(bucket, SNAPSHOT_ID_SIZE, "%s", uuid ? uuid : "");
	if (!j || json_integer_value(json_object_get(j, "version")) != REMOTE_RECORD_VERSION)
		rc = error_set(err, -EBADMSG, "a remote's record is damaged or newer than this");
	if (rc == 0) {
		json_object_del(j, "version");
		json_object_del(j, "uuid");
		rc = remote_config_parse(j, out, err);
	}
	json_decref(j);
	return rc;
}

static int load_seen(void *arg, const char *name, const void *value, size_t len)
{
	struct remote_config c = { 0 };
	char bucket[SNAPSHOT_ID_SIZE];

	if (parse(value, len, &c, bucket, NULL) == 0)
		(void)!note_seen(arg, name, bucket);
	remote_config_fini(&c);
	return 0;
}

int remotes_load_seen(struct remotes *rs)
{
	return meta_each(rs->kv, META_REMOTE, "", load_seen, rs);
}

int remotes_write_record(struct remotes *rs, const struct remote_config *c, const char *bucket,
			 struct error *err)
{
	json_t *j = remote_config_json(c);
	char *text = NULL;
	int rc = -ENOMEM;

	if (j && json_object_set_new(j, "version", json_integer(REMOTE_RECORD_VERSION)) == 0 &&
	    (!*bucket || json_object_set_new(j, "uuid", json_string(bucket)) == 0))
		text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
	if (text)
		rc = note_seen(rs, c->name, bucket);
	if (rc == -EBUSY)
		error_set(err, rc, "there are %u remotes, the most that may be", REMOTES_MAX);
	if (rc == 0)
		rc = meta_put(rs->kv, META_REMOTE, c->name, text, strlen(text), KV_SYNC);
	free(text);
	json_decref(j);
	return rc < 0 && rc != -EBUSY ? error_set_errno(err, rc, "write the remote's record") : rc;
}

static int add_name(void *arg, const char *name, const void *value, size_t len)
{
	struct buf *all = arg;

	(void)value, (void)len;
	return all->len > 200 ? 0 : buf_printf(all, "%s%s", all->len ? ", " : "", name);
}

/* With the remotes that there are. */
static int no_remote(struct remotes *rs, const char *name, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) all = BUF_INIT;
	const char *text;

	if (meta_each(rs->kv, META_REMOTE, "", add_name, &all) < 0 || !(text = buf_cstr(&all)))
		return error_set(err, -ENOENT, "no remote \"%.80s\"", name);
	return error_set(err, -ENOENT, "no remote \"%.80s\"; there %s %s", name,
			 *text ? "is:" : "are", *text ? text : "none");
}

int remotes_config(struct remotes *rs, const char *name, struct remote_config *out,
		   struct error *err)
{
	struct kv_value v = { 0 };
	int rc = strlen(name) > REMOTE_NAME_MAX ? -ENOENT : meta_get(rs->kv, META_REMOTE, name, &v);

	if (rc == -ENOENT)
		return no_remote(rs, name, err);
	if (rc == 0)
		rc = parse(v.data, v.len, out, NULL, err);
	kv_value_release(&v);
	return rc;
}

struct each {
	remotes_fn fn;
	void *arg;
	bool sound; /* pass over what does not parse */
	struct error *err;
};

static int each_one(void *arg, const char *name, const void *value, size_t len)
{
	const struct each *e = arg;
	struct remote_config c;
	int rc = parse(value, len, &c, NULL, e->err);

	if (rc < 0 && rc != -ENOMEM && e->sound)
		return 0;
	if (rc < 0)
		return error_prefix(e->err, rc, "remote %s", name);
	rc = e->fn(e->arg, &c);
	remote_config_fini(&c);
	return rc;
}

int remotes_each(struct remotes *rs, remotes_fn fn, void *arg, struct error *err)
{
	struct each e = { .fn = fn, .arg = arg, .err = err };

	return meta_each(rs->kv, META_REMOTE, "", each_one, &e);
}

int remotes_each_sound(struct remotes *rs, remotes_fn fn, void *arg)
{
	struct each e = { .fn = fn, .arg = arg, .sound = true };

	return meta_each(rs->kv, META_REMOTE, "", each_one, &e);
}

/* Whether the remote is still configured so; the caller has `records`. */
static int check_unchanged(struct remotes *rs, const struct remote_config *c, struct error *err)
{
	struct remote_config now;
	int rc = remotes_config(rs, c->name, &now, err);

	if (rc < 0)
		return rc;
	json_t *was = remote_config_json(c), *is = remote_config_json(&now);

	if (!was || !is)
		rc = -ENOMEM;
	else if (!json_equal(was, is))
		rc = error_set(err, -EIO, "remote %s was changed meanwhile: try again", c->name);
	json_decref(was);
	json_decref(is);
	remote_config_fini(&now);
	return rc;
}

int remotes_note_bucket(struct remotes *rs, const struct remote_config *c, const char *bucket,
			struct error *err)
{
	char noted[SNAPSHOT_ID_SIZE];
	int rc;

	pthread_mutex_lock(&rs->records);
	rc = check_unchanged(rs, c, err);
	remotes_bucket(rs, c->name, noted);
	if (rc == 0 && strcmp(noted, bucket) != 0)
		rc = remotes_write_record(rs, c, bucket, err);
	pthread_mutex_unlock(&rs->records);
	return rc;
}
