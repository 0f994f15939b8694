#include "tools/cli/progress_bar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/macros.h"
#include "tools/cli/text.h"

#define REDRAW_MS 100
#define BAR_WIDTH 24
#define LINE_MAX_BYTES 256

void progress_bar_init(struct progress_bar *b)
{
	const char *term = getenv("TERM");

	*b = (struct progress_bar){ .started_ms = monotonic_ms() };
	b->shown = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

/* 0..1000, or -1 where no total is known. Bytes say more than items. */
static int permille(const struct progress_state *s)
{
	uint64_t done = s->done_bytes, total = s->total_bytes;

	if (total == 0) {
		done = s->done_items;
		total = s->total_items;
	}
	if (total == 0)
		return -1;
	return done >= total ? 1000 : (int)((double)done * 1000 / (double)total);
}

static size_t append(char *out, size_t size, size_t len, const char *s)
{
	int n = snprintf(out + len, size - len, "%s", s);

	return MIN(len + (size_t)(n > 0 ? n : 0), size - 1);
}

void progress_format(const struct progress_state *s, uint64_t bytes_per_second, unsigned width,
		     char *out, size_t size)
{
	char part[128], a[TEXT_SIZE_MAX], b[TEXT_SIZE_MAX];
	int at = permille(s);
	size_t len = append(out, size, 0, s->phase && *s->phase ? s->phase : "working");

	if (at >= 0) {
		char bar[BAR_WIDTH + 1];
		int full = at * BAR_WIDTH / 1000;
		memset(bar, '#', (size_t)full);
		memset(bar + full, '-', (size_t)(BAR_WIDTH - full));
		bar[BAR_WIDTH] = '\0';
		snprintf(part, sizeof(part), "  [%s] %3d%%", bar, at / 10);
		len = append(out, size, len, part);
	}
	if (s->done_bytes || s->total_bytes) {
		text_size(s->done_bytes, a);
		text_size(s->total_bytes, b);
		snprintf(part, sizeof(part), "  %s%s%s", a, s->total_bytes ? " of " : "",
			 s->total_bytes ? b : "");
		len = append(out, size, len, part);
	}
	if (s->done_items || s->total_items) {
		snprintf(part, sizeof(part), "  %llu", (unsigned long long)s->done_items);
		len = append(out, size, len, part);
		if (s->total_items) {
			snprintf(part, sizeof(part), " of %llu",
				 (unsigned long long)s->total_items);
			len = append(out, size, len, part);
		}
		len = append(out, size, len, " items");
	}
	if (bytes_per_second) {
		text_size(bytes_per_second, a);
		snprintf(part, sizeof(part), "  %s/s", a);
		len = append(out, size, len, part);
	}
	if (width > 1 && len > width - 1)
		out[width - 1] = '\0';
}

static unsigned terminal_width(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20 ? w.ws_col : 80;
}

void progress_bar_update(struct progress_bar *b, const struct progress_state *s)
{
	char line[LINE_MAX_BYTES];
	int64_t now;
	uint64_t rate = 0;

	if (!b->shown)
		return;
	now = monotonic_ms();
	if (strncmp(b->phase, s->phase ? s->phase : "", sizeof(b->phase) - 1) != 0) {
		snprintf(b->phase, sizeof(b->phase), "%s", s->phase ? s->phase : "");
		b->phase_bytes = s->done_bytes;
		b->phase_ms = now;
	} else if (b->drawn && now - b->drawn_ms < REDRAW_MS) {
		return;
	}
	if (now - b->phase_ms >= 500 && s->done_bytes > b->phase_bytes)
		rate = (s->done_bytes - b->phase_bytes) * 1000 / (uint64_t)(now - b->phase_ms);
	progress_format(s, rate, terminal_width(), line, sizeof(line));
	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
	b->drawn = true;
	b->drawn_ms = now;
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(o, key));

	return v > 0 ? (uint64_t)v : 0;
}

void progress_bar_update_json(struct progress_bar *b, const json_t *o)
{
	struct progress_state s = {
		.phase = json_string_value(json_object_get(o, "phase")),
		.done_items = number(o, "doneItems"),
		.total_items = number(o, "totalItems"),
		.done_bytes = number(o, "doneBytes"),
		.total_bytes = number(o, "totalBytes"),
	};

	progress_bar_update(b, &s);
}

void progress_bar_fini(struct progress_bar *b)
{
	if (b->drawn)
		fprintf(stderr, "\r\033[K");
	b->drawn = false;
}

static void report(void *arg, const struct progress *p)
{
	struct progress_state s = { p->phase, p->done_items, p->total_items, p->done_bytes,
				    p->total_bytes };

	progress_bar_update(arg, &s);
}

struct progress progress_bar_hook(struct progress_bar *b)
{
	return (struct progress){ .report = report, .arg = b };
}
