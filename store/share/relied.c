#include "store/share/relied.h"

#include <errno.h>
#include <stdlib.h>

#include "store/layout/vpk.h"
#include "store/remote/moved.h"
#include "store/share/share_verify.h"

#define MOVED_BYTES ((size_t)16 << 20)

struct located {
	struct digest digest;
	struct share_loc at;
};

int relied_add(struct relied *r, const struct digest *d, const struct share_loc *at)
{
	const struct located p = { *d, *at };

	return buf_append(&r->v, &p, sizeof(p));
}

void relied_fini(struct relied *r)
{
	buf_fini(&r->v);
}

static int by_pack(const void *a, const void *b)
{
	return pack_id_cmp(&((const struct located *)a)->at.pack,
			   &((const struct located *)b)->at.pack);
}

/* Its container is gone: whether what has its chunks now has this one. */
static bool has_moved(struct moved *moved, struct object_store *os, const struct located *p)
{
	const struct moved_bucket b = { os, "", OBJECT_PUSH };
	struct share_loc at = p->at;

	return moved && moved_ask(moved, &b, &p->digest, &at, NULL) == 0;
}

/* n locations in one container. */
static int check_container(struct object_store *os, struct moved *moved, const struct located *p,
			   size_t n, struct loc_map *present, size_t *denied, struct error *err)
{
	struct share_meta m = { 0 };
	struct error own = ERROR_INIT;
	const int fetched = share_meta_fetch_pack(os, OBJECT_PUSH, &p->at.pack, &m, &own);
	int rc = fetched < 0 && !share_is_damage(fetched)
			 ? error_set(err, fetched, "%s", error_text(&own))
			 : 0;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		bool there = fetched == 0 ? vpk_has_frame(&m.packs[0].view, &p[i].digest,
							  p[i].at.offset, p[i].at.len)
					  : fetched == -ENOENT && has_moved(moved, os, &p[i]);

		*denied += !there;
		if (there && present)
			rc = loc_map_add(present, &p[i].digest, &p[i].at);
	}
	share_meta_fini(&m);
	return rc;
}

int relied_check(struct relied *r, struct object_store *os, struct loc_map *present,
		 size_t *out_denied, struct error *err)
{
	struct located *p = (struct located *)r->v.data;
	size_t n = r->v.len / sizeof(*p), to;
	struct moved *moved;
	int rc;

	*out_denied = 0;
	if (n == 0)
		return 0;
	moved = moved_new(MOVED_BYTES);
	rc = moved ? 0 : -ENOMEM;
	qsort(p, n, sizeof(*p), by_pack);
	for (size_t i = 0; rc == 0 && i < n; i = to) {
		for (to = i + 1; to < n && by_pack(&p[to], &p[i]) == 0;)
			to++;
		rc = check_container(os, moved, p + i, to - i, present, out_denied, err);
	}
	moved_free(moved);
	buf_clear(&r->v);
	return rc;
}
