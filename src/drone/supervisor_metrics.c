/* What backends use, for who asks. */
#include <unistd.h>

#include "base/clock.h"
#include "drone/supervisor_internal.h"

struct plane_supervisor_counts plane_supervisor_count(const struct plane_supervisor *supervisor)
{
	const struct backend *backend;
	int64_t ending = 0;
	for (backend = supervisor->restless; backend; backend = backend->restless_next)
		ending += backend->life.state.status >= PLANE_TERMINATING;
	return (struct plane_supervisor_counts){
		.running = (int64_t)HASH_COUNT(supervisor->backends) - ending, .ending = ending
	};
}

/* What a backend without a limit may use: messages say this, as container engines do. */
static int64_t machine_memory_bytes(void)
{
	return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static bool measure(struct backend *backend, struct plane_backend_metrics *metrics)
{
	struct plane_runtime *runtime = backend->supervisor->runtime;
	struct plane_runtime_metrics now;
	if (!backend->life.is_running || !runtime->impl->metrics(runtime, backend->name, &now))
		return false;
	int64_t now_us = plane_clock_monotonic_us();
	bool has_last = backend->measured_at_us != 0;
	int64_t span_us = now_us - backend->measured_at_us;
	*metrics = (struct plane_backend_metrics){ .mem_used = now.mem_used,
		.mem_total = now.mem_total,
		.mem_active = now.mem_active,
		.mem_inactive = now.mem_inactive,
		.mem_unevictable = now.mem_unevictable,
		.mem_limit = now.mem_limit ? now.mem_limit : machine_memory_bytes(),
		.cpu_used = now.cpu_total_ns - backend->cpu_total_ns,
		.sys_cpu = span_us * 1000 * sysconf(_SC_NPROCESSORS_ONLN) };
	backend->cpu_total_ns = now.cpu_total_ns;
	backend->measured_at_us = now_us;
	return has_last && metrics->cpu_used >= 0;
}

void plane_supervisor_metrics(struct plane_supervisor *supervisor,
	void (*each)(void *data, const char *backend, const struct plane_backend_metrics *metrics),
	void *data)
{
	struct backend *backend, *next;
	struct plane_backend_metrics metrics;
	HASH_ITER (hh, supervisor->backends, backend, next)
		if (measure(backend, &metrics))
			each(data, backend->name, &metrics);
}

void plane_supervisor_uses_begin(struct plane_supervisor *supervisor)
{
	supervisor->metrics_round++;
}

size_t plane_supervisor_uses(struct plane_supervisor *supervisor, size_t max,
	void (*each)(void *data, const char *backend, const struct plane_backend_use *use),
	void *data)
{
	struct plane_runtime *runtime = supervisor->runtime;
	struct plane_runtime_metrics now;
	struct backend *backend, *next;
	size_t count = 0;
	HASH_ITER (hh, supervisor->backends, backend, next) {
		if (backend->metrics_round == supervisor->metrics_round)
			continue;
		if (count == max)
			break;
		backend->metrics_round = supervisor->metrics_round;
		if (!backend->life.is_running ||
			!runtime->impl->metrics(runtime, backend->name, &now))
			continue;
		struct plane_backend_use use = { now.mem_used, now.mem_limit, now.cpu_total_ns };
		each(data, backend->name, &use);
		count++;
	}
	return count;
}
