/*
 * What each type of step does in the container. Files are made by the agent
 * there, so that every path means what it means in the image. Programs of the
 * image's user run as that user; what changes the system is done by root.
 */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/build/build_env.h"
#include "snapshotd/http/json_items.h"
#include "store/base/clock.h"

#define FILE_MODE 0644u
#define DIR_MODE 0755u
#define ENVIRONMENT "/etc/environment"
#define NAME_ITEM_MAX (16u << 10) /* bytes of one file's entry in a list */
#define NOTE_TIMEOUT_MS 5000	  /* for the agent to read a small file */

static const char *text_of(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

/* ---- files ---- */

/* A command of the agent; b, data and out may be NULL. */
static int agent(struct build *bd, const char *command, const char *a, const char *b,
		 const struct buf *data, struct buf *out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf shown = BUF_INIT;
	char *argv[] = { CONTAINER_AGENT, (char *)command, (char *)a, (char *)b, NULL };
	struct build_command c = { .argv = argv, .quiet = true, .stdout_to = out };

	if (buf_printf(&shown, "%s %s", command, a) < 0 || !buf_cstr(&shown))
		return error_set(err, -ENOMEM, "out of memory");
	c.shown = (char *)shown.data;
	if (data) {
		c.stdin_data = data->len ? (const void *)data->data : "";
		c.stdin_len = data->len;
	}
	return build_exec(bd, &c, err);
}

static int make_dir(struct build *bd, const char *path, unsigned mode, struct error *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%04o", mode);
	return agent(bd, "file-mkdir", path, mode ? text : NULL, NULL, NULL, err);
}

static int write_file(struct build *bd, const char *path, const json_t *spec, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf data = BUF_INIT;
	char mode[16];
	int rc = base64_decode(text_of(spec, "content"), &data);

	if (rc < 0)
		return error_set_errno(err, rc, "%s: its content", path);
	snprintf(mode, sizeof(mode), "%04o", manifest_mode(spec, FILE_MODE));
	return agent(bd, "file-write", path, mode, &data, NULL, err);
}

static int join(struct buf *out, const char *dir, const char *name)
{
	size_t len = strlen(dir);

	while (len > 1 && dir[len - 1] == '/')
		len--;
	buf_clear(out);
	if (buf_append(out, dir, len) < 0 || (len > 1 && buf_append(out, "/", 1) < 0) ||
	    buf_append_str(out, name) < 0 || !buf_cstr(out))
		return -ENOMEM;
	return 0;
}

/* One of an add_dir's dirs: "a/b" or {"relativePath": "a/b", "mode"}. */
static int add_one_dir(struct build *bd, const char *top, const json_t *d, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	const char *name = json_is_string(d) ? json_string_value(d) : text_of(d, "relativePath");
	unsigned mode = json_is_object(d) ? manifest_mode(d, DIR_MODE) : DIR_MODE;

	if (join(&path, top, name) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return make_dir(bd, (char *)path.data, mode, err);
}

static int add_one_file(struct build *bd, const char *top, const json_t *f, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	const char *target = text_of(f, "target");

	if (join(&path, top, text_of(f, "relativePath")) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	if (target)
		return agent(bd, "file-symlink", (char *)path.data, target, NULL, NULL, err);
	return write_file(bd, (char *)path.data, f, err);
}

/* Directories come first, files then; a directory's mode may forbid to write into it only to
 * others. */
static int step_add_dir(struct build *bd, const json_t *args, struct error *err)
{
	const char *top = text_of(args, "path");
	json_t *item;
	size_t i;
	int rc = make_dir(bd, top, 0, err);

	json_array_foreach(json_object_get(args, "dirs"), i, item)
		if (rc == 0)
			rc = add_one_dir(bd, top, item, err);
	json_array_foreach(json_object_get(args, "files"), i, item)
		if (rc == 0)
			rc = add_one_file(bd, top, item, err);
	return rc;
}

/* ---- environment and working directory ---- */

/* json_item_fn: 1 for /etc/environment among the names of /etc. */
static int is_environment(void *arg, const json_t *item)
{
	const char *name = text_of(item, "name");

	(void)arg;
	return name && strcmp(name, "environment") == 0;
}

/* Of the quiet "file-read" of a file that is not there: no failure for us. */
static int read_environment(struct build *bd, struct buf *out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf names = BUF_INIT;
	int rc = agent(bd, "file-mkdir", "/etc", NULL, NULL, NULL, err);

	if (rc == 0)
		rc = agent(bd, "file-list", "/etc", NULL, NULL, &names, err);
	if (rc < 0)
		return rc;
	rc = json_items_each((char *)names.data, names.len, NAME_ITEM_MAX, is_environment, NULL);
	if (rc < 0)
		return error_set_errno(err, rc, "the list of files in /etc");
	return rc ? agent(bd, "file-read", ENVIRONMENT, NULL, NULL, out, err) : 0;
}

static int step_env(struct build *bd, const json_t *args, struct error *err)
{
	const json_t *vars = json_object_get(args, "vars");
	CLEANUP(buf_fini_p) struct buf old = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	size_t left_out = 0;
	const char *name;
	json_t *value;
	int rc = read_environment(bd, &old, err);

	if (rc < 0)
		return rc;
	rc = build_env_merge((char *)old.data, old.len, vars, &text, &left_out);
	json_object_foreach((json_t *)vars, name, value)
		if (rc == 0)
			rc = image_config_setenv(&bd->config, name, json_string_value(value));
	if (rc < 0)
		return error_set_errno(err, rc, "cannot set the environment");
	if (left_out)
		build_info(bd, "%zu variables with line breaks are not in " ENVIRONMENT, left_out);
	return agent(bd, "file-write", ENVIRONMENT, "0644", &text, NULL, err);
}

static int step_workdir(struct build *bd, const json_t *args, struct error *err)
{
	const char *path = text_of(args, "path");
	int rc = make_dir(bd, path, 0, err);

	if (rc == 0 && (rc = image_config_set_workdir(&bd->config, path)) < 0)
		error_set(err, rc, "out of memory");
	return rc;
}

/* ---- programs ---- */

/*
 * The commands of a step share a shell, so that what one does to the shell (cd,
 * export) holds for the next. The shell reads them from a script and notes which
 * one it is at; both files are in the container's /dev/shm, and so in no image.
 */
struct shell_run {
	struct build *bd;
	const json_t *commands;
	size_t first;		 /* of them */
	char script[64], at[72]; /* the files' paths */
};

static const char *command_text(const struct shell_run *r, size_t i)
{
	return json_string_value(json_array_get(r->commands, i));
}

/* What the shell does must not change what a command sees: no variables, no arguments. */
static int make_script(const struct shell_run *r, struct buf *out)
{
	size_t n = json_array_size(r->commands);
	int rc = 0;

	for (size_t i = r->first; i <= n && rc == 0; i++) {
		rc = buf_printf(out, "{ echo %zu >|%s; } 2>/dev/null || :\n", i, r->at);
		if (rc < 0 || i == n)
			break;
		rc = buf_append_str(out, "eval ");
		if (rc == 0)
			rc = build_env_quote(out, command_text(r, i));
		if (rc == 0) /* neither || nor if: they would disable a command's `set -e` */
			rc = buf_append_str(out, "\ncase $? in 0) ;; *) exit ;; esac\n");
	}
	return rc;
}

/* The command that the shell was at; their number: it is through. -EIO: not known. */
static int shell_was_at(struct shell_run *r, size_t *out)
{
	struct build *bd = r->bd;
	int64_t deadline = bd->deadline_ms, step_deadline = bd->step_deadline_ms;
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	struct error ignored = ERROR_INIT;
	char *end;
	int rc;

	/* To be told after the step's time is over, too. */
	bd->deadline_ms = bd->step_deadline_ms = monotonic_ms() + NOTE_TIMEOUT_MS;
	rc = agent(bd, "file-read", r->at, NULL, NULL, &text, &ignored);
	bd->deadline_ms = deadline;
	bd->step_deadline_ms = step_deadline;
	if (rc < 0 || text.len == 0 || !buf_cstr(&text))
		return -EIO;
	*out = strtoul((char *)text.data, &end, 10);
	return *end == '\n' && *out >= r->first && *out <= json_array_size(r->commands) ? 0 : -EIO;
}

static const char *failed_command(void *arg)
{
	struct shell_run *r = arg;
	size_t at = 0;

	return shell_was_at(r, &at) == 0 ? command_text(r, at) : NULL;
}

static int run_command(struct build *bd, const char *line, const char *shown, struct shell_run *r,
		       struct error *err)
{
	char *argv[] = { "/bin/sh", "-c", (char *)line, NULL };
	struct build_command c = { .argv = argv,
				   .user = bd->config.user,
				   .cwd = bd->config.workdir,
				   .shown = shown,
				   .failed_part = r ? failed_command : NULL,
				   .arg = r };

	return build_exec(bd, &c, err);
}

/* The commands from r->first on, in one shell. */
static int run_shell(struct shell_run *r, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf script = BUF_INIT;
	char line[80];
	int rc;

	snprintf(r->script, sizeof(r->script), "/dev/shm/varve-step-%u-%zu", r->bd->step, r->first);
	snprintf(r->at, sizeof(r->at), "%s.at", r->script);
	snprintf(line, sizeof(line), ". %s", r->script);
	if (make_script(r, &script) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	rc = agent(r->bd, "file-write", r->script, "0644", &script, NULL, err);
	return rc < 0 ? rc : run_command(r->bd, line, command_text(r, r->first), r, err);
}

/* A command that ends the shell well, by `exit 0` or `exec`, ends itself alone. */
static int step_run(struct build *bd, const json_t *args, struct error *err)
{
	struct shell_run r = { .bd = bd, .commands = json_object_get(args, "commands") };
	size_t n = json_array_size(r.commands), at;
	int rc = 0;

	while (r.first + 1 < n && rc == 0) {
		rc = run_shell(&r, err);
		if (rc == 0)
			r.first = shell_was_at(&r, &at) == 0 ? at + 1 : n;
	}
	if (rc == 0 && r.first + 1 == n)
		rc = run_command(bd, command_text(&r, r.first), command_text(&r, r.first), NULL,
				 err);
	return rc;
}

/* argv of `first`, then the strings of `more`; malloc'd, its strings are borrowed. */
static char **argv_with(const char *const *first, const json_t *more)
{
	size_t n = 0, i;
	json_t *item;
	char **argv;

	while (first[n])
		n++;
	argv = calloc(n + json_array_size(more) + 1, sizeof(*argv));
	if (!argv)
		return NULL;
	memcpy(argv, first, n * sizeof(*argv));
	json_array_foreach(more, i, item)
		argv[n + i] = (char *)json_string_value(item);
	return argv;
}

static int run_with(struct build *bd, const char *const *first, const json_t *more,
		    const json_t *env, const char *shown, struct error *err)
{
	char **argv = argv_with(first, more);
	struct build_command c = { .argv = argv, .extra_env = env, .shown = shown };
	int rc = argv ? build_exec(bd, &c, err) : error_set(err, -ENOMEM, "out of memory");

	free(argv);
	return rc;
}

/* What apt and its like leave that only costs space, or tells when the image was built. */
static const char apt_clean[] =
	"rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb"
	" /var/cache/apt/archives/lock /var/cache/apt/archives/partial/* /var/cache/apt/*.bin "
	"/var/cache/ldconfig/aux-cache"
	" /var/log/apt/history.log /var/log/apt/term.log /var/log/apt/eipp.log.xz"
	" /var/log/dpkg.log /var/log/alternatives.log";

/*
 * An index that cannot be fetched is a failure, not a warning. Services are not
 * started: a runlevel without them is what invoke-rc.d finds.
 */
static int step_apt_install(struct build *bd, const json_t *args, struct error *err)
{
	static const char *const update[] = { "apt-get", "-q", "-o", "APT::Update::Error-Mode=any",
					      "update",	 NULL };
	static const char *const install[] = {
		"apt-get", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0",
		"install", "--", NULL
	};
	static const char *const clean[] = { "/bin/sh", "-c", apt_clean, NULL };
	json_auto_t *env =
		json_pack("{s:s, s:s, s:s, s:s}", "DEBIAN_FRONTEND", "noninteractive",
			  "DEBCONF_NONINTERACTIVE_SEEN", "true", "RUNLEVEL", "1", "HOME", "/root");
	int rc = env ? run_with(bd, update, NULL, env, "apt-get update", err)
		     : error_set(err, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = run_with(bd, install, json_object_get(args, "packages"), env,
			      "apt-get install", err);
	return rc < 0 ? rc : run_with(bd, clean, NULL, env, "rm -rf /var/lib/apt/lists", err);
}

static int step_pip_install(struct build *bd, const json_t *args, struct error *err)
{
	static const char *const install[] = { "python3",	 "-m", "pip", "install",
					       "--no-cache-dir", "--", NULL };
	json_auto_t *env = json_pack("{s:s, s:s, s:s, s:s}", "PIP_BREAK_SYSTEM_PACKAGES", "1",
				     "PIP_ROOT_USER_ACTION", "ignore",
				     "PIP_DISABLE_PIP_VERSION_CHECK", "1", "HOME", "/root");

	if (!env)
		return error_set(err, -ENOMEM, "out of memory");
	return run_with(bd, install, json_object_get(args, "packages"), env, "pip install", err);
}

int build_step_run(struct build *bd, const struct manifest_step *s, struct error *err)
{
	switch (s->type) {
	case STEP_APT_INSTALL:
		return step_apt_install(bd, s->args, err);
	case STEP_PIP_INSTALL:
		return step_pip_install(bd, s->args, err);
	case STEP_RUN:
		return step_run(bd, s->args, err);
	case STEP_ENV:
		return step_env(bd, s->args, err);
	case STEP_WORKDIR:
		return step_workdir(bd, s->args, err);
	case STEP_ADD_FILE:
		return write_file(bd, text_of(s->args, "path"), s->args, err);
	case STEP_ADD_DIR:
		return step_add_dir(bd, s->args, err);
	}
	return error_set(err, -EINVAL, "unknown type");
}
