#include "snapshotd/config_check.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshotd/http/listener.h"

static bool can_be_run(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp(3) looks for it. */
static bool is_program(const char *name)
{
	const char *path = getenv("PATH");
	char at[4096];

	if (strchr(name, '/'))
		return can_be_run(name);
	while (path && *path) {
		size_t len = strcspn(path, ":");

		if (snprintf(at, sizeof(at), "%.*s/%s", (int)len, path, name) < (int)sizeof(at) &&
		    can_be_run(at))
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

/* A daemon that runs need not care whether a name server answers just now. */
static int check_listen(const struct config *c, struct error *err)
{
	int rc = c->listen_host ? listener_check_host(c->listen_host, c->listen_port, err) : 0;

	if (rc != -EAGAIN)
		return rc;
	fprintf(stderr, "snapshotd: %s\n", error_text(err));
	return 0;
}

int config_check_host(const struct config *c, struct error *err)
{
	if (c->state_dir[0] != '/')
		fprintf(stderr,
			"snapshotd: state: where \"%.200s\" is depends on where it starts\n",
			c->state_dir);
	if (c->socket_group && !getgrnam(c->socket_group))
		return error_set(err, -EINVAL, "socketGroup: no group \"%.100s\"", c->socket_group);
	int rc = check_listen(c, err);
	if (rc < 0)
		return rc;
	if (is_program(c->runtime))
		return 0;
	if (strcmp(c->runtime, RUNTIME_DEFAULT) != 0)
		return error_set(err, -EINVAL, "runtime: \"%.200s\" is not installed", c->runtime);
	fprintf(stderr, "snapshotd: %s is not installed: there can be no sandboxes and builds\n",
		c->runtime);
	return 0;
}
