/*
 * Why nothing that a writer relies on is swept:
 *
 * Sessions are counted by the generation in which they began; a collection
 * starts a new generation. It waits for sessions of older ones before the mark,
 * so records name by then what they rely on, and it does not matter whether
 * their touches were recorded. A session of the new generation began under
 * `lock` after the filter was put in place under `lock`, so each of its touches
 * sees the filter and is recorded.
 *
 * A touch and a sweep of the same digest take the same stripe. Touch first: the
 * sweep finds the bits set and keeps the entry. Sweep first: it has deleted the
 * entry when the touch gets the stripe, and the writer, who tests for presence
 * after that, finds it absent and stores it again. Storing may happen after
 * touch_unlock, since the bits stay set.
 *
 * A slow session is not waited for. From its begin until the last slow session
 * and any collection beside it have ended, all touches are also recorded in a
 * second filter, which the sweep asks, too. So a collection keeps what a slow
 * session touched before the collection began and, as for any session, what it
 * touches later.
 *
 * Memory order: bits are set with relaxed fetch_or, as different digests share
 * words. A sweep that must see a touch's bits is ordered after it by the stripe;
 * marks are ordered before the sweep by the collector, who does both (or joins
 * the threads that marked). The filter goes away after every stripe was taken
 * once without it in place, so no touch still uses it.
 *
 * Locks: `lock` and a stripe are never held together.
 */
#include "store/chunk/guard.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#define STRIPES 64
/* Generations with live sessions; more than two only after collections were given up. */
#define GENERATIONS 8
/* Bits that a digest sets: the best number for about 9 bits of filter per digest, 1 % in error. */
#define BLOOM_BITS 6
#define BITS_PER_DIGEST 9
#define FILTER_BYTES_MIN 1024
/* Filter for slow sessions: some 200 GB of chunks, the first 3 of them in its first part. */
#define KEPT_BYTES ((size_t)4 << 20)
#define KEPT_FIRST_BYTES ((size_t)64 << 10)

/*
 * Its parts are `first_bits` long, as long again, and from then on as long as all
 * before. A digest goes to the last part begun, and a part that has its digests is
 * the last no more: few digests touch few pages of memory, which are there only
 * once touched.
 */
struct filter {
	uint64_t seed[2];
	uint64_t n_bits, first_bits; /* multiples of 64 */
	size_t mapped;		     /* bytes */
	_Atomic unsigned last;	     /* part */
	_Atomic uint64_t added;	     /* digests, about */
	_Atomic uint64_t words[];
};

struct stripe {
	pthread_mutex_t lock;
} __attribute__((aligned(64)));

struct guard {
	pthread_mutex_t lock;
	pthread_cond_t session_ended;
	/* guarded by lock: */
	unsigned long generation;
	unsigned long active[GENERATIONS]; /* sessions by generation % GENERATIONS */
	unsigned long slow;		   /* sessions */
	bool collecting;
	/* Set under lock, cleared by the collector; read under a stripe, or by the collector. */
	_Atomic(struct filter *) filter;
	/* Touched beside slow sessions; set and cleared under lock, read under a stripe. */
	_Atomic(struct filter *) kept;
	struct stripe stripes[STRIPES];
};

static void filter_free(struct filter *f)
{
	if (f)
		munmap(f, f->mapped);
}

struct guard *guard_new(void)
{
	struct guard *g = aligned_alloc(_Alignof(struct guard), sizeof(struct guard));

	if (!g)
		return NULL;
	*g = (struct guard){ .generation = 0 };
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->session_ended, NULL);
	for (int i = 0; i < STRIPES; i++)
		pthread_mutex_init(&g->stripes[i].lock, NULL);
	return g;
}

