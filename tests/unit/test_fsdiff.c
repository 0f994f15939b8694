/* Diffs of two trees: one changed from the other, and ones made apart. */
#include "store/diff/fsdiff.h"

#include "tests/unit/fs_fixture.h"

struct output {
	char text[65536];
	size_t len;
	char last[4096];
};

/* One line an entry: "+path", "-path", "Mpath", "mpath" (meta), "Rold>new". */
static int print_entry(void *arg, const struct fsdiff_entry *e)
{
	static const char signs[] = {
		[DIFF_ADDED] = '+', [DIFF_REMOVED] = '-', [DIFF_MODIFIED] = 'M',
		[DIFF_META] = 'm',  [DIFF_RENAMED] = 'R', [DIFF_OMITTED] = '?'
	};
	struct output *o = arg;
	assert_true(strcmp(o->last, e->path) <= 0);
	snprintf(o->last, sizeof(o->last), "%s", e->path);
	assert_true((e->from != NULL) == (e->change == DIFF_RENAMED));
	assert_true((e->mode != 0) == (e->change != DIFF_OMITTED));
	assert_true((e->count != 0) == (e->change == DIFF_OMITTED));
	assert_true(strlen(e->path) <= FSDIFF_PATH_MAX);
	o->len += (size_t)snprintf(o->text + o->len, sizeof(o->text) - o->len, "%c%s%s%s ",
				   signs[e->change], e->from ? e->from : "", e->from ? ">" : "",
				   e->path);
	assert_true(o->len < sizeof(o->text));
	return 0;
}

static void expect_diff(struct fx *f, const struct model *a, const struct model *b,
			const char *want)
{
	struct digest ra = m_tree(f->s, a), rb = m_tree(f->s, b);
	struct tree_fs fa = store_tree(f->s, &ra), fb = store_tree(f->s, &rb);
	struct output *o = calloc(1, sizeof(*o));
	assert_int_equal(fsdiff_trees(&fa, &fb, print_entry, o), 0);
	assert_string_equal(o->text, want);
	free(o);
}

/* A little of everything, to be changed by the tests. */
static struct model *sample(void)
{
	struct model *m = m_new();
	m_dir(m, "etc");
	m_file(m, "etc/passwd", "root");
	m_file(m, "etc/hosts", "localhost");
	m_dir(m, "usr");
	m_dir(m, "usr/bin");
	m_random_file(m, "usr/bin/tool", 1, 100000);
	m_file(m, "usr/bin/small", "x");
	m_symlink(m, "usr/link", "bin/tool");
	m_file(m, "usr/one", "linked");
	m_hardlink(m, "usr/one", "usr/two");
	m_dir(m, "var");
	return m;
}

struct change_case {
	void (*change)(struct model *m);
	const char *want;
};

