#include "store/bucket/object_probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "store/base/clock.h"

#define RACERS 32u
#define ROUNDS 100u
#define OVERWRITES 20u
#define SAMPLES 20u
#define KEY_SIZE 64
#define OLD_OK (14 * 60) /* seconds: within OBJECT_DATE_MAX by a minute */
#define OLD_BAD (16 * 60)

struct prober {
	struct object_store *os;
	struct object_probe *out;
	char dir[40]; /* "probe/ID/" */
	unsigned rounds;
};

const char *object_check_result_text(enum object_check_result r)
{
	static const char *const texts[] = { "ok", "noted", "skipped", "failed" };

	return texts[r];
}

static void PRINTF_LIKE(3, 4)
	found(struct prober *p, enum object_check_result r, const char *fmt, ...)
{
	struct object_check *c = &p->out->checks[p->out->n - 1];
	va_list args;

	c->result = r;
	va_start(args, fmt);
	vsnprintf(c->text, sizeof(c->text), fmt, args);
	va_end(args);
	if (r == CHECK_FAILED)
		p->out->usable = false;
}

static void found_error(struct prober *p, const struct object_request *r)
{
	found(p, CHECK_FAILED, "%.240s", error_text(&r->err));
}

static void key_of(const struct prober *p, const char *name, unsigned i, char out[KEY_SIZE])
{
	snprintf(out, KEY_SIZE, "%s%s%05u", p->dir, name, i);
}

static bool has_text(const struct object_request *r, const char *text)
{
	size_t len = strlen(text);

	return r->result == 0 && r->data.len == len &&
	       (len == 0 || memcmp(r->data.data, text, len) == 0);
}

/* One request, to be ended with object_request_fini. */
static struct object_request run_one(struct prober *p, struct object_request r)
{
	r.priority = OBJECT_CONTROL;
	object_run(p->os, &r, 1);
	return r;
}

static struct object_request get(struct prober *p, const char *key)
{
	return run_one(p, (struct object_request){ .op = OBJECT_GET, .key = key, .max_len = 4096 });
}

static struct object_request put(struct prober *p, enum object_op op, const char *key,
				 const char *text)
{
	return run_one(p, (struct object_request){
				  .op = op, .key = key, .body = text, .len = strlen(text) });
}

/* --- create once --- */

static void check_race(struct prober *p)
{
	struct object_request r[RACERS];
	char key[KEY_SIZE], body[RACERS][8];
	unsigned won = 0, lost = 0, winner = 0;

	key_of(p, "race", 0, key);
	for (unsigned i = 0; i < RACERS; i++) {
		snprintf(body[i], sizeof(body[i]), "%u", i);
		r[i] = (struct object_request){ .op = OBJECT_PUT_ONCE,
						.priority = OBJECT_CONTROL,
						.key = key,
						.body = body[i],
						.len = strlen(body[i]) };
	}
	object_run(p->os, r, RACERS);
	for (unsigned i = 0; i < RACERS; i++) {
		if (r[i].result == 0) {
			won++;
			winner = i;
		} else if (r[i].result == -EEXIST) {
			lost++;
		} else {
			found_error(p, &r[i]);
			return;
		}
	}
	struct object_request got = get(p, key);
	/* A winner's reply may be lost, and its second request then be refused. */
	if (won > 1)
		found(p, CHECK_FAILED,
		      "%u of %u who created one key at once were told that they did", won, RACERS);
	else if (got.result < 0)
		found_error(p, &got);
	else if (won == 1 && !has_text(&got, body[winner]))
		found(p, CHECK_FAILED, "the key does not have what its creator wrote");
	else
		found(p, CHECK_OK, "%u at once: one won", RACERS);
	object_request_fini(&got);
}

