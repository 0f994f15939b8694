/*
 * Requests on their way to libfuse and replies on their way back.
 *
 * libfuse 3.14 knows less of the protocol than the kernel speaks, so some of it
 * is done here on the raw messages (include/uapi/linux/fuse.h, protocol 7.38):
 *   INIT       the reply gets features that libfuse does not echo
 *   SETXATTR   the extended form is shortened to the one libfuse decodes
 *   INTERRUPT  answers a request that is parked; never handed to libfuse, in whose
 *              list request numbers of different connections must not meet
 *   TMPFILE    handled in ops.c
 */
#include "fs/fuse/session_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "store/base/log.h"
#include "store/kv/meta.h"

#define MINOR_MIN 31 /* from 23 on libfuse makes no difference; Linux 5.15 has 34 */

/* Where the reply to the pool's own INIT goes instead of a connection. */
static _Thread_local struct session_pool *capture;

static ssize_t capture_reply(struct iovec *iov, int count)
{
	struct session_pool *sp = capture;
	size_t at = 0;

	for (int i = 0; i < count; i++) {
		if (at + iov[i].iov_len > sizeof(sp->init_reply))
			return -1;
		memcpy(sp->init_reply + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	sp->init_reply_len = at;
	return (ssize_t)at;
}

static ssize_t hook_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *out = iov[0].iov_base;

	(void)fd;
	(void)userdata;
	/* What a run could not read is no answer. A notification has no number. */
	assert(out->error || !out->unique || !want_count());
	return capture ? capture_reply(iov, count) : writev(session_current()->fd, iov, count);
}

static ssize_t hook_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)fd;
	(void)buf;
	(void)len;
	(void)userdata;
	errno = EAGAIN; /* requests are handed to libfuse, never read by it */
	return -1;
}

/*
 * libfuse takes one INIT and no other request before. So it gets one of a kernel that has
 * everything, before there is a connection: one that was adopted never sends its own again.
 */
static int negotiate(struct session_pool *sp)
{
	struct {
		struct fuse_in_header in;
		struct fuse_init_in init;
	} request = {
		.in = { .len = sizeof(request), .opcode = FUSE_INIT, .unique = 2 },
		.init = { .major = FUSE_KERNEL_VERSION,
			  .minor = FUSE_KERNEL_MINOR_VERSION,
			  .max_readahead = UINT32_MAX,
			  .flags = INT32_MAX & ~(uint32_t)FUSE_INIT_EXT },
	};
	struct fuse_buf fb = { .mem = &request, .size = sizeof(request) };
	struct fuse_out_header out;

	capture = sp;
	fuse_session_process_buf(sp->fuse, &fb);
	capture = NULL;
	if (sp->init_reply_len <= sizeof(out))
		return -EPROTO;
	memcpy(&out, sp->init_reply, sizeof(out));
	return out.error;
}

