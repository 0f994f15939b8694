/* Names, ids and times of snapshots: no state. */
#include "store/names/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "store/names/snapshot_internal.h"

void id_random(char out[SNAPSHOT_ID_SIZE])
{
	uint8_t b[16];
	/* The kernel gives up to 256 bytes whole, once its pool is initialised. */
	while (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		usleep(1000);
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	char *p = out;
	for (size_t i = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += snprintf(p, 3, "%02x", b[i]);
	}
}

static bool is_alnum(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int snapshot_name_check(const char *name, struct error *err)
{
	size_t len = strnlen(name, SNAPSHOT_NAME_MAX + 1);
	if (len == 0)
		return error_set(err, -EINVAL, "a snapshot's name must not be empty");
	if (len > SNAPSHOT_NAME_MAX)
		return error_set(err, -EINVAL, "a snapshot's name has at most %d characters",
				 SNAPSHOT_NAME_MAX);
	if (!is_alnum(name[0]))
		return error_set(err, -EINVAL,
				 "a snapshot's name must start with a letter or a digit");
	for (size_t i = 0; i < len; i++) {
		if (!is_alnum(name[i]) && !strchr("._-", name[i]))
			return error_set(err, -EINVAL,
					 "a snapshot's name consists of letters, digits, "
					 "'.', '_' and '-'");
	}
	return 0;
}

void time_to_text(int64_t ms, char out[TIME_TEXT_SIZE])
{
	time_t sec = (time_t)(ms / 1000);
	int milli = (int)(ms % 1000);
	struct tm tm;
	if (milli < 0) {
		milli += 1000;
		sec--;
	}
	if (!gmtime_r(&sec, &tm))
		memset(&tm, 0, sizeof(tm));
	char date[TIME_TEXT_SIZE - 8];
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, TIME_TEXT_SIZE, "%s.%03dZ", date, milli);
}
