//! Every command block in the documentation, run as printed.
//!
//! One test per document processes all of its blocks and fails for a block without a rule: commands in `sh` and
//! `console` blocks run, their output is compared with the printed one, and declarations in `toml` blocks are applied.

mod hosts;
mod links;
mod pages;
mod programs;
mod readme;
mod shape;
mod terminal;
mod tutorial;
mod workloads;

use std::fs;

use pages::{Block, blocks};

/// Documents whose blocks are run.
const RUN: [&str; 7] = [
    "README.md",
    "docs/api.md",
    "docs/integrity.md",
    "docs/operations.md",
    "docs/security.md",
    "docs/tutorial.md",
    "docs/workloads.md",
];

/// Documents whose blocks are not run, with reasons.
const NOT_RUN: [(&str, &str); 3] = [
    ("CONTRIBUTING.md", "its commands are the README's"),
    (
        "deploy/README.md",
        "it installs onto the host; tests/deploy.rs runs the script, and docs/operations.md has the other commands",
    ),
    (
        "docs/simulator.md",
        "scenarios and searches run in tests of sim/, with its own limits of time",
    ),
];

/// Texts in the documents, and their replacements in commands and in printed output. `{name}` is a value of the
/// terminal.
const SUBSTITUTES: [(&str, &str); 14] = [
    ("target/release/wynectl", "wynectl"),
    ("HOST:7400", "localhost:{port}"),
    ("0.0.0.0:7400", "0.0.0.0:{port}"),
    ("127.0.0.1:7400", "127.0.0.1:{port}"),
    ("/etc/wyneos/", "{sources}/deploy/config/"),
    ("/var/lib/", "{home}/new-host/"),
    ("wyneos-join-1-…", "{join}"),
    ("wyneos-bearer-1-…", "{bearer}"),
    ("--public-key HEX", "--public-key {key}"),
    ("./follow.py", "{sources}/deploy/haproxy/follow.py"),
    ("/run/haproxy/", "{home}/"),
    ("ADDRESS-OF-WEB.0", "{address}"),
    ("PID-OF-WEB.0", "{pid}"),
    // A user that exists on every host, in place of one that may not.
    ("postgres", "daemon"),
];

/// Secrets that commands print once: the name of the value, and its prefix.
const SECRETS: [(&str, &str); 2] = [("join", "wyneos-join-1-"), ("bearer", "wyneos-bearer-1-")];

/// Commands that cannot run as printed: the exact text, its replacement, and the reason.
const INSTEAD: [(&str, &str, &str); 6] = [
    (
        "cargo build --release",
        "grep -q '^default-members = .*\"coordinator\", \"agent\", \"ctl\"' {sources}/Cargo.toml",
        "builds the test's own tree again; what is checked is that a bare build makes all three programs",
    ),
    (
        "cargo build --release && target/release/wynectl dev",
        "wynectl dev",
        "likewise; the programs of the test's build are in PATH",
    ),
    (
        "cargo test --workspace",
        "grep -q 'cargo test --workspace --locked$' {sources}/.ci/run",
        "would run itself; what is checked is that .ci/run runs it",
    ),
    (
        "systemctl enable --now wyneos-coordinator",
        "$(sed -n 's|/etc/wyneos/|{sources}/deploy/config/|; s|^ExecStart=/usr/bin/||p' \
         {sources}/deploy/systemd/wyneos-coordinator.service)",
        "tests install nothing; the command of the shipped unit runs",
    ),
    (
        "systemctl enable --now wyneos-agent",
        "$(sed -n 's|/etc/wyneos/|{sources}/deploy/config/|; s|^ExecStart=/usr/bin/||p' \
         {sources}/deploy/systemd/wyneos-agent.service)",
        "likewise",
    ),
    (
        "haproxy -D -f haproxy.cfg",
        "sh -c 'sed \"s|/run/haproxy|$HOME|; s|bind :8080|bind 127.0.0.1:{proxy}|\" {sources}/deploy/haproxy/haproxy.cfg \
         > haproxy.cfg && exec haproxy -d -f haproxy.cfg'",
        "keeps its socket and its port to the test, and ends with it",
    ),
];

/// Commands that do not end: a part of the text, and the output that shows that they run. They end with the test.
const GO_ON: [(&str, &str); 10] = [
    ("wyneos-coordinator run --listen", "listening"),
    ("wyneos-agent run", "joined"),
    ("systemctl enable --now wyneos-coordinator", "listening"),
    ("systemctl enable --now wyneos-agent", "joined"),
    ("wynectl assignments -w", "node-"),
    ("wynectl logs web.0 --stderr -f", "GET / "),
    ("haproxy -D", "polling"),
    // No output while everything is well.
    ("follow.py", ""),
    ("CoherenceService/WatchSnapshots", "\"full\""),
    ("EventService/WatchEvents", "\"sequence\""),
];

/// Read-only commands, by their beginnings: repeated until they succeed and their output matches.
const READS: [&str; 9] = [
    "grpcurl ",
    "wynectl assignments",
    "wynectl mesh",
    "wynectl node ",
    "wynectl nodes",
    "wynectl plan ",
    "wynectl snapshot verify",
    "wynectl whatif ",
    "wynectl why ",
];

/// Tools that may not be installed: the beginning of their commands, and a command that checks for them.
const TOOLS: [(&str, &str); 5] = [
    ("./follow.py ", "command -v haproxy"),
    ("haproxy ", "command -v haproxy"),
    ("buf ", "command -v buf && python -c 'import grpc_tools'"),
    ("grpcurl ", "command -v grpcurl"),
    ("python -m grpc_tools.protoc ", "python -c 'import grpc_tools'"),
];

/// Every document is listed, and every rule is used.
#[test]
fn every_document_with_commands_is_known_and_every_rule_is_needed() {
    let mut pages: Vec<String> = ["README.md", "CONTRIBUTING.md", "deploy/README.md"]
        .map(str::to_owned)
        .to_vec();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap() {
        pages.push(format!("docs/{}", entry.unwrap().file_name().display()));
    }
    pages.retain(|page| page.ends_with(".md") && blocks(page).iter().any(Block::has_commands));
    pages.sort();
    let mut known: Vec<&str> = NOT_RUN.iter().map(|(page, _)| *page).chain(RUN).collect();
    known.sort_unstable();
    assert_eq!(pages, known);

    let of_run: Vec<Block> = RUN.iter().flat_map(|page| blocks(page)).collect();
    let steps = of_run
        .iter()
        .filter(|block| block.has_commands())
        .flat_map(Block::steps);
    let commands: Vec<String> = steps.map(|step| step.command).collect();
    let needed = |rule: &str, is: &dyn Fn(&str) -> bool| {
        let found = commands.iter().any(|command| is(command));
        assert!(found, "no command needs the rule for {rule:?}");
    };
    for (text, ..) in INSTEAD {
        needed(text, &|command| command == text);
    }
    for (part, _) in GO_ON {
        needed(part, &|command| command.contains(part));
    }
    for start in READS.into_iter().chain(TOOLS.map(|(start, _)| start)) {
        needed(start, &|command| command.starts_with(start));
    }
    for (text, _) in SUBSTITUTES {
        let found = of_run
            .iter()
            .flat_map(|block| &block.lines)
            .any(|line| line.contains(text));
        assert!(found, "no block has {text:?}");
    }
}