int wire_init(struct session_pool *sp, struct error *err)
{
	static const struct fuse_custom_io io = { .writev = hook_writev, .read = hook_read };
	char *argv[] = { "varve", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	int fd, r;

	sp->fuse = fuse_session_new(&args, &varve_ops, sizeof(varve_ops), NULL);
	fuse_opt_free_args(&args);
	if (!sp->fuse)
		return error_set(err, -ENOMEM, "libfuse refused to start");
	/* It wants a descriptor of its own, which is never used. */
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	r = fd < 0 ? -errno : fuse_session_custom_io(sp->fuse, &io, fd);
	if (r < 0)
		return error_set_errno(err, r, "libfuse refused its descriptor");
	r = negotiate(sp);
	return r < 0 ? error_set_errno(err, r, "libfuse refused its features") : 0;
}

void wire_fini(struct session_pool *sp)
{
	if (sp->fuse)
		fuse_session_destroy(sp->fuse);
}

static int note_any(void *arg, const char *name, const void *value, size_t len)
{
	(void)arg, (void)name, (void)value, (void)len;
	return 1;
}

/* Content may be, or come to be, in a bucket. */
static bool may_be_far(const struct session *s)
{
	struct store *store = s->view->store;

	return store_has_far(store) && meta_each(store->kv, META_REMOTE, "", note_any, NULL) != 0;
}

static void handle_init(struct session *s, void *request, size_t n)
{
	struct session_pool *sp = s->pool;
	const struct fuse_in_header *in = request;
	const struct fuse_init_in *init = (const void *)(in + 1);
	const uint32_t ours = FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT;
	const size_t head = sizeof(struct fuse_out_header);
	struct fuse_init_out reply;

	if (n < sizeof(*in) + offsetof(struct fuse_init_in, flags2))
		return;
	if (init->major != FUSE_KERNEL_VERSION || init->minor < MINOR_MIN) {
		log_error("the kernel's FUSE protocol %u.%u does not suit", init->major,
			  init->minor);
		session_reply_raw(in, -EPROTO, NULL, 0);
		return;
	}
	memset(&reply, 0, sizeof(reply));
	memcpy(&reply, sp->init_reply + head, MIN(sp->init_reply_len - head, sizeof(reply)));
	reply.max_readahead = MIN(reply.max_readahead, init->max_readahead);
	reply.flags |= ours;
	reply.flags &= init->flags;
	/* The kernel waits for asynchronous direct requests where no signal ends it, not SIGKILL.
	 */
	if (may_be_far(s))
		reply.flags &= ~(uint32_t)FUSE_ASYNC_DIO;
	shared_negotiate(s, init, &reply);
	session_reply_raw(in, 0, &reply, sizeof(reply));
}

/* Cut the two words out that SETXATTR_EXT added; the flag they carry is kept for ops. */
static size_t shorten_setxattr(void *request, size_t n)
{
	struct fuse_in_header *in = request;
	char *arg = (char *)(in + 1);

	if (n < sizeof(*in) + sizeof(struct fuse_setxattr_in))
		return n;
	/* Kept where ops.c finds it: in the header's padding. */
	in->padding = (uint16_t)((const struct fuse_setxattr_in *)arg)->setxattr_flags;
	memmove(arg + FUSE_COMPAT_SETXATTR_IN_SIZE, arg + sizeof(struct fuse_setxattr_in),
		n - sizeof(*in) - sizeof(struct fuse_setxattr_in));
	n -= sizeof(struct fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
	in->len = (uint32_t)n;
	return n;
}

static void handle_interrupt(struct session *s, const void *request, size_t n)
{
	const struct fuse_in_header *in = request;
	const struct fuse_interrupt_in *arg = (const void *)(in + 1);

	if (n < sizeof(*in) + sizeof(*arg) || !parked_interrupt(s, arg->unique))
		return;
	session_reply_raw(&(struct fuse_in_header){ .unique = arg->unique }, -EINTR, NULL, 0);
}

static void run(struct session *s, void *request, size_t n)
{
	const struct fuse_in_header *in = request;
	struct fuse_buf fb = { .mem = request, .size = n };

	if (in->opcode == FUSE_TMPFILE)
		ops_tmpfile(s, request, n);
	else
		fuse_session_process_buf(s->pool->fuse, &fb);
}

/* False: daemons have died of it, and it is answered. */
static bool begin(struct session *s, const struct fuse_in_header *in)
{
	if (request_begin(s, in))
		return true;
	session_reply_raw(in, -EIO, NULL, 0);
	return false;
}

void wire_again(struct session *s, void *request, size_t n)
{
	const struct fuse_in_header *in = request;

	session_set_current(s, in);
	if (begin(s, in) && (in->opcode != FUSE_OPEN || !shared_handle(s, request, n)))
		run(s, request, n);
	passthrough_answered();
	request_end(s);
	journal_set_request(0);
}

static void handle(struct session *s, void *request, size_t n)
{
	struct fuse_in_header *in = request;

	want_begin(NULL, 0);
	if (shared_handle(s, request, n))
		return;
	shared_strip(s, request, n);
	if (ops_resent(s, request, n))
		return;
	switch (in->opcode) {
	case FUSE_INIT:
		handle_init(s, request, n);
		return;
	case FUSE_INTERRUPT:
		handle_interrupt(s, request, n);
		return;
	case FUSE_SETXATTR:
		n = shorten_setxattr(request, n);
		break;
	default:
		break;
	}
	run(s, request, n);
}

void wire_handle(struct session *s, void *request, size_t n)
{
	if (n < sizeof(struct fuse_in_header))
		return;
	session_set_current(s, request);
	if (begin(s, request))
		handle(s, request, n);
	passthrough_answered(); /* or nothing was counted */
	request_end(s);
	journal_set_request(0); /* it is answered, or others will do it */
}
