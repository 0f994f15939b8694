#include "tools/cli/diff_view.h"

#include <stdio.h>
#include <string.h>

#include "tools/cli/cli.h"

static char letter(const char *change)
{
	static const struct {
		const char *change;
		char letter;
	} letters[] = { { "added", 'A' },
			{ "removed", 'D' },
			{ "modified", 'M' },
			{ "meta", 'm' },
			{ "renamed", 'R' } };

	for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
		if (strcmp(change, letters[i].change) == 0)
			return letters[i].letter;
	return '?';
}

int diff_line_print(const struct diff_line *l)
{
	int r = 0;

	printf("%c %s", letter(l->change), l->prefix);
	if (l->from) {
		r = cli_print_name(l->from, l->from_len);
		printf(" -> %s", l->prefix);
	}
	if (r == 0)
		r = cli_print_name(l->path, l->len);
	return putchar('\n') == EOF ? cli_write_failure() : r;
}

int diff_omitted_print(const struct diff_line *l, uint64_t count)
{
	int r;

	printf("? %s", l->prefix);
	r = cli_print_name(l->path, l->len);
	printf(": %llu changes whose paths are too long\n", (unsigned long long)count);
	return ferror(stdout) ? cli_write_failure() : r;
}
