/* All keys of one tree in order, passing over damaged nodes; and what is wrong with an inode. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/gc/verify_internal.h"

void tree_problem(struct tree_check *t, uint64_t ino, const char *fmt, ...)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	t->problems++;
	if (ino == 0) {
		verify_report(t->v, t->label, NULL, "%s", text);
		return;
	}
	const char *p = tree_fs_path(&t->fs, ino, &path) == 0 ? buf_cstr(&path) : NULL;
	if (p)
		verify_report(t->v, t->label, ino == ROOT_INO ? "/" : p, "%s", text);
	else
		verify_report(t->v, t->label, NULL, "inode %" PRIu64 ": %s", ino, text);
}

struct scan {
	struct tree_check *t;
	tree_scan_fn fn;
	uint8_t last[KEY_SIZE_MAX];
	size_t last_len; /* 0: none yet */
	bool report;
};

static void node_problem(struct scan *s, const struct digest *d, int rc)
{
	char hex[DIGEST_HEX_SIZE];
	s->t->incomplete = true;
	if (!s->report)
		return;
	digest_to_hex(d, hex);
	tree_problem(s->t, 0, "tree node %s %s; what comes after inode %" PRIu64 " is lost", hex,
		     verify_reason(rc), s->t->ino);
}

static int scan_entry(struct scan *s, const uint8_t *key, size_t klen, const uint8_t *val,
		      size_t vlen)
{
	struct key_parts parts;
	if (key_parse(key, klen, &parts) != 0) {
		if (s->report)
			tree_problem(s->t, s->t->ino, "a key of the tree is malformed");
		return 0;
	}
	if (s->last_len && node_key_cmp(s->last, s->last_len, key, klen) >= 0) {
		if (s->report)
			tree_problem(s->t, parts.ino, "the tree's keys are out of order");
		return 0;
	}
	memcpy(s->last, key, klen);
	s->last_len = klen;
	return s->fn(s->t, &parts, val, vlen);
}

/* first: the key that the parent gives, or NULL. */
static int scan_node(struct scan *s, const struct digest *d, int level,
		     const struct tree_span *first)
{
	CLEANUP(node_unref_p) struct node *n = NULL;
	const uint8_t *key, *val;
	size_t klen, vlen;
	int rc = -EBADMSG;
	if (!digest_set_has(&s->t->v->bad_nodes, d))
		rc = node_store_peek(s->t->v->s->nodes, d, &n);
	else if (node_store_verify(s->t->v->s->nodes, d, &(uint32_t){ 0 }, &(uint32_t){ 0 }) ==
		 -ENODATA)
		rc = -ENODATA;
	if (rc == 0 && ((level >= 0 && n->view.level != level) || (first && !n->view.count)))
		rc = -EBADMSG;
	if (rc == 0 && first) {
		node_entry(&n->view, 0, &key, &klen, &val, &vlen);
		if (node_key_cmp(key, klen, first->data, first->len) != 0)
			rc = -EBADMSG;
	}
	if (rc != 0) {
		if (verify_is_damage(rc))
			node_problem(s, d, rc);
		return verify_is_damage(rc) ? 0 : rc;
	}
	for (uint32_t i = 0; rc == 0 && i < n->view.count; i++) {
		struct digest child;
		node_entry(&n->view, i, &key, &klen, &val, &vlen);
		if (n->view.level == 0) {
			rc = scan_entry(s, key, klen, val, vlen);
			continue;
		}
		struct tree_span child_first = { key, klen };
		memcpy(child.b, val, DIGEST_SIZE);
		rc = scan_node(s, &child, n->view.level - 1, &child_first);
	}
	return rc ? rc : verify_step(s->t->v);
}

int tree_scan(struct tree_check *t, tree_scan_fn fn, bool report)
{
	struct scan s = { .t = t, .fn = fn, .report = report };
	return scan_node(&s, &t->fs.root, -1, NULL);
}
