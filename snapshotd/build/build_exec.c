/*
 * One program in the build's container: its output becomes events, its end is
 * told as what it was. What it has failed with is said once, in bd->failure
 * and in the message; both are for the record.
 */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "snapshotd/container/sealed_fd.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/utf8.h"

#define LINGER_MS 1000	      /* then what a step has left running is killed */
#define SHOWN_MAX 200	      /* bytes of a command in messages */
#define QUIET_MAX (16u << 20) /* bytes of output that are kept */
#define SAID_MAX 240	      /* bytes of stderr in messages */

/* ---- what it is given ---- */

static bool image_sets(const struct image_config *c, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < c->n_env; i++)
		if (strncmp(c->env[i], name, len) == 0 && c->env[i][len] == '=')
			return true;
	return false;
}

/* The daemon's settings for builds, below what the image says, below the step's own. */
static char **make_environ(const struct build *bd, const json_t *extra)
{
	json_auto_t *all = json_object();
	const char *name;
	json_t *value;
	int rc = all ? 0 : -1;

	json_object_foreach((json_t *)bd->owner->opt.env, name, value)
		if (!image_sets(&bd->config, name))
			rc |= json_object_set_new(all, name, json_string(json_string_value(value)));
	if (extra)
		rc |= json_object_update(all, (json_t *)extra);
	return rc ? NULL : image_config_environ(&bd->config, all);
}

/* ---- its output ---- */

struct output {
	struct build *bd;
	const struct build_command *c;
	struct line_splitter lines[2];
	struct buf said;	  /* a quiet command's stderr */
	bool cut;		  /* more than QUIET_MAX was to be kept */
	enum build_stream stream; /* of the lines that are being emitted */
	char why[SAID_MAX + 4];	  /* the line of stderr that says best why it fails */
	unsigned why_rank;	  /* enum rank */
};

static bool contains(const char *text, size_t len, const char *what)
{
	return memmem(text, len, what, strlen(what)) != NULL;
}

/* How well a line of stderr says why a program fails. */
enum rank { NO_REASON, CONTINUATION, PLAIN, SUMMARY, CAUSE };

/* apt and pip end with a summary, after lines that name what they did not find or reach. */
static enum rank rank_of(const char *text, size_t len)
{
	size_t start = MIN(len, (size_t)7);

	if (len == 0)
		return NO_REASON;
	if (contains(text, len, "Failed to fetch") || contains(text, len, "Unable to locate") ||
	    contains(text, len, "Could not resolve") || contains(text, len, "Could not connect"))
		return CAUSE;
	if (contains(text, start, "E: ") || contains(text, start, "ERROR: "))
		return SUMMARY;
	return text[0] == ' ' || text[0] == '\t' ? CONTINUATION : PLAIN;
}

/* Of plain lines the last; of better ones the first, as what follows is often its consequence. */
static void note_reason(struct output *o, const char *text, size_t len)
{
	enum rank rank = rank_of(text, len);

	if (rank < o->why_rank || (rank == o->why_rank && rank != PLAIN))
		return;
	o->why_rank = rank;
	len = MIN(len, (size_t)SAID_MAX);
	memcpy(o->why, text, len);
	o->why[len] = '\0';
}

static void emit_line(void *arg, const char *text, size_t len)
{
	struct output *o = arg;
	const struct build *bd = o->bd;

	if (o->stream == BUILD_STDERR)
		note_reason(o, text, len);
	build_log_add(bd->log, bd->step, bd->m.steps[bd->step - 1].type_name, o->stream, text, len);
}

static int keep(struct buf *b, const void *data, size_t len, size_t max)
{
	return buf_append(b, data, MIN(len, max - MIN(max, b->len)));
}

static void on_output(void *arg, int stream, const void *data, size_t len)
{
	struct output *o = arg;
	int rc;

	if (stream == 1 && o->c->stdout_to) {
		o->cut |= len > QUIET_MAX - o->c->stdout_to->len;
		rc = keep(o->c->stdout_to, data, len, QUIET_MAX);
	} else if (o->c->quiet) {
		rc = keep(&o->said, data, len, SAID_MAX);
	} else {
		o->stream = stream == 1 ? BUILD_STDOUT : BUILD_STDERR;
		rc = line_splitter_feed(&o->lines[stream - 1], data, len);
	}
	if (rc < 0)
		log_debug("build %s: out of memory: output is lost", o->bd->id);
}

static void output_init(struct output *o, struct build *bd, const struct build_command *c)
{
	*o = (struct output){ .bd = bd, .c = c };
	for (int i = 0; i < 2; i++)
		o->lines[i] = (struct line_splitter){ .emit = emit_line, .arg = o };
}

/* The last lines may have no end. */
static void output_end(struct output *o)
{
	for (int i = 0; i < 2; i++) {
		o->stream = i == 0 ? BUILD_STDOUT : BUILD_STDERR;
		line_splitter_fini(&o->lines[i]);
	}
}

