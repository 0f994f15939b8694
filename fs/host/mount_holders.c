#include "fs/host/mount_holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/host/mountinfo.h"

#define TOLD_MAX 3	   /* holders that are named */
#define NAMESPACES_MAX 256 /* that are looked at */

struct search {
	dev_t dev;
	char *out;
	size_t size, len;
	unsigned n; /* found */
	ino_t seen[NAMESPACES_MAX];
	size_t n_seen;
};

static void __attribute__((format(printf, 2, 3))) tell(struct search *s, const char *fmt, ...)
{
	va_list ap;

	if (s->n++ >= TOLD_MAX)
		return;
	if (s->len)
		s->len += (size_t)snprintf(s->out + s->len, s->size - s->len, ", ");
	s->len = MIN(s->len, s->size - 1);
	va_start(ap, fmt);
	s->len += (size_t)vsnprintf(s->out + s->len, s->size - s->len, fmt, ap);
	va_end(ap);
	s->len = MIN(s->len, s->size - 1);
}

static void name_of(const char *pid, char out[32])
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	f = fopen(path, "re");
	if (!f || !fgets(out, 32, f))
		snprintf(out, 32, "?");
	out[strcspn(out, "\n")] = 0;
	if (f)
		fclose(f);
}

/* Whether path (a link in /proc) is on the filesystem. Does not ask it for attributes. */
static bool is_on(const struct search *s, const char *path)
{
	struct statx stx;

	return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &stx) == 0 &&
	       makedev(stx.stx_dev_major, stx.stx_dev_minor) == s->dev;
}

static bool has_open(const struct search *s, const char *pid)
{
	static const char *const links[] = { "cwd", "root", "exe" };
	char path[300];
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(links) && !found; i++) {
		snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, links[i]);
		found = is_on(s, path);
	}
	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	DIR *d = found ? NULL : opendir(path);

	for (struct dirent *e; d && !found && (e = readdir(d));) {
		snprintf(path, sizeof(path), "/proc/%.20s/fd/%.20s", pid, e->d_name);
		found = e->d_name[0] != '.' && is_on(s, path);
	}
	if (d)
		closedir(d);
	return found;
}

static const struct mountinfo_entry *by_dev(const struct mountinfo *mi, dev_t dev)
{
	for (size_t i = 0; i < mi->n; i++)
		if (mi->entries[i].dev == dev)
			return &mi->entries[i];
	return NULL;
}

/* Whether we have not yet looked at this process's mount namespace. */
static bool is_new_namespace(struct search *s, const char *pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", pid);
	if (stat(path, &st) < 0 || s->n_seen == NAMESPACES_MAX)
		return false;
	for (size_t i = 0; i < s->n_seen; i++)
		if (s->seen[i] == st.st_ino)
			return false;
	s->seen[s->n_seen++] = st.st_ino;
	return true;
}

static void look_at_namespace(struct search *s, const char *pid, const char *name)
{
	const struct mountinfo_entry *e;
	struct mountinfo mi;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/mountinfo", pid);
	if (mountinfo_read(path, &mi))
		return;
	e = by_dev(&mi, s->dev);
	if (e && strcmp(pid, "self") == 0)
		tell(s, "a bind mount at %s holds it", e->mountpoint);
	else if (e)
		tell(s, "process %s (%s) has it in its mount namespace, at %s", pid, name,
		     e->mountpoint);
	mountinfo_fini(&mi);
}

static void look_at_process(struct search *s, const char *pid)
{
	char name[32];

	name_of(pid, name);
	if (is_new_namespace(s, pid))
		look_at_namespace(s, pid, name);
	if (has_open(s, pid))
		tell(s, "process %s (%s) is inside or has files of it open", pid, name);
}

void mount_holders(const struct kernel_mount *k, char *out, size_t size)
{
	struct search *s = calloc(1, sizeof(*s));
	DIR *d = s ? opendir("/proc") : NULL;

	*out = 0;
	if (!s)
		return;
	s->dev = k->dev;
	s->out = out;
	s->size = size;
	if (is_new_namespace(s, "self"))
		look_at_namespace(s, "self", "");
	for (struct dirent *e; d && (e = readdir(d));)
		if (isdigit((unsigned char)e->d_name[0]))
			look_at_process(s, e->d_name);
	if (d)
		closedir(d);
	if (s->n > TOLD_MAX)
		snprintf(out + s->len, size - s->len, " (and %u more)", s->n - TOLD_MAX);
	if (!s->n)
		snprintf(out, size,
			 "a process that has files of it mapped, or is ending, holds it");
	free(s);
}
