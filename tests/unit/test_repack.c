/* Packs of which little is needed are rewritten, and everybody still finds what was in them. */
#include "tests/unit/lazy_fixture.h"

#include "store/layout/share_format.h"
#include "store/layout/share_moved.h"
#include "store/layout/share_round.h"
#include "store/remote/moved.h"
#include "store/remote/register.h"
#include "store/share/collect.h"
#include "store/share/share_verify.h"

static int count_one(void *arg, const struct object_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

static unsigned count(const struct lazy_host *l, const char *prefix)
{
	unsigned n = 0;

	assert_int_equal(object_each(l->h->bucket.os, OBJECT_CONTROL, prefix, count_one, &n, NULL),
			 0);
	return n;
}

static struct collect_result collect_bucket(struct lazy_host *l, bool dry_run)
{
	const struct collect_options opt = { .dry_run = dry_run, .free_s = COLLECT_FREE_S };
	struct collect_result res;
	struct error err = ERROR_INIT;

	if (collect_run(l->h->a.r, &opt, NULL, &res, &err) < 0)
		fail_msg("%s", error_text(&err));
	return res;
}

static void tell_problem(void *arg, const char *key, const char *problem)
{
	(void)arg;
	print_error("%s: %s\n", key, problem);
}

static void assert_bucket_is_whole(struct lazy_host *l)
{
	struct share_verify_result res;
	struct error err = ERROR_INIT;

	if (share_verify_run(l->h->a.r, true, NULL, tell_problem, NULL, &res, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(res.damaged, 0);
}

static void delete (struct lazy_host *l, const char *name)
{
	bool deleted;

	assert_int_equal(remote_remove(l->h->a.r, name, &deleted, NULL), 0);
	assert_true(deleted);
}

/* A snapshot of the first n of the same files, by itself, in the bucket. */
static struct push_result push_first(struct lazy_host *l, unsigned n, const char *name)
{
	make_files(l->h, name, n, 1);
	take(l->h, &l->h->a, name, name, NULL);
	return push(&l->h->a, name, name);
}

static struct push_result push_repair(struct lazy_host *l, const char *name)
{
	const struct push_options opt = { .name = name, .repair = true };
	struct error err = ERROR_INIT;
	struct push_result res;

	if (push_snapshot(l->h->a.s, l->h->a.r, name, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	return res;
}

/* The only pack that "base" brought is needed for 10 of its 60 files, by "ten". */
static void make_sparse(struct lazy_host *l)
{
	push_files(l, 60);
	assert_int_equal(push_first(l, 10, "ten").chunks, 0);
	assert_int_equal(count(l, "pack/"), 2);
	delete (l, "base");
}

static void what_is_needed_of_a_sparse_pack_moves(void **state)
{
	struct lazy_host *l = *state;
	struct collect_result c;

	make_sparse(l);
	c = collect_bucket(l, true);
	assert_int_equal(c.repacked.sparse_packs, 1);
	assert_true(c.repacked.sparse_bytes > 1200000);
	assert_int_equal(c.repacked.packs, 0);
	assert_int_equal(count(l, "moved/"), 0);
	c = collect_bucket(l, false);
	assert_int_equal(c.repacked.packs, 1);
	assert_true(c.repacked.bytes > 1200000);
	assert_in_range(c.repacked.written_bytes, 200000, 230000);
	assert_int_equal(c.deleted_packs, 0);
	assert_int_equal(count(l, "pack/"), 2);
	assert_int_equal(count(l, "moved/"), 1);
	assert_bucket_is_whole(l);
	pull(&l->h->b, "ten", "ten");
	assert_same_tree(&l->h->a, "ten", &l->h->b, "ten");
	assert_whole(&l->h->b);
	/* And then it is left alone. */
	assert_int_equal(collect_bucket(l, false).repacked.sparse_packs, 0);
	/* A repair finds nothing that is missing. */
	assert_true(push_repair(l, "ten").existed);
	delete (l, "ten");
	c = collect_bucket(l, false);
	assert_int_equal(count(l, "pack/"), 0);
	assert_int_equal(count(l, "moved/"), 0);
}

static void a_program_that_does_not_know_moves_refuses(void **state)
{
	struct lazy_host *l = *state;
	struct share_format f;
	char *text;

	text = bucket_get(l->h->bucket.os, "format");
	assert_null(strstr(text, "moved"));
	free(text);
	make_sparse(l);
	collect_bucket(l, false);
	text = bucket_get(l->h->bucket.os, "format");
	assert_non_null(strstr(text, "\"features\":[\"moved\"]"));
	assert_int_equal(share_format_decode(text, strlen(text), &f, NULL), 0);
	assert_true(f.moved);
	assert_string_equal(f.uuid, remote_uuid(l->h->a.r));
	free(text);
}

/* Who knew where chunks were finds them, with one request more for the pack, not for each chunk. */
static void who_read_lazily_finds_what_has_moved(void **state)
{
	struct lazy_host *l = *state;
	struct object_counts before, after;
	struct far_stats st;
	struct remote *r;

	make_sparse(l);
	pull_lazily(l, "ten");
	collect_bucket(l, false);
	assert_int_equal(remotes_get(l->rs, "main", &r, NULL), 0);
	object_store_counts(remote_objects(r), &before);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(read_file(l, "ten", "ten", i), 0);
	object_store_counts(remote_objects(r), &after);
	st = stats_of(l);
	assert_int_equal(st.failed, 0);
	/* A window that is gone, where it has moved, and the windows of what has it now. */
	assert_in_range(after.requests[OBJECT_GET] - before.requests[OBJECT_GET], 3, 6);
	remotes_release(l->rs, r);
	assert_int_equal(far_chunks(l), 0);
	assert_same_tree(&l->h->a, "ten", &l->h->b, "ten");
}

static void read_newest_round(struct lazy_host *l, struct share_round *out)
{
	uint64_t generation;
	struct share_key k = { .kind = SHARE_KEY_GC };
	char key[SHARE_KEY_SIZE], *text;

	assert_int_equal(register_generation(l->h->bucket.os, "gc", &generation, NULL, NULL), 0);
	k.generation = generation;
	assert_int_equal(share_key_text(&k, key), 0);
	text = bucket_get(l->h->bucket.os, key);
	assert_int_equal(share_round_decode(text, strlen(text), out, NULL), 0);
	free(text);
}

/* Pushes go on with a name that has moved; what it leads to is rewritten, too, with all names. */
static void what_has_moved_moves_again(void **state)
{
	struct lazy_host *l = *state;
	struct share_round round = { 0 };
	struct share_record rec;
	struct collect_result c;

	make_sparse(l);
	collect_bucket(l, false);
	assert_int_equal(push_first(l, 3, "three").chunks, 0);
	assert_bucket_is_whole(l);
	delete (l, "ten");
	c = collect_bucket(l, false);
	assert_int_equal(c.repacked.packs, 1);
	assert_int_equal(count(l, "moved/"), 2);
	assert_bucket_is_whole(l);
	/* While it was under way, no push relied on the first name. */
	read_newest_round(l, &round);
	assert_int_equal(remote_resolve(l->h->a.r, "three", &rec, NULL), 0);
	assert_int_equal(share_packs_count(&round.repacked), 2);
	assert_true(share_packs_meet(&round.repacked, &rec.packs));
	share_record_fini(&rec);
	share_round_fini(&round);
	c = collect_bucket(l, false);
	assert_int_equal(c.garbage_packs, 0);
	pull_lazily(l, "three");
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(read_file(l, "three", "three", i), 0);
	pull(&l->h->b, "three", "again");
	assert_whole(&l->h->b);
	delete (l, "three");
	collect_bucket(l, false);
	assert_int_equal(count(l, "pack/") + count(l, "moved/"), 0);
}

/* A round that another host has begun. */
static void put_round(struct lazy_host *l, const struct pack_id *repacked)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_round round = { .epoch = 1 };
	struct share_key k = { .kind = SHARE_KEY_GC, .generation = 1 };
	char key[SHARE_KEY_SIZE];

	assert_int_equal(share_id_random(&round.node), 0);
	assert_int_equal(share_id_random(&round.nonce), 0);
	assert_int_equal(share_packs_add(&round.repacked, repacked), 0);
	assert_int_equal(share_round_encode(&round, &text, NULL), 0);
	assert_int_equal(share_key_text(&k, key), 0);
	assert_int_equal(
		object_put(l->h->bucket.os, OBJECT_CONTROL, key, text.data, text.len, NULL), 0);
	share_round_fini(&round);
}

/* The only pack of "base" is needed for 10 of its 60 files, and for its metadata, by "few". */
static void make_sparse_with_metadata(struct lazy_host *l)
{
	push_files(l, 60);
	make_files(l->h, "few", 10, 1);
	take(l->h, &l->h->a, "few", "few", "base");
	assert_int_equal(push(&l->h->a, "few", "few").chunks, 0);
	delete (l, "base");
}

static void metadata_in_use_is_kept(void **state)
{
	struct lazy_host *l = *state;
	struct share_record rec;
	struct collect_result c;

	make_sparse_with_metadata(l);
	pull_lazily(l, "few");
	c = collect_bucket(l, false);
	assert_int_equal(c.repacked.packs, 1);
	assert_true(c.repacked.bytes > 1200000);
	assert_in_range(c.repacked.written_bytes, 200000, 240000);
	assert_int_equal(count(l, "pack/"), 2);
	assert_int_equal(count(l, "moved/"), 1);
	assert_int_equal(count(l, "meta/"), 1);
	assert_bucket_is_whole(l);
	/* Who has pulled it before finds it, and so does who comes now. */
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(read_file(l, "few", "few", i), 0);
	pull(&l->h->b, "few", "whole");
	assert_same_tree(&l->h->a, "few", &l->h->b, "whole");
	assert_whole(&l->h->b);
	/* And then it is left alone. */
	assert_int_equal(collect_bucket(l, false).repacked.sparse_packs, 0);
	/* A child goes on with that metadata. */
	take(l->h, &l->h->a, "d", "more", "few");
	assert_int_equal(push(&l->h->a, "more", "more").chunks, 50);
	assert_int_equal(remote_resolve(l->h->a.r, "more", &rec, NULL), 0);
	assert_int_equal(rec.n_meta, 3);
	share_record_fini(&rec);
	assert_bucket_is_whole(l);
	assert_true(push_repair(l, "more").existed);
	delete (l, "few");
	delete (l, "more");
	collect_bucket(l, false);
	assert_int_equal(count(l, "pack/") + count(l, "moved/") + count(l, "meta/"), 0);
}

static int note_key(void *arg, const struct object_entry *e)
{
	snprintf(arg, OBJECT_KEY_MAX, "%s", e->key);
	return 1;
}

/* It is not in a pack, so that no pack is bad. */
static void kept_metadata_that_is_damaged_is_repaired(void **state)
{
	struct lazy_host *l = *state;
	struct push_result res;
	struct stat st;
	char key[OBJECT_KEY_MAX], path[700];
	uint8_t byte;
	int fd;

	make_sparse_with_metadata(l);
	collect_bucket(l, false);
	assert_true(push_repair(l, "few").existed);
	assert_int_equal(object_each(l->h->bucket.os, OBJECT_CONTROL, "meta/", note_key, key, NULL),
			 1);
	snprintf(path, sizeof(path), "%s/%s", l->h->bucket.path, key);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, &byte, 1, st.st_size / 4), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 4), 1);
	close(fd);
	res = push_repair(l, "few");
	assert_false(res.existed);
	assert_int_equal(res.damaged, 1);
	assert_bucket_is_whole(l);
	assert_int_equal(unlink(path), 0);
	assert_bucket_is_whole(l); /* nobody needs it any more */
	pull(&l->h->b, "few", "few");
	assert_same_tree(&l->h->a, "few", &l->h->b, "few");
}

/* Its pack's chunks are needed, under that name, and its metadata is not. */
static void metadata_goes_when_nobody_needs_it(void **state)
{
	struct lazy_host *l = *state;

	make_sparse_with_metadata(l);
	collect_bucket(l, false);
	assert_int_equal(push_first(l, 3, "three").chunks, 0);
	delete (l, "few");
	assert_int_equal(collect_bucket(l, false).repacked.packs, 1);
	assert_int_equal(count(l, "moved/"), 2);
	assert_int_equal(count(l, "meta/"), 0);
	assert_bucket_is_whole(l);
	pull(&l->h->b, "three", "three");
	assert_same_tree(&l->h->a, "three", &l->h->b, "three");
}

/* Since the round was begun, somebody has come to need a pack's metadata. */
static void metadata_that_came_into_use_is_kept(void **state)
{
	struct lazy_host *l = *state;
	struct share_record rec;
	struct pack_id pack;
	char *text;

	push_files(l, 5);
	assert_int_equal(remote_resolve(l->h->a.r, "base", &rec, NULL), 0);
	pack = rec.meta[0];
	share_record_fini(&rec);
	put_round(l, &pack);
	assert_int_equal(collect_bucket(l, false).repacked.packs, 1);
	assert_int_equal(count(l, "meta/"), 1);
	assert_bucket_is_whole(l);
	text = bucket_get(l->h->bucket.os, "format");
	assert_non_null(strstr(text, "\"features\":[\"moved\",\"moved-meta\"]"));
	free(text);
	delete (l, "base");
	collect_bucket(l, false);
	assert_int_equal(count(l, "pack/") + count(l, "moved/") + count(l, "meta/"), 0);
}

/* All of it is needed, though its snapshot is gone. */
static void a_pack_that_is_needed_stays(void **state)
{
	struct lazy_host *l = *state;
	struct collect_result c;

	push_files(l, 5);
	push_first(l, 5, "same");
	delete (l, "base");
	c = collect_bucket(l, false);
	assert_int_equal(c.repacked.sparse_packs, 0);
	assert_int_equal(count(l, "moved/"), 0);
	assert_bucket_is_whole(l);
}

static void small_packs_are_merged(void **state)
{
	struct lazy_host *l = *state;
	char dir[16], path[160], parent[16] = "";
	struct collect_result c;
	const unsigned n = REPACK_SMALL_N + 10;

	/* A child has one file more, so that each push brings a small pack. */
	for (unsigned i = 1; i <= n; i++) {
		snprintf(dir, sizeof(dir), "s%u", i);
		make_files(l->h, "chain", i, 1);
		take(l->h, &l->h->a, "chain", dir, i > 1 ? parent : NULL);
		assert_int_equal(push(&l->h->a, dir, dir).packs, 1);
		strcpy(parent, dir);
	}
	for (unsigned i = 1; i < n; i++) {
		snprintf(path, sizeof(path), "s%u", i);
		delete (l, path);
	}
	c = collect_bucket(l, false);
	assert_true(c.repacked.packs > REPACK_SMALL_N);
	assert_in_range(count(l, "pack/"), 2, 1 + SHARE_META_MAX);
	assert_bucket_is_whole(l);
	pull(&l->h->b, parent, "last");
	assert_same_tree(&l->h->a, parent, &l->h->b, "last");
}

/*
 * What a child's metadata still says of its ancestor's files is no reason to rely on them: nobody
 * needed them any more when their pack was rewritten.
 */
static void what_only_an_ancestor_had_is_pushed_again(void **state)
{
	struct lazy_host *l = *state;
	struct push_result res;

	push_files(l, 60);
	assert_int_equal(push_first(l, 61, "other").chunks, 1);
	make_files(l->h, "few", 10, 1);
	take(l->h, &l->h->a, "few", "few", "other");
	assert_int_equal(push(&l->h->a, "few", "few").chunks, 0);
	delete (l, "base");
	delete (l, "other");
	assert_int_equal(collect_bucket(l, false).repacked.packs, 2);
	assert_true(push_repair(l, "few").existed);
	make_files(l->h, "again", 59, 1);
	take(l->h, &l->h->a, "again", "again", "few");
	res = push(&l->h->a, "again", "again");
	assert_int_equal(res.chunks, 49);
	assert_bucket_is_whole(l);
	pull(&l->h->b, "again", "again");
	assert_same_tree(&l->h->a, "again", &l->h->b, "again");
}

/* ---- failures ---- */

/* A bucket that answers so many requests, and then none. */
struct failing {
	struct object_store base;
	struct object_store *inner;
	unsigned left;
};

static void failing_submit(struct object_store *os, struct object_request *r)
{
	struct failing *f = CONTAINER_OF(os, struct failing, base);

	if (f->left) {
		f->left--;
		object_submit(f->inner, r);
		return;
	}
	r->result = error_set(&r->err, -EIO, "it fails");
	r->done(r);
}

static void failing_close(struct object_store *os)
{
	struct failing *f = CONTAINER_OF(os, struct failing, base);

	object_store_close(f->inner);
	free(f);
}

static int collect_with(struct lazy_host *l, unsigned requests)
{
	static const struct object_store_ops ops = { failing_submit, failing_close };
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct failing *f = calloc(1, sizeof(*f));
	struct collect_result res;
	struct remote *r = NULL;
	int rc;

	assert_non_null(f);
	f->base.ops = &ops;
	f->inner = bucket_open(l->h->bucket.path, false);
	f->left = requests;
	rc = remote_open_store("main", &f->base, &r, NULL);
	if (rc == 0)
		rc = collect_run(r, &opt, NULL, &res, NULL);
	remote_close(r);
	return rc;
}

/* Whatever request fails, what is needed is there, and the next collection goes on. */
static void assert_no_failure_loses(struct lazy_host *l, unsigned n_meta)
{
	unsigned n = 0;

	while (collect_with(l, n) != 0) {
		assert_bucket_is_whole(l);
		assert_in_range(n++, 0, 100);
	}
	assert_in_range(n, 10, 60);
	assert_int_equal(count(l, "moved/"), 1);
	assert_int_equal(count(l, "meta/"), n_meta);
	assert_int_equal(collect_bucket(l, false).garbage_packs, 0);
	assert_int_equal(count(l, "pack/"), 2);
	assert_bucket_is_whole(l);
}

static void a_failure_at_any_request_loses_nothing(void **state)
{
	make_sparse(*state);
	assert_no_failure_loses(*state, 0);
}

static void a_failure_at_any_request_loses_no_metadata(void **state)
{
	make_sparse_with_metadata(*state);
	assert_no_failure_loses(*state, 1);
}

/* Where a pack has some chunk that "ten" needs, as its metadata says. */
static void place_of_ten(struct lazy_host *l, char path[700], uint32_t *out_offset)
{
	struct share_record rec;
	struct share_meta meta;
	struct pack_id pack;
	struct vpk_loc loc;
	char key[SHARE_KEY_SIZE];

	assert_int_equal(remote_resolve(l->h->a.r, "ten", &rec, NULL), 0);
	assert_int_equal(share_meta_fetch(l->h->bucket.os, OBJECT_CONTROL, &rec, &meta, NULL), 0);
	vpk_loc(&meta.packs[0].view, 0, &loc);
	vpk_pack(&meta.packs[0].view, loc.pack, &pack);
	share_key_pack(&pack, key);
	snprintf(path, 700, "%s/%s", l->h->bucket.path, key);
	*out_offset = loc.offset;
	share_meta_fini(&meta);
	share_record_fini(&rec);
}

/* One with a damaged chunk that is needed, so that it can be repaired. */
static void a_damaged_pack_stays(void **state)
{
	struct lazy_host *l = *state;
	struct collect_result c;
	unsigned lost = 0;
	uint32_t offset;
	char path[700];
	FILE *f;

	make_sparse(l);
	place_of_ten(l, path, &offset);
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, (long)offset + 50, SEEK_SET), 0);
	assert_int_equal(fwrite("damage", 6, 1, f), 1);
	fclose(f);
	pull_lazily(l, "ten");
	c = collect_bucket(l, false);
	assert_int_equal(c.repacked.sparse_packs, 1);
	assert_int_equal(c.repacked.packs, 0);
	for (unsigned i = 0; i < 10; i++)
		lost += read_file(l, "ten", "ten", i) != 0;
	assert_int_equal(lost, 1);
	collect_bucket(l, false); /* of the copy that was begun */
	assert_int_equal(collect_bucket(l, false).repacked.sparse_packs, 0);
	assert_int_equal(count(l, "pack/"), 2);
	assert_false(push_repair(l, "ten").existed);
	assert_bucket_is_whole(l);
	collect_bucket(l, false);
	assert_int_equal(count(l, "pack/"), 1);
	assert_int_equal(count(l, "moved/"), 0);
}

