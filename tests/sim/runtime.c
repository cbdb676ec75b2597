/* Sandboxes of machines, and their shims, which outlive the drone's process: what runtime.h says,
 * with processes that exist in this program's memory only. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "runtime/native/native.h"
#include "sim.h"

#define KILL_DELAY (100 * SIM_MS) /* from the deadline until a shim's backend is gone, at most */

struct sim_lease_file {
	int64_t lease;
	int64_t deadline_ms; /* boot clock */
	struct sim_machine *machine;
	struct sim_event *timer; /* of the shims of all that are under it */
	UT_hash_handle hh;
};

/* The running backends of one key. */
struct key_runs {
	char key[64];
	struct sim_sandbox *sandboxes;
	UT_hash_handle hh;
};

struct sim_sandbox {
	char name[PLANE_NAME_SIZE], key[64], address[PLANE_ADDRESS_SIZE];
	int64_t fencing_token, lease;
	struct sim_machine *machine;
	struct sim_lease_file *file; /* its own or the drone's */
	bool is_running, is_ready, has_exited, is_exit_told;
	struct plane_runtime_exit exit;
	struct sim_event *end;          /* it ends then */
	struct runtime *runtime;        /* who hears of its end; NULL: nobody */
	plane_runtime_done_fn on_ready; /* NULL: nobody waits */
	void *ready_data;
	struct sim_event *ready;
	struct key_runs *runs;
	struct sim_sandbox *prev, *next; /* running ones of its key */
	UT_hash_handle hh, hh_running;
};

struct runtime {
	struct plane_runtime base;
	struct sim_process *process;
	struct plane_runtime_listener listener;
};

static struct sim_sandbox *running; /* of all machines, by name */
static struct key_runs *keys;

static struct sim_sandbox *find(struct sim_machine *machine, const char *name)
{
	struct sim_sandbox *sandbox = NULL;
	HASH_FIND_STR(machine->sandboxes, name, sandbox);
	return sandbox;
}

/* ---- who may act ---- */

static bool may_act(const struct sim_sandbox *sandbox)
{
	const struct sim_machine *machine = sandbox->machine;
	bool is_valid = sim_boot_us(machine) < sandbox->file->deadline_ms * SIM_MS;
	bool is_awake = !machine->is_off && !machine->owner.is_paused;
	/* on a machine that wakes, shims have only just found out what time it is */
	bool is_waking = machine->resumed_at && sim_now() - machine->resumed_at <= 2 * KILL_DELAY;
	return sandbox->is_running && is_awake && (is_valid || !is_waking);
}

void sim_check_acting(const struct sim_sandbox *sandbox)
{
	const struct sim_sandbox *other;
	if (!may_act(sandbox))
		return;
	DL_FOREACH (sandbox->runs->sandboxes, other)
		if (other != sandbox && may_act(other))
			sim_fail("two backends of %s may act: %s on %s and %s on %s", sandbox->key,
				sandbox->name, sandbox->machine->name, other->name,
				other->machine->name);
}

static void add_running(struct sim_sandbox *sandbox)
{
	HASH_FIND_STR(keys, sandbox->key, sandbox->runs);
	if (!sandbox->runs) {
		sandbox->runs = PLANE_NEW(struct key_runs);
		memcpy(sandbox->runs->key, sandbox->key, sizeof(sandbox->key));
		HASH_ADD_STR(keys, key, sandbox->runs);
	}
	DL_APPEND(sandbox->runs->sandboxes, sandbox);
	HASH_ADD(hh_running, running, name, strlen(sandbox->name), sandbox);
}

static void remove_running(struct sim_sandbox *sandbox)
{
	DL_DELETE(sandbox->runs->sandboxes, sandbox);
	HASH_DELETE(hh_running, running, sandbox);
}

static void check_machine(struct sim_machine *machine)
{
	struct sim_sandbox *sandbox, *next;
	HASH_ITER (hh, machine->sandboxes, sandbox, next)
		sim_check_acting(sandbox);
}

