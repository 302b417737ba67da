//! A coordinator whose store and publisher answer immediately unless told otherwise.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    coherence::{NodeRow, Snapshot},
    command::{Asked, Command},
    engine::{
        Answer, Config, Coordinator, Effect, FromAgent, Heartbeat, Input, Message, Published, Refusal, RefusalReason,
        RequestId, Welcome,
    },
    event::Event,
    id::{EventNo, NodeId, ProcessId, Uuid},
    integrity::{PublicKey, Sealer},
    mesh::{Observation, Sight},
    node::{Attributes, Capacity, ConnId, Facts, Hello, Labels, Liveness, Origin},
    store::{Batch, Durable},
    telemetry::Channel,
    time::{Time, WallTime},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn node_id(number: u8) -> NodeId {
    Uuid([number; 16])
}

pub(super) fn hello(number: u8, incarnation: u64, attempt: u64) -> Hello {
    let facts = Facts {
        id: node_id(number),
        name: format!("node-{number}"),
        agent_version: "1.2.3".to_owned(),
        boot_time: WallTime(0),
        capacity: Capacity {
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
        },
        attributes: Attributes::default().with_containment(Ok(())),
        labels: Labels::from([("zone".to_owned(), "a".to_owned())]),
        binary_digest: [1; 32],
        config_digest: [2; 32],
        probe_address: format!("10.0.0.{number}:1"),
    };
    Hello {
        facts,
        incarnation,
        attempt,
        channels: Channel::ALL.into_iter().map(Some).collect(),
        process_id: ProcessId::default(),
        machine: [0; 32],
        last_failure: String::new(),
    }
}

