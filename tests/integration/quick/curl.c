/*
 * curl.c - as curl(1), for a request over a unix socket with the few options that tests use
 * most; anything else curl itself does. One static program: it starts in a tenth of the
 * time, for curl loads thirty libraries, and tests ask a thousand times.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "tests/integration/quick/fall_back.h"

#define HEADERS_MAX 16
#define DATA_MAX 16000 /* fits into the socket's buffer, so sending cannot wait for an answer */

/* curl's exit codes. */
enum {
	COULDNT_CONNECT = 7,
	PARTIAL_FILE = 18,
	HTTP_ERROR = 22,
	WRITE_ERROR = 23,
	TIMED_OUT = 28,
	GOT_NOTHING = 52,
	RECV_ERROR = 56,
};

static struct {
	const char *socket, *method, *file, *data, *url;
	const char *headers[HEADERS_MAX];
	int header_count;
	long seconds;
	bool tell_code, fail, silent, show_error;
} rq;
static char code[4] = "000";
static int out = -1; /* opened with the first byte, as curl does */

static _Noreturn void end(int status)
{
	char text[] = "curl: (00) failed\n";

	text[7] = (char)('0' + status / 10);
	text[8] = (char)('0' + status % 10);
	if (rq.tell_code && write(1, code, 3) < 0)
		status = status ? status : WRITE_ERROR;
	if (status != 0 && (!rq.silent || rq.show_error) && write(2, text, strlen(text)) < 0)
		_exit(status);
	_exit(status);
}

static void on_alarm(int sig)
{
	(void)sig;
	end(TIMED_OUT);
}

static bool flags(const char *arg)
{
	for (arg++; *arg; arg++) {
		switch (*arg) {
		case 's':
			rq.silent = true;
			break;
		case 'S':
			rq.show_error = true;
			break;
		case 'f':
			rq.fail = true;
			break;
		case 'N':
			break; /* nothing is held back here */
		default:
			return false;
		}
	}
	return true;
}

static bool is_plain_header(const char *h)
{
	const char *colon = strchr(h, ':');

	return colon && colon != h && colon[1] == ' ' && colon[2] && !strpbrk(h, "\r\n") &&
	       strncasecmp(h, "Transfer-", 9) != 0 && strncasecmp(h, "Content-Length", 14) != 0;
}

static bool option(const char *name, const char *value)
{
	if (strcmp(name, "--unix-socket") == 0)
		rq.socket = value;
	else if (strcmp(name, "-X") == 0)
		rq.method = value;
	else if (strcmp(name, "-o") == 0)
		rq.file = value;
	else if (strcmp(name, "--max-time") == 0)
		rq.seconds = strspn(value, "0123456789") == strlen(value) ? atol(value) : -1;
	else if (strcmp(name, "-w") == 0)
		rq.tell_code = strcmp(value, "%{http_code}") == 0;
	else if (strcmp(name, "-d") == 0 && !rq.data && *value != '@' && strlen(value) < DATA_MAX)
		rq.data = value;
	else if (strcmp(name, "-H") == 0 && rq.header_count < HEADERS_MAX && is_plain_header(value))
		rq.headers[rq.header_count++] = value;
	else
		return false;
	return rq.seconds >= 0 && (strcmp(name, "-w") != 0 || rq.tell_code);
}

/* What curl would send as it is: no globs, no dots to resolve. */
static bool is_plain_url(const char *url)
{
	for (const char *c = url; *c; c++)
		if (!isgraph((unsigned char)*c) || strchr("{}[]\\#\"<>^`|", *c))
			return false;
	return strncmp(url, "http://", 7) == 0 && strchr(url + 7, '/') && !strstr(url, "/.") &&
	       !strchr(url, '@');
}

/* False: it is for curl itself. */
static bool understand(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-' && strspn(argv[i] + 1, "sSfN") > 0 && flags(argv[i]))
			continue;
		if (argv[i][0] == '-' && i + 1 < argc) {
			if (!option(argv[i], argv[i + 1]))
				return false;
			i++;
		} else if (argv[i][0] != '-' && !rq.url) {
			rq.url = argv[i];
		} else {
			return false;
		}
	}
	if (!rq.method)
		rq.method = rq.data ? "POST" : "GET";
	return rq.socket && rq.url && is_plain_url(rq.url) && strcmp(rq.method, "HEAD") != 0 &&
	       strlen(rq.socket) < sizeof(((struct sockaddr_un *)0)->sun_path);
}

static void header_unless_given(FILE *f, const char *name, const char *value)
{
	for (int i = 0; i < rq.header_count; i++)
		if (strncasecmp(rq.headers[i], name, strlen(name)) == 0 &&
		    rq.headers[i][strlen(name)] == ':')
			return;
	fprintf(f, "%s: %s\r\n", name, value);
}

