#include "store/share/share_verify_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/chunk/digest_set.h"
#include "store/layout/vpk.h"
#include "store/remote/moved.h"
#include "store/remote/share_walk.h"

#define NODES_MAX ((size_t)64 << 20) /* bytes of each set, of nodes or chunks */
#define CHECKED_MAX ((size_t)32 << 20)
#define MOVED_BYTES ((size_t)64 << 20)

/* A chunk, and where the metadata says that it is. */
struct located {
	struct digest digest;
	struct share_loc at;
};

/* One record. */
struct checking {
	struct verify *v;
	const struct share_record *rec;
	const char *key;
	struct share_meta meta;
	struct digest_set chunks; /* that were met */
	struct buf locs;	  /* struct located */
	uint64_t problems;
	const char *lacks; /* the tree's first flaw */
};

/* ---- problems ---- */

/* It is no problem if the snapshot was deleted meanwhile. */
static bool still_ready(struct checking *k)
{
	struct share_record now;
	bool ready;

	if (remote_read_record(k->v->r, &k->rec->id, &now, NULL) < 0)
		return true;
	ready = now.state == SHARE_READY;
	share_record_fini(&now);
	return ready;
}

PRINTF_LIKE(2, 3) static void found(struct checking *k, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	if (k->problems++ == 0 && !still_ready(k))
		k->problems = UINT64_MAX; /* say nothing of it */
	if (k->problems == UINT64_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	share_verify_tell(k->v, k->key, text);
}

static bool is_void(const struct checking *k)
{
	return k->problems == UINT64_MAX;
}

/* ---- a record's packs ---- */

/* One that was not listed may be newer than the list, or lent. */
static bool is_there(struct verify *v, const struct pack_id *p, bool borrows)
{
	struct object_request get = { .op = OBJECT_GET, .priority = OBJECT_BACKGROUND, .len = 1 };
	char key[SHARE_KEY_SIZE];
	int rc;

	if (share_packs_has(&v->listed, p))
		return true;
	share_key_pack(p, key);
	get.key = key;
	object_run(v->os, &get, 1);
	rc = get.result;
	object_request_fini(&get);
	/* Any other failure is met again by who reads the container. */
	if (rc < 0)
		return rc != -ENOENT;
	return share_packs_add(&v->listed, p) == 0 &&
	       (!borrows || share_packs_add(&v->lent, p) == 0);
}

/* Whether it was repacked, and what has its chunks now is there. */
static bool has_moved(struct verify *v, const struct pack_id *p)
{
	const struct moved_bucket b = { v->os, "", OBJECT_BACKGROUND };
	struct share_moved_head head = { .to = *p };

	for (unsigned hops = 0; hops < SHARE_MOVED_HOPS; hops++) {
		const struct pack_id from = head.to;

		if (moved_head(&b, &from, &head, NULL) < 0 || share_moved_stays(&head))
			return false;
		if (head.none)
			return true;
		if (is_there(v, &head.to, false))
			return share_packs_add(&v->named, &head.to) == 0;
	}
	return false;
}

/* Whether the bucket itself has it; a GET would ask who lends, too. True where it does not say. */
static bool is_own(struct verify *v, const struct pack_id *p)
{
	char key[SHARE_KEY_SIZE];
	struct object_request list = {
		.op = OBJECT_LIST, .priority = OBJECT_BACKGROUND, .key = key, .max_keys = 1
	};
	bool there;

	if (share_packs_has(&v->listed, p))
		return true;
	share_key_pack(p, key);
	object_run(v->os, &list, 1);
	there = list.result < 0 || (list.n_entries && strcmp(list.entries[0].key, key) == 0);
	object_request_fini(&list);
	return there;
}

static bool borrows(const struct checking *k)
{
	return k->rec->alternate.bucket[0] != '\0';
}

/* own: of those alone that cannot be lent, as the record's push has made them. */
static void check_packs(struct checking *k, bool own)
{
	struct share_packs_cursor c = { 0 };
	struct pack_id p;

	while (!is_void(k) && share_packs_next(&k->rec->packs, &c, &p)) {
		char text[PACK_ID_SIZE];

		if (own && !share_id_equal(&p.push, &k->rec->id))
			continue;
		if ((own ? is_own(k->v, &p) : is_there(k->v, &p, borrows(k))) ||
		    has_moved(k->v, &p))
			continue;
		pack_id_text(&p, text);
		found(k, "container %s is missing", text);
	}
}

/* ---- its tree ---- */

static int locate_chunk(void *arg, const struct digest *d)
{
	struct checking *k = arg;
	struct located at = { .digest = *d };

	if (!digest_set_add(&k->chunks, d))
		return k->chunks.full ? -EFBIG : 0;
	if (!share_meta_find(&k->meta, d, 0, &at.at)) {
		k->lacks = "its metadata does not say where a chunk is";
		return 0;
	}
	if (!share_packs_has(&k->rec->packs, &at.at.pack)) {
		k->lacks = "a chunk is in a container that it does not name";
		return 0;
	}
	return buf_append(&k->locs, &at, sizeof(at));
}

/* -ENODATA: something was found. */
static int check_tree(struct checking *k, struct error *err)
{
	struct share_walk w = { .meta = &k->meta,
				.root = k->rec->root,
				.memory = NODES_MAX,
				.p = k->v->p,
				.chunk = locate_chunk,
				.arg = k };
	int rc = share_meta_fetch(k->v->os, OBJECT_BACKGROUND, k->rec, &k->meta, err);

	if (rc < 0)
		return rc;
	rc = share_walk_run(&w, err);
	if (rc == -EFBIG)
		return error_set(err, rc, "its tree is too large to be checked");
	if (rc < 0)
		return err->msg[0] ? rc : error_set_errno(err, rc, "its tree");
	k->v->res->nodes += w.nodes;
	if (w.lacks)
		found(k, "its metadata lacks %zu nodes of the tree", w.lacks);
	if (k->lacks)
		found(k, "%s", k->lacks);
	return 0;
}

/* ---- its chunks ---- */

static int by_loc(const void *a, const void *b)
{
	const struct located *x = a, *y = b;
	int order = pack_id_cmp(&x->at.pack, &y->at.pack);

	if (order)
		return order;
	return x->at.offset < y->at.offset ? -1 : x->at.offset > y->at.offset;
}

/* False if that chunk was looked up at that location before. */
static bool is_new(struct verify *v, const struct located *p)
{
	struct digest d;

	if (hash_bytes(p, sizeof(*p), &d) < 0)
		return true;
	return digest_set_add(&v->checked, &d);
}

/* The container of n chunks is gone: whether it was repacked, with all of them, into one. */
static bool follow(struct verify *v, struct located *p, size_t n)
{
	const struct moved_bucket b = { v->os, "", OBJECT_BACKGROUND };

	for (size_t i = 0; i < n; i++)
		if (moved_ask(v->moved, &b, &p[i].digest, &p[i].at, NULL) < 0)
			return false;
	return true;
}

/* Its sections. */
static int fetch_container(struct verify *v, struct located *p, size_t n, struct share_meta *out,
			   struct error *err)
{
	int rc = -ENOENT;

	for (unsigned hops = 0; rc == -ENOENT && hops <= SHARE_MOVED_HOPS; hops++) {
		rc = share_meta_fetch_pack(v->os, OBJECT_BACKGROUND, &p->at.pack, out, err);
		if (rc == -ENOENT && !follow(v, p, n))
			break;
	}
	return rc;
}

/* n chunks of one container against its footer. */
static int check_container(struct checking *k, struct located *p, size_t n, struct error *err)
{
	struct share_meta m = { 0 };
	char text[PACK_ID_SIZE];
	int rc = fetch_container(k->v, p, n, &m, err);

	pack_id_text(&p->at.pack, text);
	if (share_is_damage(rc)) {
		found(k, "container %s: %s", text, error_text(err));
		return 0;
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		char hex[DIGEST_HEX_SIZE];

		digest_to_hex(&p[i].digest, hex);
		if (!vpk_has_frame(&m.packs[0].view, &p[i].digest, p[i].at.offset, p[i].at.len))
			found(k, "container %s lacks chunk %s", text, hex);
	}
	k->v->res->chunks += n;
	share_meta_fini(&m);
	return rc;
}

static int check_chunks(struct checking *k, struct error *err)
{
	struct located *p = (struct located *)k->locs.data;
	size_t n = 0, to;
	int rc = 0;

	for (size_t i = 0; i < k->locs.len / sizeof(*p); i++)
		if (is_new(k->v, &p[i]))
			p[n++] = p[i];
	if (n)
		qsort(p, n, sizeof(*p), by_loc);
	for (size_t i = 0; i < n && rc == 0 && !is_void(k); i = to) {
		for (to = i + 1; to < n && pack_id_cmp(&p[to].at.pack, &p[i].at.pack) == 0;)
			to++;
		rc = check_container(k, p + i, to - i, err);
		if (rc == 0 && progress_cancelled(k->v->p))
			rc = -ECANCELED;
	}
	return rc;
}

/* ---- records ---- */

/* A failure of who lends to the record: its own bucket answers. */
static bool is_of_lender(const struct checking *k, int rc)
{
	struct share_record now;

	if (!borrows(k) || rc >= 0 || share_is_damage(rc) || rc == -ECANCELED || rc == -ENOMEM ||
	    remote_read_record(k->v->r, &k->rec->id, &now, NULL) < 0)
		return false;
	share_record_fini(&now);
	return true;
}

/* 1: who lends to it cannot be asked, for the reason in err. */
static int check_all_of(struct checking *k, struct error *err)
{
	struct verify *v = k->v;
	int rc = remote_check_alternate(v->r, k->rec, err);

	if (rc < 0)
		return 1;
	if (borrows(k) && v->away.code < 0) {
		*err = v->away;
		return 1;
	}
	check_packs(k, false);
	if (!k->problems)
		rc = check_tree(k, err);
	if (rc == 0 && !k->problems)
		rc = check_chunks(k, err);
	if (!is_of_lender(k, rc))
		return rc;
	error_set(&v->away, rc, "%s", error_text(err));
	return 1;
}

static int check_ready(struct verify *v, const char *key, const struct share_record *rec)
{
	struct checking k = { .v = v, .rec = rec, .key = key };
	struct error err = ERROR_INIT;
	bool unchecked;
	int rc;

	digest_set_init(&k.chunks, NODES_MAX);
	v->res->snapshots++;
	rc = buf_append(&v->ready, &rec->id, sizeof(rec->id));
	if (rc == 0)
		rc = check_all_of(&k, &err);
	unchecked = rc == 1;
	if (unchecked) {
		check_packs(&k, true);
		rc = 0;
	} else if (share_is_damage(rc)) {
		found(&k, "%s", err.msg[0] ? err.msg : strerror(-rc));
		rc = 0;
	}
	if (unchecked && !is_void(&k))
		share_verify_tell_unchecked(v, key, error_text(&err));
	if (rc == 0 && (is_void(&k) || unchecked))
		v->res->snapshots--;
	if (rc == 0 && !is_void(&k))
		rc = share_packs_add_all(&v->named, &rec->packs);
	if (rc < 0)
		error_set(v->err, rc, "%s: %s", key, error_text(&err));
	share_meta_fini(&k.meta);
	digest_set_fini(&k.chunks);
	buf_fini(&k.locs);
	return rc;
}

static int check_record(void *arg, const struct object_entry *e)
{
	struct verify *v = arg;
	struct error err = ERROR_INIT;
	struct share_record rec;
	struct share_key key;
	int rc;

	if (share_key_parse(e->key, &key) < 0 || key.kind != SHARE_KEY_SNAP) {
		share_verify_tell(v, e->key, "it is no key that this version knows");
		return 0;
	}
	rc = remote_read_record(v->r, &key.id, &rec, &err);
	if (rc == -ENOENT)
		return 0; /* freed meanwhile */
	if (rc == 0 && !share_id_equal(&rec.id, &key.id)) {
		share_record_fini(&rec);
		rc = error_set(&err, -EBADMSG, "it is of another snapshot");
	}
	if (share_is_damage(rc)) {
		share_verify_tell(v, e->key, error_text(&err));
		return 0;
	}
	if (rc < 0)
		return error_set(v->err, rc, "%s", error_text(&err));
	if (rec.state == SHARE_READY)
		rc = check_ready(v, e->key, &rec);
	share_record_fini(&rec);
	if (v->p) {
		v->p->done_items++;
		progress_tick(v->p, false);
	}
	return rc == 0 && progress_cancelled(v->p) ? -ECANCELED : rc;
}

static int note_pack(void *arg, const struct object_entry *e)
{
	struct verify *v = arg;
	struct share_key k;

	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_PACK)
		return 0;
	v->res->packs++;
	v->res->bytes += e->size;
	return share_packs_add(&v->listed, &k.pack);
}

