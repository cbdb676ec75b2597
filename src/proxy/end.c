/* Reading from and writing to one socket. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/conn.h"

#define PROBE_AFTER_S 120
#define PROBE_EVERY_S 30
#define PROBES 6

static void set_number(int fd, int level, int option, int number)
{
	(void)setsockopt(fd, level, option, &number, sizeof(number)); /* it works without, too */
}

/* A tunnel may be silent for as long as it likes, so only the kernel's probes tell a silent peer
 * from one that lost its power or its network: without them it would count as use for ever. */
void plane_end_set_options(int fd)
{
	set_number(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_number(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_number(fd, IPPROTO_TCP, TCP_KEEPIDLE, PROBE_AFTER_S);
	set_number(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EVERY_S);
	set_number(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
	set_number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, /* the same for what it does not confirm */
		(PROBE_AFTER_S + PROBES * PROBE_EVERY_S) * 1000);
}

size_t plane_end_read(struct plane_end *end, char *bytes, size_t len)
{
	if (end->fd < 0 || !end->is_readable || end->is_eof || end->is_broken)
		return 0;
	ssize_t got;
	do
		got = recv(end->fd, bytes, len, 0);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		/* less than was asked for: the next bytes come with an event of their own */
		if ((size_t)got < len && !end->is_peer_done)
			end->is_readable = false;
		return (size_t)got;
	}
	if (got == 0)
		end->is_eof = true;
	else if (errno == EAGAIN || errno == EWOULDBLOCK)
		end->is_readable = false;
	else
		end->is_broken = true;
	return 0;
}

/* How much the socket took. */
static size_t send_some(struct plane_end *end, const char *bytes, size_t len)
{
	size_t sent = 0;
	while (sent < len && end->is_writable && !end->is_broken) {
		ssize_t n = send(end->fd, bytes + sent, len - sent, MSG_NOSIGNAL);
		if (n >= 0)
			sent += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			end->is_writable = false;
		else if (errno != EINTR)
			end->is_broken = true;
	}
	return sent;
}

void plane_end_write(struct plane_end *end, const char *bytes, size_t len)
{
	if (end->fd < 0 || end->is_broken)
		return;
	size_t sent = end->out.len ? 0 : send_some(end, bytes, len);
	if (sent < len && !end->is_broken)
		plane_buffer_add(&end->out, bytes + sent, len - sent);
}

bool plane_end_flush(struct plane_end *end)
{
	if (end->out.len == 0)
		return true;
	size_t sent = end->fd < 0 ? 0 : send_some(end, end->out.data, end->out.len);
	if (sent == end->out.len || end->is_broken)
		plane_buffer_finish(&end->out); /* an idle connection keeps no buffer */
	else
		plane_buffer_consume(&end->out, sent);
	return end->out.len == 0;
}

void plane_end_close(struct plane_end *end)
{
	struct plane_conn *conn = end->conn;
	if (end->fd >= 0)
		(void)close(end->fd); /* leaves epoll by itself */
	plane_buffer_finish(&end->out);
	*end = (struct plane_end){ .conn = conn, .fd = -1 };
}

void plane_end_shut(struct plane_end *end)
{
	if (end->fd >= 0 && !end->is_shut)
		(void)shutdown(end->fd, SHUT_WR); /* a peer that is gone needs none */
	end->is_shut = true;
}

void plane_end_reset(struct plane_end *end)
{
	const struct linger at_once = { .l_onoff = 1 };
	(void)setsockopt(
		end->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)); /* else: an end */
}
