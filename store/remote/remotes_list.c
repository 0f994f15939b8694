/* The list of remotes that are open or being opened. */
#include <stdlib.h>
#include <string.h>

#include "store/remote/remotes_internal.h"

struct open_remote *remotes_drop_unused_locked(struct remotes *rs, struct open_remote *o)
{
	if (o->users || o->listed)
		return NULL;
	if (o->os)
		remotes_keep_counts_locked(rs, o->name, o->r ? remote_objects(o->r) : o->os);
	if (o->other)
		remotes_keep_counts_locked(rs, o->lender, o->other);
	LIST_REMOVE(o, link);
	return o;
}

void remotes_close_one(struct open_remote *o)
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
		remotes_close_one(o);
	}
}

struct open_remote *remotes_find_listed(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	LIST_FOREACH(o, &rs->list, link)
	{
		if (o->listed && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

struct open_remote *remotes_unlist_locked(struct remotes *rs, struct open_remote *o)
{
	o->listed = false;
	return remotes_drop_unused_locked(rs, o);
}

/* One that borrows of the remote `name`; or NULL. */
static struct open_remote *find_borrower(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	LIST_FOREACH(o, &rs->list, link)
	{
		if (o->listed && strcmp(o->alternate, name) == 0)
			return o;
	}
	return NULL;
}

static void forget_away(struct remotes *rs, const char *name)
{
	struct seen *s = remotes_find_seen(rs, name);

	if (s)
		s->away_until_ms = s->away_ms = 0;
}

void remotes_reopen(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	pthread_mutex_lock(&rs->lock);
	forget_away(rs, name);
	o = remotes_find_listed(rs, name);
	if (o && o->alternate[0])
		forget_away(rs, o->alternate);
	while (o || (o = find_borrower(rs, name))) {
		o = remotes_unlist_locked(rs, o);
		if (!o)
			continue;
		pthread_mutex_unlock(&rs->lock);
		remotes_close_one(o);
		pthread_mutex_lock(&rs->lock);
		o = NULL;
	}
	pthread_mutex_unlock(&rs->lock);
}

void remotes_leave(struct remotes *rs, struct open_remote *o)
{
	struct open_remote *unused;

	pthread_mutex_lock(&rs->lock);
	o->users--;
	unused = remotes_drop_unused_locked(rs, o);
	pthread_mutex_unlock(&rs->lock);
	remotes_close_one(unused);
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
	remotes_leave(rs, o); /* it stays in the list as long as the caller uses it */
}
