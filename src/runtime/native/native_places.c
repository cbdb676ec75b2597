/* Which number, and with it which address, a new sandbox gets: the one that is free for the longest
 * time. A proxy that has not heard of a backend's end yet may still connect to its address, and the
 * kernel repeats such an attempt for seconds: it must not reach a backend of somebody else. The
 * times are in a file, since a restarted drone must not forget them. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime/native/native_internal.h"

#define REST_MS 10000 /* longer than a proxy tries to connect */

int native_places_open(struct plane_native *native, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/places", native->host.directory);
	int64_t now_ms = plane_clock_boot_ms();

	native->places_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (native->places_fd < 0)
		return plane_error_errno(err, "open %s", path);
	/* a shorter file is a new one: the rest was never used */
	if (pread(native->places_fd, native->freed_at_ms, sizeof(native->freed_at_ms), 0) < 0)
		return plane_error_errno(err, "read %s", path);
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		if (native->freed_at_ms[i] > now_ms) /* before the machine was booted */
			native->freed_at_ms[i] = 0;
	return 0;
}

int native_place_free(struct plane_native *native)
{
	int64_t oldest_ms = plane_clock_boot_ms() - REST_MS;
	int chosen = -1;
	unsigned count = plane_network_count(native->host.network);

	for (unsigned i = 0; i < count; i++) {
		if (native->sandboxes[i] || native->freed_at_ms[i] > oldest_ms ||
			(chosen >= 0 && native->freed_at_ms[i] == oldest_ms))
			continue;
		oldest_ms = native->freed_at_ms[i];
		chosen = (int)i;
	}
	return chosen;
}

bool native_place_rests(const struct plane_native *native)
{
	int64_t since_ms = plane_clock_boot_ms() - REST_MS;
	unsigned count = plane_network_count(native->host.network);

	for (unsigned i = 0; i < count; i++)
		if (!native->sandboxes[i] && native->freed_at_ms[i] > since_ms)
			return true;
	return false;
}

void native_place_freed(struct plane_native *native, unsigned index)
{
	int64_t *at_ms = &native->freed_at_ms[index];

	*at_ms = plane_clock_boot_ms();
	/* a full disk costs only what the next run of the drone would know */
	(void)!pwrite(native->places_fd, at_ms, sizeof(*at_ms), (off_t)(index * sizeof(*at_ms)));
}
