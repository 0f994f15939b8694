#include "fs/shared/open_table.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef OPEN_TABLE_MAGIC
#define OPEN_TABLE_MAGIC 0x314e45504f565256ull /* "VRVOPEN1" */
#endif
/* So much is mapped; the file grows in steps, so that it is memory as far as it is used. */
#define RECORDS_MAX (1u << 21)
#define STEP 512u

struct open_table_head {
	uint64_t magic;
	uint32_t record_size;
	volatile uint32_t is_negotiated;
};

_Static_assert(sizeof(struct open_table_head) == 16 && sizeof(struct open_record) == 144,
	       "another layout: another magic");

/* To those who know no notes a node of which nothing is open. */
#define NOTES_OF_RECORD 12u
struct open_notes {
	volatile uint64_t id; /* NOTES_ID of its number */
	uint64_t zeros[5];
	struct open_note {
		_Atomic uint64_t request; /* 0: free */
	} notes[NOTES_OF_RECORD];
};

_Static_assert(sizeof(struct open_notes) == sizeof(struct open_record) &&
		       offsetof(struct open_notes, notes) ==
			       offsetof(struct open_record, unshared_base),
	       "notes are where a node has digests");

#define NOTES_ID(number) ((uint64_t)(number) << 48) /* from 1 on; no inode has the number 0 */
#define NOTES_MAX 64u				    /* records: more than there are threads */
/* So many of what former processes noted are more than are unanswered: they are old. */
#define NOTES_OLD (NOTES_MAX / 2 * NOTES_OF_RECORD)

#define MAP_BYTES \
	(sizeof(struct open_table_head) + (size_t)RECORDS_MAX * sizeof(struct open_record))

struct open_table {
	int fd;
	struct open_table_head *head; /* the map */
	struct open_record *records;  /* in it */
	pthread_mutex_t lock;	      /* guards what follows; a leaf */
	uint32_t *vacant;	      /* records below `n` that are free; owned */
	size_t n_vacant, vacant_cap;
	size_t n;		  /* records that the file has */
	pthread_mutex_t adding;	  /* held while notes get another record; before `lock` */
	_Atomic unsigned n_notes; /* set after the one that it counts */
	struct open_notes *notes[NOTES_MAX];
};

static size_t bytes_of(size_t n)
{
	return sizeof(struct open_table_head) + n * sizeof(struct open_record);
}

/* Takes fd over if that succeeds. */
static struct open_table *map(int fd)
{
	struct open_table *t = calloc(1, sizeof(*t));
	void *p;

	if (!t)
		return NULL;
	p = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED) {
		free(t);
		return NULL;
	}
	t->fd = fd;
	t->head = p;
	t->records = (struct open_record *)(t->head + 1);
	pthread_mutex_init(&t->lock, NULL);
	pthread_mutex_init(&t->adding, NULL);
	return t;
}

/* Lock held, or nobody else has it. */
static int add_vacant(struct open_table *t, size_t i)
{
	if (t->n_vacant == t->vacant_cap) {
		size_t cap = t->vacant_cap ? 2 * t->vacant_cap : STEP;
		uint32_t *p = reallocarray(t->vacant, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		t->vacant = p;
		t->vacant_cap = cap;
	}
	t->vacant[t->n_vacant++] = (uint32_t)i;
	return 0;
}

struct open_table *open_table_new(void)
{
	int fd = memfd_create("varve-opens", MFD_CLOEXEC);
	struct open_table *t = NULL;

	if (fd >= 0 && posix_fallocate(fd, 0, (off_t)bytes_of(0)) == 0)
		t = map(fd);
	if (t) {
		t->head->magic = OPEN_TABLE_MAGIC;
		t->head->record_size = sizeof(struct open_record);
	} else if (fd >= 0) {
		close(fd);
	}
	return t;
}

static int find_vacant(struct open_table *t)
{
	int r = 0;

	for (size_t i = t->n; i-- > 0 && !r;)
		if (!t->records[i].id)
			r = add_vacant(t, i);
	return r;
}

static bool is_notes(const struct open_record *r)
{
	return r->id && !(r->id & (NOTES_ID(1) - 1));
}

static void find_notes(struct open_table *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (is_notes(&t->records[i]) && t->n_notes < NOTES_MAX)
			t->notes[t->n_notes++] = (struct open_notes *)&t->records[i];
}

int open_table_check(int fd)
{
	struct open_table_head head;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)bytes_of(0) || st.st_size > (off_t)MAP_BYTES ||
	    pread(fd, &head, sizeof(head), 0) != sizeof(head))
		return -EPROTO;
	return head.magic == OPEN_TABLE_MAGIC && head.record_size == sizeof(struct open_record)
		       ? 0
		       : -EPROTO;
}

