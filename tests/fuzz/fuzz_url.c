/* Request lines: paths and queries of any bytes match a route or are refused. */
#include "snapshotd/http/router.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static const struct route routes[] = {
	{ .method = "GET", .pattern = "/api/snapshots" },
	{ .method = "GET", .pattern = "/api/snapshots/:name" },
	{ .method = "GET", .pattern = "/api/snapshots/:name/diff/:other" },
	{ .method = "POST", .pattern = "/api/mounts/:id/checkpoint" },
};

static void match(const char *path)
{
	struct route_match m = { 0 };
	int rc = router_find(routes, ARRAY_SIZE(routes), "GET", path, &m);

	MUST(rc == 0 || rc == -ENOENT || rc == -EOPNOTSUPP || rc == -EINVAL);
	if (rc != 0)
		return;
	for (size_t i = 0; i < ROUTE_CAPTURES_MAX; i++)
		MUST(!m.captures[i] || m.captures[i][0]);
	route_match_fini(&m);
}

static void query(const char *text)
{
	struct error err = ERROR_INIT;
	struct query q;
	bool flag = false;
	uint64_t number = 0;

	if (query_parse(text, &q, &err) != 0) {
		MUST(err.msg[0]);
		return;
	}
	for (size_t i = 0; i < q.n; i++) {
		MUST(query_get(&q, q.params[i].name) == q.params[i].value);
		if (query_bool(&q, q.params[i].name, &flag, &err) != 0)
			MUST(err.msg[0]);
		if (query_u64(&q, q.params[i].name, &number, &err) != 0)
			MUST(err.msg[0]);
	}
	query_fini(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	MUST(text);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	char *mark = strchr(text, '?');
	if (mark) {
		*mark = '\0';
		query(mark + 1);
	}
	match(text);
	free(text);
	return 0;
}
