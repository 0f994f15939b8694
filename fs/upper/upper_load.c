/* An upper's records, read back at a start. What comes from the disk is checked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/upper/upper.h"
#include "store/base/wire.h"

static int load_record(struct upper *up, struct unode *u, const uint8_t *v, size_t n)
{
	struct inode_rec rec;
	char *target = NULL;

	if (n == 1 && v[0] == 0) {
		u->gone = true;
		atomic_fetch_add(&up->meta_bytes, unode_price(u));
		return 0;
	}
	if (n < 2 || v[0] != 1 || inode_decode(v + 2, n - 2, &rec))
		return -EBADMSG;
	if (rec.target_len) {
		target = malloc(rec.target_len);
		if (!target)
			return -ENOMEM;
		memcpy(target, rec.target, rec.target_len);
	}
	rec.target = target;
	u->rec = rec;
	u->has_rec = true;
	u->fresh = v[1] != 0;
	upper_count_new(up, u);
	atomic_fetch_add(&up->meta_bytes, unode_price(u));
	return 0;
}

/* Sane by itself, and beside the extent before it. */
static bool extent_fits(const struct unode *u, const struct upper_extent *x)
{
	struct upper_extent before;

	if (!x->len || x->off + x->len < x->off || x->off + x->len > INT64_MAX)
		return false;
	if (x->kind == UPPER_DATA && (x->pos > INT64_MAX || x->len > INT64_MAX - x->pos))
		return false;
	if (x->kind == UPPER_CHUNK && (x->len > CHUNK_MAX || x->chunk_off > CHUNK_MAX - x->len))
		return false;
	if (x->kind < UPPER_DATA || x->kind > UPPER_CHUNK)
		return false;
	return !x->off || !upper_extent_seek(u, x->off - 1, &before) || before.off >= x->off ||
	       before.off + before.len <= x->off;
}

static int load_entry(struct upper *up, const uint8_t *key, size_t klen, const uint8_t *v, size_t n)
{
	struct key_parts p;
	struct unode *u;

	if (n < 1 || key_parse(key, klen, &p))
		return -EBADMSG;
	u = upper_get(up, p.ino);
	if (!u)
		return -ENOMEM;
	if (p.kind == KEY_INODE)
		return load_record(up, u, v, n);
	if (p.kind == KEY_EXTENT && n != 1 + UPPER_EXTENT_SIZE)
		return -EBADMSG;
	struct omap_entry *e = omap_entry_new(key + 8, klen - 8, v + 1, n - 1, v[0] == 0);

	if (!e)
		return -ENOMEM;
	if (p.kind == KEY_EXTENT) {
		struct upper_extent x;

		upper_extent_decode(e, &x);
		if (!extent_fits(u, &x)) { /* keys come in their order */
			omap_entry_free(e);
			return -EBADMSG;
		}
	}
	upper_count_entry(up, e, 1);
	omap_entry_free(omap_insert(&u->entries, e));
	return 0;
}

#define SHOWN_KEY 40 /* bytes: all of one but a long name's */

/* r: why it cannot be loaded. */
static int bad_record(const uint8_t *key, size_t n, int r, struct error *err)
{
	char hex[2 * SHOWN_KEY + 1] = "";

	for (size_t i = 0; i < n && i < SHOWN_KEY; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	if (r != -EBADMSG)
		return error_set_errno(err, r, "record %s of a mount's upper", hex);
	return error_set(err, r, "record %s%s of a mount's upper is damaged", hex,
			 n > SHOWN_KEY ? "..." : "");
}

int upper_load(struct upper *up, struct kv *kv, struct error *err)
{
	uint8_t prefix[UPPER_ID_SIZE + 4];
	const size_t n = sizeof(prefix);
	struct kv_iter *it CLEANUP(kv_iter_free_p) = kv_iter_new(kv, KV_UPPER);
	int r;

	if (!it)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(prefix, up->id, UPPER_ID_SIZE);
	upper_put_epoch(prefix + UPPER_ID_SIZE, up->epoch);
	for (kv_iter_seek(it, prefix, n); kv_iter_valid(it); kv_iter_next(it)) {
		size_t klen, vlen;
		const uint8_t *key = kv_iter_key(it, &klen);
		const uint8_t *val = kv_iter_value(it, &vlen);

		if (klen < n || memcmp(key, prefix, n) != 0)
			break;
		r = load_entry(up, key + n, klen - n, val, vlen);
		if (r)
			return bad_record(key, klen, r, err);
		atomic_store(&up->changed, true);
	}
	r = kv_iter_status(it);
	return r ? error_prefix(err, r, "cannot read a mount's upper") : 0;
}