/* ---- the objects ---- */

static void moved_objects_are_checked(void **state)
{
	struct buf CLEANUP(buf_fini_p) b = BUF_INIT;
	struct share_moved_head head = { .from.number = 3, .to.number = 4 }, back;
	struct share_moved_chunk c[2] = { { .offset = 64, .len = 10 }, { .offset = 80, .len = 9 } };
	struct share_moved_chunk found;
	struct share_moved m;

	(void)state;
	head.from.push.b[0] = head.to.push.b[1] = 1;
	c[1].digest.b[0] = 1;
	assert_int_equal(share_moved_encode(&head, c, 2, &b), 0);
	assert_int_equal(share_moved_decode(b.data, b.len, &head.from, &m, NULL), 0);
	assert_true(share_moved_find(&m, &c[1].digest, &found));
	assert_int_equal(found.offset, 80);
	c[0].digest.b[5] = 1;
	assert_false(share_moved_find(&m, &c[0].digest, &found));
	assert_int_equal(share_moved_decode(b.data, b.len, &head.to, &m, NULL), -EBADMSG);
	assert_int_equal(share_moved_decode(b.data, b.len - 1, &head.from, &m, NULL), -EBADMSG);
	for (size_t i = 0; i < SHARE_MOVED_HEADER; i++) {
		b.data[i] ^= 1;
		assert_true(share_moved_head_decode(b.data, b.len, &head.from, &back, NULL) < 0);
		b.data[i] ^= 1;
	}
	/* Twice the same chunk. */
	memcpy(b.data + SHARE_MOVED_HEADER, b.data + SHARE_MOVED_HEADER + SHARE_MOVED_ENTRY, 40);
	assert_int_equal(share_moved_decode(b.data, b.len, &head.from, &m, NULL), -EBADMSG);
	head.to = head.from;
	assert_true(share_moved_stays(&head));
	assert_int_equal(share_moved_encode(&head, c, 1, &b), -EINVAL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, lazy_setup, lazy_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_needed_of_a_sparse_pack_moves),
		TEST(a_program_that_does_not_know_moves_refuses),
		TEST(who_read_lazily_finds_what_has_moved),
		TEST(what_has_moved_moves_again),
		TEST(metadata_in_use_is_kept),
		TEST(metadata_goes_when_nobody_needs_it),
		TEST(kept_metadata_that_is_damaged_is_repaired),
		TEST(metadata_that_came_into_use_is_kept),
		TEST(a_pack_that_is_needed_stays),
		TEST(small_packs_are_merged),
		TEST(what_only_an_ancestor_had_is_pushed_again),
		TEST(a_failure_at_any_request_loses_nothing),
		TEST(a_failure_at_any_request_loses_no_metadata),
		TEST(a_damaged_pack_stays),
		cmocka_unit_test(moved_objects_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