void sim_runtime_resumed(struct sim_machine *machine)
{
	machine->resumed_at = sim_now();
	check_machine(machine);
}

int sim_runtime_running(const struct sim_machine *machine)
{
	const struct sim_sandbox *sandbox;
	int count = 0;
	if (!machine)
		return (int)HASH_CNT(hh_running, running);
	for (sandbox = machine->sandboxes; sandbox; sandbox = sandbox->hh.next)
		count += sandbox->is_running;
	return count;
}

bool sim_runtime_is_running(const char *backend)
{
	const struct sim_sandbox *sandbox = NULL;
	HASH_FIND(hh_running, running, backend, strlen(backend), sandbox);
	return sandbox != NULL;
}

const char *sim_runtime_key_at(const char *address)
{
	const struct sim_sandbox *sandbox;
	for (sandbox = running; sandbox; sandbox = sandbox->hh_running.next)
		if (strcmp(sandbox->address, address) == 0)
			return sandbox->key;
	return NULL;
}

/* ---- the end of a sandbox ---- */

static void tell_exit(void *data)
{
	struct sim_sandbox *sandbox = data;
	struct runtime *runtime = sandbox->runtime;
	if (!runtime)
		return; /* it was closed: the next one finds it */
	if (sandbox->on_ready) {
		struct plane_error err = { 0 };
		plane_runtime_done_fn on_ready = STEAL(sandbox->on_ready);
		plane_error_set(&err, -ECANCELED, "it has ended");
		on_ready(sandbox->ready_data, &err);
	}
	sandbox->is_exit_told = true;
	struct plane_runtime_exit copy = sandbox->exit;
	char name[PLANE_NAME_SIZE];
	memcpy(name, sandbox->name, sizeof(name)); /* it may be forgotten meanwhile */
	runtime->listener.on_exit(runtime->listener.data, name, &copy);
}

static void end_sandbox(struct sim_sandbox *sandbox, const struct plane_runtime_exit *exit)
{
	if (!sandbox->is_running)
		return;
	sim_trace("%s of %s on %s ends%s", sandbox->name, sandbox->key, sandbox->machine->name,
		exit->was_lease_expired ? ": its lease is over" : "");
	sandbox->is_running = false;
	sandbox->has_exited = true;
	sandbox->exit = *exit;
	remove_running(sandbox);
	sim_cancel(sandbox->end);
	sim_cancel(sandbox->ready);
	sandbox->end = sandbox->ready = NULL;
	if (sandbox->runtime)
		(void)sim_after(&sandbox->runtime->process->owner, sim_between(10, SIM_MS),
			tell_exit, sandbox);
}

static void on_end(void *data)
{
	struct sim_sandbox *sandbox = data;
	sandbox->end = NULL;
	end_sandbox(sandbox, &(struct plane_runtime_exit){ .is_known = true, .signal = SIGTERM });
}

static void on_killed(void *data)
{
	struct sim_sandbox *sandbox = data;
	sandbox->end = NULL;
	end_sandbox(sandbox, &(struct plane_runtime_exit){ .is_known = true,
				     .exit_code = 137,
				     .signal = SIGKILL,
				     .was_lease_expired = true });
}

static void end_in(struct sim_sandbox *sandbox, int64_t delay, void (*run)(void *data))
{
	sim_cancel(sandbox->end);
	sandbox->end = sim_after(&sandbox->machine->owner, delay, run, sandbox);
}

