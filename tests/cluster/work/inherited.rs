//! Inherited descriptors of the process that starts an agent: none of them reaches the agent's children.

use std::collections::BTreeSet;

use super::*;

/// Descriptors of the starting process: a file that only it may read, pipes, a socket, and files with high numbers. The
/// script records them.
const SCRIPT: &str = "exec 3<\"$SECRET\" 9<\"$SECRET\" 20> >(exec cat >/dev/null) 21< <(exec sleep 30) 22<>\"/dev/tcp/$HOST/$PORT\" 61>>\"$SECRET\"; \
     ulimit -n 4096; exec 997<\"$SECRET\"; ulimit -S -n 512; for one in 3 9 20 21 22 61 997; do readlink /proc/$$/fd/$one; done > \"$LIST\"; \
     exec \"$0\" \"$@\"";

/// Returns the open descriptors of a process, as the kernel names them, without its standard streams.
fn open_of(pid: i32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let others = entries.filter(|entry| !["0", "1", "2"].iter().any(|name| entry.file_name() == *name));
    let link = |entry: fs::DirEntry| fs::read_link(entry.path()).map(|to| to.display().to_string());
    others.filter_map(|entry| link(entry).ok()).collect()
}

#[tokio::test]
async fn descriptors_of_the_starter_reach_neither_programs_nor_checks_nor_supervisors() {
    let mut site = Site::start(&[]).await;
    let directory = site.cluster.directory.path().to_owned();
    let (secret, list) = (directory.join("secret"), directory.join("list"));
    fs::write(&secret, "of the starter alone").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (host, port) = site.cluster.address.rsplit_once(':').unwrap();
    let mut command = std::process::Command::new("bash");
    command.args(["-c", SCRIPT]).arg(crate::harness::binary("wyneos-agent"));
    command.args(site.cluster.agent_args("one"));
    command
        .env("SECRET", &secret)
        .env("LIST", &list)
        .env("HOST", host)
        .env("PORT", port);
    let agent = Process::of(command, &site.cluster.agent_log("one"));
    site.agents.push(("one".to_owned(), Some(agent)));
    site.cluster.node_is("one", Liveness::Online).await;
    let of_starter: BTreeSet<String> = fs::read_to_string(&list).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(of_starter.len(), 4, "a file, two pipes and a socket: {of_starter:?}");
    // Besides the standard streams, `ls` has only the directory open that it lists.
    let ls = "ls -l /proc/self/fd";
    site.apply(&format!(
        "name = \"app\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{ls} > listed; exec sleep 1000\"]\n\
         [[checks]]\nexec = [\"/bin/sh\", \"-c\", \"{ls} > checked.new && mv checked.new checked\"]\ninterval = \"1s\"\n"
    ));
    let rows = site.runs("app", 1).await;
    let work = directory.join("one/instances").join(id(&rows[0])).join("work");
    for name in ["checked", "listed"] {
        let listed = wait_until("it has listed its descriptors", async || {
            fs::read_to_string(work.join(name))
                .ok()
                .filter(|listed| listed.contains(" 2 -> "))
        })
        .await;
        let number = |line: &str| line.split(" -> ").next()?.rsplit(' ').next()?.parse().ok();
        let more = listed.lines().filter_map(number).filter(|number: &u32| *number > 2);
        assert_eq!(more.count(), 1, "{name}:\n{listed}");
    }
    assert_eq!(open_of(status(&rows[0]).pid as i32), BTreeSet::new());
    // Neither the agent nor anything else that it started has any of them.
    for pid in site.processes("one") {
        let open = open_of(pid);
        assert!(open.is_disjoint(&of_starter), "pid {pid}: {open:?}");
    }
    site.ends().await;
}
