/* Entries of archives and directories, put into a tree (libarchive reads them). */
#ifndef PLANE_RUNTIME_IMAGE_UNPACK_H
#define PLANE_RUNTIME_IMAGE_UNPACK_H

#include <stdbool.h>

#include "runtime/image/tree.h"

struct plane_unpack {
	struct plane_tree *tree;
	const char *source; /* for messages */
	/** Called with warnings about what was left out. May be NULL. */
	void (*warn)(void *data, const char *line);
	void *data;
	bool has_whiteouts; /* ".wh." names remove what lower layers put there (OCI image-spec) */
	int warned;         /* so many warnings were given */
};

/** Unpacks a tar, compressed or not, from `fd` at its beginning. -EBADMSG when it is damaged. */
int plane_unpack_tar(struct plane_unpack *unpack, int fd, struct plane_error *err);

/** Copies a directory, not crossing into other file systems, and gives the digest of what it
 *  copied: `digest` has room for 72 bytes, "sha256:<hex>". */
int plane_unpack_directory(
	struct plane_unpack *unpack, const char *path, char *digest, struct plane_error *err);

/** Which of the names stand at the top of the tar? `found` has one flag for each. */
int plane_unpack_look(int fd, const char *source, const char *const *names, bool *found,
	size_t count, struct plane_error *err);

#endif
