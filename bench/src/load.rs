//! The load generator: agents, each with its own connection, that send heartbeats at a fixed rate.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::ClientConfig;
use tokio::{
    runtime::Builder,
    sync::Semaphore,
    task::LocalSet,
    time::{MissedTickBehavior, interval, sleep},
};
use wyneos::v1::session_request::Message;

use crate::{Failure, made, tls::Ca, wire::Connection};

/// Number of threads that generate the load.
const THREADS: u64 = 2;

/// Maximum number of sessions that one thread opens concurrently: fewer than the coordinator's store accepts at once.
const OPENING: usize = 16;

/// Time limit for opening a session.
const PATIENCE: Duration = Duration::from_secs(20);

/// Delay before an agent retries.
const RETRY: Duration = Duration::from_millis(250);

/// Maximum lateness of heartbeats, in seconds. Later ones are skipped: sending them would hide that the rate is not
/// sustained.
const LATE: f64 = 0.5;

/// The coordinator measures the latency of one heartbeat in this many of a session.
const TIMED: u64 = 64;

/// Counters of the agents.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Open sessions.
    pub(crate) standing: AtomicU64,
    /// Heartbeats sent.
    pub(crate) sent: AtomicU64,
    /// Sessions that ended, plus failed attempts.
    pub(crate) lost: AtomicU64,
    stop: AtomicBool,
}

