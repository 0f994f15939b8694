/* One works, whoever asks and whatever gets lost; a dead one stops nobody for good. */
#include "tests/unit/share_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "store/base/clock.h"
#include "store/bucket/object_fault.h"
#include "store/share/claim.h"
#include "store/remote/register.h"

#define PATH "build/key"

static const struct claim_options quick = { .beat_ms = 20 };

static struct claim *take_it(struct object_store *os, const struct claim_options *o)
{
	struct error err = ERROR_INIT;
	struct claim *c = NULL;

	if (claim_take(os, PATH, o, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
	return c;
}

static uint64_t generation(struct object_store *os)
{
	uint64_t g = 0;

	assert_int_equal(register_generation(os, PATH, &g, NULL, NULL), 0);
	return g;
}

/* An entry of a holder that does nothing more. */
static void put_dead(struct object_store *os, unsigned beat_ms)
{
	struct share_claim dead = { .generation = generation(os) + 1, .beat_ms = beat_ms };
	struct register_value seen = { .generation = dead.generation - 1 };
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;

	assert_int_equal(share_id_random(&dead.nonce), 0);
	assert_int_equal(share_id_random(&dead.holder), 0);
	assert_int_equal(share_claim_encode(&dead, &text, NULL), 0);
	assert_int_equal(register_append(os, PATH, &seen, text.data, text.len, NULL), 0);
}

static void a_claim_is_kept_alive_and_ended(void **state)
{
	struct bucket *b = *state;
	struct claim *c = take_it(b->os, &quick);
	uint64_t first = generation(b->os);

	while (generation(b->os) < first + 40) /* each beat is one more; old ones go */
		usleep(5000);
	assert_false(claim_is_lost(c));
	claim_end(c, NULL);
	c = take_it(b->os, &quick);
	claim_end(c, NULL);
	claim_end(NULL, NULL);
}

struct racer {
	struct object_store *os;
	const struct claim_options *o;
	atomic_int *working, *most;
	int rc;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	struct claim *c = NULL;
	int now;

	do
		r->rc = claim_take(r->os, PATH, r->o, &c, NULL);
	while (r->rc == 1);
	if (r->rc < 0)
		return NULL;
	now = atomic_fetch_add(r->working, 1) + 1;
	if (now > atomic_load(r->most))
		atomic_store(r->most, now);
	usleep(30000);
	atomic_fetch_sub(r->working, 1);
	claim_end(c, NULL);
	return NULL;
}

static void race_with(struct object_store *os, const struct claim_options *o)
{
	enum { N = 6 };
	atomic_int working = 0, most = 0;
	struct racer r[N];
	pthread_t t[N];

	for (int i = 0; i < N; i++) {
		r[i] = (struct racer){ os, o, &working, &most, 0 };
		assert_int_equal(pthread_create(&t[i], NULL, race, &r[i]), 0);
	}
	for (int i = 0; i < N; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].rc, 0);
	}
	assert_int_equal(most, 1);
}

static void of_many_one_works_at_a_time(void **state)
{
	const struct claim_options slow = { .beat_ms = 2000 }; /* alive for 12 s, however busy */
	struct bucket *b = *state;

	race_with(b->os, &slow);
}

static void lost_replies_change_nothing(void **state)
{
	const struct claim_options slow = { .beat_ms = 2000 };
	struct bucket *b = *state;
	struct object_store *faulty;
	struct object_faults n = { 0 };

	assert_int_equal(object_fault_open(bucket_open(b->path, false),
					   "seed=5,lost=0.3,repeat=0.3,ops=put-once", &faulty,
					   NULL),
			 0);
	for (int i = 0; i < 20 && n.lost == 0; i++) {
		race_with(faulty, &slow);
		object_fault_counts(faulty, &n);
	}
	assert_true(n.lost > 0);
	object_store_close(faulty);
}

static void count(void *arg)
{
	++*(int *)arg;
}

static void a_dead_holder_is_followed(void **state)
{
	struct bucket *b = *state;
	int waits = 0;
	const struct claim_options o = { .beat_ms = 20, .waiting = count, .arg = &waits };
	int64_t from = monotonic_ms();
	struct claim *c;

	put_dead(b->os, 50);
	c = take_it(b->os, &o);
	assert_true(monotonic_ms() - from >= 50 * CLAIM_PATIENCE);
	assert_int_equal(waits, 1);
	claim_end(c, NULL);
}

/* It sleeps so long that another takes over: it learns that, and leaves the other alone. */
static void one_that_slept_has_lost_it(void **state)
{
	struct bucket *b = *state;
	struct claim *c = take_it(b->os, &quick);

	for (int i = 0; i < 100 && !claim_is_lost(c); i++) {
		/* as another host does that saw no beat */
		struct share_claim other = { .beat_ms = 5000 };
		struct register_value seen = { .generation = generation(b->os) };
		CLEANUP(buf_fini_p) struct buf text = BUF_INIT;

		other.generation = seen.generation + 1;
		assert_int_equal(share_id_random(&other.nonce), 0);
		assert_int_equal(share_id_random(&other.holder), 0);
		assert_int_equal(share_claim_encode(&other, &text, NULL), 0);
		if (register_append(b->os, PATH, &seen, text.data, text.len, NULL) == 0)
			break;
	}
	while (!claim_is_lost(c))
		usleep(5000);
	uint64_t g = generation(b->os);
	claim_end(c, "not ours to say");
	assert_int_equal(generation(b->os), g);
}

