/* The load of bench/proxy.py: some connections, each of which asks for the same again as soon as it
 * was answered; or WebSockets, each of which sends a small message again as soon as it came back.
 * Prints how many a second, and how long they took. It takes as little of its core as it can: each
 * answer is as long as the connection's first one, so only its begin and its length are looked at.
 *
 * usage: proxy_load get|tunnel PORT HOST PATH CONNECTIONS SECONDS */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_LEN 64
#define ANSWER_MAX 65536
#define EVENTS_MAX 256
#define SLOW_US 1000000 /* slower ones count as this slow */

struct connection {
	int fd;
	size_t answer_len, received;
	int64_t sent_at_us;
};

/* A masked text frame (RFC 6455 section 5.2); the mask is zero. */
static const char message[MESSAGE_LEN] = { (char)0x81, (char)(0x80 | (MESSAGE_LEN - 6)) };
static char request[2048];
static const char *question; /* what is sent again and again */
static size_t question_len;
static const char *answer_begin;
static uint32_t counts[SLOW_US + 1]; /* by microseconds */

static int64_t now_us(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void open_socket(struct connection *connection, const char *port)
{
	int one = 1;
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	connection->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connection->fd < 0 ||
		setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
		connect(connection->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "connect");
}

/* The first answer is read to its end; how long it is. */
static size_t ask_first(const struct connection *connection, const char *status)
{
	char answer[ANSWER_MAX + 1];
	size_t len = 0;
	size_t whole = 0;
	if (send(connection->fd, request, strlen(request), 0) < 0)
		err(1, "ask");
	while (!whole || len < whole) {
		ssize_t got = recv(connection->fd, answer + len, ANSWER_MAX - len, 0);
		if (got <= 0)
			err(1, "the first answer");
		len += (size_t)got;
		answer[len] = '\0';
		const char *end = strstr(answer, "\r\n\r\n");
		const char *length = strcasestr(answer, "\r\ncontent-length:");
		if (end && !whole)
			whole = (size_t)(end + 4 - answer) +
				(length && length < end ? strtoul(length + 17, NULL, 10) : 0);
	}
	if (strncmp(answer, status, strlen(status)) != 0 || len > whole)
		errx(1, "another answer than expected: %s", answer);
	return whole;
}

static void ask(struct connection *connection)
{
	connection->received = 0;
	connection->sent_at_us = now_us();
	if (send(connection->fd, question, question_len, 0) != (ssize_t)question_len)
		err(1, "ask again");
}

/* True when the answer is there as a whole. */
static bool receive(struct connection *connection)
{
	static char bytes[ANSWER_MAX];
	ssize_t got = recv(connection->fd, bytes, ANSWER_MAX, 0);
	if (got <= 0)
		err(1, "a connection ended");
	if (connection->received == 0 && (got < 12 || memcmp(bytes, answer_begin, 12) != 0))
		errx(1, "another answer than before: %.*s", (int)got, bytes);
	connection->received += (size_t)got;
	if (connection->received > connection->answer_len)
		errx(1, "a longer answer than before");
	if (connection->received < connection->answer_len)
		return false;
	int64_t took_us = now_us() - connection->sent_at_us;
	counts[took_us < SLOW_US ? took_us : SLOW_US]++;
	return true;
}

static double percentile_ms(uint64_t all, double share)
{
	uint64_t seen = 0;
	for (int us = 0; us <= SLOW_US; us++) {
		seen += counts[us];
		if ((double)seen >= (double)all * share)
			return us / 1000.0;
	}
	return 0;
}

static uint64_t run(int epoll_fd, int64_t seconds)
{
	struct epoll_event events[EVENTS_MAX];
	uint64_t answers = 0;
	int64_t end_us = now_us() + seconds * 1000000;
	while (now_us() < end_us) {
		int count = epoll_wait(epoll_fd, events, EVENTS_MAX, 1000);
		for (int i = 0; i < count; i++) {
			if (!receive(events[i].data.ptr))
				continue;
			answers++;
			ask(events[i].data.ptr);
		}
	}
	return answers;
}

static void open_all(
	struct connection *connections, int count, const char *port, bool is_tunnel, int epoll_fd)
{
	for (int i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &connections[i] };
		open_socket(&connections[i], port);
		size_t len =
			ask_first(&connections[i], is_tunnel ? "HTTP/1.1 101" : "HTTP/1.1 200");
		connections[i].answer_len = is_tunnel ? MESSAGE_LEN : len;
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connections[i].fd, &event) < 0)
			err(1, "watch a connection");
	}
}

int main(int argc, char **argv)
{
	if (argc != 7)
		errx(2, "usage: proxy_load get|tunnel PORT HOST PATH CONNECTIONS SECONDS");
	bool is_tunnel = strcmp(argv[1], "tunnel") == 0;
	int count = atoi(argv[5]);
	int seconds = atoi(argv[6]);
	(void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", argv[4],
		argv[3], /* what is too long is no request */
		is_tunnel ? "Connection: Upgrade\r\nUpgrade: websocket\r\n"
			    "Sec-WebSocket-Version: 13\r\n"
			    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			  : "");
	question = is_tunnel ? message : request;
	question_len = is_tunnel ? MESSAGE_LEN : strlen(request);
	answer_begin = is_tunnel ? message : "HTTP/1.1 200";
	struct connection *connections = calloc((size_t)count, sizeof(*connections));
	int epoll_fd = epoll_create1(0);
	if (!connections || epoll_fd < 0)
		err(1, "connections");
	open_all(connections, count, argv[2], is_tunnel, epoll_fd);
	for (int i = 0; i < count; i++)
		ask(&connections[i]);
	uint64_t answers = run(epoll_fd, seconds);
	printf("{\"per_second\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
		(double)answers / seconds, percentile_ms(answers, 0.5),
		percentile_ms(answers, 0.99));
	free(connections);
	return 0;
}
