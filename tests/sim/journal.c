/* The drones' journals in memory. What a process writes survives its death at once, and a power cut
 * after the next sync. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/alloc.h"
#include "base/text.h"
#include "drone/journal.h"
#include "sim.h"

struct known {
	char name[PLANE_NAME_SIZE];
	struct plane_backend_state state;
	int64_t epoch, ended_at; /* ended_at 0: not ended */
	struct plane_deadlines deadlines;
	struct plane_resources resources;
	int64_t fencing_token;
	bool is_open; /* it was added, and has not ended */
	int events;
	UT_hash_handle hh;
};

struct event {
	int64_t id;
	char backend[PLANE_NAME_SIZE];
	struct plane_backend_state state;
	int64_t timestamp_ms;
	struct event *prev, *next;
};

struct refusal {
	char action_id[PLANE_NAME_SIZE], reason[128];
	int64_t timestamp_ms;
	UT_hash_handle hh;
};

struct value {
	char name[32], text[128];
	UT_hash_handle hh;
};

/* What is on a disk. */
struct sim_journal {
	struct known *backends;
	struct event *events; /* oldest first */
	int64_t last_event_id;
	struct refusal *refusals;
	struct value *values;
};

struct plane_journal {
	struct sim_machine *machine;
};

#define DISK(journal) ((journal)->machine->journal)

static void free_known(struct sim_journal *disk, struct known *known)
{
	HASH_DEL(disk->backends, known);
	free(known);
}

static void free_disk(struct sim_journal *disk)
{
	struct known *known, *next_known;
	struct event *event, *next_event;
	struct refusal *refusal, *next_refusal;
	struct value *value, *next_value;
	if (!disk)
		return;
	HASH_ITER (hh, disk->refusals, refusal, next_refusal) {
		HASH_DEL(disk->refusals, refusal);
		free(refusal);
	}
	HASH_ITER (hh, disk->backends, known, next_known)
		free_known(disk, known);
	DL_FOREACH_SAFE (disk->events, event, next_event)
		free(event);
	HASH_ITER (hh, disk->values, value, next_value) {
		HASH_DEL(disk->values, value);
		free(value);
	}
	free(disk);
}

static struct sim_journal *copy_disk(const struct sim_journal *disk)
{
	struct sim_journal *copy = PLANE_NEW(struct sim_journal);
	struct known *known, *next_known;
	struct event *event;
	struct refusal *refusal, *next_refusal;
	struct value *value, *next_value;
	HASH_ITER (hh, disk->refusals, refusal, next_refusal) {
		struct refusal *other = PLANE_NEW(struct refusal);
		*other = *refusal;
		HASH_ADD_STR(copy->refusals, action_id, other);
	}
	copy->last_event_id = disk->last_event_id;
	HASH_ITER (hh, disk->backends, known, next_known) {
		struct known *other = PLANE_NEW(struct known);
		*other = *known;
		HASH_ADD_STR(copy->backends, name, other);
	}
	DL_FOREACH (disk->events, event) {
		struct event *other = PLANE_NEW(struct event);
		*other = *event;
		DL_APPEND(copy->events, other);
	}
	HASH_ITER (hh, disk->values, value, next_value) {
		struct value *other = PLANE_NEW(struct value);
		*other = *value;
		HASH_ADD_STR(copy->values, name, other);
	}
	return copy;
}

void sim_journal_power_cut(struct sim_machine *machine)
{
	free_disk(machine->journal);
	machine->journal = machine->durable ? copy_disk(machine->durable) : NULL;
}

void sim_journal_lose(struct sim_machine *machine)
{
	free_disk(machine->journal);
	free_disk(machine->durable);
	machine->journal = machine->durable = NULL;
}

bool sim_journal_has_events(const struct sim_machine *machine)
{
	return machine->journal && machine->journal->events;
}

/* ---- drone/journal.h ---- */

struct plane_journal *plane_journal_open(const char *path, struct plane_error *err)
{
	struct plane_journal *journal = PLANE_NEW(struct plane_journal);
	(void)path;
	(void)err;
	journal->machine = sim_current()->machine;
	if (!DISK(journal))
		DISK(journal) = PLANE_NEW(struct sim_journal);
	return journal;
}

