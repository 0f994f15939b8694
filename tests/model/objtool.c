/*
 * objtool - a bucket on the command line, for tests.
 *
 *   objtool dir:PATH COMMAND...
 *   objtool s3:ENDPOINT/BUCKET[/PREFIX] COMMAND...    (path-style, unless OBJ_VIRTUAL is set)
 *
 *   put KEY TEXT            put-once KEY TEXT [SECONDS-AGO]   put-file KEY FILE
 *   get KEY [OFFSET LEN]    tail KEY LEN       get-cached KEY
 *   ls PREFIX [AFTER]       dirs PREFIX [AFTER]   (one page of OBJ_PAGE keys, then "more" if so)
 *   all PREFIX              rm KEY...
 *   race KEY N              N put-onces at once: how many won
 *   many PREFIX N BYTES     N puts at once         read PREFIX N BYTES   N gets at once, compared
 *   check [ROUNDS]          object_probe, a line a check; status 1: not usable
 *   every SECONDS KEY       gets for so long, ten a second: how many failed
 *
 * Environment: OBJ_REGION, OBJ_PROXY, OBJ_CA, OBJ_CREDENTIALS, OBJ_TIMEOUT_MS, OBJ_IN_FLIGHT,
 * OBJ_READ_ONLY; VARVE_FAULTS; OBJ_COUNTS: counters on stderr at the end.
 * Exit status: 0, or 1 with "-ERRNO-NAME: why" on stderr.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/bucket/object_dir.h"
#include "store/bucket/object_fault.h"
#include "store/bucket/object_probe.h"
#include "store/bucket/object_s3.h"

static unsigned number(const char *name, unsigned fallback)
{
	const char *s = getenv(name);

	return s ? (unsigned)strtoul(s, NULL, 10) : fallback;
}

static int fail(int rc, const struct error *err)
{
	fprintf(stderr, "-%s: %s\n", strerrorname_np(-rc), error_text(err));
	return 1;
}

static int open_s3(const char *url, struct object_store **out, struct error *err)
{
	char *copy = strdup(url), *bucket = strstr(copy, "://"), *prefix = NULL;
	struct object_s3_options o = { .region = getenv("OBJ_REGION"),
				       .proxy = getenv("OBJ_PROXY"),
				       .ca_file = getenv("OBJ_CA"),
				       .credentials = getenv("OBJ_CREDENTIALS"),
				       .path_style = !getenv("OBJ_VIRTUAL"),
				       .read_only = getenv("OBJ_READ_ONLY") != NULL,
				       .timeout_ms = number("OBJ_TIMEOUT_MS", 20000),
				       .max_in_flight = number("OBJ_IN_FLIGHT", 0) };

	bucket = bucket ? strchr(bucket + 3, '/') : NULL;
	if (bucket) {
		*bucket++ = '\0';
		prefix = strchr(bucket, '/');
		if (prefix)
			*prefix++ = '\0';
	}
	o.endpoint = copy;
	o.bucket = bucket;
	o.prefix = prefix;
	int rc = object_s3_open(&o, out, err);
	free(copy);
	return rc;
}

static int run(struct object_store *os, struct object_request *r)
{
	object_run(os, r, 1);
	return r->result < 0 ? fail(r->result, &r->err) : 0;
}

static int cmd_get(struct object_store *os, char **arg, bool tail, bool immutable)
{
	struct object_request r = { .op = OBJECT_GET, .key = arg[0], .immutable = immutable };

	if (arg[1] && tail) {
		r.from_end = true;
		r.len = strtoul(arg[1], NULL, 10);
	} else if (arg[1] && arg[2]) {
		r.offset = strtoull(arg[1], NULL, 10);
		r.len = strtoul(arg[2], NULL, 10);
	}
	int rc = run(os, &r);
	if (rc == 0)
		fwrite(r.data.data, 1, r.data.len, stdout);
	object_request_fini(&r);
	return rc;
}

static int cmd_put(struct object_store *os, enum object_op op, char **arg)
{
	struct object_request r = {
		.op = op, .key = arg[0], .body = arg[1], .len = strlen(arg[1])
	};

	if (arg[2])
		r.signed_at = time(NULL) - strtol(arg[2], NULL, 10);
	return run(os, &r);
}

static int cmd_put_file(struct object_store *os, char **arg)
{
	struct buf b = BUF_INIT;
	FILE *f = fopen(arg[1], "re");
	size_t n = 1;

	while (f && n && buf_reserve(&b, 1 << 20) == 0)
		b.len += n = fread(b.data + b.len, 1, 1 << 20, f);
	struct object_request r = { .op = OBJECT_PUT, .key = arg[0], .body = b.data, .len = b.len };
	int rc = f ? run(os, &r) : 1;
	if (f)
		fclose(f);
	buf_fini(&b);
	return rc;
}

static int show(void *arg, const struct object_entry *e)
{
	(void)arg;
	printf("%s %llu\n", e->key, (unsigned long long)e->size);
	return 0;
}

static int cmd_ls(struct object_store *os, char **arg, bool delimited)
{
	struct object_request r = { .op = OBJECT_LIST,
				    .key = arg[0],
				    .after = arg[1],
				    .delimited = delimited,
				    .max_keys = number("OBJ_PAGE", 0) };
	int rc = run(os, &r);

	for (size_t i = 0; i < r.n_entries; i++)
		show(NULL, &r.entries[i]);
	if (r.more)
		puts("more");
	object_request_fini(&r);
	return rc;
}

static int cmd_race(struct object_store *os, char **arg)
{
	unsigned n = (unsigned)strtoul(arg[1], NULL, 10), won = 0, lost = 0;
	struct object_request *r = calloc(n, sizeof(*r));
	char(*body)[16] = calloc(n, sizeof(*body));

	for (unsigned i = 0; i < n; i++) {
		snprintf(body[i], sizeof(body[i]), "%u", i);
		r[i] = (struct object_request){ .op = OBJECT_PUT_ONCE,
						.key = arg[0],
						.body = body[i],
						.len = strlen(body[i]) };
	}
	object_run(os, r, n);
	for (unsigned i = 0; i < n; i++) {
		won += r[i].result == 0;
		lost += r[i].result == -EEXIST;
		if (r[i].result != 0 && r[i].result != -EEXIST)
			fail(r[i].result, &r[i].err);
	}
	printf("won %u lost %u\n", won, lost);
	free(body);
	free(r);
	return 0;
}

/* Bytes of object i. */
static void fill(uint8_t *b, size_t len, unsigned i)
{
	uint64_t x = i * 2654435761u + 1;

	for (size_t k = 0; k < len; k++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		b[k] = (uint8_t)x;
	}
}

