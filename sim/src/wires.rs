//! The network, and transports between agents and coordinator: ordered and reliable while they stand, as TCP is.

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

/// What goes through a stream.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Bytes(Bytes),
    /// This side says no more.
    End,
}

/// The wait before something lost is sent again: Linux' minimum for RFC 6298.
const RESEND: Duration = Duration::from_millis(200);

/// So often it stays the same, as Linux does for connections of few packets that ask for it (TCP_THIN_LINEAR_TIMEOUTS); then it doubles.
const LINEAR: u32 = 6;

/// Messages that wait for one transport at most: what is sent before keep-alive gives it up.
const LANE_MAX: usize = 1_024;

/// What was lost so often in a row has waited for longer than keep-alive does; its pings wait behind it.
const BLOCKED: u32 = LINEAR + 6;

/// What was lost so often in a row over a link that is cut now has been tried for three seconds.
const CUT: u32 = LINEAR + 4;

/// HTTP/2 keep-alive: every so often, and given up after as long without an answer.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Item>,
    /// On its way; nothing arrives before what was sent before it.
    sent: VecDeque<Item>,
    /// Times that the first one was lost.
    lost: u32,
    /// A retry is under way.
    retrying: bool,
    /// When the newest of that arrives.
    last: Time,
}

/// A transport between an agent's process and the coordinator's.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) machine: usize,
    /// Of the agent's process.
    pub(crate) generation: u32,
    /// The agent's name for it.
    pub(crate) conn: ConnId,
    /// Of the coordinator's process.
    pub(crate) host_generation: u32,
    pub(crate) welcomed: bool,
    /// The newest seal that was sent.
    pub(crate) sealed: u64,
    up: Lane,
    down: Lane,
    unanswered: bool,
    /// The coordinator's process has let go of it.
    pub(crate) released: bool,
}

impl Stream {
    /// The oldest of what is on its way arrives.
    pub(crate) fn arrived(&mut self, way: Way) -> Option<Item> {
        self.lane(way).sent.pop_front()
    }

    /// A keep-alive is answered, or is not: true when the one before was not either. A ping is sent again like everything else: a link that comes and
    /// goes lets it through.
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

/// The network, and the transports that stand.
pub(crate) struct Wires {
    pub(crate) net: Net,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    /// Which of the coordinator's processes takes connections.
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

    /// The number of the coordinator's machine.
    pub(crate) fn hub(&self) -> usize {
        self.nodes
    }

    /// Opens a transport from an agent's process, which names it `conn`, to a process of the coordinator.
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

    /// Sends something behind what waits.
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

    /// The machine of an agent is off: nothing that was lost is sent again.
    pub(crate) fn silence(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.waiting.clear();
        }
    }

    /// The coordinator's process lets go of a transport.
    pub(crate) fn release(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.released = true;
        }
    }

    /// Sends what waits, in order; what is lost is sent again later, and what is behind it waits.
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

    /// True while something that was sent up by a transport has to be sent again.
    pub(crate) fn is_stuck(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.up.retrying)
    }

    /// True while no packet gets from one of two machines to the other, or none back.
    pub(crate) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.net.is_cut(one, other) || self.net.is_cut(other, one)
    }
}