/* The shims' timers: one event for all that have the same file. */
static void look_at_lease(void *data)
{
	struct sim_lease_file *file = data;
	int64_t left_us = file->deadline_ms * SIM_MS - sim_boot_us(file->machine);
	struct sim_sandbox *sandbox, *next;
	file->timer = NULL;
	if (sim_options.mutant == SIM_MUTANT_IDLE_SHIM)
		return;
	if (left_us > 0) {
		file->timer = sim_after(&file->machine->owner, sim_true_us(file->machine, left_us),
			look_at_lease, file);
		return;
	}
	HASH_ITER (hh, file->machine->sandboxes, sandbox, next)
		if (sandbox->file == file && sandbox->is_running)
			end_in(sandbox, sim_between(0, KILL_DELAY), on_killed);
}

/* ---- runtime.h ---- */

#define RUNTIME(base) ((struct runtime *)(base))

static int adopt(struct plane_runtime *base, plane_runtime_found_fn on_found, void *data,
	struct plane_error *err)
{
	struct runtime *runtime = RUNTIME(base);
	struct sim_sandbox *sandbox, *next;
	(void)err;
	HASH_ITER (hh, runtime->process->machine->sandboxes, sandbox, next) {
		struct plane_runtime_found found = { .backend = sandbox->name,
			.address = sandbox->address,
			.is_running = sandbox->is_running,
			.lease = sandbox->lease,
			.hard_deadline_boot_ms = sandbox->file->deadline_ms,
			.exit = sandbox->exit };
		sandbox->runtime = runtime;
		sandbox->on_ready = NULL;
		on_found(data, &found);
	}
	return 0;
}

struct prepare {
	plane_runtime_done_fn done;
	void *data;
	bool fails;
};

static void on_prepared(void *data)
{
	struct prepare prepare = *(struct prepare *)data;
	struct plane_error err = { 0 };
	free(data);
	if (prepare.fails)
		plane_error_set(&err, -ENOENT, "there is no such image");
	prepare.done(prepare.data, prepare.fails ? &err : NULL);
}

static void call_later(
	struct runtime *runtime, plane_runtime_done_fn done, void *data, bool fails, int64_t delay)
{
	struct prepare *prepare = PLANE_NEW(struct prepare);
	*prepare = (struct prepare){ done, data, fails };
	(void)sim_after(&runtime->process->owner, delay, on_prepared, prepare);
}

static void prepare(struct plane_runtime *base, const struct plane_executable *executable,
	plane_runtime_done_fn done, void *data)
{
	(void)executable;
	call_later(RUNTIME(base), done, data, sim_chance(10), sim_between(10, 200 * SIM_MS));
}

struct start {
	struct runtime *runtime;
	struct sim_machine *machine;
	char name[PLANE_NAME_SIZE], key[64];
	int64_t fencing_token, lease, deadline_ms;
	struct sim_lease_file *file;
	plane_runtime_spawned_fn done;
	void *data;
};

static void on_started(void *data)
{
	struct start *start = data;
	const struct sim_sandbox *sandbox = find(start->machine, start->name);
	struct plane_error err = { 0 };
	if (sandbox) {
		start->done(start->data, sandbox->address, NULL);
	} else {
		plane_error_set(&err, -ETIMEDOUT, "its lease is over");
		start->done(start->data, NULL, &err);
	}
	free(start);
}

static void start_sandbox(void *data)
{
	struct start *start = data;
	struct sim_machine *machine = start->machine;
	bool is_late = sim_boot_us(machine) >= start->file->deadline_ms * SIM_MS;
	if (!is_late || sim_options.mutant == SIM_MUTANT_IDLE_SHIM) {
		struct sim_sandbox *sandbox = PLANE_NEW(struct sim_sandbox);
		int number = ++machine->next_address;
		memcpy(sandbox->name, start->name, sizeof(sandbox->name));
		memcpy(sandbox->key, start->key, sizeof(sandbox->key));
		snprintf(sandbox->address, sizeof(sandbox->address), "10.%d.%d.%d:8080",
			machine->index % 256, number / 250, number % 250);
		sandbox->fencing_token = start->fencing_token;
		sandbox->lease = start->lease;
		sandbox->machine = machine;
		sandbox->file = start->file;
		sandbox->is_running = true;
		HASH_ADD_STR(machine->sandboxes, name, sandbox);
		add_running(sandbox);
		sandbox->runtime =
			sim_process_is_alive(start->runtime->process) ? start->runtime : NULL;
		sim_trace("%s of %s on %s runs, token %lld", sandbox->name, sandbox->key,
			machine->name, (long long)sandbox->fencing_token);
		sim_check_started(machine, sandbox->name, sandbox->key, sandbox->fencing_token);
		sim_check_acting(sandbox);
		if (!sandbox->file->timer)
			look_at_lease(sandbox->file);
	}
	(void)sim_after(
		&start->runtime->process->owner, sim_between(10, 20 * SIM_MS), on_started, start);
}