static void c_nothing(struct model *m)
{
	(void)m;
}
static void c_add(struct model *m)
{
	m_file(m, "etc/new", "1");
	m_dir(m, "var/d");
	m_file(m, "var/d/f", "2");
	m_at(m, "etc")->mtime++;
}
static void c_remove(struct model *m)
{
	m_remove(m, "usr/bin");
	m_remove(m, "etc/hosts");
}
static void c_modify(struct model *m)
{
	m_set(m, "etc/passwd", "other", 5);
	m_at(m, "usr/bin/tool")->data[99999] ^= 1;
	m_at(m, "usr/link")->data[0] = 'B';
}
static void c_grow_hole(struct model *m)
{
	m_at(m, "usr/bin/tool")->size += 5000;
}
static void c_meta(struct model *m)
{
	m_at(m, "etc/passwd")->mode = S_IFREG | 0600;
	m_at(m, "etc/hosts")->uid = 5;
	m_at(m, "usr")->gid = 6;
	strcpy(m_at(m, "usr/bin/tool")->xattr, "cap");
	m_at(m, "usr/bin/small")->mtime++;
	m_at(m, "var")->mtime++;
	m_at(m, "")->mode = S_IFDIR | 0700;
}
static void c_rename(struct model *m)
{
	m_rename(m, "etc/passwd", "var/moved");
	m_rename(m, "usr/bin", "var/bin");
	m_at(m, "usr")->mtime++;
}
static void c_rename_and_modify(struct model *m)
{
	m_rename(m, "etc/passwd", "etc/shadow");
	m_set(m, "etc/shadow", "secret", 6);
	m_rename(m, "usr/bin", "usr/sbin");
	m_set(m, "usr/sbin/small", "changed", 7);
	m_file(m, "usr/sbin/more", "x");
	m_at(m, "usr/sbin")->mtime++;
}
static void c_replace(struct model *m)
{
	m_remove(m, "etc/passwd");
	m_file(m, "etc/passwd", "new content");
	m_remove(m, "usr/bin/tool");
	m_random_file(m, "usr/bin/tool", 1, 100000);
	m_at(m, "usr/bin/tool")->mtime = 1;
	m_remove(m, "etc/hosts");
	m_dir(m, "etc/hosts");
	m_file(m, "etc/hosts/inside", "x");
}
static void c_replace_by_rename(struct model *m)
{
	m_remove(m, "etc/passwd");
	m_rename(m, "etc/hosts", "etc/passwd");
}
static void c_swap(struct model *m)
{
	m_rename(m, "etc/passwd", "etc/tmp");
	m_rename(m, "etc/hosts", "etc/passwd");
	m_rename(m, "etc/tmp", "etc/hosts");
}
static void c_replace_directory(struct model *m)
{
	int64_t mtime = m_at(m, "usr/bin/tool")->mtime;
	m_remove(m, "usr/bin");
	m_dir(m, "usr/bin");
	m_random_file(m, "usr/bin/tool", 1, 100000);
	m_at(m, "usr/bin/tool")->mtime = mtime;
	m_file(m, "usr/bin/other", "x");
}
static void c_move_into_new_directory(struct model *m)
{
	m_dir(m, "usr/new");
	m_rename(m, "usr/bin/tool", "usr/new/tool");
	m_rename(m, "usr/bin/small", "usr/new/small");
	m_remove(m, "usr/bin");
	m_rename(m, "usr/new", "usr/bin");
	m_set(m, "usr/bin/small", "y", 1);
}
static void c_back_up_directory(struct model *m)
{
	m_rename(m, "usr/bin", "usr/bin.old");
	m_dir(m, "usr/bin");
	m_file(m, "usr/bin/small", "x");
}
static void c_link(struct model *m)
{
	m_hardlink(m, "usr/one", "usr/three");
	m_hardlink(m, "etc/hosts", "etc/hosts2");
}
static void c_unlink(struct model *m)
{
	m_remove(m, "usr/two");
}
static void c_modify_linked(struct model *m)
{
	m_set(m, "usr/two", "LINKED", 6);
}
static void c_modify_linked_and_link(struct model *m)
{
	m_set(m, "usr/two", "LINKED", 6);
	m_hardlink(m, "usr/one", "etc/linked");
}
static void c_names_around_a_slash(struct model *m)
{
	m_dir(m, "var/a");
	m_file(m, "var/a/b", "");
	m_file(m, "var/a-b", "");
	m_file(m, "var/a.b", "");
	m_file(m, "var/a0", "");
	m_file(m, "var/a b", "");
}

/* A change of a directory's entries changes its times. */
static const struct change_case cases[] = {
	{ c_nothing, "" },
	{ c_add, "+etc/new +var/d +var/d/f " },
	{ c_remove, "-etc/hosts -usr/bin -usr/bin/small -usr/bin/tool " },
	{ c_modify, "Metc/passwd Musr/bin/tool Musr/link " },
	{ c_grow_hole, "Musr/bin/tool " },
	{ c_meta, "m/ metc/hosts metc/passwd musr musr/bin/small musr/bin/tool mvar " },
	{ c_rename, "Rusr/bin>var/bin Retc/passwd>var/moved " },
	{ c_rename_and_modify, "Retc/passwd>etc/shadow Metc/shadow Rusr/bin>usr/sbin "
			       "+usr/sbin/more Musr/sbin/small " },
	{ c_replace, "Metc/hosts +etc/hosts/inside Metc/passwd musr/bin/tool " },
	{ c_replace_by_rename, "Retc/hosts>etc/passwd " },
	{ c_swap, "Retc/passwd>etc/hosts Retc/hosts>etc/passwd " },
	{ c_replace_directory, "+usr/bin/other -usr/bin/small " },
	{ c_move_into_new_directory, "Musr/bin/small " },
	{ c_back_up_directory, "+usr/bin Rusr/bin>usr/bin.old +usr/bin/small " },
	{ c_link, "+etc/hosts2 +usr/three " },
	{ c_unlink, "-usr/two " },
	{ c_modify_linked, "Musr/one Musr/two " },
	{ c_modify_linked_and_link, "+etc/linked Musr/one Musr/two " },
	{ c_names_around_a_slash, "+var/a +var/a b +var/a-b +var/a.b +var/a/b +var/a0 " },
};

