/*
 * keeper.h - descriptors that outlive this process: whoever started it keeps them and gives
 * them to its successor.
 *
 * The protocol is systemd's (sd_notify(3), sd_listen_fds(3)): a datagram of lines NAME=VALUE
 * stores a descriptor under a name (FDSTORE=1, FDNAME=) or gives it up (FDSTOREREMOVE=1);
 * at the start LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say which are there, from 3 on. Two
 * keep: `snapshotd --supervise` (snapshotd/supervise.h), which names its socket with
 * VARVE_KEEPER=NUMBER, and a service manager with FileDescriptorStoreMax=, which names its
 * own with NOTIFY_SOCKET. A descriptor that was sent is kept even if this process ends before
 * anybody has read the datagram.
 *
 * Every function accepts a keeper of NULL: nobody keeps anything. Thread-safe after
 * keeper_open.
 */
#ifndef VARVE_FS_KEEPER_H
#define VARVE_FS_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

struct keeper;

/* Letters, digits, '-' and '.'. */
#define KEEPER_NAME_MAX 63u
/* What the supervisor calls a listening socket that a service manager has handed it. */
#define KEEPER_SERVICE_SOCKET "service-socket"
/* Under names that begin so a daemon keeps its listening sockets. */
#define KEEPER_OWN_SOCKETS "http-"
/* Of what LISTEN_FDNAMES can hold. */
#define KEEPER_FDS_MAX 2000u

/*
 * Take over what the environment says, before there are threads. What is meant for this alone
 * is removed from it; what a service manager says is not, nor are sockets taken that it listens
 * on for a service. NULL: nobody keeps descriptors.
 */
struct keeper *keeper_open(void);
void keeper_close(struct keeper *k);
/* How many daemons the keeper has started, this one included; 1 where it does not say. */
unsigned keeper_generation(const struct keeper *k);
/* Has its predecessor died of itself (a signal that is no SIGKILL, a failure)? */
bool keeper_has_crashed(const struct keeper *k);
/*
 * Is this another program than its predecessor's, which goes on if this one does not become ready?
 * Then it may refuse what it does not understand, and nothing is lost.
 */
bool keeper_is_trial(const struct keeper *k);
/* Is it to go on with its predecessor's configuration, rather than with what its file says now? */
bool keeper_goes_on(const struct keeper *k);
/*
 * What is said to a supervisor alone. It feeds a service manager's watchdog itself, and kills this
 * process when that gives no sign of life for long, from the start on.
 */
bool keeper_watches(const struct keeper *k); /* false: of an older version, it does not */
void keeper_sign_of_life(struct keeper *k);
enum keeper_cause {
	KEEPER_CRASH,	/* it died of itself: a signal that is no SIGKILL, a failure */
	KEEPER_KILL,	/* SIGKILL of others, such as for want of memory */
	KEEPER_HANG,	/* it gave no sign of life */
	KEEPER_UPGRADE, /* it left to another program */
	KEEPER_START,	/* it could not start, though it was to follow */
	KEEPER_CAUSES
};

/* All zeros where nobody keeps, or does not say. */
struct keeper_counts {
	unsigned long long takeovers[KEEPER_CAUSES]; /* ends of daemons that had a successor */
	int64_t takeover_ms;	    /* that callers in mounts waited for this one; 0: for none */
	size_t kept, limit;	    /* descriptors */
	unsigned long long refused; /* of this process, for the limit */
};

void keeper_get_counts(struct keeper *k, struct keeper_counts *out);
/*
 * This process has refused nothing, and writes from now on: maybe what its predecessor's program
 * does not know. Should it not become ready, and that one refuse, it is tried again.
 */
void keeper_writes(struct keeper *k);
/* Mounts are served again: callers in them wait no more. */
void keeper_adopted(struct keeper *k);
/* It takes its time, and is not watched any more. */
void keeper_stopping(struct keeper *k);
/* This process is ready to serve. */
void keeper_ready(struct keeper *k);

/* Start what is now at the path of this program as the successor. -ENOTSUP: nobody would. */
MUST_CHECK int keeper_upgrade(struct keeper *k);

/* What a predecessor stored under a name, for the caller to close, once; -ENOENT. */
MUST_CHECK int keeper_take(struct keeper *k, const char *name);
/* The same for any whose name begins so; name gets KEEPER_NAME_MAX + 1 bytes. */
MUST_CHECK int keeper_take_any(struct keeper *k, const char *prefix, char *name);
/*
 * Look at what nobody has taken yet; the descriptor is only borrowed. What fn returns, if not 0,
 * ends it and is returned. Before there are threads.
 */
MUST_CHECK int keeper_each(const struct keeper *k, int (*fn)(void *arg, const char *name, int fd),
			   void *arg);
/* Close what nobody has taken, and give it up; mounts that end by it are named in the log. */
void keeper_drop_untaken(struct keeper *k);
/* Is it a supervisor of ours, and no service manager? */
bool keeper_is_ours(const struct keeper *k);
/*
 * Store a copy, in the place of what has that name. -ENOTSUP: nobody keeps it; -ENOBUFS: as many as
 * can be are kept already.
 */
MUST_CHECK int keeper_put(struct keeper *k, const char *name, int fd);
void keeper_drop(struct keeper *k, const char *name);

#endif
