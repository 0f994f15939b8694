#include "store/gc/store_root.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/kv/meta.h"

static int add_snapshots(struct store *s, struct buf *out, struct error *err)
{
	struct snapshot *list = NULL;
	const int64_t now_ms = clock_ms();
	size_t n = 0;
	int rc = snapshots_list(s->snapshots, &list, &n, err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (!list[i].has_root)
			continue;
		struct store_root r = { .kind = ROOT_SNAPSHOT,
					.root = list[i].root,
					.expired = snapshot_is_expired(&list[i], now_ms) };
		memcpy(r.id, list[i].id, sizeof(r.id));
		snprintf(r.label, sizeof(r.label), "%s",
			 list[i].name[0] ? list[i].name : list[i].id);
		rc = buf_append(out, &r, sizeof(r));
		if (rc != 0)
			error_set_errno(err, rc, "cannot list snapshots");
	}
	snapshots_list_free(list, n);
	return rc;
}

struct pin_walk {
	enum meta_kind kind;
	meta_fn fn;
	void *arg;
	struct error *err;
};

static int call_for_pin(void *arg, const char *name, const void *value, size_t len)
{
	const struct pin_walk *w = arg;
	int rc = w->fn(w->arg, name, value, len);

	return rc ? error_set_errno(w->err, rc, "pin %s%.200s", meta_prefix(w->kind), name) : 0;
}

static int each_pin(struct store *s, enum meta_kind kind, meta_fn fn, void *arg, struct error *err)
{
	struct error own = ERROR_INIT;
	struct pin_walk w = { kind, fn, arg, &own };
	int rc = meta_each(s->kv, kind, "", call_for_pin, &w);

	if (!rc)
		return 0;
	return own.msg[0] ? error_set(err, rc, "%s", error_text(&own))
			  : error_set_errno(err, rc, "cannot list pins");
}

static int add_pin(void *arg, const char *owner, const void *value, size_t len)
{
	struct store_root r = { .kind = ROOT_PIN };
	if (len != DIGEST_SIZE)
		return -EBADMSG;
	memcpy(r.root.b, value, DIGEST_SIZE);
	snprintf(r.label, sizeof(r.label), "pin %.64s", owner);
	return buf_append(arg, &r, sizeof(r));
}

static int add_holds(struct store *s, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf held = BUF_INIT;
	int rc = store_holds(s, &held);
	const struct digest *roots = (const struct digest *)held.data;
	for (size_t i = 0; rc == 0 && i < held.len / sizeof(*roots); i++) {
		struct store_root r = { .kind = ROOT_HOLD, .root = roots[i], .label = "in use" };
		rc = buf_append(out, &r, sizeof(r));
	}
	return rc;
}

int store_roots(struct store *s, struct buf *out, struct error *err)
{
	int rc = add_snapshots(s, out, err);
	if (rc == 0)
		rc = each_pin(s, META_PIN_TREE, add_pin, out, err);
	if (rc != 0)
		return rc;
	rc = add_holds(s, out);
	return rc ? error_set_errno(err, rc, "cannot list what is in use") : 0;
}

struct chunk_call {
	store_chunk_fn fn;
	void *arg;
};

static int call_chunk(void *arg, const char *name, const void *value, size_t len)
{
	const struct chunk_call *c = arg;
	const char *slash = strrchr(name, '/');
	struct digest d;

	(void)value;
	if (!slash || len != 0 || digest_from_hex(slash + 1, &d) != 0)
		return -EBADMSG;
	return c->fn(c->arg, &d);
}

int store_pinned_chunks(struct store *s, store_chunk_fn fn, void *arg, struct error *err)
{
	struct chunk_call c = { fn, arg };
	return each_pin(s, META_PIN_CHUNK, call_chunk, &c, err);
}
