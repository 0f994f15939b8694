#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fs/upper/journal_internal.h"
#include "store/base/bulk.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/sync_dir.h"
#include "store/base/wire.h"
#include "store/base/write_all.h"

/*
 * New parts of the file are written with zeros first: a sync is twice as fast
 * where no blocks are new.
 */
#define ZERO_STEP (64u << 10)
#define ZERO_STEP_MAX (1u << 20)
/*
 * Where the database fails, a segment waits in the file. To try again is to read it
 * back and check it, under the lock: not for every operation that finds no room.
 */
#define RETRY_MS 200
/*
 * What operations leave of a segment: so a change of epoch, for which all others of the
 * mount wait, need not wait until the segment before is in the database.
 */
#define EPOCH_ROOM journal_align(JOURNAL_RECORD + 1 + JOURNAL_EPOCH_MAX)
/* An operation that is larger goes to the database at once. */
#define OPERATION_MAX (JOURNAL_SEGMENT / 4)

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
	j->fd = -1;
	j->data_fd = -1;
	journal_boot_id(j->boot);
	memcpy(j->id, id, sizeof(j->id));
	pthread_mutex_init(&j->lock, NULL);
	pthread_mutex_init(&j->open_lock, NULL);
	pthread_cond_init(&j->idle, NULL);
	return j;
}

