//! The driver: the single task that owns the coordinator's logic. Other tasks send it messages; none can access it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use wyneos::{encoded::Encoded, v1};
use wyneos_core::{
    coordinator::{
        Answer, Asked, Coordinator, Effect, FromAgent, Input, Message, Planner, Refusal, Refused, RequestId,
    },
    node::ConnId,
    time::Time,
};
use wyneos_shell::clock::Clock;

use crate::{metrics::Metrics, publisher::Work, turns::Turn};

/// Maximum number of inputs that wait for the engine; beyond it sessions wait, and HTTP/2 makes their agents wait.
pub(crate) const INPUTS: usize = 16_384;

/// Maximum number of inputs processed at once.
const BATCH: usize = 1_024;

/// Maximum number of messages that wait for a session; beyond it the session is closed, because its agent does not
/// read.
pub(crate) const OUTBOUND: usize = 32;

/// Time for which inputs and timers are gathered: one wake-up of the engine serves many heartbeats. Longer: less work,
/// later reactions.
const GATHER: Duration = Duration::from_millis(5);

/// Maximum number of commands and confirmations that wait for the engine; beyond it their senders wait.
pub(crate) const URGENT: usize = 1_024;

/// Time for which a copy serves further plans. Longer: the engine copies less often; plans are based on older facts.
const FRESH: Duration = Duration::from_millis(250);

/// Interval at which the engine is told the wall clock.
const WALL_CLOCK: Duration = Duration::from_secs(1);

/// Messages to the engine.
#[derive(Debug)]
pub(crate) enum ToEngine {
    /// A fact for the core.
    Fact(Input),
    /// A fact for the core, and the time of its arrival, from which its latency is measured.
    Timed(Input, std::time::Instant),
    /// A new transport, sent before its first fact.
    Open(ConnId, mpsc::Sender<Outbound>),
    /// The end of all input: the engine ends, and after it the publisher.
    Stop,
    /// A request to plan a command, which is computed beside the engine.
    Plan {
        /// The command.
        command: Asked,
        /// The caller, for people.
        by: Arc<str>,
        /// Held until the plan is computed, even if the caller is gone.
        turn: Turn,
        /// Receiver of the answer.
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// An operator's command.
    Command {
        /// The command.
        command: Asked,
        /// The caller, for people.
        by: Arc<str>,
        /// The audit's intent; `None` for a command that changes nothing.
        intent: Option<u64>,
        /// Receiver of the answer.
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    },
}

/// Messages to a session; the end of the channel ends the session.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// An encoded `SessionResponse`.
    Message(Encoded),
    /// The refusal that ends the session.
    Refused(Box<Refused>),
}

/// A sender to the engine.
pub(crate) type EngineSender = mpsc::Sender<ToEngine>;

/// Waits until inputs may be processed again, and for the first one; then takes all that are available. Empty if every
/// sender is gone.
async fn gather(inputs: &mut mpsc::Receiver<ToEngine>, from: Instant, batch: &mut Vec<ToEngine>) {
    sleep_until(from).await;
    inputs.recv_many(batch, BATCH).await;
}

/// The engine's task.
pub(crate) struct Engine {
    core: Coordinator,
    clock: Clock,
    inputs: mpsc::Receiver<ToEngine>,
    urgent: mpsc::Receiver<ToEngine>,
    work: mpsc::UnboundedSender<Work>,
    conns: HashMap<ConnId, mpsc::Sender<Outbound>>,
    requests: HashMap<RequestId, oneshot::Sender<Result<Answer, Refusal>>>,
    next_request: u64,
    metrics: Arc<Metrics>,
    /// The newest seal, which sessions send after their next heartbeat.
    seals: watch::Sender<Option<Encoded>>,
    /// The copy that plans are based on, and its time; none since the newest command.
    planner: Option<(Instant, Arc<Mutex<Planner>>)>,
}

impl Engine {
    /// Creates an engine that drives `core`. Inputs through `urgent` do not wait to be gathered. The core bounds
    /// `work`: it awaits a limited number of batches and at most one snapshot.
    pub(crate) fn new(
        core: Coordinator,
        clock: Clock,
        inputs: mpsc::Receiver<ToEngine>,
        urgent: mpsc::Receiver<ToEngine>,
        work: mpsc::UnboundedSender<Work>,
        seals: watch::Sender<Option<Encoded>>,
        metrics: Arc<Metrics>,
    ) -> Engine {
        let (conns, requests) = (HashMap::new(), HashMap::new());
        Engine {
            core,
            clock,
            inputs,
            urgent,
            work,
            conns,
            requests,
            next_request: RequestId::UNRECORDED,
            metrics,
            seals,
            planner: None,
        }
    }

