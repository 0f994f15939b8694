/* A session from its mount to its end. */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void session_destroy(struct session *s)
{
	pthread_cond_destroy(&s->idle);
	ahead_fini(&s->ahead);
	free(s->mountpoint);
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

int session_start(struct session_pool *sp, struct view *v, const struct session_options *opt,
		  struct session **out, struct error *err)
{
	struct session *s = calloc(1, sizeof(*s));
	int mount_fd = -1, r;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->pool = sp;
	s->view = v;
	s->fd = -1;
	s->on_end = opt->on_end;
	s->arg = opt->arg;
	v->before_wait = poll_before_wait;
	ahead_init(&s->ahead);
	pthread_cond_init(&s->idle, NULL);
	s->mountpoint = strdup(opt->mountpoint);
	r = s->mountpoint ? session_take_slot(sp, s) : -ENOMEM;
	if (r) {
		session_destroy(s);
		return error_set(err, r, "out of memory");
	}
	/* The place comes last: what fails before it leaves no mount behind. */
	r = session_open_mount(s, opt, &mount_fd, err);
	if (!r)
		r = begin_to_serve(s, opt, err);
	if (!r) {
		r = kernel_mount_place(mount_fd, opt->mountpoint);
		if (r)
			error_set_errno(err, r, "cannot mount at %s", opt->mountpoint);
	}
	if (r)
		session_stop(s); /* before its mount ends, so that on_end is not called */
	else
		*out = s;
	if (mount_fd >= 0)
		close(mount_fd);
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
	passthrough_free(s->passthrough);
	if (s->fd >= 0)
		close(s->fd); /* the last descriptor: aborts what is still mounted */
	session_destroy(s);
}
