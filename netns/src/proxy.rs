//! HAProxy in front of a workload, and the follower that keeps its backends in sync with the instances, both configured
//! as in `deploy/haproxy`.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tempfile::TempDir;
use wyneos_launch::{LOOK, Launch, Process, until, within};

use crate::net::{PATIENCE, binary};

/// Path of HAProxy on Debian, which may not be on the PATH.
const HAPROXY: &str = "/usr/sbin/haproxy";

/// A small workload for [`Proxy`] that finishes its requests on shutdown. Its answers begin with `web `.
pub const SERVICE: &str = include_str!("service.toml");

/// A running HAProxy and its follower; both end when this value is dropped.
pub struct Proxy {
    children: Vec<Process>,
    directory: TempDir,
}

impl Proxy {
    /// Returns the unmet requirement of a proxy on this machine, or `None` if it can run.
    pub fn missing() -> Option<String> {
        let wanted = [HAPROXY, "/usr/bin/gunicorn", "/usr/bin/python3"];
        let missing = wanted.into_iter().find(|path| !Path::new(path).exists())?;
        Some(format!("{missing} is not on this machine"))
    }

    /// Starts HAProxy and its follower in front of a workload, within a network namespace if one is given, and waits
    /// until HAProxy accepts connections. `flags` are passed to the follower.
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
        follower.args(["--workload", workload, "--backend", "web"]);
        follower.arg("--wynectl").arg(binary("wynectl"));
        follower.arg("--socket").arg(admin).args(flags);
        proxy.spawn(follower, "follower");
        let takes = until(PATIENCE, LOOK, || UnixStream::connect(proxy.socket()).ok());
        assert!(takes.is_some(), "HAProxy does not start: {}", proxy.log());
        proxy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self, command: Command, name: &str) {
        let launch = Launch::new(command, &self.path(&format!("{name}.log")));
        self.children.push(launch.start().unwrap());
    }

    /// Returns the socket on which HAProxy accepts requests, whichever network namespace it is in.
    pub fn socket(&self) -> PathBuf {
        self.path("web.sock")
    }

    /// Returns the logs of both processes.
    pub fn log(&self) -> String {
        let logs = ["haproxy", "follower"].map(|name| fs::read_to_string(self.path(&format!("{name}.log"))));
        logs.into_iter().flatten().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The follower terminates the processes that it started.
        for child in &mut self.children {
            child.signal(Signal::TERM).ok();
            child.ended(PATIENCE);
        }
    }
}
