/* The load of bench/proxy.py on WebSockets: opens some through a proxy, sends a small message on
 * each, and the next one as soon as it came back. Prints messages a second and how long they took.
 *
 * usage: tunnel_load PORT HOST PATH TUNNELS SECONDS */
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
#define EVENTS_MAX 256
#define SLOW_US 1000000 /* slower ones count as this slow */

struct tunnel {
	int fd;
	size_t received;
	int64_t sent_at_us;
};

/* A masked text frame (RFC 6455 section 5.2); the mask is zero. */
static const char message[MESSAGE_LEN] = { (char)0x81, (char)(0x80 | (MESSAGE_LEN - 6)) };
static uint32_t counts[SLOW_US + 1]; /* by microseconds */

static int64_t now_us(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void open_tunnel(struct tunnel *tunnel, const char *port, const char *request)
{
	char head[2048];
	size_t len = 0;
	int one = 1;
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	tunnel->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (tunnel->fd < 0 ||
		setsockopt(tunnel->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
		connect(tunnel->fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		send(tunnel->fd, request, strlen(request), 0) < 0)
		err(1, "open a tunnel");
	while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
		ssize_t got = recv(tunnel->fd, head + len, sizeof(head) - len, 0);
		if (got <= 0)
			err(1, "the answer to the upgrade");
		len += (size_t)got;
	}
	if (memcmp(head, "HTTP/1.1 101", 12) != 0)
		errx(1, "no upgrade: %.*s", (int)len, head);
}

static void send_message(struct tunnel *tunnel)
{
	tunnel->received = 0;
	tunnel->sent_at_us = now_us();
	if (send(tunnel->fd, message, MESSAGE_LEN, 0) != MESSAGE_LEN)
		err(1, "send a message");
}

/* True when a message came back whole. */
static bool receive(struct tunnel *tunnel)
{
	char bytes[MESSAGE_LEN];
	ssize_t got = recv(tunnel->fd, bytes, MESSAGE_LEN - tunnel->received, 0);
	if (got <= 0)
		err(1, "a tunnel ended");
	tunnel->received += (size_t)got;
	if (tunnel->received < MESSAGE_LEN)
		return false;
	int64_t took_us = now_us() - tunnel->sent_at_us;
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
	uint64_t messages = 0;
	int64_t end_us = now_us() + seconds * 1000000;
	while (now_us() < end_us) {
		int count = epoll_wait(epoll_fd, events, EVENTS_MAX, 1000);
		for (int i = 0; i < count; i++) {
			if (!receive(events[i].data.ptr))
				continue;
			messages++;
			send_message(events[i].data.ptr);
		}
	}
	return messages;
}

int main(int argc, char **argv)
{
	char request[2048];
	if (argc != 6)
		errx(2, "usage: tunnel_load PORT HOST PATH TUNNELS SECONDS");
	int count = atoi(argv[4]);
	int seconds = atoi(argv[5]);
	(void)snprintf(request, sizeof(request), /* what is too long is no request */
		"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		argv[3], argv[2]);
	struct tunnel *tunnels = calloc((size_t)count, sizeof(*tunnels));
	int epoll_fd = epoll_create1(0);
	if (!tunnels || epoll_fd < 0)
		err(1, "tunnels");
	for (int i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &tunnels[i] };
		open_tunnel(&tunnels[i], argv[1], request);
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, tunnels[i].fd, &event) < 0)
			err(1, "watch a tunnel");
	}
	for (int i = 0; i < count; i++)
		send_message(&tunnels[i]);
	uint64_t messages = run(epoll_fd, seconds);
	printf("{\"messages_per_second\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
		(double)messages / seconds, percentile_ms(messages, 0.5),
		percentile_ms(messages, 0.99));
	free(tunnels);
	return 0;
}
