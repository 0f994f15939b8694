/* The key of an encrypted bucket: made and found. */
#include <errno.h>
#include <string.h>

#include "store/bucket/object_sealed.h"
#include "store/remote/remote_key.h"
#include "store/remote/remote_state_internal.h"

int remote_tenant_key(const struct remote *r, const struct remote_config *c, struct crypt_key *out,
		      struct error *err)
{
	return tenant_key_load(c->key_file, c->key_command, &r->os->stopped, out, err);
}

/* A format that was lost is not replaced: it had the key of what is there. */
static int check_empty(struct object_store *os, struct error *err)
{
	struct object_request r = {
		.op = OBJECT_LIST, .priority = OBJECT_CONTROL, .key = "", .max_keys = 1
	};
	int rc;

	object_run(os, &r, 1);
	rc = r.result < 0 ? error_set(err, r.result, "%s", error_text(&r.err)) : 0;
	if (rc == 0 && r.n_entries)
		rc = error_set(err, -EACCES,
			       "there are objects, but no \"format\": a new bucket is made in an "
			       "empty place only; if this was one, put its format back");
	object_request_fini(&r);
	return rc;
}

int remote_add_key(struct share_format *f, const char *about, const struct crypt_key *tenant,
		   const struct crypt_key *key, struct error *err)
{
	int rc;

	if (f->n_keys == SHARE_KEYS_MAX)
		return error_set(err, -EINVAL, "the bucket has %u keys, the most that may be",
				 SHARE_KEYS_MAX);
	rc = bucket_key_wrap(tenant, about, key, f->keys[f->n_keys]);
	if (rc < 0)
		return error_set_errno(err, rc, "wrap the bucket's key");
	f->n_keys++;
	return 0;
}

int remote_make_key(struct remote *r, const struct remote_config *c, struct share_format *f,
		    struct error *err)
{
	struct crypt_key CLEANUP(crypt_key_wipe_p) tenant, CLEANUP(crypt_key_wipe_p) key;
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT, CLEANUP(buf_fini_p) about = BUF_INIT;
	int rc = remote_tenant_key(r, c, &tenant, err);

	if (rc == 0)
		rc = check_empty(r->os, err);
	if (rc < 0)
		return rc;
	rc = crypt_random(&key, sizeof(key));
	if (rc < 0)
		return error_set_errno(err, rc, "make a key");
	f->sealed = true;
	f->alternates = c->alternate != NULL;
	f->moved = f->moved_meta = true; /* the key is bound to the features: none is added later */
	rc = share_format_encode(f, &text, err);
	if (rc == 0)
		rc = share_format_about(text.data, text.len, &about, err);
	return rc < 0 ? rc : remote_add_key(f, (const char *)about.data, &tenant, &key, err);
}

int remote_find_key(const struct remote *r, const char *about, const struct crypt_key *tenant,
		    struct crypt_key *out, struct error *err)
{
	int rc = -EBADMSG;

	for (unsigned i = 0; i < r->format.n_keys && rc == -EBADMSG; i++)
		rc = bucket_key_unwrap(tenant, about, r->format.keys[i], out);
	if (rc == -EBADMSG)
		return error_set(err, -EACCES,
				 "the key does not open the bucket: it is another one's, or the "
				 "bucket's \"format\" was changed");
	return rc < 0 ? error_set_errno(err, rc, "open the bucket's key") : 0;
}

int remote_about(const struct remote *r, struct buf *out, struct error *err)
{
	return share_format_about(r->format_text.data, r->format_text.len, out, err);
}

int remote_unlock(struct remote *r, const struct remote_config *c, struct error *err)
{
	struct crypt_key CLEANUP(crypt_key_wipe_p) tenant, CLEANUP(crypt_key_wipe_p) key;
	struct buf CLEANUP(buf_fini_p) about = BUF_INIT;
	int rc;

	if (!r->format.sealed && !remote_has_key(c))
		return 0;
	if (!r->format.sealed)
		return error_set(err, -EACCES,
				 "a key is given, but the bucket is not encrypted: only a new one "
				 "can be");
	if (!remote_has_key(c))
		return error_set(err, -EACCES,
				 "the bucket is encrypted: its key is needed (keyFile or "
				 "keyCommand)");
	rc = remote_tenant_key(r, c, &tenant, err);
	if (rc == 0)
		rc = remote_about(r, &about, err);
	if (rc == 0)
		rc = remote_find_key(r, (const char *)about.data, &tenant, &key, err);
	if (rc == 0)
		rc = object_sealed_open(r->os, &key, &r->os, err);
	if (rc == 0)
		r->sealed = r->os;
	return rc;
}
