//! HAProxy in front of a workload, and what keeps it in step with its instances: both as deploy/haproxy has them.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::net::{PATIENCE, binary};

/// Where Debian has it, which is not on everybody's PATH.
const HAPROXY: &str = "/usr/sbin/haproxy";

/// A workload of [`Proxy`]: small, and with an end that finishes what it has begun. Its answers begin with `web `.
pub const SERVICE: &str = include_str!("service.toml");

/// HAProxy that runs, and its follower; both end with this.
pub struct Proxy {
    children: Vec<Child>,
    directory: TempDir,
}

impl Proxy {
    /// Why there can be none here; `None` when there can.
    pub fn missing() -> Option<String> {
        let wanted = [HAPROXY, "/usr/bin/gunicorn", "/usr/bin/python3"];
        let missing = wanted.into_iter().find(|path| !Path::new(path).exists())?;
        Some(format!("{missing} is not on this machine"))
    }

    /// Starts both, within a network namespace if one is named, in front of a workload; and waits until HAProxy takes connections. `flags` are the
    /// follower's.
    pub fn start(coordinator: &str, workload: &str, space: Option<&str>, flags: &[&str]) -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let mut proxy = Proxy {
            directory,
            children: Vec::new(),
        };
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy");
        let [admin, configuration] = ["admin.sock", "haproxy.cfg"].map(|name| proxy.path(name));
        let shipped = fs::read_to_string(deploy.join("haproxy.cfg")).unwrap();
        let bind = format!("bind unix@{}", proxy.socket().display());
        let own = shipped.replace("/run/haproxy/admin.sock", &admin.display().to_string());
        fs::write(&configuration, own.replace("bind :8080", &bind)).unwrap();
        let mut haproxy = within(space, HAPROXY);
        haproxy.arg("-db").arg("-f").arg(configuration);
        proxy.spawn(haproxy, "haproxy");
        let mut follower = within(space, "/usr/bin/python3");
        follower
            .arg(deploy.join("follow.py"))
            .env("WYNEOS_ADDRESS", coordinator);
        follower.args([
            "--workload",
            workload,
            "--backend",
            "web",
            "--wynectl",
            &binary("wynectl"),
        ]);
        follower.arg("--socket").arg(admin).args(flags);
        proxy.spawn(follower, "follower");
        let began = Instant::now();
        while UnixStream::connect(proxy.socket()).is_err() {
            assert!(began.elapsed() < PATIENCE, "HAProxy does not start: {}", proxy.log());
            thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self, mut command: Command, name: &str) {
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    /// Where HAProxy takes requests, whatever network namespace it is in.
    pub fn socket(&self) -> PathBuf {
        self.path("web.sock")
    }

    /// What both have said.
    pub fn log(&self) -> String {
        let logs = ["haproxy", "follower"].map(|name| fs::read_to_string(self.path(&format!("{name}.log"))));
        logs.into_iter().flatten().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The follower ends what it has started.
        for child in &mut self.children {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                kill_process(pid, Signal::TERM).ok();
            }
            drop(child.wait());
        }
        if thread::panicking() {
            eprintln!("== HAProxy and its follower\n{}", self.log());
        }
    }
}

fn within(space: Option<&str>, program: &str) -> Command {
    match space {
        None => Command::new(program),
        Some(space) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", space, program]);
            command
        }
    }
}
