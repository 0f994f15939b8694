#include "store/remote/remote_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/bucket/object_dir.h"
#include "store/bucket/object_fault.h"
#include "store/bucket/object_s3.h"
#include "store/names/snapshot.h"

int remote_name_check(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len < 1 || len > REMOTE_NAME_MAX)
		return error_set(err, -EINVAL, "a remote's name has 1 to %u characters",
				 REMOTE_NAME_MAX);
	if (snapshot_name_check(name, NULL) < 0)
		return error_set(err, -EINVAL,
				 "remote \"%.80s\": letters, digits and \"._-\", the first a "
				 "letter or digit",
				 name);
	return 0;
}

/* ---- configuration ---- */

void remote_config_fini(struct remote_config *c)
{
	free(c->url);
	free(c->endpoint);
	free(c->region);
	free(c->proxy);
	free(c->ca_file);
	free(c->credentials);
	free(c->key_file);
	free(c->key_command);
	free(c->alternate);
	*c = (struct remote_config){ 0 };
}

#define TEXTS_ANY 4u /* of the texts below: for directories, too */

static const struct text_member {
	const char *name;
	size_t offset;
} texts[] = {
	{ "url", offsetof(struct remote_config, url) },
	{ "keyFile", offsetof(struct remote_config, key_file) },
	{ "keyCommand", offsetof(struct remote_config, key_command) },
	{ "alternate", offsetof(struct remote_config, alternate) },
	/* Those from here on go with s3:// only. */
	{ "endpoint", offsetof(struct remote_config, endpoint) },
	{ "region", offsetof(struct remote_config, region) },
	{ "proxy", offsetof(struct remote_config, proxy) },
	{ "caFile", offsetof(struct remote_config, ca_file) },
	{ "credentials", offsetof(struct remote_config, credentials) },
};

static char **text_of(struct remote_config *c, const struct text_member *m)
{
	return (char **)((char *)c + m->offset);
}

/* Set a text. *taken: there is such a member. */
static int parse_text(struct remote_config *c, const char *member, const json_t *v, bool *taken,
		      struct error *err)
{
	const char *s = json_string_value(v);

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(texts[i].name, member) != 0)
			continue;
		*taken = true;
		if (json_is_null(v))
			return 0;
		if (!s || strlen(s) != json_string_length(v) || !*s || strlen(s) > REMOTE_TEXT_MAX)
			return error_set(err, -EINVAL, "%s: a text of 1 to %u bytes is needed",
					 member, REMOTE_TEXT_MAX);
		free(*text_of(c, &texts[i]));
		*text_of(c, &texts[i]) = strdup(s);
		return *text_of(c, &texts[i]) ? 0 : -ENOMEM;
	}
	return 0;
}

static int parse_member(struct remote_config *c, const char *member, const json_t *v,
			struct error *err)
{
	bool taken = false;
	int rc = parse_text(c, member, v, &taken, err);

	if (rc < 0 || taken)
		return rc;
	if (strcmp(member, "name") == 0 && json_is_string(v)) {
		rc = remote_name_check(json_string_value(v), err);
		if (rc == 0)
			strcpy(c->name, json_string_value(v));
		return rc;
	}
	if (strcmp(member, "timeoutSeconds") == 0) {
		json_int_t s = json_integer_value(v);

		if (json_is_null(v))
			return 0;
		if (s < 1 || s > REMOTE_TIMEOUT_MAX)
			return error_set(err, -EINVAL, "%s: an integer from 1 to %u is needed",
					 member, REMOTE_TIMEOUT_MAX);
		c->timeout_s = (unsigned)s;
		return 0;
	}
	if (json_is_boolean(v) && strcmp(member, "pathStyle") == 0)
		c->path_style = json_is_true(v);
	else if (json_is_boolean(v) && strcmp(member, "readOnly") == 0)
		c->read_only = json_is_true(v);
	else if (json_is_boolean(v) && strcmp(member, "permanent") == 0)
		c->permanent = json_is_true(v);
	else
		return error_set(err, -EINVAL, "\"%.80s\": no such member, or not of its type",
				 member);
	return 0;
}

#define S3_URL "s3://"
#define FILE_URL "file://"

/* A prefix may end with one '/'. */
static int s3_prefix_check(const char *prefix)
{
	char key[REMOTE_TEXT_MAX + 1];
	size_t len = strlen(prefix);

	snprintf(key, sizeof(key), "%s", prefix);
	if (key[len - 1] == '/')
		key[len - 1] = '\0';
	return object_key_check(key);
}

/* "BUCKET" or "BUCKET/PREFIX" after s3://. */
static int check_s3_url(const char *rest, struct error *err)
{
	size_t bucket = strcspn(rest, "/");

	if (bucket == 0)
		return error_set(err, -EINVAL, "url: no bucket in s3://%.100s", rest);
	if (rest[bucket] && rest[bucket + 1] && s3_prefix_check(rest + bucket + 1) < 0)
		return error_set(
			err, -EINVAL,
			"url: the prefix \"%.100s\" is not made of [a-z0-9._/-], or has an "
			"empty part",
			rest + bucket + 1);
	return 0;
}

