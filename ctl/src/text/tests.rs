use std::time::Duration;

use proptest::prelude::*;

use super::{
    Colour, Fields, Lines, NONE, Table, hanging, json_safe, liveness, load, natural, paint, remark, render, span, v1,
    value,
};

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
    let shown = render(hostile, true, false);
    assert_eq!(shown, "a\\x1b[2J\\x07\n\\u{9b}31m\\u{202e}b\x1b[31m");
    assert!(render(hostile, false, true).starts_with("a\x1b[2J\x07\n\u{9b}31m\u{202e}b"));
    let json = json_safe(&serde_json::to_string(hostile).unwrap());
    assert!(json.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{json}");
    assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
}

/// The terminal's output for a log that arrives in pieces.
fn in_pieces(log: &[u8], piece: usize, raw: bool) -> Vec<u8> {
    let mut lines = Lines::new(raw);
    let mut shown: Vec<u8> = log.chunks(piece).flat_map(|piece| lines.take(piece)).collect();
    shown.extend(lines.end());
    shown
}

#[test]
fn a_log_is_the_same_however_it_is_cut() {
    let log =
        b"plain \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\ttab\r\n\x1b]0;title\x07\xc2\x9b31m\xe2\x80\xae\xff\x9b\xf0\x9f";
    let shown = "plain \u{e9}\u{20ac}\u{1f600}\ttab\\r\n\\x1b]0;title\\x07\\u{9b}31m\\u{202e}\\xff\\x9b\\xf0\\x9f";
    for piece in 1..=log.len() {
        assert_eq!(
            String::from_utf8(in_pieces(log, piece, false)).unwrap(),
            shown,
            "{piece}"
        );
        assert_eq!(in_pieces(log, piece, true), log, "{piece}");
    }
}

proptest! {
    #[test]
    fn nothing_reaches_a_terminal_but_text_line_feeds_and_tabs(
        log in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..0xa0], 0..200),
        piece in 1usize..40,
    ) {
        let shown = String::from_utf8(in_pieces(&log, piece, false)).unwrap();
        let plain = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
        prop_assert!(shown.chars().all(plain), "{:?}", shown);
        prop_assert_eq!(in_pieces(&log, piece, true), log);
    }

    #[test]
    fn json_means_the_same_once_it_is_safe(text in any::<String>()) {
        let safe = json_safe(&serde_json::to_string(&text).unwrap());
        prop_assert!(safe.chars().all(|c| !c.is_control()));
        prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}

