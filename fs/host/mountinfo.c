#include "fs/host/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/* Undo the octal escapes in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		unsigned c;

		if (s[0] == '\\' && sscanf(s + 1, "%3o", &c) == 1 && s[1] && s[2] && s[3]) {
			*to++ = (char)c;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

static char *copy(const char *field)
{
	char *s = strdup(field);

	if (s)
		unescape(s);
	return s;
}

static void entry_fini(struct mountinfo_entry *e)
{
	free(e->mountpoint);
	free(e->type);
	free(e->source);
}

/*
 * "36 35 98:0 /root /mountpoint options [optional fields] - type source options".
 * 1, or 0 if the line is not of this form.
 */
static int parse(char *line, struct mountinfo_entry *out)
{
	char *save, *field[5], *type, *source;
	unsigned major, minor;

	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " \n", &save);
		if (!field[i])
			return 0;
	}
	for (type = field[4]; type && strcmp(type, "-") != 0;)
		type = strtok_r(NULL, " \n", &save);
	type = type ? strtok_r(NULL, " \n", &save) : NULL;
	source = type ? strtok_r(NULL, " \n", &save) : NULL;
	if (!type || sscanf(field[2], "%u:%u", &major, &minor) != 2)
		return 0;
	*out = (struct mountinfo_entry){ .id = strtoull(field[0], NULL, 10),
					 .parent = strtoull(field[1], NULL, 10),
					 .dev = makedev(major, minor),
					 .mountpoint = copy(field[4]),
					 .type = copy(type),
					 .source = copy(source ? source : "") };
	if (out->mountpoint && out->type && out->source)
		return 1;
	entry_fini(out);
	return -ENOMEM;
}

static int add(struct mountinfo *mi, size_t *cap, char *line)
{
	if (mi->n == *cap) {
		size_t more = *cap ? 2 * *cap : 64;
		struct mountinfo_entry *p = reallocarray(mi->entries, more, sizeof(*p));

		if (!p)
			return -ENOMEM;
		mi->entries = p;
		*cap = more;
	}
	int r = parse(line, &mi->entries[mi->n]);

	mi->n += r > 0;
	return r < 0 ? r : 0;
}

int mountinfo_read(const char *file, struct mountinfo *out)
{
	struct mountinfo mi = MOUNTINFO_INIT;
	FILE *f = fopen(file, "re");
	char *line = NULL;
	size_t len = 0, cap = 0;
	int r = f ? 0 : -errno;

	*out = mi;
	while (!r && getline(&line, &len, f) > 0)
		r = add(&mi, &cap, line);
	if (f)
		fclose(f);
	free(line);
	if (r)
		mountinfo_fini(&mi);
	else
		*out = mi;
	return r;
}

void mountinfo_fini(struct mountinfo *mi)
{
	for (size_t i = 0; i < mi->n; i++)
		entry_fini(&mi->entries[i]);
	free(mi->entries);
	*mi = (struct mountinfo)MOUNTINFO_INIT;
}

const struct mountinfo_entry *mountinfo_find(const struct mountinfo *mi, uint64_t id, dev_t dev)
{
	for (size_t i = 0; i < mi->n; i++)
		if (mi->entries[i].id == id && mi->entries[i].dev == dev)
			return &mi->entries[i];
	return NULL;
}

static const struct mountinfo_entry *by_id(const struct mountinfo *mi, uint64_t id)
{
	for (size_t i = 0; i < mi->n; i++)
		if (mi->entries[i].id == id)
			return &mi->entries[i];
	return NULL;
}

/* Is `above` one of the mounts that e is inside? */
static bool is_ancestor(const struct mountinfo *mi, const struct mountinfo_entry *above,
			const struct mountinfo_entry *e)
{
	/*
	 * At most as many steps as entries: a list that changed while it was
	 * read may have a loop.
	 */
	for (size_t i = 0; e && i < mi->n; i++) {
		if (e->parent == above->id)
			return true;
		e = e->parent == e->id ? NULL : by_id(mi, e->parent);
	}
	return false;
}

bool path_is_within(const char *path, const char *dir)
{
	size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

bool mountinfo_has_automount(const struct mountinfo *mi, const char *mountpoint)
{
	for (size_t i = 0; i < mi->n; i++)
		if (strcmp(mi->entries[i].type, "autofs") == 0 &&
		    strcmp(mi->entries[i].mountpoint, mountpoint) == 0)
			return true;
	return false;
}

const struct mountinfo_entry *mountinfo_top(const struct mountinfo *mi, const char *mountpoint)
{
	const struct mountinfo_entry *top = NULL;

	for (size_t i = 0; i < mi->n; i++) {
		const struct mountinfo_entry *e = &mi->entries[i];

		if (strcmp(e->mountpoint, mountpoint) == 0 && (!top || is_ancestor(mi, top, e)))
			top = e;
	}
	return top;
}

const struct mountinfo_entry *mountinfo_cover(const struct mountinfo *mi,
					      const struct mountinfo_entry *e)
{
	for (size_t i = mi->n; i-- > 0;) {
		const struct mountinfo_entry *c = &mi->entries[i];

		if (c != e && path_is_within(e->mountpoint, c->mountpoint) &&
		    !is_ancestor(mi, c, e))
			return c;
	}
	return NULL;
}

const struct mountinfo_entry *mountinfo_inside(const struct mountinfo *mi,
					       const struct mountinfo_entry *e)
{
	for (size_t i = 0; i < mi->n; i++)
		if (mi->entries[i].parent == e->id && &mi->entries[i] != e &&
		    strcmp(mi->entries[i].mountpoint, e->mountpoint) != 0)
			return &mi->entries[i];
	return NULL;
}