static int64_t fencing_token_of(const char *const *env)
{
	static const char name[] = "SESSION_BACKEND_FENCING_TOKEN=";
	for (; *env; env++)
		if (plane_text_starts_with(*env, name))
			return atoll(*env + strlen(name));
	return 0;
}

static void spawn(struct plane_runtime *base, const struct plane_runtime_spawn *spawn,
	plane_runtime_spawned_fn done, void *data)
{
	struct runtime *runtime = RUNTIME(base);
	struct sim_machine *machine = runtime->process->machine;
	struct start *start = PLANE_NEW(struct start);
	int64_t lease = spawn->lease;
	start->runtime = runtime;
	start->machine = machine;
	(void)plane_text_copy(start->name, sizeof(start->name), spawn->backend);
	(void)plane_text_copy(start->key, sizeof(start->key), spawn->key_name);
	start->fencing_token = fencing_token_of(spawn->env);
	start->lease = lease;
	start->done = done;
	start->data = data;
	if (lease)
		HASH_FIND(hh, machine->leases, &lease, sizeof(lease), start->file);
	if (!start->file) { /* none of the drone's is over, its own is */
		start->file = PLANE_NEW(struct sim_lease_file);
		start->file->machine = machine;
		start->file->deadline_ms = lease ? 0 : spawn->hard_deadline_boot_ms;
	}
	/* once begun, it starts also when the drone's process dies meanwhile - or not */
	(void)sim_after(sim_chance(500) ? &machine->owner : &runtime->process->owner,
		sim_between(SIM_MS, 100 * SIM_MS), start_sandbox, start);
}

static void on_ready(void *data)
{
	struct sim_sandbox *sandbox = data;
	plane_runtime_done_fn done = STEAL(sandbox->on_ready);
	sandbox->ready = NULL;
	sandbox->is_ready = true;
	done(sandbox->ready_data, NULL);
}

static void on_not_ready(void *data)
{
	struct sim_sandbox *sandbox = data;
	plane_runtime_done_fn done = STEAL(sandbox->on_ready);
	struct plane_error err = { 0 };
	sandbox->ready = NULL;
	plane_error_set(&err, -ETIMEDOUT, "it does not answer");
	done(sandbox->ready_data, &err);
}

static void wait_ready(struct plane_runtime *base, const char *backend, int64_t timeout_ms,
	plane_runtime_done_fn done, void *data)
{
	struct runtime *runtime = RUNTIME(base);
	struct sim_sandbox *sandbox = find(runtime->process->machine, backend);
	bool is_slow = sim_chance(20);
	if (!sandbox || !sandbox->is_running) {
		if (sandbox && !sandbox->is_exit_told) {
			sandbox->on_ready = done; /* cancelled with its exit */
			sandbox->ready_data = data;
		} else {
			call_later(runtime, done, data, true, 0);
		}
		return;
	}
	sandbox->on_ready = done;
	sandbox->ready_data = data;
	sandbox->ready = sim_after(&runtime->process->owner,
		is_slow ? timeout_ms * SIM_MS : sim_between(SIM_MS, 500 * SIM_MS),
		is_slow ? on_not_ready : on_ready, sandbox);
}

