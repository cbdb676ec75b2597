/* Opening the store: schema, clock, fencing tokens. */
#include "store/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include "base/json.h"
#include "sqlite_schema.h"
#include "sqlite_schema_2.h"
#include "sqlite_schema_3.h"
#include "sqlite_schema_4.h"
#include "sqlite_schema_5.h"

/* What brings the schema from each version to the next. */
static const char *const migrations[] = { PLANE_SQLITE_SCHEMA, PLANE_SQLITE_SCHEMA_2,
	PLANE_SQLITE_SCHEMA_3, PLANE_SQLITE_SCHEMA_4, PLANE_SQLITE_SCHEMA_5 };
#define SCHEMA_VERSION ((int64_t)(sizeof(migrations) / sizeof(migrations[0])))
#define LEASE_AFTER_REBOOT_MS 60000
/* How many milliseconds of fencing tokens are reserved ahead with one durable write. */
#define FENCING_RESERVE 600000

static int64_t system_realtime(void *data)
{
	return plane_clock_realtime_ms();
}

static int64_t system_boot(void *data)
{
	return plane_clock_boot_ms();
}

int64_t plane_sqlite_now(const struct plane_sqlite_store *store)
{
	return store->clock.boot_ms(store->clock.data) + store->clock_offset_ms;
}

static int get_meta(struct plane_db *db, const char *name, int64_t *number, char *text,
	size_t text_size, struct plane_error *err)
{
	sqlite3_stmt *row =
		plane_db_query(db, err, "SELECT value FROM meta WHERE name = ?", "t", name);
	if (!row)
		return err->code;
	int result = plane_db_next(db, row, err);
	if (result <= 0)
		return result;
	if (number)
		*number = sqlite3_column_int64(row, 0);
	if (text)
		snprintf(text, text_size, "%s", plane_db_text(row, 0));
	plane_db_done(row);
	return 1;
}

static int put_meta(struct plane_db *db, const char *name, int64_t number, struct plane_error *err)
{
	return plane_db_run(db, NULL, err,
		"INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
		"ti", name, number);
}

/* On the same boot the clock goes on exactly where it was, whatever happened to the wall clock.
 * After a reboot it is the wall clock, but never before what was seen; and because nobody knows how
 * long the machine was off, leases that were live get their whole time again. */
static int resume_clock(struct plane_sqlite_store *store, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	char boot_id[sizeof(store->boot_id)] = "";
	int64_t clock_ms = 0, boot_ms = 0;
	int64_t boot_now = store->clock.boot_ms(store->clock.data);
	int64_t now = store->clock.realtime_ms(store->clock.data);
	if (get_meta(db, "boot_id", NULL, boot_id, sizeof(boot_id), err) < 0 ||
		get_meta(db, "clock_ms", &clock_ms, NULL, 0, err) < 0 ||
		get_meta(db, "clock_boot_ms", &boot_ms, NULL, 0, err) < 0)
		return err->code;
	bool is_same_boot = strcmp(boot_id, store->boot_id) == 0;
	if (is_same_boot)
		now = clock_ms + (boot_now - boot_ms);
	else if (now < clock_ms)
		now = clock_ms;
	store->clock_offset_ms = now - boot_now;
	store->opened_at_ms = now;
	if (!is_same_boot && clock_ms &&
		plane_db_run(db, NULL, err,
			"UPDATE backend_key SET expires_at = ?1 + max(?2, expires_at - ?3) WHERE "
			"expires_at > ?3",
			"iii", now, (int64_t)LEASE_AFTER_REBOOT_MS, clock_ms) < 0)
		return err->code;
	if (get_meta(db, "fencing_ceiling", &store->fencing_ceiling, NULL, 0, err) < 0 ||
		get_meta(db, "fencing_last", &store->last_fencing_token, NULL, 0, err) < 0)
		return err->code;
	if (!is_same_boot && store->last_fencing_token < store->fencing_ceiling)
		store->last_fencing_token = store->fencing_ceiling;
	if (put_meta(db, "clock_ms", now, err) < 0 ||
		put_meta(db, "clock_boot_ms", boot_now, err) < 0)
		return err->code;
	return plane_db_run(db, NULL, err,
		"INSERT INTO meta VALUES ('boot_id', ?) ON CONFLICT DO UPDATE SET value = "
		"excluded.value",
		"t", store->boot_id);
}

