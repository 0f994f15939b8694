/*
 * Each request is passed on as a copy (`struct passed`) that asks for whole segments, and whose
 * answer comes here first.
 */
#include "store/bucket/object_sealed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/sealed.h"

struct sealed_store {
	struct object_store base;
	struct crypt_key *key; /* owned */
};

struct passed {
	struct object_request in;
	struct object_request *out;
	struct sealed_store *store;
	struct buf body; /* PUT: sealed */
	bool again;	 /* it is the second attempt */
};

static struct sealed_store *sealed_of(struct object_store *os)
{
	return CONTAINER_OF(os, struct sealed_store, base);
}

/* ---- answers ---- */

static int not_ours(struct object_request *r)
{
	return error_set(&r->err, -EBADMSG,
			 "%s: damaged, or not sealed with this bucket's key under this name",
			 r->key);
}

/* Leave len bytes from `from` on. */
static void cut(struct buf *b, size_t from, size_t len)
{
	from = MIN(from, b->len);
	len = MIN(len, b->len - from);
	if (from && len)
		memmove(b->data, b->data + from, len);
	b->len = len;
}

/* The end of an object begins within a segment: leave those in which what was asked lies. */
static int align_end(const struct passed *p, struct sealed_part *part, struct buf *data)
{
	uint64_t start, content, skip;

	if (!part->size && data->len < p->in.len)
		part->size = data->len; /* it is the whole object */
	if (part->size < data->len || sealed_content_size(part->size, &content) < 0)
		return -EBADMSG;
	start = part->size - data->len;
	part->first = content - MIN((uint64_t)p->out->len, content);
	part->first = MIN(part->first, content ? content - 1 : 0) / SEALED_SEGMENT;
	if (part->first * SEALED_STRIDE < start)
		return -EBADMSG;
	skip = part->first * SEALED_STRIDE - start;
	cut(data, (size_t)skip, data->len);
	return 0;
}

/* Of the content that came, what was asked. -EBADMSG: it is less than there must be. */
static int take_asked(const struct object_request *r, const struct sealed_part *part,
		      struct buf *data)
{
	size_t skip = (size_t)(r->offset - part->first * SEALED_SEGMENT);

	if (r->from_end) {
		cut(data, data->len - MIN(r->len, data->len), r->len);
		return part->has_end ? 0 : -EBADMSG;
	}
	cut(data, skip, r->len ? r->len : data->len);
	return part->has_end || (r->len && data->len == r->len) ? 0 : -EBADMSG;
}

/* The content of an answer, in place. */
static int open_data(struct passed *p)
{
	const struct object_request *r = p->out;
	struct object_request *in = &p->in;
	struct sealed_part part = { .size = in->size, .lenient = r->from_end && p->again };
	int rc = 0;

	if (r->from_end)
		rc = align_end(p, &part, &in->data);
	else
		part.first = in->offset / SEALED_STRIDE;
	if (rc == 0 && !r->from_end && !in->data.len && part.first &&
	    (!part.size || in->offset >= part.size))
		return 0; /* it begins behind the end */
	if (rc == 0)
		rc = sealed_open(p->store->key, in->key, &part, &in->data);
	if (rc == 0)
		rc = take_asked(r, &part, &in->data);
	if (rc == 0 && sealed_content_size(part.size, &in->size) < 0)
		in->size = 0;
	return rc;
}

static void open_answer(struct passed *p)
{
	size_t max = p->out->max_len ? p->out->max_len : OBJECT_SIZE_MAX;
	struct object_request *in = &p->in;

	in->result = open_data(p);
	if (in->result == -EBADMSG)
		not_ours(in);
	else if (in->result == 0 && in->data.len > max)
		in->result = error_set(&in->err, -EFBIG, "%s: %zu bytes, more than %zu", in->key,
				       in->data.len, max);
	else if (in->result < 0)
		error_set_errno(&in->err, in->result, "%s", in->key);
	if (in->result < 0)
		buf_clear(&in->data);
}

