/* Which backends are in use: those with a request or a tunnel open, or that had one since the last
 * look. Any thread; one mutex inside. */
#ifndef PLANE_PROXY_ACTIVITY_H
#define PLANE_PROXY_ACTIVITY_H

#include <stdbool.h>

struct plane_activity;

struct plane_activity *plane_activity_create(void);
void plane_activity_destroy(struct plane_activity *activity);

/** A request or tunnel begins. True when the backend was not in use: its first sight. */
bool plane_activity_begin(struct plane_activity *activity, const char *backend);
void plane_activity_end(struct plane_activity *activity, const char *backend);

/** Calls `each` for the backends in use since the last look, and forgets those that are not. */
void plane_activity_look(
	struct plane_activity *activity, void (*each)(void *data, const char *backend), void *data);

#endif
