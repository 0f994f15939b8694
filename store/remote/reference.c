#include "store/remote/reference.h"

#include <stddef.h>
#include <string.h>

bool reference_split(const char *text, char out_remote[REMOTE_NAME_MAX + 1],
		     const char **out_reference)
{
	const char *colon = strchr(text, ':');

	if (!colon || colon == text || colon - text > (ptrdiff_t)REMOTE_NAME_MAX || !colon[1])
		return false;
	memcpy(out_remote, text, (size_t)(colon - text));
	out_remote[colon - text] = '\0';
	*out_reference = colon + 1;
	return true;
}
