/* Which remote a bucket is. */
#include <errno.h>
#include <string.h>

#include "store/remote/remotes.h"

struct wanted {
	struct remotes *rs;
	const char *uuid;
	struct remote *found;
	struct error *err; /* why the last one could not be asked */
};

/* A remote that is that bucket, or was never open: then it may be. */
static int try_remote(void *arg, const struct remote_config *c)
{
	struct wanted *w = arg;
	char bucket[SNAPSHOT_ID_SIZE];
	struct remote *r;

	remotes_bucket(w->rs, c->name, bucket);
	if (bucket[0] && strcmp(bucket, w->uuid) != 0)
		return 0;
	if (remotes_get(w->rs, c->name, &r, w->err) < 0)
		return 0;
	if (strcmp(remote_uuid(r), w->uuid) == 0) {
		w->found = r;
		return 1;
	}
	remotes_release(w->rs, r);
	return 0;
}

int remotes_get_uuid(struct remotes *rs, const char *uuid, struct remote **out, struct error *err)
{
	struct error why = ERROR_INIT;
	struct wanted w = { .rs = rs, .uuid = uuid, .err = &why };
	int rc = remotes_each(rs, try_remote, &w, err);

	if (rc < 0)
		return rc;
	if (!w.found)
		return error_set(err, -ENOENT, "no remote is the bucket %s%s%s", uuid,
				 why.msg[0] ? ": " : "", why.msg);
	*out = w.found;
	return 0;
}
