/* Aligned columns on stdout. */
#ifndef PLANE_CLI_TABLE_H
#define PLANE_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define PLANE_TABLE_COLUMNS_MAX 8

/** Zeroed with `columns` set is empty. */
struct plane_table {
	int columns;
	char **cells; /* row by row; owned */
	size_t cell_count;
};

/** Adds a row of `columns` texts, which are copied. The first row is the heading. */
void plane_table_add_row(struct plane_table *table, const char *const *texts);
#define plane_table_add(table, ...)                                                                \
	plane_table_add_row((table), (const char *const[]){ __VA_ARGS__ })

/** Prints all and frees the cells. */
void plane_table_print(struct plane_table *table);

#endif