/// A running group of agents.
pub(crate) struct Load {
    /// Counters of the agents.
    pub(crate) counts: Arc<Counts>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Starts `agents` agents of the coordinator at `address`, each with `hz` heartbeats per second. With `spread`,
    /// each agent starts with up to [`TIMED`] heartbeats at once: otherwise all sessions, which open within a second,
    /// would have their latency measured in the same second.
    pub(crate) fn start(
        address: SocketAddr,
        agents: u64,
        hz: f64,
        spread: bool,
        tls: Option<Arc<Ca>>,
    ) -> Result<Load, Failure> {
        let counts = Arc::new(Counts::default());
        let mut threads = Vec::new();
        for first in 0..THREADS.min(agents) {
            let counts = Arc::clone(&counts);
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Failure::of("the load's runtime"))?;
            let tls = tls.clone();
            let work =
                move || LocalSet::new().block_on(&runtime, fleet(counts, (address, tls), first, (agents, hz), spread));
            let thread = thread::Builder::new().name("load".to_owned()).spawn(work);
            threads.push(thread.map_err(Failure::of("the load's thread"))?);
        }
        Ok(Load { counts, threads })
    }

    /// Waits until every session is open.
    pub(crate) fn wait(&self, agents: u64, limit: Duration) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        while self.counts.standing.load(Relaxed) < agents {
            if Instant::now() > until {
                let (standing, lost) = (self.counts.standing.load(Relaxed), self.counts.lost.load(Relaxed));
                return Err(Failure::new(format!(
                    "{standing} of {agents} sessions stand after {limit:?}, {lost} attempts failed"
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.counts.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// The state of an agent in its thread: its connection, once its session is open, and the sequence of its last
/// heartbeat.
#[derive(Default)]
struct Place {
    connection: Option<Rc<Connection>>,
    sequence: u64,
}

type Places = Rc<RefCell<Vec<Place>>>;

fn wall_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Runs the agents `first`, `first + THREADS`, … below `agents`.
async fn fleet(
    counts: Arc<Counts>,
    (address, tls): (SocketAddr, Option<Arc<Ca>>),
    first: u64,
    (agents, hz): (u64, f64),
    spread: bool,
) {
    let numbers: Vec<u64> = (first..agents).step_by(THREADS as usize).collect();
    let places: Places = Rc::new(RefCell::new(numbers.iter().map(|_| Place::default()).collect()));
    let (opening, buffer) = (
        Rc::new(Semaphore::new(OPENING)),
        Rc::new(RefCell::new(vec![0; 64 * 1024])),
    );
    for (at, &number) in numbers.iter().enumerate() {
        let (counts, places) = (Arc::clone(&counts), Rc::clone(&places));
        let (opening, buffer) = (Rc::clone(&opening), Rc::clone(&buffer));
        let extra = if spread { number % TIMED } else { 0 };
        // Created before the load starts, so that its cost is not measured.
        let tls = tls.as_ref().and_then(|ca| ca.agent(made::node(number)).ok());
        tokio::task::spawn_local(async move {
            for attempt in 0.. {
                let place = (&places, at);
                session(
                    &counts,
                    (address, tls.clone()),
                    (number, extra),
                    attempt,
                    place,
                    &opening,
                    &buffer,
                )
                .await;
                counts.lost.fetch_add(1, Relaxed);
                sleep(RETRY).await;
            }
        });
    }
    heartbeats(&counts, &numbers, &places, hz).await;
}

async fn session(
    counts: &Counts,
    (address, tls): (SocketAddr, Option<Arc<ClientConfig>>),
    (number, extra): (u64, u64),
    attempt: u64,
    (places, at): (&Places, usize),
    opening: &Semaphore,
    buffer: &RefCell<Vec<u8>>,
) {
    let Ok(permit) = opening.acquire().await else { return };
    let open = async {
        let connection = Connection::open(address, tls).await?;
        let hello = Message::Hello(made::hello(number, attempt, String::new()));
        connection.send(hello, &mut Vec::new())?;
        while !connection.welcomed.get() && connection.read(buffer).await? {}
        Ok::<_, std::io::Error>(connection)
    };
    let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, open).await else {
        return;
    };
    drop(permit);
    if !connection.welcomed.get() {
        return;
    }
    let connection = Rc::new(connection);
    let place = |connection| Place {
        connection,
        sequence: 0,
    };
    places.borrow_mut()[at] = place(Some(Rc::clone(&connection)));
    if extra > 0 {
        begin(&connection, number, extra, &mut places.borrow_mut()[at]);
    }
    counts.standing.fetch_add(1, Relaxed);
    while let Ok(true) = connection.read(buffer).await {}
    places.borrow_mut()[at] = place(None);
    counts.standing.fetch_sub(1, Relaxed);
}

/// Sends the first `extra` heartbeats of a session at once.
fn begin(connection: &Connection, number: u64, extra: u64, place: &mut Place) {
    let mut scratch = Vec::new();
    for sequence in 1..=extra {
        let heartbeat = made::heartbeat(number, sequence, wall_millis(), (0, 0));
        if let Ok(true) = connection.send(Message::Heartbeat(heartbeat), &mut scratch) {
            place.sequence = sequence;
        }
    }
}

/// Sends heartbeats, agent after agent, as many as the elapsed time requires: the phases of the agents are evenly
/// spread.
async fn heartbeats(counts: &Counts, numbers: &[u64], places: &Places, hz: f64) {
    let rate = hz * numbers.len() as f64;
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    let mut next = 0u64;
    let mut scratch = Vec::new();
    while !counts.stop.load(Relaxed) {
        tick.tick().await;
        let due = began.elapsed().as_secs_f64() * rate;
        next = next.max((due - LATE * rate) as u64);
        let wall = wall_millis();
        let mut places = places.borrow_mut();
        let mut sent = 0;
        while (next as f64) < due {
            let at = (next % numbers.len() as u64) as usize;
            next += 1;
            let place = &mut places[at];
            let Some(connection) = &place.connection else { continue };
            let heartbeat = made::heartbeat(numbers[at], place.sequence + 1, wall, connection.acknowledged.get());
            // A failed connection is handled by its reader.
            if let Ok(true) = connection.send(Message::Heartbeat(heartbeat), &mut scratch) {
                place.sequence += 1;
                sent += 1;
            }
        }
        counts.sent.fetch_add(sent, Relaxed);
    }
}
