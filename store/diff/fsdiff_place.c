/*
 * Places: every path that changed, and the directories above, as a tree of
 * names. It keeps each name once, however deep it lies, finds the same path
 * reached from both sides, and hands the changes out in order of their paths.
 *
 * Bytewise order of paths is not the order of a plain walk: "a-b" comes before
 * "a/b", as '-' < '/'. So below a directory there are two things for each
 * child, itself ("a") and what is below it ("a/"), sorted together.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/diff/fsdiff_internal.h"

#define BUCKETS_MIN 64u

int places_init(struct places *ps)
{
	*ps = (struct places){ 0 };
	ps->v = calloc(16, sizeof(*ps->v));
	ps->buckets = malloc(BUCKETS_MIN * sizeof(*ps->buckets));
	if (!ps->v || !ps->buckets)
		return -ENOMEM;
	ps->cap = 16;
	ps->count = 1;
	ps->bucket_count = BUCKETS_MIN;
	memset(ps->buckets, 0xff, BUCKETS_MIN * sizeof(*ps->buckets));
	ps->v[PLACE_ROOT].parent = PLACE_NONE;
	ps->v[PLACE_ROOT].children = ps->v[PLACE_ROOT].sibling = PLACE_NONE;
	return 0;
}

void places_fini(struct places *ps)
{
	free(ps->v);
	free(ps->buckets);
	buf_fini(&ps->names);
}

/* FNV-1a. Keys are a user's file names: the worst they can cause is long chains. */
static uint32_t hash_of(uint32_t parent, const char *name, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull ^ (parent * 0x9e3779b97f4a7c15ull);
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

static const char *name_of(const struct places *ps, const struct place *p)
{
	return (const char *)ps->names.data + p->name;
}

static void chain(struct places *ps, uint32_t i)
{
	struct place *p = &ps->v[i];
	uint32_t *bucket = &ps->buckets[hash_of(p->parent, name_of(ps, p), p->name_len) &
					(ps->bucket_count - 1)];
	p->next = *bucket;
	*bucket = i;
}

static int grow(struct places *ps)
{
	if (ps->cap > PLACE_NONE / 2)
		return -ENOMEM;
	struct place *v = realloc(ps->v, (size_t)ps->cap * 2 * sizeof(*v));
	if (!v)
		return -ENOMEM;
	ps->v = v;
	ps->cap *= 2;
	if (ps->cap <= ps->bucket_count)
		return 0;
	uint32_t *buckets = malloc((size_t)ps->cap * sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	free(ps->buckets);
	ps->buckets = buckets;
	ps->bucket_count = ps->cap;
	memset(buckets, 0xff, (size_t)ps->cap * sizeof(*buckets));
	for (uint32_t i = 1; i < ps->count; i++)
		chain(ps, i);
	return 0;
}

int place_get(struct places *ps, uint32_t parent, const char *name, size_t len, uint32_t *out)
{
	uint32_t i = ps->buckets[hash_of(parent, name, len) & (ps->bucket_count - 1)];
	for (; i != PLACE_NONE; i = ps->v[i].next) {
		const struct place *p = &ps->v[i];
		if (p->parent == parent && p->name_len == len &&
		    memcmp(name_of(ps, p), name, len) == 0) {
			*out = i;
			return 0;
		}
	}
	int rc = ps->count == ps->cap ? grow(ps) : 0;
	size_t at = ps->names.len;
	if (rc == 0)
		rc = buf_append(&ps->names, name, len);
	if (rc != 0)
		return rc;
	i = ps->count++;
	ps->v[i] = (struct place){
		.name = at,
		.name_len = (uint8_t)len,
		.parent = parent,
		.from = PLACE_NONE,
		.children = PLACE_NONE,
		.sibling = ps->v[parent].children,
	};
	ps->v[parent].children = i;
	chain(ps, i);
	*out = i;
	return 0;
}

/* ---- handing out ---- */

/* A child, or what is below it, among its siblings. */
struct item {
	const char *name;
	uint32_t place;
	uint8_t name_len;
	bool below;
};

struct frame {
	size_t begin, pos, end; /* its items */
	size_t path_len;	/* of the directory, with its '/' */
};

struct emitter {
	const struct places *ps;
	fsdiff_fn fn;
	void *arg;
	struct buf items; /* struct item: a stack of the frames' items */
	struct buf frames;
	struct buf path, from;
};

static int by_path(const void *x, const void *y)
{
	const struct item *a = x, *b = y;
	size_t n = MIN(a->name_len, b->name_len);
	int c = memcmp(a->name, b->name, n);
	if (c != 0)
		return c;
	/* What follows the common part: the name goes on, or '/', or it ends. */
	int next_a = a->name_len > n ? (uint8_t)a->name[n] : a->below ? '/' : -1;
	int next_b = b->name_len > n ? (uint8_t)b->name[n] : b->below ? '/' : -1;
	return (next_a > next_b) - (next_a < next_b);
}

static int push_item(struct emitter *e, uint32_t i, bool below)
{
	const struct place *p = &e->ps->v[i];
	struct item item = { name_of(e->ps, p), i, p->name_len, below };
	return buf_append(&e->items, &item, sizeof(item));
}

/* Go below place i, whose path (with '/') is in e->path. */
static int push_frame(struct emitter *e, uint32_t i)
{
	struct frame f = { .path_len = e->path.len };
	f.begin = f.pos = e->items.len / sizeof(struct item);
	int rc = 0;
	for (uint32_t c = e->ps->v[i].children; rc == 0 && c != PLACE_NONE;
	     c = e->ps->v[c].sibling) {
		if (e->ps->v[c].changes)
			rc = push_item(e, c, false);
		if (rc == 0 && e->ps->v[c].children != PLACE_NONE)
			rc = push_item(e, c, true);
	}
	if (rc != 0)
		return rc;
	f.end = e->items.len / sizeof(struct item);
	if (f.end > f.begin)
		qsort((struct item *)e->items.data + f.begin, f.end - f.begin, sizeof(struct item),
		      by_path);
	return buf_append(&e->frames, &f, sizeof(f));
}

static void reverse(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len / 2; i++) {
		uint8_t t = p[i];
		p[i] = p[len - 1 - i];
		p[len - 1 - i] = t;
	}
}

/*
 * Write the path of a place to out, last name first, then reverse it.
 * -ENAMETOOLONG: beyond FSDIFF_PATH_MAX.
 */
static int path_of(const struct places *ps, uint32_t i, struct buf *out)
{
	buf_clear(out);
	for (; i != PLACE_ROOT; i = ps->v[i].parent) {
		const struct place *p = &ps->v[i];
		int rc = out->len ? buf_append(out, "/", 1) : 0;
		size_t at = out->len;
		if (rc == 0)
			rc = buf_append(out, name_of(ps, p), p->name_len);
		if (rc != 0)
			return rc;
		reverse(out->data + at, p->name_len);
		if (out->len > FSDIFF_PATH_MAX)
			return -ENAMETOOLONG;
	}
	if (out->len)
		reverse(out->data, out->len);
	return 0;
}

static int emit_place(struct emitter *e, uint32_t i)
{
	static const struct {
		uint8_t bit;
		enum fsdiff_change change;
	} changes[] = {
		{ PLACE_ADDED, DIFF_ADDED },	 { PLACE_REMOVED, DIFF_REMOVED },
		{ PLACE_RENAMED, DIFF_RENAMED }, { PLACE_MODIFIED, DIFF_MODIFIED },
		{ PLACE_META, DIFF_META },
	};
	const struct place *p = &e->ps->v[i];
	uint8_t bits = p->changes;
	int rc = bits & PLACE_RENAMED ? path_of(e->ps, p->from, &e->from) : 0;
	if (rc == -ENAMETOOLONG) {
		bits = PLACE_ADDED;
		rc = 0;
	}
	if (rc != 0)
		return rc;
	const char *path = i == PLACE_ROOT ? "/" : buf_cstr(&e->path);
	const char *from = buf_cstr(&e->from);
	if (!path || !from)
		return -ENOMEM;
	for (size_t k = 0; k < ARRAY_SIZE(changes); k++) {
		if (!(bits & changes[k].bit))
			continue;
		struct fsdiff_entry entry = {
			.change = changes[k].change,
			.path = path,
			.from = changes[k].change == DIFF_RENAMED ? from : NULL,
			.mode = p->mode,
		};
		rc = e->fn(e->arg, &entry);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static uint64_t count_below(const struct places *ps, uint32_t top)
{
	uint64_t n = 0;
	uint32_t i = ps->v[top].children;
	while (i != PLACE_NONE) {
		n += (unsigned)__builtin_popcount(ps->v[i].changes);
		if (ps->v[i].children != PLACE_NONE) {
			i = ps->v[i].children;
			continue;
		}
		while (i != top && ps->v[i].sibling == PLACE_NONE)
			i = ps->v[i].parent;
		i = i == top ? PLACE_NONE : ps->v[i].sibling;
	}
	return n;
}

/* Report this instead of what is below place i, whose path (with '/') is in e->path. */
static int emit_omitted(struct emitter *e, uint32_t i)
{
	struct fsdiff_entry entry = { .change = DIFF_OMITTED, .path = buf_cstr(&e->path) };
	entry.count = count_below(e->ps, i);
	if (!entry.path)
		return -ENOMEM;
	return entry.count ? e->fn(e->arg, &entry) : 0;
}

static int emit_next(struct emitter *e)
{
	struct frame *f = (struct frame *)(e->frames.data + e->frames.len) - 1;
	if (f->pos == f->end) {
		e->items.len = f->begin * sizeof(struct item);
		e->frames.len -= sizeof(*f);
		return 0;
	}
	struct item item = ((struct item *)e->items.data)[f->pos++];
	e->path.len = f->path_len;
	int rc = buf_append(&e->path, item.name, item.name_len);
	if (rc != 0)
		return rc;
	if (!item.below)
		return emit_place(e, item.place);
	rc = buf_append(&e->path, "/", 1);
	if (rc == 0 && e->path.len > FSDIFF_PATH_MAX - NAME_LEN_MAX)
		return emit_omitted(e, item.place);
	return rc ? rc : push_frame(e, item.place);
}

int places_emit(const struct places *ps, fsdiff_fn fn, void *arg)
{
	struct emitter e = { .ps = ps, .fn = fn, .arg = arg };
	int rc = ps->v[PLACE_ROOT].changes ? emit_place(&e, PLACE_ROOT) : 0;
	if (rc == 0)
		rc = push_frame(&e, PLACE_ROOT);
	while (rc == 0 && e.frames.len)
		rc = emit_next(&e);
	buf_fini(&e.items);
	buf_fini(&e.frames);
	buf_fini(&e.path);
	buf_fini(&e.from);
	return rc;
}
