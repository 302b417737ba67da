use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Command, Interval, LabelChange, SnapshotCommand};

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

fn command(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

#[test]
fn snapshot_alone_is_get() {
    let Command::Snapshot(bare) = command("wynectl snapshot --cycle 7").unwrap() else {
        panic!("not snapshot");
    };
    assert!(bare.command.is_none());
    assert_eq!(bare.get.cycle, Some(7));
    let Command::Snapshot(watch) = command("wynectl snapshot watch --section nodes mesh --label a=b").unwrap() else {
        panic!("not snapshot");
    };
    assert!(matches!(watch.command, Some(SnapshotCommand::Watch(args)) if args.section.len() == 2));
}

#[test]
fn labels_are_kubectls() {
    let Command::Label { changes, .. } = command("wynectl label n1 a=b c= d-").unwrap() else {
        panic!("not label");
    };
    let set = |key: &str, value: &str| LabelChange::Set(key.to_owned(), value.to_owned());
    assert_eq!(
        changes,
        [set("a", "b"), set("c", ""), LabelChange::Remove("d".to_owned())]
    );
    for bad in ["label n1", "label n1 a", "label n1 =b", "label n1 -"] {
        command(&format!("wynectl {bad}")).unwrap_err();
    }
}

#[test]
fn intervals_are_bounded() {
    assert_eq!("default".parse(), Ok(Interval(None)));
    assert_eq!("500ms".parse(), Ok(Interval(Some(Duration::from_millis(500)))));
    for bad in ["99ms", "61s", "soon", ""] {
        bad.parse::<Interval>().unwrap_err();
    }
    command("wynectl --timeout 0s nodes").unwrap_err();
}

#[test]
fn dev_runs_a_cluster_or_acts_on_one() {
    for good in [
        "dev",
        "dev --agents 2 --cycle 1s --listen 127.0.0.1:7401 --tls",
        "dev kill node-2",
        "dev stop agent-2 --listen [::1]:7400",
        "dev cont coordinator",
        "--address 127.0.0.1:7401 dev start node-2",
    ] {
        assert!(
            matches!(command(&format!("wynectl {good}")), Ok(Command::Dev(_))),
            "{good}"
        );
    }
    let long = format!("dev kill {}", "n".repeat(65));
    for bad in [
        "dev kill",
        "dev end node-2",
        "dev kill node-2 --listen 192.0.2.1:7400",
        "dev --tls kill node-2",
        &long,
    ] {
        command(&format!("wynectl {bad}")).unwrap_err();
    }
    Cli::try_parse_from(["wynectl", "dev", "kill", "node 2"]).unwrap_err();
}
