//! Untrusted names and output, on a terminal and in a pipe.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test, with helpers that others share"
)]

mod fake;

use std::process::{Command, Stdio};

use fake::{State, serve};
use wyneos::v1;

/// Clears the screen, retitles the window, changes colours by C1, and reverses the line.
const HOSTILE: &str = "web\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{200b}7";
const SHOWN: &str = "web\\x1b[2J\\x1b]0;owned\\x07\\u{9b}31m\\u{202e}\\u{200b}7";

fn hostile() -> State {
    let node = v1::NodeRow {
        id: "01010101-0101-0101-0101-010101010101".to_owned(),
        name: HOSTILE.to_owned(),
        labels: vec![v1::Label {
            key: HOSTILE.to_owned(),
            value: HOSTILE.to_owned(),
        }],
        ..v1::NodeRow::default()
    };
    let evidence = v1::Evidence {
        fact: HOSTILE.to_owned(),
        ..v1::Evidence::default()
    };
    let decision = v1::Decision {
        action: HOSTILE.to_owned(),
        evidence: vec![evidence],
        ..v1::Decision::default()
    };
    State {
        snapshot: v1::Snapshot {
            nodes: vec![node.clone()],
            mesh: Some(v1::MeshTopology {
                findings: vec![v1::Finding {
                    detail: HOSTILE.to_owned(),
                    near: vec![node.id.clone()],
                    ..v1::Finding::default()
                }],
                ..v1::MeshTopology::default()
            }),
            ..v1::Snapshot::default()
        },
        explained: v1::ExplainNodeResponse {
            node: Some(node),
            liveness: Some(decision.clone()),
            recent: vec![decision],
            ..v1::ExplainNodeResponse::default()
        },
        ..State::default()
    }
}

/// Runs `wynectl` with both outputs on a pseudo-terminal; returns the terminal's output.
async fn on_terminal(address: std::net::SocketAddr, line: &str) -> String {
    let program = env!("CARGO_BIN_EXE_wynectl");
    let command = format!("NO_COLOR=1 {program} --address {address} {line}");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || script.output())
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_plain(text: &str) -> bool {
    let harmless = |c: char| matches!(c, '\n' | '\r' | '\t') || !c.is_control();
    text.chars().all(|c| harmless(c) && c != '\u{202e}' && c != '\u{200b}')
}

#[tokio::test]
async fn no_name_label_or_reason_drives_the_terminal_and_pipes_get_them_as_they_are() {
    let (address, _) = serve(hostile()).await;
    // The fake coordinator knows its node only by its name, and wynectl passes that on from the command line unchanged.
    let quoted = format!("'{HOSTILE}'");
    let lines = [
        "nodes",
        "mesh",
        "snapshot",
        &format!("node {quoted}"),
        &format!("why {quoted}"),
    ];
    for line in lines {
        let shown = on_terminal(address, line).await;
        assert!(shown.contains(SHOWN), "{line}: {shown:?}");
        assert!(is_plain(&shown), "{line}: {shown:?}");
        let raw = on_terminal(address, &format!("--raw {line}")).await;
        assert!(raw.contains(HOSTILE), "{line}: {raw:?}");
    }
    let (code, piped, _) = fake::run(address, "nodes").await;
    assert_eq!(code, 0);
    assert!(piped.contains(HOSTILE), "{piped:?}");
    for line in ["nodes", "mesh"] {
        let json = on_terminal(address, &format!("-o json {line}")).await;
        assert!(is_plain(&json), "{line}: {json:?}");
        assert!(json.contains("\\u001b[2J"), "{line}: {json:?}");
    }
}

#[tokio::test]
async fn no_error_of_a_server_drives_the_terminal() {
    let (address, _) = serve(hostile()).await;
    // The server's error repeats the request.
    let shown = on_terminal(address, "cordon \"$(printf 'x\\033[2J\\302\\233')\"").await;
    assert!(shown.contains("no node is"), "{shown:?}");
    assert!(is_plain(&shown), "{shown:?}");
}
