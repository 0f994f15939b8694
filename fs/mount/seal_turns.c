/*
 * Each waiting seal has a number; the lowest gets the next free turn. The state is
 * global, because all seals of the process share its cores.
 */
#include "fs/mount/seal_turns.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#define QUEUED_CHUNKS 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* guarded by lock: */
static unsigned taken;
static uint64_t next_number, next_served; /* those between them wait */
static struct pool *workers;
static unsigned workers_users;

static unsigned cores(void)
{
	return (unsigned)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
}

unsigned seal_turns_max(void)
{
	return MAX(cores(), 2u);
}

void seal_turn_take(void)
{
	const unsigned max = seal_turns_max();

	pthread_mutex_lock(&lock);
	const uint64_t number = next_number++;

	while (number != next_served || taken >= max)
		pthread_cond_wait(&changed, &lock);
	next_served++;
	taken++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

bool seal_turn_try(void)
{
	const unsigned max = seal_turns_max();

	pthread_mutex_lock(&lock);
	const bool free_turn = next_number == next_served && taken < max;

	taken += free_turn;
	pthread_mutex_unlock(&lock);
	return free_turn;
}

void seal_turn_give(void)
{
	pthread_mutex_lock(&lock);
	taken--;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void seal_turn_lend(bool lent)
{
	if (lent) {
		seal_turn_give();
		return;
	}
	pthread_mutex_lock(&lock);
	taken++;
	pthread_mutex_unlock(&lock);
}

bool seal_turn_is_wanted(void)
{
	pthread_mutex_lock(&lock);
	const bool wanted = next_number != next_served;

	pthread_mutex_unlock(&lock);
	return wanted;
}

struct pool *seal_workers_get(void)
{
	pthread_mutex_lock(&lock);
	if (!workers)
		workers = pool_new(cores(), QUEUED_CHUNKS);
	struct pool *p = workers;

	workers_users += p != NULL;
	pthread_mutex_unlock(&lock);
	return p;
}

void seal_workers_put(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&lock);
	const bool last = --workers_users == 0;

	if (last)
		workers = NULL;
	pthread_mutex_unlock(&lock);
	if (last)
		pool_free(p);
}
