//! Output of `wynectl dev`: the nodes, suggestions, and one line per cycle.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout_at};
use wyneos::{
    client, delta,
    v1::{self, watch_snapshots_response::State},
};

use wyneos_core::node::NOT_CONTAINED;

use super::{
    DevArgs, DevError,
    child::{Death, Plan},
    cluster::Progress,
    control::Action,
    hints, secure,
};
use crate::{
    config,
    text::{self, clean},
};

/// Time limit for the agents to be online, in addition to two cycles.
const ONLINE: Duration = Duration::from_secs(30);

/// Time between two attempts to reach the coordinator while it starts.
const RETRY: Duration = Duration::from_millis(100);

/// Facts for the introduction in addition to the state.
pub(super) struct View<'a> {
    /// The command line.
    pub(super) args: &'a DevArgs,
    /// Directory of the cluster's files.
    pub(super) directory: PathBuf,
    /// The process ids by name, as `coordinator` and `node-1`.
    pub(super) pids: Vec<(String, i32)>,
    /// An example declaration.
    pub(super) example: PathBuf,
    /// Whether its processes run as root.
    pub(super) is_root: bool,
}

/// Follows the cluster's snapshots, and prints them; sets `progress` once all running agents were online. Ends of
/// processes are detected elsewhere.
pub(super) async fn follow(view: &View<'_>, progress: &Progress) -> Result<(), DevError> {
    let deadline = Instant::now() + ONLINE + view.args.cycle * 2;
    let mut watched = Watched::default();
    loop {
        watch(view, deadline, &mut watched, progress).await?;
        if !watched.introduced && Instant::now() >= deadline {
            return Err(watched.late(view, progress));
        }
        sleep(RETRY).await;
    }
}

/// State of the watch.
#[derive(Default)]
struct Watched {
    state: Option<v1::Snapshot>,
    resume_token: String,
    introduced: bool,
}

impl Watched {
    fn online(&self) -> usize {
        let nodes = self.state.iter().flat_map(|state| &state.nodes);
        nodes.filter(|node| node.liveness() == v1::Liveness::Online).count()
    }

    fn late(&self, view: &View<'_>, progress: &Progress) -> DevError {
        let (online, limit) = (self.online(), ONLINE + view.args.cycle * 2);
        DevError::Late {
            online,
            agents: progress.agents.get(),
            limit,
            directory: view.directory.clone(),
        }
    }

    /// Applies a delta; false if it does not fit, and the full state is needed again.
    fn take(&mut self, response: v1::WatchSnapshotsResponse) -> bool {
        self.resume_token = response.resume_token;
        let fits = match (response.state, &mut self.state) {
            (Some(State::Full(full)), state) => {
                *state = Some(full);
                true
            }
            (Some(State::Delta(step)), Some(state)) => delta::apply(state, step).is_ok(),
            _ => false,
        };
        if !fits {
            *self = Watched {
                introduced: self.introduced,
                ..Watched::default()
            };
        }
        fits
    }
}

/// Watches until the stream breaks, as it may while the coordinator starts.
async fn watch(view: &View<'_>, deadline: Instant, watched: &mut Watched, progress: &Progress) -> Result<(), DevError> {
    let args = view.args;
    let tls = match args.tls {
        true => Some(config::tls(&secure::admin(&view.directory)).map_err(|failure| {
            let why = std::io::Error::other(failure.to_string());
            DevError::system("use the admin's credentials")(why)
        })?),
        false => None,
    };
    let Ok(channel) = client::connect_with(&args.listen.to_string(), tls.as_ref()).await else {
        return Ok(());
    };
    let request = v1::WatchSnapshotsRequest {
        resume_token: watched.resume_token.clone(),
        ..Default::default()
    };
    let Ok(response) = client::coherence(channel).watch_snapshots(request).await else {
        return Ok(());
    };
    let mut stream = response.into_inner();
    loop {
        let next = if watched.introduced {
            stream.message().await
        } else {
            match timeout_at(deadline, stream.message()).await {
                Ok(next) => next,
                Err(_) => return Err(watched.late(view, progress)),
            }
        };
        let Ok(Some(response)) = next else { return Ok(()) };
        let seal = response.seal.clone().unwrap_or_default();
        if !watched.take(response) {
            return Ok(());
        }
        let Some(state) = &watched.state else { return Ok(()) };
        let (online, agents) = (watched.online(), progress.agents.get());
        if watched.introduced {
            text::stdout(&cycle_line(state, &seal));
        } else if online >= agents {
            text::stdout(&introduction(view, state));
            watched.introduced = true;
            progress.up.set(true);
        } else {
            text::stdout(&format!("{online} of {} online …", text::count(agents as u64, "agent")));
        }
    }
}

/// The first line of the output.
pub(super) fn starting(args: &DevArgs, directory: &Path) -> String {
    let (agents, directory) = (text::count(args.agents, "agent"), directory.display());
    line(&format!("starting a coordinator and {agents} in {directory} …"))
}

/// A line wrapped to the available columns.
fn line(text: &str) -> String {
    let told = text::hanging("", text, 4, Some(text::view_columns()));
    told.trim_end().to_owned()
}

