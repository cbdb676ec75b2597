/* State of the native runtime, shared by its files. Loop thread only. */
#ifndef PLANE_RUNTIME_NATIVE_NATIVE_INTERNAL_H
#define PLANE_RUNTIME_NATIVE_NATIVE_INTERNAL_H

#include "runtime/image/image.h"
#include "runtime/native/native.h"
#include "runtime/native/probe.h"
#include "runtime/native/sandbox.h"

enum native_state {
	NATIVE_FREE,
	NATIVE_MAKING,   /* a worker makes it */
	NATIVE_PARKED,   /* waits for a backend */
	NATIVE_STARTING, /* was given a backend; its command has not run yet */
	NATIVE_RUNNING,
	NATIVE_ENDED,   /* its exit is recorded; forget comes */
	NATIVE_REMOVING /* a worker removes it */
};

struct native_sandbox {
	struct plane_native *native;
	enum native_state state;
	unsigned index;
	struct plane_sandbox_parts parts;
	char *backend;
	char *address; /* "ip:port" */
	int64_t deadline_ms;
	uv_poll_t control, process;
	int open_handles;
	bool is_forgotten;
	plane_runtime_spawned_fn spawned;
	void *spawned_data;
	struct plane_probe *probe;
	plane_runtime_done_fn ready;
	void *ready_data;
	struct plane_error error; /* of the worker or of the start */
	int result;
	uv_work_t work;
};

/** Reads and writes sandboxes/<n>/record, lease and exit. */
int native_record_write(const struct native_sandbox *sandbox, struct plane_error *err);
/** Fills backend, address, pids, deadline; opens pidfd (-1 when the shim is gone). */
int native_record_read(struct native_sandbox *sandbox, struct plane_error *err);
int native_lease_write(const struct native_sandbox *sandbox, struct plane_error *err);
void native_exit_read(const struct native_sandbox *sandbox, struct plane_runtime_exit *exit);
const struct plane_sandbox_host *native_host(const struct plane_native *native);

#endif
