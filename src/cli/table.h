/* Aligned columns of text. */
#ifndef PLANE_CLI_TABLE_H
#define PLANE_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

#define PLANE_TABLE_COLUMNS_MAX 16

/** Zeroed with `columns` set is empty. */
struct plane_table {
	int columns;
	unsigned right_columns; /* bit by column: aligned at its right, as numbers are */
	const char *empty;      /* what empty cells show; NULL: nothing */
	char **cells;           /* row by row; owned */
	size_t cell_count;
};

/** Adds a row of `columns` texts, cleaned copies of which are kept; NULL is empty. The first row is
 *  the heading. */
void plane_table_add_row(struct plane_table *table, const char *const *texts);
#define plane_table_add(table, ...)                                                                \
	plane_table_add_row((table), (const char *const[]){ __VA_ARGS__ })

/** Appends all rows to `text`, each with a newline, and frees the cells. */
void plane_table_write(struct plane_table *table, struct plane_buffer *text);
/** Prints all on stdout and frees the cells. */
void plane_table_print(struct plane_table *table);

#endif
