/*
 * remote_config.h - how to reach a bucket: as people write it, checked, and as a backend.
 */
#ifndef VARVE_REMOTE_CONFIG_H
#define VARVE_REMOTE_CONFIG_H

#include <stdbool.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/remote/reference.h"

#define REMOTE_TEXT_MAX 1024u /* of each string below, bytes */
#define REMOTE_TIMEOUT_MAX 86400u

/* How to reach a bucket. Strings are owned; NULL where nothing was said. */
struct remote_config {
	char name[REMOTE_NAME_MAX + 1];
	char *url;	/* "s3://BUCKET[/PREFIX]" or "file:///DIR" */
	char *endpoint; /* s3: "http(s)://HOST[:PORT]" of the service; NULL: AWS's */
	char *region, *proxy, *ca_file;
	char *credentials; /* s3_cred.h; NULL: the usual search */
	/* Where the tenant's key is (bucket_key.h): at most one of them. NULL: not encrypted. */
	char *key_file, *key_command;
	char *alternate; /* name of another remote, whose packs are borrowed (remote.h) */
	bool path_style, read_only;
	bool permanent; /* the bucket is to be one of which nothing is deleted */
	/* s3: how long a request may take, with all its attempts, seconds; 0: the default */
	unsigned timeout_s;
};
void remote_config_fini(struct remote_config *c);
/* Whether it is a directory of this host: then its path, else NULL. Lent. */
const char *remote_config_dir(const struct remote_config *c);
/*
 * {"name", "url", "endpoint", "region", "proxy", "caFile", "credentials", "pathStyle", "readOnly",
 * "timeoutSeconds", "keyFile", "keyCommand", "permanent", "alternate"}
 * -EINVAL with why, also for an unknown member.
 */
MUST_CHECK int remote_config_parse(const json_t *j, struct remote_config *out, struct error *err);
/*
 * The same object; NULL when out of memory. It holds no secret: credentials and keys only say where
 * to look.
 */
json_t *remote_config_json(const struct remote_config *c);
static inline bool remote_has_key(const struct remote_config *c)
{
	return c->key_file || c->key_command;
}
/* 0 or -EINVAL: 1 to REMOTE_NAME_MAX of [A-Za-z0-9._-], the first a letter or digit. */
MUST_CHECK int remote_name_check(const char *name, struct error *err);

/* A backend, without any request. `make`: a directory that is not there is made. */
MUST_CHECK int remote_connect(const struct remote_config *c, bool make, struct object_store **out,
			      struct error *err);

#endif
