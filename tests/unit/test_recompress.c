/* Recompression: what gets smaller, what is not tried twice, and what it must not disturb. */
#include "store/gc/recompress.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "store/chunk/dict.h"
#include "store/store_internal.h"
#include "store/gc/verify.h"
#include "tests/unit/fs_fixture.h"

#define FILES 40

static struct model *texts(uint64_t seed, int count)
{
	struct model *m = m_new();
	for (int i = 0; i < count; i++) {
		char path[32];
		snprintf(path, sizeof(path), "text-%d", i);
		m_text_file(m, path, seed * 1000 + (uint64_t)i, 30000);
	}
	return m;
}

static struct recompress_result recompress(struct fx *f, int level)
{
	struct recompress_options opt = { .level = level, .threads = 2 };
	struct recompress_result res;
	struct error err = ERROR_INIT;
	if (recompress_run(f->s, &opt, NULL, &res, &err) != 0)
		fail_msg("recompress: %s", error_text(&err));
	return res;
}

static struct verify_result expect_sound(struct fx *f)
{
	struct verify_result res;
	struct error err = ERROR_INIT;
	if (verify_run(f->s, NULL, NULL, NULL, NULL, &res, &err) != 0)
		fail_msg("verify: %s", error_text(&err));
	assert_int_equal(res.damaged, 0);
	return res;
}

static void chunks_get_smaller_and_stay_what_they_are(void **state)
{
	struct fx *f = *state;
	struct model *m = texts(1, FILES);
	m_random_file(m, "noise", 7, 50000);
	m_snapshot(f->s, m, "a");
	struct verify_result before = expect_sound(f);
	struct recompress_result res = recompress(f, 15);
	assert_int_equal(res.tried_chunks, FILES + 1);
	assert_int_equal(res.replaced_chunks, FILES); /* noise gets no smaller */
	assert_true(res.after_bytes < res.before_bytes);
	struct verify_result after = expect_sound(f);
	assert_int_equal(after.chunks, before.chunks);
	assert_int_equal(after.raw_bytes, before.raw_bytes);
	assert_int_equal(before.stored_bytes - after.stored_bytes,
			 res.before_bytes - res.after_bytes);
	fx_reopen(f);
	after = expect_sound(f);
	assert_int_equal(before.stored_bytes - after.stored_bytes,
			 res.before_bytes - res.after_bytes);
	/* The same content is found there, however it is stored. */
	m_snapshot(f->s, m, "b");
	assert_int_equal(expect_sound(f).stored_bytes, after.stored_bytes);
	m_free(m);
}

static void what_was_tried_is_not_tried_again_at_the_same_level(void **state)
{
	struct fx *f = *state;
	struct model *m = texts(1, FILES);
	m_random_file(m, "noise", 7, 50000);
	m_snapshot(f->s, m, "a");
	assert_int_equal(recompress(f, 9).tried_chunks, FILES + 1);
	assert_int_equal(recompress(f, 9).tried_chunks, 0);
	assert_int_equal(recompress(f, 4).tried_chunks, 0);
	fx_reopen(f);
	assert_int_equal(recompress(f, 9).tried_chunks, 0);
	m_text_file(m, "new", 99, 30000);
	m_snapshot(f->s, m, "b");
	assert_int_equal(recompress(f, 9).tried_chunks, 1);
	assert_int_equal(recompress(f, 19).tried_chunks, FILES + 2);
	m_free(m);
}

static void garbage_is_left_alone(void **state)
{
	struct fx *f = *state;
	struct model *m = texts(1, FILES);
	m_tree(f->s, m);
	assert_int_equal(recompress(f, 9).tried_chunks, 0);
	m_free(m);
}

static void a_damaged_chunk_is_counted_and_left(void **state)
{
	struct fx *f = *state;
	struct model *m = texts(1, 3);
	struct chunk_put_result put;
	struct kv_value v = { 0 };
	uint8_t frame[40000];
	m_snapshot(f->s, m, "a");
	const struct m_inode *i = m_at(m, "text-1");
	assert_int_equal(chunk_store_put(f->s->chunks, i->data, i->data_len, &put), 0);
	assert_int_equal(kv_get(f->s->kv, KV_CHUNK, put.digest.b, DIGEST_SIZE, &v), 0);
	size_t len = v.len;
	memcpy(frame, v.data, len);
	kv_value_release(&v);
	frame[len / 2] ^= 4;
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_put(f->s->kv, b, KV_CHUNK, put.digest.b, DIGEST_SIZE, frame, len);
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
	struct recompress_result res = recompress(f, 15);
	assert_int_equal(res.damaged_chunks, 1);
	assert_int_equal(res.replaced_chunks, 2);
	assert_int_equal(kv_get(f->s->kv, KV_CHUNK, put.digest.b, DIGEST_SIZE, &v), 0);
	assert_int_equal(v.len, len);
	assert_memory_equal(v.data, frame, len);
	kv_value_release(&v);
	m_free(m);
}

/* ---- dictionaries ---- */

