/*
 * The daemon's table of mounts, when it cannot be filled.
 * wrap: strdup mount_load_all mount_close
 */
#include "snapshotd/state/mounts.h"
#include "tests/unit/mount_fixture.h"

#define MOUNTS 3

/* Copies of strings until there is no memory, once the mounts are loaded; negative: there is. */
static int copies_left = -1;
static unsigned closed;

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
	if (copies_left == 0)
		return NULL;
	copies_left -= copies_left > 0;
	return __real_strdup(s);
}

static int copies_for_table = -1;

int __real_mount_load_all(struct store *s, struct session_pool *sp, struct mount ***out,
			  size_t *out_n, struct error *err);
int __wrap_mount_load_all(struct store *s, struct session_pool *sp, struct mount ***out,
			  size_t *out_n, struct error *err);
int __wrap_mount_load_all(struct store *s, struct session_pool *sp, struct mount ***out,
			  size_t *out_n, struct error *err)
{
	int r = __real_mount_load_all(s, sp, out, out_n, err);

	copies_left = copies_for_table;
	return r;
}

void __real_mount_close(struct mount *m);
void __wrap_mount_close(struct mount *m);
void __wrap_mount_close(struct mount *m)
{
	closed += m != NULL;
	__real_mount_close(m);
}

static int setup(void **state)
{
	struct fx *fx = calloc(1, sizeof(*fx));
	struct model *base = m_new();
	struct mf f;

	assert_non_null(fx);
	fx_open(&f.fx);
	const struct digest root = m_snapshot(f.fx.s, base, "base");

	m_free(base);
	for (unsigned i = 0; i < MOUNTS; i++) {
		mf_new_mount(&f, &root, 0);
		mount_close(f.m);
	}
	*fx = f.fx;
	closed = 0;
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	copies_left = copies_for_table = -1;
	fx_close(*state);
	free(*state);
	return 0;
}

/* Closed, they would be gone for programs that use them, and for a successor. */
static void mounts_that_find_no_room_stay_as_they_are(void **state)
{
	struct fx *fx = *state;

	for (int room = 0; room <= MOUNTS; room++) {
		struct error err = ERROR_INIT;
		struct mounts *ms = NULL;

		copies_for_table = room;
		assert_int_equal(mounts_open(fx->s, NULL, &ms, &err), room < MOUNTS ? -ENOMEM : 0);
		copies_left = -1;
		assert_int_equal(closed, 0);
		mounts_close(ms); /* where nobody succeeds */
		assert_int_equal(closed, MOUNTS);
		closed = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(mounts_that_find_no_room_stay_as_they_are, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