static bool terminate(struct plane_runtime *base, const char *backend, bool is_hard)
{
	struct sim_sandbox *sandbox = find(RUNTIME(base)->process->machine, backend);
	if (!sandbox || !sandbox->is_running)
		return false;
	if (is_hard)
		end_in(sandbox, sim_between(SIM_MS, 50 * SIM_MS), on_end);
	else if (sim_chance(800)) /* else it ignores that */
		end_in(sandbox, sim_between(SIM_MS, 3 * SIM_SECOND), on_end);
	return true;
}

/* A shim that waits for a later time is told of an earlier one. */
static void write_deadline(struct sim_lease_file *file, int64_t deadline_ms)
{
	struct sim_sandbox *sandbox, *next;
	bool is_earlier = deadline_ms < file->deadline_ms;
	bool was_over = sim_boot_us(file->machine) >= file->deadline_ms * SIM_MS;
	file->deadline_ms = deadline_ms;
	if (is_earlier) {
		sim_cancel(file->timer);
		look_at_lease(file);
	}
	if (!was_over)
		return; /* nobody may act who might not before */
	HASH_ITER (hh, file->machine->sandboxes, sandbox, next)
		if (sandbox->file == file)
			sim_check_acting(sandbox);
}

static void set_deadline(
	struct plane_runtime *base, const char *backend, int64_t hard_deadline_boot_ms)
{
	struct sim_machine *machine = RUNTIME(base)->process->machine;
	struct sim_sandbox *sandbox = find(machine, backend);
	if (sandbox)
		write_deadline(sandbox->file, hard_deadline_boot_ms);
}

static int set_lease(struct plane_runtime *base, int64_t lease, int64_t hard_deadline_boot_ms,
	struct plane_error *err)
{
	struct sim_machine *machine = RUNTIME(base)->process->machine;
	struct sim_lease_file *file = NULL;
	(void)err;
	HASH_FIND(hh, machine->leases, &lease, sizeof(lease), file);
	if (!file) {
		file = PLANE_NEW(struct sim_lease_file);
		file->lease = lease;
		file->machine = machine;
		HASH_ADD(hh, machine->leases, lease, sizeof(lease), file);
	}
	write_deadline(file, hard_deadline_boot_ms);
	return 0;
}

static int64_t get_lease(struct plane_runtime *base, int64_t lease)
{
	struct sim_lease_file *file = NULL;
	HASH_FIND(hh, RUNTIME(base)->process->machine->leases, &lease, sizeof(lease), file);
	return file ? file->deadline_ms : 0;
}

static int end_lease(struct plane_runtime *base, int64_t lease, struct plane_error *err)
{
	return set_lease(base, lease, 0, err);
}

static void forget(struct plane_runtime *base, const char *backend)
{
	struct sim_machine *machine = RUNTIME(base)->process->machine;
	struct sim_sandbox *sandbox = find(machine, backend);
	if (sandbox && !sandbox->is_running) {
		HASH_DEL(machine->sandboxes, sandbox);
		sandbox->runtime = NULL; /* its memory stays: an event may hold it */
	}
}

static bool metrics(
	struct plane_runtime *base, const char *backend, struct plane_runtime_metrics *values)
{
	(void)base;
	(void)backend;
	(void)values;
	return false;
}

static int capacity(
	struct plane_runtime *base, struct plane_runtime_capacity *found, struct plane_error *err)
{
	(void)base;
	(void)err;
	/* now and then there is less than was told: what was placed by that is refused */
	int64_t memory_bytes = !sim_options.is_scale && sim_chance(300) ? 1 : SIM_MEMORY_BYTES;
	*found = (struct plane_runtime_capacity){ .memory_total_bytes = memory_bytes,
		.memory_available_bytes = memory_bytes,
		.cpu_millis = 4000,
		.load_millis = -1 };
	return 0;
}

