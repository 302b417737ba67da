//! Subscribers of snapshots, some of which stop reading.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};
use tonic::{Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;
use wyneos::{canonical::WireWatchResponse, v1};

use crate::Failure;

pub(crate) const PATH: &str = "/wyneos.v1.CoherenceService/WatchSnapshots";

/// Maximum number of subscribers that connect concurrently.
const OPENING: usize = 32;

/// Number of answers whose bytes are kept for the null server.
const KEPT: usize = 512;

/// Observations of the subscribers.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Subscribers that received their first message.
    pub(crate) begun: AtomicU64,
    /// Messages received by the reading subscribers.
    pub(crate) messages: AtomicU64,
    /// Subscribers whose stream ended.
    pub(crate) ended: AtomicU64,
    /// Whether receipts are recorded.
    pub(crate) noting: AtomicBool,
    /// Seconds from the time of a snapshot to its receipt.
    receipts: Mutex<Vec<f64>>,
    /// Answers received by the first reading subscriber, the full state first.
    answers: Mutex<Vec<WireWatchResponse>>,
}

impl Seen {
    /// Removes and returns the receipts.
    pub(crate) fn receipts(&self) -> Vec<f64> {
        std::mem::take(&mut *self.receipts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes and returns the answers.
    pub(crate) fn answers(&self) -> Vec<WireWatchResponse> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Running subscribers; they disconnect when this value is dropped.
pub(crate) struct Subscribers {
    /// Observations of the subscribers.
    pub(crate) seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

impl Subscribers {
    /// Starts `reading` subscribers that read continuously, and `stalled` ones that request the full state every cycle
    /// and stop reading after the first answer: the most expensive behaviour of a subscriber.
    pub(crate) fn start(address: SocketAddr, reading: u64, stalled: u64) -> Result<Subscribers, Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Failure::of("the subscribers' runtime"))?;
        let seen = Arc::new(Seen::default());
        let opening = Arc::new(Semaphore::new(OPENING));
        for number in 0..reading + stalled {
            let (seen, opening) = (Arc::clone(&seen), Arc::clone(&opening));
            let stalls = number >= reading;
            runtime.spawn(async move {
                let ended = watch(&seen, address, number == 0, stalls, &opening).await;
                if let Err(failure) = ended {
                    eprintln!("subscriber {number}: {failure}");
                }
                seen.ended.fetch_add(1, Relaxed);
            });
        }
        let runtime = Some(runtime);
        let subscribers = Subscribers { seen, runtime };
        subscribers.wait(reading + stalled, Duration::from_secs(60))?;
        Ok(subscribers)
    }

    fn wait(&self, all: u64, limit: Duration) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        while self.seen.begun.load(Relaxed) < all {
            if Instant::now() > until {
                let begun = self.seen.begun.load(Relaxed);
                return Err(Failure::new(format!(
                    "{begun} of {all} subscribers got a message in {limit:?}"
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

async fn watch(
    seen: &Seen,
    address: SocketAddr,
    keeps: bool,
    stalls: bool,
    opening: &Semaphore,
) -> Result<(), Failure> {
    let permit = opening.acquire().await.map_err(Failure::of("opening"))?;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failure::of("address"))?;
    let channel = endpoint
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(Failure::of("connection"))?;
    let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(Failure::of("connection"))?;
    let request = v1::WatchSnapshotsRequest {
        always_full: stalls,
        ..v1::WatchSnapshotsRequest::default()
    };
    let codec = ProstCodec::<v1::WatchSnapshotsRequest, WireWatchResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(PATH);
    let answer = client.server_streaming(Request::new(request), path, codec).await;
    let mut stream = answer.map_err(Failure::of("call"))?.into_inner();
    let mut first = Some(permit);
    while let Some(answer) = stream.message().await.map_err(Failure::of("stream"))? {
        if first.take().is_some() {
            seen.begun.fetch_add(1, Relaxed);
        }
        if stalls {
            // Holds the stream open without reading it.
            std::future::pending::<()>().await;
        }
        note(seen, answer, keeps);
    }
    Ok(())
}

fn note(seen: &Seen, answer: WireWatchResponse, keeps: bool) {
    seen.messages.fetch_add(1, Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if seen.noting.load(Relaxed) {
        // Answers of the null server have past times; their receipts are not evaluated.
        let delta = answer.delta.clone().map(v1::SnapshotDelta::decode);
        let time = delta.and_then(|delta| delta.ok()?.changed?.time);
        if let Some(time) = time {
            let sent = time.seconds as f64 + f64::from(time.nanos) / 1e9;
            let mut receipts = seen.receipts.lock().unwrap_or_else(PoisonError::into_inner);
            receipts.push(now.as_secs_f64() - sent);
        }
    }
    if keeps {
        let mut answers = seen.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < KEPT {
            answers.push(answer);
        }
    }
}
