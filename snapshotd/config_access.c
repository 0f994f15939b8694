#include "snapshotd/config_access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/remote/remotes.h"

#define CONFIG_FILE_MAX (1u << 20)

int config_key_check(const char *key, struct error *err)
{
	size_t len = strlen(key);

	if (len < API_KEY_MIN)
		return error_set(err, -EINVAL,
				 "the API key has %zu characters: it must have at least %d", len,
				 API_KEY_MIN);
	for (size_t i = 0; i < len; i++)
		if (key[i] < ' ' || key[i] > '~' || key[0] == ' ' || key[len - 1] == ' ')
			return error_set(err, -EINVAL,
					 "the API key begins or ends with a space or has a "
					 "character that is not printable ASCII, which no header "
					 "carries");
	return 0;
}

int config_key_file_check(const char *path, const struct stat *st, struct error *err)
{
	if (st->st_mode & (S_IRWXO | S_IWGRP))
		return error_set(err, -EACCES,
				 "%s holds the API key, and others than its owner may %s it (mode "
				 "%04o): chmod 600 it",
				 path, st->st_mode & S_IROTH ? "read" : "use",
				 (unsigned)st->st_mode & 07777);
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return error_set(err, -EACCES,
				 "%s holds the API key and belongs to user %u, not to the daemon's",
				 path, (unsigned)st->st_uid);
	return 0;
}

int config_hosts_check(const json_t *hosts, struct error *err)
{
	const json_t *v;
	size_t i;

	json_array_foreach(hosts, i, v) {
		const char *s = json_string_value(v);

		if (!s || !*s || strpbrk(s, " /[]*"))
			return error_set(err, -EINVAL,
					 "allowedHosts: [%zu] is not the name or address of a host",
					 i);
	}
	return 0;
}

int config_roots_check(const char *name, const json_t *roots, struct error *err)
{
	const json_t *v;
	size_t i;

	json_array_foreach(roots, i, v) {
		const char *s = json_string_value(v);

		if (!s || s[0] != '/')
			return error_set(err, -EINVAL, "%s: [%zu] is not an absolute path", name,
					 i);
	}
	return 0;
}

int config_remotes_check(const json_t *remotes, struct error *err)
{
	const json_t *v, *other;
	size_t i, k;

	if (json_array_size(remotes) > REMOTES_MAX)
		return error_set(err, -EINVAL, "remotes: at most %u", REMOTES_MAX);
	json_array_foreach(remotes, i, v) {
		struct remote_config c;
		int rc = remote_config_parse(v, &c, err);

		if (rc < 0)
			return error_prefix(err, rc, "remotes: [%zu]", i);
		remote_config_fini(&c);
		json_array_foreach(remotes, k, other) {
			if (k < i &&
			    json_equal(json_object_get(other, "name"), json_object_get(v, "name")))
				return error_set(err, -EINVAL,
						 "remotes: [%zu] and [%zu] have the same name", k,
						 i);
		}
	}
	return 0;
}

#define SHARE_BUILD_TIMEOUT_MAX 3600u

int config_share(const char *name, uint64_t build_timeout_s, char **out_name,
		 unsigned *out_build_timeout_s, struct error *err)
{
	int rc = name ? remote_name_check(name, err) : 0;

	if (rc < 0)
		return error_prefix(err, rc, "share");
	if (build_timeout_s < 1 || build_timeout_s > SHARE_BUILD_TIMEOUT_MAX)
		return error_set(err, -EINVAL, "shareBuildTimeout must be 1 to %u",
				 SHARE_BUILD_TIMEOUT_MAX);
	*out_build_timeout_s = (unsigned)build_timeout_s;
	if (!name)
		return 0;
	*out_name = strdup(name);
	return *out_name ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int config_parse_listen(const char *s, char **out_host, uint16_t *out_port, struct error *err)
{
	const char *colon = strrchr(s, ':');
	const char *host = s;
	size_t host_len = colon ? (size_t)(colon - s) : 0;
	const char *port = colon ? colon + 1 : "";
	char *copy;

	if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
		host++;
		host_len -= 2;
	} else if (memchr(host, ':', host_len)) {
		return error_set(err, -EINVAL, "listen \"%s\": an IPv6 address needs [brackets]",
				 s);
	}
	if (host_len == 0 || !*port || strlen(port) > 5 || port[strspn(port, "0123456789")] ||
	    atoi(port) > UINT16_MAX)
		return error_set(err, -EINVAL, "listen \"%s\" is not HOST:PORT", s);
	copy = strndup(host, host_len);
	if (!copy)
		return error_set(err, -ENOMEM, "out of memory");
	*out_host = copy;
	*out_port = (uint16_t)atoi(port);
	return 0;
}

/* JSON has no comments: members whose names begin with "//" are those. */
static void drop_comments(json_t *j)
{
	const char *name;
	json_t *value;
	void *next;

	json_object_foreach_safe(j, next, name, value) {
		if (strncmp(name, "//", 2) == 0)
			json_object_del(j, name);
	}
}

int config_file_read(const char *path, json_t **out, struct error *err)
{
	json_error_t jerr;
	struct stat st;
	json_t *j;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set_errno(err, -errno, "%s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > CONFIG_FILE_MAX) {
		close(fd);
		return error_set(err, -EINVAL, "%s: not a regular file of at most 1 MiB", path);
	}
	j = json_loadfd(fd, JSON_REJECT_DUPLICATES, &jerr);
	close(fd);
	if (!j)
		return error_set(err, -EINVAL, "%s:%d:%d: %s", path, jerr.line, jerr.column,
				 jerr.text);
	const json_t *key = json_object_get(j, "apiKey");
	if (key && !json_is_null(key)) {
		int rc = config_key_file_check(path, &st, err);

		if (rc < 0) {
			json_decref(j);
			return rc;
		}
	}
	drop_comments(j);
	*out = j;
	return 0;
}
