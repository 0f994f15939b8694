/*
 * Which opens are passed through, beside a kernel that refuses what Linux refuses.
 * wrap: backing_open backing_close
 */
#include "tests/unit/mount_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "fs/shared/backing.h"
#include "fs/shared/passthrough.h"

/* The kernel's: what is registered. */
static struct {
	pthread_mutex_t lock;
	int refuse; /* -errno, or 0 */
	int next_id, registered;
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER };

int __wrap_backing_open(int fuse_fd, int fd);
void __wrap_backing_close(int fuse_fd, int id);

int __wrap_backing_open(int fuse_fd, int fd)
{
	assert_int_equal(fuse_fd, 77);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	pthread_mutex_lock(&kernel.lock);
	int id = kernel.refuse ? kernel.refuse : ++kernel.next_id;

	kernel.registered += !kernel.refuse;
	pthread_mutex_unlock(&kernel.lock);
	return id;
}

void __wrap_backing_close(int fuse_fd, int id)
{
	(void)fuse_fd;
	assert_true(id > 0);
	pthread_mutex_lock(&kernel.lock);
	kernel.registered--;
	pthread_mutex_unlock(&kernel.lock);
}

struct pfx {
	struct mf mf;
	struct shared_files *sf;
	struct passthrough *pt;
	uint64_t ino; /* of the base */
};

static int setup(void **state)
{
	struct pfx *f = calloc(1, sizeof(*f));
	struct model *base = m_new();
	struct error err = ERROR_INIT;

	assert_non_null(f);
	m_random_file(base, "file", 1, 100000);
	m_hardlink(base, "file", "link");
	f->ino = m_ino(base, "file");
	mf_open_on(&f->mf, base);
	m_free(base);
	if (shared_files_open(f->mf.fx.s, 0, &f->sf, &err))
		fail_msg("shared_files_open: %s", error_text(&err));
	f->pt = passthrough_new(f->mf.v, f->sf, 77);
	assert_non_null(f->pt);
	kernel.refuse = 0;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct pfx *f = *state;

	passthrough_free(f->pt);
	assert_int_equal(kernel.registered, 0);
	shared_files_close(f->sf);
	mf_close(&f->mf);
	free(f);
	return 0;
}

static int open_node(struct pfx *f, uint64_t node, unsigned flags)
{
	struct passthrough_open how;
	int r = passthrough_open(f->pt, node, flags, 0, &how);

	assert_true(r || (how.kind == PASSTHROUGH_SHARED) == (how.backing_id > 0));
	return r ? r : (int)how.kind;
}

/* The file is there for the next open. */
static void materialise(struct pfx *f)
{
	int kind = open_node(f, f->ino, O_RDONLY);

	passthrough_release(f->pt, f->ino, (enum passthrough_kind)kind);
	shared_files_settle(f->sf);
}

static struct passthrough_stats stats_of(struct pfx *f)
{
	struct passthrough_stats s;

	passthrough_get_stats(f->pt, &s);
	return s;
}

static void a_later_open_is_passed_through(void **state)
{
	struct pfx *f = *state;

	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	shared_files_settle(f->sf);
	/* The inode is in the page cache's mode as long as that is open. */
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 1); /* one backing file an inode */
	assert_int_equal(stats_of(f).shared_now, 2);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 1);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 0);
	assert_int_equal(f->mf.v->shared_opens, 2);
	assert_int_equal(f->mf.v->other_opens, 3);
}

static void to_write_is_never_passed_through(void **state)
{
	struct pfx *f = *state;

	materialise(f);
	for (unsigned i = 0; i < 3; i++) {
		const unsigned flags[] = { O_RDWR, O_WRONLY, O_RDONLY | O_TRUNC };

		assert_int_equal(open_node(f, f->ino, flags[i]), PASSTHROUGH_CACHED);
		assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
		passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
		passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
		assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
		passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	}
	assert_int_equal(stats_of(f).unshared, 0);
}