/* The reservation is synced to disk, whatever the mode: a power cut may lose the key of a token,
 * but never lets a token be given out again. */
int plane_sqlite_next_fencing_token(
	struct plane_sqlite_store *store, int64_t *token, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	int64_t next = plane_sqlite_now(store);
	if (next <= store->last_fencing_token)
		next = store->last_fencing_token + 1;
	if (next > store->fencing_ceiling) {
		int64_t ceiling = next + FENCING_RESERVE;
		if (plane_db_script(db, "PRAGMA synchronous=FULL", err) < 0 ||
			put_meta(db, "fencing_ceiling", ceiling, err) < 0)
			return err->code;
		store->fencing_ceiling = ceiling;
		if (!store->is_synchronous_full &&
			plane_db_script(db, "PRAGMA synchronous=NORMAL", err) < 0)
			return err->code;
	}
	store->last_fencing_token = next;
	*token = next;
	return 0;
}

int plane_sqlite_raise_fencing_token(
	struct plane_sqlite_store *store, int64_t token, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	int64_t last = store->last_fencing_token > token ? store->last_fencing_token : token;
	int64_t ceiling = store->fencing_ceiling > token ? store->fencing_ceiling : token;
	if (plane_sqlite_put_fencing_token(store, last, err) < 0 ||
		put_meta(db, "fencing_ceiling", ceiling, err) < 0)
		return err->code;
	store->last_fencing_token = last;
	store->fencing_ceiling = ceiling;
	return 0;
}

static int schema_version(struct plane_db *db, int64_t *version, struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(db, err, "PRAGMA user_version", "");
	if (!row || plane_db_next(db, row, err) <= 0)
		return err->code ? err->code : -EIO;
	*version = sqlite3_column_int64(row, 0);
	plane_db_done(row);
	return 0;
}

static int check_known(int64_t version, struct plane_error *err)
{
	if (version > SCHEMA_VERSION)
		return plane_error_set(err, -ENOTSUP,
			"the database has schema version %lld, this plane knows %lld: use a newer "
			"plane",
			(long long)version, (long long)SCHEMA_VERSION);
	return 0;
}

int plane_sqlite_check_version(struct plane_sqlite_store *store, struct plane_error *err)
{
	int64_t version = 0;
	if (schema_version(&store->writer, &version, err) < 0 || check_known(version, err) < 0)
		return err->code;
	if (version == 0)
		return plane_error_set(err, -ENOTSUP, "there is no store in the database");
	if (version < SCHEMA_VERSION)
		return plane_error_set(err, -ENOTSUP,
			"the database has schema version %lld, this plane's is %lld: bring it up "
			"to date with `plane migrate` first",
			(long long)version, (long long)SCHEMA_VERSION);
	return 0;
}

static int upgrade(struct plane_sqlite_store *store, struct plane_error *err)
{
	int64_t version = 0;
	if (schema_version(&store->writer, &version, err) < 0 || check_known(version, err) < 0)
		return err->code;
	for (; version < SCHEMA_VERSION; version++) {
		char set_version[48];
		snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %lld",
			(long long)version + 1);
		if (plane_db_script(&store->writer, migrations[version], err) < 0 ||
			plane_db_script(&store->writer, set_version, err) < 0)
			return err->code;
	}
	return resume_clock(store, err);
}

int plane_sqlite_migrate(struct plane_store *base, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	if (plane_db_begin(&store->writer, err) < 0)
		return plane_error_prefix(err, "migrate");
	int result = plane_db_end(&store->writer, upgrade(store, err), err);
	return result < 0 ? plane_error_prefix(err, "migrate") : 0;
}

/* The mode cannot be changed inside of a transaction, and is the connection's: both under its
 * mutex. */
int plane_sqlite_begin_relaxed(struct plane_sqlite_store *store, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	pthread_mutex_lock(&db->mutex);
	int result = store->is_synchronous_full
			     ? plane_db_run(db, NULL, err, "PRAGMA synchronous=NORMAL", "")
			     : 0;
	if (result == 0)
		result = plane_db_run(db, NULL, err, "BEGIN IMMEDIATE", "");
	if (result < 0)
		(void)plane_sqlite_end_relaxed(store, result, NULL);
	return result;
}

