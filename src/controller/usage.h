/* What backends use, as drones reported it of late: kept here and nowhere else. Drones of ours
 * measure only while somebody wants to know; see plane_usage_want. Any thread. */
#ifndef PLANE_CONTROLLER_USAGE_H
#define PLANE_CONTROLLER_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "model/messages.h"
#include "model/names.h"

struct plane_usage;

#define PLANE_USAGE_INTERVAL_MS 10000 /* between the reports of a drone */
#define PLANE_USAGE_WANTED_MS 60000   /* nobody asked for so long: no more of them */
#define PLANE_USAGE_FRESH_MS 30000    /* what is older is forgotten */
#define PLANE_USAGE_MAX 200000        /* backends; the oldest are forgotten */
#define PLANE_USAGE_TEXT_MAX 1000     /* backends in the text */

struct plane_usage_entry {
	struct plane_backend_use use;
	int64_t cpu_millis; /* on average between two reports; -1: there was only one */
	int64_t age_ms;
};

struct plane_usage *plane_usage_create(void);
void plane_usage_destroy(struct plane_usage *usage);

/** A report of `drone`. `now_ms` is a clock that only grows, as in all of these. */
void plane_usage_put(struct plane_usage *usage, const char *drone, const char *backend,
	const struct plane_backend_use *use, int64_t now_ms);
/** A report that tells the CPU time since the last one. */
void plane_usage_add(struct plane_usage *usage, const char *drone, const char *backend,
	const struct plane_backend_metrics *metrics, int64_t now_ms);
/** False when nothing fresh is known. */
bool plane_usage_find(struct plane_usage *usage, const char *backend, int64_t now_ms,
	struct plane_usage_entry *entry);
/** Appends what is fresh in Prometheus' text format: of those that use most memory, and how many
 * are left out. */
void plane_usage_write(struct plane_usage *usage, int64_t now_ms, struct plane_buffer *text);

/* ---- who wants to know ---- */

/** Somebody wants to know. True when drones are to be asked for reports now. */
bool plane_usage_want(struct plane_usage *usage, int64_t now_ms);
/** Is somebody's wish not over? Then a drone that connects is asked. */
bool plane_usage_is_wanted(struct plane_usage *usage, int64_t now_ms);
/** So many drones were asked; and one of them has answered. */
void plane_usage_asked(struct plane_usage *usage, int drones);
void plane_usage_answered(struct plane_usage *usage);
/** Waits for the first answers of all that were asked, which come at once, but not for long. Pool
 *  thread. */
void plane_usage_wait(struct plane_usage *usage, int64_t timeout_ms);

#endif
