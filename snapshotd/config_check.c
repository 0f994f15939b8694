#include "snapshotd/config_check.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshotd/http/listener.h"

/* As execvp(3) looks for it. */
static bool is_program(const char *name)
{
	const char *path = getenv("PATH");
	char at[4096];

	if (strchr(name, '/'))
		return access(name, X_OK) == 0;
	while (path && *path) {
		size_t len = strcspn(path, ":");

		if (snprintf(at, sizeof(at), "%.*s/%s", (int)len, path, name) < (int)sizeof(at) &&
		    access(at, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

int config_check_host(const struct config *c, struct error *err)
{
	if (c->state_dir[0] != '/')
		return error_set(err, -EINVAL, "state: \"%.200s\" is not an absolute path",
				 c->state_dir);
	if (c->socket_group && !getgrnam(c->socket_group))
		return error_set(err, -EINVAL, "socketGroup: no group \"%.100s\"", c->socket_group);
	if (c->listen_host && listener_check_host(c->listen_host, c->listen_port, err) < 0)
		return err->code;
	if (is_program(c->runtime))
		return 0;
	if (strcmp(c->runtime, RUNTIME_DEFAULT) != 0)
		return error_set(err, -EINVAL, "runtime: \"%.200s\" is not installed", c->runtime);
	fprintf(stderr, "snapshotd: %s is not installed: there can be no sandboxes and builds\n",
		c->runtime);
	return 0;
}
