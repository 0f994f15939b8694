#include "snapshotd/container/kept.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/host/keeper_box.h"
#include "snapshotd/container/agent_protocol.h"
#include "store/base/log.h"

/* What is in a box, beside the control socket and the pidfd. */
struct label {
	uint32_t protocol;
	int32_t pid;
};

static bool name_box(const char *name, char out[KEEPER_NAME_MAX + 1])
{
	return snprintf(out, KEEPER_NAME_MAX + 1, KEPT_PREFIX "%s", name) <= (int)KEEPER_NAME_MAX;
}

bool kept_put(struct keeper *k, const char *name, int control, int pidfd, pid_t pid)
{
	const struct label label = { INIT_PROTOCOL, pid };
	const int fds[] = { control, pidfd };
	char box[KEEPER_NAME_MAX + 1];
	int rc = name_box(name, box) ? keeper_box_put(k, box, &label, sizeof(label), fds, 2)
				     : -ENAMETOOLONG;

	if (rc < 0 && rc != -ENOTSUP)
		log_warn("container %s will end with this daemon: %s", name, strerror(-rc));
	return rc == 0;
}

void kept_drop(struct keeper *k, const char *name)
{
	char box[KEEPER_NAME_MAX + 1];

	if (name_box(name, box))
		keeper_drop(k, box);
}

int kept_check(int box)
{
	struct label label;
	int fds[2], rc = keeper_box_open(box, &label, sizeof(label), fds, 2);

	if (rc < 0)
		return rc == -EBADMSG ? -EPROTO : rc;
	close(fds[0]);
	close(fds[1]);
	return label.protocol == INIT_PROTOCOL ? 0 : -EPROTO;
}

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

struct kept *kept_take(struct keeper *k, const char *name)
{
	char box[KEEPER_NAME_MAX + 1];
	int fd = name_box(name, box) ? keeper_take(k, box) : -ENOENT;
	struct label label;
	int fds[2], rc = fd;
	struct kept *c;

	if (fd >= 0)
		rc = keeper_box_open(fd, &label, sizeof(label), fds, 2);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && rc < 0) {
		log_error(
			"container %s cannot be gone on with, and its processes end: what is kept "
			"of it is not understood (another version?): %s",
			name, strerror(-rc));
		keeper_drop(k, box);
	}
	if (rc < 0)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (c)
		*c = (struct kept){ strdup(name), fds[0], fds[1], label.pid, NULL };
	if (c && c->name && label.protocol == INIT_PROTOCOL && !has_ended(c->pidfd))
		return c;
	if (label.protocol != INIT_PROTOCOL)
		log_error("container %s cannot be gone on with, and its processes end: its agent "
			  "is of another version (protocol %u, not %u)",
			  name, label.protocol, INIT_PROTOCOL);
	if (c)
		kept_free(c);
	keeper_drop(k, box);
	return NULL;
}

void kept_free(struct kept *c)
{
	if (c->control >= 0)
		close(c->control);
	if (c->pidfd >= 0)
		close(c->pidfd);
	free(c->name);
	free(c);
}