int plane_sqlite_end_relaxed(struct plane_sqlite_store *store, int result, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	struct plane_error ignored;
	if (result >= 0)
		result = plane_db_run(db, NULL, err, "COMMIT", "");
	if (result < 0 && !sqlite3_get_autocommit(db->sqlite))
		(void)plane_db_run(db, NULL, &ignored, "ROLLBACK", ""); /* the first error counts */
	if (store->is_synchronous_full &&
		plane_db_run(db, NULL, &ignored, "PRAGMA synchronous=FULL", "") < 0)
		abort(); /* it does no I/O; later commits must not be less than promised */
	pthread_mutex_unlock(&db->mutex);
	return result;
}

static int sync_store(struct plane_store *base, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	if (!store->is_synchronous_full)
		return 0; /* the user does not ask for it */
	return fdatasync(store->wal_fd) < 0 ? plane_error_errno(err, "write the store to disk") : 0;
}

static int ping(struct plane_store *base, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	pthread_mutex_lock(&store->reader.mutex);
	int result = plane_db_run(&store->reader, NULL, err, "SELECT 1 FROM meta LIMIT 1", "");
	pthread_mutex_unlock(&store->reader.mutex);
	return result;
}

static void close_store(struct plane_store *base)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	plane_db_group_finish(&store->group);
	plane_db_close(&store->reader);
	plane_db_close(&store->writer);
	plane_closep(&store->wal_fd);
	free(store);
}

/* There is no server to talk to. */
static void statistics(struct plane_store *base, struct plane_store_statistics *statistics)
{
	(void)base;
	*statistics = (struct plane_store_statistics){ 0 };
}

static const struct plane_store_impl sqlite_impl = {
	.close = close_store,
	.migrate = plane_sqlite_migrate,
	.ping = ping,
	.sync = sync_store,
	.statistics = statistics,
	.controller_heartbeat = plane_sqlite_controller_heartbeat,
	.controller_offline = plane_sqlite_controller_offline,
	.node_connected = plane_sqlite_node_connected,
	.node_disconnected = plane_sqlite_node_disconnected,
	.registrations_check = plane_sqlite_registrations_check,
	.address_owner = plane_sqlite_address_owner,
	.drone_heartbeat = plane_sqlite_drone_heartbeat,
	.drone_drain = plane_sqlite_drone_drain,
	.member_list = plane_sqlite_member_list,
	.leases_find = plane_sqlite_leases_find,
	.leases_renew = plane_sqlite_leases_renew,
	.lease_break = plane_sqlite_lease_break,
	.running_check = plane_sqlite_running_check,
	.connect = plane_sqlite_connect,
	.keys_renew = plane_sqlite_keys_renew,
	.token_create = plane_sqlite_token_create,
	.token_revoke = plane_sqlite_token_revoke,
	.revocations = plane_sqlite_revocations,
	.spawn = plane_sqlite_spawn,
	.refused_find = plane_sqlite_refused_find,
	.move = plane_sqlite_move,
	.backend_find = plane_sqlite_backend_find,
	.backend_update = plane_sqlite_backend_update,
	.backends_keep_alive = plane_sqlite_backends_keep_alive,
	.backend_history = plane_sqlite_backend_history,
	.route_find = plane_sqlite_route_find,
	.backend_list = plane_sqlite_backend_list,
	.key_list = plane_sqlite_key_list,
	.actions_pending = plane_sqlite_actions_pending,
	.actions_ack = plane_sqlite_actions_ack,
	.terminate = plane_sqlite_terminate,
	.sweep_candidates = plane_sqlite_sweep_candidates,
	.mark_lost = plane_sqlite_mark_lost,
	.mark_broken = plane_sqlite_mark_broken,
	.cleanup_nodes = plane_sqlite_cleanup_nodes,
	.cleanup_tokens = plane_sqlite_cleanup_tokens,
	.cleanup_revocations = plane_sqlite_cleanup_revocations,
	.cleanup_backends = plane_sqlite_cleanup_backends,
	.cert_lease = plane_sqlite_cert_lease,
	.cert_set_txt = plane_sqlite_cert_set_txt,
	.cert_release = plane_sqlite_cert_release,
	.cert_get_txt = plane_sqlite_cert_get_txt,
};