/* ---- all bytes ---- */

/* Whether any ready record names it yet: by who wrote it, and those who came after. */
struct search {
	struct verify *v;
	const struct pack_id *pack;
};

static int names_pack(void *arg, const struct object_entry *e)
{
	const struct search *s = arg;
	struct share_record rec;
	struct share_key k;
	int rc = 0;

	if (share_key_parse(e->key, &k) == 0 && k.kind == SHARE_KEY_SNAP &&
	    remote_read_record(s->v->r, &k.id, &rec, NULL) == 0) {
		rc = rec.state == SHARE_READY && share_packs_has(&rec.packs, s->pack);
		share_record_fini(&rec);
	}
	return rc;
}

/* A pack that cannot be read is a problem while a ready record names it. */
static bool is_needed(struct verify *v, const struct pack_id *pack)
{
	struct search s = { v, pack };

	return object_each(v->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_SNAP),
			   names_pack, &s, NULL) != 0;
}

static int read_pack(struct verify *v, const struct pack_id *pack)
{
	struct error err = ERROR_INIT;
	char key[SHARE_KEY_SIZE];
	uint64_t bytes;
	int rc = share_verify_pack(v->r, pack, &bytes, &err);

	share_key_pack(pack, key);
	v->res->read_packs++;
	v->res->read_bytes += bytes;
	if (v->p) {
		v->p->done_items++;
		v->p->done_bytes += bytes;
		progress_tick(v->p, false);
	}
	if (share_is_damage(rc)) {
		if (is_needed(v, pack))
			share_verify_tell(v, key, error_text(&err));
		return 0;
	}
	if (rc < 0 && rc != -ECANCELED && rc != -ENOMEM && share_packs_has(&v->lent, pack)) {
		error_set(&v->away, rc, "%s", error_text(&err));
		share_verify_tell_unchecked(v, key, error_text(&err));
		return 0;
	}
	return rc < 0 ? error_set(v->err, rc, "%s: %s", key, error_text(&err)) : 0;
}

