/* Group commit: writes of several threads that come while another is committed share one
 * transaction, and with it one sync. Each returns once its own is committed. Private to store/. */
#ifndef PLANE_STORE_SQLITE_GROUP_H
#define PLANE_STORE_SQLITE_GROUP_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "store/sqlite_db.h"

struct plane_db_member;

/** Zeroed by plane_db_group_init. */
struct plane_db_group {
	struct plane_db *db;
	pthread_mutex_t mutex;
	struct plane_db_member *waiting; /* in order of arrival */
	bool has_leader;                 /* a thread commits for others */
};

void plane_db_group_init(struct plane_db_group *group, struct plane_db *db);
/** Nobody may be inside any more. Fine when zeroed. */
void plane_db_group_finish(struct plane_db_group *group);

/**
 * Runs `write` in a transaction that may hold others' writes, commits, and returns the outcome.
 * `write` is one statement: when it is refused by a constraint (-ENOENT, -EEXIST) only it has not
 * happened; after any other failure, or that of the commit, none of the transaction's has.
 */
int plane_db_group_run(struct plane_db_group *group,
	int (*write)(void *data, struct plane_error *err), void *data, struct plane_error *err);

#endif
