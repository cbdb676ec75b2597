/* The pace of notifying and reading. */
#include "controller/pace.h"

struct plane_pace_step plane_pace_next(struct plane_pace *pace, int64_t now_ms)
{
	struct plane_pace_step step = {
		.notifies = pace->has_own_news && now_ms >= pace->may_notify_at_ms,
		.reads = pace->has_others_news || now_ms >= pace->poll_at_ms,
	};
	if (step.notifies) {
		pace->has_own_news = false;
		pace->may_notify_at_ms = now_ms + PLANE_PACE_NOTIFY_MS;
	}
	if (step.reads) {
		pace->has_others_news = false;
		pace->poll_at_ms = now_ms + pace->poll_ms;
	}
	int64_t next_ms = pace->poll_at_ms;
	if (pace->has_own_news && pace->may_notify_at_ms < next_ms)
		next_ms = pace->may_notify_at_ms;
	step.wait_ms = (int)(next_ms - now_ms);
	return step;
}
