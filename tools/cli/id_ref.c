#include "tools/cli/id_ref.h"

#include <errno.h>
#include <string.h>

#define SANDBOX_PREFIX "sb-"
#define MIN_LENGTH 2 /* of the start of an id */

bool is_sandbox_id(const char *word)
{
	return strncmp(word, SANDBOX_PREFIX, strlen(SANDBOX_PREFIX)) == 0;
}

int id_match(const json_t *list, const char *key, const char *prefix, const char *word,
	     const char *what, json_t **out, struct error *err)
{
	size_t skip = strncmp(word, prefix, strlen(prefix)) == 0 ? 0 : strlen(prefix), i, n = 0;
	json_t *found = NULL, *o;

	json_array_foreach(list, i, o) {
		const char *id = cli_str(o, key);
		if (!*id)
			continue;
		if (strcmp(id, word) == 0 || (strlen(id) > skip && strcmp(id + skip, word) == 0)) {
			*out = o;
			return 0;
		}
		if (strlen(id) >= skip && strncmp(id + skip, word, strlen(word)) == 0) {
			found = o;
			n++;
		}
	}
	if (strlen(word) < MIN_LENGTH || (skip == 0 && strlen(word) < strlen(prefix) + MIN_LENGTH))
		n = 0;
	if (n == 0)
		return error_set(err, -ENOENT, "no %s has the id \"%s\"", what, word);
	if (n > 1)
		return error_set(err, -EINVAL, "%zu ids of a %s begin with \"%s\"", n, what, word);
	*out = found;
	return 0;
}

static int find(struct cli *cli, const char *path, const char *key, const char *prefix,
		const char *word, const char *what, json_t **out, struct error *err)
{
	json_t *list = NULL, *o = NULL;
	int r = cli_call(cli, "GET", path, NULL, NULL, &list, err);

	if (r == 0)
		r = id_match(list, key, prefix, word, what, &o, err);
	if (r == 0)
		*out = json_incref(o);
	json_decref(list);
	return r;
}

/* The newest build that was asked for by that name, or NULL; borrowed. */
static json_t *newest_named(const json_t *builds, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach(builds, i, o)
		if (strcmp(cli_str(o, "name"), name) == 0)
			return o;
	return NULL;
}

/* The build that a snapshot was made by; -ENOENT where that is not known. */
static int build_of_snapshot(struct cli *cli, const json_t *builds, const char *name, json_t **out)
{
	struct error ignored = ERROR_INIT;
	json_t *snapshot = NULL;
	int r = cli_call(cli, "GET", "/api/snapshots/%s", name, NULL, &snapshot, &ignored);

	if (r == 0)
		r = *cli_str(snapshot, "buildID")
			    ? id_match(builds, "id", "", cli_str(snapshot, "buildID"), "build", out,
				       &ignored)
			    : -ENOENT;
	json_decref(snapshot);
	return r;
}

int build_find(struct cli *cli, const char *word, json_t **out, struct error *err)
{
	json_t *list = NULL, *o = NULL;
	int r = cli_call(cli, "GET", "/api/builds", NULL, NULL, &list, err);

	if (r == 0 && !(o = newest_named(list, word))) {
		r = id_match(list, "id", "", word, "build", &o, err);
		if (r == -ENOENT && build_of_snapshot(cli, list, word, &o) == 0)
			r = 0;
		else if (r == -ENOENT)
			error_set(err, r, "no build has the id or made the snapshot \"%s\"", word);
	}
	if (r == 0)
		*out = json_incref(o);
	json_decref(list);
	return r;
}

int sandbox_find(struct cli *cli, const char *word, json_t **out, struct error *err)
{
	return find(cli, "/api/sandboxes", "sandboxID", SANDBOX_PREFIX, word, "sandbox", out, err);
}
