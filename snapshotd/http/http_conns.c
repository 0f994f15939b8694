#include "snapshotd/http/http_conns.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/base/log.h"

#define NEVER INT64_MAX

struct conn {
	TAILQ_ENTRY(conn) link;
	int fd;
	uint8_t address[8]; /* IPv4, or the first half of IPv6 */
	bool trusted, ended;
	int64_t came, deadline;
	/* Of a body or a streamed reply. */
	int pause_ms;
	int64_t left_ms; /* while the client is waited for by nobody: what the deadline left */
};
TAILQ_HEAD(conn_list, conn);

struct conns {
	pthread_mutex_t lock;
	bool guarded;
	unsigned limit, untrusted_max, address_max;
	/* All below, and what is in the lists: guarded by lock. */
	struct conn_list trusted, untrusted; /* the oldest first */
	size_t n_trusted, n_untrusted;	     /* those that have been ended are not counted */
};

struct conns *conns_new(unsigned limit, bool guarded)
{
	struct conns *cs = calloc(1, sizeof(*cs));

	if (!cs)
		return NULL;
	pthread_mutex_init(&cs->lock, NULL);
	cs->guarded = guarded;
	cs->limit = limit - limit / 16; /* those that end are still there for a moment */
	cs->untrusted_max = limit > 1 ? limit / 2 : 1;
	cs->address_max = limit > 3 ? limit / 4 : 1;
	TAILQ_INIT(&cs->trusted);
	TAILQ_INIT(&cs->untrusted);
	return cs;
}

void conns_free(struct conns *cs)
{
	if (!cs)
		return;
	pthread_mutex_destroy(&cs->lock);
	free(cs);
}

static void address_of(const struct sockaddr *a, uint8_t out[8])
{
	memset(out, 0, 8);
	if (a && a->sa_family == AF_INET) {
		memcpy(out, &((const struct sockaddr_in *)a)->sin_addr, 4);
	} else if (a && a->sa_family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)a)->sin6_addr;

		memcpy(out, IN6_IS_ADDR_V4MAPPED(v6) ? v6->s6_addr + 12 : v6->s6_addr,
		       IN6_IS_ADDR_V4MAPPED(v6) ? 4 : 8);
	}
}

static void count_locked(struct conns *cs, const struct conn *c, int by)
{
	size_t *n = c->trusted ? &cs->n_trusted : &cs->n_untrusted;

	*n += (size_t)by;
}

static void end_locked(struct conns *cs, struct conn *c, const char *why)
{
	log_debug("http: a connection is ended: %s", why);
	shutdown(c->fd, SHUT_RDWR);
	c->ended = true;
	c->deadline = NEVER;
	count_locked(cs, c, -1);
}

/* Make room for one more of this address. */
static void evict_locked(struct conns *cs, const uint8_t address[8], int64_t now)
{
	bool full = cs->n_trusted + cs->n_untrusted >= cs->limit;
	int64_t before = full ? INT64_MAX : now - CONN_YOUNG_MS;
	struct conn *c, *oldest = NULL, *neighbour = NULL;
	size_t n = 0;

	TAILQ_FOREACH(c, &cs->untrusted, link)
	{
		/* cppcheck-suppress uninitvar ; the macro sets it */
		if (c->ended)
			continue;
		if (!oldest)
			oldest = c;
		if (memcmp(c->address, address, sizeof(c->address)) != 0)
			continue;
		if (!neighbour)
			neighbour = c;
		n++;
	}
	if (n >= cs->address_max && neighbour->came <= before)
		end_locked(cs, neighbour, "its address has too many without a key");
	else if (oldest && oldest->came <= before && (full || cs->n_untrusted >= cs->untrusted_max))
		end_locked(cs, oldest, "there are too many without a key");
}

struct conn *conns_add(struct conns *cs, int fd, const struct sockaddr *addr, int64_t now)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->fd = fd;
	c->came = now;
	c->deadline = now + CONN_HEADER_MS;
	c->trusted = cs->guarded;
	address_of(addr, c->address);
	pthread_mutex_lock(&cs->lock);
	evict_locked(cs, c->address, now);
	TAILQ_INSERT_TAIL(c->trusted ? &cs->trusted : &cs->untrusted, c, link);
	count_locked(cs, c, 1);
	pthread_mutex_unlock(&cs->lock);
	return c;
}

