/* Eviction, and the pins that allow it (I4: what is deleted here is in a bucket, and stays there).
 */
#include "tests/unit/lazy_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/share_pins.h"
#include "store/lazy/evict.h"

#define FILES 200 /* 4 MB */
#define LIMIT (2u << 20)

/* Pins and an evictor over the fixture. */
struct limited {
	struct lazy_host *l;
	struct pins *pins;
	struct evictor *e;
	struct evict_options opt;
};

static void limit_with(struct limited *x, struct lazy_host *l, const struct pins_options *how,
		       bool thread)
{
	struct pins_options po = how ? *how : (struct pins_options){ .no_thread = true };
	struct error err = ERROR_INIT;

	*x = (struct limited){ .l = l };
	po.remotes = l->rs;
	po.index = l->ix;
	if (pins_open(&po, &x->pins, &err) != 0)
		fail_msg("%s", error_text(&err));
	const struct evictor_options eo = { .store = l->h->b.s,
					    .remotes = l->rs,
					    .index = l->ix,
					    .pins = x->pins,
					    .limit_bytes = LIMIT,
					    .no_thread = !thread };
	x->e = evictor_new(&eo);
	assert_non_null(x->e);
}

static void limit(struct limited *x, struct lazy_host *l, const struct pins_options *how)
{
	limit_with(x, l, how, false);
}

static void unlimit(struct limited *x)
{
	chunk_store_set_recent(x->l->h->b.s->chunks, NULL);
	evictor_free(x->e);
	pins_close(x->pins);
}

static struct evict_result evict(struct limited *x)
{
	struct evict_result res;
	struct error err = ERROR_INIT;

