/* tar_maker.h - archives made member by member, the impossible ones too. */
#ifndef VARVE_TEST_TAR_MAKER_H
#define VARVE_TEST_TAR_MAKER_H

#include "tests/unit/ingest_zoo.h"

#include "store/archive/tar_header.h"

struct tar_spec {
	char type; /* of enum tar_type; 0 ends a list */
	const char *path;
	const char *link;
	const char *data;
	uint32_t mode;
	uint64_t claim; /* size to claim where it is not the data's */
};

static inline void tar_add(struct buf *b, const struct tar_spec *t)
{
	size_t len = t->data ? strlen(t->data) : 0;
	struct tar_member m = { .type = (enum tar_type)t->type,
				.path = t->path,
				.path_len = strlen(t->path),
				.link = t->link,
				.link_len = t->link ? strlen(t->link) : 0,
				.mode = t->mode ? t->mode : 0644,
				.rdev = makedev(1, 3),
				.size = t->claim ? t->claim : len };

	assert_int_equal(tar_put_header(b, &m), 0);
	assert_int_equal(buf_append(b, t->data, len), 0);
	assert_int_equal(tar_put_padding(b, len), 0);
}

/* Write the members and an end to a file. */
static inline void make_tar(const char *file, const struct tar_spec *list)
{
	struct buf b = BUF_INIT;

	for (; list->type; list++)
		tar_add(&b, list);
	assert_int_equal(tar_put_end(&b), 0);
	put_file(file, b.data, b.len);
	buf_fini(&b);
}

#endif
