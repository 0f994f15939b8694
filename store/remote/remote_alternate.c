#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_alternate.h"
#include "store/remote/remote_internal.h"
#include "store/remote/remote_state_internal.h"

int remote_can_lend(const struct remote *alternate, struct error *err)
{
	if (alternate->format.permanent)
		return 0;
	return error_set(err, -EPERM,
			 "alternate %s: its bucket is not permanent, so that what is borrowed of "
			 "it might be deleted",
			 alternate->name);
}

static int check_fit(const struct remote *r, const struct remote *alternate, struct error *err)
{
	int rc = remote_can_lend(alternate, err);

	if (rc < 0)
		return rc;
	if (strcmp(alternate->format.uuid, r->format.uuid) == 0)
		return error_set(err, -EINVAL, "alternate %s: it is the same bucket",
				 alternate->name);
	if (r->format.sealed && !r->format.alternates)
		return error_set(err, -ENOTSUP,
				 "the bucket is encrypted, and was made without an alternate: only "
				 "a new one can have one");
	return 0;
}

/* A record takes a URL of printable ASCII alone: who reads it is told the bucket's id then. */
static char *url_to_tell(const char *url)
{
	for (const char *p = url; *p; p++)
		if (*p < ' ' || *p > '~')
			return strdup("");
	return strdup(url);
}

int remote_set_alternate(struct remote *r, struct remote *alternate, const struct remote_config *c,
			 struct error *err)
{
	const struct error none = { -EIO, "it is not open" };
	int rc = check_fit(r, alternate, err);

	if (rc == 0 && !r->front)
		rc = remote_lack_alternate(r, &none, err);
	if (rc == 0 && !r->alternate_url && !(r->alternate_url = url_to_tell(c->url)))
		rc = -ENOMEM;
	if (rc < 0)
		return rc;
	object_alternate_attach(r->front, alternate->os);
	r->alternate = alternate;
	return 0;
}

int remote_lack_alternate(struct remote *r, const struct error *why, struct error *err)
{
	int rc;

	pthread_mutex_lock(&r->alternate_lock);
	r->why_alternate = *why;
	pthread_mutex_unlock(&r->alternate_lock);
	if (r->front) {
		object_alternate_set_why(r->front, why);
		return 0;
	}
	rc = object_alternate_open(r->os, why, &r->front, err);
	if (rc == 0)
		r->os = r->front;
	return rc;
}

struct remote *remote_alternate(const struct remote *r)
{
	return r->alternate;
}

bool remote_lacks_alternate(struct remote *r, struct error *why)
{
	if (!r->front || r->alternate)
		return false;
	if (why) {
		pthread_mutex_lock(&r->alternate_lock);
		*why = r->why_alternate;
		pthread_mutex_unlock(&r->alternate_lock);
	}
	return true;
}

int remote_check_alternate(struct remote *r, const struct share_record *rec, struct error *err)
{
	const char *url = rec->alternate.url[0] ? rec->alternate.url : "its URL is not told";
	const struct remote *alternate = r->alternate;
	struct error why;

	if (!rec->alternate.bucket[0] ||
	    (alternate && strcmp(alternate->format.uuid, rec->alternate.bucket) == 0))
		return 0;
	if (remote_lacks_alternate(r, &why))
		return error_set(err, -ENOTSUP, "a part of it is in bucket %s (%s): %.200s",
				 rec->alternate.bucket, url, error_text(&why));
	return error_set(err, -ENOTSUP,
			 "a part of it is in bucket %s (%s), which is not the alternate of remote "
			 "%s: add that as a remote, and this one with --alternate",
			 rec->alternate.bucket, url, r->name);
}

int remote_borrow(struct remote *r, struct share_record *rec, struct error *err)
{
	const struct share_format want = { .alternates = true };
	const struct remote *alternate = r->alternate;

	memcpy(rec->alternate.bucket, alternate->format.uuid, SNAPSHOT_ID_SIZE);
	snprintf(rec->alternate.url, sizeof(rec->alternate.url), "%s", r->alternate_url);
	return remote_need(r, &want, err);
}
