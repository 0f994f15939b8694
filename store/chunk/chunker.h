/*
 * chunker.h - content-defined chunk boundaries. Pure: no state, no I/O.
 *
 * FastCDC with normalised chunking (Xia et al., USENIX ATC 2016): a gear hash,
 * a stricter mask before the average size and a looser one after it.
 *
 * A *segment* is a maximal run of file data between holes. The canonical chunks
 * of a segment are:
 *   - the whole segment, if it has at most CHUNK_AVG bytes;
 *   - otherwise the cuts of chunker_cut(), applied from the segment's start.
 * The hash restarts at every cut, so cutting may start again at any earlier
 * cut and yields the same chunks: this is how a checkpoint rechunks only what
 * changed and still stores what a fresh import would.
 */
#ifndef VARVE_CHUNKER_H
#define VARVE_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

#define CHUNK_MIN (16u << 10)
#define CHUNK_AVG (64u << 10)
#define CHUNK_MAX (256u << 10)

/* Zero runs of at least this many bytes, aligned to it, become holes. */
#define CHUNK_ZERO_RUN (64u << 10)

/*
 * Length of the first chunk of data[0..len), 1..CHUNK_MAX (0 only for len 0).
 * Unless the segment ends at len, len must be at least CHUNK_MAX.
 */
size_t chunker_cut(const uint8_t *data, size_t len);

/* True if all bytes are zero (word-wise). */
int chunker_is_zero(const uint8_t *data, size_t len);

#endif
