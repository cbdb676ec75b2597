/* How much memory and CPU there is for sandboxes: of the machine, of the cgroups that they are in,
 * of the CPUs that this process may use. */
#ifndef PLANE_RUNTIME_NATIVE_MACHINE_H
#define PLANE_RUNTIME_NATIVE_MACHINE_H

#include "base/error.h"
#include "runtime/native/cgroup.h"
#include "runtime/runtime.h"

/** Where to look. */
struct plane_machine_places {
	const char *proc;         /* NULL: /proc */
	const char *memory_group; /* directory that all sandboxes are below, with memory's files */
	const char *cpu_group;    /* the same, with cpu's; with v2 the same directory */
	enum plane_cgroup_version version;
	int cpu_count; /* 0: those that this process may run on */
};

/** Limits of groups further up count too; what cannot be read is no limit. Fails without
 *  /proc/meminfo. Any thread; reads a few small files. */
int plane_machine_read(const struct plane_machine_places *places,
	struct plane_runtime_capacity *capacity, struct plane_error *err);
/** The same for all sandboxes of an instance. */
int plane_cgroups_capacity(const struct plane_cgroups *cgroups,
	struct plane_runtime_capacity *capacity, struct plane_error *err);

#endif
