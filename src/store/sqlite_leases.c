/* Leases of whole drones. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "store/sqlite.h"

int plane_sqlite_leases_find(
	struct plane_store *base, struct plane_store_leases *leases, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	struct plane_store_leases found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT drone.id, lease_epoch, lease_renewals, name, coalesce(lease_expire_ms, 0) "
		"FROM drone JOIN node USING (id) WHERE is_lease_granted",
		"");
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_lease *lease = &found.entries[found.count++];
		*lease = (struct plane_store_lease){ .drone_id = sqlite3_column_int64(row, 0),
			.epoch = sqlite3_column_int64(row, 1),
			.renewals = sqlite3_column_int64(row, 2),
			.expire_ms = sqlite3_column_int64(row, 4) };
		(void)plane_text_copy(lease->drone, sizeof(lease->drone), plane_db_text(row, 3));
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_leases_finish(&found);
	else
		*leases = found;
	return result;
}

/* One that is held by this journal is renewed, also when the journal does not know of it: the
 * answer was lost. A new one begins where none is held, or where the store, having lost its last
 * writes, knows of one only that this journal is done with. */
static int renew(struct plane_sqlite_store *store, struct plane_store_renewal *renewal,
	struct plane_error *err)
{
	int64_t column[PLANE_STORE_RESOURCE_COUNT];
	for (int i = 0; i < PLANE_STORE_RESOURCE_COUNT; i++)
		column[i] =
			renewal->has_resources ? *plane_store_resource(&renewal->resources, i) : -1;
	sqlite3_stmt *row = plane_db_query(&store->writer, err,
		"UPDATE drone SET lease_epoch = CASE WHEN is_lease_granted AND lease_epoch > ?6 "
		"THEN lease_epoch ELSE max(coalesce(lease_epoch, 0), ?6) + 1 END, lease_renewals = "
		"lease_renewals + 1, "
		"is_lease_granted = 1, lease_expire_ms = ?17, journal = ?3, last_heartbeat_at = "
		"?4, last_local_time = ?5, "
		"(" PLANE_STORE_RESOURCE_COLUMNS ", backend_count) = (?7, ?8, ?9, ?10, ?11, ?12, "
		"?13, ?14, ?15, ?16) "
		"WHERE id = ?1 AND CASE WHEN is_lease_granted THEN journal = ?3 AND "
		"lease_epoch = coalesce(?2, lease_epoch) ELSE ?2 IS NULL END RETURNING lease_epoch",
		"iotiiiooooooooooi", renewal->drone_id, renewal->epoch ? renewal->epoch : -1,
		renewal->journal, plane_sqlite_now(store), renewal->local_time_ms,
		renewal->epoch ? renewal->epoch - 1 : renewal->last_epoch, column[0], column[1],
		column[2], column[3], column[4], column[5], column[6], column[7], column[8],
		renewal->has_resources ? renewal->resources.backend_count : -1, renewal->expire_ms);
	int result = row ? plane_db_next(&store->writer, row, err) : err->code;
	if (result < 0)
		return result;
	if (result == 0) {
		renewal->result = renewal->epoch ? PLANE_RENEWAL_BROKEN : PLANE_RENEWAL_WAITING;
		return 0;
	}
	renewal->result = PLANE_RENEWAL_GRANTED;
	renewal->epoch = sqlite3_column_int64(row, 0);
	return plane_db_next(&store->writer, row, err);
}

static int renew_all(struct plane_sqlite_store *store, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	int result = 0;
	for (size_t i = 0; i < count && result == 0; i++)
		result = renew(store, &renewals[i], err);
	return result;
}

static bool is_one_begun(const struct plane_store_renewal *renewals, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (renewals[i].epoch == 0)
			return true;
	return false;
}

int plane_sqlite_leases_renew(struct plane_store *base, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	_cleanup_free_ struct plane_store_renewal *work =
		plane_alloc_zero(count + 1, sizeof(*work));
	int result;
	for (size_t i = 0; i < count; i++)
		work[i] = renewals[i];
	if (is_one_begun(renewals, count)) {
		if (plane_db_begin(&store->writer, err) < 0)
			return err->code;
		result = plane_db_end(&store->writer, renew_all(store, work, count, err), err);
	} else {
		if (plane_sqlite_begin_relaxed(store, err) < 0)
			return err->code;
		result = plane_sqlite_end_relaxed(store, renew_all(store, work, count, err), err);
	}
	for (size_t i = 0; i < count && result == 0; i++)
		renewals[i] = work[i];
	return result;
}

int plane_sqlite_lease_break(struct plane_store *base, const struct plane_store_lease *lease,
	bool *is_broken, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->writer;
	int64_t changed = 0;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	int result = plane_db_run(db, &changed, err,
		"UPDATE drone SET lease_epoch = lease_epoch + 1, is_lease_granted = 0, "
		"last_heartbeat_at = NULL WHERE id = ? AND lease_epoch = ? AND lease_renewals = ? "
		"AND is_lease_granted",
		"iii", lease->drone_id, lease->epoch, lease->renewals);
	result = plane_db_end(db, result, err);
	if (result == 0)
		*is_broken = changed > 0;
	return result;
}

static int check_one(struct plane_db *db, int64_t node_id, struct plane_store_running *running,
	struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT 1 FROM backend WHERE id = ? AND drone_id = ? AND status < 70 AND "
		"coalesce(lease_epoch, 0) = ?",
		"tii", running->backend, node_id, running->epoch);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result < 0)
		return result;
	running->is_known = result == 1;
	if (result == 1)
		plane_db_done(row);
	return 0;
}

int plane_sqlite_running_check(struct plane_store *base, int64_t node_id,
	struct plane_store_running *running, size_t count, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	_cleanup_free_ struct plane_store_running *work =
		plane_alloc_zero(count + 1, sizeof(*work));
	int result = 0;
	pthread_mutex_lock(&db->mutex);
	for (size_t i = 0; i < count && result == 0; i++) {
		work[i] = running[i];
		result = check_one(db, node_id, &work[i], err);
	}
	pthread_mutex_unlock(&db->mutex);
	for (size_t i = 0; i < count && result == 0; i++)
		running[i] = work[i];
	return result;
}
