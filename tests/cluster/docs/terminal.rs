//! A reader's terminal, which runs commands as printed.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    GO_ON, INSTEAD, READS, SECRETS, SUBSTITUTES, TOOLS,
    pages::{Block, Step},
    shape::fits,
};
use crate::{
    dev::Dev,
    harness::{Process, binary, directory, free_address, skip, wait_until},
};

pub struct Terminal {
    /// Commands that do not end.
    pub going: Vec<Process>,
    pub dev: Option<Dev>,
    env: Vec<(&'static str, String)>,
    /// Values of substitutes, by name.
    values: BTreeMap<&'static str, String>,
    /// Working directory of commands.
    pub folder: PathBuf,
    /// The last command and its output, for failure messages.
    last: String,
    home: TempDir,
}

impl Terminal {
    /// Opens a terminal in an empty home directory.
    pub fn new() -> Terminal {
        let home = directory();
        let here = home.path().display().to_string();
        let binaries = binary("wynectl").parent().unwrap().display().to_string();
        let inherited = std::env::var("PATH").unwrap_or_default();
        let env = vec![
            ("PATH", format!("{binaries}:{inherited}")),
            ("HOME", here.clone()),
            ("COLUMNS", "1000".to_owned()),
        ];
        Terminal {
            going: Vec::new(),
            dev: None,
            env,
            values: BTreeMap::from([("home", here), ("sources", env!("CARGO_MANIFEST_DIR").to_owned())]),
            folder: home.path().to_owned(),
            last: String::new(),
            home,
        }
    }

    /// Opens a terminal on a host whose servers keep their files in the home directory and use a port of their own.
    pub fn on_host() -> Terminal {
        let mut terminal = Terminal::new();
        let path = |name: &str| terminal.home.path().join(name).display().to_string();
        let address = free_address();
        let (_, port) = address.rsplit_once(':').unwrap();
        let env = [
            ("WYNEOS_COORDINATOR_LISTEN", format!("0.0.0.0:{port}")),
            ("WYNEOS_COORDINATOR_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
            ("WYNEOS_COORDINATOR_DATA_DIR", path("coordinator")),
            ("WYNEOS_COORDINATOR_CYCLE", "300ms".to_owned()),
            ("WYNEOS_AGENT_LISTEN", "127.0.0.1:0".to_owned()),
            ("WYNEOS_AGENT_DATA_DIR", path("agent")),
        ];
        terminal.set("port", port);
        terminal.env.extend(env);
        terminal
    }

    /// Uses the coordinator at this address, without TLS.
    pub fn talks_to(&mut self, address: &str) {
        self.env.push(("WYNEOS_ADDRESS", address.to_owned()));
        self.set("port", address.rsplit_once(':').unwrap().1);
    }

    /// Sets a value for substitutes.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, value.to_owned());
    }

    fn filled(&self, substitute: &str) -> String {
        let filled = self.values.iter().fold(substitute.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        });
        assert!(!filled.contains('{'), "no value for {filled}");
        filled
    }

    fn substituted(&self, printed: &str) -> String {
        let present = SUBSTITUTES.iter().filter(|(text, _)| printed.contains(text));
        present.fold(printed.to_owned(), |line, (text, here)| {
            line.replace(text, &self.filled(here))
        })
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        // Settings of the developer must not reach the commands.
        for (name, _) in std::env::vars_os() {
            let is_ours = |name: &str| name.starts_with("WYNEOS_") || name == "XDG_CONFIG_HOME";
            if name.to_str().is_some_and(is_ours) {
                shell.env_remove(name);
            }
        }
        shell
            .args(["-c", command, "sh"])
            .current_dir(&self.folder)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        shell
    }

