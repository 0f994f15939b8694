#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "store/base/clock.h"
#include "store/bucket/s3_cred_internal.h"

#define LOOK_MS 1000  /* between looks at a file */
#define AGAIN_MS 5000 /* after a source that gave none */
#define RENEW_MS 1000 /* least between renewals, however short the lives */

enum source { FROM_ENV, FROM_FILE, FROM_PROCESS, FROM_CONTAINER, FROM_METADATA };

struct s3_cred {
	enum source source;
	char *path;	/* of the file */
	char *profile;	/* in it */
	char *command;	/* of the process */
	char text[256]; /* for a person */
	s3_cred_http_fn http;
	void (*changed)(void *arg);
	void *arg;

	pthread_mutex_t
		lock; /* for all below; held while a file is read, never while a source is asked */
	pthread_cond_t wake;
	struct s3_keys keys; /* generation 0: none yet */
	struct error why;    /* why there are none, or no new ones */
	struct timespec mtime;
	int64_t looked_ms;
	bool asking, wanted;  /* of the thread */
	_Atomic bool closing; /* written under the lock */
	bool refused;	      /* the present ones: all wait for the next */
	bool has_thread;
	pthread_t thread;
};

/* --- files --- */

static int read_file(const char *path, struct buf *out, struct timespec *mtime, struct error *err)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	int rc;

	if (!f)
		return error_set_errno(err, -errno, "%.200s", path);
	rc = fstat(fileno(f), &st) < 0 ? -errno : buf_reserve(out, S3_CRED_TEXT_MAX + 1);
	if (rc == 0) {
		out->len = fread(out->data, 1, S3_CRED_TEXT_MAX + 1, f);
		rc = ferror(f) ? -EIO : out->len > S3_CRED_TEXT_MAX ? -EFBIG : 0;
		*mtime = st.st_mtim;
	}
	(void)fclose(f);
	if (rc == 0 && (memchr(out->data, 0, out->len) || !buf_cstr(out)))
		rc = -EBADMSG;
	return rc < 0 ? error_set_errno(err, rc, "%.200s", path) : 0;
}

static int load_file(const struct s3_cred *c, struct s3_keys *out, char **out_process,
		     struct timespec *mtime, struct error *err)
{
	struct buf text = BUF_INIT;
	int rc = read_file(c->path, &text, mtime, err);

	if (rc == 0) {
		rc = s3_cred_parse_file((const char *)text.data, c->profile, out, out_process, err);
		if (rc < 0)
			error_prefix(err, rc, "%.200s", c->path);
	}
	if (text.data)
		explicit_bzero(text.data, text.len);
	buf_fini(&text);
	return rc;
}

static bool same_keys(const struct s3_keys *a, const struct s3_keys *b)
{
	return strcmp(a->access_key, b->access_key) == 0 && strcmp(a->secret, b->secret) == 0 &&
	       strcmp(a->token ? a->token : "", b->token ? b->token : "") == 0;
}

/* Takes k over. The same ones again are no new generation. */
static void adopt_locked(struct s3_cred *c, struct s3_keys *k)
{
	k->generation = c->keys.generation + (same_keys(&c->keys, k) && c->keys.generation ? 0 : 1);
	s3_keys_fini(&c->keys);
	c->keys = *k;
	*k = (struct s3_keys){ 0 };
	c->why = (struct error)ERROR_INIT;
}

/* Look at the file, and read it if it changed (or anyway). What cannot be read leaves the old. */
static void look_at_file_locked(struct s3_cred *c, bool anyway)
{
	struct s3_keys k = { 0 };
	char *process = NULL;
	struct stat st;

	if (!anyway && monotonic_coarse_ms() - c->looked_ms < LOOK_MS)
		return;
	c->looked_ms = monotonic_coarse_ms();
	if (!anyway && stat(c->path, &st) == 0 && st.st_mtim.tv_sec == c->mtime.tv_sec &&
	    st.st_mtim.tv_nsec == c->mtime.tv_nsec)
		return;
	if (load_file(c, &k, &process, &c->mtime, &c->why) == 0 && !process)
		adopt_locked(c, &k);
	free(process);
}

/* --- sources that are asked --- */

