/* What it means to run a backend. The drone knows only this interface; each way of running
 * (native sandboxes now, container engines later) implements it. All functions are called on the
 * loop thread, none blocks, and all callbacks come on the loop thread, never from inside the call
 * that asked for them. Strings given to a callback are valid only during it. */
#ifndef PLANE_RUNTIME_RUNTIME_H
#define PLANE_RUNTIME_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/executable.h"

/** How a backend ended. */
struct plane_runtime_exit {
	bool is_known; /* false: nobody saw it end (its shim was killed, the machine rebooted) */
	int exit_code; /* as a shell says it: 0..255, 128 + signal when a signal ended it */
	int signal;    /* 0 when it exited by itself */
	bool was_oom_killed;    /* the kernel's OOM killer ended a process of its cgroup */
	bool was_lease_expired; /* the shim killed it at the hard deadline */
	bool was_disk_hog;      /* the drone ended it: the disk was nearly full, it held most */
};

/** What a backend is started with. What it points to is borrowed until the callback. */
struct plane_runtime_spawn {
	const char *backend;                       /* validated backend name */
	const char *key_name;                      /* for `mount: true`; NULL without a key */
	const struct plane_executable *executable; /* image, limits, mount */
	const char *const *env; /* "NAME=value", NULL-terminated; over the image's */
	/* The lease of the drone that it runs under, as set_lease knows it; 0: one of its own. */
	int64_t lease;
	int64_t hard_deadline_boot_ms; /* of its own; CLOCK_BOOTTIME; the shim kills at it */
};

/** One backend found by plane_runtime_adopt. */
struct plane_runtime_found {
	const char *backend;
	const char *address; /* "ip:port" */
	bool is_running;     /* else `exit` says how it ended */
	int64_t lease;       /* as it was spawned with */
	int64_t hard_deadline_boot_ms;
	struct plane_runtime_exit exit;
};

/** Counters of one backend, as in BackendMetrics; bytes and nanoseconds. */
struct plane_runtime_metrics {
	int64_t mem_used, mem_total, mem_active, mem_inactive, mem_unevictable, mem_limit;
	int64_t cpu_total_ns; /* since the backend's start */
};

/** What there is for all backends together. */
struct plane_runtime_capacity {
	int64_t memory_total_bytes;
	int64_t memory_available_bytes; /* could be used now without swapping */
	int64_t cpu_millis;             /* thousandths of a CPU */
	int64_t load_millis;            /* load average of the last minute; -1: unknown */
};

typedef void (*plane_runtime_done_fn)(
	void *data, const struct plane_error *err); /* NULL: success */
typedef void (*plane_runtime_spawned_fn)(
	void *data, const char *address, const struct plane_error *err);
typedef void (*plane_runtime_found_fn)(void *data, const struct plane_runtime_found *found);

/** What the runtime tells the drone unasked. */
struct plane_runtime_listener {
	void *data;
	/** The backend's last process is gone and its exit is recorded. Once for each backend that
	 * was spawned with success or adopted running, whatever ended it. */
	void (*on_exit)(void *data, const char *backend, const struct plane_runtime_exit *exit);
};

struct plane_runtime {
	const struct plane_runtime_impl *impl;
};

struct plane_runtime_impl {
	/** Reports each backend left by a previous run of the drone, then takes charge of it.
	 * Called once, before any spawn. Calls back from inside (the one exception to the rule
	 * above). */
	int (*adopt)(
		struct plane_runtime *, plane_runtime_found_fn, void *data, struct plane_error *);
	/** Makes sure that the image is there and complete. -ENOENT names how to import it. */
	void (*prepare)(struct plane_runtime *, const struct plane_executable *,
		plane_runtime_done_fn, void *data);
	/** Starts the backend: success means that its command was executed. */
	void (*spawn)(struct plane_runtime *, const struct plane_runtime_spawn *,
		plane_runtime_spawned_fn, void *data);
	/** Calls back as soon as the backend answers `HEAD /` with bytes "HTTP/", with -ETIMEDOUT
	 * after `timeout_ms`, or with -ECANCELED when it ends or is forgotten before. */
	void (*wait_ready)(struct plane_runtime *, const char *backend, int64_t timeout_ms,
		plane_runtime_done_fn, void *data);
	/** Soft: SIGTERM to the backend's first process. Hard: SIGKILL of everything in the
	 * sandbox. False when the backend is not running. The end comes as on_exit. */
	bool (*terminate)(struct plane_runtime *, const char *backend, bool is_hard);
	/** Moves the deadline at which the shim kills a backend whose lease is its own. */
	void (*set_deadline)(
		struct plane_runtime *, const char *backend, int64_t hard_deadline_boot_ms);
	/** Begins a lease of the drone, or moves the deadline at which the shims kill all backends
	 * under it: one write for all. Leases are numbers from 1 on, one after the other. */
	int (*set_lease)(struct plane_runtime *, int64_t lease, int64_t hard_deadline_boot_ms,
		struct plane_error *);
	/** The deadline that was set last, by this or by a former run of the drone; 0: none known.
	 */
	int64_t (*get_lease)(struct plane_runtime *, int64_t lease);
	/** The lease is over before its time: the shims kill all backends under it now. */
	int (*end_lease)(struct plane_runtime *, int64_t lease, struct plane_error *);
	/** The drone has recorded the backend's end: its record may be forgotten, its disk freed.
	 */
	void (*forget)(struct plane_runtime *, const char *backend);
	/** False when the backend is not running. */
	bool (*metrics)(
		struct plane_runtime *, const char *backend, struct plane_runtime_metrics *);
	/** What the machine, or what limits us on it, has. Reads a few small files. */
	int (*capacity)(
		struct plane_runtime *, struct plane_runtime_capacity *, struct plane_error *);
	/** Path of the backend's log (it may not exist), copied into `path`; false when too long.
	 */
	bool (*log_path)(struct plane_runtime *, const char *backend, char *path, size_t size);
	/** Parked sandboxes are ready (or can never be: `err`). For readiness of the drone. */
	void (*when_warm)(struct plane_runtime *, plane_runtime_done_fn, void *data);
	/** Stops the runtime's own work; backends run on. Calls back when the object may be freed.
	 * A spawn that is under way is not called back: the next run of the drone finds it. */
	void (*close)(struct plane_runtime *, plane_runtime_done_fn, void *data);
	/** Like close, but first ends every backend and removes all that the instance has on the
	 * host. Calls back with an error when a backend may still run; what else cannot be removed
	 * is only logged. */
	void (*remove_all)(struct plane_runtime *, plane_runtime_done_fn, void *data);
};

#endif