    /// Runs a command to its end; returns whether it succeeded, and its output.
    fn attempt(&mut self, command: &str) -> (bool, String) {
        let output = self.shell(&format!("exec 2>&1\n{command}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        self.last = format!("$ {command}\n{said}");
        (output.status.success(), said)
    }

    /// Runs a command that must succeed; returns its output.
    pub fn run(&mut self, command: &str) -> String {
        let (success, said) = self.attempt(command);
        assert!(success, "{command}: {said}");
        said
    }

    /// Runs a command until it succeeds and `is` holds for its output.
    pub async fn until(&mut self, command: &str, is: impl Fn(&str) -> bool) -> String {
        wait_until(command, async || {
            let (success, said) = self.attempt(command);
            (success && is(&said)).then_some(said)
        })
        .await
    }

    pub fn json(&self, command: &str) -> Value {
        let output = self.shell(&format!("{command} -o json")).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Returns the rows of running instances.
    pub fn running(&self) -> Vec<Value> {
        let mut all = self.json("wynectl assignments");
        let Value::Array(mut rows) = all["assignments"].take() else {
            panic!("no list of assignments");
        };
        rows.retain(|row| row["assignment"]["status"]["phase"] == "INSTANCE_PHASE_RUNNING");
        rows
    }

    pub fn web_0(&self) -> Option<Value> {
        let mut rows = self.running().into_iter();
        rows.find(|row| row["assignment"]["slot"] == 0)
    }

    /// Runs every command of a block.
    pub async fn block(&mut self, block: &Block) {
        for step in block.steps() {
            self.step(&step).await;
        }
    }

    /// Runs a command as printed, and compares its output with the printed one; returns the output.
    pub async fn step(&mut self, step: &Step) -> String {
        let printed = step.command.as_str();
        for (start, probe) in TOOLS {
            if printed.starts_with(start) && !self.attempt(probe).0 {
                skip(&format!("the tool of `{printed}`"));
                return String::new();
            }
        }
        let instead = INSTEAD.iter().find(|(command, ..)| *command == printed);
        let command = instead.map_or_else(|| self.substituted(printed), |(_, here, _)| self.filled(here));
        if let (Some(file), true) = (command.strip_prefix("cat "), !step.printed.is_empty()) {
            // A document shows a file that the reader creates.
            fs::write(self.folder.join(file), step.printed.join("\n")).unwrap();
        }
        let lines: Vec<String> = step.printed.iter().map(|line| self.substituted(line)).collect();
        let printed_is_said = |said: &str| lines.is_empty() || fits(&lines, said);
        let goes_on = GO_ON.iter().find(|(part, _)| printed.contains(part));
        let said = if command == "wynectl dev" || command.starts_with("wynectl dev --") {
            self.start_dev(&command).await
        } else if let Some((_, says)) = goes_on {
            self.go_on(&command, says).await
        } else if READS.iter().any(|read| printed.starts_with(read)) {
            self.until(&command, printed_is_said).await
        } else {
            self.run(&command)
        };
        assert!(
            printed_is_said(&said),
            "{printed} writes\n{said}, printed is\n{:#?}",
            step.printed
        );
        self.learn(&said);
        said
    }

    /// Stores the secrets that a command printed.
    fn learn(&mut self, said: &str) {
        for (name, start) in SECRETS {
            if let Some(secret) = said.split_whitespace().find(|word| word.starts_with(start)) {
                self.set(name, secret);
            }
        }
    }

    /// Returns the running `wynectl dev`.
    pub fn dev(&mut self) -> &mut Dev {
        self.dev.as_mut().unwrap()
    }

    pub async fn start_dev(&mut self, command: &str) -> String {
        let dev = Dev::of(self.shell(&format!("exec {command} \"$@\"")));
        dev.says("cycle ").await;
        self.talks_to(&dev.address);
        self.dev.insert(dev).output()
    }

    async fn go_on(&mut self, command: &str, says: &str) -> String {
        let log = self.home.path().join(format!("{}.log", self.going.len()));
        let process = Process::of(self.shell(&format!("exec >&2\nexec {command}")), &log);
        let said = wait_until(&format!("{command} says {says:?}"), async || {
            let said = process.log_text();
            said.contains(says).then_some(said)
        })
        .await;
        self.going.push(process);
        said
    }

    /// Returns whether a program is installed on this machine.
    pub fn has(&self, program: &str) -> bool {
        self.shell(&format!("command -v {program}"))
            .output()
            .unwrap()
            .status
            .success()
    }

    /// Ends running commands, and `wynectl dev`, which leaves nothing behind.
    pub async fn dev_ends(&mut self) {
        self.going.clear();
        let dev = self.dev();
        dev.signal(Signal::INT);
        assert_eq!(dev.ended().await, Some(0));
        dev.left_nothing();
    }

    /// Writes a declaration into a file with its name; returns the file's name.
    pub fn declaration(&self, block: &Block) -> String {
        let name = block.lines.iter().find_map(|line| line.strip_prefix("name = "));
        let name = name.unwrap_or_else(|| panic!("no rule for {}", block.name()));
        let file = format!("{}.toml", name.trim_matches('"'));
        fs::write(self.folder.join(&file), block.lines.join("\n")).unwrap();
        file
    }

    /// Creates a bearer token, and changes into the directory of the admin's credentials, as examples of grpcurl expect.
    pub fn has_a_bearer_token(&mut self) {
        let said = self.run("wynectl operator create script --role viewer --bearer");
        self.learn(&said);
        self.folder = self.home.path().join("admin");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("== the last command\n{}", self.last);
        }
    }
}
