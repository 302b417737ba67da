//! Externally supplied text in messages, events and logs: truncated, and with control characters escaped.

use std::{
    fmt::{self, Write},
    time::Duration,
};

/// Maximum length of an externally supplied name or value repeated in a message, in bytes.
pub const ECHO: usize = 96;

/// Maximum length of a sentence in a status, a refusal or an event, in bytes. gRPC clients accept 8 KiB of trailers,
/// where a character takes up to nine bytes.
pub const SENTENCE: usize = 512;

/// The largest character boundary in `text` that is not above `most`.
fn boundary(text: &str, most: usize) -> usize {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// An externally supplied text in quotes: escaped as by `Debug`, and truncated after [`ECHO`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = boundary(self.0, ECHO);
        if end == self.0.len() {
            return write!(f, "{:?}", self.0);
        }
        write!(f, "{:?}… ({} bytes)", &self.0[..end], self.0.len())
    }
}

/// Formats a number of things: `1 instance`, `2 instances`.
pub fn count(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// Human-readable duration, rounded to milliseconds: `0s`, `1.8s`, `64s`, `5m`, `1h30m`, `30d`. Durations below two
/// minutes are shown in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().saturating_add(500_000) / 1_000_000;
        let (seconds, rest) = (millis / 1_000, millis % 1_000);
        match (seconds, rest) {
            (0, 0) if !self.0.is_zero() => return f.write_str("<1ms"),
            (0, 1..) => return write!(f, "{rest}ms"),
            (0..120, 0) => return write!(f, "{seconds}s"),
            (0..120, _) => return write!(f, "{seconds}.{}s", format!("{rest:03}").trim_end_matches('0')),
            _ => {}
        }
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3_600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
        ];
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

/// Whether a character is not allowed in names: control characters, and invisible ones that change the presentation of
/// the surrounding text, such as the marks of right-to-left text (Unicode Standard Annex 9). Joiners, which some
/// scripts need, are allowed.
pub fn is_hidden(one: char) -> bool {
    one.is_control()
        || matches!(
            one,
            '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{FEFF}'
        )
        || matches!(one, '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Truncates a sentence to at most `most` bytes, ending with an ellipsis, and escapes control characters.
pub fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most && !text.contains(is_hidden) {
        return text.to_owned();
    }
    const CUT: &str = "…";
    let room = most.saturating_sub(CUT.len());
    let mut short = String::new();
    for one in text.chars() {
        let before = short.len();
        if is_hidden(one) {
            // Writing to a string cannot fail.
            let _ = match one.is_control() {
                true => write!(short, "{}", one.escape_debug()),
                false => write!(short, "{}", one.escape_unicode()),
            };
        } else {
            short.push(one);
        }
        if short.len() > room {
            short.truncate(before);
            if most >= CUT.len() {
                short.push_str(CUT);
            }
            return short;
        }
    }
    short
}

/// Truncates a name for a lookup in which at most `most` bytes can match; a longer name is kept long enough to match
/// nothing.
pub fn looked_up(mut name: String, most: usize) -> String {
    if name.len() > most {
        let mut end = most + 1;
        while !name.is_char_boundary(end) {
            end += 1;
        }
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests;
