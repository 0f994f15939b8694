/*
 * Remotes that are open or being opened.
 *
 * Who asks for one that is not open opens it, without a lock; who comes meanwhile waits for that
 * and shares what comes of it. Its connection is in the list before its first request, so
 * remotes_stop ends that, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/remote/remotes_internal.h"

/* ---- the list ---- */

/* Take it out of the list if nobody needs it: the caller closes it, without the lock. */
static struct open_remote *drop_unused_locked(struct remotes *rs, struct open_remote *o)
{
	struct object_counts c;
	struct seen *s;

	if (o->users || o->listed)
		return NULL;
	s = remotes_find_seen(rs, o->name);
	if (s && o->os) {
		object_store_counts(o->r ? remote_objects(o->r) : o->os, &c);
		remotes_add_counts(&s->past, &c);
	}
	LIST_REMOVE(o, link);
	return o;
}

static void close_remote(struct open_remote *o)
{
	if (!o)
		return;
	if (o->r)
		remote_close(o->r);
	else
		object_store_close(o->os);
	free(o);
}

void remotes_stop(struct remotes *rs)
{
	struct open_remote *o;

	if (!rs)
		return;
	pthread_mutex_lock(&rs->lock);
	rs->stopping = true;
	LIST_FOREACH(o, &rs->list, link)
	if (o->os)
		object_store_stop(o->os);
	pthread_cond_broadcast(&rs->opened);
	pthread_mutex_unlock(&rs->lock);
}

void remotes_close_all(struct remotes *rs)
{
	struct open_remote *o;

	while ((o = LIST_FIRST(&rs->list))) {
		LIST_REMOVE(o, link);
		close_remote(o);
	}
}

