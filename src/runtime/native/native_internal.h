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
	NATIVE_ENDING, /* a worker waits for its last process */
	NATIVE_ENDED,  /* its exit is told; forget comes */
	NATIVE_DOOMED, /* waits for a worker that removes it */
	NATIVE_REMOVING,
	NATIVE_LEAVING /* removed but for its link, which goes with its namespace */
};

#define NATIVE_IMAGES 16
#define NATIVE_RECENT 32

struct native_sandbox {
	struct plane_native *native;
	enum native_state state;
	unsigned index;
	struct plane_sandbox_parts parts;
	char *rootfs; /* of the image it is dressed with; NULL: of none yet */
	char *backend;
	char *address;       /* "ip:port" */
	int64_t lease;       /* of the drone, that it runs under; 0: one of its own */
	int64_t deadline_ms; /* of its own lease */
	int64_t leaving_since_ms;
	uv_poll_t control, process;
	int open_handles;
	bool is_forgotten;
	bool is_disk_hog; /* it is ended for what it holds of the disk */
	plane_runtime_spawned_fn spawned;
	void *spawned_data;
	struct plane_probe *probe;
	plane_runtime_done_fn ready;
	void *ready_data;
	struct plane_error error; /* of the worker or of the start */
	int result;
	uv_work_t work;
};

struct native_waiting {
	struct native_waiting *next;
	plane_runtime_done_fn done;
	void *data;
	struct plane_error error;
};

struct plane_native {
	struct plane_runtime base;
	uv_loop_t *loop;
	struct plane_sandbox_host host;
	struct plane_runtime_listener listener;
	char id[9], boot_id[64];
	char *images_dir, *mount_base, *resolv;
	unsigned pool_size, failures;                     /* in a row, of making sandboxes */
	int64_t freed_at_ms[PLANE_NETWORK_MAX_SANDBOXES]; /* boot clock; 0: never used */
	int places_fd;
	int lease_fd; /* of the drone's lease that was set last; -1: none */
	int64_t lease;
	struct native_disk *disk;
	int64_t log_max_bytes;
	struct native_sandbox *sandboxes[PLANE_NETWORK_MAX_SANDBOXES];
	/* the images of the last starts: as found, and the trees in the order of the starts */
	struct plane_image images[NATIVE_IMAGES];
	size_t image_count;
	char *recent[NATIVE_RECENT];
	unsigned recent_count; /* in all */
	uv_timer_t sweep, leaving;
	unsigned removals;            /* under way */
	struct native_waiting *later; /* callbacks for the next turn of the loop */
	struct native_waiting *warm;
	struct native_queued *queue; /* spawns that wait for a sandbox, the oldest first */
	unsigned queued;
	uv_timer_t retry;                       /* until the pool is filled (again) */
	bool has_retry, has_sweep, has_leaving; /* timers that are not closed yet */
	uv_async_t wake;
	bool is_closing, is_removing;
	plane_runtime_done_fn closed;
	void *closed_data;
	struct plane_error pool_error;
};

/* A spawn that waits for a sandbox. */
struct native_queued {
	struct native_queued *next;
	struct plane_runtime_spawn spawn; /* its texts are borrowed until the callback */
	plane_runtime_spawned_fn spawned;
	void *data;
};

/** Makes sandboxes until enough are parked for the queue and for the pool. */
void native_fill(struct plane_native *native);
/** The pool's timer; and what waits for a sandbox gets `err` when none can be made. */
void native_pool_open(struct plane_native *native);
/** Nothing more is made; spawns that wait are refused. */
void native_pool_stop(struct plane_native *native);
/** A parked sandbox that is dressed with the tree, or with none for NULL; NULL when there is none.
 */
struct native_sandbox *native_parked(struct plane_native *native, const char *rootfs);
/** The parked sandbox that suits the backend best; NULL when none does. */
struct native_sandbox *native_choose(struct plane_native *native,
	const struct plane_runtime_spawn *spawn, const struct plane_image *image);
/** Ends a parked sandbox, so that another one is made in its place. */
void native_retire(struct native_sandbox *sandbox);
/** Tells who waits for it that the pool is warm, or why it cannot be. */
void native_tell_warm(struct plane_native *native, const struct plane_error *err);

/** Gives a parked sandbox the image's tree and, unless -1, what is mounted at /plane-data. */
int native_dress(struct native_sandbox *sandbox, const struct plane_image *image, int mount,
	struct plane_error *err);
/** Gives a parked sandbox to a backend: dresses it unless it is, and starts it. */
int native_give(struct native_sandbox *sandbox, const struct plane_runtime_spawn *spawn,
	const struct plane_image *image, struct plane_error *err);

