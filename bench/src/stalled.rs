//! Cost of clients that subscribe to the full state every cycle and read nothing.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tonic::{Request, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;
use wyneos::{canonical::WireWatchResponse, v1};

use crate::{
    Failure,
    load::Load,
    output::Row,
    process::{self, Server},
    subscribers::PATH,
};

/// Interval between two cycles: long enough for 10,000 nodes beside the load generator.
const CYCLE: &str = "1s";
const CYCLE_TIME: Duration = Duration::from_secs(1);

/// Heartbeats per second of each agent: the rate that the coordinator requests, so that its nodes stay online.
const HZ: f64 = 0.5;

/// Delay until forecasts are evaluated and published, and memory stops growing with the history of the first cycles.
const WARM_UP: Duration = Duration::from_secs(45);

/// Parameters of the benchmark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) agents: u64,
    pub(crate) subscribers: u64,
    /// Number of subscribers that start in the same cycle, and therefore hold the same state.
    pub(crate) together: u64,
    pub(crate) window: Duration,
}

/// Subscribers that hold their streams open and never read them.
struct Stalled {
    streams: Vec<Streaming<WireWatchResponse>>,
    runtime: Runtime,
}

impl Stalled {
    fn new() -> Result<Stalled, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Ok(Stalled {
            streams: Vec::new(),
            runtime: runtime.map_err(Failure::of("the subscribers' runtime"))?,
        })
    }

    fn add(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let stream = self.runtime.block_on(subscribe(address))?;
        self.streams.push(stream);
        Ok(())
    }
}

async fn subscribe(address: SocketAddr) -> Result<Streaming<WireWatchResponse>, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failure::of("address"))?;
    let channel = endpoint.connect().await.map_err(Failure::of("connection"))?;
    let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(Failure::of("connection"))?;
    let request = v1::WatchSnapshotsRequest {
        always_full: true,
        ..v1::WatchSnapshotsRequest::default()
    };
    let codec = ProstCodec::<v1::WatchSnapshotsRequest, WireWatchResponse>::default();
    let answer = client.server_streaming(Request::new(request), PathAndQuery::from_static(PATH), codec);
    Ok(answer.await.map_err(Failure::of("call"))?.into_inner())
}

/// Measures the coordinator's memory without the subscribers, and with them.
pub(crate) fn run(plan: Plan) -> Result<Vec<Row>, Failure> {
    let server = Server::coordinator(CYCLE)?;
    let (address, metrics) = (server.address("address")?, server.address("metrics_address")?);
    let load = Load::start(address, plan.agents, HZ, true, None)?;
    load.wait(plan.agents, Duration::from_secs(300))?;
    eprintln!("stalled: {} agents are connected; warming up …", plan.agents);
    thread::sleep(WARM_UP);
    // One subscriber first, so that the server's one-time allocations are not attributed to the stalled ones.
    let mut first = Stalled::new()?;
    first.add(address)?;
    drop(first);
    thread::sleep(plan.window);
    let without = server.rss()?;
    eprintln!("stalled: {} subscribers, {} a cycle …", plan.subscribers, plan.together);
    let (mut stalled, began) = (Stalled::new()?, Instant::now());
    let mut most = without;
    for number in 0..plan.subscribers {
        if number > 0 && number % plan.together == 0 {
            thread::sleep(CYCLE_TIME);
            most = most.max(server.rss()?);
        }
        stalled.add(address)?;
    }
    let until = Instant::now() + plan.window;
    while Instant::now() < until {
        thread::sleep(CYCLE_TIME);
        most = most.max(server.rss()?);
    }
    let with = server.rss()?;
    let text = process::metrics(metrics)?;
    let value = |name: &str| process::value(&text, name).unwrap_or(f64::NAN);
    let ended = value("wyneos_coordinator_answers_ended_total{reason=\"memory\"}");
    let row = Row::new("stalled")
        .with("subscribers", plan.subscribers)
        .with("together", plan.together)
        .with("agents", plan.agents)
        .with("cycle", CYCLE)
        .with("seconds", began.elapsed().as_secs())
        .number("state_bytes", value("wyneos_coordinator_snapshot_bytes"))
        .number("rss_bytes_without", without)
        .number("rss_bytes", with)
        .number("rss_bytes_most", most)
        .number("rss_bytes_of_all", most - without)
        .with("rss_bytes_of_all_goal", 300_000_000)
        .number("rss_bytes_subscriber", (most - without) / plan.subscribers as f64)
        .number("answer_bytes", value("wyneos_coordinator_answer_bytes"))
        .number("answers_ended", if ended.is_nan() { 0.0 } else { ended });
    drop(stalled);
    drop(load);
    Ok(vec![row])
}
