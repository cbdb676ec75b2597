/* Lists for who looks at a cluster: nodes, backends, keys. */
#include <string.h>

#include "base/alloc.h"
#include "store/sqlite.h"

/* ---- nodes ---- */

static void read_member(struct plane_store_member *member, sqlite3_stmt *row, int64_t now)
{
	bool is_drone = strcmp(plane_db_text(row, 0), "Drone") == 0;
	bool has_heartbeat = sqlite3_column_type(row, 11) != SQLITE_NULL;
	*member = (struct plane_store_member){ .kind = is_drone ? PLANE_NODE_DRONE
								: PLANE_NODE_PROXY,
		.name = plane_db_text_copy(row, 1),
		.cluster = plane_db_text_copy(row, 2),
		.version = plane_db_text_copy(row, 3),
		.git_hash = plane_db_text_copy(row, 4),
		.ip = plane_db_text_copy(row, 5),
		.controller = plane_db_text_copy(row, 6),
		.controller_heartbeat_age_ms = now - sqlite3_column_int64(row, 7),
		.pool = plane_db_text_copy(row, 8),
		.is_ready = sqlite3_column_int(row, 9),
		.is_draining = sqlite3_column_int(row, 10),
		.heartbeat_age_ms = has_heartbeat ? now - sqlite3_column_int64(row, 11) : -1,
		.backend_count = sqlite3_column_int64(row, 12),
		.has_lease = sqlite3_column_int(row, 13) };
	member->has_resources = plane_sqlite_read_resources(row, 14, &member->resources);
}

int plane_sqlite_member_list(struct plane_store *base,
	const struct plane_store_member_filter *filter, struct plane_store_members *members,
	struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_members found = { 0 };
	int64_t now = plane_sqlite_now(store);
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT kind, node.name, cluster, version, git_hash, ip, controller.name, "
		"controller.last_heartbeat_at, pool, is_ready, is_draining, "
		"drone.last_heartbeat_at, (SELECT count(*) FROM backend WHERE drone_id = node.id "
		"AND status < 70) AS backends, is_lease_granted, " PLANE_STORE_RESOURCE_COLUMNS
		" FROM node LEFT JOIN controller ON "
		"controller.name = "
		"node.controller LEFT JOIN drone USING (id) WHERE (?1 IS NULL OR cluster = ?1) AND "
		"(?2 IS NULL OR pool = ?2) AND (?3 IS NULL OR node.name = ?3) AND (kind = 'Drone' "
		"AND ?4 OR kind = 'Proxy' AND ?5) AND (controller.name IS NOT NULL OR ?6 AND "
		"backends > 0 OR ?7) ORDER BY cluster, node.name",
		"tttiiii", filter->cluster, filter->pool, filter->name, (int64_t)filter->are_drones,
		(int64_t)filter->are_proxies, (int64_t)filter->has_busy, (int64_t)filter->has_away);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		read_member(&found.entries[found.count++], row, now);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_members_finish(&found);
	else
		*members = found;
	return result;
}

/* ---- backends ---- */

static int read_backend(
	sqlite3_stmt *row, struct plane_store_listed_backend *listed, struct plane_error *err)
{
	*listed = (struct plane_store_listed_backend){ .backend = plane_db_text_copy(row, 0),
		.cluster = plane_db_text_copy(row, 1),
		.drone = plane_db_text_copy(row, 2),
		.key_namespace = plane_db_text_copy(row, 3),
		.key_name = plane_db_text_copy(row, 4),
		.key_tag = plane_db_text_copy(row, 5),
		.state_time_ms = sqlite3_column_int64(row, 7),
		.created_at_ms = sqlite3_column_int64(row, 8) };
	return plane_store_read_state(plane_db_text(row, 6), &listed->state, err);
}

/* Of each state that is wanted those up to the last one of a page, by an index, and of those the
 * first ones. A blob comes after every text. ?6 and ?7: which states. */
#define PASSES                                                                                     \
	"(?1 IS NULL OR backend.cluster = ?1) AND (?2 IS NULL OR backend.drone_id IN (SELECT id "  \
	"FROM node WHERE name = ?2)) AND (?3 IS NULL OR backend.key_name = ?3) AND "               \
	"backend.status = one.column1 AND backend.id > ?4"
#define SELECT_BACKENDS(from, index, condition)                                                    \
	"SELECT backend.id, backend.cluster, node.name, key_namespace, key_name, key_tag, state, " \
	"state_at, created_at FROM " from PLANE_STORE_STATUSES " AS one CROSS JOIN backend "       \
	"INDEXED BY " index " CROSS JOIN node ON node.id = backend.drone_id WHERE one.column1 "    \
	"BETWEEN ?6 AND ?7 AND " condition " AND " PASSES " AND backend.id <= ifnull((SELECT id "  \
	"FROM backend INDEXED BY " index " WHERE " condition " AND " PASSES " ORDER BY id LIMIT "  \
	"1 OFFSET ?5 - 1), x'ff') ORDER BY backend.id LIMIT ?5"
static const char select_of_key[] = SELECT_BACKENDS("", "backend_of_key", "backend.key_name = ?3");
static const char select_of_drone[] =
	SELECT_BACKENDS("(SELECT id FROM node WHERE name = ?2) AS d CROSS JOIN ",
		"backend_of_drone", "backend.drone_id = d.id");