static void metadata_may_change(void **state)
{
	struct pfx *f = *state;
	struct view_setattr set = { .valid = VIEW_SET_MODE | VIEW_SET_MTIME, .mode = 0600 };
	struct view_attr a;

	materialise(f);
	assert_int_equal(view_setattr(f->mf.v, f->ino, &set, &a), 0);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
}

static void changed_content_is_not_shared(void **state)
{
	struct pfx *f = *state;
	struct view_setattr longer = { .valid = VIEW_SET_SIZE, .size = 200000 };
	struct view_setattr same = { .valid = VIEW_SET_SIZE, .size = 100000 };
	struct view_attr a;

	materialise(f);
	assert_int_equal(view_setattr(f->mf.v, f->ino, &longer, &a), 0);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	mf_truncate(&f->mf, f->ino, 10);
	assert_int_equal(view_setattr(f->mf.v, f->ino, &same, &a), 0); /* zeros, now */
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	mf_checkpoint(&f->mf); /* now that is the base */
	materialise(f);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
}

static void a_writer_beside_shared_opens_gets_another_node(void **state)
{
	struct pfx *f = *state;
	uint64_t node;

	materialise(f);
	assert_int_equal(passthrough_node(f->pt, f->ino), f->ino);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(open_node(f, f->ino, O_RDWR), -ESTALE);
	node = passthrough_node(f->pt, f->ino);
	assert_true(node != f->ino);
	assert_int_equal(passthrough_ino(node), f->ino);
	/* Whoever was faster than the kernel's second attempt does not make it fail. */
	assert_int_equal(open_node(f, node, O_RDONLY), PASSTHROUGH_CACHED);
	assert_int_equal(open_node(f, node, O_RDWR), PASSTHROUGH_CACHED);
	/* The old node: read again what is open, written never. */
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(open_node(f, f->ino, O_RDWR), -ESTALE);
	assert_int_equal(passthrough_node(f->pt, f->ino), node);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 0);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_DIRECT);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_DIRECT);
	passthrough_release(f->pt, node, PASSTHROUGH_CACHED);
	passthrough_release(f->pt, node, PASSTHROUGH_CACHED);
	/* Not shared until there is another base, though nothing was written. */
	assert_int_equal(open_node(f, node, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, node, PASSTHROUGH_CACHED);
	mf_file(&f->mf, "other");
	mf_checkpoint(&f->mf);
	assert_int_equal(open_node(f, node, O_RDONLY), PASSTHROUGH_SHARED);
	passthrough_release(f->pt, node, PASSTHROUGH_SHARED);
	assert_int_equal(stats_of(f).unshared, 1);
}

