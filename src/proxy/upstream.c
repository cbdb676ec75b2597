/* Connections to backends: opened, tried again, given back. */
#include "proxy/pool.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/headers.h"

static int open_socket(const struct plane_route *route)
{
	int one = 1;
	int fd = socket(route->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* only faster */
	if (connect(fd, (const struct sockaddr *)&route->address, route->address_len) < 0 &&
		errno != EINPROGRESS) {
		int saved = errno;
		(void)close(fd); /* never connected */
		errno = saved;
		return -1;
	}
	return fd;
}

static void connected(struct plane_conn *conn)
{
	conn->phase = PLANE_CONN_EXCHANGE;
	plane_conn_set_deadline(conn, 0);
}

/* The head is written anew for each try: the first may have been sent in part. */
static void queue_head(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	plane_headers_request(&conn->upstream.out, &exchange->head, &exchange->target, conn->route,
		conn->client_ip);
}

static void open_fresh(struct plane_conn *conn)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	conn->exchange->is_reused = false;
	conn->upstream.fd = open_socket(conn->route);
	if (conn->upstream.fd < 0 || plane_worker_watch(conn->worker, &conn->upstream) < 0) {
		plane_upstream_failed(conn, strerror(errno));
		return;
	}
	conn->phase = PLANE_CONN_CONNECTING;
	plane_conn_set_deadline(conn, shared->config->connect_timeout_ms);
	queue_head(conn);
}

void plane_upstream_open(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	bool has_body = exchange->request.framing != PLANE_HTTP1_NO_BODY;
	int fd = -1;
	/* only what may be sent twice goes over a connection that may just be closing */
	if (exchange->is_idempotent && !has_body && !exchange->head.is_upgrade)
		fd = plane_pool_take(plane_worker_pool(conn->worker), conn->route->backend);
	if (fd < 0) {
		open_fresh(conn);
		return;
	}
	conn->upstream.fd = fd;
	if (plane_worker_watch(conn->worker, &conn->upstream) < 0) {
		plane_end_close(&conn->upstream);
		open_fresh(conn);
		return;
	}
	exchange->is_reused = true;
	conn->upstream.is_writable = true;
	queue_head(conn);
	connected(conn);
}

bool plane_upstream_step(struct plane_conn *conn)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (!conn->upstream.is_writable && !conn->upstream.is_broken)
		return false;
	if (getsockopt(conn->upstream.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error || conn->upstream.is_broken)
		plane_upstream_failed(conn, strerror(error ? error : ECONNRESET));
	else
		connected(conn);
	return true;
}

void plane_upstream_failed(struct plane_conn *conn, const char *why)
{
	struct plane_exchange *exchange = conn->exchange;
	plane_end_close(&conn->upstream);
	if (exchange->is_reused && exchange->is_idempotent && exchange->response_in.len == 0) {
		open_fresh(conn);
		return;
	}
	plane_debug_backend(conn->route->backend, "a request failed: %s", why);
	plane_proxy_count(plane_worker_shared(conn->worker), PLANE_COUNT_UPSTREAM_ERRORS, 1);
	plane_conn_answer(conn, 502, "The backend could not be reached or broke the connection.");
}

void plane_upstream_release(struct plane_conn *conn)
{
	struct plane_end *upstream = &conn->upstream;
	bool is_reusable = conn->exchange->can_reuse_upstream && upstream->fd >= 0 &&
			   !upstream->is_broken && !upstream->is_eof && !upstream->is_peer_done &&
			   upstream->out.len == 0 && conn->exchange->request.is_done &&
			   !plane_worker_is_stopping(conn->worker);
	if (is_reusable) {
		plane_worker_unwatch(conn->worker, upstream);
		plane_pool_put(plane_worker_pool(conn->worker), conn->route->backend, upstream->fd,
			plane_worker_now_ms(conn->worker));
		upstream->fd = -1;
	}
	plane_end_close(upstream);
}
