/*
 * Which requests are logged and not answered: each thread works for one at a time, and what
 * it logs meanwhile is done for that one. See journal_requests.h.
 */
#include <errno.h>

#include "fs/upper/journal.h"
#include "fs/upper/journal_internal.h"

static _Thread_local uint64_t current_request;
static _Thread_local struct journal *logged_in; /* what `open` has current_request */

void journal_close_request(void)
{
	struct journal *j = logged_in;

	if (!j)
		return;
	pthread_mutex_lock(&j->open_lock);
	journal_requests_remove(&j->open, current_request);
	pthread_mutex_unlock(&j->open_lock);
	logged_in = NULL;
}

void journal_set_request(uint64_t unique)
{
	journal_close_request();
	current_request = unique;
}

int journal_open_request(struct journal *j, uint64_t made_ino)
{
	int r;

	if (!current_request)
		return 0;
	pthread_mutex_lock(&j->open_lock);
	r = journal_requests_add(&j->open, current_request, made_ino);
	pthread_mutex_unlock(&j->open_lock);
	if (!r)
		logged_in = j;
	return r;
}

void journal_note_logged(struct journal *j)
{
	if (logged_in != j)
		return;
	pthread_mutex_lock(&j->open_lock);
	journal_requests_set_logged(&j->open, current_request);
	pthread_mutex_unlock(&j->open_lock);
}

void journal_set_waiting(struct journal *j, const uint64_t *uniques, size_t n)
{
	j->waiting = uniques;
	j->n_waiting = n;
}

bool journal_was_done(struct journal *j, uint64_t unique, uint64_t *out_made_ino)
{
	const struct journal_request *q = journal_requests_find(&j->done, unique);

	if (!q)
		return false;
	*out_made_ino = q->made_ino;
	journal_set_request(unique);
	logged_in = j;
	return true;
}

bool journal_has_made(const struct journal *j, uint64_t ino)
{
	for (size_t i = 0; i < j->done.n; i++)
		if (j->done.r[i].made_ino == ino)
			return true;
	return false;
}

int journal_begin_connection(struct journal *j)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	int r = b ? 0 : -ENOMEM;

	pthread_mutex_lock(&j->open_lock);
	journal_requests_fini(&j->open);
	pthread_mutex_unlock(&j->open_lock);
	journal_requests_fini(&j->done);
	pthread_mutex_lock(&j->lock);
	while (j->applying || j->held)
		pthread_cond_wait(&j->idle, &j->lock);
	if (!r && j->has_requests) {
		r = journal_requests_put(j->kv, b, j->id, &j->done);
		if (!r)
			r = kv_write(j->kv, b, KV_LOG);
		j->has_requests = r != 0;
	}
	j->mark = true;
	pthread_mutex_unlock(&j->lock);
	return r;
}

uint64_t journal_current_request(void)
{
	return current_request;
}

void journal_forget_request(const struct journal *j)
{
	if (logged_in == j)
		logged_in = NULL;
}

int journal_copy_open(struct journal *j, struct journal_requests *out)
{
	int r;

	pthread_mutex_lock(&j->open_lock);
	r = journal_requests_copy(&j->open, out);
	pthread_mutex_unlock(&j->open_lock);
	return r;
}
