#include "tools/cli/mount_ref.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/cli/remote_ref.h"
#include "tools/cli/snapshots_view.h"

/*
 * The name that the kernel has for a mountpoint: symlinks resolved, but without
 * looking at the last component, because that of a dead mount does not answer.
 */
static char *mountpoint_path(const char *word)
{
	size_t len = strlen(word);

	while (len > 1 && word[len - 1] == '/')
		len--;
	char *copy = strndup(word, len);
	if (!copy)
		return NULL;
	char *slash = strrchr(copy, '/');
	const char *last = slash ? slash + 1 : copy;
	char *path = NULL;
	if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
		path = realpath(copy, NULL);
	} else {
		if (slash)
			*slash = '\0';
		char *dir = realpath(!slash ? "." : *copy ? copy : "/", NULL);
		if (dir && asprintf(&path, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, last) < 0)
			path = NULL;
		free(dir);
	}
	free(copy);
	return path;
}

static bool is_at(const json_t *m, const char *path)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	return bytes_json_get(m, "mountpoint", &b) == 0 && buf_cstr(&b) &&
	       strcmp((const char *)b.data, path) == 0;
}

/* The mount at `path`, borrowed, or NULL. */
static json_t *at_path(const json_t *mounts, const char *path)
{
	json_t *m, *detached = NULL;
	size_t i;

	json_array_foreach(mounts, i, m) {
		if (!is_at(m, path))
			continue;
		if (cli_flag(m, "attached"))
			return m;
		detached = m;
	}
	return detached;
}

/* remote: it is a path of another host, and taken as it is. */
static json_t *by_path(const json_t *mounts, const char *word, bool remote)
{
	char *path = remote ? strdup(word) : mountpoint_path(word);
	json_t *m = path ? at_path(mounts, path) : NULL;

	free(path);
	if (m || remote)
		return m;
	path = realpath(word, NULL); /* a symlink to it */
	m = path ? at_path(mounts, path) : NULL;
	free(path);
	return m;
}

/* By id or a start of one; *count says how many fit. */
static json_t *by_id(const json_t *mounts, const char *word, int *count)
{
	size_t i, len = strlen(word);
	json_t *m, *found = NULL;

	*count = 0;
	json_array_foreach(mounts, i, m) {
		const char *id = cli_str(m, "id");
		if (len == 0 || strncmp(id, word, len) != 0)
			continue;
		found = m;
		if (id[len] == '\0') {
			*count = 1;
			return m;
		}
		++*count;
	}
	return found;
}

/* 0 with *out borrowed from mounts, -ENOENT or -EINVAL. */
static int find_in(const json_t *mounts, const char *word, bool remote, json_t **out,
		   struct error *err)
{
	int count = 0;

	*out = NULL;
	if (!strchr(word, '/'))
		*out = by_id(mounts, word, &count);
	if (count > 1)
		return error_set(err, -EINVAL, "%d mounts have an id that starts with '%s'", count,
				 word);
	if (!*out)
		*out = by_path(mounts, word, remote);
	return *out ? 0 : error_set(err, -ENOENT, "no mount is at '%s' or has that id", word);
}

int mount_find(struct cli *cli, const char *word, json_t **out, struct error *err)
{
	json_t *mounts = NULL, *m;
	int r = cli_call(cli, "GET", "/api/mounts", NULL, NULL, &mounts, err);

	if (r == 0)
		r = find_in(mounts, word, cli_is_remote(cli), &m, err);
	if (r == 0)
		*out = json_incref(m);
	json_decref(mounts);
	return r;
}

int mount_or_snapshot(struct cli *cli, const char *word, json_t **out, bool *is_mount,
		      struct error *err)
{
	struct error e = ERROR_INIT, ignored = ERROR_INIT;

	if (strchr(word, '/') || strcmp(word, ".") == 0 || strcmp(word, "..") == 0) {
		*is_mount = true;
		return mount_find(cli, word, out, err);
	}
	*is_mount = false;
	if (remote_ref_is(word))
		return remote_ref_pull(cli, word, "", true, out, err);
	int r = cli_snapshot(cli, word, out, &e);
	if (r == -ENOENT) {
		int m = mount_find(cli, word, out, &ignored);
		if (m == 0) {
			*is_mount = true;
			return 0;
		}
		if (m == -EINVAL)
			return error_set(err, m, "%s", error_text(&ignored));
	}
	return r < 0 ? error_set(err, r, "%s", error_text(&e)) : 0;
}

char *mount_own_place(const char *state_dir, const json_t *m)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	size_t len = strlen(state_dir);

	if (bytes_json_get(m, "mountpoint", &b) < 0 || !buf_cstr(&b))
		return NULL;
	const char *at = (const char *)b.data;

	if (strncmp(at, state_dir, len) != 0 || at[len] != '/')
		return NULL;
	return strdup(at + len + 1);
}

/* Is it the mount of one of these builds or sandboxes? */
static bool is_named(const json_t *list, const char *mount_id)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
		if (strcmp(cli_str(o, "mountID"), mount_id) == 0)
			return true;
	return false;
}

/* Where its directory is not known: those that its sandboxes name. */
static int hide_those_of_sandboxes(struct cli *cli, json_t *list, size_t *hidden, struct error *err)
{
	json_t *sandboxes = NULL;
	int r = cli_call(cli, "GET", "/api/sandboxes", NULL, NULL, &sandboxes, err);

	for (size_t i = json_array_size(list); r == 0 && i-- > 0;)
		if (is_named(sandboxes, cli_str(json_array_get(list, i), "id")) &&
		    json_array_remove(list, i) == 0)
			++*hidden;
	json_decref(sandboxes);
	return r;
}

int mounts_hide_own(struct cli *cli, json_t *list, size_t *out_hidden, struct error *err)
{
	json_t *builds = NULL;
	const char *dir;
	int r;

	*out_hidden = 0;
	if (cli_is_remote(cli))
		return hide_those_of_sandboxes(cli, list, out_hidden, err);
	r = cli_state_dir(cli, &dir, err);
	for (size_t i = json_array_size(list); r == 0 && i-- > 0;) {
		const json_t *m = json_array_get(list, i);
		char *place = mount_own_place(dir, m);

		if (place && !builds)
			r = cli_call(cli, "GET", "/api/builds", NULL, NULL, &builds, err);
		if (r == 0 && place && !is_named(builds, cli_str(m, "id")) &&
		    json_array_remove(list, i) == 0)
			++*out_hidden;
		free(place);
	}
	json_decref(builds);
	return r;
}