static void a_truncation_by_path_ends_sharing_at_the_next_open(void **state)
{
	struct pfx *f = *state;
	uint64_t node;

	materialise(f);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	mf_truncate(&f->mf, f->ino, 5);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), -ESTALE);
	node = passthrough_node(f->pt, f->ino);
	assert_int_equal(open_node(f, node, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, node, PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
}

static void an_unlinked_file_is_opened_again_by_its_descriptor(void **state)
{
	struct pfx *f = *state;

	materialise(f);
	assert_int_equal(live_add(f->mf.v->live, f->ino, 1), 0);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(view_unlink(f->mf.v, ROOT_INO, "file"), 0);
	assert_int_equal(view_unlink(f->mf.v, ROOT_INO, "link"), 0);
	mf_checkpoint(&f->mf); /* it is in no base now */
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	assert_int_equal(stats_of(f).unshared, 0);
	view_forget(f->mf.v, f->ino, 1);
}

/* As a successor finds it, of a process that dies now and closes nothing. */
static struct passthrough *succeed(struct pfx *f)
{
	int fd = memfd_create("copy", MFD_CLOEXEC), r;
	struct passthrough *next = NULL;
	char block[4096];
	ssize_t n;

	assert_true(fd >= 0);
	for (off_t at = 0; (n = pread(passthrough_opens_fd(f->pt), block, sizeof(block), at)) > 0;
	     at += n)
		assert_int_equal(pwrite(fd, block, (size_t)n, at), n);
	r = passthrough_adopt(f->mf.v, f->sf, 77, fd, &next);
	assert_int_equal(r, 0);
	pthread_mutex_lock(&kernel.lock);
	int registered = kernel.registered;

	pthread_mutex_unlock(&kernel.lock);
	passthrough_answered(); /* the copy has it all */
	passthrough_free(f->pt);
	kernel.registered = registered;
	f->pt = next;
	return next;
}

static void a_successor_goes_on_with_what_is_open(void **state)
{
	struct pfx *f = *state;
	uint64_t node;

	materialise(f);
	passthrough_set_negotiated(f->pt);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_true(passthrough_is_negotiated(succeed(f)));
	assert_int_equal(stats_of(f).shared_now, 1);
	/* The same backing file, for the kernel refuses others. */
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 1);
	assert_int_equal(open_node(f, f->ino, O_RDWR), -ESTALE);
	node = passthrough_node(f->pt, f->ino);
	assert_int_equal(open_node(f, node, O_RDWR), PASSTHROUGH_CACHED);
	succeed(f);
	assert_true(passthrough_node(f->pt, f->ino) == node);
	assert_int_equal(open_node(f, node, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, node, PASSTHROUGH_CACHED);
	passthrough_release(f->pt, node, PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 1);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 0);
	mf_file(&f->mf, "other");
	mf_checkpoint(&f->mf);
	assert_int_equal(open_node(f, node, O_RDONLY), PASSTHROUGH_SHARED);
	passthrough_release(f->pt, node, PASSTHROUGH_SHARED);
}

/* A file that is gone, or not made yet, in the successor's directory. */
static void a_successor_needs_no_file_to_open_what_is_open(void **state)
{
	struct pfx *f = *state;
	struct error err = ERROR_INIT;

	materialise(f);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	succeed(f);
	shared_files_close(f->sf);
	assert_int_equal(shared_files_open(f->mf.fx.s, 0, &f->sf, &err), 0);
	succeed(f);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	/* Content that is another is. */
	mf_truncate(&f->mf, f->ino, 10);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), -ESTALE);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
}

static void an_open_that_was_counted_and_not_answered(void **state)
{
	struct pfx *f = *state;
	struct passthrough_open how;

	materialise(f);
	assert_int_equal(passthrough_open(f->pt, f->ino, O_RDONLY, 10, &how), 0);
	succeed(f);
	assert_int_equal(passthrough_open(f->pt, f->ino, O_RDONLY, 10, &how), 0);
	assert_int_equal(how.kind, PASSTHROUGH_SHARED);
	assert_true(how.backing_id > 0);
	assert_int_equal(stats_of(f).shared_now, 1);
	/* One that was about to be sent to another node is not given the old one. */
	mf_truncate(&f->mf, f->ino, 10);
	assert_int_equal(passthrough_open(f->pt, f->ino, O_RDONLY, 12, &how), -ESTALE);
	succeed(f);
	assert_int_equal(passthrough_open(f->pt, f->ino, O_RDONLY, 12, &how), -ESTALE);
	assert_int_equal(passthrough_open(f->pt, f->ino, O_RDONLY, 14, &how), 0);
	passthrough_release(f->pt, f->ino, how.kind);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 0);
}

static void count_open(struct pfx *f, uint64_t request, enum passthrough_kind kind)
{
	struct passthrough_open how;

	assert_int_equal(passthrough_open(f->pt, f->ino, O_RDONLY, request, &how), 0);
	assert_int_equal(how.kind, kind);
}