void plane_journal_close(struct plane_journal *journal)
{
	free(journal);
}

int plane_journal_sync_fd(const struct plane_journal *journal)
{
	return journal->machine->index;
}

static void sync_machine(void *data)
{
	struct sim_machine *machine = data;
	free_disk(machine->durable);
	machine->durable = machine->journal ? copy_disk(machine->journal) : NULL;
}

/* In place of fdatasync(2). */
int sim_fdatasync(int fd);
int sim_fdatasync(int fd)
{
	struct sim_machine *machine = sim_current()->machine;
	(void)fd;
	if (sim_options.mutant == SIM_MUTANT_UNSYNCED_ACK)
		(void)sim_after(&machine->owner, 5 * SIM_SECOND, sync_machine, machine);
	else if (sim_options.has_power_cuts)
		sync_machine(machine);
	return 0;
}

static struct known *find(const struct plane_journal *journal, const char *name)
{
	struct known *known = NULL;
	HASH_FIND_STR(DISK(journal)->backends, name, known);
	return known;
}

static struct known *find_or_add(struct plane_journal *journal, const char *name)
{
	struct known *known = find(journal, name);
	if (known)
		return known;
	known = PLANE_NEW(struct known);
	(void)plane_text_copy(known->name, sizeof(known->name), name); /* checked before */
	HASH_ADD_STR(DISK(journal)->backends, name, known);
	return known;
}

int plane_journal_add(struct plane_journal *journal, const struct plane_drone_order *order,
	struct plane_error *err)
{
	struct known *known = find_or_add(journal, order->backend);
	(void)err;
	known->state = (struct plane_backend_state){ .status = PLANE_SCHEDULED };
	known->epoch = order->epoch;
	known->deadlines = order->deadlines;
	known->resources = order->resources;
	known->fencing_token = order->fencing_token;
	known->is_open = true;
	return 0;
}

static void break_connection(void *data)
{
	sim_network_lose_own(data);
}

/* What it said may have arrived, and the order come once more over the next connection, before the
 * answer is stored: rare by itself, so it is made to happen. */
static void break_connection_soon(void)
{
	struct sim_process *drone = sim_current();
	int64_t delay = sim_between(0, 200 * SIM_MS);
	if (!sim_options.is_scale && sim_chance(500))
		(void)sim_after(&drone->owner, delay, break_connection, drone);
}

int plane_journal_refuse(struct plane_journal *journal, const char *action_id, const char *reason,
	int64_t timestamp_ms, struct plane_error *err)
{
	struct refusal *refusal = PLANE_NEW(struct refusal);
	(void)err;
	(void)plane_text_copy(refusal->action_id, sizeof(refusal->action_id), action_id);
	(void)plane_text_copy(refusal->reason, sizeof(refusal->reason), reason);
	refusal->timestamp_ms = timestamp_ms;
	HASH_ADD_STR(DISK(journal)->refusals, action_id, refusal);
	break_connection_soon();
	return 0;
}

int plane_journal_has_refused(struct plane_journal *journal, const char *action_id, char *reason,
	size_t size, bool *is_refused, struct plane_error *err)
{
	struct refusal *refusal = NULL;
	(void)err;
	HASH_FIND_STR(DISK(journal)->refusals, action_id, refusal);
	*is_refused = refusal && sim_options.mutant != SIM_MUTANT_FORGOTTEN_REFUSALS;
	if (*is_refused)
		(void)plane_text_copy(reason, size, refusal->reason);
	return 0;
}