static void changes_of_one_tree_are_told_by_inode(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct model *a = sample(), *b = m_copy(a);
		cases[i].change(b);
		expect_diff(*state, a, b, cases[i].want);
		m_free(a);
		m_free(b);
	}
}

/* The same files, numbered in another order. */
static struct model *sample_apart(void)
{
	struct model *m = m_new();
	m_dir(m, "aaa");
	m_dir(m, "usr");
	m_file(m, "usr/one", "linked");
	m_hardlink(m, "usr/one", "usr/two");
	m_symlink(m, "usr/link", "bin/tool");
	m_dir(m, "usr/bin");
	m_file(m, "usr/bin/small", "x");
	m_random_file(m, "usr/bin/tool", 1, 100000);
	m_dir(m, "etc");
	m_file(m, "etc/hosts", "localhost");
	m_file(m, "etc/passwd", "other");
	m_dir(m, "etc/more");
	m_file(m, "etc/more/x", "x");
	return m;
}

static void same_times(struct model *m)
{
	for (size_t i = 0; i < M_INODES; i++)
		m->inode[i].mtime = 4711;
}

static void trees_made_apart_are_told_by_path(void **state)
{
	struct model *a = sample(), *b = sample_apart();
	same_times(a);
	same_times(b);
	expect_diff(*state, a, b, "+aaa +etc/more +etc/more/x Metc/passwd -var ");
	expect_diff(*state, b, a, "-aaa -etc/more -etc/more/x Metc/passwd +var ");
	m_free(a);
	m_free(b);
}

/* What an import of the same directory with one file more looks like. */
static void one_file_more_shifts_no_names(void **state)
{
	struct model *a = m_new(), *b = m_new();
	for (int i = 0; i < 200; i++) {
		char path[32], content[32];
		snprintf(path, sizeof(path), "file-%03d", i);
		snprintf(content, sizeof(content), "content %03d", i); /* all of one size */
		m_file(a, path, content);
		if (i == 20)
			m_file(b, "new", "new");
		m_file(b, path, content);
	}
	for (int i = 2; i < 300; i++)
		a->inode[i].mtime = b->inode[i].mtime = 5000;
	expect_diff(*state, a, b, "+new ");
	expect_diff(*state, b, a, "-new ");
	m_free(a);
	m_free(b);
}

static void change_of_type_is_one_change(void **state)
{
	struct model *a = sample(), *b = m_copy(a);
	m_remove(b, "usr/bin");
	m_symlink(b, "usr/bin", "/bin");
	m_remove(b, "usr/link");
	m_file(b, "usr/link", "bin/tool");
	expect_diff(*state, a, b, "Musr/bin -usr/bin/small -usr/bin/tool Musr/link ");
	m_free(a);
	m_free(b);
}

static void devices_differ_by_number(void **state)
{
	struct model *a = m_new(), *b;
	m_make(a, "null", S_IFCHR | 0666);
	m_at(a, "null")->rdev = 259;
	b = m_copy(a);
	m_at(b, "null")->rdev = 261;
	expect_diff(*state, a, b, "Mnull ");
	m_free(a);
	m_free(b);
}

struct deep {
	size_t told, bytes; /* of paths */
	uint64_t omitted;
};

static int add_path(void *arg, const struct fsdiff_entry *e)
{
	struct deep *d = arg;
	if (strlen(e->path) > FSDIFF_PATH_MAX || d->omitted)
		return -EINVAL;
	d->told += e->change == DIFF_REMOVED;
	d->bytes += e->change == DIFF_REMOVED ? strlen(e->path) : 0;
	d->omitted += e->count;
	return 0;
}

/* A chain of directories "dd"; returns the last one. */
static uint64_t make_chain(struct model *m, uint64_t depth)
{
	for (uint64_t i = 1; i <= depth; i++) {
		uint64_t ino = m->next_ino++;
		m->inode[ino] = (struct m_inode){ .mode = S_IFDIR | 0755 };
		m->link[i] = (struct m_link){ i == 1 ? ROOT_INO : ino - 1, ino, "dd" };
	}
	return m->next_ino - 1;
}

