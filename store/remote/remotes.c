/*
 * An open remote is in the list while it has a configuration, and lives while somebody uses it. One
 * that was removed, replaced or is gone leaves the list at once and is closed by its last user.
 *
 * What the records say of buckets is also in memory, for lists of snapshots and for metrics.
 */
#include "store/remote/remotes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/base/buf.h"
#include "store/kv/meta.h"
#include "store/remote/lazy_index.h"

struct open_remote {
	LIST_ENTRY(open_remote) link;
	char name[REMOTE_NAME_MAX + 1];
	struct remote *r;
	unsigned users;
	bool listed; /* has a configuration */
};

/* One for each record. */
struct seen {
	char name[REMOTE_NAME_MAX + 1];
	char bucket[SNAPSHOT_ID_SIZE]; /* uuid; "" until it was open once */
	struct object_counts past;     /* of connections that are closed */
};

struct remotes {
	struct kv *kv;
	struct prefetch *prefetch;
	struct lazy_index *index; /* borrowed; or NULL */
	pthread_mutex_t records;  /* held while they are written; before lock */
	pthread_mutex_t lock;
	LIST_HEAD(, open_remote) list; /* guarded by lock; those in use too, listed or not */
	struct seen seen[REMOTES_MAX]; /* guarded by lock */
	size_t n_seen;		       /* guarded by lock */
};

/* ---- what is in memory of the records ---- */

static struct seen *find_seen(struct remotes *rs, const char *name)
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
	s = find_seen(rs, name);
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

static void forget_seen(struct remotes *rs, const char *name)
{
	struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = find_seen(rs, name);
	if (s)
		*s = rs->seen[--rs->n_seen];
	pthread_mutex_unlock(&rs->lock);
}

void remotes_bucket(struct remotes *rs, const char *name, char out[SNAPSHOT_ID_SIZE])
{
	const struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = find_seen(rs, name);
	snprintf(out, SNAPSHOT_ID_SIZE, "%s", s ? s->bucket : "");
	pthread_mutex_unlock(&rs->lock);
}

static void add_counts(struct object_counts *to, const struct object_counts *c)
{
	for (int i = 0; i < OBJECT_OPS; i++)
		to->requests[i] += c->requests[i];
	to->bytes_in += c->bytes_in;
	to->bytes_out += c->bytes_out;
	to->failed += c->failed;
	to->retried += c->retried;
	to->throttled += c->throttled;
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
			if (strcmp(o->name, rs->seen[i].name) != 0)
				continue;
			object_store_counts(remote_objects(o->r), &now);
			add_counts(&sum, &now);
		}
		rc = fn(arg, rs->seen[i].name, rs->seen[i].bucket, &sum);
	}
	pthread_mutex_unlock(&rs->lock);
	return rc;
}

/* ---- the list ---- */

/* Take it out of the list if nobody needs it: the caller closes it, without the lock. */
static struct open_remote *drop_unused_locked(struct remotes *rs, struct open_remote *o)
{
	struct object_counts c;
	struct seen *s;

	if (o->users || o->listed)
		return NULL;
	s = find_seen(rs, o->name);
	if (s) {
		object_store_counts(remote_objects(o->r), &c);
		add_counts(&s->past, &c);
	}
	LIST_REMOVE(o, link);
	return o;
}

static void close_remote(struct open_remote *o)
{
	if (!o)
		return;
	remote_close(o->r);
	free(o);
}

void remotes_stop(struct remotes *rs)
{
	struct open_remote *o;

	if (!rs)
		return;
	pthread_mutex_lock(&rs->lock);
	LIST_FOREACH(o, &rs->list, link)
	object_store_stop(remote_objects(o->r));
	pthread_mutex_unlock(&rs->lock);
}

void remotes_close(struct remotes *rs)
{
	struct open_remote *o;

	if (!rs)
		return;
	while ((o = LIST_FIRST(&rs->list))) {
		LIST_REMOVE(o, link);
		close_remote(o);
	}
	pthread_mutex_destroy(&rs->lock);
	pthread_mutex_destroy(&rs->records);
	free(rs);
}

