/*
 * I1, by random schedules: pushes, collections and deletions run the real protocol on a bucket in
 * memory (model_bucket.h), and after each request all packs that a ready record names must be
 * there. Then the same without one of the rules that the protocol rests on: each must be missed.
 * And the same for names that are given and taken away meanwhile (name_world.h).
 *
 * VARVE_LONG=1: minutes. VARVE_TEST_SEED: only that schedule, of the whole protocol.
 */
#include "tests/unit/name_world.h"

#define STEPS 3000u
#define SCHEDULES_MAX 6000u

static const char *const rule_names[ALL_KNOWN_RULES] = {
	"nothing",
	"to wait for older pushes",
	"the second mark",
	"to mark after the wait",
	"to read bases anew",
	"to name packs once",
	"to abort by the record",
	"the date of signatures",
	"to heed what is condemned",
	"to look for the round's end",
	"to read the epoch again",
	"that a LIST shows all",
	"to heed what is repacked",
	"to say where chunks are before the pack goes",
	"to look through moves",
	"to use only what the base's tree has",
	"to keep metadata before the pack goes",
	"to keep metadata that is in use",
	"to mark what is deleted",
	"to look for the mark after a name was given",
	"to list names after the mark",
};

/* The first schedules that lose something: they save the search. */
static const unsigned caught_at[ALL_KNOWN_RULES] = {
	[WAIT_FOR_OLDER_PUSHES] = 3, [MARK_AGAIN] = 2,
	[MARK_AFTER_THE_WAIT] = 8,   [READ_BASES_NOW] = 11,
	[NAME_PACKS_ONCE] = 3,	     [ABORT_BY_THE_RECORD] = 426,
	[FENCE_BY_DATE] = 426,	     [HEED_THE_CONDEMNED] = 77,
	[LOOK_FOR_DONE] = 358,	     [READ_THE_EPOCH_AGAIN] = 2760,
	[LIST_WITHOUT_DELAY] = 113,  [HEED_THE_REPACKED] = 161,
	[SAY_WHERE_FIRST] = 14,	     [LOOK_THROUGH_MOVES] = 51,
	[USE_THE_TREE_ALONE] = 74,   [KEEP_METADATA_FIRST] = 264,
	[KEEP_METADATA_IN_USE] = 11, [MARK_WHAT_GOES] = 44,
	[LOOK_AFTER_NAMING] = 37,    [LIST_AFTER_THE_MARK] = 98,
};

/* ---- runs ---- */

static void no_pause(void *arg)
{
	(void)arg;
}

/*
 * Everybody has died, wherever they were: a collection ends all that, and leaves what is named and
 * nothing else.
 */
static void check_end(struct world *w)
{
	const struct collect_options opt = { .give_up_s = GIVE_UP_S,
					     .free_s = FREE_S,
					     .pause = no_pause };
	struct collect_result res;
	struct error err = ERROR_INIT;

	model_kill(&w->m);
	w->m.now += GIVE_UP_S + FREE_S;
	for (int i = 0; i < 2; i++)
		if (collect_run(w->r, &opt, NULL, &res, &err) < 0)
			snprintf(w->violation, sizeof(w->violation), "%s", error_text(&err));
	if (res.garbage_packs)
		snprintf(w->violation, sizeof(w->violation), "garbage stays");
	for (size_t i = 0; i < w->m.n; i++)
		if (begins(w->m.v[i].key, "push/"))
			snprintf(w->violation, sizeof(w->violation), "%s stays", w->m.v[i].key);
	check(w);
}

static uint64_t total_pushed, total_steps, total_packs, total_freed, total_given_up, total_moved,
	total_again, total_kept;

/* True: all held. */
static bool run_seed(uint64_t seed, enum rule without, char why[200])
{
	struct world *w = malloc(sizeof(*w));
	bool held;

	world_init(w, seed, without);
	for (unsigned i = 0; i < STEPS && !w->violation[0]; i++)
		model_step(&w->m);
	if (without == ALL_RULES && !w->violation[0])
		check_end(w);
	total_pushed += w->pushed;
	total_steps += w->m.step;
	total_packs += w->packs_deleted;
	total_freed += w->freed;
	total_given_up += w->given_up;
	total_moved += w->moved;
	total_again += w->moved_again;
	total_kept += w->kept;
	held = !w->violation[0];
	snprintf(why, 200, "%s", w->violation);
	world_fini(w);
	free(w);
	return held;
}