static void paths_beyond_the_limit_are_counted(void **state)
{
	/* The first directory whose path leaves no room for a long name. */
	const size_t told = (FSDIFF_PATH_MAX - NAME_LEN_MAX) / 3 + 1;
	struct fx *f = *state;
	struct model *a = m_new(), *b = m_new();
	struct deep deep = { 0 };
	make_chain(a, 3000);
	struct digest ra = m_tree(f->s, a), rb = m_tree(f->s, b);
	struct tree_fs fa = store_tree(f->s, &ra), fb = store_tree(f->s, &rb);
	assert_int_equal(fsdiff_trees(&fa, &fb, add_path, &deep), 0);
	assert_int_equal(deep.told, told);
	assert_int_equal(deep.bytes, told * (told + 1) / 2 * 3 - told);
	assert_int_equal(deep.omitted, 3000 - told);
	m_free(a);
	m_free(b);
}

static void what_comes_from_too_deep_is_added(void **state)
{
	struct fx *f = *state;
	struct model *a = m_new();
	uint64_t dir = make_chain(a, 2000), ino = a->next_ino++;
	a->inode[ino] = (struct m_inode){ .mode = S_IFREG | 0644 };
	struct m_link *l = &a->link[2001];
	*l = (struct m_link){ dir, ino, "file" };
	struct model *b = m_copy(a);
	b->link[2001] = (struct m_link){ ROOT_INO, ino, "here" };
	expect_diff(f, a, b, "+here ");
	/* The other way round, its new place is one that is not told. */
	struct deep deep = { 0 };
	struct digest ra = m_tree(f->s, a), rb = m_tree(f->s, b);
	struct tree_fs fa = store_tree(f->s, &ra), fb = store_tree(f->s, &rb);
	assert_int_equal(fsdiff_trees(&fb, &fa, add_path, &deep), 0);
	assert_int_equal(deep.told, 0);
	assert_int_equal(deep.omitted, 1);
	m_free(a);
	m_free(b);
}

static int refuse(void *arg, const struct fsdiff_entry *e)
{
	((struct output *)arg)->len += strlen(e->path);
	return -EINVAL;
}

static void result_of_the_callback_ends_it(void **state)
{
	struct fx *f = *state;
	struct model *a = m_new(), *b = sample();
	struct digest ra = m_tree(f->s, a), rb = m_tree(f->s, b);
	struct tree_fs fa = store_tree(f->s, &ra), fb = store_tree(f->s, &rb);
	struct output *o = calloc(1, sizeof(*o));
	assert_int_equal(fsdiff_trees(&fa, &fb, refuse, o), -EINVAL);
	assert_int_equal(o->len, 3);
	free(o);
	m_free(a);
	m_free(b);
}

static void feed_out_of_order_is_refused(void **state)
{
	struct fsdiff_side none = { 0 };
	CLEANUP(fsdiff_free_p) struct fsdiff *d = fsdiff_new(&none, &none);
	struct tree_span key, value = { (const uint8_t *)"x", 1 };
	struct key k;
	(void)state;
	key_xattr(&k, 5, "user.x", 6);
	key.data = k.bytes;
	key.len = k.len;
	assert_int_equal(fsdiff_feed(d, &key, NULL, &value), 0);
	key_xattr(&k, 4, "user.x", 6);
	key.len = k.len;
	assert_int_equal(fsdiff_feed(d, &key, NULL, &value), -EINVAL);
	key.len = 3;
	assert_int_equal(fsdiff_feed(d, &key, NULL, &value), -EBADMSG);
}

/* A snapshot of the model with a parent ("" for none). */
static void take(struct fx *f, const struct model *m, const char *name, const char *parent)
{
	struct snapshot snap, from = { 0 };
	m_snapshot(f->s, m, name);
	assert_int_equal(snapshots_get(f->s->snapshots, name, &snap, NULL), 0);
	if (parent[0])
		assert_int_equal(snapshots_get(f->s->snapshots, parent, &from, NULL), 0);
	memcpy(snap.parent, from.id, sizeof(snap.parent));
	assert_int_equal(snapshots_put(f->s->snapshots, &snap, NULL, NULL), 0);
	snapshot_fini(&snap);
	snapshot_fini(&from);
}

