#include "store/bucket/object_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void object_request_fini(struct object_request *r)
{
	buf_fini(&r->data);
	for (size_t i = 0; i < r->n_entries; i++)
		free(r->entries[i].key);
	free(r->entries);
	r->entries = NULL;
	r->n_entries = 0;
}

static bool key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

/* A part of a key that ends at '/' or at the end of the key. */
static bool part_is_valid(const char *part, size_t len)
{
	if (len == 0 || part[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!key_char(part[i]))
			return false;
	return true;
}

int object_key_check(const char *key)
{
	if (strnlen(key, OBJECT_KEY_MAX + 1) > OBJECT_KEY_MAX)
		return -EINVAL;
	for (const char *part = key;;) {
		size_t len = strcspn(part, "/");

		if (!part_is_valid(part, len))
			return -EINVAL;
		if (!part[len])
			return 0;
		part += len + 1;
	}
}

/* A prefix is the beginning of a key: it may be empty, and end within a part or with '/'. */
static bool prefix_is_valid(const char *prefix)
{
	if (strnlen(prefix, OBJECT_KEY_MAX + 1) > OBJECT_KEY_MAX || strstr(prefix, "//") ||
	    prefix[0] == '/')
		return false;
	for (const char *p = prefix; *p; p++)
		if (!key_char(*p) && *p != '/')
			return false;
	return true;
}

static int request_check(const struct object_store *os, const struct object_request *r)
{
	bool writes = r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE || r->op == OBJECT_DELETE;

	if (writes && os->read_only)
		return -EROFS;
	if (r->op == OBJECT_LIST)
		return prefix_is_valid(r->key) && r->max_keys <= OBJECT_LIST_MAX ? 0 : -EINVAL;
	if (r->op == OBJECT_DELETE) {
		if (r->n_names > OBJECT_DELETE_MAX)
			return -EINVAL;
		for (size_t i = 0; i < r->n_names; i++)
			if (object_key_check(r->names[i]) < 0)
				return -EINVAL;
		return 0;
	}
	if (r->len > OBJECT_SIZE_MAX)
		return -EFBIG;
	return object_key_check(r->key);
}

void object_submit(struct object_store *os, struct object_request *r)
{
	int rc = request_check(os, r);

	r->result = 0;
	r->date = 0;
	r->more = false;
	r->size = 0;
	r->err = (struct error)ERROR_INIT;
	if (rc < 0) {
		r->result = rc == -EROFS ? error_set(&r->err, rc, "the remote is read-only")
					 : error_set(&r->err, rc, "not a valid request: key %.100s",
						     r->op == OBJECT_DELETE ? "of a list" : r->key);
		r->done(r);
		return;
	}
	if (atomic_load_explicit(&os->stopped, memory_order_relaxed)) {
		r->result = error_set(&r->err, -ECANCELED, "the remote is being closed");
		r->done(r);
		return;
	}
	os->ops->submit(os, r);
}

/* Requests that one thread waits for. */
struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t all_done;
	size_t left; /* guarded by lock */
};

static void note_done(struct object_request *r)
{
	struct waiting *w = r->arg;

	pthread_mutex_lock(&w->lock);
	if (--w->left == 0)
		pthread_cond_signal(&w->all_done);
	pthread_mutex_unlock(&w->lock);
}

void object_run(struct object_store *os, struct object_request *r, size_t n)
{
	struct waiting w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, n };

	for (size_t i = 0; i < n; i++) {
		r[i].done = note_done;
		r[i].arg = &w;
		r[i].waits = i == n - 1;
		object_submit(os, &r[i]);
	}
	pthread_mutex_lock(&w.lock);
	while (w.left)
		pthread_cond_wait(&w.all_done, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.all_done);
	pthread_mutex_destroy(&w.lock);
}

void object_store_counts(struct object_store *os, struct object_counts *out)
{
	struct object_counts inner;

	for (size_t i = 0; i < OBJECT_OPS; i++)
		out->requests[i] = os->requests[i];
	out->bytes_in = os->bytes_in;
	out->bytes_out = os->bytes_out;
	out->failed = os->failed;
	out->retried = os->retried;
	out->throttled = os->throttled;
	out->hedged = os->hedged;
	if (!os->inner)
		return;
	object_store_counts(os->inner, &inner);
	for (size_t i = 0; i < OBJECT_OPS; i++)
		out->requests[i] += inner.requests[i];
	out->bytes_in += inner.bytes_in;
	out->bytes_out += inner.bytes_out;
	out->failed += inner.failed;
	out->retried += inner.retried;
	out->throttled += inner.throttled;
	out->hedged += inner.hedged;
}

