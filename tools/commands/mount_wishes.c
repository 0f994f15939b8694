/* The options of `mount -t varve -o`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/text.h"
#include "tools/commands/mount_helper.h"

#define WAIT_MAX_S 3600

/* Taken and without effect: what mounts have anyway, and what mount(8) and systemd read themselves.
 */
static const char *const ignored[] = {
	"defaults", "async",	  "auto",	   "noauto",	 "nofail",  "_netdev",
	"nouser",   "nousers",	  "noowner",	   "nogroup",	 "noatime", "nodiratime",
	"relatime", "norelatime", "nostrictatime", "nolazytime", "silent",  "loud",
};
static const char *const ignored_beginnings[] = { "x-", "X-", "comment=", "helper=", "uhelper=" };

/* What somebody may expect to work, and why it does not. */
static const struct {
	const char *name, *why;
} refused[] = {
	{ "remount", "a mount cannot change its options: unmount it, then mount it with others" },
	{ "sync", "what fsync has not been asked for is written later" },
	{ "dirsync", "what fsync has not been asked for is written later" },
	{ "user", "only root mounts" },
	{ "users", "only root mounts" },
	{ "owner", "only root mounts" },
	{ "group", "only root mounts" },
	{ "strictatime", "there are no access times" },
};

/*
 * mount(8) keeps dev and suid to itself, as flags that are not set, so they have names of our own.
 * The last of an option and its opposite counts.
 */
static const struct {
	const char *name, *member;
	bool value;
} flags[] = {
	{ "ro", "readOnly", true },	   { "rw", "readOnly", false },
	{ "volatile", "volatile", true },  { "force", "force", true },
	{ "allow_dev", "allowDev", true }, { "allow_suid", "allowSuid", true },
	{ "dev", "allowDev", true },	   { "suid", "allowSuid", true },
	{ "nodev", "allowDev", false },	   { "nosuid", "allowSuid", false },
	{ "noexec", "noExec", true },	   { "exec", "noExec", false },
};

static bool is_ignored(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		if (strcmp(name, ignored[i]) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(ignored_beginnings); i++)
		if (strncmp(name, ignored_beginnings[i], strlen(ignored_beginnings[i])) == 0)
			return true;
	return false;
}

static int set_member(struct mount_wishes *w, const char *member, json_t *value)
{
	return json_object_set_new(w->body, member, value) ? -ENOMEM : 0;
}

/* NAME=VALUE. 1: there is no such option. */
static int set_valued(struct mount_wishes *w, const char *name, const char *value,
		      struct error *err)
{
	uint64_t n;

	if (strcmp(name, "quota") == 0) {
		if (text_parse_size(value, &n) < 0 || n > INT64_MAX)
			return error_set(err, -EINVAL, "quota=%.100s is no size: 500M, 10G", value);
		return set_member(w, "quotaBytes", json_integer((json_int_t)n));
	}
	if (strcmp(name, "inodes") == 0) {
		if (text_parse_count(value, &n) < 0 || n > INT64_MAX)
			return error_set(err, -EINVAL, "inodes=%.100s is no number", value);
		return set_member(w, "quotaInodes", json_integer((json_int_t)n));
	}
	if (strcmp(name, "cache") == 0) {
		if (strcmp(value, "private") != 0 && strcmp(value, "shared") != 0)
			return error_set(err, -EINVAL, "cache=%.100s is not private or shared",
					 value);
		return set_member(w, "cache", json_string(value));
	}
	if (strcmp(name, "wait") == 0) {
		if (text_parse_count(value, &n) < 0 || n > WAIT_MAX_S)
			return error_set(err, -EINVAL, "wait=%.100s is not 0 to %d seconds", value,
					 WAIT_MAX_S);
		w->wait_s = (unsigned)n;
		return 0;
	}
	if (strcmp(name, "socket") == 0) {
		free(w->socket);
		w->socket = strdup(value);
		return w->socket ? 0 : -ENOMEM;
	}
	return 1;
}

static bool takes_value(const char *name)
{
	static const char *const names[] = { "quota", "inodes", "cache", "wait", "socket" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int set_option(struct mount_wishes *w, char *option, bool sloppy, struct error *err)
{
	char *value = strchr(option, '=');

	if (is_ignored(option))
		return 0;
	if (value)
		*value++ = '\0';
	if (value && *value) {
		int r = set_valued(w, option, value, err);

		if (r <= 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(flags) && !value; i++)
		if (strcmp(option, flags[i].name) == 0)
			return set_member(w, flags[i].member, json_boolean(flags[i].value));
	if (strcmp(option, "fresh") == 0 && !value) {
		w->fresh = true;
		return 0;
	}
	if (sloppy)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (strcmp(option, refused[i].name) == 0)
			return error_set(err, -EINVAL, "the option %s cannot be: %s", option,
					 refused[i].why);
	if (takes_value(option))
		return error_set(err, -EINVAL, "the option %s needs a value", option);
	return error_set(err, -EINVAL,
			 "unknown option '%.100s': there are ro, cache=, quota=, "
			 "inodes=, volatile, allow_dev, allow_suid, noexec, force, fresh, wait=, "
			 "socket=",
			 option);
}

int mount_wishes_parse(struct mount_wishes *w, const char *options, bool sloppy, struct error *err)
{
	char *copy = strdup(options), *rest = copy, *option;
	int r = copy ? 0 : -ENOMEM;

	if (r == 0 && !w->body)
		w->body = json_object();
	if (r == 0 && !w->body)
		r = -ENOMEM;
	while (r == 0 && (option = strsep(&rest, ",")))
		if (*option)
			r = set_option(w, option, sloppy, err);
	free(copy);
	return r == -ENOMEM ? error_set(err, r, "out of memory") : r;
}

void mount_wishes_fini(struct mount_wishes *w)
{
	json_decref(w->body);
	free(w->socket);
	*w = (struct mount_wishes){ 0 };
}
