/* Connections for many threads, and what callers are told while the database is away. */
#include "store/postgres_db.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 1000
#define CEILING_MS 5000
#define TRIES 3 /* of a transaction that is rolled back for the sake of others */

static void init(struct plane_pg_pool *pool, const char *url)
{
	pthread_condattr_t attributes;
	*pool = (struct plane_pg_pool){ .url = plane_strdup(url) };
	pool->statistics = &pool->own_statistics;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

void plane_pg_pool_open_beside(struct plane_pg_pool *pool, const struct plane_pg_pool *first)
{
	init(pool, first->url);
	pool->statistics = first->statistics;
	memcpy(pool->origin, first->origin, sizeof(pool->origin));
}

int plane_pg_pool_open(struct plane_pg_pool *pool, const char *url, struct plane_error *err)
{
	init(pool, url);
	plane_random_alphanumeric(pool->origin, PLANE_PG_ORIGIN_LENGTH);
	struct plane_pg *first = PLANE_NEW(struct plane_pg);
	int result = plane_pg_connect(first, url, pool->origin, pool->statistics, err);
	if (result < 0) {
		free(first);
		plane_pg_pool_close(pool);
		return result;
	}
	pool->open_count = 1;
	pool->idle[pool->idle_count++] = first;
	return 0;
}

static void discard(struct plane_pg_pool *pool, struct plane_pg *pg)
{
	plane_pg_close(pg);
	free(pg);
	pool->open_count--;
}

void plane_pg_pool_close(struct plane_pg_pool *pool)
{
	if (!pool->url)
		return;
	while (pool->idle_count > 0)
		discard(pool, pool->idle[--pool->idle_count]);
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->mutex);
	free(pool->url);
	*pool = (struct plane_pg_pool){ 0 };
}

/* Nothing comes to an idle connection but word that it has ended, or that settings have changed: it
 * is not used either way. */
static bool is_fresh(const struct plane_pg *pg)
{
	struct pollfd fd = { .fd = PQsocket(pg->connection), .events = POLLIN };
	return poll(&fd, 1, 0) == 0;
}

static struct plane_pg *take_idle(struct plane_pg_pool *pool)
{
	while (pool->idle_count > 0) {
		struct plane_pg *pg = pool->idle[--pool->idle_count];
		if (is_fresh(pg)) {
			pg->taken_at_ms = plane_clock_boot_ms();
			return pg;
		}
		discard(pool, pg);
	}
	return NULL;
}

static void wait_until(struct plane_pg_pool *pool, int64_t wake_at_ms)
{
	struct timespec until;
	int64_t ms = wake_at_ms - plane_clock_boot_ms();
	clock_gettime(CLOCK_MONOTONIC, &until);
	ms = ms < 0 ? 0 : ms;
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&pool->changed, &pool->mutex, &until); /* both are looked at */
}

static void note_connected(struct plane_pg_pool *pool)
{
	if (pool->outage_since_ms) {
		plane_info("database: it is there again");
		atomic_fetch_add(&pool->outages, 1);
	}
	pool->outage_since_ms = 0;
	pool->retry_pause_ms = 0;
	pthread_cond_broadcast(&pool->changed);
}

static void note_away(struct plane_pg_pool *pool, const struct plane_error *cause)
{
	int64_t now_ms = plane_clock_boot_ms();
	if (!pool->outage_since_ms) {
		plane_warn("%s: trying again", cause->message);
		pool->outage_since_ms = now_ms;
	}
	pool->outage_error = *cause;
	pool->retry_pause_ms = pool->retry_pause_ms ? pool->retry_pause_ms * 2 : RETRY_FIRST_MS;
	if (pool->retry_pause_ms > RETRY_MAX_MS)
		pool->retry_pause_ms = RETRY_MAX_MS;
	pool->retry_at_ms = now_ms + pool->retry_pause_ms;
	pthread_cond_broadcast(&pool->changed);
}

static bool works(const struct plane_pg_pool *pool)
{
	return pool->open_count > pool->opening_count && !pool->outage_since_ms;
}

/* The server, or whoever is in between, lets no more in; those that are open go on. When they do
 * not, they are lost soon, and then it is an outage. */
static void note_full(struct plane_pg_pool *pool, const struct plane_error *cause)
{
	if (pool->ceiling != pool->open_count)
		plane_warn("%s: going on with %d connections", cause->message, pool->open_count);
	pool->ceiling = pool->open_count;
	pool->ceiling_until_ms = plane_clock_boot_ms() + CEILING_MS;
	pthread_cond_broadcast(&pool->changed);
}

static int connect_one(struct plane_pg_pool *pool, struct plane_pg *pg, struct plane_error *err)
{
	int result = plane_pg_connect(pg, pool->url, pool->origin, pool->statistics, err);
	if (result == 0 && pool->on_connected)
		result = pool->on_connected(pool->on_connected_data, pg, err);
	if (result < 0)
		plane_pg_close(pg);
	return result;
}