/* Several threads were at opens of one file; they come again in another order. */
static void opens_that_were_counted_and_not_answered(void **state)
{
	struct pfx *f = *state;

	materialise(f);
	count_open(f, 10, PASSTHROUGH_SHARED);
	passthrough_answered();
	for (uint64_t request = 12; request < 100; request += 2)
		count_open(f, request, PASSTHROUGH_SHARED);
	for (unsigned lives = 0; lives < 2; lives++) {
		succeed(f);
		assert_int_equal(stats_of(f).shared_now, 45);
	}
	for (uint64_t request = 98; request >= 12; request -= 2) {
		count_open(f, request, PASSTHROUGH_SHARED);
		passthrough_answered();
	}
	assert_int_equal(stats_of(f).shared_now, 45);
	for (unsigned i = 0; i < 45; i++) {
		assert_int_equal(kernel.registered, 1);
		passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	}
	assert_int_equal(kernel.registered, 0);
	assert_int_equal(open_node(f, f->ino, O_RDWR), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
}

static void releases_that_were_counted_and_not_answered(void **state)
{
	struct pfx *f = *state;

	materialise(f);
	for (uint64_t request = 10; request < 16; request += 2) {
		count_open(f, request, PASSTHROUGH_SHARED);
		passthrough_answered();
	}
	assert_true(passthrough_release_request(f->pt, f->ino, PASSTHROUGH_SHARED, 20));
	passthrough_answered();
	assert_int_equal(stats_of(f).shared_now, 2);
	assert_true(passthrough_release_request(f->pt, f->ino, PASSTHROUGH_SHARED, 22));
	succeed(f);
	assert_int_equal(stats_of(f).shared_now, 1);
	assert_true(passthrough_release_request(f->pt, f->ino, PASSTHROUGH_SHARED, 22));
	passthrough_answered();
	assert_int_equal(stats_of(f).shared_now, 1);
	assert_int_equal(kernel.registered, 1);
	assert_true(passthrough_release_request(f->pt, f->ino, PASSTHROUGH_SHARED, 24));
	passthrough_answered();
	assert_int_equal(kernel.registered, 0);
}

/* More than threads can be at, and more than a successor believes. */
static void notes_have_a_bound(void **state)
{
	struct pfx *f = *state;

	materialise(f);
	for (uint64_t request = 10; request < 2010; request += 2)
		count_open(f, request, PASSTHROUGH_SHARED);
	passthrough_answered();
	assert_false(passthrough_release_request(f->pt, f->ino, PASSTHROUGH_SHARED, 3000));
	succeed(f);
	passthrough_forget_answered(f->pt, NULL, 0);
	assert_true(passthrough_release_request(f->pt, f->ino, PASSTHROUGH_SHARED, 3000));
	passthrough_answered();
	for (unsigned i = 1; i < 1000; i++)
		passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 0);
}

/* However many others there are, what may come again was counted. */
static void notes_of_what_waits_are_kept(void **state)
{
	static const uint64_t waiting[] = { 12, 700, 5000 };
	struct pfx *f = *state;

	materialise(f);
	for (uint64_t request = 10; request < 1010; request += 2)
		count_open(f, request, PASSTHROUGH_SHARED);
	passthrough_answered();
	succeed(f);
	passthrough_forget_answered(f->pt, waiting, ARRAY_SIZE(waiting));
	for (unsigned i = 0; i < ARRAY_SIZE(waiting); i++) {
		count_open(f, waiting[i], PASSTHROUGH_SHARED);
		passthrough_answered();
	}
	assert_int_equal(stats_of(f).shared_now, 501);
	for (unsigned i = 0; i < 501; i++)
		passthrough_release(f->pt, f->ino, PASSTHROUGH_SHARED);
	assert_int_equal(kernel.registered, 0);
}

static void what_says_nothing_is_not_adopted(void **state)
{
	struct pfx *f = *state;
	struct passthrough *next;
	const char text[] = "not a table of open files, whatever else it may be";
	int fd = memfd_create("text", MFD_CLOEXEC), empty = memfd_create("empty", MFD_CLOEXEC);

	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_int_equal(passthrough_adopt(f->mf.v, f->sf, 77, fd, &next), -EPROTO);
	assert_int_equal(passthrough_adopt(f->mf.v, f->sf, 77, empty, &next), -EPROTO);
}

