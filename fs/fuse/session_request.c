/* The request that a thread handles, and its answer. */
#include "fs/fuse/session_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "store/base/log.h"

/* max_write of 1 MiB, and the header libfuse allows for. */
#define REQUEST_MAX ((1u << 20) + 4096)

/* Copying so much takes about as long as to wake another thread. */
#define LONG_BYTES (64u << 10)

static _Thread_local struct session *current;
static _Thread_local const struct fuse_in_header *current_request;

struct session *session_current(void)
{
	return current;
}

const struct fuse_in_header *session_current_request(void)
{
	return current_request;
}

void session_set_current(struct session *s, const void *request)
{
	current = s;
	current_request = request;
	/* What this thread changes meanwhile is done for the request. */
	journal_set_request(current_request ? current_request->unique & ~SESSION_RESENT : 0);
}

bool request_begin(struct session *s, const void *request)
{
	const struct fuse_in_header *in = request;

	if (suspects_begin(s->pool->suspects, s->kept_as, in->unique & ~SESSION_RESENT,
			   in->unique & SESSION_RESENT))
		return true;
	log_error("%s: a request (%u of inode %llu) is answered with EIO: three daemons have died "
		  "when they had begun with it",
		  s->mountpoint, in->opcode, (unsigned long long)passthrough_ino(in->nodeid));
	return false;
}

void request_end(struct session *s)
{
	suspects_end(s->pool->suspects);
}

bool request_takes_long(const void *request, size_t n)
{
	const struct fuse_in_header *in = request;
	const struct fuse_read_in *read = (const void *)(in + 1);

	if (n < sizeof(*in))
		return false;
	switch (in->opcode) {
	case FUSE_READ:
		return n >= sizeof(*in) + sizeof(*read) && read->size >= LONG_BYTES;
	case FUSE_WRITE:
		return n >= LONG_BYTES;
	case FUSE_READDIRPLUS:
	case FUSE_FALLOCATE:
		return true;
	default:
		return false;
	}
}

bool request_is_write(const void *request, size_t n)
{
	const struct fuse_in_header *in = request;

	return n >= sizeof(*in) && in->opcode == FUSE_WRITE;
}

size_t session_buffer_size(void)
{
	return REQUEST_MAX;
}

static pthread_key_t reply_key;
static pthread_once_t reply_once = PTHREAD_ONCE_INIT;

static void make_reply_key(void)
{
	pthread_key_create(&reply_key, free);
}

void *session_reply_buffer(size_t len)
{
	void *p;

	if (len > REQUEST_MAX)
		return NULL;
	pthread_once(&reply_once, make_reply_key);
	p = pthread_getspecific(reply_key);
	if (!p) {
		p = malloc(REQUEST_MAX);
		pthread_setspecific(reply_key, p);
	}
	return p;
}

int session_reply_raw(const struct fuse_in_header *in, int error, const void *payload, size_t len)
{
	struct fuse_out_header out = { .error = error, .unique = in->unique };

	assert(error || !want_count()); /* what a run could not read is no answer */
	struct iovec iov[2] = { { &out, sizeof(out) }, { (void *)payload, len } };

	out.len = (uint32_t)(sizeof(out) + len);
	return writev(current->fd, iov, 2) < 0 ? -errno : 0;
}
