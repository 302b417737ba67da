//! The cost of a cycle, in process and without a network.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use stats_alloc::Region;
use wyneos::{
    canonical::{Canonical, Filter},
    v1,
};
use wyneos_core::{
    coherence::Snapshot,
    coordinator::{Config, Coordinator, Effect, FromAgent, Heartbeat, Input, Message, ProbePlan, Published},
    id::{NodeId, Uuid},
    integrity::Sealer,
    mesh::{LinkReport, LinkState},
    node::{ConnId, Hello, Origin},
    recycled::Recycled,
    store::Durable,
    time::{Time, WallTime},
};

use crate::{Failure, made, output::Row, stats};

/// Initial value of the simulated wall clock.
const START: WallTime = WallTime(1_764_000_000_000);

/// Cycles before the measured ones: enough for forecasts to be evaluated and published.
const WARM_UP: usize = 40;

/// Maximum number of measured cycles.
const CYCLES: usize = 200;

/// Offset of heartbeats from the even seconds, so that no other timer is due at the same moment as a pulse.
const PHASE: Duration = Duration::from_millis(700);

/// Delay of the first pulse and the first survey, which are due together. The next pulses return to their fixed grid,
/// while each survey is scheduled relative to the previous one: afterwards the two are due at different times, and each
/// is measured separately.
const APART: Duration = Duration::from_millis(300);

/// One in this many agents loses packets in the measurement of troubled surveys, and the rounds of heartbeats that it takes.
const TROUBLED: u64 = 100;
const TROUBLED_ROUNDS: u32 = 6;

/// Cost of one cycle.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    engine: f64,
    encode: f64,
    bytes: f64,
    seal: f64,
    delta: f64,
    announce: f64,
    full_len: usize,
    delta_len: usize,
}

impl Cost {
    fn total(&self) -> f64 {
        self.engine + self.encode + self.bytes + self.seal + self.delta
    }
}

/// Returns the processor time of this thread in milliseconds. Other threads and processes do not contribute to it.
fn spent() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let began = spent();
    let value = run();
    (value, spent() - began)
}

/// A coordinator core with a store that completes every write at once, and agents that are always healthy.
struct Bench {
    core: Coordinator,
    now: Time,
    sealer: Sealer,
    nodes: u64,
    plans: BTreeMap<ConnId, ProbePlan>,
    /// Nodes that each agent probes.
    targets: BTreeMap<ConnId, Vec<NodeId>>,
    /// Whether one in [`TROUBLED`] agents reports that it loses packets to all its peers.
    trouble: bool,
    published: Option<Arc<Snapshot>>,
    before: Option<(Arc<Snapshot>, Canonical)>,
    sequence: u64,
    costs: Vec<Cost>,
    /// Cost of each survey, in milliseconds.
    surveys: Vec<f64>,
    memory: Recycled<u8>,
    /// What each round of heartbeats cost the engine: microseconds, and allocations, a heartbeat.
    heartbeats: Vec<(f64, f64)>,
}

