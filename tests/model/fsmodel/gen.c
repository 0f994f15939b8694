/*
 * gen.c - choose the next operation: mostly on what exists, sometimes not.
 *
 * Few names, so that operations meet on the same files; some odd ones (255
 * bytes, 256 bytes, not UTF-8, a space).
 */
#include "tests/model/fsmodel/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

uint64_t gen_rnd(struct gen *g, uint64_t n)
{
	g->rng += 0x9e3779b97f4a7c15ull;
	uint64_t z = g->rng;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return n ? z % n : z;
}

bool gen_chance(struct gen *g, unsigned percent)
{
	return gen_rnd(g, 100) < percent;
}

static void live_add(struct gen *g, const char *path, char type)
{
	for (size_t i = 0; i < g->n_live; i++) {
		if (!strcmp(g->live[i].path, path)) {
			g->live[i].type = type;
			return;
		}
	}
	if (g->n_live == g->cap_live) {
		size_t cap = g->cap_live ? 2 * g->cap_live : 32;
		struct live_path *p = reallocarray(g->live, cap, sizeof(*p));
		if (!p)
			abort();
		g->live = p;
		g->cap_live = cap;
	}
	g->live[g->n_live].path = strdup(path);
	if (!g->live[g->n_live].path)
		abort();
	g->live[g->n_live++].type = type;
}

static void live_del_at(struct gen *g, size_t i)
{
	free(g->live[i].path);
	g->live[i] = g->live[--g->n_live];
}

static bool path_is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

static void live_del(struct gen *g, const char *path)
{
	for (size_t i = 0; i < g->n_live;) {
		if (path_is_below(g->live[i].path, path))
			live_del_at(g, i);
		else
			i++;
	}
}

static char live_type(const struct gen *g, const char *path)
{
	for (size_t i = 0; i < g->n_live; i++) {
		if (!strcmp(g->live[i].path, path))
			return g->live[i].type;
	}
	return 'f';
}

/* Move everything from `from` to `to`; with exchange also the other way. */
static void live_rename(struct gen *g, const char *from, const char *to, bool exchange)
{
	if (!exchange)
		live_del(g, to);
	for (size_t i = 0; i < g->n_live; i++) {
		const char *old = NULL, *new = NULL;
		char *p = g->live[i].path, moved[2 * MODEL_PATH_MAX];

		if (path_is_below(p, from)) {
			old = from;
			new = to;
		} else if (exchange && path_is_below(p, to)) {
			old = to;
			new = from;
		} else {
			continue;
		}
		snprintf(moved, sizeof(moved), "%s%s", new, p + strlen(old));
		free(p);
		g->live[i].path = strdup(moved);
		if (!g->live[i].path)
			abort();
	}
}

void gen_init(struct gen *g, uint64_t seed, const struct model_config *cfg)
{
	memset(g, 0, sizeof(*g));
	g->rng = seed * 0xd1342543de82ef95ull + 12345;
	g->root_only = cfg->root_only;
	g->without = cfg->without;
}

void gen_fini(struct gen *g)
{
	while (g->n_live)
		live_del_at(g, 0);
	free(g->live);
}

static void gen_name(struct gen *g, char *out)
{
	static const char *const odd[] = { "with space", "\xff\xfe\x80raw", "na\xc3\xafve",
					   ".dot",	 "new\nline",	    "semi;*?",
					   "-" };
	unsigned pick = (unsigned)gen_rnd(g, 100);

	if (pick < 88) {
		out[0] = (char)('a' + gen_rnd(g, 9));
		out[1] = 0;
	} else if (pick < 95) {
		strcpy(out, odd[gen_rnd(g, ARRAY_SIZE(odd))]);
	} else {
		size_t n = pick == 99 ? 256 : 255;
		memset(out, 'L', n);
		out[n - 1] = (char)('0' + gen_rnd(g, 3));
		out[n] = 0;
	}
}

static bool wanted(char type, enum gen_want want)
{
	return want == WANT_ANY || (want == WANT_FILE && type == 'f') ||
	       (want == WANT_DIR && type == 'd');
}

/* Something that exists. False where there is nothing of the kind. */
static bool gen_existing(struct gen *g, char *out, enum gen_want want)
{
	for (int tries = 0; g->n_live && tries < 12; tries++) {
		const struct live_path *l = &g->live[gen_rnd(g, g->n_live)];
		if (wanted(l->type, want)) {
			snprintf(out, MODEL_PATH_MAX, "%s", l->path);
			return true;
		}
	}
	return false;
}

static void gen_decorate(struct gen *g, char *path)
{
	size_t n = strlen(path);

	if (n + 8 >= MODEL_PATH_MAX || !gen_chance(g, 3))
		return;
	switch (gen_rnd(g, 4)) {
	case 0:
		strcpy(path + n, "/");
		break;
	case 1:
		strcpy(path + n, "/.");
		break;
	case 2:
		strcpy(path + n, "/..");
		break;
	case 3:
		memmove(path + 2, path, n + 1);
		memcpy(path, "./", 2);
		break;
	}
}

