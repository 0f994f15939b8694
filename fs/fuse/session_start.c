/* A session from its mount to its end. */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fs/host/keeper.h"
#include "store/base/log.h"

static void session_destroy(struct session *s)
{
	pthread_cond_destroy(&s->idle);
	ahead_fini(&s->ahead);
	free(s->mountpoint);
	free(s->kept_as);
	free(s->opens_kept_as);
	free(s);
}

static int begin_to_serve(struct session *s, const struct session_options *opt, struct error *err)
{
	int r;

	if (opt->shared && s->pool->files) {
		s->passthrough = passthrough_new(s->view, s->pool->files, s->fd);
		if (!s->passthrough)
			return error_set(err, -ENOMEM, "out of memory");
	}
	r = session_arm(s, EPOLL_CTL_ADD);
	return r ? error_set_errno(err, r, "cannot watch a FUSE connection") : 0;
}

/* A session without a connection. */
static int make(struct session_pool *sp, struct view *v, const struct session_options *opt,
		struct session **out, struct error *err)
{
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->pool = sp;
	s->view = v;
	s->fd = -1;
	s->on_end = opt->on_end;
	s->arg = opt->arg;
	v->before_wait = poll_before_wait;
	v->others_told = false;
	ahead_init(&s->ahead);
	pthread_cond_init(&s->idle, NULL);
	s->mountpoint = strdup(opt->mountpoint);
	r = s->mountpoint ? session_take_slot(sp, s) : -ENOMEM;
	if (r) {
		session_destroy(s);
		return error_set(err, r, "out of memory");
	}
	*out = s;
	return 0;
}

/* Under what a keeper has it. */
static int name_kept(struct session *s, const struct session_options *opt)
{
	s->kept_as = strdup(opt->keep_as);
	if (!s->kept_as || asprintf(&s->opens_kept_as, "%s" SESSION_KEPT_OPENS, opt->keep_as) < 0) {
		s->opens_kept_as = NULL;
		return -ENOMEM;
	}
	return 0;
}

/*
 * Before it has a place, so that it never is in use and not kept; what is known of its open
 * files before it.
 */
static void keep(struct session *s, const struct session_options *opt)
{
	struct keeper *k = s->pool->keeper;

	if (!opt->keep_as || !k)
		return;
	int r = name_kept(s, opt);
	bool has_opens = false;

	if (!r && s->passthrough) {
		r = keeper_put(k, s->opens_kept_as, passthrough_opens_fd(s->passthrough));
		has_opens = !r;
	}
	if (!r)
		r = keeper_put(k, s->kept_as, s->fd);
	s->is_kept = !r;
	if (r && has_opens) /* of no use alone */
		keeper_drop(k, s->opens_kept_as);
	if (r)
		log_warn("%s ends with this process: it cannot be kept: %s", s->mountpoint,
			 strerror(-r));
}

int session_start(struct session_pool *sp, struct view *v, const struct session_options *opt,
		  struct session **out, struct error *err)
{
	struct session *s;
	int mount_fd = -1, r = make(sp, v, opt, &s, err);

	if (r)
		return r;
	/* The place comes last: what fails before it leaves no mount behind. */
	r = session_open_mount(s, opt, &mount_fd, err);
	if (!r)
		r = begin_to_serve(s, opt, err);
	if (!r) {
		keep(s, opt);
		r = session_place(mount_fd, opt, err);
	}
	if (r)
		session_stop(s); /* before its mount ends, so that on_end is not called */
	else
		*out = s;
	if (mount_fd >= 0)
		close(mount_fd);
	return r;
}

/* What a former process knew of open files; none in cache mode `private`. */
static int adopt_opens(struct session *s, const struct session_waiting *waiting, struct error *err)
{
	int fd = keeper_take(s->pool->keeper, s->opens_kept_as), r;

	if (fd < 0)
		return fd == -ENOENT ? 0 : error_set_errno(err, fd, "the table of open files");
	if (!s->pool->files) {
		close(fd);
		return error_set(
			err, -ENOTSUP,
			"it is in cache mode \"shared\", and this daemon has no page cache "
			"to share");
	}
	r = passthrough_adopt(s->view, s->pool->files, s->fd, fd, &s->passthrough);
	if (!r)
		s->is_shared = passthrough_is_negotiated(s->passthrough);
	if (!r && waiting)
		passthrough_forget_answered(s->passthrough, waiting->uniques, waiting->n);
	if (r == -EPROTO)
		return error_set(err, r,
				 "its open files were noted by another version, in another layout");
	return r ? error_set_errno(err, r, "its open files") : 0;
}

int session_adopt(struct session_pool *sp, struct view *v, const struct session_options *opt,
		  int fuse_fd, struct session **out, bool *out_placed, struct error *err)
{
	struct session *s;
	int r = make(sp, v, opt, &s, err);

	if (r)
		return r;
	s->fd = fuse_fd;
	s->is_adopted = true;
	s->is_kept = true;
	v->others_told = true;
	r = session_find_places(s, opt, out_placed, err);
	if (!r) {
		r = name_kept(s, opt);
		if (r)
			error_set(err, r, "out of memory");
	}
	if (!r)
		r = adopt_opens(s, opt->waiting, err);
	if (!r) {
		/* Before a thread reads: what it has read would be sent to a second one. */
		r = session_resume(s);
		if (!r)
			r = session_arm(s, EPOLL_CTL_ADD);
		if (r)
			error_set_errno(err, r, "its FUSE connection");
	}
	if (r) {
		s->fd = -1; /* it stays the caller's */
		epoll_ctl(sp->epoll_fd, EPOLL_CTL_DEL, fuse_fd, NULL);
		session_stop(s);
	} else {
		*out = s;
	}
	return r;
}

void session_stop(struct session *s)
{
	if (!s)
		return;
	shared_end(s);
	if (!atomic_exchange(&s->ended, true) && s->fd >= 0)
		epoll_ctl(s->pool->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	parked_end(s);
	session_leave_slot(s);
	const bool has_opens = s->passthrough != NULL;

	passthrough_free(s->passthrough);
	if (s->kept_as && s->fd >= 0)
		keeper_drop(s->pool->keeper, s->kept_as);
	if (has_opens && s->opens_kept_as)
		keeper_drop(s->pool->keeper, s->opens_kept_as);
	if (s->fd >= 0)
		close(s->fd); /* the last descriptor: aborts what is still mounted */
	session_destroy(s);
}