static struct open_remote *find_listed(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	LIST_FOREACH(o, &rs->list, link)
	{
		if (o->listed && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

/* os: only if it is that; or NULL. */
static void unlist(struct remotes *rs, const char *name, const struct object_store *os)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find_listed(rs, name);
	if (o && (!os || o->os == os)) {
		o->listed = false;
		unused = drop_unused_locked(rs, o);
	}
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

void remotes_reopen(struct remotes *rs, const char *name)
{
	unlist(rs, name, NULL);
}

void remotes_failed(struct remotes *rs, const char *name, const struct object_store *os)
{
	unlist(rs, name, os);
}

static void release(struct remotes *rs, struct open_remote *o)
{
	struct open_remote *unused;

	pthread_mutex_lock(&rs->lock);
	o->users--;
	unused = drop_unused_locked(rs, o);
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

void remotes_release(struct remotes *rs, struct remote *r)
{
	struct open_remote *o;

	pthread_mutex_lock(&rs->lock);
	LIST_FOREACH(o, &rs->list, link)
	{
		if (o->r == r)
			break;
	}
	pthread_mutex_unlock(&rs->lock);
	release(rs, o); /* it stays in the list as long as the caller uses it */
}

/* ---- opening ---- */

/* In the list, in use by the caller, to be opened by it. NULL: no memory. */
static struct open_remote *new_locked(struct remotes *rs, const char *name, bool listed)
{
	struct open_remote *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	snprintf(o->name, sizeof(o->name), "%s", name);
	o->users = 1;
	o->listed = listed;
	o->opening = true;
	LIST_INSERT_HEAD(&rs->list, o, link);
	return o;
}

/* From here on remotes_stop ends its requests. */
static void set_store(struct remotes *rs, struct open_remote *o, struct object_store *os)
{
	pthread_mutex_lock(&rs->lock);
	o->os = os;
	if (rs->stopping)
		object_store_stop(os);
	pthread_mutex_unlock(&rs->lock);
}

static int connect_and_read(struct remotes *rs, struct open_remote *o,
			    const struct remote_config *c, bool make, struct remote **out,
			    struct error *err)
{
	struct object_store *os;
	int rc = remote_connect(c, make, &os, err);

	if (rc < 0)
		return rc;
	set_store(rs, o, os);
	return remote_open_on(c, os, make, out, err);
}

/* The end of opening it: r may be there also after a failure. */
static void set_outcome(struct remotes *rs, struct open_remote *o, struct remote *r, int rc,
			const struct error *err)
{
	pthread_mutex_lock(&rs->lock);
	o->r = r;
	o->rc = rc;
	o->err = *err;
	o->err.code = rc;
	o->opening = false;
	if (rc < 0)
		o->listed = false; /* who comes later tries anew */
	pthread_cond_broadcast(&rs->opened);
	pthread_mutex_unlock(&rs->lock);
}

static void open_it(struct remotes *rs, struct open_remote *o, const struct remote_config *c)
{
	struct error err = ERROR_INIT;
	char bucket[SNAPSHOT_ID_SIZE];
	struct remote *r = NULL;
	int rc;

	remotes_bucket(rs, c->name, bucket);
	rc = connect_and_read(rs, o, c, !bucket[0], &r, &err);
	if (rc == -ENOENT)
		rc = -EIO; /* the remote is known: its bucket is not there */
	if (rc == 0)
		remote_set_pins(r, rs->pins);
	if (rc == 0)
		rc = remotes_note_bucket(rs, c, remote_uuid(r), &err);
	set_outcome(rs, o, r, rc, &err);
}

int remotes_try(struct remotes *rs, struct remote_config *c, char out_bucket[SNAPSHOT_ID_SIZE],
		struct error *err)
{
	struct error own = ERROR_INIT;
	struct remote *r = NULL;
	struct open_remote *o;
	int rc;

	err = err ? err : &own;
	pthread_mutex_lock(&rs->lock);
	o = new_locked(rs, c->name, false);
	pthread_mutex_unlock(&rs->lock);
	if (!o)
		return error_set(err, -ENOMEM, "out of memory");
	rc = connect_and_read(rs, o, c, true, &r, err);
	if (rc == 0)
		snprintf(out_bucket, SNAPSHOT_ID_SIZE, "%s", remote_uuid(r));
	if (rc == 0)
		c->permanent = remote_is_permanent(r);
	set_outcome(rs, o, r, rc, err);
	release(rs, o);
	return rc;
}

/* The one of that name, in use by the caller; *is_new: which is to open it. NULL: no memory. */
static struct open_remote *use(struct remotes *rs, const char *name, bool *is_new)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find_listed(rs, name);
	if (o && o->r && o->os->gone) {
		o->listed = false;
		unused = drop_unused_locked(rs, o);
		o = NULL;
	}
	*is_new = !o;
	if (o)
		o->users++;
	else
		o = new_locked(rs, name, true);
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
	return o;
}

/* Until it is open, has failed, or all stops. */
static int wait_open(struct remotes *rs, const struct open_remote *o, struct error *err)
{
	int rc;

	pthread_mutex_lock(&rs->lock);
	while (o->opening && !rs->stopping)
		pthread_cond_wait(&rs->opened, &rs->lock);
	if (o->opening) {
		rc = error_set(err, -ECANCELED, "the remote is being closed");
	} else {
		rc = o->rc;
		if (rc < 0 && err)
			*err = o->err;
	}
	pthread_mutex_unlock(&rs->lock);
	return rc;
}

int remotes_get(struct remotes *rs, const char *name, struct remote **out, struct error *err)
{
	struct remote_config c;
	struct open_remote *o;
	bool is_new;
	int rc;

	rc = remotes_config(rs, name, &c, err);
	if (rc < 0)
		return rc;
	o = use(rs, name, &is_new);
	if (o && is_new)
		open_it(rs, o, &c);
	remote_config_fini(&c);
	if (!o)
		return error_set(err, -ENOMEM, "out of memory");
	rc = wait_open(rs, o, err);
	if (rc < 0)
		release(rs, o);
	else
		*out = o->r;
	return rc;
}
