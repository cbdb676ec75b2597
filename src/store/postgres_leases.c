/* Leases of whole drones. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "store/postgres.h"

/* Drones that lease their keys one by one. One that was away for a day runs nothing. */
#define HAS_KEY_LEASES                                                                             \
	"EXISTS (SELECT 1 FROM drone o JOIN node n USING (id) WHERE o.has_key_leases AND "         \
	"(n.controller IS NOT NULL OR n.seen_at > now_ms() - 86400000))"

/* When the server was started tells one that has taken over from the one before. A time is given
 * also when no lease is held. */
int plane_postgres_leases_find(
	struct plane_store *base, struct plane_store_leases *leases, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->lease_pool, &rows, NULL, err,
		"SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, d.id, "
		"d.lease_epoch, d.lease_renewals, n.name, coalesce(d.lease_expire_ms, 0), "
		"r.since, r.since IS NOT NULL AND " HAS_KEY_LEASES
		" FROM (SELECT max(value) AS since FROM meta WHERE name = 'recovering_since') r "
		"LEFT JOIN (drone d JOIN node n USING (id)) ON d.is_lease_granted",
		"");
	if (result < 0)
		return result;
	*leases = (struct plane_store_leases){ .incarnation = plane_pg_int(rows, 0, 0),
		.recovering_since_ms = PQgetisnull(rows, 0, 6) ? 0 : plane_pg_int(rows, 0, 6),
		.has_key_leases = plane_pg_bool(rows, 0, 7),
		.entries = plane_pg_entries(rows, sizeof(leases->entries[0])) };
	for (int i = 0; i < PQntuples(rows); i++) {
		if (PQgetisnull(rows, i, 1))
			break; /* the only row */
		struct plane_store_lease *lease = &leases->entries[leases->count++];
		*lease = (struct plane_store_lease){ .drone_id = plane_pg_int(rows, i, 1),
			.epoch = plane_pg_int(rows, i, 2),
			.renewals = plane_pg_int(rows, i, 3),
			.expire_ms = plane_pg_int(rows, i, 5) };
		(void)plane_text_copy(
			lease->drone, sizeof(lease->drone), plane_pg_text(rows, i, 4));
	}
	return 0;
}

/* The columns of the requests, each as the literal of an array. */
struct columns {
	struct plane_buffer drones, epochs, after, journals, times, resources, expiries;
};

static void add_resources(struct plane_buffer *column, const struct plane_store_renewal *renewal)
{
	if (!renewal->has_resources) {
		plane_buffer_add_text(column, "NULL");
		return;
	}
	_cleanup_json_ json_t *json = plane_drone_resources_write(&renewal->resources);
	_cleanup_free_ char *text = plane_json_dump(json);
	plane_pg_add_quoted(column, text);
}

static void write_columns(
	struct columns *columns, const struct plane_store_renewal *renewals, size_t count)
{
	struct plane_buffer *all[] = { &columns->drones, &columns->epochs, &columns->after,
		&columns->journals, &columns->times, &columns->resources, &columns->expiries };
	for (size_t i = 0; i < count; i++) {
		const struct plane_store_renewal *renewal = &renewals[i];
		for (size_t c = 0; c < sizeof(all) / sizeof(all[0]); c++)
			plane_buffer_add_text(all[c], i ? "," : "{");
		plane_buffer_addf(&columns->drones, "%lld", (long long)renewal->drone_id);
		plane_buffer_addf(&columns->epochs, "%lld", (long long)renewal->epoch);
		plane_buffer_addf(&columns->after, "%lld",
			(long long)(renewal->epoch ? renewal->epoch - 1 : renewal->last_epoch));
		plane_pg_add_quoted(&columns->journals, renewal->journal);
		plane_buffer_addf(&columns->times, "%lld", (long long)renewal->local_time_ms);
		add_resources(&columns->resources, renewal);
		plane_buffer_addf(&columns->expiries, "%lld", (long long)renewal->expire_ms);
	}
	for (size_t c = 0; c < sizeof(all) / sizeof(all[0]); c++)
		plane_buffer_add_text(all[c], "}");
}

static void columns_finish(struct columns *columns)
{
	plane_buffer_finish(&columns->drones);
	plane_buffer_finish(&columns->epochs);
	plane_buffer_finish(&columns->after);
	plane_buffer_finish(&columns->journals);
	plane_buffer_finish(&columns->times);
	plane_buffer_finish(&columns->resources);
	plane_buffer_finish(&columns->expiries);
}

/* Rows are locked in the order of their ids, so that two of these never wait for each other, and a
 * condition that a lock was waited for is looked at again after it. One that is held by this
 * journal is renewed, also when the journal does not know of it: the answer was lost. A new one
 * begins where none is held, or where the database, having lost its last writes, knows of one only
 * that this journal is done with. All of it survives the server's death: a server that was only
 * started anew is no other one (see above). */