#[test]
fn colours_do_not_move_columns() {
    let mut table = Table::new(["NAME", &paint(Colour::Plain, "STATE"), "AGE"]);
    table.row(["one".to_owned(), paint(Colour::Green, "up"), "1s".to_owned()]);
    table.row(["three".to_owned(), paint(Colour::Red, "down"), "2s".to_owned()]);
    let text = table.text(0);
    let plain = render(&text, false, false);
    let columns: Vec<_> = plain
        .lines()
        .map(|line| line.find("AGE").or(line.find("1s")).or(line.find("2s")))
        .collect();
    assert_eq!(columns, [columns[0]; 3], "{plain}");
    assert!(render(&text, true, false).contains("\x1b[31mdown\x1b[0m"));
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

#[test]
fn a_time_that_was_never_set_is_none() {
    use super::{age, ago, for_so_long, time_of_day, timestamp};
    let at = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
    let unset = [
        None,
        Some(at(0, 0)),
        Some(at(0, 999)),
        Some(at(-5, 0)),
        Some(at(i64::MIN, -1)),
    ];
    for time in &unset {
        let time = time.as_ref();
        assert_eq!(
            [age(time), ago(time), timestamp(time), time_of_day(time)],
            ["-"; 4],
            "{time:?}"
        );
        assert_eq!(for_so_long(time), "");
    }
    let far = at(i64::MAX, 0);
    assert_eq!(ago(Some(&far)), if age(Some(&far)) == "-" { "-" } else { "0s ago" });
    let set = at(1, 0);
    assert!(age(Some(&set)).contains('d') && ago(Some(&set)).ends_with(" ago"));
    assert!(for_so_long(Some(&set)).starts_with(" for "));
}

#[test]
fn what_shows_nothing_is_shown_by_its_escape() {
    for (first, last) in super::escape::IGNORABLE {
        for c in first..=last {
            let mut shown = String::new();
            super::escape::escape(c, &mut shown);
            assert_eq!(
                in_pieces(format!("a{c}b").as_bytes(), 2, false),
                format!("a{shown}b").as_bytes()
            );
            assert_eq!(super::escape::json_safe(&c.to_string()).len() % 6, 0);
        }
    }
    // Other scripts, marks and emoji themselves are text.
    for text in ["Grüße", "\u{65E5}\u{672C}", "e\u{301}", "\u{5D0}\u{627}", "\u{1F600}"] {
        assert_eq!(in_pieces(text.as_bytes(), 3, false), text.as_bytes());
    }
    let hidden = "\u{3164}\u{34F}\u{1160}\u{17B4}\u{FE0F}\u{FFA0}\u{180B}\u{E0041}\u{2065}";
    assert!(hidden.chars().all(super::escape::is_unsafe));
}

fn widest(text: &str) -> usize {
    let plain = render(text, false, true);
    plain.lines().map(|line| line.chars().count()).max().unwrap_or_default()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A sentence of short words, or one long word.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::collection::vec("[a-z0-9.-]{1,12}", 1..20).prop_map(|words| words.join(" ")),
        1 => "[a-f0-9]{1,63}",
        1 => Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn no_table_is_wider_than_its_view_and_every_word_is_in_it(
        rows in prop::collection::vec(prop::collection::vec(cell(), 4), 1..8),
        indent in 0usize..6,
        most in 80usize..200,
    ) {
        let mut table = Table::new(["ONE", "TWO", "THREE", "FOUR"]);
        for row in &rows {
            // The first columns contain names and numbers.
            let short = |cell: &String| cell.split(' ').next().unwrap_or_default().chars().take(40).collect::<String>();
            table.row(row.iter().enumerate().map(|(at, cell)| if at < 3 { short(cell) } else { cell.clone() }));
        }
        let text = table.within(indent, Some(most));
        prop_assert!(widest(&text) <= most, "{} of {most}:\n{text}", widest(&text));
        for row in &rows {
            let shown = words(&text);
            // A missing value has no separate line.
            let last = if row[3] == NONE { Vec::new() } else { words(&row[3]) };
            prop_assert!(last.iter().all(|word| word.len() > 20 || shown.contains(word)), "{last:?}\n{text}");
        }
        // A list in a pipe has one line per row.
        prop_assert_eq!(table.within(indent, None).lines().count(), rows.len() + 1);
    }

    #[test]
    fn no_field_is_wider_than_its_view(values in prop::collection::vec(cell(), 1..8), most in 40usize..200) {
        let mut fields = Fields::default();
        for value in &values {
            fields.add("Acknowledged", value.clone());
        }
        let text = fields.within(most);
        prop_assert!(widest(&text) <= most, "{} of {most}:\n{text}", widest(&text));
        let joined: String = text.split_whitespace().filter(|word| *word != "Acknowledged:").collect();
        let expected: String = values.iter().map(|value| if value.is_empty() { NONE } else { value }).collect();
        prop_assert_eq!(joined, expected.replace(' ', ""));
    }
}

#[test]
fn what_does_not_fit_beside_the_others_has_a_line_of_its_own() {
    let mut table = Table::new(["ID", "NODE", "RESTARTS", "DETAIL"]);
    table.row(
        [
            "0000000100000001",
            "a-node-of-some-length.example.org",
            "3",
            "killed: out of memory (limit 128 MiB)",
        ]
        .map(str::to_owned),
    );
    table.row(["0000000100000002", "two", "0", ""].map(str::to_owned));
    assert_eq!(
        table.within(0, Some(80)),
        "ID                NODE                               RESTARTS\n\
         0000000100000001  a-node-of-some-length.example.org  3\n    detail killed: out of memory (limit 128 MiB)\n\
         0000000100000002  two                                0\n"
    );
    assert_eq!(
        table.within(0, Some(60)),
        "ID                NODE\n\
         0000000100000001  a-node-of-some-length.example.org\n    restarts 3; detail killed: out of memory (limit 128 MiB)\n\
         0000000100000002  two\n    restarts 0\n"
    );
}

#[test]
fn a_long_line_goes_on_behind_its_indent() {
    let told = hanging(
        "     7   node-2   ",
        "neither the coordinator nor its peers hear its host",
        9,
        Some(50),
    );
    assert_eq!(
        told,
        "     7   node-2   neither the coordinator nor its\n         peers hear its host\n"
    );
    assert_eq!(hanging("7 ", "short", 9, Some(50)), "7 short\n");
    assert_eq!(hanging("7 ", "long as it is", 9, None), "7 long as it is\n");
}

#[test]
fn every_column_on_a_line_of_its_own_has_its_heading() {
    let mut table = super::Table::new(["ID", "INSTANCE", "NODE", "DETAIL"]);
    table.row(
        [
            "6b0a1b2c00000001",
            "a-long-name.0",
            "a-node-with-a-long-name",
            "it waits for its lease",
        ]
        .map(str::to_owned),
    );
    let told = table.within(0, Some(50));
    let words: Vec<&str> = told.split_whitespace().collect();
    assert!(words.join(" ").contains("detail it waits for its lease"), "{told}");
}

#[test]
fn names_with_numbers_are_in_the_order_of_the_numbers() {
    let mut names = ["node-10", "node-2", "b", "node-1", "node-2a", ""];
    names.sort_by_key(|name| natural(name));
    assert_eq!(names, ["", "b", "node-1", "node-2", "node-2a", "node-10"]);
}

#[test]
fn remarks_are_wrapped_between_words_on_a_terminal_alone() {
    let line = "wynectl: cannot connect to 127.0.0.1:7400: tcp connect error: Connection refused (os error 111), as nobody listens";
    assert_eq!(remark(line, None), line);
    let wrapped = remark(line, Some(80));
    assert!(
        wrapped.lines().count() == 2 && wrapped.lines().all(|line| line.len() <= 80),
        "{wrapped}"
    );
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&wrapped), words(line));
    let hint = remark("  reason: one two three four five six seven", Some(40));
    assert!(hint.lines().all(|line| line.starts_with("  ")), "{hint}");
}

#[test]
fn what_is_copied_is_never_broken() {
    let key = "ab".repeat(32);
    for most in [40, 60, 80, 120] {
        let told = hanging("  ", &format!("signed by the key {key}, as of now"), 4, Some(most));
        assert!(told.contains(&key), "{most}: {told}");
        let mut fields = Fields::default();
        fields.add("signed by", key.clone()).add("newest event", "1");
        let told = fields.within(most);
        assert!(told.contains(&key), "{most}: {told}");
        if most >= 80 {
            assert!(told.lines().all(|line| line.len() <= most), "{most}: {told}");
        }
    }
}

#[test]
fn a_node_that_is_not_heard_has_no_load() {
    let of = |liveness: v1::Liveness| {
        load(&v1::NodeRow {
            liveness: liveness.into(),
            load_percent: 7,
            ..v1::NodeRow::default()
        })
    };
    assert_eq!(of(v1::Liveness::Online), "7%");
    for liveness in [v1::Liveness::Unseen, v1::Liveness::Offline, v1::Liveness::Left] {
        assert_eq!(of(liveness), NONE);
    }
}
