//! The cost of subscribers, and their effect on agents.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use wyneos::canonical::WireWatchResponse;

use crate::{
    Failure,
    histogram::Buckets,
    load::Load,
    null_watch,
    output::Row,
    process::{self, Server},
    stats,
    subscribers::Subscribers,
};

/// Interval between two cycles: short, so that a measurement contains many of them.
const CYCLE: &str = "1s";
const CYCLE_SECONDS: f64 = 1.0;

/// Delay until forecasts are evaluated and published: before that a cycle costs less.
const WARM_UP: Duration = Duration::from_secs(45);

/// Delay after subscribers connected or disconnected.
const SETTLE: Duration = Duration::from_secs(4);

/// Parameters of the benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) agents: u64,
    pub(crate) hz: f64,
    pub(crate) subscribers: Vec<u64>,
    /// Percentage of the subscribers that stop reading.
    pub(crate) stalled: u64,
    pub(crate) window: Duration,
}

/// Activity of a server in one measurement window.
#[derive(Clone, Debug, Default)]
struct Window {
    /// CPU seconds per second.
    cpu: f64,
    rss: f64,
    rss_grown: f64,
    apply: Buckets,
    sent: f64,
}

impl Window {
    /// Returns the mean of this window, which came first, and `after`. A quantity that grows steadily between the two
    /// is thus balanced.
    fn mean(&self, after: &Window) -> Window {
        Window {
            cpu: (self.cpu + after.cpu) / 2.0,
            // Memory that subscribers used may not be returned to the system.
            rss: self.rss,
            rss_grown: self.rss_grown,
            apply: self.apply.with(&after.apply),
            sent: self.sent + after.sent,
        }
    }
}

/// The real coordinator under load.
struct Real {
    server: Server,
    metrics: SocketAddr,
    address: SocketAddr,
    load: Load,
}

impl Real {
    fn start(plan: &Plan) -> Result<Real, Failure> {
        let server = Server::coordinator(CYCLE)?;
        let (address, metrics) = (server.address("address")?, server.address("metrics_address")?);
        let load = Load::start(address, plan.agents, plan.hz, true, None)?;
        load.wait(plan.agents, Duration::from_secs(120))?;
        Ok(Real {
            server,
            metrics,
            address,
            load,
        })
    }

    fn apply(&self) -> Result<Buckets, Failure> {
        let metrics = process::metrics(self.metrics)?;
        Ok(Buckets::read(&metrics, "wyneos_coordinator_apply_seconds"))
    }

    fn window(&self, length: Duration) -> Result<Window, Failure> {
        let (apply, sent) = (self.apply()?, self.load.counts.sent.load(Relaxed));
        let mut window = cost(&self.server, length)?;
        window.apply = self.apply()?.since(&apply);
        window.sent = (self.load.counts.sent.load(Relaxed) - sent) as f64;
        Ok(window)
    }
}

fn cost(server: &Server, length: Duration) -> Result<Window, Failure> {
    let (cpu, rss, began) = (server.cpu()?, server.rss()?, Instant::now());
    thread::sleep(length);
    let took = began.elapsed().as_secs_f64();
    let after = server.rss()?;
    Ok(Window {
        cpu: (server.cpu()? - cpu) / took,
        rss: after,
        rss_grown: after - rss,
        ..Window::default()
    })
}

/// Measurement with one number of subscribers at the real coordinator.
struct Measured {
    all: u64,
    stalled: u64,
    /// Baseline without subscribers: the mean of the windows immediately before and after.
    without: Window,
    with: Window,
    receipts: Vec<f64>,
    answers: Vec<WireWatchResponse>,
    ended: u64,
}

impl Measured {
    fn new(real: &Real, plan: &Plan, all: u64) -> Result<Measured, Failure> {
        let stalled = all * plan.stalled / 100;
        eprintln!("fanout: {all} subscribers, {stalled} of them stalled …");
        let without = real.window(plan.window)?;
        let subscribers = Subscribers::start(real.address, all - stalled, stalled)?;
        let seen = &subscribers.seen;
        thread::sleep(SETTLE);
        seen.noting.store(true, Relaxed);
        let with = real.window(plan.window)?;
        seen.noting.store(false, Relaxed);
        let (receipts, answers, ended) = (seen.receipts(), seen.answers(), seen.ended.load(Relaxed));
        drop(subscribers);
        thread::sleep(SETTLE);
        let after = real.window(plan.window)?;
        Ok(Measured {
            all,
            stalled,
            without: without.mean(&after),
            with,
            receipts,
            answers,
            ended,
        })
    }