static void check_again(struct prober *p)
{
	char key[KEY_SIZE];

	key_of(p, "again", 0, key);
	struct object_request first = put(p, OBJECT_PUT_ONCE, key, "first");
	struct object_request second = put(p, OBJECT_PUT_ONCE, key, "second");
	struct object_request got = get(p, key);
	if (first.result < 0 && first.result != -EEXIST)
		found_error(p, &first);
	else if (second.result == 0)
		found(p, CHECK_FAILED,
		      "a key that exists was created again (If-None-Match is ignored)");
	else if (second.result != -EEXIST)
		found_error(p, &second);
	else if (!has_text(&got, "first"))
		found(p, CHECK_FAILED, "a key that could not be created again has changed");
	else
		found(p, CHECK_OK, "a key that exists is not created again");
	object_request_fini(&got);
}

/* --- list --- */

static bool lists(const struct object_request *r, const char *key)
{
	for (size_t i = 0; i < r->n_entries; i++)
		if (strcmp(r->entries[i].key, key) == 0)
			return true;
	return false;
}

/* Two at a time, and so over two connections: put a pair, then look for each with the other's. */
static int list_round(struct prober *p, unsigned i, const char *prefix, unsigned *missed)
{
	char key[2][KEY_SIZE], before[KEY_SIZE];
	struct object_request puts[2], looks[2];
	int rc = 0;

	key_of(p, "list", i * 2, before);
	before[strlen(before) - 1]--; /* less than both, and more than all before */
	for (unsigned k = 0; k < 2; k++) {
		key_of(p, "list", i * 2 + k, key[k]);
		puts[k] = (struct object_request){ .op = OBJECT_PUT,
						   .priority = OBJECT_CONTROL,
						   .key = key[k],
						   .body = "x",
						   .len = 1 };
		looks[k] = (struct object_request){ .op = OBJECT_LIST,
						    .priority = OBJECT_CONTROL,
						    .key = prefix,
						    .after = i ? before : NULL };
	}
	object_run(p->os, puts, 2);
	if (puts[0].result == 0 && puts[1].result == 0)
		object_run(p->os, looks, 2);
	for (unsigned k = 0; k < 2 && rc == 0; k++) {
		const struct object_request *bad = puts[k].result < 0 ? &puts[k] : &looks[k];
		rc = bad->result;
		if (rc < 0)
			found_error(p, bad);
		else
			*missed += !lists(&looks[k], key[0]) || !lists(&looks[k], key[1]);
	}
	for (unsigned k = 0; k < 2; k++)
		object_request_fini(&looks[k]);
	return rc;
}

static void check_list(struct prober *p)
{
	char prefix[KEY_SIZE];
	unsigned missed = 0;

	snprintf(prefix, sizeof(prefix), "%slist", p->dir);
	for (unsigned i = 0; i < p->rounds; i++)
		if (list_round(p, i, prefix, &missed) < 0)
			return;
	if (missed)
		found(p, CHECK_FAILED, "%u of %u listings lack a key that was written before",
		      missed, p->rounds * 2);
	else
		found(p, CHECK_OK, "%u listings show what was written before", p->rounds * 2);
}

/* --- reads --- */

static void check_overwrite(struct prober *p)
{
	char key[KEY_SIZE], text[16];
	unsigned old = 0;

	key_of(p, "over", 0, key);
	for (unsigned i = 0; i < OVERWRITES; i++) {
		snprintf(text, sizeof(text), "%u", i);
		struct object_request w = put(p, OBJECT_PUT, key, text);
		if (w.result < 0) {
			found_error(p, &w);
			return;
		}
		struct object_request got = get(p, key);
		old += !has_text(&got, text);
		object_request_fini(&got);
	}
	if (old)
		found(p, CHECK_FAILED, "%u of %u reads gave what was there before", old,
		      OVERWRITES);
	else
		found(p, CHECK_OK, "%u reads gave what was written last", OVERWRITES);
}

