/* Machines with their clocks, processes, and threads of processes as fibers: a fiber runs until it
 * waits, and then the world goes on. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/alloc.h"
#include "sim.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES ((size_t)256 << 10)

struct sim_fiber {
	ucontext_t context, *back;
	struct sim_process *process;
	void (*run)(void *data);
	void *data, *stack;
	void *fake_stack;       /* AddressSanitizer's */
	const void *back_stack; /* of who resumed it */
	size_t back_stack_bytes;
	struct sim_event *wake; /* the end of its wait */
	bool is_abandoned;
	struct sim_fiber *next_free;
};

static struct sim_process *current;
static struct sim_fiber *current_fiber, *free_fibers;

/* ---- machines ---- */

struct sim_machine *sim_machine_create(const char *name, int64_t drift_ppm)
{
	static int count;
	struct sim_machine *machine = PLANE_NEW(struct sim_machine);
	snprintf(machine->name, sizeof(machine->name), "%s", name);
	machine->index = count++;
	machine->drift_ppm = drift_ppm;
	machine->boot_offset_us = sim_between(SIM_SECOND, 1000 * SIM_SECOND);
	machine->booted_at = sim_now();
	machine->wall_offset_ms = INT64_C(1700000000000) + sim_between(-3600000, 3600000);
	return machine;
}

int64_t sim_boot_us(const struct sim_machine *machine)
{
	int64_t passed = sim_now() - machine->booted_at;
	return machine->boot_offset_us + passed + passed / 1000 * machine->drift_ppm / 1000;
}

int64_t sim_true_us(const struct sim_machine *machine, int64_t boot_us)
{
	/* rounded up, so that the machine's time has come when the event does */
	return boot_us <= 0 ? 0
			    : boot_us - boot_us / 1000 * machine->drift_ppm / 1000 +
				      boot_us / 100000 + 1000;
}

/* ---- fibers ---- */

static void leave_for(const void **stack, size_t *bytes)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(NULL, stack, bytes);
#else
	(void)stack;
	(void)bytes;
#endif
}

static void go_back(struct sim_fiber *fiber)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(
		&fiber->fake_stack, fiber->back_stack, fiber->back_stack_bytes);
#endif
	swapcontext(&fiber->context, fiber->back);
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(
		fiber->fake_stack, &fiber->back_stack, &fiber->back_stack_bytes);
#endif
}

static void run_fiber(void)
{
	struct sim_fiber *fiber = current_fiber;
	leave_for(&fiber->back_stack, &fiber->back_stack_bytes);
	for (;;) { /* a stack serves one function after another */
		fiber->run(fiber->data);
		fiber->next_free = free_fibers;
		free_fibers = fiber;
		go_back(fiber);
	}
}

static void resume(struct sim_fiber *fiber)
{
	struct sim_process *former = current;
	struct sim_fiber *former_fiber = current_fiber;
	ucontext_t here;
	current = fiber->process;
	current_fiber = fiber;
	/* it comes back here before this function returns */
	fiber->back = &here; // cppcheck-suppress autoVariables
#if defined(__SANITIZE_ADDRESS__)
	void *fake_stack = NULL;
	__sanitizer_start_switch_fiber(&fake_stack, fiber->stack, STACK_BYTES);
	swapcontext(&here, &fiber->context);
	__sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#else
	swapcontext(&here, &fiber->context);
#endif
	current = former;
	current_fiber = former_fiber;
}

static struct sim_fiber *make_fiber(void)
{
	struct sim_fiber *fiber = PLANE_NEW(struct sim_fiber);
	fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (fiber->stack == MAP_FAILED)
		abort();
	(void)getcontext(&fiber->context); /* cannot fail */
	fiber->context.uc_stack.ss_sp = fiber->stack;
	fiber->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&fiber->context, run_fiber, 0);
	return fiber;
}

static struct sim_fiber *take_fiber(void)
{
	struct sim_fiber *fiber = free_fibers;
	if (fiber)
		free_fibers = fiber->next_free;
	return fiber ? fiber : make_fiber();
}

void sim_fiber_start(struct sim_process *process, void (*run)(void *data), void *data)
{
	struct sim_fiber *fiber = take_fiber();
	fiber->process = process;
	fiber->run = run;
	fiber->data = data;
	resume(fiber);
}

struct sim_fiber *sim_fiber_current(void)
{
	if (!current_fiber)
		abort(); /* a loop's thread must not wait */
	return current_fiber;
}

static void on_wake(void *data)
{
	struct sim_fiber *fiber = data;
	fiber->wake = NULL;
	resume(fiber);
}

void sim_fiber_wait(int64_t limit)
{
	struct sim_fiber *fiber = sim_fiber_current();
	fiber->wake = limit < 0 ? NULL : sim_after(&fiber->process->owner, limit, on_wake, fiber);
	go_back(fiber);
}

void sim_fiber_wake(struct sim_fiber *fiber)
{
	sim_cancel(fiber->wake);
	fiber->wake = NULL;
	if (!fiber->is_abandoned)
		fiber->wake = sim_after(&fiber->process->owner, 0, on_wake, fiber);
}

void sim_fiber_abandon(struct sim_fiber *fiber)
{
	sim_cancel(fiber->wake);
	fiber->wake = NULL;
	fiber->is_abandoned = true;
}

void sim_sleep(int64_t delay)
{
	sim_fiber_wait(delay);
}

/* ---- processes ---- */

struct sim_process *sim_current(void)
{
	if (!current)
		abort();
	return current;
}

void sim_enter(struct sim_process *process, void (*run)(void *data), void *data)
{
	struct sim_process *former = current;
	current = process;
	run(data);
	current = former;
}

static void run_main(void *data)
{
	struct sim_process *process = data;
	process->main(process);
	process->has_ended = true;
	process->owner.is_gone = true;
	sim_trace("%s has ended", process->name);
	sim_network_process_died(process, true);
	sim_runtime_process_died(process);
}

static void start_main(void *data)
{
	struct sim_process *process = data;
	sim_fiber_start(process, run_main, process);
}

struct sim_process *sim_process_start(struct sim_machine *machine, enum sim_role role,
	const char *name, void (*main)(struct sim_process *process), void *node)
{
	struct sim_process *process = PLANE_NEW(struct sim_process);
	process->owner.parent = &machine->owner;
	process->owner.process = process;
	process->role = role;
	process->machine = machine;
	process->main = main;
	process->node = node;
	snprintf(process->name, sizeof(process->name), "%s", name);
	sim_trace("%s starts", name);
	(void)sim_after(&process->owner, sim_between(0, 20 * SIM_MS), start_main, process);
	return process;
}

void sim_process_kill(struct sim_process *process)
{
	if (!sim_process_is_alive(process))
		return;
	process->owner.is_gone = true;
	sim_trace("%s is killed", process->name);
	sim_network_process_died(process, !process->machine->is_off);
	sim_database_process_died(process);
	sim_runtime_process_died(process);
}

bool sim_process_is_alive(const struct sim_process *process)
{
	return process && !process->owner.is_gone;
}

void sim_process_signal(struct sim_process *process, int number)
{
	uv_signal_t *handle = process->signals[number == SIGINT];
	if (sim_process_is_alive(process) && handle)
		(void)sim_after(&process->owner, 0, sim_uv_give_signal, handle);
	else
		sim_process_kill(process); /* as the kernel does when nobody listens yet */
}
