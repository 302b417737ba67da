//! A directory replaced by that of another instance, or by a link to one: nothing happens to the other instance, and
//! the one without its directory is lost.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;

/// Replaces the directory of an instance, given that of another one and a path outside of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swap {
    /// A link to the other instance's directory.
    Link,
    /// The other instance's directory, which is moved.
    Move,
    /// The two directories are exchanged.
    Exchange,
    /// A copy of the other instance's directory.
    Copy,
    /// The directory is removed, and a copy of the other one is made, which may get its inode number.
    CopyAnew,
    /// A file.
    File,
}

impl Swap {
    const ALL: [Swap; 6] = [
        Swap::Link,
        Swap::Move,
        Swap::Exchange,
        Swap::Copy,
        Swap::CopyAnew,
        Swap::File,
    ];

    fn make(self, home: &Path, other: &Path, away: &Path) {
        match self {
            Swap::CopyAnew => fs::remove_dir_all(home).unwrap(),
            _ => fs::rename(home, away).unwrap(),
        }
        match self {
            Swap::Link => symlink(fs::canonicalize(other).unwrap(), home).unwrap(),
            Swap::Move => fs::rename(other, home).unwrap(),
            Swap::Exchange => {
                fs::rename(other, home).unwrap();
                fs::rename(away, other).unwrap();
            }
            Swap::Copy | Swap::CopyAnew => copy(other, home),
            Swap::File => fs::write(home, "a file").unwrap(),
        }
    }

    /// Returns whether the other instance's directory stays in place.
    fn leaves_other(self) -> bool {
        !matches!(self, Swap::Move | Swap::Exchange)
    }
}

/// A change to directories.
#[derive(Clone, Copy, Debug)]
struct Case {
    swap: Swap,
    /// Kinds of the instance whose directory is replaced, and of the other one.
    of: Of,
    other: Of,
    /// Whether the other instance belongs to another agent.
    elsewhere: bool,
    /// Whether the supervisor of the first instance is killed.
    dead: bool,
}

/// Returns every swap with random parameters. With a running agent, the supervisor of the first instance is killed,
/// because otherwise it would notice the swap itself.
fn cases(attended: bool) -> Vec<Case> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[u8::from(attended) + 1; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let kind = || prop::sample::select(&KINDS[..]);
    let rest = (kind(), kind(), any::<bool>(), any::<bool>());
    let mut draw = |swap| {
        let (of, other, elsewhere, dead) = rest.new_tree(&mut runner).unwrap().current();
        Case {
            swap,
            of,
            other,
            elsewhere,
            dead: dead || attended,
        }
    };
    // A link, for each kind.
    let links = KINDS.map(|of| Case { of, ..draw(Swap::Link) });
    Swap::ALL.into_iter().map(draw).chain(links).collect()
}

fn written(home: &Path) -> Vec<Vec<u8>> {
    let names = ["status.json", "order.json", "first.json", "lock"];
    let read = |name: &&str| fs::read(home.join(name)).unwrap_or_default();
    names.iter().map(read).collect()
}

/// Applies a workload with one instance on a node, and waits until it runs.
async fn subject_on(site: &Site, node: &str, what: &str, of: Of) -> Subject {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut subject = Subject {
        name: format!("{what}-{of:?}").to_lowercase(),
        of,
        words: ["86400".to_owned(), format!("0.{}{number:03}1", std::process::id())],
        id: String::new(),
        pid: 0,
    };
    let here = format!("constraints = [{{ key = \"node.name\", operator = \"in\", values = [\"{node}\"] }}]\n");
    let declaration = subject.declaration().replacen("[stop]", &format!("{here}[stop]"), 1);
    site.apply(&declaration.replace("grace = \"10s\"", "grace = \"500ms\""));
    let rows = site.runs(&subject.name, 1).await;
    (subject.id, subject.pid) = (id(&rows[0]), status(&rows[0]).pid);
    subject
}

/// The two instances of a case, and their directories.
struct Pair {
    case: Case,
    subject: Subject,
    home: PathBuf,
    other: Subject,
    place: PathBuf,
    supervisor: i32,
    before: Vec<Vec<u8>>,
}

impl Pair {
    async fn of(site: &Site, number: usize, case: Case) -> Pair {
        let node = if case.elsewhere { "two" } else { "one" };
        let subject = subject_on(site, "one", &format!("own{number}"), case.of).await;
        let other = subject_on(site, node, &format!("other{number}"), case.other).await;
        let home = site.instances_of("one").join(&subject.id);
        let place = site.instances_of(node).join(&other.id);
        Pair {
            supervisor: restored::supervisor_of(&home),
            before: written(&place),
            case,
            subject,
            home,
            other,
            place,
        }
    }

