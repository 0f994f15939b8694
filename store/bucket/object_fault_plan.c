#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_fault_internal.h"

int fault_parse_time(const char *text, int64_t *out_ms)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 } };
	char *end;

	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (end == text || errno || n > 1000000000 || n < -1000000000)
		return -EINVAL;
	size_t len = strcspn(end, "\n");
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (len == strlen(units[i].unit) && memcmp(end, units[i].unit, len) == 0) {
			*out_ms = n * units[i].ms;
			return 0;
		}
	return -EINVAL;
}

static int parse_chance(const char *text, double *out)
{
	char *end;
	double p = strtod(text, &end);

	if (end == text || *end || !(p >= 0 && p <= 1))
		return -EINVAL;
	*out = p;
	return 0;
}

static int parse_number(const char *text, uint64_t *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	*out = strtoull(text, &end, 10);
	return *end ? -EINVAL : 0;
}

static int parse_delay(char *text, struct fault_plan *p)
{
	char *chance = strchr(text, ':');
	int64_t ms;

	if (chance)
		*chance++ = '\0';
	if (fault_parse_time(text, &ms) < 0 || ms < 0)
		return -EINVAL;
	p->delay_ms = (unsigned)ms;
	p->delay = 1;
	return chance ? parse_chance(chance, &p->delay) : 0;
}

static int parse_path(const char *text, char *out, size_t size)
{
	if (!*text || strlen(text) >= size)
		return -EINVAL;
	strcpy(out, text);
	return 0;
}

static int parse_clock(const char *text, struct fault_plan *p)
{
	p->has_clock = true;
	if (*text == '@')
		return parse_path(text + 1, p->clock_path, sizeof(p->clock_path));
	return fault_parse_time(text, &p->clock_ms);
}

static int parse_ops(char *text, struct fault_plan *p)
{
	static const char *const names[] = { "get", "put", "put-once", "list", "delete" };
	char *name;

	p->ops = 0;
	while ((name = strsep(&text, ":"))) {
		unsigned i = 0;
		while (i < ARRAY_SIZE(names) && strcmp(name, names[i]) != 0)
			i++;
		if (i == ARRAY_SIZE(names))
			return -EINVAL;
		p->ops |= 1u << i;
	}
	return 0;
}

static int parse_one(const char *name, char *value, struct fault_plan *p)
{
	const struct {
		const char *name;
		double *chance;
	} chances[] = {
		{ "drop", &p->drop },	  { "lost", &p->lost }, { "throttle", &p->throttle },
		{ "repeat", &p->repeat }, { "flip", &p->flip }, { "cut", &p->cut },
		{ "stale", &p->stale },	  { "hide", &p->hide },
	};

	for (size_t i = 0; i < ARRAY_SIZE(chances); i++)
		if (strcmp(name, chances[i].name) == 0)
			return parse_chance(value, chances[i].chance);
	if (strcmp(name, "seed") == 0)
		return parse_number(value, &p->seed);
	if (strcmp(name, "delay") == 0)
		return parse_delay(value, p);
	if (strcmp(name, "clock") == 0)
		return parse_clock(value, p);
	if (strcmp(name, "frozen") == 0)
		return parse_path(value, p->frozen, sizeof(p->frozen));
	if (strcmp(name, "die") == 0)
		return parse_number(value, &p->die);
	if (strcmp(name, "die-after") == 0)
		return parse_number(value, &p->die_after);
	if (strcmp(name, "ops") == 0)
		return parse_ops(value, p);
	if (strcmp(name, "under") == 0)
		return parse_path(value, p->under, sizeof(p->under));
	return -EINVAL;
}

int fault_plan_parse(const char *text, struct fault_plan *out, struct error *err)
{
	struct fault_plan p = { .ops = (1u << OBJECT_OPS) - 1 };
	char *copy = strdup(text), *rest = copy, *part;
	int rc = copy ? 0 : -ENOMEM;

	while (rc == 0 && (part = strsep(&rest, ","))) {
		if (!*part)
			continue;
		char *value = strchr(part, '=');
		if (value)
			*value++ = '\0';
		rc = value ? parse_one(part, value, &p) : -EINVAL;
		if (rc < 0)
			error_set(err, rc,
				  "plan of faults: \"%.60s\" is none, or has another value", part);
	}
	free(copy);
	if (rc == 0)
		*out = p;
	return rc;
}
