//! Tables without borders, and lists of fields.

use comfy_table::presets::NOTHING;

use super::NONE;

/// Blanks between two columns.
const GAP: u16 = 3;

/// A table; its cells are clean.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        table.set_header(headings.into_iter().map(str::to_owned).collect::<Vec<String>>());
        Table(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // The library breaks cells at line feeds only, and clean text has none.
        self.0.add_row(cells.into_iter().collect::<Vec<String>>());
    }

    /// True when no row was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its lines, each behind `indent` blanks.
    pub(crate) fn text(mut self, indent: usize) -> String {
        for column in self.0.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let lines = self.0.lines();
        lines
            .map(|line| format!("{:indent$}{}\n", "", line.trim_end()))
            .collect()
    }
}

/// Names and values, one a line.
#[derive(Default)]
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Adds a field; its value is clean. An empty one is shown as none.
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<String>) -> &mut Fields {
        let value = value.into();
        let shown = if value.is_empty() { NONE.to_owned() } else { value };
        self.0.push((name, shown));
        self
    }

    /// Its lines; the values begin in one column.
    pub(crate) fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default();
        let line = |(name, value): &(&str, String)| format!("{:width$}   {value}\n", format!("{name}:"));
        self.0.iter().map(line).collect()
    }
}