	evictor_ask(x->e);
	if (evictor_run(x->e, &x->opt, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	return res;
}

static uint64_t bytes_of(const struct lazy_host *l)
{
	struct kv_stats st;
	uint64_t sum = 0;

	kv_stats(l->h->b.s->kv, &st);
	for (int i = 0; i < KV_FAMILY_COUNT; i++)
		sum += st.live_bytes[i];
	return sum;
}

static void read_files(struct lazy_host *l, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		assert_int_equal(read_file(l, "base", "base", i), 0);
}

static void read_lazily(struct lazy_host *l)
{
	push_files(l, FILES);
	pull_lazily(l, "base");
	read_files(l, 0, FILES);
	assert_int_equal(far_chunks(l), 0);
}

static void a_store_is_kept_below_its_limit(void **state)
{
	struct lazy_host *l = *state;
	struct evict_result res;
	struct limited x;

	limit(&x, l, NULL);
	read_lazily(l);
	assert_true(bytes_of(l) > LIMIT);
	evictor_ask(x.e);
	assert_true(evictor_is_due(x.e));
	res = evict(&x);
	assert_true(res.enough);
	assert_in_range(res.bytes, 1, 4200000);
	assert_int_equal(far_chunks(l), res.chunks);
	assert_in_range(bytes_of(l), 1, LIMIT);
	assert_false(evictor_is_due(x.e));
	assert_int_equal(evict(&x).chunks, 0);
	collect(l);
	unlimit(&x);
	lazy_restart(l); /* forgets what is in memory */
	read_files(l, 0, FILES);
	assert_int_equal(far_chunks(l), 0);
}

/* Who evicts, and collects, asks no bucket: another thread waits for it. */
static void a_bucket_that_does_not_answer_stops_nobody(void **state)
{
	struct lazy_host *l = *state;
	const int64_t from = monotonic_ms();
	char gate[160], plan[200];
	struct evict_result res;
	struct limited x;

	limit_with(&x, l, NULL, true);
	read_lazily(l);
	snprintf(gate, sizeof(gate), "%s/gate", l->h->bucket.dir);
	snprintf(plan, sizeof(plan), "frozen=%s", gate);
	assert_int_equal(mknod(gate, S_IFREG | 0600, 0), 0);
	setenv("VARVE_FAULTS", plan, 1);
	remotes_reopen(l->rs, "main");
	for (int i = 0; i < 15; i++) { /* it looks again after a second */
		assert_false(evictor_is_due(x.e));
		usleep(100000);
	}
	unsetenv("VARVE_FAULTS");
	assert_int_equal(unlink(gate), 0);
	while (!evictor_is_due(x.e) && monotonic_ms() - from < 60000)
		usleep(50000);
	assert_int_equal(evictor_run(x.e, &x.opt, &res, NULL), 0);
	assert_true(res.enough);
	assert_int_equal(far_chunks(l), res.chunks);
	unlimit(&x);
}

/* What was held of a push is held no more once it is pinned no more, even if that comes back. */
static void a_pin_that_went_holds_no_more(void **state)
{
	struct lazy_host *l = *state;
	const char *uuid = remote_uuid(l->h->b.r);
	struct pins_held first, second;
	struct limited x;

	push_files(l, 5);
	pull_lazily(l, "base");
	limit(&x, l, NULL);
	assert_int_equal(pins_confirm(x.pins, uuid, &first, NULL), 0);
	assert_int_equal(first.n, 1);
	assert_int_equal(snapshots_delete(l->h->b.s->snapshots, "base", NULL), 0);
	collect(l);
	assert_int_equal(pins_confirm(x.pins, uuid, &second, NULL), 0);
	assert_int_equal(second.n, 0);
	pins_held_fini(&second);
	assert_false(pins_hold(x.pins, &first));
	pull_lazily(l, "base");
	assert_int_equal(pins_confirm(x.pins, uuid, &second, NULL), 0);
	assert_true(pins_hold(x.pins, &second));
	assert_false(pins_hold(x.pins, &first));
	pins_held_fini(&first);
	pins_held_fini(&second);
	unlimit(&x);
}

static void what_was_read_of_late_stays(void **state)
{
	struct lazy_host *l = *state;
	const struct pull_options whole = { .name = "base", .index = l->ix };
	struct pull_result res;
	struct limited x;

	limit(&x, l, NULL);
	push_files(l, FILES);
	assert_int_equal(pull_snapshot(l->h->b.s, l->h->b.r, "base", &whole, NULL, &res, NULL), 0);
	snapshot_fini(&res.snapshot);
	read_files(l, 20, 60);
	assert_true(evict(&x).enough);
	assert_in_range(far_chunks(l), 100, FILES);
	read_files(l, 20, 60);
	assert_int_equal(stats_of(l).chunks, 0);
	read_files(l, 0, FILES);
	assert_true(stats_of(l).chunks >= 100);
	unlimit(&x);
}

/* Nor does anything else that no bucket has. */
static void what_was_not_pushed_stays(void **state)
{
	struct lazy_host *l = *state;
	char away[200];
	struct limited x;

	limit(&x, l, NULL);
	make_files(l->h, "d", FILES, 1);
	make_files(l->h, "own", FILES, 77);
	take(l->h, &l->h->a, "d", "base", NULL);
	take(l->h, &l->h->a, "own", "own", NULL);
	take(l->h, &l->h->b, "d", "base", NULL);
	take(l->h, &l->h->b, "own", "own", NULL);
	assert_int_equal(evict(&x).chunks, 0);
	push(&l->h->b, "base", "base");
	struct evict_result res = evict(&x);
	assert_false(res.enough); /* "own" alone is larger */
	assert_in_range(res.chunks, FILES, 2 * FILES);
	assert_int_equal(far_chunks(l), res.chunks);
	snprintf(away, sizeof(away), "%s-away", l->h->bucket.path);
	assert_int_equal(rename(l->h->bucket.path, away), 0);
	for (unsigned i = 0; i < FILES; i++)
		assert_int_equal(read_file(l, "own", "own", i), 0);
	assert_int_equal(rename(away, l->h->bucket.path), 0);
	read_files(l, 0, FILES);
	unlimit(&x);
}

/* ---- pins ---- */

/* The pins that the bucket has: of how many instances, and the last one's. */
static unsigned read_pins(struct lazy_host *l, struct share_pins *out)
{
	char path[200], key[300];
	unsigned n = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/node", l->h->bucket.path);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
		struct error err = ERROR_INIT;

		if (e->d_name[0] == '.')
			continue;
		if (n++)
			share_pins_fini(out);
		snprintf(key, sizeof(key), "node/%s", e->d_name);
		assert_int_equal(object_get(l->h->bucket.os, OBJECT_CONTROL, key, SHARE_PINS_MAX,
					    &text, NULL, NULL),
				 0);
		if (share_pins_decode(text.data, text.len, out, &err) != 0)
			fail_msg("%s", error_text(&err));
	}
	if (d)
		closedir(d);
	return n;
}

static void the_bucket_knows_what_is_needed(void **state)
{
	const struct pins_options quick = { .settle_ms = 50 };
	struct lazy_host *l = *state;
	struct share_pins pins = { 0 };
	struct pins_stats st;
	struct limited x;

	limit(&x, l, &quick);
	push_files(l, 20);
	struct push_result pushed = push(&l->h->a, "base", NULL);
	assert_int_equal(read_pins(l, &pins), 0);
	pull_lazily(l, "base");
	int64_t end = monotonic_ms() + 60000;
	do {
		usleep(10000);
		pins_get_stats(x.pins, &st);
	} while (st.written == 0 && monotonic_ms() < end);
	assert_int_equal(read_pins(l, &pins), 1);
	assert_int_equal(pins.n, 1);
	assert_true(share_pins_has(&pins, &pushed.id));
	uint64_t counter = pins.counter;
	share_pins_fini(&pins);
	/* A push moves the counter, whatever it pushes. */
	struct share_id node;
	assert_int_equal(pins_push_begin(x.pins, remote_uuid(l->h->b.r), &node), 0);
	pins_push_end(x.pins, remote_uuid(l->h->b.r));
	assert_true(share_id_equal(&node, &pins.id));
	assert_true(counter >= 1);
	assert_int_equal(snapshots_delete(l->h->b.s->snapshots, "base", NULL), 0);
	collect(l);
	do {
		usleep(10000);
		pins_get_stats(x.pins, &st);
	} while ((st.pins || st.written < 2) && monotonic_ms() < end);
	assert_int_equal(read_pins(l, &pins), 1);
	assert_int_equal(pins.n, 0);
	assert_true(pins.counter > counter);
	share_pins_fini(&pins);
	unlimit(&x);
}

/* Polled by a push: waits until the bucket knows the instance that its intent names. */
struct slow_push {
	struct lazy_host *l;
	bool known;
};

static bool look_at_push(void *arg)
{
	struct slow_push *x = arg;
	const int64_t end = monotonic_ms() + 20000;
	char command[600];

	snprintf(command, sizeof(command), "cd %s && grep -q \"$(ls node)\" push/*",
		 x->l->h->bucket.path);
	while (!x->known && monotonic_ms() < end) {
		struct share_pins pins;

		if (read_pins(x->l, &pins) == 1) {
			share_pins_fini(&pins);
			x->known = system(command) == 0;
		}
		usleep(20000);
	}
	return false;
}

static void a_collector_sees_that_who_pushes_lives(void **state)
{
	const struct pins_options soon = { .settle_ms = 10 };
	struct lazy_host *l = *state;
	struct slow_push push = { .l = l };
	struct progress p = { .cancelled = look_at_push, .arg = &push };
	const struct push_options opt = { .name = "base" };
	struct error err = ERROR_INIT;
	struct push_result res;
	struct limited x;
	struct remote *r;

	limit(&x, l, &soon);
	remotes_set_pins(l->rs, x.pins);
	remotes_reopen(l->rs, "main");
	make_files(l->h, "d", 100, 1);
	take(l->h, &l->h->b, "d", "base", NULL);
	assert_int_equal(remotes_get(l->rs, "main", &r, NULL), 0);
	if (push_snapshot(l->h->b.s, r, "base", &opt, &p, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_true(push.known);
	remotes_release(l->rs, r);
	remotes_reopen(l->rs, "main");
	unlimit(&x);
}

/* I4: no pin, no eviction. */
static void without_a_pin_that_holds_nothing_goes(void **state)
{
	const struct pins_options brief = { .no_thread = true, .valid_ms = 1 };
	struct lazy_host *l = *state;
	struct limited x;
	char node[200], away[220];

	read_lazily(l);
	log_set_level(LOG_ERROR);
	limit(&x, l, &brief);
	usleep(2000);
	assert_in_range(evict(&x).chunks, 0, 20); /* a millisecond's */
	unlimit(&x);
	read_files(l, 0, FILES);
	limit(&x, l, NULL);
	/* A bucket that takes no pins: a file is where they belong. */
	snprintf(node, sizeof(node), "%s/node", l->h->bucket.path);
	snprintf(away, sizeof(away), "%s-away", node);
	assert_int_equal(rename(node, away), 0);
	assert_int_equal(mknod(node, S_IFREG | 0600, 0), 0);
	assert_int_equal(evict(&x).chunks, 0);
	assert_int_equal(far_chunks(l), 0);
	assert_int_equal(unlink(node), 0);
	/* One that takes them, but does not show its records. */
	snprintf(node, sizeof(node), "%s/snap", l->h->bucket.path);
	snprintf(away, sizeof(away), "%s-away", node);
	assert_int_equal(rename(node, away), 0);
	assert_int_equal(evict(&x).chunks, 0);
	assert_int_equal(far_chunks(l), 0);
	assert_int_equal(rename(away, node), 0);
	unlimit(&x);
	limit(&x, l, NULL);
	/* Deleted before it was pinned: a collection of the bucket may take it. */
	bool deleted;
	assert_int_equal(remote_remove(l->h->a.r, "base", &deleted, NULL), 0);
	assert_true(deleted);
	assert_int_equal(evict(&x).chunks, 0);
	unlimit(&x);
}

/* What was held before the pins lapsed has to be asked for again. */
static void a_pin_that_lapsed_holds_no_more(void **state)
{
	const struct pins_options brief = { .no_thread = true, .valid_ms = 300 };
	struct lazy_host *l = *state;
	const char *uuid = remote_uuid(l->h->b.r);
	struct pins_held first, second;
	struct limited x;
	bool deleted;

	push_files(l, 5);
	pull_lazily(l, "base");
	limit(&x, l, &brief);
	assert_int_equal(pins_confirm(x.pins, uuid, &first, NULL), 0);
	assert_int_equal(first.n, 1);
	/* By its own push's pin, whatever another push may hold. */
	const struct pack_id pack = { first.v[0].packs.v[0].push, first.v[0].packs.v[0].first };
	const struct share_id other = { { 1 } };

	assert_true(pins_held_has(&first, &first.v[0].push, &pack));
	assert_false(pins_held_has(&first, &other, &pack));
	assert_int_equal(remote_remove(l->h->a.r, "base", &deleted, NULL), 0);
	/* While it holds, it does so after the snapshot was deleted, too. */
	assert_int_equal(pins_confirm(x.pins, uuid, &second, NULL), 0);
	if (pins_hold(x.pins, &first))
		assert_int_equal(second.n, 1);
	pins_held_fini(&second);
	for (int i = 0; i < 1000 && pins_hold(x.pins, &first); i++)
		usleep(10000);
	assert_false(pins_hold(x.pins, &first));
	assert_int_equal(pins_confirm(x.pins, uuid, &second, NULL), 0);
	assert_int_equal(second.n, 0);
	assert_false(pins_hold(x.pins, &first));
	pins_held_fini(&first);
	pins_held_fini(&second);
	unlimit(&x);
}

/* ---- writers and crashes ---- */

static int touch_chunk(void *arg, const struct digest *d)
{
	chunk_store_touch(((struct lazy_host *)arg)->h->b.s->chunks, d);
	return 0;
}

/* Each chunk that the store has. */
static unsigned each_chunk(struct lazy_host *l, int (*fn)(void *, const struct digest *))
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(l->h->b.s->kv, KV_CHUNK);
	unsigned n = 0;

	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it), n++) {
		struct digest d;
		size_t len;

		memcpy(d.b, kv_iter_key(it, &len), DIGEST_SIZE);
		if (fn)
			assert_int_equal(fn(l, &d), 0);
	}
	return n;
}

