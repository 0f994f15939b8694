/*
 * libvarve_demo - a program as its users write them: an image in code, sandboxes
 * of it, commands, files, checkpoints, snapshots. Says what it got, one fact a
 * line, for a test to look at.
 *	libvarve_demo BASE TREE     BASE: a snapshot with a shell; TREE: a local directory
 * The daemon is found by the environment.
 */
#include "tools/libvarve/varve.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct varve_client *client;
static struct varve_error err;

/* What must work. */
#define DO(call)                                                                                   \
	do {                                                                                       \
		if ((call) < 0) {                                                                  \
			printf("FAILED %s: %d %d %s\n", #call, err.code, err.status, err.message); \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)
/* What must not, and how. */
#define REFUSED(what, call)                                                                  \
	do {                                                                                 \
		err = (struct varve_error){ 0 };                                             \
		int got = (call);                                                            \
		printf("%s: %s %d %s\n", what,                                               \
		       got == err.code ? strerrorname_np(-got) : "another code", err.status, \
		       err.message);                                                         \
	} while (0)

struct log_count {
	int lines, output, last_step;
	int stop_after; /* 0: never */
	bool print;
};

static int on_log(void *arg, const struct varve_log *log)
{
	struct log_count *n = arg;

	n->lines++;
	n->output += strcmp(log->stream, "stdout") == 0;
	n->last_step = log->step > n->last_step ? log->step : n->last_step;
	if (n->print)
		printf("log %d %s %s: %s\n", log->step, log->type, log->stream, log->message);
	return n->stop_after && n->lines >= n->stop_after;
}

static struct varve_image *make_image(const char *base, const char *tree)
{
	struct varve_image *img = varve_image_from_snapshot(base);
	char key[VARVE_KEY_SIZE], *json;

	varve_image_set(&img, varve_image_add_local_dir(img, tree, "/srv/tree"));
	varve_image_set(&img, varve_image_add_file(img, "/srv/data", "a\0b", 3, 0640));
	varve_image_set(&img,
			varve_image_env(img, VARVE_LIST("GREETING=hello 'you' \xe2\x82\xac")));
	varve_image_set(&img, varve_image_workdir(img, "/srv/tree"));
	varve_image_set(
		&img, varve_image_run_commands(img, VARVE_LIST("echo to-out; echo to-err >&2",
							       "echo \"$GREETING\" > /srv/greeting",
							       "echo $((40 + 2)) > /srv/answer")));
	DO(varve_image_cache_key(img, key, &err));
	DO(varve_image_to_json(img, &json, &err));
	printf("key: %s\nmanifest: %s\n", key, json);
	free(json);
	return img;
}

static void run(const struct varve_sandbox *sb, const char *what, const char *command)
{
	struct varve_exec_options o = { .argv = VARVE_LIST("/bin/sh", "-c", command),
					.envs = VARVE_LIST("MINE=1 2") };
	struct varve_exec_result *r;

	DO(varve_exec_run(client, sb->id, &o, &r, &err));
	printf("%s: %d [%s] [%s]\n", what, r->exit_code, r->out, r->err);
	varve_exec_result_free(r);
}

static struct varve_sandbox *create(struct varve_image *img)
{
	struct log_count first = { .print = true }, second = { 0 };
	struct varve_sandbox_options o = { .image = img,
					   .envs = VARVE_LIST("FROM_SANDBOX=yes"),
					   .metadata = VARVE_LIST("owner=demo"),
					   .on_log = on_log,
					   .arg = &first };
	struct varve_sandbox *sb, *again, **list;
	size_t n = 0;

	DO(varve_sandbox_create(client, &o, &sb, &err));
	printf("built: output %d, steps %d\n", first.output, first.last_step);
	o.arg = &second;
	DO(varve_sandbox_create(client, &o, &again, &err));
	printf("cached: output %d, same image %d, running %d\n", second.output,
	       strcmp(sb->from_checkpoint_id, again->from_checkpoint_id) == 0,
	       strcmp(again->status, "running") == 0);
	printf("metadata: %d\n", strstr(again->json, "\"owner\":\"demo\"") != NULL);
	DO(varve_sandbox_list(client, &list, &err));
	while (list[n])
		n++;
	printf("sandboxes: %zu\n", n);
	varve_sandboxes_free(list);
	DO(varve_sandbox_set_timeout(client, again->id, 300, &err));
	DO(varve_sandbox_kill(client, again->id, &err));
	REFUSED("killed", varve_sandbox_get(client, again->id, &again, &err));
	varve_sandbox_free(again);
	return sb;
}

static void exec(const struct varve_sandbox *sb)
{
	struct varve_exec_options o = { .argv = VARVE_LIST("/bin/sh", "-c", "sleep 0.2; echo late"),
					.cwd = "/" };
	struct varve_exec_result *r = NULL;
	char *id;

	run(sb, "result", "pwd; echo \"$GREETING|$FROM_SANDBOX|$MINE\"; echo oops >&2; exit 3");
	run(sb, "tree", "cat b/c; ls -l run link | cut -c1-10; ls -d empty; cat /srv/greeting");
	DO(varve_exec_start(client, sb->id, &o, &id, &err));
	do {
		varve_exec_result_free(r);
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
		DO(varve_exec_get(client, sb->id, id, &r, &err));
	} while (r->running);
	printf("async: %d [%s]\n", r->exit_code, r->out);
	varve_exec_result_free(r);
	free(id);
	o = (struct varve_exec_options){ .argv = VARVE_LIST("md5sum"),
					 .stdin_data = "\0\xff\n",
					 .stdin_len = 3 };
	DO(varve_exec_run(client, sb->id, &o, &r, &err));
	printf("stdin: %d [%.32s]\n", r->exit_code, r->out);
	varve_exec_result_free(r);
	o.stdin_data = NULL;
	DO(varve_exec_run(client, sb->id, &o, &r, &err));
	printf("no stdin: %d [%.32s]\n", r->exit_code, r->out);
	varve_exec_result_free(r);
	REFUSED("no such exec", varve_exec_get(client, sb->id, "none", &r, &err));
	REFUSED("no command",
		varve_exec_run(client, sb->id, &(struct varve_exec_options){ 0 }, &r, &err));
}

static int count_bytes(void *arg, const void *data, size_t len)
{
	(void)data;
	*(size_t *)arg += len;
	return 0;
}

static int refuse_bytes(void *arg, const void *data, size_t len)
{
	(void)arg;
	(void)data;
	return len > 0 ? -EPIPE : 0;
}

static void write_and_read(const struct varve_sandbox *sb)
{
	size_t len, total = 0, big = 3000000;
	char *bytes = calloc(1, big), *back;
	int fds[2];

	DO(varve_file_read_all(client, sb->id, "/srv/data", &back, &len, &err));
	printf("data: %zu %d\n", len, memcmp(back, "a\0b", 4) == 0);
	free(back);
	DO(varve_file_write(client, sb->id, "/new/dir/file \xc3\xa4?&#", "text\n", 5, &err));
	DO(varve_file_read_all(client, sb->id, "/new/dir/file \xc3\xa4?&#", &back, NULL, &err));
	printf("file: %s", back);
	free(back);
	DO(varve_file_write(client, sb->id, "/new/empty", NULL, 0, &err));
	DO(varve_file_write(client, sb->id, "/new/big", bytes, big, &err));
	DO(varve_file_read(client, sb->id, "/new/big", count_bytes, &total, &err));
	printf("big: %zu\n", total);
	if (pipe(fds) < 0 || write(fds[1], "piped", 5) != 5 || close(fds[1]) < 0)
		abort();
	DO(varve_file_write_fd(client, sb->id, "/new/piped", fds[0], &err));
	close(fds[0]);
	REFUSED("stopped", varve_file_read(client, sb->id, "/new/big", refuse_bytes, NULL, &err));
	free(bytes);
}

static void files(const struct varve_sandbox *sb)
{
	struct varve_file **list;
	char *back;

	write_and_read(sb);
	DO(varve_file_mkdir(client, sb->id, "/new/made", &err));
	DO(varve_file_list(client, sb->id, "/new", &list, &err));
	for (struct varve_file **f = list; *f; f++)
		printf("entry: %s %s %d %d\n", (*f)->name, (*f)->path, (*f)->is_dir,
		       (*f)->is_dir ? 0 : (int)(*f)->size_bytes);
	varve_files_free(list);
	DO(varve_file_remove(client, sb->id, "/new", &err));
	REFUSED("removed", varve_file_read_all(client, sb->id, "/new/big", &back, NULL, &err));
	REFUSED("no list", varve_file_list(client, sb->id, "/new", &list, &err));
}

static void checkpoints(const struct varve_sandbox *sb)
{
	struct varve_checkpoint *cp, *taken, **list;
	struct varve_sandbox *fork;

	run(sb, "before", "echo one > /state; cat /state");
	DO(varve_checkpoint_create(client, sb->id, "first", 0, &cp, &err));
	printf("checkpoint: %s %d\n", cp->name, strcmp(cp->sandbox_id, sb->id) == 0);
	REFUSED("taken", varve_checkpoint_create(client, sb->id, "first", 0, &taken, &err));
	run(sb, "after", "echo two > /state; cat /state");
	DO(varve_sandbox_fork(client, cp->id, NULL, &fork, &err));
	run(fork, "fork", "cat /state; echo three > /state; cat /srv/answer");
	DO(varve_checkpoint_restore(client, sb->id, cp->id, &err));
	run(sb, "restored", "cat /state; pwd");
	DO(varve_sandbox_kill(client, fork->id, &err));
	varve_sandbox_free(fork);
	DO(varve_checkpoint_list(client, sb->id, &list, &err));
	for (struct varve_checkpoint **p = list; *p; p++)
		printf("listed: %s %s\n", (*p)->name, (*p)->status);
	varve_checkpoints_free(list);
	DO(varve_checkpoint_delete(client, sb->id, cp->id, &err));
	REFUSED("deleted", varve_sandbox_fork(client, cp->id, NULL, &fork, &err));
	varve_checkpoint_free(cp);
}

static void snapshots(struct varve_image *img)
{
	struct varve_build_options o = { .force = 1, .on_log = on_log };
	struct log_count log = { 0 }, replay = { 0 };
	struct varve_snapshot *s, *same, **list;
	char key[VARVE_KEY_SIZE];
	int found = 0;

	o.arg = &log;
	DO(varve_image_cache_key(img, key, &err));
	DO(varve_snapshot_create(client, "demo-image", img, &o, &s, &err));
	printf("snapshot: %s %s, key %d, manifest %d, output %d\n", s->name, s->status,
	       strcmp(s->content_hash, key) == 0, *s->manifest == '{', log.output);
	DO(varve_build_logs(client, s->build_id, on_log, &replay, &err));
	printf("log again: %d\n", replay.output == log.output && replay.lines > 0);
	REFUSED("name taken", varve_snapshot_create(client, "demo-image", img, NULL, &same, &err));
	DO(varve_snapshot_get(client, "demo-image", &same, &err));
	printf("got: %d %d\n", strcmp(s->id, same->id) == 0, same->file_count > 0);
	varve_snapshot_free(same);
	DO(varve_snapshot_list(client, &list, &err));
	for (struct varve_snapshot **p = list; *p; p++)
		found += strcmp((*p)->id, s->id) == 0;
	printf("in list: %d\n", found);
	varve_snapshots_free(list);
	DO(varve_snapshot_delete(client, "demo-image", &err));
	REFUSED("gone", varve_snapshot_get(client, "demo-image", &same, &err));
	varve_snapshot_free(s);
}

static void remotes(const char *base, const char *tree)
{
	struct varve_snapshot *s;
	char url[4200];

	snprintf(url, sizeof(url), "file://%s.bucket", tree);
	DO(varve_remote_add(client, "demo", url, &err));
	REFUSED("same remote", varve_remote_add(client, "demo", url, &err));
	DO(varve_snapshot_push(client, base, "demo", "pushed", &err));
	DO(varve_snapshot_pull(client, "demo", "pushed", "demo-pulled", &s, &err));
	printf("pulled: %s %s %s\n", s->name, s->status, s->share);
	varve_snapshot_free(s);
	REFUSED("not there", varve_snapshot_pull(client, "demo", "none", NULL, NULL, &err));
	DO(varve_snapshot_delete(client, "demo-pulled", &err));
	DO(varve_remote_remove(client, "demo", &err));
	DO(varve_remote_add_with(client, "demo", url,
				 &(struct varve_remote_options){ .read_only = true }, &err));
	REFUSED("read-only", varve_snapshot_push(client, base, "demo", "more", &err));
	DO(varve_remote_remove(client, "demo", &err));
	REFUSED("an endpoint",
		varve_remote_add_with(client, "demo", url,
				      &(struct varve_remote_options){ .endpoint = "http://x" },
				      &err));
	REFUSED("no remote", varve_snapshot_push(client, base, "demo", NULL, &err));
}

static void failures(struct varve_image *img)
{
	struct log_count log = { .stop_after = 1 };
	struct varve_sandbox_options o = { 0 };
	struct varve_sandbox *sb;
	char slow[64]; /* another one each time, so never cached */

	snprintf(slow, sizeof(slow), "sleep 1; echo slow %d", (int)getpid());
	o.image = varve_image_run_commands(img, VARVE_LIST("echo doomed; exit 7"));
	REFUSED("failing", varve_sandbox_create(client, &o, &sb, &err));
	varve_image_set(&o.image, varve_image_add_file(img, "relative", "", 0, -1));
	REFUSED("malformed", varve_sandbox_create(client, &o, &sb, &err));
	varve_image_set(&o.image, varve_image_add_local_file(img, "/no/such/file", "/f"));
	REFUSED("unsound", varve_sandbox_create(client, &o, &sb, &err));
	varve_image_set(&o.image, varve_image_run_commands(img, VARVE_LIST(slow)));
	o.on_log = on_log;
	o.arg = &log;
	REFUSED("given up", varve_sandbox_create(client, &o, &sb, &err));
	varve_image_unref(o.image);
	o.image = NULL;
	o.snapshot = "no-such-snapshot";
	REFUSED("no snapshot", varve_sandbox_create(client, &o, &sb, &err));
}

int main(int argc, char **argv)
{
	struct varve_sandbox *sb;
	struct varve_image *img;

	if (argc != 3) {
		fprintf(stderr, "usage: libvarve_demo BASE TREE\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	DO(varve_client_new(NULL, &client, &err));
	img = make_image(argv[1], argv[2]);
	sb = create(img);
	exec(sb);
	files(sb);
	checkpoints(sb);
	snapshots(img);
	remotes(argv[1], argv[2]);
	failures(img);
	DO(varve_sandbox_kill(client, sb->id, &err));
	varve_sandbox_free(sb);
	varve_image_unref(img);
	varve_client_free(client);
	printf("done\n");
	return 0;
}