pub(super) struct Rig {
    pub(super) core: Coordinator,
    pub(super) now: Time,
    pub(super) sent: Vec<(ConnId, Message)>,
    pub(super) closed: Vec<ConnId>,
    pub(super) announced: Option<Arc<crate::integrity::Seal>>,
    pub(super) answers: Vec<(RequestId, Result<Answer, Refusal>)>,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) batches: Vec<Batch>,
    pub(super) snapshots: Vec<Arc<Snapshot>>,
    pub(super) view: Arc<crate::workload::View>,
    /// Nodes as seen by readers, and the number of publications.
    pub(super) nodes: Arc<Vec<Arc<NodeRow>>>,
    pub(super) shown: usize,
    pub(super) seen_event: EventNo,
    /// Whether the store is stalled, and the number of unconfirmed commits.
    pub(super) stalled: bool,
    pub(super) unconfirmed: usize,
    sealer: Sealer,
    pub(super) durable: Durable,
    sequences: std::collections::BTreeMap<ConnId, u64>,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::from(Durable::new(Uuid([9; 16])))
    }

    pub(super) fn from(durable: Durable) -> Rig {
        Rig::with(Config::new("1.2.9", PublicKey([0; 32])), durable)
    }

    pub(super) fn with(config: Config, durable: Durable) -> Rig {
        let now = Time(SECOND.as_nanos() as u64);
        let sealer = Sealer::new(durable.cluster, &[7; 32], durable.last_snapshot.2);
        let core = Coordinator::new(now, WallTime(1_000_000), config, durable.clone());
        let mut rig = Rig {
            core,
            now,
            sent: Vec::new(),
            closed: Vec::new(),
            announced: None,
            answers: Vec::new(),
            events: Vec::new(),
            batches: Vec::new(),
            snapshots: Vec::new(),
            view: Arc::default(),
            nodes: Arc::default(),
            shown: 0,
            seen_event: EventNo::default(),
            stalled: false,
            unconfirmed: 0,
            sealer,
            durable,
            sequences: Default::default(),
        };
        rig.core.handle_timeout(now);
        rig.drain();
        rig
    }

    /// Starts a coordinator from what this one made durable.
    pub(super) fn restart(self) -> Rig {
        self.restart_with(Config::new("1.2.9", PublicKey([0; 32])))
    }

    pub(super) fn restart_with(self, config: Config) -> Rig {
        let mut durable = self.durable;
        durable.epoch = durable.epoch.next();
        self.batches.iter().for_each(|batch| durable.apply(batch));
        if let Some(snapshot) = self.snapshots.last() {
            durable.last_snapshot = (snapshot.epoch, snapshot.cycle, [0; 32]);
            durable.lived = snapshot.lived;
        }
        Rig::with(config, durable)
    }

    pub(super) fn input(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.drain();
    }

    /// Advances time in the steps of the timers.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.core.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        self.core.recount();
        let mut confirm = VecDeque::new();
        loop {
            while let Some(effect) = self.core.poll_effect() {
                match effect {
                    Effect::Send { conn, message } => self.sent.push((conn, message)),
                    Effect::View(view) => self.view = view,
                    Effect::Nodes(nodes) => {
                        self.nodes = Arc::clone(&nodes.rows);
                        self.seen_event = nodes.event;
                        self.shown += 1;
                    }
                    Effect::Announce(seal) => self.announced = Some(seal),
                    Effect::Close { conn } => self.closed.push(conn),
                    Effect::Commit(batch) => {
                        self.events.extend(batch.events.iter().cloned());
                        self.batches.push(*batch);
                        if self.stalled {
                            self.unconfirmed += 1;
                        } else {
                            confirm.push_back(Input::Committed);
                        }
                    }
                    Effect::Publish(snapshot) => {
                        let seal = Arc::new(self.sealer.seal(snapshot.epoch, snapshot.cycle, b""));
                        self.snapshots.push(snapshot);
                        confirm.push_back(Input::Published(Published {
                            seal,
                            subscribers: 0,
                            lagging: 0,
                        }));
                    }
                    Effect::Reply { request, answer } => self.answers.push((request, answer)),
                }
            }
            let Some(input) = confirm.pop_front() else { return };
            self.core.handle(self.now, input);
        }
    }

    /// Confirms the commits of a stalled store.
    pub(super) fn resume(&mut self) {
        self.stalled = false;
        for _ in 0..std::mem::take(&mut self.unconfirmed) {
            self.input(Input::Committed);
        }
    }

    pub(super) fn join(&mut self, conn: u64, number: u8) -> Welcome {
        self.hello(conn, hello(number, 1, 0));
        self.welcome(conn)
            .unwrap_or_else(|| panic!("no welcome: {:?}", self.sent))
    }

    pub(super) fn hello(&mut self, conn: u64, hello: Hello) {
        self.input(Input::Opened {
            conn: ConnId(conn),
            hello: Box::new(hello),
            origin: Origin::default(),
        });
    }

    pub(super) fn welcome(&self, conn: u64) -> Option<Welcome> {
        self.sent.iter().find_map(|(to, message)| match message {
            Message::Welcome(welcome) if *to == ConnId(conn) => Some((**welcome).clone()),
            _ => None,
        })
    }

    pub(super) fn refused(&self, conn: u64) -> Option<RefusalReason> {
        self.sent.iter().find_map(|(to, message)| match message {
            Message::Refused(refused) if *to == ConnId(conn) => Some(refused.reason),
            _ => None,
        })
    }

    pub(super) fn beat(&mut self, conn: u64) {
        self.answer(conn, None);
    }

    /// A heartbeat that answers pings up to this number, or of an agent that does not report it.
    pub(super) fn answer(&mut self, conn: u64, answers: Option<u64>) {
        let sequence = self.sequences.entry(ConnId(conn)).or_default();
        *sequence += 1;
        let sequence = *sequence;
        self.heartbeat_of(conn, sequence, 0.25, answers);
    }

    pub(super) fn heartbeat(&mut self, conn: u64, sequence: u64, value: f32) {
        self.heartbeat_of(conn, sequence, value, None);
    }

    fn heartbeat_of(&mut self, conn: u64, sequence: u64, value: f32, answers: Option<u64>) {
        let heartbeat = Heartbeat {
            sequence,
            wall: WallTime(1_000_000 + (self.now.0 / 1_000_000) as i64 - 1000),
            load: value,
            values: vec![value; Channel::COUNT],
            answers,
            ..Heartbeat::default()
        };
        self.input(Input::FromAgent(ConnId(conn), FromAgent::Heartbeat(heartbeat)));
    }

    /// Advances time while the sessions `conns` send heartbeats.
    pub(super) fn beat_for(&mut self, conns: &[u64], span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.pass(SECOND.min(end.since(self.now)));
            for conn in conns {
                self.beat(*conn);
            }
        }
    }

    pub(super) fn command<C: Command>(&mut self, command: C) -> Result<C::Reply, Refusal> {
        let answer = self.ask(command.into())?;
        Ok(C::Reply::try_from(answer).expect("the reply of this command"))
    }

    pub(super) fn ask(&mut self, command: Asked) -> Result<Answer, Refusal> {
        let request = RequestId(self.answers.len() as u64 + 1_000);
        let beside = command
            .is_plan()
            .then(|| self.core.planner().answer(command.clone(), "ada"));
        let by = "ada".into();
        self.input(Input::Command { request, command, by });
        let (_, answer) = self.answers.iter().find(|(to, _)| *to == request).expect("an answer");
        // A plan is identical wherever it is made.
        if let (Some(beside), false) = (beside, matches!(answer, Err(Refusal::Overloaded(_)))) {
            assert_eq!(&beside, answer);
        }
        answer.clone()
    }

    /// The transitions of a node, in order.
    pub(super) fn transitions(&self, number: u8) -> Vec<Liveness> {
        let of_node = self.events.iter().filter(|event| event.node == Some(node_id(number)));
        of_node
            .filter_map(|event| match &event.body {
                crate::event::EventBody::Liveness { to, .. } => Some(*to),
                _ => None,
            })
            .collect()
    }

    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.pass(SECOND * 6);
        Arc::clone(self.snapshots.last().expect("a snapshot"))
    }
}

/// An agent's observation of a peer changes.
pub(super) fn see(rig: &mut Rig, observer: u64, subject: u8, sight: Sight) {
    let last_heard_age_millis = Some(0);
    let observation = Observation {
        sight,
        last_heard_age_millis,
    };
    rig.input(Input::FromAgent(
        ConnId(observer),
        FromAgent::Evidence {
            observations: vec![(node_id(subject), observation)],
            health: None,
            sent_millis: 0,
        },
    ));
}
