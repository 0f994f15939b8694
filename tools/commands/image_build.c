#include "tools/commands/image_build.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/base/jcs.h"
#include "tools/commands/exec_run.h"
#include "tools/cli/said.h"

struct watcher {
	struct cli *cli;
	const struct image_build *build;
	struct reach reach; /* of the step that is being run */
	json_int_t step;
	bool told; /* that the build goes on */
	/* Events of the build's log: shown so far, and of this call. */
	uint64_t shown, seen;
};

static void on_event(void *arg, const char *type, const json_t *data)
{
	struct watcher *w = arg;
	json_int_t step = json_integer_value(json_object_get(data, "step"));

	if (strcmp(type, "build_log") != 0 || w->seen++ < w->shown)
		return;
	w->shown++;
	if (step != w->step) {
		w->step = step;
		w->reach = (struct reach)REACH_INIT;
	}
	if (w->build->quiet)
		reach_line(&w->reach, cli_str(data, "message"), strlen(cli_str(data, "message")));
	else
		said_build_event(stderr, data, &w->reach);
}

int image_key(const json_t *manifest, char key[DIGEST_HEX_SIZE], struct error *err)
{
	json_t *base = json_object_get(manifest, "base"),
	       *steps = json_object_get(manifest, "steps");

	if (!json_is_string(base) || !json_is_array(steps))
		return error_set(err, -EINVAL, "a manifest has a \"base\" and a list of \"steps\"");
	json_t *o = json_pack("{s:O, s:O}", "base", base, "steps", steps);
	int r = o ? jcs_hash(o, key, err) : -ENOMEM;
	json_decref(o);
	return r;
}

/* ---- signals ---- */

/* The id of the build of a key that goes on; false where there is none. */
static bool find_active(const json_t *builds, const char *key, const char **out_id)
{
	static const char *const ended[] = { "ready", "failed", "cancelled" };
	json_t *o;
	size_t i;

	json_array_foreach(builds, i, o) {
		bool active = strcmp(cli_str(o, "key"), key) == 0;

		for (size_t k = 0; k < ARRAY_SIZE(ended); k++)
			active &= strcmp(cli_str(o, "state"), ended[k]) != 0;
		if (active) {
			*out_id = cli_str(o, "id");
			return true;
		}
	}
	return false;
}

/* Say that the build goes on without us. False where there is none, or we cannot know. */
static bool tell_build(const struct watcher *w, bool stays)
{
	CLEANUP(client_free_p) struct client *c = NULL; /* ours is busy with the build */
	struct error ignored = ERROR_INIT;
	char key[DIGEST_HEX_SIZE];
	json_t *builds = NULL;
	const char *id;
	bool found;

	if (image_key(json_object_get(w->build->body, "image"), key, &ignored) < 0 ||
	    !(c = client_new(&w->cli->daemon)) ||
	    client_call(c, "GET", "/api/builds", NULL, &builds, &ignored) < 0)
		return false;
	found = find_active(builds, key, &id);
	if (found)
		fprintf(stderr,
			"varve: build %.8s goes on: `varve logs -f %.8s` follows it, `varve cancel "
			"%.8s` ends it%s\n",
			id, id, id, stays ? "; Ctrl-C again leaves it" : "");
	json_decref(builds);
	return found;
}

static bool is_cancelled(void *arg)
{
	struct watcher *w = arg;
	bool stays = w->build->stays && interrupt_signal() == SIGINT && isatty(STDERR_FILENO);

	if (!interrupt_signal())
		return false;
	if (w->told)
		return true;
	w->told = true;
	if (!tell_build(w, stays) || !stays)
		return true;
	interrupt_forget();
	return false;
}

/* The daemon has died: its successor goes on with the build, and tells its log from the begin. */
static void on_again(void *arg)
{
	struct watcher *w = arg;

	w->seen = 0;
}

static int call(struct watcher *w, json_t **out, struct error *err)
{
	const struct image_build *b = w->build;
	struct client *c = cli_client(w->cli, err);
	char path[128];

	if (!c)
		return err->code;
	snprintf(path, sizeof(path), "%s?force=%d&keepFailed=%d", b->path, b->force,
		 b->keep_failed);
	struct client_request rq = { .method = "POST",
				     .path = path,
				     .body = b->body,
				     .on_event = on_event,
				     .on_again = on_again,
				     .cancelled = b->interruptible ? is_cancelled : NULL,
				     .arg = w };
	return client_run(c, &rq, out, err);
}

int image_build(struct cli *cli, const struct image_build *b, json_t **out, struct error *err)
{
	struct watcher w = { .cli = cli, .build = b, .reach = REACH_INIT };
	char reach[400];
	int r = call(&w, out, err);

	if (r < 0 && w.step > 0 && reach_found(&w.reach)) {
		char text[sizeof(err->msg)];
		snprintf(text, sizeof(text), "%s", error_text(err));
		reach_text(&w.reach, reach, sizeof(reach));
		error_set(err, r, "%s; it %s", text, reach);
	}
	return r;
}

int image_read(const char *path, json_t **out, struct error *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	json_error_t je;
	FILE *f = is_stdin ? stdin : fopen(path, "re");

	if (!f)
		return error_set_errno(err, -errno, "%s", path);
	json_t *o = json_loadf(f, JSON_REJECT_DUPLICATES, &je);
	if (!is_stdin)
		fclose(f);
	if (!o)
		return error_set(err, -EINVAL, "%s: line %d: %s",
				 is_stdin ? "standard input" : path, je.line, je.text);
	*out = o;
	return 0;
}
