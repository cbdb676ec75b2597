/* Moves all that a store knows into another one, of the same kind or not: `plane store copy`. */
#ifndef PLANE_STORE_COPY_H
#define PLANE_STORE_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define PLANE_STORE_TABLES_MAX 16

/** What was copied. */
struct plane_store_copied {
	size_t count;
	struct {
		const char *table; /* a literal */
		int64_t rows;
	} tables[PLANE_STORE_TABLES_MAX];
	int64_t time_shift_ms; /* added to each time, so that it is as far away as before */
	int64_t fencing_token; /* all that the target gives out are greater */
};

/**
 * Copies the store at `from` into the empty one at `to` (URLs as plane_store_open takes them), in
 * one transaction there: all of it or nothing, whenever this is interrupted. The target's schema is
 * made if there is none. Both are locked meanwhile, so that no controller can serve from them; the
 * source is left as it is. Holds some thousand rows in memory at a time. Blocks for as long as it
 * takes. -EBUSY when a controller uses one of them, -EEXIST when the target has rows, -ENOTSUP for
 * a source of another schema version. The message says which of the two it is about.
 */
int plane_store_copy(const char *from, const char *to, struct plane_store_copied *copied,
	struct plane_error *err);

#endif