/* With the mutex held; lets go of it meanwhile. */
static struct plane_pg *open_another(struct plane_pg_pool *pool)
{
	struct plane_error cause = { 0 };
	struct plane_pg *pg = PLANE_NEW(struct plane_pg);
	bool is_retry = pool->outage_since_ms != 0;
	pool->open_count++;
	pool->opening_count++;
	pool->is_retrying = is_retry;
	pthread_mutex_unlock(&pool->mutex);
	int result = connect_one(pool, pg, &cause);
	pthread_mutex_lock(&pool->mutex);
	pool->opening_count--;
	if (is_retry)
		pool->is_retrying = false;
	if (result == 0) {
		pg->taken_at_ms = plane_clock_boot_ms();
		note_connected(pool);
		return pg;
	}
	pool->open_count--;
	free(pg);
	if (works(pool))
		note_full(pool, &cause);
	else
		note_away(pool, &cause);
	return NULL;
}

static bool may_open(const struct plane_pg_pool *pool, int64_t now_ms)
{
	if (pool->outage_since_ms)
		return !pool->is_retrying && now_ms >= pool->retry_at_ms;
	if (now_ms < pool->ceiling_until_ms && works(pool))
		return pool->open_count < pool->ceiling;
	return pool->open_count < PLANE_PG_POOL_MAX;
}

/* Without a connection until `give_up_ms`: why. */
static void tell_nothing_free(const struct plane_pg_pool *pool, struct plane_error *err)
{
	if (pool->outage_since_ms)
		plane_error_set(err, -EAGAIN, "%s", pool->outage_error.message);
	else
		plane_error_set(
			err, -EAGAIN, "database: all %d connections are in use", pool->open_count);
}

struct plane_pg *plane_pg_take(struct plane_pg_pool *pool, struct plane_error *err)
{
	int64_t deadline_ms = plane_clock_boot_ms() + PLANE_PG_TIMEOUT_MS;
	pthread_mutex_lock(&pool->mutex);
	struct plane_pg *pg;
	while (!(pg = take_idle(pool))) {
		int64_t now_ms = plane_clock_boot_ms();
		int64_t give_up_ms = deadline_ms, wake_ms;
		if (may_open(pool, now_ms)) {
			pg = open_another(pool);
			if (pg)
				break;
			continue;
		}
		if (pool->outage_since_ms &&
			pool->outage_since_ms + PLANE_PG_TIMEOUT_MS < give_up_ms)
			give_up_ms = pool->outage_since_ms + PLANE_PG_TIMEOUT_MS;
		if (now_ms >= give_up_ms) {
			tell_nothing_free(pool, err);
			break;
		}
		wake_ms = give_up_ms;
		if (pool->outage_since_ms && !pool->is_retrying && pool->retry_at_ms < wake_ms)
			wake_ms = pool->retry_at_ms;
		wait_until(pool, wake_ms);
	}
	pthread_mutex_unlock(&pool->mutex);
	return pg;
}

/* What was lost to one call is likely to be lost to all that have not worked since it began: they
 * are not tried one after the other, each for as long as a call may wait. */
static void distrust_idle(struct plane_pg_pool *pool, int64_t since_ms)
{
	int kept = 0, count = pool->idle_count;
	for (int i = 0; i < count; i++) {
		struct plane_pg *pg = pool->idle[i];
		if (pg->used_at_ms >= since_ms)
			pool->idle[kept++] = pg;
		else
			discard(pool, pg);
	}
	pool->idle_count = kept;
}

void plane_pg_give(struct plane_pg_pool *pool, struct plane_pg *pg)
{
	if (!pg)
		return;
	pthread_mutex_lock(&pool->mutex);
	if (plane_pg_is_broken(pg)) {
		distrust_idle(pool, pg->taken_at_ms);
		discard(pool, pg);
	} else {
		pg->used_at_ms = plane_clock_boot_ms();
		pool->idle[pool->idle_count++] = pg;
	}
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->mutex);
}

/* Is there to be another try? When not, -EDEADLK is nobody's concern any more. */
static bool may_repeat(int *result, int *tries, struct plane_error *err)
{
	if (*result != -EDEADLK)
		return false;
	if (++*tries < TRIES)
		return true;
	*result = err->code = -EAGAIN;
	return false;
}

int plane_pg_pool_call(struct plane_pg_pool *pool,
	int (*transaction)(struct plane_pg *pg, void *data, struct plane_error *err), void *data,
	struct plane_error *err)
{
	int result, tries = 0;
	do {
		struct plane_pg *pg = plane_pg_take(pool, err);
		if (!pg)
			return -EAGAIN;
		result = transaction(pg, data, err);
		plane_pg_give(pool, pg);
	} while (may_repeat(&result, &tries, err));
	return result;
}

int plane_pg_pool_run(struct plane_pg_pool *pool, PGresult **rows, int64_t *changed,
	struct plane_error *err, const char *sql, const char *format, ...)
{
	int result, tries = 0;
	do {
		struct plane_pg *pg = plane_pg_take(pool, err);
		if (!pg)
			return -EAGAIN;
		va_list args;
		va_start(args, format);
		result = plane_pg_run_list(pg, rows, changed, err, sql, format, &args);
		va_end(args);
		plane_pg_give(pool, pg);
	} while (may_repeat(&result, &tries, err));
	return result;
}