static void check_ranges(struct prober *p)
{
	static const char text[] = "0123456789";
	static const struct {
		uint64_t offset;
		size_t len;
		bool from_end;
		const char *want, *what;
	} cases[] = {
		{ 0, 1, false, "0", "a range at the start" },
		{ 3, 4, false, "3456", "a range" },
		{ 8, 10, false, "89", "a range over the end" },
		{ 10, 5, false, "", "a range behind the end" },
		{ 0, 3, true, "789", "the last bytes" },
		{ 0, 20, true, "0123456789", "more last bytes than there are" },
	};
	char key[KEY_SIZE];

	key_of(p, "range", 0, key);
	struct object_request w = put(p, OBJECT_PUT, key, text);
	if (w.result < 0) {
		found_error(p, &w);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct object_request got =
			run_one(p, (struct object_request){ .op = OBJECT_GET,
							    .key = key,
							    .offset = cases[i].offset,
							    .len = cases[i].len,
							    .from_end = cases[i].from_end });
		bool good = has_text(&got, cases[i].want);
		if (!good)
			found(p, CHECK_FAILED, "%s: %.200s", cases[i].what,
			      got.result < 0 ? error_text(&got.err) : "other bytes");
		object_request_fini(&got);
		if (!good)
			return;
	}
	found(p, CHECK_OK, "ranges and last bytes are right");
}

/* --- what else is of use --- */

static void check_hash(struct prober *p)
{
	char key[KEY_SIZE];

	key_of(p, "hash", 0, key);
	struct object_request r = run_one(p, (struct object_request){ .op = OBJECT_PUT,
								      .key = key,
								      .body = "damaged",
								      .len = 7,
								      .wrong_hash = true });
	if (r.result == 0)
		found(p, CHECK_NOTED,
		      "what is damaged on its way is taken: it is noticed when it is read");
	else
		found(p, CHECK_OK, "what is damaged on its way is refused");
}