static void what_a_writer_relies_on_stays(void **state)
{
	struct lazy_host *l = *state;
	struct guard_session session;
	struct limited x;

	read_lazily(l);
	limit(&x, l, NULL);
	guard_session_begin_slow(l->h->b.s->guard, &session);
	unsigned n = each_chunk(l, touch_chunk);
	assert_int_equal(evict(&x).chunks, 0);
	assert_int_equal(each_chunk(l, NULL), n);
	guard_session_end(l->h->b.s->guard, &session);
	assert_true(evict(&x).chunks > 0);
	unlimit(&x);
}

/* A chunk that only a mount's changes refer to keeps its place. */
static void places_stay_for_pinned_chunks(void **state)
{
	struct lazy_host *l = *state;
	struct store *s = l->h->b.s;
	struct chunk_put_result put;
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	uint8_t bytes[20000];
	struct guard_session session;

	push_files(l, 1);
	pull_lazily(l, "base");
	char path[200];
	snprintf(path, sizeof(path), "%s/d/f0", l->h->bucket.dir);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(bytes, sizeof(bytes), 1, f), 1);
	fclose(f);
	guard_session_begin(s->guard, &session);
	assert_int_equal(chunk_store_put(s->chunks, bytes, sizeof(bytes), &put), 0);
	store_pin_chunk(s, b, "mount", &put.digest);
	assert_int_equal(kv_write(s->kv, b, KV_LOG), 0);
	guard_session_end(s->guard, &session);
	assert_int_equal(snapshots_delete(s->snapshots, "base", NULL), 0);
	collect(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 1);
}

