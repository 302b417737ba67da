//! Comparison of a program's output with the output printed in a document, by shape.
//!
//! Numbers, ids, times, paths and column widths may differ. `…` stands for any part of a word; on a line of its own,
//! like `...`, for any number of lines.

/// Returns whether `said` matches the printed output.
pub fn fits(printed: &[String], said: &str) -> bool {
    let printed: Vec<&str> = printed.iter().map(String::as_str).filter(has_words).collect();
    let said: Vec<&str> = said.lines().filter(has_words).collect();
    lines_fit(&printed, &said)
}

fn has_words(line: &&str) -> bool {
    !line.trim().is_empty()
}

fn lines_fit(printed: &[&str], said: &[&str]) -> bool {
    match printed {
        [] => said.is_empty(),
        [line, rest @ ..] if ["…", "..."].contains(&line.trim()) => {
            (0..=said.len()).any(|left_out| lines_fit(rest, &said[left_out..]))
        }
        [line, rest @ ..] => match said {
            [first, more @ ..] => line_fits(line, first) && lines_fit(rest, more),
            [] => false,
        },
    }
}

fn line_fits(printed: &str, said: &str) -> bool {
    let (mut printed, mut said) = (printed.split_whitespace(), said.split_whitespace());
    loop {
        match (printed.next(), said.next()) {
            (None, None) => return true,
            (Some(printed), Some(said)) if word_fits(&shape(printed), &shape(said)) => {}
            _ => return false,
        }
    }
}

fn word_fits(printed: &str, mut said: &str) -> bool {
    let Some((first, rest)) = printed.split_once('…') else {
        return printed == said;
    };
    let (middle, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    let Some(after) = said.strip_prefix(first).and_then(|after| after.strip_suffix(last)) else {
        return false;
    };
    said = after;
    said.contains(middle)
}

/// Returns a word with `#` for each number and hexadecimal id, and `/` for a path.
fn shape(word: &str) -> String {
    if word.starts_with('/') {
        return "/".to_owned();
    }
    let mut shape = String::new();
    for run in word.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let text = run.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        shape += &alphanumeric(text);
        shape += &run[text.len()..];
    }
    while shape.contains("#.#") {
        shape = shape.replace("#.#", "#");
    }
    shape.replace("#ms", "#s")
}

fn alphanumeric(run: &str) -> String {
    let is_hex = run.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    if is_hex && (run.len() >= 4 || run.contains(|c: char| c.is_ascii_digit())) {
        return "#".to_owned();
    }
    let mut shape = String::new();
    for c in run.chars() {
        match c.is_ascii_digit() {
            true if shape.ends_with('#') => {}
            true => shape.push('#'),
            false => shape.push(c),
        }
    }
    shape
}

#[test]
fn numbers_ids_paths_and_what_is_left_out_may_differ() {
    let fit = |printed: &str, said: &str| fits(&printed.lines().map(str::to_owned).collect::<Vec<_>>(), said);
    assert!(fit(
        "up in /tmp/a, as 3f7ce591-…, for 3s",
        "up  in /tmp/b, as abcdefab-12cd-beef, for 150ms\n"
    ));
    assert!(fit("NAME\n…\nend 1.5s", "NAME\nx\ny\nend 2s"));
    assert!(fit("…\nb 127.0.0.1:7400", "a\nb 10.0.0.1:1"));
    for said in [
        "NAME\nend",
        "NAME\nx\nend 2s\nmore",
        "NAMES\nend 2s",
        "NAME\nend 2s now",
    ] {
        assert!(!fit("NAME\n...\nend 1.5s", said), "{said}");
    }
    assert!(!fit("suspect for 3s", "offline for 3s"));
}
