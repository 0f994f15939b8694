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

#define REFUSED_MS 5000 /* between attempts with credentials that may be other ones */

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
	rc = connect_and_read(rs, o, c, !bucket[0], &r, &err);
	if (rc == -ENOENT)
		rc = -EIO; /* the remote is known: its bucket is not there */
	if (rc == 0)
		remote_set_pins(r, rs->pins);
	if (rc == 0)
		rc = remotes_note_bucket(rs, c, remote_uuid(r), &err);
	remotes_note_away(rs, c->name, rc, &err, began_ms);
	if (rc == 0 && c->alternate)
		rc = remotes_begin_lender(rs, o, c->alternate, r, &err);
	set_outcome(rs, o, r, rc, &err);
}

/* Whose alternate is looked at first: if it will not do, nothing is made. */
static int try_it(struct remotes *rs, struct open_remote *o, const struct remote_config *c,
		  struct remote **out, struct error *err)
{
	struct remote_config other = { 0 };
	struct remote *lender = NULL;
	int rc = 0;

	if (c->alternate)
		rc = remotes_open_lender(rs, o, c->alternate, &lender, &other, err);
	if (rc == -ENOENT)
		rc = err->code = -EINVAL; /* what is wrong is what it was told */
	if (rc < 0)
		return rc;
	rc = connect_and_read(rs, o, c, true, out, err);
	if (rc == 0 && lender)
		rc = remote_set_alternate(*out, lender, &other, err);
	if (rc < 0 && lender)
		remotes_drop_lender(rs, o, lender);
	remote_config_fini(&other);
	return rc;
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
	rc = try_it(rs, o, c, &r, err);
	if (rc == 0)
		snprintf(out_bucket, SNAPSHOT_ID_SIZE, "%s", remote_uuid(r));
	if (rc == 0)
		c->permanent = remote_is_permanent(r);
	set_outcome(rs, o, r, rc, err);
	remotes_leave(rs, o);
	return rc;
}

/* Whether it is to be opened anew: its bucket is gone, or wants other credentials; or the other's.
 */
static bool is_stale(const struct open_remote *o)
{
	const struct object_store *other = o->other;

	return o->r &&
	       (o->os->gone || ((o->os->refused || (other && (other->refused || other->gone))) &&
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
	o = remotes_find_listed(rs, name);
	if (o && is_stale(o)) {
		unused = remotes_unlist_locked(rs, o);
		o = NULL;
	}
	*is_new = !o;
	if (o) {
		o->users++;
		remotes_retry_lender_locked(rs, o);
	} else {
		rc = remotes_check_away_locked(rs, name, err);
	}
	if (rc == 0 && !o) {
		o = new_locked(rs, name, true);
		rc = o ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_unlock(&rs->lock);
	remotes_close_one(unused);
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
		remotes_leave(rs, o);
	else
		*out = o->r;
	return rc;
}

/* It is os, its backend or what stands before it. */
static bool is_store(const struct open_remote *o, const struct object_store *os)
{
	return o->os == os || (o->r && remote_objects(o->r) == os);
}

void remotes_failed(struct remotes *rs, const char *name, const struct object_store *os)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = remotes_find_listed(rs, name);
	if (o && !is_store(o, os))
		o = NULL;
	if (o && o->r && remote_lacks_alternate(o->r, NULL) && !o->os->refused && !o->os->gone) {
		o->users++; /* its bucket is served on */
		remotes_retry_lender_locked(rs, o);
		remotes_wait_lender_locked(rs, o);
		o->users--;
		unused = remotes_drop_unused_locked(rs, o);
	} else if (o) {
		unused = remotes_unlist_locked(rs, o);
	}
	pthread_mutex_unlock(&rs->lock);
	remotes_close_one(unused);
}
