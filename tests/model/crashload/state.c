/* state.c - the effect of operations, their text form, and self-describing pages. */
#include "tests/model/crashload/crash.h"

#include <string.h>

int crash_find(const struct crash_state *s, const char *name)
{
	for (int i = 0; i < CRASH_NAMES; i++) {
		if (s->names[i].name[0] && !strcmp(s->names[i].name, name))
			return i;
	}
	return -1;
}

static bool is_below(const char *name, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(name, dir, n) && name[n] == '/';
}

bool crash_dir_is_empty(const struct crash_state *s, const char *name)
{
	for (int i = 0; i < CRASH_NAMES; i++) {
		if (is_below(s->names[i].name, name))
			return false;
	}
	return true;
}

static bool name_add(struct crash_state *s, const char *name, unsigned object)
{
	for (int i = 0; i < CRASH_NAMES; i++) {
		if (s->names[i].name[0])
			continue;
		strcpy(s->names[i].name, name);
		s->names[i].object = object;
		s->objects[object].nlink++;
		return true;
	}
	return false;
}

static void name_drop(struct crash_state *s, int i)
{
	struct crash_object *o = &s->objects[s->names[i].object];

	s->names[i].name[0] = 0;
	if (!--o->nlink)
		o->id = 0;
}

static bool object_new(struct crash_state *s, const struct crash_op *op, char type, unsigned mode)
{
	for (unsigned i = 0; i < CRASH_OBJECTS; i++) {
		struct crash_object *o = &s->objects[i];
		if (o->id)
			continue;
		memset(o, 0, sizeof(*o));
		o->id = op->v;
		o->type = type;
		o->mode = mode;
		strcpy(o->target, op->b);
		return op->v && name_add(s, op->a, i);
	}
	return false;
}

/* Directories take along what is below them. */
static void move_below(struct crash_state *s, const char *from, const char *to)
{
	char moved[2 * CRASH_NAME];

	for (int i = 0; i < CRASH_NAMES; i++) {
		if (!is_below(s->names[i].name, from))
			continue;
		snprintf(moved, sizeof(moved), "%s%s", to, s->names[i].name + strlen(from));
		memcpy(s->names[i].name, moved, CRASH_NAME);
		s->names[i].name[CRASH_NAME - 1] = 0;
	}
}

static bool apply_rename(struct crash_state *s, const struct crash_op *op, int a, int b)
{
	if (b >= 0 && s->names[a].object == s->names[b].object)
		return true; /* rename(2) of two links of one file does nothing */
	if (b >= 0)
		name_drop(s, b);
	strcpy(s->names[a].name, op->b);
	if (s->objects[s->names[a].object].type == 'd')
		move_below(s, op->a, op->b);
	return true;
}

static bool apply_exchange(struct crash_state *s, const struct crash_op *op, int a, int b)
{
	unsigned was = s->names[a].object;

	if (b < 0)
		return false;
	s->names[a].object = s->names[b].object;
	s->names[b].object = was;
	move_below(s, op->a, "\1");
	move_below(s, op->b, op->a);
	move_below(s, "\1", op->b);
	return true;
}

static bool apply_write(struct crash_object *o, const struct crash_op *op)
{
	if (op->page + op->n > CRASH_PAGES)
		return false;
	for (unsigned i = op->page; i < op->page + op->n; i++)
		o->latest[i] = op->v;
	o->size_max = MAX(o->size_max, op->page + op->n);
	return true;
}

static bool apply_truncate(struct crash_object *o, unsigned n)
{
	if (n > CRASH_PAGES)
		return false;
	for (unsigned i = n; i < CRASH_PAGES; i++)
		o->synced[i] = o->latest[i] = 0;
	o->size_min = o->size_max = n;
	return true;
}

static bool apply_sync(struct crash_object *o)
{
	memcpy(o->synced, o->latest, sizeof(o->synced));
	o->size_min = o->size_max;
	return true;
}

bool crash_apply(struct crash_state *s, const struct crash_op *op)
{
	int a = crash_find(s, op->a), b = op->b[0] ? crash_find(s, op->b) : -1;

	switch (op->kind) {
	case 'c':
		return a < 0 && object_new(s, op, 'f', 0644);
	case 'm':
		return a < 0 && object_new(s, op, 'd', 0755);
	case 'z':
		return a < 0 && object_new(s, op, 'l', 0777);
	}
	if (a < 0)
		return false;
	struct crash_object *o = &s->objects[s->names[a].object];
	switch (op->kind) {
	case 'w':
		return apply_write(o, op);
	case 's':
	case 'y':
		return apply_sync(o);
	case 't':
		return apply_truncate(o, op->n);
	case 'r':
		return apply_rename(s, op, a, b);
	case 'x':
		return apply_exchange(s, op, a, b);
	case 'l':
		return b < 0 && name_add(s, op->b, s->names[a].object);
	case 'u':
	case 'k':
		name_drop(s, a);
		return true;
	case 'h':
		o->mode = op->n;
		return true;
	case 'v':
		o->xattr = op->v;
		return true;
	}
	return false;
}

void crash_op_print(const struct crash_op *op, char *out, size_t cap)
{
	snprintf(out, cap, "%c %s %s %u %u %llu", op->kind, op->a, op->b[0] ? op->b : "-", op->page,
		 op->n, (unsigned long long)op->v);
}

bool crash_op_parse(const char *line, struct crash_op *op)
{
	unsigned long long v;

	memset(op, 0, sizeof(*op));
	if (sscanf(line, "%c %47s %47s %u %u %llu", &op->kind, op->a, op->b, &op->page, &op->n,
		   &v) != 6)
		return false;
	op->v = v;
	if (!strcmp(op->b, "-"))
		op->b[0] = 0;
	return true;
}

struct page_head {
	uint64_t magic, object, version;
	uint32_t index, sum;
};
#define PAGE_MAGIC 0x6567617065767261ull

static uint32_t page_sum(const uint8_t *page)
{
	uint32_t sum = 2166136261u;

	for (size_t i = sizeof(struct page_head); i < CRASH_PAGE; i++)
		sum = (sum ^ page[i]) * 16777619u;
	return sum;
}

void crash_page_fill(uint8_t *page, uint64_t object, unsigned index, uint64_t version)
{
	struct page_head h = { PAGE_MAGIC, object, version, index, 0 };
	uint64_t x = object * 0x9e3779b97f4a7c15ull + version * 31 + index + 1;

	for (size_t i = sizeof(h); i < CRASH_PAGE; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(page + i, &x, 8);
	}
	h.sum = page_sum(page);
	memcpy(page, &h, sizeof(h));
}

enum crash_page crash_page_check(const uint8_t *page, uint64_t object, unsigned index,
				 uint64_t *out_version)
{
	struct page_head h;
	size_t i = 0;

	while (i < CRASH_PAGE && !page[i])
		i++;
	if (i == CRASH_PAGE)
		return PAGE_ZERO;
	memcpy(&h, page, sizeof(h));
	*out_version = h.version;
	if (h.magic != PAGE_MAGIC || h.object != object || h.index != index ||
	    h.sum != page_sum(page))
		return PAGE_BAD;
	return PAGE_GOOD;
}
