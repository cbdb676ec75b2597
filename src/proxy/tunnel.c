/* After an upgrade: bytes both ways, each direction closed by itself. An idle tunnel keeps no
 * buffers. */
#include "proxy/conn.h"

#define HALF_CLOSED_MS 300000

void plane_tunnel_begin(struct plane_conn *conn, const char *early, size_t early_len)
{
	plane_buffer_add(&conn->client.out, early, early_len);
	plane_buffer_add(&conn->upstream->end.out, conn->in.data, conn->in.len);
	plane_buffer_finish(&conn->in);
	plane_conn_free_exchange(conn);
	conn->phase = PLANE_CONN_TUNNEL;
	plane_conn_set_deadline(conn, 0);
	plane_proxy_count(plane_worker_shared(conn->worker), PLANE_COUNT_TUNNELS, 1);
}

/* One direction; true when something moved. */
static bool pump(struct plane_conn *conn, struct plane_end *from, struct plane_end *to)
{
	char *scratch = plane_worker_scratch(conn->worker);
	if (!plane_end_flush(to))
		return false;
	size_t got = plane_end_read(from, scratch, PLANE_SCRATCH_SIZE);
	if (got > 0) {
		plane_end_write(to, scratch, got);
		return true;
	}
	if (from->is_eof && !to->is_shut) {
		plane_end_shut(to);
		return true;
	}
	return false;
}

static bool is_over(const struct plane_conn *conn)
{
	const struct plane_end *upstream = &conn->upstream->end;
	return conn->client.is_broken || upstream->is_broken ||
	       (conn->client.is_shut && upstream->is_shut);
}

static void watch_stall(struct plane_conn *conn, bool has_moved)
{
	int64_t stall_ms = plane_worker_shared(conn->worker)->config->stall_timeout_ms;
	const struct plane_end *upstream = &conn->upstream->end;
	bool is_stuck = conn->client.out.len || upstream->out.len;
	bool is_half_closed = conn->client.is_shut || upstream->is_shut;
	if (!is_stuck && !is_half_closed)
		plane_conn_set_deadline(conn, 0);
	else if (has_moved || !conn->deadline_ms)
		plane_conn_set_deadline(conn, is_stuck ? stall_ms : HALF_CLOSED_MS);
}

bool plane_tunnel_step(struct plane_conn *conn)
{
	struct plane_end *upstream = &conn->upstream->end;
	bool has_moved = pump(conn, &conn->client, upstream);
	has_moved |= pump(conn, upstream, &conn->client);
	if (is_over(conn)) {
		plane_conn_kill(conn);
		return true;
	}
	watch_stall(conn, has_moved);
	return has_moved;
}