static int check_config(const struct remote_config *c, struct error *err)
{
	const char *url = c->url;

	if (!c->name[0] || !url)
		return error_set(err, -EINVAL, "a remote needs a \"name\" and a \"url\"");
	if (c->alternate && strcmp(c->alternate, c->name) == 0)
		return error_set(err, -EINVAL, "alternate: another remote's name is needed");
	if (c->key_file && c->key_command)
		return error_set(err, -EINVAL, "give one of keyFile and keyCommand");
	if (c->key_file && c->key_file[0] != '/')
		return error_set(err, -EINVAL, "keyFile: an absolute path is needed");
	if (strncmp(url, S3_URL, strlen(S3_URL)) == 0)
		return check_s3_url(url + strlen(S3_URL), err);
	if (strncmp(url, FILE_URL, strlen(FILE_URL)) != 0)
		return error_set(err, -EINVAL,
				 "url: \"%.100s\" begins neither with s3:// nor with file://", url);
	if (url[strlen(FILE_URL)] != '/')
		return error_set(err, -EINVAL,
				 "url: file:// is followed by an absolute path, "
				 "as in file:///srv/varve");
	if (c->timeout_s)
		return error_set(err, -EINVAL, "timeoutSeconds goes with s3:// only");
	for (size_t i = TEXTS_ANY; i < ARRAY_SIZE(texts); i++)
		if (*text_of((struct remote_config *)c, &texts[i]))
			return error_set(err, -EINVAL, "%s goes with s3:// only", texts[i].name);
	return 0;
}

int remote_config_parse(const json_t *j, struct remote_config *out, struct error *err)
{
	struct remote_config c = { 0 };
	const char *member;
	json_t *v;
	int rc = 0;

	if (!json_is_object(j))
		return error_set(err, -EINVAL, "a remote is an object");
	json_object_foreach((json_t *)j, member, v) {
		rc = parse_member(&c, member, v, err);
		if (rc < 0)
			break;
	}
	if (rc == 0)
		rc = check_config(&c, err);
	if (rc < 0) {
		remote_config_fini(&c);
		return rc;
	}
	*out = c;
	return 0;
}

json_t *remote_config_json(const struct remote_config *c)
{
	json_t *j = json_pack("{s:s, s:b, s:b}", "name", c->name, "pathStyle", c->path_style,
			      "readOnly", c->read_only);
	int failed = j == NULL;

	if (!failed && c->permanent)
		failed = json_object_set_new(j, "permanent", json_true());
	if (!failed && c->timeout_s)
		failed = json_object_set_new(j, "timeoutSeconds", json_integer(c->timeout_s));
	for (size_t i = 0; i < ARRAY_SIZE(texts) && !failed; i++) {
		const char *s = *text_of((struct remote_config *)c, &texts[i]);
		if (s)
			failed = json_object_set_new(j, texts[i].name, json_string(s));
	}
	if (failed) {
		json_decref(j);
		return NULL;
	}
	return j;
}

const char *remote_config_dir(const struct remote_config *c)
{
	return strncmp(c->url, FILE_URL, strlen(FILE_URL)) == 0 ? c->url + strlen(FILE_URL) : NULL;
}

/* ---- opening ---- */

static int open_s3(const struct remote_config *c, struct object_store **out, struct error *err)
{
	const char *rest = c->url + strlen(S3_URL);
	size_t len = strcspn(rest, "/"), prefix_len;
	char bucket[REMOTE_TEXT_MAX + 1], prefix[REMOTE_TEXT_MAX + 1];
	const struct object_s3_options o = {
		.endpoint = c->endpoint,
		.bucket = bucket,
		.prefix = prefix,
		.region = c->region,
		.proxy = c->proxy,
		.ca_file = c->ca_file,
		.credentials = c->credentials,
		.path_style = c->path_style,
		.read_only = c->read_only,
		.timeout_ms = c->timeout_s * 1000,
	};

	snprintf(bucket, sizeof(bucket), "%.*s", (int)len, rest);
	snprintf(prefix, sizeof(prefix), "%s", rest[len] ? rest + len + 1 : "");
	prefix_len = strlen(prefix);
	if (prefix_len && prefix[prefix_len - 1] == '/')
		prefix[prefix_len - 1] = '\0';
	return object_s3_open(&o, out, err);
}

/* A directory that is not there is made only where the bucket is. */
static int open_dir(const char *dir, bool make, bool read_only, struct object_store **out,
		    struct error *err)
{
	if (!make && access(dir, F_OK) < 0)
		return error_set(err, -errno, "%s is not there any more (%s): is it mounted?", dir,
				 strerror(errno));
	return object_dir_open(dir, read_only, out, err);
}

int remote_connect(const struct remote_config *c, bool make, struct object_store **out,
		   struct error *err)
{
	const char *dir = remote_config_dir(c);
	struct object_store *os = NULL;
	int rc;

	if (dir)
		rc = open_dir(dir, make, c->read_only, &os, err);
	else
		rc = open_s3(c, &os, err);
	if (rc == 0 && (rc = object_fault_by_env(&os, err)) < 0)
		object_store_close(os);
	if (rc < 0)
		return error_prefix(err, rc, "remote %s", c->name);
	*out = os;
	return 0;
}
