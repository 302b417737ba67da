//! The arrows between the modules of this crate, held by their `use` lines: see ARCHITECTURE.md.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The systems, and what each may read of others.
const SYSTEMS: [(&str, &[&str]); 10] = [
    ("admission", &[]),
    ("autonomy", &["fleet", "predictive"]),
    ("behaviour", &[]),
    ("coherence", &["behaviour", "guardian"]),
    ("fleet", &["predictive"]),
    ("guardian", &[]),
    ("integrity", &[]),
    ("predictive", &[]),
    ("telemetry", &[]),
    ("work", &["fleet"]),
];

/// The modules that are no values.
const ROLES: [&str; 4] = ["agent", "ctx", "engine", "systems"];

/// The room of a file: its module, and for a system `systems/name`.
fn room(path: &Path) -> String {
    let path = path.with_extension("");
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    match parts.as_slice() {
        [systems, system, ..] if systems == "systems" && system != "mod" => format!("systems/{system}"),
        [first, ..] => first.to_string(),
        [] => String::new(),
    }
}

/// The rooms that a source names after `crate::` or, inside of systems, after `super::`.
fn named(source: &str, own: &str) -> BTreeSet<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        collect(rest, "", &mut found);
    }
    if own.starts_with("systems/") {
        let beside = SYSTEMS
            .iter()
            .filter(|(system, _)| code.contains(&format!("super::{system}::")));
        found.extend(beside.map(|(system, _)| format!("systems/{system}")));
    }
    found.remove(own);
    found
}

/// Takes in one path, or a group of them in braces.
fn collect(rest: &str, within: &str, found: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match rest[name.len()..].strip_prefix("::") {
            Some(inner) if name == "systems" => collect(inner, "systems/", found),
            _ if name.is_empty() => {}
            _ => drop(found.insert(format!("{within}{name}"))),
        }
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                collect(&group[start..at], within, found);
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Every source of the crate by its path, tests aside.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    let is_test = |path: &Path| path.iter().any(|part| part.to_string_lossy().contains("tests"));
    let all = all.into_iter().map(|path| {
        let source = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), source)
    });
    all.filter(|(path, _)| !is_test(path) && path != Path::new("lib.rs"))
        .collect()
}

/// Which room names which others, and by which file.
fn arrows() -> BTreeMap<String, BTreeMap<String, PathBuf>> {
    let mut arrows: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for (path, source) in sources() {
        let from = room(&path);
        for to in named(&source, &from) {
            arrows
                .entry(from.clone())
                .or_default()
                .entry(to)
                .or_insert_with(|| path.clone());
        }
    }
    arrows
}

/// Why a room may not name another.
fn forbidden(from: &str, to: &str) -> Option<&'static str> {
    let is_role = ROLES.contains(&to) || to.starts_with("systems/");
    match (from, from.strip_prefix("systems/")) {
        ("engine", _) => (to == "agent").then_some("the roles do not know each other"),
        ("agent", _) => is_role.then_some("the roles do not know each other"),
        ("systems", _) => None,
        (_, Some(own)) => match (to, to.strip_prefix("systems/")) {
            ("engine" | "agent", _) => Some("systems do not call those who call them"),
            (_, Some(other)) => {
                let reads = SYSTEMS
                    .iter()
                    .find(|(system, _)| *system == own)
                    .map_or(&[][..], |(_, reads)| reads);
                (!reads.contains(&other)).then_some("not on the list of what systems read of each other")
            }
            _ => None,
        },
        ("ctx", _) => is_role.then_some("what all systems get knows none of them"),
        _ => is_role.then_some("values know no system"),
    }
}

#[test]
fn modules_name_only_those_that_they_may() {
    let arrows = arrows();
    let is_read = arrows.len() > 20 && arrows["engine"].contains_key("systems/guardian");
    assert!(is_read, "the sources are not read: {arrows:?}");
    let mut wrong = Vec::new();
    for (from, to) in &arrows {
        for (to, path) in to {
            wrong.extend(forbidden(from, to).map(|why| format!("{}: {from} names {to}: {why}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_modules_form_a_circle() {
    let arrows = arrows();
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in &arrows {
        left.insert(from, to.keys().map(String::as_str).collect());
    }
    // Remove rooms that use no remaining room.
    while let Some(leaf) = left.iter().find(|(_, to)| !to.iter().any(|to| left.contains_key(to))) {
        let leaf = *leaf.0;
        left.remove(leaf);
    }
    assert!(left.is_empty(), "these name each other in a circle: {left:?}");
}

#[test]
fn each_role_is_a_composition() {
    let sources = sources();
    let files = |implementation: &str| -> Vec<&Path> {
        let has = |source: &str| source.lines().any(|line| line.starts_with(implementation));
        let of = sources.iter().filter(|(_, source)| has(source));
        of.map(|(path, _)| path.as_path()).collect()
    };
    let coordinator = files("impl Coordinator {");
    assert!(coordinator.len() > 1 && coordinator.iter().all(|path| path.starts_with("engine")));
    assert_eq!(files("impl Agent {"), [Path::new("agent/mod.rs")]);
}

#[test]
fn the_guardian_alone_changes_liveness() {
    let sources = sources();
    let with = |text: &str| -> Vec<&Path> {
        let has = sources.iter().filter(|(_, source)| source.contains(text));
        has.map(|(path, _)| path.as_path()).collect()
    };
    assert_eq!(with("LifeKey::cut()"), [Path::new("systems/guardian/mod.rs")]);
    let made = sources[Path::new("systems/guardian/mod.rs")]
        .matches("LifeKey::cut()")
        .count();
    assert_eq!(made, 1, "one key, in one place");
    assert_eq!(with("LifeKey(())"), [Path::new("node/life.rs")]);
}
