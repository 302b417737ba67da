//! The last line of what a process wrote.

use super::log::LAST_LINE;
use crate::text::is_hidden;

/// Follows what a process writes, and keeps the last line that is not blank: of a line [`LAST_LINE`] bytes, whatever its length.
#[derive(Clone, Debug, Default)]
pub struct LastLine {
    last: Vec<u8>,
    /// What was written since the last line ended; a line of its own if nothing follows.
    present: Vec<u8>,
    is_longer: bool,
    was_longer: bool,
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

impl LastLine {
    /// Takes what was written next.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ends) = match piece.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (piece, false),
            };
            let room = LAST_LINE - self.present.len();
            self.is_longer |= line.len() > room;
            self.present.extend_from_slice(&line[..line.len().min(room)]);
            if ends {
                if !is_blank(&self.present) {
                    std::mem::swap(&mut self.last, &mut self.present);
                    self.was_longer = self.is_longer;
                }
                self.present.clear();
                self.is_longer = false;
            }
        }
    }

    /// The line, for people: [`LAST_LINE`] bytes at most, an ellipsis where it is longer. Control characters and such that are not shown are escaped;
    /// bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let (line, longer) = match is_blank(&self.present) {
            true => (&self.last, self.was_longer),
            false => (&self.present, self.is_longer),
        };
        let line = String::from_utf8_lossy(line);
        let line =
            line.trim_end_matches(|one: char| one.is_whitespace() || longer && one == char::REPLACEMENT_CHARACTER);
        let mut text = String::new();
        for one in line.chars() {
            match is_hidden(one) {
                true => text.extend(one.escape_default()),
                false => text.push(one),
            }
        }
        if longer || text.len() > LAST_LINE {
            let mut end = text.len().min(LAST_LINE - '…'.len_utf8());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

#[cfg(test)]
mod tests;
