/*
 * Users by the container's own files, which may hold anything: lines that make
 * no sense are passed over. The C library's functions would load the image's
 * name service modules into us.
 */
#include "snapshotd/container/init/init.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 1024

struct ids {
	uid_t uid;
	gid_t groups[GROUPS_MAX]; /* the first is the primary one */
	size_t n;
	struct user user;
};

/* NULL where there is none, or it is no file (opening a FIFO would hang). */
static FILE *open_table(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return NULL;
	}
	return fdopen(fd, "r");
}

/* Cut "a:b:c" in place; at most n fields, absent ones are "". */
static void split(char *line, char **fields, size_t n)
{
	line[strcspn(line, "\n")] = 0;
	for (size_t i = 0; i < n; i++) {
		fields[i] = line;
		line += strcspn(line, ":");
		if (*line)
			*line++ = 0;
	}
}

/* A decimal id; (uid_t)-1 means "no change" to the kernel. */
static bool parse_id(const char *s, unsigned *out)
{
	unsigned long v;
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoul(s, &end, 10);
	if (*end || errno || v >= UINT32_MAX)
		return false;
	*out = (unsigned)v;
	return true;
}

static bool find_user(const char *who, struct ids *ids)
{
	unsigned uid = 0, line_uid, gid;
	bool numeric = parse_id(who, &uid), found = false;
	FILE *f = open_table("/etc/passwd");
	char *line = NULL, *v[6];
	size_t cap = 0;

	while (f && !found && getline(&line, &cap, f) > 0) {
		split(line, v, ARRAY_SIZE(v));
		if (!parse_id(v[2], &line_uid) || !parse_id(v[3], &gid) || !*v[0])
			continue;
		found = numeric ? line_uid == uid : strcmp(v[0], who) == 0;
		if (!found)
			continue;
		ids->uid = line_uid;
		ids->groups[0] = gid;
		snprintf(ids->user.name, sizeof(ids->user.name), "%s", v[0]);
		snprintf(ids->user.home, sizeof(ids->user.home), "%s", v[5]);
	}
	free(line);
	if (f)
		fclose(f);
	if (!found && numeric)
		ids->uid = uid;
	return found || numeric;
}

static bool find_group(const char *which, gid_t *out)
{
	unsigned gid = 0, line_gid;
	FILE *f;
	bool found = false;
	char *line = NULL, *v[3];
	size_t cap = 0;

	if (parse_id(which, &gid)) {
		*out = gid;
		return true;
	}
	f = open_table("/etc/group");
	while (f && !found && getline(&line, &cap, f) > 0) {
		split(line, v, ARRAY_SIZE(v));
		found = strcmp(v[0], which) == 0 && parse_id(v[2], &line_gid);
		if (found)
			*out = line_gid;
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* Whether the name is one of "a,b,c". */
static bool is_member(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (strncmp(list, name, len) == 0 && (list[len] == ',' || !list[len]))
			return true;
	return false;
}

static void add_groups_of(struct ids *ids)
{
	FILE *f = open_table("/etc/group");
	char *line = NULL, *v[4];
	size_t cap = 0;
	unsigned gid;

	while (f && ids->n < GROUPS_MAX && getline(&line, &cap, f) > 0) {
		split(line, v, ARRAY_SIZE(v));
		if (is_member(v[3], ids->user.name) && parse_id(v[2], &gid) &&
		    gid != ids->groups[0])
			ids->groups[ids->n++] = gid;
	}
	free(line);
	if (f)
		fclose(f);
}

int user_become(const char *spec, const struct user **out)
{
	static struct ids ids; /* root, its group alone */
	char who[256];
	const char *group = strchr(spec, ':');
	size_t len = group ? (size_t)(group - spec) : strlen(spec);

	if (len >= sizeof(who))
		return -EINVAL;
	memcpy(who, spec, len);
	who[len] = 0;
	ids.n = 1;
	if (!find_user(*who ? who : "0", &ids))
		return -EINVAL;
	if (group && group[1]) {
		if (!find_group(group + 1, &ids.groups[0]))
			return -EINVAL;
	} else if (ids.user.name[0]) {
		add_groups_of(&ids);
	}
	if (!ids.user.home[0])
		strcpy(ids.user.home, ids.uid ? "/" : "/root");
	*out = &ids.user;
	if (setgroups(ids.n, ids.groups) < 0 ||
	    setresgid(ids.groups[0], ids.groups[0], ids.groups[0]) < 0 ||
	    setresuid(ids.uid, ids.uid, ids.uid) < 0)
		return -errno;
	return 0;
}
