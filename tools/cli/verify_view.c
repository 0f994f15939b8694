#include "tools/cli/verify_view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/bytes_json.h"

int verify_view_begin(struct verify_view *v, const struct cli *cli)
{
	*v = (struct verify_view){ .cli = cli, .problems = json_array() };
	progress_bar_init(&v->bar);
	return v->problems ? 0 : -ENOMEM;
}

static void show_part(const char *s, const char *behind)
{
	if (cli_print_name(s, strlen(s)) == 0)
		fputs(behind, stdout);
}

void verify_view_problem(struct verify_view *v, const char *snapshot, const char *path,
			 const char *problem)
{
	v->count++;
	if (v->cli->json) {
		json_t *o = json_object();
		if (o && bytes_json_set(o, "snapshot", snapshot, strlen(snapshot)) == 0 &&
		    bytes_json_set(o, "path", path, strlen(path)) == 0 &&
		    bytes_json_set(o, "problem", problem, strlen(problem)) == 0)
			json_array_append(v->problems, o);
		json_decref(o);
		return;
	}
	progress_bar_fini(&v->bar);
	if (*snapshot)
		show_part(snapshot, *path ? ":" : ": ");
	if (*path)
		show_part(path, ": ");
	show_part(problem, "\n");
}

int verify_view_end(struct verify_view *v, int r, json_t *result)
{
	progress_bar_fini(&v->bar);
	if (r == 0 && v->cli->json) {
		json_object_set(result, "problems", v->problems);
		r = cli_print_json(result);
	} else if (r == 0) {
		r = cli_print_fields(result);
	}
	if (r == 0 && (v->count || cli_num(result, "damaged")))
		r = CLI_FAILED;
	json_decref(v->problems);
	return r;
}
