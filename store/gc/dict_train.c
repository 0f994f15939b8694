#include "store/gc/dict_train.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/log.h"
#include "store/chunk/chunker.h"
#include "store/chunk/dict.h"

#define GROWN 8 /* times as many chunks: train another one */
/* It is trained on the beginnings of chunks, as many as fit. */
#define SAMPLES_BYTES ((size_t)16 << 20)
#define SAMPLE_MAX (32u << 10)
#define SAMPLES_MAX 16384u

struct samples {
	struct buf bytes;
	size_t *sizes;
	unsigned count;
	uint8_t *chunk; /* CHUNK_MAX */
};

struct training {
	const struct samples *samples;
	uint32_t id;
	int level;
	struct buf *out;
	int result;
};

/* What a new one is made for, and where it goes. */
struct maker {
	struct store *s;
	int level;
	dict_run_fn run;
	void *run_arg;
};

static int add_sample(struct store *s, struct samples *sa, const struct digest *d)
{
	CLEANUP(kv_value_release) struct kv_value frame = { 0 };
	int r = kv_get(s->kv, KV_CHUNK, d->b, DIGEST_SIZE, &frame);
	int64_t len = r == 0 ? codec_raw_len(frame.data, frame.len) : r;

	if (len < 1 || len > (int64_t)CHUNK_MAX)
		return 0; /* collected, or damage that verify reports */
	r = chunk_store_decode(s->chunks, frame.data, frame.len, sa->chunk, (size_t)len);
	if (r < 0)
		return r == -EBADMSG ? 0 : r;
	size_t n = MIN((size_t)len, (size_t)SAMPLE_MAX);
	r = buf_append(&sa->bytes, sa->chunk, n);
	if (r == 0)
		sa->sizes[sa->count++] = n;
	return r;
}

/* Digests are as good as random, so the first chunks are a fair sample. */
static int collect(struct store *s, struct samples *sa)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(s->kv, KV_CHUNK);
	int r = 0;

	if (!it)
		return -ENOMEM;
	for (kv_iter_seek(it, "", 0); r == 0 && kv_iter_valid(it); kv_iter_next(it)) {
		struct digest d;
		size_t len;
		const uint8_t *key = kv_iter_key(it, &len);

		if (len != DIGEST_SIZE)
			continue;
		memcpy(d.b, key, DIGEST_SIZE);
		r = add_sample(s, sa, &d);
		if (sa->bytes.len >= SAMPLES_BYTES || sa->count == SAMPLES_MAX)
			break;
	}
	return r ? r : kv_iter_status(it);
}

static void train_samples(void *arg)
{
	struct training *t = arg;
	const struct samples *sa = t->samples;

	t->result = codec_dict_train(t->id, t->level, sa->bytes.data, sa->sizes, sa->count, t->out);
}

static int train(const struct maker *m, uint32_t id, struct buf *out)
{
	struct samples sa = { .bytes = BUF_INIT,
			      .sizes = calloc(SAMPLES_MAX, sizeof(*sa.sizes)),
			      .chunk = malloc(CHUNK_MAX) };
	struct training t = { .samples = &sa, .id = id, .level = m->level, .out = out };
	int r = sa.sizes && sa.chunk ? collect(m->s, &sa) : -ENOMEM;

	if (r == 0) {
		m->run(m->run_arg, train_samples, &t);
		r = t.result;
	}
	buf_fini(&sa.bytes);
	free(sa.sizes);
	free(sa.chunk);
	return r;
}

static int make(const struct maker *m, uint32_t id, uint64_t chunks, struct codec_dict **out,
		struct error *err)
{
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;
	CLEANUP(codec_dict_free_p) struct codec_dict *d = NULL;
	struct store *s = m->s;
	int r = train(m, id, &bytes);

	if (r == 0)
		r = codec_dict_new(bytes.data, bytes.len, m->level, &d);
	if (r == -EINVAL || r == -EBADMSG)
		return 0; /* nothing in common */
	if (r == 0)
		r = store_need_format(s, STORE_FORMAT_DICT, err);
	if (r == 0)
		r = dict_save(s->kv, id, chunks, &bytes);
	if (r < 0)
		return r;
	log_info("a dictionary was made of the store's %" PRIu64 " chunks", chunks);
	codec_dict_free(*out);
	*out = STEAL(d);
	return 0;
}

int dict_newest(struct store *s, int level, dict_run_fn run, void *run_arg, struct codec_dict **out,
		struct error *err)
{
	const struct maker m = { s, level, run, run_arg };
	CLEANUP(codec_dict_free_p) struct codec_dict *d = NULL;
	uint64_t then = DICT_CHUNKS_MIN / GROWN;
	uint32_t id = DICT_FIRST_ID;
	struct kv_stats st;
	int r;

	for (; id < DICT_FIRST_ID + DICT_COUNT_MAX; id++) {
		struct codec_dict *next;
		r = dict_load(s->kv, id, level, &then, &next);
		if (r == -ENOENT)
			break;
		if (r == -EBADMSG)
			continue; /* damaged: treat it as absent */
		if (r < 0)
			return r;
		codec_dict_free(d);
		d = next;
	}
	kv_stats(s->kv, &st);
	if (id < DICT_FIRST_ID + DICT_COUNT_MAX && st.keys[KV_CHUNK] / GROWN >= then) {
		r = make(&m, id, st.keys[KV_CHUNK], &d, err);
		if (r < 0)
			return r;
	}
	*out = STEAL(d);
	return 0;
}
