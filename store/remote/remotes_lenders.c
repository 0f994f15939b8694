/*
 * The alternates of remotes that are open.
 *
 * A remote serves its own bucket whether its alternate can be reached or not. So a thread opens
 * that, one for a remote: whoever opens the remote waits for it, but not for long, and where it
 * has failed, the next one is begun by who asks for the remote, or has missed what is borrowed,
 * 2 s later, and longer each time, up to 30.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/remote/remotes_internal.h"

#define SLOW_MS 500 /* who learns of a failure sooner may try at any time */

void remotes_note_away(struct remotes *rs, const char *name, int rc, const struct error *err,
		       int64_t began_ms)
{
	int64_t now = monotonic_ms();
	struct seen *s;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, name);
	if (s && (rc == -ETIMEDOUT || rc == -EIO) && now - began_ms >= SLOW_MS) {
		s->away_ms = MIN(MAX(2 * s->away_ms, REMOTES_AWAY_MIN_MS), REMOTES_AWAY_MAX_MS);
		s->away_until_ms = now + s->away_ms;
		s->away_rc = rc;
		s->why_away = *err;
	} else if (s && rc == 0) {
		s->away_until_ms = s->away_ms = 0;
	}
	pthread_mutex_unlock(&rs->lock);
}

int remotes_check_away_locked(struct remotes *rs, const char *name, struct error *err)
{
	const struct seen *s = remotes_find_seen(rs, name);
	int64_t left_ms = s && s->away_until_ms ? s->away_until_ms - monotonic_ms() : 0;

	if (left_ms <= 0)
		return 0;
	return error_set(err, s->away_rc,
			 "%.300s (it is asked again in %lld s; \"varve remote check %s\" asks now)",
			 s->why_away.msg, (long long)(left_ms + 999) / 1000, name);
}

/* ---- opening one ---- */

/* From here on remotes_stop ends its requests, and its traffic counts. */
static void set_other(struct remotes *rs, struct open_remote *o, const char *name,
		      struct object_store *os)
{
	pthread_mutex_lock(&rs->lock);
	o->other = os;
	snprintf(o->lender, sizeof(o->lender), "%s", name);
	if (rs->stopping)
		object_store_stop(os);
	pthread_mutex_unlock(&rs->lock);
}

/* It is to be closed. */
static void unset_other(struct remotes *rs, struct open_remote *o)
{
	pthread_mutex_lock(&rs->lock);
	remotes_keep_counts_locked(rs, o->lender, o->other);
	o->other = NULL;
	pthread_mutex_unlock(&rs->lock);
}

void remotes_drop_lender(struct remotes *rs, struct open_remote *o, struct remote *lender)
{
	unset_other(rs, o);
	remote_close(lender);
}

/* Nothing is written to it. */
static int open_it(struct remotes *rs, struct open_remote *o, struct remote_config *c,
		   struct remote **out, struct error *err)
{
	struct object_store *os;
	int rc;

	c->read_only = true;
	rc = remote_connect(c, false, &os, err);
	if (rc < 0)
		return rc;
	set_other(rs, o, c->name, os);
	rc = remote_open_on(c, os, false, out, err);
	if (rc < 0) {
		unset_other(rs, o);
		object_store_close(os);
		return rc;
	}
	rc = remote_can_lend(*out, err);
	if (rc < 0)
		remotes_drop_lender(rs, o, *out);
	return rc;
}

int remotes_open_lender(struct remotes *rs, struct open_remote *o, const char *name,
			struct remote **out, struct remote_config *c, struct error *err)
{
	const int64_t began_ms = monotonic_ms();
	int rc = remotes_config(rs, name, c, err);

	if (rc < 0)
		return rc;
	rc = open_it(rs, o, c, out, err);
	remotes_note_away(rs, name, rc, err, began_ms);
	if (rc < 0)
		remote_config_fini(c);
	return rc;
}

/* ---- a thread that does ---- */

struct attempt {
	struct remotes *rs;
	struct open_remote *o; /* it is a user */
	struct remote *r;
};

/* Once for each change. */
static void log_outcome(struct remotes *rs, const struct open_remote *o, int rc,
			const struct error *why)
{
	const char *text = rc < 0 ? error_text(why) : "";
	struct seen *s;
	bool news;

	pthread_mutex_lock(&rs->lock);
	s = remotes_find_seen(rs, o->name);
	news = s && !rs->stopping && strcmp(s->why_alternate.msg, text) != 0;
	if (news)
		snprintf(s->why_alternate.msg, sizeof(s->why_alternate.msg), "%s", text);
	pthread_mutex_unlock(&rs->lock);
	if (news && rc < 0)
		log_warn("remote %s: its alternate %s cannot be used: %s", o->name, o->alternate,
			 text);
	else if (news)
		log_info("remote %s: its alternate %s can be used again", o->name, o->alternate);
}