static bool log_path(struct plane_runtime *base, const char *backend, char *path, size_t size)
{
	(void)base;
	(void)backend;
	(void)path;
	(void)size;
	return false;
}

static void when_warm(struct plane_runtime *base, plane_runtime_done_fn done, void *data)
{
	call_later(RUNTIME(base), done, data, false, sim_between(SIM_MS, 200 * SIM_MS));
}

static void close_runtime(struct plane_runtime *base, plane_runtime_done_fn done, void *data)
{
	struct sim_sandbox *sandbox, *next;
	HASH_ITER (hh, RUNTIME(base)->process->machine->sandboxes, sandbox, next) {
		sandbox->runtime = NULL;
		sandbox->on_ready = NULL;
		sim_cancel(sandbox->ready);
		sandbox->ready = NULL;
	}
	call_later(RUNTIME(base), done, data, false, sim_between(10, SIM_MS));
}

static void remove_all(struct plane_runtime *base, plane_runtime_done_fn done, void *data)
{
	struct plane_runtime_exit killed = { .is_known = true, .signal = SIGKILL };
	struct sim_sandbox *sandbox, *next;
	struct sim_machine *machine = RUNTIME(base)->process->machine;
	close_runtime(base, done, data);
	HASH_ITER (hh, machine->sandboxes, sandbox, next) {
		end_sandbox(sandbox, &killed);
		HASH_DEL(machine->sandboxes, sandbox);
	}
}

static const struct plane_runtime_impl implementation = {
	.adopt = adopt,
	.prepare = prepare,
	.spawn = spawn,
	.wait_ready = wait_ready,
	.terminate = terminate,
	.set_deadline = set_deadline,
	.set_lease = set_lease,
	.get_lease = get_lease,
	.end_lease = end_lease,
	.forget = forget,
	.metrics = metrics,
	.capacity = capacity,
	.log_path = log_path,
	.when_warm = when_warm,
	.close = close_runtime,
	.remove_all = remove_all,
};

struct plane_runtime *plane_native_create(uv_loop_t *loop, const struct plane_native_config *config,
	const struct plane_runtime_listener *listener, struct plane_error *err)
{
	struct runtime *runtime = PLANE_NEW(struct runtime);
	(void)config;
	(void)err;
	runtime->base.impl = &implementation;
	runtime->process = loop->data;
	runtime->listener = *listener;
	return &runtime->base;
}

void plane_native_destroy(struct plane_runtime *runtime)
{
	(void)runtime; /* a start under way still holds it; the simulator ends with the seed */
}

/* ---- faults ---- */

void sim_runtime_process_died(struct sim_process *process)
{
	struct sim_sandbox *sandbox, *next;
	if (process->role != SIM_DRONE)
		return;
	HASH_ITER (hh, process->machine->sandboxes, sandbox, next) {
		if (!sandbox->runtime || sandbox->runtime->process != process)
			continue;
		sandbox->runtime = NULL;
		sandbox->on_ready = NULL;
		sandbox->ready = NULL; /* its event never comes */
	}
}

void sim_runtime_power_cut(struct sim_machine *machine)
{
	struct plane_runtime_exit unseen = { 0 };
	struct sim_sandbox *sandbox, *next;
	HASH_ITER (hh, machine->sandboxes, sandbox, next) {
		sandbox->runtime = NULL;
		end_sandbox(sandbox, &unseen);
		HASH_DEL(machine->sandboxes, sandbox);
	}
	machine->leases = NULL; /* nobody knows of them any more; in memory they stay */
}

void sim_runtime_crash_one(struct sim_machine *machine)
{
	struct sim_sandbox *sandbox, *next;
	size_t index = HASH_COUNT(machine->sandboxes);
	if (index == 0)
		return;
	index = (size_t)sim_below(index);
	HASH_ITER (hh, machine->sandboxes, sandbox, next)
		if (index-- == 0)
			end_in(sandbox, 0, on_end);
}
