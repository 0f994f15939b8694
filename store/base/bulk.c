#include "store/base/bulk.h"

#include <stdint.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* What is large enough for huge pages has whole ones. */
static size_t mapped_size(size_t len)
{
	return len < HUGE_PAGE ? len : (len + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

void *bulk_alloc(size_t len)
{
	const size_t size = mapped_size(len), room = len < HUGE_PAGE ? 0 : HUGE_PAGE;
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *all = mmap(NULL, size + room, prot, flags, -1, 0);

	if (all == MAP_FAILED)
		return NULL;
	if (!room)
		return all;
	/* It begins where a huge page does; what is before and behind goes back. */
	size_t before = -(uintptr_t)all % HUGE_PAGE;

	if (before > 0)
		munmap(all, before);
	munmap(all + before + size, room - before);
	(void)!madvise(all + before, size, MADV_HUGEPAGE); /* it is advice */
	return all + before;
}

void bulk_free(void *p, size_t len)
{
	if (p)
		munmap(p, mapped_size(len));
}
