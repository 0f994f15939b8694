/*
 * A sandbox that is left alone: stopped after its timeout, started again by the
 * next call that needs its programs or files, removed when it has been stopped
 * for long enough.
 *
 * A call and the timeout may meet. The one that takes sandbox.lock first wins:
 * either the call is inside, and the sandbox is not idle, or the record says that
 * it is stopped, and the call waits for `change` and starts it again.
 */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/log.h"

/* ---- death ---- */

void sandbox_note_death(struct sandbox *sb)
{
	bool dead;
	uint64_t kills = 0;

	pthread_mutex_lock(&sb->lock);
	dead = sb->container && !sb->closing && !container_is_running(sb->container);
	if (dead)
		kills = container_oom_kills(sb->container);
	pthread_mutex_unlock(&sb->lock);
	if (!dead)
		return;
	sandbox_set_status(sb, SANDBOX_STOPPED,
			   kills ? "its first process has died, after the kernel had killed "
				   "processes for want of memory"
				 : "its first process has died");
	log_warn("sandbox %s: %s", sb->id, sb->rec.reason);
	sandbox_down(sb);
}

/* ---- idleness ---- */

/* Whether it has been left alone for its timeout; then nobody enters it any more. */
static bool claim_idle(struct sandbox *sb)
{
	struct sandbox_record *r = &sb->rec;
	bool idle;

	pthread_mutex_lock(&sb->lock);
	idle = !sb->gone && !sb->closing && r->status == SANDBOX_RUNNING && r->timeout_s &&
	       sb->inside == 0 && monotonic_ms() - sb->used_ms >= (int64_t)r->timeout_s * 1000;
	if (idle) {
		sb->closing = true;
		r->status = SANDBOX_STOPPED;
		r->idle = true;
		r->ended_at_ms = clock_ms();
		snprintf(r->reason, sizeof(r->reason),
			 "it was not used for %llu s; the next call starts it again",
			 (unsigned long long)r->timeout_s);
	}
	pthread_mutex_unlock(&sb->lock);
	return idle;
}

/* change held. Its mount is detached: nothing of it but its files and records is left. */
static void stop_idle(struct sandbox *sb)
{
	struct error err = ERROR_INIT;

	if (!claim_idle(sb))
		return;
	log_info("sandbox %s is stopped: %s", sb->id, sb->rec.reason);
	if (sandbox_put_record(sb) < 0)
		log_error("sandbox %s: its record says that it runs", sb->id);
	sandbox_down(sb);
	if (sandbox_detach(sb, &err) < 0)
		log_warn("sandbox %s: its mount stays attached: %s", sb->id, error_text(&err));
}

int sandbox_wake(struct sandbox *sb, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&sb->change);
	if (sb->rec.idle && !sb->gone && !atomic_load(&sb->owner->stopping)) {
		rc = sandbox_come_back(sb, err);
		if (rc == 0)
			sandbox_set_status(sb, SANDBOX_RUNNING, NULL);
		else /* it stays as it is: the next call tries again */
			error_prefix(err, rc, "sandbox %s cannot be started again", sb->id);
	}
	pthread_mutex_unlock(&sb->change);
	return rc;
}

/* ---- removal ---- */

int64_t sandbox_removal_ms_locked(const struct sandbox *sb)
{
	const struct sandbox_record *r = &sb->rec;

	if (r->status != SANDBOX_STOPPED || !r->timeout_s || !sb->owner->keep_s)
		return 0;
	return r->ended_at_ms + (int64_t)sb->owner->keep_s * 1000;
}

/* change held. */
static void remove_old(struct sandbox *sb)
{
	struct error err = ERROR_INIT;
	int64_t at;

	pthread_mutex_lock(&sb->lock);
	at = sb->gone ? 0 : sandbox_removal_ms_locked(sb);
	pthread_mutex_unlock(&sb->lock);
	if (!at || clock_ms() < at)
		return;
	log_info("sandbox %s has been stopped for %llu s: removed", sb->id,
		 (unsigned long long)sb->owner->keep_s);
	if (sandbox_kill_locked(sb, &err) < 0)
		log_error("sandbox %s: %s", sb->id, error_text(&err));
}

void sandbox_tend(struct sandbox *sb)
{
	async_execs_expire(sb->execs);
	if (pthread_mutex_trylock(&sb->change) != 0)
		return; /* the next time */
	sandbox_note_death(sb);
	stop_idle(sb);
	remove_old(sb);
	pthread_mutex_unlock(&sb->change);
}
