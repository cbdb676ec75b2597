/* Keeps a reserve of the disk free: looks four times a second, and when there is less, removes logs
 * of ended backends, then ends the backend that holds the most. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/native/disk.h"
#include "runtime/native/native_internal.h"

#define LOOK_MS 250
#define AGAIN_MS 5000 /* after nobody was found to blame */

/* What a worker needs to know, and what it finds. */
struct native_disk {
	uv_timer_t timer;
	uv_work_t work;
	struct plane_native *native;
	bool is_working;
	char *backends[PLANE_NETWORK_MAX_SANDBOXES]; /* NULL: nothing that could be ended */
	bool is_wanted[PLANE_NETWORK_MAX_SANDBOXES];
	struct plane_disk_use uses[PLANE_NETWORK_MAX_SANDBOXES];
	int64_t logs_freed;
	int chosen;
};

static bool is_kept(void *data, const char *backend)
{
	const struct native_disk *disk = data;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		if (disk->backends[i] && strcmp(disk->backends[i], backend) == 0)
			return true;
	return false;
}

static void look_work(uv_work_t *work)
{
	struct native_disk *disk = work->data;
	const struct plane_sandbox_host *host = &disk->native->host;
	_cleanup_free_ char *logs = plane_strdupf("%s/logs", host->directory);
	struct plane_disk_room room;

	disk->chosen = -1;
	if (plane_disk_room_read(host->directory, &room, NULL) < 0)
		return;
	disk->logs_freed = plane_disk_remove_logs(
		logs, plane_disk_reserve(&room) - room.free_bytes, is_kept, disk);
	if (plane_disk_room_read(host->directory, &room, NULL) < 0 || !plane_disk_is_short(&room))
		return;
	memset(disk->uses, 0, sizeof(disk->uses));
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		_cleanup_free_ char *path = plane_sandbox_disk(host, i);
		if (disk->is_wanted[i])
			plane_disk_measure_tree(path, &disk->uses[i]);
	}
	plane_disk_measure_open(
		host->first_id, disk->is_wanted, disk->uses, PLANE_NETWORK_MAX_SANDBOXES);
	disk->chosen = plane_disk_choose(&room, disk->uses, PLANE_NETWORK_MAX_SANDBOXES);
}

static void end_chosen(struct native_disk *disk)
{
	struct native_sandbox *s = disk->native->sandboxes[disk->chosen];
	const char *backend = disk->backends[disk->chosen];
	/* it may have ended meanwhile */
	if (!s || !s->backend || strcmp(s->backend, backend) != 0 || s->state != NATIVE_RUNNING)
		return;
	plane_warn_backend(backend, "is ended: the disk is nearly full and it holds %lld MiB of it",
		(long long)(disk->uses[disk->chosen].bytes >> 20));
	s->is_disk_hog = true;
	(void)native_kill(s); /* or it ends by itself in this moment */
}

static void on_timer(uv_timer_t *timer);

static void look_done(uv_work_t *work, int status)
{
	struct native_disk *disk = work->data;
	struct plane_native *native = disk->native;
	(void)status; /* never cancelled */
	disk->is_working = false;
	if (disk->logs_freed > 0)
		plane_warn("the disk is nearly full: removed %lld MiB of logs of ended backends",
			(long long)(disk->logs_freed >> 20));
	if (disk->chosen >= 0 && !native->is_closing)
		end_chosen(disk);
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		free(STEAL(disk->backends[i]));
	if (!native->is_closing)
		(void)uv_timer_start(&disk->timer, on_timer,
			disk->chosen >= 0 || disk->logs_freed > 0 ? LOOK_MS : AGAIN_MS, LOOK_MS);
	native_maybe_closed(native);
}

static void on_timer(uv_timer_t *timer)
{
	struct native_disk *disk = timer->data;
	struct plane_native *native = disk->native;
	struct plane_disk_room room;

	if (disk->is_working || plane_disk_room_read(native->host.directory, &room, NULL) < 0 ||
		!plane_disk_is_short(&room))
		return;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		if (native->sandboxes[i] && native->sandboxes[i]->is_disk_hog)
			return; /* what it holds is being freed */
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		const struct native_sandbox *s = native->sandboxes[i];
		disk->is_wanted[i] = s && s->state == NATIVE_RUNNING;
		disk->backends[i] = s && s->backend ? plane_strdup(s->backend) : NULL;
	}
	disk->logs_freed = 0;
	disk->is_working = true;
	disk->work.data = disk;
	(void)uv_queue_work(native->loop, &disk->work, look_work, look_done); /* succeeds */
}

void native_disk_open(struct plane_native *native)
{
	struct native_disk *disk = PLANE_NEW(struct native_disk);
	disk->native = native;
	native->disk = disk;
	(void)uv_timer_init(native->loop, &disk->timer); /* both always succeed */
	disk->timer.data = disk;
	(void)uv_timer_start(&disk->timer, on_timer, LOOK_MS, LOOK_MS);
}

bool native_disk_is_working(const struct plane_native *native)
{
	return native->disk && native->disk->is_working;
}

bool native_disk_close(struct plane_native *native, uv_close_cb closed)
{
	if (!native->disk || uv_is_closing((uv_handle_t *)&native->disk->timer))
		return false;
	native->disk->timer.data = native; /* as the runtime's other handles have it */
	uv_close((uv_handle_t *)&native->disk->timer, closed);
	return true;
}

void native_disk_destroy(struct plane_native *native)
{
	free(STEAL(native->disk));
}