static void send_request(int fd)
{
	char *text = NULL, host[256];
	size_t len = 0;
	const char *path = strchr(rq.url + 7, '/');
	FILE *f = open_memstream(&text, &len);

	if (!f)
		end(RECV_ERROR);
	snprintf(host, sizeof(host), "%.*s", (int)(path - rq.url - 7), rq.url + 7);
	fprintf(f, "%s %s HTTP/1.1\r\n", rq.method, path);
	header_unless_given(f, "Host", host);
	header_unless_given(f, "User-Agent", "curl");
	header_unless_given(f, "Accept", "*/*");
	for (int i = 0; i < rq.header_count; i++)
		fprintf(f, "%s\r\n", rq.headers[i]);
	if (rq.data) {
		fprintf(f, "Content-Length: %zu\r\n", strlen(rq.data));
		header_unless_given(f, "Content-Type", "application/x-www-form-urlencoded");
	}
	fprintf(f, "\r\n%s", rq.data ? rq.data : "");
	if (fclose(f) != 0)
		end(RECV_ERROR);
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, text + at, len - at);
		if (n < 0)
			break; /* there may be an answer all the same */
		at += (size_t)n;
	}
	free(text);
}

static void open_output(void)
{
	if (out < 0)
		out = rq.file ? open(rq.file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : 1;
	if (out < 0)
		end(WRITE_ERROR);
}

static void put(const char *data, size_t len)
{
	if (rq.fail && code[0] >= '4')
		return;
	while (len > 0) {
		open_output();
		ssize_t n = write(out, data, len);
		if (n < 0)
			end(WRITE_ERROR);
		data += n;
		len -= (size_t)n;
	}
}

/* Of the answer: whole lines, then as many bytes as there are. */
static char in[65536];
static size_t in_at, in_end;

static bool fill(int fd)
{
	ssize_t n = read(fd, in, sizeof(in));

	if (n < 0)
		end(RECV_ERROR);
	in_at = 0;
	in_end = (size_t)n;
	return n > 0;
}

/* A line without its end, cut at the buffer's. The connection's end is FAILURE. */
static void read_line(int fd, char *line, size_t size, int failure)
{
	size_t n = 0;

	while (true) {
		if (in_at == in_end && !fill(fd))
			end(failure);
		char c = in[in_at++];
		if (c == '\n')
			break;
		if (c != '\r' && n < size - 1)
			line[n++] = c;
	}
	line[n] = '\0';
}

static void pass_on(int fd, unsigned long long len)
{
	while (len > 0) {
		if (in_at == in_end && !fill(fd))
			end(PARTIAL_FILE);
		size_t n = in_end - in_at < len ? in_end - in_at : (size_t)len;
		put(in + in_at, n);
		in_at += n;
		len -= n;
	}
}

static void pass_on_chunks(int fd)
{
	char line[256];
	unsigned long long len;

	do {
		read_line(fd, line, sizeof(line), PARTIAL_FILE);
		len = strtoull(line, NULL, 16);
		pass_on(fd, len);
		read_line(fd, line, sizeof(line), PARTIAL_FILE);
	} while (len > 0);
}

static void pass_on_answer(int fd)
{
	char line[8192];
	bool chunked = false, has_length = false;
	unsigned long long length = 0;

	do {
		read_line(fd, line, sizeof(line), GOT_NOTHING);
		if (strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 12)
			end(RECV_ERROR);
		memcpy(code, line + 9, 3);
		while (read_line(fd, line, sizeof(line), GOT_NOTHING), line[0]) {
			if (strncasecmp(line, "Content-Length:", 15) == 0) {
				length = strtoull(line + 15, NULL, 10);
				has_length = true;
			} else if (strncasecmp(line, "Transfer-Encoding: chunked", 26) == 0) {
				chunked = true;
			}
		}
	} while (code[0] == '1');
	if (strcmp(code, "204") == 0 || strcmp(code, "304") == 0)
		return;
	if (chunked)
		pass_on_chunks(fd);
	else if (has_length)
		pass_on(fd, length);
	else
		while (in_at < in_end || fill(fd)) {
			put(in + in_at, in_end - in_at);
			in_at = in_end;
		}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (!understand(argc, argv))
		fall_back("curl", argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, on_alarm);
	if (rq.seconds > 0)
		alarm((unsigned)rq.seconds);
	memcpy(address.sun_path, rq.socket, strlen(rq.socket));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		end(COULDNT_CONNECT);
	send_request(fd);
	pass_on_answer(fd);
	if (rq.fail && code[0] >= '4')
		end(HTTP_ERROR);
	open_output();
	end(0);
}