static int cmd_many(struct object_store *os, char **arg, bool write)
{
	unsigned n = (unsigned)strtoul(arg[1], NULL, 10), bad = 0;
	size_t len = strtoul(arg[2], NULL, 10);
	struct object_request *r = calloc(n, sizeof(*r));
	char(*key)[100] = calloc(n, sizeof(*key));
	uint8_t *bytes = malloc(n * len + 1);

	for (unsigned i = 0; i < n; i++) {
		snprintf(key[i], sizeof(key[i]), "%s%05u", arg[0], i);
		fill(bytes + i * len, len, i);
		r[i] = (struct object_request){ .op = write ? OBJECT_PUT : OBJECT_GET,
						.priority = write ? OBJECT_PUSH : OBJECT_DEMAND,
						.key = key[i],
						.body = bytes + i * len,
						.len = len };
	}
	int64_t start = monotonic_ms();
	object_run(os, r, n);
	printf("%u of %zu bytes in %lld ms\n", n, len, (long long)(monotonic_ms() - start));
	for (unsigned i = 0; i < n; i++) {
		if (r[i].result < 0)
			fail(r[i].result, &r[i].err);
		bad += r[i].result < 0 || (!write && (r[i].data.len != len ||
						      memcmp(r[i].data.data, r[i].body, len) != 0));
		object_request_fini(&r[i]);
	}
	free(bytes);
	free(key);
	free(r);
	return bad > 0;
}

static int cmd_every(struct object_store *os, char **arg)
{
	int64_t end = monotonic_ms() + strtol(arg[0], NULL, 10) * 1000;
	unsigned good = 0, bad = 0;

	while (monotonic_ms() < end) {
		struct object_request r = { .op = OBJECT_GET, .key = arg[1] };
		if (run(os, &r) == 0)
			good++;
		else
			bad++;
		object_request_fini(&r);
		usleep(100000);
	}
	printf("good %u bad %u\n", good, bad);
	return bad > 0;
}