void conns_remove(struct conns *cs, struct conn *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&cs->lock);
	TAILQ_REMOVE(c->trusted ? &cs->trusted : &cs->untrusted, c, link);
	if (!c->ended)
		count_locked(cs, c, -1);
	pthread_mutex_unlock(&cs->lock);
	free(c);
}

void conns_trust(struct conns *cs, struct conn *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&cs->lock);
	if (!c->trusted && !c->ended) {
		TAILQ_REMOVE(&cs->untrusted, c, link);
		cs->n_untrusted--;
		c->trusted = true;
		TAILQ_INSERT_TAIL(&cs->trusted, c, link);
		cs->n_trusted++;
	}
	pthread_mutex_unlock(&cs->lock);
}

static void deadline_set(struct conns *cs, struct conn *c, int64_t deadline)
{
	if (!c)
		return;
	pthread_mutex_lock(&cs->lock);
	if (!c->ended)
		c->deadline = deadline;
	pthread_mutex_unlock(&cs->lock);
}

void conns_request(struct conns *cs, struct conn *c, int64_t now)
{
	if (!c)
		return;
	pthread_mutex_lock(&cs->lock);
	/* The first line may have come slowly already: nothing that is due sooner is put off. */
	if (!c->ended && c->deadline > now + CONN_HEADER_MS)
		c->deadline = now + CONN_HEADER_MS;
	pthread_mutex_unlock(&cs->lock);
}

void conns_body(struct conns *cs, struct conn *c, int pause_ms, int64_t now)
{
	if (!c)
		return;
	c->pause_ms = pause_ms; /* only the connection's own thread uses it */
	deadline_set(cs, c, now + pause_ms);
}

/* The time that len bytes may take. */
static int64_t earned_ms(size_t len)
{
	return (int64_t)(MIN(len, (size_t)1 << 40) * 1000 / CONN_RATE);
}

void conns_body_bytes(struct conns *cs, struct conn *c, size_t len, int64_t now)
{
	if (!c)
		return;
	pthread_mutex_lock(&cs->lock);
	if (!c->ended && c->deadline != NEVER) { /* else nothing was awaited */
		c->left_ms = MIN(c->deadline - now + earned_ms(len), (int64_t)c->pause_ms);
		c->deadline = NEVER;
	}
	pthread_mutex_unlock(&cs->lock);
}

void conns_body_next(struct conns *cs, struct conn *c, int64_t now)
{
	if (c)
		deadline_set(cs, c, now + c->left_ms);
}

void conns_serving(struct conns *cs, struct conn *c)
{
	deadline_set(cs, c, NEVER);
}

void conns_reply(struct conns *cs, struct conn *c, size_t len, int64_t now)
{
	deadline_set(cs, c, now + CONN_REPLY_PAUSE_MS + earned_ms(len));
}

/* A stream goes the other way; who is waited for, and for how long, is the same. */
void conns_stream(struct conns *cs, struct conn *c, int pause_ms, int64_t now)
{
	conns_body(cs, c, pause_ms, now);
	conns_body_bytes(cs, c, 0, now);
}

void conns_stream_next(struct conns *cs, struct conn *c, int64_t now)
{
	conns_body_next(cs, c, now);
}

void conns_stream_bytes(struct conns *cs, struct conn *c, size_t len, int64_t now)
{
	conns_body_bytes(cs, c, len, now);
}

void conns_idle(struct conns *cs, struct conn *c, int64_t now)
{
	if (c)
		deadline_set(cs, c, now + CONN_HEADER_MS + (c->trusted ? CONN_IDLE_MS : 0));
}

static void reap_locked(struct conns *cs, struct conn_list *list, int64_t now)
{
	struct conn *c;

	TAILQ_FOREACH(c, list, link)
	if (c->deadline <= now)
		end_locked(cs, c, "it is too slow");
}

bool conns_has_ended(struct conns *cs, const struct conn *c)
{
	bool ended;

	if (!c)
		return false;
	pthread_mutex_lock(&cs->lock);
	ended = c->ended;
	pthread_mutex_unlock(&cs->lock);
	return ended;
}

size_t conns_reap(struct conns *cs, int64_t now)
{
	size_t left;

	pthread_mutex_lock(&cs->lock);
	reap_locked(cs, &cs->trusted, now);
	reap_locked(cs, &cs->untrusted, now);
	left = cs->n_trusted + cs->n_untrusted;
	pthread_mutex_unlock(&cs->lock);
	return left;
}
