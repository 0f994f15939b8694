/* Which remote a bucket is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/remote/remotes.h"

struct names {
	size_t n, borrow; /* so many of them, the first ones, have an alternate */
	char v[REMOTES_MAX][REMOTE_NAME_MAX + 1];
};

static int note_name(void *arg, const struct remote_config *c)
{
	struct names *names = arg;
	size_t at = names->n;

	if (names->n == REMOTES_MAX)
		return 0;
	names->n++;
	if (c->alternate) {
		at = names->borrow++;
		memmove(names->v[names->n - 1], names->v[at], sizeof(names->v[0]));
	}
	snprintf(names->v[at], sizeof(names->v[0]), "%s", c->name);
	return 0;
}

/*
 * The first that is that bucket, of those that are known to be it, or of those never open. One that
 * lacks its alternate only if there is no other.
 */
static struct remote *find(struct remotes *rs, const struct names *names, const char *uuid,
			   bool known, struct error *why)
{
	struct remote *r, *lacks = NULL;
	char bucket[SNAPSHOT_ID_SIZE];

	for (size_t i = 0; i < names->n; i++) {
		remotes_bucket(rs, names->v[i], bucket);
		if (strcmp(bucket, known ? uuid : "") != 0 ||
		    remotes_get(rs, names->v[i], &r, why) < 0)
			continue;
		if (strcmp(remote_uuid(r), uuid) != 0 || (lacks && !remote_alternate(r))) {
			remotes_release(rs, r);
		} else if (!remote_lacks_alternate(r, NULL)) {
			if (lacks)
				remotes_release(rs, lacks);
			return r;
		} else {
			lacks = r;
		}
	}
	return lacks;
}

int remotes_get_uuid(struct remotes *rs, const char *uuid, struct remote **out, struct error *err)
{
	struct names *names = calloc(1, sizeof(*names));
	struct error why = ERROR_INIT;
	struct remote *r = NULL;
	int rc = names ? remotes_each(rs, note_name, names, err) : -ENOMEM;

	if (rc == 0)
		r = find(rs, names, uuid, true, &why);
	/* Another bucket that does not answer is waited for only where it may be this one. */
	if (rc == 0 && !r)
		r = find(rs, names, uuid, false, &why);
	free(names);
	if (rc < 0)
		return rc;
	if (!r)
		return error_set(err, why.code == -ECANCELED ? why.code : -ENOENT,
				 "no remote is the bucket %s%s%s", uuid, why.msg[0] ? ": " : "",
				 why.msg);
	*out = r;
	return 0;
}
