#include "snapshotd/http/json_stream.h"

#include <stdio.h>
#include <string.h>

#include "store/base/utf8.h"

#define PIECE_BYTES (32u << 10)

int json_stream_flush(struct json_stream *js)
{
	int rc = js->pending.len ? js->write(js->arg, js->pending.data, js->pending.len) : 0;

	buf_clear(&js->pending);
	return rc;
}

void json_stream_fini(struct json_stream *js)
{
	buf_fini(&js->pending);
}

static int put(struct json_stream *js, const void *data, size_t len)
{
	int rc = js->pending.len + len > PIECE_BYTES ? json_stream_flush(js) : 0;

	return rc < 0 ? rc : buf_append(&js->pending, data, len);
}

int json_stream_raw(struct json_stream *js, const char *text)
{
	return put(js, text, strlen(text));
}

/* What stands for the bytes at s instead of themselves; *len: how many they are. */
static const char *replacement(const char *s, size_t left, size_t *len, char room[8])
{
	static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	unsigned char c = (unsigned char)*s;
	const char *at = c ? strchr(plain, c) : NULL;

	*len = 1;
	if (at) {
		snprintf(room, 8, "\\%c", letters[at - plain]);
		return room;
	}
	if (c < ' ') {
		snprintf(room, 8, "\\u%04x", c);
		return room;
	}
	*len = c < 0x80 ? 1 : utf8_len(s, left);
	if (*len > 0)
		return NULL;
	*len = 1;
	return "\xef\xbf\xbd";
}

int json_stream_string(struct json_stream *js, const void *data, size_t len)
{
	const char *s = data;
	int rc = put(js, "\"", 1);
	size_t same = 0, n; /* bytes before s that stay as they are */
	char room[8];

	for (size_t i = 0; i < len && rc == 0; i += n, s += n) {
		const char *other = replacement(s, len - i, &n, room);

		if (!other && same + n <= PIECE_BYTES / 2) {
			same += n;
			continue;
		}
		rc = put(js, s - same, same);
		same = other ? 0 : n;
		if (rc == 0 && other)
			rc = put(js, other, strlen(other));
	}
	if (rc == 0)
		rc = put(js, s - same, same);
	return rc < 0 ? rc : put(js, "\"", 1);
}
