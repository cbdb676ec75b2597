/* The drone's journal on SQLite. */
#include "drone/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "store/sqlite_db.h"

struct plane_journal {
	struct plane_db db;
	int lock_fd, wal_fd;
	bool has_refusals;
};

static const char schema[] =
	"PRAGMA synchronous=NORMAL;"
	"CREATE TABLE IF NOT EXISTS backend (id TEXT PRIMARY KEY, state TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" backend_id TEXT NOT NULL REFERENCES backend(id), event TEXT NOT NULL,"
	" timestamp INTEGER NOT NULL);"
	"CREATE INDEX IF NOT EXISTS event_of_backend ON event (backend_id);"
	/* ours: the first lease of a backend that has not ended, and what it asked for; orders
	 * that were refused; when a backend ended */
	"CREATE TABLE IF NOT EXISTS lease (backend_id TEXT PRIMARY KEY, renew_at INTEGER NOT NULL,"
	" soft_terminate_at INTEGER NOT NULL, hard_terminate_at INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS refused (action_id TEXT PRIMARY KEY, reason TEXT NOT NULL,"
	" at INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS ended (backend_id TEXT PRIMARY KEY, at INTEGER NOT NULL);"
	"CREATE INDEX IF NOT EXISTS ended_at ON ended (at);"
	"CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);";

