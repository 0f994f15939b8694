#include "tools/image_build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/said.h"

struct watcher {
	const struct image_build *build;
	struct reach reach; /* of the step that is being run */
	json_int_t step;
};

static void on_event(void *arg, const char *type, const json_t *data)
{
	struct watcher *w = arg;
	json_int_t step = json_integer_value(json_object_get(data, "step"));

	if (strcmp(type, "build_log") != 0)
		return;
	if (step != w->step) {
		w->step = step;
		w->reach = (struct reach)REACH_INIT;
	}
	if (w->build->quiet)
		reach_line(&w->reach, cli_str(data, "message"), strlen(cli_str(data, "message")));
	else
		said_build_event(stderr, data, &w->reach);
}

static bool is_cancelled(void *arg)
{
	const struct watcher *w = arg;

	return w->build->cancelled(w->build->arg);
}

int image_build(struct cli *cli, const struct image_build *b, json_t **out, struct error *err)
{
	struct watcher w = { .build = b, .reach = REACH_INIT };
	struct client *c = cli_client(cli, err);
	char path[128], reach[400];

	if (!c)
		return err->code;
	snprintf(path, sizeof(path), "%s?force=%d&keepFailed=%d", b->path, b->force,
		 b->keep_failed);
	struct client_request rq = { .method = "POST",
				     .path = path,
				     .body = b->body,
				     .on_event = on_event,
				     .cancelled = b->cancelled ? is_cancelled : NULL,
				     .arg = &w };
	int r = client_run(c, &rq, out, err);
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