/* Whether the alternate is there now; *why, if it is not. */
static int attach(const struct attempt *a, struct error *why)
{
	struct remote_config c = { 0 };
	struct remote *lender = NULL;
	int rc = remotes_open_lender(a->rs, a->o, a->o->alternate, &lender, &c, why);

	if (rc < 0)
		return rc;
	rc = remote_set_alternate(a->r, lender, &c, why);
	if (rc < 0)
		remotes_drop_lender(a->rs, a->o, lender);
	remote_config_fini(&c);
	return rc;
}

static void *attempt_main(void *arg)
{
	struct attempt a = *(struct attempt *)arg;
	struct error why = ERROR_INIT;
	struct open_remote *o = a.o;
	int rc;

	free(arg);
	pthread_setname_np(pthread_self(), "varve-lender");
	rc = attach(&a, &why);
	if (rc < 0)
		(void)!remote_lack_alternate(a.r, &why, NULL);
	log_outcome(a.rs, o, rc, &why);
	pthread_mutex_lock(&a.rs->lock);
	o->trying = false;
	o->wait_ms = MIN(MAX(2 * o->wait_ms, REMOTES_AWAY_MIN_MS), REMOTES_AWAY_MAX_MS);
	o->try_ms = monotonic_ms() + o->wait_ms;
	pthread_cond_broadcast(&a.rs->opened);
	pthread_mutex_unlock(&a.rs->lock);
	remotes_leave(a.rs, o);
	pthread_mutex_lock(&a.rs->lock);
	a.rs->n_trying--;
	pthread_cond_broadcast(&a.rs->opened);
	pthread_mutex_unlock(&a.rs->lock);
	return NULL;
}

static int start_locked(struct remotes *rs, struct open_remote *o, struct remote *r)
{
	struct attempt *a = malloc(sizeof(*a));
	pthread_t thread;
	int rc;

	if (!a)
		return -ENOMEM;
	*a = (struct attempt){ rs, o, r };
	rc = -pthread_create(&thread, NULL, attempt_main, a);
	if (rc < 0) {
		free(a);
		return rc;
	}
	pthread_detach(thread);
	o->trying = true;
	o->waited_ms = monotonic_ms() + REMOTES_LENDER_MS;
	o->users++;
	rs->n_trying++;
	return 0;
}

void remotes_retry_lender_locked(struct remotes *rs, struct open_remote *o)
{
	if (!o->r || !remote_lacks_alternate(o->r, NULL) || o->trying || rs->stopping ||
	    monotonic_ms() < o->try_ms || remotes_check_away_locked(rs, o->alternate, NULL) < 0)
		return;
	if (start_locked(rs, o, o->r) < 0)
		o->try_ms = monotonic_ms() + REMOTES_AWAY_MIN_MS;
}

void remotes_wait_lender_locked(struct remotes *rs, const struct open_remote *o)
{
	const struct timespec until = monotonic_after_ms(MAX(o->waited_ms - monotonic_ms(), 0));

	while (o->trying && !rs->stopping &&
	       pthread_cond_timedwait(&rs->opened, &rs->lock, &until) == 0)
		;
}

int remotes_begin_lender(struct remotes *rs, struct open_remote *o, const char *name,
			 struct remote *r, struct error *err)
{
	struct error why = ERROR_INIT;
	int rc;

	error_set(&why, -EIO, "remote %s has not answered yet", name);
	rc = remote_lack_alternate(r, &why, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&rs->lock);
	snprintf(o->alternate, sizeof(o->alternate), "%s", name);
	rc = remotes_check_away_locked(rs, name, &why);
	if (rc == 0 && (rc = start_locked(rs, o, r)) < 0)
		error_set_errno(&why, rc, "cannot start a thread");
	if (rc == 0)
		remotes_wait_lender_locked(rs, o);
	pthread_mutex_unlock(&rs->lock);
	return rc < 0 ? remote_lack_alternate(r, &why, err) : 0;
}

void remotes_end_lenders(struct remotes *rs)
{
	pthread_mutex_lock(&rs->lock);
	while (rs->n_trying)
		pthread_cond_wait(&rs->opened, &rs->lock);
	pthread_mutex_unlock(&rs->lock);
}
