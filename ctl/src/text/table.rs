//! Tables without borders, lists of fields, and long lines, wrapped to the available columns.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar as _;

use super::{END, GREEN, NONE};

/// Blanks between two columns, and between those of a table that would be too wide.
const GAP: usize = 3;
const NARROW_GAP: usize = 2;

/// Minimum width of a text after its prefix; narrower text gets lines of its own.
const BESIDE: usize = 30;

/// Indentation of text on lines of its own.
const OWN_LINE: usize = 4;

/// Default width: for a terminal of unknown width, and for views in a pipe.
const USUAL: usize = 80;

/// Minimum width of the layout.
const LEAST: usize = 40;

/// Maximum width of a line: the terminal's, or that of `COLUMNS`; `None` for a pipe without it.
pub(crate) fn columns() -> Option<usize> {
    #[cfg(test)]
    if let Some(columns) = super::fixed::columns() {
        return Some(columns);
    }
    let output = io::stdout();
    let told = std::env::var("COLUMNS").ok().and_then(|told| told.parse().ok());
    let most = match output.is_terminal() {
        false => told?,
        true => {
            let size = tcgetwinsize(&output).map_or(0, |size| usize::from(size.ws_col));
            if size > 0 { size } else { told.unwrap_or(USUAL) }
        }
    };
    Some(most.max(LEAST))
}

/// Maximum width of a line on standard error; `None` for a pipe.
pub(super) fn error_columns() -> Option<usize> {
    let output = io::stderr();
    if !output.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(&output).map_or(0, |size| usize::from(size.ws_col));
    Some(if size > 0 { size.max(LEAST) } else { USUAL })
}

/// Width of a view, which is laid out for people in a pipe as well.
pub(crate) fn view_columns() -> usize {
    columns().unwrap_or(USUAL)
}

/// Width of a text; placeholders of colours have none.
fn width(text: &str) -> usize {
    let marks = GREEN..=END;
    let shown = text.chars().filter(|c| !marks.contains(c));
    shown.map(|c| c.width().unwrap_or(0)).sum()
}

/// Returns whether a word is meant to be copied, such as a key or a digest of 32 bytes: it is never broken.
fn is_copied(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Text in lines of at most `first` and then `rest` columns, broken between words; longer words are broken within,
/// unless they are meant to be copied.
fn wrap(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut room) = (String::new(), first);
    for (at, word) in text.split(' ').enumerate() {
        let is_new = line.is_empty() && !lines.is_empty();
        if is_new && word.is_empty() {
            continue;
        }
        let blank = usize::from(at > 0 && !is_new);
        if blank + width(word) <= room {
            line.push_str(&" "[..blank]);
            line.push_str(word);
            room -= blank + width(word);
            continue;
        }
        if at > 0 && !is_new {
            lines.push(std::mem::take(&mut line));
            room = rest;
        }
        if is_copied(word.trim_end_matches([',', ';', '.', ':'])) {
            line.push_str(word);
            room = room.saturating_sub(width(word));
            continue;
        }
        for c in word.chars() {
            let wide = width(c.encode_utf8(&mut [0; 4]));
            if wide > room {
                lines.push(std::mem::take(&mut line));
                room = rest.max(wide);
            }
            line.push(c);
            room -= wide;
        }
    }
    lines.push(line);
    lines
}

/// `prefix` and `text` on one line, or on several of at most `most` columns, with further lines indented by `indent`
/// blanks.
pub(crate) fn hanging(prefix: &str, text: &str, indent: usize, most: Option<usize>) -> String {
    let Some(most) = most.filter(|most| width(prefix) + width(text) > *most) else {
        return format!("{}\n", format!("{prefix}{text}").trim_end());
    };
    let (beside, rest) = (most.saturating_sub(width(prefix)), most.saturating_sub(indent));
    let own_lines = beside < BESIDE;
    let lines = wrap(text, if own_lines { rest } else { beside }, rest);
    let mut told = match own_lines {
        true => format!("{}\n", prefix.trim_end()),
        false => String::new(),
    };
    for (at, line) in lines.iter().enumerate() {
        match at == 0 && !own_lines {
            true => told.push_str(prefix),
            false => told.push_str(&" ".repeat(indent)),
        }
        told.push_str(line.trim_end());
        told.push('\n');
    }
    told
}

