#include "fs/fuse/suspects.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/clock.h"

#ifndef SUSPECTS_MAGIC
#define SUSPECTS_MAGIC 0x3150535553565256ull /* "VRVSUSP1" */
#endif
#define SLOTS 256u /* further threads are not watched */
#define LIST_MAX 256u
#define NAME_SIZE 64u

struct request {
	volatile uint64_t unique; /* 0: none; written last */
	_Atomic uint32_t points;  /* in the list; in slots not 0: it is being fetched for */
	char connection[NAME_SIZE];
};

/* What a successor gets. */
struct page {
	uint64_t magic;
	struct request slots[SLOTS];   /* what threads are at */
	struct request list[LIST_MAX]; /* what former daemons died of */
};

/* Of another build with the same magic it is the same. Change both, or none. */
_Static_assert(sizeof(struct request) == 80 &&
		       sizeof(struct page) == 8 + (SLOTS + LIST_MAX) * sizeof(struct request),
	       "another layout: another magic");

struct suspects {
	unsigned number; /* of this process's */
	int fd;
	bool is_adopted;
	struct page *page;
	unsigned n; /* of the list; constant */
	_Atomic unsigned n_slots;
	/* A suspect runs, or is fetched for; guarded by lock, which is never held for long. */
	bool is_running, is_fetching;
	pthread_mutex_t lock;
	pthread_cond_t ended;
};

/* This thread's. */
static _Thread_local struct {
	unsigned of;		 /* their number */
	struct request *slot;	 /* NULL: there was none left */
	struct request *suspect; /* that it is at; l->is_running is its */
	bool deferred;		 /* what it is at goes on in another thread */
} mine;

static bool is_request(const struct request *r, const char *connection, uint64_t unique)
{
	return r->unique == unique && strncmp(r->connection, connection, NAME_SIZE) == 0;
}

static struct request *find(struct suspects *l, const char *connection, uint64_t unique)
{
	for (unsigned i = 0; i < l->n; i++)
		if (is_request(&l->page->list[i], connection, unique))
			return &l->page->list[i];
	return NULL;
}

/* ---- what a predecessor has left ---- */

static bool was_begun(const struct page *p, const struct request *r)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (p->slots[i].unique && is_request(r, p->slots[i].connection, p->slots[i].unique))
			return true;
	return false;
}

static bool is_alone(const struct request *r)
{
	return r->points >= SUSPECTS_POINTS_ALONE;
}

/* One of those that run one at a time was running. */
static bool has_culprit(const struct suspects *l)
{
	for (unsigned i = 0; i < l->n; i++)
		if (is_alone(&l->page->list[i]) && was_begun(l->page, &l->page->list[i]))
			return true;
	return false;
}

static void set(struct request *to, const struct request *from, uint32_t points)
{
	to->unique = from->unique;
	to->points = points;
	memmove(to->connection, from->connection, sizeof(to->connection));
}

/* What the death of a daemon that was at it is worth; 0 for one that waited when it was killed. */
static unsigned worth(const struct page *p, const struct request *r, unsigned points)
{
	for (unsigned i = 0; i < SLOTS && points != SUSPECTS_POINTS_CRASH; i++)
		if (p->slots[i].points && is_request(r, p->slots[i].connection, p->slots[i].unique))
			return 0;
	return points;
}

/* Count the death for what was begun; what was not, and did not wait for its turn, is innocent. */
static void count(struct suspects *l, unsigned points)
{
	struct page *p = l->page;
	const bool known = has_culprit(l);
	unsigned n = 0;

	for (unsigned i = 0; i < l->n; i++) {
		struct request *r = &p->list[i];
		const bool begun = was_begun(p, r);

		if (!begun && !is_alone(r))
			continue;
		if (begun && (!known || is_alone(r)))
			r->points += worth(p, r, points);
		set(&p->list[n++], r, r->points);
	}
	l->n = n;
	for (unsigned i = 0; i < SLOTS && !known; i++) {
		struct request *r = &p->slots[i];

		if (!r->unique || l->n == LIST_MAX || !worth(p, r, points) ||
		    find(l, r->connection, r->unique))
			continue;
		set(&p->list[l->n++], r, points);
	}
	memset((void *)&p->list[l->n], 0, (LIST_MAX - l->n) * sizeof(p->list[0]));
	memset((void *)p->slots, 0, sizeof(p->slots));
}

static void take_over(struct suspects *l, bool crashed)
{
	struct page *p = l->page;

	for (unsigned i = 0; i < SLOTS; i++)
		p->slots[i].connection[NAME_SIZE - 1] = 0;
	while (l->n < LIST_MAX && p->list[l->n].unique)
		p->list[l->n++].connection[NAME_SIZE - 1] = 0;
	count(l, crashed ? SUSPECTS_POINTS_CRASH : 1);
}

