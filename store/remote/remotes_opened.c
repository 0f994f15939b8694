/*
 * Remotes that are open or being opened.
 *
 * Who asks for one that is not open opens it, without a lock; who comes meanwhile waits for that
 * and shares what comes of it. Its connection is in the list before its first request, so
 * remotes_stop ends that, too.
 *
 * A bucket that cannot be reached costs who opens it its time limit. So what that ends with is
 * remembered for a while, longer after each attempt, and told at once to who comes then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/remote/remotes_internal.h"

#define SLOW_MS 500 /* who learns of a failure sooner may try at any time */
#define AWAY_MIN_MS 2000
#define AWAY_MAX_MS 30000
#define REFUSED_MS 5000 /* between attempts with credentials that may be other ones */

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
	{
		if (o->os)
			object_store_stop(o->os);
		if (o->other)
			object_store_stop(o->other);
	}
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

/* os: only if it is that, its backend or what stands before it; or NULL. */
static void unlist(struct remotes *rs, const char *name, const struct object_store *os)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find_listed(rs, name);
	if (o && (!os || o->os == os || (o->r && remote_objects(o->r) == os))) {
		o->listed = false;
		unused = drop_unused_locked(rs, o);
	}
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

void remotes_reopen(struct remotes *rs, const char *name)
{
	struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, name);
	if (s)
		s->away_until_ms = s->away_ms = 0;
	pthread_mutex_unlock(&rs->lock);
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

/* Remember, or forget, that it was waited for in vain, from began_ms on. */
static void note_away(struct remotes *rs, const char *name, int rc, const struct error *err,
		      int64_t began_ms)
{
	int64_t now = monotonic_ms();
	struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, name);
	if (s && (rc == -ETIMEDOUT || rc == -EIO) && now - began_ms >= SLOW_MS) {
		s->away_ms = MIN(MAX(2 * s->away_ms, AWAY_MIN_MS), AWAY_MAX_MS);
		s->away_until_ms = now + s->away_ms;
		s->away_rc = rc;
		s->why_away = *err;
	} else if (s && rc == 0) {
		s->away_until_ms = s->away_ms = 0;
	}
	pthread_mutex_unlock(&rs->lock);
}

/* 0, or how it was not reached a moment ago. */
static int check_away_locked(struct remotes *rs, const char *name, struct error *err)
{
	const struct seen *s = remotes_find_seen(rs, name);
	int64_t left_ms = s && s->away_until_ms ? s->away_until_ms - monotonic_ms() : 0;

	if (left_ms <= 0)
		return 0;
	return error_set(err, s->away_rc,
			 "%.300s (it is asked again in %lld s; \"varve remote check %s\" asks now)",
			 s->why_away.msg, (long long)(left_ms + 999) / 1000, name);
}

/* The same for its alternate's; NULL: it is to be closed. */
static void set_other(struct remotes *rs, struct open_remote *o, struct object_store *os)
{
	pthread_mutex_lock(&rs->lock);
	o->other = os;
	if (os && rs->stopping)
		object_store_stop(os);
	pthread_mutex_unlock(&rs->lock);
}

/* Nothing is written to it. */
static int open_other(struct remotes *rs, struct open_remote *o, struct remote_config *c,
		      struct remote *r, struct error *err)
{
	struct remote *alternate = NULL;
	struct object_store *os;
	int rc;

	c->read_only = true;
	rc = remote_connect(c, false, &os, err);
	if (rc < 0)
		return rc;
	set_other(rs, o, os);
	rc = remote_open_on(c, os, false, &alternate, err);
	if (rc == 0)
		rc = remote_set_alternate(r, alternate, c, err);
	if (rc == 0)
		return 0;
	set_other(rs, o, NULL);
	if (alternate)
		remote_close(alternate);
	else
		object_store_close(os);
	return rc;
}

