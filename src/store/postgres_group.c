/* A few threads lead: each runs its own call together with those that have come while all leaders
 * were busy. The others sleep until theirs is done, or until it is their turn to lead. */
#include "store/postgres_group.h"

#include <errno.h>

#include <utlist.h>

/* Enough to keep a server at work while answers travel, few enough that calls meet. */
#define LEADERS_MAX 4
#define TOGETHER_MAX 16

struct plane_pg_call {
	const char *sql;
	struct plane_pg_values values;
	PGresult *rows;
	int result;
	struct plane_error error;
	enum { CALL_WAITING, CALL_LEADS, CALL_TAKEN, CALL_DONE } state;
	pthread_cond_t changed;
	struct plane_pg_call *next;
};

void plane_pg_group_init(struct plane_pg_group *group, struct plane_pg_pool *pool)
{
	*group = (struct plane_pg_group){ .pool = pool };
	pthread_mutex_init(&group->mutex, NULL);
}

void plane_pg_group_finish(struct plane_pg_group *group)
{
	if (group->pool)
		pthread_mutex_destroy(&group->mutex);
	group->pool = NULL;
}

/* ---- running ---- */

struct batch {
	struct plane_pg_call *calls[TOGETHER_MAX];
	size_t count;
};

static int run_batch(struct plane_pg *pg, void *data, struct plane_error *err)
{
	struct batch *batch = data;
	PGresult *rows[TOGETHER_MAX];
	int result = 0;
	for (size_t i = 0; i < batch->count && result == 0; i++)
		result = plane_pg_queue_values(
			pg, err, batch->calls[i]->sql, &batch->calls[i]->values);
	if (result == 0)
		result = plane_pg_flush(pg, rows, batch->count, err);
	for (size_t i = 0; i < batch->count && result == 0; i++)
		batch->calls[i]->rows = rows[i];
	return result;
}

static void run_alone(struct plane_pg_pool *pool, struct plane_pg_call *call)
{
	struct batch one = { .calls = { call }, .count = 1 };
	call->result = plane_pg_pool_call(pool, run_batch, &one, &call->error);
}

/* What became of a transaction whose connection broke is not known: it is not done again. Nor is
 * one that took too long. */
static void run_all(struct plane_pg_pool *pool, struct batch *batch)
{
	struct plane_error cause = { 0 };
	int result = plane_pg_pool_call(pool, run_batch, batch, &cause);
	bool are_repeated =
		result < 0 && result != -EAGAIN && result != -ETIMEDOUT && batch->count > 1;
	for (size_t i = 0; i < batch->count; i++) {
		struct plane_pg_call *call = batch->calls[i];
		call->result = result;
		call->error = cause;
		if (are_repeated)
			run_alone(pool, call);
	}
}

/* ---- leading ---- */

/* With the mutex held; lets go of it meanwhile. */
static void lead(struct plane_pg_group *group, struct plane_pg_call *own)
{
	struct batch batch = { .calls = { own }, .count = 1 };
	while (group->waiting && batch.count < TOGETHER_MAX) {
		struct plane_pg_call *call = group->waiting;
		LL_DELETE(group->waiting, call);
		call->state = CALL_TAKEN;
		batch.calls[batch.count++] = call;
	}
	pthread_mutex_unlock(&group->mutex);
	run_all(group->pool, &batch);
	pthread_mutex_lock(&group->mutex);
	for (size_t i = 0; i < batch.count; i++) {
		batch.calls[i]->state = CALL_DONE;
		pthread_cond_signal(&batch.calls[i]->changed);
	}
	struct plane_pg_call *next = group->waiting;
	if (next) { /* leads in place of this thread */
		LL_DELETE(group->waiting, next);
		next->state = CALL_LEADS;
		pthread_cond_signal(&next->changed);
	} else {
		group->leader_count--;
	}
}

static void run_call(struct plane_pg_group *group, struct plane_pg_call *call)
{
	pthread_mutex_lock(&group->mutex);
	if (group->leader_count < LEADERS_MAX) {
		group->leader_count++;
		call->state = CALL_LEADS;
	} else {
		LL_APPEND(group->waiting, call);
		while (call->state == CALL_WAITING || call->state == CALL_TAKEN)
			pthread_cond_wait(&call->changed, &group->mutex);
	}
	if (call->state == CALL_LEADS)
		lead(group, call);
	pthread_mutex_unlock(&group->mutex);
}

int plane_pg_group_run(struct plane_pg_group *group, PGresult **rows, struct plane_error *err,
	const char *sql, const char *format, ...)
{
	struct plane_pg_call call = { .sql = sql };
	va_list args;
	va_start(args, format);
	plane_pg_values_set(&call.values, format, &args);
	va_end(args);
	pthread_cond_init(&call.changed, NULL);
	run_call(group, &call);
	pthread_cond_destroy(&call.changed);
	if (call.result < 0) {
		*err = call.error;
		return call.result;
	}
	*rows = call.rows;
	return 0;
}
