/* The pool of connections: what is given up after a loss, what counts as an outage, and what has
 * connections of its own. */
#include "../cmocka_all.h"
#include "postgres_server.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/postgres.h"

static struct plane_pg_pool pool;
static struct plane_error err;

static struct plane_pg *take(void)
{
	struct plane_pg *pg = plane_pg_take(&pool, &err);
	if (!pg)
		fail_msg("%s", err.message);
	return pg;
}

static bool works(struct plane_pg *pg)
{
	return plane_pg_run(pg, NULL, NULL, &err, "SELECT 1", "") == 0;
}

/* Times of the pool are in milliseconds: what comes now is later than what was. */
static void let_time_pass(void)
{
	int64_t before_ms = plane_clock_boot_ms();
	while (plane_clock_boot_ms() == before_ms)
		(void)usleep(200);
}

/* Ends the session of one connection on the server. */
static void end_session(struct plane_pg *pg)
{
	char sql[80];
	(void)snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d, 10000)",
		PQbackendPID(pg->connection));
	postgres_server_run(sql);
}

static void idle_connections_from_before_a_loss_are_given_up(void **state)
{
	(void)state;
	assert_int_equal(plane_pg_pool_open(&pool, postgres_server_url(), &err), 0);
	struct plane_pg *a = take(), *b = take(), *c = take();
	plane_pg_give(&pool, b);
	plane_pg_give(&pool, c);
	plane_pg_give(&pool, a);
	let_time_pass();
	assert_ptr_equal(take(), a);
	assert_ptr_equal(take(), c);
	let_time_pass();
	assert_true(works(c));
	plane_pg_give(&pool, c); /* has worked since the call on `a` began */
	end_session(a);
	assert_false(works(a));
	plane_pg_give(&pool, a);
	assert_int_equal(pool.idle_count, 1);
	assert_int_equal(pool.open_count, 1);
	assert_ptr_equal(take(), c);
	assert_true(works(c));
	plane_pg_give(&pool, c);
	plane_pg_pool_close(&pool);
}

static void *take_in_thread(void *data)
{
	(void)data;
	return plane_pg_take(&pool, &err);
}

static int ceiling(void)
{
	pthread_mutex_lock(&pool.mutex);
	int now = pool.ceiling;
	pthread_mutex_unlock(&pool.mutex);
	return now;
}

static void a_limit_on_connections_is_no_outage(void **state)
{
	(void)state;
	pthread_t thread;
	void *third = NULL;
	postgres_server_run("CREATE ROLE limited LOGIN CONNECTION LIMIT 2");
	assert_int_equal(plane_pg_pool_open(&pool, postgres_server_url_of("limited"), &err), 0);
	struct plane_pg *a = take(), *b = take();
	assert_int_equal(pthread_create(&thread, NULL, take_in_thread, NULL), 0);
	while (ceiling() != 2)
		(void)usleep(1000);
	assert_int_equal(pool.outage_since_ms, 0);
	assert_true(works(a));
	plane_pg_give(&pool, a);
	assert_int_equal(pthread_join(thread, &third), 0);
	assert_ptr_equal(third, a);
	assert_int_equal(pool.outage_since_ms, 0);
	assert_int_equal(atomic_load(&pool.outages), 0);
	plane_pg_give(&pool, a);
	plane_pg_give(&pool, b);
	plane_pg_pool_close(&pool);
}

static void without_any_connection_it_is_an_outage(void **state)
{
	(void)state;
	postgres_server_run("CREATE ROLE once LOGIN");
	assert_int_equal(plane_pg_pool_open(&pool, postgres_server_url_of("once"), &err), 0);
	struct plane_pg *only = take();
	postgres_server_run("ALTER ROLE once NOLOGIN");
	end_session(only);
	assert_false(works(only));
	plane_pg_give(&pool, only);
	assert_null(plane_pg_take(&pool, &err));
	assert_int_equal(err.code, -EAGAIN);
	assert_true(pool.outage_since_ms > 0);
	postgres_server_run("ALTER ROLE once LOGIN");
	while (!(only = plane_pg_take(&pool, &err)))
		(void)usleep(10000); /* it is tried again now and then */
	assert_true(works(only));
	assert_int_equal(pool.outage_since_ms, 0);
	assert_int_equal(atomic_load(&pool.outages), 1);
	plane_pg_give(&pool, only);
	plane_pg_pool_close(&pool);
}

/* What backends live on does not wait for those who keep the connections. */
static void leases_are_renewed_while_all_connections_are_in_use(void **state)
{
	(void)state;
	int64_t drone, connection;
	struct plane_pg *taken[PLANE_PG_POOL_MAX];
	struct plane_store_leases leases = { 0 };
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = "dr-a",
		.cluster = "c:1",
		.controller = "co-a",
		.pool = "" };
	struct plane_store *store = plane_store_open(postgres_server_url(), &err);
	assert_non_null(store);
	assert_int_equal(plane_store_migrate(store, &err), 0);
	assert_int_equal(plane_store_node_connected(store, &node, &drone, &connection, &err), 0);
	struct plane_postgres_store *postgres = PLANE_POSTGRES_STORE(store);
	for (size_t i = 0; i < PLANE_PG_POOL_MAX; i++)
		assert_non_null(taken[i] = plane_pg_take(&postgres->pool, &err));
	struct plane_store_renewal renewal = { .drone_id = drone, .journal = "j" };
	assert_int_equal(plane_store_leases_renew(store, &renewal, 1, &err), 0);
	assert_int_equal(renewal.result, PLANE_RENEWAL_GRANTED);
	assert_int_equal(plane_store_leases_find(store, &leases, &err), 0);
	assert_int_equal(leases.count, 1);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	plane_store_leases_finish(&leases);
	for (size_t i = 0; i < PLANE_PG_POOL_MAX; i++)
		plane_pg_give(&postgres->pool, taken[i]);
	plane_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_connections_from_before_a_loss_are_given_up),
		cmocka_unit_test(a_limit_on_connections_is_no_outage),
		cmocka_unit_test(without_any_connection_it_is_an_outage),
		cmocka_unit_test(leases_are_renewed_while_all_connections_are_in_use),
	};
	postgres_server_start();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	postgres_server_stop();
	return failed;
}
