/* Another tenant's key for an encrypted bucket. */
#include <errno.h>

#include "store/remote/remote_internal.h"
#include "store/remote/remote_key.h"
#include "store/remote/remote_state_internal.h"

#define TIMEOUT_MS 30000u

/* Write the format with the new key. It is looked at again: there is no turn among hosts. */
static int write_key(struct remote *r, const char *about, const struct crypt_key *tenant,
		     const struct crypt_key *key, struct error *err)
{
	struct crypt_key CLEANUP(crypt_key_wipe_p) found;
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	int rc = remote_add_key(&r->format, about, tenant, key, err);

	if (rc == 0)
		rc = share_format_rekey(r->format_text.data, r->format_text.len, &r->format, &text,
					err);
	if (rc == 0)
		rc = object_put(r->os, OBJECT_CONTROL, "format", text.data, text.len, err);
	if (rc == 0)
		rc = remote_read_format(r, TIMEOUT_MS, err);
	if (rc == 0 && remote_find_key(r, about, tenant, &found, NULL) < 0)
		rc = error_set(err, -EAGAIN, "another host has changed the bucket's keys: again");
	return rc;
}

static int rekey(struct remote *r, const struct remote_config *was, const struct remote_config *now,
		 bool keep, struct error *err)
{
	struct crypt_key CLEANUP(crypt_key_wipe_p) old, CLEANUP(crypt_key_wipe_p) new,
		CLEANUP(crypt_key_wipe_p) key;
	struct buf CLEANUP(buf_fini_p) about = BUF_INIT;
	int rc = remote_read_format(r, TIMEOUT_MS, err);

	if (rc == 0)
		rc = remote_about(r, &about, err);
	if (rc == 0)
		rc = remote_tenant_key(r, now, &new, err);
	if (rc < 0)
		return rc;
	const char *bound = (const char *)about.data;
	bool opens = remote_find_key(r, bound, &new, &key, NULL) == 0;
	if (opens && (keep || r->format.n_keys == 1 || r->os->read_only))
		return 0;
	if (!opens && !remote_has_key(was))
		return remote_find_key(r, bound, &new, &key, err);
	if (!opens) {
		rc = remote_tenant_key(r, was, &old, err);
		if (rc == 0)
			rc = remote_find_key(r, bound, &old, &key, err);
	}
	if (rc == 0)
		rc = share_format_writable(&r->format, err);
	if (!keep)
		r->format.n_keys = 0;
	return rc < 0 ? rc : write_key(r, bound, &new, &key, err);
}

int remote_rekey(const struct remote_config *was, const struct remote_config *now, bool keep,
		 struct error *err)
{
	struct remote r = { .name = "" };
	int rc = remote_connect(was, false, &r.os, err);

	if (rc < 0)
		return rc;
	rc = rekey(&r, was, now, keep, err);
	object_store_close(r.os);
	buf_fini(&r.format_text);
	return rc < 0 ? error_prefix(err, rc, "remote %s", was->name) : 0;
}
