/*
 * fsmodel.c - run random operations on two directories and compare.
 *
 *   fsmodel --a DIR --b DIR [--seed N] [--seeds N] [--ops N] [--hook CMD --events LIST]
 *   fsmodel --compare DIR DIR
 *
 * Each seed is one sequence, in a fresh directory "sN" on either side. On a
 * difference it prints the seed, the operation in words and both results,
 * shortens the sequence to what is needed, and exits with 1.
 *
 * The hook runs with an event's name as FSMODEL_EVENT, and FSMODEL_A, FSMODEL_B
 * and FSMODEL_DIR. Before "remount", "restart" and "kill" all files are closed,
 * before "kill" the data have been given to the filesystem (syncfs); other
 * events find files open. What a held map has changed is written back before
 * an event, as its file gets its times only then.
 */
#include "tests/model/fsmodel/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <grp.h>
#include <unistd.h>

static const struct op_type event_type = { "event", 0, NULL, NULL, "n" };

/* One sequence on both sides. */
struct run {
	const struct model_config *cfg;
	uint64_t seed;
	struct side a, b;
	struct result *ra, *rb;
	struct gen gen;
	struct op *ops;
	size_t n_ops;
	unsigned replays;
	uint64_t ops_done;
};

static void remove_below(int dir)
{
	DIR *d = fdopendir(dir);

	if (!d) {
		close(dir);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (!unlinkat(dirfd(d), e->d_name, 0))
			continue;
		int fd = openat(dirfd(d), e->d_name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			remove_below(fd);
		unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

static void side_remove(struct side *s)
{
	int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		remove_below(fd);
	if (rmdir(s->dir))
		fprintf(stderr, "cannot remove %s: %s\n", s->dir, strerror(errno));
}

static int sides_open(struct run *run, const char *name)
{
	int rc = side_open(&run->a, run->cfg->a, name);

	run->a.label = 'A';
	run->b.label = 'B';
	if (!rc)
		rc = side_open(&run->b, run->cfg->b, name);
	if (rc)
		fprintf(stderr, "cannot make directory %s: %s\n", name, strerror(-rc));
	return rc;
}

static void sides_remove(struct run *run)
{
	side_close(&run->a);
	side_close(&run->b);
	side_remove(&run->a);
	side_remove(&run->b);
}

static bool event_needs_close(const char *event)
{
	return !strcmp(event, "remount") || !strcmp(event, "restart") || !strcmp(event, "kill");
}

static int hook_run(const struct run *run, const char *event)
{
	char since[32];
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		snprintf(since, sizeof(since), "%lld", (long long)model_since());
		setenv("FSMODEL_EVENT", event, 1);
		setenv("FSMODEL_A", run->cfg->a, 1);
		setenv("FSMODEL_B", run->cfg->b, 1);
		setenv("FSMODEL_DIR", strrchr(run->a.dir, '/') + 1, 1);
		setenv("FSMODEL_SINCE", since, 1);
		execl("/bin/sh", "sh", "-c", run->cfg->hook, (char *)NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return status ? -EIO : 0;
}

/* 0 or 1, as a difference. */
static int event_run(struct run *run, const struct op *op, FILE *out)
{
	bool closes = event_needs_close(op->name);
	side_sync_maps(&run->a);
	char *before = tree_list(run->a.dir);

	if (!strcmp(op->name, "kill") && syncfs(run->a.dir_fd))
		fprintf(stderr, "syncfs: %s\n", strerror(errno));
	if (closes) {
		side_close(&run->a);
		side_close(&run->b);
		memset(run->gen.slot_kind, 0, sizeof(run->gen.slot_kind));
	}
	int rc = hook_run(run, op->name);
	if (rc && out)
		fprintf(out, "  the hook failed at event %s\n", op->name);
	if (!rc && closes) {
		int ra = side_reopen_dir(&run->a), rb = side_reopen_dir(&run->b);
		if ((ra || rb) && out)
			fprintf(out, "  after %s: cannot open the directory: A %d, B %d\n",
				op->name, ra, rb);
		rc = ra ? ra : rb;
	}
	char *after = tree_list(run->a.dir);
	if (!rc)
		rc = tree_list_differs(before, after, out ? out : stderr);
	free(before);
	free(after);
	return rc ? 1 : tree_compare(run->a.dir, run->b.dir, out ? out : stderr);
}

static bool opens_to_write(const struct op *op)
{
	exec_fn e = op->type->exec;

	return e == exec_write_file || e == exec_truncate ||
	       (e == exec_open && (op->flags & O_TRUNC || (op->flags & O_ACCMODE) != O_RDONLY));
}

/* Run one operation on both sides; 0 they agree, 1 not. */
static int step(struct run *run, const struct op *op, FILE *out)
{
	if (op->type == &event_type)
		return event_run(run, op, out);
	op_run(&run->a, op, run->ra);
	run->ops_done++;
	if (run->ra->unsupported) {
		if (run->b.fd[op->slot] >= 0 && run->a.fd[op->slot] < 0) {
			close(run->b.fd[op->slot]);
			run->b.fd[op->slot] = -1;
		}
		memcpy(run->rb->text, run->ra->text, sizeof(run->rb->text));
		run->rb->ret = -1;
		return 0;
	}
	op_run(&run->b, op, run->rb);
	if (run->cfg->readers_leave && opens_to_write(op)) {
		side_close_readers(&run->a);
		side_close_readers(&run->b);
	}
	return !op_agree(op, run->ra, run->rb, out);
}

static void op_print(const struct run *run, size_t i, const char *after)
{
	char words[1024];

	op_describe(&run->ops[i], words, sizeof(words));
	printf("%5zu %s%s\n", i, words, after);
}

static int replay(void *arg, const struct op *ops, const bool *skip, size_t n, size_t *out_at)
{
	struct run *run = arg;
	char name[64];
	char *text = NULL;
	size_t len;
	int differs = 0;
	FILE *sink = open_memstream(&text, &len);

	snprintf(name, sizeof(name), "s%llu.%u", (unsigned long long)run->seed, run->replays++);
	if (!sink || sides_open(run, name))
		return -EIO;
	*out_at = n;
	for (size_t i = 0; i < n && !differs; i++) {
		if (skip[i])
			continue;
		differs = step(run, &ops[i], NULL);
		if (differs)
			*out_at = i;
	}
	if (!differs)
		differs = tree_compare(run->a.dir, run->b.dir, sink);
	fclose(sink);
	free(text);
	sides_remove(run);
	return differs;
}

/* Shorten the failing sequence and print what is left of it. */
static void report_short(struct run *run, size_t n)
{
	bool *skip = calloc(n + 1, sizeof(*skip));
	char name[64];

	if (!skip)
		return;
	printf("shortening ...\n");
	fflush(stdout);
	shrink_ops(run->ops, skip, n, replay, run);
	snprintf(name, sizeof(name), "s%llu.short", (unsigned long long)run->seed);
	if (!sides_open(run, name)) {
		printf("short sequence for seed %llu (left in %s):\n",
		       (unsigned long long)run->seed, name);
		int differs = 0;
		for (size_t i = 0; i < n && !differs; i++) {
			if (skip[i])
				continue;
			op_print(run, i, "");
			differs = step(run, &run->ops[i], stdout);
			if (!differs && run->ops[i].type != &event_type)
				printf("        = %ld %s%s\n", run->rb->ret,
				       run->rb->ret == -1 ? strerrorname_np(run->rb->err) : "",
				       run->rb->text);
		}
		if (!differs && !tree_compare(run->a.dir, run->b.dir, stdout))
			printf("(it does not differ when run again)\n");
		side_close(&run->a);
		side_close(&run->b);
	}
	free(skip);
}

static int report(struct run *run, size_t at, const char *text)
{
	size_t from = run->cfg->verbose || at < 12 ? 0 : at - 12;

	printf("DIFFERENCE: seed %llu, operation %zu\n", (unsigned long long)run->seed, at);
	for (size_t i = from; i <= at && i < run->n_ops && !run->cfg->verbose; i++)
		op_print(run, i, i == at ? "   <---" : "");
	printf("%s", text);
	side_close(&run->a);
	side_close(&run->b);
	if (run->cfg->shrink)
		report_short(run, MIN(at + 1, run->n_ops));
	fflush(stdout);
	return 1;
}

static void next_op(struct run *run, size_t i)
{
	struct op *op = &run->ops[i];
	const struct model_config *cfg = run->cfg;

	gen_op(&run->gen, op);
	if (!cfg->hook || !cfg->hook_every || (i + 1) % cfg->hook_every)
		return;
	char list[256], *save = NULL;
	char *names[16];
	size_t n = 0;

	snprintf(list, sizeof(list), "%s", cfg->events);
	for (char *p = strtok_r(list, ",", &save); p && n < ARRAY_SIZE(names);
	     p = strtok_r(NULL, ",", &save))
		names[n++] = p;
	op->type = &event_type;
	op->cred = 0;
	op->timed = false;
	snprintf(op->name, sizeof(op->name), "%s", names[gen_rnd(&run->gen, n)]);
}

/* The operations of one seed; 0 or 1. */
static int sequence(struct run *run)
{
	const struct model_config *cfg = run->cfg;
	char *text = NULL;
	size_t len = 0;
	int differs = 0;
	size_t i;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return 1;
	for (i = 0; i < cfg->n_ops && !differs; i++) {
		next_op(run, i);
		run->n_ops = i + 1;
		if (cfg->verbose)
			op_print(run, i, "");
		fflush(stdout);
		differs = step(run, &run->ops[i], out);
		if (!differs && run->ops[i].type != &event_type)
			gen_learn(&run->gen, &run->ops[i], run->rb);
		if (cfg->verbose && run->ops[i].type != &event_type)
			printf("        = %ld %s%s\n", run->rb->ret,
			       run->rb->ret == -1 ? strerrorname_np(run->rb->err) : "",
			       run->rb->text);
		if (!differs && cfg->compare_every && (i + 1) % cfg->compare_every == 0)
			differs = tree_compare(run->a.dir, run->b.dir, out);
	}
	if (!differs)
		differs = tree_compare(run->a.dir, run->b.dir, out);
	fclose(out);
	if (differs)
		report(run, i - 1, text);
	free(text);
	return differs;
}

static int seed_run(struct run *run, uint64_t seed)
{
	char name[64];

	run->seed = seed;
	run->n_ops = 0;
	snprintf(name, sizeof(name), "s%llu", (unsigned long long)seed);
	if (sides_open(run, name))
		return 1;
	gen_init(&run->gen, seed, run->cfg);
	int differs = sequence(run);
	gen_fini(&run->gen);
	if (!differs) {
		if (run->cfg->keep) {
			side_close(&run->a);
			side_close(&run->b);
		} else {
			sides_remove(run);
		}
	}
	return differs;
}

static int model_run(const struct model_config *cfg)
{
	struct run run = { .cfg = cfg, .ra = result_new(), .rb = result_new() };
	int differs = 0;
	uint64_t i;

	run.ops = calloc(cfg->n_ops, sizeof(*run.ops));
	if (!run.ra || !run.rb || !run.ops)
		return 2;
	for (i = 0; i < cfg->n_seeds && !differs; i++)
		differs = seed_run(&run, cfg->seed + i);
	printf("%llu operations in %llu sequences from seed %llu: %s\n",
	       (unsigned long long)run.ops_done, (unsigned long long)i,
	       (unsigned long long)cfg->seed, differs ? "DIFFERENT" : "the same");
	result_free(run.ra);
	result_free(run.rb);
	free(run.ops);
	return differs;
}

static int compare_only(const char *a, const char *b)
{
	const char *s = getenv("FSMODEL_SINCE");

	model_set_since(s ? (time_t)strtoll(s, NULL, 10) : time(NULL));
	return tree_compare(a, b, stdout);
}

static int usage(void)
{
	fprintf(stderr,
		"usage: fsmodel --a DIR --b DIR [--seed N] [--seeds N] [--ops N]\n"
		"               [--compare-every N] [--hook CMD --events a,b --hook-every N]\n"
		"               [--root-only] [--without op,op] [--no-shrink] [--keep] [--replay]\n"
		"               [--readers-leave]\n"
		"       fsmodel --compare DIR DIR\n"
		"  --replay prints every operation with its result\n"
		"  --readers-leave closes what is open to be read when a file is opened to write\n"
		"  events: checkpoint fork gc (files stay open), remount restart kill\n");
	return 2;
}

enum {
	OPT_A = 1000,
	OPT_B,
	OPT_SEED,
	OPT_SEEDS,
	OPT_OPS,
	OPT_EVERY,
	OPT_HOOK,
	OPT_EVENTS,
	OPT_HOOK_EVERY,
	OPT_ROOT,
	OPT_NO_SHRINK,
	OPT_KEEP,
	OPT_REPLAY,
	OPT_COMPARE,
	OPT_WITHOUT,
	OPT_READERS_LEAVE
};

static const struct option options[] = {
	{ "a", 1, NULL, OPT_A },
	{ "b", 1, NULL, OPT_B },
	{ "seed", 1, NULL, OPT_SEED },
	{ "seeds", 1, NULL, OPT_SEEDS },
	{ "ops", 1, NULL, OPT_OPS },
	{ "compare-every", 1, NULL, OPT_EVERY },
	{ "hook", 1, NULL, OPT_HOOK },
	{ "events", 1, NULL, OPT_EVENTS },
	{ "hook-every", 1, NULL, OPT_HOOK_EVERY },
	{ "root-only", 0, NULL, OPT_ROOT },
	{ "no-shrink", 0, NULL, OPT_NO_SHRINK },
	{ "keep", 0, NULL, OPT_KEEP },
	{ "replay", 0, NULL, OPT_REPLAY },
	{ "compare", 0, NULL, OPT_COMPARE },
	{ "without", 1, NULL, OPT_WITHOUT },
	{ "readers-leave", 0, NULL, OPT_READERS_LEAVE },
	{ NULL, 0, NULL, 0 },
};

static void option_set(struct model_config *cfg, int o)
{
	unsigned long long n = optarg ? strtoull(optarg, NULL, 10) : 0;

	switch (o) {
	case OPT_A:
		cfg->a = optarg;
		break;
	case OPT_B:
		cfg->b = optarg;
		break;
	case OPT_SEED:
		cfg->seed = n;
		break;
	case OPT_SEEDS:
		cfg->n_seeds = n;
		break;
	case OPT_OPS:
		cfg->n_ops = (unsigned)n;
		break;
	case OPT_EVERY:
		cfg->compare_every = (unsigned)n;
		break;
	case OPT_HOOK:
		cfg->hook = optarg;
		break;
	case OPT_EVENTS:
		cfg->events = optarg;
		break;
	case OPT_HOOK_EVERY:
		cfg->hook_every = (unsigned)n;
		break;
	case OPT_ROOT:
		cfg->root_only = true;
		break;
	case OPT_NO_SHRINK:
		cfg->shrink = false;
		break;
	case OPT_KEEP:
		cfg->keep = true;
		break;
	case OPT_WITHOUT:
		cfg->without = optarg;
		break;
	case OPT_READERS_LEAVE:
		cfg->readers_leave = true;
		break;
	case OPT_REPLAY:
		cfg->verbose = true;
		break;
	}
}

int main(int argc, char **argv)
{
	struct model_config cfg = { .seed = 1,
				    .n_seeds = 1,
				    .n_ops = 200,
				    .events = "checkpoint,fork,remount",
				    .hook_every = 50,
				    .shrink = true };
	bool compare = false;

	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (o == '?')
			return usage();
		if (o == OPT_COMPARE)
			compare = true;
		option_set(&cfg, o);
	}
	if (compare)
		return optind + 2 == argc ? compare_only(argv[optind], argv[optind + 1]) : usage();
	if (!cfg.a || !cfg.b || !cfg.n_ops || optind != argc)
		return usage();
	if (getuid()) {
		fprintf(stderr, "fsmodel needs root\n");
		return 2;
	}
	if (setgroups(0, NULL))
		return 2;
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	model_set_since(time(NULL));
	return model_run(&cfg);
}
