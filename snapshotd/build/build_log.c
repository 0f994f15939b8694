/*
 * A reader has the file open itself and reads up to the size that the writer
 * has published, so that a slow reader costs the build nothing and a log of any
 * length takes no memory.
 *
 * Lock: build_log.lock guards the size and the end, and makes an event's write
 * one piece. The write is done under it: events of two streams keep the order
 * in which they came, and a write to the page cache is short.
 */
#include "snapshotd/build/build_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/sync_dir.h"
#include "store/base/utf8.h"
#include "store/base/write_all.h"

#define POLL_MS 200
#define READ_SIZE 65536u

struct build_log {
	char *path;
	int fd;
	pthread_mutex_t lock;
	pthread_cond_t grown;
	uint64_t size;	/* guarded; whole events only */
	bool ended;	/* guarded */
	bool truncated; /* guarded; output was dropped, and the log says so */
	bool failed;	/* guarded; a write has failed */
};

/* ---- lines ---- */

/* The longest piece of at most BUILD_LOG_LINE_MAX bytes that ends with a character. */
static size_t piece(const uint8_t *text, size_t len)
{
	size_t n = BUILD_LOG_LINE_MAX;

	if (len <= n)
		return len;
	while (n > BUILD_LOG_LINE_MAX - 4 && (text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

/* Emit the first len bytes of the line, and drop them. */
static int emit(struct line_splitter *ls, size_t len)
{
	CLEANUP(buf_fini_p) struct buf valid = BUF_INIT;
	struct buf *b = &ls->line;
	size_t done = 0;
	int rc;

	for (size_t i = 0; i < len; i++)
		if (b->data[i] == 0)
			b->data[i] = 0xff; /* no character, as is said of it then */
	rc = utf8_append_valid(&valid, (const char *)b->data, len);
	if (rc < 0)
		return rc;
	do {
		size_t n = piece(valid.data + done, valid.len - done);

		ls->emit(ls->arg, n ? (const char *)valid.data + done : "", n);
		done += n;
	} while (done < valid.len);
	if (len)
		memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
	return 0;
}

static int add_bytes(struct line_splitter *ls, const char *data, size_t len)
{
	int rc = 0;

	while (len > 0 && rc == 0) {
		size_t n = MIN(len, (size_t)BUILD_LOG_LINE_MAX);

		rc = buf_append(&ls->line, data, n);
		data += n;
		len -= n;
		while (rc == 0 && ls->line.len > BUILD_LOG_LINE_MAX)
			rc = emit(ls, piece(ls->line.data, ls->line.len));
	}
	return rc;
}

int line_splitter_feed(struct line_splitter *ls, const char *data, size_t len)
{
	const char *end = data + len;
	int rc = 0;

	while (data < end && rc == 0) {
		const char *p = data;

		if (ls->after_cr && *data == '\n') { /* the line has been emitted */
			ls->after_cr = false;
			data++;
			continue;
		}
		while (p < end && *p != '\n' && *p != '\r')
			p++;
		rc = add_bytes(ls, data, (size_t)(p - data));
		ls->after_cr = p < end && *p == '\r';
		if (rc == 0 && p < end && (*p == '\n' || ls->line.len))
			rc = emit(ls, ls->line.len);
		else if (p < end)
			ls->after_cr = false; /* an empty line that "\r\n" ends is one */
		data = p < end ? p + 1 : p;
	}
	return rc;
}

void line_splitter_fini(struct line_splitter *ls)
{
	if (ls->line.len && emit(ls, ls->line.len) < 0)
		log_debug("out of memory: the end of a line of output is lost");
	buf_fini(&ls->line);
}

/* ---- writing ---- */

/* The bytes of its whole events, or -errno. */
static int64_t whole_events(int fd)
{
	char tail[4096];
	off_t end = lseek(fd, 0, SEEK_END);

	while (end > 0) {
		const off_t from = MAX(end - (off_t)sizeof(tail), (off_t)0);
		const ssize_t n = pread(fd, tail, (size_t)(end - from), from);
		const char *nl = n > 0 ? memrchr(tail, '\n', (size_t)n) : NULL;

		if (nl)
			return from + (nl - tail) + 1;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		end = from;
	}
	return end < 0 ? -errno : 0;
}

static int keep_events(struct build_log *l)
{
	const int64_t size = whole_events(l->fd);

	if (size < 0)
		return (int)size;
	l->size = (uint64_t)size;
	return ftruncate(l->fd, (off_t)size) < 0 ? -errno : 0;
}

int build_log_open(const char *path, bool go_on, struct build_log **out, struct error *err)
{
	struct build_log *l = calloc(1, sizeof(*l));
	int rc;

	if (!l || !(l->path = strdup(path))) {
		free(l);
		return error_set(err, -ENOMEM, "out of memory");
	}
	l->fd = open(path, O_RDWR | O_CREAT | (go_on ? 0 : O_TRUNC) | O_CLOEXEC, 0600);
	rc = l->fd < 0 ? -errno : go_on ? keep_events(l) : 0;
	if (rc < 0) {
		error_set_errno(err, rc, "cannot make the log %s", path);
		if (l->fd >= 0)
			close(l->fd);
		free(l->path);
		free(l);
		return rc;
	}
	pthread_mutex_init(&l->lock, NULL);
	cond_init_monotonic(&l->grown);
	*out = l;
	return 0;
}

void build_log_free(struct build_log *l)
{
	if (!l)
		return;
	if (close(l->fd) < 0)
		log_warn("%s: %s", l->path, strerror(errno));
	pthread_cond_destroy(&l->grown);
	pthread_mutex_destroy(&l->lock);
	free(l->path);
	free(l);
}

static int event_line(unsigned step, const char *type, enum build_stream stream, const char *text,
		      size_t len, struct buf *out)
{
	static const char *const names[] = { "stdout", "stderr", "info" };
	json_t *j = json_pack("{s:i, s:s, s:s%, s:s}", "step", (int)step, "type", type, "message",
			      text, len, "stream", names[stream]);
	char *line = j ? json_dumps(j, JSON_COMPACT) : NULL;
	int rc = line ? buf_append_str(out, line) : -ENOMEM;

	free(line);
	json_decref(j);
	return rc < 0 ? rc : buf_append(out, "\n", 1);
}

/* What a failed write leaves behind the published size, the next one overwrites. */
static void append_locked(struct build_log *l, const struct buf *line)
{
	int rc = pwrite_all(l->fd, line->data, line->len, l->size);

	if (rc == 0) {
		l->size += line->len;
		pthread_cond_broadcast(&l->grown);
		return;
	}
	if (!l->failed)
		log_warn("%s: %s: events of the build are lost", l->path, strerror(-rc));
	l->failed = true;
}

/* Whether there is room for output; says once that there is none. */
static bool has_room_locked(struct build_log *l, unsigned step)
{
	static const char note[] = "the log is too long: further output is left out";
	CLEANUP(buf_fini_p) struct buf line = BUF_INIT;

	if (l->size < BUILD_LOG_OUTPUT_MAX)
		return true;
	if (!l->truncated &&
	    event_line(step, "info", BUILD_INFO, note, sizeof(note) - 1, &line) == 0)
		append_locked(l, &line);
	l->truncated = true;
	return false;
}

void build_log_add(struct build_log *l, unsigned step, const char *type, enum build_stream stream,
		   const char *text, size_t len)
{
	CLEANUP(buf_fini_p) struct buf line = BUF_INIT;

	if (event_line(step, type, stream, text, len, &line) < 0) {
		log_warn("%s: out of memory: an event of the build is lost", l->path);
		return;
	}
	pthread_mutex_lock(&l->lock);
	if (!l->ended && (stream == BUILD_INFO || has_room_locked(l, step)))
		append_locked(l, &line);
	pthread_mutex_unlock(&l->lock);
}

void build_log_sync(struct build_log *l)
{
	int rc = fsync(l->fd) < 0 ? -errno : sync_parent_dir(AT_FDCWD, l->path);

	if (rc < 0)
		log_warn("%s: %s: a power cut may lose events of the build", l->path,
			 strerror(-rc));
}

void build_log_end(struct build_log *l)
{
	pthread_mutex_lock(&l->lock);
	l->ended = true;
	/* So that the file ends where the log does. */
	if (l->failed && ftruncate(l->fd, (off_t)l->size) < 0)
		log_warn("%s: %s", l->path, strerror(errno));
	pthread_cond_broadcast(&l->grown);
	pthread_mutex_unlock(&l->lock);
}

/* ---- reading ---- */

struct reader {
	int fd;
	uint64_t pos;
	struct buf rest; /* of a line that was not read whole */
	build_event_fn fn;
	void *arg;
};

/* Hand out the whole lines of rest. */
static void hand_out(struct reader *r)
{
	const char *data = (const char *)r->rest.data, *nl;
	size_t left = r->rest.len;

	while (left && (nl = memchr(data, '\n', left))) {
		size_t n = (size_t)(nl - data);
		json_t *event = json_loadb(data, n, 0, NULL);

		if (json_is_object(event) && r->fn)
			r->fn(r->arg, event);
		json_decref(event);
		data += n + 1;
		left -= n + 1;
	}
	if (left)
		memmove(r->rest.data, data, left);
	r->rest.len = left;
}

/* Up to `end`, or as far as the file goes. */
static int read_up_to(struct reader *r, uint64_t end)
{
	while (r->pos < end) {
		size_t want = (size_t)MIN((uint64_t)READ_SIZE, end - r->pos);
		ssize_t n;

		if (buf_reserve(&r->rest, want) < 0)
			return -ENOMEM;
		n = pread(r->fd, r->rest.data + r->rest.len, want, (off_t)r->pos);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r->rest.len += (size_t)n;
		r->pos += (uint64_t)n;
		hand_out(r);
	}
	return 0;
}

/* Wait until there is more than pos. 1: there is; 0: there will be none; -ECANCELED. */
static int wait_for_more(struct build_log *l, uint64_t pos, bool (*cancelled)(void *arg), void *arg,
			 uint64_t *out_size)
{
	int rc = -EAGAIN;

	while (rc == -EAGAIN) {
		struct timespec until;

		if (cancelled && cancelled(arg))
			return -ECANCELED;
		until = monotonic_after_ms(POLL_MS);
		pthread_mutex_lock(&l->lock);
		if (l->size == pos && !l->ended)
			pthread_cond_timedwait(&l->grown, &l->lock, &until);
		*out_size = l->size;
		if (l->size > pos)
			rc = 1;
		else if (l->ended)
			rc = 0;
		pthread_mutex_unlock(&l->lock);
	}
	return rc;
}

int build_log_follow(struct build_log *l, build_event_fn fn, bool (*cancelled)(void *arg),
		     void *arg)
{
	struct reader r = { .fd = open(l->path, O_RDONLY | O_CLOEXEC), .fn = fn, .arg = arg };
	uint64_t size = 0;
	int rc;

	if (r.fd < 0)
		return -errno;
	do {
		rc = wait_for_more(l, r.pos, cancelled, arg, &size);
		if (rc > 0)
			rc = read_up_to(&r, size) < 0 ? -EIO : 1;
	} while (rc > 0);
	close(r.fd);
	buf_fini(&r.rest);
	return rc;
}

int build_log_replay(const char *path, build_event_fn fn, void *arg)
{
	struct reader r = { .fd = open(path, O_RDONLY | O_CLOEXEC), .fn = fn, .arg = arg };
	int rc;

	if (r.fd < 0)
		return -errno;
	rc = read_up_to(&r, UINT64_MAX);
	close(r.fd);
	buf_fini(&r.rest);
	return rc;
}
