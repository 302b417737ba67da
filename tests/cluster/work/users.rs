//! Least privilege: the users of programs, and what they can access.

use std::{collections::BTreeSet, process::Command};

use rustix::process::geteuid;

use super::*;
use crate::harness::skip;

fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        // No package could provide this.
        eprintln!("skipped: only root changes users");
    }
    root
}

/// Returns a batch with one instance of a shell script.
fn script(name: &str, script: &str, more: &str) -> String {
    format!("name = \"{name}\"\nkind = \"batch\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n{more}")
}

impl Site {
    /// Returns the output of a batch, once it is done.
    async fn output(&self, name: &str) -> String {
        wait_until(&format!("{name} is done"), async || {
            let workload = self.workload(name).await.workload.unwrap();
            (workload.complete == 1).then_some(())
        })
        .await;
        text(&self.ctl(&["logs", name]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.directory.path().join(name)
    }

    fn plan(&self, declaration: &str) -> Output {
        let path = self.path("plan.toml");
        fs::write(&path, declaration).unwrap();
        self.ctl(&["plan", "-f", &path.display().to_string()])
    }
}

/// Runs a program of the host that must succeed.
fn host(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A user of this host with groups of its own; removed when dropped.
struct TestUser {
    name: String,
    groups: Vec<String>,
}

impl TestUser {
    fn make() -> Option<TestUser> {
        if Command::new("useradd").arg("--help").output().is_err() {
            skip("useradd");
            return None;
        }
        let name = format!("wyn{}", std::process::id());
        let groups = ["a", "b"].map(|end| format!("{name}{end}")).to_vec();
        groups.iter().for_each(|group| drop(host("groupadd", &[group])));
        host("useradd", &["--no-create-home", "--groups", &groups.join(","), &name]);
        Some(TestUser { name, groups })
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        drop(Command::new("userdel").arg(&self.name).output());
        for group in &self.groups {
            drop(Command::new("groupdel").arg(group).output());
        }
    }
}

#[tokio::test]
async fn work_runs_as_nobody_and_as_root_only_where_that_is_listed() {
    if !is_root() {
        return;
    }
    let mut site = Site::start(&["one"]).await;
    site.apply(&script("plain", "id -un; id -gn; pwd; umask", ""));
    let group = host("id", &["-gn", "nobody"]);
    let told = site.output("plain").await;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.len() == 4 && lines[..2] == ["nobody", &group], "{told}");
    assert!(lines[2].ends_with("/work") && lines[3] == "0022", "{told}");
    for (number, root) in ["root", "0", "00"].into_iter().enumerate() {
        let declaration = script(&format!("root{number}"), "id -u", &format!("user = \"{root}\"\n"));
        let planned = text(&site.plan(&declaration));
        assert!(
            planned.contains(&format!("runs no program as \"{root}\", only as nobody")),
            "{planned}"
        );
    }
    let forever = script("root", "id -u; exec sleep 1000", "user = \"0\"\n");
    site.apply(&forever.replace("batch", "service"));
    let why = text(&site.ctl(&["why", "root"]));
    assert!(why.contains("does not permit its user"), "{why}");
    // A pending slot is explained by its own name; a slot that is not wanted is unknown.
    let why = text(&site.ctl(&["why", "root.0"]));
    assert!(
        why.contains("root.0: waits") && why.contains("does not permit its user") && why.contains("runs no program as"),
        "{why}"
    );
    let why = site.ctl(&["why", "root.7"]);
    assert_eq!(why.status.code(), Some(5), "{}", text(&why));
    let shown = text(&site.ctl(&["node", "one"]));
    assert!(
        shown.contains("nobody (default)") && !shown.contains("Warning"),
        "{shown}"
    );
    // The program runs where its user is permitted, under any name, and this is shown.
    let agent = site.cluster.agent_with("two", &["--users", "daemon,root,ghost"]);
    site.agents.push(("two".to_owned(), Some(agent)));
    site.cluster.node_is("two", Liveness::Online).await;
    let rows = site.runs("root", 1).await;
    assert_eq!(rows[0].node_name, "two");
    assert_eq!(text(&site.ctl(&["logs", "root"])), "0\n");
    let shown = text(&site.ctl(&["node", "two"]));
    assert!(
        shown.contains("nobody (default), daemon, root, ghost (unknown on this host)"),
        "{shown}"
    );
    let of = |args: &[&str]| {
        let shown = text(&site.ctl(args)).to_lowercase();
        let line = shown.lines().find(|line| line.starts_with("user:")).map(str::to_owned);
        line.unwrap_or(shown)
    };
    assert!(
        of(&["workload", "root"]).ends_with(" 0"),
        "{}",
        of(&["workload", "root"])
    );
    assert!(of(&["why", "root.0"]).ends_with(" 0"), "{}", of(&["why", "root.0"]));
    assert!(
        shown.contains("Warning") && shown.contains("everyone who may apply a declaration controls this host"),
        "{shown}"
    );
    // The agent enforces its own configuration: running instances continue, and none is started.
    site.kill_agent("two").await;
    site.start_agent("two").await;
    let pid = pids(&site.runs("root", 1).await)[0];
    assert!(lives(pid));
    kill(pid as i32, Signal::KILL);
    site.shows("root", "programs may not run as \"0\" (user number 0)")
        .await;
    site.ends().await;
}

#[tokio::test]
async fn a_program_and_its_checks_have_their_users_groups() {
    if !is_root() {
        return;
    }
    let Some(user) = TestUser::make() else { return };
    let mut site = Site::start(&[]).await;
    let agent = site.cluster.agent_with("one", &["--users", &user.name]);
    site.agents.push(("one".to_owned(), Some(agent)));
    site.cluster.node_is("one", Liveness::Online).await;
    let number = host("id", &["-u", &user.name]);
    let check =
        "[[checks]]\nexec = [\"/bin/sh\", \"-c\", \"(id -un; id -G) > new && mv new checked\"]\ninterval = \"200ms\"\n";
    for (name, declared) in [("named", &user.name), ("numbered", &number)] {
        site.apply(&format!(
            "name = \"{name}\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"id -un; id -G; exec sleep 1000\"]\nuser = \"{declared}\"\n{check}"
        ));
        let rows = site.runs(name, 1).await;
        let groups = |text: &str| -> (String, BTreeSet<u32>) {
            let (name, groups) = text.split_once('\n').unwrap_or_default();
            let groups = groups.split_whitespace().filter_map(|group| group.parse().ok());
            (name.to_owned(), groups.collect())
        };
        let right = groups(&format!("{}\n{}", user.name, host("id", &["-G", &user.name])));
        assert_eq!(right.1.len(), 3, "its own and two more");
        wait_until("it has told its groups", async || {
            let told = text(&site.ctl(&["logs", name]));
            (told.lines().count() == 2).then(|| assert_eq!(groups(&told), right))
        })
        .await;
        let checked = site.path("one/instances").join(id(&rows[0])).join("work/checked");
        wait_until("a check has told them, too", async || {
            let told = fs::read_to_string(&checked).ok()?;
            assert_eq!(groups(&told), right);
            Some(())
        })
        .await;
    }
    site.ends().await;
}

#[tokio::test]
async fn a_directory_that_is_closed_to_the_user_is_named() {
    if !is_root() {
        return;
    }
    let site = Site::start(&["one"]).await;
    let above = site.cluster.directory.path();
    let mode = |mode| fs::set_permissions(above, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    site.apply(
        "name = \"web\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[restart]\nbackoff = \"100ms\"\nattempts = 100\n",
    );
    let why = format!(
        "the user \"nobody\" may not pass through {} (mode 0700): chmod o+x",
        above.display()
    );
    site.shows("web", &why).await;
    mode(0o711);
    site.runs("web", 1).await;
    site.ends().await;
}

#[tokio::test]
async fn an_agent_that_is_not_root_runs_work_as_itself() {
    if !is_root() {
        return;
    }
    let mut site = Site::start(&[]).await;
    let folder = site.path("one");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(65_534), Some(65_534)).unwrap();
    // The build directory may be closed to other users.
    let program = site.path("agent");
    fs::copy(crate::harness::binary("wyneos-agent"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command
        .arg(program)
        .args(site.cluster.agent_args("one"))
        .args(["--users", "root"]);
    let agent = Process::of(command, &site.cluster.agent_log("one"));
    site.agents.push(("one".to_owned(), Some(agent)));
    site.cluster.node_is("one", Liveness::Online).await;
    site.apply(&script("own", "id -u", ""));
    assert_eq!(site.output("own").await, "65534\n");
    site.apply(&script("same", "id -u", "user = \"65534\"\n"));
    assert_eq!(site.output("same").await, "65534\n");
    let planned = text(&site.plan(&script("other", "id -u", "user = \"root\"\n")));
    assert!(
        planned.contains("not root and runs every program as its own user, nobody, not as \"root\""),
        "{planned}"
    );
    let log = site.agents[0].1.as_ref().unwrap().log_text();
    assert!(log.contains("programs run only as its own user"), "{log}");
    site.ends().await;
}

#[tokio::test]
async fn what_programs_find_from_us_cannot_be_declared_away() {
    let site = Site::start(&["one"]).await;
    for name in ["WYNEOS_FENCE", "WYNEOS_DIRECTORY", "WYNEOS_", "PORT_http", "PORT_other"] {
        let declaration = format!("name = \"x\"\ncommand = \"/bin/true\"\nports = [\"http\"]\n[env]\n{name} = \"7\"\n");
        let refused = site.plan(&declaration);
        assert!(!refused.status.success());
        let told = text(&refused);
        assert!(
            told.contains(&format!("env.{name}")) && told.contains("choose another"),
            "{told}"
        );
    }
    // A declaration may choose PATH, and controls what is preloaded into its own programs.
    let env = "ports = [\"http\"]\n[env]\nPATH = \"/bin:/usr/bin:/of/its/own\"\nWYNEOS = \"1\"\n";
    let print = "echo $PATH $WYNEOS_FENCE $PORT_http; exec sleep 1000";
    let service = script("x", print, env).replace("batch", "service");
    site.apply(&service);
    let rows = site.runs("x", 1).await;
    let told = |process: usize| {
        let site = &site;
        async move {
            wait_until("it has told what it found", async || {
                let told = text(&site.ctl(&["logs", "x"]));
                (status(&site.runs("x", 1).await[0]).restarts as usize >= process && told.ends_with('\n'))
                    .then_some(told)
            })
            .await
        }
    };
    let before = told(0).await;
    assert!(before.starts_with("/bin:/usr/bin:/of/its/own "), "{before}");
    // A declaration accepted before names were reserved.
    let order = site.path("one/instances").join(id(&rows[0])).join("order.json");
    let mut changed: serde_json::Value = serde_json::from_slice(&fs::read(&order).unwrap()).unwrap();
    let env = &mut changed["assigned"]["spec"]["env"];
    env["WYNEOS_FENCE"] = "7".into();
    env["PORT_http"] = "7".into();
    fs::write(&order, changed.to_string()).unwrap();
    kill(status(&rows[0]).pid as i32, Signal::KILL);
    assert_eq!(told(1).await, before);
    site.ends().await;
}

#[tokio::test]
async fn an_agents_work_is_not_reached_by_work_of_another_agent_of_the_host() {
    if !is_root() {
        return;
    }
    let site = Site::start(&["one", "two"]).await;
    let on =
        |node: &str| format!("constraints = [{{ key = \"node.name\", operator = \"in\", values = [\"{node}\"] }}]\n");
    let victim = script("victim", "umask 0; echo hunter2 > mine; exec sleep 1000", &on("one"));
    site.apply(&victim.replace("batch", "service"));
    let rows = site.runs("victim", 1).await;
    let work = site.path("one/instances").join(id(&rows[0])).join("work");
    wait_until("it has written", async || work.join("mine").exists().then_some(())).await;
    if !text(&site.ctl(&["node", "one"])).contains("pid-namespace") {
        return site.ends().await;
    }
    let link = site.path("link");
    std::os::unix::fs::symlink(&work, &link).unwrap();
    // The same user, by a link, by the name, and from the host itself.
    for (number, directory) in [&link, &work].into_iter().enumerate() {
        let name = format!("spy{number}");
        let more = format!(
            "directory = {:?}\nretries = 0\n{}",
            directory.display().to_string(),
            on("two")
        );
        site.apply(&script(&name, "cat mine; echo mine > mine", &more));
        site.shows(&name, "cannot enter").await;
    }
    for (name, node) in [("neighbour", "one"), ("other", "two")] {
        let paths = [&link, &work].map(|path| path.join("mine").display().to_string());
        let tries = format!(
            "cat {0} {1}; echo mine > {0}; echo mine > {1}; ls {2}; echo done",
            paths[0],
            paths[1],
            work.display()
        );
        site.apply(&script(name, &tries, &on(node)));
        assert_eq!(site.output(name).await, "done\n", "{name}");
    }
    let spy = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"])
        .arg(work.join("mine"))
        .output()
        .unwrap();
    assert!(!spy.status.success() && spy.stdout.is_empty(), "{}", text(&spy));
    assert_eq!(fs::read_to_string(work.join("mine")).unwrap(), "hunter2\n");
    site.ends().await;
}

#[tokio::test]
async fn a_list_of_users_that_is_not_there_or_no_file_is_made_again() {
    if !is_root() {
        return;
    }
    let mut site = Site::start(&["one"]).await;
    let file = site.path("one/instances.users.json");
    for round in 0..2 {
        site.kill_agent("one").await;
        fs::remove_file(&file).unwrap();
        if round > 0 {
            fs::create_dir_all(file.join("below")).unwrap();
        }
        site.start_agent("one").await;
        let name = format!("work{round}");
        site.apply(&script(&name, "id -u", ""));
        assert_eq!(site.output(&name).await, format!("{}\n", host("id", &["-u", "nobody"])));
    }
    site.ends().await;
}