static struct open_remote *find(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	LIST_FOREACH(o, &rs->list, link)
	{
		if (o->listed && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

void remotes_reopen(struct remotes *rs, const char *name)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find(rs, name);
	if (o) {
		o->listed = false;
		unused = drop_unused_locked(rs, o);
	}
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

/* ---- configurations ---- */

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
	if (!j || json_integer_value(json_object_get(j, "version")) != 1)
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

int remotes_open(struct kv *kv, struct remotes **out, struct error *err)
{
	CLEANUP(remotes_close_p) struct remotes *rs = calloc(1, sizeof(*rs));
	int rc;

	if (!rs)
		return error_set(err, -ENOMEM, "out of memory");
	rs->kv = kv;
	pthread_mutex_init(&rs->lock, NULL);
	pthread_mutex_init(&rs->records, NULL);
	LIST_INIT(&rs->list);
	rc = meta_each(kv, META_REMOTE, "", load_seen, rs);
	if (rc < 0)
		return error_set_errno(err, rc, "read the remotes");
	*out = STEAL(rs);
	return 0;
}

static int write_config(struct remotes *rs, const struct remote_config *c, const char *bucket,
			struct error *err)
{
	json_t *j = remote_config_json(c);
	char *text = NULL;
	int rc = -ENOMEM;

	if (j && json_object_set_new(j, "version", json_integer(1)) == 0 &&
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

int remotes_add(struct remotes *rs, const struct remote_config *c, struct error *err)
{
	CLEANUP(remote_close_p) struct remote *r = NULL;
	int rc = meta_has(rs->kv, META_REMOTE, c->name);

	if (rc == 1)
		return error_set(err, -EEXIST, "there is a remote \"%s\" already", c->name);
	if (rc == 0)
		rc = remote_open(c, true, &r, err);
	if (rc < 0)
		return rc;
	/* It works; whoever needs it opens it. */
	pthread_mutex_lock(&rs->records);
	rc = write_config(rs, c, remote_uuid(r), err);
	pthread_mutex_unlock(&rs->records);
	return rc;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int remotes_set(struct remotes *rs, const struct remote_config *c, struct error *err)
{
	char bucket[SNAPSHOT_ID_SIZE] = "";
	struct remote_config old;
	int rc;

	pthread_mutex_lock(&rs->records);
	rc = remotes_config(rs, c->name, &old, NULL);
	if (rc == 0) {
		if (same_text(old.url, c->url) && same_text(old.endpoint, c->endpoint))
			remotes_bucket(rs, c->name, bucket);
		remote_config_fini(&old);
	}
	rc = write_config(rs, c, bucket, err);
	remotes_reopen(rs, c->name);
	pthread_mutex_unlock(&rs->records);
	return rc;
}

/* How many remotes are that bucket. */
static unsigned count_seen(struct remotes *rs, const char *bucket)
{
	unsigned n = 0;

	pthread_mutex_lock(&rs->lock);
	for (size_t i = 0; i < rs->n_seen; i++)
		n += strcmp(rs->seen[i].bucket, bucket) == 0;
	pthread_mutex_unlock(&rs->lock);
	return n;
}

/* -EBUSY: snapshots of this store need it. */
static int check_unneeded(struct remotes *rs, const char *name, struct error *err)
{
	char bucket[SNAPSHOT_ID_SIZE];

	remotes_bucket(rs, name, bucket);
	if (!*bucket || !rs->index || lazy_index_count(rs->index, bucket) == 0 ||
	    count_seen(rs, bucket) > 1)
		return 0;
	return error_set(
		err, -EBUSY,
		"parts of snapshots may be in remote %s alone: pull these snapshots whole "
		"or remove them, and collect (varve gc); or force it, and lose these parts",
		name);
}

static int remove_locked(struct remotes *rs, const char *name, struct error *err)
{
	struct remote_config c;
	int rc = remotes_config(rs, name, &c, err);

	if (rc == -ENOENT)
		return rc;
	if (rc == 0)
		remote_config_fini(&c);
	rc = meta_del(rs->kv, META_REMOTE, name, KV_SYNC);
	if (rc < 0)
		return error_set_errno(err, rc, "delete the remote's record");
	remotes_reopen(rs, name);
	forget_seen(rs, name);
	return 0;
}

int remotes_remove(struct remotes *rs, const char *name, bool force, struct error *err)
{
	int rc = force ? 0 : check_unneeded(rs, name, err);

	pthread_mutex_lock(&rs->records);
	if (rc == 0)
		rc = remove_locked(rs, name, err);
	pthread_mutex_unlock(&rs->records);
	return rc;
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
	struct error *err;
};

static int each_one(void *arg, const char *name, const void *value, size_t len)
{
	const struct each *e = arg;
	struct remote_config c;
	int rc = parse(value, len, &c, NULL, e->err);

	if (rc < 0)
		return error_prefix(e->err, rc, "remote %s", name);
	rc = e->fn(e->arg, &c);
	remote_config_fini(&c);
	return rc;
}

int remotes_each(struct remotes *rs, remotes_fn fn, void *arg, struct error *err)
{
	struct each e = { fn, arg, err };

	return meta_each(rs->kv, META_REMOTE, "", each_one, &e);
}

/* ---- open ones ---- */

/* NULL: none is open, or that is gone. */
static struct remote *use_open(struct remotes *rs, const char *name)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find(rs, name);
	if (o && remote_objects(o->r)->gone) {
		o->listed = false;
		unused = drop_unused_locked(rs, o);
		o = NULL;
	}
	if (o)
		o->users++;
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
	return o ? o->r : NULL;
}

/* Unless somebody else has opened it meanwhile: then that one. */
static struct remote *use_new(struct remotes *rs, struct open_remote *new)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find(rs, new->name);
	if (o) {
		unused = new;
	} else {
		LIST_INSERT_HEAD(&rs->list, new, link);
		o = new;
	}
	o->users++;
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
	return o->r;
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

/* Write down which bucket it is, and put it into the list: unless it was removed meanwhile. */
static int list_new(struct remotes *rs, const struct remote_config *c, struct open_remote *new,
		    struct remote **out, struct error *err)
{
	char bucket[SNAPSHOT_ID_SIZE];
	int rc;

	pthread_mutex_lock(&rs->records);
	rc = check_unchanged(rs, c, err);
	remotes_bucket(rs, c->name, bucket);
	if (rc == 0 && strcmp(bucket, remote_uuid(new->r)) != 0)
		rc = write_config(rs, c, remote_uuid(new->r), err);
	if (rc == 0)
		*out = use_new(rs, new);
	pthread_mutex_unlock(&rs->records);
	return rc;
}

static int open_new(struct remotes *rs, const struct remote_config *c, struct remote **out,
		    struct error *err)
{
	struct open_remote *new = calloc(1, sizeof(*new));
	char bucket[SNAPSHOT_ID_SIZE];
	int rc;

	remotes_bucket(rs, c->name, bucket);
	rc = new ? remote_open(c, !bucket[0], &new->r, err) : -ENOMEM;
	if (rc == -ENOENT)
		rc = -EIO; /* the remote is known: its bucket is not there */
	if (rc == 0) {
		snprintf(new->name, sizeof(new->name), "%s", c->name);
		new->listed = true;
		rc = list_new(rs, c, new, out, err);
		if (rc < 0)
			remote_close(new->r);
	}
	if (rc < 0) {
		free(new);
		if (err)
			err->code = rc;
	}
	return rc;
}

int remotes_get(struct remotes *rs, const char *name, struct remote **out, struct error *err)
{
	struct remote_config c;
	int rc;

	rc = remotes_config(rs, name, &c, err);
	if (rc < 0)
		return rc;
	*out = use_open(rs, name);
	if (!*out)
		rc = open_new(rs, &c, out, err);
	remote_config_fini(&c);
	return rc;
}

void remotes_release(struct remotes *rs, struct remote *r)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	LIST_FOREACH(o, &rs->list, link)
	{
		if (o->r == r)
			break;
	}
	o->users--;
	unused = drop_unused_locked(rs, o);
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

void remotes_set_index(struct remotes *rs, struct lazy_index *ix)
{
	rs->index = ix;
}

struct lazy_index *remotes_index(struct remotes *rs)
{
	return rs->index;
}

void remotes_set_prefetch(struct remotes *rs, struct prefetch *p)
{
	rs->prefetch = p;
}

struct prefetch *remotes_prefetch(struct remotes *rs)
{
	return rs->prefetch;
}
