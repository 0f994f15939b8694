/*
 * short_slice.h - lets threads that answer run before those that compute.
 *
 * The shorter the slices that a thread asks for, the sooner Linux (6.12, EEVDF)
 * runs it when it wakes. A thread that serves requests works for some
 * microseconds at a time. With short slices it runs before a compiler as soon
 * as a request arrives, and yielding costs it one short slice, not a whole one.
 */
#ifndef VARVE_FS_SHORT_SLICE_H
#define VARVE_FS_SHORT_SLICE_H

/*
 * For the calling thread; its policy and nice value stay. No effect on older
 * kernels, or with policies that do not share (SCHED_FIFO, say).
 */
void short_slice(void);

#endif