/* ---- how it ended ---- */

/* One line of valid text, cut where it is long. */
static int one_line(const char *text, size_t len, size_t max, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf valid = BUF_INIT;
	const char *s, *nl;
	size_t n;

	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	if (utf8_append_valid(&valid, text, len) < 0 || !(s = buf_cstr(&valid)))
		return -ENOMEM;
	nl = strpbrk(s, "\r\n");
	n = nl ? (size_t)(nl - s) : valid.len;
	if (n > max) {
		for (n = max; n && (valid.data[n] & 0xc0) == 0x80;)
			n--;
		nl = s + n;
	}
	if (buf_append(out, s, n) < 0 || (nl && buf_append_str(out, "...") < 0))
		return -ENOMEM;
	return buf_cstr(out) ? 0 : -ENOMEM;
}

/* What fails for want of space says so in many ways; the mount knows. */
static bool ran_out_of_space(struct build *bd, uint64_t before)
{
	struct mount_info info;

	mount_get_info(mount_entry_mount(bd->mount), &info);
	return info.no_space > before;
}

static uint64_t memory_mb(const struct build *bd)
{
	return bd->m.builder_memory_mb ? bd->m.builder_memory_mb : bd->owner->opt.memory_mb;
}

void build_say_space(const struct build *bd, char out[BUILD_SPACE_TEXT])
{
	unsigned long long quota_mb = bd->owner->opt.quota_bytes >> 20, free_mb = 0;
	struct statvfs st;
	int n = snprintf(out, BUILD_SPACE_TEXT, "ran out of space: ");

	if (statvfs(bd->owner->dir, &st) == 0)
		free_mb = (unsigned long long)st.f_bavail * st.f_frsize >> 20;
	/* Which of the two it was, what the step has left does not tell: both are said. */
	if (quota_mb)
		n += snprintf(out + n, BUILD_SPACE_TEXT - (size_t)n,
			      "a step may write %llu MB, and ", quota_mb);
	snprintf(out + n, BUILD_SPACE_TEXT - (size_t)n, "the store's disk has %llu MB left",
		 free_mb);
}

/* The reason in words, after the command. Returns its name for programs. */
static const char *explain(const struct build *bd, const struct exec_result *r, bool no_space,
			   struct buf *out)
{
	int64_t now = monotonic_ms();
	const char *kind;
	int rc = 0;

	if (r->timed_out) {
		bool total = now >= bd->deadline_ms;

		kind = "timeout";
		rc = buf_printf(out, "was ended: %s may take %u s", total ? "a build" : "a step",
				total ? bd->owner->opt.total_timeout_s
				      : bd->owner->opt.step_timeout_s);
	} else if (r->oom_killed) {
		kind = "memory";
		rc = buf_printf(out, "was killed for memory: a build has %llu MB",
				(unsigned long long)memory_mb(bd));
	} else if (no_space) {
		char text[BUILD_SPACE_TEXT];

		kind = "space";
		build_say_space(bd, text);
		rc = buf_append_str(out, text);
	} else if (r->signal) {
		kind = "signal";
		rc = buf_printf(out, "was killed by signal %d (%s)", r->signal,
				sigdescr_np(r->signal) ? sigdescr_np(r->signal) : "unknown");
	} else {
		kind = "exit";
		rc = buf_printf(out, "exited with status %d", r->exit_code);
	}
	(void)rc; /* out of memory: the message is shorter */
	return kind;
}

