/*
 * short_slice.h - threads that answer before those that compute.
 *
 * Linux (6.12, EEVDF) runs a thread that wakes sooner the shorter the turns are
 * that it asks for. One that serves requests works for some microseconds at a
 * time: with short turns it comes before a compiler as soon as a request is
 * there, and yielding costs it one short turn, not a whole one.
 */
#ifndef VARVE_FS_SHORT_SLICE_H
#define VARVE_FS_SHORT_SLICE_H

/*
 * For the calling thread; its policy and nice value stay. Older kernels, and
 * policies that do not share (SCHED_FIFO, say), know no such thing.
 */
void short_slice(void);

#endif
