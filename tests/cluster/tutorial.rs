//! The tutorial's commands, as they are printed and in their order.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    dev::Dev,
    harness::{binary, skip, wait_until},
};

const TUTORIAL: &str = include_str!("../../docs/tutorial.md");

/// What stands behind the prompts of the tutorial; a command goes on until the next prompt or the end of its block.
fn commands() -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut inside = false;
    for line in TUTORIAL.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            commands.push(command.to_owned());
        } else if inside {
            let command = commands.last_mut().expect("a command before its further lines");
            command.push('\n');
            command.push_str(line);
        }
    }
    commands
}

/// A reader of the tutorial, in the second terminal.
struct Reader<'a> {
    dev: &'a Dev,
}

impl Reader<'_> {
    fn shell(&self, command: &str) -> Command {
        let binaries = binary("wynectl").parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(self.dev.directory.path())
            .env("PATH", format!("{binaries}:{path}"))
            .env("WYNEOS_ADDRESS", &self.dev.address)
            .env("COLUMNS", "1000")
            .stdin(Stdio::null());
        shell
    }

    /// Runs a command to its end; what it wrote.
    fn run(&self, command: &str) -> String {
        let output = self.shell(command).output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{command}: {out}{err}");
        out.into_owned()
    }

    /// Starts a command in a third terminal; its output goes to the file `name`.
    fn start(&self, command: &str, name: &str) -> Child {
        let file = fs::File::create(self.dev.directory.path().join(name)).unwrap();
        let mut shell = self.shell(&format!("exec {command}"));
        shell.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap()
    }

    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{command} -o json"))).unwrap()
    }

    /// The rows of the instances that run.
    fn running(&self) -> Vec<Value> {
        let mut all = self.json("wynectl assignments");
        let Value::Array(mut rows) = all["assignments"].take() else {
            panic!("no list of assignments");
        };
        rows.retain(|row| row["assignment"]["status"]["phase"] == "INSTANCE_PHASE_RUNNING");
        rows
    }

    fn web_0(&self) -> Option<Value> {
        let mut rows = self.running().into_iter();
        rows.find(|row| row["assignment"]["slot"] == 0)
    }

    fn is(&self, node: &str, liveness: &str) -> Option<()> {
        let all = self.json("wynectl nodes");
        let mut rows = all["nodes"].as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == node).unwrap();
        (row["liveness"] == liveness).then_some(())
    }

    /// Runs a command until what it wrote contains `what`.
    async fn until(&self, command: &str, what: &str) -> String {
        wait_until(&format!("{command} says {what:?}"), async || {
            let output = self.shell(command).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            said.contains(what).then_some(said)
        })
        .await
    }
}

fn all_there(program: &str) -> bool {
    let mut command = Command::new("sh");
    let found = command.args(["-c", &format!("command -v {program}")]).output();
    found.unwrap().status.success()
}

#[tokio::test]
async fn every_command_of_the_tutorial_does_what_it_says() {
    if !all_there("curl") || !all_there("/usr/bin/python3") {
        return skip("curl and /usr/bin/python3, for the tutorial");
    }
    let commands = commands();
    let [build, start, path, rest @ ..] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(build, "cargo build --release");
    assert_eq!(path, "export PATH=$PWD/target/release:$PATH");
    let agents = start.strip_prefix("target/release/wynectl dev --agents ").unwrap();
    let mut dev = Dev::start(agents);
    dev.says("cycle ").await;
    let reader = Reader { dev: &dev };
    let (mut watching, mut pid, mut started, mut last) = (None, 0, false, String::new());
    for command in rest {
        let words: Vec<&str> = command.split_whitespace().take(3).collect();
        match words[..] {
            ["curl", ..] => {
                let address = reader.web_0().unwrap()["addresses"][0].as_str().unwrap().to_owned();
                reader
                    .until(&command.replace("ADDRESS-OF-WEB.0", &address), "DOCTYPE")
                    .await;
            }
            ["wynectl", "logs", ..] => drop(reader.until(command, "GET / ").await),
            ["wynectl", "assignments", "-w"] => watching = Some(reader.start(command, "watched")),
            ["wynectl", "apply", ..] => {
                let said = reader.run(command);
                assert!(said.contains("6 instances start"), "{said}");
                wait_until("six run", async || (reader.running().len() == 6).then_some(())).await;
            }
            ["wynectl", "why", "web.0"] => {
                let said = reader.run(command);
                let number = said.trim().trim_start_matches("\"pid\": ").trim_end_matches(',');
                pid = number.parse::<u64>().unwrap_or_else(|_| panic!("{said}"));
            }
            ["kill", "-9", "PID-OF-WEB.0"] => {
                reader.run(&command.replace("PID-OF-WEB.0", &pid.to_string()));
                wait_until("web.0 is restarted", async || {
                    let status = reader.web_0()?["assignment"]["status"].take();
                    (status["restarts"] == 1 && status["pid"] != pid).then_some(())
                })
                .await;
            }
            ["wynectl", "whatif", ..] => {
                let said = reader.run(command);
                assert!(said.contains("2 instances would start elsewhere"), "{said}");
            }
            ["wynectl", "dev", "kill"] => {
                let of_node_2 = |rows: &[Value]| rows.iter().filter(|row| row["nodeName"] == "node-2").count();
                assert_eq!(of_node_2(&reader.running()), 2);
                let agent = dev.printed_pid("node-2");
                reader.run(command);
                dev.says(&format!("agent of node-2 (pid {agent}) ended")).await;
                wait_until("node-2 is offline", async || reader.is("node-2", "LIVENESS_OFFLINE")).await;
                wait_until("six run elsewhere", async || {
                    let rows = reader.running();
                    (rows.len() - of_node_2(&rows) == 6).then_some(())
                })
                .await;
            }
            ["wynectl", "why", "node-2"] => {
                let said = reader.run(command);
                assert!(said.contains("agent-gone") && said.contains("Evidence"), "{said}");
            }
            ["wynectl", "dev", "start"] => {
                assert!(dev.printed_command().contains(" dev start node-2"));
                reader.run(command);
                wait_until("node-2 is back", async || reader.is("node-2", "LIVENESS_ONLINE")).await;
                started = true;
            }
            ["wynectl", "why", "web"] => {
                let said = reader.run(command);
                assert!(said.contains("on node-2 was lost") || said.contains("node-2"), "{said}");
            }
            _ => drop(reader.run(command)),
        }
        last.clone_from(command);
    }
    assert_eq!(last, "wynectl delete web");
    let mut watching = watching.expect("the tutorial watches");
    watching.kill().unwrap();
    watching.wait().unwrap();
    let watched = fs::read_to_string(dev.directory.path().join("watched")).unwrap();
    assert!(watched.contains("node-2") && watched.contains("node-3"), "{watched}");
    assert!(started, "the tutorial starts the agent again");
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
}
