/*
 * A container's beginning and end. What is inside lives in a PID namespace
 * whose first process is our agent: when that is killed, the kernel kills all
 * the rest before it lets it go, so its pidfd says when nothing runs any more.
 */
#include "snapshotd/container/container_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/host/child.h"
#include "fs/host/freeze.h"
#include "snapshotd/container/agent_protocol.h"
#include "snapshotd/container/container_names.h"
#include "snapshotd/container/leftovers.h"
#include "snapshotd/container/oci_spec.h"
#include "store/base/log.h"

#define HELLO_TIMEOUT_MS 10000
#define DEATH_TIMEOUT_MS 20000
#define ID_MAX (CONTAINER_NAME_MAX - sizeof(CONTAINER_PREFIX))
#define HOST_RESOLV_CONF "/etc/resolv.conf"

/* --- the bundle --- */

static int check_id(const char *id, struct error *err)
{
	size_t n = strlen(id);

	for (const char *p = id; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
			n = 0;
	if (n == 0 || n > ID_MAX || strstr(id, ".."))
		return error_set(err, -EINVAL, "\"%.64s\" cannot be a container's id", id);
	return 0;
}

/*
 * A mount with container_root always has these as directories; of any other root
 * a runtime could follow them to a directory of the host, and write there.
 */
static int check_root(const char *rootfs, struct error *err)
{
	static const char *const names[] = { "dev", "proc", "sys" };
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (snprintf(path, sizeof(path), "%s/%s", rootfs, names[i]) >= (int)sizeof(path))
			return error_set(err, -ENAMETOOLONG, "%s", rootfs);
		int type = child_file_type(path);

		if (type < 0 && type != -ENOENT)
			return error_set_errno(err, type, "/%s of the root", names[i]);
		if (type >= 0 && type != S_IFDIR)
			return error_set(err, -EINVAL, "/%s of the root is not a directory",
					 names[i]);
	}
	return 0;
}

static int write_bundle(struct container *c, const struct container_options *o, struct error *err)
{
	char *resolv = o->resolv_conf ? realpath(HOST_RESOLV_CONF, NULL) : NULL;
	const char *hostname = o->hostname ? o->hostname : o->id;
	struct oci_host host = { .agent = c->rt->agent,
				 .cgroup = c->name,
				 .resolv_conf = resolv,
				 .cgroup_v2 = c->rt->cgroups.unified,
				 .limit_swap = c->rt->cgroups.swap,
				 .spare_agent = c->rt->sys_resource,
				 .open_files_max = c->rt->open_files_max };
	char *dir = runtime_bundle_path(c->rt, c->name, "");
	char *names = runtime_bundle_path(c->rt, c->name, RUNTIME_NAMES_DIR);
	char *path = runtime_bundle_path(c->rt, c->name, "config.json");
	json_t *spec = NULL;
	int rc = 0;

	host.names_dir = o->names ? names : NULL;
	spec = oci_spec(o, &host);
	free(resolv);
	if (!dir || !path || !names || !spec)
		rc = error_set(err, -ENOMEM, "out of memory");
	else if (mkdir(dir, 0700) < 0)
		rc = error_set_errno(err, -errno, "%s", dir);
	else if (json_dump_file(spec, path, JSON_COMPACT) < 0)
		rc = error_set(err, -EIO, "cannot write %s", path);
	else if (o->names)
		rc = container_names_make(names, o->rootfs, hostname, err);
	json_decref(spec);
	free(dir);
	free(path);
	free(names);
	return rc;
}

/* Bound into the container, they are there without the mount. */
static void release_names(const struct container *c)
{
	char *names = runtime_bundle_path(c->rt, c->name, RUNTIME_NAMES_DIR);

	if (names)
		container_names_release(names);
	free(names);
}

/* --- the agent's first word --- */

/* *out_pid: the agent's, in our PID namespace. */
static int recv_hello(int control, pid_t *out_pid)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} room;
	struct init_message m = { 0 };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &room,
			      .msg_controllen = sizeof(room) };
	struct pollfd fd = { .fd = control, .events = POLLIN };
	struct cmsghdr *h;
	struct ucred who;
	ssize_t n;

	if (poll(&fd, 1, HELLO_TIMEOUT_MS) == 0)
		return -ETIMEDOUT;
	n = recvmsg(control, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return -errno;
	h = CMSG_FIRSTHDR(&msg);
	if (n != sizeof(m) || m.op != INIT_HELLO || !h || h->cmsg_type != SCM_CREDENTIALS)
		return -EPROTO;
	memcpy(&who, CMSG_DATA(h), sizeof(who));
	*out_pid = who.pid;
	return 0;
}

/* Whether our peer is there, so that the pid is still its. */
static bool is_connected(int control)
{
	struct pollfd fd = { .fd = control, .events = POLLIN };

	return poll(&fd, 1, 0) == 0;
}

static int meet_agent(struct container *c, struct error *err)
{
	int rc = recv_hello(c->control, &c->pid);

	if (rc == 0) {
		c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
		rc = c->pidfd < 0 ? -errno : is_connected(c->control) ? 0 : -ECONNRESET;
	}
	if (rc < 0)
		return error_set_errno(err, rc, "the container's first process does not answer");
	return 0;
}

