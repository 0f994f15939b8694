#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_alternate.h"
#include "store/remote/remote_internal.h"
#include "store/remote/remote_state_internal.h"

static int check_fit(const struct remote *r, const struct remote *alternate, struct error *err)
{
	if (!alternate->format.permanent)
		return error_set(err, -EPERM,
				 "alternate %s: its bucket is not permanent, so that what is "
				 "borrowed of it might be deleted",
				 alternate->name);
	if (strcmp(alternate->format.uuid, r->format.uuid) == 0)
		return error_set(err, -EINVAL, "alternate %s: it is the same bucket",
				 alternate->name);
	if (r->format.sealed && !r->format.alternates)
		return error_set(err, -ENOTSUP,
				 "the bucket is encrypted, and was made without an alternate: only "
				 "a new one can have one");
	return 0;
}

int remote_set_alternate(struct remote *r, struct remote *alternate, const struct remote_config *c,
			 struct error *err)
{
	int rc = check_fit(r, alternate, err);

	if (rc == 0 && !(r->alternate_url = strdup(c->url)))
		rc = -ENOMEM;
	if (rc == 0)
		rc = object_alternate_open(r->os, alternate->os, NULL, &r->os, err);
	if (rc == 0)
		r->alternate = alternate;
	return rc;
}

int remote_lack_alternate(struct remote *r, const struct error *why, struct error *err)
{
	r->lacks_alternate = true;
	r->why_alternate = *why;
	return object_alternate_open(r->os, NULL, why, &r->os, err);
}

struct remote *remote_alternate(const struct remote *r)
{
	return r->alternate;
}

bool remote_lacks_alternate(const struct remote *r)
{
	return r->lacks_alternate;
}

int remote_check_alternate(const struct remote *r, const struct share_record *rec,
			   struct error *err)
{
	if (!rec->alternate.bucket[0] ||
	    (r->alternate && strcmp(r->alternate->format.uuid, rec->alternate.bucket) == 0))
		return 0;
	if (r->lacks_alternate)
		return error_set(err, -ENOTSUP, "a part of it is in bucket %s (%s): %.200s",
				 rec->alternate.bucket, rec->alternate.url,
				 error_text(&r->why_alternate));
	return error_set(err, -ENOTSUP,
			 "a part of it is in bucket %s (%s), which is not the alternate of remote "
			 "%s: add that as a remote, and this one with --alternate",
			 rec->alternate.bucket, rec->alternate.url, r->name);
}

int remote_borrow(struct remote *r, struct share_record *rec, struct error *err)
{
	const struct share_format want = { .alternates = true };

	memcpy(rec->alternate.bucket, r->alternate->format.uuid, SNAPSHOT_ID_SIZE);
	snprintf(rec->alternate.url, sizeof(rec->alternate.url), "%s", r->alternate_url);
	return remote_need(r, &want, err);
}