int plane_journal_record(struct plane_journal *journal, struct plane_journal_record *records,
	size_t count, struct plane_error *err)
{
	(void)err;
	for (size_t i = 0; i < count; i++) {
		struct known *known = find_or_add(journal, records[i].backend);
		known->state = records[i].state;
		if (known->state.status == PLANE_TERMINATED) {
			known->is_open = false;
			known->ended_at = records[i].timestamp_ms;
		}
		records[i].event_id = ++DISK(journal)->last_event_id;
		if (sim_options.mutant == SIM_MUTANT_DROPPED_EVENTS && sim_chance(200))
			continue;
		struct event *event = PLANE_NEW(struct event);
		event->id = records[i].event_id;
		memcpy(event->backend, records[i].backend, sizeof(event->backend));
		event->state = records[i].state;
		event->timestamp_ms = records[i].timestamp_ms;
		known->events++;
		DL_APPEND(DISK(journal)->events, event);
	}
	return 0;
}

int plane_journal_knows(
	struct plane_journal *journal, const char *backend, bool *is_known, struct plane_error *err)
{
	(void)err;
	*is_known = find(journal, backend) && sim_options.mutant != SIM_MUTANT_FORGETFUL_JOURNAL;
	return 0;
}

int plane_journal_find(struct plane_journal *journal, const char *backend, bool *is_known,
	struct plane_backend_state *state, struct plane_error *err)
{
	const struct known *known = find(journal, backend);
	(void)err;
	*is_known = known != NULL;
	if (known)
		*state = known->state;
	return 0;
}

int plane_journal_events(struct plane_journal *journal, int64_t after_id,
	struct plane_journal_event *events, int max, struct plane_error *err)
{
	const struct event *event;
	int count = 0;
	(void)err;
	DL_FOREACH (DISK(journal)->events, event) {
		if (event->id <= after_id)
			continue;
		if (count == max)
			break;
		events[count++] = (struct plane_journal_event){ event->id,
			plane_strdup(event->backend), event->state, event->timestamp_ms };
	}
	return count;
}

static void forget_event(struct plane_journal *journal, int64_t id)
{
	struct event *event, *next;
	DL_FOREACH_SAFE (DISK(journal)->events, event, next) {
		if (event->id != id)
			continue;
		struct known *known = find(journal, event->backend);
		if (known)
			known->events--;
		DL_DELETE(DISK(journal)->events, event);
		free(event);
		return;
	}
}

int plane_journal_events_done(
	struct plane_journal *journal, const int64_t *ids, size_t count, struct plane_error *err)
{
	(void)err;
	for (size_t i = 0; i < count; i++)
		forget_event(journal, ids[i]);
	return 0;
}

int plane_journal_backends(struct plane_journal *journal, struct plane_journal_backend **backends,
	int *count, struct plane_error *err)
{
	struct known *known, *next;
	struct plane_journal_backend *list =
		plane_alloc_zero(HASH_COUNT(DISK(journal)->backends) + 1, sizeof(*list));
	(void)err;
	*count = 0;
	HASH_ITER (hh, DISK(journal)->backends, known, next)
		if (known->is_open)
			list[(*count)++] =
				(struct plane_journal_backend){ plane_strdup(known->name),
					known->state, known->epoch, known->deadlines,
					known->resources, known->fencing_token };
	*backends = list;
	return 0;
}

int plane_journal_prune(
	struct plane_journal *journal, int64_t ended_before_ms, struct plane_error *err)
{
	struct known *known, *next;
	(void)err;
	HASH_ITER (hh, DISK(journal)->backends, known, next)
		if (known->ended_at && known->ended_at < ended_before_ms && known->events == 0)
			free_known(DISK(journal), known);
	return 0;
}

int plane_journal_get(struct plane_journal *journal, const char *name, char *text, size_t size,
	struct plane_error *err)
{
	struct value *value = NULL;
	(void)err;
	HASH_FIND_STR(DISK(journal)->values, name, value);
	(void)plane_text_copy(text, size, value ? value->text : "");
	return 0;
}

int plane_journal_set(
	struct plane_journal *journal, const char *name, const char *text, struct plane_error *err)
{
	struct value *value = NULL;
	(void)err;
	HASH_FIND_STR(DISK(journal)->values, name, value);
	if (!value) {
		value = PLANE_NEW(struct value);
		(void)plane_text_copy(value->name, sizeof(value->name), name);
		HASH_ADD_STR(DISK(journal)->values, name, value);
	}
	(void)plane_text_copy(value->text, sizeof(value->text), text);
	return 0;
}