    /// Runs until it is told to stop, or every sender is gone.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut wall_due = Instant::now();
        let mut gathered = Instant::now();
        loop {
            let began = Instant::now();
            if began >= wall_due {
                wall_due = began + WALL_CLOCK;
                let wall = self.clock.wall();
                self.core.handle(self.clock.now(), Input::WallClock(wall));
            }
            let now = self.clock.now();
            if self.core.poll_timeout().is_some_and(|due| due <= now) {
                self.core.handle_timeout(now);
            }
            self.effects();
            // Timers are gathered, too: ten thousand nodes have as many, each due at its own time.
            let due = self
                .core
                .poll_timeout()
                .map(|due| self.instant(due).max(began + GATHER));
            tokio::select! {
                biased;
                Some(input) = self.urgent.recv() => {
                    if matches!(input, ToEngine::Stop) {
                        return;
                    }
                    self.take(input);
                }
                () = gather(&mut self.inputs, gathered, &mut batch) => {
                    if batch.is_empty() {
                        return;
                    }
                    self.metrics.engine_batch.observe(batch.len() as f64);
                    // A full batch means that more inputs wait, which are processed immediately.
                    gathered = if batch.len() < BATCH { Instant::now() + GATHER } else { began };
                    for input in batch.drain(..) {
                        self.take(input);
                    }
                }
                () = sleep_until(due.map_or(wall_due, |due| wall_due.min(due))) => {}
            }
        }
    }

    fn instant(&self, time: Time) -> Instant {
        Instant::from_std(self.clock.instant(time))
    }

    fn take(&mut self, input: ToEngine) {
        let now = self.clock.now();
        match input {
            ToEngine::Timed(input, arrived) => {
                self.take(ToEngine::Fact(input));
                self.metrics.apply_seconds.observe(arrived.elapsed().as_secs_f64());
            }
            ToEngine::Fact(input) => {
                if let Input::Closed { conn, .. } = &input {
                    self.conns.remove(conn);
                }
                if let Input::FromAgent(_, FromAgent::Heartbeat(_)) = &input {
                    self.metrics.heartbeats.inc();
                }
                self.core.handle(now, input);
            }
            ToEngine::Stop => {}
            ToEngine::Open(conn, sender) => {
                self.conns.insert(conn, sender);
                self.metrics.sessions.set(self.conns.len() as i64);
            }
            ToEngine::Plan {
                command,
                by,
                turn,
                answer,
            } => {
                if answer.is_closed() {
                    return;
                }
                let planner = self.planner();
                spawn_blocking(move || {
                    let own = planner.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    // The caller may be gone by now.
                    drop(answer.send(own.answer(command, &by)));
                    drop(turn);
                });
            }
            ToEngine::Command {
                command,
                by,
                intent,
                answer,
            } => {
                self.planner = None;
                let request = RequestId(intent.unwrap_or(self.next_request));
                self.next_request += u64::from(intent.is_none());
                self.requests.insert(request, answer);
                self.core.handle(now, Input::Command { request, command, by });
            }
        }
    }

    /// The copy that plans are based on: from after every earlier command, and no older than [`FRESH`].
    fn planner(&mut self) -> Arc<Mutex<Planner>> {
        if let Some((at, planner)) = &self.planner
            && at.elapsed() < FRESH
        {
            return Arc::clone(planner);
        }
        let planner = Arc::new(Mutex::new(self.core.planner()));
        self.planner = Some((Instant::now(), Arc::clone(&planner)));
        planner
    }

    fn effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Send { conn, message } => self.send(conn, message),
                Effect::Announce(seal) => {
                    let message = v1::SessionResponse::from(Message::Seal { seal, heard: 0 });
                    self.seals.send_replace(Some(Encoded::new(&message)));
                }
                Effect::Close { conn } => {
                    self.conns.remove(&conn);
                    self.metrics.sessions.set(self.conns.len() as i64);
                }
                // The publisher outlives the engine; if it failed, the process is ending.
                Effect::Commit(batch) => drop(self.work.send(Work::Commit(*batch))),
                Effect::View(view) => drop(self.work.send(Work::View(view))),
                Effect::Nodes(nodes) => drop(self.work.send(Work::Nodes(nodes))),
                Effect::Publish(snapshot) => drop(self.work.send(Work::Publish(snapshot))),
                Effect::Reply { request, answer } => {
                    if let Some(waiting) = self.requests.remove(&request) {
                        // The caller may be gone; the command remains valid.
                        drop(waiting.send(answer));
                    }
                }
            }
        }
    }

    fn send(&mut self, conn: ConnId, message: Message) {
        let Some(sender) = self.conns.get(&conn).cloned() else {
            return;
        };
        let outbound = match message {
            Message::Refused(refused) => {
                tracing::debug!(conn = conn.0, reason = ?refused.reason, detail = refused.detail, "session refused");
                Outbound::Refused(Box::new(refused))
            }
            message => Outbound::Message(Encoded::new(&v1::SessionResponse::from(message))),
        };
        if sender.try_send(outbound).is_err() {
            // The agent does not read. Without its queue the session ends, and reports that to the core.
            self.metrics.sessions_overrun.inc();
            self.conns.remove(&conn);
        }
    }
}
