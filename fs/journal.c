#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/journal_internal.h"
#include "store/base/log.h"
#include "store/base/wire.h"

/*
 * New parts of the file are written with zeros first: a page of a hole that
 * finds no room would kill the process, and a sync is twice as fast where no
 * blocks are new.
 */
#define ZERO_STEP (64u << 10)
#define ZERO_STEP_MAX (1u << 20)
/* An operation that is larger goes to the database at once. */
#define OPERATION_MAX (JOURNAL_SEGMENT / 4)

struct journal {
	struct kv *kv;
	int dir_fd;
	int data_fd; /* -1: no data is logged */
	char *name;
	uint8_t id[JOURNAL_ID_SIZE];
	uint8_t boot[JOURNAL_BOOT_SIZE];

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t idle;  /* not applying, or not held any more */
	int fd;		      /* -1: there is no file */
	uint8_t *map;
	uint64_t number;  /* of the segment that is filled */
	size_t at;	  /* where its next record goes */
	size_t zeroed[2]; /* bytes of each segment that the file has */
	uint64_t applied; /* number of the last segment in the database */
	size_t full_len;  /* of the one before `number`, where that is not applied */
	bool has_data;	  /* logged data may be nowhere else on disk */
	bool applying;	  /* the thread is at it */
	bool has_thread;  /* to be joined */
	bool held;	  /* see journal_hold */
	uint32_t min_epoch;
	uint64_t appended; /* operations */
	uint64_t synced;   /* of these, on disk */
	bool dir_synced;
	int sync_error; /* sticks: what the disk has is not known any more */
	pthread_t thread;
};

struct journal *journal_new(int dir_fd, const char *name, const uint8_t id[JOURNAL_ID_SIZE],
			    struct kv *kv)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->name = strdup(name);
	if (!j->name) {
		free(j);
		return NULL;
	}
	j->kv = kv;
	j->dir_fd = dir_fd;
	j->fd = j->data_fd = -1;
	journal_boot_id(j->boot);
	memcpy(j->id, id, sizeof(j->id));
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->idle, NULL);
	return j;
}

static uint8_t *segment(const struct journal *j, uint64_t number)
{
	return j->map + (number % 2) * JOURNAL_SEGMENT;
}

static void close_file(struct journal *j)
{
	if (j->map)
		munmap(j->map, 2ul * JOURNAL_SEGMENT);
	if (j->fd >= 0)
		close(j->fd);
	j->map = NULL;
	j->fd = -1;
}

/* lock held: until the thread has ended. */
static void wait_idle(struct journal *j)
{
	while (j->applying)
		pthread_cond_wait(&j->idle, &j->lock);
	if (j->has_thread) /* it has let go of the lock for the last time */
		pthread_join(j->thread, NULL);
	j->has_thread = false;
}

void journal_set_data_file(struct journal *j, int fd)
{
	pthread_mutex_lock(&j->lock);
	if (fd < 0)
		wait_idle(j); /* what it applies may have data in the one that was */
	j->data_fd = fd;
	pthread_mutex_unlock(&j->lock);
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	wait_idle(j);
	pthread_mutex_unlock(&j->lock);
	close_file(j);
	pthread_cond_destroy(&j->idle);
	pthread_mutex_destroy(&j->lock);
	free(j->name);
	free(j);
}

/* ---- the file ---- */

