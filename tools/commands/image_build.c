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
	    client_new(w->cli->socket, &c, &ignored) < 0 ||
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

/* ---- a daemon that dies meanwhile ---- */

static int call(struct watcher *w, const char *where, const json_t *body, bool force, json_t **out,
		struct error *err)
{
	const struct image_build *b = w->build;
	struct client *c = cli_client(w->cli, err);
	char path[128];

	if (!c)
		return err->code;
	snprintf(path, sizeof(path), "%s?force=%d&keepFailed=%d", where, force, b->keep_failed);
	struct client_request rq = { .method = "POST",
				     .path = path,
				     .body = body,
				     .on_event = on_event,
				     .cancelled = b->interruptible ? is_cancelled : NULL,
				     .arg = w };
	w->seen = 0;
	return client_run(c, &rq, out, err);
}

/* The snapshot of the name, where it is of this image. -ENOENT. */
static int find_named(struct watcher *w, const char *name, json_t **out, struct error *err)
{
	char key[DIGEST_HEX_SIZE];
	json_t *s = NULL;
	int r = image_key(json_object_get(w->build->body, "image"), key, err);

	if (r == 0)
		r = cli_call(w->cli, "GET", "/api/snapshots/%s", name, NULL, &s, err);
	if (r == 0 && (strcmp(cli_str(s, "contentHash"), key) != 0 ||
		       strcmp(cli_str(s, "status"), "ready") != 0))
		r = -ENOENT;
	if (r == 0)
		*out = STEAL(s);
	json_decref(s);
	return r;
}

/* Not where something else is made as well, which may have been. */
static bool may_repeat(const struct watcher *w)
{
	const char *path = w->build->path;

	return (strcmp(path, "/api/images") == 0 || strcmp(path, "/api/snapshots") == 0) &&
	       w->cli->client && client_broke_off(w->cli->client);
}

/*
 * Once more. The successor goes on with the build, and who asks for its image joins it, or gets
 * it; events that were shown are not shown again. With a name that may be taken already.
 */
static int call_again(struct watcher *w, json_t **out, struct error *err)
{
	const json_t *body = w->build->body;
	const char *name = json_string_value(json_object_get(body, "name"));
	json_t *image = json_pack("{s:O}", "image", json_object_get(body, "image"));
	int r = image ? call(w, "/api/images", image, false, out, err) : -ENOMEM;

	json_decref(image);
	if (r < 0 || !name)
		return r;
	json_decref(STEAL(*out));
	r = find_named(w, name, out, err);
	return r == -ENOENT ? call(w, w->build->path, body, false, out, err) : r;
}

int image_build(struct cli *cli, const struct image_build *b, json_t **out, struct error *err)
{
	struct watcher w = { .cli = cli, .build = b, .reach = REACH_INIT };
	struct error again = ERROR_INIT;
	char reach[400];
	int r = call(&w, b->path, b->body, b->force, out, err);

	/* As often as its successors may begin it; err is why the first call broke off. */
	for (int i = 0; i < 4 && r < 0 && may_repeat(&w); i++) {
		r = call_again(&w, out, &again);
		if (r != -ECONNREFUSED)
			*err = again;
	}
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
