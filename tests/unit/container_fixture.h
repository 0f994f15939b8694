/*
 * container_fixture.h - a root filesystem of busybox alone, a runtime, and
 * what an exec prints. Without root, busybox or the runtime tests skip.
 */
#ifndef VARVE_TEST_CONTAINER_FIXTURE_H
#define VARVE_TEST_CONTAINER_FIXTURE_H

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>

#include "snapshotd/container/container_internal.h"

struct cf {
	char dir[64], root[96];
	struct runtime *rt;
	struct container *c;
};

static inline const char *cf_program(void)
{
	const char *p = getenv("VARVE_TEST_RUNTIME");

	return p ? p : "runc";
}

static inline int64_t cf_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Run by the shell; fails the test. */
static inline void cf_sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0) /* NOLINT(bugprone-command-processor) */
		fail_msg("%s", cmd);
}

/*
 * crun refuses v1 with controllers left to v2 beside it, as some virtual machines have;
 * out of sight, the rest of v1 is fine.
 */
static inline void cf_hide_unified(void)
{
	static bool done;
	FILE *f = done ? NULL : fopen("/sys/fs/cgroup/unified/cgroup.controllers", "re");
	int c = f ? fgetc(f) : EOF;

	done = true;
	if (f)
		fclose(f);
	if (c == EOF || c == '\n')
		return;
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(umount2("/sys/fs/cgroup/unified", MNT_DETACH), 0);
	/* It makes directories there nevertheless. */
	assert_int_equal(mount("tmpfs", "/sys/fs/cgroup/unified", "tmpfs", 0, NULL), 0);
}

/* The group with runc, and once more with crun; VARVE_TEST_RUNTIME: with that one alone. */
#define cf_run_group(tests)                                                               \
	({                                                                                \
		bool both = !getenv("VARVE_TEST_RUNTIME");                                \
		int failed = cmocka_run_group_tests(tests, NULL, NULL);                   \
                                                                                          \
		if (both && setenv("VARVE_TEST_RUNTIME", "crun", 1) == 0)                 \
			failed += cmocka_run_group_tests_name("crun", tests, NULL, NULL); \
		failed;                                                                   \
	})

static inline bool cf_can(void)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd),
		 "command -v %s >/dev/null && file -L /bin/busybox | grep -q static", cf_program());
	if (geteuid() != 0)
		print_message("needs root\n");
	else if (system(cmd) != 0) /* NOLINT(bugprone-command-processor) */
		print_message("needs %s and busybox-static\n", cf_program());
	else
		return true;
	return false;
}

static inline void cf_open_runtime(struct cf *f)
{
	const struct runtime_options o = { .program = cf_program(), .state_dir = f->dir };
	struct error err = ERROR_INIT;

	if (runtime_open(&o, &f->rt, &err) < 0)
		fail_msg("runtime_open: %s", error_text(&err));
}

static inline void cf_start(struct cf *f, const struct container_options *o, struct container **out)
{
	struct container_options opt = *o;
	struct error err = ERROR_INIT;
	char id[64];

	snprintf(id, sizeof(id), "test-%d-%s", (int)getpid(), o->id ? o->id : "a");
	opt.id = id;
	opt.rootfs = f->root;
	if (container_start(f->rt, &opt, out, &err) < 0)
		fail_msg("container_start: %s", error_text(&err));
}

/* A directory with a root filesystem and a runtime. */
static inline void cf_open(struct cf *f)
{
	if (!cf_can())
		skip();
	if (strcmp(cf_program(), "crun") == 0)
		cf_hide_unified();
	memset(f, 0, sizeof(*f));
	strcpy(f->dir, "/tmp/varve-container.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->root, sizeof(f->root), "%s/root", f->dir);
	cf_sh("cd %s && mkdir -p root/bin root/etc root/tmp root/root root/dev root/proc root/sys "
	      "&& "
	      "cp /bin/busybox root/bin && chroot root /bin/busybox --install -s /bin",
	      f->dir);
	cf_sh("printf 'root:x:0:0::/root:/bin/sh\\nbob:x:1000:1001::/home/bob:/bin/sh\\n' "
	      ">%s/etc/passwd; printf 'root:x:0:\\nbob:x:1001:\\nwheel:x:10:alice,bob\\n' "
	      ">%s/etc/group",
	      f->root, f->root);
	cf_open_runtime(f);
}

static inline void cf_open_started(struct cf *f)
{
	cf_open(f);
	cf_start(f, &(struct container_options){ 0 }, &f->c);
}

static inline void cf_close(struct cf *f)
{
	container_stop(f->c);
	runtime_close(f->rt);
	cf_sh("rm -rf --one-file-system %s", f->dir);
}

/* --- execs --- */

struct cf_output {
	struct buf text[2];
	struct exec_result result;
	int rc;
	struct error err;
};

static inline void cf_collect(void *arg, int stream, const void *data, size_t len)
{
	struct cf_output *o = arg;

	assert_true(stream == 1 || stream == 2);
	assert_int_equal(buf_append(&o->text[stream - 1], data, len), 0);
}

static inline void cf_output_fini(struct cf_output *o)
{
	buf_fini(&o->text[0]);
	buf_fini(&o->text[1]);
}

static inline const char *cf_out(struct cf_output *o)
{
	const char *s = buf_cstr(&o->text[0]);

	return s ? s : "";
}

static inline const char *cf_err(struct cf_output *o)
{
	const char *s = buf_cstr(&o->text[1]);

	return s ? s : "";
}

static const char *const cf_env[] = { "PATH=/bin", "HOME=/root", NULL };

/* What rq leaves open is /bin/sh -c script in the usual environment. */
static inline void cf_run(struct cf *f, const struct exec_request *rq, const char *script,
			  struct cf_output *out)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	struct exec_request r = *rq;

	*out = (struct cf_output){ 0 };
	if (!r.argv)
		r.argv = (char *const *)argv;
	if (!r.env)
		r.env = (char *const *)cf_env;
	if (!r.on_output)
		r.on_output = cf_collect;
	if (!r.arg)
		r.arg = out;
	out->rc = container_exec(f->c, &r, &out->result, &out->err);
}

/*
 * A script with our process id in place of "ID", as a second number that sleep adds:
 * other tests of this host may sleep as long.
 */
static inline const char *cf_marked(const char *script)
{
	static char text[256];
	const char *id = strstr(script, "ID");

	assert_non_null(id);
	snprintf(text, sizeof(text), "%.*s%d%s", (int)(id - script), script, (int)getpid(), id + 2);
	return text;
}

/* A script that has to succeed and to print this. */
static inline void cf_expect(struct cf *f, const char *script, const char *says)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;

	cf_run(f, &rq, script, &o);
	if (o.rc || o.result.exit_code || strcmp(cf_out(&o), says) != 0)
		fail_msg("%s: %d %s, exit status %d, \"%s\", \"%s\"", script, o.rc,
			 error_text(&o.err), o.result.exit_code, cf_out(&o), cf_err(&o));
	cf_output_fini(&o);
}

#endif
