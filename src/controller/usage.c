/* A map of backends, in the order in which they were reported. */
#include "controller/usage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#define ASK_AGAIN_MS (PLANE_USAGE_WANTED_MS / 2)
#define SPAN_MIN_MS 1000 /* shorter ones say little about the CPU */

struct used {
	char backend[PLANE_NAME_SIZE], drone[PLANE_NAME_SIZE];
	struct plane_backend_use use;
	int64_t updated_at_ms;
	int64_t since_ms, since_cpu_ns; /* where the span of the average begins */
	int64_t cpu_millis;
	struct used *prev, *next;
	UT_hash_handle hh;
};

struct plane_usage {
	uv_mutex_t mutex;
	uv_cond_t answered;
	struct used *map, *list;           /* the list: longest not reported first */
	int64_t wanted_at_ms, asked_at_ms; /* 0: never */
	int unanswered;                    /* -1: nobody was asked yet */
};

struct plane_usage *plane_usage_create(void)
{
	struct plane_usage *usage = PLANE_NEW(struct plane_usage);
	if (uv_mutex_init(&usage->mutex) < 0 || uv_cond_init(&usage->answered) < 0)
		abort(); /* only without memory */
	return usage;
}

static void forget(struct plane_usage *usage, struct used *used)
{
	HASH_DEL(usage->map, used);
	DL_DELETE(usage->list, used);
	free(used);
}

void plane_usage_destroy(struct plane_usage *usage)
{
	if (!usage)
		return;
	while (usage->list)
		forget(usage, usage->list);
	uv_cond_destroy(&usage->answered);
	uv_mutex_destroy(&usage->mutex);
	free(usage);
}

static void forget_old(struct plane_usage *usage, int64_t now_ms)
{
	while (usage->list && now_ms - usage->list->updated_at_ms >= PLANE_USAGE_FRESH_MS)
		forget(usage, usage->list);
}

static struct used *find(struct plane_usage *usage, const char *backend)
{
	struct used *used = NULL;
	HASH_FIND_STR(usage->map, backend, used);
	return used;
}

static struct used *find_or_add(struct plane_usage *usage, const char *backend, int64_t now_ms)
{
	struct used *used = find(usage, backend);
	if (used) {
		DL_DELETE(usage->list, used);
	} else {
		if (HASH_COUNT(usage->map) >= PLANE_USAGE_MAX)
			forget(usage, usage->list);
		used = PLANE_NEW(struct used);
		(void)plane_text_copy(used->backend, sizeof(used->backend), backend); /* checked */
		used->since_ms = now_ms;
		used->since_cpu_ns = -1;
		used->cpu_millis = -1;
		HASH_ADD_STR(usage->map, backend, used);
	}
	DL_APPEND(usage->list, used);
	return used;
}

/* A smaller number than before is that of another life. */
static void average(struct used *used, int64_t cpu_ns, int64_t now_ms)
{
	int64_t span_ms = now_ms - used->since_ms;
	if (used->since_cpu_ns >= 0 && cpu_ns >= used->since_cpu_ns && span_ms < SPAN_MIN_MS)
		return;
	used->cpu_millis = used->since_cpu_ns >= 0 && cpu_ns >= used->since_cpu_ns
				   ? (cpu_ns - used->since_cpu_ns) / (span_ms * 1000)
				   : -1;
	used->since_ms = now_ms;
	used->since_cpu_ns = cpu_ns;
}

static void put(struct plane_usage *usage, struct used *used, const char *drone,
	const struct plane_backend_use *use, int64_t now_ms)
{
	(void)plane_text_copy(used->drone, sizeof(used->drone), drone); /* checked */
	average(used, use->cpu_ns, now_ms);
	used->use = *use;
	used->updated_at_ms = now_ms;
	forget_old(usage, now_ms);
}

void plane_usage_put(struct plane_usage *usage, const char *drone, const char *backend,
	const struct plane_backend_use *use, int64_t now_ms)
{
	uv_mutex_lock(&usage->mutex);
	put(usage, find_or_add(usage, backend, now_ms), drone, use, now_ms);
	uv_mutex_unlock(&usage->mutex);
}

void plane_usage_add(struct plane_usage *usage, const char *drone, const char *backend,
	const struct plane_backend_metrics *metrics, int64_t now_ms)
{
	uv_mutex_lock(&usage->mutex);
	struct used *used = find_or_add(usage, backend, now_ms);
	struct plane_backend_use use = { .memory_bytes = metrics->mem_used,
		.memory_limit_bytes = metrics->mem_limit,
		.cpu_ns = used->use.cpu_ns + (metrics->cpu_used > 0 ? metrics->cpu_used : 0) };
	put(usage, used, drone, &use, now_ms);
	uv_mutex_unlock(&usage->mutex);
}

bool plane_usage_find(struct plane_usage *usage, const char *backend, int64_t now_ms,
	struct plane_usage_entry *entry)
{
	uv_mutex_lock(&usage->mutex);
	forget_old(usage, now_ms);
	const struct used *used = find(usage, backend);
	if (used)
		*entry = (struct plane_usage_entry){ .use = used->use,
			.cpu_millis = used->cpu_millis,
			.age_ms = now_ms - used->updated_at_ms };
	uv_mutex_unlock(&usage->mutex);
	return used != NULL;
}