static int steps_left;
static void die_in_time(void *arg)
{
	(void)arg;
	if (--steps_left == 0)
		raise(SIGKILL);
}

/*
 * Evict in another process, which dies at a request to the bucket or at a step. It is this program
 * anew, as the database's threads are not there after a fork.
 */
static void evict_and_die(struct lazy_host *l, int request, int steps)
{
	char plan[32], text[16];
	int status;
	pid_t pid;

	snprintf(plan, sizeof(plan), "die=%d", request);
	snprintf(text, sizeof(text), "%d", steps);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (request)
			setenv("VARVE_FAULTS", plan, 1);
		execl("/proc/self/exe", "test_evict", l->h->bucket.dir, text, (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}

/* That process. Nothing is closed: it was to die. */
static void __attribute__((noreturn)) evict_child(const char *dir, int steps)
{
	struct hosts h = { 0 };
	struct lazy_host l = { .h = &h };
	struct limited x;

	log_set_level(LOG_ERROR);
	steps_left = steps;
	snprintf(h.bucket.dir, sizeof(h.bucket.dir), "%s", dir);
	snprintf(h.bucket.path, sizeof(h.bucket.path), "%s/bucket", dir);
	host_open(&h.b, &h.bucket, "b");
	lazy_open(&l);
	limit(&x, &l, NULL);
	x.opt.pace = die_in_time;
	evict(&x);
	_exit(0);
}

/* I4: kill -9 at each step of it. */
static void a_crash_loses_nothing(void **state)
{
	struct lazy_host *l = *state;
	unsigned far = 0;

	push_files(l, FILES);
	pull_lazily(l, "base");
	for (int i = 1; i <= 7; i++) {
		read_files(l, 0, FILES);
		assert_int_equal(kv_flush_content(l->h->b.s->kv), 0);
		lazy_close(l);
		evict_and_die(l, i <= 4 ? i : 0, i <= 4 ? 0 : i - 4);
		host_open(&l->h->b, &l->h->bucket, "b");
		lazy_open(l);
		far += far_chunks(l) > 0;
		collect(l);
	}
	assert_true(far > 0);
	read_files(l, 0, FILES);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, lazy_setup, lazy_teardown)
int main(int argc, char **argv)
{
	if (argc == 3)
		evict_child(argv[1], atoi(argv[2]));

	const struct CMUnitTest tests[] = {
		TEST(a_store_is_kept_below_its_limit),
		TEST(a_bucket_that_does_not_answer_stops_nobody),
		TEST(a_pin_that_went_holds_no_more),
		TEST(what_was_read_of_late_stays),
		TEST(what_was_not_pushed_stays),
		TEST(the_bucket_knows_what_is_needed),
		TEST(a_collector_sees_that_who_pushes_lives),
		TEST(without_a_pin_that_holds_nothing_goes),
		TEST(a_pin_that_lapsed_holds_no_more),
		TEST(what_a_writer_relies_on_stays),
		TEST(places_stay_for_pinned_chunks),
		TEST(a_crash_loses_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
