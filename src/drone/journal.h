/* What a drone must still know after it was killed: its backends, events that the controller has
 * not acknowledged, its clock. A SQLite file that operators can read; tables `backend` and `event`
 * as in the original. One thread; each call is one transaction of some ten microseconds, which
 * survives the death of the process at once and a power cut after plane_journal_sync. */
#ifndef PLANE_DRONE_JOURNAL_H
#define PLANE_DRONE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/backend_state.h"
#include "model/messages.h"
#include "model/names.h"

struct plane_journal;

/** Opens or makes the file (mode 0600). -EBUSY when another drone has it. NULL on failure. */
struct plane_journal *plane_journal_open(const char *path, struct plane_error *err);
void plane_journal_close(struct plane_journal *journal);

/** Remembers the backend of an order to start it, before anything is done about it: the lease that
 * it is under, and what it asks for. */
int plane_journal_add(struct plane_journal *journal, const struct plane_drone_order *order,
	struct plane_error *err);

/** Remembers that an order is refused: once that is told, it must never be taken. */
int plane_journal_refuse(struct plane_journal *journal, const char *action_id, const char *reason,
	int64_t timestamp_ms, struct plane_error *err);
/** Was it refused, and why (cut to `size`)? */
int plane_journal_has_refused(struct plane_journal *journal, const char *action_id, char *reason,
	size_t size, bool *is_refused, struct plane_error *err);

/** A state of a backend, and the event that reports it. */
struct plane_journal_record {
	char backend[PLANE_NAME_SIZE];
	struct plane_backend_state state;
	int64_t timestamp_ms;
	int64_t event_id; /* filled in */
};
/** Records states in order, all or none. A row is made for unknown backends. */
int plane_journal_record(struct plane_journal *journal, struct plane_journal_record *records,
	size_t count, struct plane_error *err);

/** `*is_known`: the backend was here within the last hours, ended or not. */
int plane_journal_knows(struct plane_journal *journal, const char *backend, bool *is_known,
	struct plane_error *err);

/** The last state of a backend that `is_known`, as above. */
int plane_journal_find(struct plane_journal *journal, const char *backend, bool *is_known,
	struct plane_backend_state *state, struct plane_error *err);

struct plane_journal_event {
	int64_t id;
	char *backend; /* owned */
	struct plane_backend_state state;
	int64_t timestamp_ms;
};
/** The oldest events after `after_id`, at most `max`; how many there are, or negative. */
int plane_journal_events(struct plane_journal *journal, int64_t after_id,
	struct plane_journal_event *events, int max, struct plane_error *err);
/** The controller has them: forgotten, in one transaction. */
int plane_journal_events_done(
	struct plane_journal *journal, const int64_t *ids, size_t count, struct plane_error *err);

struct plane_journal_backend {
	char *name; /* owned */
	struct plane_backend_state state;
	int64_t epoch;                    /* of the drone's lease; 0: its own lease */
	struct plane_deadlines deadlines; /* as first granted */
	struct plane_resources resources; /* what it asked for */
	int64_t fencing_token;
};
/** The backends that have not ended. The caller frees names and list. */
int plane_journal_backends(struct plane_journal *journal, struct plane_journal_backend **backends,
	int *count, struct plane_error *err);

/** Forgets backends that ended before the time and whose events are acknowledged, and what was
 * refused before it. */
int plane_journal_prune(
	struct plane_journal *journal, int64_t ended_before_ms, struct plane_error *err);

/** Small values by name; "" when there is none. */
int plane_journal_get(struct plane_journal *journal, const char *name, char *value, size_t size,
	struct plane_error *err);
int plane_journal_set(struct plane_journal *journal, const char *name, const char *value,
	struct plane_error *err);

/** A descriptor of the write-ahead log: fdatasync(2) of it makes all that was written before
 *  durable. Any thread; stays valid until close. */
int plane_journal_sync_fd(const struct plane_journal *journal);

#endif