static const char select_of_cluster[] =
	SELECT_BACKENDS("", "backend_of_cluster", "backend.cluster = ?1");
static const char select_by_status[] =
	SELECT_BACKENDS("(SELECT DISTINCT cluster FROM node) AS d CROSS JOIN ",
		"backend_of_cluster", "backend.cluster = d.cluster");
static const char select_all[] =
	"SELECT backend.id, backend.cluster, node.name, key_namespace, key_name, key_tag, state, "
	"state_at, created_at FROM backend CROSS JOIN node ON node.id = drone_id WHERE backend.id "
	"> ?1 ORDER BY backend.id LIMIT ?2";

static sqlite3_stmt *query_backends(struct plane_db *db,
	const struct plane_store_backend_filter *filter, struct plane_error *err)
{
	const char *after = filter->after ? filter->after : "";
	const char *sql = filter->key_name  ? select_of_key
			  : filter->drone   ? select_of_drone
			  : filter->cluster ? select_of_cluster
					    : select_by_status;
	int64_t first, last;
	if (sql == select_by_status && !filter->status && !filter->is_alive)
		return plane_db_query(db, err, select_all, "ti", after, (int64_t)filter->limit);
	plane_store_statuses_wanted(filter, &first, &last);
	return plane_db_query(db, err, sql, "ttttiii", filter->cluster, filter->drone,
		filter->key_name, after, (int64_t)filter->limit, first, last);
}

int plane_sqlite_backend_list(struct plane_store *base,
	const struct plane_store_backend_filter *filter, struct plane_store_backend_list *list,
	struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	struct plane_store_backend_list found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = query_backends(db, filter, err);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		result = read_backend(row, &found.entries[found.count++], err);
		if (result < 0) {
			plane_db_done(row);
			break;
		}
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_backend_list_finish(&found);
	else
		*list = found;
	return result;
}

/* ---- keys ---- */

/* What is given is said once more in each text, so that a page is found by an index however far it
 * is: the primary key, or (name, namespace) for a name in all namespaces. */
#define SELECT_KEYS(index, condition)                                                              \
	"SELECT k.namespace, k.name, k.tag, k.backend, b.cluster, n.name, b.status, "              \
	"k.fencing_token, " PLANE_SQLITE_KEY_IS_LIVE(                                              \
		"?7") ", CASE WHEN k.lease_epoch IS NULL THEN max(k.expires_at - ?7, 0) ELSE -1 "  \
		      "END FROM backend_key k " index " CROSS JOIN backend b ON b.id = k.backend " \
		      "CROSS JOIN node n ON n.id = b.drone_id WHERE (?1 IS NULL OR b.cluster = "   \
		      "?1) AND (?2 IS NULL OR k.namespace = ?2) AND (?3 IS NULL OR k.name = ?3) "  \
		      "AND (?4 IS NULL OR (k.namespace, k.name) > (?4, ?5))" condition             \
		      " ORDER BY k.namespace, k.name LIMIT ?6"
#define NAMESPACE " AND k.namespace = ?2"
#define NAME " AND k.name = ?3"
#define BY_NAME "INDEXED BY backend_key_of_name"
/* by: a namespace is given, a name is, and what to begin after */
static const char *const select_keys[2][2][2] = {
	{ { SELECT_KEYS("", ""), SELECT_KEYS("", " AND (k.namespace, k.name) > (?4, ?5)") },
		{ SELECT_KEYS(BY_NAME, NAME),
			SELECT_KEYS(BY_NAME, NAME " AND k.namespace >= ?4") } },
	{ { SELECT_KEYS("", NAMESPACE),
		  SELECT_KEYS(
			  "", NAMESPACE " AND k.name >= CASE WHEN ?4 = ?2 THEN ?5 ELSE '' END") },
		{ SELECT_KEYS("", NAMESPACE NAME), SELECT_KEYS("", NAMESPACE NAME) } },
};

static void read_key(struct plane_store_listed_key *key, sqlite3_stmt *row)
{
	*key = (struct plane_store_listed_key){ .key_namespace = plane_db_text_copy(row, 0),
		.key_name = plane_db_text_copy(row, 1),
		.key_tag = plane_db_text_copy(row, 2),
		.backend = plane_db_text_copy(row, 3),
		.cluster = plane_db_text_copy(row, 4),
		.drone = plane_db_text_copy(row, 5),
		.status = (enum plane_backend_status)sqlite3_column_int(row, 6),
		.fencing_token = sqlite3_column_int64(row, 7),
		.is_live = sqlite3_column_int(row, 8),
		.expires_in_ms = sqlite3_column_int64(row, 9) };
}

int plane_sqlite_key_list(struct plane_store *base, const struct plane_store_key_filter *filter,
	struct plane_store_key_list *list, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_key_list found = { 0 };
	pthread_mutex_lock(&db->mutex);
	const char *sql = select_keys[filter->key_namespace != NULL][filter->key_name != NULL]
				     [filter->after_name != NULL];
	sqlite3_stmt *row = plane_db_query(db, err, sql, "tttttii", filter->cluster,
		filter->key_namespace, filter->key_name, filter->after_namespace,
		filter->after_name, (int64_t)filter->limit, plane_sqlite_now(store));
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		read_key(&found.entries[found.count++], row);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_key_list_finish(&found);
	else
		*list = found;
	return result;
}