/* Of a foreign object, which has no such size, it is that of what is there. */
static void content_sizes(struct object_request *r)
{
	for (size_t i = 0; i < r->n_entries; i++)
		if (!r->entries[i].is_prefix)
			(void)!sealed_content_size(r->entries[i].size, &r->entries[i].size);
}

/* Hand the answer to who asked, and end. */
static void answer(struct passed *p)
{
	struct object_request *out = p->out;

	object_pass_answer(out, &p->in);
	buf_fini(&p->body);
	free(p);
	out->done(out);
}

static void inner_done(struct object_request *in)
{
	struct passed *p = in->arg;
	struct object_store *base = &p->store->base;

	object_pass_state(base, base->inner);
	if (in->result == 0 && in->op == OBJECT_LIST)
		content_sizes(in);
	if (in->result == 0 && in->op == OBJECT_GET) {
		open_answer(p);
		if (in->result == -EBADMSG && !p->again) {
			p->again = true;
			in->immutable = false;
			object_request_fini(in);
			base->retried++;
			object_submit(base->inner, in);
			return;
		}
		base->failed += in->result < 0;
	}
	answer(p);
}

/* ---- requests ---- */

/* Ask for the segments in which the range lies. */
static void widen(struct object_request *in)
{
	uint64_t first = in->offset / SEALED_SEGMENT;

	if (in->max_len) /* the answer is measured again */
		in->max_len = sealed_size(in->max_len) + 2 * (size_t)SEALED_STRIDE;
	if (in->from_end) {
		in->len = (in->len + SEALED_SEGMENT - 1) / SEALED_SEGMENT * SEALED_STRIDE +
			  SEALED_STRIDE;
		return;
	}
	if (in->len)
		in->len = (size_t)((in->offset + in->len - 1) / SEALED_SEGMENT - first + 1) *
			  SEALED_STRIDE;
	in->offset = first * SEALED_STRIDE;
}

/* 0, or why the request cannot be passed on. */
static int prepare(struct passed *p)
{
	struct object_request *in = &p->in;
	int rc;

	if (in->op == OBJECT_GET) {
		if (in->offset > UINT64_MAX / SEALED_STRIDE / 2)
			return -EINVAL;
		widen(in);
	}
	if (in->op != OBJECT_PUT && in->op != OBJECT_PUT_ONCE)
		return 0;
	rc = sealed_make(p->store->key, in->key, in->body, in->len, &p->body);
	in->body = p->body.data;
	in->len = p->body.len;
	return rc;
}

static void sealed_submit(struct object_store *os, struct object_request *r)
{
	struct passed *p = calloc(1, sizeof(*p));
	int rc = p ? 0 : -ENOMEM;

	if (p) {
		*p = (struct passed){ .in = *r, .out = r, .store = sealed_of(os) };
		p->in.done = inner_done;
		p->in.arg = p;
		rc = prepare(p);
	}
	if (rc == 0) {
		object_submit(os->inner, &p->in);
		return;
	}
	if (p)
		buf_fini(&p->body);
	free(p);
	os->failed++;
	r->result = error_set_errno(&r->err, rc, "seal a request");
	r->done(r);
}

static void sealed_close(struct object_store *os)
{
	struct sealed_store *s = sealed_of(os);

	object_store_close(os->inner); /* ends what is under way, which needs the key */
	crypt_key_drop(s->key);
	free(s);
}

static const struct object_store_ops ops = { .submit = sealed_submit, .close = sealed_close };

int object_sealed_open(struct object_store *inner, const struct crypt_key *key,
		       struct object_store **out, struct error *err)
{
	struct sealed_store *s = calloc(1, sizeof(*s));
	struct crypt_key *kept = s ? crypt_key_keep(key) : NULL;

	if (!kept) {
		free(s);
		return error_set(err, -ENOMEM, "out of memory");
	}
	s->base.ops = &ops;
	s->base.inner = inner;
	s->base.read_only = inner->read_only;
	s->base.has_clock = inner->has_clock;
	s->key = kept;
	*out = &s->base;
	return 0;
}

int object_sealed_digest(const struct object_store *os, const struct digest *d, struct digest *out)
{
	return sealed_digest(CONTAINER_OF(os, const struct sealed_store, base)->key, d, out);
}
