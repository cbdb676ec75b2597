/* Who answers the ACME challenge of a cluster, and with what. */
#include "store/postgres.h"

int plane_postgres_cert_lease(struct plane_store *base, const char *cluster, int64_t node_id,
	int64_t lease_ms, bool *is_accepted, struct plane_error *err)
{
	int64_t changed = 0;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, &changed, err,
		"INSERT INTO certificate AS c VALUES ($1, $2, now_ms() + $3, NULL) ON CONFLICT "
		"(cluster) DO UPDATE SET node_id = excluded.node_id, lease_ends_at = "
		"excluded.lease_ends_at WHERE c.node_id IS NULL OR c.node_id = excluded.node_id OR "
		"c.lease_ends_at <= now_ms()",
		"tii", cluster, node_id, lease_ms);
	if (result == 0)
		*is_accepted = changed > 0;
	return result;
}

int plane_postgres_cert_set_txt(struct plane_store *base, const char *cluster, int64_t node_id,
	const char *txt_value, bool *is_accepted, struct plane_error *err)
{
	int64_t changed = 0;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, &changed, err,
		"UPDATE certificate SET txt_value = $1 WHERE cluster = $2 AND node_id = $3 AND "
		"lease_ends_at > now_ms()",
		"tti", txt_value, cluster, node_id);
	if (result == 0)
		*is_accepted = changed > 0;
	return result;
}

int plane_postgres_cert_release(
	struct plane_store *base, const char *cluster, int64_t node_id, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"UPDATE certificate SET node_id = NULL, lease_ends_at = 0, txt_value = NULL WHERE "
		"cluster = $1 AND node_id = $2",
		"ti", cluster, node_id);
}

int plane_postgres_cert_get_txt(
	struct plane_store *base, const char *cluster, char **txt_value, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT txt_value FROM certificate WHERE cluster = $1", "t", cluster);
	if (result == 0)
		*txt_value = PQntuples(rows) ? plane_pg_text_copy(rows, 0, 0) : NULL;
	return result;
}