static int write_zeros(int fd, uint64_t at, size_t len)
{
	static const uint8_t zeros[ZERO_STEP];

	while (len) {
		ssize_t n = pwrite(fd, zeros, MIN(len, sizeof(zeros)), (off_t)at);

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (uint64_t)n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* The segment being filled has blocks up to `upto`, and some more for what follows. */
static int make_blocks(struct journal *j, size_t upto)
{
	size_t *has = &j->zeroed[j->number % 2];

	if (upto <= *has)
		return 0;
	size_t step = MIN(MAX(*has, (size_t)ZERO_STEP), (size_t)ZERO_STEP_MAX);
	size_t to = MIN(MAX(upto, *has + step), (size_t)JOURNAL_SEGMENT);
	int r = write_zeros(j->fd, (j->number % 2) * (uint64_t)JOURNAL_SEGMENT + *has, to - *has);

	if (!r)
		*has = to;
	return r;
}

static int start_segment(struct journal *j, uint64_t number, size_t before)
{
	struct journal_head head = { .number = number, .before = before };
	uint64_t was = j->number;
	int r;

	j->number = number;
	r = make_blocks(j, JOURNAL_HEAD);
	if (r) {
		j->number = was;
		return r;
	}
	memcpy(head.boot, j->boot, sizeof(head.boot));
	journal_head_put(segment(j, number), &head);
	j->at = JOURNAL_HEAD;
	return 0;
}

static int create_file(struct journal *j)
{
	int r = 0;

	j->fd = openat(j->dir_fd, j->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (j->fd < 0 || ftruncate(j->fd, 2l * JOURNAL_SEGMENT) < 0)
		r = -errno;
	if (!r) {
		void *p = mmap(NULL, 2ul * JOURNAL_SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED,
			       j->fd, 0);

		r = p == MAP_FAILED ? -errno : 0;
		j->map = r ? NULL : p;
	}
	j->zeroed[0] = j->zeroed[1] = 0;
	j->dir_synced = false;
	if (!r)
		r = start_segment(j, j->applied + 1, 0);
	if (r)
		close_file(j);
	return r;
}

/* ---- to the database ---- */

/*
 * Bring a segment to the database, after which it is gone: data that it may have
 * is to be on disk in its place before.
 */
static int apply_segment(struct journal *j, uint64_t number, size_t len, uint32_t min_epoch,
			 bool has_data)
{
	if (has_data && fdatasync(j->data_fd) < 0)
		return -errno;
	return journal_apply(j->kv, j->id, number, segment(j, number), len, min_epoch);
}

static void *apply_main(void *arg)
{
	struct journal *j = arg;

	pthread_mutex_lock(&j->lock);
	uint64_t number = j->applied + 1;
	size_t len = j->full_len;
	uint32_t min_epoch = j->min_epoch;
	bool has_data = j->has_data;

	pthread_mutex_unlock(&j->lock);
	int r = apply_segment(j, number, len, min_epoch, has_data);

	if (r)
		log_error("a mount's journal cannot be brought to the database: %s", strerror(-r));
	pthread_mutex_lock(&j->lock);
	if (!r)
		j->applied = number;
	j->applying = false;
	pthread_cond_broadcast(&j->idle);
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

/* lock held, idle: the segment before the one being filled, if the thread has failed. */
static int apply_former(struct journal *j)
{
	uint64_t number = j->applied + 1;
	int r;

	if (!j->map || number == j->number)
		return 0;
	r = apply_segment(j, number, j->full_len, j->min_epoch, j->has_data);
	if (!r)
		j->applied = number;
	return r;
}

/* lock held. I/O under it: what is appended next comes after it. */
static int apply_all(struct journal *j)
{
	int r;

	while (j->applying || j->held)
		pthread_cond_wait(&j->idle, &j->lock);
	wait_idle(j);
	r = apply_former(j);
	if (!r && j->map && j->at > JOURNAL_HEAD) {
		r = apply_segment(j, j->number, j->at, j->min_epoch, j->has_data);
		if (!r)
			j->applied = j->number;
	}
	return r;
}

/* lock held: the segment has no room for `need` bytes. */
static int next_segment(struct journal *j, size_t need)
{
	int r;

	while (j->applying || j->held)
		pthread_cond_wait(&j->idle, &j->lock);
	wait_idle(j);
	if (j->at + need <= JOURNAL_SEGMENT) /* somebody was faster while this one waited */
		return 0;
	size_t len = j->at;

	r = apply_former(j);
	if (!r)
		r = start_segment(j, j->number + 1, len);
	if (r)
		return r;
	j->full_len = len;
	j->applying = true;
	j->has_thread = pthread_create(&j->thread, NULL, apply_main, j) == 0;
	if (j->has_thread) {
		pthread_setname_np(j->thread, "varve-journal");
		return 0;
	}
	j->applying = false;
	return 0; /* the next one applies it */
}

static int append_large(struct journal *j, const struct buf *op)
{
	int r = apply_all(j);

	if (!r)
		r = journal_apply(j->kv, j->id, 0, op->data, op->len, j->min_epoch);
	/* What is in the file is in the database, and the next change comes after it. */
	if (!r && j->map && j->applied == j->number)
		r = start_segment(j, j->number + 1, j->at);
	return r;
}

static int append_record(struct journal *j, const void *payload, size_t len)
{
	size_t need = journal_align(JOURNAL_RECORD + len);
	int r = j->map ? 0 : create_file(j);

	if (!r && j->at + need > JOURNAL_SEGMENT)
		r = next_segment(j, need);
	if (!r)
		r = make_blocks(j, j->at + need);
	if (r)
		return r;
	uint8_t *p = segment(j, j->number) + j->at;

	memcpy(p + JOURNAL_RECORD, payload, len);
	wire_set32(p + 4, journal_record_crc(j->number, payload, len));
	wire_set32(p, (uint32_t)len);
	j->at += need;
	j->appended++;
	return 0;
}

int journal_append(struct journal *j, const struct buf *op)
{
	int r;

	if (!op->len)
		return 0;
	pthread_mutex_lock(&j->lock);
	r = op->len > OPERATION_MAX ? append_large(j, op) : append_record(j, op->data, op->len);
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_append_data(struct journal *j, uint64_t pos, const void *data, size_t len)
{
	struct buf payload CLEANUP(buf_fini_p) = BUF_INIT;
	int r = wire_put_u8(&payload, JOURNAL_DATA);

	if (!r)
		r = wire_put_u64(&payload, pos);
	if (!r)
		r = buf_append(&payload, data, len);
	if (r)
		return r;
	pthread_mutex_lock(&j->lock);
	j->has_data = true; /* before: room may be made by applying what came before */
	r = append_record(j, payload.data, payload.len);
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_data_synced(struct journal *j)
{
	static const uint8_t payload[1] = { JOURNAL_DATA_SYNCED };
	int r = 0;

	pthread_mutex_lock(&j->lock);
	if (j->has_data)
		r = append_record(j, payload, sizeof(payload));
	if (!r)
		j->has_data = false;
	pthread_mutex_unlock(&j->lock);
	return r;
}

static int sync_directory(const struct journal *j)
{
	char *slash = strrchr(j->name, '/');
	char *dir = strndup(j->name, slash ? (size_t)(slash - j->name) : 0);
	int fd, r;

	if (!dir)
		return -ENOMEM;
	fd = openat(j->dir_fd, dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	free(dir);
	return r;
}

int journal_sync(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	uint64_t upto = j->appended;
	bool done = j->synced >= upto, with_dir = !j->dir_synced;
	int r = j->sync_error, fd = j->fd;

	pthread_mutex_unlock(&j->lock);
	if (r || done)
		return r;
	r = fdatasync(fd) < 0 ? -errno : 0;
	if (!r && with_dir)
		r = sync_directory(j);
	pthread_mutex_lock(&j->lock);
	if (r) {
		j->sync_error = r;
	} else {
		j->synced = MAX(j->synced, upto);
		j->dir_synced = true;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

void journal_hold(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	while (j->applying || j->held)
		pthread_cond_wait(&j->idle, &j->lock);
	j->held = true;
	pthread_mutex_unlock(&j->lock);
}

void journal_release(struct journal *j, uint32_t epoch)
{
	pthread_mutex_lock(&j->lock);
	j->min_epoch = MAX(j->min_epoch, epoch);
	j->held = false;
	pthread_cond_broadcast(&j->idle);
	pthread_mutex_unlock(&j->lock);
}

static int remove_file(struct journal *j)
{
	close_file(j);
	return unlinkat(j->dir_fd, j->name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int journal_settle(struct journal *j)
{
	int r;

	pthread_mutex_lock(&j->lock);
	r = apply_all(j);
	if (!r && j->map) {
		r = remove_file(j);
		j->synced = j->appended;
		j->has_data = false;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

/* ---- after a restart ---- */

static int read_segment(int fd, uint64_t number, uint8_t *out)
{
	uint64_t from = (number % 2) * (uint64_t)JOURNAL_SEGMENT;
	size_t got = 0;

	while (got < JOURNAL_SEGMENT) {
		ssize_t n = pread(fd, out + got, JOURNAL_SEGMENT - got, (off_t)(from + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	memset(out + got, 0, JOURNAL_SEGMENT - got);
	return 0;
}

/* What is left of former processes: segments that count, in order. */
struct leftover {
	uint8_t *data[2]; /* owned */
	uint64_t first;	  /* number of data[0] */
	size_t len[2];
	unsigned n;
	bool other_boot; /* the machine was down meanwhile */
};

/* Segments from the first that is not in the database, each if the one before is whole. */
static int read_leftover(struct journal *j, int fd, struct leftover *l)
{
	l->first = j->applied + 1;
	for (unsigned i = 0; i < 2; i++) {
		struct journal_head h;
		int r;

		l->data[i] = malloc(JOURNAL_SEGMENT);
		if (!l->data[i])
			return -ENOMEM;
		r = read_segment(fd, l->first + i, l->data[i]);
		if (r)
			return r;
		if (!journal_head_get(l->data[i], &h) || h.number != l->first + i)
			return 0;
		if (i && h.before != l->len[0]) {
			log_warn("a mount's journal ends early: what was not synced is lost");
			return 0;
		}
		l->len[i] = journal_segment_end(l->data[i], h.number);
		l->other_boot |= memcmp(h.boot, j->boot, sizeof(h.boot)) != 0;
		l->n++;
	}
	return 0;
}

static int recover_data(struct journal *j, const struct leftover *l)
{
	struct journal_data_scan s = { 0 };
	int r = 0;

	for (unsigned i = 0; i < l->n && !r; i++)
		r = journal_scan_data(l->data[i], l->first + i, l->len[i], &s, -1);
	if (r || !s.any || j->data_fd < 0)
		return r;
	/* While the machine runs, the data file is newer than what was logged. */
	for (unsigned i = 0; i < l->n && !r && l->other_boot; i++)
		r = journal_scan_data(l->data[i], l->first + i, l->len[i], &s, j->data_fd);
	if (!r && fdatasync(j->data_fd) < 0)
		r = -errno;
	return r;
}

static int recover(struct journal *j, int fd)
{
	struct leftover l = { .n = 0 };
	int r = read_leftover(j, fd, &l);

	if (!r)
		r = recover_data(j, &l);
	for (unsigned i = 0; i < l.n && !r; i++) {
		r = journal_apply(j->kv, j->id, l.first + i, l.data[i], l.len[i], j->min_epoch);
		if (!r)
			j->applied = l.first + i;
	}
	free(l.data[0]);
	free(l.data[1]);
	return r;
}

int journal_recover(struct journal *j, uint32_t epoch, struct error *err)
{
	int fd, r = journal_applied(j->kv, j->id, &j->applied);

	j->min_epoch = epoch;
	if (r)
		return error_set_errno(err, r, "cannot read how far a mount's journal is");
	fd = openat(j->dir_fd, j->name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return error_set_errno(err, -errno, "cannot open %s", j->name);
	r = recover(j, fd);
	close(fd);
	if (!r)
		r = remove_file(j);
	return r ? error_set_errno(err, r, "cannot recover %s", j->name) : 0;
}