/* Small files that begin alike: 1,100 chunks. */
static struct model *alike(uint64_t seed)
{
	struct model *m = m_new();
	for (int i = 0; i < 1100; i++) {
		char path[32], text[6000];
		size_t len = 0;
		uint64_t x = seed + (uint64_t)i;
		for (unsigned line = 0; line < 60; line++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			len += (size_t)snprintf(text + len, sizeof(text) - len,
						"Licensed under the terms of layer %u; see %08x\n",
						line * 77777 % 1000, (unsigned)(x >> 33));
		}
		snprintf(path, sizeof(path), "file-%d", i);
		m_make(m, path, S_IFREG | 0644);
		m_set(m, path, text, len);
	}
	return m;
}

static uint8_t first_note(struct fx *f, struct model *m)
{
	struct chunk_put_result put;
	struct kv_head head;
	const struct m_inode *i = m_at(m, "file-7");
	assert_int_equal(chunk_store_put(f->s->chunks, i->data, i->data_len, &put), 0);
	assert_int_equal(put.stored_bytes, 0);
	assert_int_equal(kv_get_head(f->s->kv, put.digest.b, DIGEST_SIZE, &head), 0);
	assert_int_equal(head.bytes[0], 2); /* zstd with a dictionary */
	return head.note;
}

static void a_dictionary_is_made_of_many_chunks(void **state)
{
	struct fx *f = *state;
	struct model *m = alike(1);
	struct error err = ERROR_INIT;
	struct store *reader;
	const struct store_options ro = { .read_only = true };
	struct codec_dict *d;
	m_snapshot(f->s, m, "a");
	assert_int_equal(f->s->own->format, 1);
	assert_int_equal(dict_load(f->s->kv, DICT_FIRST_ID, 0, NULL, &d), -ENOENT);
	struct verify_result before = expect_sound(f);
	struct recompress_result res = recompress(f, 9);
	assert_int_equal(res.replaced_chunks, 1100);
	assert_int_equal(f->s->own->format, STORE_FORMAT_DICT);
	assert_int_equal(first_note(f, m), 9 | RECOMPRESS_WITH_DICT);
	struct verify_result after = expect_sound(f);
	assert_int_equal(after.raw_bytes, before.raw_bytes);
	print_message("%llu, then %llu bytes\n", (unsigned long long)before.stored_bytes,
		      (unsigned long long)after.stored_bytes);
	assert_true(after.stored_bytes < before.stored_bytes * 9 / 10);
	assert_int_equal(recompress(f, 9).tried_chunks, 0);
	fx_reopen(f);
	assert_int_equal(f->s->own->format, STORE_FORMAT_DICT);
	expect_sound(f);
	assert_int_equal(recompress(f, 9).tried_chunks, 0);
	/* A reader beside it finds the dictionary as well. */
	if (store_open(f->dir, &ro, &reader, &err) != 0)
		fail_msg("%s", error_text(&err));
	struct verify_result res2;
	assert_int_equal(verify_run(reader, NULL, NULL, NULL, NULL, &res2, &err), 0);
	assert_int_equal(res2.damaged, 0);
	store_close(reader);
	m_free(m);
}

static void spoil_dict(struct fx *f, int copy)
{
	char key[32];
	struct kv_value v = { 0 };
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	snprintf(key, sizeof(key), "dict/%08x/%d", DICT_FIRST_ID, copy);
	assert_int_equal(kv_get(f->s->kv, KV_META, key, strlen(key), &v), 0);
	uint8_t *bytes = malloc(v.len);
	memcpy(bytes, v.data, v.len);
	bytes[v.len / 2] ^= 1;
	kv_batch_put(f->s->kv, b, KV_META, key, strlen(key), bytes, v.len);
	kv_value_release(&v);
	free(bytes);
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
}

static void one_damaged_copy_of_a_dictionary_does_no_harm(void **state)
{
	struct fx *f = *state;
	struct model *m = alike(1);
	struct verify_result res;
	struct error err = ERROR_INIT;
	m_snapshot(f->s, m, "a");
	recompress(f, 9);
	spoil_dict(f, 0);
	fx_reopen(f);
	expect_sound(f);
	spoil_dict(f, 1);
	fx_reopen(f);
	assert_int_equal(verify_run(f->s, NULL, NULL, NULL, NULL, &res, &err), 0);
	assert_true(res.damaged > 0);
	m_free(m);
}

/* ---- stopping and waiting ---- */

struct hooks {
	unsigned asked, until;
};

static bool asked_often(void *arg)
{
	struct hooks *h = arg;
	return ++h->asked > h->until;
}

static bool busy_at_first(void *arg)
{
	struct hooks *h = arg;
	return ++h->asked <= h->until;
}