static int cmd_all(struct object_store *os, char **arg)
{
	struct error err = ERROR_INIT;
	int rc = object_each(os, OBJECT_CONTROL, arg[0], show, NULL, &err);

	return rc < 0 ? fail(rc, &err) : 0;
}

static int cmd_check(struct object_store *os, char **arg)
{
	struct error err = ERROR_INIT;
	struct object_probe probe;
	int rc = object_probe(os, arg[0] ? (unsigned)strtoul(arg[0], NULL, 10) : 0, &probe, &err);

	if (rc < 0)
		return fail(rc, &err);
	for (size_t i = 0; i < probe.n; i++)
		printf("%s: %s: %s\n", probe.checks[i].name,
		       object_check_result_text(probe.checks[i].result), probe.checks[i].text);
	return !probe.usable;
}

static int cmd_rm(struct object_store *os, char **arg)
{
	struct object_request r = { .op = OBJECT_DELETE, .names = (const char *const *)arg };

	while (arg[r.n_names])
		r.n_names++;
	return run(os, &r);
}

static int command(struct object_store *os, const char *name, char **arg, int n)
{
	if (strcmp(name, "get") == 0 && n >= 1)
		return cmd_get(os, arg, false, false);
	if (strcmp(name, "get-cached") == 0 && n >= 1)
		return cmd_get(os, arg, false, true);
	if (strcmp(name, "tail") == 0 && n == 2)
		return cmd_get(os, arg, true, false);
	if (strcmp(name, "put") == 0 && n == 2)
		return cmd_put(os, OBJECT_PUT, arg);
	if (strcmp(name, "put-once") == 0 && n >= 2)
		return cmd_put(os, OBJECT_PUT_ONCE, arg);
	if (strcmp(name, "put-file") == 0 && n == 2)
		return cmd_put_file(os, arg);
	if (strcmp(name, "ls") == 0 && n >= 1)
		return cmd_ls(os, arg, false);
	if (strcmp(name, "dirs") == 0 && n >= 1)
		return cmd_ls(os, arg, true);
	if (strcmp(name, "all") == 0 && n == 1)
		return cmd_all(os, arg);
	if (strcmp(name, "rm") == 0)
		return cmd_rm(os, arg);
	if (strcmp(name, "race") == 0 && n == 2)
		return cmd_race(os, arg);
	if (strcmp(name, "many") == 0 && n == 3)
		return cmd_many(os, arg, true);
	if (strcmp(name, "read") == 0 && n == 3)
		return cmd_many(os, arg, false);
	if (strcmp(name, "check") == 0)
		return cmd_check(os, arg);
	if (strcmp(name, "every") == 0 && n == 2)
		return cmd_every(os, arg);
	fprintf(stderr, "objtool: no such command, or other arguments: %s\n", name);
	return 2;
}

static void show_counts(struct object_store *os)
{
	struct object_counts c;
	uint64_t requests = 0;

	object_store_counts(os, &c);
	for (size_t i = 0; i < OBJECT_OPS; i++)
		requests += c.requests[i];
	fprintf(stderr, "requests %llu retried %llu throttled %llu hedged %llu failed %llu\n",
		(unsigned long long)requests, (unsigned long long)c.retried,
		(unsigned long long)c.throttled, (unsigned long long)c.hedged,
		(unsigned long long)c.failed);
}

int main(int argc, char **argv)
{
	struct object_store *os = NULL;
	struct error err = ERROR_INIT;
	int rc = -EINVAL;

	if (argc < 3) {
		fprintf(stderr,
			"usage: objtool dir:PATH | s3:ENDPOINT/BUCKET[/PREFIX] COMMAND...\n");
		return 2;
	}
	if (strncmp(argv[1], "dir:", 4) == 0)
		rc = object_dir_open(argv[1] + 4, getenv("OBJ_READ_ONLY") != NULL, &os, &err);
	else if (strncmp(argv[1], "s3:", 3) == 0)
		rc = open_s3(argv[1] + 3, &os, &err);
	if (rc == 0)
		rc = object_fault_by_env(&os, &err);
	if (rc < 0)
		return fail(rc, &err);
	rc = command(os, argv[2], argv + 3, argc - 3);
	if (getenv("OBJ_COUNTS"))
		show_counts(os);
	object_store_close(os);
	return rc;
}