/// A table; its cells are clean.
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Table {
        Table {
            headings: headings.into_iter().map(str::to_owned).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns whether no row was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of a list, each indented by `indent` blanks: wrapped to a terminal's width, or one line per row in a
    /// pipe.
    pub(crate) fn text(&self, indent: usize) -> String {
        self.within(indent, columns())
    }

    /// The lines of a view, each indented by `indent` blanks.
    pub(crate) fn view(&self, indent: usize) -> String {
        self.within(indent, Some(view_columns()))
    }

    /// The table in at most `most` columns. If it is too wide, its last column is wrapped, or, if there is too little
    /// room for that, the columns that do not fit are put on separate lines.
    pub(super) fn within(&self, indent: usize, most: Option<usize>) -> String {
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|at| {
                all()
                    .filter_map(|row| row.get(at))
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        let up_to =
            |columns: usize, gap: usize| indent + widths.iter().take(columns).map(|width| width + gap).sum::<usize>();
        let last = widths.len().saturating_sub(1);
        let Some(most) = most.filter(|most| up_to(widths.len(), GAP) > *most + GAP) else {
            return all()
                .map(|row| format!("{}\n", line(row, &widths, GAP, indent).trim_end()))
                .collect();
        };
        let before = up_to(last, NARROW_GAP);
        if before + BESIDE <= most {
            let told = |row: &Vec<String>| {
                let cell = row.get(last).map_or("", String::as_str);
                hanging(
                    &line(&row[..last.min(row.len())], &widths, NARROW_GAP, indent),
                    cell,
                    before,
                    Some(most),
                )
            };
            return all().map(told).collect();
        }
        let fit = (1..=widths.len())
            .rev()
            .find(|fit| up_to(*fit, NARROW_GAP) <= most + NARROW_GAP);
        let fit = fit.unwrap_or(1).min(widths.len());
        let mut told = format!(
            "{}\n",
            line(&self.headings[..fit], &widths, NARROW_GAP, indent).trim_end()
        );
        let own = " ".repeat(indent + OWN_LINE);
        for row in &self.rows {
            told.push_str(line(&row[..fit.min(row.len())], &widths, NARROW_GAP, indent).trim_end());
            told.push('\n');
            let others = row.iter().zip(&self.headings).enumerate().skip(fit);
            let others = others.filter(|(_, (cell, _))| !cell.is_empty() && *cell != NONE);
            let others: Vec<String> = others
                .map(|(_, (cell, heading))| format!("{} {cell}", heading.to_lowercase()))
                .collect();
            if !others.is_empty() {
                told.push_str(&hanging(&own, &others.join("; "), own.len(), Some(most)));
            }
        }
        told
    }
}

/// Cells in their columns, each followed by a gap.
fn line(cells: &[String], widths: &[usize], gap: usize, indent: usize) -> String {
    let mut line = " ".repeat(indent);
    for (cell, column) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.push_str(&" ".repeat(column.saturating_sub(width(cell)) + gap));
    }
    line
}

/// Names and values, one per line.
#[derive(Default)]
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Adds a field; its value is clean. An empty value is shown as none.
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<String>) -> &mut Fields {
        let value = value.into();
        let shown = if value.is_empty() { NONE.to_owned() } else { value };
        self.0.push((name, shown));
        self
    }

    /// The lines of the fields, with the values aligned and wrapped in one column.
    pub(crate) fn text(&self) -> String {
        self.within(view_columns())
    }

    pub(super) fn within(&self, most: usize) -> String {
        let column = self.0.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default();
        let line = |(name, value): &(&str, String)| {
            let prefix = format!("{:column$}   ", format!("{name}:"));
            // A value that is meant to be copied has a separate line if it does not fit after the name.
            if is_copied(value) && prefix.len() + value.len() > most {
                return format!("{name}:\n{}{value}\n", " ".repeat(OWN_LINE));
            }
            hanging(&prefix, value, prefix.len(), Some(most))
        };
        self.0.iter().map(line).collect()
    }
}