/* More than the table's first steps. */
static void many_are_open(void **state)
{
	enum { N = 3000 };
	struct pfx *f = *state;

	for (uint64_t ino = 1; ino < N; ino++)
		(void)open_node(f, ino, O_RDWR);
	succeed(f);
	for (uint64_t ino = 1; ino < N; ino++)
		passthrough_release(f->pt, ino, PASSTHROUGH_CACHED);
	assert_int_equal(stats_of(f).shared_now, 0);
}

static void add_node(void *arg, uint64_t node)
{
	*(uint64_t *)arg += node;
}

static void all_nodes_are_told(void **state)
{
	struct pfx *f = *state;
	uint64_t sum = 0;

	passthrough_each_node(f->pt, f->ino, add_node, &sum);
	assert_int_equal(sum, 0); /* there is only one */
	materialise(f);
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_SHARED);
	assert_int_equal(open_node(f, f->ino, O_RDWR), -ESTALE);
	passthrough_each_node(f->pt, f->ino, add_node, &sum);
	assert_int_equal(sum, f->ino + passthrough_node(f->pt, f->ino));
}

static void a_kernel_that_refuses_is_asked_once(void **state)
{
	struct pfx *f = *state;

	materialise(f);
	kernel.refuse = -EPERM;
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	kernel.refuse = 0;
	assert_int_equal(open_node(f, f->ino, O_RDONLY), PASSTHROUGH_CACHED);
	passthrough_release(f->pt, f->ino, PASSTHROUGH_CACHED);
	assert_int_equal(kernel.registered, 0);
}

static void places_and_numbers_are_not_mixed_up(void **state)
{
	const uint64_t place = 0xfffffffffffffff1ull;

	(void)state;
	assert_true(passthrough_ino(place) == place);
	assert_int_equal(passthrough_ino(1), 1);
	assert_int_equal(passthrough_ino(5 | 3ull << 48), 5);
}

static void names_of_a_file_are_found(void **state)
{
	struct pfx *f = *state;
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	struct view_attr a;

	assert_int_equal(view_names(f->mf.v, f->ino, &names), 0);
	assert_int_equal(names.len, 2 * (9 + 4));
	assert_int_equal(names.data[8], 4);
	names.len = 0;
	assert_int_equal(view_unlink(f->mf.v, ROOT_INO, "file"), 0);
	assert_int_equal(view_rename(f->mf.v, ROOT_INO, "link", ROOT_INO, "moved", 0), 0);
	assert_int_equal(view_names(f->mf.v, f->ino, &names), 0);
	assert_int_equal(names.len, 9 + 5);
	assert_memory_equal(names.data + 9, "moved", 5);
	names.len = 0;
	assert_int_equal(view_lookup(f->mf.v, ROOT_INO, "moved", &a), 0);
	assert_int_equal(live_add(f->mf.v->live, f->ino, 1), 0);
	assert_int_equal(view_unlink(f->mf.v, ROOT_INO, "moved"), 0);
	assert_int_equal(view_names(f->mf.v, f->ino, &names), 0);
	assert_int_equal(names.len, 0);
	view_forget(f->mf.v, f->ino, 1);
}

/* ---- against the kernel's rules, in threads ---- */

#define MODEL_NODES 64

static struct {
	pthread_mutex_t lock;
	int mode[MODEL_NODES]; /* by generation: open files; above 0 cached, below passed through */
	int backing[MODEL_NODES];
	unsigned conflicts;
} inode = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What fuse_file_io_open does with a reply. */
static void kernel_opens(uint64_t node, const struct passthrough_open *how)
{
	int *mode = &inode.mode[(node >> 48) % MODEL_NODES];
	int *backing = &inode.backing[(node >> 48) % MODEL_NODES];

	pthread_mutex_lock(&inode.lock);
	if (how->kind == PASSTHROUGH_SHARED) {
		inode.conflicts += *mode > 0 || (*mode < 0 && *backing != how->backing_id);
		*backing = how->backing_id;
		--*mode;
	} else if (how->kind == PASSTHROUGH_CACHED) {
		inode.conflicts += *mode < 0;
		++*mode;
	} else {
		inode.conflicts += *mode < 0;
	}
	pthread_mutex_unlock(&inode.lock);
}