impl Bench {
    fn new(nodes: u64) -> Bench {
        let cluster = Uuid([7; 16]);
        let sealer = Sealer::new(cluster, &[3; 32], [0; 32]);
        let config = Config {
            max_nodes: nodes as usize,
            ..Config::new(wyneos::VERSION, sealer.public_key())
        };
        let now = Time(1);
        Bench {
            core: Coordinator::new(now, START, config, Durable::new(cluster)),
            now,
            sealer,
            nodes,
            plans: BTreeMap::new(),
            targets: BTreeMap::new(),
            trouble: false,
            published: None,
            before: None,
            sequence: 0,
            costs: Vec::new(),
            surveys: Vec::new(),
            memory: Recycled::default(),
            heartbeats: Vec::new(),
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.effects();
    }

    fn effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Commit(_) => self.core.handle(self.now, Input::Committed),
                Effect::Publish(snapshot) => self.published = Some(snapshot),
                Effect::Send { conn, message } => match message {
                    Message::Welcome(welcome) => drop(self.plans.insert(conn, welcome.probe_plan)),
                    Message::ProbePlan(plan) => drop(self.plans.insert(conn, plan)),
                    _ => {}
                },
                Effect::Announce(_)
                | Effect::View(_)
                | Effect::Nodes(_)
                | Effect::Close { .. }
                | Effect::Reply { .. } => {}
            }
        }
    }

    /// Advances time to `until`; measures the pulses and surveys in between.
    fn pass(&mut self, until: Time) {
        while let Some(due) = self.core.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let ((), engine) = timed(|| self.core.handle_timeout(self.now));
            self.effects();
            match self.published.take() {
                Some(snapshot) => self.publish(snapshot, engine),
                None if is_survey(due) => self.surveys.push(engine),
                None => {}
            }
        }
        self.now = self.now.max(until);
    }

    /// Performs the work of the coordinator's publisher, without the store.
    fn publish(&mut self, snapshot: Arc<Snapshot>, engine: f64) {
        let before = self.before.take();
        let (canonical, encode) = timed(|| Canonical::new(&snapshot, before.as_ref().map(|(_, before)| before)));
        let (full, bytes) = timed(|| canonical.bytes_in(&mut self.memory));
        let (seal, sealing) = timed(|| self.sealer.seal(snapshot.epoch, snapshot.cycle, &full));
        let everything = Filter::default();
        let (step, delta) = timed(|| before.as_ref().map(|(_, before)| canonical.delta(before, &everything)));
        let published = Published {
            seal: Arc::new(seal),
            subscribers: 1,
            lagging: 0,
        };
        let ((), announce) = timed(|| self.handle(Input::Published(published)));
        self.costs.push(Cost {
            engine,
            encode,
            bytes,
            seal: sealing,
            delta,
            announce,
            full_len: full.len(),
            delta_len: step.map_or(0, |step| step.len()),
        });
        self.before = Some((snapshot, canonical));
    }

    fn register(&mut self) -> Result<(), Failure> {
        for number in 0..self.nodes {
            let hello = made::hello(number, 0, format!("10.0.0.1:{}", 1 + number % 60_000));
            let hello = Hello::try_from(hello).map_err(|error| Failure::new(error.to_string()))?;
            let conn = ConnId(number + 1);
            let hello = Box::new(hello);
            let origin = Origin::default();
            self.handle(Input::Opened { conn, hello, origin });
        }
        Ok(())
    }

    /// Sends one heartbeat of every node; the first one includes the links of the node's probe plan.
    fn heartbeats(&mut self) -> Result<(), Failure> {
        self.sequence += 1;
        let wall = START.0 + (self.now.0 / 1_000_000) as i64;
        let newest = self.before.as_ref();
        let acknowledged = newest.map_or((0, 0), |(snapshot, _)| (snapshot.epoch.0, snapshot.cycle.0));
        let mut round = Vec::with_capacity(self.nodes as usize);
        for number in 0..self.nodes {
            let conn = ConnId(number + 1);
            let heartbeat: v1::Heartbeat = made::heartbeat(number, self.sequence, wall, acknowledged);
            let mut heartbeat = Heartbeat::try_from(heartbeat).map_err(|error| Failure::new(error.to_string()))?;
            if let Some(plan) = self.plans.remove(&conn) {
                let targets: Vec<NodeId> = plan.targets.into_iter().map(|(id, _)| id).collect();
                heartbeat.links = targets.iter().map(|&id| (id, up())).collect();
                self.targets.insert(conn, targets);
            }
            if self.trouble && number % TROUBLED == 0 {
                let targets = self.targets.get(&conn).into_iter().flatten();
                heartbeat.links = targets.map(|&id| (id, lossy())).collect();
            }
            round.push((conn, heartbeat));
        }
        let region = Region::new(crate::ALLOCATOR);
        let ((), millis) = timed(|| {
            for (conn, heartbeat) in round {
                self.core
                    .handle(self.now, Input::FromAgent(conn, FromAgent::Heartbeat(heartbeat)));
            }
        });
        let allocations = region.change().allocations + region.change().reallocations;
        self.effects();
        let each = 1.0 / self.nodes.max(1) as f64;
        self.heartbeats.push((millis * 1e3 * each, allocations as f64 * each));
        Ok(())
    }
}

/// Returns whether only a survey is due at this time.
fn is_survey(due: Time) -> bool {
    Duration::from_nanos(due.0.saturating_sub(1) % 1_000_000_000) == APART
}

fn up() -> LinkReport {
    LinkReport {
        state: LinkState::Up,
        rtt_micros: 220,
        rtt_p95_micros: 410,
        loss: 0.0,
        last_success_age_millis: Some(300),
        failure: None,
    }
}

fn lossy() -> LinkReport {
    LinkReport {
        state: LinkState::Lossy,
        loss: 0.3,
        ..up()
    }
}