static void a_run_that_is_ended_is_gone_on_with(void **state)
{
	struct fx *f = *state;
	struct model *m = texts(1, FILES);
	uint64_t tried = 0;
	unsigned runs = 0;
	int rc;
	m_snapshot(f->s, m, "a");
	do {
		struct hooks h = { .until = 2 };
		struct progress p = { .cancelled = asked_often, .arg = &h };
		struct recompress_options opt = { .level = 9, .threads = 1 };
		struct recompress_result res;
		struct error err = ERROR_INIT;
		rc = recompress_run(f->s, &opt, &p, &res, &err);
		assert_true(rc == 0 || rc == -ECANCELED);
		assert_true(rc == 0 || res.tried_chunks <= 12);
		tried += res.tried_chunks;
		fx_reopen(f);
	} while (rc != 0 && ++runs < 100);
	assert_true(runs > 2);
	assert_int_equal(tried, FILES);
	expect_sound(f);
	m_free(m);
}

static void it_waits_while_it_is_told_to(void **state)
{
	struct fx *f = *state;
	struct model *m = texts(1, FILES);
	struct hooks h = { .until = 3 };
	struct recompress_options opt = {
		.level = 9, .threads = 1, .is_idle = true, .is_busy = busy_at_first, .arg = &h
	};
	struct recompress_result res;
	struct error err = ERROR_INIT;
	struct timespec t0, t1;
	m_snapshot(f->s, m, "a");
	clock_gettime(CLOCK_MONOTONIC, &t0);
	assert_int_equal(recompress_run(f->s, &opt, NULL, &res, &err), 0);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_int_equal(res.tried_chunks, FILES);
	assert_true(h.asked > 3);
	assert_true((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 >= 600);
	m_free(m);
}

static void a_bad_level_is_refused(void **state)
{
	struct fx *f = *state;
	struct recompress_options opt = { .level = RECOMPRESS_LEVEL_MAX + 1 };
	struct recompress_result res;
	struct error err = ERROR_INIT;
	assert_int_equal(recompress_run(f->s, &opt, NULL, &res, &err), -EINVAL);
	opt.level = -1;
	assert_int_equal(recompress_run(f->s, &opt, NULL, &res, &err), -EINVAL);
}

/* ---- space and crashes ---- */

static void the_space_comes_back(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct store_stats before, after;
	struct error err = ERROR_INIT;
	m_text_file(m, "big", 1, 12 << 20);
	m_snapshot(f->s, m, "a");
	fx_reopen(f); /* what is in memory is in files now */
	assert_int_equal(store_stats(f->s, &before, &err), 0);
	struct recompress_result res = recompress(f, 12);
	assert_int_equal(store_stats(f->s, &after, &err), 0);
	uint64_t saved = res.before_bytes - res.after_bytes;
	assert_true(saved > before.stored_bytes / 20);
	assert_true(after.stored_bytes + saved - saved / 20 < before.stored_bytes);
	expect_sound(f);
	m_free(m);
}

/* Never returns: the process is killed from outside. */
static void recompress_until_killed(struct fx *f)
{
	fx_open_store(f);
	for (int level = 4; level <= RECOMPRESS_LEVEL_MAX; level++) {
		recompress(f, level);
		assert_int_equal(kv_compact_replaced(f->s->kv), 0);
	}
	for (;;)
		pause();
}

static void kill_9_in_the_middle_loses_nothing(void **state)
{
	struct fx *f = *state;
#ifdef __SANITIZE_THREAD__
	skip(); /* it cannot start threads in a child of a process that had some */
#endif
	struct model *m = texts(1, 80);
	m_snapshot(f->s, m, "a");
	struct verify_result before = expect_sound(f);
	for (unsigned round = 0; round < 6; round++) {
		struct timespec t = { .tv_nsec = 50000000 + round * 123456789 % 500000000 };
		int status;
		store_close(STEAL(f->s));
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			recompress_until_killed(f);
		nanosleep(&t, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		fx_open_store(f);
		struct verify_result after = expect_sound(f);
		assert_int_equal(after.chunks, before.chunks);
		assert_int_equal(after.raw_bytes, before.raw_bytes);
	}
	recompress(f, RECOMPRESS_LEVEL_MAX);
	expect_sound(f);
	m_free(m);
}

static void stopped_compaction_says_so(void **state)
{
	struct fx *f = *state;
	kv_compact_stop(f->s->kv);
	assert_int_equal(kv_compact_replaced(f->s->kv), -ECANCELED);
	assert_int_equal(kv_compact_content(f->s->kv), -ECANCELED);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(chunks_get_smaller_and_stay_what_they_are),
		WITH_STORE(what_was_tried_is_not_tried_again_at_the_same_level),
		WITH_STORE(garbage_is_left_alone),
		WITH_STORE(a_damaged_chunk_is_counted_and_left),
		WITH_STORE(a_dictionary_is_made_of_many_chunks),
		WITH_STORE(one_damaged_copy_of_a_dictionary_does_no_harm),
		WITH_STORE(a_run_that_is_ended_is_gone_on_with),
		WITH_STORE(it_waits_while_it_is_told_to),
		WITH_STORE(a_bad_level_is_refused),
		WITH_STORE(the_space_comes_back),
		WITH_STORE(kill_9_in_the_middle_loses_nothing),
		WITH_STORE(stopped_compaction_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
