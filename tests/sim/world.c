/* Virtual time, chance, and the order of events. */
#include <stdlib.h>

#include "base/alloc.h"
#include "sim.h"

struct sim_event {
	int64_t at, number; /* two at the same time come in the order of their making */
	struct sim_owner *owner;
	void (*run)(void *data); /* NULL: cancelled */
	void *data;
	struct sim_event *next; /* deferred */
};

static struct {
	uint64_t chance;
	int64_t now, events_made, events_run;
	struct sim_event **heap;
	size_t count, room;
} world;

/* ---- chance: SplitMix64 ---- */

void sim_seed(uint64_t seed)
{
	world.chance = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static uint64_t draw(void)
{
	uint64_t z = world.chance += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t bound)
{
	return draw() % bound; /* far below 2^64: as good as uniform */
}

int64_t sim_between(int64_t least, int64_t most)
{
	return least + (int64_t)sim_below((uint64_t)(most - least) + 1);
}

bool sim_chance(unsigned permille)
{
	return sim_below(1000) < permille;
}

/* ---- the queue: a binary heap ---- */

static bool is_before(const struct sim_event *one, const struct sim_event *two)
{
	return one->at != two->at ? one->at < two->at : one->number < two->number;
}

static void swap(size_t one, size_t two)
{
	struct sim_event *event = world.heap[one];
	world.heap[one] = world.heap[two];
	world.heap[two] = event;
}

static void push(struct sim_event *event)
{
	if (world.count == world.room) {
		world.room = world.room ? world.room * 2 : 1024;
		world.heap = plane_realloc(world.heap, world.room * sizeof(struct sim_event *));
	}
	size_t at = world.count++;
	world.heap[at] = event;
	for (; at > 0 && is_before(world.heap[at], world.heap[(at - 1) / 2]); at = (at - 1) / 2)
		swap(at, (at - 1) / 2);
}

static struct sim_event *pop(void)
{
	struct sim_event *first = world.heap[0];
	world.heap[0] = world.heap[--world.count];
	for (size_t at = 0;;) {
		size_t least = at, child = 2 * at + 1;
		for (size_t i = child; i < child + 2 && i < world.count; i++)
			if (is_before(world.heap[i], world.heap[least]))
				least = i;
		if (least == at)
			return first;
		swap(at, least);
		at = least;
	}
}

int64_t sim_now(void)
{
	return world.now;
}

int64_t sim_event_count(void)
{
	return world.events_run;
}

struct sim_event *sim_after(
	struct sim_owner *owner, int64_t delay, void (*run)(void *data), void *data)
{
	struct sim_event *event = PLANE_NEW(struct sim_event);
	event->at = world.now + (delay > 0 ? delay : 0);
	event->number = ++world.events_made;
	event->owner = owner;
	event->run = run;
	event->data = data;
	push(event);
	return event;
}

void sim_cancel(struct sim_event *event)
{
	if (event)
		event->run = NULL;
}

/* ---- owners ---- */

static bool is_gone(const struct sim_owner *owner)
{
	return owner && (owner->is_gone || is_gone(owner->parent));
}

static bool is_paused(const struct sim_owner *owner)
{
	return owner && (owner->is_paused || is_paused(owner->parent));
}

void sim_pause(struct sim_owner *owner)
{
	owner->is_paused = true;
}

/* What has waited comes now, in its order. Those of its children find out by themselves: their
 * events are deferred at the parent. */
void sim_resume(struct sim_owner *owner)
{
	struct sim_event *event = owner->deferred;
	owner->is_paused = false;
	owner->deferred = owner->deferred_last = NULL;
	while (event) {
		struct sim_event *next = event->next;
		event->next = NULL;
		event->at = world.now;
		event->number = ++world.events_made;
		push(event);
		event = next;
	}
}

/* At the one of its owners that stands still. */
static void defer(struct sim_event *event)
{
	struct sim_owner *owner = event->owner;
	while (!owner->is_paused)
		owner = owner->parent;
	if (owner->deferred_last)
		owner->deferred_last->next = event;
	else
		owner->deferred = event;
	owner->deferred_last = event;
}

void sim_run_until(int64_t time)
{
	while (world.count && world.heap[0]->at <= time) {
		struct sim_event *event = pop();
		world.now = event->at > world.now ? event->at : world.now;
		if (event->run && !is_gone(event->owner) && is_paused(event->owner)) {
			defer(event);
			continue;
		}
		if (event->run && !is_gone(event->owner)) {
			world.events_run++;
			void (*run)(void *data) = event->run;
			event->run = NULL;
			if (event->owner && event->owner->process)
				sim_enter(event->owner->process, run, event->data);
			else
				run(event->data);
		}
		free(event);
	}
	world.now = time;
}
