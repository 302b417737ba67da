use std::time::Duration;

use super::{Colour, Table, clean, json_safe, liveness, paint, render, span, value};

#[test]
fn spans_are_short() {
    let text = |seconds| span(Duration::from_secs(seconds));
    assert_eq!(span(Duration::from_millis(420)), "420ms");
    assert_eq!(
        [text(0), text(59), text(192), text(18_180), text(200_000)],
        ["0s", "59s", "3m12s", "5h3m", "2d7h"]
    );
}

#[test]
fn what_a_server_says_cannot_drive_the_terminal() {
    let hostile = "a\x1b[2J\x07\n\u{9b}31m\u{202e}b\u{E002}";
    let cleaned = clean(hostile);
    assert!(cleaned.chars().all(|c| c.is_ascii_graphic()), "{cleaned}");
    assert!(!render(hostile, true).contains("\x1b[2J"));
    let json = json_safe(&serde_json::to_string(hostile).unwrap());
    assert!(json.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{json}");
    assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
}

#[test]
fn colours_do_not_move_columns() {
    let mut table = Table::new(["NAME", &paint(Colour::Plain, "STATE"), "AGE"]);
    table.row(["one".to_owned(), paint(Colour::Green, "up"), "1s".to_owned()]);
    table.row(["three".to_owned(), paint(Colour::Red, "down"), "2s".to_owned()]);
    let text = table.text(0);
    let plain = render(&text, false);
    let columns: Vec<_> = plain
        .lines()
        .map(|line| line.find("AGE").or(line.find("1s")).or(line.find("2s")))
        .collect();
    assert_eq!(columns, [columns[0]; 3], "{plain}");
    assert!(render(&text, true).contains("\x1b[31mdown\x1b[0m"));
}

#[test]
fn values_are_in_their_unit() {
    assert_eq!(value(0.5, "ratio"), "50.0%");
    assert_eq!(value(2048.0, "bytes/s"), "2.0 KiB/s");
    assert_eq!(value(3.0, "count"), "3");
}

#[test]
fn words_of_enums() {
    assert_eq!(
        (liveness(2), liveness(99)),
        ("online".to_owned(), "unknown(99)".to_owned())
    );
}
