#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "snapshotd/http/accept.h"
#include "store/base/macros.h"

static void events_are_for_who_prefers_them(void **state)
{
	static const struct {
		const char *accept;
		bool events;
	} cases[] = {
		{ NULL, false },
		{ "", false },
		{ "*/*", false },
		{ "text/*", false },
		{ "application/json", false },
		{ "text/event-stream", true },
		{ "Text/Event-Stream; charset=utf-8", true },
		{ "application/json, text/event-stream", false },
		{ "text/event-stream, application/json", false },
		{ "text/event-stream, */*", false },
		{ "text/event-stream, application/*", false },
		{ "text/event-stream, application/json;q=0.9", true },
		{ "text/event-stream,*/*;q=0.1", true },
		{ "text/event-stream;q=0.5, application/json;q=0.25", true },
		{ "text/event-stream;q=0.25, application/json;q=0.5", false },
		{ "text/event-stream;q=0.5, */*; q=0.8", false },
		{ "text/event-stream; q=0.001, application/json;q=0", true },
		{ "text/event-stream;q=0", false },
		{ "text/event-stream;q=0.0", false },
		{ "text/event-stream;v=1;q=1.0, application/json;q=0.999", true },
		{ "application/json;q=0.9;text/event-stream", false },
		{ "text/event-streams", false },
		{ ",,text/event-stream,", true },
		{ ";q=,;;q", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (accept_prefers_events(cases[i].accept) != cases[i].events)
			fail_msg("Accept: %s", cases[i].accept);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(events_are_for_who_prefers_them) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