bool suspects_knows(int fd)
{
	struct stat st;
	uint64_t magic;

	return fstat(fd, &st) == 0 && st.st_size == sizeof(struct page) &&
	       pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) && magic == SUSPECTS_MAGIC;
}

struct suspects *suspects_new(int fd, bool crashed)
{
	static _Atomic unsigned number;
	struct suspects *l = calloc(1, sizeof(*l));
	const bool found = fd >= 0 && suspects_knows(fd);
	void *p = MAP_FAILED;

	if (!found && fd >= 0)
		close(fd);
	if (!found)
		fd = memfd_create("varve-suspects", MFD_CLOEXEC);
	if (l && fd >= 0 && (found || posix_fallocate(fd, 0, sizeof(struct page)) == 0))
		p = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		if (fd >= 0)
			close(fd);
		free(l);
		return NULL;
	}
	l->number = atomic_fetch_add(&number, 1) + 1;
	l->fd = fd;
	l->is_adopted = found;
	l->page = p;
	pthread_mutex_init(&l->lock, NULL);
	cond_init_monotonic(&l->ended);
	if (found)
		take_over(l, crashed);
	l->page->magic = SUSPECTS_MAGIC;
	return l;
}

void suspects_free(struct suspects *l)
{
	if (!l)
		return;
	munmap(l->page, sizeof(*l->page));
	close(l->fd);
	pthread_cond_destroy(&l->ended);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

int suspects_fd(const struct suspects *l)
{
	return l->fd;
}

bool suspects_is_adopted(const struct suspects *l)
{
	return l->is_adopted;
}

/* ---- requests ---- */

static struct request *slot_of_thread(struct suspects *l)
{
	if (mine.of != l->number) {
		unsigned i = atomic_fetch_add(&l->n_slots, 1);

		mine.of = l->number;
		mine.suspect = NULL;
		mine.deferred = false;
		mine.slot = i < SLOTS ? &l->page->slots[i] : NULL;
	}
	return mine.slot;
}

/* lock held. False: another one takes long. */
static bool wait_locked(struct suspects *l, bool fetches)
{
	struct timespec until = monotonic_after_ms(SUSPECTS_WAIT_S * 1000);

	while (l->is_running) {
		if (fetches && l->is_fetching) {
			pthread_cond_wait(&l->ended, &l->lock);
			until = monotonic_after_ms(SUSPECTS_WAIT_S * 1000);
		} else if (pthread_cond_timedwait(&l->ended, &l->lock, &until) &&
			   !(fetches && l->is_fetching)) {
			break; /* its turn may have come just now */
		}
	}
	return !l->is_running;
}

/* False: another one takes long. */
static bool wait_alone(struct suspects *l, bool fetches)
{
	pthread_mutex_lock(&l->lock);
	const bool is_mine = wait_locked(l, fetches);

	if (is_mine) {
		l->is_running = true;
		l->is_fetching = fetches;
	}
	pthread_mutex_unlock(&l->lock);
	return is_mine;
}

static void let_another(struct suspects *l)
{
	pthread_mutex_lock(&l->lock);
	l->is_running = l->is_fetching = false;
	pthread_cond_signal(&l->ended);
	pthread_mutex_unlock(&l->lock);
}

static bool begin(struct suspects *l, const char *connection, uint64_t unique, bool sent_again,
		  bool fetches)
{
	if (!l || !connection)
		return true;
	struct request *slot = slot_of_thread(l);
	struct request *r = sent_again && l->n ? find(l, connection, unique) : NULL;

	if (r && r->points >= SUSPECTS_POINTS_MAX) {
		r->points = 0; /* it is answered now, and its number may come again */
		return false;
	}
	if (!slot)
		return true;
	if (r && is_alone(r)) {
		if (!wait_alone(l, fetches))
			return true;
		mine.suspect = r;
	}
	/* The name mostly is the same as before. */
	if (strncmp(slot->connection, connection, NAME_SIZE) != 0)
		snprintf(slot->connection, NAME_SIZE, "%s", connection);
	slot->points = fetches;
	slot->unique = unique;
	return true;
}

bool suspects_begin(struct suspects *l, const char *connection, uint64_t unique, bool sent_again)
{
	return begin(l, connection, unique, sent_again, false);
}

bool suspects_begin_fetch(struct suspects *l, const char *connection, uint64_t unique,
			  bool sent_again)
{
	return begin(l, connection, unique, sent_again, true);
}

void suspects_defer(struct suspects *l)
{
	if (l && mine.of == l->number)
		mine.deferred = true;
}

void suspects_end(struct suspects *l)
{
	if (!l || mine.of != l->number || !mine.slot)
		return;
	const bool is_over = !mine.deferred;

	mine.deferred = false;
	mine.slot->unique = 0;
	if (!mine.suspect)
		return;
	if (is_over)
		mine.suspect->points = 0; /* nobody died of it */
	mine.suspect = NULL;
	let_another(l);
}
