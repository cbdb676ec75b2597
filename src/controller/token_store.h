/* Token files on the disk: read, and changed so that neither a crash nor a second writer loses an
 * entry. A change keeps every other line, comments too, and the file's owner and permissions. */
#ifndef PLANE_CONTROLLER_TOKEN_STORE_H
#define PLANE_CONTROLLER_TOKEN_STORE_H

#include "controller/token_file.h"

/**
 * Reads and parses. Refused besides what the parser refuses: a file that others may read, or a
 * group or others may write. A path "fd:N" is an open descriptor.
 */
int plane_token_store_read(
	const char *path, struct plane_token_file *file, struct plane_error *err);

/** Adds an entry (without `begin`, `end`, `id`); makes the file, mode 0600, when there is none.
 *  -EEXIST when its name or credential stands there already. On the disk when this returns. */
int plane_token_store_add(
	const char *path, const struct plane_token_entry *entry, struct plane_error *err);

/** Removes the entry; -ENOENT when there is none of this name. On the disk when this returns. */
int plane_token_store_remove(const char *path, const char *name, struct plane_error *err);

#endif
