/* What changes the table of remotes. */
#include "store/remote/remotes_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/kv/meta.h"
#include "store/remote/lazy_index.h"

void remotes_close(struct remotes *rs)
{
	if (!rs)
		return;
	remotes_stop(rs);
	remotes_end_lenders(rs);
	remotes_close_all(rs);
	pthread_cond_destroy(&rs->opened);
	pthread_mutex_destroy(&rs->lock);
	pthread_mutex_destroy(&rs->records);
	free(rs);
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
	cond_init_monotonic(&rs->opened);
	LIST_INIT(&rs->list);
	rc = remotes_load_seen(rs);
	if (rc < 0)
		return error_set_errno(err, rc, "read the remotes");
	*out = STEAL(rs);
	return 0;
}

void remotes_on_change(struct remotes *rs, void (*fn)(void *arg), void *arg)
{
	rs->changed = fn;
	rs->changed_arg = arg;
}

static void tell_change(struct remotes *rs)
{
	if (rs->changed)
		rs->changed(rs->changed_arg);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Another remote that is the same bucket. */
struct twin {
	struct remotes *rs;
	const char *name, *bucket, *alternate;
	char other[REMOTE_NAME_MAX + 1];
};

static bool is_same_bucket(const struct twin *t, const struct remote_config *c)
{
	char bucket[SNAPSHOT_ID_SIZE];

	remotes_bucket(t->rs, c->name, bucket);
	return strcmp(c->name, t->name) != 0 && strcmp(bucket, t->bucket) == 0;
}

/* Whose alternate is another one. */
static int is_at_odds(void *arg, const struct remote_config *c)
{
	struct twin *t = arg;

	if (!is_same_bucket(t, c) || same_text(c->alternate, t->alternate))
		return 0;
	snprintf(t->other, sizeof(t->other), "%s", c->name);
	return 1;
}

/* Whoever knows a bucket by its uuid has any of them. */
static int check_alternates_agree(struct remotes *rs, const struct remote_config *c,
				  const char *bucket, struct error *err)
{
	struct twin t = { .rs = rs, .name = c->name, .bucket = bucket, .alternate = c->alternate };
	int rc = remotes_each_sound(rs, is_at_odds, &t);

	return rc == 1 ? error_set(err, -EINVAL,
				   "remote %s is the same bucket with another alternate, or none: "
				   "remove it first, or have the same one",
				   t.other)
		       : rc;
}

int remotes_add(struct remotes *rs, const struct remote_config *c, struct error *err)
{
	char bucket[SNAPSHOT_ID_SIZE];
	struct remote_config noted = *c; /* borrows its texts */
	int rc = meta_has(rs->kv, META_REMOTE, c->name);

	if (rc == 1)
		return error_set(err, -EEXIST, "there is a remote \"%s\" already", c->name);
	if (rc == 0)
		rc = remotes_try(rs, &noted, bucket, err);
	if (rc == 0)
		rc = check_alternates_agree(rs, c, bucket, err);
	if (rc < 0)
		return rc;
	/* It works; whoever needs it opens it. */
	pthread_mutex_lock(&rs->records);
	rc = remotes_write_record(rs, &noted, bucket, err);
	pthread_mutex_unlock(&rs->records);
	tell_change(rs);
	return rc;
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
	rc = remotes_write_record(rs, c, bucket, err);
	remotes_reopen(rs, c->name);
	pthread_mutex_unlock(&rs->records);
	tell_change(rs);
	return rc;
}

/* Which will do in the place of that one. */
static int is_substitute(void *arg, const struct remote_config *c)
{
	const struct twin *t = arg;

	return is_same_bucket(t, c) && (!t->alternate || same_text(c->alternate, t->alternate));
}

/* -EBUSY: snapshots of this store need it. */
static int check_unneeded(struct remotes *rs, const char *name, struct error *err)
{
	struct remote_config c = { .name = "" };
	struct twin t = { .rs = rs, .name = name };
	char bucket[SNAPSHOT_ID_SIZE];
	int rc;

	remotes_bucket(rs, name, bucket);
	if (!*bucket || !rs->index || lazy_index_count(rs->index, bucket) == 0)
		return 0;
	t.bucket = bucket;
	if (remotes_config(rs, name, &c, NULL) ==
	    0) /* else it is removed, if another one will do */
		t.alternate = c.alternate;
	rc = remotes_each_sound(rs, is_substitute, &t);
	remote_config_fini(&c);
	if (rc)
		return MIN(rc, 0);
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
	remotes_forget_seen(rs, name);
	return 0;
}

struct borrower {
	const char *lender;
	char name[REMOTE_NAME_MAX + 1];
};

static int is_borrower(void *arg, const struct remote_config *c)
{
	struct borrower *b = arg;

	if (!c->alternate || strcmp(c->alternate, b->lender) != 0)
		return 0;
	snprintf(b->name, sizeof(b->name), "%s", c->name);
	return 1;
}

static int check_lends_not(struct remotes *rs, const char *name, struct error *err)
{
	struct borrower b = { .lender = name };
	int rc = remotes_each_sound(rs, is_borrower, &b);

	return rc == 1 ? error_set(
				 err, -EBUSY,
				 "remote %s is the alternate of remote %s, whose snapshots may be "
				 "in part in it",
				 name, b.name)
		       : rc;
}

int remotes_remove(struct remotes *rs, const char *name, bool force, struct error *err)
{
	int rc = force ? 0 : check_unneeded(rs, name, err);

	if (rc == 0 && !force)
		rc = check_lends_not(rs, name, err);

	pthread_mutex_lock(&rs->records);
	if (rc == 0)
		rc = remove_locked(rs, name, err);
	pthread_mutex_unlock(&rs->records);
	tell_change(rs);
	return rc;
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

void remotes_set_pins(struct remotes *rs, struct pins *p)
{
	rs->pins = p;
}