static void close_file(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
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

void journal_set_data_file(struct journal *j, int fd, const char *name)
{
	pthread_mutex_lock(&j->lock);
	if (fd < 0)
		wait_idle(j); /* what it applies may have data in the one that was */
	j->data_name = name;
	atomic_store(&j->data_fd, fd);
	pthread_mutex_unlock(&j->lock);
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	journal_forget_request(j);
	pthread_mutex_lock(&j->lock);
	wait_idle(j);
	pthread_mutex_unlock(&j->lock);
	close_file(j);
	pthread_cond_destroy(&j->idle);
	pthread_mutex_destroy(&j->lock);
	pthread_mutex_destroy(&j->open_lock);
	journal_requests_fini(&j->open);
	journal_requests_fini(&j->done);
	free(j->name);
	free(j);
}

/* ---- the file ---- */

static int write_zeros(int fd, off_t at, size_t len)
{
	static const uint8_t zeros[ZERO_STEP];

	int r = 0;

	while (len && !r) {
		size_t step = MIN(len, sizeof(zeros));

		r = pwrite_all(fd, zeros, step, (uint64_t)at);
		at += (off_t)step;
		len -= step;
	}
	return r;
}

/*
 * The segment being filled, of which [0, at) is written, has blocks up to `upto`, and
 * some more for what follows; where that fails, what is written next finds out for
 * itself.
 */
static void make_blocks(struct journal *j, size_t at, size_t upto)
{
	size_t *has = &j->zeroed[j->number % 2];
	size_t from = MAX(*has, at); /* it may have failed before */

	if (upto <= *has)
		return;
	size_t step = MIN(MAX(*has, (size_t)ZERO_STEP), (size_t)ZERO_STEP_MAX);
	size_t to = MIN(MAX(upto, *has + step), (size_t)JOURNAL_SEGMENT);

	if (write_zeros(j->fd, journal_place(j->number) + (off_t)from, to - from) == 0)
		*has = to;
}

/* Where it fails, part of it may have been written. */
static int write_at(int fd, off_t at, const struct iovec *iov, int n)
{
	ssize_t want = 0, got;

	for (int i = 0; i < n; i++)
		want += (ssize_t)iov[i].iov_len;
	do {
		got = pwritev(fd, iov, n, at);
	} while (got < 0 && errno == EINTR);
	/* A regular file takes less only where it has no room for the rest. */
	return got < 0 ? -errno : got < want ? -ENOSPC : 0;
}

/* Its place is free: what it held is in the database. */
static int start_segment(struct journal *j, uint64_t number, size_t before)
{
	struct journal_head head = { .number = number,
				     .before = before,
				     .version = JOURNAL_VERSION };
	uint8_t bytes[JOURNAL_HEAD];
	struct iovec iov = { bytes, sizeof(bytes) };
	const uint64_t was = j->number;
	int r;

	/* Without randomness yet, early at boot, a record is as good but for malice. */
	(void)!getrandom(&head.salt, sizeof(head.salt), GRND_NONBLOCK);
	j->number = number;
	make_blocks(j, 0, JOURNAL_HEAD);
	memcpy(head.boot, j->boot, sizeof(head.boot));
	journal_head_put(bytes, &head);
	r = write_at(j->fd, journal_place(number), &iov, 1);
	if (r) {
		j->number = was;
		return r;
	}
	j->at = JOURNAL_HEAD;
	j->seed = journal_seed(&head);
	return 0;
}

static int create_file(struct journal *j)
{
	int r = 0;

	j->fd = openat(j->dir_fd, j->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (j->fd < 0 || ftruncate(j->fd, 2l * JOURNAL_SEGMENT) < 0)
		r = -errno;
	j->zeroed[0] = j->zeroed[1] = 0;
	j->dir_synced = false;
	if (!r)
		r = start_segment(j, j->applied + 1, 0);
	if (r)
		close_file(j);
	return r;
}

int journal_remove_file(struct journal *j)
{
	close_file(j);
	return unlinkat(j->dir_fd, j->name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int journal_read_segment(int fd, uint64_t number, uint8_t *out, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, out + got, len - got, journal_place(number) + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	memset(out + got, 0, len - got);
	return 0;
}

int journal_sync_data_file(struct journal *j)
{
	int r = atomic_load(&j->data_error), fd = atomic_load(&j->data_fd);

	if (r || fd < 0)
		return r;
	r = fdatasync(fd) < 0 ? -errno : 0;
	if (r) {
		/* The kernel takes what it could not write for written from now on. */
		log_error("%s: cannot be synced, and will not be any more: %s", j->data_name,
			  strerror(-r));
		atomic_store(&j->data_error, r);
		return r;
	}
	if (!atomic_load(&j->data_dir_synced)) {
		r = sync_parent_dir(j->dir_fd, j->data_name);
		if (!r)
			atomic_store(&j->data_dir_synced, true);
	}
	return r;
}

/* ---- to the database ---- */

/* A segment as it was written, which a disk may have damaged meanwhile: -EIO. */
static int read_back(const struct journal *j, uint64_t number, uint8_t *out, size_t len)
{
	struct journal_head h;
	int r = journal_read_segment(j->fd, number, out, len);

	if (!r && (journal_head_get(out, &h) || h.number != number ||
		   journal_segment_end(out, len, journal_seed(&h)) != len))
		r = -EIO;
	return r;
}

struct apply_job {
	uint64_t number;
	size_t len;
	bool has_data;
	struct journal_target target;
	struct journal_requests requests; /* owned, for target */
};

/* lock held */
static struct apply_job job_for(const struct journal *j, uint64_t number, size_t len)
{
	return (struct apply_job){ .number = number,
				   .len = len,
				   .has_data = j->has_data,
				   .target = { j->kv, j->id, j->min_epoch, j->change, NULL } };
}

/* lock held: the job ended with r. */
static void note_applied(struct journal *j, const struct apply_job *job, int r)
{
	j->apply_error = r;
	if (r) {
		j->retry_ms = monotonic_ms() + RETRY_MS;
		return;
	}
	j->applied = job->number;
	j->change = job->target.change;
	j->has_requests = job->requests.n > 0;
}

/*
 * Bring a segment to the database, after which it is gone: data that it may have
 * is to be on disk in its place before.
 */
static int run_job(struct journal *j, struct apply_job *job)
{
	struct journal_segment s = { .len = job->len,
				     .number = job->number,
				     .version = JOURNAL_VERSION };
	uint8_t *data = bulk_alloc(job->len);
	int r = data ? 0 : -ENOMEM;

	if (!r && job->has_data)
		r = journal_sync_data_file(j);
	if (!r)
		r = read_back(j, job->number, data, job->len);
	s.data = data;
	if (!r)
		r = journal_copy_open(j, &job->requests);
	job->target.requests = &job->requests;
	if (!r)
		r = journal_apply(&job->target, &s, job->number);
	bulk_free(data, job->len);
	return r;
}

/* lock held, idle. I/O under it. */
static int apply_now(struct journal *j, uint64_t number, size_t len)
{
	struct apply_job job = job_for(j, number, len);
	int r = run_job(j, &job);

	note_applied(j, &job, r);
	journal_requests_fini(&job.requests);
	return r;
}

static void *apply_main(void *arg)
{
	struct journal *j = arg;

	pthread_mutex_lock(&j->lock);
	struct apply_job job = job_for(j, j->applied + 1, j->full_len);

	pthread_mutex_unlock(&j->lock);
	int r = run_job(j, &job);

	if (r)
		log_error("a mount's journal cannot be brought to the database: %s", strerror(-r));
	pthread_mutex_lock(&j->lock);
	note_applied(j, &job, r);
	j->applying = false;
	pthread_cond_broadcast(&j->idle);
	pthread_mutex_unlock(&j->lock);
	journal_requests_fini(&job.requests);
	return NULL;
}

/* lock held. 0, or the failure of a try that was just now. */
static int may_apply(const struct journal *j)
{
	return j->apply_error && monotonic_ms() < j->retry_ms ? j->apply_error : 0;
}

/* lock held, idle: the segment before the one being filled, if the thread has failed. */
static int apply_former(struct journal *j)
{
	if (j->fd < 0 || j->applied + 1 >= j->number)
		return 0;
	return apply_now(j, j->applied + 1, j->full_len);
}

/* lock held. I/O under it: what is appended next comes after it. at_once: even after a failure. */
static int apply_all(struct journal *j, bool at_once)
{
	int r;

	while (j->applying || j->held)
		pthread_cond_wait(&j->idle, &j->lock);
	wait_idle(j);
	r = at_once ? 0 : may_apply(j);
	if (!r)
		r = apply_former(j);
	if (!r && j->fd >= 0 && j->applied < j->number && j->at > JOURNAL_HEAD)
		r = apply_now(j, j->number, j->at);
	return r;
}

/* lock held, idle: the segment is full, a thread brings it to the database. */
static int next_segment(struct journal *j)
{
	size_t len = j->at;
	int r;

	wait_idle(j);
	r = may_apply(j);
	if (!r)
		r = apply_former(j);
	if (!r)
		r = start_segment(j, j->number + 1, len);
	if (r)
		return r;
	j->full_len = len;
	j->applying = true;
	j->has_thread = pthread_create(&j->thread, NULL, apply_main, j) == 0;
	j->applying = j->has_thread; /* else the next one applies it */
	if (j->has_thread)
		pthread_setname_np(j->thread, "varve-journal");
	return 0;
}

/*
 * lock held: there is a segment with room for `need` bytes that is not in the
 * database yet. One that is, as after apply_all, takes nothing any more: a
 * recovery would not look at it.
 */
static int ready_segment(struct journal *j, size_t need)
{
	for (;;) {
		if (j->fd < 0)
			return create_file(j);
		if (j->applied == j->number)
			return start_segment(j, j->number + 1, j->at);
		if (j->at + need <= JOURNAL_SEGMENT)
			return 0;
		if (!j->applying && !j->held)
			return next_segment(j);
		pthread_cond_wait(&j->idle, &j->lock);
	}
}

/* ---- appending ---- */

static int append_large(struct journal *j, const struct buf *op)
{
	struct journal_requests requests = { NULL, 0, 0 };
	int r = apply_all(j, false);

	if (!r) {
		journal_note_logged(j); /* the batch that has its changes names it */
		r = journal_copy_open(j, &requests);
	}
	if (!r) {
		struct journal_target t = { j->kv, j->id, j->min_epoch, j->change, &requests };

		r = journal_apply_changes(&t, op);
	}
	if (!r)
		j->has_requests = requests.n > 0;
	journal_requests_fini(&requests);
	return r;
}

/* lock held. The payload: `prefix`, then `body`. */
static int append_record(struct journal *j, const void *prefix, size_t prefix_len, const void *body,
			 size_t len)
{
	uint8_t head[JOURNAL_RECORD];
	struct iovec iov[3] = { { head, sizeof(head) },
				{ (void *)prefix, prefix_len },
				{ (void *)body, len } };
	size_t need = journal_align(JOURNAL_RECORD + prefix_len + len);
	const bool is_epoch = *(const uint8_t *)prefix == JOURNAL_EPOCH;
	int r = ready_segment(j, need + (is_epoch ? 0 : EPOCH_ROOM));

	if (r)
		return r;
	make_blocks(j, j->at, j->at + need);
	wire_set32(head, (uint32_t)(prefix_len + len));
	wire_set32(head + 4, journal_record_crc(j->seed, prefix, prefix_len, body, len));
	/* What fails may be there in part: it does not check, and the next one replaces it. */
	r = write_at(j->fd, journal_place(j->number) + (off_t)j->at, iov, len ? 3 : 2);
	if (r)
		return r;
	j->at += need;
	j->appended++;
	return 0;
}

/* lock held. What is logged before it was done for requests of another connection. */
static int append_mark(struct journal *j)
{
	uint8_t prefix[JOURNAL_OPERATION] = { JOURNAL_OP };
	int r;

	if (!j->mark)
		return 0;
	wire_set64(prefix + 1, JOURNAL_OTHER_CONNECTION);
	r = append_record(j, prefix, sizeof(prefix), NULL, 0);
	j->mark = r != 0;
	return r;
}

int journal_append(struct journal *j, const struct buf *op, uint64_t made_ino)
{
	uint8_t prefix[JOURNAL_OPERATION] = { JOURNAL_OP };
	int r;

	if (!op->len)
		return 0;
	wire_set64(prefix + 1, journal_current_request());
	wire_set64(prefix + 9, made_ino);
	r = journal_open_request(j, made_ino);
	if (r)
		return r;
	pthread_mutex_lock(&j->lock);
	r = append_mark(j);
	if (!r && op->len > OPERATION_MAX)
		r = append_large(j, op);
	else if (!r)
		r = append_record(j, prefix, sizeof(prefix), op->data, op->len);
	if (!r)
		journal_note_logged(j);
	pthread_mutex_unlock(&j->lock);
	if (r)
		journal_close_request();
	return r;
}

int journal_append_epoch(struct journal *j, const struct journal_epoch *e)
{
	uint8_t payload[1 + JOURNAL_EPOCH_MAX] = { JOURNAL_EPOCH };
	size_t len = 1 + journal_epoch_put(e, payload + 1);
	int r;

	pthread_mutex_lock(&j->lock);
	r = append_record(j, payload, len, NULL, 0);
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_append_data(struct journal *j, uint64_t pos, const void *data, size_t len)
{
	uint8_t prefix[9] = { JOURNAL_DATA };
	int r;

	wire_set64(prefix + 1, pos);
	pthread_mutex_lock(&j->lock);
	j->has_data = true; /* before: room may be made by applying what came before */
	r = append_record(j, prefix, sizeof(prefix), data, len);
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_sync_data(struct journal *j)
{
	static const uint8_t payload[1] = { JOURNAL_DATA_SYNCED };
	int r = journal_sync_data_file(j);

	if (r)
		return r;
	pthread_mutex_lock(&j->lock);
	if (j->has_data)
		r = append_record(j, payload, sizeof(payload), NULL, 0);
	if (!r)
		j->has_data = false;
	pthread_mutex_unlock(&j->lock);
	return r;
}

/*
 * The file could not be synced, and what the disk has of it is not known any more.
 * Bring all of it to the database, which syncs its own. I/O under the lock: as in
 * apply_all.
 */
static int sync_to_database(struct journal *j)
{
	int r;

	pthread_mutex_lock(&j->lock);
	r = apply_all(j, false);
	if (!r) {
		j->synced = j->appended;
		j->sync_error = 0;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_sync(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	uint64_t upto = j->appended;
	bool done = j->synced >= upto, with_dir = !j->dir_synced;
	int r = j->sync_error, fd = j->fd;

	pthread_mutex_unlock(&j->lock);
	if (r)
		return sync_to_database(j);
	if (done)
		return 0;
	r = fdatasync(fd) < 0 ? -errno : 0;
	if (!r && with_dir)
		r = sync_parent_dir(j->dir_fd, j->name);
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

void journal_cut(struct journal *j, struct journal_cut *out)
{
	pthread_mutex_lock(&j->lock);
	*out = (struct journal_cut){ .applied = j->applied,
				     .min_epoch = j->min_epoch,
				     .number = j->number };
	if (j->fd >= 0 && j->number > j->applied) {
		out->len = j->at;
		out->full_len = j->number - 1 > j->applied ? j->full_len : 0;
	}
	pthread_mutex_unlock(&j->lock);
}

/* A record behind the last one of a segment that has `room` for it; its bytes, 0: it has none. */
static size_t put_data_synced(uint8_t *segment, size_t len, size_t room)
{
	const size_t need = journal_align(JOURNAL_RECORD + 1);
	uint8_t *at = segment + len;
	struct journal_head h;

	if (len + need > room || journal_head_get(segment, &h))
		return 0;
	at[JOURNAL_RECORD] = JOURNAL_DATA_SYNCED;
	wire_set32(at, 1);
	wire_set32(at + 4, journal_record_crc(journal_seed(&h), at + JOURNAL_RECORD, 1, NULL, 0));
	return need;
}

static int copy_segment(const struct journal *j, uint64_t number, size_t len, bool last, int to)
{
	uint8_t *data = bulk_alloc(JOURNAL_SEGMENT);
	int r = data ? journal_read_segment(j->fd, number, data, len) : -ENOMEM;

	if (!r && last)
		len += put_data_synced(data, len, JOURNAL_SEGMENT);
	if (!r)
		r = pwrite_all(to, data, len, (uint64_t)journal_place(number));
	bulk_free(data, JOURNAL_SEGMENT);
	return r;
}

int journal_copy(const struct journal *j, const struct journal_cut *c, int to)
{
	int r = ftruncate(to, 2l * JOURNAL_SEGMENT) < 0 ? -errno : 0;

	/* Held: the file stays, and neither place is given to another segment. */
	if (!r && c->full_len)
		r = copy_segment(j, c->number - 1, c->full_len, false, to);
	if (!r)
		r = copy_segment(j, c->number, c->len, true, to);
	return r;
}

int journal_settle(struct journal *j)
{
	int r;

	pthread_mutex_lock(&j->lock);
	r = apply_all(j, true);
	if (!r && j->fd >= 0) {
		r = journal_remove_file(j);
		j->synced = j->appended;
		j->has_data = false;
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}
