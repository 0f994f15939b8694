/*
 * What the agent in a container is told to run: any bytes are a request or refused; what is one
 * has its strings inside of the bytes, and is the same when it is written and read again.
 */
#include <string.h>

#include "snapshotd/container/init/request.h"
#include "store/base/buf.h"
#include "tests/fuzz/fuzz.h"

static void put(struct buf *b, const char *s)
{
	uint32_t len = (uint32_t)strlen(s);

	MUST(buf_append(b, &len, sizeof(len)) == 0);
	MUST(buf_append(b, s, len + 1) == 0);
}

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return n;
}

static void encode(const struct request *rq, struct buf *out)
{
	char n_args[24];

	snprintf(n_args, sizeof(n_args), "%zu", count(rq->argv));
	put(out, rq->cwd);
	put(out, rq->user);
	put(out, n_args);
	for (char *const *s = rq->argv; *s; s++)
		put(out, *s);
	for (char *const *s = rq->env; *s; s++)
		put(out, *s);
}

static void check(char *data, size_t size)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT, again = BUF_INIT;
	struct request rq, rq2;

	if (request_parse(data, size, &rq) != 0)
		return;
	MUST(count(rq.argv) >= 1);
	MUST(rq.env == rq.argv + count(rq.argv) + 1);
	encode(&rq, &b);
	free(rq.argv);
	MUST(request_parse((char *)b.data, b.len, &rq2) == 0);
	encode(&rq2, &again);
	free(rq2.argv);
	MUST(again.len == b.len && memcmp(again.data, b.data, b.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	/* Its end is the end of what may be read. */
	char *data = size ? malloc(size) : NULL;

	if (!data)
		return 0;
	memcpy(data, input, size);
	check(data, size);
	free(data);
	return 0;
}
