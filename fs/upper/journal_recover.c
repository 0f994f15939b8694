/*
 * What a former process left in a mount's journal. It is read and checked whole
 * before anything is written, so that a file which makes no sense stays as it is
 * for whoever looks into it.
 *
 * Numbers of segments are not used again: a segment that did not count, because
 * the one before it ends early, must not count later, should the removal of the
 * file itself be lost in a power cut. So recovery takes both numbers that the
 * file can have had.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/upper/journal_internal.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/base/write_all.h"

int journal_check_version(int dir_fd, const char *name, struct error *err)
{
	uint8_t bytes[JOURNAL_HEAD];
	struct journal_head h;
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, -errno, "cannot open %s", name);
	for (unsigned i = 0; i < 2 && !r; i++) {
		r = journal_read_segment(fd, i, bytes, sizeof(bytes));
		if (r)
			error_set_errno(err, r, "cannot read %s", name);
		else if (journal_head_get(bytes, &h) == -EINVAL)
			r = error_set(err, -EINVAL,
				      "%s is a journal of version %.2s, which this program does "
				      "not know",
				      name, (const char *)bytes + 6);
	}
	close(fd);
	return r;
}

/* What is left: segments that count, in order. */
struct leftover {
	struct journal_segment s[2]; /* data is owned */
	uint64_t first;		     /* number of s[0] */
	unsigned n;
	bool other_boot; /* the machine was down meanwhile */
	/* found by scanning */
	struct journal_epoch change; /* the last one; begun 0: none */
	uint32_t newest;	     /* epoch that an operation changed */
	bool is_old;		     /* of a version without changes of epoch */
	uint64_t synced_number;	     /* of the last "data synced", with its place */
	size_t synced_at;
};

/* Where the next bytes of a file begin, from `at`; `end` where only a hole follows. */
static off_t skip_hole(int fd, off_t at, off_t end)
{
	off_t data = lseek(fd, at, SEEK_DATA);

	if (data < 0) /* a filesystem that cannot tell has bytes everywhere */
		return errno == ENXIO ? end : at;
	return MIN(data, end);
}

static off_t find_hole(int fd, off_t at, off_t end)
{
	off_t hole = lseek(fd, at, SEEK_HOLE);

	return hole <= at ? end : MIN(hole, end);
}

int journal_read_written(int fd, uint64_t number, uint8_t *zeroed)
{
	const off_t begin = journal_place(number), end = begin + JOURNAL_SEGMENT;
	off_t at = skip_hole(fd, begin, end);

	while (at < end) {
		off_t until = find_hole(fd, at, end);
		ssize_t n = pread(fd, zeroed + (at - begin), (size_t)(until - at), at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		at = skip_hole(fd, at + MAX(n, 0), end);
	}
	return 0;
}

/* Segments from the first that is not in the database, each if the one before is whole. */
static int read_leftover(struct journal *j, int fd, struct leftover *l)
{
	l->first = j->applied + 1;
	for (unsigned i = 0; i < 2; i++) {
		struct journal_segment *s = &l->s[i];
		uint8_t *data = calloc(1, JOURNAL_SEGMENT);
		struct journal_head h;
		int r;

		s->data = data;
		if (!data)
			return -ENOMEM;
		r = journal_read_written(fd, l->first + i, data);
		if (!r)
			r = journal_head_get(data, &h);
		if (r == -ENOENT || (!r && h.number != l->first + i))
			return 0;
		if (r)
			return r;
		if (i && h.before != l->s[0].len) {
			log_warn("%s ends early: what was not synced is lost", j->name);
			return 0;
		}
		s->number = h.number;
		s->version = h.version;
		s->len = journal_segment_end(data, JOURNAL_SEGMENT, journal_seed(&h));
		l->other_boot |= memcmp(h.boot, j->boot, sizeof(h.boot)) != 0;
		l->is_old |= h.version < 2;
		l->n++;
	}
	return 0;
}

static bool is_waited_for(const struct journal *j, uint64_t unique)
{
	size_t from = 0, to = j->n_waiting;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (j->waiting[mid] == unique)
			return true;
		if (j->waiting[mid] < unique)
			from = mid + 1;
		else
			to = mid;
	}
	return false;
}

static int add_done(struct journal *j, uint64_t unique, uint64_t made_ino)
{
	int r = is_waited_for(j, unique) ? journal_requests_add(&j->done, unique, made_ino) : 0;

	journal_requests_set_logged(&j->done, unique);
	return r;
}

/* Those of the database, without the ones that have their answers. */
static int read_requests(struct journal *j)
{
	struct journal_requests all = { NULL, 0, 0 };
	int r = journal_requests_get(j->kv, j->id, &all);

	j->has_requests = all.n > 0;
	for (size_t i = 0; i < all.n && !r; i++)
		r = add_done(j, all.r[i].unique, all.r[i].made_ino);
	journal_requests_fini(&all);
	return r;
}

static int note_request(struct journal *j, const struct journal_record *rec)
{
	if (rec->unique == JOURNAL_OTHER_CONNECTION)
		j->done.n = 0;
	else if (rec->unique)
		return add_done(j, rec->unique, rec->made_ino);
	return 0;
}

static int scan_operation(struct journal *j, struct leftover *l, const struct journal_record *rec)
{
	struct journal_entry e;
	struct wire_reader r;
	int step = note_request(j, rec);

	if (step)
		return step;
	wire_reader_init(&r, rec->body, rec->len);
	while ((step = journal_entry_next(&r, &e)) > 0)
		l->newest = MAX(l->newest, journal_entry_epoch(&e));
	return step;
}

