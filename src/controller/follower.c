/* The follower's thread: waits, notifies, reads, and relays. */
#include "controller/follower.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "controller/pace.h"

#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 1000

struct plane_follower {
	struct plane_store_feed *feed;
	struct plane_hub *hub;
	struct plane_metrics *metrics;
	pthread_t thread;
	int wake_fd; /* eventfd: there are own news, or it is to stop */
	atomic_bool has_own_news, is_stopping;
	struct plane_pace pace;
	int retry_ms; /* 0 while the store answers */
};

static void wake(struct plane_follower *follower)
{
	uint64_t one = 1;
	(void)!write(follower->wake_fd, &one, sizeof(one)); /* fails only when full: readable */
}

/* From any thread that published. */
static void on_published(void *data)
{
	struct plane_follower *follower = data;
	if (!atomic_exchange(&follower->has_own_news, true))
		wake(follower);
}

static void relay(
	struct plane_follower *follower, struct plane_store_event *event, int64_t asked_at_ms)
{
	struct plane_hub_event relayed = { 0 };
	memcpy(relayed.backend, event->backend, sizeof(relayed.backend));
	switch (event->kind) {
	case PLANE_STORE_EVENT_STATE:
		relayed.kind = PLANE_HUB_STATE;
		relayed.state = event->state;
		relayed.time_ms = event->time_ms;
		break;
	case PLANE_STORE_EVENT_ACTION:
		relayed.kind = PLANE_HUB_ACTION;
		memcpy(relayed.action_id, event->action_id, sizeof(relayed.action_id));
		relayed.drone_id = event->drone_id;
		relayed.asked_at_ms = asked_at_ms;
		relayed.message = STEAL(event->message);
		break;
	case PLANE_STORE_EVENT_REVOCATION:
		relayed.kind = PLANE_HUB_REVOCATION;
		relayed.user = STEAL(event->user);
		break;
	}
	plane_hub_relay(follower->hub, &relayed);
}

static int read_feed(struct plane_follower *follower, struct plane_error *err)
{
	struct plane_store_events events = { 0 };
	int64_t asked_at_ms = plane_clock_boot_ms();
	plane_metrics_add(follower->metrics, PLANE_METRIC_FEED_READS, 1);
	int result = plane_store_feed_read(follower->feed, &events, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < events.count; i++)
		relay(follower, &events.entries[i], asked_at_ms);
	plane_metrics_add(follower->metrics, PLANE_METRIC_FEED_EVENTS, (int64_t)events.count);
	if (events.has_missed) {
		plane_warn(
			"some of what happened may not have been heard of: looking at all again");
		plane_hub_relay(
			follower->hub, &(struct plane_hub_event){ .kind = PLANE_HUB_MISSED });
	}
	follower->pace.has_others_news |= events.has_more;
	plane_store_events_finish(&events);
	return 0;
}

/* What was to be done and failed is due again. */
static int turn(struct plane_follower *follower, struct plane_error *err)
{
	struct plane_pace *pace = &follower->pace;
	bool is_notified = false;
	pace->has_own_news |= atomic_load(&follower->has_own_news);
	struct plane_pace_step step = plane_pace_next(pace, plane_clock_boot_ms());
	if (step.notifies) {
		/* before the sending: what is published from now on is notified again */
		atomic_store(&follower->has_own_news, false);
		plane_metrics_add(follower->metrics, PLANE_METRIC_NOTIFICATIONS, 1);
	}
	int result = step.notifies ? plane_store_feed_notify(follower->feed, err) : 0;
	if (result < 0) {
		atomic_store(&follower->has_own_news, true);
		pace->has_others_news |= step.reads;
		return result;
	}
	if (step.reads)
		result = read_feed(follower, err);
	else
		result = plane_store_feed_wait(
			follower->feed, follower->wake_fd, step.wait_ms, &is_notified, err);
	pace->has_others_news |= is_notified || result < 0;
	return result;
}

/* The store is away: again later, unless it is time to stop. */
static void pause_after(struct plane_follower *follower, const struct plane_error *err)
{
	if (follower->retry_ms == 0)
		plane_warn("following other controllers: %s; trying on", err->message);
	follower->retry_ms = follower->retry_ms ? follower->retry_ms * 2 : RETRY_FIRST_MS;
	if (follower->retry_ms > RETRY_MAX_MS)
		follower->retry_ms = RETRY_MAX_MS;
	int64_t until_ms = plane_clock_boot_ms() + follower->retry_ms;
	int64_t left_ms;
	while (!atomic_load(&follower->is_stopping) &&
		(left_ms = until_ms - plane_clock_boot_ms()) > 0) {
		struct pollfd fd = { .fd = follower->wake_fd, .events = POLLIN };
		uint64_t count;
		if (poll(&fd, 1, (int)left_ms) > 0)
			(void)!read(follower->wake_fd, &count, sizeof(count)); /* only empties it */
	}
}

static void *run(void *data)
{
	struct plane_follower *follower = data;
	while (!atomic_load(&follower->is_stopping)) {
		struct plane_error err = { 0 };
		uint64_t count;
		(void)!read(
			follower->wake_fd, &count, sizeof(count)); /* before flags are looked at */
		if (turn(follower, &err) < 0) {
			pause_after(follower, &err);
		} else if (follower->retry_ms) {
			plane_info("following other controllers again");
			follower->retry_ms = 0;
		}
	}
	return NULL;
}

struct plane_follower *plane_follower_create(struct plane_store *store, const char *controller,
	int poll_ms, struct plane_hub *hub, struct plane_metrics *metrics, struct plane_error *err)
{
	struct plane_store_feed *feed = plane_store_feed_open(store, controller, err);
	if (!feed)
		return NULL;
	struct plane_follower *follower = PLANE_NEW(struct plane_follower);
	follower->feed = feed;
	follower->hub = hub;
	follower->metrics = metrics;
	follower->pace.poll_ms = poll_ms;
	follower->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int result = follower->wake_fd < 0
			     ? plane_error_errno(err, "make an eventfd for the follower")
			     : -pthread_create(&follower->thread, NULL, run, follower);
	if (result < 0) {
		if (follower->wake_fd >= 0)
			plane_error_set(
				err, result, "start the follower's thread: %s", strerror(-result));
		plane_closep(&follower->wake_fd);
		plane_store_feed_close(feed);
		free(follower);
		return NULL;
	}
	plane_hub_set_outlet(hub, on_published, follower);
	return follower;
}

void plane_follower_destroy(struct plane_follower *follower)
{
	if (!follower)
		return;
	plane_hub_set_outlet(follower->hub, NULL, NULL);
	atomic_store(&follower->is_stopping, true);
	wake(follower);
	(void)pthread_join(follower->thread, NULL); /* it was started */
	plane_store_feed_close(follower->feed);
	plane_closep(&follower->wake_fd);
	free(follower);
}
