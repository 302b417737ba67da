//! The driver: the single task that owns the agent's logic.

mod peers;
mod transports;

use std::{
    collections::HashMap,
    io::Write,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use wyneos::v1;
use wyneos_core::{
    agent::{Agent, Effect, Input, Notice, ProbeOutcome},
    id::{ClusterId, NodeId},
    mesh::Coordinate,
    node::ConnId,
    standing::{Question, Standing},
    text::Span,
    workload::Phase,
};
use wyneos_shell::{clock::Clock, files};

use transports::Transport;

use crate::{
    beacons::{Links, Outgoing},
    host::{self, Sampler},
    instance::{Instances, boot_time},
    mesh::{Members, Peers},
    metrics::Metrics,
    tls::Tls,
};

/// Maximum number of facts that wait for the agent's logic; beyond it sessions and probes wait.
pub(crate) const INPUTS: usize = 1_024;

/// Time for which the driver sleeps if no timer is set.
const IDLE: Duration = Duration::from_secs(60);

/// Minimum drift between two clocks at once that indicates a suspend.
const SLEEP: Duration = Duration::from_millis(200);

/// Messages to the driver.
pub(crate) enum ToAgent {
    /// A fact for the logic.
    Fact(Input),
    /// The end of a probe: its number, and its connection, if that can be reused.
    Probed(
        NodeId,
        u64,
        ProbeOutcome,
        Option<v1::mesh_service_client::MeshServiceClient<tonic::transport::Channel>>,
    ),
    /// A peer asks for a standing by way of this agent.
    Question {
        cluster: ClusterId,
        question: Box<Question>,
        answer: oneshot::Sender<Option<Standing>>,
    },
}

/// The agent's task.
pub(crate) struct Driver {
    pub(crate) core: Agent,
    pub(crate) clock: Clock,
    pub(crate) id: NodeId,
    pub(crate) sampler: Sampler,
    /// The file that is written to test whether the disk accepts writes.
    pub(crate) touched: PathBuf,
    pub(crate) cluster: Arc<OnceLock<ClusterId>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: tokio::sync::watch::Sender<bool>,
    pub(crate) coordinate: tokio::sync::watch::Sender<Coordinate>,
    pub(crate) inputs: mpsc::Receiver<ToAgent>,
    pub(crate) sender: mpsc::Sender<ToAgent>,
    pub(crate) peers: Peers,
    pub(crate) beacons: Outgoing,
    pub(crate) instances: Instances,
    pub(crate) members: watch::Sender<Members>,
    pub(crate) tls: Option<Tls>,
    pub(crate) links: Option<Arc<Links>>,
    pub(crate) state: State,
}

/// State of the driver between turns.
#[derive(Default)]
pub(crate) struct State {
    transports: HashMap<ConnId, Transport>,
    parting: Vec<JoinHandle<()>>,
    /// Peers' questions; abandoned ones are removed with the next one.
    questions: HashMap<u64, oneshot::Sender<Option<Standing>>>,
    asked: u64,
    /// Lead of the clock that advances during suspend over the clock of the logic.
    ahead: Option<Duration>,
    stopped: bool,
}

impl Driver {
    /// Runs until the logic has said goodbye.
    pub(crate) async fn run(mut self) {
        while !self.state.stopped {
            self.notice_sleep();
            let now = self.clock.now();
            if self.core.poll_timeout().is_some_and(|due| due <= now) {
                self.core.handle_timeout(now);
            }
            self.effects();
            let due = self
                .core
                .poll_timeout()
                .map(|due| Instant::from_std(self.clock.instant(due)));
            let due = due.unwrap_or_else(|| Instant::now() + IDLE);
            if self.state.stopped {
                break;
            }
            tokio::select! {
                biased;
                input = self.inputs.recv() => if let Some(input) = input { self.take(input) },
                () = sleep_until(due) => {}
            }
        }
        transports::part(self.state.parting).await;
    }

    /// Detects a suspend: the clock of the logic does not advance while the host is suspended.
    fn notice_sleep(&mut self) {
        let now = self.clock.now();
        let ahead = boot_time().since(now);
        let before = self.state.ahead.replace(ahead);
        if before.is_some_and(|before| ahead > before + SLEEP) {
            self.core.handle(now, Input::Slept);
        }
    }

    fn take(&mut self, input: ToAgent) {
        self.notice_sleep();
        let now = self.clock.now();
        match input {
            ToAgent::Fact(input) => {
                if let Input::Closed { conn, .. } = &input {
                    self.state.transports.remove(conn);
                }
                if let Input::Instance { id, status } = &input
                    && status.phase == Phase::Ended
                {
                    self.instances.ended(*id);
                }
                self.core.handle(now, input);
            }
            ToAgent::Probed(target, sequence, outcome, client) => {
                self.metrics.probe(outcome);
                self.peers.give_back(target, client);
                let probed = Input::Probed {
                    target,
                    sequence,
                    outcome,
                };
                self.core.handle(now, probed);
            }
            ToAgent::Question {
                cluster,
                question,
                answer,
            } => {
                let questions = &mut self.state.questions;
                questions.retain(|_, answer| !answer.is_closed());
                self.state.asked += 1;
                let id = self.state.asked;
                questions.insert(id, answer);
                self.core.handle(now, Input::Question { id, cluster, question });
            }
        }
        self.effects();
    }

    /// Carries out the logic's effects, without waiting for a disk, a peer, or the coordinator.
    fn effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            self.carry_out(effect);
        }
        self.publish();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { conn, address } => self.connect(conn, address),
            Effect::Send { conn, report } => self.send(conn, report),
            Effect::Close { conn } => self.close(conn),
            Effect::Measure => self.measure(),
            Effect::TouchDisk => self.touch_disk(),
            Effect::Probe {
                cluster,
                target,
                address,
                sequence,
                timeout,
            } => self.probe(cluster, target, address, sequence, timeout),
            Effect::Beacons { cluster, to } => self.send_beacons(cluster, &to),
            Effect::Ask {
                cluster,
                via,
                address,
                question,
                number,
                timeout,
            } => self.ask(cluster, via, address, *question, number, timeout),
            Effect::Answer { id, standing } => self.answer(id, standing),
            Effect::Targets(plan) => self.take_targets(&plan),
            Effect::TakeOver => self.instances.take_over(),
            Effect::Presume { cluster, below } => self.instances.presume(cluster, below),
            Effect::Run(assigned) => self.instances.run(&assigned),
            Effect::Halt { id, reason } => self.instances.halt(id, reason),
            Effect::Lease { id, until } => self.instances.lend(id, until.since(self.clock.now())),
            Effect::Discard { id } => self.instances.discard(id),
            Effect::ReadLog(request) => self.instances.read_log(request),
            Effect::Tell(notice) => self.tell(notice),
            Effect::Stopped => self.state.stopped = true,
        }
    }

    /// Publishes the present state of the logic.
    fn publish(&self) {
        self.metrics
            .member
            .set(i64::from(self.core.is_member(self.clock.now())));
        let coordinate = self.core.coordinate();
        self.coordinate
            .send_if_modified(|told| std::mem::replace(told, coordinate) != coordinate);
        let live = self.core.is_live();
        self.ready
            .send_if_modified(|ready| std::mem::replace(ready, live) != live);
    }

    /// Writes to the directory of the identity. A stalled disk blocks one thread, and nothing else.
    fn touch_disk(&self) {
        let (path, sender) = (self.touched.clone(), self.sender.clone());
        tokio::task::spawn_blocking(move || {
            let write = || -> std::io::Result<()> {
                files::make_way(&path)?;
                let mut file = files::create(&path, 0o600)?;
                file.write_all(b"written every 3 s, to see whether the disk takes it\n")?;
                file.sync_data()
            };
            let done = write()
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "data_dir cannot be written: instances continue to run, and nothing new can be recorded until it can"))
                .is_ok();
            // Without a receiver the agent has stopped.
            drop(sender.blocking_send(ToAgent::Fact(Input::DiskTouched { done })));
        });
    }

    fn measure(&mut self) {
        let reading = self.sampler.read(std::time::Instant::now());
        if let Ok(own) = host::own() {
            self.metrics.own(&own);
        }
        // Read here, and not by a timer, so that a heartbeat carries the time of its creation.
        let now = self.clock.now();
        self.core.handle(now, Input::WallClock(self.clock.wall()));
        self.core.handle(now, Input::Measured(reading));
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::Joined {
                cluster,
                epoch,
                session,
                address,
            } => {
                // The first cluster is kept: probes from another one are answered with an error.
                let known = self.cluster.get_or_init(|| cluster);
                if *known != cluster {
                    tracing::warn!(%known, %cluster, "the coordinator belongs to another cluster than the one that this agent joined first: is `coordinators` correct?");
                }
                self.metrics.sessions.inc();
                tracing::info!(%cluster, epoch = epoch.0, session = session.0, address, "joined");
            }
            Notice::Refused(refused) => {
                self.instances.are_refused();
                tracing::warn!(reason = ?refused.reason, "the coordinator refused this agent: {}", refused.detail);
            }
            Notice::Told { via, standing } => {
                self.metrics.relayed.inc();
                let (liveness, lease) = (standing.liveness.name(), standing.lease);
                tracing::warn!(%via, liveness, ?lease, "the coordinator does not answer directly; it answered through a peer");
            }
            Notice::Lapsed => {
                tracing::error!(
                    "the coordinator was not heard for the length of the lease, neither directly nor through a peer: this node no longer regards \
                     itself as a member, and its singletons are stopped before they may be started elsewhere"
                );
            }
            Notice::Lost {
                address,
                reason,
                retry_in,
            } => {
                let retry_in = Span(retry_in);
                tracing::warn!(address, %retry_in, "no session with the coordinator: {reason}");
            }
        }
    }
}