/* Everything decodes. */
static int scan(struct journal *j, struct leftover *l)
{
	struct journal_record rec;
	int r = 0, step;

	for (unsigned i = 0; i < l->n; i++) {
		size_t at = JOURNAL_HEAD, next = at;

		for (; !r && (step = journal_record_next(&l->s[i], &next, &rec)) != 0; at = next) {
			if (step < 0)
				return step;
			if (rec.kind == JOURNAL_OP)
				r = scan_operation(j, l, &rec);
			if (rec.kind == JOURNAL_EPOCH)
				l->change = rec.epoch;
			if (rec.kind == JOURNAL_DATA_SYNCED) {
				l->synced_number = l->s[i].number;
				l->synced_at = at;
			}
		}
		if (r)
			return r;
	}
	return 0;
}

/*
 * No operation is of an epoch that nobody has begun. Version 1 leaves the mount's
 * record to tell, which a power cut may have lost: there the operations tell.
 */
static int check_epochs(const struct journal *j, const struct journal_epochs *known,
			struct leftover *l)
{
	uint32_t current = MAX(MAX(known->current, j->change.begun), l->change.begun);

	if (l->newest <= current)
		return 0;
	if (!l->is_old || l->newest != current + 1)
		return -EBADMSG;
	log_warn("%s goes on after a checkpoint whose record is lost", j->name);
	l->change = (struct journal_epoch){ .ended = current, .begun = current + 1 };
	return 0;
}

/*
 * Data that was logged after it was last synced goes to its place, unless the
 * machine ran on: then what is there is newer. In either case it is synced.
 */
static int recover_data(struct journal *j, const struct leftover *l)
{
	struct journal_record rec;
	bool any = false;
	int r = 0;

	for (unsigned i = 0; i < l->n && atomic_load(&j->data_fd) >= 0; i++) {
		const struct journal_segment *s = &l->s[i];
		size_t at = JOURNAL_HEAD, next = at;

		for (; !r && journal_record_next(s, &next, &rec) > 0; at = next) {
			if (rec.kind != JOURNAL_DATA || s->number < l->synced_number ||
			    (s->number == l->synced_number && at < l->synced_at))
				continue;
			any = true;
			if (l->other_boot)
				r = pwrite_all(j->data_fd, rec.body, rec.len, rec.pos);
		}
	}
	return r || !any ? r : journal_sync_data_file(j);
}

/* See the top for the last number. */
static int apply(struct journal *j, const struct leftover *l)
{
	struct journal_target t = { j->kv, j->id, j->min_epoch, j->change, &j->done };
	const uint64_t last = l->first + 1;
	int r = 0;

	if (l->is_old && l->change.begun) /* no record says it */
		t.change = l->change;
	for (unsigned i = 0; i < l->n && !r; i++)
		r = journal_apply(&t, &l->s[i], i + 1 < l->n ? l->s[i].number : last);
	if (!l->n)
		r = journal_put_applied(&t, last);
	if (!r) {
		j->applied = last;
		j->change = t.change;
	}
	return r;
}

static int recover(struct journal *j, int fd, const struct journal_epochs *known)
{
	struct leftover l = { .n = 0 };
	int r = read_leftover(j, fd, &l);

	j->found_this_boot = l.n && !l.other_boot;
	if (!r)
		r = scan(j, &l);
	if (!r)
		r = check_epochs(j, known, &l);
	if (!r)
		r = recover_data(j, &l);
	if (!r)
		r = apply(j, &l);
	free((void *)l.s[0].data);
	free((void *)l.s[1].data);
	return r;
}

void journal_boot_text(const struct journal *j, char out[JOURNAL_BOOT_TEXT])
{
	_Static_assert(JOURNAL_BOOT_TEXT == 2 * JOURNAL_BOOT_SIZE + 1, "two digits a byte");
	for (size_t i = 0; i < JOURNAL_BOOT_SIZE; i++)
		snprintf(out + 2 * i, 3, "%02x", j->boot[i]);
}

bool journal_is_of_this_boot(const struct journal *j)
{
	return j->found_this_boot;
}

int journal_recover(struct journal *j, const struct journal_epochs *known,
		    struct journal_epoch *out_change, struct error *err)
{
	int fd, r = journal_check_version(j->dir_fd, j->name, err);

	if (r)
		return r;
	r = journal_get_applied(j->kv, j->id, &j->applied, &j->change);
	j->min_epoch = known->oldest;
	if (!r)
		r = read_requests(j);
	if (r)
		return error_set_errno(err, r, "cannot read how far a mount's journal is");
	fd = openat(j->dir_fd, j->name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return error_set_errno(err, -errno, "cannot open %s", j->name);
	if (fd >= 0) {
		r = recover(j, fd, known);
		close(fd);
		if (!r)
			r = journal_remove_file(j);
	} else if (j->has_requests) {
		struct journal_target t = { j->kv, j->id, j->min_epoch, j->change, &j->done };

		r = journal_put_applied(&t, j->applied);
	}
	if (!r)
		r = journal_requests_copy(&j->done, &j->open);
	j->has_requests = j->done.n > 0;
	journal_set_waiting(j, NULL, 0);
	if (r)
		return error_set_errno(err, r, "cannot recover %s", j->name);
	*out_change = j->change;
	return 0;
}