void gen_path(struct gen *g, char *out, enum gen_want want)
{
	char dir[MODEL_PATH_MAX] = "", name[300];

	if (want != WANT_NEW && gen_chance(g, 90) && gen_existing(g, out, want)) {
		gen_decorate(g, out);
		return;
	}
	/* A new name in a directory, or (rarely) below something that is none. */
	if (gen_chance(g, 65)) {
		if (!gen_existing(g, dir, gen_chance(g, 93) ? WANT_DIR : WANT_ANY))
			dir[0] = 0;
	}
	if (strlen(dir) + 300 > MODEL_PATH_MAX)
		dir[0] = 0;
	gen_name(g, name);
	snprintf(out, MODEL_PATH_MAX, "%.2600s%s%s", dir, dir[0] ? "/" : "", name);
	gen_decorate(g, out);
}

static bool is_of(const struct op_type *t, const exec_fn *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (t->exec == list[i])
			return true;
	}
	return false;
}

static bool any_slot(const struct gen *g)
{
	for (int i = 0; i < MODEL_SLOTS; i++) {
		if (g->slot_kind[i])
			return true;
	}
	return false;
}

static bool is_left_out(const struct gen *g, const char *name)
{
	size_t n = strlen(name);
	const char *p = g->without;

	while (p && (p = strstr(p, name))) {
		if ((p == g->without || p[-1] == ',') && (!p[n] || p[n] == ','))
			return true;
		p += n;
	}
	return false;
}

/* Little is gained from operations on nothing: first make something. */
static const struct op_type *gen_type(struct gen *g, unsigned total)
{
	static const exec_fn makers[] = { exec_mkdir, exec_write_file, exec_open, exec_symlink };
	const struct op_type *t;
	bool again;

	do {
		uint64_t pick = gen_rnd(g, total);
		for (t = op_types; pick >= t->weight; t++)
			pick -= t->weight;
		again = (g->n_live < 6 && !is_of(t, makers, ARRAY_SIZE(makers))) ||
			(t->shows[0] == 's' && t->exec != exec_open && t->exec != exec_tmpfile &&
			 !any_slot(g));
	} while (is_left_out(g, t->name) || (again && gen_chance(g, 90)));
	return t;
}

void gen_op(struct gen *g, struct op *op)
{
	static unsigned total;
	static const unsigned masks[] = { 0, 0, 022, 022, 077, 0777 };

	if (!total) {
		for (const struct op_type *t = op_types; t->name; t++)
			total += t->weight;
	}
	memset(op, 0, offsetof(struct op, path));
	op->path[0] = op->path2[0] = op->name[0] = 0;
	op->at = -1;
	op->slot = (int)gen_rnd(g, MODEL_SLOTS);
	op->seed = (uint32_t)gen_rnd(g, UINT32_MAX);
	op->umask = masks[gen_rnd(g, ARRAY_SIZE(masks))];
	op->cred = g->root_only || gen_chance(g, 80) ? 0 : 1 + (int)gen_rnd(g, MODEL_UIDS - 1);
	op->timed = gen_rnd(g, 250) == 0;
	op->type = gen_type(g, total);
	op->type->gen(g, op);
	if (strchr(op->type->shows, 'A') && gen_chance(g, 4)) {
		int slot = (int)gen_rnd(g, MODEL_SLOTS);
		if (g->slot_kind[slot])
			op->at = slot;
	}
}

static bool has_dots(const char *path)
{
	return strstr(path, "/.") || !strncmp(path, ".", 1) ||
	       (path[0] && path[strlen(path) - 1] == '/');
}

void gen_learn(struct gen *g, const struct op *op, const struct result *r)
{
	exec_fn e = op->type->exec;

	if (e == exec_close || ((e == exec_open || e == exec_tmpfile) && r->ret == -1))
		g->slot_kind[op->slot] = 0;
	else if (e == exec_open || e == exec_tmpfile)
		g->slot_kind[op->slot] = op->flags & O_DIRECTORY ? 'd' : 'f';
	if (r->ret == -1 || op->at >= 0)
		return;
	if (e == exec_rename)
		live_rename(g, op->path, op->path2, op->flags & 2);
	else if (e == exec_unlink || e == exec_rmdir)
		live_del(g, op->path);
	if (has_dots(op->path))
		return;
	if (e == exec_mkdir)
		live_add(g, op->path, 'd');
	else if (e == exec_write_file || (e == exec_open && op->flags & O_CREAT))
		live_add(g, op->path, 'f');
	else if (e == exec_mknod)
		live_add(g, op->path, S_ISREG(op->mode) ? 'f' : 'o');
	else if (e == exec_symlink || e == exec_linkfd)
		live_add(g, op->path, e == exec_symlink ? 'l' : 'f');
	else if (e == exec_link && !has_dots(op->path2))
		live_add(g, op->path2, live_type(g, op->path));
}
