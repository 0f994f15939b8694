#include "tools/commands/exec_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "tools/cli/client.h"
#include "tools/libvarve/retry.h"

#define AGAIN_PAUSE_MS 200

struct exec_input {
	struct client *client; /* the thread's until it is joined */
	struct buf path;
	int stop[2]; /* its write end is closed at the end */
	atomic_bool stopping;
	atomic_bool open;   /* some of it has been read */
	atomic_bool failed; /* for `why`, which is constant from then on */
	struct error why;
	int64_t again_end_ms; /* of trying again; 0: it went well so far */
	pthread_t thread;
};

bool exec_input_is_there(void)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) < 0 || isatty(STDIN_FILENO))
		return false;
	return !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3);
}

/* Until there is some, or an end. -EINTR: the program has ended. */
static int wait_for_input(const struct exec_input *in)
{
	struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = in->stop[0] } };

	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents)
			return -EINTR;
		if (p[0].revents)
			return 0;
	}
}

static ssize_t on_read(void *arg, void *data, size_t size)
{
	for (;;) {
		int r = wait_for_input(arg);

		if (r < 0)
			return r;

		ssize_t n = read(STDIN_FILENO, data, size);

		if (n > 0)
			atomic_store(&((struct exec_input *)arg)->open, true);
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

static bool is_stopping(void *arg)
{
	struct exec_input *in = arg;

	return atomic_load(&in->stopping);
}

/*
 * Nothing has been read, so nothing is lost: whether to try again, after a pause. Not for longer
 * than the program itself is waited for where no daemon answers.
 */
static bool wait_to_try_again(struct exec_input *in)
{
	struct pollfd stopped = { .fd = in->stop[0] };
	int64_t now = monotonic_ms();

	if (atomic_load(&in->open) || !client_may_again(in->client))
		return false;
	if (!in->again_end_ms)
		in->again_end_ms = now + retry_policy_get().for_ms;
	return now < in->again_end_ms && poll(&stopped, 1, AGAIN_PAUSE_MS) == 0;
}

/*
 * A program may end before its input: that is no failure. But if a daemon went while it was asked
 * for, "has been sent already" means what that one has not passed on.
 */
static bool is_good(const struct exec_input *in, int r)
{
	return r == 0 || r == -ENOENT || (r == -EEXIST && !in->again_end_ms);
}

static void *input_main(void *arg)
{
	struct exec_input *in = arg;
	struct error err = ERROR_INIT;
	struct client_request rq = { .method = "POST",
				     .path = (const char *)in->path.data,
				     .upload = true,
				     .upload_type = "application/octet-stream",
				     .on_read = on_read,
				     .cancelled = is_stopping,
				     .arg = in };
	int r;

	if (wait_for_input(in) == -EINTR)
		return NULL;
	do
		r = client_run(in->client, &rq, NULL, &err);
	while (r < 0 && wait_to_try_again(in));
	if (is_good(in, r)) {
		atomic_store(&in->open, false);
	} else if (r != -EINTR && !atomic_load(&in->stopping)) {
		error_set(&in->why, r, "the command's input was not passed on whole: %s",
			  error_text(&err));
		atomic_store(&in->failed, true);
	}
	return NULL;
}

static void input_free(struct exec_input *in)
{
	for (int i = 0; i < 2; i++)
		if (in->stop[i] >= 0)
			close(in->stop[i]);
	client_free(in->client);
	buf_fini(&in->path);
	free(in);
}

/* Signals are the main thread's, whose calls they interrupt. */
static int start_thread(struct exec_input *in)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&in->thread, NULL, input_main, in);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

int exec_input_start(const struct address *daemon, const char *sandbox, const char *exec_id,
		     struct exec_input **out, struct error *err)
{
	struct exec_input *in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return -ENOMEM;
	in->stop[0] = in->stop[1] = -1;
	in->client = client_new(daemon);
	r = in->client ? 0 : -ENOMEM;
	if (r == 0 && pipe2(in->stop, O_CLOEXEC) < 0)
		r = error_set_errno(err, -errno, "cannot make a pipe");
	if (r == 0 &&
	    (client_path(&in->path, "/api/sandboxes/%s/exec/%s/stdin", sandbox, exec_id) < 0 ||
	     !buf_cstr(&in->path)))
		r = -ENOMEM;
	if (r == 0 && (r = start_thread(in)) < 0)
		error_set_errno(err, r, "cannot start a thread");
	if (r < 0) {
		input_free(in);
		return r;
	}
	*out = in;
	return 0;
}

bool exec_input_is_open(const struct exec_input *in)
{
	return in && atomic_load(&in->open);
}

bool exec_input_has_failed(const struct exec_input *in, struct error *why)
{
	if (!in || !atomic_load(&in->failed))
		return false;
	*why = in->why;
	return true;
}

void exec_input_stop(struct exec_input *in)
{
	if (!in)
		return;
	atomic_store(&in->stopping, true);
	close(in->stop[1]);
	in->stop[1] = -1;
	pthread_join(in->thread, NULL);
	input_free(in);
}
