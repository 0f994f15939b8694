#include "store/share/repair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/remote/share_meta.h"
#include "store/remote/share_walk.h"
#include "store/share/relied.h"
#include "store/share/share_verify.h"

#define NODES_MAX ((size_t)64 << 20) /* bytes of each set */

int repair_find_bad(struct remote *r, const struct share_record *rec, struct progress *p,
		    struct share_packs *bad, struct error *err)
{
	struct share_packs_cursor c = { 0 };
	struct pack_id id;
	int rc = 0;

	if (p)
		p->total_items = share_packs_count(&rec->packs);
	while (rc == 0 && share_packs_next(&rec->packs, &c, &id)) {
		struct error own = ERROR_INIT;
		uint64_t bytes = 0;

		rc = share_verify_pack(r, &id, &bytes, &own);
		if (share_is_damage(rc))
			rc = share_packs_add(bad, &id);
		else if (rc < 0)
			error_set(err, rc, "%s", error_text(&own));
		if (p) {
			p->done_items++;
			p->done_bytes += bytes;
			progress_tick(p, false);
		}
		if (rc == 0 && progress_cancelled(p))
			rc = -ECANCELED;
	}
	return rc;
}

struct locs {
	const struct share_meta *meta;
	struct relied relied;
};

static int note_loc(void *arg, const struct digest *d)
{
	struct locs *p = arg;
	struct share_loc at;

	return share_meta_find(p->meta, d, 0, &at) ? relied_add(&p->relied, d, &at) : 0;
}

int repair_find_misled(struct remote *r, const struct share_record *rec, size_t *out,
		       bool *out_unreadable, struct error *err)
{
	struct error own = ERROR_INIT;
	struct share_meta meta = { 0 };
	struct locs p = { .meta = &meta };
	struct share_walk w = {
		.meta = &meta, .root = rec->root, .memory = NODES_MAX, .chunk = note_loc, .arg = &p
	};
	int rc = share_meta_fetch(remote_objects(r), OBJECT_BACKGROUND, rec, &meta, &own);
	bool unreadable = share_is_damage(rc);

	*out = 0;
	if (rc == 0) {
		rc = share_walk_run(&w, &own);
		/* -EFBIG: it has too many nodes to be looked at. */
		unreadable = rc == 0 ? w.lacks > 0 : share_is_damage(rc) && rc != -EFBIG;
	}
	*out_unreadable = unreadable;
	if (share_is_damage(rc))
		rc = 0;
	if (rc == 0)
		rc = relied_check(&p.relied, remote_objects(r), NULL, out, &own);
	relied_fini(&p.relied);
	share_meta_fini(&meta);
	return rc < 0 ? error_set(err, rc, "%s", error_text(&own)) : 0;
}

struct names {
	const struct share_id *id;
	struct buf all; /* each ends with a zero byte */
};

static int note_name(void *arg, const char *name, const struct share_record *rec)
{
	struct names *n = arg;

	return share_id_equal(&rec->id, n->id) ? buf_append(&n->all, name, strlen(name) + 1) : 0;
}

/* A name that was moved since it was listed stays where it is. */
static int move_name(struct remote *r, const char *name, const struct share_id *from,
		     const struct share_record *to, struct error *err)
{
	struct share_record now;
	int rc = remote_resolve(r, name, &now, err);
	bool moved;

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	moved = !share_id_equal(&now.id, from);
	share_record_fini(&now);
	return moved ? 0 : remote_set_name(r, name, to, false, err);
}

int repair_replace(struct remote *r, const struct share_record *old, const struct share_record *rec,
		   struct error *err)
{
	struct names n = { .id = &old->id };
	char id[SHARE_ID_SIZE];
	bool deleted;
	int rc = remote_mark_gone(r, &old->id, err); /* no name comes after the list */

	if (rc == 0)
		rc = remote_each_name(r, note_name, &n, err);
	for (size_t at = 0; rc == 0 && at < n.all.len;
	     at += strlen((const char *)n.all.data + at) + 1)
		rc = move_name(r, (const char *)n.all.data + at, &old->id, rec, err);
	buf_fini(&n.all);
	if (rc < 0)
		return rc;
	share_id_text(&old->id, id);
	rc = remote_remove(r, id, &deleted, err);
	return rc == -ENOENT ? 0 : rc;
}
