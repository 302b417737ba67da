/// Every Rust file below `folder` except tests.
fn sources(folder: &std::path::Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, into);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            into.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_reason_is_in_the_table_of_the_api() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("../core/src/engine"), &mut files);
    sources(&root.join("../core/src/systems"), &mut files);
    let api = std::fs::read_to_string(root.join("../docs/api.md")).unwrap();
    let is_reason = |word: &&str| {
        let plain = word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        plain && !word.starts_with("WYNEOS_") && !word.starts_with('_')
    };
    // Words of the operating system, of the build, and of the help of flags.
    let others = ["SIGTERM", "HEX", "KEY"];
    let mut reasons = std::collections::BTreeSet::new();
    for file in &files {
        // Quoted words only: every second piece is within quotation marks.
        for line in file.lines().filter(|line| !line.trim_start().starts_with("//")) {
            reasons.extend(line.split('"').skip(1).step_by(2).filter(is_reason).map(str::to_owned));
        }
    }
    assert!(
        reasons.contains("SELF") && reasons.contains("NODE_PRESENT"),
        "{reasons:?}"
    );
    let missing: Vec<&String> = reasons
        .iter()
        .filter(|reason| !others.contains(&reason.as_str()) && !api.contains(&format!("`{reason}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/api.md: {missing:?}");
}