/* A failure for the record; the message goes to err. */
static int record_failure(struct build *bd, const struct build_command *c, const char *kind,
			  const struct exec_result *r, const char *reason, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf shown = BUF_INIT;
	const char *part = c->failed_part ? c->failed_part(c->arg) : NULL;
	const char *text = part ? part : c->shown ? c->shown : c->argv[0];
	const struct manifest_step *s = &bd->m.steps[bd->step - 1];

	if (one_line(text, strlen(text), SHOWN_MAX, &shown) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	json_decref(bd->failure);
	bd->failure = json_pack("{s:i, s:s, s:s, s:s, s:o, s:o}", "step", (int)bd->step, "type",
				s->type_name, "command", (char *)shown.data, "kind", kind,
				"exitCode", r ? json_integer(r->exit_code) : json_null(), "signal",
				r && r->signal ? json_integer(r->signal) : json_null());
	if (!bd->failure)
		log_debug("build %s: out of memory: the failure has no details", bd->id);
	return error_set(err, -ECHILD, "`%s` %s", (char *)shown.data, reason);
}

static int fail_exec(struct build *bd, const struct output *o, const struct exec_result *r,
		     bool no_space, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf reason = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf said = BUF_INIT;
	const char *kind = explain(bd, r, no_space, &reason);
	int rc = 0;

	/* A quiet command tells in words why it exits; others may have. */
	if (strcmp(kind, "exit") == 0 && o->c->quiet && o->said.len &&
	    one_line((const char *)o->said.data, o->said.len, SAID_MAX, &said) == 0) {
		buf_clear(&reason);
		rc = buf_printf(&reason, "failed: %s", (char *)said.data);
	} else if (strcmp(kind, "exit") == 0 && o->why[0] &&
		   one_line(o->why, strlen(o->why), SAID_MAX, &said) == 0) {
		rc = buf_printf(&reason, ": %s", (char *)said.data);
	}
	if (rc < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return record_failure(bd, o->c, kind, r, buf_cstr(&reason) ? (char *)reason.data : "failed",
			      err);
}

/* It was not started, or its container has ended under it. */
static int fail_start(struct build *bd, const struct build_command *c, int rc,
		      const struct error *why, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf reason = BUF_INIT;
	const struct exec_result memory = { .oom_killed = true };
	bool died = rc == -ESRCH || !container_is_running(bd->container);

	if (rc == -ENOMEM)
		return error_set(err, rc, "out of memory");
	if (died && container_oom_kills(bd->container)) {
		const char *kind = explain(bd, &memory, false, &reason);

		return record_failure(bd, c, kind, NULL,
				      buf_cstr(&reason) ? (char *)reason.data : kind, err);
	}
	if (died)
		return record_failure(bd, c, "container", NULL,
				      "was not finished: the build's container has died", err);
	if (buf_printf(&reason, "cannot be started: %s", error_text(why)) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return record_failure(bd, c, "start", NULL, (char *)reason.data, err);
}

/* ---- the run ---- */

static bool is_cancelled(void *arg)
{
	const struct output *o = arg;

	return build_is_cancelled(o->bd);
}

static int run(struct build *bd, struct output *o, char **env, int stdin_fd,
	       struct exec_result *res, struct error *err)
{
	struct exec_request rq = EXEC_REQUEST_INIT;

	rq.argv = o->c->argv;
	rq.env = env;
	rq.cwd = o->c->cwd;
	rq.make_cwd = rq.cwd != NULL;
	rq.user = o->c->user;
	rq.user_env = true;
	rq.stdin_fd = stdin_fd;
	rq.timeout_ms = MIN(bd->deadline_ms, bd->step_deadline_ms) - monotonic_ms();
	rq.on_output = on_output;
	rq.linger_ms = LINGER_MS;
	rq.cancelled = is_cancelled;
	rq.arg = o;
	if (rq.timeout_ms <= 0) {
		*res = (struct exec_result){ .timed_out = true };
		return 0;
	}
	return container_exec(bd->container, &rq, res, err);
}

int build_exec(struct build *bd, const struct build_command *c, struct error *err)
{
	char **env = make_environ(bd, c->extra_env);
	int stdin_fd = c->stdin_data ? sealed_fd("varve-build", c->stdin_data, c->stdin_len) : -1;
	struct exec_result res = { 0 };
	uint64_t oom_kills = container_oom_kills(bd->container);
	struct error why = ERROR_INIT;
	struct mount_info before;
	struct output o;
	int rc;

	output_init(&o, bd, c);
	mount_get_info(mount_entry_mount(bd->mount), &before);
	if (!env)
		rc = error_set(err, -ENOMEM, "cannot prepare a command: out of memory");
	else if (c->stdin_data && stdin_fd < 0)
		rc = error_set_errno(err, stdin_fd, "cannot prepare a command");
	else if ((rc = run(bd, &o, env, stdin_fd, &res, &why)) < 0)
		rc = fail_start(bd, c, rc, &why, err);
	output_end(&o);
	/* A shell exits with a status where its command was killed. */
	res.oom_killed = res.oom_killed || container_oom_kills(bd->container) > oom_kills;
	if (rc < 0)
		;
	else if (res.cancelled)
		rc = error_set(err, -ECANCELED, "cancelled");
	else if (res.timed_out || res.signal || res.exit_code)
		rc = fail_exec(bd, &o, &res, ran_out_of_space(bd, before.no_space), err);
	else if (o.cut)
		rc = error_set(err, -EFBIG, "%s: more than %u bytes of output", c->shown,
			       QUIET_MAX);
	else if (ran_out_of_space(bd, before.no_space))
		rc = fail_exec(bd, &o, &res, true, err); /* it has not noticed */
	buf_fini(&o.said);
	if (stdin_fd >= 0)
		close(stdin_fd);
	strv_free(env);
	return rc;
}

unsigned build_leftovers(struct build *bd)
{
	const char *cgroup = container_cgroup(bd->container);
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	unsigned n = 0;
	int c;
	FILE *f;

	if (!cgroup || buf_printf(&path, "%s/cgroup.procs", cgroup) < 0 || !buf_cstr(&path))
		return 0;
	f = fopen((char *)path.data, "re");
	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n > 1 ? n - 1 : 0;
}
