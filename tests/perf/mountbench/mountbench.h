/*
 * mountbench.h - one mount, made in several ways and timed to its first stat.
 *
 * A subject makes a mount at a directory, and takes it away again. Only making it
 * and the stat after it are timed. Everything is done by system calls of this
 * process (no shell, no mount(8)), but for what is a program of its own.
 */
#ifndef VARVE_MOUNTBENCH_H
#define VARVE_MOUNTBENCH_H

#include <stdbool.h>

struct subject {
	const char *name;
	const char *arg;  /* what to mount: see main.c */
	const char *dir;  /* the mountpoint */
	const char *work; /* scratch directory of this subject */
	void *state;	  /* the subject's own, between mount and unmount */
	/* Both end the program with a message where they fail. */
	void (*mount)(struct subject *s);
	void (*unmount)(struct subject *s);
};

void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* varve.c: arg is "SOCKET:SNAPSHOT"; one connection is kept, as a client does. */
void varve_mount(struct subject *s);
void varve_unmount(struct subject *s);
/* bare.c: the smallest filesystem on /dev/fuse, an empty root, in this process. */
void bare_mount(struct subject *s);
void bare_unmount(struct subject *s);
/* kernel.c: overlay (arg: the lower directory); erofs and squashfs (arg: an image). */
void overlay_mount(struct subject *s);
void overlay_unmount(struct subject *s);
void erofs_mount(struct subject *s);
void squashfs_mount(struct subject *s);
void loop_unmount(struct subject *s);
/* program.c: squashfuse_ll (arg: an image), fuse-overlayfs (arg: the lower directory). */
void squashfuse_mount(struct subject *s);
void fuse_overlayfs_mount(struct subject *s);
void program_unmount(struct subject *s);

#endif