/* Whether it is reached or not, r can be used; `must`: a failure if it is not. */
static int open_alternate(struct remotes *rs, struct open_remote *o, const struct remote_config *c,
			  bool must, struct remote *r, struct error *err)
{
	struct remote_config other = { 0 };
	const int64_t began_ms = monotonic_ms();
	struct error why = ERROR_INIT;
	int rc;

	if (!c->alternate)
		return 0;
	pthread_mutex_lock(&rs->lock);
	rc = must ? 0 : check_away_locked(rs, c->alternate, &why);
	pthread_mutex_unlock(&rs->lock);
	if (rc == 0)
		rc = remotes_config(rs, c->alternate, &other, &why);
	if (rc == 0) {
		rc = open_other(rs, o, &other, r, &why);
		note_away(rs, c->alternate, rc, &why, began_ms);
	}
	remote_config_fini(&other);
	if (rc == 0)
		return 0;
	if (must)
		return error_set(err, rc == -ENOENT ? -EINVAL : rc, "%s", error_text(&why));
	return remote_lack_alternate(r, &why, err);
}

static int connect_and_read(struct remotes *rs, struct open_remote *o,
			    const struct remote_config *c, bool make, bool must,
			    struct remote **out, struct error *err)
{
	struct object_store *os;
	int rc = remote_connect(c, make, &os, err);

	if (rc < 0)
		return rc;
	set_store(rs, o, os);
	rc = remote_open_on(c, os, make, out, err);
	return rc < 0 ? rc : open_alternate(rs, o, c, must, *out, err);
}

/* The end of opening it: r may be there also after a failure. */
static void set_outcome(struct remotes *rs, struct open_remote *o, struct remote *r, int rc,
			const struct error *err)
{
	pthread_mutex_lock(&rs->lock);
	o->r = r;
	o->opened_ms = monotonic_ms();
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
	const int64_t began_ms = monotonic_ms();
	char bucket[SNAPSHOT_ID_SIZE];
	struct remote *r = NULL;
	int rc;

	remotes_bucket(rs, c->name, bucket);
	rc = connect_and_read(rs, o, c, !bucket[0], false, &r, &err);
	if (rc == -ENOENT)
		rc = -EIO; /* the remote is known: its bucket is not there */
	if (rc == 0)
		remote_set_pins(r, rs->pins);
	if (rc == 0)
		rc = remotes_note_bucket(rs, c, remote_uuid(r), &err);
	note_away(rs, c->name, rc, &err, began_ms);
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
	rc = connect_and_read(rs, o, c, true, true, &r, err);
	if (rc == 0)
		snprintf(out_bucket, SNAPSHOT_ID_SIZE, "%s", remote_uuid(r));
	if (rc == 0)
		c->permanent = remote_is_permanent(r);
	set_outcome(rs, o, r, rc, err);
	release(rs, o);
	return rc;
}

/* Whether it is to be opened anew: its bucket is gone, or wants other credentials; or the other is.
 */
static bool is_stale(const struct open_remote *o)
{
	return o->r && (o->os->gone || ((o->os->refused || remote_lacks_alternate(o->r)) &&
					monotonic_ms() - o->opened_ms >= REFUSED_MS));
}

/*
 * The one of that name, in use by the caller; *is_new: which is to open it. -ENOMEM, or why it was
 * not reached a moment ago.
 */
static int use(struct remotes *rs, const char *name, struct open_remote **out, bool *is_new,
	       struct error *err)
{
	struct open_remote *o, *unused = NULL;
	int rc = 0;

	pthread_mutex_lock(&rs->lock);
	o = find_listed(rs, name);
	if (o && is_stale(o)) {
		o->listed = false;
		unused = drop_unused_locked(rs, o);
		o = NULL;
	}
	*is_new = !o;
	if (o)
		o->users++;
	else
		rc = check_away_locked(rs, name, err);
	if (rc == 0 && !o) {
		o = new_locked(rs, name, true);
		rc = o ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
	*out = o;
	return rc;
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
	rc = use(rs, name, &o, &is_new, err);
	if (rc == 0 && is_new)
		open_it(rs, o, &c);
	remote_config_fini(&c);
	if (rc < 0)
		return rc;
	rc = wait_open(rs, o, err);
	if (rc < 0)
		release(rs, o);
	else
		*out = o->r;
	return rc;
}