/* Times VARVE_TEST_ROUNDS; 60 times as many with VARVE_LONG=1. */
static unsigned rounds(unsigned n)
{
	const char *l = getenv("VARVE_LONG"), *times = getenv("VARVE_TEST_ROUNDS");

#ifdef __SANITIZE_ADDRESS__
	n = n / 10 + 1;
#endif
	n *= times ? (unsigned)atoi(times) : 1;
	return l && *l == '1' ? 60 * n : n;
}

static void all_rules_keep_what_is_named(void **state)
{
	const char *only = getenv("VARVE_TEST_SEED");
	uint64_t first = only ? strtoull(only, NULL, 10) : 1;
	uint64_t n = only ? 1 : rounds(120);
	char why[200];

	(void)state;
	for (uint64_t seed = first; seed < first + n; seed++)
		if (!run_seed(seed, ALL_RULES, why))
			fail_msg("seed %llu: %s", (unsigned long long)seed, why);
	print_message(
		"# %llu schedules, %llu steps: %llu pushes, %llu packs deleted, %llu pushes given "
		"up, %llu records freed, %llu packs moved, %llu of them again, metadata of %llu\n",
		(unsigned long long)n, (unsigned long long)total_steps,
		(unsigned long long)total_pushed, (unsigned long long)total_packs,
		(unsigned long long)total_given_up, (unsigned long long)total_freed,
		(unsigned long long)total_moved, (unsigned long long)total_again,
		(unsigned long long)total_kept);
	assert_true(only || (total_pushed && total_packs && total_freed && total_given_up &&
			     total_moved && total_kept));
}

/* Schedules are the same on each machine: so is the first one that loses something. */
static void each_rule_is_needed(void **state)
{
	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip(); /* some of them take hundreds of schedules */
#endif
	for (int rule = 1; rule < RULES; rule++) {
		unsigned seed = caught_at[rule];
		char why[200];

		/* If the requests have changed since, that one is as good as any other. */
		if (run_seed(seed, (enum rule)rule, why))
			for (seed = 1;
			     seed < SCHEDULES_MAX && run_seed(seed, (enum rule)rule, why);)
				seed++;
		print_message("# without %s: schedule %u%s%s\n", rule_names[rule], seed,
			      *why ? ", " : "", why);
		if (!*why)
			fail_msg("without %s nothing was lost", rule_names[rule]);
	}
}

/* ---- names ---- */

static uint64_t total_given, total_refused, total_removed;

static bool run_names(uint64_t seed, enum rule without, char why[200])
{
	struct name_world *n = malloc(sizeof(*n));
	bool held;

	name_world_init(n, seed, without);
	for (unsigned i = 0; i < STEPS && !n->w.violation[0]; i++)
		model_step(&n->w.m);
	total_given += n->given;
	total_refused += n->refused;
	total_removed += n->removed;
	held = !n->w.violation[0];
	snprintf(why, 200, "%s", n->w.violation);
	world_fini(&n->w);
	free(n);
	return held;
}

static void a_name_keeps_its_snapshot(void **state)
{
	const char *only = getenv("VARVE_TEST_SEED");
	uint64_t first = only ? strtoull(only, NULL, 10) : 1;
	uint64_t n = only ? 1 : rounds(40);
	char why[200];

	(void)state;
	for (uint64_t seed = first; seed < first + n; seed++)
		if (!run_names(seed, ALL_RULES, why))
			fail_msg("seed %llu: %s", (unsigned long long)seed, why);
	print_message("# %llu schedules: %llu names given, %llu refused, %llu removals\n",
		      (unsigned long long)n, (unsigned long long)total_given,
		      (unsigned long long)total_refused, (unsigned long long)total_removed);
	assert_true(only || (total_given && total_refused && total_removed));
}

static bool run_one_turn_each(struct world *w)
{
	bool any = false;

	w->m.now += 10;
	for (int i = 0; i < PUSHERS + COLLECTORS + DELETERS; i++)
		if (w->m.actors[i].busy) {
			model_turn(&w->m.actors[i]);
			any = true;
		}
	return any;
}

/* Where nobody dies, all that was marked is deleted, unless it has a name. */
static void what_is_marked_has_a_name_or_goes(void **state)
{
	uint64_t refused = 0, n = rounds(40);

	(void)state;
	for (uint64_t seed = 1; seed <= n; seed++) {
		struct name_world *x = malloc(sizeof(*x));

		name_world_init(x, seed, ALL_RULES);
		x->w.m.faults = false;
		for (int i = 0; i < PUSHERS; i++)
			x->w.m.actors[i].run = push_or_new_name;
		for (unsigned i = 0; i < STEPS && !x->w.violation[0]; i++)
			model_step(&x->w.m);
		while (run_one_turn_each(&x->w))
			;
		check_marked(x);
		if (x->w.violation[0])
			fail_msg("seed %llu: %s", (unsigned long long)seed, x->w.violation);
		refused += x->refused;
		world_fini(&x->w);
		free(x);
	}
	print_message("# %llu schedules: %llu names refused\n", (unsigned long long)n,
		      (unsigned long long)refused);
	assert_true(refused > 0);
}

