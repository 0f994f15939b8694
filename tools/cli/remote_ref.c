#include "tools/cli/remote_ref.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "store/remote/reference.h"
#include "tools/cli/progress_bar.h"

static void on_event(void *arg, const char *type, const json_t *data)
{
	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(arg, data);
}

int remote_ref_post(struct cli *cli, const char *path, json_t *body, json_t **out,
		    struct error *err)
{
	struct progress_bar bar;
	struct client_request rq = { .method = "POST",
				     .path = path,
				     .body = body,
				     .on_event = on_event,
				     .on_again = client_again,
				     .arg = &bar };
	struct client *c = cli_client(cli, err);
	int r = c ? -ENOMEM : err->code;

	if (c && body) {
		progress_bar_init(&bar);
		r = client_run(c, &rq, out, err);
		progress_bar_fini(&bar);
	}
	json_decref(body);
	return r;
}

bool remote_ref_is(const char *word)
{
	char remote[REMOTE_NAME_MAX + 1];
	const char *reference;

	return !strchr(word, '/') && reference_split(word, remote, &reference);
}

/* What to pull: the caller's names. */
struct wish {
	const char *remote, *reference;
	const char *name; /* see remote_ref_pull */
	bool lazy;
};

static int pull(struct cli *cli, const struct wish *w, json_t **out, struct error *err)
{
	const char *name = w->name;
	json_t *body = json_pack("{s:s, s:b, s:o}", "remote", w->remote, "lazy", w->lazy,
				 "snapshot", bytes_json(w->reference, strlen(w->reference)));

	if (body && name && json_object_set_new(body, "name", bytes_json(name, strlen(name)))) {
		json_decref(body);
		body = NULL;
	}
	return remote_ref_post(cli, "/api/snapshots/pull", body, out, err);
}

int remote_ref_pull(struct cli *cli, const char *word, const char *name, bool lazy, json_t **out,
		    struct error *err)
{
	char remote[REMOTE_NAME_MAX + 1];
	struct wish w = { .remote = remote, .name = name, .lazy = lazy };

	if (!reference_split(word, remote, &w.reference))
		return error_set(err, -EINVAL, "'%s' is not REMOTE:NAME", word);
	return pull(cli, &w, out, err);
}

int remote_ref_resolve(struct cli *cli, const char *word, char **out, struct error *err)
{
	json_t *o = NULL;
	int r = 0;

	if (!remote_ref_is(word)) {
		*out = strdup(word);
		return *out ? 0 : -ENOMEM;
	}
	r = remote_ref_pull(cli, word, "", true, &o, err);
	if (r == 0 && !(*out = strdup(cli_str(o, "id"))))
		r = -ENOMEM;
	json_decref(o);
	return r;
}

/* Whether the daemon answers that it has it. */
static bool has(struct cli *cli, const char *fmt, const char *name)
{
	struct error ignored = ERROR_INIT;
	json_t *o = NULL;
	int r = cli_call(cli, "GET", fmt, name, NULL, &o, &ignored);

	json_decref(o);
	return r == 0;
}

int remote_ref_resolve_path(struct cli *cli, const char *word, char **out, struct error *err)
{
	char remote[REMOTE_NAME_MAX + 1];
	const char *rest;
	json_t *o = NULL;
	char *name;
	int r;

	*out = NULL;
	if (!reference_split(word, remote, &rest) || *rest == '/' ||
	    !has(cli, "/api/remotes/%s", remote) || has(cli, "/api/snapshots/%s", remote))
		return 0;
	name = strndup(rest, strcspn(rest, ":"));
	const struct wish w = { remote, name, "", true };
	r = name ? pull(cli, &w, &o, err) : -ENOMEM;
	if (r == 0 && asprintf(out, "%s%s", cli_str(o, "id"), rest + strlen(name)) < 0)
		r = -ENOMEM;
	json_decref(o);
	free(name);
	return r;
}
