/* Counting the use of backends. */
#include "proxy/activity.h"

#include <pthread.h>
#include <stdlib.h>

#include <uthash.h>

#include "base/alloc.h"
#include "base/text.h"
#include "model/names.h"

struct use {
	char backend[PLANE_NAME_SIZE];
	int open;
	bool was_recent;
	UT_hash_handle hh;
};

struct plane_activity {
	pthread_mutex_t mutex;
	struct use *uses;
};

struct plane_activity *plane_activity_create(void)
{
	struct plane_activity *activity = PLANE_NEW(struct plane_activity);
	pthread_mutex_init(&activity->mutex, NULL);
	return activity;
}

void plane_activity_destroy(struct plane_activity *activity)
{
	struct use *use, *next;
	if (!activity)
		return;
	HASH_ITER (hh, activity->uses, use, next) {
		HASH_DEL(activity->uses, use);
		free(use);
	}
	pthread_mutex_destroy(&activity->mutex);
	free(activity);
}

bool plane_activity_begin(struct plane_activity *activity, const char *backend)
{
	struct use *use = NULL;
	pthread_mutex_lock(&activity->mutex);
	HASH_FIND_STR(activity->uses, backend, use);
	bool is_first = !use;
	if (is_first) {
		use = PLANE_NEW(struct use);
		(void)plane_text_copy(use->backend, sizeof(use->backend), backend);
		HASH_ADD_STR(activity->uses, backend, use);
	}
	use->open++;
	use->was_recent = true;
	pthread_mutex_unlock(&activity->mutex);
	return is_first;
}

void plane_activity_end(struct plane_activity *activity, const char *backend)
{
	struct use *use = NULL;
	pthread_mutex_lock(&activity->mutex);
	HASH_FIND_STR(activity->uses, backend, use);
	if (use && use->open > 0)
		use->open--;
	pthread_mutex_unlock(&activity->mutex);
}

void plane_activity_look(
	struct plane_activity *activity, void (*each)(void *data, const char *backend), void *data)
{
	struct use *use, *next;
	pthread_mutex_lock(&activity->mutex);
	HASH_ITER (hh, activity->uses, use, next) {
		if (use->open > 0 || use->was_recent) {
			use->was_recent = false;
			each(data, use->backend);
		} else {
			HASH_DEL(activity->uses, use);
			free(use);
		}
	}
	pthread_mutex_unlock(&activity->mutex);
}