static void expect_snapshot_diff(struct fx *f, const char *a, const char *b, const char *want)
{
	struct output *o = calloc(1, sizeof(*o));
	struct error err = ERROR_INIT;
	if (fsdiff_snapshots(f->s, a, b, print_entry, o, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_string_equal(o->text, want);
	free(o);
}

static void history_tells_how_snapshots_are_related(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct model *m = m_new(), *changed;
	m_file(m, "log", "one line");
	m_file(m, "x", "1");
	m_file(m, "y", "2");
	changed = m_copy(m);
	m_rename(changed, "log", "log.1");
	m_set(changed, "log.1", "one line, and one more", 22);
	take(f, m, "base", "");
	take(f, changed, "child", "base");
	take(f, changed, "import", "");
	expect_snapshot_diff(f, "base", "child", "Rlog>log.1 Mlog.1 ");
	expect_snapshot_diff(f, "child", "base", "Rlog.1>log Mlog ");
	expect_snapshot_diff(f, "base", "import", "-log +log.1 ");
	expect_snapshot_diff(f, "child", "import", "");
	expect_snapshot_diff(f, "child", "child", "");
	assert_int_equal(fsdiff_snapshots(f->s, "base", "none", print_entry, NULL, &err), -ENOENT);
	m_free(m);
	m_free(changed);
}

/* ---- random changes against a check by paths ---- */

/* Path -> inode of a model, by walking its links. */
static void path_of(const struct model *m, const struct m_link *l, char *out, size_t size)
{
	char rest[4096] = "", t[4096];
	for (;;) {
		snprintf(t, sizeof(t), "%s%s%s", l->name, rest[0] ? "/" : "", rest);
		memcpy(rest, t, sizeof(rest));
		if (l->dir == ROOT_INO)
			break;
		const struct m_link *up = NULL;
		for (size_t i = 0; i < M_LINKS; i++) {
			if (m->link[i].ino == l->dir)
				up = &m->link[i];
		}
		assert_non_null(up);
		l = up;
	}
	snprintf(out, size, "%s", rest);
}

static bool same_file(const struct m_inode *a, const struct m_inode *b)
{
	return a->mode == b->mode && a->size == b->size && a->data_len == b->data_len &&
	       (a->data_len == 0 || memcmp(a->data, b->data, a->data_len) == 0);
}

struct replay {
	char *lines[8192];
	size_t count;
};

static int keep_line(void *arg, const struct fsdiff_entry *e)
{
	struct replay *r = arg;
	char line[8192];
	snprintf(line, sizeof(line), "%s %s", fsdiff_change_name(e->change), e->path);
	assert_true(r->count < ARRAY_SIZE(r->lines));
	r->lines[r->count++] = strdup(line);
	return 0;
}

static bool has_line(const struct replay *r, const char *change, const char *path)
{
	char line[8192];
	snprintf(line, sizeof(line), "%s %s", change, path);
	for (size_t i = 0; i < r->count; i++) {
		if (strcmp(r->lines[i], line) == 0)
			return true;
	}
	return false;
}

static const struct m_link *link_by_path(const struct model *m, const char *path)
{
	char other[4096];
	for (size_t i = 0; i < M_LINKS; i++) {
		if (!m->link[i].ino)
			continue;
		path_of(m, &m->link[i], other, sizeof(other));
		if (strcmp(other, path) == 0)
			return &m->link[i];
	}
	return NULL;
}

/* Whatever is at a path now and was not, or is different from what was, is named. */
static void check_replay(const struct model *a, const struct model *b, const struct replay *r)
{
	char path[4096];
	for (size_t i = 0; i < M_LINKS; i++) {
		const struct m_link *l = &b->link[i];
		if (!l->ino || S_ISDIR(b->inode[l->ino].mode))
			continue;
		path_of(b, l, path, sizeof(path));
		const struct m_link *old = link_by_path(a, path);
		const struct m_inode *before = NULL;
		if (old)
			before = &a->inode[old->ino];
		bool named = has_line(r, "added", path) || has_line(r, "modified", path) ||
			     has_line(r, "meta", path) || has_line(r, "renamed", path);
		if (old && old->ino == l->ino && same_file(before, &b->inode[l->ino]))
			continue;
		if (before && same_file(before, &b->inode[l->ino]))
			continue;
		/* A file that came with its directory needs no entry of its own. */
		bool moved_along =
			a->inode[l->ino].mode && same_file(&a->inode[l->ino], &b->inode[l->ino]);
		if (!named && !moved_along)
			fail_msg("%s changed, but is not named", path);
	}
}

/* Nothing is named that is not there, or did not change. */
static void check_lines(const struct model *a, const struct model *b, const struct replay *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const char *path = strchr(r->lines[i], ' ') + 1;
		const struct m_link *old = link_by_path(a, path), *now = link_by_path(b, path);
		if (r->lines[i][0] == 'a' || strncmp(r->lines[i], "ren", 3) == 0)
			assert_non_null(now);
		else if (strncmp(r->lines[i], "rem", 3) == 0)
			assert_non_null(old);
		else if (strcmp(path, "/") != 0)
			assert_non_null(now);
		if (strncmp(r->lines[i], "mod", 3) == 0 && old && old->ino == now->ino)
			assert_false(same_file(&a->inode[old->ino], &b->inode[now->ino]));
	}
}

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s >> 11;
}

