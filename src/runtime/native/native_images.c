/* Which images are started at present: found without reading their records again, and put ahead of
 * the next start into parked sandboxes, in the proportion of the last starts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/native/native_internal.h"

#define SWEEP_MS 5000 /* how long an image that was removed or replaced may be kept in use */

static void drop(struct plane_native *native, size_t i)
{
	plane_image_finish(&native->images[i]);
	native->images[i] = native->images[--native->image_count];
	native->images[native->image_count] = (struct plane_image)PLANE_IMAGE_EMPTY;
}

static size_t find(const struct plane_native *native, const char *full_name)
{
	size_t i = 0;
	while (i < native->image_count && strcmp(native->images[i].name, full_name) != 0)
		i++;
	return i;
}

const struct plane_image *native_image(
	struct plane_native *native, const char *name, struct plane_error *err)
{
	struct plane_image image = PLANE_IMAGE_EMPTY;
	_cleanup_free_ char *full_name = plane_image_full_name(name, err);

	if (!full_name)
		return NULL;
	size_t i = find(native, full_name);
	if (i < native->image_count) {
		if (plane_image_is_current(native->images_dir, &native->images[i]))
			return &native->images[i];
		drop(native, i);
	}
	if (plane_image_resolve(native->images_dir, full_name, &image, err) < 0)
		return NULL;
	if (native->image_count == NATIVE_IMAGES)
		drop(native, 0);
	native->images[native->image_count] = image;
	return &native->images[native->image_count++];
}

void native_images_started(struct plane_native *native, const char *rootfs)
{
	unsigned slot = native->recent_count++ % NATIVE_RECENT;
	free(native->recent[slot]);
	native->recent[slot] = plane_strdup(rootfs);
}

void native_images_failed(struct plane_native *native, const char *rootfs)
{
	for (unsigned i = 0; i < NATIVE_RECENT; i++)
		if (native->recent[i] && strcmp(native->recent[i], rootfs) == 0)
			free(STEAL(native->recent[i]));
}

static unsigned recent_starts(const struct plane_native *native, const char *rootfs)
{
	unsigned count = 0;
	for (unsigned i = 0; i < NATIVE_RECENT; i++)
		count += native->recent[i] && (!rootfs || strcmp(native->recent[i], rootfs) == 0);
	return count;
}

/* Its share of the pool by the last starts, rounded up; a quarter of the pool stays undressed. */
static unsigned share(const struct plane_native *native, const char *rootfs)
{
	unsigned room = native->pool_size - native->pool_size / 4;
	unsigned all = recent_starts(native, NULL);
	return all ? (room * recent_starts(native, rootfs) + all - 1) / all : 0;
}

static unsigned count_dressed(const struct plane_native *native, const char *rootfs)
{
	unsigned count = 0;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		const struct native_sandbox *s = native->sandboxes[i];
		if (s && s->state == NATIVE_PARKED)
			count += rootfs ? s->rootfs && strcmp(s->rootfs, rootfs) == 0 : !s->rootfs;
	}
	return count;
}

static const struct plane_image *find_rootfs(const struct plane_native *native, const char *rootfs)
{
	for (size_t i = 0; i < native->image_count; i++)
		if (strcmp(native->images[i].rootfs_path, rootfs) == 0 &&
			plane_image_is_current(native->images_dir, &native->images[i]))
			return &native->images[i];
	return NULL;
}

/* What is missing most lately, or NULL. */
static const struct plane_image *wanted(const struct plane_native *native)
{
	for (unsigned back = 1; back <= NATIVE_RECENT; back++) {
		unsigned slot = (native->recent_count - back) % NATIVE_RECENT;
		const char *rootfs = native->recent_count >= back ? native->recent[slot] : NULL;
		if (rootfs && count_dressed(native, rootfs) < share(native, rootfs))
			return find_rootfs(native, rootfs);
	}
	return NULL;
}

void native_dress_parked(struct plane_native *native)
{
	unsigned undressed = count_dressed(native, NULL);
	const struct plane_image *image;

	while (!native->is_closing && undressed > native->pool_size / 4 &&
		(image = wanted(native))) {
		struct native_sandbox *s = native_parked(native, NULL);
		struct plane_error err = { 0 };
		undressed--;
		if (native_dress(s, image, -1, &err) < 0) {
			plane_warn("dress sandbox %u: %s", s->index, err.message);
			native_images_failed(native, image->rootfs_path);
			native_close_handles(s);
			return;
		}
	}
}

/* One that nobody wants gives its place to one that somebody does. */
static void retire_surplus(struct plane_native *native)
{
	if (native_count(native, NATIVE_MAKING) > 0 ||
		count_dressed(native, NULL) > native->pool_size / 4 || !wanted(native))
		return;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->state == NATIVE_PARKED && s->rootfs &&
			count_dressed(native, s->rootfs) > share(native, s->rootfs)) {
			native_retire(s);
			return;
		}
	}
}

static void on_sweep(uv_timer_t *timer)
{
	struct plane_native *native = timer->data;

	for (size_t i = native->image_count; i-- > 0;)
		if (!plane_image_is_current(native->images_dir, &native->images[i]))
			drop(native, i);
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->state == NATIVE_PARKED && s->rootfs &&
			!find_rootfs(native, s->rootfs)) {
			native_images_failed(native, s->rootfs);
			native_retire(s);
		}
	}
	retire_surplus(native);
	native_fill(native);
}

void native_images_open(struct plane_native *native)
{
	(void)uv_timer_init(native->loop, &native->sweep); /* both always succeed */
	native->sweep.data = native;
	(void)uv_timer_start(&native->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

void native_images_finish(struct plane_native *native)
{
	while (native->image_count > 0)
		drop(native, 0);
	for (unsigned i = 0; i < NATIVE_RECENT; i++)
		free(STEAL(native->recent[i]));
}
