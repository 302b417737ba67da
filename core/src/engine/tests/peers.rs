//! Nodes that observe one another. Live nodes send a heartbeat every second and answer pings immediately.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::rig::{Rig, SECOND, hello, node_id};
use crate::{
    autonomy::{Decision, Outcome},
    ctx::Ctx,
    engine::{Config, Coordinator, FromAgent, Input, Message, Rules},
    event::{Event, EventBody},
    id::{NodeId, Uuid},
    integrity::PublicKey,
    mesh::{Observation, Sight},
    node::{Admission, Cause, ConnId, Health, Liveness, Node, NodeIndex, NodeRecord},
    standing::Question,
    store::Durable,
    systems::guardian::{Guardian, climate::Climate},
    time::Time,
};

/// Longer than any wait that is not extended by packet loss.
pub(super) const LONG: Duration = Duration::from_secs(400);

/// The shipped rules.
pub(super) fn shipped() -> Rules {
    Rules::default()
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) struct Peers {
    pub(super) rig: Rig,
    /// Sessions of live nodes.
    live: BTreeMap<u8, u64>,
    /// Newest ping of each session, and whether it was answered.
    pinged: BTreeMap<u64, (u64, bool)>,
    next_beat: Time,
    /// Number of the coordinator's messages processed.
    read: usize,
    /// Number of the newest session opened after the initial ones.
    conns: u64,
}

impl Peers {
    /// Creates nodes that all hear one another.
    pub(super) fn new(nodes: u8, rules: Rules) -> Peers {
        let mut peers = Peers::strangers(nodes, rules);
        for observer in 1..=nodes {
            peers.hears_all(observer);
        }
        // Out of phase with heartbeats and surveys.
        peers.pass(ms(4_500));
        peers
    }

    /// Creates nodes without observations.
    pub(super) fn strangers(nodes: u8, rules: Rules) -> Peers {
        Peers::of(nodes, &[], rules)
    }

    /// The same, with further nodes `waiting` for admission.
    pub(super) fn of(nodes: u8, waiting: &[u8], rules: Rules) -> Peers {
        let mut durable = Durable::new(Uuid([9; 16]));
        durable.nodes.extend(waiting.iter().map(|&number| {
            let facts = hello(number, 1, 0).facts.into();
            let admission = Admission::Pending;
            let record = NodeRecord {
                admission,
                ..NodeRecord::new(facts)
            };
            (record.id(), record.into())
        }));
        let mut config = Config::new("1.2.9", PublicKey([0; 32]));
        config.rules = rules;
        let rig = Rig::with(config, durable);
        let mut peers = Peers {
            next_beat: rig.now + SECOND,
            rig,
            live: BTreeMap::new(),
            pinged: BTreeMap::new(),
            read: 0,
            conns: 100,
        };
        for number in (1..=nodes).chain(waiting.iter().copied()) {
            peers.rig.join(number.into(), number);
            peers.live.insert(number, number.into());
        }
        peers.pass(SECOND);
        peers
    }

    pub(super) fn index(&self, number: u8) -> NodeIndex {
        self.rig.core.ctx.registry.find(node_id(number)).expect("a node")
    }

    pub(super) fn node(&self, number: u8) -> &Node {
        &self.rig.core.ctx.registry[self.index(number)]
    }

    pub(super) fn liveness(&self, number: u8) -> Liveness {
        self.node(number).liveness()
    }

    pub(super) fn cause(&self, number: u8) -> Cause {
        self.node(number).cause()
    }

