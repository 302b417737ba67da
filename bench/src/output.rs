//! Results, readable for people and for programs.

use std::io::{self, Write as _};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A table with one line per figure and one column per measurement.
    Table,
    /// A JSON array of rows.
    Json,
}

/// One measurement: its figures in display order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(Vec<(&'static str, Value)>);

impl Row {
    /// Returns a measurement of the benchmark `bench`.
    pub(crate) fn new(bench: &'static str) -> Row {
        Row::default().with("bench", bench)
    }

    /// Adds a figure to the row.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Row {
        self.0.push((name, value.into()));
        self
    }

    /// Adds a measured figure to the row, rounded to four significant digits.
    pub(crate) fn number(self, name: &'static str, value: f64) -> Row {
        self.with(name, rounded(value))
    }
}

/// Rounds to four significant digits: noise is far above the fourth digit.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powf(3.0 - value.abs().log10().floor());
    if scale.is_finite() && scale >= 1.0 {
        (value * scale).round() / scale
    } else {
        value.round()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Prints `rows` in the given format.
pub(crate) fn print(rows: &[Row], output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, rows)?;
            writeln!(out)
        }
        Output::Table => {
            let mut rest = rows;
            while let Some(first) = rest.first() {
                // Consecutive rows of one benchmark form one table.
                let alike = rest.iter().take_while(|row| row.0.first() == first.0.first()).count();
                let (together, after) = rest.split_at(alike);
                table(&mut out, together)?;
                rest = after;
            }
            Ok(())
        }
    }
}

fn table(out: &mut impl io::Write, rows: &[Row]) -> io::Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.0) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let wide = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let columns: Vec<Vec<String>> = rows
        .iter()
        .map(|row| names.iter().map(|name| cell(row, name)).collect())
        .collect();
    for (at, name) in names.iter().enumerate() {
        write!(out, "{name:wide$}")?;
        for column in &columns {
            let width = column.iter().map(String::len).max().unwrap_or(0);
            write!(out, "  {:>width$}", column[at])?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn cell(row: &Row, name: &str) -> String {
    match row.0.iter().find(|(known, _)| *known == name) {
        None | Some((_, Value::Null)) => "-".to_owned(),
        Some((_, Value::String(text))) => text.clone(),
        Some((_, value)) => value.to_string(),
    }
}
