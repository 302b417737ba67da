//! The binary's configuration, and how it ends.

// The lint's leave for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn check(file: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wyneos-agent"));
    command
        .args(["run", "--check", "--config"])
        .arg(&path)
        .args(args)
        .envs(env.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let env = [("WYNEOS_AGENT_LOG", "debug")];
    assert!(stdout(&check("log = \"warn\"", &[], &[])).contains("log = \"warn\""));
    assert!(stdout(&check("log = \"warn\"", &[], &env)).contains("log = \"debug\""));
    assert!(stdout(&check("log = \"warn\"", &["--log", "trace"], &env)).contains("log = \"trace\""));
}

#[test]
fn what_is_printed_is_a_configuration_again() {
    let printed = stdout(&check("", &[], &[]));
    assert_eq!(stdout(&check(&printed, &[], &[])), printed);
}

#[test]
fn a_typo_is_named_with_its_line() {
    let output = check("log = \"info\"\n\nlisten_on = \"x\"\n", &[], &[]);
    assert_eq!(output.status.code(), Some(64));
    let told = stderr(&output);
    assert!(told.contains("listen_on") && told.contains("line 3"), "{told}");
}

#[test]
fn values_that_cannot_be_used_are_named() {
    for (file, field) in [
        ("listen = \"0.0.0.0:1\"", "listen"),
        ("log = \"info,=,\"", "log"),
        ("data_dir = 7", "data_dir"),
        ("coordinators = []", "coordinators"),
        ("coordinators = [\"nowhere\"]", "coordinators"),
        ("[labels]\n\"a b\" = \"c\"", "labels"),
        ("name = \"a\\u0007\"", "name"),
    ] {
        let output = check(file, &[], &[]);
        assert_eq!(output.status.code(), Some(64), "{file}: {}", stderr(&output));
        assert!(stderr(&output).contains(field), "{file}: {}", stderr(&output));
    }
}

#[test]
fn the_example_is_accepted_as_it_is_and_with_every_line_in_effect() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/agent.toml");
    let example = fs::read_to_string(example).unwrap();
    stdout(&check(&example, &[], &[]));
    // Prose is behind "# ", settings are behind "#".
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let in_effect: Vec<&str> = example
        .lines()
        .filter(|line| setting(line))
        .map(|line| &line[1..])
        .collect();
    assert!(in_effect.len() > 5);
    stdout(&check(&in_effect.join("\n"), &[], &[]));
}

#[test]
fn every_field_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    for line in stdout(&check("", &[], &[])).lines() {
        let field = line.split(" = ").next().unwrap().trim_matches(['[', ']']);
        assert!(
            field.is_empty() || page.contains(&format!("`{field}`")),
            "docs/configuration.md does not name {field}"
        );
    }
}
