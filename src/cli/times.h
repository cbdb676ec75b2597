/* The controller's flags about times: leases, heartbeats, when something counts as lost. */
#ifndef PLANE_CLI_TIMES_H
#define PLANE_CLI_TIMES_H

#include <stdint.h>

#include "cli/flags.h"
#include "controller/controller.h"

/** As they were given; what was not is -1. */
struct plane_time_flags {
	int64_t lease_seconds;
	int64_t lease[4];     /* renew, soft, hard, expire; milliseconds */
	int64_t key_lease[4]; /* the same in seconds */
	int64_t heartbeat_seconds, unhealthy_seconds, assume_lost_seconds;
};

#define PLANE_TIME_FLAGS_NONE                                                                      \
	{                                                                                          \
		-1, { -1, -1, -1, -1 }, { -1, -1, -1, -1 }, -1, -1, -1                             \
	}

#define PLANE_TIME_FLAG(name, target, unit, help, max)                                             \
	{                                                                                          \
		name, PLANE_FLAG_INT, &(target), unit, help, 1, max                                \
	}

/** The rows of a command's flag table, for `times`. */
#define PLANE_TIME_FLAGS(times)                                                                    \
	PLANE_TIME_FLAG("lease-seconds", (times).lease_seconds, "S",                               \
		"a lost drone's keys are free after so long (default: 10)", 86400),                \
		PLANE_TIME_FLAG("lease-renew-ms", (times).lease[0], "MS",                          \
			"a drone renews its lease so often (default: 1/5 of it)", 86400000),       \
		PLANE_TIME_FLAG("lease-soft-ms", (times).lease[1], "MS",                           \
			"without renewal it sends SIGTERM then (default: 3/5)", 86400000),         \
		PLANE_TIME_FLAG("lease-hard-ms", (times).lease[2], "MS",                           \
			"and SIGKILL then (default: 4/5)", 86400000),                              \
		PLANE_TIME_FLAG("lease-expire-ms", (times).lease[3], "MS",                         \
			"its keys are free then (default: all of it)", 86400000),                  \
		PLANE_TIME_FLAG("key-lease-renew-seconds", (times).key_lease[0], "S",              \
			"the same for drones that lease keys one by one (default: 30)", 86400),    \
		PLANE_TIME_FLAG("key-lease-soft-seconds", (times).key_lease[1], "S",               \
			"(default: 40)", 86400),                                                   \
		PLANE_TIME_FLAG("key-lease-hard-seconds", (times).key_lease[2], "S",               \
			"(default: 50)", 86400),                                                   \
		PLANE_TIME_FLAG("key-lease-expire-seconds", (times).key_lease[3], "S",             \
			"(default: 60)", 86400),                                                   \
		PLANE_TIME_FLAG("heartbeat-seconds", (times).heartbeat_seconds, "S",               \
			"it tells the store so often that it runs (default: 7)", 86400),           \
		PLANE_TIME_FLAG("unhealthy-seconds", (times).unhealthy_seconds, "S",               \
			"nodes silent for so long get no backends (default: 45)", 86400),          \
		PLANE_TIME_FLAG("assume-lost-seconds", (times).assume_lost_seconds, "S",           \
			"backends of drones that lease keys one by one are given up then "         \
			"(default: 120)",                                                          \
			86400)

/** Puts what was given into the configuration; whether the times are in order is checked when the
 *  controller starts. */
void plane_times_apply(
	const struct plane_time_flags *times, struct plane_controller_config *config);

#endif
