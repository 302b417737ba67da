//! Tests of the binary: exit codes and commands without a coordinator.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

fn wynectl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wynectl"))
        .args(arguments)
        .env_remove("WYNEOS_ADDRESS")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An address without a listener.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn an_unreachable_coordinator_is_3() {
    let address = nobody();
    for command in [
        "nodes",
        "snapshot",
        "snapshot watch",
        "snapshot verify",
        "mesh",
        "telemetry",
        "predictions",
        "events",
        "events --follow",
        "why n1",
        "cordon n1",
        "label n1 a=b",
        "set-heartbeat n1 default",
        "version",
    ] {
        let mut arguments = vec!["--address", &address];
        arguments.extend(command.split(' '));
        let output = wynectl(&arguments);
        assert_eq!(code(&output), 3, "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(&address), "{command}: {}", stderr(&output));
    }
}

#[test]
fn a_silent_coordinator_is_3_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = wynectl(&["--address", &address, "--timeout", "300ms", "nodes"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

#[test]
fn a_wrong_command_line_is_2() {
    for wrong in [
        &["no-such-command"][..],
        &[],
        &["node"],
        &["label", "n1"],
        &["set-heartbeat", "n1", "5ms"],
        &["--timeout", "never", "nodes"],
        &["--address", "https://there:1", "nodes"],
        &["snapshot", "verify", "--public-key", "12"],
        &["snapshot", "verify", "--file", "f", "--from", "1"],
    ] {
        let output = wynectl(wrong);
        assert_eq!(code(&output), 2, "{wrong:?}: {}", stderr(&output));
    }
}

#[test]
fn completions_and_reference() {
    for shell in ["bash", "zsh", "fish"] {
        let output = wynectl(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(String::from_utf8_lossy(&output.stdout).contains("set-heartbeat"));
    }
    let output = wynectl(&["docs"]);
    let reference = String::from_utf8(output.stdout).unwrap();
    assert!(reference.starts_with("# wynectl"), "{reference}");
    for known in ["wynectl snapshot export", "WYNEOS_ADDRESS", "Exit codes"] {
        assert!(reference.contains(known), "{known}");
    }
}

#[test]
fn version_needs_no_coordinator() {
    let output = wynectl(&["version", "--client"]);
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
    let output = wynectl(&["-o", "json", "version", "--client"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["clientVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_file_that_is_no_export_is_4_and_none_is_5() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshots");
    let verify = |file: &std::path::Path| wynectl(&["snapshot", "verify", "--file", file.to_str().unwrap()]);
    assert_eq!(code(&verify(&file)), 5);
    for garbage in [
        &b""[..],
        b"garbage, and enough of it",
        b"WYNEOS\x01\n",
        b"WYNEOS\x01\n\xff\xff\xff\xff\xff",
    ] {
        fs::write(&file, garbage).unwrap();
        let output = verify(&file);
        assert_eq!(code(&output), 4, "{}", stderr(&output));
        assert!(stderr(&output).contains("verification failed"), "{}", stderr(&output));
    }
}

#[test]
fn a_closed_output_is_quiet() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wynectl"))
        .arg("docs")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
}

#[test]
fn the_command_reference_is_what_the_parser_says() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    let generated = String::from_utf8(wynectl(&["docs"]).stdout).unwrap();
    let kept = fs::read_to_string(page).unwrap();
    assert!(
        kept == generated,
        "docs/commands.md is out of date: `cargo run -p wynectl -- docs > docs/commands.md`"
    );
}

#[test]
fn simulations_are_an_object_a_line_and_wrong_files_name_the_line() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/one-node.toml");
    let output = wynectl(&["simulate", scenario, "--seeds", "2", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let seeds: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seed"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(seeds, [1, 2]);
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.toml");
    fs::write(&wrong, "name = \"x\"\nduration = \"9s\"\nspeed = 1\n").unwrap();
    let output = wynectl(&["simulate", wrong.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("line 3: unknown field `speed`"),
        "{}",
        stderr(&output)
    );
}