    /// Advances time in the steps of timers and agents.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.rig.now + span;
        loop {
            self.answer();
            let due = self.rig.core.poll_timeout().unwrap_or(end);
            let next = due.min(self.next_beat).min(end).max(self.rig.now);
            self.rig.pass(next.since(self.rig.now));
            if self.rig.now == self.next_beat {
                self.next_beat = self.next_beat + SECOND;
                for (_, conn) in self.live.clone() {
                    self.beat(conn);
                }
            }
            if self.rig.now >= end {
                return self.answer();
            }
        }
    }

    /// Stalls for `late`; the coordinator's timers are handled first afterwards.
    pub(super) fn stand_still(&mut self, late: Duration) {
        self.rig.now = self.rig.core.poll_timeout().expect("a timer") + late;
        self.rig.pass(Duration::ZERO);
        self.next_beat = self.rig.now;
        self.pass(Duration::ZERO);
    }

    /// Queries the Guardian Mesh now.
    pub(super) fn guardian<R>(&mut self, ask: impl FnOnce(&mut Guardian, &mut Ctx) -> R) -> R {
        let core = self.core();
        ask(&mut core.guardian, &mut core.ctx)
    }

    pub(super) fn climate_within(&mut self, age: Duration) -> Climate {
        self.guardian(|guardian, ctx| guardian.climate_within(ctx, age))
    }

    pub(super) fn climate(&mut self) -> Climate {
        self.guardian(|guardian, ctx| guardian.climate(ctx))
    }

    pub(super) fn counts(&mut self, observer: NodeIndex) -> bool {
        self.guardian(|guardian, ctx| guardian.counts(ctx, observer))
    }

    /// The coordinator, at the current time.
    pub(super) fn core(&mut self) -> &mut Coordinator {
        self.rig.core.advance(self.rig.now);
        &mut self.rig.core
    }

    fn answer(&mut self) {
        self.read_pings();
        for (_, conn) in self.live.clone() {
            if self.pinged.get(&conn).is_some_and(|(_, answered)| !answered) {
                self.beat(conn);
            }
        }
    }

    fn read_pings(&mut self) {
        for (conn, message) in &self.rig.sent[self.read..] {
            if let Message::Ping { number } = message {
                self.pinged.insert(conn.0, (*number, false));
            }
        }
        self.read = self.rig.sent.len();
    }

    fn beat(&mut self, conn: u64) {
        self.read_pings();
        let (newest, answered) = self.pinged.entry(conn).or_default();
        *answered = true;
        let newest = *newest;
        self.rig.answer(conn, Some(newest));
    }

    /// Number of pings sent on a node's session.
    pub(super) fn pings(&self, number: u8) -> usize {
        let conn = ConnId(self.live.get(&number).copied().unwrap_or(number.into()));
        let is_ping = |(to, message): &&(ConnId, Message)| *to == conn && matches!(message, Message::Ping { .. });
        self.rig.sent.iter().filter(is_ping).count()
    }

    /// A node sends nothing more after a heartbeat; its session stays open.
    pub(super) fn falls_silent(&mut self, number: u8) -> Time {
        let conn = self.live.remove(&number).expect("a session");
        self.beat(conn);
        self.rig.now
    }

    /// A silent node continues its session and answers pending pings.
    pub(super) fn goes_on(&mut self, number: u8, conn: u64) {
        self.live.insert(number, conn);
        self.beat(conn);
    }

    /// A node's session ends without a goodbye, right after a heartbeat.
    pub(super) fn is_cut_off(&mut self, number: u8) -> Time {
        let conn = self.live.remove(&number).expect("a session");
        self.beat(conn);
        self.is_closed(conn);
        self.rig.now
    }

    pub(super) fn is_closed(&mut self, conn: u64) {
        let (conn, by_peer) = (ConnId(conn), false);
        self.rig.input(Input::Closed { conn, by_peer });
    }

    /// Number of the newest session opened after the initial ones.
    pub(super) fn conn(&self) -> u64 {
        self.conns
    }

    /// A node says goodbye.
    pub(super) fn leaves(&mut self, number: u8) {
        let conn = ConnId(self.live.remove(&number).expect("a session"));
        let reason = "test".to_owned();
        self.rig.input(Input::FromAgent(conn, FromAgent::Goodbye { reason }));
    }

    /// Decisions by a rule, in order.
    pub(super) fn decisions(&self, rule: &str) -> Vec<Arc<Decision>> {
        let decision = |event: &Arc<Event>| match &event.body {
            EventBody::Decision(decision) if decision.rule == rule => Some(Arc::clone(decision)),
            _ => None,
        };
        let all = self.rig.events.iter().filter_map(decision);
        all.filter(|decision| decision.outcome == Outcome::Observed).collect()
    }

    /// A node's session ends, and all live peers miss it immediately.
    pub(super) fn dies(&mut self, number: u8) -> Time {
        self.is_cut_off(number);
        self.is_missed(number);
        self.rig.now
    }

    pub(super) fn is_missed(&mut self, subject: u8) {
        for observer in self.others(subject) {
            self.see(observer, subject, Sight::Silent);
        }
    }

    pub(super) fn is_heard(&mut self, subject: u8) {
        for observer in self.others(subject) {
            self.see(observer, subject, Sight::Heard);
        }
    }

    pub(super) fn hears_all(&mut self, observer: u8) {
        for subject in self.others(observer) {
            self.see(observer, subject, Sight::Heard);
        }
    }

    pub(super) fn others(&self, than: u8) -> Vec<u8> {
        let live = self.live.keys().copied();
        live.filter(|&number| number != than).collect()
    }

    pub(super) fn see(&mut self, observer: u8, subject: u8, sight: Sight) {
        self.see_of(observer, subject, sight, 0);
    }

    /// Reports an observation of a subject last heard `ago` milliseconds before.
    pub(super) fn see_of(&mut self, observer: u8, subject: u8, sight: Sight, ago: u64) {
        let last_heard_age_millis = Some(ago);
        let observation = Observation {
            sight,
            last_heard_age_millis,
        };
        self.says(observer, vec![(node_id(subject), observation)], None);
    }

    pub(super) fn says_of(&mut self, observer: u8, observations: Vec<(NodeId, Observation)>) {
        self.says(observer, observations, None);
    }

    pub(super) fn is_strained(&mut self, number: u8, strained: bool) {
        let disk_stalled = false;
        self.says(number, Vec::new(), Some(Health { strained, disk_stalled }));
    }

    fn says(&mut self, number: u8, observations: Vec<(NodeId, Observation)>, health: Option<Health>) {
        self.rig.input(Input::FromAgent(
            ConnId(self.live[&number]),
            FromAgent::Evidence {
                observations,
                health,
                sent_millis: 0,
            },
        ));
    }

    /// Reports whether beacons of a sender reach a receiver.
    pub(super) fn arrive(&mut self, receiver: u8, sender: u8, arrives: bool) {
        self.arrivals(self.live[&receiver], vec![(node_id(sender), arrives)]);
    }

    pub(super) fn arrivals(&mut self, conn: u64, arrivals: Vec<(NodeId, bool)>) {
        let conn = ConnId(conn);
        self.rig.input(Input::FromAgent(conn, FromAgent::Arrivals(arrivals)));
    }

    /// A node asks for its standing via a peer.
    pub(super) fn asks(&mut self, asker: u8, via: u8, observations: Vec<(NodeId, Observation)>) {
        let (incarnation, path) = (self.node(asker).record.incarnation, Vec::new());
        let asker = node_id(asker);
        self.rig.input(Input::FromAgent(
            ConnId(self.live[&via]),
            FromAgent::Question {
                number: 1,
                question: Box::new(Question {
                    asker,
                    incarnation,
                    path,
                    observations,
                }),
                sent_millis: 0,
            },
        ));
    }

    /// A node opens another session; `anew` if its agent was restarted.
    pub(super) fn comes_back(&mut self, number: u8, anew: bool) {
        self.conns += 1;
        let (conn, known) = (self.conns, self.node(number).record.incarnation);
        let (incarnation, attempt) = if anew { (known + 1, 0) } else { (known, conn) };
        self.rig.hello(conn, hello(number, incarnation, attempt));
        self.live.insert(number, conn);
    }

    /// Time of a node's last change to a liveness.
    pub(super) fn when(&self, number: u8, liveness: Liveness) -> Option<Time> {
        let became = |body: &EventBody| matches!(body, EventBody::Liveness { to, .. } if *to == liveness);
        let mut events = self.rig.events.iter().rev();
        let event = events.find(|event| event.node == Some(node_id(number)) && became(&event.body))?;
        // The wall clock was read once, at 1 s.
        Some(Time((event.time.0 - 1_000_000 + 1_000) as u64 * 1_000_000))
    }

    /// Time from `since` until a node was declared offline, in milliseconds, if within `most`.
    pub(super) fn offline_after(&mut self, number: u8, since: Time, most: Duration) -> Option<u64> {
        self.pass((since + most).since(self.rig.now));
        let is_offline = self.liveness(number) == Liveness::Offline;
        let at = self.when(number, Liveness::Offline).filter(|_| is_offline)?;
        Some(at.since(since).as_millis() as u64)
    }
}