static void kernel_closes(uint64_t node, enum passthrough_kind kind)
{
	int *mode = &inode.mode[(node >> 48) % MODEL_NODES];

	pthread_mutex_lock(&inode.lock);
	*mode += kind == PASSTHROUGH_SHARED ? 1 : kind == PASSTHROUGH_CACHED ? -1 : 0;
	pthread_mutex_unlock(&inode.lock);
}

struct opener {
	struct pfx *f;
	uint64_t seed;
	unsigned rounds;
};

static void *open_and_close(void *arg)
{
	struct opener *o = arg;
	struct passthrough_open how;

	for (unsigned i = 0; i < o->rounds; i++) {
		uint64_t node = passthrough_node(o->f->pt, o->f->ino);
		unsigned flags = mf_below(&o->seed, 40) ? O_RDONLY : O_RDWR;

		if (mf_below(&o->seed, 20) == 0)
			node = o->f->ino | mf_below(&o->seed, (node >> 48) + 1) << 48;
		int r = passthrough_open(o->f->pt, node, flags, 0, &how);

		if (r)
			continue;
		if (mf_below(&o->seed, 10)) { /* else the caller was interrupted */
			kernel_opens(node, &how);
			if (mf_below(&o->seed, 4) == 0)
				sched_yield();
			kernel_closes(node, how.kind);
		}
		passthrough_release(o->f->pt, node, how.kind);
	}
	return NULL;
}

static void the_kernel_never_sees_both_kinds(void **state)
{
	struct pfx *f = *state;
	struct opener o[4];
	pthread_t threads[4];

	memset(inode.mode, 0, sizeof(inode.mode));
	inode.conflicts = 0;
	materialise(f);
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < 4; i++) {
			o[i] = (struct opener){ f, mf_seed() + 4 * round + i, mf_rounds(400) };
			assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, &o[i]),
					 0);
		}
		for (unsigned i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		/* Another base: shared again. */
		mf_file(&f->mf, (char[]){ 'a' + (char)round, 0 });
		mf_checkpoint(&f->mf);
	}
	assert_int_equal(inode.conflicts, 0);
	assert_int_equal(stats_of(f).shared_now, 0);
	assert_int_equal(kernel.registered, 0);
	assert_true(f->mf.v->shared_opens > 0);
}

int main(void)
{
#define PASS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		PASS_TEST(a_later_open_is_passed_through),
		PASS_TEST(to_write_is_never_passed_through),
		PASS_TEST(metadata_may_change),
		PASS_TEST(changed_content_is_not_shared),
		PASS_TEST(a_writer_beside_shared_opens_gets_another_node),
		PASS_TEST(a_truncation_by_path_ends_sharing_at_the_next_open),
		PASS_TEST(an_unlinked_file_is_opened_again_by_its_descriptor),
		PASS_TEST(a_successor_goes_on_with_what_is_open),
		PASS_TEST(a_successor_needs_no_file_to_open_what_is_open),
		PASS_TEST(an_open_that_was_counted_and_not_answered),
		PASS_TEST(opens_that_were_counted_and_not_answered),
		PASS_TEST(releases_that_were_counted_and_not_answered),
		PASS_TEST(notes_have_a_bound),
		PASS_TEST(notes_of_what_waits_are_kept),
		PASS_TEST(what_says_nothing_is_not_adopted),
		PASS_TEST(many_are_open),
		PASS_TEST(all_nodes_are_told),
		PASS_TEST(a_kernel_that_refuses_is_asked_once),
		PASS_TEST(places_and_numbers_are_not_mixed_up),
		PASS_TEST(names_of_a_file_are_found),
		PASS_TEST(the_kernel_never_sees_both_kinds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
