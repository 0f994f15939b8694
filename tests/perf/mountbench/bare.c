/* The least that a mount over FUSE can cost: libfuse, one thread, an empty root directory. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include <fuse_lowlevel.h>

#include "tests/perf/mountbench/mountbench.h"

struct bare {
	struct fuse_session *session;
	pthread_t thread;
};

static void bare_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = { .st_ino = ino, .st_mode = S_IFDIR | 0755, .st_nlink = 2 };

	(void)fi;
	fuse_reply_attr(req, &st, 1000);
}

static const struct fuse_lowlevel_ops bare_ops = { .getattr = bare_getattr };

static void *serve(void *arg)
{
	fuse_session_loop(arg);
	return NULL;
}

void bare_mount(struct subject *s)
{
	struct bare *b = calloc(1, sizeof(*b));
	char *argv[] = { (char *)"mountbench", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	if (!b)
		die("no memory");
	s->state = b;
	b->session = fuse_session_new(&args, &bare_ops, sizeof(bare_ops), NULL);
	if (!b->session || fuse_session_mount(b->session, s->dir) != 0)
		die("a bare FUSE mount at %s", s->dir);
	errno = pthread_create(&b->thread, NULL, serve, b->session);
	if (errno)
		die("a thread");
}

void bare_unmount(struct subject *s)
{
	struct bare *b = s->state;

	if (umount2(s->dir, 0) < 0) /* ends the loop */
		die("unmounting %s", s->dir);
	pthread_join(b->thread, NULL);
	fuse_session_destroy(b->session);
	free(b);
}
