/* Connections to backends: opened, tried again, given back. */
#include "proxy/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/headers.h"

static int open_socket(const struct plane_route *route)
{
	int fd = socket(route->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	plane_end_set_options(fd);
	if (connect(fd, (const struct sockaddr *)&route->address, route->address_len) < 0 &&
		errno != EINPROGRESS) {
		int saved = errno;
		(void)close(fd); /* never connected */
		errno = saved;
		return -1;
	}
	return fd;
}

static struct plane_upstream *connect_to(struct plane_conn *conn)
{
	int fd = open_socket(conn->route);
	/* what is idle makes room for what is wanted */
	if (fd < 0 && (errno == EMFILE || errno == ENFILE) &&
		plane_pool_drop_oldest(plane_worker_pool(conn->worker)))
		fd = open_socket(conn->route);
	if (fd < 0)
		return NULL;
	struct plane_upstream *upstream = PLANE_NEW(struct plane_upstream);
	upstream->end.conn = conn;
	upstream->end.fd = fd;
	if (plane_worker_watch(conn->worker, &upstream->end) == 0)
		return upstream;
	int saved = errno;
	plane_upstream_destroy(conn->worker, upstream);
	errno = saved;
	return NULL;
}

/* Goes on to CONNECTING. `head` was written for the backend. */
static void open_fresh(struct plane_conn *conn, const struct plane_buffer *head)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	conn->exchange->is_reused = false;
	conn->upstream = connect_to(conn);
	if (!conn->upstream) {
		plane_upstream_failed(conn, strerror(errno));
		return;
	}
	plane_buffer_add(&conn->upstream->end.out, head->data, head->len);
	conn->phase = PLANE_CONN_CONNECTING;
	plane_conn_set_deadline(conn, shared->config->connect_timeout_ms);
}

static void connected(struct plane_conn *conn)
{
	conn->phase = PLANE_CONN_EXCHANGE;
	plane_conn_set_deadline(conn, 0);
}

void plane_upstream_open(struct plane_conn *conn, const struct plane_http1_head *head,
	const struct plane_target *target)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_buffer *composed = plane_worker_compose(conn->worker);
	plane_headers_request(composed, head, target, conn->route, conn->client_ip);
	/* only what may be sent twice goes over a connection that may just be closing */
	if (exchange->is_idempotent && !exchange->is_upgrade &&
		exchange->request.framing == PLANE_HTTP1_NO_BODY)
		conn->upstream =
			plane_pool_take(plane_worker_pool(conn->worker), conn->route->backend);
	if (!conn->upstream) {
		open_fresh(conn, composed);
		return;
	}
	conn->upstream->end.conn = conn;
	exchange->is_reused = true;
	plane_buffer_add(&exchange->sent_head, composed->data, composed->len);
	connected(conn);
	plane_end_write(&conn->upstream->end, composed->data, composed->len);
}

bool plane_upstream_step(struct plane_conn *conn)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (!conn->upstream->end.is_writable && !conn->upstream->end.is_broken)
		return false;
	if (getsockopt(conn->upstream->end.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error || conn->upstream->end.is_broken)
		plane_upstream_failed(conn, strerror(error ? error : ECONNRESET));
	else
		connected(conn);
	return true;
}

void plane_upstream_failed(struct plane_conn *conn, const char *why)
{
	struct plane_exchange *exchange = conn->exchange;
	plane_upstream_close(conn);
	if (exchange->is_reused && exchange->is_idempotent && !exchange->is_answered) {
		open_fresh(conn, &exchange->sent_head); /* RFC 9112 section 9.3.1 */
		return;
	}
	plane_debug_backend(conn->route->backend, "a request failed: %s", why);
	plane_proxy_count(plane_worker_shared(conn->worker), PLANE_COUNT_UPSTREAM_ERRORS, 1);
	plane_conn_answer(conn, 502, "The backend could not be reached or broke the connection.");
}

void plane_upstream_destroy(struct plane_worker *worker, struct plane_upstream *owned_upstream)
{
	plane_end_close(&owned_upstream->end);
	plane_worker_bury(worker, owned_upstream);
}

void plane_upstream_close(struct plane_conn *conn)
{
	if (conn->upstream)
		plane_upstream_destroy(conn->worker, STEAL(conn->upstream));
}

void plane_upstream_release(struct plane_conn *conn)
{
	const struct plane_end *end = &conn->upstream->end;
	bool is_reusable = conn->exchange->can_reuse_upstream && !end->is_broken && !end->is_eof &&
			   !end->is_peer_done && end->out.len == 0 &&
			   conn->exchange->request.is_done &&
			   !plane_worker_is_stopping(conn->worker);
	if (is_reusable)
		plane_pool_put(plane_worker_pool(conn->worker), conn->route->backend,
			STEAL(conn->upstream), plane_worker_now_ms(conn->worker));
	plane_upstream_close(conn);
}
