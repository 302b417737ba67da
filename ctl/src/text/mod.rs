//! Text for people: words, ages, sizes, tables and colours.

mod escape;
#[cfg(test)]
pub(crate) mod fixed;
mod table;
mod unit;

use std::io::Write as _;

use wyneos::v1;

pub(crate) use escape::{Lines, clean, is_raw, json_safe, keep_raw};
use escape::{escape, is_unsafe};
use table::error_columns;
pub(crate) use table::{Fields, Table, columns, hanging, view_columns};
pub(crate) use unit::{NONE, age, ago, bytes, for_so_long, hex, short, span, span_of, time_of_day, timestamp, value};

/// A remark in at most `most` columns, broken between words; further lines are indented.
pub(crate) fn remark(line: &str, most: Option<usize>) -> String {
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    let told = hanging(&line[..indent], text, indent + 2, most);
    told.trim_end_matches('\n').to_owned()
}

/// Placeholders for colours until a line is written: escape codes would distort the width of a table's columns. They
/// are from the private use area, and [`clean`] removes them from external text.
const GREEN: char = '\u{E000}';
const YELLOW: char = '\u{E001}';
const RED: char = '\u{E002}';
const PLAIN: char = '\u{E003}';
const END: char = '\u{E004}';

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Healthy.
    Green,
    /// Needs attention.
    Yellow,
    /// Failed.
    Red,
    /// No colour; has the same width in a column as a colour.
    Plain,
}

/// `text` in a colour.
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    let begin = match colour {
        Colour::Green => GREEN,
        Colour::Yellow => YELLOW,
        Colour::Red => RED,
        Colour::Plain => PLAIN,
    };
    format!("{begin}{text}{END}")
}

/// `text` as it is written: with or without colours, and escaped unless `raw`.
pub(crate) fn render(text: &str, colours: bool, raw: bool) -> String {
    let mut rendered = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        let code = match c {
            GREEN => "\x1b[32m",
            YELLOW => "\x1b[33m",
            RED => "\x1b[31m",
            PLAIN => "",
            END => "\x1b[0m",
            '\n' => {
                rendered.push('\n');
                continue;
            }
            c if !raw && is_unsafe(c) => {
                escape(c, &mut rendered);
                continue;
            }
            c => {
                rendered.push(c);
                continue;
            }
        };
        if colours {
            rendered.push_str(code);
        }
    }
    rendered
}

/// Writes a line to standard output, for output that continues until it is interrupted. The reader may be gone.
pub(crate) fn stdout(line: &str) {
    let mut output = std::io::stdout().lock();
    drop(writeln!(output, "{}", render(line, false, is_raw(&output))).and_then(|()| output.flush()));
}

/// Writes a line to standard error. If that is closed, the line is lost.
pub(crate) fn stderr(line: &str) {
    let mut output = std::io::stderr().lock();
    let line = remark(line, error_columns());
    drop(writeln!(output, "{}", render(&line, false, is_raw(&output))));
}

/// The word of an enum's value: `LIVENESS_ONLINE` without `LIVENESS_` is `online`.
macro_rules! words {
    ($($name:ident: $type:ty, $prefix:literal;)*) => {$(
        /// The value's word; a value that this release does not know is shown by its number.
        pub(crate) fn $name(value: i32) -> String {
            <$type>::try_from(value).map_or_else(
                |_| format!("unknown({value})"),
                |value| value.as_str_name().trim_start_matches($prefix).to_lowercase().replace('_', "-"),
            )
        }
    )*};
}

words! {
    admission: v1::Admission, "ADMISSION_";
    role: v1::Role, "ROLE_";
    liveness: v1::Liveness, "LIVENESS_";
    cause: v1::LivenessCause, "LIVENESS_CAUSE_";
    eligibility: v1::Eligibility, "ELIGIBILITY_";
    link_state: v1::LinkState, "LINK_STATE_";
    mode: v1::AutonomyMode, "AUTONOMY_MODE_";
    outcome: v1::DecisionOutcome, "DECISION_OUTCOME_";
    severity: v1::Severity, "SEVERITY_";
    directive: v1::DirectiveState, "DIRECTIVE_STATE_";
    finding_kind: v1::FindingKind, "FINDING_KIND_";
}

/// A liveness in its colour.
pub(crate) fn painted_liveness(value: i32) -> String {
    let colour = match v1::Liveness::try_from(value) {
        Ok(v1::Liveness::Online) => Colour::Green,
        Ok(v1::Liveness::Suspect | v1::Liveness::Unseen) => Colour::Yellow,
        Ok(v1::Liveness::Unreachable | v1::Liveness::Offline) => Colour::Red,
        _ => Colour::Plain,
    };
    paint(colour, &liveness(value))
}

/// A node's load; none for a node that is not heard, whose last value is outdated.
pub(crate) fn load(node: &v1::NodeRow) -> String {
    match node.liveness() {
        v1::Liveness::Online | v1::Liveness::Suspect | v1::Liveness::Unreachable => format!("{}%", node.load_percent),
        _ => NONE.to_owned(),
    }
}

/// A sort key for names in which numbers are compared as numbers, so that `node-2` is before `node-10`.
pub(crate) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, left) = after.split_at(end);
        // A number beyond 64 bits is sorted last.
        parts.push((word.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = left;
    }
    parts
}

/// The name of a status code in the documentation: `PERMISSION_DENIED`.
pub(crate) fn code(code: tonic::Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(c.to_uppercase());
    }
    name
}

/// "1 node", "2 nodes".
pub(crate) fn count(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

#[cfg(test)]
mod tests;
