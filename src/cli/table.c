/* Tables. */
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void plane_table_add_row(struct plane_table *table, const char *const *texts)
{
	size_t columns = (size_t)table->columns;
	table->cells =
		plane_realloc(table->cells, (table->cell_count + columns) * sizeof(*table->cells));
	for (size_t i = 0; i < columns; i++)
		table->cells[table->cell_count++] = plane_strdup(texts[i] ? texts[i] : "");
}

void plane_table_print(struct plane_table *table)
{
	size_t columns = (size_t)table->columns;
	int widths[PLANE_TABLE_COLUMNS_MAX] = { 0 };
	for (size_t i = 0; i < table->cell_count; i++) {
		int len = (int)strlen(table->cells[i]);
		if (len > widths[i % columns])
			widths[i % columns] = len;
	}
	for (size_t i = 0; i < table->cell_count; i++) {
		bool is_last = i % columns == columns - 1;
		printf("%-*s%s", is_last ? 0 : widths[i % columns], table->cells[i],
			is_last ? "\n" : "  ");
		free(table->cells[i]);
	}
	free(table->cells);
	*table = (struct plane_table){ .columns = table->columns };
}