    /// Asserts that nothing happened to the other instance; one whose directory was moved is ended by its own
    /// supervisor.
    async fn holds(&self, site: &Site) {
        let Pair { case, other, .. } = self;
        let is_there = match case.swap {
            Swap::Link => self.home.is_symlink(),
            Swap::File => self.home.is_file(),
            _ => self.home.is_dir(),
        };
        assert!(is_there, "{case:?}: what is not its own was removed");
        if case.swap.leaves_other() {
            assert!(lives(other.pid), "{case:?}: the other one was ended");
            assert_eq!(written(&self.place), self.before, "{case:?}: it was written to");
            assert_eq!(pids(&site.runs(&other.name, 1).await), [other.pid], "{case:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_put_in_the_place_of_a_directory_nothing_is_done_to_another_instance() {
    for attended in [true, false] {
        let mut site = Site::start(&["one", "two"]).await;
        let mut pairs = Vec::new();
        for (number, case) in cases(attended).into_iter().enumerate() {
            pairs.push(Pair::of(&site, number, case).await);
        }
        let subjects: Vec<Subject> = pairs.iter().map(|pair| pair.subject.clone()).collect();
        let watcher = Watcher::over(&subjects);
        watcher.sees_all(&subjects).await;
        if !attended {
            site.kill_agent("one").await;
        }
        let away = site.cluster.directory.path().join("away");
        fs::create_dir(&away).unwrap();
        for pair in &pairs {
            pair.case
                .swap
                .make(&pair.home, &pair.place, &away.join(&pair.subject.id));
            if pair.case.dead {
                kill(pair.supervisor, Signal::KILL);
            }
        }
        if !attended {
            site.start_agent("one").await;
        }
        for Pair { case, subject, .. } in &pairs {
            let ended = site.has_ended(subject).await;
            assert!(!ended.complete, "{case:?}: {ended:?}");
            // Results of the other instance are not attributed to it.
            assert!(!case.dead || ended.exit.is_none(), "{case:?}: {ended:?}");
        }
        for pair in &pairs {
            pair.holds(&site).await;
        }
        // Discarding precedes later requests, so it is complete once these are.
        for subject in &subjects {
            assert!(site.ctl(&["delete", &subject.name]).status.success());
        }
        for subject in subjects.iter().filter(|subject| subject.of != Of::Singleton) {
            wait_until(&format!("{} is forgotten", subject.name), async || {
                site.instances(&subject.name).await.is_empty().then_some(())
            })
            .await;
        }
        let node = "constraints = [{ key = \"node.name\", operator = \"in\", values = [\"one\"] }]\n";
        site.apply(&format!(
            "name = \"behind\"\nkind = \"batch\"\ncommand = \"/bin/true\"\n{node}"
        ));
        wait_until("what was asked behind that is done", async || {
            let rows = site.instances("behind").await;
            rows.iter().any(|row| status(row).complete).then_some(())
        })
        .await;
        for pair in &pairs {
            pair.holds(&site).await;
        }
        let most = watcher.most();
        for subject in &subjects {
            assert_eq!(most[&subject.name], 1, "of {} so many ran at once", subject.name);
        }
        site.ends().await;
    }
}

/// A lost instance is ended and reported once; later agents report it without searching for it again.
#[tokio::test]
async fn what_was_lost_is_not_ended_again_at_each_start() {
    let mut site = Site::start(&["one"]).await;
    let mut all = Vec::new();
    for of in KINDS {
        all.push(subject_on(&site, "one", "lost", of).await);
    }
    site.kill_agent("one").await;
    for supervisor in site.supervisors("one") {
        kill(supervisor, Signal::KILL);
    }
    let away = site.cluster.directory.path().join("away");
    fs::create_dir(&away).unwrap();
    for subject in &all {
        fs::rename(site.instances_of("one").join(&subject.id), away.join(&subject.id)).unwrap();
    }
    for _ in 0..3 {
        site.start_agent("one").await;
        for subject in &all {
            let ended = site.has_ended(subject).await;
            assert!(ended.outcome_unknown && !ended.complete, "{subject:?}: {ended:?}");
        }
        site.kill_agent("one").await;
    }
    let log = fs::read_to_string(site.cluster.agent_log("one")).unwrap();
    for subject in &all {
        let mut errors = log.lines().filter(|line| line.contains("ERROR"));
        let of = errors.clone().filter(|line| line.contains(&subject.id)).count();
        assert_eq!(of, 1, "{subject:?}: {:?}", errors.next());
    }
    site.ends().await;
}