static int ask_source(const struct s3_cred *c, struct s3_keys *out, struct error *err)
{
	switch (c->source) {
	case FROM_PROCESS:
		return s3_cred_ask_process(c->command, &c->closing, out, err);
	case FROM_CONTAINER:
		return s3_cred_ask_container(c->http, out, err);
	default:
		return s3_cred_ask_metadata(c->http, out, err);
	}
}

/* Milliseconds until the present ones have lived for three quarters of what they had left. */
static int64_t renewal_ms(const struct s3_keys *k)
{
	int64_t left = k->expires - time(NULL);

	if (!k->expires)
		return INT64_MAX;
	return MAX(left * 750, (int64_t)RENEW_MS);
}

static void wait_until_locked(struct s3_cred *c, int64_t when_ms)
{
	while (!c->closing && !c->wanted && monotonic_ms() < when_ms) {
		struct timespec t =
			monotonic_after_ms(MIN(when_ms - monotonic_ms(), (int64_t)3600000));

		pthread_cond_timedwait(&c->wake, &c->lock, &t);
	}
}

static void *renew_loop(void *arg)
{
	struct s3_cred *c = arg;

	pthread_mutex_lock(&c->lock);
	while (!c->closing) {
		struct s3_keys k = { 0 };
		struct error err = ERROR_INIT;

		c->wanted = false;
		c->asking = true;
		pthread_mutex_unlock(&c->lock);
		int rc = ask_source(c, &k, &err);
		pthread_mutex_lock(&c->lock);
		int64_t wait = rc == 0 ? renewal_ms(&k) : AGAIN_MS;
		if (rc == 0)
			adopt_locked(c, &k);
		else
			c->why = err;
		c->asking = c->refused = false;
		pthread_mutex_unlock(&c->lock);
		c->changed(c->arg);
		pthread_mutex_lock(&c->lock);
		wait_until_locked(c, wait == INT64_MAX ? wait : monotonic_ms() + wait);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* --- choosing a source --- */

static const char *env(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? s : NULL;
}

static int choose_env(struct s3_cred *c, struct error *err)
{
	struct s3_keys k;
	int rc = s3_keys_set(&k, env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"),
			     env("AWS_SESSION_TOKEN"), err);

	if (rc < 0)
		return error_prefix(err, rc, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
	c->source = FROM_ENV;
	snprintf(c->text, sizeof(c->text), "environment");
	adopt_locked(c, &k);
	return 0;
}

static int choose_process(struct s3_cred *c, const char *command)
{
	c->source = FROM_PROCESS;
	c->command = strdup(command);
	snprintf(c->text, sizeof(c->text), "credential process");
	return c->command ? 0 : -ENOMEM;
}

static int choose_file(struct s3_cred *c, const char *path, struct error *err)
{
	struct s3_keys k = { 0 };
	char *process = NULL;

	free(c->path);
	c->path = strdup(path);
	if (!c->path)
		return error_set_errno(err, -ENOMEM, "credentials");
	int rc = load_file(c, &k, &process, &c->mtime, err);
	if (rc < 0)
		return rc;
	if (process) {
		rc = choose_process(c, process);
		free(process);
		return rc;
	}
	c->source = FROM_FILE;
	c->looked_ms = monotonic_coarse_ms();
	snprintf(c->text, sizeof(c->text), "file %.150s, profile %.60s", c->path, c->profile);
	adopt_locked(c, &k);
	return 0;
}

/* AWS's file, if there is one: AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials. -ENOENT. */
static int choose_usual_file(struct s3_cred *c, struct error *err)
{
	const char *path = env("AWS_SHARED_CREDENTIALS_FILE"), *home = env("HOME");
	char usual[4096];

	if (!path && !home)
		return -ENOENT;
	snprintf(usual, sizeof(usual), "%s/.aws/credentials", home ? home : "");
	return choose_file(c, path ? path : usual, err);
}

static int choose_usual(struct s3_cred *c, struct error *err)
{
	const char *off = env("AWS_EC2_METADATA_DISABLED");

	if (env("AWS_ACCESS_KEY_ID"))
		return choose_env(c, err);
	int rc = choose_usual_file(c, err);
	if (rc != -ENOENT)
		return rc;
	if (env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
	    env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
		c->source = FROM_CONTAINER;
		snprintf(c->text, sizeof(c->text), "container endpoint");
		return 0;
	}
	if (off && strcasecmp(off, "true") == 0)
		return error_set(
			err, -ENOENT,
			"no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
			"have a profile \"%.60s\" in ~/.aws/credentials",
			c->profile);
	c->source = FROM_METADATA;
	snprintf(c->text, sizeof(c->text),
		 "instance metadata, since neither AWS_ACCESS_KEY_ID nor a credentials file is "
		 "there");
	return 0;
}

static int choose(struct s3_cred *c, const char *source, struct error *err)
{
	if (!source)
		return choose_usual(c, err);
	if (strcmp(source, "env") == 0)
		return choose_env(c, err);
	if (strncmp(source, "file:", 5) == 0)
		return choose_file(c, source + 5, err);
	if (strncmp(source, "process:", 8) == 0)
		return choose_process(c, source + 8);
	if (strcmp(source, "metadata") != 0)
		return error_set(err, -EINVAL,
				 "credentials are env, file:PATH, process:COMMAND or metadata");
	c->source = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
				    env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
			    ? FROM_CONTAINER
			    : FROM_METADATA;
	snprintf(c->text, sizeof(c->text), "%s",
		 c->source == FROM_CONTAINER ? "container endpoint" : "instance metadata");
	return 0;
}

int s3_cred_open(const struct s3_cred_options *o, struct s3_cred **out, struct error *err)
{
	struct s3_cred *c = calloc(1, sizeof(*c));
	const char *profile = o->profile ? o->profile : env("AWS_PROFILE");

	if (!c)
		return error_set_errno(err, -ENOMEM, "credentials");
	pthread_mutex_init(&c->lock, NULL);
	cond_init_monotonic(&c->wake);
	c->http = o->http;
	c->changed = o->changed;
	c->arg = o->arg;
	c->profile = strdup(profile ? profile : "default");
	int rc = c->profile ? choose(c, o->source, err) : -ENOMEM;
	if (rc == 0 && c->source >= FROM_PROCESS) {
		c->asking = true;
		rc = -pthread_create(&c->thread, NULL, renew_loop, c);
		c->has_thread = rc == 0;
	}
	if (rc < 0) {
		s3_cred_close(c);
		return error_prefix(err, rc, "credentials");
	}
	*out = c;
	return 0;
}

void s3_cred_close(struct s3_cred *c)
{
	if (!c)
		return;
	if (c->has_thread) {
		pthread_mutex_lock(&c->lock);
		atomic_store(&c->closing, true);
		pthread_cond_signal(&c->wake);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
	}
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->wake);
	s3_keys_fini(&c->keys);
	free(c->path);
	free(c->profile);
	free(c->command);
	free(c);
}

/* Have the thread ask now, and all wait. */
static void want_locked(struct s3_cred *c)
{
	c->wanted = c->refused = true;
	pthread_cond_signal(&c->wake);
}

int s3_cred_get(struct s3_cred *c, struct s3_keys *out, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	if (c->source == FROM_FILE)
		look_at_file_locked(c, false);
	if (c->refused || (c->asking && !c->keys.generation)) {
		rc = -EAGAIN;
	} else if (!c->keys.generation) {
		rc = error_set(err, -EACCES, "no credentials from %s: %s", c->text,
			       error_text(&c->why));
	} else {
		*out = c->keys;
		out->token = c->keys.token ? strdup(c->keys.token) : NULL;
		if (c->keys.token && !out->token) {
			s3_keys_fini(out);
			rc = error_set_errno(err, -ENOMEM, "credentials");
		}
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

bool s3_cred_refused(struct s3_cred *c, uint64_t generation)
{
	bool may_change = c->source != FROM_ENV;

	pthread_mutex_lock(&c->lock);
	if (generation == c->keys.generation) {
		if (c->source == FROM_FILE)
			look_at_file_locked(c, true);
		else if (c->has_thread)
			want_locked(c);
	}
	pthread_mutex_unlock(&c->lock);
	return may_change;
}

const char *s3_cred_source(const struct s3_cred *c)
{
	return c->text;
}