static void each_rule_of_names_is_needed(void **state)
{
	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip();
#endif
	for (int rule = RULES; rule < ALL_KNOWN_RULES; rule++) {
		unsigned seed = caught_at[rule];
		char why[200];

		if (run_names(seed, (enum rule)rule, why))
			for (seed = 1;
			     seed < SCHEDULES_MAX && run_names(seed, (enum rule)rule, why);)
				seed++;
		print_message("# without %s: schedule %u%s%s\n", rule_names[rule], seed,
			      *why ? ", " : "", why);
		if (!*why)
			fail_msg("without %s nothing was lost", rule_names[rule]);
	}
}

/* ---- I6 ---- */

/* Let an operation go on, at most `turns` requests. True: it is over. */
static bool go_on(struct world *w, struct actor *a, unsigned turns)
{
	for (unsigned i = 0; i < turns; i++) {
		w->m.now += 10;
		model_turn(a);
		if (!a->busy)
			return true;
	}
	return false;
}

static void complete(struct world *w, struct actor *a)
{
	if (!go_on(w, a, 10000))
		fail_msg("an operation does not end");
}

/* Some snapshots, of which one was deleted. */
static struct world *quiet_world(void)
{
	struct world *w = malloc(sizeof(*w));

	world_init(w, 7, ALL_RULES);
	w->m.faults = false;
	for (int i = 0; i < 4; i++)
		complete(w, &w->m.actors[0]);
	complete(w, &w->m.actors[PUSHERS + COLLECTORS]);
	assert_int_equal(w->n_ready, 3);
	return w;
}

/* True: it was over before that request. */
static bool dies_at(unsigned request, int who)
{
	struct world *w = quiet_world();
	struct actor *a = &w->m.actors[who];
	bool over = go_on(w, a, request + 1);
	uint64_t pushed;

	a->dead = true;
	if (!over)
		complete(w, a);
	pushed = w->pushed;
	complete(w, &w->m.actors[1]);
	assert_int_equal(w->pushed, pushed + 1);
	check_end(w);
	if (w->violation[0])
		fail_msg("actor %d dies at request %u: %s", who, request, w->violation);
	world_fini(w);
	free(w);
	return over;
}

static void a_death_at_any_request_blocks_nobody(void **state)
{
	unsigned n = 0, k = 0;

	(void)state;
	while (!dies_at(n, 0))
		n++;
	while (!dies_at(k, PUSHERS))
		k++;
	print_message("# a push has %u requests, a collection %u\n", n, k);
	assert_in_range(n, 8, 20);
	assert_in_range(k, 15, 60);
}

/*
 * A push sees its intent and sleeps. A collector that gave it up dies before it ends the round;
 * long afterwards another one ends that. The push may still create its record, if the key is free.
 */
static void a_key_is_not_freed_soon_after_its_intent(void **state)
{
	struct world *w = quiet_world();
	struct actor *a = &w->m.actors[PUSHERS];
	struct push_intent i = { .r = w->r };
	char key[SHARE_KEY_SIZE];

	(void)state;
	assert_int_equal(push_intent_declare(&i, NULL), 0);
	share_key_of_id(SHARE_KEY_SNAP, &i.intent.id, key);
	while (!model_find(&w->m, key))
		assert_false(go_on(w, a, 1));
	a->dead = true;
	complete(w, a);
	w->m.now += FREE_S + 100;
	complete(w, a);
	assert_non_null(model_find(&w->m, key));
	assert_int_equal(w->freed, 1); /* the snapshot that had been deleted */
	w->m.now += FREE_S + 100;
	complete(w, a);
	assert_null(model_find(&w->m, key));
	push_intent_end(&i);
	world_fini(w);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_rules_keep_what_is_named),
		cmocka_unit_test(a_death_at_any_request_blocks_nobody),
		cmocka_unit_test(a_key_is_not_freed_soon_after_its_intent),
		cmocka_unit_test(a_name_keeps_its_snapshot),
		cmocka_unit_test(what_is_marked_has_a_name_or_goes),
		cmocka_unit_test(each_rule_of_names_is_needed),
		cmocka_unit_test(each_rule_is_needed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
