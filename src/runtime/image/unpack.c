/* From libarchive's entries to a tree. */
#include "runtime/image/unpack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "runtime/image/digest.h"

#define READ_SIZE 262144
#define MAX_WARNINGS 20
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define HASH_SIZE 32

static void archive_freep(struct archive **archive)
{
	if (*archive)
		(void)archive_read_free(*archive); /* only read */
}

static int archive_fail(struct archive *archive, const char *source, struct plane_error *err)
{
	const char *text = archive_error_string(archive);
	return plane_error_set(err, EBADMSG, "%s is damaged or no archive: %s", source,
		text ? text : "it ends too early");
}

/* From the beginning: an archive is looked at and then unpacked. */
static int open_tar(int fd, const char *source, struct archive **opened, struct plane_error *err)
{
	if (lseek(fd, 0, SEEK_SET) < 0)
		return plane_error_errno(err, "read %s from its beginning", source);
	_cleanup_(archive_freep) struct archive *archive = archive_read_new();
	if (!archive || archive_read_support_filter_gzip(archive) < ARCHIVE_WARN ||
		archive_read_support_filter_bzip2(archive) < ARCHIVE_WARN ||
		archive_read_support_filter_xz(archive) < ARCHIVE_WARN ||
		archive_read_support_filter_zstd(archive) < ARCHIVE_WARN ||
		archive_read_support_format_tar(archive) < ARCHIVE_WARN)
		return plane_error_set(err, ENOMEM, "set up reading of archives");
	if (archive_read_open_fd(archive, fd, READ_SIZE) != ARCHIVE_OK)
		return archive_fail(archive, source, err);
	*opened = STEAL(archive);
	return 0;
}

static void warn(struct plane_unpack *unpack, const char *path, const char *why)
{
	if (!unpack->warn || unpack->warned++ > MAX_WARNINGS)
		return;
	_cleanup_free_ char *line = unpack->warned > MAX_WARNINGS
					    ? plane_strdup("more of the same was left out")
					    : plane_strdupf("left out %.300s: %s", path, why);
	unpack->warn(unpack->data, line);
}

static struct plane_tree_meta meta_of(struct archive_entry *entry)
{
	return (struct plane_tree_meta){ .mode = archive_entry_perm(entry),
		.uid = archive_entry_uid(entry),
		.gid = archive_entry_gid(entry),
		.mtime = { archive_entry_mtime(entry), archive_entry_mtime_nsec(entry) } };
}

/* The one extended attribute that is kept; borrowed from the entry. */
static const void *capability_of(struct archive_entry *entry, size_t *len)
{
	const char *name;
	const void *value;
	size_t size;
	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		if (name && strcmp(name, "security.capability") == 0 && size <= 64) {
			*len = size;
			return value;
		}
	}
	return NULL;
}

static int copy_content(struct plane_unpack *unpack, struct archive *archive, int fd,
	const char *path, EVP_MD_CTX *hash, struct plane_error *err)
{
	const void *block;
	size_t size;
	int64_t offset;
	for (;;) {
		int status = archive_read_data_block(archive, &block, &size, &offset);
		if (status == ARCHIVE_EOF)
			return 0;
		if (status == ARCHIVE_RETRY)
			continue;
		if (status < ARCHIVE_WARN)
			return archive_fail(archive, unpack->source, err);
		int result =
			plane_tree_write(unpack->tree, fd, block, size, (off_t)offset, path, err);
		if (result < 0)
			return result;
		if (hash)
			(void)EVP_DigestUpdate(hash, block, size); /* memory only */
	}
}

static int put_file(struct plane_unpack *unpack, struct archive *archive,
	struct archive_entry *entry, const char *path, EVP_MD_CTX *hash, struct plane_error *err)
{
	struct plane_tree_meta meta = meta_of(entry);
	size_t capability_len = 0;
	const void *capability = capability_of(entry, &capability_len);
	int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
	_cleanup_close_ int fd = plane_tree_begin_file(unpack->tree, path, err);
	if (fd < 0)
		return fd;
	int result = copy_content(unpack, archive, fd, path, hash, err);
	if (result < 0)
		return result;
	/* a hole at the end */
	if (size > 0 && (uint64_t)size <= unpack->tree->max_bytes && ftruncate(fd, size) < 0)
		return plane_error_errno(err, "set the size of %.500s", path);
	return plane_tree_end_file(
		unpack->tree, plane_steal_fd(&fd), path, &meta, capability, capability_len, err);
}

