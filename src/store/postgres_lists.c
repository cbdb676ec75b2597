/* Lists for who looks at a cluster: nodes, backends, keys. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "store/postgres.h"

/* ---- a part of the connections ---- */

void plane_postgres_lists_init(struct plane_postgres_lists *lists)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&lists->mutex, NULL);
	pthread_cond_init(&lists->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

void plane_postgres_lists_finish(struct plane_postgres_lists *lists)
{
	pthread_cond_destroy(&lists->changed);
	pthread_mutex_destroy(&lists->mutex);
}

/* With the mutex held. */
static bool wait_for_turn(struct plane_postgres_lists *lists)
{
	struct timespec until;
	int result = 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PLANE_PG_TIMEOUT_MS / 1000;
	lists->waiting++;
	while (lists->running >= PLANE_POSTGRES_LISTS_MAX && result == 0)
		result = pthread_cond_timedwait(&lists->changed, &lists->mutex, &until);
	lists->waiting--;
	return lists->running < PLANE_POSTGRES_LISTS_MAX;
}

/* -EUSERS when too many are read already. */
static int begin_list(struct plane_postgres_store *store, struct plane_error *err)
{
	struct plane_postgres_lists *lists = &store->lists;
	bool may_run = true;
	pthread_mutex_lock(&lists->mutex);
	if (lists->running >= PLANE_POSTGRES_LISTS_MAX)
		may_run = lists->waiting < PLANE_POSTGRES_LISTS_WAITING_MAX && wait_for_turn(lists);
	if (may_run)
		lists->running++;
	pthread_mutex_unlock(&lists->mutex);
	return may_run ? 0
		       : plane_error_set(err, -EUSERS, "database: %d lists are being read",
				 PLANE_POSTGRES_LISTS_MAX);
}

static void end_list(struct plane_postgres_store *store)
{
	struct plane_postgres_lists *lists = &store->lists;
	pthread_mutex_lock(&lists->mutex);
	lists->running--;
	pthread_cond_signal(&lists->changed);
	pthread_mutex_unlock(&lists->mutex);
}

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
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	_cleanup_rows_ PGresult *rows = NULL;
	int result = begin_list(store, err);
	if (result < 0)
		return result;
	result = plane_pg_pool_run(&store->pool, &rows, NULL, err,
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
	end_list(store);
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

/* A page of each state that is wanted, by the index `condition` is of, which alone has the ids in
 * this order (schema/postgres.sql), and of those the first ones. $6 and $7: which states. */
#define SELECT_BACKENDS(from, condition)                                                           \
	"SELECT b.id, b.cluster, n.name, b.key_namespace, b.key_name, b.key_tag, b.state, "        \
	"b.state_at, b.created_at FROM " from PLANE_STORE_STATUSES " AS one CROSS JOIN LATERAL "   \
	"(SELECT * FROM backend WHERE " condition " AND status = one.column1 AND id ~>~ $4 AND "   \
	"($1::text IS NULL OR cluster = $1) AND ($2::text IS NULL OR drone_id = ANY "              \
	"(ARRAY(SELECT "                                                                           \
	"id FROM node WHERE name = $2))) AND ($3::text IS NULL OR key_name = $3) ORDER BY id "     \
	"USING ~<~ LIMIT $5) b JOIN node n ON n.id = b.drone_id WHERE one.column1 BETWEEN $6 AND " \
	"$7 ORDER BY b.id LIMIT $5"
static const char select_of_key[] = SELECT_BACKENDS("", "key_name = $3");
static const char select_of_drone[] =
	SELECT_BACKENDS("(SELECT id FROM node WHERE name = $2) d CROSS JOIN ", "drone_id = d.id");
static const char select_of_cluster[] = SELECT_BACKENDS("", "cluster = $1");
static const char select_by_status[] = SELECT_BACKENDS(
	"(SELECT DISTINCT cluster FROM drone) d CROSS JOIN ", "cluster = d.cluster");
static const char select_all[] =
	"SELECT b.id, b.cluster, n.name, b.key_namespace, b.key_name, b.key_tag, b.state, "
	"b.state_at, b.created_at FROM (SELECT * FROM backend WHERE id > $1 ORDER BY id LIMIT $2) "
	"b JOIN node n ON n.id = b.drone_id ORDER BY b.id";

static int select_backends(struct plane_postgres_store *store,
	const struct plane_store_backend_filter *filter, PGresult **rows, struct plane_error *err)
{
	const char *after = filter->after ? filter->after : "";
	const char *sql = filter->key_name  ? select_of_key
			  : filter->drone   ? select_of_drone
			  : filter->cluster ? select_of_cluster
					    : select_by_status;
	int64_t first, last;
	if (sql == select_by_status && !filter->status && !filter->is_alive)
		return plane_pg_pool_run(&store->pool, rows, NULL, err, select_all, "ti", after,
			(int64_t)filter->limit);
	plane_store_statuses_wanted(filter, &first, &last);
	return plane_pg_pool_run(&store->pool, rows, NULL, err, sql, "ttttiii", filter->cluster,
		filter->drone, filter->key_name, after, (int64_t)filter->limit, first, last);
}

int plane_postgres_backend_list(struct plane_store *base,
	const struct plane_store_backend_filter *filter, struct plane_store_backend_list *list,
	struct plane_error *err)
{
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	_cleanup_rows_ PGresult *rows = NULL;
	int result = begin_list(store, err);
	if (result < 0)
		return result;
	result = select_backends(store, filter, &rows, err);
	end_list(store);
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

/* What is given is said once more in each text, so that a page is found by an index however far it
 * is: the primary key, or (name, namespace) for a name in all namespaces. */
#define SELECT_KEYS(condition)                                                                     \
	"SELECT k.namespace, k.name, k.tag, k.backend, b.cluster, n.name, b.status, "              \
	"k.fencing_token, " PLANE_POSTGRES_KEY_IS_LIVE ", CASE WHEN k.lease_epoch IS NULL THEN "   \
	"greatest(k.expires_at - now_ms(), 0) END FROM backend_key k JOIN backend b ON b.id = "    \
	"k.backend JOIN node n ON n.id = k.drone_id LEFT JOIN drone d ON d.id = k.drone_id WHERE " \
	"($1::text IS NULL OR b.cluster = $1) AND ($2::text IS NULL OR k.namespace = $2) AND "     \
	"($3::text IS NULL OR k.name = $3) AND ($5::text IS NULL OR (k.namespace, k.name) > ($5, " \
	"$6::text))" condition " ORDER BY k.namespace, k.name LIMIT $4"
#define NAMESPACE " AND k.namespace = $2"
#define NAME " AND k.name = $3"
/* by: a namespace is given, a name is, and what to begin after */
static const char *const select_keys[2][2][2] = {
	{ { SELECT_KEYS(""), SELECT_KEYS(" AND (k.namespace, k.name) > ($5, $6)") },
		{ SELECT_KEYS(NAME), SELECT_KEYS(NAME " AND k.namespace >= $5") } },
	{ { SELECT_KEYS(NAMESPACE),
		  SELECT_KEYS(NAMESPACE " AND k.name >= CASE WHEN $5 = $2 THEN $6 ELSE '' END") },
		{ SELECT_KEYS(NAMESPACE NAME), SELECT_KEYS(NAMESPACE NAME) } },
};

int plane_postgres_key_list(struct plane_store *base, const struct plane_store_key_filter *filter,
	struct plane_store_key_list *list, struct plane_error *err)
{
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	_cleanup_rows_ PGresult *rows = NULL;
	const char *sql = select_keys[filter->key_namespace != NULL][filter->key_name != NULL]
				     [filter->after_name != NULL];
	int result = begin_list(store, err);
	if (result < 0)
		return result;
	result = plane_pg_pool_run(&store->pool, &rows, NULL, err, sql, "tttitt", filter->cluster,
		filter->key_namespace, filter->key_name, (int64_t)filter->limit,
		filter->after_namespace, filter->after_name);
	end_list(store);
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