static void check_clock(struct prober *p)
{
	char key[KEY_SIZE];

	key_of(p, "clock", 0, key);
	struct object_request now = put(p, OBJECT_PUT, key, "now");
	if (now.result < 0) {
		found_error(p, &now);
		return;
	}
	p->out->ahead = now.date ? now.date - time(NULL) : 0;
	if (!p->os->has_clock || !now.date) {
		found(p, CHECK_NOTED,
		      "it has no clock of its own: what was deleted is never freed");
		return;
	}
	struct object_request r = { .op = OBJECT_PUT, .key = key, .body = "old", .len = 3 };
	r.signed_at = now.date - OLD_OK;
	struct object_request young = run_one(p, r);
	r.signed_at = now.date - OLD_BAD;
	struct object_request old = run_one(p, r);
	p->out->refuses_old = old.result == -ESTALE;
	if (young.result == -ESTALE)
		found(p, CHECK_NOTED,
		      "it refuses a signature of 14 minutes ago: slow pushes start over");
	else if (young.result < 0)
		found_error(p, &young);
	else if (old.result < 0 && old.result != -ESTALE)
		found_error(p, &old);
	else if (!p->out->refuses_old)
		found(p, CHECK_NOTED,
		      "it takes signatures of 16 minutes ago: what was deleted is never freed");
	else
		found(p, CHECK_OK,
		      "old signatures are refused; its clock is %" PRId64 " s before ours",
		      p->out->ahead);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The median time of one request after another. */
static int time_requests(struct prober *p, enum object_op op, const char *key, uint64_t *out_us)
{
	uint64_t us[SAMPLES];

	for (unsigned i = 0; i < SAMPLES; i++) {
		int64_t start = monotonic_us();
		struct object_request r = op == OBJECT_GET ? get(p, key) : put(p, op, key, "x");
		int rc = r.result;

		us[i] = (uint64_t)(monotonic_us() - start);
		if (rc < 0)
			found_error(p, &r);
		object_request_fini(&r);
		if (rc < 0)
			return rc;
	}
	qsort(us, SAMPLES, sizeof(*us), by_size);
	*out_us = us[SAMPLES / 2];
	return 0;
}

static void check_latency(struct prober *p)
{
	char key[KEY_SIZE];

	key_of(p, "time", 0, key);
	if (time_requests(p, OBJECT_PUT, key, &p->out->put_us) < 0 ||
	    time_requests(p, OBJECT_GET, key, &p->out->get_us) < 0)
		return;
	found(p, CHECK_OK, "a small write takes %.1f ms, a small read %.1f ms",
	      (double)p->out->put_us / 1000, (double)p->out->get_us / 1000);
}

/* --- deletion, which also cleans up --- */

static int collect_key(void *arg, const struct object_entry *e)
{
	char ***end = arg;

	if (!(**end = strdup(e->key)))
		return -ENOMEM;
	(*end)++;
	return 0;
}

/* One page of keys is deleted. How many there were, or -errno. */
static int delete_page(struct prober *p, struct object_request *deletion)
{
	struct object_request l =
		run_one(p, (struct object_request){ .op = OBJECT_LIST, .key = p->dir });
	char *names[OBJECT_LIST_MAX], **end = names;
	int rc = l.result;

	for (size_t i = 0; i < l.n_entries && rc == 0; i++)
		rc = collect_key(&end, &l.entries[i]);
	*deletion = l;
	object_request_fini(&l);
	if (rc == 0 && end > names) {
		*deletion = run_one(p, (struct object_request){ .op = OBJECT_DELETE,
								.names = (const char *const *)names,
								.n_names = (size_t)(end - names) });
		rc = deletion->result;
	}
	for (char **k = names; k < end; k++)
		free(*k);
	return rc < 0 ? rc : (int)(end - names);
}

static void check_delete(struct prober *p)
{
	struct object_request r;
	unsigned pages = p->rounds * 2 / OBJECT_LIST_MAX + 2;
	int n, all = 0;

	while ((n = delete_page(p, &r)) > 0 && pages-- > 0)
		all += n;
	if (n < 0)
		found_error(p, &r);
	else if (n > 0)
		found(p, CHECK_FAILED, "%d keys are still listed after they were deleted", n);
	else
		found(p, CHECK_OK, "%d keys deleted", all);
}

/* Whether anybody is there, and lets us in. */
static int say_hello(struct prober *p, struct error *err)
{
	struct object_request l = run_one(
		p, (struct object_request){ .op = OBJECT_LIST, .key = "probe/", .max_keys = 1 });
	int rc = l.result;

	if (rc < 0)
		error_set(err, rc, "%s", error_text(&l.err));
	object_request_fini(&l);
	return rc;
}

int object_probe(struct object_store *os, unsigned rounds, struct object_probe *out,
		 struct error *err)
{
	static const struct {
		const char *name;
		void (*run)(struct prober *p);
	} checks[OBJECT_CHECKS_MAX] = {
		{ "create once", check_race }, { "create again", check_again },
		{ "list", check_list },	       { "overwrite", check_overwrite },
		{ "ranges", check_ranges },    { "hash", check_hash },
		{ "clock", check_clock },      { "latency", check_latency },
		{ "delete", check_delete },
	};
	struct prober p = { .os = os, .out = out, .rounds = rounds ? rounds : ROUNDS };
	uint64_t id;
	int rc;

	*out = (struct object_probe){ .usable = true };
	if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return error_set_errno(err, -EIO, "random bytes");
	snprintf(p.dir, sizeof(p.dir), "probe/%016" PRIx64 "/", id);
	rc = say_hello(&p, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		out->checks[out->n++].name = checks[i].name;
		/* What was written is deleted in any case. */
		if (os->read_only)
			found(&p, CHECK_SKIPPED, "the remote is read-only");
		else if (!out->usable && checks[i].run != check_delete)
			found(&p, CHECK_SKIPPED, "after a failure");
		else
			checks[i].run(&p);
	}
	return 0;
}
