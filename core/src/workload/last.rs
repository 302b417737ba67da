//! The last line of a process's output.

use super::log::LAST_LINE;
use crate::text::is_hidden;

/// Follows a process's output and retains the last line that is not blank, truncated to [`LAST_LINE`] bytes.
#[derive(Clone, Debug, Default)]
pub struct LastLine {
    last: Vec<u8>,
    /// Output since the last line break; an incomplete line.
    present: Vec<u8>,
    is_longer: bool,
    was_longer: bool,
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

impl LastLine {
    /// Appends output.
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

    /// The line for display: at most [`LAST_LINE`] bytes, with an ellipsis if it was truncated. Control and hidden
    /// characters are escaped; invalid UTF-8 is replaced.
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
