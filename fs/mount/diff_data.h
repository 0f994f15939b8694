/*
 * diff_data.h - what a diff of a mount knows of files' bytes.
 *
 * To read files takes long, so a diff does not do it while it looks at the mount. It asks here;
 * what is not known is noted, and the pass is void. diff_data_work reads what was noted, without
 * a lock, and the next pass knows it. A file that is written meanwhile is compared as it was at
 * some time of the diff.
 *
 * Memory: 64 bytes for each file asked for, twice that while the table grows. One thread.
 */
#ifndef VARVE_FS_DIFF_DATA_H
#define VARVE_FS_DIFF_DATA_H

#include "fs/view/view.h"

struct diff_data;
struct diff_data *diff_data_new(struct view *v);
void diff_data_free(struct diff_data *x);
DEFINE_CLEANUP(struct diff_data *, diff_data_free)

/* A pass begins that compares with this base, which is held. What is known of another is dropped.
 */
void diff_data_begin(struct diff_data *x, const struct tree_fs *base);
/* Whether the pass asked for what is not known. */
bool diff_data_wants(const struct diff_data *x);
/* Find it out. Waits; the thread holds no lock. 0 or a failure to read or get memory. */
MUST_CHECK int diff_data_work(struct diff_data *x);

/* Has the file other bytes than the base, where it was written? 1, 0; 0 as well if it is noted. */
MUST_CHECK int diff_data_differs(struct diff_data *x, uint64_t ino);
/* Something that stands for all bytes of a file of the base, or of the view; any if it is noted. */
MUST_CHECK int diff_data_sum(struct diff_data *x, bool base, uint64_t ino, struct digest *out);

#endif
