/* Ranges of user ids on the host: one for each instance, so that backends of two instances never
 * share an id. A claim is a file below /run, which lives until the machine is booted anew, as long
 * as backends can. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/native/native_internal.h"
#include "runtime/native/process.h"
#include "runtime/native/shim/protocol.h"

#define CLAIMS "/run/plane/uids"
#define SLOTS 24u
#define FIRST 0x10000000u /* above what users, subordinate ids and systemd take */
#define SLOT_IDS (1024u * PLANE_SHIM_IDS)

static char *claim_path(unsigned slot)
{
	return plane_strdupf(CLAIMS "/%u", slot);
}

static int lock_claims(struct plane_error *err)
{
	/* open to others: the controller's state is mounted beside */
	int result = plane_file_make_directories("/run/plane", 0755, err);
	if (result == 0)
		result = plane_file_make_directories(CLAIMS, 0700, err);
	if (result < 0)
		return result;
	_cleanup_close_ int fd = open(CLAIMS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return plane_error_errno(err, "lock " CLAIMS);
	return plane_steal_fd(&fd);
}

/* The directory that holds the slot into `*directory`, NULL when nobody does. A claim that cannot
 * be read is an error: it is somebody's. */
static int holder(unsigned slot, char **directory)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	_cleanup_free_ char *path = claim_path(slot);
	int result = plane_file_read(path, 8192, &text, NULL);
	*directory = result < 0 ? NULL : plane_strdup(plane_buffer_text(&text));
	return result == -ENOENT ? 0 : result;
}

static bool holds(unsigned slot, const char *directory)
{
	_cleanup_free_ char *other = NULL;
	return holder(slot, &other) == 0 && other && strcmp(other, directory) == 0;
}

static void mark_slot(void *data, const char *pid, uid_t uid)
{
	bool *is_used = data;
	(void)pid;
	if (uid >= FIRST && (uid - FIRST) / SLOT_IDS < SLOTS)
		is_used[(uid - FIRST) / SLOT_IDS] = true;
}

/* Nobody's, or an instance's whose directory is gone. */
static bool is_free(unsigned slot)
{
	_cleanup_free_ char *other = NULL;
	if (holder(slot, &other) < 0)
		return false;
	return !other || (access(other, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR));
}

/* SLOTS when there is none. Backends may outlive their instance's directory and claim. */
static unsigned find_free(unsigned preferred)
{
	bool is_used[SLOTS] = { false };
	plane_process_each(mark_slot, is_used);
	for (unsigned i = 0; i < SLOTS; i++) {
		unsigned slot = (preferred + i) % SLOTS;
		if (!is_used[slot] && is_free(slot))
			return slot;
	}
	return SLOTS;
}

int native_uids_claim(
	const char *directory, unsigned preferred, uint32_t *first_id, struct plane_error *err)
{
	_cleanup_close_ int lock = lock_claims(err);
	unsigned chosen = SLOTS;
	if (lock < 0)
		return lock;
	for (unsigned i = 0; i < SLOTS && chosen == SLOTS; i++)
		if (holds(i, directory))
			chosen = i;
	if (chosen == SLOTS)
		chosen = find_free(preferred);
	if (chosen == SLOTS)
		return plane_error_set(err, -EUSERS,
			"all %u ranges of user ids are taken by other instances; their directories "
			"stand in " CLAIMS,
			SLOTS);
	_cleanup_free_ char *path = claim_path(chosen);
	int result = plane_file_replace(path, directory, strlen(directory), 0600, false, err);
	if (result == 0)
		*first_id = FIRST + chosen * SLOT_IDS;
	return result;
}

void native_uids_release(const char *directory)
{
	_cleanup_close_ int lock = lock_claims(NULL);
	for (unsigned i = 0; lock >= 0 && i < SLOTS; i++) {
		_cleanup_free_ char *path = claim_path(i);
		if (holds(i, directory))
			(void)unlink(path); /* a claim that stays costs a range only */
	}
}
