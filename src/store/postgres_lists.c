/* Lists for who looks at a cluster: nodes, backends, keys. */
#include <string.h>

#include "store/postgres.h"

/* ---- nodes ---- */

static void read_member(struct plane_store_member *member, const PGresult *rows, int row)
{
	bool is_drone = strcmp(plane_pg_text(rows, row, 0), "Drone") == 0;
	*member =
		(struct plane_store_member){ .kind = is_drone ? PLANE_NODE_DRONE : PLANE_NODE_PROXY,
			.name = plane_pg_text_copy(rows, row, 1),
			.cluster = plane_pg_text_copy(rows, row, 2),
			.version = plane_pg_text_copy(rows, row, 3),
			.git_hash = plane_pg_text_copy(rows, row, 4),
			.ip = plane_pg_text_copy(rows, row, 5),
			.controller = plane_pg_text_copy(rows, row, 6),
			.controller_heartbeat_age_ms = plane_pg_int(rows, row, 7),
			.pool = plane_pg_text_copy(rows, row, 8),
			.is_ready = plane_pg_bool(rows, row, 9),
			.is_draining = plane_pg_bool(rows, row, 10),
			.heartbeat_age_ms = plane_pg_int(rows, row, 11),
			.backend_count = plane_pg_int(rows, row, 12),
			.has_lease = plane_pg_bool(rows, row, 13) };
	member->has_resources = plane_postgres_read_resources(rows, row, 14, &member->resources);
}

int plane_postgres_member_list(struct plane_store *base,
	const struct plane_store_member_filter *filter, struct plane_store_members *members,
	struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT n.kind, n.name, n.cluster, n.version, n.git_hash, n.ip, c.name, "
		"greatest(now_ms() - c.last_heartbeat_at, 0), d.pool, d.is_ready, d.is_draining, "
		"greatest(now_ms() - d.last_heartbeat_at, CASE WHEN d.last_heartbeat_at IS NOT "
		"NULL "
		"THEN 0 END), alive.count, d.is_lease_granted, " PLANE_STORE_RESOURCE_COLUMNS
		" FROM node n LEFT JOIN controller c "
		"ON c.name = "
		"n.controller LEFT JOIN drone d USING (id) LEFT JOIN LATERAL (SELECT count(*) FROM "
		"backend WHERE drone_id = d.id AND status < 70) alive ON d.id IS NOT NULL WHERE "
		"($1::text IS NULL OR n.cluster = $1) AND ($2::text IS NULL OR d.pool = $2) AND "
		"($3::text IS NULL OR n.name = $3) AND (n.kind = 'Drone' AND $4 OR n.kind = "
		"'Proxy' "
		"AND $5) AND (c.name IS NOT NULL OR $6 AND alive.count > 0 OR $7) ORDER BY "
		"n.cluster "
		"COLLATE \"C\", n.name COLLATE \"C\"",
		"tttbbbb", filter->cluster, filter->pool, filter->name, (int)filter->are_drones,
		(int)filter->are_proxies, (int)filter->has_busy, (int)filter->has_away);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	*members = (struct plane_store_members){ .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(members->entries[0])) };
	for (int i = 0; i < count; i++)
		read_member(&members->entries[i], rows, i);
	return 0;
}

/* ---- backends ---- */

static int read_backend(const PGresult *rows, int row, struct plane_store_listed_backend *listed,
	struct plane_error *err)
{
	*listed = (struct plane_store_listed_backend){ .backend = plane_pg_text_copy(rows, row, 0),
		.cluster = plane_pg_text_copy(rows, row, 1),
		.drone = plane_pg_text_copy(rows, row, 2),
		.key_namespace = plane_pg_text_copy(rows, row, 3),
		.key_name = plane_pg_text_copy(rows, row, 4),
		.key_tag = plane_pg_text_copy(rows, row, 5),
		.state_time_ms = plane_pg_int(rows, row, 7),
		.created_at_ms = plane_pg_int(rows, row, 8) };
	return plane_store_read_state(plane_pg_text(rows, row, 6), &listed->state, err);
}

