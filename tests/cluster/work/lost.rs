//! Instances are not started twice, whatever happens to their directories and to the list of started instances.

use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
};

use super::*;
use crate::harness::PATIENCE;

mod astray;
mod restored;

/// Maximum remaining duration of a lease: twice 30 s plus a sixteenth, with a margin for a machine under load.
const LEASE: Duration = Duration::from_secs(64);

/// Damages an instance's directory, given its path and a path outside of the directory of instances.
type Damage = fn(&Path, &Path);

fn aside(home: &Path) -> PathBuf {
    home.with_extension("old")
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Damages after which the instance's directory is no longer at its path. A link to it is followed, but not accepted as
/// the directory.
const DAMAGES: [(&str, Damage); 11] = [
    ("renamed", |home, _| fs::rename(home, aside(home)).unwrap()),
    ("moved-away", |home, away| fs::rename(home, away).unwrap()),
    ("removed", |home, _| fs::remove_dir_all(home).unwrap()),
    ("emptied-anew", |home, _| {
        fs::rename(home, aside(home)).unwrap();
        fs::create_dir(home).unwrap();
    }),
    ("emptied-away", |home, away| {
        fs::rename(home, away).unwrap();
        fs::create_dir(home).unwrap();
    }),
    ("link-to-nothing", |home, away| {
        fs::rename(home, away).unwrap();
        symlink("nowhere", home).unwrap();
    }),
    ("link-to-itself", |home, _| {
        fs::rename(home, aside(home)).unwrap();
        symlink(home.file_name().unwrap(), home).unwrap();
    }),
    ("file", |home, away| {
        fs::rename(home, away).unwrap();
        fs::write(home, "no directory").unwrap();
    }),
    ("copy", |home, away| {
        fs::rename(home, away).unwrap();
        copy(away, home);
    }),
    ("link-beside", |home, _| {
        fs::rename(home, aside(home)).unwrap();
        symlink(aside(home).file_name().unwrap(), home).unwrap();
    }),
    ("link-away", |home, away| {
        fs::rename(home, away).unwrap();
        symlink(away, home).unwrap();
    }),
];

/// Damages the list of started instances, or leaves it unchanged.
type Spoil = fn(&Path);

/// Kinds of damage to the list of started instances.
const LISTS: [(&str, Spoil); 4] = [
    ("kept", |_| {}),
    ("removed", |list| fs::remove_file(list).unwrap()),
    ("cut-off", |list| {
        let whole = fs::read(list).unwrap();
        fs::write(list, &whole[..whole.len() / 2]).unwrap();
    }),
    ("changed", |list| {
        let mut whole = fs::read(list).unwrap();
        // The last digit of an id.
        let at = whole.iter().rposition(|byte| *byte == b']').unwrap() - 1;
        whole[at] ^= 1;
        fs::write(list, whole).unwrap();
    }),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Service,
    Singleton,
    Batch,
}

/// Number of subjects of all tests.
static NUMBER: AtomicU32 = AtomicU32::new(0);

const KINDS: [Of; 3] = [Of::Service, Of::Singleton, Of::Batch];

/// A workload of one instance, whose program is recognisable by its arguments.
#[derive(Clone, Debug)]
struct Subject {
    name: String,
    of: Of,
    words: [String; 2],
    id: String,
    pid: u32,
}

impl Subject {
    fn declaration(&self) -> String {
        let kind = match self.of {
            Of::Service => "",
            Of::Singleton => "singleton = true\n",
            Of::Batch => "kind = \"batch\"\nretries = 3\n",
        };
        // Long, so that a program that is not killed immediately is observed.
        format!(
            "name = \"{}\"\n{kind}command = \"/bin/sleep\"\nargs = {:?}\n[stop]\ngrace = \"10s\"\n\
             [resources]\ncpu = \"20m\"\nmemory = \"16MiB\"\n",
            self.name, self.words
        )
    }
}

/// Counts continuously how many programs of each subject run.
struct Watcher {
    over: Arc<AtomicBool>,
    most: Arc<Mutex<BTreeMap<String, usize>>>,
    thread: Option<JoinHandle<()>>,
}

/// Returns the number of live processes by command line.
fn lines() -> BTreeMap<Vec<u8>, usize> {
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| lives(*pid)) else {
            continue;
        };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *lines.entry(line).or_default() += 1;
    }
    lines
}