/* Some link of a kind, or NULL. */
static struct m_link *pick(struct model *m, uint64_t *seed, bool dir)
{
	for (int tries = 0; tries < 200; tries++) {
		struct m_link *l = &m->link[next_random(seed) % 256];
		if (l->ino && S_ISDIR(m->inode[l->ino].mode) == dir)
			return l;
	}
	return NULL;
}

static bool is_below(const struct model *m, uint64_t dir, uint64_t ancestor)
{
	while (dir != ROOT_INO) {
		if (dir == ancestor)
			return true;
		for (size_t i = 0; i < M_LINKS; i++) {
			if (m->link[i].ino == dir) {
				dir = m->link[i].dir;
				break;
			}
		}
	}
	return false;
}

static void random_step(struct model *m, uint64_t *seed)
{
	char path[4096] = "", name[8192], from[4096];
	struct m_link *d = pick(m, seed, true), *l;
	uint64_t dir = ROOT_INO;
	if (d && next_random(seed) % 4) {
		path_of(m, d, path, sizeof(path) - 1);
		dir = d->ino;
		strcat(path, "/");
	}
	snprintf(name, sizeof(name), "%sn%u", path, (unsigned)(next_random(seed) % 30));
	const char *last = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	bool is_free = !m_find(m, dir, last, strlen(last));
	switch (next_random(seed) % 6) {
	case 0:
		if (is_free)
			m_dir(m, name);
		break;
	case 1:
	case 2:
		if (is_free)
			m_random_file(m, name, next_random(seed), next_random(seed) % 3000);
		break;
	case 3:
		l = pick(m, seed, next_random(seed) % 3 == 0);
		if (!l || !is_free || is_below(m, dir, l->ino))
			break;
		path_of(m, l, from, sizeof(from));
		m_rename(m, from, name);
		break;
	case 4:
		l = pick(m, seed, false);
		if (!l)
			break;
		path_of(m, l, from, sizeof(from));
		if (next_random(seed) % 2)
			m_set(m, from, name, strlen(name));
		else if (is_free)
			m_hardlink(m, from, name);
		break;
	default:
		l = pick(m, seed, next_random(seed) % 8 == 0);
		if (!l)
			break;
		path_of(m, l, from, sizeof(from));
		m_remove(m, from);
	}
}

static void random_changes_are_all_named(void **state)
{
	struct fx *f = *state;
	uint64_t seed = 2463534242ull;
	for (int round = 0; round < 30; round++) {
		struct model *a = m_new();
		for (int i = 0; i < 150; i++)
			random_step(a, &seed);
		struct model *b = m_copy(a);
		for (int i = 0; i < 1 + round * 3; i++)
			random_step(b, &seed);
		struct digest ra = m_tree(f->s, a), rb = m_tree(f->s, b);
		struct tree_fs fa = store_tree(f->s, &ra), fb = store_tree(f->s, &rb);
		struct replay *r = calloc(1, sizeof(*r));
		assert_int_equal(fsdiff_trees(&fa, &fb, keep_line, r), 0);
		check_replay(a, b, r);
		check_lines(a, b, r);
		for (size_t i = 0; i < r->count; i++)
			free(r->lines[i]);
		free(r);
		m_free(a);
		m_free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_of_one_tree_are_told_by_inode),
		cmocka_unit_test(trees_made_apart_are_told_by_path),
		cmocka_unit_test(one_file_more_shifts_no_names),
		cmocka_unit_test(change_of_type_is_one_change),
		cmocka_unit_test(devices_differ_by_number),
		cmocka_unit_test(paths_beyond_the_limit_are_counted),
		cmocka_unit_test(what_comes_from_too_deep_is_added),
		cmocka_unit_test(result_of_the_callback_ends_it),
		cmocka_unit_test(feed_out_of_order_is_refused),
		cmocka_unit_test(history_tells_how_snapshots_are_related),
		cmocka_unit_test(random_changes_are_all_named),
	};
	return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
