/* Group commit: statements of several threads that come while others are on their way share one
 * round trip, one transaction and one sync of the server. Private to store/. */
#ifndef PLANE_STORE_POSTGRES_GROUP_H
#define PLANE_STORE_POSTGRES_GROUP_H

#include <pthread.h>

#include "store/postgres_db.h"

struct plane_pg_call;

/** Zeroed by plane_pg_group_init. */
struct plane_pg_group {
	struct plane_pg_pool *pool;
	pthread_mutex_t mutex;
	struct plane_pg_call *waiting; /* in order of arrival */
	int leader_count;              /* threads that run calls, theirs and others' */
};

void plane_pg_group_init(struct plane_pg_group *group, struct plane_pg_pool *pool);
/** Nobody may be inside any more. Fine when zeroed. */
void plane_pg_group_finish(struct plane_pg_group *group);

/**
 * As plane_pg_pool_run, for a statement that locks no row which another one of the group locks, so
 * that it does not matter which share a transaction. When one of several fails, each is run again
 * by itself.
 */
int plane_pg_group_run(struct plane_pg_group *group, PGresult **rows, struct plane_error *err,
	const char *sql, const char *format, ...);

#endif
