/* Tables. */
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/display.h"

void plane_table_add_row(struct plane_table *table, const char *const *texts)
{
	size_t columns = (size_t)table->columns;
	const char *empty = table->empty ? table->empty : "";
	table->cells =
		plane_realloc(table->cells, (table->cell_count + columns) * sizeof(*table->cells));
	for (size_t i = 0; i < columns; i++)
		table->cells[table->cell_count++] =
			plane_display_clean(texts[i] && texts[i][0] ? texts[i] : empty);
}

static void add_spaces(struct plane_buffer *text, int count)
{
	for (int i = 0; i < count; i++)
		plane_buffer_add_text(text, " ");
}

void plane_table_write(struct plane_table *table, struct plane_buffer *text)
{
	size_t columns = (size_t)table->columns;
	int widths[PLANE_TABLE_COLUMNS_MAX] = { 0 };
	_cleanup_free_ int *cell_widths = plane_alloc_zero(table->cell_count + 1, sizeof(int));
	for (size_t i = 0; i < table->cell_count; i++) {
		cell_widths[i] = plane_display_width(table->cells[i]);
		if (cell_widths[i] > widths[i % columns])
			widths[i % columns] = cell_widths[i];
	}
	for (size_t i = 0; i < table->cell_count; i++) {
		size_t column = i % columns;
		bool is_last = column == columns - 1;
		bool is_right = table->right_columns & 1u << column;
		int room = widths[column] - cell_widths[i];
		add_spaces(text, is_right ? room : 0);
		plane_buffer_add_text(text, table->cells[i]);
		add_spaces(text, is_right || is_last ? 0 : room);
		plane_buffer_add_text(text, is_last ? "\n" : "  ");
		free(table->cells[i]);
	}
	free(table->cells);
	table->cells = NULL;
	table->cell_count = 0;
}

void plane_table_print(struct plane_table *table)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	plane_table_write(table, &text);
	(void)fwrite(text.data, 1, text.len, stdout); /* an error of stdout shows at its end */
	(void)fflush(stdout);
}
