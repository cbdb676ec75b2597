/* Where backends write: the directories of an overlay, on disk. A file system finds room for new
 * files slowly when many were removed a moment ago (ext4 looks at each inode that was freed within
 * the last minutes), so the directories of a backend that wrote nothing are kept for another one.
 */
#ifndef PLANE_RUNTIME_NATIVE_SCRATCH_H
#define PLANE_RUNTIME_NATIVE_SCRATCH_H

#include <sys/types.h>

#include "base/error.h"

/** Any thread. */
struct plane_scratch;

/** Keeps spare directories in `<directory>/spare`; those of a former run are removed. NULL on
 * failure. */
struct plane_scratch *plane_scratch_create(const char *directory, struct plane_error *err);
/** NULL is fine. */
void plane_scratch_destroy(struct plane_scratch *scratch);

/** Makes directory `path` with `upper`, `work` and `stage` in it, all empty. */
int plane_scratch_take(struct plane_scratch *scratch, const char *path, struct plane_error *err);

/**
 * Removes directory `path`, or keeps it when nothing of a backend is in it: `upper` is empty,
 * belongs to `owner` and has no attributes but the overlay's own. A missing one is fine.
 */
int plane_scratch_give_back(
	struct plane_scratch *scratch, const char *path, uid_t owner, struct plane_error *err);

/** Removes what is kept. */
int plane_scratch_remove(struct plane_scratch *scratch, struct plane_error *err);

#endif
