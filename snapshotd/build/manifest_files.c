#include "snapshotd/build/manifest_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODE_MAX 07777
#define WHERE_SIZE 64 /* "files[123456].relativePath" */

int manifest_check_content(const json_t *v, const char *name, struct error *err)
{
	const char *s = json_string_value(v);

	if (!s)
		return error_set(err, -EINVAL, "\"%s\" must be a string in base64", name);
	if (base64_check(s, json_string_length(v)) < 0)
		return error_set(err, -EINVAL, "\"%s\" is not base64", name);
	return 0;
}

/* The permission bits, or -EINVAL. */
static int mode_value(const json_t *v)
{
	const char *s = manifest_text(v, 5);
	json_int_t mode;

	if (json_is_integer(v))
		mode = json_integer_value(v);
	else if (s && *s && s[strspn(s, "01234567")] == '\0')
		mode = strtol(s, NULL, 8);
	else
		return -EINVAL;
	return mode >= 0 && mode <= MODE_MAX ? (int)mode : -EINVAL;
}

int manifest_check_mode(const json_t *v, const char *name, struct error *err)
{
	if (mode_value(v) < 0)
		return error_set(err, -EINVAL,
				 "\"%s\" must be octal digits in a string, or a number, up to "
				 "\"7777\"",
				 name);
	return 0;
}

unsigned manifest_mode(const json_t *args, unsigned fallback)
{
	const json_t *v = json_object_get(args, "mode");
	int mode = v ? mode_value(v) : -EINVAL;

	return mode < 0 ? fallback : (unsigned)mode;
}

/* ---- the entries of add_dir ---- */

static int entry_members(const json_t *entry, const char *const *names, size_t n, const char *where,
			 struct error *err)
{
	const char *name;
	json_t *v;

	if (!json_is_object(entry))
		return error_set(err, -EINVAL, "%s must be an object", where);
	json_object_foreach((json_t *)entry, name, v) {
		size_t i = 0;
		while (i < n && strcmp(names[i], name) != 0)
			i++;
		if (i == n)
			return error_set(err, -EINVAL, "%s has an unknown member \"%.100s\"", where,
					 name);
	}
	v = json_object_get(entry, "mode");
	int r = v ? manifest_check_mode(v, "mode", err) : 0;
	return r < 0 ? error_prefix(err, r, "%s", where) : 0;
}

static int check_link(const json_t *entry, const json_t *target, const char *where,
		      struct error *err)
{
	const char *s = manifest_text(target, MANIFEST_PATH_MAX);

	if (!s || !*s)
		return error_set(err, -EINVAL,
				 "%s: \"target\" must be a string of 1 to %d bytes, without NUL",
				 where, MANIFEST_PATH_MAX);
	if (json_object_get(entry, "content") || json_object_get(entry, "mode"))
		return error_set(err, -EINVAL, "%s has a target, so no content and no mode", where);
	return 0;
}

static int check_file_entry(const json_t *entry, const char *where, struct error *err)
{
	static const char *const names[] = { "relativePath", "content", "mode", "target" };
	const json_t *target, *content;
	int r = entry_members(entry, names, ARRAY_SIZE(names), where, err);

	if (r < 0)
		return r;
	target = json_object_get(entry, "target");
	if (target)
		return check_link(entry, target, where, err);
	content = json_object_get(entry, "content");
	if (!content)
		return error_set(err, -EINVAL, "%s: \"content\" is missing", where);
	r = manifest_check_content(content, "content", err);
	return r < 0 ? error_prefix(err, r, "%s", where) : 0;
}

int manifest_check_files(const json_t *list, const char *name, struct error *err)
{
	char where[WHERE_SIZE];
	json_t *entry;
	size_t i;

	if (!json_is_array(list))
		return error_set(err, -EINVAL, "\"%s\" must be a list", name);
	json_array_foreach(list, i, entry) {
		snprintf(where, sizeof(where), "%s[%zu]", name, i);
		int r = check_file_entry(entry, where, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int manifest_check_dirs(const json_t *list, const char *name, struct error *err)
{
	static const char *const names[] = { "relativePath", "mode" };
	char where[WHERE_SIZE];
	json_t *entry;
	size_t i;

	if (!json_is_array(list))
		return error_set(err, -EINVAL, "\"%s\" must be a list", name);
	json_array_foreach(list, i, entry) {
		if (json_is_string(entry))
			continue;
		snprintf(where, sizeof(where), "%s[%zu]", name, i);
		int r = entry_members(entry, names, ARRAY_SIZE(names), where, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- their paths together ---- */

struct tree_path {
	const char *path;
	bool is_directory;
};

/* By bytes, but '/' first: all that lies below a path follows it without a gap. */
static int compare_paths(const void *a, const void *b)
{
	const char *s = ((const struct tree_path *)a)->path;
	const char *t = ((const struct tree_path *)b)->path;

	while (*s && *s == *t) {
		s++;
		t++;
	}
	int x = *s == '/' ? 1 : (unsigned char)*s * 2;
	int y = *t == '/' ? 1 : (unsigned char)*t * 2;
	return x - y;
}

static int add_paths(const json_t *list, const char *name, bool is_directory, size_t dir_len,
		     struct tree_path **to, struct error *err)
{
	char where[WHERE_SIZE];
	json_t *entry;
	size_t i;

	json_array_foreach(list, i, entry) {
		json_t *path =
			json_is_string(entry) ? entry : json_object_get(entry, "relativePath");
		snprintf(where, sizeof(where), "%s[%zu]: the relativePath", name, i);
		int r = manifest_check_relative(path, dir_len, where, err);
		if (r < 0)
			return r;
		*(*to)++ = (struct tree_path){ json_string_value(path), is_directory };
	}
	return 0;
}

static int compare_neighbours(const struct tree_path *paths, size_t n, struct error *err)
{
	for (size_t i = 1; i < n; i++) {
		const char *before = paths[i - 1].path, *path = paths[i].path;
		size_t len = strlen(before);
		if (strcmp(before, path) == 0)
			return error_set(err, -EINVAL, "\"%.200s\" is there twice", path);
		if (!paths[i - 1].is_directory && strncmp(before, path, len) == 0 &&
		    path[len] == '/')
			return error_set(err, -EINVAL, "\"%.100s\" lies below \"%.100s\", a file",
					 path, before);
	}
	return 0;
}

int manifest_check_tree(const json_t *args, struct error *err)
{
	const json_t *files = json_object_get(args, "files"), *dirs = json_object_get(args, "dirs");
	size_t n = json_array_size(files) + json_array_size(dirs);
	size_t dir_len = json_string_length(json_object_get(args, "path"));
	struct tree_path *paths = calloc(n + 1, sizeof(*paths)), *end = paths;

	if (!paths)
		return -ENOMEM;
	int r = add_paths(files, "files", false, dir_len, &end, err);
	if (r == 0)
		r = add_paths(dirs, "dirs", true, dir_len, &end, err);
	if (r == 0) {
		qsort(paths, n, sizeof(*paths), compare_paths);
		r = compare_neighbours(paths, n, err);
	}
	free(paths);
	return r;
}