struct waiter {
	struct object_store *os;
	atomic_int waits;
	struct error err;
	int rc;
};

static void note_wait(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void *wait_for_it(void *arg)
{
	struct waiter *w = arg;
	const struct claim_options o = { .beat_ms = 20, .waiting = note_wait, .arg = &w->waits };
	struct claim *c = NULL;

	w->rc = claim_take(w->os, PATH, &o, &c, &w->err);
	claim_end(c, NULL);
	return NULL;
}

static void who_waits_is_told_how_it_ended(void **state)
{
	static const char *const ends[] = { NULL, "step 1 exits with 3" };
	const struct claim_options slow = { .beat_ms = 2000 };
	struct bucket *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct claim *c = take_it(b->os, &slow);
		struct waiter w = { .os = b->os };
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, wait_for_it, &w), 0);
		while (!atomic_load(&w.waits))
			usleep(2000);
		claim_end(c, ends[i]);
		pthread_join(t, NULL);
		assert_int_equal(w.rc, ends[i] ? -ECHILD : 1);
		if (ends[i])
			assert_string_equal(error_text(&w.err), ends[i]);
	}
	/* A failure of the past is nobody's who comes later. */
	claim_end(take_it(b->os, &quick), NULL);
}

static bool at_once(void *arg)
{
	return (void)arg, true;
}

static void waiting_can_be_given_up(void **state)
{
	const struct claim_options o = { .cancelled = at_once };
	struct bucket *b = *state;
	struct claim *c = NULL;

	put_dead(b->os, 60000);
	assert_int_equal(claim_take(b->os, PATH, &o, &c, NULL), -ECANCELED);
}

static void damage_is_told(void **state)
{
	struct bucket *b = *state;
	struct register_value none = { 0 };
	struct claim *c = NULL;

	assert_int_equal(register_append(b->os, PATH, &none, "{}", 2, NULL), 0);
	assert_int_not_equal(claim_take(b->os, PATH, &quick, &c, NULL), 0);
	assert_null(c);
}

/* ---- images ---- */

#define KEY(digit)                                                             \
	digit "00000000000000000000000000000000000000000000000000000000000000" \
	      "0"

static const char keys[3][DIGEST_HEX_SIZE] = { KEY("a"), KEY("b"), KEY("c") };

static struct share_record record_of(struct host *h, const struct share_id *id)
{
	struct share_record rec;

	assert_int_equal(remote_read_record(h->r, id, &rec, NULL), 0);
	return rec;
}

static void assert_image(struct host *h, size_t n, size_t at, const struct share_id *id)
{
	struct share_record found;
	size_t where = 99;
	int rc = remote_find_image(h->r, keys, n, 0, &where, &found, NULL);

	if (!id) {
		assert_int_equal(rc, -ENOENT);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(where, at);
	assert_true(share_id_equal(&found.id, id));
	share_record_fini(&found);
}

static void the_first_image_of_a_key_stays(void **state)
{
	struct hosts *h = *state;
	struct share_record a, b, won;
	struct share_id id_a, id_b;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	make_files(h, "e", 3, 2);
	take(h, &h->b, "e", "two", NULL);
	id_a = push(&h->a, "one", NULL).id;
	id_b = push(&h->b, "two", NULL).id;
	a = record_of(&h->a, &id_a);
	b = record_of(&h->b, &id_b);
	assert_image(&h->a, 3, 0, NULL);
	assert_int_equal(remote_set_image(h->a.r, keys[1], &a, false, &won, NULL), 0);
	assert_int_equal(remote_set_image(h->a.r, keys[1], &a, false, &won, NULL), 0);
	assert_int_equal(remote_set_image(h->b.r, keys[1], &b, false, &won, NULL), 1);
	assert_true(share_id_equal(&won.id, &id_a));
	share_record_fini(&won);
	assert_image(&h->b, 3, 1, &id_a);
	assert_image(&h->b, 1, 0, NULL);
	assert_int_equal(remote_set_image(h->b.r, keys[1], &b, true, &won, NULL), 0);
	assert_image(&h->a, 2, 1, &id_b);
	/* What was deleted is no image. */
	assert_int_equal(remote_delete_unnamed(h->b.r, &id_b, NULL), 0);
	assert_image(&h->a, 3, 1, NULL);
	assert_int_equal(remote_set_image(h->a.r, keys[1], &a, false, &won, NULL), 0);
	assert_image(&h->b, 3, 1, &id_a);
	share_record_fini(&a);
	share_record_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, bucket_setup, bucket_teardown)
		T(a_claim_is_kept_alive_and_ended),
		T(of_many_one_works_at_a_time),
		T(lost_replies_change_nothing),
		T(a_dead_holder_is_followed),
		T(one_that_slept_has_lost_it),
		T(who_waits_is_told_how_it_ended),
		T(waiting_can_be_given_up),
		T(damage_is_told),
		cmocka_unit_test_setup_teardown(the_first_image_of_a_key_stays, hosts_setup,
						hosts_teardown),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