void guard_free(struct guard *g)
{
	if (!g)
		return;
	filter_free(atomic_load_explicit(&g->filter, memory_order_relaxed));
	filter_free(atomic_load_explicit(&g->kept, memory_order_relaxed));
	for (int i = 0; i < STRIPES; i++)
		pthread_mutex_destroy(&g->stripes[i].lock);
	pthread_cond_destroy(&g->session_ended);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

void guard_session_begin(struct guard *g, struct guard_session *s)
{
	pthread_mutex_lock(&g->lock);
	s->generation = g->generation;
	s->slow = false;
	g->active[s->generation % GENERATIONS]++;
	pthread_mutex_unlock(&g->lock);
}

bool guard_is_busy(struct guard *g)
{
	bool busy = false;

	pthread_mutex_lock(&g->lock);
	for (int i = 0; i < GENERATIONS; i++)
		busy |= g->active[i] > 0;
	busy |= g->slow > 0;
	pthread_mutex_unlock(&g->lock);
	return busy;
}

/* By the last word of a digest; the first ones choose the filter's bits. */
static pthread_mutex_t *stripe_of(struct guard *g, const struct digest *d)
{
	return &g->stripes[d->b[DIGEST_SIZE - 1] % STRIPES].lock;
}

/* Finaliser of MurmurHash3: every bit of x reaches the high bits, which choose. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdull;
	x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

static uint64_t part_bits(const struct filter *f, unsigned part)
{
	return part ? f->first_bits << (part - 1) : f->first_bits;
}

/* Its first bit, which is how many there are in the parts before. */
static uint64_t part_at(const struct filter *f, unsigned part)
{
	return part ? part_bits(f, part) : 0;
}

/*
 * The bits of d in a part: double hashing (Kirsch and Mitzenmacher, ESA 2006). The seed
 * differs each time, so what is kept in error goes with a later collection.
 */
static void bits_of(const struct filter *f, unsigned part, const struct digest *d,
		    uint64_t bits[BLOOM_BITS])
{
	const uint64_t at = part_at(f, part), n = part_bits(f, part);
	uint64_t a, b;

	memcpy(&a, d->b, sizeof(a));
	memcpy(&b, d->b + sizeof(a), sizeof(b));
	a = mix(a ^ f->seed[0]);
	b = mix(b ^ f->seed[1]) | 1;
	for (int i = 0; i < BLOOM_BITS; i++) {
		bits[i] = at + (uint64_t)((unsigned __int128)a * n >> 64);
		a += b;
	}
}

/* A digest was added to the part: is it time to begin the next one? */
static void count_added(struct filter *f, unsigned part)
{
	const uint64_t end = part_at(f, part + 1);
	uint64_t n = atomic_fetch_add_explicit(&f->added, 1, memory_order_relaxed) + 1;

	if (n * BITS_PER_DIGEST >= end && end < f->n_bits)
		atomic_compare_exchange_strong_explicit(&f->last, &part, part + 1,
							memory_order_relaxed, memory_order_relaxed);
}

static void filter_add(struct filter *f, const struct digest *d)
{
	unsigned part = atomic_load_explicit(&f->last, memory_order_relaxed);
	uint64_t bits[BLOOM_BITS];
	bool is_new = false;

	bits_of(f, part, d, bits);
	for (int i = 0; i < BLOOM_BITS; i++) {
		uint64_t bit = 1ull << bits[i] % 64;
		uint64_t was = atomic_fetch_or_explicit(&f->words[bits[i] / 64], bit,
							memory_order_relaxed);

		is_new |= !(was & bit);
	}
	if (is_new && f->first_bits < f->n_bits)
		count_added(f, part);
}

static bool part_has(struct filter *f, unsigned part, const struct digest *d)
{
	uint64_t bits[BLOOM_BITS];

	bits_of(f, part, d, bits);
	for (int i = 0; i < BLOOM_BITS; i++) {
		uint64_t word = atomic_load_explicit(&f->words[bits[i] / 64], memory_order_relaxed);
		if (!(word >> bits[i] % 64 & 1))
			return false;
	}
	return true;
}

/* The stripe orders the part that a touch has added to before this, as it does the bits. */
static bool filter_has(struct filter *f, const struct digest *d)
{
	unsigned last = atomic_load_explicit(&f->last, memory_order_relaxed);

	for (unsigned part = 0; part <= last; part++)
		if (part_has(f, part, d))
			return true;
	return false;
}

void guard_touch_lock(struct guard *g, const struct digest *d)
{
	pthread_mutex_lock(stripe_of(g, d));
	/* Acquire: pairs with the release in guard_collect_begin. */
	struct filter *f = atomic_load_explicit(&g->filter, memory_order_acquire);
	if (f)
		filter_add(f, d);
	f = atomic_load_explicit(&g->kept, memory_order_acquire);
	if (f)
		filter_add(f, d);
}

void guard_touch_unlock(struct guard *g, const struct digest *d)
{
	pthread_mutex_unlock(stripe_of(g, d));
}

/* first_bytes: as many, or halved some times. */
static struct filter *filter_new(size_t bytes, size_t first_bytes)
{
	size_t n_words = MAX(bytes, (size_t)FILTER_BYTES_MIN) / sizeof(uint64_t);
	size_t size = sizeof(struct filter) + n_words * sizeof(uint64_t);
	/* malloc() would clear it, which costs more than a small import. */
	struct filter *f =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec now;

	if (f == MAP_FAILED)
		return NULL;
	f->mapped = size;
	f->n_bits = (uint64_t)n_words * 64;
	f->first_bits = first_bytes < bytes ? (uint64_t)first_bytes * 8 : f->n_bits;
	if (getrandom(f->seed, sizeof(f->seed), GRND_NONBLOCK) != (ssize_t)sizeof(f->seed)) {
		/* Early in boot: any number that differs from the last will do. */
		clock_gettime(CLOCK_MONOTONIC, &now);
		f->seed[0] = (uint64_t)now.tv_nsec;
		f->seed[1] = (uint64_t)now.tv_sec;
	}
	return f;
}

/* After this, no holder of a stripe still uses what was taken out of `filter` or `kept`. */
static void stripes_pass(struct guard *g)
{
	for (int i = 0; i < STRIPES; i++) {
		pthread_mutex_lock(&g->stripes[i].lock);
		pthread_mutex_unlock(&g->stripes[i].lock);
	}
}

/* Take out what is no longer needed; free it after stripes_pass. */
static struct filter *kept_take_locked(struct guard *g)
{
	if (g->slow > 0 || g->collecting)
		return NULL;
	return atomic_exchange_explicit(&g->kept, NULL, memory_order_acq_rel);
}

static void kept_free(struct guard *g, struct filter *kept)
{
	if (kept)
		stripes_pass(g);
	filter_free(kept);
}

/* Count a slow session, if touches are being recorded, or will be in f from now on. */
static bool slow_begin(struct guard *g, struct filter **f)
{
	bool begun;

	pthread_mutex_lock(&g->lock);
	if (*f && !atomic_load_explicit(&g->kept, memory_order_relaxed))
		atomic_store_explicit(&g->kept, STEAL(*f), memory_order_release);
	begun = atomic_load_explicit(&g->kept, memory_order_relaxed) != NULL;
	g->slow += begun;
	pthread_mutex_unlock(&g->lock);
	return begun;
}

void guard_session_begin_slow(struct guard *g, struct guard_session *s)
{
	struct filter *f = NULL;

	*s = (struct guard_session){ .slow = true };
	if (slow_begin(g, &f))
		return;
	f = filter_new(KEPT_BYTES, KEPT_FIRST_BYTES);
	if (!slow_begin(g, &f))
		guard_session_begin(g, s);
	filter_free(f);
}

void guard_session_end(struct guard *g, struct guard_session *s)
{
	struct filter *kept = NULL;

	pthread_mutex_lock(&g->lock);
	if (s->slow) {
		assert(g->slow > 0);
		g->slow--;
		kept = kept_take_locked(g);
	} else {
		unsigned long *active = &g->active[s->generation % GENERATIONS];

		assert(*active > 0);
		if (--*active == 0)
			pthread_cond_broadcast(&g->session_ended);
	}
	pthread_mutex_unlock(&g->lock);
	kept_free(g, kept);
}

int guard_collect_begin(struct guard *g, size_t filter_bytes)
{
	struct filter *f = filter_new(filter_bytes, filter_bytes);
	int r = 0;

	if (!f)
		return -ENOMEM;
	pthread_mutex_lock(&g->lock);
	if (g->collecting) {
		r = -EBUSY;
	} else if (g->active[(g->generation + 1) % GENERATIONS] > 0) {
		r = -EAGAIN;
	} else {
		g->collecting = true;
		g->generation++;
		atomic_store_explicit(&g->filter, STEAL(f), memory_order_release);
	}
	pthread_mutex_unlock(&g->lock);
	filter_free(f);
	return r;
}

static bool has_older_sessions_locked(const struct guard *g)
{
	for (unsigned long i = 0; i < GENERATIONS; i++) {
		if (i != g->generation % GENERATIONS && g->active[i] > 0)
			return true;
	}
	return false;
}

void guard_collect_wait(struct guard *g)
{
	pthread_mutex_lock(&g->lock);
	assert(g->collecting);
	while (has_older_sessions_locked(g))
		pthread_cond_wait(&g->session_ended, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

void guard_mark(struct guard *g, const struct digest *d)
{
	filter_add(atomic_load_explicit(&g->filter, memory_order_acquire), d);
}

bool guard_sweep_lock(struct guard *g, const struct digest *d)
{
	struct filter *f = atomic_load_explicit(&g->filter, memory_order_acquire);
	pthread_mutex_t *stripe = stripe_of(g, d);

	pthread_mutex_lock(stripe);
	struct filter *kept = atomic_load_explicit(&g->kept, memory_order_acquire);
	if (!filter_has(f, d) && !(kept && filter_has(kept, d)))
		return true;
	pthread_mutex_unlock(stripe);
	return false;
}

void guard_sweep_unlock(struct guard *g, const struct digest *d)
{
	pthread_mutex_unlock(stripe_of(g, d));
}

void guard_collect_end(struct guard *g)
{
	struct filter *f = atomic_exchange_explicit(&g->filter, NULL, memory_order_acq_rel);

	stripes_pass(g);
	filter_free(f);
	pthread_mutex_lock(&g->lock);
	g->collecting = false;
	struct filter *kept = kept_take_locked(g);
	pthread_mutex_unlock(&g->lock);
	kept_free(g, kept);
}
