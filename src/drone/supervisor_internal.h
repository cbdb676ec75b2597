/* Shared by the files of the supervisor. */
#ifndef PLANE_DRONE_SUPERVISOR_INTERNAL_H
#define PLANE_DRONE_SUPERVISOR_INTERNAL_H

#include <uthash.h>

#include "drone/capacity.h"
#include "drone/lease.h"
#include "drone/lifecycle.h"
#include "drone/supervisor.h"

#define PLANE_GATHERED_MAX 64

struct backend {
	struct plane_supervisor *supervisor;
	char name[PLANE_NAME_SIZE];
	struct plane_life life;
	int64_t epoch;                      /* of the drone's lease that it is under; 0: `lease` */
	struct plane_lease lease;           /* of its key alone */
	bool is_unrecorded;                 /* the journal does not have this state yet */
	int64_t kill_at_ms;                 /* boot clock; 0: no soft termination goes on */
	int pending;                        /* callbacks of the runtime that will still come */
	struct plane_executable executable; /* until it is spawned */
	char **environment;
	char *key_name;
	struct plane_resources resources;     /* what it asked for */
	int64_t cpu_total_ns, measured_at_us; /* of the last metrics */
	uint64_t metrics_round;               /* the last one that it was measured in */
	bool is_restless;
	struct backend *restless_prev, *restless_next;
	UT_hash_handle hh;
};

struct plane_supervisor {
	struct plane_supervisor_config config;
	struct plane_runtime *runtime;
	struct plane_lease_keeper keeper; /* of the drone's lease */
	struct plane_capacity capacity;
	bool has_more_room; /* than was told last */
	struct backend *backends;
	struct backend
		*restless; /* also those that end: to look at while the drone's lease holds */
	uint64_t metrics_round;
	struct plane_journal_record gathered[PLANE_GATHERED_MAX];
	size_t gathered_count;
};

/** Looks at what there is for backends; supervisor_lease.c. */
void plane_supervisor_measure(struct plane_supervisor *supervisor);
/** Something about it has changed: the next ticks look at it, until it is calm. */
void plane_supervisor_mark_restless(struct backend *backend);
/** Also before it is freed. */
void plane_supervisor_mark_calm(struct backend *backend);

#endif
