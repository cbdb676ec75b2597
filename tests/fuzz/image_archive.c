/* runtime/image/: any bytes as an archive to import. Whatever it says, nothing is written outside
 * of the store, a tree holds only what a tree may hold, and an import that fails leaves nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "image_world.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const directories[] = { "/source", IMAGE_WORLD_STORE, NULL };
	(void)argc;
	(void)argv;
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	jail_create(directories);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	_cleanup_free_ char *copy = fuzz_copy(bytes, len);
	if (len > 262 && memcmp(copy + 257, "ustar", 5) == 0)
		image_world_mend_tar((uint8_t *)copy, len, 0);
	jail_enter();
	jail_write(IMAGE_WORLD_SOURCE, copy, len);
	image_world_import(IMAGE_WORLD_SOURCE, true);
	jail_leave();
	return 0;
}