void object_store_stop(struct object_store *os)
{
	for (; os; os = os->inner)
		atomic_store(&os->stopped, true);
}

void object_pass_answer(struct object_request *out, const struct object_request *in)
{
	out->result = in->result;
	out->data = in->data;
	out->size = in->size;
	out->entries = in->entries;
	out->n_entries = in->n_entries;
	out->more = in->more;
	out->date = in->date;
	out->err = in->err;
}

void object_pass_state(struct object_store *os, const struct object_store *behind)
{
	if (behind->gone)
		os->gone = true;
	if (behind->refused)
		os->refused = true;
}

void object_store_close(struct object_store *os)
{
	if (os)
		os->ops->close(os);
}

/* Run one and keep its result and message. The caller frees its results. */
static int run_one(struct object_store *os, struct object_request *r, struct error *err)
{
	object_run(os, r, 1);
	return r->result < 0 ? error_set(err, r->result, "%s", error_text(&r->err)) : 0;
}

int object_get(struct object_store *os, enum object_priority pr, const char *key, size_t max_len,
	       struct buf *out, int64_t *out_date, struct error *err)
{
	struct object_request r = {
		.op = OBJECT_GET, .priority = pr, .key = key, .max_len = max_len
	};
	int rc = run_one(os, &r, err);

	if (out_date)
		*out_date = r.date;
	if (rc == 0) {
		buf_fini(out);
		*out = r.data;
		r.data = (struct buf)BUF_INIT;
	}
	object_request_fini(&r);
	return rc;
}

int object_put(struct object_store *os, enum object_priority pr, const char *key, const void *body,
	       size_t len, struct error *err)
{
	struct object_request r = {
		.op = OBJECT_PUT, .priority = pr, .key = key, .body = body, .len = len
	};

	return run_one(os, &r, err);
}

int object_put_once(struct object_store *os, enum object_priority pr, const char *key,
		    const void *body, size_t len, int64_t signed_at, struct error *err)
{
	struct object_request r = { .op = OBJECT_PUT_ONCE,
				    .priority = pr,
				    .key = key,
				    .body = body,
				    .len = len,
				    .signed_at = signed_at };

	return run_one(os, &r, err);
}

int object_delete(struct object_store *os, enum object_priority pr, const char *key,
		  struct error *err)
{
	struct object_request r = {
		.op = OBJECT_DELETE, .priority = pr, .key = key, .names = &key, .n_names = 1
	};

	return run_one(os, &r, err);
}

/* Call fn for one page; the last key goes to `after`. */
static int each_entry(struct object_request *r, object_fn fn, void *arg, struct buf *after)
{
	int rc = 0;

	for (size_t i = 0; i < r->n_entries && rc == 0; i++)
		rc = fn(arg, &r->entries[i]);
	if (rc || !r->more)
		return rc;
	if (r->n_entries == 0) /* it would go on for ever */
		return error_set(&r->err, -EBADMSG, "a list says that it has more but shows none");
	buf_clear(after);
	rc = buf_append_str(after, r->entries[r->n_entries - 1].key);
	return rc < 0 || !buf_cstr(after) ? -ENOMEM : 0;
}

int object_each(struct object_store *os, enum object_priority pr, const char *prefix, object_fn fn,
		void *arg, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) after = BUF_INIT;
	bool more = true;
	int rc = 0;

	while (rc == 0 && more) {
		struct object_request r = { .op = OBJECT_LIST, .priority = pr, .key = prefix };

		r.after = after.len ? (const char *)after.data : NULL;
		rc = run_one(os, &r, err);
		if (rc == 0) {
			rc = each_entry(&r, fn, arg, &after);
			if (rc < 0 && r.err.msg[0])
				error_set(err, rc, "%s", r.err.msg);
		}
		more = r.more;
		object_request_fini(&r);
	}
	return rc;
}