/* ---- the text ---- */

static int by_memory(const void *one, const void *other)
{
	int64_t first = (*(struct used *const *)one)->use.memory_bytes;
	int64_t second = (*(struct used *const *)other)->use.memory_bytes;
	return first < second ? 1 : first > second ? -1 : 0;
}

static void head(struct plane_buffer *text, const char *name, const char *type, const char *help)
{
	plane_buffer_addf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Names need no escape: they were checked. */
static void write_entries(struct used *const *entries, size_t count, struct plane_buffer *text)
{
#define LABELS "{backend=\"%s\",drone=\"%s\"} "
	head(text, "plane_backend_memory_bytes", "gauge", "Memory that a backend uses.");
	for (size_t i = 0; i < count; i++)
		plane_buffer_addf(text, "plane_backend_memory_bytes" LABELS "%" PRId64 "\n",
			entries[i]->backend, entries[i]->drone, entries[i]->use.memory_bytes);
	head(text, "plane_backend_memory_limit_bytes", "gauge", "Its limit; 0 for none.");
	for (size_t i = 0; i < count; i++)
		plane_buffer_addf(text, "plane_backend_memory_limit_bytes" LABELS "%" PRId64 "\n",
			entries[i]->backend, entries[i]->drone, entries[i]->use.memory_limit_bytes);
	head(text, "plane_backend_cpu_seconds_total", "counter",
		"CPU time of a backend since it was started.");
	for (size_t i = 0; i < count; i++)
		plane_buffer_addf(text, "plane_backend_cpu_seconds_total" LABELS "%.3f\n",
			entries[i]->backend, entries[i]->drone,
			(double)entries[i]->use.cpu_ns / 1e9);
#undef LABELS
}

void plane_usage_write(struct plane_usage *usage, int64_t now_ms, struct plane_buffer *text)
{
	struct used *used;
	size_t count = 0;
	uv_mutex_lock(&usage->mutex);
	forget_old(usage, now_ms);
	_cleanup_free_ struct used **all =
		plane_alloc_zero(HASH_COUNT(usage->map) + 1, sizeof(struct used *));
	DL_FOREACH (usage->list, used)
		all[count++] = used;
	qsort(all, count, sizeof(struct used *), by_memory);
	size_t shown = count < PLANE_USAGE_TEXT_MAX ? count : PLANE_USAGE_TEXT_MAX;
	write_entries(all, shown, text);
	uv_mutex_unlock(&usage->mutex);
	head(text, "plane_backends_measured", "gauge", "Backends with measurements of late.");
	plane_buffer_addf(text, "plane_backends_measured %zu\n", count);
	head(text, "plane_backends_left_out", "gauge",
		"Of them, those that are not in this text: it has those that use most memory.");
	plane_buffer_addf(text, "plane_backends_left_out %zu\n", count - shown);
}

/* ---- who wants to know ---- */

static bool is_wanted(const struct plane_usage *usage, int64_t now_ms)
{
	return usage->wanted_at_ms && now_ms - usage->wanted_at_ms < PLANE_USAGE_WANTED_MS;
}

bool plane_usage_want(struct plane_usage *usage, int64_t now_ms)
{
	uv_mutex_lock(&usage->mutex);
	bool is_to_ask = !usage->asked_at_ms || now_ms - usage->asked_at_ms >= ASK_AGAIN_MS;
	if (is_to_ask && !is_wanted(usage, now_ms))
		usage->unanswered = -1; /* worth to wait for the first ones */
	usage->wanted_at_ms = now_ms;
	if (is_to_ask)
		usage->asked_at_ms = now_ms;
	uv_mutex_unlock(&usage->mutex);
	return is_to_ask;
}

bool plane_usage_is_wanted(struct plane_usage *usage, int64_t now_ms)
{
	uv_mutex_lock(&usage->mutex);
	bool result = is_wanted(usage, now_ms);
	uv_mutex_unlock(&usage->mutex);
	return result;
}

void plane_usage_asked(struct plane_usage *usage, int drones)
{
	uv_mutex_lock(&usage->mutex);
	if (usage->unanswered < 0) {
		usage->unanswered = drones;
		uv_cond_broadcast(&usage->answered);
	}
	uv_mutex_unlock(&usage->mutex);
}

void plane_usage_answered(struct plane_usage *usage)
{
	uv_mutex_lock(&usage->mutex);
	if (usage->unanswered > 0 && --usage->unanswered == 0)
		uv_cond_broadcast(&usage->answered);
	uv_mutex_unlock(&usage->mutex);
}

void plane_usage_wait(struct plane_usage *usage, int64_t timeout_ms)
{
	uint64_t now_ns = uv_hrtime(), until_ns = now_ns + (uint64_t)timeout_ms * 1000000;
	uv_mutex_lock(&usage->mutex);
	while (usage->unanswered != 0 && (now_ns = uv_hrtime()) < until_ns)
		(void)uv_cond_timedwait(&usage->answered, &usage->mutex, until_ns - now_ns);
	uv_mutex_unlock(&usage->mutex);
}