static const char renew[] =
	"WITH asked AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], "
	"$5::bigint[], $6::jsonb[], $7::bigint[]) AS a (id, epoch, after, journal, local_time, "
	"resources, expire)), mine AS MATERIALIZED (SELECT "
	"d.id FROM drone d JOIN asked a USING (id) WHERE CASE WHEN d.is_lease_granted THEN "
	"d.journal "
	"= a.journal AND (a.epoch = 0 OR a.epoch = d.lease_epoch) ELSE a.epoch = 0 END ORDER BY "
	"d.id "
	"FOR NO KEY UPDATE OF d) UPDATE drone d SET lease_epoch = CASE WHEN d.is_lease_granted AND "
	"d.lease_epoch > a.after THEN d.lease_epoch ELSE greatest(coalesce(d.lease_epoch, 0), "
	"a.after) + 1 END, lease_renewals = d.lease_renewals + 1, is_lease_granted = true, "
	"lease_expire_ms = a.expire, journal = a.journal, last_heartbeat_at = now_ms(), "
	"last_local_time = a.local_time, "
	"(" PLANE_STORE_RESOURCE_COLUMNS ", backend_count) = (SELECT " PLANE_STORE_RESOURCE_COLUMNS
	", backend_count FROM "
	"jsonb_to_record(a.resources) AS (memory_total_bytes bigint, memory_allocatable_bytes "
	"bigint, memory_reserved_bytes bigint, memory_available_bytes bigint, cpu_total_millis "
	"bigint, cpu_allocatable_millis bigint, cpu_reserved_millis bigint, load_millis bigint, "
	"last_fencing_token bigint, backend_count bigint)) FROM mine, asked a "
	"WHERE d.id = mine.id AND a.id = mine.id AND CASE WHEN d.is_lease_granted THEN d.journal = "
	"a.journal AND (a.epoch = 0 OR a.epoch = d.lease_epoch) ELSE a.epoch = 0 END RETURNING "
	"d.id, "
	"d.lease_epoch";

static void read_renewal(struct plane_store_renewal *renewal, const PGresult *rows)
{
	for (int row = 0; row < PQntuples(rows); row++)
		if (plane_pg_int(rows, row, 0) == renewal->drone_id) {
			renewal->result = PLANE_RENEWAL_GRANTED;
			renewal->epoch = plane_pg_int(rows, row, 1);
			return;
		}
	renewal->result = renewal->epoch ? PLANE_RENEWAL_BROKEN : PLANE_RENEWAL_WAITING;
}

int plane_postgres_leases_renew(struct plane_store *base, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct columns columns = { 0 };
	if (count == 0)
		return 0;
	write_columns(&columns, renewals, count);
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->lease_pool, &rows, NULL, err,
		renew, "ttttttt", plane_buffer_text(&columns.drones),
		plane_buffer_text(&columns.epochs), plane_buffer_text(&columns.after),
		plane_buffer_text(&columns.journals), plane_buffer_text(&columns.times),
		plane_buffer_text(&columns.resources), plane_buffer_text(&columns.expiries));
	columns_finish(&columns);
	for (size_t i = 0; i < count && result == 0; i++)
		read_renewal(&renewals[i], rows);
	return result;
}

int plane_postgres_lease_break(struct plane_store *base, const struct plane_store_lease *lease,
	bool *is_broken, struct plane_error *err)
{
	int64_t changed = 0;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->lease_pool, NULL, &changed, err,
		"UPDATE drone SET lease_epoch = lease_epoch + 1, is_lease_granted = false, "
		"last_heartbeat_at = NULL WHERE id = $1 AND lease_epoch = $2 AND lease_renewals = "
		"$3 "
		"AND is_lease_granted",
		"iii", lease->drone_id, lease->epoch, lease->renewals);
	if (result == 0)
		*is_broken = changed > 0;
	return result;
}

int plane_postgres_running_check(struct plane_store *base, int64_t node_id,
	struct plane_store_running *running, size_t count, struct plane_error *err)
{
	struct plane_buffer names = { 0 }, epochs = { 0 };
	_cleanup_rows_ PGresult *rows = NULL;
	if (count == 0)
		return 0;
	for (size_t i = 0; i < count; i++) {
		/* names of backends have no character that means anything in an array */
		plane_buffer_addf(&names, "%s%s", i ? "," : "{", running[i].backend);
		plane_buffer_addf(&epochs, "%s%lld", i ? "," : "{", (long long)running[i].epoch);
	}
	plane_buffer_add_text(&names, "}");
	plane_buffer_add_text(&epochs, "}");
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT b.id IS NOT NULL FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS "
		"r (id, epoch, number) LEFT JOIN backend b ON b.id = r.id AND b.drone_id = $3 AND "
		"b.status < 70 AND coalesce(b.lease_epoch, 0) = r.epoch ORDER BY number",
		"tti", plane_buffer_text(&names), plane_buffer_text(&epochs), node_id);
	for (size_t i = 0; i < count && result == 0; i++)
		running[i].is_known = plane_pg_bool(rows, (int)i, 0);
	plane_buffer_finish(&names);
	plane_buffer_finish(&epochs);
	return result;
}

int plane_postgres_drone_reconciled(
	struct plane_store *base, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"UPDATE drone SET is_reconciled = true FROM node WHERE drone.id = $1 AND node.id = "
		"drone.id AND node.connection_id = $2 AND NOT is_reconciled",
		"ii", node_id, connection_id);
}

/* Ended already is over too. */
int plane_postgres_recovery_end(
	struct plane_store *base, int64_t since_ms, bool *is_over, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"WITH waiting AS MATERIALIZED (SELECT EXISTS (SELECT 1 FROM drone WHERE "
		"is_lease_granted AND NOT is_reconciled) AS is_so), ended AS (DELETE FROM meta "
		"USING waiting WHERE NOT is_so AND name IN ('recovering_since', "
		"'recovering_after') AND EXISTS (SELECT 1 FROM meta m WHERE m.name = "
		"'recovering_since' AND m.value = $1)) SELECT NOT is_so FROM waiting",
		"i", since_ms);
	if (result == 0)
		*is_over = plane_pg_bool(rows, 0, 0);
	return result;
}
