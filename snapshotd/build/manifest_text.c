#include "snapshotd/build/manifest_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

const char *manifest_text(const json_t *v, size_t max)
{
	const char *s = json_string_value(v);
	size_t len = json_string_length(v);

	return s && len <= max && strlen(s) == len ? s : NULL;
}

static bool is_control(char c)
{
	return (uint8_t)c < 0x20 || c == 0x7f;
}

bool manifest_has_control(const char *s)
{
	while (*s && !is_control(*s))
		s++;
	return *s != '\0';
}

/* The name at s, of len bytes, as part of a path. "" and "." are left to the caller. */
static int check_name(const char *s, size_t len, const char *where, struct error *err)
{
	size_t i = 0;

	if (len == 2 && s[0] == '.' && s[1] == '.')
		return error_set(err, -EINVAL, "%s must not have \"..\" in it", where);
	if (len > NAME_MAX)
		return error_set(err, -EINVAL, "%s has a name of more than %d bytes", where,
				 NAME_MAX);
	while (i < len && is_control(s[i]))
		i++;
	if (len > 0 && i == len)
		return error_set(err, -EINVAL, "%s has a name of control characters alone", where);
	return 0;
}

static bool is_dot(const char *s, size_t len)
{
	return len == 1 && s[0] == '.';
}

int manifest_check_path(const json_t *v, const char *name, bool is_directory, struct error *err)
{
	const char *s = manifest_text(v, MANIFEST_PATH_MAX);
	size_t len = 0;

	if (!s)
		return error_set(err, -EINVAL,
				 "\"%s\" must be a path of %d bytes at most, without NUL", name,
				 MANIFEST_PATH_MAX);
	if (*s != '/')
		return error_set(err, -EINVAL, "\"%s\" must be an absolute path", name);
	while (*s == '/') {
		s++;
		len = strcspn(s, "/");
		int r = check_name(s, len, name, err);
		if (r < 0)
			return r;
		s += len;
	}
	if (!is_directory && (len == 0 || is_dot(s - len, len)))
		return error_set(err, -EINVAL, "\"%s\" must end in the name of a file", name);
	return 0;
}

int manifest_check_relative(const json_t *v, size_t dir_len, const char *where, struct error *err)
{
	size_t max = MANIFEST_PATH_MAX > dir_len ? MANIFEST_PATH_MAX - dir_len - 1 : 0;
	const char *s = manifest_text(v, max);

	if (!s)
		return error_set(err, -EINVAL,
				 "%s must be a path, without NUL, of %d bytes at most with the "
				 "directory's",
				 where, MANIFEST_PATH_MAX);
	for (;; s++) {
		size_t len = strcspn(s, "/");
		if (len == 0 || is_dot(s, len))
			return error_set(err, -EINVAL,
					 "%s must be a relative path, without empty names or \".\"",
					 where);
		int r = check_name(s, len, where, err);
		if (r < 0)
			return r;
		s += len;
		if (!*s)
			return 0;
	}
}
