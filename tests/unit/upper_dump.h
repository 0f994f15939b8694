/* upper_dump.h - all that an upper says, as text that can be compared. */
#ifndef VARVE_TEST_UPPER_DUMP_H
#define VARVE_TEST_UPPER_DUMP_H

#include "tests/unit/fs_fixture.h"

#include "fs/upper/upper.h"

struct ud_list {
	struct unode *u[4096];
	size_t n;
};

static inline int ud_collect(void *arg, struct unode *u)
{
	struct ud_list *l = arg;

	/* One that says nothing is as good as none. */
	if (!u->has_rec && !u->gone && !u->entries.count)
		return 0;
	assert_true(l->n < ARRAY_SIZE(l->u));
	l->u[l->n++] = u;
	return 0;
}

static inline int ud_by_ino(const void *a, const void *b)
{
	const struct unode *x = *(struct unode *const *)a, *y = *(struct unode *const *)b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static inline void ud_unode(struct buf *out, const struct unode *u)
{
	struct buf rec CLEANUP(buf_fini_p) = BUF_INIT;

	assert_int_equal(buf_printf(out, "%llu%s%s", (unsigned long long)u->ino,
				    u->gone ? " gone" : "", u->fresh ? " fresh" : ""),
			 0);
	if (u->has_rec) {
		assert_int_equal(inode_encode(&u->rec, &rec), 0);
		for (size_t i = 0; i < rec.len; i++)
			assert_int_equal(buf_printf(out, "%s%02x", i ? "" : " rec ", rec.data[i]),
					 0);
	}
	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len)) {
		assert_int_equal(buf_printf(out, "\n   "), 0);
		for (size_t i = 0; i < (size_t)e->key_len + e->value_len; i++)
			assert_int_equal(buf_printf(out, "%s%02x", i == e->key_len ? " = " : "",
						    e->bytes[i]),
					 0);
		if (e->tombstone)
			assert_int_equal(buf_printf(out, " tombstone"), 0);
	}
	assert_int_equal(buf_printf(out, "\n"), 0);
}

/* Caller: free(). */
static inline char *ud_dump(struct upper *up)
{
	struct buf out CLEANUP(buf_fini_p) = BUF_INIT;
	struct ud_list *l = calloc(1, sizeof(*l));
	char *text;

	assert_non_null(l);
	assert_int_equal(upper_each(up, ud_collect, l), 0);
	if (l->n)
		qsort(l->u, l->n, sizeof(l->u[0]), ud_by_ino);
	for (size_t i = 0; i < l->n; i++)
		ud_unode(&out, l->u[i]);
	assert_int_equal(buf_printf(&out, "%llu bytes, %llu of metadata, %llu new inodes\n",
				    (unsigned long long)atomic_load(&up->data_bytes),
				    (unsigned long long)atomic_load(&up->meta_bytes),
				    (unsigned long long)atomic_load(&up->new_inodes)),
			 0);
	text = strdup(buf_cstr(&out));
	assert_non_null(text);
	free(l);
	return text;
}

#endif
