/* Who answers the ACME challenge of a cluster, and with what. */
#include "store/sqlite.h"

int plane_sqlite_cert_lease(struct plane_store *base, const char *cluster, int64_t node_id,
	int64_t lease_ms, bool *is_accepted, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	int64_t changed = 0, now = plane_sqlite_now(store);
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	int result = plane_db_run(&store->writer, &changed, err,
		"INSERT INTO certificate VALUES (?1, ?2, ?3, NULL) ON CONFLICT DO UPDATE SET "
		"node_id = "
		"?2, lease_ends_at = ?3 WHERE node_id IS NULL OR node_id = ?2 OR lease_ends_at <= "
		"?4",
		"tiii", cluster, node_id, now + lease_ms, now);
	result = plane_db_end(&store->writer, result, err);
	if (result == 0)
		*is_accepted = changed > 0;
	return result;
}

int plane_sqlite_cert_set_txt(struct plane_store *base, const char *cluster, int64_t node_id,
	const char *txt_value, bool *is_accepted, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	int64_t changed = 0;
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	int result = plane_db_run(&store->writer, &changed, err,
		"UPDATE certificate SET txt_value = ? WHERE cluster = ? AND node_id = ? AND "
		"lease_ends_at > ?",
		"ttii", txt_value, cluster, node_id, plane_sqlite_now(store));
	result = plane_db_end(&store->writer, result, err);
	if (result == 0)
		*is_accepted = changed > 0;
	return result;
}

int plane_sqlite_cert_release(
	struct plane_store *base, const char *cluster, int64_t node_id, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->writer;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	int result = plane_db_run(db, NULL, err,
		"UPDATE certificate SET node_id = NULL, lease_ends_at = 0, txt_value = NULL WHERE "
		"cluster = ? AND node_id = ?",
		"ti", cluster, node_id);
	return plane_db_end(db, result, err);
}

int plane_sqlite_cert_get_txt(
	struct plane_store *base, const char *cluster, char **txt_value, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	char *text = NULL;
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(
		db, err, "SELECT txt_value FROM certificate WHERE cluster = ?", "t", cluster);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 1) {
		text = plane_db_text_copy(row, 0);
		plane_db_done(row);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		return result;
	*txt_value = text;
	return 0;
}