impl Watcher {
    fn over(subjects: &[Subject]) -> Watcher {
        let line = |subject: &Subject| {
            let words: Vec<String> = [&["/bin/sleep".to_owned()], &subject.words[..]].concat();
            (subject.name.clone(), format!("{}\0", words.join("\0")).into_bytes())
        };
        let wanted: Vec<(String, Vec<u8>)> = subjects.iter().map(line).collect();
        let (over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let (ends, counts) = (Arc::clone(&over), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let now = lines();
                for (name, line) in &wanted {
                    let count = now.get(line).copied().unwrap_or(0);
                    let mut counts = counts.lock().unwrap();
                    let most: &mut usize = counts.entry(name.clone()).or_default();
                    *most = count.max(*most);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Watcher {
            over,
            most,
            thread: Some(thread),
        }
    }

    /// Waits until the program of each subject was observed.
    async fn sees_all(&self, subjects: &[Subject]) {
        wait_until("every program was seen", async || {
            let most = self.most.lock().unwrap();
            let seen = |subject: &Subject| most.get(&subject.name).is_some_and(|most| *most > 0);
            subjects.iter().all(seen).then_some(())
        })
        .await;
    }

    /// Returns the maximum number of concurrent programs of each subject.
    fn most(mut self) -> BTreeMap<String, usize> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.most.lock().unwrap().clone()
    }
}

/// Applies running workloads of every kind, named after each damage.
async fn subjects(site: &Site, damages: &[(&str, Damage)]) -> Vec<(Subject, Damage)> {
    let mut all = Vec::new();
    for (what, damage) in damages {
        for of in KINDS {
            // A number of this process, unique within it.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let fraction = format!("0.{}{number:03}1", std::process::id());
            let mut subject = Subject {
                name: format!("{what}-{of:?}").to_lowercase(),
                of,
                words: ["86400".to_owned(), fraction],
                id: String::new(),
                pid: 0,
            };
            site.apply(&subject.declaration());
            let rows = site.runs(&subject.name, 1).await;
            (subject.id, subject.pid) = (id(&rows[0]), status(&rows[0]).pid);
            all.push((subject, *damage));
        }
    }
    all
}

impl Site {
    fn instances_of(&self, node: &str) -> PathBuf {
        self.cluster.directory.path().join(node).join("instances")
    }

    fn spoil(&self, node: &str, all: &[(Subject, Damage)]) {
        let away = self.cluster.directory.path().join("away");
        fs::create_dir_all(&away).unwrap();
        for (subject, damage) in all {
            damage(&self.instances_of(node).join(&subject.id), &away.join(&subject.id));
        }
    }

    /// Waits until the first instance of a subject has ended without remains.
    async fn has_ended(&self, subject: &Subject) -> v1::InstanceStatus {
        wait_until(&format!("{} has ended", subject.name), async || {
            let rows = self.instances(&subject.name).await;
            let first = rows.iter().find(|row| id(row) == subject.id)?;
            (phase(first) == InstancePhase::Ended).then(|| {
                assert!(!lives(subject.pid), "{} is said to have ended, and lives", subject.name);
                status(first)
            })
        })
        .await
    }

    /// Waits until another instance of a subject runs, with another id.
    async fn has_successor(&self, subject: &Subject, within: Duration) {
        let began = Instant::now();
        loop {
            let rows = self.running(&subject.name).await;
            if let [row] = &rows[..]
                && id(row) != subject.id
            {
                return;
            }
            assert!(began.elapsed() < within, "{} has no successor: {rows:?}", subject.name);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Asserts that no subject had two programs at the same time.
fn none_ran_twice(watcher: Watcher, all: &[(Subject, Damage)]) {
    let most = watcher.most();
    for (subject, _) in all {
        assert_eq!(most[&subject.name], 1, "of {} so many ran at once", subject.name);
    }
}

#[tokio::test]
async fn what_lost_its_directory_is_not_begun_again_beside_itself() {
    let mut site = Site::start(&["one"]).await;
    let all = subjects(&site, &DAMAGES).await;
    let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
    let watcher = Watcher::over(&watched);
    site.kill_agent("one").await;
    site.spoil("one", &all);
    site.start_agent("one").await;
    for (subject, _) in &all {
        let status = site.has_ended(subject).await;
        assert!(subject.of != Of::Batch || !status.complete, "{subject:?}: {status:?}");
    }
    for (subject, _) in &all {
        match subject.of {
            Of::Service => site.has_successor(subject, PATIENCE).await,
            Of::Singleton => site.has_successor(subject, LEASE + PATIENCE).await,
            Of::Batch => {
                let rows = site.instances(&subject.name).await;
                assert_eq!(
                    rows.iter().map(id).collect::<Vec<_>>(),
                    std::slice::from_ref(&subject.id),
                    "it is run again"
                );
            }
        }
    }
    none_ran_twice(watcher, &all);
    site.ends().await;
}

#[tokio::test]
async fn whatever_becomes_of_the_list_nothing_is_begun_a_second_time() {
    for (which, spoil) in LISTS {
        let mut site = Site::start(&["one"]).await;
        let all = subjects(&site, &[DAMAGES[1], DAMAGES[2], DAMAGES[4]]).await;
        let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
        let watcher = Watcher::over(&watched);
        site.kill_agent("one").await;
        // In all other cases, no processes are left by which the instances could be found.
        let dead = which != "removed";
        if dead {
            for supervisor in site.supervisors("one") {
                kill(supervisor, Signal::KILL);
            }
            for (subject, _) in &all {
                wait_until("its kernel has ended it", async || (!lives(subject.pid)).then_some(())).await;
            }
        }
        site.spoil("one", &all);
        spoil(&site.cluster.directory.path().join("one/begun"));
        site.start_agent("one").await;
        for (subject, _) in &all {
            let status = site.has_ended(subject).await;
            assert!(!status.complete, "{which}: {subject:?}: {status:?}");
            assert!(status.detail.contains("begun"), "{which}: {subject:?}: {status:?}");
        }
        // New instances start, and are known to the next agent.
        site.apply("name = \"new\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
        let new = site.runs("new", 1).await;
        site.kill_agent("one").await;
        site.start_agent("one").await;
        assert_eq!(pids(&site.runs("new", 1).await), pids(&new), "{which}");
        for (subject, _) in &all {
            match subject.of {
                Of::Service => site.has_successor(subject, PATIENCE).await,
                // The successor waits for the lease, which other tests cover.
                Of::Singleton => drop(site.shows(&subject.name, "was lost by its node").await),
                Of::Batch => assert_eq!(site.instances(&subject.name).await.len(), 1, "{which}: it is run again"),
            }
        }
        none_ran_twice(watcher, &all);
        site.ends().await;
    }
}

#[tokio::test]
async fn two_directories_that_changed_places_are_known_by_what_is_in_them() {
    let mut site = Site::start(&["one"]).await;
    let all = subjects(&site, &[DAMAGES[0], DAMAGES[1]]).await;
    let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
    let watcher = Watcher::over(&watched);
    site.kill_agent("one").await;
    let homes = |at: usize| site.instances_of("one").join(&all[at].0.id);
    for at in 0..3 {
        let (one, other, between) = (homes(at), homes(at + 3), site.instances_of("one").join("between"));
        fs::rename(&one, &between).unwrap();
        fs::rename(&other, &one).unwrap();
        fs::rename(&between, &other).unwrap();
    }
    site.start_agent("one").await;
    for (subject, _) in &all {
        site.has_ended(subject).await;
    }
    for (subject, _) in all.iter().filter(|(subject, _)| subject.of == Of::Service) {
        site.has_successor(subject, PATIENCE).await;
    }
    none_ran_twice(watcher, &all);
    site.ends().await;
}

#[tokio::test]
async fn a_directory_that_is_put_back_at_once_is_not_lost() {
    let mut site = Site::start(&["one"]).await;
    let all = subjects(&site, &[DAMAGES[0]]).await;
    let back = |site: &Site| {
        for (subject, _) in &all {
            let home = site.instances_of("one").join(&subject.id);
            fs::rename(aside(&home), home).unwrap();
        }
    };
    site.spoil("one", &all);
    back(&site);
    site.kill_agent("one").await;
    site.spoil("one", &all);
    back(&site);
    site.start_agent("one").await;
    for (subject, _) in &all {
        assert_eq!(pids(&site.runs(&subject.name, 1).await), [subject.pid]);
    }
    site.ends().await;
}

/// An agent whose `node-id` was removed joins as another node: instances of the first node get no lease from it, and
/// end.
#[tokio::test]
async fn what_a_node_was_given_is_not_gone_on_with_by_another_node_in_its_directory() {
    let mut site = Site::start(&["one"]).await;
    let all = subjects(&site, &[("renamed", |_, _| {})]).await;
    let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
    let watcher = Watcher::over(&watched);
    site.kill_agent("one").await;
    fs::remove_file(site.cluster.directory.path().join("one/node-id")).unwrap();
    let mut args = site.cluster.agent_args("one");
    let name = args.iter().position(|arg| arg == "--name").unwrap() + 1;
    args[name] = "two".to_owned();
    let mut command = std::process::Command::new(crate::harness::binary("wyneos-agent"));
    command.args(args);
    let agent = Process::of(command, &site.cluster.agent_log("two"));
    site.agents.push(("two".to_owned(), Some(agent)));
    site.cluster.node_is("two", Liveness::Online).await;
    for (subject, _) in &all {
        wait_until(&format!("{} has ended", subject.name), async || {
            (!lives(subject.pid)).then_some(())
        })
        .await;
    }
    let singleton = &all.iter().find(|(subject, _)| subject.of == Of::Singleton).unwrap().0;
    let began = Instant::now();
    // The row of the first node, which never returns, remains.
    while !site
        .running(&singleton.name)
        .await
        .iter()
        .any(|row| id(row) != singleton.id)
    {
        assert!(began.elapsed() < LEASE + PATIENCE, "it has no successor");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(watcher.most()[&singleton.name], 1, "so many ran at once");
    site.ends().await;
}
