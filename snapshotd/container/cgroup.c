/*
 * v2 kills a cgroup in one write. With v1 (and kernels before 5.14) a
 * container that forks faster than we read its list is frozen first, so that
 * the list is complete; SIGKILL takes effect when it is thawed.
 */
#include "snapshotd/container/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/host/freeze.h"
#include "store/base/buf.h"

/* --- what there is --- */

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (strncmp(list, word, len) == 0 && (list[len] == ',' || !list[len]))
			return true;
	return false;
}

static int add(struct cgroups *cs, const char *dir, bool v2, const char *controllers)
{
	struct cgroup_hierarchy *h = &cs->v[cs->n];

	if (cs->n == CGROUP_HIERARCHIES_MAX)
		return 0;
	for (size_t i = 0; i < cs->n; i++)
		if (strcmp(cs->v[i].dir, dir) == 0)
			return 0;
	*h = (struct cgroup_hierarchy){ .dir = strdup(dir),
					.v2 = v2,
					.freezer = v2 || has_word(controllers, "freezer"),
					.memory = v2 || has_word(controllers, "memory") };
	if (!h->dir)
		return -ENOMEM;
	cs->n++;
	return 0;
}

/* "36 35 98:0 / DIR OPTIONS ... - TYPE SOURCE SUPER-OPTIONS" */
static int add_line(struct cgroups *cs, char *line, const char *root)
{
	char dir[PATH_MAX], type[32], super[1024], *dash = strstr(line, " - ");
	size_t root_len = strlen(root);

	if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", dir) != 1 ||
	    sscanf(dash, " - %31s %*s %1023s", type, super) != 2)
		return 0;
	if (strncmp(dir, root, root_len) != 0 || (dir[root_len] && dir[root_len] != '/'))
		return 0;
	if (strcmp(type, "cgroup2") == 0) {
		cs->unified = cs->unified || !dir[root_len];
		return add(cs, dir, true, "");
	}
	return strcmp(type, "cgroup") == 0 ? add(cs, dir, false, super) : 0;
}

static bool can_limit_swap(const struct cgroups *cs)
{
	char path[PATH_MAX];

	if (cs->unified) /* the root of v2 has no such file; but a kernel without swap, no list */
		return access("/proc/swaps", F_OK) == 0;
	for (size_t i = 0; i < cs->n; i++) {
		snprintf(path, sizeof(path), "%s/memory.memsw.limit_in_bytes", cs->v[i].dir);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

int cgroups_load(const char *mountinfo, const char *root, struct cgroups *out, struct error *err)
{
	struct cgroups cs = { 0 };
	FILE *f = fopen(mountinfo, "re");
	char *line = NULL;
	size_t cap = 0;
	int rc = 0;

	if (!f)
		return error_set_errno(err, -errno, "%s", mountinfo);
	while (rc == 0 && getline(&line, &cap, f) > 0)
		rc = add_line(&cs, line, root);
	free(line);
	fclose(f);
	if (rc < 0) {
		cgroups_fini(&cs);
		return error_set(err, rc, "out of memory");
	}
	cs.swap = can_limit_swap(&cs);
	*out = cs;
	return 0;
}

void cgroups_fini(struct cgroups *cs)
{
	for (size_t i = 0; i < cs->n; i++)
		free(cs->v[i].dir);
	*cs = (struct cgroups){ 0 };
}

/* --- files of one --- */

static bool exists(const struct cgroup_hierarchy *h, const char *name, char path[PATH_MAX])
{
	struct stat st;
	int n = snprintf(path, PATH_MAX, "%s/%s", h->dir, name);

	return n < PATH_MAX && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int read_file(const char *dir, const char *name, struct buf *out)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd, rc = 0;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		rc = buf_reserve(out, 4096);
		n = rc < 0 ? rc : read(fd, out->data + out->len, 4096);
		if (n > 0)
			out->len += (size_t)n;
	} while (n > 0);
	if (n < 0 && rc == 0)
		rc = -errno;
	close(fd);
	return rc == 0 && !buf_cstr(out) ? -ENOMEM : rc;
}

/* "KEY NUMBER" on a line of its own. */
static uint64_t read_key(const char *dir, const char *file, const char *key)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	size_t len = strlen(key);

	if (read_file(dir, file, &text) < 0)
		return 0;
	for (const char *p = (const char *)text.data; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strncmp(p, key, len) == 0 && p[len] == ' ')
			return strtoull(p + len, NULL, 10);
	return 0;
}

char *cgroup_freeze_dir(const struct cgroups *cs, const char *name)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < cs->n; i++)
		if (cs->v[i].freezer && cs->v[i].v2 == cs->unified && exists(&cs->v[i], name, path))
			return strdup(path);
	return NULL;
}

uint64_t cgroup_oom_kills(const struct cgroups *cs, const char *name)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < cs->n; i++)
		if (cs->v[i].memory && cs->v[i].v2 == cs->unified && exists(&cs->v[i], name, path))
			return read_key(path, cs->unified ? "memory.events" : "memory.oom_control",
					"oom_kill");
	return 0;
}

/* --- the end of one --- */

/* Signal all in the directory's list (0: none), and count them. */
static size_t signal_all(const char *dir, int sig)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	size_t n = 0;
	char *p;

	if (read_file(dir, "cgroup.procs", &text) < 0)
		return 0;
	for (p = (char *)text.data; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		long pid = strtol(p, NULL, 10);

		if (pid <= 0)
			continue; /* of a pid namespace that is not below ours */
		if (sig)
			kill((pid_t)pid, sig);
		n++;
	}
	return n;
}

static bool kill_at_once(const char *dir)
{
	char path[PATH_MAX];
	bool done;
	int fd;

	if (snprintf(path, sizeof(path), "%s/cgroup.kill", dir) >= (int)sizeof(path))
		return false;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, "1", 1) == 1;
	close(fd);
	return done;
}

static size_t kill_all(const char *dir)
{
	bool frozen;
	size_t n = signal_all(dir, 0);

	if (n == 0)
		return 0;
	if (!kill_at_once(dir)) {
		frozen = cgroup_freeze(dir, NULL) == 0;
		signal_all(dir, SIGKILL);
		if (frozen)
			(void)!cgroup_thaw(dir);
	}
	return n;
}

static int remove_dir(const char *dir)
{
	return rmdir(dir) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_destroy(const struct cgroups *cs, const char *name, unsigned timeout_ms,
		   struct error *err)
{
	for (unsigned ms = 0;; ms++) {
		char path[PATH_MAX], held[PATH_MAX] = "";
		size_t left = 0;
		int rc = 0;

		for (size_t i = 0; i < cs->n; i++) {
			int r;

			if (!exists(&cs->v[i], name, path))
				continue;
			if (ms == 0 && cs->v[i].freezer) /* a checkpoint may have been under way */
				(void)!cgroup_thaw(path);
			left += kill_all(path);
			r = remove_dir(path);
			if (r < 0) {
				rc = r;
				snprintf(held, sizeof(held), "%s", path);
			}
		}
		if (rc == 0)
			return 0;
		if (ms >= timeout_ms)
			return error_set(err, -EBUSY, "%zu processes of cgroup %s do not end", left,
					 held);
		usleep(1000);
	}
}
