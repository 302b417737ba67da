//! The network, and transports between agents and coordinator: ordered and reliable while established, like TCP.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use wyneos_core::{node::ConnId, time::Time};

use crate::{
    event::{StreamId, Way, What},
    net::{Net, SMALL},
    scenario::Scenario,
    stage::Stage,
};

/// An item in a stream.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Bytes(Bytes),
    /// End of this direction.
    End,
}

/// Minimum retransmission timeout: that of Linux for RFC 6298.
const RESEND: Duration = Duration::from_millis(200);

/// Number of retransmissions with a constant timeout, as Linux does for thin streams on request
/// (TCP_THIN_LINEAR_TIMEOUTS); then it doubles.
const LINEAR: u32 = 6;

/// Maximum queue length of a transport: what can be sent before keep-alive closes it.
const LANE_MAX: usize = 1_024;

/// Number of consecutive losses whose delay exceeds the keep-alive timeout; pings queue behind the lost item.
const BLOCKED: u32 = LINEAR + 6;

/// Number of consecutive losses on a cut link that corresponds to three seconds of retries.
const CUT: u32 = LINEAR + 4;

/// HTTP/2 keep-alive: interval between pings, and timeout of an answer.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Item>,
    /// In transit; items arrive in order.
    sent: VecDeque<Item>,
    /// Number of losses of the first queued item.
    lost: u32,
    /// Whether a retransmission is scheduled.
    retrying: bool,
    /// Arrival time of the newest item in transit.
    last: Time,
}

/// A transport between an agent's process and the coordinator's.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) machine: usize,
    /// Generation of the agent's process.
    pub(crate) generation: u32,
    /// The agent's identifier of the transport.
    pub(crate) conn: ConnId,
    /// Generation of the coordinator's process.
    pub(crate) host_generation: u32,
    pub(crate) welcomed: bool,
    /// Number of the newest seal sent.
    pub(crate) sealed: u64,
    up: Lane,
    down: Lane,
    unanswered: bool,
    /// Whether the coordinator's process has released it.
    pub(crate) released: bool,
}

impl Stream {
    /// Takes the oldest item in transit.
    pub(crate) fn arrived(&mut self, way: Way) -> Option<Item> {
        self.lane(way).sent.pop_front()
    }

    /// Handles a keep-alive ping; returns whether the transport is closed because two in a row failed. A ping is
    /// retransmitted like all data, so it passes a flapping link.
    pub(crate) fn is_given_up(&mut self, answers: bool, is_cut: bool) -> bool {
        let lost = self.up.lost.max(self.down.lost);
        let blocked = lost >= if is_cut { CUT } else { BLOCKED };
        if answers && !blocked {
            self.unanswered = false;
            return false;
        }
        std::mem::replace(&mut self.unanswered, true)
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// The network and all transports.
pub(crate) struct Wires {
    pub(crate) net: Net,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    /// Generation of the coordinator's process that accepts connections.
    pub(crate) listener: Option<u32>,
    opened: u64,
    nodes: usize,
}

impl Wires {
    pub(crate) fn new(scenario: &Scenario) -> Wires {
        let cluster = &scenario.cluster;
        Wires {
            net: Net::new(scenario.network.clone(), cluster.nodes, cluster.zones),
            streams: BTreeMap::new(),
            listener: None,
            opened: 0,
            nodes: cluster.nodes,
        }
    }

    /// Number of the coordinator's machine.
    pub(crate) fn hub(&self) -> usize {
        self.nodes
    }

    /// Opens a transport, identified as `conn` by the agent, between an agent's and a coordinator's process.
    pub(crate) fn open_stream(
        &mut self,
        stage: &mut Stage<'_>,
        machine: usize,
        generation: u32,
        conn: ConnId,
        host_generation: u32,
    ) -> StreamId {
        self.opened += 1;
        let stream = Stream {
            machine,
            generation,
            conn,
            host_generation,
            welcomed: false,
            sealed: 0,
            up: Lane::default(),
            down: Lane::default(),
            unanswered: false,
            released: false,
        };
        self.streams.insert(self.opened, stream);
        stage.later(KEEP_ALIVE, What::KeepAlive(self.opened));
        self.opened
    }

    /// Appends an item to a transport's queue.
    pub(crate) fn push(&mut self, stage: &mut Stage<'_>, id: StreamId, way: Way, item: Item) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let waiting = &mut stream.lane(way).waiting;
            waiting.push_back(item);
            let waiting = waiting.len();
            if waiting > LANE_MAX {
                stage.fail(format!("{waiting} messages wait for one transport"));
            }
            self.pump(stage, id, way, false);
        }
    }

    /// Discards queued items of an agent whose machine is off; nothing is retransmitted.
    pub(crate) fn silence(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.waiting.clear();
        }
    }

    /// Releases a transport in the coordinator's process.
    pub(crate) fn release(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.released = true;
        }
    }

    /// Sends queued items in order; a lost item is retransmitted later and blocks those behind it.
    pub(crate) fn pump(&mut self, stage: &mut Stage<'_>, id: StreamId, way: Way, retry: bool) {
        let hub = self.hub();
        loop {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            let (from, to) = match way {
                Way::Up => (stream.machine, hub),
                Way::Down => (hub, stream.machine),
            };
            let lane = stream.lane(way);
            if retry {
                lane.retrying = false;
            }
            if lane.retrying || lane.waiting.is_empty() {
                return;
            }
            let bytes = match lane.waiting.front() {
                Some(Item::Bytes(bytes)) => bytes.len(),
                Some(Item::End) | None => SMALL,
            };
            match self.net.packet(&mut stage.rng, from, to, bytes) {
                Some(takes) => {
                    let Some(item) = lane.waiting.pop_front() else { return };
                    lane.lost = 0;
                    lane.last = lane.last.max(stage.now + takes);
                    lane.sent.push_back(item);
                    stage.at(lane.last, What::Arrive(id, way));
                }
                None => {
                    lane.retrying = true;
                    let wait = RESEND * 2u32.pow(lane.lost.saturating_sub(LINEAR).min(9));
                    lane.lost += 1;
                    stage.later(wait, What::Pump(id, way));
                    return;
                }
            }
        }
    }

    /// Whether an item towards the coordinator awaits retransmission.
    pub(crate) fn is_stuck(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.up.retrying)
    }

    /// Whether no packet passes between two machines in at least one direction.
    pub(crate) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.net.is_cut(one, other) || self.net.is_cut(other, one)
    }
}
