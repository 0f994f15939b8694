#include "store/remote/remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_sealed.h"
#include "store/layout/share_key.h"
#include "store/remote/remote_internal.h"
#include "store/remote/remote_key.h"
#include "store/remote/remote_state_internal.h"

#define FORMAT_TRIES 10
#define OPEN_TIMEOUT_MS 30000u /* who opens a remote learns soon that it is away */

int remote_read_format(struct remote *r, unsigned timeout_ms, struct error *err)
{
	struct object_request q = { .op = OBJECT_GET,
				    .priority = OBJECT_CONTROL,
				    .key = "format",
				    .max_len = SHARE_FORMAT_MAX,
				    .timeout_ms = timeout_ms };
	int rc;

	object_run(r->os, &q, 1);
	rc = q.result < 0 ? error_set(err, q.result, "%s", error_text(&q.err))
			  : share_format_decode(q.data.data, q.data.len, &r->format, err);
	buf_fini(&r->format_text);
	r->format_text = q.data;
	q.data = (struct buf)BUF_INIT;
	object_request_fini(&q);
	return rc;
}

/* Somebody else may do the same at this moment: the first one's counts. */
static int make_format(struct remote *r, const struct remote_config *c, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_format f = { 0 };
	int rc = 0;

	id_random(f.uuid);
	f.permanent = c->permanent;
	if (remote_has_key(c))
		rc = remote_make_key(r, c, &f, err);
	if (rc == 0)
		rc = share_format_encode(&f, &text, err);
	if (rc < 0)
		return rc;
	rc = object_put_once(r->os, OBJECT_CONTROL, "format", text.data, text.len, 0, err);
	return rc == -EEXIST ? 0 : rc;
}

static int open_on(const struct remote_config *c, struct object_store *os, bool make,
		   struct remote **out, struct error *err)
{
	unsigned timeout_ms =
		c->timeout_s ? MIN(c->timeout_s * 1000, OPEN_TIMEOUT_MS) : OPEN_TIMEOUT_MS;
	struct remote *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	snprintf(r->name, sizeof(r->name), "%s", c->name);
	r->os = os;
	pthread_mutex_init(&r->alternate_lock, NULL);
	rc = remote_read_format(r, timeout_ms, err);
	if (rc == -ENOENT && make && !os->read_only) {
		rc = make_format(r, c, err);
		if (rc == 0)
			rc = remote_read_format(r, timeout_ms, err);
	} else if (rc == -ENOENT) {
		error_set(err, rc,
			  "no snapshots are kept there: is it the right place, and mounted?");
	}
	if (rc == 0 && c->permanent && !r->format.permanent)
		rc = error_set(err, -EACCES, "the bucket is not permanent: only a new one can be");
	if (rc == 0)
		rc = remote_unlock(r, c, err);
	if (rc < 0) {
		error_prefix(err, rc, "remote %s", c->name);
		buf_fini(&r->format_text);
		pthread_mutex_destroy(&r->alternate_lock);
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

int remote_open_store(const char *name, struct object_store *os, struct remote **out,
		      struct error *err)
{
	struct remote_config c = { .name = "" };
	int rc;

	snprintf(c.name, sizeof(c.name), "%s", name);
	rc = open_on(&c, os, true, out, err);
	if (rc < 0)
		object_store_close(os);
	return rc;
}

int remote_open_on(const struct remote_config *c, struct object_store *os, bool make,
		   struct remote **out, struct error *err)
{
	return open_on(c, os, make, out, err);
}

int remote_open(const struct remote_config *c, bool make, struct remote **out, struct error *err)
{
	struct object_store *os;
	int rc = remote_connect(c, make, &os, err);

	if (rc < 0)
		return rc;
	rc = remote_open_on(c, os, make, out, err);
	if (rc < 0)
		object_store_close(os);
	return rc;
}

void remote_close(struct remote *r)
{
	struct remote *alternate = r ? r->alternate : NULL;

	if (!r)
		return;
	object_store_close(r->os);
	if (alternate)
		alternate->os = NULL; /* closed with the former */
	remote_close(alternate);
	free(r->alternate_url);
	pthread_mutex_destroy(&r->alternate_lock);
	buf_fini(&r->format_text);
	free(r);
}

const char *remote_name(const struct remote *r)
{
	return r->name;
}

const char *remote_uuid(const struct remote *r)
{
	return r->format.uuid;
}

bool remote_is_encrypted(const struct remote *r)
{
	return r->format.sealed;
}

bool remote_is_permanent(const struct remote *r)
{
	return r->format.permanent;
}

int remote_deletable(const struct remote *r, struct error *err)
{
	if (!r->format.permanent)
		return 0;
	return error_set(err, -EPERM,
			 "the bucket of remote %s is permanent: nothing is deleted from it, and "
			 "names stay with their snapshots",
			 r->name);
}

struct object_store *remote_objects(struct remote *r)
{
	return r->os;
}

int remote_hook(const struct remote *r, const struct digest *d, struct digest *out)
{
	struct digest whole = *d;
	int rc = r->format.sealed ? object_sealed_digest(r->sealed, d, &whole) : 0;

	*out = (struct digest){ 0 };
	memcpy(out->b, whole.b, SHARE_HOOK_BYTES);
	return rc;
}

struct pins *remote_pins(const struct remote *r)
{
	return r->pins;
}

void remote_set_pins(struct remote *r, struct pins *p)
{
	r->pins = p;
}

int remote_writable(const struct remote *r, struct error *err)
{
	if (r->os->read_only)
		return error_set(err, -EROFS, "remote %s is read-only", r->name);
	return share_format_writable(&r->format, err);
}

static bool has_all(const struct share_format *f, const struct share_format *want)
{
	return (f->moved || !want->moved) && (f->moved_meta || !want->moved_meta) &&
	       (f->alternates || !want->alternates);
}

static int add_features(struct remote *r, struct share_format *f, const struct share_format *want,
			struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	int rc;

	f->moved |= want->moved;
	f->moved_meta |= want->moved_meta;
	f->alternates |= want->alternates;
	rc = share_format_encode(f, &text, err);
	return rc < 0 ? rc : object_put(r->os, OBJECT_CONTROL, "format", text.data, text.len, err);
}

/*
 * Add features, to those that another host has added. There is no turn among hosts, and the last
 * one counts: so it is looked at again. Who needs a feature asks before each use, so that one which
 * was lost after that comes back.
 *
 * An encrypted bucket has them from the start: its keys are bound to its features.
 */
int remote_need(struct remote *r, const struct share_format *want, struct error *err)
{
	if (r->format.sealed)
		return has_all(&r->format, want)
			       ? 0
			       : error_set(err, -ENOTSUP,
					   "the bucket is encrypted, and was made without a "
					   "feature that this needs");
	for (int tries = 0; tries < FORMAT_TRIES; tries++) {
		struct remote now = { .os = r->os }; /* others read r's format */
		int rc = remote_read_format(&now, 0, err);

		buf_fini(&now.format_text);
		if (rc == 0)
			rc = share_format_writable(&now.format, err);
		if (rc < 0 || has_all(&now.format, want))
			return rc;
		rc = add_features(r, &now.format, want, err);
		if (rc < 0)
			return rc;
	}
	return error_set(err, -EAGAIN, "other hosts change the bucket's features: again");
}

bool remote_meta_stays(const struct remote *r)
{
	return r->format.sealed && !r->format.moved_meta;
}

int remote_need_moved(struct remote *r, bool meta, struct error *err)
{
	const struct share_format want = { .moved = true, .moved_meta = meta };

	return remote_need(r, &want, err);
}
