#include "store/lazy/far_buckets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"

#define LOG_EVERY_MS 10000

/* The lock is held. */
static struct far_bucket *find(struct far_buckets *b, const char *uuid)
{
	struct far_bucket *o;

	LIST_FOREACH(o, &b->all, link)
	{
		if (o->os->gone)
			o->old = true;
		if (!o->old && strcmp(o->uuid, uuid) == 0)
			return o;
	}
	return NULL;
}

/* Keep what was opened, unless another thread has done the same: then that. */
static struct far_bucket *add(struct far_buckets *b, const char *uuid, struct remote *r)
{
	struct far_bucket *o = calloc(1, sizeof(*o)), *there;

	if (!o)
		return NULL;
	snprintf(o->uuid, sizeof(o->uuid), "%s", uuid);
	o->r = r;
	o->os = remote_objects(r);
	pthread_mutex_lock(&b->lock);
	there = find(b, uuid);
	o->old = there != NULL;
	LIST_INSERT_HEAD(&b->all, o, link);
	there = there ? there : o;
	there->users++;
	pthread_mutex_unlock(&b->lock);
	return there;
}

static bool may_log(struct far_buckets *b)
{
	const int64_t now = monotonic_ms();
	bool may;

	pthread_mutex_lock(&b->lock);
	may = !b->logged_ms || now - b->logged_ms >= LOG_EVERY_MS;
	if (may)
		b->logged_ms = now;
	pthread_mutex_unlock(&b->lock);
	return may;
}

int far_bucket_use(struct far_buckets *b, const char *uuid, struct far_bucket **out)
{
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc;

	pthread_mutex_lock(&b->lock);
	*out = find(b, uuid);
	if (*out)
		(*out)->users++;
	pthread_mutex_unlock(&b->lock);
	if (*out)
		return 0;
	rc = remotes_get_uuid(b->rs, uuid, &r, &err);
	if (rc < 0) {
		if (rc != -ECANCELED && may_log(b))
			log_warn("chunks that are in a bucket cannot be read: %s",
				 error_text(&err));
		return -EIO;
	}
	*out = add(b, uuid, r);
	if (!*out)
		remotes_release(b->rs, r);
	return *out ? 0 : -ENOMEM;
}

void far_bucket_share(struct far_buckets *b, struct far_bucket *o)
{
	pthread_mutex_lock(&b->lock);
	o->users++;
	pthread_mutex_unlock(&b->lock);
}

void far_bucket_leave(struct far_buckets *b, struct far_bucket *o, bool failed)
{
	pthread_mutex_lock(&b->lock);
	o->users--;
	if (failed)
		o->old = true;
	pthread_mutex_unlock(&b->lock);
}

void far_buckets_tidy(struct far_buckets *b)
{
	struct far_bucket_list done = LIST_HEAD_INITIALIZER(done);
	struct far_bucket *o, *next;

	pthread_mutex_lock(&b->lock);
	for (o = LIST_FIRST(&b->all); o; o = next) {
		next = LIST_NEXT(o, link);
		if (!o->old || o->users)
			continue;
		LIST_REMOVE(o, link);
		LIST_INSERT_HEAD(&done, o, link);
	}
	pthread_mutex_unlock(&b->lock);
	while ((o = LIST_FIRST(&done))) {
		LIST_REMOVE(o, link);
		remotes_release(b->rs, o->r);
		free(o);
	}
}

/* From remotes: what is open may not be what is configured. */
static void forget(void *arg)
{
	struct far_buckets *b = arg;
	struct far_bucket *o;

	pthread_mutex_lock(&b->lock);
	LIST_FOREACH(o, &b->all, link)
	o->old = true;
	pthread_mutex_unlock(&b->lock);
	far_buckets_tidy(b);
}

void far_buckets_init(struct far_buckets *b, struct remotes *rs)
{
	b->rs = rs;
	pthread_mutex_init(&b->lock, NULL);
	LIST_INIT(&b->all);
	remotes_on_change(rs, forget, b);
}

void far_buckets_fini(struct far_buckets *b)
{
	struct far_bucket *o;

	while ((o = LIST_FIRST(&b->all))) { /* remotes_close has closed them */
		LIST_REMOVE(o, link);
		free(o);
	}
	pthread_mutex_destroy(&b->lock);
}