/** The image, or NULL; valid until the next call of one of these functions. */
const struct plane_image *native_image(
	struct plane_native *native, const char *name, struct plane_error *err);
/** A backend of the image was started; or a sandbox could not be dressed with it. */
void native_images_started(struct plane_native *native, const char *rootfs);
void native_images_failed(struct plane_native *native, const char *rootfs);
/** Dresses parked sandboxes for the starts that are likely. */
void native_dress_parked(struct plane_native *native);
void native_images_open(struct plane_native *native);
void native_images_finish(struct plane_native *native);

/** The instance's range of user ids, claimed for as long as the machine runs or until released. */
int native_uids_claim(
	const char *directory, unsigned preferred, uint32_t *first_id, struct plane_error *err);
void native_uids_release(const char *directory);

/** What backends get as /etc/resolv.conf; the caller frees it. */
char *native_resolv_read(void);

/* native_disk.c */
/** Begins to look after the disk. */
void native_disk_open(struct plane_native *native);
/** A worker measures; what it uses must stay. */
bool native_disk_is_working(const struct plane_native *native);
/** Closes its timer and calls back with `data` the runtime; false when it was closed before. */
bool native_disk_close(struct plane_native *native, uv_close_cb closed);
void native_disk_destroy(struct plane_native *native);

/* native_places.c */
/** Reads what a former run of the drone knew; -1 is no open descriptor. */
int native_places_open(struct plane_native *native, struct plane_error *err);
/** The number that has been free for the longest time, or -1: all are taken or rest. */
int native_place_free(struct plane_native *native);
/** One that is free must not be used again yet. */
bool native_place_rests(const struct plane_native *native);
/** A backend's sandbox begins, or has ended, to be removed. */
void native_place_freed(struct plane_native *native, unsigned index);

/* native_lease.c */
/** Makes the lease file of a sandbox that is given to a backend. */
int native_lease_give(const struct native_sandbox *sandbox, struct plane_error *err);
/** What it says; negative when there is none. */
int native_lease_read(const struct native_sandbox *sandbox, int64_t *deadline_ms);
/** Of a backend whose lease is its own. */
void native_set_deadline(struct native_sandbox *sandbox, int64_t deadline_ms);
/* As their namesakes of the runtime. */
int native_set_lease(
	struct plane_native *native, int64_t lease, int64_t deadline_ms, struct plane_error *err);
int64_t native_get_lease(struct plane_native *native, int64_t lease);
int native_end_lease(struct plane_native *native, int64_t lease, struct plane_error *err);
/** Removes the files of all leases. */
void native_leases_remove(struct plane_native *native);

/* native_end.c */
/** The shim is gone: tells the backend's end, or that its start failed, once all of it is gone. */
void native_end(struct native_sandbox *sandbox);
/** The same, when it is known that nobody saw the end. */
void native_await_end(struct native_sandbox *sandbox);

/* native.c */
/** SIGKILL for all in the sandbox; false when its shim cannot be told. */
bool native_kill(struct native_sandbox *sandbox);
/** Calls back that all is closed, when it is. */
void native_maybe_closed(struct plane_native *native);
struct native_sandbox *native_add(struct plane_native *native, unsigned index);
unsigned native_count(const struct plane_native *native, enum native_state state);
void native_follow(struct native_sandbox *sandbox);
void native_close_handles(struct native_sandbox *sandbox);

/* native_remove.c */
/** Removes what has no handles open any more, now or when a worker is free. */
void native_start_remove(struct native_sandbox *sandbox);
void native_sandbox_free(struct native_sandbox *sandbox);
void native_removal_open(struct plane_native *native);

/* native.c */
void native_run_list(struct native_waiting **list);
/** Starts the backend in a parked sandbox and answers, or answers why not. */
void native_start(struct native_sandbox *sandbox, const struct plane_runtime_spawn *spawn,
	const struct plane_image *image, plane_runtime_spawned_fn spawned, void *data);
/** Answers a spawn later. */
void native_refuse(struct plane_native *native, plane_runtime_spawned_fn spawned, void *data,
	const struct plane_error *err);

/** Names the boot of the machine, as the kernel does. */
void native_boot_id(char id[64]);
/** Reads and writes record, lease and exit of the sandbox. */
int native_record_write(const struct native_sandbox *sandbox, struct plane_error *err);
/** Fills backend, address, pids, deadline; opens pidfd (-1 when the shim is gone). */
int native_record_read(struct native_sandbox *sandbox, struct plane_error *err);
void native_exit_read(const struct native_sandbox *sandbox, struct plane_runtime_exit *exit);
const struct plane_sandbox_host *native_host(const struct plane_native *native);

#endif