/* Two texts, so that those that have not ended are found by their index. */
#define SELECT_BACKENDS(condition)                                                                 \
	"SELECT b.id, b.cluster, n.name, key_namespace, key_name, key_tag, state, state_at, "      \
	"created_at FROM backend b JOIN node n ON n.id = drone_id WHERE " condition                \
	"($1::text IS NULL OR b.cluster = $1) AND ($2::text IS NULL OR n.name = $2) AND "          \
	"($3::bigint = 0 OR status = $3) AND ($4::text IS NULL OR key_name = $4) AND b.id > $5 "   \
	"ORDER BY b.id LIMIT $6"
static const char select_backends[] = SELECT_BACKENDS("");
static const char select_alive[] = SELECT_BACKENDS("status < 70 AND ");

int plane_postgres_backend_list(struct plane_store *base,
	const struct plane_store_backend_filter *filter, struct plane_store_backend_list *list,
	struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		filter->is_alive ? select_alive : select_backends, "ttitti", filter->cluster,
		filter->drone, (int64_t)filter->status, filter->key_name,
		filter->after ? filter->after : "", (int64_t)filter->limit);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	struct plane_store_backend_list found = { .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(found.entries[0])) };
	for (int i = 0; i < count && result == 0; i++)
		result = read_backend(rows, i, &found.entries[i], err);
	if (result < 0)
		plane_store_backend_list_finish(&found);
	else
		*list = found;
	return result;
}

/* ---- keys ---- */

/* Two texts, so that a page is found by the primary key however far it is. */
#define SELECT_KEYS(condition)                                                                     \
	"SELECT k.namespace, k.name, k.tag, k.backend, b.cluster, n.name, b.status, "              \
	"k.fencing_token, " PLANE_POSTGRES_KEY_IS_LIVE ", CASE WHEN k.lease_epoch IS NULL THEN "   \
	"greatest(k.expires_at - now_ms(), 0) END FROM backend_key k JOIN backend b ON b.id = "    \
	"k.backend JOIN node n ON n.id = k.drone_id LEFT JOIN drone d ON d.id = k.drone_id WHERE " \
	"($1::text IS NULL OR b.cluster = $1) AND ($2::text IS NULL OR k.namespace = $2) AND "     \
	"($3::text IS NULL OR k.name = $3)" condition " ORDER BY k.namespace, k.name LIMIT $4"
static const char select_first_keys[] = SELECT_KEYS("");
static const char select_keys[] = SELECT_KEYS(" AND (k.namespace, k.name) > ($5, $6)");

int plane_postgres_key_list(struct plane_store *base, const struct plane_store_key_filter *filter,
	struct plane_store_key_list *list, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		filter->after_name ? select_keys : select_first_keys,
		filter->after_name ? "tttitt" : "ttti", filter->cluster, filter->key_namespace,
		filter->key_name, (int64_t)filter->limit, filter->after_namespace,
		filter->after_name);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	*list = (struct plane_store_key_list){ .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(list->entries[0])) };
	for (int i = 0; i < count; i++)
		list->entries[i] =
			(struct plane_store_listed_key){ .key_namespace =
								 plane_pg_text_copy(rows, i, 0),
				.key_name = plane_pg_text_copy(rows, i, 1),
				.key_tag = plane_pg_text_copy(rows, i, 2),
				.backend = plane_pg_text_copy(rows, i, 3),
				.cluster = plane_pg_text_copy(rows, i, 4),
				.drone = plane_pg_text_copy(rows, i, 5),
				.status = (enum plane_backend_status)plane_pg_int(rows, i, 6),
				.fencing_token = plane_pg_int(rows, i, 7),
				.is_live = plane_pg_bool(rows, i, 8),
				.expires_in_ms = plane_pg_int(rows, i, 9) };
	return 0;
}