static int read_all(struct verify *v)
{
	struct share_packs_cursor c = { 0 };
	struct pack_id p;
	int rc = 0;

	if (v->p) {
		v->p->phase = "reading";
		v->p->done_items = 0;
		v->p->total_items = share_packs_count(&v->named);
	}
	while (rc == 0 && share_packs_next(&v->named, &c, &p)) {
		/* Else it was said already. */
		if (share_packs_has(&v->listed, &p) &&
		    (v->away.code == 0 || !share_packs_has(&v->lent, &p)))
			rc = read_pack(v, &p);
		if (rc == 0 && progress_cancelled(v->p))
			rc = -ECANCELED;
	}
	return rc;
}

/* ---- the whole ---- */

static int verify_all(struct verify *v, bool deep)
{
	int rc = object_each(v->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_PACK),
			     note_pack, v, v->err);

	if (v->p)
		v->p->phase = "checking";
	if (rc == 0)
		rc = object_each(v->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_SNAP),
				 check_record, v, v->err);
	if (rc == 0)
		rc = share_verify_names(v);
	return rc == 0 && deep ? read_all(v) : rc;
}

int share_verify_run(struct remote *r, bool deep, struct progress *p, share_problem_fn problem,
		     void *arg, struct share_verify_result *out, struct error *err)
{
	struct error own = ERROR_INIT;
	struct verify v = {
		.r = r,
		.os = remote_objects(r),
		.p = p,
		.problem = problem,
		.arg = arg,
		.err = &own,
		.res = out,
	};
	int rc;

	*out = (struct share_verify_result){ 0 };
	v.moved = moved_new(MOVED_BYTES);
	digest_set_init(&v.checked, CHECKED_MAX);
	rc = v.moved ? verify_all(&v, deep) : -ENOMEM;
	moved_free(v.moved);
	share_packs_fini(&v.listed);
	share_packs_fini(&v.lent);
	share_packs_fini(&v.named);
	buf_fini(&v.ready);
	digest_set_fini(&v.checked);
	if (rc == 0)
		return 0;
	error_set(err, rc, "%s", own.msg[0] ? own.msg : strerror(-rc));
	return error_prefix(err, rc, "verify remote %s", remote_name(r));
}