/// Time of day, in UTC, by seconds since 1970.
fn clock(seconds: i64) -> String {
    let time = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

/// A line about an event at present.
pub(super) fn news(what: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    line(&format!("{}  {what}", clock(i64::try_from(now.as_secs()).unwrap_or(0))))
}

/// The end of a process while the cluster continues, and the command that starts it again.
pub(super) fn death_lines(args: &DevArgs, plan: &Plan, death: &Death) -> String {
    let mut told = format!("{} (pid {}) ended: {}", plan.label(), death.pid, death.how());
    // The log of a process that was killed externally does not explain it.
    if death.signal() != Some(Signal::KILL.as_raw()) {
        told += &format!("; log: {}", plan.log().display());
    }
    let again = hints::action(args, Action::Start, &plan.name);
    let again = hints::behind("    start it again:", &again, text::view_columns());
    format!("{}\n{again}", news(&told))
}

/// A note on limitations without root or without containment.
fn missing(is_root: bool, state: &v1::Snapshot) -> Option<String> {
    let mut attributes = state.nodes.iter().filter_map(|node| node.attributes.as_ref());
    let reason = attributes.find(|is| is.containment == NOT_CONTAINED);
    let reason = reason.map(|is| clean(&is.containment_reason));
    match (is_root, reason) {
        (true, None) => None,
        (true, Some(reason)) => Some(format!(
            "Instances are not contained on this machine ({reason}): no singleton is placed, and processes may outlive their instance."
        )),
        (false, _) => Some(
            "You are not root: programs run as your own user, and without limits of CPU and memory; a declaration with another user waits. \
             Instances are not contained: no singleton is placed, and processes may outlive their instance."
                .to_owned(),
        ),
    }
}

/// The nodes, and suggestions for what to try next.
pub(super) fn introduction(view: &View<'_>, state: &v1::Snapshot) -> String {
    let View { args, directory, .. } = view;
    let pid = |name: &str| {
        let found = view.pids.iter().find(|(known, _)| known == name);
        found.map_or_else(String::new, |(_, pid)| pid.to_string())
    };
    let mut lines = vec![
        format!("\ncluster {} is up at {};", state.cluster_id, args.listen),
        format!("its coordinator is process {}\n", pid("coordinator")),
    ];
    lines.push(format!(
        "{:<10} {:<8} {:>9}  {:<8} {:>4}  {:<8} {}",
        "NAME", "ID", "AGENT PID", "LIVENESS", "LOAD", "VERSION", "PROBED AT"
    ));
    let mut nodes: Vec<&v1::NodeRow> = state.nodes.iter().collect();
    nodes.sort_by_cached_key(|node| text::natural(&node.name));
    for node in nodes {
        let id: String = node.id.chars().take(8).collect();
        lines.push(format!(
            "{:<10} {id:<8} {:>9}  {:<8} {:>4}  {:<8} {}",
            node.name,
            pid(&node.name),
            text::liveness(node.liveness),
            text::load(node),
            node.agent_version,
            node.probe_address
        ));
    }
    let columns = text::view_columns();
    if let Some(missing) = missing(view.is_root, state) {
        lines.push(format!(
            "\n{}",
            text::hanging("", &missing, 0, Some(columns)).trim_end()
        ));
    }
    lines.push("\nto try next, in another terminal:".to_owned());
    for words in hints::commands(args, directory, &view.example) {
        lines.push(hints::command_lines(&words, columns));
    }
    let logs = directory.join("*").join("log");
    lines.push(format!("\n{}", line(&format!("logs: {}", logs.display()))));
    lines.push("Ctrl-C ends the cluster; one line per cycle:\n".to_owned());
    lines.join("\n")
}

/// One line for a cycle.
pub(super) fn cycle_line(state: &v1::Snapshot, seal: &v1::Seal) -> String {
    let online = state
        .nodes
        .iter()
        .filter(|node| node.liveness() == v1::Liveness::Online)
        .count();
    let score = state.coherence.as_ref().map_or(0.0, |report| report.score);
    let broken = state
        .coherence
        .iter()
        .flat_map(|report| &report.invariants)
        .filter(|one| !one.holds)
        .count();
    let open = state.autonomy.as_ref().map_or(0, |autonomy| autonomy.open);
    let live = state
        .mesh
        .as_ref()
        .map_or((0, 0), |mesh| (mesh.live_links, mesh.planned_links));
    let digest: String = seal.digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let time = state.time.as_ref().map_or(0, |time| time.seconds);
    let desired: u32 = state.workloads.iter().map(|one| one.desired).sum();
    let unwell: u32 = state.workloads.iter().map(|one| one.unwell).sum();
    let mut wrong = String::new();
    if desired > 0 {
        wrong += &format!("  work {}/{desired}", desired.saturating_sub(unwell));
    }
    for (number, of) in [(broken, "broken"), (open as usize, "open")] {
        if number > 0 {
            wrong += &format!("  {of} {number}");
        }
    }
    let told = format!(
        "{}  cycle {:<4} score {score:>5.1}  online {online}/{}  links {}/{}{wrong}",
        clock(time),
        state.cycle,
        state.nodes.len(),
        live.0,
        live.1,
    );
    // The digest distinguishes cycles, and is omitted in favour of problems.
    match told.len() + 2 + digest.len() <= text::view_columns() {
        true => format!("{told}  {digest}"),
        false => line(&told),
    }
}
