/* The image store: names of images, and one read-only tree for each content, shared by all the
 * backends that run it. Images come from files; nothing here talks to a network or runs a helper
 * program. Any number of processes may use one store at the same time.
 *
 *   <images_dir>/lock               flock: held while the index or the set of trees changes
 *   <images_dir>/index/<name>.json  one record for each name
 *   <images_dir>/trees/<digest>/    `rootfs` (the tree) and `lock` (flocked by whoever uses it)
 *   <images_dir>/tmp/<random>/      unfinished imports; what a crash left is cleaned by the next
 *
 * The directory is 0700: trees hold set-user-id files that nobody on the host may reach. A process
 * that gives up its privileges must be handed an open descriptor of the tree instead of its path.
 * A tree is never written again after its import; its files belong to ids 0..65535. */
#ifndef PLANE_RUNTIME_IMAGE_IMAGE_H
#define PLANE_RUNTIME_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/** One name with all that is needed to run it. Zeroed (with lock_fd -1) is empty and valid. */
struct plane_image {
	char *name;        /* with its tag: "echo:latest" */
	char *digest;      /* "sha256:<hex>" of what was imported: layers, archive or tree */
	char *rootfs_path; /* absolute when images_dir is */
	char **argv;       /* entrypoint + cmd, NULL-terminated, at least one word */
	char **env;        /* "NAME=value", NULL-terminated, never NULL */
	char *user;        /* as configured ("", "1000", "app:staff"); never NULL */
	char *workdir;     /* absolute path inside the tree; never NULL */
	uint32_t uid;      /* `user` looked up in the tree at import: 0..65535 */
	uint32_t gid;
	uint32_t *groups; /* supplementary groups of the user */
	size_t group_count;
	char *home; /* the user's home directory as its passwd says, else "/" */
	int64_t size_bytes;
	int64_t imported_at_ms; /* wall clock */
	/* Shared flock on the tree, or -1: while this description is open, in this process or in
	 * one that inherited it, the tree stays. Close-on-exec; no backend must inherit it. */
	int lock_fd;
	/* The record that this was read from: inode, change time (ns) and size. */
	uint64_t record_inode;
	int64_t record_changed_ns, record_size;
};

#define PLANE_IMAGE_EMPTY                                                                          \
	{                                                                                          \
		.lock_fd = -1                                                                      \
	}

/** Frees the fields and closes the lock; `image` is empty afterwards. */
void plane_image_finish(struct plane_image *image);

/**
 * Puts the missing tag: "echo" becomes "echo:latest". NULL and an error (-EINVAL) for what is no
 * image name. The caller frees it.
 */
char *plane_image_full_name(const char *name, struct plane_error *err);

/**
 * Finds the image and locks its tree against removal. Reads one small file; never waits for an
 * import. -ENOENT says how to import it and which images there are; -EINVAL for a bad name.
 */
int plane_image_resolve(const char *images_dir, const char *name, struct plane_image *image,
	struct plane_error *err);

/** Whether the name still stands for what `image` says: resolved again it would be the same. One
 * system call. */
bool plane_image_is_current(const char *images_dir, const struct plane_image *image);

#define PLANE_IMAGE_DEFAULT_MAX_BYTES ((uint64_t)20 << 30)

/** What an import is told besides its source. Zeroed is valid. All borrowed. */
struct plane_image_overrides {
	const char *const *entrypoint; /* NULL: the image's own. Given: also clears its cmd */
	const char *const *cmd;        /* NULL: the image's own */
	const char *const *env; /* "NAME=value" added to, or replacing, the image's; or NULL */
	const char *user;       /* NULL: the image's own */
	const char *workdir;    /* NULL: the image's own; "/" when it has none */
	uint64_t max_bytes;     /* of the unpacked image; 0: PLANE_IMAGE_DEFAULT_MAX_BYTES */
	/** Called with lines for the user: what is done, what was left out. May be NULL. */
	void (*progress)(void *data, bool is_warning, const char *line);
	void *progress_data;
};

/**
 * Imports `path`: a directory, a tar of a root file system (plain, gzip, bzip2, xz, zstd), an OCI
 * layout (directory or tar) or an archive of `docker save`; which one is seen from its content.
 * Replaces the name if it exists; backends that run the old image keep its tree. Makes images_dir
 * if missing. Blocks for as long as it takes; at any instant a crash leaves the store as it was.
 *
 * Contained: absolute names and links are taken relative to the image's root, and nothing is ever
 * resolved outside of it. Left out with a warning: device nodes, sockets, extended attributes
 * other than security.capability, mount points inside a source directory. Refused with -EINVAL,
 * -E2BIG or -EBADMSG, naming archive and entry: ".." in names, links to what is not there, ids
 * above 65535 (as root), anything over a limit, digests that do not match, damaged archives.
 * Without root all files belong to the caller and its directories stay writable to it.
 */
int plane_image_import(const char *images_dir, const char *name, const char *path,
	const struct plane_image_overrides *overrides, struct plane_image *image,
	struct plane_error *err);

/** All names in order; the entries carry no lock. The caller frees with plane_image_list_finish.
 * A store that does not exist yet is empty. */
int plane_image_list(const char *images_dir, struct plane_image **images, size_t *count,
	struct plane_error *err);
void plane_image_list_finish(struct plane_image *images, size_t count);

/**
 * Removes the name at once and, when no other name and no running backend needs it, the tree;
 * otherwise (`*is_tree_kept`, may be NULL) the tree goes with a later import or remove. -ENOENT.
 */
int plane_image_remove(
	const char *images_dir, const char *name, bool *is_tree_kept, struct plane_error *err);

#endif