    /// Returns the CPU microseconds per subscriber and cycle.
    fn cpu(&self) -> f64 {
        (self.with.cpu - self.without.cpu) * 1e6 * CYCLE_SECONDS / self.all as f64
    }

    /// Returns the CPU microseconds per subscriber and cycle of the null server with the same subscribers and bytes,
    /// and its memory per subscriber in bytes.
    fn null(&self, window: Duration) -> Result<(f64, f64), Failure> {
        let dir = tempfile::tempdir().map_err(Failure::of("temporary directory"))?;
        let file = dir.path().join("answers");
        null_watch::record(&self.answers, &file)?;
        let server = Server::null(&[
            "null-subscriptions",
            &file.display().to_string(),
            &CYCLE_SECONDS.to_string(),
        ])?;
        let address = server.address("address")?;
        let idle = server.rss()?;
        let subscribers = Subscribers::start(address, self.all - self.stalled, self.stalled)?;
        thread::sleep(SETTLE);
        let with = cost(&server, window)?;
        drop(subscribers);
        // Without subscribers the null server only runs its timer.
        let all = self.all as f64;
        Ok((with.cpu * 1e6 * CYCLE_SECONDS / all, (with.rss - idle) / all))
    }

    fn row(&self, plan: &Plan) -> Result<Row, Failure> {
        let (with, without) = (self.with.apply.quantile(0.99), self.without.apply.quantile(0.99));
        let mut row = Row::new("fanout")
            .with("subscribers", self.all)
            .with("stalled", self.stalled)
            .with("agents", plan.agents)
            .with("hz", plan.hz)
            .with("cycle", CYCLE)
            .with("seconds", plan.window.as_secs())
            .number("apply_p99_ms", with * 1e3)
            .number("apply_p99_ms_without", without * 1e3)
            .number("apply_ratio", with / without)
            .number("apply_median_ms", self.with.apply.quantile(0.5) * 1e3)
            .number("apply_median_ms_without", self.without.apply.quantile(0.5) * 1e3)
            .with("apply_samples", self.with.apply.count())
            .number(
                "kept_up",
                self.with.sent / (plan.window.as_secs_f64() * plan.hz * plan.agents as f64),
            )
            .number("cpu_cores", self.with.cpu)
            .number("cpu_cores_without", self.without.cpu);
        if self.all > 0 {
            let (cpu, (null, null_rss)) = (self.cpu(), self.null(plan.window)?);
            let rss = (self.with.rss - self.without.rss) / self.all as f64;
            let bytes = |answer: &WireWatchResponse| prost::Message::encoded_len(answer) as f64;
            let deltas: Vec<f64> = self.answers.iter().skip(1).map(bytes).collect();
            row = row
                .number("cpu_us_subscriber_cycle", cpu)
                .number("null_cpu_us_subscriber_cycle", null)
                .number("cpu_ratio", cpu / null)
                .number("rss_bytes_subscriber", rss)
                .number("null_rss_bytes_subscriber", null_rss)
                .number("rss_ratio", rss / null_rss)
                .number("receipt_p50_ms", stats::quantile(&self.receipts, 0.5) * 1e3)
                .number("receipt_p99_ms", stats::quantile(&self.receipts, 0.99) * 1e3)
                .with("receipts", self.receipts.len())
                .number("full_bytes", self.answers.first().map_or(f64::NAN, bytes))
                .number("delta_bytes", stats::median(&deltas))
                .with("streams_ended", self.ended);
        }
        row = row
            .number("rss_bytes", self.with.rss)
            .number("rss_grown_bytes", self.with.rss_grown)
            .number("rss_grown_bytes_without", self.without.rss_grown);
        Ok(row)
    }
}

/// Measures every number of subscribers.
pub(crate) fn run(plan: &Plan) -> Result<Vec<Row>, Failure> {
    let real = Real::start(plan)?;
    eprintln!("fanout: {} agents are connected; warming up …", plan.agents);
    thread::sleep(WARM_UP);
    let measured = plan.subscribers.iter().map(|&all| Measured::new(&real, plan, all));
    let measured: Vec<Measured> = measured.collect::<Result<_, _>>()?;
    drop(real);
    measured.iter().map(|measured| measured.row(plan)).collect()
}
