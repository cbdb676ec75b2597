/* The backend of bench/proxy.py: answers each request with 1 KiB, takes every upgrade and sends
 * back what comes through it. It does as little as it can, so that a proxy is what limits. It reads
 * no more of a request than where it ends and is no server for anything else.
 *
 * usage: responder PORT */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define HEAD_MAX 4096
#define BODY_LEN 1024

struct connection {
	int fd;
	bool is_tunnel;
	size_t len;
	char head[HEAD_MAX];
};

static char answer[BODY_LEN + 256];
static size_t answer_len;
static const char switch_answer[] =
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void make_answer(void)
{
	int len = snprintf(answer, sizeof(answer),
		"HTTP/1.1 200 OK\r\nServer: responder\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
		BODY_LEN);
	memset(answer + len, 'x', BODY_LEN);
	answer_len = (size_t)len + BODY_LEN;
}

/* What is sent is small and waited for, so the socket has room. */
static bool send_all(int fd, const char *bytes, size_t len)
{
	return send(fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool answer_heads(struct connection *connection)
{
	char *end;
	while (!connection->is_tunnel &&
		(end = memmem(connection->head, connection->len, "\r\n\r\n", 4))) {
		size_t head_len = (size_t)(end - connection->head) + 4;
		bool is_upgrade = memmem(connection->head, head_len, "Sec-WebSocket-Key", 17) ||
				  memmem(connection->head, head_len, "sec-websocket-key", 17);
		connection->len -= head_len;
		memmove(connection->head, connection->head + head_len, connection->len);
		connection->is_tunnel = is_upgrade;
		if (!send_all(connection->fd, is_upgrade ? switch_answer : answer,
			    is_upgrade ? sizeof(switch_answer) - 1 : answer_len))
			return false;
	}
	return connection->len < HEAD_MAX;
}

/* False: it is over. */
static bool serve(struct connection *connection)
{
	ssize_t got = recv(
		connection->fd, connection->head + connection->len, HEAD_MAX - connection->len, 0);
	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	if (connection->is_tunnel)
		return send_all(connection->fd, connection->head, (size_t)got);
	connection->len += (size_t)got;
	return answer_heads(connection);
}

static int listen_on(const char *port)
{
	int one = 1;
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(fd, 4096) < 0)
		err(1, "listen on port %s", port);
	return fd;
}

static void accept_all(int epoll_fd, int listen_fd)
{
	for (;;) {
		int one = 1;
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK);
		if (fd < 0)
			return;
		struct connection *connection = calloc(1, sizeof(*connection));
		if (!connection)
			err(1, "a connection");
		connection->fd = fd;
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
		if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
			epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
			err(1, "watch a connection");
	}
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS_MAX];
	if (argc != 2)
		errx(2, "usage: responder PORT");
	make_answer();
	int listen_fd = listen_on(argv[1]);
	int epoll_fd = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN };
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
		err(1, "epoll");
	for (;;) {
		int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
		for (int i = 0; i < count; i++) {
			struct connection *connection = events[i].data.ptr;
			if (!connection) {
				accept_all(epoll_fd, listen_fd);
			} else if (!serve(connection)) {
				(void)close(connection->fd); /* the peer is gone */
				free(connection);
			}
		}
	}
}
