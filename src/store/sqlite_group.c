/* One thread leads: it begins, takes what waits, writes and commits; the others sleep meanwhile. */
#include "store/sqlite_group.h"

#include <errno.h>

#include <utlist.h>

#define MEMBERS_MAX 64 /* of one transaction: it must not hold up other writers for long */

struct plane_db_member {
	int (*write)(void *data, struct plane_error *err);
	void *data;
	int result;
	struct plane_error err;
	bool is_done;
	pthread_cond_t wakeup; /* done, or there is no leader */
	struct plane_db_member *prev, *next;
};

void plane_db_group_init(struct plane_db_group *group, struct plane_db *db)
{
	*group = (struct plane_db_group){ .db = db };
	pthread_mutex_init(&group->mutex, NULL);
}

void plane_db_group_finish(struct plane_db_group *group)
{
	if (group->db)
		pthread_mutex_destroy(&group->mutex);
	group->db = NULL;
}

static struct plane_db_member *take(struct plane_db_group *group)
{
	struct plane_db_member *taken = NULL;
	for (int i = 0; i < MEMBERS_MAX && group->waiting; i++) {
		struct plane_db_member *member = group->waiting;
		DL_DELETE(group->waiting, member);
		DL_APPEND(taken, member);
	}
	return taken;
}

static void fail_all(struct plane_db_member *members, const struct plane_error *err)
{
	struct plane_db_member *member;
	DL_FOREACH (members, member) {
		member->result = err->code;
		member->err = *err;
	}
}

/* After a failure that is no constraint's, SQLite may have ended the transaction itself: nothing
 * more may be written. */
static int write_all(struct plane_db_member *members, struct plane_error *err)
{
	struct plane_db_member *member;
	DL_FOREACH (members, member) {
		member->result = member->write(member->data, &member->err);
		if (member->result < 0 && member->result != -ENOENT && member->result != -EEXIST) {
			*err = member->err;
			return member->result;
		}
	}
	return 0;
}

/* What waits is taken when the transaction has begun: until then more may come. */
static void lead(struct plane_db_group *group)
{
	struct plane_error err = { 0 };
	group->has_leader = true;
	pthread_mutex_unlock(&group->mutex);
	int result = plane_db_begin(group->db, &err);
	bool has_begun = result == 0;
	pthread_mutex_lock(&group->mutex);
	struct plane_db_member *members = take(group), *member, *next;
	pthread_mutex_unlock(&group->mutex);
	if (has_begun)
		result = plane_db_end(group->db, write_all(members, &err), &err);
	if (result < 0)
		fail_all(members, &err);
	pthread_mutex_lock(&group->mutex);
	group->has_leader = false;
	DL_FOREACH_SAFE (members, member, next) {
		member->is_done = true; /* it may be gone once the mutex is free */
		pthread_cond_signal(&member->wakeup);
	}
	if (group->waiting)
		pthread_cond_signal(&group->waiting->wakeup);
}

int plane_db_group_run(struct plane_db_group *group,
	int (*write)(void *data, struct plane_error *err), void *data, struct plane_error *err)
{
	struct plane_db_member self = {
		.write = write, .data = data, .wakeup = PTHREAD_COND_INITIALIZER
	};
	pthread_mutex_lock(&group->mutex);
	DL_APPEND(group->waiting, &self);
	while (!self.is_done) {
		if (group->has_leader)
			pthread_cond_wait(&self.wakeup, &group->mutex);
		else
			lead(group);
	}
	pthread_mutex_unlock(&group->mutex);
	pthread_cond_destroy(&self.wakeup);
	if (self.result < 0 && err)
		*err = self.err;
	return self.result;
}
