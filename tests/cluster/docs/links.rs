//! Links in the documentation: each leads to an existing file and heading.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Returns every document of the project.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["", "docs", "deploy", "proto"] {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found
}

/// Returns the lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// Returns the anchor of a heading as GitHub generates it: lower case, without punctuation, with dashes for blanks.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let mut seen = BTreeMap::new();
    headings
        .map(|line| {
            let own = anchor(line.trim_start_matches('#'));
            let count = seen.entry(own.clone()).and_modify(|count| *count += 1).or_insert(0);
            if *count == 0 { own } else { format!("{own}-{count}") }
        })
        .collect()
}

/// Returns the targets of the links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in prose(&text).enumerate() {
            for link in links(line).filter(|link| !link.contains("://")) {
                count += 1;
                let (path, heading) = link.split_once('#').unwrap_or((link, ""));
                let target = match path {
                    "" => document.clone(),
                    path => document.parent().unwrap().join(path),
                };
                let leads = match (target.exists(), heading) {
                    (false, _) => false,
                    (true, "") => true,
                    (true, heading) => {
                        let text = fs::read_to_string(&target).unwrap_or_default();
                        anchors(&text).iter().any(|known| known == heading)
                    }
                };
                if !leads {
                    wrong.push(format!("{}, line {number} of its prose: {link}", document.display()));
                }
            }
        }
    }
    assert!(count > 50, "{count} links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
