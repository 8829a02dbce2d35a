//! Tables that fit a terminal of 80 columns and stay greppable in a pipe.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

/// Columns that never wrap (names, numbers), then one that takes the rest (reasons).
///
/// `width` is the terminal's; `None` (no terminal) wraps nothing, so that one entry stays one line.
pub(crate) fn table(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    width: Option<u16>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table.add_rows(rows);
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            let last = header.len().saturating_sub(1);
            for column in table.column_iter_mut().take(last) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The width of the terminal that stdout is; `None` where it is none.
pub(crate) fn terminal_width() -> Option<u16> {
    Table::new().width()
}