/* The first transaction makes the file, which stays until the last connection is closed. */
static int open_wal(struct plane_sqlite_store *store, const char *path, struct plane_error *err)
{
	_cleanup_free_ char *wal_path = plane_strdupf("%s-wal", path);
	int result = plane_db_script(&store->writer, "BEGIN IMMEDIATE; COMMIT", err);
	if (result < 0)
		return result;
	store->wal_fd = open(wal_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return store->wal_fd < 0 ? plane_error_errno(err, "open %s", wal_path) : 0;
}

/* "PATH?synchronous=normal": cuts the path off and reads the mode. */
static int read_options(const char *text, char **path, bool *is_full, struct plane_error *err)
{
	const char *question = strchr(text, '?');
	*is_full = true;
	if (question && strcmp(question, "?synchronous=normal") == 0)
		*is_full = false;
	else if (question && strcmp(question, "?synchronous=full") != 0)
		return plane_error_set(err, -EINVAL,
			"unknown option \"%s\" of the database: expected ?synchronous=normal or "
			"?synchronous=full",
			question);
	size_t len = question ? (size_t)(question - text) : strlen(text);
	if (len == 0)
		return plane_error_set(err, -EINVAL, "the database has no path: sqlite:PATH");
	*path = plane_strndup(text, len);
	return 0;
}

static int read_boot_id(struct plane_sqlite_store *store, struct plane_error *err)
{
	struct plane_buffer text = { 0 };
	int result = plane_file_read("/proc/sys/kernel/random/boot_id", 64, &text, err);
	if (result == 0)
		snprintf(store->boot_id, sizeof(store->boot_id), "%.36s", plane_buffer_text(&text));
	plane_buffer_finish(&text);
	return result;
}

/* Everything but the connections. */
static struct plane_sqlite_store *create(const char *text, const struct plane_store_clock *clock,
	char **path, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_NEW(struct plane_sqlite_store);
	store->base.impl = &sqlite_impl;
	store->wal_fd = -1;
	int result = read_options(text, path, &store->is_synchronous_full, err);
	if (clock) {
		store->clock = *clock;
		snprintf(store->boot_id, sizeof(store->boot_id), "%s", clock->boot_id);
	} else {
		store->clock = (struct plane_store_clock){ .realtime_ms = system_realtime,
			.boot_ms = system_boot };
		result = result < 0 ? result : read_boot_id(store, err);
	}
	if (result == 0)
		return store;
	close_store(&store->base);
	return NULL;
}

struct plane_store *plane_sqlite_store_open(
	const char *text, const struct plane_store_clock *clock, struct plane_error *err)
{
	_cleanup_free_ char *path = NULL;
	struct plane_sqlite_store *store = create(text, clock, &path, err);
	if (!store)
		return NULL;
	int result = plane_db_open(&store->writer, path, err);
	if (result == 0)
		result = plane_db_open(&store->reader, path, err);
	if (result == 0)
		result = plane_db_script(&store->writer,
			store->is_synchronous_full ? "PRAGMA synchronous=FULL"
						   : "PRAGMA synchronous=NORMAL",
			err);
	if (result == 0)
		result = open_wal(store, path, err);
	if (result == 0) {
		plane_db_group_init(&store->group, &store->writer);
		return &store->base;
	}
	close_store(&store->base);
	return NULL;
}

struct plane_sqlite_store *plane_sqlite_store_open_alone(
	const char *text, const struct plane_store_clock *clock, struct plane_error *err)
{
	_cleanup_free_ char *path = NULL;
	struct plane_sqlite_store *store = create(text, clock, &path, err);
	if (!store)
		return NULL;
	store->is_synchronous_full = true;
	int result = plane_db_open_alone(&store->writer, path, err);
	if (result == 0)
		result = plane_db_script(&store->writer, "PRAGMA synchronous=FULL", err);
	if (result == 0)
		return store;
	close_store(&store->base);
	return NULL;
}