/// Median of a survey while one in [`TROUBLED`] agents loses packets, in milliseconds, and the links that are reported as lossy.
fn troubled(bench: &mut Bench) -> Result<(f64, usize), Failure> {
    bench.trouble = true;
    bench.surveys.clear();
    let from = bench.now;
    for round in 1..=TROUBLED_ROUNDS {
        bench.pass(from + Duration::from_secs(2) * round);
        bench.heartbeats()?;
    }
    let surveys = bench.surveys.split_off(bench.surveys.len() / 2);
    let links = bench.targets.iter().filter(|(conn, _)| (conn.0 - 1) % TROUBLED == 0);
    Ok((stats::median(&surveys), links.map(|(_, targets)| targets.len()).sum()))
}

fn measure(nodes: u64, limit: Duration) -> Result<(Bench, Arc<Snapshot>), Failure> {
    let mut bench = Bench::new(nodes);
    bench.now = bench.now + APART;
    bench.pass(Time(1_000_000));
    bench.register()?;
    // A large cluster receives its probe plan one second after its nodes registered.
    bench.pass(Time(0) + Duration::from_millis(1_500));
    let mut began = Instant::now();
    let mut round = 0u32;
    loop {
        bench.pass(Time(0) + Duration::from_secs(2) * round + Duration::from_secs(2) + PHASE);
        bench.heartbeats()?;
        round += 1;
        if bench.costs.len() == WARM_UP {
            began = Instant::now();
            bench.surveys.clear();
            bench.heartbeats.clear();
        }
        let enough = bench.costs.len() >= WARM_UP + CYCLES || began.elapsed() >= limit;
        if enough && bench.costs.len() > WARM_UP + 5 {
            break;
        }
    }
    bench.costs.drain(..WARM_UP);
    let before = bench.before.as_ref().ok_or_else(|| Failure::new("no cycle ran"))?;
    let snapshot = Arc::clone(&before.0);
    Ok((bench, snapshot))
}

/// Measures a cycle at every cluster size in `sizes`.
pub(crate) fn run(sizes: &[u64], limit: Duration) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut smaller: Option<f64> = None;
    for &nodes in sizes {
        eprintln!("cycle: {nodes} nodes …");
        let (mut bench, snapshot) = measure(nodes, limit)?;
        let costs = &bench.costs;
        let (micros, allocations): (Vec<f64>, Vec<f64>) = bench.heartbeats.iter().copied().unzip();
        let all = |of: &dyn Fn(&Cost) -> f64| costs.iter().map(of).collect::<Vec<_>>();
        let total = all(&Cost::total);
        let median = stats::median(&total);
        let (full, delta) = (
            stats::median(&all(&|cost| cost.full_len as f64)),
            stats::median(&all(&|cost| cost.delta_len as f64)),
        );
        let row = Row::new("cycle")
            .with("nodes", nodes)
            .with("cycles", costs.len())
            .number("total_ms", median)
            .number("total_p99_ms", stats::quantile(&total, 0.99))
            .number(
                "ratio_to_size_before",
                smaller.map_or(f64::NAN, |smaller| median / smaller),
            )
            .number("engine_ms", stats::median(&all(&|cost| cost.engine)))
            .number("survey_ms", stats::median(&bench.surveys))
            .number("heartbeat_us", stats::median(&micros))
            .number("heartbeat_allocations", stats::median(&allocations))
            .number("encode_ms", stats::median(&all(&|cost| cost.encode)))
            .number("bytes_ms", stats::median(&all(&|cost| cost.bytes)))
            .number("seal_ms", stats::median(&all(&|cost| cost.seal)))
            .number("delta_ms", stats::median(&all(&|cost| cost.delta)))
            .number("announce_ms", stats::median(&all(&|cost| cost.announce)))
            .number("full_bytes", full)
            .number("delta_bytes", delta)
            .number("delta_share", delta / full)
            .with("live_links", snapshot.mesh.live)
            .with("forecasts", snapshot.predictive.published)
            .number("score", f64::from(snapshot.coherence.score));
        let (survey, links) = troubled(&mut bench)?;
        let row = row
            .number("troubled_survey_ms", survey)
            .with("troubled_links", links)
            .number("survey_us_a_troubled_link", survey * 1e3 / links.max(1) as f64);
        rows.push(row);
        smaller = Some(median);
    }
    Ok(rows)
}
