/*
 * supervise.h - `snapshotd --supervise`: the keeper (fs/host/keeper.h) of a daemon, its
 * child, which dies with it. It holds the descriptors that the daemon stores, and when the daemon
 * dies starts a successor that gets them; callers in mounts wait meanwhile.
 */
#ifndef VARVE_SNAPSHOTD_SUPERVISE_H
#define VARVE_SNAPSHOTD_SUPERVISE_H

/* The exit status of a daemon that leaves all to its successor, after SIGUSR2. */
#define SUPERVISE_HANDED_OVER 75
/* That of a successor that could not start, and has left what there is as it found it. */
#define SUPERVISE_NOT_STARTED 76
/* That of a program that does not understand its command line or config. */
#define SUPERVISE_MISUSED 2

/*
 * With SIGUSR2, or when the daemon asks for it (keeper_upgrade), the daemon is told to leave by
 * the same signal, and the file that now has the program's path is started. If that has not
 * adopted the mounts within half of timeout_s, or dies before it is ready, the program that ran
 * before is started again; and that one again if this cannot start on what it has written.
 *
 * Start the program of this process with argv, without --supervise, and again whenever it
 * dies after it was ready, at longer intervals where it dies soon. Returns with its exit
 * status when it ended in order (SIGTERM and SIGINT are passed on), did not start at all, or
 * none has adopted the mounts for timeout_s, or they have but none was ready for ten times that:
 * then everything that was held is closed. One that gives no sign of life (keeper_sign_of_life) for
 * half of a service manager's watchdog, which is fed here, is killed. Told to end, up to three more
 * are started where one has not ended in order, as only a daemon unmounts.
 */
int supervise(char **argv, unsigned timeout_s);

#endif
