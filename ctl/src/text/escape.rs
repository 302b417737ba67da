//! Untrusted text on a terminal: names, keys, reasons, log lines and errors may contain control sequences.
//!
//! All output of this program passes through [`super::render`], [`Lines`] or [`json_safe`]. On a terminal they escape
//! unsafe characters. In a pipe or a file text is unchanged, and so it is with `--raw`.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{END, GREEN};

/// Whether `--raw` was given.
static RAW: AtomicBool = AtomicBool::new(false);

/// Disables escaping, also on a terminal.
pub(crate) fn keep_raw() {
    RAW.store(true, Ordering::Relaxed);
}

/// Returns whether text is written to `output` unchanged.
pub(crate) fn is_raw(output: &impl IsTerminal) -> bool {
    RAW.load(Ordering::Relaxed) || !output.is_terminal()
}

/// Invisible characters, which can hide a difference between two texts: all that have the property
/// Default_Ignorable_Code_Point (Unicode 16.0, DerivedCoreProperties.txt), including the variation selectors of emoji.
/// The property is stable: it covers code points that are not assigned yet.
pub(super) const IGNORABLE: [(char, char); 17] = [
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{202A}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFF8}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Returns whether a character must not reach a terminal unchanged: control characters (C0, DEL and C1), separators of
/// lines and paragraphs, annotation marks, and invisible characters ([`IGNORABLE`]), which include those that reorder
/// text.
pub(super) fn is_unsafe(c: char) -> bool {
    // The fast path for most text.
    if (' '..='~').contains(&c) {
        return false;
    }
    let shows_nothing = || IGNORABLE.iter().any(|(first, last)| (*first..=*last).contains(&c));
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FFF9}'..='\u{FFFB}') || shows_nothing()
}

/// Appends the escape of a character: `\x1b`, `\u{202e}`, and `\n`, `\r`, `\t` as usual.
pub(super) fn escape(c: char, to: &mut String) {
    match c {
        '\n' | '\r' | '\t' => to.extend(c.escape_default()),
        c if c.is_ascii() => to.push_str(&format!("\\x{:02x}", c as u32)),
        c => to.extend(c.escape_unicode()),
    }
}

/// One line of external text: characters that would end the line, or be interpreted as a colour of this program, are
/// escaped, and for a terminal also unsafe ones.
pub(crate) fn clean(text: &str) -> String {
    let raw = is_raw(&std::io::stdout());
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        let ends_line = matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
        if ends_line || (GREEN..=END).contains(&c) || !raw && is_unsafe(c) {
            escape(c, &mut cleaned);
        } else {
            cleaned.push(c);
        }
    }
    cleaned
}

/// JSON in which all characters that are unsafe on a terminal are escaped, with the same meaning for its readers.
pub(crate) fn json_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => safe.push(c),
            c if is_unsafe(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Output of programs, in pieces. For a terminal everything except text, line feeds and tabs is escaped; a character
/// may be divided by the end of a piece.
#[derive(Debug)]
pub(crate) struct Lines {
    raw: bool,
    /// The beginning of a character that continues in the next piece; at most 3 bytes.
    rest: Vec<u8>,
}

impl Lines {
    /// The state before any output.
    pub(crate) fn new(raw: bool) -> Lines {
        let rest = Vec::new();
        Lines { raw, rest }
    }

    /// The output for a further piece.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.raw {
            return bytes.to_vec();
        }
        let mut pending = std::mem::take(&mut self.rest);
        pending.extend_from_slice(bytes);
        let mut shown = String::with_capacity(pending.len());
        let mut chunks = pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            show(chunk.valid(), &mut shown);
            let invalid = chunk.invalid();
            let cut =
                chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|bad| bad.error_len().is_none());
            match cut {
                true => self.rest = invalid.to_vec(),
                false => show_bytes(invalid, &mut shown),
            }
        }
        shown.into_bytes()
    }

    /// The output after the last piece.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let mut shown = String::new();
        show_bytes(&std::mem::take(&mut self.rest), &mut shown);
        shown.into_bytes()
    }
}

fn show(text: &str, to: &mut String) {
    for c in text.chars() {
        match c {
            '\n' | '\t' => to.push(c),
            c if is_unsafe(c) => escape(c, to),
            c => to.push(c),
        }
    }
}

fn show_bytes(bytes: &[u8], to: &mut String) {
    for byte in bytes {
        to.push_str(&format!("\\x{byte:02x}"));
    }
}
