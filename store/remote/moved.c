#include "store/remote/moved.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/base/clock.h"
#include "store/names/snapshot.h"

#define ENTRIES_MAX 1024u

enum entry_state { LOADING, PRESENT, ABSENT };

struct entry {
	TAILQ_ENTRY(entry) link;
	char uuid[SNAPSHOT_ID_SIZE];
	struct pack_id pack;
	enum entry_state state;
	int64_t asked_ms;
	struct buf bytes; /* PRESENT */
	struct share_moved view;
};

struct moved {
	size_t max_bytes;
	pthread_mutex_t lock;		    /* a leaf; of all below */
	pthread_cond_t changed;		    /* an entry's state */
	TAILQ_HEAD(entries, entry) entries; /* the last used first */
	size_t n, bytes;
};

struct moved *moved_new(size_t max_bytes)
{
	struct moved *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->max_bytes = max_bytes;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	TAILQ_INIT(&m->entries);
	return m;
}

static void drop(struct moved *m, struct entry *e)
{
	TAILQ_REMOVE(&m->entries, e, link);
	m->n--;
	m->bytes -= e->bytes.len;
	buf_fini(&e->bytes);
	free(e);
}

void moved_free(struct moved *m)
{
	struct entry *e;

	if (!m)
		return;
	while ((e = TAILQ_FIRST(&m->entries)))
		drop(m, e);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static void make_room(struct moved *m)
{
	struct entry *e, *prev;

	for (e = TAILQ_LAST(&m->entries, entries);
	     e && (m->bytes > m->max_bytes || m->n > ENTRIES_MAX); e = prev) {
		prev = TAILQ_PREV(e, entries, link);
		if (e->state != LOADING && e != TAILQ_FIRST(&m->entries))
			drop(m, e);
	}
}

static struct entry *find(struct moved *m, const char *uuid, const struct pack_id *pack)
{
	struct entry *e;

	TAILQ_FOREACH(e, &m->entries, link)
	if (pack_id_cmp(&e->pack, pack) == 0 && strcmp(e->uuid, uuid) == 0)
		break;
	if (e && e != TAILQ_FIRST(&m->entries)) {
		TAILQ_REMOVE(&m->entries, e, link);
		TAILQ_INSERT_HEAD(&m->entries, e, link);
	}
	return e;
}

static bool apply(const struct entry *e, const struct digest *d, struct share_loc *at)
{
	struct share_moved_chunk c;

	if (e->state != PRESENT || !share_moved_find(&e->view, d, &c))
		return false;
	*at = (struct share_loc){ e->view.head.to, c.offset, c.len };
	return true;
}

static bool known(struct moved *m, const char *uuid, const struct digest *d, struct share_loc *at)
{
	unsigned hops = 0;
	struct entry *e;

	while (hops < SHARE_MOVED_HOPS && (e = find(m, uuid, &at->pack)) && apply(e, d, at))
		hops++;
	return hops > 0;
}

bool moved_known(struct moved *m, const char *uuid, const struct digest *d, struct share_loc *at)
{
	bool changed;

	pthread_mutex_lock(&m->lock);
	changed = known(m, uuid, d, at);
	pthread_mutex_unlock(&m->lock);
	return changed;
}

/* With the request, without the lock. */
static int load(struct entry *e, const struct moved_bucket *b, struct buf *bytes, struct error *err)
{
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_moved(&e->pack, key);
	rc = object_get(b->os, b->priority, key, SHARE_MOVED_MAX, bytes, NULL, err);
	if (rc == 0)
		rc = share_moved_decode(bytes->data, bytes->len, &e->pack, &e->view, err);
	return rc == -ENOENT || rc == 0 ? rc : error_prefix(err, rc, "%s", key);
}

/* An entry that nobody has begun. NULL: no memory. */
static struct entry *begin(struct moved *m, const char *uuid, const struct pack_id *pack)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	snprintf(e->uuid, sizeof(e->uuid), "%s", uuid);
	e->pack = *pack;
	TAILQ_INSERT_HEAD(&m->entries, e, link);
	m->n++;
	return e;
}

static void end(struct moved *m, struct entry *e, int rc, struct buf *bytes)
{
	e->asked_ms = monotonic_ms();
	if (rc == 0) {
		e->state = PRESENT;
		e->bytes = *bytes;
		*bytes = (struct buf)BUF_INIT;
		m->bytes += e->bytes.len;
	} else {
		e->state = ABSENT;
		if (rc != -ENOENT)
			e->asked_ms = INT64_MIN / 2; /* the next one asks again */
	}
	pthread_cond_broadcast(&m->changed);
}

int moved_ask(struct moved *m, const struct moved_bucket *b, const struct digest *d,
	      struct share_loc *at, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	struct entry *e;
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	while ((e = find(m, b->uuid, &at->pack)) && e->state == LOADING)
		pthread_cond_wait(&m->changed, &m->lock);
	if (!e || (e->state == ABSENT && monotonic_ms() - e->asked_ms > MOVED_ABSENT_MS)) {
		if (!e)
			e = begin(m, b->uuid, &at->pack);
		rc = e ? 0 : -ENOMEM;
		if (e) {
			e->state = LOADING;
			pthread_mutex_unlock(&m->lock);
			rc = load(e, b, &bytes, err);
			pthread_mutex_lock(&m->lock);
			end(m, e, rc, &bytes);
		}
	}
	if (rc == 0)
		rc = known(m, b->uuid, d, at) ? 0 : -ENOENT;
	make_room(m);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

int moved_head(const struct moved_bucket *b, const struct pack_id *pack,
	       struct share_moved_head *out, struct error *err)
{
	char key[SHARE_KEY_SIZE];
	struct object_request get = {
		.op = OBJECT_GET, .priority = b->priority, .key = key, .len = SHARE_MOVED_HEADER
	};
	int rc;

	share_key_moved(pack, key);
	object_run(b->os, &get, 1);
	rc = get.result;
	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&get.err));
	if (rc == 0)
		rc = share_moved_head_decode(get.data.data, get.data.len, pack, out, err);
	object_request_fini(&get);
	return rc == -ENOENT || rc == 0 ? rc : error_prefix(err, rc, "%s", key);
}
