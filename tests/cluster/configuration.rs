//! Configuration of both servers: layers, errors, examples and documentation.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use wyneos::v1::Liveness;

use crate::{
    harness::{Cluster, binary, free_address, wait_until},
    secure::{run, text},
};

struct Server {
    program: &'static str,
    environment: &'static str,
    example: &'static str,
    /// Invalid files, and what the error must name.
    wrong: &'static [(&'static str, &'static str)],
}

const SERVERS: [Server; 2] = [
    Server {
        program: "wyneos-coordinator",
        environment: "WYNEOS_COORDINATOR_LOG",
        example: "coordinator.toml",
        wrong: &[
            ("tls = false\nlisten = \"0.0.0.0:1\"", "listen"),
            ("metrics_listen = \"0.0.0.0:1\"", "metrics_listen"),
            ("log = \"info,=,\"", "log"),
            ("data_dir = 7", "data_dir"),
            ("cycle = \"1ms\"", "cycle"),
            ("heartbeat = \"2 fortnights\"", "span of time"),
            ("history_max_count = 1", "history_max_count"),
            ("ca_cert = \"ca.pem\"", "ca_key"),
            ("late_renewal = \"20y\"", "late_renewal"),
            ("max_connections_per_source = 0", "max_connections_per_source"),
            ("audit_max_count = 1", "audit_max_count"),
            ("events_max_mib = 0", "events_max_mib"),
        ],
    },
    Server {
        program: "wyneos-agent",
        environment: "WYNEOS_AGENT_LOG",
        example: "agent.toml",
        wrong: &[
            ("tls = false\nlisten = \"0.0.0.0:1\"", "listen"),
            ("metrics_listen = \"0.0.0.0:1\"", "metrics_listen"),
            ("coordinators = []", "coordinators"),
            ("coordinators = [\"nowhere\"]", "coordinators"),
            ("[labels]\n\"a b\" = \"c\"", "labels"),
            ("name = \"a\\u0007\"", "name"),
            ("cgroup = \"/wyneos\"", "without a slash"),
            ("cgroup = \"../up\"", "cgroup"),
            ("work_user = \"\"", "work_user"),
            ("work_user = \"4294967295\"", "work_user"),
            ("work_user = \"4294967296\"", "work_user"),
            ("users = [\"+8589934592\"]", "users"),
            ("users = [\"a:b\"]", "users"),
        ],
    },
];

fn check(server: &Server, file: &str, args: &[&str], log: Option<&str>) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, file).unwrap();
    let mut command = Command::new(binary(server.program));
    command.args(["run", "--check", "--config"]).arg(&path).args(args);
    command.envs(log.map(|log| (server.environment, log)));
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
    for server in &SERVERS {
        let file = "log = \"warn\"";
        assert!(stdout(&check(server, file, &[], None)).contains("log = \"warn\""));
        assert!(stdout(&check(server, file, &[], Some("debug"))).contains("log = \"debug\""));
        assert!(stdout(&check(server, file, &["--log", "trace"], Some("debug"))).contains("log = \"trace\""));
    }
}

#[test]
fn what_is_printed_is_a_configuration_again() {
    for server in &SERVERS {
        let printed = stdout(&check(server, "", &[], None));
        assert_eq!(stdout(&check(server, &printed, &[], None)), printed);
    }
}

#[test]
fn a_typo_is_named_with_its_line_and_a_bad_value_with_its_field() {
    for server in &SERVERS {
        let output = check(server, "log = \"info\"\n\nlisten_on = \"x\"\n", &[], None);
        assert_eq!(output.status.code(), Some(64));
        let told = stderr(&output);
        assert!(told.contains("listen_on") && told.contains("line 3"), "{told}");
        for (file, named) in server.wrong {
            let output = check(server, file, &[], None);
            assert_eq!(output.status.code(), Some(64), "{file}: {}", stderr(&output));
            assert!(stderr(&output).contains(named), "{file}: {}", stderr(&output));
        }
    }
}

#[test]
fn the_examples_are_accepted_as_they_are_and_with_every_line_in_effect() {
    for server in &SERVERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy/config")
            .join(server.example);
        let example = fs::read_to_string(path).unwrap();
        stdout(&check(server, &example, &[], None));
        // Prose lines begin with "# ", settings with "#".
        let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
        let in_effect: Vec<&str> = example
            .lines()
            .filter(|line| setting(line))
            .map(|line| &line[1..])
            .collect();
        assert!(in_effect.len() > 5);
        stdout(&check(server, &in_effect.join("\n"), &[], None));
    }
}

#[test]
fn every_field_is_documented() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    for server in &SERVERS {
        for line in stdout(&check(server, "", &[], None)).lines() {
            let field = line.split(" = ").next().unwrap().trim_matches(['[', ']']);
            let named = field.is_empty() || page.contains(&format!("`{field}`"));
            assert!(
                named,
                "docs/configuration.md does not name {field} of {}",
                server.program
            );
        }
    }
}

#[test]
fn a_check_warns_about_users_as_a_start_does() {
    let agent = &SERVERS[1];
    assert_eq!(agent.program, "wyneos-agent");
    let output = check(
        agent,
        "",
        &["--work-user", "nosuchuser", "--users", "root,nosuchother"],
        Some("warn"),
    );
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    if rustix::process::geteuid().is_root() {
        for warning in ["nosuchuser", "nosuchother", "permits root"] {
            assert!(told.contains(warning), "{warning}: {told}");
        }
    } else {
        assert!(
            told.contains("runs as its own user") || told.contains("does not run as root"),
            "{told}"
        );
    }
}

/// The mesh reports the result of each probe and its target address, since the advertised address may not be the one
/// listened on.
#[tokio::test]
async fn the_mesh_says_what_came_of_probes_that_nobody_answers() {
    let cluster = Cluster::start().await;
    let closed = free_address();
    let agents = [
        cluster.agent("one"),
        cluster.agent_with("two", &["--advertise", &closed]),
    ];
    for name in ["one", "two"] {
        cluster.node_is(name, Liveness::Online).await;
    }
    let wanted = format!("connection refused at {closed}");
    wait_until("the mesh says so", async || {
        let shown = text(&run("wynectl", &["--address", &cluster.address, "mesh"]));
        shown.contains(&wanted).then_some(())
    })
    .await;
    for agent in agents {
        agent.kill().await;
    }
}