static int put_entry(struct plane_unpack *unpack, struct archive *archive,
	struct archive_entry *entry, const char *path, EVP_MD_CTX *hash, struct plane_error *err)
{
	struct plane_tree_meta meta = meta_of(entry);
	const char *target = archive_entry_hardlink(entry);
	if (target)
		return plane_tree_put_hardlink(unpack->tree, path, target, err);
	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		return put_file(unpack, archive, entry, path, hash, err);
	case AE_IFDIR:
		return plane_tree_put_directory(unpack->tree, path, &meta, err);
	case AE_IFLNK:
		target = archive_entry_symlink(entry);
		return plane_tree_put_symlink(unpack->tree, path, target ? target : "", &meta, err);
	case AE_IFIFO:
		return plane_tree_put_fifo(unpack->tree, path, &meta, err);
	case AE_IFCHR:
	case AE_IFBLK:
		warn(unpack, path, "device nodes are not taken from images");
		return 0;
	default:
		warn(unpack, path, "it is no file, directory or link");
		return 0;
	}
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static bool is_whiteout(const char *path)
{
	return plane_text_starts_with(base_name(path), WHITEOUT);
}

static int apply_whiteout(struct plane_unpack *unpack, const char *path, struct plane_error *err)
{
	const char *base = base_name(path);
	_cleanup_free_ char *directory = plane_strndup(path, (size_t)(base - path));
	if (strcmp(base, OPAQUE) == 0)
		return plane_tree_clear(unpack->tree, directory, err);
	_cleanup_free_ char *hidden = plane_strdupf("%s%s", directory, base + strlen(WHITEOUT));
	const char *name = base + strlen(WHITEOUT);
	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return plane_error_set(err, EINVAL, "%.500s removes nothing that has a name", path);
	return plane_tree_remove(unpack->tree, hidden, err);
}

/* 1: an entry with its name; 0: the end. */
static int next_entry(struct archive *archive, const char *source, struct archive_entry **entry,
	const char **path, struct plane_error *err)
{
	int status;
	do
		status = archive_read_next_header(archive, entry);
	while (status == ARCHIVE_RETRY);
	if (status == ARCHIVE_EOF)
		return 0;
	if (status < ARCHIVE_WARN)
		return archive_fail(archive, source, err);
	*path = archive_entry_pathname(*entry);
	if (!*path)
		return plane_error_set(
			err, EBADMSG, "%s has an entry whose name is not readable", source);
	return 1;
}

/* Whiteouts concern lower layers only, wherever they stand in this one: they go first. */
static int whiteout_pass(struct plane_unpack *unpack, int fd, struct plane_error *err)
{
	_cleanup_(archive_freep) struct archive *archive = NULL;
	struct archive_entry *entry;
	const char *path = NULL;
	int result = open_tar(fd, unpack->source, &archive, err);
	if (result < 0)
		return result;
	while ((result = next_entry(archive, unpack->source, &entry, &path, err)) > 0) {
		if (is_whiteout(path) && (result = apply_whiteout(unpack, path, err)) < 0)
			break;
	}
	return result;
}

int plane_unpack_tar(struct plane_unpack *unpack, int fd, struct plane_error *err)
{
	_cleanup_(archive_freep) struct archive *archive = NULL;
	struct archive_entry *entry;
	const char *path = NULL;
	int result = unpack->has_whiteouts ? whiteout_pass(unpack, fd, err) : 0;
	if (result == 0)
		result = open_tar(fd, unpack->source, &archive, err);
	while (result == 0 &&
		(result = next_entry(archive, unpack->source, &entry, &path, err)) > 0) {
		result = 0;
		if (!unpack->has_whiteouts || !is_whiteout(path))
			result = put_entry(unpack, archive, entry, path, NULL, err);
	}
	if (result < 0)
		return plane_error_prefix(err, "unpack %s", unpack->source);
	return 0;
}

