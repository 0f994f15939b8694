#include "store/remote/register.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/layout/share_key.h"

/* "name/" + twice a name + "/" + 16 */
#define PATH_SIZE SHARE_KEY_SIZE

void register_value_fini(struct register_value *v)
{
	buf_fini(&v->body);
	*v = (struct register_value){ 0 };
}

static void generation_key(const char *path, uint64_t generation, char out[PATH_SIZE])
{
	snprintf(out, PATH_SIZE, "%s/%016" PRIx64, path, UINT64_MAX - generation);
}

uint64_t register_key_generation(const char *path, const char *key)
{
	const char *digits = key + strlen(path) + 1;
	uint64_t n;
	char *end;

	if (strlen(digits) != 16)
		return 0;
	n = strtoull(digits, &end, 16);
	return *end || n == UINT64_MAX ? 0 : UINT64_MAX - n;
}

int register_generation(struct object_store *os, const char *path, uint64_t *out, int64_t *out_date,
			struct error *err)
{
	char prefix[PATH_SIZE];
	struct object_request r = {
		.op = OBJECT_LIST, .priority = OBJECT_CONTROL, .key = prefix, .max_keys = 1
	};
	int rc;

	snprintf(prefix, sizeof(prefix), "%s/", path);
	object_run(os, &r, 1);
	rc = r.result;
	if (rc < 0)
		error_set(err, rc, "%s", error_text(&r.err));
	if (rc == 0)
		*out = r.n_entries ? register_key_generation(path, r.entries[0].key) : 0;
	if (rc == 0 && out_date)
		*out_date = r.date;
	object_request_fini(&r);
	return rc;
}

int register_newest(struct object_store *os, const char *path, size_t max_len,
		    struct register_value *out, struct error *err)
{
	struct register_value v = { 0 };
	char key[PATH_SIZE];
	int rc = register_generation(os, path, &v.generation, &v.date, err);

	if (rc == 0 && v.generation) {
		generation_key(path, v.generation, key);
		rc = object_get(os, OBJECT_CONTROL, key, max_len, &v.body, NULL, err);
	}
	if (rc < 0) {
		register_value_fini(&v);
		return rc;
	}
	*out = v;
	return 0;
}

/* Whether the object is what we wrote. 1, 0, or a failure. */
static int is_ours(struct object_store *os, const char *key, const void *body, size_t len,
		   struct error *err)
{
	struct buf CLEANUP(buf_fini_p) found = BUF_INIT;
	int rc = object_get(os, OBJECT_CONTROL, key, 0, &found, NULL, err);

	if (rc < 0)
		return rc;
	return found.len == len && memcmp(found.data, body, len) == 0;
}

int register_append(struct object_store *os, const char *path, const struct register_value *seen,
		    const void *body, size_t len, struct error *err)
{
	char key[PATH_SIZE];
	int rc, ours;

	if (seen->generation >= SHARE_GENERATION_MAX)
		return error_set(err, -EOVERFLOW, "%s: no more generations", path);
	generation_key(path, seen->generation + 1, key);
	rc = object_put_once(os, OBJECT_CONTROL, key, body, len, seen->date, err);
	if (rc != -EEXIST && rc != -ETIMEDOUT)
		return rc;
	ours = is_ours(os, key, body, len, NULL);
	if (ours == 1)
		return 0;
	if (ours == 0)
		return error_set(err, -EEXIST, "%s: another host has changed it", path);
	return rc; /* -EEXIST and gone since, or nobody answers: as it was */
}

/* Up to a page of what is older than `before`. 1: there may be more. */
static int trim_page(struct object_store *os, const char *path, uint64_t before, struct error *err)
{
	struct object_request del = { .op = OBJECT_DELETE, .priority = OBJECT_BACKGROUND };
	const char *names[OBJECT_LIST_MAX];
	char prefix[PATH_SIZE], after[PATH_SIZE];
	struct object_request r = {
		.op = OBJECT_LIST, .priority = OBJECT_BACKGROUND, .key = prefix, .after = after
	};
	int rc;

	snprintf(prefix, sizeof(prefix), "%s/", path);
	generation_key(path, before, after);
	object_run(os, &r, 1);
	rc = r.result;
	for (size_t i = 0; i < r.n_entries && rc == 0; i++)
		if (register_key_generation(path, r.entries[i].key))
			names[del.n_names++] = r.entries[i].key;
	if (rc == 0 && del.n_names) {
		del.key = path;
		del.names = names;
		object_run(os, &del, 1);
		rc = del.result;
		r.err = del.err;
	}
	if (rc < 0)
		error_set(err, rc, "%s", error_text(&r.err));
	else
		rc = r.more && del.n_names ? 1 : 0;
	object_request_fini(&r);
	return rc;
}

int register_trim(struct object_store *os, const char *path, uint64_t newest, unsigned keep,
		  struct error *err)
{
	int rc = 1;

	if (newest <= keep)
		return 0;
	while (rc > 0)
		rc = trim_page(os, path, newest - keep + 1, err);
	return rc;
}