static int run(struct container *c, struct error *err)
{
	char *bundle = runtime_bundle_path(c->rt, c->name, "");
	const char *const args[] = { "run",	 "--detach", "--preserve-fds", "1",
				     "--bundle", bundle,     c->name,	       NULL };
	const int on = 1;
	int rc, pair[2];

	if (!bundle)
		return error_set(err, -ENOMEM, "out of memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		free(bundle);
		return error_set_errno(err, -errno, "cannot make a socket");
	}
	c->control = pair[0];
	if (setsockopt(c->control, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		rc = error_set_errno(err, -errno, "cannot set up a socket");
	else
		rc = runtime_call(c->rt, args, pair[1], err);
	close(pair[1]);
	free(bundle);
	return rc;
}

/* --- start and stop --- */

static struct container *container_new(struct runtime *rt, const char *id)
{
	struct container *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->rt = rt;
	c->control = c->pidfd = -1;
	snprintf(c->name, sizeof(c->name), CONTAINER_PREFIX "%s", id);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	return c;
}

static void container_free(struct container *c)
{
	if (c->control >= 0)
		close(c->control);
	if (c->pidfd >= 0)
		close(c->pidfd);
	free(c->cgroup);
	pthread_cond_destroy(&c->idle);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int container_start(struct runtime *rt, const struct container_options *o, struct container **out,
		    struct error *err)
{
	struct container *c;
	int rc = check_id(o->id, err);

	if (rc < 0)
		return rc;
	c = container_new(rt, o->id);
	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	rc = check_root(o->rootfs, err);
	if (rc == 0)
		rc = write_bundle(c, o, err);
	if (rc == -EEXIST) { /* another's: leave it alone */
		container_free(c);
		return error_prefix(err, rc, "there is a container %s", o->id);
	}
	if (rc == 0)
		rc = run(c, err);
	if (rc == 0)
		rc = meet_agent(c, err);
	if (o->names)
		release_names(c);
	if (rc < 0) {
		container_stop(c);
		return error_prefix(err, rc, "cannot start the container");
	}
	c->cgroup = cgroup_freeze_dir(&rt->cgroups, c->name);
	if (o->keep)
		(void)kept_put(rt->keeper, c->name, c->control, c->pidfd, c->pid);
	*out = c;
	return 0;
}

/* Wait for the first process, which is the last to end. */
static void kill_all(struct container *c)
{
	struct pollfd fd = { .fd = c->pidfd, .events = POLLIN };

	if (c->cgroup) /* a checkpoint may hold it frozen, and then it cannot die */
		(void)!cgroup_thaw(c->cgroup);
	(void)!syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
	if (poll(&fd, 1, DEATH_TIMEOUT_MS) == 0)
		log_error("container %s: processes do not end", c->name);
	else if (c->pid) /* ours to bury only where the daemon stands in for init */
		(void)!waitpid(c->pid, NULL, WNOHANG);
	c->pid = 0;
}

void container_kill(struct container *c)
{
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_mutex_unlock(&c->lock);
	if (c->pidfd >= 0)
		kill_all(c);
}

void container_stop(struct container *c)
{
	if (!c)
		return;
	container_kill(c);
	pthread_mutex_lock(&c->lock);
	while (c->execs > 0)
		pthread_cond_wait(&c->idle, &c->lock);
	pthread_mutex_unlock(&c->lock);
	kept_drop(c->rt->keeper, c->name);
	runtime_remove(c->rt, c->name);
	container_free(c);
}

/* The one that a predecessor kept; the caller's. */
static struct kept *steal_kept(struct runtime *rt, const char *name)
{
	struct kept **p = &rt->kept, *k;

	while (*p && strcmp((*p)->name, name) != 0)
		p = &(*p)->next;
	k = *p;
	if (k)
		*p = k->next;
	return k;
}

/* Both are of one mount: a mount that is attached again is another one. */
static bool has_root(pid_t pid, const char *rootfs)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/root/.", (int)pid);
	return child_same_file(path, rootfs) == 0;
}

int container_adopt(struct runtime *rt, const char *id, const char *rootfs, struct container **out)
{
	struct container *c = container_new(rt, id);
	struct kept *k = c ? steal_kept(rt, c->name) : NULL;

	if (!k) {
		if (c)
			container_free(c);
		return c ? -ENOENT : -ENOMEM;
	}
	c->control = k->control;
	c->pidfd = k->pidfd;
	c->pid = k->pid;
	k->control = k->pidfd = -1;
	kept_free(k);
	c->cgroup = cgroup_freeze_dir(&rt->cgroups, c->name);
	if (c->cgroup)
		(void)!cgroup_thaw(c->cgroup);
	if (!has_root(c->pid, rootfs)) {
		container_stop(c);
		return -ENOENT;
	}
	*out = c;
	return 0;
}

bool container_is_running(struct container *c)
{
	struct pollfd fd = { .fd = c->pidfd, .events = POLLIN };

	return poll(&fd, 1, 0) == 0;
}

const char *container_cgroup(const struct container *c)
{
	return c->cgroup;
}

uint64_t container_oom_kills(struct container *c)
{
	return cgroup_oom_kills(&c->rt->cgroups, c->name);
}