int plane_unpack_look(int fd, const char *source, const char *const *names, bool *found,
	size_t count, struct plane_error *err)
{
	_cleanup_(archive_freep) struct archive *archive = NULL;
	struct archive_entry *entry;
	const char *path = NULL;
	uint64_t entries = 0;
	int result = open_tar(fd, source, &archive, err);
	if (result < 0)
		return result;
	memset(found, 0, count * sizeof(*found));
	while ((result = next_entry(archive, source, &entry, &path, err)) > 0) {
		path += plane_text_starts_with(path, "./") ? 2 : 0;
		for (size_t i = 0; i < count; i++)
			found[i] |= strcmp(path, names[i]) == 0;
		if (++entries > PLANE_TREE_MAX_ENTRIES)
			return plane_error_set(err, E2BIG, "%s has too many entries", source);
	}
	return result;
}

/* ---- directories ---- */

struct hashes {
	unsigned char *list;
	size_t count, capacity;
};

static int compare_hashes(const void *a, const void *b)
{
	return memcmp(a, b, HASH_SIZE);
}

static void add_hash(struct hashes *hashes, const unsigned char hash[HASH_SIZE])
{
	if (hashes->count == hashes->capacity) {
		hashes->capacity = hashes->capacity ? hashes->capacity * 2 : 256;
		hashes->list = plane_realloc(hashes->list, hashes->capacity * HASH_SIZE);
	}
	memcpy(hashes->list + hashes->count++ * HASH_SIZE, hash, HASH_SIZE);
}

static void hash_meta(EVP_MD_CTX *hash, struct archive_entry *entry, const char *path)
{
	const char *target = archive_entry_symlink(entry);
	_cleanup_free_ char *text = plane_strdupf("%s\n%o\n%lld:%lld\n%s\n", path,
		(unsigned)archive_entry_mode(entry), (long long)archive_entry_uid(entry),
		(long long)archive_entry_gid(entry), target ? target : "");
	(void)EVP_DigestUpdate(hash, text, strlen(text) + 1); /* memory only */
}

static int copy_entry(struct plane_unpack *unpack, struct archive *disk,
	struct archive_entry *entry, const char *path, struct hashes *hashes,
	struct plane_error *err)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(hash);
		return plane_error_set(err, ENOMEM, "hash %s", path);
	}
	hash_meta(hash, entry, path);
	int result = put_entry(unpack, disk, entry, path, hash, err);
	if (EVP_DigestFinal_ex(hash, digest, NULL) == 1)
		add_hash(hashes, digest);
	EVP_MD_CTX_free(hash);
	return result;
}

static int copy_all(struct plane_unpack *unpack, struct archive *disk, size_t prefix_len,
	struct hashes *hashes, struct plane_error *err)
{
	struct archive_entry *entry;
	const char *path = NULL;
	int result;
	while ((result = next_entry(disk, unpack->source, &entry, &path, err)) > 0) {
		(void)archive_read_disk_descend(disk); /* only where it is a directory */
		path += strlen(path) < prefix_len ? strlen(path) : prefix_len;
		result = copy_entry(unpack, disk, entry, path, hashes, err);
		if (result < 0)
			return result;
	}
	return result;
}

int plane_unpack_directory(
	struct plane_unpack *unpack, const char *path, char *digest, struct plane_error *err)
{
	_cleanup_(archive_freep) struct archive *disk = archive_read_disk_new();
	struct hashes hashes = { 0 };
	unsigned char sum[EVP_MAX_MD_SIZE];
	if (!disk || archive_read_disk_set_symlink_physical(disk) < ARCHIVE_WARN ||
		archive_read_disk_set_behavior(
			disk, ARCHIVE_READDISK_NO_TRAVERSE_MOUNTS | ARCHIVE_READDISK_NO_ACL |
				      ARCHIVE_READDISK_NO_FFLAGS) < ARCHIVE_WARN)
		return plane_error_set(err, ENOMEM, "set up reading of %s", path);
	if (archive_read_disk_open(disk, path) != ARCHIVE_OK)
		return archive_fail(disk, path, err);
	int result = copy_all(unpack, disk, strlen(path), &hashes, err);
	if (result == 0) {
		qsort(hashes.list, hashes.count, HASH_SIZE, compare_hashes);
		(void)EVP_Digest(hashes.list, hashes.count * HASH_SIZE, sum, NULL, EVP_sha256(),
			NULL); /* memory only */
		plane_digest_text(sum, digest);
	}
	free(hashes.list);
	return result < 0 ? plane_error_prefix(err, "copy %s", path) : 0;
}