static int lock(struct plane_journal *journal, const char *path, struct plane_error *err)
{
	_cleanup_free_ char *lock_path = plane_strdupf("%s.lock", path);
	journal->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (journal->lock_fd < 0)
		return plane_error_errno(err, "open %s", lock_path);
	if (flock(journal->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return plane_error_set(err, EBUSY,
			"the journal %s is used by another drone: stop that one, or give "
			"this one a file of its own",
			path);
	return 0;
}

static int open_wal(struct plane_journal *journal, const char *path, struct plane_error *err)
{
	_cleanup_free_ char *wal_path = plane_strdupf("%s-wal", path);
	/* the first write makes the file; it stays until the database is closed */
	int result = plane_journal_set(journal, "format", "1", err);
	if (result < 0)
		return result;
	journal->wal_fd = open(wal_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return journal->wal_fd < 0 ? plane_error_errno(err, "open %s", wal_path) : 0;
}

/* Columns that journals of former versions do not have. */
static const char *const lease_columns[] = { "epoch", "memory_bytes", "cpu_millis",
	"fencing_token" };

static int add_column(struct plane_journal *journal, const char *column, struct plane_error *err)
{
	_cleanup_free_ char *add =
		plane_strdupf("ALTER TABLE lease ADD COLUMN %s INTEGER NOT NULL DEFAULT 0", column);
	sqlite3_stmt *query = plane_db_query(&journal->db, err,
		"SELECT 1 FROM pragma_table_info('lease') WHERE name = ?1", "t", column);
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	if (result > 0)
		plane_db_done(query);
	return result != 0 ? (result < 0 ? result : 0) : plane_db_script(&journal->db, add, err);
}

static int add_columns(struct plane_journal *journal, struct plane_error *err)
{
	int result = 0;
	for (size_t i = 0; i < sizeof(lease_columns) / sizeof(lease_columns[0]) && result == 0; i++)
		result = add_column(journal, lease_columns[i], err);
	return result;
}

static int look_for_refusals(struct plane_journal *journal, struct plane_error *err)
{
	sqlite3_stmt *query =
		plane_db_query(&journal->db, err, "SELECT 1 FROM refused LIMIT 1", "");
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	journal->has_refusals = result > 0;
	if (result > 0)
		plane_db_done(query);
	return result < 0 ? result : 0;
}

static int open_parts(struct plane_journal *journal, const char *path, struct plane_error *err)
{
	int result = lock(journal, path, err);
	if (result == 0)
		result = plane_db_open(&journal->db, path, err);
	if (result == 0)
		result = plane_db_script(&journal->db, schema, err);
	if (result == 0)
		result = add_columns(journal, err);
	if (result == 0)
		result = look_for_refusals(journal, err);
	if (result == 0)
		result = open_wal(journal, path, err);
	return result;
}

struct plane_journal *plane_journal_open(const char *path, struct plane_error *err)
{
	struct plane_journal *journal = PLANE_NEW(struct plane_journal);
	journal->lock_fd = journal->wal_fd = -1;
	if (open_parts(journal, path, err) < 0) {
		(void)plane_error_prefix(err, "the drone's journal");
		plane_journal_close(journal);
		return NULL;
	}
	return journal;
}

void plane_journal_close(struct plane_journal *journal)
{
	if (!journal)
		return;
	plane_db_close(&journal->db);
	plane_closep(&journal->wal_fd);
	plane_closep(&journal->lock_fd);
	free(journal);
}

int plane_journal_sync_fd(const struct plane_journal *journal)
{
	return journal->wal_fd;
}

static char *state_text(const struct plane_backend_state *state)
{
	_cleanup_json_ json_t *json = plane_backend_state_write(state);
	return plane_json_dump(json);
}

static int upsert(struct plane_journal *journal, const char *backend, const char *state,
	struct plane_error *err)
{
	return plane_db_run(&journal->db, NULL, err,
		"INSERT INTO backend (id, state) VALUES (?1, ?2)"
		" ON CONFLICT (id) DO UPDATE SET state = excluded.state",
		"tt", backend, state);
}

int plane_journal_add(struct plane_journal *journal, const struct plane_drone_order *order,
	struct plane_error *err)
{
	const struct plane_deadlines *deadlines = &order->deadlines;
	struct plane_backend_state scheduled = { .status = PLANE_SCHEDULED };
	_cleanup_free_ char *text = state_text(&scheduled);
	int result = plane_db_begin(&journal->db, err);
	if (result < 0)
		return result;
	result = upsert(journal, order->backend, text, err);
	if (result == 0)
		result = plane_db_run(&journal->db, NULL, err,
			"INSERT OR REPLACE INTO lease (backend_id, renew_at, soft_terminate_at,"
			" hard_terminate_at, epoch, memory_bytes, cpu_millis, fencing_token)"
			" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
			"tiiiiiii", order->backend, deadlines->renew_at_ms,
			deadlines->soft_terminate_at_ms, deadlines->hard_terminate_at_ms,
			order->epoch, order->resources.memory_bytes, order->resources.cpu_millis,
			order->fencing_token);
	return plane_db_end(&journal->db, result, err);
}

static int record_end(struct plane_journal *journal, const char *backend, int64_t timestamp_ms,
	struct plane_error *err)
{
	int result = plane_db_run(
		&journal->db, NULL, err, "DELETE FROM lease WHERE backend_id = ?1", "t", backend);
	if (result == 0)
		result = plane_db_run(&journal->db, NULL, err,
			"INSERT OR REPLACE INTO ended (backend_id, at) VALUES (?1, ?2)", "ti",
			backend, timestamp_ms);
	return result;
}

static bool is_same(const struct plane_journal_record *one, const struct plane_journal_record *two)
{
	return strcmp(one->backend, two->backend) == 0;
}

/* Of one backend's states in a transaction only the last stays: it is written with the first. */
static int put_backend(struct plane_journal *journal, const struct plane_journal_record *records,
	size_t count, size_t at, struct plane_error *err)
{
	size_t last = count - 1;
	for (size_t i = 0; i < at; i++)
		if (is_same(&records[i], &records[at]))
			return 0;
	while (!is_same(&records[last], &records[at]))
		last--;
	_cleanup_free_ char *text = state_text(&records[last].state);
	return upsert(journal, records[at].backend, text, err);
}

static int put_event(
	struct plane_journal *journal, struct plane_journal_record *record, struct plane_error *err)
{
	_cleanup_free_ char *text = state_text(&record->state);
	int result = plane_db_run(&journal->db, NULL, err,
		"INSERT INTO event (backend_id, event, timestamp) VALUES (?1, ?2, ?3)", "tti",
		record->backend, text, record->timestamp_ms);
	if (result == 0)
		record->event_id = sqlite3_last_insert_rowid(journal->db.sqlite);
	if (result == 0 && record->state.status == PLANE_TERMINATED)
		result = record_end(journal, record->backend, record->timestamp_ms, err);
	return result;
}

int plane_journal_record(struct plane_journal *journal, struct plane_journal_record *records,
	size_t count, struct plane_error *err)
{
	int result = plane_db_begin(&journal->db, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count && result == 0; i++) {
		result = put_backend(journal, records, count, i, err);
		if (result == 0)
			result = put_event(journal, &records[i], err);
	}
	return plane_db_end(&journal->db, result, err);
}

int plane_journal_knows(
	struct plane_journal *journal, const char *backend, bool *is_known, struct plane_error *err)
{
	sqlite3_stmt *query = plane_db_query(
		&journal->db, err, "SELECT 1 FROM backend WHERE id = ?1", "t", backend);
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	if (result > 0)
		plane_db_done(query);
	if (result >= 0)
		*is_known = result > 0;
	return result < 0 ? result : 0;
}

static int read_state(const char *text, struct plane_backend_state *state, struct plane_error *err)
{
	_cleanup_json_ json_t *json = plane_json_parse(text, strlen(text), err);
	return json ? plane_backend_state_read(json, state, err) : -EBADMSG;
}

int plane_journal_find(struct plane_journal *journal, const char *backend, bool *is_known,
	struct plane_backend_state *state, struct plane_error *err)
{
	sqlite3_stmt *query = plane_db_query(
		&journal->db, err, "SELECT state FROM backend WHERE id = ?1", "t", backend);
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	if (result < 0)
		return result;
	*is_known = result > 0;
	if (result > 0) {
		result = read_state(plane_db_text(query, 0), state, err);
		plane_db_done(query);
	}
	return result;
}

int plane_journal_events(struct plane_journal *journal, int64_t after_id,
	struct plane_journal_event *events, int max, struct plane_error *err)
{
	int count = 0, result;
	sqlite3_stmt *query = plane_db_query(&journal->db, err,
		"SELECT id, backend_id, event, timestamp FROM event WHERE id > ?1 ORDER BY id"
		" LIMIT ?2",
		"ii", after_id, (int64_t)max);
	if (!query)
		return -EIO;
	while ((result = plane_db_next(&journal->db, query, err)) > 0) {
		struct plane_journal_event *event = &events[count];
		event->id = sqlite3_column_int64(query, 0);
		event->timestamp_ms = sqlite3_column_int64(query, 3);
		if (read_state(plane_db_text(query, 2), &event->state, err) < 0) {
			plane_db_done(query);
			result = plane_error_prefix(err, "event %lld", (long long)event->id);
			break;
		}
		event->backend = plane_db_text_copy(query, 1);
		count++;
	}
	if (result == 0)
		return count;
	while (count > 0)
		free(events[--count].backend);
	return result;
}

int plane_journal_events_done(
	struct plane_journal *journal, const int64_t *ids, size_t count, struct plane_error *err)
{
	int result = plane_db_begin(&journal->db, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count && result == 0; i++)
		result = plane_db_run(
			&journal->db, NULL, err, "DELETE FROM event WHERE id = ?1", "i", ids[i]);
	return plane_db_end(&journal->db, result, err);
}

static int count_rows(struct plane_journal *journal, int64_t *count, struct plane_error *err)
{
	sqlite3_stmt *query = plane_db_query(&journal->db, err, "SELECT count(*) FROM lease", "");
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	if (result > 0) {
		*count = sqlite3_column_int64(query, 0);
		plane_db_done(query);
	}
	return result < 0 ? result : 0;
}

int plane_journal_backends(struct plane_journal *journal, struct plane_journal_backend **backends,
	int *count, struct plane_error *err)
{
	int64_t max = 0;
	int found = 0, result = count_rows(journal, &max, err);
	if (result < 0)
		return result;
	struct plane_journal_backend *list = plane_alloc_zero((size_t)max + 1, sizeof(*list));
	sqlite3_stmt *query = plane_db_query(&journal->db, err,
		"SELECT backend_id, state, renew_at, soft_terminate_at, hard_terminate_at, epoch,"
		" memory_bytes, cpu_millis, fencing_token FROM lease JOIN backend ON backend.id = "
		"backend_id ORDER BY backend_id",
		"");
	result = query ? 1 : -EIO;
	while (query && found <= max && (result = plane_db_next(&journal->db, query, err)) > 0) {
		struct plane_journal_backend *backend = &list[found];
		if (found == max || read_state(plane_db_text(query, 1), &backend->state, err) < 0) {
			plane_db_done(query);
			result = -EBADMSG;
			break;
		}
		backend->name = plane_db_text_copy(query, 0);
		backend->deadlines = (struct plane_deadlines){ sqlite3_column_int64(query, 2),
			sqlite3_column_int64(query, 3), sqlite3_column_int64(query, 4) };
		backend->epoch = sqlite3_column_int64(query, 5);
		backend->resources = (struct plane_resources){ sqlite3_column_int64(query, 6),
			sqlite3_column_int64(query, 7) };
		backend->fencing_token = sqlite3_column_int64(query, 8);
		found++;
	}
	if (result < 0) {
		while (found > 0)
			free(list[--found].name);
		free(list);
		return result;
	}
	*backends = list;
	*count = found;
	return 0;
}

int plane_journal_refuse(struct plane_journal *journal, const char *action_id, const char *reason,
	int64_t timestamp_ms, struct plane_error *err)
{
	journal->has_refusals = true;
	return plane_db_run(&journal->db, NULL, err,
		"INSERT OR IGNORE INTO refused (action_id, reason, at) VALUES (?1, ?2, ?3)", "tti",
		action_id, reason, timestamp_ms);
}

int plane_journal_has_refused(struct plane_journal *journal, const char *action_id, char *reason,
	size_t size, bool *is_refused, struct plane_error *err)
{
	*is_refused = false;
	if (!journal->has_refusals)
		return 0;
	sqlite3_stmt *query = plane_db_query(&journal->db, err,
		"SELECT reason FROM refused WHERE action_id = ?1", "t", action_id);
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	if (result > 0) {
		*is_refused = true;
		(void)snprintf(reason, size, "%s", plane_db_text(query, 0));
		plane_db_done(query);
	}
	return result < 0 ? result : 0;
}

int plane_journal_prune(
	struct plane_journal *journal, int64_t ended_before_ms, struct plane_error *err)
{
	int result = plane_db_begin(&journal->db, err);
	if (result < 0)
		return result;
	result = plane_db_run(&journal->db, NULL, err,
		"DELETE FROM backend WHERE id IN (SELECT backend_id FROM ended WHERE at < ?1"
		" AND NOT EXISTS (SELECT 1 FROM event WHERE event.backend_id = ended.backend_id))",
		"i", ended_before_ms);
	if (result == 0)
		result = plane_db_run(&journal->db, NULL, err,
			"DELETE FROM ended WHERE at < ?1 AND NOT EXISTS"
			" (SELECT 1 FROM backend WHERE id = ended.backend_id)",
			"i", ended_before_ms);
	if (result == 0)
		result = plane_db_run(&journal->db, NULL, err, "DELETE FROM refused WHERE at < ?1",
			"i", ended_before_ms);
	return plane_db_end(&journal->db, result, err);
}

int plane_journal_get(struct plane_journal *journal, const char *name, char *value, size_t size,
	struct plane_error *err)
{
	sqlite3_stmt *query = plane_db_query(
		&journal->db, err, "SELECT value FROM meta WHERE name = ?1", "t", name);
	int result = query ? plane_db_next(&journal->db, query, err) : -EIO;
	if (result < 0)
		return result;
	value[0] = '\0';
	if (result > 0) {
		(void)plane_text_copy(value, size, plane_db_text(query, 0));
		plane_db_done(query);
	}
	return 0;
}

int plane_journal_set(
	struct plane_journal *journal, const char *name, const char *value, struct plane_error *err)
{
	return plane_db_run(&journal->db, NULL, err,
		"INSERT INTO meta (name, value) VALUES (?1, ?2)"
		" ON CONFLICT (name) DO UPDATE SET value = excluded.value",
		"tt", name, value);
}