int open_table_adopt(int fd, struct open_table **out)
{
	struct open_table *t;
	struct stat st;
	int r = open_table_check(fd);

	if (!r && fstat(fd, &st) < 0)
		r = -errno;
	if (r)
		return r;
	t = map(fd);
	if (!t)
		return -ENOMEM;
	t->n = ((size_t)st.st_size - bytes_of(0)) / sizeof(struct open_record);
	find_notes(t);
	r = find_vacant(t);
	if (r) {
		t->fd = -1;
		open_table_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void open_table_free(struct open_table *t)
{
	if (!t)
		return;
	munmap(t->head, MAP_BYTES);
	if (t->fd >= 0)
		close(t->fd);
	pthread_mutex_destroy(&t->lock);
	pthread_mutex_destroy(&t->adding);
	free(t->vacant);
	free(t);
}

int open_table_fd(const struct open_table *t)
{
	return t->fd;
}

/* Lock held. */
static int grow(struct open_table *t)
{
	const size_t n = MIN(t->n + STEP, (size_t)RECORDS_MAX);
	int r = 0;

	if (n == t->n ||
	    posix_fallocate(t->fd, (off_t)bytes_of(t->n), (off_t)(bytes_of(n) - bytes_of(t->n))))
		return -ENOMEM;
	for (size_t i = n; i-- > t->n && !r;)
		r = add_vacant(t, i);
	t->n = n;
	return t->n_vacant ? 0 : r;
}

struct open_record *open_table_get(struct open_table *t, uint64_t id)
{
	struct open_record *r = NULL;

	pthread_mutex_lock(&t->lock);
	if (t->n_vacant || grow(t) == 0)
		r = &t->records[t->vacant[--t->n_vacant]];
	pthread_mutex_unlock(&t->lock);
	if (r) {
		memset((char *)r + sizeof(r->id), 0, sizeof(*r) - sizeof(r->id));
		r->id = id;
	}
	return r;
}

void open_table_put(struct open_table *t, struct open_record *r)
{
	r->id = 0;
	pthread_mutex_lock(&t->lock);
	/* Without memory it stays unused in this process. */
	(void)!add_vacant(t, (size_t)(r - t->records));
	pthread_mutex_unlock(&t->lock);
}

int open_table_each(struct open_table *t, int (*fn)(void *arg, struct open_record *r), void *arg)
{
	int r = 0;

	for (size_t i = 0; i < t->n && !r; i++)
		if (t->records[i].id && !is_notes(&t->records[i]))
			r = fn(arg, &t->records[i]);
	return r;
}

/* ---- notes ---- */

static struct open_note *take_note(struct open_notes *of, uint64_t request)
{
	for (unsigned i = 0; i < NOTES_OF_RECORD; i++) {
		uint64_t free_one = 0;

		if (atomic_compare_exchange_strong(&of->notes[i].request, &free_one, request))
			return &of->notes[i];
	}
	return NULL;
}

/* The record of that number; NULL: there is none, and none to be had. */
static struct open_notes *notes_at(struct open_table *t, unsigned number)
{
	if (number < atomic_load(&t->n_notes))
		return t->notes[number];
	if (number == NOTES_MAX)
		return NULL;
	pthread_mutex_lock(&t->adding);
	if (number == atomic_load(&t->n_notes)) {
		t->notes[number] = (struct open_notes *)open_table_get(t, NOTES_ID(number + 1));
		if (t->notes[number])
			atomic_store(&t->n_notes, number + 1);
	}
	pthread_mutex_unlock(&t->adding);
	return number < atomic_load(&t->n_notes) ? t->notes[number] : NULL;
}

struct open_note *open_table_note(struct open_table *t, uint64_t request)
{
	struct open_note *note = NULL;
	struct open_notes *of;

	for (unsigned i = 0; !note && (of = notes_at(t, i)); i++)
		note = take_note(of, request);
	return note;
}

static unsigned count_notes(const struct open_table *t)
{
	return atomic_load(&t->n_notes) * NOTES_OF_RECORD;
}

static struct open_note *nth_note(const struct open_table *t, unsigned i)
{
	return &t->notes[i / NOTES_OF_RECORD]->notes[i % NOTES_OF_RECORD];
}

struct open_note *open_table_find_note(struct open_table *t, uint64_t request)
{
	const unsigned n = count_notes(t);

	for (unsigned i = 0; i < n; i++)
		if (nth_note(t, i)->request == request)
			return nth_note(t, i);
	return NULL;
}

static bool is_among(const uint64_t *list, size_t n, uint64_t request)
{
	while (n && list[n - 1] != request)
		n--;
	return n > 0;
}

void open_table_forget_answered(struct open_table *t, const uint64_t *waiting, size_t n)
{
	const unsigned n_notes = count_notes(t);
	unsigned used = 0;

	for (unsigned i = 0; i < n_notes; i++)
		used += nth_note(t, i)->request != 0;
	for (unsigned i = 0; i < n_notes && used > NOTES_OLD; i++)
		if (!is_among(waiting, n, nth_note(t, i)->request))
			open_note_drop(nth_note(t, i));
}

void open_note_drop(struct open_note *note)
{
	atomic_store(&note->request, 0);
}

void open_table_set_negotiated(struct open_table *t)
{
	t->head->is_negotiated = 1;
}

bool open_table_is_negotiated(const struct open_table *t)
{
	return t->head->is_negotiated != 0;
}
