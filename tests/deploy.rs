//! The install script, run into a directory with stand-ins for the binaries, and the systemd units.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const ROLES: [&str; 2] = ["coordinator", "agent"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// A directory of binaries, and a root to install under.
struct Host {
    dir: TempDir,
    deploy: PathBuf,
}

impl Host {
    fn new() -> Host {
        let host = Host {
            dir: tempfile::tempdir().unwrap(),
            deploy: deploy(),
        };
        host.build("old");
        host
    }

    /// A host whose script is in a copy of deploy/, which can be modified.
    fn with_own_examples() -> Host {
        let mut host = Host::new();
        let copy = host.dir.path().join("deploy");
        for file in ["install.sh", "config/coordinator.toml", "config/agent.toml"] {
            copy_file(&deploy().join(file), &copy.join(file));
        }
        for role in ROLES {
            let unit = format!("systemd/wyneos-{role}.service");
            copy_file(&deploy().join(&unit), &copy.join(&unit));
        }
        host.deploy = copy;
        host
    }

    fn build(&self, content: &str) {
        let binaries = self.dir.path().join("bin");
        fs::create_dir_all(&binaries).unwrap();
        for name in ["wyneos-coordinator", "wyneos-agent", "wynectl"] {
            fs::write(binaries.join(name), format!("{name} {content}")).unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut script = Command::new("sh");
        script
            .arg(self.deploy.join("install.sh"))
            .args(arguments)
            .env("DESTDIR", self.root());
        if !arguments.contains(&"uninstall") {
            script.arg("--bin-dir").arg(self.dir.path().join("bin"));
        }
        script.output().unwrap()
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the script, which must fail with this status; returns the message.
    fn refused(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// Returns every file under the root with its mode, sorted.
    fn files(&self) -> Vec<(String, u32)> {
        let mut files = Vec::new();
        list(&self.root(), &self.root(), &mut files);
        files.sort();
        files
    }
}

fn copy_file(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

fn list(root: &Path, directory: &Path, files: &mut Vec<(String, u32)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            list(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.push((name, metadata.permissions().mode() & 0o7777));
        }
    }
}

fn expected(roles: &[&str]) -> Vec<(String, u32)> {
    let mut files = vec![("usr/bin/wynectl".to_owned(), 0o755)];
    for role in roles {
        files.push((format!("etc/wyneos/{role}.toml"), 0o644));
        files.push((format!("usr/bin/wyneos-{role}"), 0o755));
        files.push((format!("usr/lib/systemd/system/wyneos-{role}.service"), 0o644));
        files.push((format!("usr/share/wyneos/{role}.toml"), 0o644));
    }
    files.sort();
    files
}

#[test]
fn install_puts_everything_in_place_and_can_be_repeated() {
    let host = Host::new();
    host.must(&[]);
    assert_eq!(host.files(), expected(&ROLES));
    assert_eq!(host.text("usr/bin/wyneos-agent"), "wyneos-agent old");
    host.must(&["install", "all"]);
    assert_eq!(host.files(), expected(&ROLES));
}

#[test]
fn a_role_is_installed_alone() {
    let host = Host::new();
    host.must(&["agent", "install"]);
    assert_eq!(host.files(), expected(&["agent"]));
}

#[test]
fn upgrade_replaces_programs_and_keeps_an_edited_configuration() {
    let host = Host::with_own_examples();
    host.must(&["install"]);
    fs::write(host.at("etc/wyneos/agent.toml"), "name = \"mine\"\n").unwrap();
    host.build("new");
    host.must(&["upgrade"]);
    assert_eq!(host.text("usr/bin/wynectl"), "wynectl new");
    assert_eq!(host.text("usr/bin/wyneos-coordinator"), "wyneos-coordinator new");
    assert_eq!(host.text("etc/wyneos/agent.toml"), "name = \"mine\"\n");
    assert_eq!(
        host.files(),
        expected(&ROLES),
        "an example that did not change is no news"
    );

    fs::write(host.deploy.join("config/agent.toml"), "# a new field\n").unwrap();
    let said = host.must(&["upgrade", "agent"]);
    assert!(said.contains("agent.toml.new"), "{said}");
    assert_eq!(host.text("etc/wyneos/agent.toml"), "name = \"mine\"\n");
    assert_eq!(host.text("etc/wyneos/agent.toml.new"), "# a new field\n");

    fs::write(host.at("etc/wyneos/agent.toml"), "# a new field\n").unwrap();
    host.must(&["upgrade", "agent"]);
    assert!(
        !host.at("etc/wyneos/agent.toml.new").exists(),
        "the example was taken over"
    );
}

#[test]
fn upgrade_is_of_what_is_installed() {
    let host = Host::new();
    let message = host.refused(&["upgrade"], 1);
    assert!(message.contains("nothing to upgrade"), "{message}");
    host.must(&["install", "agent"]);
    host.must(&["upgrade"]);
    assert_eq!(host.files(), expected(&["agent"]));
    host.refused(&["upgrade", "coordinator"], 1);
}

#[test]
fn uninstall_keeps_configuration_and_state() {
    let host = Host::new();
    host.must(&["install"]);
    let state = host.at("var/lib/wyneos-agent/id");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, "id").unwrap();

    host.must(&["uninstall", "coordinator"]);
    assert!(host.at("usr/bin/wynectl").exists(), "the agent is still there");
    host.must(&["uninstall"]);
    let left: Vec<String> = host.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        left,
        [
            "etc/wyneos/agent.toml",
            "etc/wyneos/coordinator.toml",
            "var/lib/wyneos-agent/id"
        ]
    );
    host.must(&["uninstall"]);
}

#[test]
fn purge_removes_configuration_and_state_of_its_role_only() {
    let host = Host::new();
    host.must(&["install"]);
    // The layout in which systemd keeps the state of a unit with a dynamic user.
    fs::create_dir_all(host.at("var/lib/private/wyneos-agent")).unwrap();
    fs::write(host.at("var/lib/private/wyneos-agent/id"), "id").unwrap();
    std::os::unix::fs::symlink("private/wyneos-agent", host.at("var/lib/wyneos-agent")).unwrap();

    host.must(&["uninstall", "agent", "--purge"]);
    assert_eq!(host.files(), expected(&["coordinator"]));
    host.must(&["uninstall", "--purge"]);
    assert_eq!(host.files(), []);
    assert!(!host.at("etc/wyneos").exists());
}

#[test]
fn wrong_arguments_are_named_and_change_nothing() {
    let host = Host::new();
    for (arguments, word) in [
        (vec!["reinstall"], "reinstall"),
        (vec!["--force"], "--force"),
        (vec!["install", "upgrade"], "upgrade"),
        (vec!["agent", "coordinator"], "coordinator"),
        (vec!["install", "--purge"], "--purge"),
        (vec!["uninstall", "--bin-dir"], "--bin-dir"),
        (vec!["uninstall", "--bin-dir=x"], "--bin-dir"),
    ] {
        let message = host.refused(&arguments, 64);
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
    assert!(host.must(&["--help"]).contains("Usage:"));
    assert_eq!(host.files(), []);
}

#[test]
fn a_missing_binary_is_found_before_anything_changes() {
    let host = Host::new();
    let missing = host.dir.path().join("bin/wyneos-agent");
    fs::remove_file(&missing).unwrap();
    let message = host.refused(&["install"], 1);
    assert!(message.contains(missing.to_str().unwrap()), "{message}");
    assert_eq!(host.files(), []);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let host = Host::new();
    fs::create_dir_all(host.at("usr")).unwrap();
    fs::write(host.at("usr/bin"), "not a directory").unwrap();
    let message = host.refused(&["install"], 1);
    assert!(message.contains("usr/bin"), "{message}");
}

/// Settings that other components rely on.
#[test]
fn units_state_what_is_relied_on() {
    for role in ROLES {
        let unit = fs::read_to_string(deploy().join(format!("systemd/wyneos-{role}.service"))).unwrap();
        let has = |line: &str| unit.lines().any(|other| other == line);
        for line in [
            &format!("ExecStart=/usr/bin/wyneos-{role} run --config /etc/wyneos/{role}.toml"),
            &format!("StateDirectory=wyneos-{role}"),
            "RestartPreventExitStatus=64",
            "TimeoutStopSec=30",
            "Wants=network-online.target time-sync.target",
            "After=network-online.target time-sync.target",
        ] {
            assert!(has(line), "{role}: {line}");
        }
        let own = match role {
            // Work outlives the agent, and sees the host unchanged.
            "agent" => ["KillMode=process", "Delegate=yes"],
            _ => ["NoNewPrivileges=yes", "ProtectSystem=strict"],
        };
        for line in own {
            assert!(has(line), "{role}: {line}");
        }
        if role == "agent" {
            for hiding in ["ProtectProc=", "ProcSubset=", "PrivatePIDs=", "PrivateNetwork="] {
                assert!(
                    !unit.lines().any(|line| line.starts_with(hiding)),
                    "the agent sees the host: {hiding}"
                );
            }
        }
    }
}

#[test]
fn systemd_accepts_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            b"skipped: no systemd-analyze on this machine\n",
        ));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for role in ROLES {
        let name = format!("wyneos-{role}.service");
        let unit = fs::read_to_string(deploy().join("systemd").join(&name)).unwrap();
        // The program must exist for the unit to be accepted.
        let unit = unit.replace(&format!("/usr/bin/wyneos-{role}"), "/bin/sh");
        fs::write(dir.path().join(&name), unit).unwrap();
        let verify = Command::new("systemd-analyze")
            .arg("verify")
            .arg(dir.path().join(&name))
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&verify.stderr);
        // An unknown setting causes a complaint, not a failure.
        assert!(verify.status.success() && !complaints.contains(&name), "{complaints}");
    }
}
